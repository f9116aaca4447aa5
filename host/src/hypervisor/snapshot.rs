//! A snapshot on disk: a folder with what the VMM wrote, and a manifest that proves it whole.
//!
//! No VMM checks its memory file: each restores one with a flipped byte, and some a file that was cut, without a word. So the manifest holds
//! the size and a checksum of every file, and no guest runs before they were found right.
//!
//! The checksum of a file is the SHA-256 over its chunks of [`CHUNK_BYTES`] that are not all zero, each as its number (eight bytes, little
//! endian) and its own SHA-256, and then the file's length. Memory is mostly zeros: those cost neither time nor space on disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Accelerator, Capability, HypervisorError, Kind, MachineSpec, SnapshotDefect};

/// Bytes that are read, hashed and written at a time: 256 KiB.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

const FORMAT: u32 = 1;

pub(super) const MANIFEST: &str = "manifest.json";

/// The file with the guest's memory.
pub(super) const MEMORY: &str = "memory";

/// What a spec leaves open, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub(super) accelerator: Accelerator,
    /// None where there is only one.
    pub(super) machine_type: Option<String>,
    /// None for the machine type's own, which every host has.
    pub(super) cpu_model: Option<String>,
}

/// Who runs a machine: what wrote its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Writer {
    pub(super) kind: Kind,
    /// As the VMM itself says.
    pub(super) version: String,
}

/// `manifest.json`: what was saved, and of what machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    hypervisor: String,
    version: String,
    machine: Machine,
    pub(super) files: BTreeMap<String, Contents>,
}

/// What has to be the same for the memory to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    accelerator: Accelerator,
    machine_type: Option<String>,
    cpu_model: Option<String>,
    vcpus: u32,
    memory_bytes: u64,
    memory_bytes_max: Option<u64>,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    cmdline: String,
    /// For each disk, whether it is read-only. A fork has other files.
    disks_read_only: Vec<bool>,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contents {
    pub(super) bytes: u64,
    sha256: String,
    /// Bytes of the compressed file that holds it instead, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) zstd_bytes: Option<u64>,
}

/// A snapshot that is being written, aside. Dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Draft {
    to: PathBuf,
    aside: PathBuf,
    files: BTreeMap<String, Contents>,
}

impl Draft {
    /// Begins a snapshot that will be at `to`.
    pub(super) fn begin(to: &Path) -> Result<Self, HypervisorError> {
        if to.exists() {
            let reason = format!("{} is there already", to.display());
            return Err(HypervisorError::Spec { what: "the snapshot's folder", reason });
        }
        let aside = beside(to, ".partial");
        absent(fs::remove_dir_all(&aside)).map_err(HypervisorError::file("remove", &aside))?;
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
        created.map_err(HypervisorError::file("create", &aside))?;
        Ok(Self { to: to.into(), aside, files: BTreeMap::new() })
    }

    /// The folder into which a VMM may write files of its own.
    pub(super) fn folder(&self) -> &Path {
        &self.aside
    }

    /// Takes the memory from `source` until its end. Blocks.
    pub(super) fn write_memory(&mut self, source: impl Read) -> Result<(), HypervisorError> {
        let path = self.aside.join(MEMORY);
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let copied = file.and_then(|file| {
            let contents = copy(source, &file)?;
            file.sync_all()?;
            Ok(contents)
        });
        self.files.insert(MEMORY.into(), copied.map_err(HypervisorError::file("write", path))?);
        Ok(())
    }

    /// Takes up what the VMM wrote: every file in the folder that is not known yet. Blocks.
    pub(super) fn take_up(&mut self) -> Result<(), HypervisorError> {
        let listed = fs::read_dir(&self.aside).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in listed.map_err(HypervisorError::file("list", &self.aside))? {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if let Entry::Vacant(place) = self.files.entry(name) {
                place.insert(adopt(&path).map_err(HypervisorError::file("read", path))?);
            }
        }
        Ok(())
    }

