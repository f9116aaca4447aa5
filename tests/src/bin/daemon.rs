//! The program `tallyman`, where tests of this package find it.

use std::path::Path;
use std::process::ExitCode;

use tallyman::hypervisor::supervisor;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(word), Some(folder)) if word == supervisor::SUBCOMMAND => supervisor::supervise(Path::new(&folder)),
        _ => tallyman::cli::main(),
    }
}
