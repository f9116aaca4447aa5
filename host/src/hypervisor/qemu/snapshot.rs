//! A snapshot on disk: a folder with the memory as QEMU streams it, and a manifest that proves it whole.
//!
//! QEMU checks nothing itself: it restores a memory image with a flipped byte without a word. So the last chunk of the stream is
//! held back until everything has been read and its checksum is right; without it, no machine comes up.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::argv::Choice;
use crate::hypervisor::{Accelerator, HypervisorError, MachineSpec, SnapshotDefect};

/// Bytes that are read, hashed and written at a time. Large, to keep near the speed of memory.
const CHUNK_BYTES: usize = 1 << 20;

const FORMAT: u32 = 1;

/// `manifest.json`: what was saved, and of what machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    hypervisor: String,
    /// The version that wrote it, for people: newer and older ones can load it too.
    version: String,
    machine: Machine,
    memory: Memory,
}

/// What has to be the same for the memory to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    machine_type: String,
    accelerator: Accelerator,
    cpu_model: Option<String>,
    vcpus: u32,
    memory_bytes: u64,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    cmdline: String,
    /// For each disk, whether it is read-only. A fork has other files.
    disks_read_only: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    bytes: u64,
    sha256: String,
}

fn memory_path(folder: &Path) -> PathBuf {
    folder.join("memory")
}

fn manifest_path(folder: &Path) -> PathBuf {
    folder.join("manifest.json")
}

/// A snapshot that is being written, aside. Dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Draft {
    to: PathBuf,
    aside: PathBuf,
}

impl Draft {
    /// Begins a snapshot that will be at `to`.
    pub(super) fn begin(to: &Path) -> Result<Self, HypervisorError> {
        if to.exists() {
            let reason = format!("{} is there already", to.display());
            return Err(HypervisorError::Spec { what: "the snapshot's folder", reason });
        }
        let mut aside = to.as_os_str().to_owned();
        aside.push(".partial");
        let aside = PathBuf::from(aside);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(HypervisorError::file("remove", &aside))?;
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
        created.map_err(HypervisorError::file("create", &aside))?;
        Ok(Self { to: to.into(), aside })
    }

    /// Takes the memory from `source` until its end. Blocks.
    pub(super) fn write_memory(&self, source: impl Read) -> Result<Written, HypervisorError> {
        let path = memory_path(&self.aside);
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let copied = file.and_then(|file| {
            let written = copy(source, &file)?;
            file.sync_all()?;
            Ok(written)
        });
        copied.map_err(HypervisorError::file("write", path))
    }

    /// Makes it durable under its name. Blocks. Answers with its size on disk in bytes.
    pub(super) fn commit(
        self,
        written: Written,
        spec: &MachineSpec,
        choice: &Choice,
        version: &str,
    ) -> Result<u64, HypervisorError> {
        let manifest = Manifest {
            format: FORMAT,
            hypervisor: "qemu".into(),
            version: version.into(),
            machine: Machine::of(spec, choice),
            memory: Memory { bytes: written.bytes, sha256: written.sha256 },
        };
        let (path, text) = (manifest_path(&self.aside), serde_json::to_vec_pretty(&manifest));
        let write = text.map_err(io::Error::from).and_then(|text| {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            file.write_all(&text)?;
            file.sync_all()?;
            File::open(&self.aside)?.sync_all()?;
            Ok(text.len() as u64)
        });
        let manifest_bytes = write.map_err(HypervisorError::file("write", &path))?;
        self.publish().map_err(HypervisorError::file("publish", &self.to))?;
        Ok(written.bytes + manifest_bytes)
    }
}

impl Draft {
    fn publish(&self) -> io::Result<()> {
        fs::rename(&self.aside, &self.to)?;
        let parent = self.to.parent().unwrap_or(Path::new("/"));
        let durable = File::open(parent).and_then(|parent| parent.sync_all());
        if durable.is_err() {
            // Back, to be removed with the rest: what failed must not look as if it had worked.
            fs::rename(&self.to, &self.aside)?;
        }
        durable
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Not there any more once it was published.
        let _ = fs::remove_dir_all(&self.aside);
    }
}

