//! The whole, from outside: the real program, its HTTP API, its command line, and real machines.

#[allow(dead_code, reason = "shared with the tests of the policy host, which use all of it")]
#[path = "../../guests/hostile/mod.rs"]
mod hostile;

mod archive;
mod boots;
mod bounds;
mod cli;
mod copies;
mod covered;
mod dashboard;
mod delivery;
mod door;
mod exports;
mod guest_clock;
mod guest_vsock;
mod guests;
mod guide;
mod heads;
mod hypervisors;
mod invoices;
mod late;
mod life;
mod lifecycle;
mod logs;
mod many;
mod metrics;
mod operate;
mod outside;
mod parity;
mod policies;
mod rate;
mod readme;
mod receipts;
mod requests;
mod restart;
mod secrets;
mod settings;
mod stand_ins;
mod startup;
mod states;
mod strangers;
mod streams;
mod tenants;
mod tls;
mod vcpus;

use tallyman_tests::daemon::Daemon;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon");

fn daemon() -> Daemon {
    Daemon::start(PROGRAM)
}
