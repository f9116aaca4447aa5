//! A supervisor started ahead of the next launch, because starting one takes longer than assigning
//! it a launch.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

use super::HypervisorError;
use super::supervisor::{SUBCOMMAND, inherited};

/// Starts supervisors, and keeps one waiting.
#[derive(Clone)]
pub(super) struct Supervisors {
    program: PathBuf,
    waiting: Arc<Mutex<Option<Waiting>>>,
}

/// A supervisor without a launch yet. It ends when this is dropped, as its pipe closes.
struct Waiting {
    process: Child,
    launch: io::PipeWriter,
}

impl Supervisors {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, waiting: Arc::default() }
    }

    /// Assigns the order in the folder `run` to a supervisor.
    pub(super) fn assign(&self, run: &Path) -> Result<Child, HypervisorError> {
        let waiting = self.waiting.try_lock().ok().and_then(|mut waiting| waiting.take());
        if let Some(mut waiting) = waiting
            && waiting.assign(run).is_ok()
        {
            return Ok(waiting.process);
        }
        // No supervisor was waiting, or it was killed meanwhile.
        let new = Waiting::start(&self.program);
        let mut new = new.map_err(|source| HypervisorError::Supervisor {
            program: self.program.clone(),
            source,
        })?;
        // Fails only if the supervisor has ended; its status then says why.
        let _ = new.assign(run);
        Ok(new.process)
    }

    /// Starts a supervisor for the next launch in the background, unless one is waiting.
    pub(super) fn refill(&self) {
        let supervisors = self.clone();
        spawn_blocking(move || {
            if let Err(error) = supervisors.keep_one() {
                tracing::warn!(%error, "could not start a supervisor ahead of the next launch");
            }
        });
    }

    fn keep_one(&self) -> io::Result<()> {
        // A holder of the lock is doing the same.
        let Ok(mut waiting) = self.waiting.try_lock() else { return Ok(()) };
        if waiting.is_none() {
            *waiting = Some(Waiting::start(&self.program)?);
        }
        Ok(())
    }
}

impl Waiting {
    fn start(program: &Path) -> io::Result<Self> {
        let (stdin, launch) = io::pipe()?;
        let process = Command::new(program)
            .arg(SUBCOMMAND)
            .env_clear()
            .envs(inherited())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, launch })
    }

    /// Sends the launch's folder, which the supervisor has read once the pipe is closed.
    fn assign(&mut self, run: &Path) -> io::Result<()> {
        // Never blocks: a path is shorter than the pipe's buffer.
        self.launch.write_all(run.as_os_str().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Supervisors that write their input, each to a file of its own in the folder.
    fn recording_supervisors(folder: &Path) -> Supervisors {
        // Another process writes the script: a file that a fork of this one still holds open for
        // writing can't be run.
        let write = r#"printf '#!/bin/sh\nexec cat > "%s"/$$\n' "$0" > "$0"/scribe && chmod 700 "$0"/scribe"#;
        let written = std::process::Command::new("sh").arg("-c").arg(write).arg(folder).status();
        assert!(written.expect("a shell").success());
        Supervisors::new(folder.join("scribe"))
    }

    /// The process of the supervisor that waits.
    fn waiting_pid(supervisors: &Supervisors) -> u32 {
        supervisors.keep_one().expect("start");
        let waiting = supervisors.waiting.lock().expect("not poisoned");
        waiting
            .as_ref()
            .and_then(|waiting| waiting.process.id())
            .expect("one that was not waited for")
    }

    async fn was_assigned(folder: &Path, mut supervisor: Child, run: &str) {
        let pid = supervisor.id().expect("not waited for");
        assert!(supervisor.wait().await.expect("wait").success());
        assert_eq!(
            fs::read_to_string(folder.join(pid.to_string())).expect("what it was told"),
            run
        );
    }

    #[tokio::test]
    async fn the_one_that_waits_gets_the_next_launch_and_only_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let supervisors = recording_supervisors(folder.path());
        let waits = waiting_pid(&supervisors);
        assert_eq!(waiting_pid(&supervisors), waits, "another one was started");
        let [first, second] =
            ["first", "second"].map(|run| supervisors.assign(Path::new(run)).expect("assign"));
        assert_eq!(first.id(), Some(waits));
        assert_ne!(second.id(), Some(waits));
        was_assigned(folder.path(), first, "first").await;
        was_assigned(folder.path(), second, "second").await;
    }

    #[tokio::test]
    async fn one_that_was_killed_while_it_waited_gets_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let supervisors = recording_supervisors(folder.path());
        let waits = waiting_pid(&supervisors);
        kill_process(Pid::from_raw(waits.cast_signed()).expect("a process id"), Signal::KILL)
            .expect("kill");
        let mut killed = supervisors.waiting.lock().expect("not poisoned").take().expect("it");
        killed.process.wait().await.expect("its end");
        *supervisors.waiting.lock().expect("not poisoned") = Some(killed);
        let other = supervisors.assign(Path::new("run")).expect("assign");
        assert_ne!(other.id(), Some(waits));
        was_assigned(folder.path(), other, "run").await;
    }
}
