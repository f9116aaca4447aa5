//! Proofs of documents and of their lines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::invoice::{self, Line};

/// The outcome of making a document again from the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentProof {
    /// The document's number.
    pub number: u64,
    /// Its SHA-256, as the journal has it.
    pub digest: String,
    /// True if it came out the same, byte for byte, from every witness.
    pub proved: bool,
    /// The first difference, in words; null if it is proved.
    pub difference: Option<String>,
    /// The engines that made it again.
    pub witnesses: Vec<String>,
    /// The number of calls that each of them made.
    pub calls: u64,
    /// The number of facts that were read.
    pub facts: u64,
    /// True if it is of the earlier form, whose bytes alone are checked.
    pub earlier_form: bool,
}

/// A line of a document, and the time that it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineTime {
    /// The line.
    pub line: Line,
    /// The time that its meter counts, in order.
    pub time: Vec<CountedInterval>,
}

/// Time that a meter counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountedInterval {
    /// Sequence number of the fact that opened it.
    pub fact: u64,
    /// The phase.
    pub phase: String,
    /// First instant on the meter clock, in nanoseconds.
    pub start_ns: i64,
    /// First instant after it.
    pub end_ns: i64,
}

impl From<invoice::TracedInterval> for CountedInterval {
    fn from(traced: invoice::TracedInterval) -> Self {
        let invoice::TracedInterval { fact, phase, start_ns, end_ns } = traced;
        Self { fact, phase: phase.into(), start_ns, end_ns }
    }
}
