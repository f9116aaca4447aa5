//! Rates of networks as people write them: `10Mbps`, `125MB/s`. All units are powers of 1,000.

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no rate; write it like 10Mbps (bits) or 125MB/s (bytes): a whole number, K, M, G or \
     none of them, and bps or B/s (units are powers of 1,000)"
)]
pub(super) struct UnknownRate(String);

static UNITS: [(&str, u64); 4] = [("", 1), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];

/// Reads a rate, in bytes a second. Bits are rounded down to whole bytes.
///
/// # Errors
/// [`UnknownRate`] for anything else, and for what does not fit 64 bits.
pub(super) fn parse_rate(text: &str) -> Result<u64, UnknownRate> {
    let unknown = || UnknownRate(text.chars().take(80).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let bytes = unit.strip_suffix("B/s").map(|unit| (unit, 1));
    let bits = unit.strip_suffix("bps").map(|unit| (unit, 8));
    let (unit, divisor) = bytes.or(bits).ok_or_else(unknown)?;
    let unit = unit.to_ascii_uppercase();
    let (_, factor) =
        UNITS.iter().copied().find(|(known, _)| *known == unit).ok_or_else(unknown)?;
    let number: u64 = number.parse().map_err(|_| unknown())?;
    Ok(number.checked_mul(factor).ok_or_else(unknown)? / divisor)
}

/// Writes a rate of bytes a second in the largest unit of bits that gives a whole number;
/// [`parse_rate`] reads it back exactly.
pub(super) fn format_rate(bytes: u64) -> String {
    let Some(bits) = bytes.checked_mul(8) else { return format!("{bytes}B/s") };
    let whole = |(_, factor): &&(&str, u64)| bits != 0 && bits.is_multiple_of(*factor);
    let (unit, factor) = UNITS.iter().rev().find(whole).unwrap_or(&UNITS[0]);
    format!("{}{unit}bps", bits / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let rows = [
            ("1Gbps", 125_000_000),
            ("10 Mbps", 1_250_000),
            ("64kbps", 8_000),
            ("125MB/s", 125_000_000),
            ("9bps", 1),
            ("7B/s", 7),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
        }
        for text in ["", "10", "1.5Gbps", "-1Mbps", "1Mb", "99999999999Gbps", "Mbps", "1Tbps"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_written_rate_is_read_back_exactly() {
        for bytes in [0, 1, 7, 8_000, 1_250_000, 125_000_000, 12_500_000_001, u64::MAX] {
            assert_eq!(parse_rate(&format_rate(bytes)), Ok(bytes), "{}", format_rate(bytes));
        }
        assert_eq!(format_rate(125_000_000), "1Gbps");
    }
}
