//! What a policy did wrong during a call.

use std::error::Error;

use wasmtime::Trap;

use super::bindings::exports::tallyman::policy::accounting::AccountingError;
use super::bindings::exports::tallyman::policy::metering::MeteringError;
use super::budget::Budget;
use super::metering::{DescriptionViolation, Flaw, LineViolation, MeasurementViolation};
use crate::billing::conservation::Violation;
use crate::limits::policy as limits;

/// Why an answer of a policy was not given, or not believed. The host itself is unharmed by each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It computed for too long.
    #[error("used up its fuel of {allowed}")]
    OutOfFuel {
        /// The fuel it had.
        allowed: u64,
    },
    /// It asked for too much memory or too large a table.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// It recursed too deeply.
    #[error("overflowed its stack")]
    StackOverflow,
    /// The wall clock ran out, which says more about the host than about the policy: ask again.
    #[error("gave no answer within {ms} ms; try again")]
    Deadline {
        /// The time it had, in milliseconds.
        ms: u64,
    },
    /// The answer holds too many bytes.
    #[error("answered with more than {allowed} bytes")]
    AnswerTooLarge {
        /// The bytes it could have had.
        allowed: usize,
    },
    /// It crashed.
    #[error("trapped: {reason}")]
    Trap {
        /// What the engine says.
        reason: String,
    },
    /// What it returned is no value of the contract's types.
    #[error("answered with something that is no value of the contract: {reason}")]
    Malformed {
        /// What the engine says.
        reason: String,
    },
    /// It said that it will not answer a question that is legal.
    #[error("refused to answer")]
    Refused(#[source] Refused),
    /// A list of the answer has not the length of the question's.
    #[error("answered {got} values of `{list}` for {expected} items")]
    WrongLength {
        /// Which list.
        list: &'static str,
        /// Its length in the question.
        expected: usize,
        /// Its length in the answer.
        got: usize,
    },
    /// A phase of the answer is none.
    #[error("answered phase {ordinal} for item {item}; phases are 0 to 7")]
    InvalidPhase {
        /// Which item.
        item: usize,
        /// What it said.
        ordinal: u8,
    },
    /// The answer breaks a rule of conservation.
    #[error("broke conservation in item {item}")]
    Violation {
        /// Which item; 0 in a single call.
        item: usize,
        /// Which rule.
        #[source]
        violation: Violation,
    },
    /// What it declares about itself breaks the contract.
    #[error("declares itself wrongly")]
    Description {
        /// How.
        #[source]
        violation: Box<DescriptionViolation>,
    },
    /// A measurement breaks the contract.
    #[error("measured wrongly")]
    Measurement {
        /// How.
        #[source]
        violation: Box<MeasurementViolation>,
    },
    /// A line of the policy's own breaks the contract.
    #[error("stated an impossible charge in line {line}")]
    OwnLine {
        /// Which line.
        line: usize,
        /// How.
        #[source]
        violation: Box<LineViolation>,
    },
}

/// A bound on space that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Linear memory.
    #[error("asked for {wanted} bytes of memory; {allowed} are allowed")]
    Memory {
        /// Bytes asked for.
        wanted: usize,
        /// Most that it may have.
        allowed: usize,
    },
    /// A table.
    #[error("asked for {wanted} table elements; {allowed} are allowed")]
    Table {
        /// Elements asked for.
        wanted: usize,
        /// Most that it may have.
        allowed: usize,
    },
}

/// What a policy said instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It found an instant before its `since`. The host never asks so.
    #[error("item {0}: time went back")]
    TimeWentBack(u32),
    /// It can't count that far.
    #[error("item {0}: a total would overflow")]
    Overflow(u32),
    /// It can't continue from that state.
    #[error("item {0}: the state is invalid")]
    InvalidState(u32),
    /// It finds that an option makes no sense.
    #[error("invalid option {0}")]
    Option(String),
    /// It can't measure that much.
    #[error("a number would overflow")]
    TooMuch,
    /// In its own words.
    #[error("{0}")]
    Other(String),
}

impl From<Flaw> for Fault {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Length { expected, got } => Self::WrongLength { list: "counted", expected, got },
            Flaw::Answer(violation) => Self::Measurement { violation: Box::new(violation) },
            Flaw::Line(line, violation) => Self::OwnLine { line, violation: Box::new(violation) },
        }
    }
}

