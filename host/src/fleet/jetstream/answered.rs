//! The collector's answers, as they pass through the engine.

use serde::{Deserialize, Serialize};

use super::super::message::{Answer, Place};

/// An answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    /// The id of the batch.
    pub(super) batch: String,
    /// The fact on which the batch followed.
    pub(super) after: Place,
    /// The outcome for the batch.
    pub(super) outcome: Outcome,
}

/// The outcome of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The collector has the host's facts up to here.
    Head(Place),
    /// The collector refuses the host's facts, in words.
    Refused {
        /// The code of the refusal, for programs.
        code: String,
        /// The refusal, for people.
        message: String,
    },
}

impl Answered {
    /// The place from which the host has to send again, if there is a gap before the batch.
    pub(super) fn gap(&self) -> Option<Answer> {
        match &self.outcome {
            Outcome::Head(head) if head.seq < self.after.seq => Some(Answer { head: head.clone() }),
            Outcome::Head(_) | Outcome::Refused { .. } => None,
        }
    }
}
