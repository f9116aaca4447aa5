//! Network namespaces without names.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, process, thread};

use super::NetworkError;

/// The namespace of this thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A namespace that is held open.
#[derive(Debug)]
pub(super) struct Namespace(File);

impl Namespace {
    /// Makes a namespace.
    pub(super) fn new() -> Result<Self, NetworkError> {
        let made = on_a_thread(|| {
            // SAFETY: it moves this thread, which ends after it, to a new namespace.
            match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                0 => File::open(OWN),
                _ => Err(io::Error::last_os_error()),
            }
        });
        made.map(Self).map_err(NetworkError::system("make a network namespace"))
    }

    /// The namespace of a process, if it is not that of this one.
    pub(super) fn of(pid: u32) -> Result<Self, NetworkError> {
        let path = format!("/proc/{pid}/ns/net");
        let found = File::open(&path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let own = fs::metadata(OWN).map(|own| own.ino());
        let failed = NetworkError::system("look at a process's network namespace");
        let (found, own) = found.and_then(|found| Ok((found, own?))).map_err(failed)?;
        if found.0 == own { Err(NetworkError::Shared(pid)) } else { Ok(Self(found.1)) }
    }

    /// A path by which another process can enter it, as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }

    /// Does `work` inside, on a thread of its own.
    pub(super) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, NetworkError> + Send,
    ) -> Result<T, NetworkError> {
        on_a_thread(|| {
            enter_open(&self.0)
                .map_err(NetworkError::system("enter a network namespace"))
                .and_then(|()| work())
        })
    }
}

/// Does `work` on a thread of its own.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes what this process starts from now on run without the privileges that this one may have
/// been given to make networks.
///
/// # Errors
/// The operating system's error.
pub fn keep_privileges() -> io::Result<()> {
    let none: libc::c_ulong = 0;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: it changes what this process passes on, and reads no memory.
    match unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, none, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves this thread into a namespace. What it starts afterwards is there, too.
///
/// # Errors
/// The operating system's error.
pub fn enter(namespace: &Path) -> io::Result<()> {
    enter_open(&File::open(namespace)?)
}

fn enter_open(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the kernel checks what it is.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