impl Fault {
    pub(super) fn of(error: &wasmtime::Error, budget: Budget) -> Self {
        if let Some(&exceeded) = error.downcast_ref::<Exceeded>() {
            return Fault::Exceeded(exceeded);
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Fault::OutOfFuel { allowed: budget.fuel },
            Some(Trap::Interrupt) => Fault::Deadline { ms: budget.ticks * limits::TICK_MS },
            Some(Trap::StackOverflow) => Fault::StackOverflow,
            // The engine's list is open, and the rest is one thing to us.
            Some(trap) => Fault::Trap { reason: trap.to_string() },
            None => Self::untyped(error, budget),
        }
    }

    /// The engine has no public type for these; its root cause is a text.
    fn untyped(error: &wasmtime::Error, budget: Budget) -> Self {
        let reason = clipped(error.root_cause().to_string());
        if reason.contains("fuel allocated for hostcalls") {
            return Fault::AnswerTooLarge { allowed: budget.answer_bytes };
        }
        Fault::Malformed { reason }
    }

    /// Whether it says something about the policy, and not about a host that stood still.
    pub(super) fn is_the_policys(&self) -> bool {
        !matches!(self, Fault::Deadline { .. })
    }

    /// Whether the call was too large for its bounds, so that a part of it may not be.
    pub(super) fn is_of_size(&self) -> bool {
        match self {
            Fault::OutOfFuel { .. }
            | Fault::Exceeded(Exceeded::Memory { .. })
            | Fault::AnswerTooLarge { .. } => true,
            Fault::Exceeded(Exceeded::Table { .. })
            | Fault::StackOverflow
            | Fault::Deadline { .. }
            | Fault::Trap { .. }
            | Fault::Malformed { .. }
            | Fault::Refused(_)
            | Fault::WrongLength { .. }
            | Fault::InvalidPhase { .. }
            | Fault::Violation { .. }
            | Fault::Description { .. }
            | Fault::Measurement { .. }
            | Fault::OwnLine { .. } => false,
        }
    }

    /// The fault and its causes in one line, for an operator.
    pub fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            words.push_str(": ");
            words.push_str(&error.to_string());
            cause = error.source();
        }
        words
    }

    /// The same fault, told with the numbers of the whole batch instead of the chunk's.
    pub(super) fn in_batch(self, first: usize) -> Self {
        match self {
            Fault::Violation { item, violation } => {
                Fault::Violation { item: item + first, violation }
            }
            Fault::InvalidPhase { item, ordinal } => {
                Fault::InvalidPhase { item: item + first, ordinal }
            }
            Fault::Refused(refused) => Fault::Refused(refused.in_batch(first)),
            Fault::OutOfFuel { .. }
            | Fault::Exceeded(_)
            | Fault::StackOverflow
            | Fault::Deadline { .. }
            | Fault::AnswerTooLarge { .. }
            | Fault::Trap { .. }
            | Fault::Malformed { .. }
            | Fault::WrongLength { .. }
            | Fault::Description { .. }
            | Fault::Measurement { .. }
            | Fault::OwnLine { .. } => self,
        }
    }
}

impl Refused {
    fn in_batch(self, first: usize) -> Self {
        let moved = |item: u32| item.saturating_add(u32::try_from(first).unwrap_or(u32::MAX));
        match self {
            Refused::TimeWentBack(item) => Refused::TimeWentBack(moved(item)),
            Refused::Overflow(item) => Refused::Overflow(moved(item)),
            Refused::InvalidState(item) => Refused::InvalidState(moved(item)),
            Refused::Option(_) | Refused::TooMuch | Refused::Other(_) => self,
        }
    }
}

impl From<AccountingError> for Fault {
    fn from(error: AccountingError) -> Self {
        Fault::Refused(match error {
            AccountingError::TimeWentBack(item) => Refused::TimeWentBack(item),
            AccountingError::Overflow(item) => Refused::Overflow(item),
            AccountingError::InvalidState(item) => Refused::InvalidState(item),
            AccountingError::Other(text) => Refused::Other(clipped(text)),
        })
    }
}

impl From<MeteringError> for Fault {
    fn from(error: MeteringError) -> Self {
        Fault::Refused(match error {
            MeteringError::InvalidOption(what) => Refused::Option(clipped(what)),
            MeteringError::Overflow => Refused::TooMuch,
            MeteringError::Other(text) => Refused::Other(clipped(text)),
        })
    }
}

/// At most [`limits::REASON_BYTES_MAX`] bytes of a text, cut between characters.
pub(super) fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::REASON_BYTES_MAX));
    text
}
