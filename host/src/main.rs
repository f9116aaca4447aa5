//! Tallyman: the daemon and the command line in one program.

use std::process::ExitCode;

use tallyman::hypervisor::supervisor;
use tallyman::policy;

fn main() -> ExitCode {
    // A supervisor must start its machine before any thread exists, so this comes before anything
    // else.
    match std::env::args_os().nth(1) {
        Some(word) if word == supervisor::SUBCOMMAND => supervisor::supervise(),
        Some(word) if word == policy::COMPILER => {
            policy::compile_for_daemon(std::env::args_os().skip(2))
        }
        _ => tallyman::cli::main(),
    }
}
