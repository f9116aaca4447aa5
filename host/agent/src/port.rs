//! The wire to the host.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use ::agent::PORT_NAME;
use rustix::event::epoll;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Time for the port to appear after its driver was loaded.
const APPEARS_WITHIN: Duration = Duration::from_secs(2);

/// Time between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The bytes that the kernel takes at a time.
const WRITE_BYTES_MAX: usize = 32 << 10;

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A number of bytes.
    Some(usize),
    /// Nothing now.
    Nothing,
    /// Nobody is connected.
    Nobody,
}

/// A virtio-serial port, or an open socket in its place.
///
/// A port to which nobody is connected is always ready for everything. So it is watched for changes
/// alone, and read and written until it refuses.
pub(crate) struct Port {
    wire: Option<OwnedFd>,
    changes: OwnedFd,
    /// It goes on when the host has gone.
    is_lasting: bool,
}

impl Port {
    /// The port of this machine's virtio-serial bus.
    pub(crate) fn find() -> io::Result<Self> {
        let mut waited = Duration::ZERO;
        let path = loop {
            match look_for() {
                Some(path) => break path,
                None if waited >= APPEARS_WITHIN || !has_ports() => {
                    let text = format!("this machine has no port {PORT_NAME}");
                    return Err(io::Error::other(text));
                }
                None => {
                    std::thread::sleep(LOOK_EVERY);
                    waited += LOOK_EVERY;
                }
            }
        };
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let wire =
            OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path)?;
        Self::new(wire.into(), true)
    }

    /// A socket that was open when we were started.
    pub(crate) fn inherited(number: RawFd) -> io::Result<Self> {
        // SAFETY: whoever started us has said that it is ours.
        let wire = unsafe { OwnedFd::from_raw_fd(number) };
        fcntl_setfl(&wire, fcntl_getfl(&wire)? | OFlags::NONBLOCK)?;
        rustix::io::fcntl_setfd(&wire, rustix::io::FdFlags::CLOEXEC)?;
        Self::new(wire, false)
    }

    fn new(wire: OwnedFd, is_lasting: bool) -> io::Result<Self> {
        let port = Self { wire: None, changes: watcher()?, is_lasting };
        port.watch(&wire)?;
        Ok(Self { wire: Some(wire), ..port })
    }

    /// None: nobody ever comes.
    ///
    /// # Errors
    /// Nothing can be watched at all.
    pub(crate) fn none() -> io::Result<Self> {
        Ok(Self { wire: None, changes: watcher()?, is_lasting: true })
    }

    fn watch(&self, end: &OwnedFd) -> io::Result<()> {
        let all = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::HUP
            | epoll::EventFlags::ET;
        let number = u64::try_from(end.as_raw_fd()).unwrap_or_default();
        Ok(epoll::add(&self.changes, end, epoll::EventData::new_u64(number), all)?)
    }

    /// Readable when something has changed.
    pub(crate) fn changes(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// Takes note of all changes.
    pub(crate) fn take_changes(&self) {
        let mut events = Vec::with_capacity(4);
        // Without waiting; what fails leaves them to be taken later.
        let _ = epoll::wait(
            &self.changes,
            rustix::buffer::spare_capacity(&mut events),
            Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }),
        );
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// The wire has ended for good.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        let Some(wire) = &self.wire else { return Ok(Read::Nothing) };
        match rustix::io::read(wire, buffer) {
            // A port is the same for the next host.
            Ok(0) if self.is_lasting => Ok(Read::Nobody),
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Read::Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes as much as it takes now.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let wire = self.wire.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        match rustix::io::write(wire, &bytes[..bytes.len().min(WRITE_BYTES_MAX)]) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn watcher() -> io::Result<OwnedFd> {
    Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?)
}

fn has_ports() -> bool {
    fs::read_dir("/sys/bus/virtio/drivers/virtio_console")
        .is_ok_and(|mut devices| devices.any(|entry| is_device(&entry)))
}

fn is_device(entry: &io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"virtio"))
}

fn look_for() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let ours = |port: &fs::DirEntry| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT_NAME)
    };
    let port = ports.flatten().find(ours)?;
    Some(PathBuf::from("/dev").join(port.file_name()))
}
