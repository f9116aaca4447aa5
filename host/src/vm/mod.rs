//! The lifecycle of one virtual machine, pure: states, commands, and the one transition function.
//!
//! Nothing here waits, reads a clock or knows a hypervisor. [`decide`] maps a state and a command
//! to act, ignore or deny; [`apply`] maps a state and an event to the next state. The driver does
//! the rest.
//!
//! Each arrow is one [`Event`]; each state but the last is a phase of the same name, in which time
//! counts:
//!
//! ```text
//!             Created               Booted
//!   Stopped ──────────▶ Created ──────────▶ Initializing ──Ready──▶ Running
//!      ▲                   │                   │      ▲               │  ▲
//!      │                   │             Paused│      │Resumed  Paused│  │Resumed
//!      │                   │                   ▼      │               ▼  │
//!      │                   │                 ┌──────────────────────────────┐
//!      │                   │                 │ Paused, ready or not yet     │
//!      │                   │                 └──────────────────────────────┘
//!      │                   │ Shutdown-         │      ▲
//!      │                   │ Requested    Saved│      │Loaded
//!      │                   ▼                   ▼      │
//!      │ Exited   ┌──────────┐      ┌──────────────────────────────┐
//!      ├──────────│ Shutdown │      │ Standby, ready or not yet    │──┐
//!      │          └──────────┘      └──────────────────────────────┘  │
//!      │                                       ▲                      │ Exited
//!      │                               Reverted│ (also from Stopped)  │ (its memory is dropped)
//!      └──────────────────────────────────────────────────────────────┘
//!
//!   Created, Initializing, Running, Paused ──ShutdownRequested──▶ Shutdown
//!   every state with a virtual machine monitor ──Exited──▶ Stopped
//!   every state with a virtual machine monitor ──Lost──▶ Unknown ──Exited──▶ Stopped
//!   Standby, Stopped, Unknown ──Deleted──▶ Deleted, whose time no longer counts
//! ```

mod asker;
mod decide;
mod event;
pub mod marker;
mod phase;
mod restart;
mod shape;
mod state;
mod traffic;

pub use asker::Asker;
pub use decide::{Command, Decision, Ignored, Refusal, decide, legal};
pub use event::{Event, ExitCause, Impossible, apply};
pub use phase::{Phase, UnknownPhase};
pub use restart::{AfterExit, RestartMode, RestartPolicy};
pub use shape::Shape;
pub use state::State;
pub use traffic::Traffic;
