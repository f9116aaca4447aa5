//! Frames: where a message begins and ends on a wire.
//!
//! A virtio-serial port loses what is on its way when the host disconnects, and keeps the half of a
//! message for the next connection. So a frame is its body and a CRC-32 of it, in COBS, and a zero,
//! which stands nowhere else: whatever came before a zero, what follows it is a frame.

/// Most bytes in the body of a frame.
pub const BODY_BYTES_MAX: usize = 80 << 10;

/// Most bytes of a frame on the wire, without its zero.
const CODED_BYTES_MAX: usize = coded_bytes_max(BODY_BYTES_MAX + CHECK_BYTES);

const CHECK_BYTES: usize = 4;

const fn coded_bytes_max(plain: usize) -> usize {
    plain + plain / 254 + 1
}

/// The end of a frame.
pub const END: u8 = 0;

/// Appends the frame of a body.
pub fn encode(body: &[u8], out: &mut Vec<u8>) {
    out.reserve(coded_bytes_max(body.len() + CHECK_BYTES) + 1);
    let check = crc32(body).to_le_bytes();
    let mut block = Block::begin(out);
    for &byte in body.iter().chain(&check) {
        block.push(out, byte);
    }
    block.close(out);
    out.push(END);
}

/// A run of bytes without a zero, with its length before it.
struct Block {
    at: usize,
    code: u8,
}

impl Block {
    fn begin(out: &mut Vec<u8>) -> Self {
        out.push(0);
        Self { at: out.len() - 1, code: 1 }
    }

    fn push(&mut self, out: &mut Vec<u8>, byte: u8) {
        if byte == 0 {
            self.close(out);
            *self = Self::begin(out);
            return;
        }
        out.push(byte);
        self.code += 1;
        if self.code == u8::MAX {
            self.close(out);
            *self = Self::begin(out);
        }
    }

    fn close(&self, out: &mut [u8]) {
        out[self.at] = self.code;
    }
}

/// Bytes between two zeros that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Finds frames in what is read.
#[derive(Debug, Default)]
pub struct Decoder {
    coded: Vec<u8>,
    is_overlong: bool,
}

impl Decoder {
    /// Takes bytes off `bytes` up to the end of the next frame, and answers its body; none if they
    /// end before it. A zero that follows a zero ends nothing.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Vec<u8>, Damaged>> {
        while !bytes.is_empty() {
            let Some(end) = bytes.iter().position(|&byte| byte == END) else {
                self.keep(bytes);
                *bytes = &[];
                return None;
            };
            self.keep(&bytes[..end]);
            *bytes = &bytes[end + 1..];
            let overlong = std::mem::take(&mut self.is_overlong);
            let coded = std::mem::take(&mut self.coded);
            if overlong {
                return Some(Err(Damaged));
            }
            if !coded.is_empty() {
                return Some(decode(&coded).ok_or(Damaged));
            }
        }
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.is_overlong || self.coded.len() + bytes.len() > CODED_BYTES_MAX {
            self.is_overlong = true;
            self.coded.clear();
            return;
        }
        self.coded.extend_from_slice(bytes);
    }
}

/// The body of a frame without its zero; none if it is damaged.
fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(coded.len());
    let mut rest = coded;
    while let Some((&code, after)) = rest.split_first() {
        let (run, after) = after.split_at_checked(usize::from(code).checked_sub(1)?)?;
        plain.extend_from_slice(run);
        rest = after;
        if code != u8::MAX && !rest.is_empty() {
            plain.push(0);
        }
    }
    let body = plain.len().checked_sub(CHECK_BYTES)?;
    let check = plain.split_off(body);
    (plain.len() <= BODY_BYTES_MAX && check == crc32(&plain).to_le_bytes()).then_some(plain)
}

/// CRC-32 as in IEEE 802.3, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |crc: u32, &byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(u32::MAX, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(body, &mut out);
        out
    }

    fn all(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<Result<Vec<u8>, Damaged>> {
        std::iter::from_fn(|| decoder.next(&mut bytes)).collect()
    }

    #[test]
    fn the_checksum_is_the_one_that_everybody_has() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn bodies_of_every_border_length_come_back() {
        for length in [0, 1, 249, 250, 251, 253, 254, 255, 508, 65_536, BODY_BYTES_MAX] {
            for byte in [0, 1, 255] {
                let body = vec![byte; length];
                let found = all(&mut Decoder::default(), &framed(&body));
                assert_eq!(found, [Ok(body)], "{length} of {byte}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_damaged_and_the_next_frame_is_not() {
        let mut decoder = Decoder::default();
        for _ in 0..100 {
            assert_eq!(all(&mut decoder, &[7; 4_096]), []);
            assert!(decoder.coded.len() <= CODED_BYTES_MAX);
        }
        assert_eq!(all(&mut decoder, &[END]), [Err(Damaged)]);
        assert_eq!(all(&mut decoder, &framed(b"next")), [Ok(b"next".to_vec())]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn frames_come_back_however_they_are_cut(bodies in vec(vec(any::<u8>(), 0..600), 0..6), cut in 1..700usize) {
            let wire: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let mut decoder = Decoder::default();
            let found: Vec<_> = wire.chunks(cut).flat_map(|part| all(&mut decoder, part)).collect();
            prop_assert_eq!(found, bodies.into_iter().map(Ok).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_do_harm_and_a_frame_behind_them_is_found(noise in vec(any::<u8>(), 0..2_000), body in vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            all(&mut decoder, &noise);
            all(&mut decoder, &[END]);
            prop_assert_eq!(all(&mut decoder, &framed(&body)), [Ok(body)]);
        }

        #[test]
        fn a_part_that_is_lost_is_noticed(body in vec(any::<u8>(), 8..600), from in 0..600usize, count in 1..600usize) {
            let mut wire = framed(&body);
            let from = from % (wire.len() - 1);
            let until = (from + count).min(wire.len() - 1);
            wire.drain(from..until);
            for found in all(&mut Decoder::default(), &wire) {
                prop_assert_eq!(found, Err(Damaged));
            }
        }
    }
}
