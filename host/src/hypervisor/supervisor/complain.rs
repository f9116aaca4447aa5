//! The complaints of a supervisor, in the VMM's log.

use std::io::{self, Write};

/// Writes a line to standard error, which is the VMM's log, and ignores a failure: `eprintln!`
/// would panic on a full disk, and the machine would lose its supervisor.
pub(super) fn complain(problem: &str) {
    let _ = writeln!(io::stderr(), "{problem}");
}
