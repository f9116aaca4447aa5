//! Whether the write-ahead log was altered.
//!
//! The engine reads the log up to the first frame whose checksum is wrong and takes the rest for
//! the debris of a sudden end, in silence. But all but a few commits are synced before the next
//! begins: where more whole commits follow on a bad frame, that frame was good once, and what the
//! engine would drop was acknowledged. The format is at
//! <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::writer::UNSYNCED_MAX;

/// The log of a database.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Whether a database has a log with anything in it.
pub(super) fn is_there(database: &Path) -> bool {
    std::fs::metadata(path_of(database)).is_ok_and(|log| log.len() > 0)
}

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// The first frame, from 1, that acknowledged commits depend on and that is not as it was written;
/// 0 is the log's header.
///
/// A bad frame in the last commits, [`UNSYNCED_MAX`] and one, can't be told from a sudden end, and
/// is not reported.
///
/// # Errors
/// If the log can't be read. One that is not there is whole.
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
    let (mut bad, mut commits_since) = (None, 0);
    for number in 1.. {
        if !read_whole(&mut log, &mut frame)? {
            break;
        }
        // Frames of an earlier turn through the file carry another salt.
        let is_of_this_turn = frame[8..16] == header[16..24];
        if is_of_this_turn && commits_since > UNSYNCED_MAX {
            return Ok(bad);
        }
        if bad.is_none() && !(is_of_this_turn && sum.follows(&frame)) {
            bad = Some(number);
        }
        // The size of the database stands in the last frame of a commit, and only there.
        commits_since += u32::from(bad.is_some() && is_of_this_turn && word(&frame, 4) != 0);
    }
    Ok(None)
}

/// Fills `buffer`; false at the end of the log.
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
    /// None if the header is not one.
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
