//! Holds the guest's processes while its vCPUs are about to stop, so that none of them runs on
//! before the clock is right again.
//!
//! The kernel's control groups (version 2) can freeze processes without their noticing. They are
//! reached by a mount of our own that nobody else sees; a kernel without them holds nobody.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group of processes that were in none.
const GROUP: &str = "tallyman-guest";

/// Time for processes to stand still. One that waits for a device may take longer.
const STILL_WITHIN: Duration = Duration::from_millis(100);

/// Time between two looks whether they do.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Time that the guest runs with its processes held, if the host does not come to set the clock.
const HELD_MAX: Duration = Duration::from_secs(2);

/// Most passes over the processes that are in no group: each may have made others meanwhile.
const PASSES_MAX: usize = 8;

/// Processes that are held.
pub(crate) struct Hold {
    root: Root,
    /// The groups that were frozen.
    groups: Vec<PathBuf>,
    /// The group that the agent was in before; none for the topmost.
    home: Option<PathBuf>,
    /// The instant at which they are let go in any case.
    pub(crate) until: Instant,
}

/// The topmost group.
struct Root(OwnedFd);

impl Root {
    fn mount() -> io::Result<Self> {
        let context = made(system(libc::SYS_fsopen, [c"cgroup2".as_ptr() as i64, 1, 0, 0, 0]))?;
        // FSCONFIG_CMD_CREATE.
        let create = [i64::from(context.as_raw_fd()), 6, 0, 0, 0];
        if system(libc::SYS_fsconfig, create) != 0 {
            return Err(io::Error::last_os_error());
        }
        made(system(libc::SYS_fsmount, [i64::from(context.as_raw_fd()), 1, 0, 0, 0])).map(Self)
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// The groups below it.
    fn groups(&self) -> io::Result<Vec<PathBuf>> {
        let listed = fs::read_dir(self.path())?.flatten();
        let groups = listed.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(groups.map(|entry| entry.path()).collect())
    }

    /// Moves all processes but this one out of the topmost group, which can't be frozen. Those of
    /// the kernel stay.
    fn clear(&self) -> io::Result<()> {
        let group = self.path().join(GROUP);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let own = std::process::id().to_string();
        for _ in 0..PASSES_MAX {
            let processes = fs::read_to_string(members(&self.path()))?;
            let others = processes.lines().filter(|process| *process != own);
            // One that is the kernel's, or has ended, stays.
            let moved = others.filter(|process| fs::write(members(&group), process).is_ok());
            if moved.count() == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Hold {
    /// Holds all processes but this one.
    pub(crate) fn begin() -> io::Result<Self> {
        let root = Root::mount()?;
        let home = own_group(&root.path())?;
        if home.is_some() {
            fs::write(members(&root.path()), "0")?;
        }
        let mut hold = Self { root, groups: Vec::new(), home, until: Instant::now() + HELD_MAX };
        match hold.freeze() {
            Ok(()) => Ok(hold),
            Err(error) => {
                hold.end();
                Err(error)
            }
        }
    }

    fn freeze(&mut self) -> io::Result<()> {
        self.root.clear()?;
        for group in self.root.groups()? {
            let switch = group.join("cgroup.freeze");
            // One that somebody else has frozen is not ours to let go.
            if fs::read_to_string(&switch)?.trim() == "0" {
                fs::write(&switch, "1")?;
                self.groups.push(group);
            }
        }
        let deadline = Instant::now() + STILL_WITHIN;
        while !self.groups.iter().all(|group| is_still(group)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Lets them go.
    pub(crate) fn end(self) {
        for group in &self.groups {
            // A group that is gone holds nobody.
            let _ = fs::write(group.join("cgroup.freeze"), "0");
        }
        if let Some(home) = &self.home {
            // If it is gone, this process is as well where it is.
            let _ = fs::write(members(home), "0");
        }
    }
}

fn members(group: &Path) -> PathBuf {
    group.join("cgroup.procs")
}

fn is_still(group: &Path) -> bool {
    let events = fs::read_to_string(group.join("cgroup.events"));
    // A group that is gone is still.
    events.map_or(true, |events| events.lines().any(|line| line == "frozen 1"))
}

/// The group of this process; none for the topmost.
fn own_group(root: &Path) -> io::Result<Option<PathBuf>> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(own.filter(|own| !own.is_empty()).map(|own| root.join(own)))
}

fn system(number: libc::c_long, arguments: [i64; 5]) -> libc::c_long {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: numbers, and texts that live as long as the program.
    unsafe { libc::syscall(number, first, second, third, fourth, fifth) }
}

/// The descriptor that a system call has made.
fn made(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: it was just made, and nobody else knows it.
        Ok(number @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
