//! A host that is simulated below the program: its clocks, its boots, and the sync of its files.
//!
//! The functions of the C library that this file defines take the place of the real ones in this
//! test program. On a thread without a simulation they do what those do. So the program under test
//! is the real one, to the last line.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};

use crate::disk::{Disk, Fault};

/// Nanoseconds by which every reading of the clock is later than the one before.
const TICK_NS: u64 = 113;

/// Age of each boot at the daemon's first start in it, in nanoseconds.
const BOOT_AGE_NS: u64 = 40_000_000_000;

/// UTC at the begin of the simulation, in nanoseconds since 1970: 2026-12-01T00:00:00Z.
const BEGIN_UTC_NS: i64 = 1_796_083_200_000_000_000;

/// The simulated host of this thread.
pub(crate) struct Host {
    /// Number of the present boot, from 1.
    pub(crate) boot: u32,
    /// Time of the present boot without suspends, in nanoseconds.
    running_ns: u64,
    /// Time of the present boot that the host was suspended, in nanoseconds.
    suspended_ns: u64,
    /// Time since the begin of the simulation, in nanoseconds.
    pub(crate) elapsed_ns: u64,
    /// Error of the wall clock against UTC, in nanoseconds.
    wall_error_ns: i64,
    /// Set if the wall clock was not synchronised at any time.
    pub(crate) was_unsynchronised: bool,
    /// Set if the kernel reports the wall clock as synchronised.
    is_synchronised: bool,
    /// The disk.
    pub(crate) disk: Disk,
}

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

impl Host {
    /// The instant on the boot's clock, in nanoseconds.
    fn boottime_ns(&self) -> u64 {
        self.running_ns + self.suspended_ns
    }

    /// The wall clock, in nanoseconds since 1970.
    pub(crate) fn wall_ns(&self) -> i64 {
        let utc_ns = BEGIN_UTC_NS.saturating_add_unsigned(self.elapsed_ns);
        utc_ns.saturating_add(self.wall_error_ns)
    }

    /// Lets time pass while the host runs.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.running_ns += ns;
        self.elapsed_ns += ns;
    }

    /// Lets time pass while the host is suspended.
    pub(crate) fn suspend(&mut self, ns: u64) {
        self.suspended_ns += ns;
        self.elapsed_ns += ns;
    }

    /// Synchronises the wall clock: it shows UTC from now on, and the kernel says so.
    pub(crate) fn synchronise(&mut self) {
        self.wall_error_ns = 0;
        self.is_synchronised = true;
    }

    /// Loses the time service: from now on the wall clock may be stepped to anything.
    pub(crate) fn lose_time(&mut self, step_ns: i64) {
        self.is_synchronised = false;
        self.was_unsynchronised = true;
        self.wall_error_ns += step_ns;
    }

    /// Boots again, `down_ns` nanoseconds after the loss of power, and is served once it is
    /// [`BOOT_AGE_NS`] old.
    pub(crate) fn reboot(&mut self, down_ns: u64) {
        self.boot += 1;
        self.running_ns = BOOT_AGE_NS;
        self.suspended_ns = 0;
        self.elapsed_ns += down_ns + BOOT_AGE_NS;
    }

    fn boot_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.boot)
    }
}

/// Begins a simulation on this thread.
pub(crate) fn begin(disk: Disk) {
    let host = Host {
        boot: 1,
        running_ns: BOOT_AGE_NS,
        suspended_ns: 0,
        elapsed_ns: 0,
        wall_error_ns: 0,
        was_unsynchronised: false,
        is_synchronised: true,
        disk,
    };
    HOST.with(|slot| *slot.borrow_mut() = Some(host));
}

/// Ends the simulation of this thread.
pub(crate) fn end() {
    HOST.with(|slot| *slot.borrow_mut() = None);
}

/// Calls `work` with the simulated host; none without a simulation on this thread.
pub(crate) fn with<T>(work: impl FnOnce(&mut Host) -> T) -> Option<T> {
    let with = |slot: &RefCell<Option<Host>>| slot.try_borrow_mut().ok()?.as_mut().map(work);
    HOST.try_with(with).ok().flatten()
}

/// Takes the place of the C library's.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let read = with(|host| match clock {
        libc::CLOCK_BOOTTIME => {
            host.pass(TICK_NS);
            Some(host.boottime_ns())
        }
        libc::CLOCK_MONOTONIC => Some(host.running_ns),
        libc::CLOCK_REALTIME => Some(host.wall_ns().unsigned_abs()),
        _ => None,
    });
    match read.flatten() {
        Some(ns) => {
            let seconds = libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX);
            let nanos = libc::c_long::try_from(ns % 1_000_000_000).unwrap_or_default();
            // SAFETY: the caller's record, as the C library's contract says.
            unsafe { *time = libc::timespec { tv_sec: seconds, tv_nsec: nanos } };
            0
        }
        // SAFETY: the call that the caller wanted.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

