//! Verification of the hash chain, fact by fact.

use super::entry::{FactHash, Head};
use super::error::{Damage, Flaw, Place};
use super::wire::FactRecord;
use crate::units::Instant;

/// A walk along the chain: every fact must follow from the one before.
#[derive(Debug)]
pub(super) struct Chain {
    head: Head,
    recorded_ns: i64,
    again: Vec<u8>,
}

impl Chain {
    /// Starts after `head`, which is trusted.
    pub(super) fn after(head: Head) -> Self {
        Self { head, recorded_ns: i64::MIN, again: Vec::new() }
    }

    /// Starts after `head`, which is trusted and was recorded at `recorded`.
    pub(super) fn resuming(head: Head, recorded: Instant) -> Self {
        Self { recorded_ns: recorded.0, ..Self::after(head) }
    }

    /// The instant at which the last fact was recorded.
    pub(super) fn recorded(&self) -> Instant {
        Instant(self.recorded_ns)
    }

    /// The end of the part that was checked.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Checks the next row and returns its fact.
    pub(super) fn step(&mut self, seq: u64, hash: &[u8], body: &str) -> Result<FactRecord, Damage> {
        let wrong = |flaw| Damage { place: Place::Fact(seq), flaw };
        if seq != self.head.seq + 1 {
            return Err(wrong(Flaw::Gap { after: self.head.seq }));
        }
        let expected = self.head.hash.next(body.as_bytes());
        if hash != expected.0 {
            return Err(wrong(Flaw::Hash));
        }
        let record = self.parse(body).map_err(wrong)?;
        if record.seq != seq {
            return Err(wrong(Flaw::Seq(record.seq)));
        }
        if record.recorded_ns < self.recorded_ns {
            return Err(wrong(Flaw::RecordedBackwards {
                recorded_ns: record.recorded_ns,
                before_ns: self.recorded_ns,
            }));
        }
        self.head = Head { seq, hash: expected };
        self.recorded_ns = record.recorded_ns;
        Ok(record)
    }

    /// Moves past a fact of a segment, whose link was made anew from its text.
    pub(super) fn pass(&mut self, record: &FactRecord, link: FactHash) -> Result<(), Damage> {
        if record.recorded_ns < self.recorded_ns {
            let recorded_ns = record.recorded_ns;
            let before_ns = self.recorded_ns;
            let flaw = Flaw::RecordedBackwards { recorded_ns, before_ns };
            return Err(Damage { place: Place::Fact(record.seq), flaw });
        }
        self.head = Head { seq: record.seq, hash: link };
        self.recorded_ns = record.recorded_ns;
        Ok(())
    }

    /// Refuses any but the canonical text: readers that only compare texts would take another form
    /// of the same fact for another fact.
    fn parse(&mut self, body: &str) -> Result<FactRecord, Flaw> {
        let record: FactRecord =
            serde_json::from_str(body).map_err(|error| Flaw::Text(error.to_string()))?;
        self.again.clear();
        encode_body(&record, &mut self.again).map_err(|error| Flaw::Text(error.to_string()))?;
        if self.again == body.as_bytes() { Ok(record) } else { Err(Flaw::NotCanonical) }
    }
}

/// A hash as the database stores it; none if it is not 32 bytes long.
pub(super) fn link(hash: &[u8]) -> Option<FactHash> {
    hash.try_into().ok().map(FactHash)
}

/// Encodes the body of a fact: the bytes that are hashed and stored.
pub(super) fn encode_body(record: &FactRecord, out: &mut Vec<u8>) -> rusqlite::Result<()> {
    serde_json::to_writer(out, record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
