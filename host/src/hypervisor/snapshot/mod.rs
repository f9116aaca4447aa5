//! Snapshots on disk: a folder with the VMM's files, and a manifest that proves them whole.
//!
//! No VMM checks its memory file: each restores one with a flipped byte, and some a truncated one,
//! without an error. So the manifest holds the size and a checksum of every file, and no guest runs
//! before they were verified.

mod checksum;
mod compress;
mod draft;
mod manifest;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Accelerator, HypervisorError, Kind};

pub use compress::{StopSignal, compress, unpack};
pub(super) use draft::Draft;
pub(super) use manifest::Manifest;

/// Name of the file with the guest's memory.
pub(super) const MEMORY: &str = "memory";

/// The decisions that a spec leaves to the hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub(super) accelerator: Accelerator,
    /// `None` if the hypervisor has only one.
    pub(super) machine_type: Option<String>,
    /// `None` for the machine type's default, which every host supports.
    pub(super) cpu_model: Option<String>,
}

/// Hypervisor that runs a machine and writes its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedBy {
    pub(super) kind: Kind,
    /// Version that the VMM itself reports.
    pub(super) version: String,
}

/// Path beside `path` at which its new content is prepared.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// Ignores the error that the file or folder to remove is not there.
pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    removed
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Runs blocking work on a thread for such work. A panic of the work is passed on.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HypervisorError> + Send + 'static,
) -> Result<T, HypervisorError> {
    match crate::blocking::run(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::checksum::CHUNK_BYTES;
    use super::manifest::MANIFEST;
    use super::*;
    use crate::hypervisor::{Capability, Disk, MachineSpec, SnapshotDefect};

    const SIZES: [usize; 7] =
        [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES - 1];

    fn spec(dir: &Path) -> MachineSpec {
        MachineSpec {
            dir: dir.into(),
            id: "one".parse().expect("id"),
            name: "one".parse().expect("name"),
            incarnation: 1,
            vcpus: 1,
            memory_bytes: 1 << 30,
            memory_bytes_max: None,
            kernel: "/kernel".into(),
            initrd: None,
            cmdline: String::new(),
            disks: Vec::new(),
            machine_type: None,
            cpu_model: None,
            agent: false,
            network: None,
        }
    }

    fn choice() -> Choice {
        let machine_type = Some("pc-q35-7.2".into());
        Choice { machine_type, accelerator: Accelerator::Tcg, cpu_model: Some("max".into()) }
    }

    fn saved_by(kind: Kind, version: &str) -> SavedBy {
        SavedBy { kind, version: version.into() }
    }

    fn qemu() -> SavedBy {
        saved_by(Kind::Qemu, "7.2")
    }

    /// A snapshot of `size` bytes that differ from chunk to chunk, and those bytes.
    fn snapshot(dir: &Path, size: usize) -> (PathBuf, Vec<u8>) {
        let folder = dir.join("snapshot");
        let memory = (0..size).map(|n| (n / 7919 + n) as u8).collect::<Vec<_>>();
        let mut draft = Draft::begin(&folder).expect("begin");
        draft.write_memory(&memory[..]).expect("write");
        let bytes = draft.commit(&spec(dir), &choice(), &qemu()).expect("commit");
        assert!(bytes > size as u64);
        (folder, memory)
    }

    #[test]
    fn what_was_written_is_loaded() {
        for size in SIZES {
            let dir = tempfile::tempdir().expect("dir");
            let (folder, memory) = snapshot(dir.path(), size);
            let manifest = Manifest::read(&folder, Kind::Qemu).expect("manifest");
            assert_eq!(manifest.choice(), choice());
            manifest.check(&folder, &spec(dir.path()), &choice(), &qemu()).expect("it fits");
            let mut loaded = Vec::new();
            manifest.load_memory(&folder, &mut loaded).expect("load");
            assert!(loaded == memory, "{size} bytes");
        }
    }

    #[test]
    fn the_end_of_a_damaged_memory_is_held_back() {
        for size in SIZES.into_iter().filter(|&size| size > 0) {
            let dir = tempfile::tempdir().expect("dir");
            let (folder, mut memory) = snapshot(dir.path(), size);
            memory[size / 2] ^= 0x80;
            fs::write(folder.join(MEMORY), &memory).expect("damage");
            let mut loaded = Vec::new();
            let error = Manifest::read(&folder, Kind::Qemu)
                .expect("manifest")
                .load_memory(&folder, &mut loaded)
                .err();
            assert!(matches!(
                error,
                Some(HypervisorError::Snapshot { defect: SnapshotDefect::Checksum { .. }, .. })
            ));
            assert!(
                loaded.len() < size && size - loaded.len() <= CHUNK_BYTES,
                "{} of {size}",
                loaded.len()
            );
        }
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("snapshot");
        let mut draft = Draft::begin(&folder).expect("begin");
        draft.write_memory(&b"some"[..]).expect("write");
        drop(draft);
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[test]
    fn what_a_crash_left_behind_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("snapshot");
        std::mem::forget(Draft::begin(&folder).expect("begin"));
        snapshot(dir.path(), 1);
    }

    #[test]
    fn a_manifest_of_another_format_or_hypervisor_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        let text = fs::read_to_string(folder.join(MANIFEST)).expect("manifest");
        for (ours, other) in [
            ("\"format\": 1", "\"format\": 2"),
            ("\"qemu\"", "\"other\""),
            ("\"format\"", "\"form\""),
        ] {
            let changed = text.replacen(ours, other, 1);
            assert_ne!(changed, text);
            fs::write(folder.join(MANIFEST), changed).expect("write");
            let error = Manifest::read(&folder, Kind::Qemu).err();
            assert!(
                matches!(
                    error,
                    Some(HypervisorError::Snapshot { defect: SnapshotDefect::Manifest(_), .. })
                ),
                "{other}"
            );
        }
    }

    #[test]
    fn memory_written_under_another_accelerator_does_not_fit() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        let kvm = Choice { accelerator: Accelerator::Kvm, ..choice() };
        let error = Manifest::read(&folder, Kind::Qemu).expect("manifest").check(
            &folder,
            &spec(dir.path()),
            &kvm,
            &qemu(),
        );
        let said = error.expect_err("refused").to_string();
        assert!(
            said.ends_with("it was written for the accelerator tcg, asked for is kvm"),
            "{said}"
        );
    }

    #[test]
    fn only_portable_snapshots_are_for_another_version() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        for kind in Kind::ALL {
            let manifest = Manifest { hypervisor: kind.as_str().into(), ..manifest_of(&folder) };
            let check = |version| {
                manifest.check(&folder, &spec(dir.path()), &choice(), &saved_by(kind, version))
            };
            check("7.2").expect("the same version");
            match check("7.3") {
                Ok(()) => assert!(kind.capabilities().has(Capability::PortableSnapshots), "{kind}"),
                Err(error) => {
                    assert!(!kind.capabilities().has(Capability::PortableSnapshots), "{kind}");
                    let told = error.to_string();
                    assert!(
                        told.contains("7.2")
                            && told.contains("7.3")
                            && told.contains(kind.as_str()),
                        "{told}"
                    );
                }
            }
        }
    }

    fn manifest_of(folder: &Path) -> Manifest {
        Manifest::read(folder, Kind::Qemu).expect("manifest")
    }

    #[test]
    fn another_identity_and_other_files_fit_but_no_other_shape() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        let spec = spec(dir.path());
        let check = |spec| manifest_of(&folder).check(&folder, &spec, &choice(), &qemu());
        let fork = MachineSpec {
            dir: "/elsewhere".into(),
            id: "two".parse().expect("id"),
            name: "another".parse().expect("name"),
            incarnation: 7,
            kernel: "/another/kernel".into(),
            cmdline: "other words".into(),
            ..spec.clone()
        };
        check(fork).expect("a fork fits");
        let unfit = [
            MachineSpec { vcpus: 2, ..spec.clone() },
            MachineSpec { memory_bytes: 2 << 30, ..spec.clone() },
            MachineSpec { memory_bytes_max: Some(2 << 30), ..spec.clone() },
            MachineSpec {
                disks: vec![Disk { path: "/disk".into(), read_only: true }],
                ..spec.clone()
            },
        ];
        for spec in unfit {
            let error = check(spec);
            let mismatch = |defect: &_| matches!(defect, SnapshotDefect::Mismatch { .. });
            assert!(
                matches!(&error, Err(HypervisorError::Snapshot { defect, .. }) if mismatch(defect)),
                "{error:?}"
            );
        }
    }

    /// A snapshot of files that a VMM wrote itself.
    pub(in super::super) fn adopted(dir: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let folder = dir.join("snapshot");
        let mut draft = Draft::begin(&folder).expect("begin");
        for (name, bytes) in files {
            fs::write(draft.folder().join(name), bytes).expect("write");
        }
        draft.take_up().expect("take up");
        draft.commit(&spec(dir), &choice(), &qemu()).expect("commit");
        folder
    }

    #[test]
    fn a_flipped_byte_is_found_in_every_file_wherever_it_is() {
        let dir = tempfile::tempdir().expect("dir");
        let mut memory = vec![0; 5 * CHUNK_BYTES + 1];
        memory[3 * CHUNK_BYTES] = 1;
        let folder = adopted(dir.path(), &[("memory", &memory), ("state", b"some")]);
        let manifest = manifest_of(&folder);
        manifest.verify(&folder).expect("whole");
        let flips =
            [("state", 0), ("memory", 0), ("memory", CHUNK_BYTES), ("memory", 3 * CHUNK_BYTES)];
        for (name, at) in flips.into_iter().chain([("memory", memory.len() - 1)]) {
            let path = folder.join(name);
            let whole = fs::read(&path).expect("read");
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).expect("damage");
            match manifest.verify(&folder) {
                Err(HypervisorError::Snapshot {
                    path: named,
                    defect: SnapshotDefect::Checksum { .. },
                }) => {
                    assert_eq!(named, path);
                }
                other => panic!("{name} {at}: {other:?}"),
            }
            fs::write(&path, whole).expect("mend");
        }
        manifest.verify(&folder).expect("whole again");
    }

    #[test]
    fn zeros_take_no_space_and_their_layout_does_not_matter() {
        let dir = tempfile::tempdir().expect("dir");
        let mut memory = vec![0; 64 * CHUNK_BYTES];
        memory[20 * CHUNK_BYTES + 5] = 1;
        let folder = adopted(dir.path(), &[("memory", &memory)]);
        let path = folder.join(MEMORY);
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).expect("metadata"));
        assert!(blocks * 512 <= 2 * CHUNK_BYTES as u64, "{blocks} blocks");
        assert!(fs::read(&path).expect("read") == memory);
        fs::write(&path, &memory).expect("without holes");
        manifest_of(&folder).verify(&folder).expect("the same contents");
    }

    #[test]
    fn a_manifest_names_no_file_outside_its_folder() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        let text = fs::read_to_string(folder.join(MANIFEST)).expect("manifest");
        for name in ["../memory", "/etc/passwd", "."] {
            fs::write(folder.join(MANIFEST), text.replace("\"memory\"", &format!("{name:?}")))
                .expect("write");
            let error = Manifest::read(&folder, Kind::Qemu).err();
            assert!(matches!(
                error,
                Some(HypervisorError::Snapshot { defect: SnapshotDefect::Manifest(_), .. })
            ));
        }
    }
}
