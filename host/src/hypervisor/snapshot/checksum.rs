//! Checksums of files.
//!
//! A checksum is the SHA-256 over the file's chunks of [`CHUNK_BYTES`] that are not all zero, each
//! as its number (eight bytes, little endian) and its own SHA-256, and then the file's length
//! (likewise). Memory is mostly zeros: those cost neither time nor space on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hypervisor::{HypervisorError, SnapshotDefect};

/// Number of bytes that are read, hashed and written at a time: 256 KiB.
pub(in crate::hypervisor) const CHUNK_BYTES: usize = 256 << 10;

/// Length and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hypervisor) struct Contents {
    pub(in crate::hypervisor) bytes: u64,
    sha256: String,
    /// Length of the compressed file that replaces it, in bytes; absent if it is not compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hypervisor) zstd_bytes: Option<u64>,
}

impl Contents {
    /// Checks that a file that was read, at `path`, has these contents.
    pub(in crate::hypervisor) fn compare(
        &self,
        actual: Contents,
        path: PathBuf,
    ) -> Result<(), HypervisorError> {
        if (actual.bytes, &actual.sha256) == (self.bytes, &self.sha256) {
            return Ok(());
        }
        let expected = self.sha256.clone();
        let actual = actual.sha256;
        Err(HypervisorError::Snapshot {
            path,
            defect: SnapshotDefect::Checksum { expected, actual },
        })
    }
}

/// The checksum of a file that is being read chunk by chunk.
#[derive(Default)]
pub(in crate::hypervisor) struct ContentHash {
    whole: Sha256,
    chunks: u64,
    bytes: u64,
}

impl ContentHash {
    /// Takes the next chunk: a full one, except for the last.
    pub(in crate::hypervisor) fn chunk(&mut self, chunk: &[u8]) {
        if !is_zero(chunk) {
            self.whole.update(self.chunks.to_le_bytes());
            self.whole.update(Sha256::digest(chunk));
        }
        self.zeros(chunk.len());
    }

    /// Takes the next chunk, which is all zeros.
    fn zeros(&mut self, len: usize) {
        self.chunks += 1;
        self.bytes += len as u64;
    }

    pub(in crate::hypervisor) fn finish(mut self) -> Contents {
        self.whole.update(self.bytes.to_le_bytes());
        Contents { bytes: self.bytes, sha256: hex::encode(self.whole.finalize()), zstd_bytes: None }
    }
}

/// Returns whether a chunk is all zeros, by comparing it with itself one byte on, which the library
/// does a register at a time.
fn is_zero(chunk: &[u8]) -> bool {
    chunk.first() == Some(&0) && chunk[1..] == chunk[..chunk.len() - 1]
}

pub(super) fn copy(mut source: impl Read, mut to: impl Write) -> io::Result<Contents> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut hash = ContentHash::default();
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
pub(in crate::hypervisor) fn copy_sparse(mut source: impl Read, to: &File) -> io::Result<Contents> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut hash = ContentHash::default();
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

/// Makes a file that a VMM wrote durable, frees the space of its zeros, and returns its contents.
pub(super) fn adopt(path: &Path) -> io::Result<Contents> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let contents =
        digest(&file, |offset| match fallocate(&file, punch, offset, CHUNK_BYTES as u64) {
            // Not every file system has holes.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        })?;
    file.sync_all()?;
    Ok(contents)
}

/// Computes the checksum of a file. Calls `zeros` with the offset of every chunk of zeros that
/// takes space on disk.
pub(super) fn digest(file: &File, zeros: impl Fn(u64) -> io::Result<()>) -> io::Result<Contents> {
    let len = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut hash = ContentHash::default();
    let mut data = next_data(file, 0, len)?;
    while hash.bytes < len {
        let offset = hash.bytes;
        let wanted =
            usize::try_from(len - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
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

/// Returns the offset of a file's next data, at or after `offset`; its length if there is none.
fn next_data(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(data),
        Err(Errno::NXIO) => Ok(len),
        // A file system without holes has data everywhere.
        Err(Errno::INVAL) => Ok(offset),
        Err(error) => Err(error.into()),
    }
}

/// Reads until the chunk is full or the source has ended.
pub(in crate::hypervisor) fn fill(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
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
