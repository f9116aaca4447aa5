//! The program `tallyman`, where tests of this package find it.

use std::process::ExitCode;

use tallyman::hypervisor::supervisor;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(word) if word == supervisor::SUBCOMMAND => supervisor::supervise(),
        _ => tallyman::cli::main(),
    }
}