/// Takes the place of the C library's. The thread that ticks for the deadlines of policies' calls
/// sleeps a thousand times as long: a deadline counts real time, and a history must not depend on
/// how busy the real machine is. Fuel, which ends a call in a simulation too, does not.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(asked: *const libc::timespec, left: *mut libc::timespec) -> c_int {
    let clock = libc::CLOCK_REALTIME;
    // SAFETY: the caller's arguments, as the C library's contract says.
    match unsafe { clock_nanosleep(clock, 0, asked, left) } {
        0 => 0,
        error => {
            // SAFETY: the place of this thread's error number.
            unsafe { *libc::__errno_location() = error };
            -1
        }
    }
}

/// Takes the place of the C library's, as [`nanosleep`] does.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: libc::clockid_t,
    flags: c_int,
    asked: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    // SAFETY: the caller's record, as the C library's contract says.
    let mut time = unsafe { *asked };
    if std::thread::current().name() == Some("policy-tick") && flags & libc::TIMER_ABSTIME == 0 {
        let ns = (time.tv_sec * 1_000_000_000 + time.tv_nsec) * 1_000;
        time.tv_sec = ns / 1_000_000_000;
        time.tv_nsec = ns % 1_000_000_000;
    }
    // SAFETY: the call that the caller wanted.
    let slept = unsafe {
        libc::syscall(libc::SYS_clock_nanosleep, clock, flags, &raw const time, left) as c_int
    };
    if slept == 0 {
        return 0;
    }
    // SAFETY: the place of this thread's error number.
    unsafe { *libc::__errno_location() }
}

/// Takes the place of the C library's. A simulated host whose only thread waits has nothing to do:
/// the time for which it would wait has passed.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    poll: c_int,
    events: *mut libc::epoll_event,
    most: c_int,
    timeout_ms: c_int,
) -> c_int {
    let is_simulated = with(|_| ()).is_some();
    let real_ms = if is_simulated { 0 } else { timeout_ms };
    let none: *const libc::sigset_t = std::ptr::null();
    // SAFETY: the caller's arguments, as the C library's contract says.
    let found = unsafe {
        libc::syscall(libc::SYS_epoll_pwait, poll, events, most, real_ms, none, 8_usize) as c_int
    };
    if found == 0 && is_simulated {
        // Without any timer somebody else's thread must go on: there is none.
        let ms = u64::try_from(timeout_ms).unwrap_or(1_000);
        with(|host| host.pass(ms * 1_000_000));
    }
    found
}

/// Takes the place of the C library's.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn adjtimex(record: *mut libc::timex) -> c_int {
    match with(|host| host.is_synchronised) {
        Some(true) => 0,
        Some(false) => libc::TIME_ERROR,
        // SAFETY: the call that the caller wanted.
        None => unsafe { libc::syscall(libc::SYS_adjtimex, record) as c_int },
    }
}

/// Takes the place of the C library's: the boot has the simulated host's id.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's path, as the C library's contract says.
    let is_boot_id = unsafe { CStr::from_ptr(path) } == c"/proc/sys/kernel/random/boot_id";
    if is_boot_id && let Some(id) = with(|host| host.boot_id()) {
        return file_of(&id).unwrap_or(-1);
    }
    // SAFETY: the call that the caller wanted.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

/// A file in memory that holds `text`.
fn file_of(text: &str) -> Option<c_int> {
    let file = rustix::fs::memfd_create("boot_id", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes()).ok()?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).ok()?;
    debug_assert!(file.as_raw_fd() >= 0);
    Some(file.into_raw_fd())
}

/// Takes the place of the C library's: files of the simulated disk are synced as it says, all
/// others on a simulated host need not be.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    // SAFETY: the call that the caller wanted.
    synced(file).unwrap_or_else(|| unsafe { libc::syscall(libc::SYS_fdatasync, file) as c_int })
}

/// Takes the place of the C library's, as [`fdatasync`] does.
///
/// # Safety
/// The contract of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(file: c_int) -> c_int {
    // SAFETY: the call that the caller wanted.
    synced(file).unwrap_or_else(|| unsafe { libc::syscall(libc::SYS_fsync, file) as c_int })
}

fn synced(file: c_int) -> Option<c_int> {
    // SAFETY: a record of integers, for which zero is a value.
    let mut data: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the record is ours and lives through the call.
    unsafe { libc::fstat(file, &raw mut data) };
    let outcome = with(|host| host.disk.sync_inode((data.st_dev, data.st_ino)))?;
    match outcome {
        Ok(()) => Some(0),
        Err(Fault::Gone | Fault::Broken | Fault::Full) => {
            // SAFETY: the place of this thread's error number.
            unsafe { *libc::__errno_location() = libc::EIO };
            Some(-1)
        }
    }
}
