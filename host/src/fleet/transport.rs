//! The seam to what carries facts from hosts to a collector.

use futures::future::BoxFuture;

use super::message::{Answer, Batch};

/// A reason why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The collector does not answer, or can't take anything now. Sending again may help.
    #[error("the collector is away: {0}")]
    Away(String),
    /// The collector refuses this host's facts. An operator has to look.
    #[error("the collector refuses: {message} [{code}]")]
    Refused {
        /// The code of the refusal, for programs.
        code: String,
        /// The refusal, for people.
        message: String,
    },
}

/// A way to a collector. It may lose, repeat and reorder batches; the chain finds all of that.
pub trait Transport: Send + Sync {
    /// Sends a batch and returns the collector's answer.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Answer, SendError>>;

    /// Most bytes of texts in one batch, unless a single fact is longer.
    fn batch_bytes(&self) -> usize;
}
