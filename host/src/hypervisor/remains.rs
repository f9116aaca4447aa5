//! Remaining processes of a launch of any hypervisor, found through the kernel alone.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::{sleep, timeout};

use super::process::Process;
use super::supervisor::Identity;
use super::{HypervisorError, MachineProcess, files, machine_processes};
use crate::clock;
use crate::limits::instance::CONTROL_MS_MAX;

/// Interval at which the end of a supervisor that is about to end is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The seam to the processes of launches. It needs no hypervisor, so that the end of a launch can
/// be established even if its hypervisor is no longer installed or can't read its files.
pub trait Launches: Send + Sync {
    /// Returns whether a process of the launch lives: its VMM, or a supervisor that will record the
    /// VMM's end.
    ///
    /// # Errors
    /// [`HypervisorError::File`] if the launch's lock or `/proc` can't be read.
    fn lives<'a>(
        &'a self,
        dir: &'a Path,
        incarnation: u32,
    ) -> BoxFuture<'a, Result<bool, HypervisorError>>;

    /// Ends the VMM of the launch by force, and waits until it and its supervisor, which records
    /// the end, are gone. Does nothing if there is none.
    ///
    /// # Errors
    /// [`HypervisorError::Kill`], [`HypervisorError::Deadline`], [`HypervisorError::File`]; the VMM
    /// may live on then.
    fn end<'a>(
        &'a self,
        dir: &'a Path,
        incarnation: u32,
    ) -> BoxFuture<'a, Result<(), HypervisorError>>;

    /// Every living process that stands in a folder of an instance inside `instances`. Blocking.
    ///
    /// # Errors
    /// The error of reading the kernel's list.
    fn processes(&self, instances: &Path) -> io::Result<Vec<MachineProcess>>;
}

/// The launches of this host.
pub struct HostLaunches;

impl Launches for HostLaunches {
    fn processes(&self, instances: &Path) -> io::Result<Vec<MachineProcess>> {
        machine_processes(instances)
    }

    fn lives<'a>(
        &'a self,
        dir: &'a Path,
        incarnation: u32,
    ) -> BoxFuture<'a, Result<bool, HypervisorError>> {
        let run = files::run(dir, incarnation);
        async move { Ok(has_supervisor(&run)? || !monitors(&run)?.is_empty()) }.boxed()
    }

    fn end<'a>(
        &'a self,
        dir: &'a Path,
        incarnation: u32,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        let run = files::run(dir, incarnation);
        async move {
            let end = async {
                for monitor in monitors(&run)? {
                    monitor.kill()?;
                    monitor.ended().await;
                }
                while has_supervisor(&run)? {
                    sleep(LOOK_AGAIN).await;
                }
                Ok(())
            };
            let late = HypervisorError::Deadline { call: "kill", ms: CONTROL_MS_MAX };
            timeout(Duration::from_millis(CONTROL_MS_MAX), end).await.unwrap_or(Err(late))
        }
        .boxed()
    }
}

/// Returns whether a launch's supervisor lives: it holds the launch's lock until it ends.
fn has_supervisor(run: &Path) -> Result<bool, HypervisorError> {
    let path = files::lock(run);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(HypervisorError::file("open", path)(error)),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(HypervisorError::file("lock", path)(error.into())),
    }
}

/// Finds the VMM of a launch: by its working folder, and by its identity if that can be read.
fn monitors(run: &Path) -> Result<Vec<Process>, HypervisorError> {
    if !run.exists() {
        return Ok(Vec::new());
    }
    let looked = HypervisorError::file("look for processes in", run);
    let mut found = Process::standing_in(run).map_err(looked)?;
    let this_boot = clock::boot_id().ok();
    let named = Identity::read(run).ok().flatten();
    let named = named.filter(|named| this_boot.is_some_and(|boot| *boot.0 == *named.boot));
    if let Some(identity) = named {
        found.extend(
            Process::open(identity.vmm).map_err(HypervisorError::file("look at", "/proc"))?,
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_launch_is_alive_as_long_as_one_of_its_processes() {
        let dir = tempfile::tempdir().expect("dir");
        let run = files::run(dir.path(), 1);
        assert!(!HostLaunches.lives(dir.path(), 1).await.expect("looked"), "there never was one");
        fs::create_dir_all(&run).expect("a folder");
        // An unreadable identity proves nothing, and does not prevent the search.
        fs::write(files::identity(&run), b"{").expect("a file");
        let mut monitor = Command::new("sleep").arg("60").current_dir(&run).spawn().expect("spawn");
        let supervisor = File::create(files::lock(&run)).expect("a lock");
        flock(&supervisor, FlockOperation::LockExclusive).expect("free");
        assert!(HostLaunches.lives(dir.path(), 1).await.expect("looked"));
        monitor.kill().and_then(|()| monitor.wait()).expect("ended");
        assert!(
            HostLaunches.lives(dir.path(), 1).await.expect("looked"),
            "its supervisor knows how it ended"
        );
        drop(supervisor);
        assert!(!HostLaunches.lives(dir.path(), 1).await.expect("looked"));
        let mut monitor = Command::new("sleep").arg("60").current_dir(&run).spawn().expect("spawn");
        assert!(HostLaunches.lives(dir.path(), 1).await.expect("looked"));
        HostLaunches.end(dir.path(), 1).await.expect("ended");
        assert!(!HostLaunches.lives(dir.path(), 1).await.expect("looked"));
        monitor.wait().expect("reaped");
    }
}