    /// Makes it durable under its name. Blocks. Answers with its size in bytes.
    pub(super) fn commit(
        mut self,
        spec: &MachineSpec,
        choice: &Choice,
        writer: &Writer,
    ) -> Result<u64, HypervisorError> {
        let bytes: u64 = self.files.values().map(|contents| contents.bytes).sum();
        let manifest = Manifest {
            format: FORMAT,
            hypervisor: writer.kind.as_str().into(),
            version: writer.version.clone(),
            machine: Machine::of(spec, choice),
            files: std::mem::take(&mut self.files),
        };
        let path = self.aside.join(MANIFEST);
        let write = write_new(&path, &manifest).and_then(|bytes| {
            File::open(&self.aside)?.sync_all()?;
            Ok(bytes)
        });
        let manifest_bytes = write.map_err(HypervisorError::file("write", &path))?;
        self.publish().map_err(HypervisorError::file("publish", &self.to))?;
        Ok(bytes + manifest_bytes)
    }

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

impl Manifest {
    /// Reads a snapshot's manifest and checks that it is one of `kind`, and that its files are there with the right sizes.
    pub(super) fn read(folder: &Path, kind: Kind) -> Result<Self, HypervisorError> {
        let manifest = Self::open(folder)?;
        if manifest.hypervisor != kind.as_str() {
            let why = format!("it is one of {}, asked for is one of {kind}", manifest.hypervisor);
            return Err(no_manifest(folder, why));
        }
        for (name, &Contents { bytes: expected, .. }) in &manifest.files {
            let path = folder.join(name);
            let actual = fs::metadata(&path).map_err(missing_or("look at", &path))?.len();
            if actual != expected {
                return Err(HypervisorError::Snapshot { path, defect: SnapshotDefect::Size { expected, actual } });
            }
        }
        Ok(manifest)
    }

    /// Reads the manifest of a snapshot of any hypervisor.
    pub(super) fn open(folder: &Path) -> Result<Self, HypervisorError> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(missing_or("read", &path))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| no_manifest(folder, error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(no_manifest(folder, format!("it has format {}, known is {FORMAT}", manifest.format)));
        }
        match manifest.files.keys().find(|name| name.contains('/') || name.starts_with('.')) {
            Some(name) => Err(no_manifest(folder, format!("{name:?} is no name of a file"))),
            None => Ok(manifest),
        }
    }

    /// What the machine has to be started with.
    pub(super) fn choice(&self) -> Choice {
        let Machine { machine_type, accelerator, cpu_model, .. } = self.machine.clone();
        Choice { machine_type, accelerator, cpu_model }
    }

    /// Whether the memory fits the machine that is asked for and the hypervisor that is here.
    pub(super) fn check(
        &self,
        folder: &Path,
        spec: &MachineSpec,
        choice: &Choice,
        here: &Writer,
    ) -> Result<(), HypervisorError> {
        let unfit = |defect| Err(HypervisorError::Snapshot { path: folder.into(), defect });
        if let Some((what, expected, actual)) = self.machine.differs_from(&Machine::of(spec, choice)) {
            return unfit(SnapshotDefect::Mismatch { what, expected, actual });
        }
        if self.version != here.version && !here.kind.capabilities().has(Capability::PortableSnapshots) {
            let (expected, actual) = (self.version.clone(), here.version.clone());
            return unfit(SnapshotDefect::Version { hypervisor: here.kind.as_str(), expected, actual });
        }
        Ok(())
    }

    /// Reads every file and compares it with its checksum. Blocks.
    pub(super) fn verify(&self, folder: &Path) -> Result<(), HypervisorError> {
        for (name, contents) in &self.files {
            let path = folder.join(name);
            let file = File::open(&path).map_err(missing_or("open", &path))?;
            let actual = digest(&file, |_| Ok(())).map_err(HypervisorError::file("read", &path))?;
            contents.compare(actual, path)?;
        }
        Ok(())
    }

    /// Streams the memory into `to`, but the last chunk only once its checksum is right. Blocks.
    pub(super) fn load_memory(&self, folder: &Path, mut to: impl Write) -> Result<(), HypervisorError> {
        let path = folder.join(MEMORY);
        let missing = || HypervisorError::Snapshot { path: path.clone(), defect: SnapshotDefect::Missing };
        let expected = self.files.get(MEMORY).ok_or_else(missing)?;
        let mut file = File::open(&path).map_err(missing_or("open", &path))?;
        let (mut chunk, mut held) = (vec![0; CHUNK_BYTES], Vec::with_capacity(CHUNK_BYTES));
        let mut hash = Hash::default();
        let mut sent = Ok(());
        loop {
            let n = fill(&mut file, &mut chunk).map_err(HypervisorError::file("read", &path))?;
            if n == 0 {
                break;
            }
            hash.chunk(&chunk[..n]);
            // If the VMM hangs up we read on: a damaged file is the likeliest reason, and the better thing to say.
            sent = sent.and_then(|()| to.write_all(&held));
            held.clear();
            held.extend_from_slice(&chunk[..n]);
        }
        expected.compare(hash.finish(), path)?;
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
            memory_bytes_max: spec.memory_bytes_max,
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
        let most = |machine: &Self| machine.memory_bytes_max.unwrap_or(machine.memory_bytes).to_string();
        let disks = |machine: &Self| format!("{:?}", machine.disks_read_only);
        let (accelerator, asked_accelerator) = (self.accelerator.as_str().into(), asked.accelerator.as_str().into());
        let (memory, asked_memory) = (self.memory_bytes.to_string(), asked.memory_bytes.to_string());
        pair("the accelerator", accelerator, asked_accelerator)
            .or_else(|| pair("a vCPU count of", self.vcpus.to_string(), asked.vcpus.to_string()))
            .or_else(|| pair("a memory size in bytes of", memory, asked_memory))
            .or_else(|| pair("a memory size in bytes of at most", most(self), most(asked)))
            .or_else(|| pair("disks that are read-only", disks(self), disks(asked)))
    }
}

