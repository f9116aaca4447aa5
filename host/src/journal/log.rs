//! A check of the write-ahead log for alterations.
//!
//! SQLite reads the log up to the first frame with a wrong checksum and silently takes the rest for
//! remains of a crash. But all but [`UNSYNCED_MAX`] commits in a row are synced before the next
//! begins: if more whole commits follow a bad frame, that frame was good once, and SQLite would
//! drop acknowledged commits. The format is at <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::writer::UNSYNCED_MAX;

/// The path of a database's write-ahead log.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// True if the database has a log that is not empty.
pub(super) fn is_there(database: &Path) -> bool {
    std::fs::metadata(path_of(database)).is_ok_and(|log| log.len() > 0)
}

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// Number of the first altered frame, from 1, that acknowledged commits depend on; 0 is the log's
/// header. None if the log is whole, empty or missing.
///
/// A bad frame in the last [`UNSYNCED_MAX`] + 1 commits can't be told from a crash, and is not
/// reported.
///
/// # Errors
/// Any error of reading the log but that it does not exist.
pub(super) fn first_altered_frame(path: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut log = BufReader::with_capacity(1 << 16, file);
    let mut header = [0; HEADER_BYTES];
    if !read_whole(&mut log, &mut header)? || header == [0; HEADER_BYTES] {
        return Ok(None);
    }
    let Some(mut sum) = Sum::of_header(&header) else { return Ok(Some(0)) };
    let page_bytes = word(&header, 8) as usize;
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let mut bad = None;
    let mut commits_since = 0;
    for number in 1.. {
        if !read_whole(&mut log, &mut frame)? {
            break;
        }
        // SQLite overwrites the log from its start after a checkpoint: older frames have another
        // salt.
        let is_of_this_turn = frame[8..16] == header[16..24];
        if is_of_this_turn && commits_since > UNSYNCED_MAX {
            return Ok(bad);
        }
        if bad.is_none() && !(is_of_this_turn && sum.follows(&frame)) {
            bad = Some(number);
        }
        // Only the last frame of a commit has a database size that is not 0.
        commits_since += u32::from(bad.is_some() && is_of_this_turn && word(&frame, 4) != 0);
    }
    Ok(None)
}

/// Fills `buffer`; false if the log ends first.
fn read_whole(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The running checksum over header and frames.
struct Sum {
    is_big_endian: bool,
    value: (u32, u32),
}

impl Sum {
    /// Starts after a header; none if its magic number, checksum or page size is invalid.
    fn of_header(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut sum = Self { is_big_endian: word(header, 0) == MAGIC | 1, value: (0, 0) };
        sum.add(&header[..24]);
        let is_right =
            word(header, 0) & !1 == MAGIC && sum.value == (word(header, 24), word(header, 28));
        let page_bytes = word(header, 8);
        (is_right && page_bytes.is_power_of_two() && (512..=65_536).contains(&page_bytes))
            .then_some(sum)
    }

    fn follows(&mut self, frame: &[u8]) -> bool {
        self.add(&frame[..8]);
        self.add(&frame[FRAME_HEADER_BYTES..]);
        self.value == (word(frame, 16), word(frame, 20))
    }

    fn add(&mut self, bytes: &[u8]) {
        let (mut first, mut second) = self.value;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            let read = if self.is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
            first = first.wrapping_add(read([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(read([e, f, g, h])).wrapping_add(first);
        }
        self.value = (first, second);
    }
}
