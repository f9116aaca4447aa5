//! The faults of a policy during a call.

use wasmtime::Trap;

use super::bindings::exports::tallyman::policy::accounting::AccountingError;
use super::bindings::exports::tallyman::policy::metering::MeteringError;
use super::budget::Budget;
use super::metering::{DescriptionViolation, Flaw, LineViolation, MeasurementViolation};
use crate::billing::conservation::Violation;
use crate::causes::in_words;
use crate::limits::policy as limits;

/// A fault of a call: no answer, or one that breaks the contract. The message completes the
/// sentence "The policy ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The call burned all of its fuel.
    #[error("used up its fuel of {allowed}")]
    OutOfFuel {
        /// Fuel of the call.
        allowed: u64,
    },
    /// The call asked for too much memory or too large a table.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// The call exhausted its stack.
    #[error("overflowed its stack")]
    StackOverflow,
    /// The call's wall-clock time ran out, most likely because the host was overloaded or
    /// suspended: retry.
    #[error("gave no answer within {ms} ms; try again")]
    Deadline {
        /// Wall-clock time of the call in milliseconds.
        ms: u64,
    },
    /// The answer has too many bytes.
    #[error("answered with more than {allowed} bytes")]
    AnswerTooLarge {
        /// Most bytes of the answer.
        allowed: usize,
    },
    /// The call trapped.
    #[error("trapped: {reason}")]
    Trap {
        /// Message of the engine.
        reason: String,
    },
    /// The answer is not a value of the contract's types.
    #[error("answered with a value that is not of the contract's types: {reason}")]
    Malformed {
        /// Message of the engine.
        reason: String,
    },
    /// The policy refused a legal call.
    #[error("refused to answer")]
    Refused(#[source] Refused),
    /// A list of the answer does not have one value for each item.
    #[error("answered {got} values of `{list}` for {expected} items")]
    WrongLength {
        /// Name of the list.
        list: &'static str,
        /// Number of items.
        expected: usize,
        /// Length of the list.
        got: usize,
    },
    /// A phase of the answer is out of range.
    #[error("answered phase {ordinal} for item {item}; phases are 0 to 7")]
    InvalidPhase {
        /// Index of the item.
        item: usize,
        /// The ordinal answered.
        ordinal: u8,
    },
    /// The answer breaks a rule of conservation.
    #[error("broke conservation in item {item}")]
    Violation {
        /// Index of the item; 0 in a single call.
        item: usize,
        /// The rule that is broken.
        #[source]
        violation: Violation,
    },
    /// The description breaks the contract.
    #[error("broke the contract in its description")]
    Description {
        /// The breach.
        #[source]
        violation: Box<DescriptionViolation>,
    },
    /// A measurement breaks the contract.
    #[error("broke the contract in its measurement")]
    Measurement {
        /// The breach.
        #[source]
        violation: Box<MeasurementViolation>,
    },
    /// A line of the policy's own breaks the contract.
    #[error("broke the contract in its own line {line}")]
    OwnLine {
        /// Index of the line in the answer.
        line: usize,
        /// The breach.
        #[source]
        violation: Box<LineViolation>,
    },
}

/// A bound on space that a call exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// The bound on linear memory.
    #[error("asked for {wanted} bytes of memory; {allowed} are allowed")]
    Memory {
        /// Bytes asked for.
        wanted: usize,
        /// Most bytes allowed.
        allowed: usize,
    },
    /// The bound on a table.
    #[error("asked for {wanted} table elements; {allowed} are allowed")]
    Table {
        /// Elements asked for.
        wanted: usize,
        /// Most elements allowed.
        allowed: usize,
    },
}

/// A refusal, as the policy stated it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An instant is before its `since`, which never happens. The field is the index of the item.
    #[error("item {0}: time went back")]
    TimeWentBack(u32),
    /// A total would exceed 64 bits. The field is the index of the item.
    #[error("item {0}: a total would overflow")]
    Overflow(u32),
    /// The state of an item is invalid. The field is the index of the item.
    #[error("item {0}: the state is invalid")]
    InvalidState(u32),
    /// An option is invalid. The field is the policy's message.
    #[error("invalid option {0}")]
    Option(String),
    /// A measured number would overflow.
    #[error("a number would overflow")]
    TooMuch,
    /// Any other reason, in the policy's words.
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
            // The engine's list of traps is open; the host treats all others alike.
            Some(trap) => Fault::Trap { reason: trap.to_string() },
            None => Self::untyped(error, budget),
        }
    }

    /// Maps the errors for which the engine has no public type, by the text of the root cause.
    fn untyped(error: &wasmtime::Error, budget: Budget) -> Self {
        let reason = clipped(error.root_cause().to_string());
        if reason.contains("fuel allocated for hostcalls") {
            return Fault::AnswerTooLarge { allowed: budget.answer_bytes };
        }
        Fault::Malformed { reason }
    }

    /// True if the fault is the policy's, false if the host may have caused it.
    pub(super) fn is_the_policys(&self) -> bool {
        !matches!(self, Fault::Deadline { .. })
    }

    /// True if the call was too large for its bounds, so that a part of it may fit.
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

    /// Returns the fault and its causes in one line, for an operator.
    pub fn in_words(&self) -> String {
        in_words(self)
    }

    /// Returns the same fault with the item's index in the whole batch, for a chunk that begins at
    /// `first`.
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

/// Cuts a text to at most [`limits::REASON_BYTES_MAX`] bytes, between characters.
pub(super) fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::REASON_BYTES_MAX));
    text
}
