//! The metering half of the contract: its types, the checks of descriptions and measurements, and
//! the division of requests.
//!
//! A policy decides which time counts for its meters, and under which terms. It can't count an
//! interval for a meter that it did not declare, change the terms from request to request, state
//! another quantity than the journal has, or bill more of it than it declared.

mod described;
mod halves;
mod measured;
mod words;

pub use described::{OptionError, Violation as DescriptionViolation};
pub use measured::{LineViolation, Violation as MeasurementViolation};

pub use words::{
    Column, Description, INITIALIZING_MAX, IntervalColumns, IntervalRange, Measurement,
    MeterDescription, MeterTerms, OptionDescription, OptionKind, OwnLine, Request, Rounding,
    Setting, Span, Stretch, Subject, TIME, U128Words, unsigned, words,
};

pub(super) use halves::{halves, joined};
pub(super) use measured::{Flaw, check as check_measurement};
