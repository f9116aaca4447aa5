//! Errors of the seam.

use std::io;
use std::path::PathBuf;

use super::capability::{Capability, Kind};
use crate::causes::in_words;

/// Error of launching, finding or controlling a VMM.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The hypervisor can't be used on this host.
    #[error("can't use {program}: {reason}")]
    Unavailable {
        /// The program.
        program: String,
        /// The fault, and what would be right, in words.
        reason: String,
    },
    /// The hypervisor lacks a capability.
    #[error(
        "{hypervisor} can't {}; these can: {}",
        capability.describe(),
        Kind::that_can(*capability)
    )]
    Unsupported {
        /// Name of the hypervisor that was asked.
        hypervisor: &'static str,
        /// The missing capability.
        capability: Capability,
    },
    /// A file or folder of the instance can't be used.
    #[error("can't {act} {path}")]
    File {
        /// The operation, as a verb, such as `create`.
        act: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A part of the machine's description is not valid.
    #[error("{what} is not possible: {reason}")]
    Spec {
        /// The part of the description.
        what: &'static str,
        /// The fault, and what would be right, in words.
        reason: String,
    },
    /// The path of a control socket would be longer than the operating system takes.
    #[error(
        "{path} has {len} bytes, but a unix socket's path may have {max}; use a shorter data folder"
    )]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Length of the path, in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Another process answers on the control socket of a machine that is to be launched.
    #[error("{path} is in use: another VMM answers on it")]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Another machine uses the disk.
    #[error(
        "the disk {path} is in use by another machine; give each its own copy, or let all of them \
         only read it"
    )]
    DiskInUse {
        /// The disk.
        path: PathBuf,
    },
    /// There are no file descriptors left for another machine.
    #[error(
        "no file descriptors are left for another machine: {machines} live, and the limit is \
         {limit} descriptors; stop one, or raise the limit (systemd: LimitNOFILE, shell: \
         ulimit -n) and restart the daemon"
    )]
    NoDescriptors {
        /// Number of live machines.
        machines: u64,
        /// Most descriptors that the daemon may have.
        limit: u64,
    },
    /// The supervisor could not be started.
    #[error("can't start the supervisor {program}")]
    Supervisor {
        /// The program.
        program: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The VMM ended before it could be used.
    #[error("the VMM did not come up ({status}); its log ends with: {log}")]
    Launch {
        /// The exit status, in words.
        status: String,
        /// The end of the VMM's log, on one line.
        log: String,
    },
    /// A snapshot can't be used. The guest has not run.
    #[error("the snapshot {path} can't be used: {defect}")]
    Snapshot {
        /// The defective file or folder.
        path: PathBuf,
        /// The defect.
        defect: SnapshotDefect,
    },
    /// Writing a snapshot failed in the VMM. The machine is held.
    #[error("the VMM could not save its memory: {reason}")]
    Save {
        /// The VMM's reason.
        reason: String,
    },
    /// The VMM saves its memory only once between two runs of the vCPUs, and has done so. The
    /// machine is held.
    #[error(
        "the VMM saves its memory only once between two runs of its vCPUs, and has done so; \
         resume the instance first"
    )]
    SavedBefore,
    /// A control call was refused by the VMM.
    #[error("the VMM refused {call}: {reason}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The VMM's reason.
        reason: String,
    },
    /// The control connection broke: the VMM has ended or is ending.
    #[error("the control connection to the VMM is gone during {call}")]
    Disconnected {
        /// The call.
        call: &'static str,
    },
    /// No answer in time.
    #[error("no answer to {call} in {ms} ms")]
    Deadline {
        /// The call.
        call: &'static str,
        /// The time waited, in milliseconds.
        ms: u64,
    },
    /// Writing or loading a snapshot made no progress for too long.
    #[error("{call} made no progress for {ms} ms")]
    Stalled {
        /// The call.
        call: &'static str,
        /// The time without progress, in milliseconds.
        ms: u64,
    },
    /// A process answers for a machine but is not its VMM.
    #[error("process {pid} is not the VMM of this instance: {reason}")]
    Identity {
        /// The process.
        pid: u32,
        /// The mismatch, in words.
        reason: String,
    },
    /// The operating system refused to end the VMM.
    #[error("can't kill process {pid}")]
    Kill {
        /// The process.
        pid: u32,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

/// Defect of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotDefect {
    /// A file or the folder is not there.
    #[error("it is missing")]
    Missing,
    /// The manifest is not valid.
    #[error("its manifest can't be read: {0}")]
    Manifest(String),
    /// A file is shorter or longer than it was written.
    #[error("it has {actual} bytes, written were {expected}")]
    Size {
        /// Length as written, in bytes.
        expected: u64,
        /// Length now, in bytes.
        actual: u64,
    },
    /// The contents are not those that were written.
    #[error("its SHA-256 is {actual}, written was {expected}")]
    Checksum {
        /// Checksum as written.
        expected: String,
        /// Checksum now.
        actual: String,
    },
    /// The snapshot was written by another version of the hypervisor, which this one can't load.
    #[error("{hypervisor} {expected} wrote it and only that version can load it, here is {actual}")]
    Version {
        /// The hypervisor.
        hypervisor: &'static str,
        /// The version that wrote the snapshot.
        expected: String,
        /// The version on this host.
        actual: String,
    },
    /// The snapshot was written for another machine.
    #[error("it was written for {what} {expected}, asked for is {actual}")]
    Mismatch {
        /// The part that differs.
        what: &'static str,
        /// Value in the snapshot.
        expected: String,
        /// Value that was asked for.
        actual: String,
    },
}

impl HypervisorError {
    /// The error and its causes on one line, for a tenant: without the folders of the host and
    /// without the log of the VMM.
    pub fn for_tenants(&self) -> String {
        let told = match self {
            Self::Launch { status, .. } => format!("the VMM did not come up ({status})"),
            other => other.in_words(),
        };
        without_folders(&told)
    }

    /// The error and its causes on one line, for the host's operator.
    pub fn in_words(&self) -> String {
        in_words(self)
    }

    pub(super) fn file(
        act: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { act, path, source }
    }
}

/// Replaces each absolute path in a text by its last part.
fn without_folders(text: &str) -> String {
    let ends_path = |c: char| c.is_whitespace() || "'\"`,;:()[]{}<>".contains(c);
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let before = &rest[..at];
        kept.push_str(before);
        let path = &rest[at..];
        let end = path.find(ends_path).unwrap_or(path.len());
        let is_absolute = !before.ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
        match path[..end].rsplit('/').find(|part| !part.is_empty()) {
            Some(name) if is_absolute => kept.push_str(name),
            Some(_) | None => kept.push_str(&path[..end]),
        }
        rest = &path[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_reads_no_folder_of_the_host() {
        let rows = [
            ("can't create /data/instances/a1/qmp: denied", "can't create qmp: denied"),
            (
                "Could not open '/data/x y/disk.raw': in use",
                "Could not open 'x y/disk.raw': in use",
            ),
            ("the disk /a/b, /c and (/d/e/)", "the disk b, c and (e)"),
            ("application/json at 5/6 of it", "application/json at 5/6 of it"),
            ("nothing", "nothing"),
            ("/", "/"),
        ];
        for (told, expected) in rows {
            assert_eq!(without_folders(told), expected);
        }
    }

    #[test]
    fn a_tenant_reads_nothing_of_a_log() {
        let log = "secret".into();
        let error = HypervisorError::Launch { status: "exit code 1".into(), log };
        assert_eq!(error.for_tenants(), "the VMM did not come up (exit code 1)");
        assert!(error.in_words().contains("secret"));
    }
}
