//! Tallyman: the daemon and the command line in one.

use std::path::Path;
use std::process::ExitCode;

use tallyman::hypervisor::supervisor;

fn main() -> ExitCode {
    // A supervisor must be the parent of its machine before any thread exists, so it is told apart before anything else is looked at.
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(word), Some(folder)) if word == supervisor::SUBCOMMAND => supervisor::supervise(Path::new(&folder)),
        _ => tallyman::cli::main(),
    }
}
