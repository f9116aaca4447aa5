//! The lifecycle of one virtual machine, pure: states, commands, and the one transition function.
//!
//! Nothing here waits, reads a clock or knows a hypervisor. [`decide`] says what a command means in a state; [`apply`] says where an
//! event leads. The driver does the rest.

mod asker;
mod decide;
mod event;
pub mod marker;
mod phase;
mod restart;
mod shape;
mod state;

pub use asker::Asker;
pub use decide::{Command, Decision, Ignored, Refusal, decide, legal};
pub use event::{Event, ExitCause, Impossible, apply};
pub use phase::{Phase, UnknownPhase};
pub use restart::{AfterExit, RestartMode, RestartPolicy};
pub use shape::Shape;
pub use state::State;
