//! `--watch`: a command that reads, again and again.

use std::ffi::OsString;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use anyhow::bail;
use clap::ArgMatches;

use super::output;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Names of commands that only read, and are cheap.
const READS: [&str; 10] = [
    "capabilities",
    "doctor",
    "get",
    "head",
    "health",
    "intervals",
    "list",
    "segments",
    "stats",
    "status",
];

/// Runs a call every two seconds until it fails or Ctrl-C ends it.
pub(super) async fn run(
    call: &[OsString],
    whole: clap::Command,
    once: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let matches = whole.get_matches_from(call);
    let name = leaf(&matches);
    if !READS.contains(&name) {
        bail!("--watch is for commands that only read: {}; not for `{name}`", READS.join(", "));
    }
    loop {
        if stdout().is_terminal() {
            // The screen is cleared, and written from its top.
            print!("\x1b[H\x1b[2J");
        }
        once().await?;
        if !stdout().is_terminal() {
            output::line("")?;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The name of the innermost command.
fn leaf(matches: &ArgMatches) -> &str {
    let mut found = ("tallyman", matches);
    while let Some(inner) = found.1.subcommand() {
        found = inner;
    }
    found.0
}
