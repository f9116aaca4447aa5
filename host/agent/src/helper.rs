//! Looks at, reads and writes files for the host, in a process of its own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::agent::record::{Entry, EntryKind, Record};

const CHUNK_BYTES: usize = 32 << 10;
const PERMISSIONS: u32 = 0o7777;

/// A path, and the failure with it.
struct Failure(PathBuf, io::Error);

/// Does what the arguments say.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let is_set = |flag: &OsStr| flag == "1";
    let done = match words.as_slice() {
        [name, path, follow] if *name == "stat" => stat(Path::new(path), is_set(follow)),
        [name, path, follow] if *name == "read" => read(Path::new(path), is_set(follow)),
        [name, path, folder, mode, uid, gid] if *name == "write" => {
            let number = |word: &OsStr| word.to_str().and_then(|word| word.parse::<u32>().ok());
            let owner = (number(uid), number(gid));
            let mode = number(mode).unwrap_or(0o644) & PERMISSIONS;
            match is_set(folder) {
                true => make_folder(Path::new(path), mode, owner),
                false => write(Path::new(path), mode, owner),
            }
        }
        _ => return ExitCode::FAILURE,
    };
    let last = match done {
        Ok(bytes) => Record::Done { bytes },
        Err(Failure(path, error)) => Record::Failed {
            errno: error.raw_os_error().unwrap_or_default(),
            path: path.as_os_str().as_bytes().into(),
            text: error.to_string(),
        },
    };
    // Whoever has gone does not want to know.
    let _ = say(&last);
    ExitCode::SUCCESS
}

fn say(record: &Record) -> io::Result<()> {
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    let mut out = io::stdout().lock();
    out.write_all(&bytes)?;
    out.flush()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure + use<> {
    let path = path.to_owned();
    |error| Failure(path, error)
}

fn look(path: &Path, follow: bool) -> io::Result<Metadata> {
    if follow { fs::metadata(path) } else { fs::symlink_metadata(path) }
}

fn entry(path: &Path, name: &Path, data: &Metadata) -> Entry {
    let kind = match data.file_type() {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_symlink() => EntryKind::Link,
        _ => EntryKind::Special,
    };
    let target = match kind {
        EntryKind::Link => fs::read_link(path).unwrap_or_default(),
        EntryKind::File | EntryKind::Folder | EntryKind::Special => PathBuf::new(),
    };
    Entry {
        path: name.as_os_str().as_bytes().into(),
        kind,
        mode: data.mode() & PERMISSIONS,
        size: data.len(),
        mtime: data.mtime(),
        uid: data.uid(),
        gid: data.gid(),
        target: target.into_os_string().as_encoded_bytes().into(),
    }
}

fn stat(path: &Path, follow: bool) -> Result<u64, Failure> {
    let data = look(path, follow).map_err(at(path))?;
    say(&Record::Entry(entry(path, path, &data))).map_err(at(path))?;
    Ok(0)
}

fn read(path: &Path, follow: bool) -> Result<u64, Failure> {
    let data = look(path, follow).map_err(at(path))?;
    let name = path.file_name().map_or_else(PathBuf::new, PathBuf::from);
    if !data.is_dir() {
        return read_one(path, &name, follow);
    }
    let mut bytes = 0;
    let mut waiting = vec![(path.to_owned(), name)];
    while let Some((folder, name)) = waiting.pop() {
        if !name.as_os_str().is_empty() {
            read_one(&folder, &name, true)?;
        }
        let listed = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut inside = listed.map_err(at(&folder))?;
        inside.sort_by_key(fs::DirEntry::file_name);
        for one in inside {
            let path = one.path();
            let name = name.join(one.file_name());
            if one.file_type().map_err(at(&path))?.is_dir() {
                waiting.push((path, name));
            } else {
                bytes += read_one(&path, &name, follow)?;
            }
        }
    }
    Ok(bytes)
}

/// Says what is at `path`, and what is in it if it is a file.
fn read_one(path: &Path, name: &Path, follow: bool) -> Result<u64, Failure> {
    // A link to nowhere is read as the link that it is.
    let data = look(path, follow).or_else(|_| look(path, false)).map_err(at(path))?;
    let mut entry = entry(path, name, &data);
    let mut bytes = 0;
    let say = |record: &Record| say(record).map_err(at(path));
    if data.is_file() {
        let mut file = open_plain(path).map_err(at(path))?;
        let mut first = vec![0; CHUNK_BYTES];
        let mut count = file.read(&mut first).map_err(at(path))?;
        // The files of the kernel do not know how long they are.
        entry.size = entry.size.max(count as u64);
        say(&Record::Entry(entry))?;
        while count > 0 {
            bytes += count as u64;
            say(&Record::Content(first[..count].to_vec()))?;
            count = file.read(&mut first).map_err(at(path))?;
        }
    } else {
        say(&Record::Entry(entry))?;
    }
    say(&Record::EntryEnd)?;
    Ok(bytes)
}

/// A file that can be read without waiting: what stands at a path may have changed since.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

type Owner = (Option<u32>, Option<u32>);

fn make_folder(path: &Path, mode: u32, (uid, gid): Owner) -> Result<u64, Failure> {
    fs::create_dir_all(path)
        .and_then(|()| chown(path, uid, gid))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(at(path))?;
    Ok(0)
}

/// Writes what comes on standard input to a new file, which takes its place when it is whole.
fn write(path: &Path, mode: u32, owner: Owner) -> Result<u64, Failure> {
    // A link stays, and what it points at is written.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.is_dir() || path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Failure(path.clone(), io::ErrorKind::IsADirectory.into()));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".tallyman-{}", std::process::id()));
    let draft = folder.join(name);
    let written = write_draft(&draft, path, mode, owner);
    if written.is_err() {
        // The first error tells more.
        let _ = fs::remove_file(&draft);
    }
    written.map_err(at(path))
}

fn write_draft(draft: &Path, path: &Path, mode: u32, (uid, gid): Owner) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    let bytes = io::copy(&mut io::stdin().lock(), &mut file)?;
    let before = fs::metadata(path).ok();
    let uid = uid.or(before.as_ref().map(Metadata::uid));
    let gid = gid.or(before.as_ref().map(Metadata::gid));
    chown(draft, uid, gid)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    fs::rename(draft, path)?;
    Ok(bytes)
}
