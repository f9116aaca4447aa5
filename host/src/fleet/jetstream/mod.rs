//! The way by NATS JetStream: hosts publish, and the collector takes when it is there.
//!
//! The engine is trusted with nothing: a host's journal keeps what it has published, and the
//! collector takes a batch only if it follows on what it has. Whatever the engine loses, repeats
//! or reorders ends as an answer from which the host goes on again. So its windows for duplicates
//! and its expected sequences are not used, and a wiped engine costs one more sending.
//!
//! ```text
//! tallyman.facts.HOST      batches, in the stream TALLYMAN_FACTS until the collector has them
//! tallyman.answers.HOST    the last answer to a host, in the stream TALLYMAN_ANSWERS
//! ```
//!
//! A host's name is the last word of the subjects: the engine's permissions decide who may publish
//! under it.

mod answered;
mod connect;
mod publisher;
mod receiver;

pub use connect::{EngineError, Servers};
pub use publisher::Publisher;
pub use receiver::{Admits, Receiver};

use crate::id::HostName;

/// The stream of batches.
const FACTS: &str = "TALLYMAN_FACTS";

/// The stream of answers.
const ANSWERS: &str = "TALLYMAN_ANSWERS";

/// Beginning of the subjects of batches.
const FACTS_OF: &str = "tallyman.facts.";

/// Beginning of the subjects of answers.
const ANSWERS_TO: &str = "tallyman.answers.";

/// The subject of a host's batches.
fn facts_of(host: &HostName) -> String {
    format!("{FACTS_OF}{host}")
}

/// The subject of the answers to a host.
fn answers_to(host: &HostName) -> String {
    format!("{ANSWERS_TO}{host}")
}
