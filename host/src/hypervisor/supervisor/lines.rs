//! Lines of bounded length from a stream of bytes.

use crate::limits::instance::MARKER_LINE_BYTES_MAX;

/// Splits a stream into lines. Lines longer than [`MARKER_LINE_BYTES_MAX`] are left out.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Takes the next bytes and calls `each` with every line that they complete, without its `\n`.
    pub(super) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.extend(&rest[..end]);
            self.finish(&mut each);
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// Calls `each` with the present part of the last line, and begins a new one.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.too_long {
            each(&self.begun);
        }
        self.begun.clear();
        self.too_long = false;
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.too_long |= self.begun.len() + bytes.len() > MARKER_LINE_BYTES_MAX;
        if self.too_long {
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `stream`, taken in chunks of `size` bytes.
    fn lines(stream: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in stream.chunks(size) {
            lines.take(chunk, |line| seen.push(line.to_vec()));
        }
        lines.finish(|line| seen.push(line.to_vec()));
        seen
    }

    #[test]
    fn the_cuts_between_chunks_do_not_matter() {
        let stream = b"one\r\n\ntwo three\nlast";
        for size in 1..=stream.len() {
            assert_eq!(
                lines(stream, size),
                [&b"one\r"[..], b"", b"two three", b"last"],
                "chunks of {size}"
            );
        }
    }

    #[test]
    fn a_line_at_the_limit_is_kept_and_a_longer_one_hides_nothing_after_it() {
        let fits = vec![b'x'; MARKER_LINE_BYTES_MAX];
        let too_long = vec![b'y'; MARKER_LINE_BYTES_MAX + 1];
        let stream = [&fits[..], &too_long, &too_long, b"after"].join(&b'\n');
        for size in [1, 4096, MARKER_LINE_BYTES_MAX, stream.len()] {
            assert_eq!(lines(&stream, size), [&fits[..], b"after"], "chunks of {size}");
        }
    }
}
