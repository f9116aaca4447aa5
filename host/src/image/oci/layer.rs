//! Puts the layers of an image on top of each other.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::tree::{Attributes, Content, Kind, Node, PathError, Tree};
use crate::limits::image as limits;

/// The prefix of an entry that takes a name away from lower layers.
const WHITEOUT: &[u8] = b".wh.";

/// The entry that empties a folder of lower layers.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The prefix of extended attributes in a tar archive.
const XATTR: &str = "SCHILY.xattr.";

/// Attributes by which the kernel would take a file for something else than it is.
const RESERVED: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// Reasons why a layer is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    #[error("it can't be read")]
    Read(#[source] io::Error),
    #[error("{path:?}: {reason}")]
    Path { path: String, reason: PathError },
    #[error("{path:?}: {reason}")]
    Entry { path: String, reason: &'static str },
    #[error("the image has more than {} files", limits::FILES_MAX)]
    TooMany,
    #[error("the image has more than {} bytes", limits::CONTENT_BYTES_MAX)]
    TooLarge,
}

/// A tree that grows layer by layer, and the content of its files.
pub(super) struct Builder<'a> {
    pub(super) tree: Tree,
    spool: &'a File,
    bytes: u64,
    entries: u64,
}

impl<'a> Builder<'a> {
    pub(super) fn new(spool: &'a File) -> Self {
        Self { tree: Tree::default(), spool, bytes: 0, entries: 0 }
    }

    /// Puts a layer on top; answers the SHA-256 of its archive.
    pub(super) fn add(&mut self, archive: impl Read) -> Result<[u8; 32], LayerError> {
        let mut archive = Archive::new(Hashed { source: archive, hash: Sha256::new() });
        for entry in archive.entries().map_err(LayerError::Read)? {
            self.entry(entry.map_err(LayerError::Read)?)?;
        }
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(LayerError::Read)?;
        self.tree.next_layer();
        Ok(rest.hash.finalize().into())
    }

    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), LayerError> {
        let path = entry.path_bytes().into_owned();
        let fits = |result: Result<(), PathError>| {
            result.map_err(|reason| LayerError::Path { path: words(&path), reason })
        };
        self.entries += 1;
        if self.entries > limits::FILES_MAX {
            return Err(LayerError::TooMany);
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let (folder, name) = split(&path);
        if name == OPAQUE {
            return fits(self.tree.make_opaque(folder));
        }
        if let Some(name) = name.strip_prefix(WHITEOUT) {
            let hidden = [folder, b"/", name].concat();
            return match name {
                b"" | b"." | b".." => fits(Err(PathError::Escapes)),
                _ => fits(self.tree.remove(&hidden)),
            };
        }
        if kind == EntryType::Link {
            let target = entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
            return fits(self.tree.hard_link(&path, &target));
        }
        let attributes = attributes(&mut entry, &path)?;
        let kind = self.kind(&mut entry, &path)?;
        fits(self.tree.insert(&path, Node { kind, attributes }))
    }

    fn kind(&mut self, entry: &mut Entry<'_, impl Read>, path: &[u8]) -> Result<Kind, LayerError> {
        let refused = |reason| Err(LayerError::Entry { path: words(path), reason });
        let header = entry.header();
        let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or_default();
        let major = number(header.device_major());
        let minor = number(header.device_minor());
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                Ok(Kind::File(self.content(entry)?))
            }
            EntryType::Directory => Ok(Kind::Folder(Default::default())),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|name| name.into_owned());
                match target.unwrap_or_default() {
                    target if target.is_empty() => refused("a link that points nowhere"),
                    target if target.len() > 4_095 => refused("a link with too long a target"),
                    target => Ok(Kind::Link(target)),
                }
            }
            // The kernel takes it for a whiteout.
            EntryType::Char if (major, minor) == (0, 0) => refused("a device with the number 0:0"),
            EntryType::Char => Ok(Kind::Device { is_block: false, major, minor }),
            EntryType::Block => Ok(Kind::Device { is_block: true, major, minor }),
            EntryType::Fifo => Ok(Kind::Pipe),
            _ => refused("an entry of a kind that is not known"),
        }
    }

    fn content(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<Content, LayerError> {
        let offset = self.bytes;
        let left = limits::CONTENT_BYTES_MAX - offset;
        let expected = entry.size();
        let mut spool = self.spool;
        let bytes = io::copy(&mut entry.take(left + 1), &mut spool).map_err(LayerError::Read)?;
        if bytes > left {
            return Err(LayerError::TooLarge);
        }
        if bytes < expected {
            return Err(LayerError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        spool.flush().map_err(LayerError::Read)?;
        self.bytes += bytes;
        Ok(Content { offset, bytes })
    }
}

/// The folder of a path, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let path = &path[..end];
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn words(path: &[u8]) -> String {
    std::ffi::OsStr::from_bytes(path).to_string_lossy().chars().take(200).collect()
}

fn attributes(entry: &mut Entry<'_, impl Read>, path: &[u8]) -> Result<Attributes, LayerError> {
    let refused = |reason| LayerError::Entry { path: words(path), reason };
    let mut attributes = {
        let header = entry.header();
        let id = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
        Attributes {
            mode: header.mode().map_err(LayerError::Read)? & 0o7777,
            uid: id(header.uid()).ok_or_else(|| refused("an owner that is no number"))?,
            gid: id(header.gid()).ok_or_else(|| refused("a group that is no number"))?,
            mtime: header.mtime().unwrap_or_default(),
            ..Attributes::default()
        }
    };
    for extension in entry.pax_extensions().map_err(LayerError::Read)?.into_iter().flatten() {
        let extension = extension.map_err(LayerError::Read)?;
        let Ok(key) = extension.key() else { continue };
        let value = extension.value_bytes();
        let number = || extension.value().ok().and_then(|value| value.parse::<u32>().ok());
        match key {
            "uid" => {
                attributes.uid = number().ok_or_else(|| refused("an owner that is no number"))?
            }
            "gid" => {
                attributes.gid = number().ok_or_else(|| refused("a group that is no number"))?
            }
            "mtime" => {
                let whole = extension.value().unwrap_or_default().split('.').next();
                let whole = whole.and_then(|whole| whole.parse().ok());
                attributes.mtime = whole.unwrap_or(attributes.mtime);
            }
            _ => {
                let Some(name) = key.strip_prefix(XATTR) else { continue };
                if RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
                    return Err(refused("an attribute of the overlay file system"));
                }
                if name.len() > 255 || value.len() > limits::XATTR_BYTES_MAX {
                    return Err(refused("an extended attribute that is too long"));
                }
                attributes.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
            }
        }
    }
    let bytes: usize = attributes.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::XATTRS_BYTES_MAX {
        return Err(refused("too many extended attributes"));
    }
    Ok(attributes)
}

/// Hashes what is read.
struct Hashed<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
