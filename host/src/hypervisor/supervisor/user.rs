//! A user of their own for virtual machine monitors.
//!
//! A daemon with the privileges to do so starts VMMs as another user. That user gets the group's
//! rights on what its machine needs and on the way there inside the data folder, and nothing else:
//! the journal, the tokens and the keys stay the daemon's.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Capabilities that starting programs as another user takes, by their number.
const NEEDED: [(&str, u32); 6] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
];

/// Rights of the group to read.
pub(super) const READ: u32 = 0o040;
/// Rights of the group to read and write.
pub(super) const WRITE: u32 = 0o060;
/// Rights of the group to use a folder, in which nobody removes what is another's.
pub(super) const USE: u32 = 0o1070;
/// The group's right to pass through a folder.
pub(super) const PASS: u32 = 0o010;

/// A user that VMMs run as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmmUser {
    uid: u32,
    gid: u32,
    /// Further groups, such as `kvm`.
    groups: Vec<u32>,
}

impl VmmUser {
    /// The user of this name, which VMMs are to run as.
    ///
    /// # Errors
    /// The reason why they can't: there is no such user, it is root, or this process may not start
    /// programs as another user.
    pub fn named(name: &str) -> Result<Self, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let user = Self::told(name, &read("/etc/passwd")?, &read("/etc/group")?)?;
        let missing = missing(&read("/proc/self/status")?);
        match missing.is_empty() {
            true => Ok(user),
            false => Err(format!(
                "running virtual machine monitors as '{name}' takes root, or {}",
                missing.join(", ")
            )),
        }
    }

    fn told(name: &str, users: &str, groups: &str) -> Result<Self, String> {
        let found = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let mut found = found;
        let found = found.find(|fields| fields.first() == Some(&name));
        let number = |at: usize| found.as_ref()?.get(at)?.parse::<u32>().ok();
        let (Some(uid), Some(gid)) = (number(2), number(3)) else {
            return Err(format!(
                "there is no user '{name}' in /etc/passwd; `useradd -r {name}` makes one"
            ));
        };
        if uid == 0 {
            return Err("virtual machine monitors must not run as root".into());
        }
        let of_group = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            let is_in = fields.get(3)?.split(',').any(|member| member == name);
            fields.get(2)?.parse().ok().filter(|_| is_in)
        };
        Ok(Self { uid, gid, groups: groups.lines().filter_map(of_group).collect() })
    }

    /// The user's id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Lets the user read a file, or the files of a folder.
    pub(super) fn let_read(&self, path: &Path) -> io::Result<()> {
        if !path.is_dir() {
            return self.open(path, READ);
        }
        self.open(path, READ | PASS)?;
        for file in fs::read_dir(path)? {
            let file = file?;
            // A link's target may be anything of the daemon's.
            if file.file_type()?.is_file() {
                self.open(&file.path(), READ)?;
            }
        }
        Ok(())
    }

    /// Gives the user's group rights on a file or folder of the daemon's. What is another's, such
    /// as a disk of the host, stays as it is.
    pub(super) fn open(&self, path: &Path, rights: u32) -> io::Result<()> {
        let found = fs::metadata(path)?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        if found.gid() != self.gid {
            chown(path, None, Some(self.gid))?;
        }
        let mode = found.mode() & 0o7777;
        if mode | rights != mode {
            fs::set_permissions(path, Permissions::from_mode(mode | rights))?;
        }
        Ok(())
    }

    /// Makes the program that is started run as the user. Its folder is entered before.
    pub(super) fn become_it(&self, command: &mut Command) {
        let Self { uid, gid, groups } = self.clone();
        let switch = move || {
            let done = |result: libc::c_int| match result {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            };
            // SAFETY: the pointer and the length are those of a list that lives here.
            done(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
            // SAFETY: these read no memory.
            done(unsafe { libc::setgid(gid) })?;
            // SAFETY: as above.
            done(unsafe { libc::setuid(uid) })
        };
        // SAFETY: it calls the system alone.
        unsafe { command.pre_exec(switch) };
    }
}

/// The capabilities that a process lacks, by its status.
fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let has = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    NEEDED.iter().filter(|(_, bit)| has >> bit & 1 == 0).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_with_its_groups_and_root_is_refused() {
        let users = "root:x:0:0::/root:/bin/sh\nvmm:x:990:980::/:/usr/sbin/nologin\n";
        let groups = "kvm:x:36:qemu,vmm\nother:x:40:vmmx\nlate:x:41:vmm\n";
        let user = VmmUser { uid: 990, gid: 980, groups: vec![36, 41] };
        assert_eq!(VmmUser::told("vmm", users, groups), Ok(user));
        assert!(
            VmmUser::told("root", users, groups).expect_err("root").contains("not run as root")
        );
        assert!(VmmUser::told("nobody", users, groups).expect_err("none").contains("useradd"));
    }

    #[test]
    fn what_a_process_lacks_is_named() {
        assert_eq!(missing("Name:\tx\nCapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(missing("CapEff:\t0000000000000000\n").len(), NEEDED.len());
        assert_eq!(missing("CapEff:\t00000000000000eb\n"), Vec::<&str>::new());
        assert_eq!(missing("CapEff:\t000000000000006b\n"), ["CAP_SETUID"]);
    }
}
