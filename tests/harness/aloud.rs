//! Messages that reach the terminal also where a test passes: the test harness captures what is
//! printed.

use std::io::{self, Write};

/// Writes a message to standard error, uncaptured.
///
/// # Panics
/// Panics if standard error can't be written to.
pub fn say(text: &str) {
    io::stderr().write_all(format!("{text}\n").as_bytes()).expect("a place to say it");
}

/// Reports that a hypervisor's test ends early because it can't save memory on this host.
/// `scripts/test` repeats the message at its end.
///
/// # Panics
/// Panics if standard error can't be written to.
pub fn saves_not(hypervisor: &str, why: &str) {
    say(&format!("{hypervisor} NOT RUN: it can't save memory on this host: {why}"));
}
