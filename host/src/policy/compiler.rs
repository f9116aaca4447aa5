//! Compilation in a child process with bounded time and memory.
//!
//! A compilation can't be interrupted, and a small component can be made slow and large to compile.
//! So the daemon runs this program once more for it: the child reads the component and stores the
//! artifact in the cache folder, or writes an error. The kernel enforces its limits.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::admission::AdmissionError;
use super::cache::Cache;
use super::engine::{Backend, Runtime};
use super::fault::clipped;
use super::profile::Profile;
use crate::id::Digest;

/// The subcommand of a process that compiles one policy.
pub const SUBCOMMAND: &str = "compile-policy";

/// Runs `program` to compile a component into the folder `cache`. Blocking.
///
/// # Errors
/// [`AdmissionError::Compile`] with the compiler's message, or with the limits that it exceeded.
pub(super) fn compile_elsewhere(
    program: &Path,
    cache: &Path,
    profile: Profile,
    bytes: &[u8],
) -> Result<(), AdmissionError> {
    let failed = |error: io::Error| refused(format!("can't run the compiler: {error}"));
    let mut child = Command::new(program)
        .arg(SUBCOMMAND)
        .arg(cache)
        .arg(profile.as_str())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    // A child that exits early explains itself by its output or its status.
    let sent = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(bytes));
    let ended = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    match (ended.status.code(), ended.status.signal()) {
        (Some(0), _) => sent.map_err(failed),
        (Some(REFUSED), _) => Err(refused(said)),
        (_, _) => {
            let bounds = profile.bounds();
            let cpu_s = bounds.compile_cpu_s_max;
            let mib = bounds.compile_bytes_max >> 20;
            Err(refused(format!(
                "it takes more than {cpu_s} s of processor time or {mib} MiB of memory"
            )))
        }
    }
}

fn refused(reason: String) -> AdmissionError {
    AdmissionError::Compile { reason: clipped(reason) }
}

/// The exit status of a child whose compiler refuses the component; its output is the reason.
const REFUSED: i32 = 3;

/// Compiles the component on standard input, as the child of a daemon. Returns status 3 and writes
/// the reason to standard output if the component is refused.
pub fn compile_for_daemon(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(cache), Some(profile)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    let Some(Ok(profile)) = profile.to_str().map(str::parse::<Profile>) else {
        return ExitCode::FAILURE;
    };
    match compile(Path::new(&cache), profile) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // A daemon that is gone reads nothing.
            let _ = io::stdout().write_all(reason.as_bytes());
            ExitCode::from(REFUSED as u8)
        }
    }
}

fn compile(cache: &Path, profile: Profile) -> Result<(), String> {
    bound(profile).map_err(|error| format!("can't limit the resources of its process: {error}"))?;
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let cache = Cache::open(cache).map_err(|error| error.to_string())?;
    let runtime = Runtime::new(profile, Backend::Native).map_err(|error| format!("{error:#}"))?;
    let component = runtime.compile(&bytes).map_err(|error| format!("{error:#}"))?;
    cache.put(Digest::of(&bytes), &component);
    Ok(())
}

/// Limits the resources of this process. Past a limit the kernel ends it; past the wall-clock limit
/// it exits by itself.
fn bound(profile: Profile) -> io::Result<()> {
    let bounds = profile.bounds();
    let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Cpu, limit(bounds.compile_cpu_s_max))?;
    setrlimit(Resource::Data, limit(bounds.compile_bytes_max))?;
    setrlimit(Resource::Core, limit(0))?;
    let wall = Duration::from_secs(bounds.compile_cpu_s_max.saturating_mul(WALL_PER_CPU));
    std::thread::spawn(move || {
        std::thread::sleep(wall);
        std::process::exit(1);
    });
    Ok(())
}

/// Seconds of wall clock allowed for each second of processor time, since the processor is shared.
const WALL_PER_CPU: u64 = 4;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// Compiles with a compiler that is this shell script.
    fn compiled_by(does: &str) -> Result<(), AdmissionError> {
        let folder = TempDir::new().expect("a folder");
        let program = folder.path().join("compiler");
        fs::write(&program, format!("#!/bin/sh\ncat > /dev/null\n{does}\n")).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("to be run");
        compile_elsewhere(&program, folder.path(), Profile::Compact, b"component")
    }

    #[test]
    fn a_compiler_that_passes_its_bounds_refuses_the_component() {
        for ends in ["kill -XCPU $$", "kill -ABRT $$", "kill -KILL $$", "exit 1"] {
            let refused = compiled_by(ends).expect_err(ends).to_string();
            assert!(
                refused.contains("more than 20 s of processor time or 768 MiB"),
                "{ends}: {refused}"
            );
        }
    }

    #[test]
    fn a_compiler_that_refuses_says_why() {
        let refused = compiled_by("printf 'too many locals'; exit 3").expect_err("refused");
        assert!(refused.to_string().contains("too many locals"), "{refused}");
        assert_eq!(compiled_by("exit 0"), Ok(()));
    }
}
