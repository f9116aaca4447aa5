//! Texts, in few bytes of code.

use super::meter::{HOUR_NS, MINUTE_NS, SECOND_NS};

/// A unit of time and its length in nanoseconds, the longest first.
pub(crate) const UNITS: [(&str, u64); 5] =
    [("h", HOUR_NS), ("m", MINUTE_NS), ("s", SECOND_NS), ("ms", 1_000_000), ("ns", 1)];

/// Joins the parts. One function for all callers: inlined at each of them it would be a tenth of a
/// component.
#[inline(never)]
pub(crate) fn join(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(part);
    }
    text
}

/// Joins the words with `between` between them.
pub(crate) fn list(words: &[&str], between: &str) -> String {
    let mut text = Text::default();
    for (index, word) in words.iter().enumerate() {
        text.add(if index == 0 { "" } else { between }).add(word);
    }
    text.into_string()
}

/// Writes a length of time as options have it, such as `90s`, in the longest unit in which it is
/// whole.
pub(crate) fn duration(ns: u64) -> String {
    if ns == 0 {
        return "0s".into();
    }
    let whole = |(_, unit): &&(&str, u64)| ns.is_multiple_of(*unit);
    let &(name, unit) = UNITS.iter().find(whole).unwrap_or(&("ns", 1));
    let mut count = ns / unit;
    let mut digits = Vec::new();
    while count > 0 {
        digits.push(b'0' + (count % 10) as u8);
        count /= 10;
    }
    let mut text = String::new();
    for &digit in digits.iter().rev() {
        text.push(char::from(digit));
    }
    text.push_str(name);
    text
}

/// The nanoseconds of a text such as `90s`; none for any other text.
pub(crate) fn duration_ns(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let &(_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(unit_ns)
}

/// A text under way, part by part.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    #[inline(never)]
    pub(crate) fn add(&mut self, part: &str) -> &mut Self {
        self.0.push_str(part);
        self
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_reads_back_as_it_was_written() {
        let rows = [
            (0, "0s"),
            (1, "1ns"),
            (10_000_000, "10ms"),
            (60 * SECOND_NS, "1m"),
            (90 * SECOND_NS, "90s"),
            (HOUR_NS, "1h"),
            (25 * HOUR_NS, "25h"),
            (u64::MAX, "18446744073709551615ns"),
        ];
        for (ns, text) in rows {
            assert_eq!(duration(ns), text);
            assert_eq!(duration_ns(text), Some(ns));
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_none() {
        for text in
            ["", "60", "s", "1.5s", "-1s", "60 s", "99999999999999999999s", "9999999999999h"]
        {
            assert_eq!(duration_ns(text), None, "{text}");
        }
    }
}
