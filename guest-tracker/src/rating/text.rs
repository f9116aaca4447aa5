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

/// `value / 10^digits`, with commas between thousands and without zeros at the end: `1,234.5`.
pub fn decimal(value: u128, digits: u32) -> String {
    let mut fraction = Vec::new();
    let mut whole = value;
    for _ in 0..digits {
        fraction.push(digit(whole));
        whole /= 10;
    }
    let mut text = thousands(whole);
    let significant = fraction.iter().position(|&digit| digit != '0');
    if let Some(first) = significant {
        text.push('.');
        text.extend(fraction[first..].iter().rev());
    }
    text
}

/// The same with a sign.
pub fn signed_decimal(value: i128, digits: u32) -> String {
    let text = decimal(value.unsigned_abs(), digits);
    if value < 0 { join(&["-", &text]) } else { text }
}

/// `numerator / denominator` to at most nine decimals; what is cut off shows as `...`. A denominator of 0 reads as 1.
pub fn fraction(numerator: u128, denominator: u128) -> String {
    const DIGITS: u32 = 9;
    let denominator = denominator.max(1);
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    let scale = 10_u128.pow(DIGITS);
    let Some(scaled) = times(rest, scale) else { return join(&[&thousands(whole), "..."]) };
    let text = match times(whole, scale).and_then(|whole| whole.checked_add(scaled / denominator)) {
        Some(value) => decimal(value, DIGITS),
        None => thousands(whole),
    };
    if scaled % denominator == 0 { text } else { join(&[&text, "..."]) }
}

/// A length of time in nanoseconds, such as `3 h 2 min 0.5 s`.
#[inline(never)]
pub(crate) fn clock_time(ns: u128) -> String {
    const UNITS: [(u128, u32, &str); 3] = [(3_600_000_000_000, 0, " h"), (60_000_000_000, 0, " min"), (1, 9, " s")];
    let (mut text, mut rest) = (String::new(), ns);
    for (size, digits, unit) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 || (text.is_empty() && size == 1) {
            let space = if text.is_empty() { "" } else { " " };
            text = join(&[&text, space, &decimal(count, digits), unit]);
        }
    }
    text
}

/// A number of bytes in the largest unit that is not larger, such as `1.5 GiB`.
#[inline(never)]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = [" B", " KiB", " MiB", " GiB"];
    let place = count.max(1).ilog2().min(39) / 10;
    join(&[&fraction(count.into(), 1 << (10 * place)), UNITS[place as usize]])
}

fn thousands(mut value: u128) -> String {
    let mut reversed = Vec::new();
    loop {
        if reversed.len() % 4 == 3 {
            reversed.push(',');
        }
        reversed.push(digit(value));
        value /= 10;
        if value == 0 {
            return reversed.iter().rev().collect();
        }
    }
}

/// The last digit.
fn digit(value: u128) -> char {
    char::from(b'0' + (value % 10) as u8)
}

/// The beginning of a text that fits so many bytes.
pub(super) fn clipped(mut text: String, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(clipped("a€b".into(), 2), "a");
        assert_eq!(clipped("a€b".into(), 4), "a€");
        assert_eq!(clipped("ab".into(), 9), "ab");
    }
}
