//! The machine of a measurement, and the versions of what ran on it.

use std::fs;
use std::process::Command;

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or("not found").to_owned()
}

/// Describes the machine in a few lines.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry =
            lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")));
        let line =
            entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")));
        line.unwrap_or("?").trim_matches('"').to_owned()
    };
    format!(
        "- processor: {} x {}\n- kernel: Linux {kernel}\n- {}\n\
         - wasmtime {}, rusqlite {} (bundled SQLite {})\n- {}",
        cores,
        model.trim_start_matches([' ', '\t', ':']),
        first_line("rustc", &["--version"]),
        version("wasmtime"),
        version("rusqlite"),
        rusqlite::version(),
        first_line("go", &["version"]),
    )
}
