//! The names of objects, and the manifest beside each segment.

use serde::Serialize;

use super::super::segment::Segment;
use crate::id::{Digest, HostName};

/// Ending of a segment's object, which is the segment's file.
const SEGMENT: &str = ".parquet";

/// Ending of a manifest.
const MANIFEST: &str = ".json";

/// The facts of an object, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) digest: Digest,
}

impl Named {
    pub(super) fn of(segment: &Segment) -> Self {
        let Segment { first, last, digest, .. } = *segment;
        Self { first, last, digest }
    }

    /// True if both hold some fact and are not the same file.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        self != other && self.first <= other.last && other.first <= self.last
    }

    /// Name of the segment's object.
    pub(super) fn segment(&self, host: &HostName) -> String {
        format!("{host}/{}{SEGMENT}", self.stem())
    }

    /// Name of the manifest's object.
    pub(super) fn manifest(&self, host: &HostName) -> String {
        format!("{host}/{}{MANIFEST}", self.stem())
    }

    fn stem(&self) -> String {
        format!("{:012}-{:012}-{}", self.first, self.last, self.digest)
    }

    /// Reads the name of a segment's object; none for any other.
    pub(super) fn read(object: &str) -> Option<Self> {
        let file = object.rsplit('/').next()?;
        let mut parts = file.strip_suffix(SEGMENT)?.split('-');
        let first = parts.next()?.parse().ok()?;
        let last = parts.next()?.parse().ok()?;
        let digest = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { first, last, digest })
    }
}

/// The text beside a segment in a store: the fact of its sealing, and whose it is.
#[derive(Debug, Serialize)]
struct Manifest {
    /// Version of the form.
    form: u8,
    host: String,
    digest: String,
    first: u64,
    last: u64,
    before: String,
    link: String,
    recorded_until_ns: i64,
    meter_from_ns: i64,
    bytes: u64,
}

/// The manifest of a segment. The same segment makes the same bytes.
pub(super) fn manifest(segment: &Segment, host: &HostName) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(&Manifest {
        form: 1,
        host: host.to_string(),
        digest: segment.digest.to_string(),
        first: segment.first,
        last: segment.last,
        before: segment.before.to_string(),
        link: segment.link.to_string(),
        recorded_until_ns: segment.recorded_ns,
        meter_from_ns: segment.meter_ns,
        bytes: segment.bytes,
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_facts_it_holds_and_is_read_back() {
        let named = Named { first: 1, last: 65_536, digest: Digest::of(b"x") };
        let host: HostName = "h1".parse().expect("a name");
        let object = named.segment(&host);
        assert!(object.starts_with("h1/000000000001-000000065536-2d711642"), "{object}");
        assert_eq!(Named::read(&object), Some(named));
        assert_eq!(Named::read(&named.manifest(&host)), None);
        let last = Named { first: u64::MAX - 1, last: u64::MAX, ..named };
        assert_eq!(Named::read(&last.segment(&host)), Some(last));
        for other in ["h1/notes.txt", "h1/1-2.parquet", "h1/1-2-3.parquet", "h1/a-2-3.parquet"] {
            assert_eq!(Named::read(other), None, "{other}");
        }
    }

    #[test]
    fn files_with_common_facts_contradict_each_other() {
        let named = |first, last, text: &[u8]| Named { first, last, digest: Digest::of(text) };
        let one = named(11, 20, b"one");
        assert!(!one.contradicts(&one));
        assert!(one.contradicts(&named(11, 20, b"other")));
        assert!(one.contradicts(&named(20, 30, b"other")));
        assert!(one.contradicts(&named(1, 11, b"other")));
        assert!(!one.contradicts(&named(1, 10, b"other")));
        assert!(!one.contradicts(&named(21, 30, b"other")));
    }
}
