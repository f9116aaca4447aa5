//! The peer in Go: a tracker with a map, its record written as JSON at every transition.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer");

/// Builds the peer's program; none if Go is not installed.
pub(crate) fn build(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("peer");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(SOURCE)
        .status();
    match built {
        Ok(status) if status.success() => Some(program),
        _ => {
            println!(
                "NOT MEASURED: the peer in Go; install Go (Debian: apt-get install golang-go)"
            );
            None
        }
    }
}

/// Runs the peer's program and returns its measurements.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
