//! A fleet: hosts hand their facts to a collector, which charges over all of them.
//!
//! The journal of each host is its outbox, and the chain of links is what both sides believe: the
//! collector takes a fact only if it follows on the last one that it has of that host. So order and
//! exactly once do not depend on what carries the facts, and a gap is an answer with the number
//! from which to send again.
//!
//! - `message` is what passes between both sides;
//! - `transport` is the seam to what carries it: `http` without a broker, `jetstream` with one;
//! - `sender` is the side of a host, `collector` the other one.

mod collector;
mod http;
mod jetstream;
mod message;
mod sender;
mod transport;

pub use collector::{Collector, HostStatus, NoteError, Refused, Seen};
pub use http::{Http, HttpError};
pub use jetstream::{Admits, EngineError, Publisher, Receiver, Servers};
pub use message::{Answer, Batch, ClockReading, Instance, MalformedBatch, Place};
pub use sender::{Describe, Sender};
pub use transport::{SendError, Transport};
