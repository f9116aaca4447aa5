//! Instants of the calendar as RFC 3339 writes them, in nanoseconds since 1970 in UTC.

use std::fmt::Write;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// Reads `2026-02-01T00:00:00Z` or `2026-02-01T01:00:00.5+01:00`; none for a text of another form
/// or an instant outside the years 1678 to 2261.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let date = text.get(..10)?;
    let rest = text.get(11..)?;
    let time = rest.get(..8)?;
    let zone = rest.get(8..)?;
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (fraction_ns, zone) = fraction(zone)?;
    let seconds = days(date)? * DAY_S + clock(time)? - offset(zone)?;
    match seconds.checked_mul(SECOND_NS) {
        Some(nanos) => nanos.checked_add(fraction_ns),
        // The fraction may bring the earliest instants back into range.
        None => {
            let nanos = i128::from(seconds) * i128::from(SECOND_NS) + i128::from(fraction_ns);
            i64::try_from(nanos).ok()
        }
    }
}

/// Writes an instant in UTC, with a fraction only where there is one.
pub(crate) fn text(utc_ns: i64) -> String {
    let seconds = utc_ns.div_euclid(1_000_000_000);
    let nanos = utc_ns.rem_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(DAY_S));
    let second = seconds.rem_euclid(DAY_S);
    let hours = second / 3_600;
    let minutes = second / 60 % 60;
    let mut text =
        format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}", second % 60);
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Reads digits and nothing else.
fn number(digits: &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    (!digits.is_empty()).then_some(number)
}

/// Reads an optional fraction such as `.5`: its nanoseconds, and the text after it. Digits past the
/// ninth are dropped.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(length);
    let kept = &digits[..length.min(9)];
    let scale = 10_i64.pow(9 - u32::try_from(kept.len()).ok()?);
    Some((number(kept.as_bytes())? * scale, after))
}

/// Reads `2026-02-01` as days since 1970.
fn days(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = number(&bytes[..4])?;
    let month = number(&bytes[5..7])?;
    let day = number(&bytes[8..])?;
    if !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let days = days_of(year, month, day);
    // A day that the month does not have converts to one of the next month.
    (civil(days) == (year, month, day)).then_some(days)
}

/// Reads `HH:MM:SS` as seconds.
fn clock(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 8 || bytes[2] != b':' || bytes[5] != b':' {
        return None;
    }
    let part = |digits: &[u8], max: i64| number(digits).filter(|&value| value <= max);
    let hours = part(&bytes[..2], 23)?;
    let minutes = part(&bytes[3..5], 59)?;
    let seconds = part(&bytes[6..], 59)?;
    Some(hours * 3_600 + minutes * 60 + seconds)
}

/// Reads `Z` or `+01:00` as seconds east of UTC.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let east = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    Some(east * clock(&format!("{}:00", text.get(1..)?))?)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_of`] (the same, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_and_written() {
        let rows = [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00+01:00", 1_767_222_000_000_000_000, "2025-12-31T23:00:00Z"),
            ("2027-01-01T00:00:00Z", 1_798_761_600_000_000_000, "2027-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59.5Z", 1_709_251_199_500_000_000, "2024-02-29T23:59:59.5Z"),
            (
                "1969-12-31t23:59:59.000000001-00:30",
                1_799_000_000_001,
                "1970-01-01T00:29:59.000000001Z",
            ),
        ];
        for (given, nanos, written) in rows {
            assert_eq!(parse(given), Some(nanos), "{given}");
            assert_eq!(text(nanos), written, "{given}");
        }
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn what_is_no_instant_is_none() {
        let wrong = [
            "",
            "2026-01-01",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "9999-01-01T00:00:00Z",
            "2026-01-01T00:00:0éZ",
        ];
        for text in wrong {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_comes_back() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), days);
        }
    }
}
