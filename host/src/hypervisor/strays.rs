//! Processes in the folders of instances, whether or not a record knows them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::process::ProcessId;

/// A process whose working folder is that of an instance or of one of its launches: a VMM, or its
/// supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineProcess {
    /// Process id.
    pub pid: u32,
    /// Start of the process, in clock ticks since the boot. Together with `pid` it is unique within
    /// the boot.
    pub start_ticks: u64,
    /// Name of the instance's folder, which is the instance's id.
    pub instance: String,
    /// Number of the launch in whose folder a VMM runs; `None` for a supervisor.
    pub incarnation: Option<u32>,
    /// True if somebody outside has stopped it by a signal, or frozen its control group.
    pub is_halted: bool,
}

/// Returns every live process whose working folder is inside that of an instance below `instances`.
/// Blocking.
///
/// # Errors
/// Any error of reading the folder or `/proc`.
pub(super) fn machine_processes(instances: &Path) -> io::Result<Vec<MachineProcess>> {
    let instances = instances.canonicalize()?;
    let mut found = Vec::new();
    let mut groups = Groups::default();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Unreadable for a process that has ended meanwhile, or is another user's.
        let Ok(stands) = fs::read_link(entry.path().join("cwd")) else { continue };
        let Some((instance, incarnation)) = place(&instances, &stands) else { continue };
        if let Some(ProcessId { pid, start_ticks }) = ProcessId::of(pid)? {
            let is_halted = is_stopped(pid) || groups.are_frozen(pid);
            found.push(MachineProcess { pid, start_ticks, instance, incarnation, is_halted });
        }
    }
    Ok(found)
}

/// Returns whether a signal has stopped a process.
fn is_stopped(pid: u32) -> bool {
    let stat = read(&format!("/proc/{pid}/stat"));
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    matches!(state, Some('T' | 't'))
}

/// The control groups that were looked at, by their texts in `/proc`.
#[derive(Debug, Default)]
struct Groups(BTreeMap<String, bool>);

impl Groups {
    /// Returns whether a control group of a process is frozen.
    fn are_frozen(&mut self, pid: u32) -> bool {
        let text = read(&format!("/proc/{pid}/cgroup"));
        if let Some(known) = self.0.get(&text) {
            return *known;
        }
        let is_frozen = text.lines().any(is_frozen);
        self.0.insert(text, is_frozen);
        is_frozen
    }
}

/// Returns whether a control group is frozen, by its line `number:controllers:path` in `/proc`.
fn is_frozen(line: &str) -> bool {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return false };
    if controllers.is_empty() {
        let events = read(&format!("/sys/fs/cgroup{path}/cgroup.events"));
        return events.lines().any(|line| line == "frozen 1");
    }
    let is_freezer = controllers.split(',').any(|controller| controller == "freezer");
    let state = || read(&format!("/sys/fs/cgroup/freezer{path}/freezer.state"));
    is_freezer && matches!(state().trim(), "FROZEN" | "FREEZING")
}

/// The text of a file; empty if there is none.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns the instance and the launch to which the working folder of a process belongs:
/// `INSTANCE/run/LAUNCH` under the folder of all instances. Without a launch it is a folder of the
/// instance itself.
fn place(instances: &Path, folder: &Path) -> Option<(String, Option<u32>)> {
    // The kernel adds this suffix to the path of a folder that was removed.
    let folder: PathBuf = match folder.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => path.into(),
        None => folder.into(),
    };
    let mut names =
        folder.strip_prefix(instances).ok()?.iter().map(|name| name.to_string_lossy().into_owned());
    let instance = names.next()?;
    let launch = names.nth(1).and_then(|name| name.parse().ok());
    Some((instance, launch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_the_instance_and_the_launch() {
        let rows = [
            ("/data/instances/one/run/7", Some(("one", Some(7)))),
            ("/data/instances/one/run/7 (deleted)", Some(("one", Some(7)))),
            ("/data/instances/one", Some(("one", None))),
            ("/data/instances/one (deleted)", Some(("one", None))),
            ("/data/instances", None),
            ("/data/instances-of-another/one", None),
            ("/", None),
        ];
        for (stands, expected) in rows {
            let found = place(Path::new("/data/instances"), Path::new(stands));
            let expected =
                expected.map(|(instance, launch): (&str, _)| (instance.to_owned(), launch));
            assert_eq!(found, expected, "{stands}");
        }
    }

    #[test]
    fn a_process_is_found_while_it_lives_also_when_its_folder_is_gone() {
        let dir = tempfile::tempdir().expect("dir");
        let run = dir.path().join("one/run/3");
        fs::create_dir_all(&run).expect("create");
        assert_eq!(machine_processes(dir.path()).expect("proc"), []);
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(&run).spawn().expect("spawn");
        for _ in 0..2 {
            let found = machine_processes(dir.path()).expect("proc");
            let [process] = &found[..] else { panic!("{found:?}") };
            assert_eq!(
                (process.pid, process.instance.as_str(), process.incarnation),
                (child.id(), "one", Some(3))
            );
            fs::remove_dir_all(dir.path().join("one")).expect("remove");
            fs::create_dir_all(dir.path().join("one")).expect("create");
        }
        child.kill().expect("kill");
        child.wait().expect("reap");
        assert_eq!(machine_processes(dir.path()).expect("proc"), []);
    }
}
