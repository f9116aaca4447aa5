//! Processes in the folders of instances, of which a record may or may not know.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::process::ProcessId;

/// A process that stands in the folder of an instance or of one of its launches: a VMM, or its
/// supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineProcess {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot: with the number, what tells it from all
    /// others.
    pub start_ticks: u64,
    /// The name of the instance's folder, which is its id.
    pub instance: String,
    /// The launch in whose folder it stands; none for a supervisor.
    pub incarnation: Option<u32>,
}

/// Every living process that stands in a folder of an instance inside `instances`. Blocks.
///
/// # Errors
/// The folder or `/proc` can't be read.
pub fn machine_processes(instances: &Path) -> io::Result<Vec<MachineProcess>> {
    let instances = instances.canonicalize()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Whoever has ended meanwhile, or is somebody else's, stands elsewhere.
        let Ok(stands) = fs::read_link(entry.path().join("cwd")) else { continue };
        let Some((instance, incarnation)) = place(&instances, &stands) else { continue };
        if let Some(ProcessId { pid, start_ticks }) = ProcessId::of(pid)? {
            found.push(MachineProcess { pid, start_ticks, instance, incarnation });
        }
    }
    Ok(found)
}

/// The instance and the launch that a folder belongs to.
fn place(instances: &Path, stands: &Path) -> Option<(String, Option<u32>)> {
    // What the kernel adds to the name of a folder that is gone.
    let stands: PathBuf = match stands.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => path.into(),
        None => stands.into(),
    };
    let mut names =
        stands.strip_prefix(instances).ok()?.iter().map(|name| name.to_string_lossy().into_owned());
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
