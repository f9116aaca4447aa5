//! Copies a file into an image: durable, sparse where it is zero, and hashed on the way.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::ImageError;

const CHUNK_BYTES: usize = 1 << 20;

/// Length and digest of an image's file at its import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// SHA-256 of the content: 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Copies `source` to `target`, which must not exist.
pub(super) fn copy(
    what: &'static str,
    source: &Path,
    target: &Path,
) -> Result<FileRecord, ImageError> {
    copy_from(what, open(what, source)?, source, target)
}

/// Like [`copy`], for a file that must be a kernel.
pub(super) fn copy_kernel(source: &Path, target: &Path) -> Result<FileRecord, ImageError> {
    let what = "kernel";
    let mut file = open(what, source)?;
    if !is_kernel(&mut file).map_err(ImageError::source(what, source))? {
        return Err(ImageError::NotAKernel { path: source.into() });
    }
    copy_from(what, file, source, target)
}

/// Returns the SHA-256 of all that `reader` gives, in hexadecimal.
pub(super) fn digest(mut reader: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&chunk[..count]),
        }
    }
}

fn open(what: &'static str, path: &Path) -> Result<File, ImageError> {
    // Checked before it is opened: opening a named pipe would wait for a writer.
    let found = fs::metadata(path).map_err(ImageError::source(what, path))?;
    if !found.is_file() || found.len() == 0 {
        return Err(ImageError::NotAFile { what, path: path.into() });
    }
    File::open(path).map_err(ImageError::source(what, path))
}

/// Looks for the boot protocol's magic (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel
/// Header") or an ELF file's.
fn is_kernel(file: &mut File) -> io::Result<bool> {
    const MAGIC_AT: usize = 0x202;
    let mut head = Vec::with_capacity(MAGIC_AT + 4);
    file.take(MAGIC_AT as u64 + 4).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head.starts_with(b"\x7fELF") || head.get(MAGIC_AT..) == Some(b"HdrS".as_slice()))
}

fn copy_from(
    what: &'static str,
    mut from: File,
    source: &Path,
    target: &Path,
) -> Result<FileRecord, ImageError> {
    let failed = || ImageError::store("write", target);
    let mut to = File::create_new(target).map_err(failed())?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let count = from.read(&mut chunk).map_err(ImageError::source(what, source))?;
        if count == 0 {
            break;
        }
        hasher.update(&chunk[..count]);
        write_sparse(&mut to, &chunk[..count]).map_err(failed())?;
        bytes += count as u64;
    }
    to.set_len(bytes).and_then(|()| to.sync_all()).map_err(failed())?;
    Ok(FileRecord { bytes, sha256: hex::encode(hasher.finalize()) })
}

/// Writes a chunk; one of zeros becomes a hole, as most of a root disk is zeros.
fn write_sparse(to: &mut File, chunk: &[u8]) -> io::Result<()> {
    if chunk.iter().all(|&byte| byte == 0) {
        return to.seek(SeekFrom::Current(chunk.len() as i64)).map(|_| ());
    }
    to.write_all(chunk)
}
