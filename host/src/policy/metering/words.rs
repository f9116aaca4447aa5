//! The words of the contract, and numbers of two words.

use std::fmt;

pub use crate::policy::bindings::exports::tallyman::policy::metering::{
    Column, Description, IntervalColumns, IntervalRange, Measurement, MeterDescription, MeterTerms,
    OptionDescription, OptionKind, OwnLine, Request, Rounding, Stretch, Subject,
};
pub use crate::policy::bindings::tallyman::policy::types::{Setting, Span, U128Words};

/// Unit of time alone.
pub const TIME: &str = "ns";

/// The host's own option of an activation: how long `initializing` may last before it counts as
/// `running`. No policy sees it, and none may declare an option of this name.
pub const INITIALIZING_MAX: &str = "initializing-max";

/// Two words as one number.
pub fn unsigned(words: U128Words) -> u128 {
    (u128::from(words.upper) << 64) | u128::from(words.lower)
}

/// One number as two words.
pub fn words(value: u128) -> U128Words {
    U128Words { lower: (value & u128::from(u64::MAX)) as u64, upper: (value >> 64) as u64 }
}

impl IntervalColumns {
    /// No interval, and columns of no name.
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
    /// Its name in the contract.
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
    /// Its name in the contract.
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
