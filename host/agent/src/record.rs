//! The records that the helpers for files write to their standard output.

use crate::fields::{Malformed, Reader, Writer};

/// Most bytes of a record.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A file, a folder or a symbolic link of a guest, without its contents.
    Entry(Entry),
    /// Content of the file before it.
    Content(Vec<u8>),
    /// The end of the entry.
    EntryEnd,
    /// Something went wrong with a path; nothing follows.
    Failed {
        /// A number of the operating system; 0 if it has none.
        errno: i32,
        /// The path.
        path: Vec<u8>,
        /// The failure in words.
        text: String,
    },
    /// All is done.
    Done {
        /// Bytes that were written.
        bytes: u64,
    },
}

/// A file, a folder or a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The path, relative to what was asked for; its own name for a file.
    pub path: Vec<u8>,
    /// The kind of thing.
    pub kind: EntryKind,
    /// Permissions with the sticky bit and those like it.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// The time of its last change, in seconds since 1970.
    pub mtime: i64,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The target of a link.
    pub target: Vec<u8>,
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    #[default]
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a socket or a pipe, which has no content.
    Special,
}

impl Record {
    /// Appends the record with its length before it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut to = Writer::default();
        match self {
            Self::Entry(entry) => {
                to.u8(1).bytes(&entry.path).u8(entry.kind as u8).u32(entry.mode).u64(entry.size);
                to.i64(entry.mtime).u32(entry.uid).u32(entry.gid).bytes(&entry.target);
            }
            Self::Content(bytes) => {
                to.u8(2).fixed(bytes);
            }
            Self::EntryEnd => {
                to.u8(3);
            }
            Self::Failed { errno, path, text } => {
                to.u8(4).i32(*errno).bytes(path).bytes(text.as_bytes());
            }
            Self::Done { bytes } => {
                to.u8(5).u64(*bytes);
            }
        }
        let mut length = Writer::default();
        length.bytes(&to.0);
        out.extend_from_slice(&length.0);
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let record = match from.u8()? {
            1 => Self::Entry(Entry {
                path: from.bytes()?,
                kind: EntryKind::read(from.u8()?)?,
                mode: from.u32()?,
                size: from.u64()?,
                mtime: from.i64()?,
                uid: from.u32()?,
                gid: from.u32()?,
                target: from.bytes()?,
            }),
            2 => Self::Content(from.rest()),
            3 => Self::EntryEnd,
            4 => Self::Failed { errno: from.i32()?, path: from.bytes()?, text: from.text()? },
            5 => Self::Done { bytes: from.u64()? },
            _ => return Err(Malformed("a record's kind is not known")),
        };
        from.end().map(|()| record)
    }
}

impl EntryKind {
    fn read(byte: u8) -> Result<Self, Malformed> {
        let known = [Self::File, Self::Folder, Self::Link, Self::Special];
        known.get(usize::from(byte)).copied().ok_or(Malformed("an entry's kind is not known"))
    }
}

/// Finds records in what is read.
#[derive(Debug, Default)]
pub struct Records(Vec<u8>);

impl Records {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next record; none if it is not whole yet.
    ///
    /// # Errors
    /// [`Malformed`]; nothing more can be found then.
    #[allow(clippy::should_implement_trait, reason = "it goes on after a none")]
    pub fn next(&mut self) -> Result<Option<Record>, Malformed> {
        let Some((length, rest)) = self.0.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(Malformed("a record is too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let record = Record::read(body)?;
        self.0.drain(..4 + length);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn found(wire: &[u8], cut: usize) -> Result<Vec<Record>, Malformed> {
        let mut records = Records::default();
        let mut found = Vec::new();
        for part in wire.chunks(cut) {
            records.push(part);
            while let Some(record) = records.next()? {
                found.push(record);
            }
        }
        Ok(found)
    }

    #[test]
    fn records_come_back_however_they_are_cut() {
        let entry = Entry {
            path: b"a/b".to_vec(),
            kind: EntryKind::Link,
            mode: 0o4755,
            size: 7,
            mtime: -1,
            uid: 3,
            gid: 4,
            target: b"../c".to_vec(),
        };
        let records = [
            Record::Entry(entry),
            Record::Content(vec![1, 2, 3]),
            Record::EntryEnd,
            Record::Failed { errno: 2, path: b"x".to_vec(), text: "not there".into() },
            Record::Done { bytes: 9 },
        ];
        let mut wire = Vec::new();
        for record in &records {
            record.write(&mut wire);
        }
        for cut in [1, 3, 7, wire.len()] {
            assert_eq!(found(&wire, cut).as_deref(), Ok(&records[..]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..500), cut in 1..50usize) {
            let _ = found(&bytes, cut);
        }
    }
}
