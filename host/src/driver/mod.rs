//! The instances of a host: one task owns each.
//!
//! # The order of every act
//!
//! Decide, intend, act, record, publish:
//!
//! 1. [`crate::vm::decide`] returns whether a request is an act, fulfilled already, or illegal now.
//! 2. The *intent* goes to the journal, so that the act can be finished or undone after a crash.
//! 3. The task *acts*: it asks the hypervisor, and gets the instant of the act.
//! 4. The *fact* goes to the journal with that instant, and is durable.
//! 5. The new view is *published*, and the caller is answered.
//!
//! After a crash, an intent without its fact is settled by looking at the machine and the files.
//! Nothing is billed from published views: a reader may miss a phase, the journal can't.
//!
//! # The files, from the ground up
//!
//! ```text
//! values    settings  record  live  request  error  codec  calendar    no task, no hypervisor call
//!           files, copy, aside                                         the folder of an instance
//! middle    mailbox   the slot of an instance: its last view, its orders
//!           watch     observations of a launch that no record holds
//!           timers    the acts that are due of an instance, and when
//!           host      the state that all instances share; the one place that starts a task
//!           recorder  the state of one instance and its journal: intend, enter, give up, write
//!           admission what the host gives to instances at most
//!           strays    virtual machine monitors of no recorded instance
//!           machine   the launched machine: launch, pause, resume, save, kill, wait for its exit
//!           root      the disks of an instance of an OCI image
//! top       task/     the loop and its acts: lifecycle, network, standby, snapshot, fork, health,
//!                     idle, due, amend; recover after a restart
//!           create, background, fleet
//! ```
//!
//! No file imports one that stands above it. The driver knows no hypervisor, no policy and no wire
//! format: it works on the seams of `hypervisor`, `billing` and `journal`.

mod admission;
mod aside;
mod background;
mod calendar;
mod codec;
mod copy;
mod create;
mod error;
mod files;
mod fleet;
mod host;
mod live;
mod machine;
mod mailbox;
mod readings;
mod record;
mod recorder;
mod request;
mod root;
mod settings;
mod strays;
mod task;
mod timers;
mod watch;

pub use admission::{Capacity, Claim, Full, Ratio, Ratios, Resource, UnknownRatio};
pub use codec::without_tags;
pub use error::FleetError;
pub use fleet::{Fleet, IntervalPage, Parts, Unsettled, Waiting};
pub use live::{Health, HealthStatus, Live, Restarts, View};
pub use mailbox::{NewFork, Purpose, Visit};
pub use record::{Disk, Network, NetworkWish, NewInstance, Record, SavedMemory, Snapshot, Spec};
pub use request::{Child, Intent, NewSnapshot, Request, Target};
pub use settings::{
    Amendment, AutoStandby, Expiry, ExpiryAction, HealthCheck, Probe, Prober, Program, Quota,
    Reservation, Schedule, Share,
};