impl Contents {
    /// Whether a file that was read holds this.
    pub(super) fn compare(&self, actual: Contents, path: PathBuf) -> Result<(), HypervisorError> {
        if (actual.bytes, &actual.sha256) == (self.bytes, &self.sha256) {
            return Ok(());
        }
        let (expected, actual) = (self.sha256.clone(), actual.sha256);
        Err(HypervisorError::Snapshot { path, defect: SnapshotDefect::Checksum { expected, actual } })
    }
}

/// The checksum of a file that is being read chunk by chunk.
#[derive(Default)]
pub(super) struct Hash {
    whole: Sha256,
    chunks: u64,
    bytes: u64,
}

impl Hash {
    /// The next chunk: a full one, except for the last.
    pub(super) fn chunk(&mut self, chunk: &[u8]) {
        if !is_zero(chunk) {
            self.whole.update(self.chunks.to_le_bytes());
            self.whole.update(Sha256::digest(chunk));
        }
        self.zeros(chunk.len());
    }

    /// The next chunk, which is all zeros.
    fn zeros(&mut self, len: usize) {
        self.chunks += 1;
        self.bytes += len as u64;
    }

    pub(super) fn finish(mut self) -> Contents {
        self.whole.update(self.bytes.to_le_bytes());
        Contents { bytes: self.bytes, sha256: hex::encode(self.whole.finalize()), zstd_bytes: None }
    }
}

/// Whether a chunk is all zeros. Compares with itself, one byte on, which the library does a register at a time.
fn is_zero(chunk: &[u8]) -> bool {
    chunk.first() == Some(&0) && chunk[1..] == chunk[..chunk.len() - 1]
}

fn copy(mut source: impl Read, mut to: impl Write) -> io::Result<Contents> {
    let (mut chunk, mut hash) = (vec![0; CHUNK_BYTES], Hash::default());
    loop {
        match fill(&mut source, &mut chunk)? {
            0 => return Ok(hash.finish()),
            n => {
                hash.chunk(&chunk[..n]);
                to.write_all(&chunk[..n])?;
            }
        }
    }
}

/// Copies into a new file, in which zeros are holes.
pub(super) fn copy_sparse(mut source: impl Read, to: &File) -> io::Result<Contents> {
    let (mut chunk, mut hash) = (vec![0; CHUNK_BYTES], Hash::default());
    loop {
        let offset = hash.bytes;
        let n = fill(&mut source, &mut chunk)?;
        if n == 0 {
            to.set_len(offset)?;
            return Ok(hash.finish());
        }
        if !is_zero(&chunk[..n]) {
            to.write_all_at(&chunk[..n], offset)?;
        }
        hash.chunk(&chunk[..n]);
    }
}

