//! The hashes of a receipt: of a policy's input and of its output.

use std::io::{self, BufWriter, Write};

use sha2::Digest as _;

use crate::policy::metering::{Column, IntervalColumns, Measurement, Request};

/// Number of values, and bytes of text, that are hashed at once.
const AT_ONCE: usize = 8 << 10;

/// SHA-256 in lower-case hexadecimal digits: first of everything but the columns as a JSON array in
/// the contract's order, with the names of dimensions and counts in the place of the columns; then
/// of each column: the number of values (8 bytes), and the values. Numbers are little-endian.
pub(super) fn of_request(request: &Request) -> String {
    // Destructured in full, so that no new field is left out.
    let Request { tenant, span, subjects, intervals, options } = request;
    let IntervalColumns { subject, phase, start, end, session, wakes, fact, dimensions, counts } =
        intervals;
    let names =
        |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let mut hasher = Hasher::default();
    hasher.json(&(tenant, span, subjects, names(dimensions), names(counts), options));
    hasher.column(subject, u32::to_le_bytes);
    hasher.column(phase, u8::to_le_bytes);
    hasher.column(start, i64::to_le_bytes);
    hasher.column(end, i64::to_le_bytes);
    hasher.column(session, u32::to_le_bytes);
    hasher.column(wakes, u32::to_le_bytes);
    hasher.column(fact, u64::to_le_bytes);
    for Column { values, .. } in dimensions.iter().chain(counts) {
        hasher.column(values, u64::to_le_bytes);
    }
    hasher.finish()
}

/// SHA-256 in lower-case hexadecimal digits: of terms and own lines as JSON, then of the masks as a
/// column.
pub(super) fn of_measurement(measurement: &Measurement) -> String {
    let Measurement { terms, counted, lines } = measurement;
    let mut hasher = Hasher::default();
    hasher.json(&(terms, lines));
    hasher.column(counted, u64::to_le_bytes);
    hasher.finish()
}

#[derive(Default)]
struct Hasher(sha2::Sha256);

impl Hasher {
    fn json<T: serde::Serialize>(&mut self, value: &T) {
        let mut buffered = BufWriter::with_capacity(AT_ONCE, self);
        // Neither the types nor the writers can fail.
        let _ = serde_json::to_writer(&mut buffered, value);
        let _ = buffered.flush();
    }

    fn column<T: Copy, const N: usize>(&mut self, values: &[T], to_bytes: impl Fn(T) -> [u8; N]) {
        self.0.update((values.len() as u64).to_le_bytes());
        let mut bytes = Vec::with_capacity(AT_ONCE.min(values.len()) * N);
        for some in values.chunks(AT_ONCE) {
            bytes.clear();
            some.iter().for_each(|&value| bytes.extend_from_slice(&to_bytes(value)));
            self.0.update(&bytes);
        }
    }

    fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> String {
        let mut hasher = Hasher::default();
        hasher.column(values, to_bytes);
        hasher.finish()
    }

    #[test]
    fn a_column_is_its_length_and_its_values_however_many_are_hashed_at_once() {
        for count in [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE] {
            let values: Vec<u32> = (0..).take(count).collect();
            let mut whole = (count as u64).to_le_bytes().to_vec();
            values.iter().for_each(|value| whole.extend(value.to_le_bytes()));
            assert_eq!(
                column(&values, u32::to_le_bytes),
                hex::encode(sha2::Sha256::digest(&whole)),
                "{count}"
            );
        }
    }

    #[test]
    fn where_a_column_ends_matters() {
        let two = |first: &[u8], second: &[u8]| {
            let mut hasher = Hasher::default();
            hasher.column(first, u8::to_le_bytes);
            hasher.column(second, u8::to_le_bytes);
            hasher.finish()
        };
        assert_ne!(two(&[1, 2], &[3]), two(&[1], &[2, 3]));
    }
}
