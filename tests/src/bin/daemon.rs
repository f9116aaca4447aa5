//! The program `tallyman`, built where tests of this package find it.

use std::process::ExitCode;

use tallyman::hypervisor::supervisor;
use tallyman::policy;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(word) if word == supervisor::SUBCOMMAND => supervisor::supervise(),
        Some(word) if word == policy::COMPILER => {
            policy::compile_for_daemon(std::env::args_os().skip(2))
        }
        _ => tallyman::cli::main(),
    }
}
