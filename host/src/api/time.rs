//! Durations as people write them: `30s`, `2m`, `1h30m`, `250ms`.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a duration; write it like 30s, 2m, 1h30m or 250ms")]
pub struct UnknownDuration(pub String);

const UNITS_NS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a sequence of whole numbers with units (`h`, `m`, `s`, `ms`, `us`, `ns`); a bare number is
/// seconds.
///
/// # Errors
/// [`UnknownDuration`] for anything else, and for what does not fit 64 bits of nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnknownDuration> {
    let unknown = || UnknownDuration(text.chars().take(80).collect());
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let (unit, unit_ns) =
            UNITS_NS.into_iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(unknown)?;
        let number: u64 = number.parse().map_err(|_| unknown())?;
        nanos = number
            .checked_mul(unit_ns)
            .and_then(|part| nanos.checked_add(part))
            .ok_or_else(unknown)?;
        rest = &after[unit.len()..];
    }
    if text.is_empty() { Err(unknown()) } else { Ok(Duration::from_nanos(nanos)) }
}

/// Writes milliseconds so that [`parse_duration`] reads them back exactly.
pub fn format_millis(millis: u64) -> String {
    let parts = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut rest = millis;
    let mut text = String::new();
    for (unit, name) in parts {
        if rest >= unit {
            text.push_str(&(rest / unit).to_string());
            text.push_str(name);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let rows = [
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1m500ms", 60_500),
            ("0s", 0),
            ("45", 45_000),
        ];
        for (text, millis) in rows {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_written_duration_is_read_back_exactly() {
        for millis in [0, 1, 999, 1_000, 60_001, 5_400_000, u64::from(u32::MAX)] {
            let text = format_millis(millis);
            assert_eq!(parse_duration(&text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(format_millis(5_400_000), "1h30m");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "s", "1.5s", "-3s", "3 s", "5d", "99999999999999999999s", "9999999999h"] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.to_string().contains("30s"), "{error}");
        }
    }
}