/// What went through [`Draft::write_memory`].
#[derive(Debug)]
pub(super) struct Written {
    bytes: u64,
    sha256: String,
}

fn copy(mut source: impl Read, mut to: impl Write) -> io::Result<Written> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        match fill(&mut source, &mut chunk)? {
            0 => return Ok(Written { bytes, sha256: hex::encode(hash.finalize()) }),
            n => {
                hash.update(&chunk[..n]);
                to.write_all(&chunk[..n])?;
                bytes += n as u64;
            }
        }
    }
}

/// Reads until the chunk is full or the source has ended.
fn fill(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Manifest {
    /// Reads a snapshot's manifest and checks that its memory file has the right size.
    pub(super) fn read(folder: &Path) -> Result<Self, HypervisorError> {
        let path = manifest_path(folder);
        let text = fs::read(&path).map_err(missing_or("read", &path))?;
        let defect =
            |why: String| HypervisorError::Snapshot { path: path.clone(), defect: SnapshotDefect::Manifest(why) };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| defect(error.to_string()))?;
        if manifest.format != FORMAT || manifest.hypervisor != "qemu" {
            let (format, hypervisor) = (manifest.format, &manifest.hypervisor);
            return Err(defect(format!("format {format} of {hypervisor}, known is format {FORMAT} of qemu")));
        }
        let memory = memory_path(folder);
        let actual = fs::metadata(&memory).map_err(missing_or("look at", &memory))?.len();
        let expected = manifest.memory.bytes;
        if actual != expected {
            return Err(HypervisorError::Snapshot { path: memory, defect: SnapshotDefect::Size { expected, actual } });
        }
        Ok(manifest)
    }

    /// What the machine has to be started with.
    pub(super) fn choice(&self) -> Choice {
        let Machine { machine_type, accelerator, cpu_model, .. } = self.machine.clone();
        Choice { machine_type, accelerator, cpu_model }
    }

    /// Whether the memory fits the machine that is asked for.
    pub(super) fn check(&self, folder: &Path, spec: &MachineSpec, choice: &Choice) -> Result<(), HypervisorError> {
        let asked = Machine::of(spec, choice);
        match self.machine.differs_from(&asked) {
            None => Ok(()),
            Some((what, expected, actual)) => {
                let defect = SnapshotDefect::Mismatch { what, expected, actual };
                Err(HypervisorError::Snapshot { path: folder.into(), defect })
            }
        }
    }

    /// Streams the memory into `to`, but the last chunk only once its checksum is right. Blocks.
    pub(super) fn load_memory(&self, folder: &Path, mut to: impl Write) -> Result<(), HypervisorError> {
        let path = memory_path(folder);
        let mut file = File::open(&path).map_err(missing_or("open", &path))?;
        let (mut chunk, mut held) = (vec![0; CHUNK_BYTES], Vec::with_capacity(CHUNK_BYTES));
        let mut hash = Sha256::new();
        let mut sent = Ok(());
        loop {
            let n = fill(&mut file, &mut chunk).map_err(HypervisorError::file("read", &path))?;
            if n == 0 {
                break;
            }
            hash.update(&chunk[..n]);
            // If the VMM hangs up we read on: a damaged file is the likeliest reason, and the better thing to say.
            sent = sent.and_then(|()| to.write_all(&held));
            held.clear();
            held.extend_from_slice(&chunk[..n]);
        }
        let (expected, actual) = (self.memory.sha256.clone(), hex::encode(hash.finalize()));
        if actual != expected {
            return Err(HypervisorError::Snapshot { path, defect: SnapshotDefect::Checksum { expected, actual } });
        }
        // The VMM may close as soon as it has what it needs. Whether it has is for the VMM to say, not for this socket.
        let _ = sent.and_then(|()| to.write_all(&held));
        Ok(())
    }
}

impl Machine {
    fn of(spec: &MachineSpec, choice: &Choice) -> Self {
        Self {
            machine_type: choice.machine_type.clone(),
            accelerator: choice.accelerator,
            cpu_model: choice.cpu_model.clone(),
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            kernel: spec.kernel.clone(),
            initrd: spec.initrd.clone(),
            cmdline: spec.cmdline.clone(),
            disks_read_only: spec.disks.iter().map(|disk| disk.read_only).collect(),
        }
    }

