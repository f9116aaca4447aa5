//! Layout of an instance's folder.
//!
//! ```text
//! console.log, console.log.1   output of the guest's console; .1 is older; together at most
//!                              CONSOLE_BYTES_MAX
//! console.in                   a FIFO: bytes written to it reach the guest's console
//! vmm.log, vmm.log.1           output of the VMM and its supervisor; .1 is older; together at most
//!                              VMM_LOG_BYTES_MAX
//! run/<incarnation>/           one launch, of which the newest stays: launch.json, identity.json,
//!                              events.jsonl, lock, the control socket, a link to each disk, and
//!                              traffic.json: the guest's traffic up to its end
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The newer output of the guest's console.
pub fn console_log(dir: &Path) -> PathBuf {
    dir.join("console.log")
}

/// The older output of the guest's console.
pub fn console_log_older(dir: &Path) -> PathBuf {
    dir.join("console.log.1")
}

/// The FIFO into the console of the newest launch. It has a reader while that launch's supervisor
/// lives; without one, opening it for writing blocks, or fails with `O_NONBLOCK`.
pub fn console_input(dir: &Path) -> PathBuf {
    dir.join("console.in")
}

/// The newer output of the VMM and its supervisor.
pub fn vmm_log(dir: &Path) -> PathBuf {
    dir.join("vmm.log")
}

/// The older output of the VMM and its supervisor.
pub fn vmm_log_older(dir: &Path) -> PathBuf {
    dir.join("vmm.log.1")
}

/// The folder of one launch.
pub fn run(dir: &Path, incarnation: u32) -> PathBuf {
    dir.join("run").join(incarnation.to_string())
}

/// The instance's folder, given that of a launch.
pub(super) fn of_run(run: &Path) -> &Path {
    run.ancestors().nth(2).unwrap_or(run)
}

/// Returns whether a launch with this number was begun.
pub fn is_used(dir: &Path, incarnation: u32) -> bool {
    order(&run(dir, incarnation)).exists()
}

/// Removes the folders of all launches before this one, all of which must have ended.
///
/// # Errors
/// The error of the first folder that can't be read or removed; the next launch tries again.
pub fn forget_before(dir: &Path, incarnation: u32) -> io::Result<()> {
    let launches = match fs::read_dir(dir.join("run")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        launches => launches?,
    };
    for launch in launches {
        let launch = launch?;
        let number = launch.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if number.is_some_and(|number| number < incarnation) {
            fs::remove_dir_all(launch.path())?;
        }
    }
    Ok(())
}

/// The order to a launch's supervisor.
pub fn order(run: &Path) -> PathBuf {
    run.join("launch.json")
}

/// The identity of a launch's processes.
pub(super) fn identity(run: &Path) -> PathBuf {
    run.join("identity.json")
}

/// The supervisor's event log.
pub(super) fn events(run: &Path) -> PathBuf {
    run.join("events.jsonl")
}

/// The traffic of the guest up to its end.
pub(super) fn traffic(run: &Path) -> PathBuf {
    run.join("traffic.json")
}

/// The file that is locked while the supervisor lives.
pub(super) fn lock(run: &Path) -> PathBuf {
    run.join("lock")
}

/// The name of the VMM's control socket in the folder of the launch.
pub(super) const CONTROL: &str = "ctl";

/// The VMM's control socket. Its path has to be short.
pub(super) fn control(run: &Path) -> PathBuf {
    run.join(CONTROL)
}

/// The socket on which the guest's agent is reached. Its path has to be short.
pub(super) fn agent(run: &Path) -> PathBuf {
    run.join("agt")
}

/// The name of the vsock device's socket in the folder of the launch. A snapshot has it.
pub(super) const VSOCK: &str = "vsk";

/// The socket of the guest's vsock device. Its path has to be short.
pub(super) fn vsock(run: &Path) -> PathBuf {
    run.join(VSOCK)
}

/// A link to the disk with this number, as seen from the folder of the launch. A VMM that stores
/// paths in its snapshots stores this one, so that a fork's disks can lie elsewhere.
pub(super) fn disk(number: usize) -> String {
    format!("disk{number}")
}

/// The name of the socket through which a snapshot goes while it is written or loaded, in the
/// folder of the launch.
pub(super) const TRANSFER: &str = "mem";

/// The socket through which a snapshot goes while it is written or loaded. Its path has to be
/// short.
pub(super) fn transfer(run: &Path) -> PathBuf {
    run.join(TRANSFER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_before_one_are_forgotten_and_nothing_else() {
        let dir = tempfile::tempdir().expect("dir");
        for launch in ["1", "2", "9", "10", "11", "notes"] {
            fs::create_dir_all(dir.path().join("run").join(launch).join("deep")).expect("create");
        }
        forget_before(dir.path(), 10).expect("forget");
        let left = fs::read_dir(dir.path().join("run"))
            .expect("list")
            .flatten()
            .map(|launch| launch.file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["10", "11", "notes"]);
    }
}
