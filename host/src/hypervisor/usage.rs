//! Use of the host by a virtual machine monitor, as the kernel counts it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::param::{clock_ticks_per_second, page_size};

use super::supervisor::Identity;
use super::{HypervisorError, files};
use crate::clock;

/// Processor time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time of all threads since the launch, in nanoseconds.
    pub cpu_ns: u64,
    /// Resolution of `cpu_ns`, in nanoseconds.
    pub cpu_resolution_ns: u64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Address space, in bytes.
    pub vms_bytes: u64,
}

/// Returns the use of a launch's VMM; `None` if it has ended or there never was one. Blocking.
///
/// # Errors
/// [`HypervisorError::File`] if a file of the launch or of `/proc` can't be read.
pub fn usage(dir: &Path, incarnation: u32) -> Result<Option<Usage>, HypervisorError> {
    let run = files::run(dir, incarnation);
    let identity =
        Identity::read(&run).map_err(HypervisorError::file("read", files::identity(&run)))?;
    let this_boot = clock::boot_id().ok();
    let Some(identity) =
        identity.filter(|identity| this_boot.is_some_and(|boot| *boot.0 == *identity.boot))
    else {
        return Ok(None);
    };
    let path = format!("/proc/{}/stat", identity.vmm.pid);
    match fs::read_to_string(&path) {
        // Identity and use come from one read: the process id may have been reused.
        Ok(text) => Ok(parse(&text)
            .filter(|&(start_ticks, _)| start_ticks == identity.vmm.start_ticks)
            .map(|(_, usage)| usage)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(HypervisorError::file("read", path)(error)),
    }
}

/// Parses the start of a process, in clock ticks since the boot, and its use from its
/// `/proc/<pid>/stat` (proc_pid_stat(5), fields 14, 15, 22 to 24).
fn parse(text: &str) -> Option<(u64, Usage)> {
    // The name in parentheses may hold anything, spaces and parentheses too.
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let tick_ns = 1_000_000_000_u64.checked_div(clock_ticks_per_second())?;
    let pages = u64::try_from(page_size()).ok()?;
    let usage = Usage {
        cpu_ns: field(14)?.checked_add(field(15)?)?.checked_mul(tick_ns)?,
        cpu_resolution_ns: tick_ns,
        rss_bytes: field(24)?.checked_mul(pages)?,
        vms_bytes: field(23)?,
    };
    Some((field(22)?, usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_nasty_name_is_read_right() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 3 0 987 104857600 2560 18446744073709551615";
        let (start_ticks, usage) = parse(text).expect("it is well-formed");
        let tick_ns = 1_000_000_000 / clock_ticks_per_second();
        assert_eq!(start_ticks, 987);
        assert_eq!((usage.cpu_ns, usage.cpu_resolution_ns), (42 * tick_ns, tick_ns));
        assert_eq!((usage.vms_bytes, usage.rss_bytes), (104_857_600, 2_560 * page_size() as u64));
        assert_eq!(parse("7 (a"), None);
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn a_launch_that_never_was_uses_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(usage(dir.path(), 1).expect("readable"), None);
    }
}
