//! Hashes that prove what went into a biller and what came out.

use biller::handed::{Handed, Opening};
use biller::input::{Intervals, Subject};
use biller::output::Line;
use sha2::{Digest as _, Sha256};

use crate::id::Digest;

/// Bytes that are hashed at once.
const AT_ONCE: usize = 4_096;

/// A SHA-256 over parts, each after its length in 8 bytes. Numbers are little-endian. A column is
/// one part, so that its division among calls changes nothing.
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    /// The hash of a bill's input. A biller that takes stretches in the header's text has none
    /// beside it.
    pub(super) fn of_input(
        (header, own): (&str, &str),
        subjects: &[Subject],
        intervals: &Intervals,
        opening: Option<&Opening>,
    ) -> Digest {
        let mut all = Self(Sha256::new());
        all.part(header.as_bytes());
        for subject in subjects {
            all.part(subject.id.as_bytes());
            all.part(&subject.first_fact.to_le_bytes());
            all.part(&[subject.ended.into()]);
        }
        all.column(&intervals.subject, |value| value.to_le_bytes());
        all.column(&intervals.start, |value| value.to_le_bytes());
        all.column(&intervals.end, |value| value.to_le_bytes());
        all.column(&intervals.session, |value| value.to_le_bytes());
        all.column(&intervals.wakes, |value| value.to_le_bytes());
        all.column(&intervals.meters, |value| value.to_le_bytes());
        all.column(&intervals.fact, |value| value.to_le_bytes());
        for column in intervals.dimensions.iter().chain(&intervals.counts) {
            all.part(column.name.as_bytes());
            all.column(&column.values, |value| value.to_le_bytes());
        }
        all.part(own.as_bytes());
        if let Some(Opening { stretches, others }) = opening {
            all.stretches(stretches);
            let names = others.instances.iter().chain(&others.meters);
            names.for_each(|name| all.part(name.as_bytes()));
        }
        all.digest()
    }

    /// The hash of a bill. A biller that gives stretches in the bill's text has none beside it.
    pub(super) fn of_output(bill: &str, lines: &[Line], handed: Option<&[Handed]>) -> Digest {
        let mut all = Self(Sha256::new());
        all.part(bill.as_bytes());
        all.column(lines, |line| line.tariff.to_le_bytes());
        all.column(lines, |line| line.subject.unwrap_or(u32::MAX).to_le_bytes());
        all.column(lines, |line| line.quantity.to_le_bytes());
        all.column(lines, |line| line.billed.to_le_bytes());
        all.column(lines, |line| line.amount.to_le_bytes());
        all.column(lines, |line| line.from.to_le_bytes());
        all.column(lines, |line| line.until.to_le_bytes());
        all.column(lines, |line| line.facts.map_or(1, |(first, _)| first).to_le_bytes());
        all.column(lines, |line| line.facts.map_or(0, |(_, last)| last).to_le_bytes());
        if let Some(handed) = handed {
            all.stretches(handed);
        }
        all.digest()
    }

    fn stretches(&mut self, all: &[Handed]) {
        self.column(all, |one| one.instance.to_le_bytes());
        self.column(all, |one| one.meter.to_le_bytes());
        self.column(all, |one| [one.stretch as u8]);
        self.column(all, |one| one.session.to_le_bytes());
        self.column(all, |one| one.wakes.to_le_bytes());
        self.column(all, |one| one.last.to_le_bytes());
        self.column(all, |one| one.used_ns.to_le_bytes());
        self.column(all, |one| one.owed_ns.to_le_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn column<T, const BYTES: usize>(&mut self, values: &[T], bytes: impl Fn(&T) -> [u8; BYTES]) {
        self.0.update((values.len() as u64 * BYTES as u64).to_le_bytes());
        let mut buffer = [0_u8; AT_ONCE];
        for chunk in values.chunks(AT_ONCE / BYTES) {
            // Place by place: an iterator over single bytes takes as long as the hash itself.
            for (value, place) in chunk.iter().zip(buffer.chunks_exact_mut(BYTES)) {
                place.copy_from_slice(&bytes(value));
            }
            self.0.update(&buffer[..chunk.len() * BYTES]);
        }
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
