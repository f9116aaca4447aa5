//! Tallyman: the daemon and the command line in one.

use std::process::ExitCode;

use tallyman::hypervisor::supervisor;

fn main() -> ExitCode {
    // A supervisor must be the parent of its machine before any thread exists, so it is told apart before anything else is looked at.
    match std::env::args_os().nth(1) {
        Some(word) if word == supervisor::SUBCOMMAND => supervisor::supervise(),
        _ => tallyman::cli::main(),
    }
}
