//! The types of the contract, and 128-bit numbers as two words.

use std::fmt;

pub use crate::policy::bindings::exports::tallyman::policy::metering::{
    Column, Description, IntervalColumns, IntervalRange, Measurement, MeterDescription, MeterTerms,
    OptionDescription, OptionKind, OwnLine, Request, Rounding, Stretch, Subject,
};
pub use crate::policy::bindings::tallyman::policy::types::{Setting, Span, U128Words};

/// Name of the unit of time.
pub const TIME: &str = "ns";

/// Name of the host's own option of an activation: the longest time that counts as `initializing`
/// before it counts as `running`. No policy receives it, and none may declare an option of this
/// name.
pub const INITIALIZING_MAX: &str = "initializing-max";

/// Converts two words into a number.
pub fn unsigned(words: U128Words) -> u128 {
    (u128::from(words.upper) << 64) | u128::from(words.lower)
}

/// Converts a number into two words.
pub fn words(value: u128) -> U128Words {
    U128Words { lower: (value & u128::from(u64::MAX)) as u64, upper: (value >> 64) as u64 }
}

impl IntervalColumns {
    /// Makes columns without intervals, dimensions and counts.
    pub fn empty() -> Self {
        Self {
            subject: Vec::new(),
            phase: Vec::new(),
            start: Vec::new(),
            end: Vec::new(),
            session: Vec::new(),
            wakes: Vec::new(),
            fact: Vec::new(),
            dimensions: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl Stretch {
    /// Returns its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Stretch::Start => "start",
            Stretch::Wake => "wake",
            Stretch::Visit => "visit",
            Stretch::Life => "life",
        }
    }
}

impl Rounding {
    /// Returns its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Rounding::HalfEven => "half-even",
            Rounding::HalfUp => "half-up",
            Rounding::Down => "down",
            Rounding::Up => "up",
        }
    }
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionKind::Duration => f.write_str("a length of time, such as 60s"),
            OptionKind::Choice(words) => f.write_str(&words.join(" or ")),
            OptionKind::Text => f.write_str("a text"),
        }
    }
}
