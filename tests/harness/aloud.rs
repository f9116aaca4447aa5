//! What is to be heard also where a test passes: what is printed is kept back then.

use std::io::{self, Write};

/// Says it.
///
/// # Panics
/// If nobody can hear it.
pub fn say(text: &str) {
    io::stderr().write_all(format!("{text}\n").as_bytes()).expect("a place to say it");
}

/// Says that a hypervisor's test ends early: it can't save memory here. `scripts/test` repeats it
/// at its end.
///
/// # Panics
/// If nobody can hear it.
pub fn saves_not(hypervisor: &str, why: &str) {
    say(&format!("{hypervisor} NOT RUN: it can't save memory on this host: {why}"));
}
