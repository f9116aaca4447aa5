//! Numbers as people read them, in few bytes of code.

use crate::words::times;

/// The parts, one after the other. One function for all callers: spelt out at each of them it would be a tenth of a component.
#[inline(never)]
pub(crate) fn join(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(part);
    }
    text
}

/// The words with something between them.
pub(crate) fn list(words: &[&str], between: &str) -> String {
    let mut text = Text::default();
    for (index, word) in words.iter().enumerate() {
        text.add(if index == 0 { "" } else { between }).add(word);
    }
    text.into_string()
}

/// `value / 10^digits`, with commas between thousands and without zeros at the end: `1,234.5`.
pub fn decimal(value: u128, digits: u32) -> String {
    let mut text = Text::default();
    text.decimal(value, digits);
    text.into_string()
}

/// The same with a sign.
pub fn signed_decimal(value: i128, digits: u32) -> String {
    let mut text = Text::default();
    text.signed_decimal(value, digits);
    text.into_string()
}

/// `numerator / denominator` to at most nine decimals; what is cut off shows as `...`. A denominator of 0 reads as 1.
pub fn fraction(numerator: u128, denominator: u128) -> String {
    let mut text = Text::default();
    text.fraction(numerator, denominator);
    text.into_string()
}

/// A text under way, part by part.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

// Each stands in a component once, for the same reason as `join`.
impl Text {
    #[inline(never)]
    pub(crate) fn add(&mut self, part: &str) -> &mut Self {
        self.0.push_str(part);
        self
    }

    /// Adds what [`decimal`] writes.
    pub(crate) fn decimal(&mut self, mut value: u128, digits: u32) -> &mut Self {
        let mut reversed = Vec::new();
        let mut place = 0;
        while value > 0 || place <= digits {
            if place >= digits && (place - digits).is_multiple_of(3) && !reversed.is_empty() {
                reversed.push(if place == digits { b'.' } else { b',' });
            }
            let rest = value / 10;
            let digit = b'0' + (value - rest * 10) as u8;
            if place >= digits || digit > b'0' || !reversed.is_empty() {
                reversed.push(digit);
            }
            (value, place) = (rest, place + 1);
        }
        for &byte in reversed.iter().rev() {
            self.0.push(char::from(byte));
        }
        self
    }

    /// Adds a whole number.
    pub(crate) fn number(&mut self, value: usize) -> &mut Self {
        self.decimal(value as u128, 0)
    }

    /// Adds what [`signed_decimal`] writes.
    #[inline(never)]
    pub(crate) fn signed_decimal(&mut self, value: i128, digits: u32) -> &mut Self {
        if value < 0 {
            self.add("-");
        }
        self.decimal(value.unsigned_abs(), digits)
    }

    /// Adds what [`fraction`] writes.
    pub(crate) fn fraction(&mut self, numerator: u128, denominator: u128) -> &mut Self {
        const DIGITS: u32 = 9;
        const SCALE: u128 = 10_u128.pow(DIGITS);
        let denominator = denominator.max(1);
        let whole = numerator / denominator;
        let rest = numerator - whole * denominator;
        let scaled = times(rest, SCALE);
        let decimals = scaled.map_or(0, |scaled| scaled / denominator);
        match times(whole, SCALE).and_then(|whole| whole.checked_add(decimals)) {
            Some(value) => self.decimal(value, DIGITS),
            None => self.decimal(whole, 0),
        };
        if scaled.is_some_and(|scaled| scaled == decimals * denominator) { self } else { self.add("...") }
    }

    /// Adds a length of time in nanoseconds, such as `3 h 2 min 0.5 s`.
    pub(crate) fn clock_time(&mut self, ns: u128) -> &mut Self {
        const UNITS: [(u128, u32, &str); 3] = [(3_600_000_000_000, 0, " h"), (60_000_000_000, 0, " min"), (1, 9, " s")];
        let (mut rest, mut space) = (ns, "");
        for &(size, digits, unit) in &UNITS {
            let count = rest / size;
            rest -= count * size;
            if count > 0 || (space.is_empty() && size == 1) {
                self.add(space).decimal(count, digits).add(unit);
                space = " ";
            }
        }
        self
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// The beginning of it that fits so many bytes.
    pub(crate) fn clipped(self, bytes: usize) -> String {
        let mut text = self.0;
        text.truncate(text.floor_char_boundary(bytes));
        text
    }
}

/// A number of bytes in the largest unit that is not larger, such as `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = [" B", " KiB", " MiB", " GiB"];
    let place = count.max(1).ilog2().min(39) / 10;
    join(&[&fraction(count.into(), 1 << (10 * place)), UNITS[place as usize]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock_time(ns: u128) -> String {
        let mut text = Text::default();
        text.clock_time(ns);
        text.into_string()
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        let rows = [
            (decimal(0, 0), "0"),
            (decimal(0, 9), "0"),
            (decimal(999, 0), "999"),
            (decimal(1_000, 0), "1,000"),
            (decimal(1_234_567, 3), "1,234.567"),
            (decimal(1_230_000_000, 9), "1.23"),
            (decimal(1, 9), "0.000000001"),
            (decimal(u128::MAX, 0), "340,282,366,920,938,463,463,374,607,431,768,211,455"),
            (signed_decimal(-1_500, 3), "-1.5"),
            (signed_decimal(i128::MIN, 38), "-1.70141183460469231731687303715884105728"),
            (fraction(7, 2), "3.5"),
            (fraction(1, 3), "0.333333333..."),
            (fraction(6_000, 3), "2,000"),
            (fraction(5, 0), "5"),
            (fraction(u128::MAX, 1), "340,282,366,920,938,463,463,374,607,431,768,211,455"),
            (fraction(1, u128::MAX), "0..."),
            (clock_time(0), "0 s"),
            (clock_time(1), "0.000000001 s"),
            (clock_time(60_000_000_000), "1 min"),
            (clock_time(3_600_000_000_000), "1 h"),
            (clock_time(7_200_000_000_000_000 + 61_250_000_000), "2,000 h 1 min 1.25 s"),
            (bytes(0), "0 B"),
            (bytes(1_023), "1,023 B"),
            (bytes(1_536), "1.5 KiB"),
            (bytes(128 << 20), "128 MiB"),
            (bytes(3 << 29), "1.5 GiB"),
            (bytes(u64::MAX), "17,179,869,183.999999999... GiB"),
        ];
        for (found, expected) in rows {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, bytes, expected) in [("a€b", 2, "a"), ("a€b", 4, "a€"), ("ab", 9, "ab")] {
            assert_eq!(Text(text.into()).clipped(bytes), expected);
        }
    }
}
