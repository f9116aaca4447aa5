//! The guest's clock and its random pool, which know nothing of a rest on the host's disk.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const NS: i64 = 1_000_000_000;

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` of `linux/random.h`.
const ADD_ENTROPY: u32 = 0x4008_5203;
const RESEED: u32 = 0x5207;

/// The wall clock in nanoseconds since 1970.
pub(crate) fn wall_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(NS).saturating_add(now.tv_nsec)
}

/// Sets the wall clock.
pub(crate) fn set_wall(ns: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: ns.div_euclid(NS), tv_nsec: ns.rem_euclid(NS) };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// `struct rand_pool_info` with 32 bytes.
#[repr(C)]
struct Pool {
    bits: i32,
    bytes: i32,
    content: [u8; 32],
}

/// Adds a seed to the random pool, and has everybody draw from the pool anew.
pub(crate) fn reseed(seed: [u8; 32]) -> io::Result<()> {
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    let pool = Pool { bits: 256, bytes: 32, content: seed };
    // SAFETY: the kernel reads the structure that it documents, and writes nothing.
    let added = unsafe { libc::ioctl(random.as_raw_fd(), ADD_ENTROPY as _, &raw const pool) };
    if added != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it takes no argument.
    match unsafe { libc::ioctl(random.as_raw_fd(), RESEED as _, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel run us before all ordinary processes, which is what a clock that is to be right
/// before anybody reads it takes. What we start does not inherit it. A kernel that refuses runs us
/// like everybody.
pub(crate) fn take_precedence() {
    // The kernel's `struct sched_param`.
    let priority: libc::c_int = 1;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: musl's wrapper refuses; the system call reads the structure only.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
}
