//! Copies of files and folders, as cheap as the file system allows. Everything here blocks; all
//! writes are durable on return.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::disk::Disk;

/// The temporary path under which `path` is written before it is published.
pub(super) fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".partial");
    aside.into()
}

/// Makes an empty folder with mode 0700, after removing anything that was there.
pub(super) fn fresh_folder(path: &Path) -> io::Result<()> {
    remove(path)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a folder and its contents, if it exists.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Renames the temporary path of `path` to `path`, in place of anything that was there.
pub(super) fn publish(path: &Path) -> io::Result<()> {
    sync(&aside(path))?;
    match fs::rename(aside(path), path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            fs::remove_dir_all(path)?;
            fs::rename(aside(path), path)?;
        }
        done => done?,
    }
    sync(path.parent().unwrap_or(Path::new("/")))
}

/// Makes a file's contents, or a folder's entries, durable.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Copies a file, which must not change meanwhile, to `to`, which must not exist: the two share
/// their blocks where the file system can do so; elsewhere holes stay holes.
pub(super) fn file(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let mode = source.metadata()?.permissions().mode();
    let target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    if ioctl_ficlone(&target, &source).is_err() {
        let copied = require_space(to, bytes(from)?).and_then(|()| copy_data(&source, &target));
        if copied.is_err() {
            // A partial copy only takes space; the first error is the useful one.
            let _ = fs::remove_file(to);
        }
        copied?;
    }
    target.sync_all()
}

/// Checks that the file system of `at`, which need not exist yet, has `bytes` bytes free beside
/// what is kept for the journal: a copy that does not fit fails before it fills the disk for
/// everyone else.
pub(super) fn require_space(at: &Path, bytes: u64) -> io::Result<()> {
    let folder = at.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let enough = Disk::of(folder).require(bytes);
    enough.map_err(|low| io::Error::new(io::ErrorKind::StorageFull, low))
}

/// Copies the data between the holes of a sparse file.
fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut at = 0;
    while at < len {
        let data = match seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(source, SeekFrom::Hole(data))?;
        copy_range(source, target, data, end)?;
        at = end;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, from: u64, to: u64) -> io::Result<()> {
    let mut read = from;
    let mut written = from;
    while read < to {
        let rest = usize::try_from(to - read).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut read), target, Some(&mut written), rest) {
            // The source was truncated during the copy.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes the folder `to` with the files of `from`, which must not change any more: hard links, or
/// copies where links are not possible.
pub(super) fn link_folder(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_folder(&entry.path(), &target)?;
            continue;
        }
        match fs::hard_link(entry.path(), &target) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks
                ) =>
            {
                file(&entry.path(), &target)?;
            }
            done => done?,
        }
    }
    sync(to)
}

/// Bytes on disk of a file, or of all files in a folder, without holes.
pub(super) fn bytes(path: &Path) -> io::Result<u64> {
    let data = fs::symlink_metadata(path)?;
    if !data.is_dir() {
        // A small file may lie beside its blocks, and a hole may lie in its last one.
        return Ok(data.len().min(if data.blocks() == 0 {
            data.len()
        } else {
            data.blocks().saturating_mul(512)
        }));
    }
    fs::read_dir(path)?.map(|entry| bytes(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let to = dir.path().join("to");
        let sparse = File::create(&from).unwrap();
        sparse.set_len(64 << 20).unwrap();
        sparse.write_all_at(b"begin", 0).unwrap();
        sparse.write_all_at(b"middle", 33 << 20).unwrap();
        file(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(bytes(&to).unwrap() < 8 << 20, "the holes were filled");
        file(&from, &to).unwrap_err();
    }

    #[test]
    fn a_copy_of_nothing_and_one_of_a_hole_are_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, 4_096, 1 << 20] {
            let from = dir.path().join(format!("from{len}"));
            let to = dir.path().join(format!("to{len}"));
            File::create(&from).unwrap().set_len(len).unwrap();
            file(&from, &to).unwrap();
            assert_eq!(fs::metadata(&to).unwrap().len(), len);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for at in [dir.path().to_owned(), dir.path().join("not/there/yet")] {
            require_space(&at, 1).unwrap();
            let error = require_space(&at, u64::MAX).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_linked_folder_outlives_the_one_that_it_was_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let to = dir.path().join("to");
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("memory"), b"all of it").unwrap();
        fs::write(from.join("inner/more"), b"and more").unwrap();
        link_folder(&from, &to).unwrap();
        remove(&from).unwrap();
        assert_eq!(fs::read(to.join("memory")).unwrap(), b"all of it");
        assert_eq!(fs::read(to.join("inner/more")).unwrap(), b"and more");
    }

    #[test]
    fn what_is_published_takes_the_place_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        for text in ["one", "two"] {
            fresh_folder(&aside(&path)).unwrap();
            fs::write(aside(&path).join("file"), text).unwrap();
            publish(&path).unwrap();
            assert_eq!(fs::read_to_string(path.join("file")).unwrap(), text);
            assert!(!aside(&path).exists());
        }
    }
}
