//! Sizes as people write them: `512MB`, `2G`, `96MiB`. All units are powers of 1,024.

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a size; write it like 512MB, 2GB or a number of bytes (units are powers of \
     1,024)"
)]
pub struct UnknownSize(pub String);

const UNITS: [(&str, u32); 5] = [("T", 40), ("G", 30), ("M", 20), ("K", 10), ("", 0)];

/// Reads a whole number with a unit (`K`, `M`, `G`, `T`, each alone or with `B` or `iB`, in any
/// case); a bare number is bytes.
///
/// # Errors
/// [`UnknownSize`] for anything else, and for what does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnknownSize> {
    let unknown = || UnknownSize(text.chars().take(80).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
    let (_, shift) = UNITS.into_iter().find(|(known, _)| *known == unit).ok_or_else(unknown)?;
    let number: u64 = number.parse().map_err(|_| unknown())?;
    number.checked_mul(1 << shift).ok_or_else(unknown)
}

/// Writes a size in the largest unit that gives a whole number; [`parse_size`] reads it back
/// exactly.
pub fn format_size(bytes: u64) -> String {
    let whole = |&(_, shift): &(&str, u32)| bytes != 0 && bytes.trailing_zeros() >= shift;
    let (unit, shift) = UNITS.into_iter().find(whole).unwrap_or(("", 0));
    let mut text = (bytes >> shift).to_string();
    text.push_str(unit);
    text.push('B');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let rows = [
            ("512MB", 512 << 20),
            ("2G", 2 << 30),
            ("96MiB", 96 << 20),
            ("1 gb", 1 << 30),
            ("1024", 1_024),
            ("7b", 7),
            ("0", 0),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "1.5GB", "-1", "1PB", "99999999999TB", "1 0"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_written_size_is_read_back_exactly() {
        for bytes in [0, 1, 1_000, 1_024, 96 << 20, (96 << 20) + 1, 3 << 30, 1 << 40, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes), "{}", format_size(bytes));
        }
        assert_eq!(format_size(96 << 20), "96MB");
    }
}