    /// The first difference that would make the memory unfit. Kernel and command line do not: they are in the memory already, and a
    /// fork's may lie elsewhere.
    fn differs_from(&self, asked: &Self) -> Option<(&'static str, String, String)> {
        let pair = |what, saved: String, asked: String| (saved != asked).then_some((what, saved, asked));
        let accelerators = (self.accelerator.as_str().into(), asked.accelerator.as_str().into());
        pair("the accelerator", accelerators.0, accelerators.1)
            .or_else(|| pair("a vCPU count of", self.vcpus.to_string(), asked.vcpus.to_string()))
            .or_else(|| {
                pair("a memory size in bytes of", self.memory_bytes.to_string(), asked.memory_bytes.to_string())
            })
            .or_else(|| {
                let disks = |machine: &Self| format!("{:?}", machine.disks_read_only);
                pair("disks that are read-only", disks(self), disks(asked))
            })
    }
}

fn missing_or(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HypervisorError {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => HypervisorError::Snapshot { path: path.into(), defect: SnapshotDefect::Missing },
        _ => HypervisorError::file(act, path)(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }

    fn choice() -> Choice {
        Choice { machine_type: "pc-q35-7.2".into(), accelerator: Accelerator::Tcg, cpu_model: Some("max".into()) }
    }

    /// A snapshot of `size` bytes that differ from chunk to chunk, and those bytes.
    fn snapshot(dir: &Path, size: usize) -> (PathBuf, Vec<u8>) {
        let (folder, memory) = (dir.join("snapshot"), (0..size).map(|n| (n / 7919 + n) as u8).collect::<Vec<_>>());
        let draft = Draft::begin(&folder).expect("begin");
        let written = draft.write_memory(&memory[..]).expect("write");
        let bytes = draft.commit(written, &spec(dir), &choice(), "7.2").expect("commit");
        assert!(bytes > size as u64);
        (folder, memory)
    }

    #[test]
    fn what_was_written_is_loaded() {
        for size in SIZES {
            let dir = tempfile::tempdir().expect("dir");
            let (folder, memory) = snapshot(dir.path(), size);
            let manifest = Manifest::read(&folder).expect("manifest");
            assert_eq!(manifest.choice(), choice());
            manifest.check(&folder, &spec(dir.path()), &choice()).expect("it fits");
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
            fs::write(memory_path(&folder), &memory).expect("damage");
            let mut loaded = Vec::new();
            let error = Manifest::read(&folder).expect("manifest").load_memory(&folder, &mut loaded).err();
            assert!(matches!(error, Some(HypervisorError::Snapshot { defect: SnapshotDefect::Checksum { .. }, .. })));
            assert!(loaded.len() < size && size - loaded.len() <= CHUNK_BYTES, "{} of {size}", loaded.len());
        }
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("snapshot");
        let draft = Draft::begin(&folder).expect("begin");
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
        let text = fs::read_to_string(manifest_path(&folder)).expect("manifest");
        for (ours, other) in [("\"format\": 1", "\"format\": 2"), ("\"qemu\"", "\"other\""), ("\"format\"", "\"form\"")]
        {
            let changed = text.replacen(ours, other, 1);
            assert_ne!(changed, text);
            fs::write(manifest_path(&folder), changed).expect("write");
            let error = Manifest::read(&folder).err();
            assert!(
                matches!(error, Some(HypervisorError::Snapshot { defect: SnapshotDefect::Manifest(_), .. })),
                "{other}"
            );
        }
    }

    #[test]
    fn memory_written_under_another_accelerator_does_not_fit() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        let kvm = Choice { accelerator: Accelerator::Kvm, ..choice() };
        let error = Manifest::read(&folder).expect("manifest").check(&folder, &spec(dir.path()), &kvm);
        let said = error.expect_err("refused").to_string();
        assert!(said.ends_with("it was written for the accelerator tcg, asked for is kvm"), "{said}");
    }
}
