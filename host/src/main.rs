//! Tallyman: the daemon and the command line in one.

use std::process::ExitCode;

use tallyman::hypervisor::supervisor;
use tallyman::policy;

fn main() -> ExitCode {
    // A supervisor must be the parent of its machine before any thread exists, so it is told apart
    // before anything else is looked at.
    match std::env::args_os().nth(1) {
        Some(word) if word == supervisor::SUBCOMMAND => supervisor::supervise(),
        Some(word) if word == policy::COMPILER => {
            policy::compile_for_daemon(std::env::args_os().skip(2))
        }
        _ => tallyman::cli::main(),
    }
}