/// Makes a file that a VMM wrote durable, without the space for its zeros.
fn adopt(path: &Path) -> io::Result<Contents> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let contents = digest(&file, |offset| match fallocate(&file, punch, offset, CHUNK_BYTES as u64) {
        // Not every file system has holes.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    })?;
    file.sync_all()?;
    Ok(contents)
}

/// The checksum of a file. Calls `zeros` with the offset of every chunk of zeros that takes space on disk.
fn digest(file: &File, zeros: impl Fn(u64) -> io::Result<()>) -> io::Result<Contents> {
    let (len, mut chunk, mut hash) = (file.metadata()?.len(), vec![0; CHUNK_BYTES], Hash::default());
    let mut data = next_data(file, 0, len)?;
    while hash.bytes < len {
        let offset = hash.bytes;
        let wanted = usize::try_from(len - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        let end = offset + wanted as u64;
        if data >= end {
            hash.zeros(wanted);
            continue;
        }
        let part = &mut chunk[..wanted];
        file.read_exact_at(part, offset)?;
        if is_zero(part) {
            zeros(offset)?;
        }
        hash.chunk(part);
        data = next_data(file, end, len)?;
    }
    Ok(hash.finish())
}

/// Where the next data of a file begins, at or after `offset`; its length if none does.
fn next_data(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(len),
        // A file system without holes has data everywhere.
        Err(Errno::INVAL) => Ok(offset),
        Err(error) => Err(error.into()),
    }
}

/// Where what is to come to `path` is prepared.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// What is to be gone may be so already.
pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Writes a manifest into a new file. Answers its bytes.
pub(super) fn write_new(path: &Path, manifest: &Manifest) -> io::Result<u64> {
    let text = serde_json::to_vec_pretty(manifest)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(text.len() as u64)
}

fn no_manifest(folder: &Path, why: String) -> HypervisorError {
    HypervisorError::Snapshot { path: folder.join(MANIFEST), defect: SnapshotDefect::Manifest(why) }
}

/// Does what blocks, elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HypervisorError> + Send + 'static,
) -> Result<T, HypervisorError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Reads until the chunk is full or the source has ended.
pub(super) fn fill(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
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

pub(super) fn missing_or(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HypervisorError {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => HypervisorError::Snapshot { path: path.into(), defect: SnapshotDefect::Missing },
        _ => HypervisorError::file(act, path)(source),
    }
}

#[cfg(test)]
pub(super) mod tests {
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
        let machine_type = Some("pc-q35-7.2".into());
        Choice { machine_type, accelerator: Accelerator::Tcg, cpu_model: Some("max".into()) }
    }

    fn writer(kind: Kind, version: &str) -> Writer {
        Writer { kind, version: version.into() }
    }

    fn qemu() -> Writer {
        writer(Kind::Qemu, "7.2")
    }

    /// A snapshot of `size` bytes that differ from chunk to chunk, and those bytes.
    fn snapshot(dir: &Path, size: usize) -> (PathBuf, Vec<u8>) {
        let (folder, memory) = (dir.join("snapshot"), (0..size).map(|n| (n / 7919 + n) as u8).collect::<Vec<_>>());
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
            let error = Manifest::read(&folder, Kind::Qemu).expect("manifest").load_memory(&folder, &mut loaded).err();
            assert!(matches!(error, Some(HypervisorError::Snapshot { defect: SnapshotDefect::Checksum { .. }, .. })));
            assert!(loaded.len() < size && size - loaded.len() <= CHUNK_BYTES, "{} of {size}", loaded.len());
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
        for (ours, other) in [("\"format\": 1", "\"format\": 2"), ("\"qemu\"", "\"other\""), ("\"format\"", "\"form\"")]
        {
            let changed = text.replacen(ours, other, 1);
            assert_ne!(changed, text);
            fs::write(folder.join(MANIFEST), changed).expect("write");
            let error = Manifest::read(&folder, Kind::Qemu).err();
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
        let error =
            Manifest::read(&folder, Kind::Qemu).expect("manifest").check(&folder, &spec(dir.path()), &kvm, &qemu());
        let said = error.expect_err("refused").to_string();
        assert!(said.ends_with("it was written for the accelerator tcg, asked for is kvm"), "{said}");
    }

    #[test]
    fn only_portable_snapshots_are_for_another_version() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), 1);
        for kind in Kind::ALL {
            let manifest = Manifest { hypervisor: kind.as_str().into(), ..manifest_of(&folder) };
            let check = |version| manifest.check(&folder, &spec(dir.path()), &choice(), &writer(kind, version));
            check("7.2").expect("the same version");
            match check("7.3") {
                Ok(()) => assert!(kind.capabilities().has(Capability::PortableSnapshots), "{kind}"),
                Err(error) => {
                    assert!(!kind.capabilities().has(Capability::PortableSnapshots), "{kind}");
                    let told = error.to_string();
                    assert!(told.contains("7.2") && told.contains("7.3") && told.contains(kind.as_str()), "{told}");
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
            MachineSpec { disks: vec![super::super::Disk { path: "/disk".into(), read_only: true }], ..spec.clone() },
        ];
        for spec in unfit {
            let error = check(spec);
            let mismatch = |defect: &_| matches!(defect, SnapshotDefect::Mismatch { .. });
            assert!(matches!(&error, Err(HypervisorError::Snapshot { defect, .. }) if mismatch(defect)), "{error:?}");
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
        let flips = [("state", 0), ("memory", 0), ("memory", CHUNK_BYTES), ("memory", 3 * CHUNK_BYTES)];
        for (name, at) in flips.into_iter().chain([("memory", memory.len() - 1)]) {
            let path = folder.join(name);
            let whole = fs::read(&path).expect("read");
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).expect("damage");
            match manifest.verify(&folder) {
                Err(HypervisorError::Snapshot { path: named, defect: SnapshotDefect::Checksum { .. } }) => {
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
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).expect("metadata"));
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
            fs::write(folder.join(MANIFEST), text.replace("\"memory\"", &format!("{name:?}"))).expect("write");
            let error = Manifest::read(&folder, Kind::Qemu).err();
            assert!(matches!(error, Some(HypervisorError::Snapshot { defect: SnapshotDefect::Manifest(_), .. })));
        }
    }
}
