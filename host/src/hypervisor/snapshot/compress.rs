//! Compression of snapshots that are not in use, and decompression.
//!
//! A compressed file is `<name>.zst`. Everything is written beside the snapshot's folder; the
//! folder itself changes only at the end, in three steps of which each leaves one whole copy: the
//! compressed files are moved in, the manifest that names them replaces the earlier one, the plain
//! files are removed. The manifest's checksums stay those of the plain files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zstd::{Decoder, Encoder};

use super::checksum::{CHUNK_BYTES, ContentHash, Contents, copy_sparse, fill};
use super::manifest::{MANIFEST, Manifest, missing_or, write_new};
use super::{absent, beside};
use crate::hypervisor::{HypervisorError, SnapshotDefect};

/// Compression level. Higher ones save a few percent more and take several times as long.
const LEVEL: i32 = 3;

/// A signal that stops a compression. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<Mutex<bool>>);

impl StopSignal {
    /// Stops the compression. Once this returns, it no longer touches the snapshot's folder. Blocks
    /// only while the compression makes a change to a folder.
    pub fn now(&self) {
        *self.lock() = true;
    }

    /// Makes a change to a folder, unless the signal was given; then returns `None`.
    fn unless_stopped<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
        let stopped = self.lock();
        if *stopped { Ok(None) } else { change().map(Some) }
    }

    fn is_stopped(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compresses the snapshot in `folder`, unless that is done already, and removes the remains of an
/// earlier attempt. Blocks for as long as it takes, or until it is stopped. Returns the snapshot's
/// size on disk afterwards, in bytes; `None` if it was stopped.
///
/// # Errors
/// Any [`HypervisorError`]; the snapshot is unchanged. A damaged one is left as it is, and its
/// restore fails.
pub fn compress(folder: &Path, stop: &StopSignal) -> Result<Option<u64>, HypervisorError> {
    let aside = aside(folder);
    let done = try_compress(folder, &aside, stop);
    match done {
        // The stopping party may have removed the snapshot.
        Err(_) if stop.is_stopped() => Ok(None),
        Err(error) => {
            // Remains are removed by the next attempt, or with the snapshot.
            let _ = stop.unless_stopped(|| fs::remove_dir_all(&aside));
            Err(error)
        }
        done => done,
    }
}

fn try_compress(
    folder: &Path,
    aside: &Path,
    stop: &StopSignal,
) -> Result<Option<u64>, HypervisorError> {
    let failed = |act| HypervisorError::file(act, aside);
    let mut manifest = Manifest::open(folder)?;
    if stop.unless_stopped(|| fresh(aside)).map_err(failed("create"))?.is_none() {
        return Ok(None);
    }
    for (name, contents) in
        manifest.files.iter_mut().filter(|(_, contents)| contents.zstd_bytes.is_none())
    {
        let from = folder.join(name);
        let to = aside.join(packed(name));
        let Some((found, bytes)) =
            pack(&from, &to, stop).map_err(HypervisorError::file("compress", &from))?
        else {
            return Ok(None);
        };
        contents.compare(found, from)?;
        contents.zstd_bytes = Some(bytes);
    }
    let written = stop.unless_stopped(|| write_new(&aside.join(MANIFEST), &manifest));
    let Some(manifest_bytes) = written.map_err(failed("write in"))? else { return Ok(None) };
    let installed = stop.unless_stopped(|| install(folder, aside, &manifest));
    let installed = installed.map_err(HypervisorError::file("change", folder))?;
    let bytes: u64 = manifest.files.values().filter_map(|contents| contents.zstd_bytes).sum();
    Ok(installed.map(|()| bytes + manifest_bytes))
}

/// Work folder of a compression of the snapshot in `folder`.
fn aside(folder: &Path) -> PathBuf {
    beside(folder, ".packing")
}

/// Name of a file's compressed form.
fn packed(name: &str) -> String {
    format!("{name}.zst")
}

fn fresh(folder: &Path) -> io::Result<()> {
    absent(fs::remove_dir_all(folder))?;
    DirBuilder::new().mode(0o700).create(folder)
}

/// Compresses one file. Returns its contents and its compressed length in bytes; `None` if it was
/// stopped.
fn pack(from: &Path, to: &Path, stop: &StopSignal) -> io::Result<Option<(Contents, u64)>> {
    let mut source = File::open(from)?;
    let created = stop
        .unless_stopped(|| OpenOptions::new().create_new(true).write(true).mode(0o600).open(to))?;
    let Some(target) = created else { return Ok(None) };
    let mut encoder = Encoder::new(&target, LEVEL)?;
    let mut hash = ContentHash::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    while !stop.is_stopped() {
        match fill(&mut source, &mut chunk)? {
            0 => {
                encoder.finish()?;
                target.sync_all()?;
                return Ok(Some((hash.finish(), target.metadata()?.len())));
            }
            n => {
                hash.chunk(&chunk[..n]);
                encoder.write_all(&chunk[..n])?;
            }
        }
    }
    Ok(None)
}

/// Replaces plain files by compressed ones.
fn install(folder: &Path, aside: &Path, manifest: &Manifest) -> io::Result<()> {
    let sync = || File::open(folder)?.sync_all();
    for name in manifest.files.keys() {
        // Absent if the file was compressed before.
        absent(fs::rename(aside.join(packed(name)), folder.join(packed(name))))?;
    }
    sync()?;
    fs::rename(aside.join(MANIFEST), folder.join(MANIFEST))?;
    sync()?;
    for name in manifest.files.keys() {
        absent(fs::remove_file(folder.join(name)))?;
    }
    absent(fs::remove_dir_all(aside))?;
    sync()
}

/// Decompresses the snapshot in `folder` into the new folder `to`, and verifies its checksums on
/// the way. Blocking. Returns whether it was compressed; if not, nothing was done.
///
/// # Errors
/// [`HypervisorError::Snapshot`] if the snapshot is damaged, [`HypervisorError::File`] if a file
/// can't be read or written; `to` is removed then.
pub fn unpack(folder: &Path, to: &Path) -> Result<bool, HypervisorError> {
    let manifest = match Manifest::open(folder) {
        Ok(manifest) if manifest.files.values().any(|contents| contents.zstd_bytes.is_some()) => {
            manifest
        }
        // Defects of a plain snapshot are reported by its restore.
        Ok(_) | Err(HypervisorError::Snapshot { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let unpacked = unpack_all(folder, to, manifest);
    if unpacked.is_err() {
        absent(fs::remove_dir_all(to)).map_err(HypervisorError::file("remove", to))?;
    }
    unpacked.map(|()| true)
}

fn unpack_all(folder: &Path, to: &Path, mut manifest: Manifest) -> Result<(), HypervisorError> {
    DirBuilder::new().mode(0o700).create(to).map_err(HypervisorError::file("create", to))?;
    for (name, contents) in &mut manifest.files {
        let plain = to.join(name);
        match contents.zstd_bytes.take() {
            Some(bytes) => unpack_one(&folder.join(packed(name)), bytes, contents, &plain)?,
            None => fs::hard_link(folder.join(name), &plain)
                .map_err(HypervisorError::file("link", &plain))?,
        }
    }
    let path = to.join(MANIFEST);
    write_new(&path, &manifest).map_err(HypervisorError::file("write", &path))?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(HypervisorError::file("sync", to))
}

/// Decompresses a file of `expected` bytes, at most one byte beyond its plain length.
fn unpack_one(
    from: &Path,
    expected: u64,
    contents: &Contents,
    to: &Path,
) -> Result<(), HypervisorError> {
    let source = File::open(from).map_err(missing_or("open", from))?;
    let actual = source.metadata().map_err(HypervisorError::file("look at", from))?.len();
    if actual != expected {
        let defect = SnapshotDefect::Size { expected, actual };
        return Err(HypervisorError::Snapshot { path: from.into(), defect });
    }
    let target = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
    let target = target.map_err(HypervisorError::file("create", to))?;
    let mut source =
        Undamaged { source: Decoder::new(source).map_err(HypervisorError::file("read", from))? };
    let limited = source.by_ref().take(contents.bytes.saturating_add(1));
    let found = copy_sparse(limited, &target).map_err(HypervisorError::file("decompress", from))?;
    contents.compare(found, from.into())?;
    target.sync_all().map_err(HypervisorError::file("sync", to))
}

/// A reader that ends where damage begins. The checksum then shows the damage.
struct Undamaged<R> {
    source: R,
}

impl<R: Read> Read for Undamaged<R> {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self.source.read(chunk) {
            // Errors of the operating system are no damage, nor are those that may be retried.
            Err(error)
                if error.raw_os_error().is_none() && error.kind() != io::ErrorKind::Interrupted =>
            {
                Ok(0)
            }
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::MEMORY;
    use super::super::tests::adopted;
    use super::*;
    use crate::hypervisor::Kind;

    /// Memory that is like a guest's: mostly zeros, some text, and a part that does not get
    /// smaller.
    fn memory() -> Vec<u8> {
        let mut memory = vec![0; 9 * CHUNK_BYTES + 17];
        let mut seed = 1_u32;
        for (n, byte) in memory.iter_mut().enumerate().skip(CHUNK_BYTES).take(3 * CHUNK_BYTES) {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = if n < 2 * CHUNK_BYTES { b"tallyman"[n % 8] } else { (seed >> 24) as u8 };
        }
        memory
    }

    /// A snapshot, and where it is to be unpacked.
    fn snapshot(dir: &Path, memory: &[u8]) -> (PathBuf, PathBuf) {
        (adopted(dir, &[(MEMORY, memory), ("state", b"small")]), dir.join("plain"))
    }

    fn compressed(folder: &Path) -> u64 {
        compress(folder, &StopSignal::default()).expect("compressed").expect("not stopped")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().expect("text")).collect();
        names.sort();
        names
    }

    /// Returns whether `folder` is a plain snapshot of `memory`.
    fn check_plain(folder: &Path, memory: &[u8]) {
        let manifest = Manifest::read(folder, Kind::Qemu).expect("a manifest");
        manifest.verify(folder).expect("whole");
        assert!(fs::read(folder.join(MEMORY)).expect("its memory") == memory);
        assert_eq!(fs::read(folder.join("state")).expect("its state"), b"small");
    }

    #[test]
    fn what_was_compressed_is_smaller_and_unpacks_as_it_was() {
        for memory in [memory(), Vec::new(), vec![7]] {
            let dir = tempfile::tempdir().expect("dir");
            let (folder, to) = snapshot(dir.path(), &memory);
            assert!(!unpack(&folder, &to).expect("plain"));
            let bytes = compressed(&folder);
            let files = names(&folder);
            assert_eq!(files, ["manifest.json", "memory.zst", "state.zst"]);
            let on_disk: u64 = files
                .iter()
                .map(|name| fs::metadata(folder.join(name)).expect("a file").len())
                .sum();
            assert_eq!(bytes, on_disk);
            assert!(
                memory.is_empty() || memory.len() == 1 || bytes < memory.len() as u64 / 3,
                "{bytes}"
            );
            assert_eq!(compressed(&folder), bytes, "nothing to do");
            assert_eq!(names(dir.path()), ["snapshot"]);
            assert!(unpack(&folder, &to).expect("unpacked"));
            check_plain(&to, &memory);
        }
    }

    #[test]
    fn zeros_take_no_space_when_they_were_unpacked() {
        let dir = tempfile::tempdir().expect("dir");
        let memory = memory();
        let (folder, to) = snapshot(dir.path(), &memory);
        compressed(&folder);
        unpack(&folder, &to).expect("unpacked");
        let blocks = std::os::unix::fs::MetadataExt::blocks(
            &fs::metadata(to.join(MEMORY)).expect("metadata"),
        );
        assert!(blocks * 512 <= 4 * CHUNK_BYTES as u64, "{blocks} blocks");
    }

    #[test]
    fn a_stopped_compression_touches_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let memory = memory();
        let folder = snapshot(dir.path(), &memory).0;
        let stop = StopSignal::default();
        stop.now();
        assert_eq!(compress(&folder, &stop).expect("left"), None);
        assert_eq!(names(dir.path()), ["snapshot"]);
        fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(
            compress(&folder, &stop).expect("left, although it is not there any more"),
            None
        );
    }

    #[test]
    fn a_compression_stopped_in_the_middle_leaves_the_snapshot_as_it_was() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, _) = snapshot(dir.path(), &memory());
        let path = folder.join(MEMORY);
        let stop = StopSignal::default();
        fs::remove_file(&path).expect("removed");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let before = names(&folder);
        thread::scope(|scope| {
            let compressing = scope.spawn(|| compress(&folder, &stop));
            let mut pipe = OpenOptions::new().write(true).open(&path).expect("it is being read");
            pipe.write_all(&vec![1; CHUNK_BYTES]).expect("the first chunk");
            stop.now();
            // It reads no further than to the end of a chunk.
            let rest = pipe.write_all(&vec![1; 64 * CHUNK_BYTES]).expect_err("it has left");
            assert_eq!(rest.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(compressing.join().expect("no panic").expect("left"), None);
        });
        assert_eq!(names(&folder), before);
    }

    #[test]
    fn a_damaged_snapshot_is_not_made_to_look_sound() {
        let dir = tempfile::tempdir().expect("dir");
        let mut memory = memory();
        let (folder, _) = snapshot(dir.path(), &memory);
        memory[7] ^= 1;
        fs::write(folder.join(MEMORY), &memory).expect("damage");
        let error = compress(&folder, &StopSignal::default()).expect_err("damaged").to_string();
        assert!(error.contains("SHA-256"), "{error}");
        assert_eq!(
            (names(&folder), names(dir.path())),
            (vec!["manifest.json".into(), MEMORY.into(), "state".into()], vec!["snapshot".into()])
        );
    }

    #[test]
    fn a_flipped_byte_a_cut_and_a_missing_file_are_found_and_leave_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, to) = snapshot(dir.path(), &memory());
        compressed(&folder);
        let path = folder.join(packed(MEMORY));
        let whole = fs::read(&path).expect("read");
        let flipped = |at: usize| {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            damaged
        };
        let last = whole.len() - 1;
        let rows = [
            (flipped(0), "SHA-256"),
            (flipped(last / 2), "SHA-256"),
            (flipped(last), "SHA-256"),
            (whole[..last].to_vec(), "written were"),
        ];
        for (damaged, words) in rows {
            fs::write(&path, damaged).expect("damage");
            let error = unpack(&folder, &to).expect_err("damaged").to_string();
            assert!(error.contains(words) && error.contains("memory.zst"), "{error}");
            assert!(!to.exists());
        }
        fs::remove_file(&path).expect("removed");
        let error = unpack(&folder, &to).expect_err("missing").to_string();
        assert!(error.contains("missing"), "{error}");
    }

    #[test]
    fn nothing_is_inflated_beyond_what_it_is_to_hold() {
        let dir = tempfile::tempdir().expect("dir");
        let (folder, to) = snapshot(dir.path(), &memory());
        let contents = Manifest::open(&folder).expect("a manifest").files[MEMORY].clone();
        let bomb = zstd::encode_all(io::repeat(0).take(1 << 30), LEVEL).expect("compressed");
        let from = dir.path().join("bomb");
        fs::write(&from, &bomb).expect("written");
        let error =
            unpack_one(&from, bomb.len() as u64, &contents, &to).expect_err("too much").to_string();
        assert!(error.contains("SHA-256"), "{error}");
        assert_eq!(fs::metadata(&to).expect("a file").len(), contents.bytes + 1);
    }

    #[test]
    fn a_death_between_any_two_steps_leaves_one_whole_copy() {
        let memory = memory();
        for step in 0..4 {
            let dir = tempfile::tempdir().expect("dir");
            let (folder, to) = snapshot(dir.path(), &memory);
            let was = dir.path().join("was");
            fs::create_dir(&was).expect("a folder");
            for name in names(&folder) {
                fs::hard_link(folder.join(&name), was.join(&name)).expect("a link");
            }
            compressed(&folder);
            // Back to what was there after so many of its steps.
            let back = |name: &str| {
                absent(fs::remove_file(folder.join(name))).expect("removed");
                fs::hard_link(was.join(name), folder.join(name)).expect("a link");
            };
            if step < 3 {
                back(MEMORY);
                back("state");
            }
            if step < 2 {
                back(MANIFEST);
            }
            if step < 1 {
                fresh(&aside(&folder)).expect("a folder");
                fs::rename(folder.join(packed(MEMORY)), aside(&folder).join(packed(MEMORY)))
                    .expect("moved");
            }
            match unpack(&folder, &to).expect("whole") {
                true => check_plain(&to, &memory),
                false => check_plain(&folder, &memory),
            }
            absent(fs::remove_dir_all(&to)).expect("removed");
            compressed(&folder);
            assert_eq!(
                names(&folder),
                ["manifest.json", "memory.zst", "state.zst"],
                "after step {step}"
            );
            assert_eq!(names(dir.path()), ["snapshot", "was"], "after step {step}");
            assert!(unpack(&folder, &to).expect("unpacked"));
            check_plain(&to, &memory);
        }
    }
}
