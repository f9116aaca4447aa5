//! Compilation in a child process with bounded time and memory.
//!
//! A compilation can't be interrupted, and a small component can be made slow and large to compile.
//! So the daemon runs this program once more for it: the child reads the component, and writes the
//! artifact or the reason why there is none. It has no file and no key of the daemon; the kernel
//! enforces its limits, and serves others first.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};

use super::admission::AdmissionError;
use super::engine::{Backend, Runtime};
use super::fault::clipped;
use super::profile::Profile;
use crate::limits::policy as limits;

/// The subcommand of a process that compiles one policy.
pub const SUBCOMMAND: &str = "compile-policy";

/// Runs `program` to compile a component, and returns the artifact. Blocking.
///
/// # Errors
/// [`AdmissionError::Compile`] with the compiler's message, or with the limits that it exceeded.
pub(super) fn compile_elsewhere(
    program: &Path,
    profile: Profile,
    bytes: &[u8],
) -> Result<Vec<u8>, AdmissionError> {
    let failed = |error: io::Error| refused(format!("can't run the compiler: {error}"));
    let mut child = Command::new(program)
        .arg(SUBCOMMAND)
        .arg(profile.as_str())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (sent, said, status) = talk(&mut child, profile, bytes).map_err(failed)?;
    match (status.code(), status.signal()) {
        (Some(0), _) => sent.map(|()| said).map_err(failed),
        (Some(REFUSED), _) => Err(refused(String::from_utf8_lossy(&said).into_owned())),
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

/// Sends the component, and returns whether it was taken, the output, and the child's end.
fn talk(
    child: &mut Child,
    profile: Profile,
    bytes: &[u8],
) -> io::Result<(io::Result<()>, Vec<u8>, ExitStatus)> {
    // A child that exits early explains itself by its output or its status.
    let sent = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(bytes));
    let most = profile.bounds().artifact_bytes_max;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // Past it, the pipe is closed, which ends the child.
        stdout.take(most + 1).read_to_end(&mut said)?;
    }
    let status = child.wait()?;
    if said.len() as u64 > most {
        return Err(io::Error::other(format!("its artifact has more than {most} bytes")));
    }
    Ok((sent, said, status))
}

fn refused(reason: String) -> AdmissionError {
    AdmissionError::Compile { reason: clipped(reason) }
}

/// The exit status of a child whose compiler refuses the component; its output is the reason.
const REFUSED: i32 = 3;

/// Compiles the component on standard input, as the child of a daemon, and writes the artifact to
/// standard output. Returns status 3 and writes the reason there if the component is refused.
pub fn compile_for_daemon(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(profile) = arguments.next() else { return ExitCode::FAILURE };
    let Some(Ok(profile)) = profile.to_str().map(str::parse::<Profile>) else {
        return ExitCode::FAILURE;
    };
    let compiled = compile(profile);
    let (said, status) = match &compiled {
        Ok(artifact) => (artifact.as_slice(), ExitCode::SUCCESS),
        Err(reason) => (reason.as_bytes(), ExitCode::from(REFUSED as u8)),
    };
    match io::stdout().write_all(said) {
        Ok(()) => status,
        // The daemon is gone, or takes no more.
        Err(_) => ExitCode::FAILURE,
    }
}

fn compile(profile: Profile) -> Result<Vec<u8>, String> {
    bound(profile).map_err(|error| format!("can't limit the resources of its process: {error}"))?;
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let runtime = Runtime::new(profile, Backend::Native).map_err(|error| format!("{error:#}"))?;
    runtime.compile(&bytes).map_err(|error| format!("{error:#}"))
}

/// Limits the resources of this process. Past a limit the kernel ends it; past the wall-clock limit
/// it exits by itself.
fn bound(profile: Profile) -> io::Result<()> {
    let bounds = profile.bounds();
    let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Cpu, limit(bounds.compile_cpu_s_max))?;
    setrlimit(Resource::Data, limit(bounds.compile_bytes_max))?;
    setrlimit(Resource::Nofile, limit(limits::COMPILE_DESCRIPTORS_MAX))?;
    setrlimit(Resource::Fsize, limit(0))?;
    setrlimit(Resource::Core, limit(0))?;
    nice(limits::COMPILE_NICENESS)?;
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
    fn compiled_by(does: &str) -> Result<Vec<u8>, AdmissionError> {
        let folder = TempDir::new().expect("a folder");
        let program = folder.path().join("compiler");
        fs::write(&program, format!("#!/bin/sh\ncat > /dev/null\n{does}\n")).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("to be run");
        compile_elsewhere(&program, Profile::Compact, b"component")
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
    fn an_artifact_without_end_is_cut_off() {
        let refused = compiled_by("exec cat /dev/zero").expect_err("refused").to_string();
        assert!(refused.contains("more than 67108864 bytes"), "{refused}");
    }

    #[test]
    fn a_compiler_that_refuses_says_why() {
        let refused = compiled_by("printf 'too many locals'; exit 3").expect_err("refused");
        assert!(refused.to_string().contains("too many locals"), "{refused}");
        assert_eq!(compiled_by("printf artifact"), Ok(b"artifact".to_vec()));
    }
}
