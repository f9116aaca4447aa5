//! Instants of the calendar, in UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Timelike};
use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text;

/// An instant of the calendar: nanoseconds since 1970-01-01 00:00 UTC; RFC 3339 with nine decimals
/// in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000000000Z")]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.to_rfc3339()).map_err(|_| fmt::Error)?)
    }
}

impl Timestamp {
    /// Writes digit by digit, since an answer may hold tens of thousands of these. All years that
    /// fit 64 bits of nanoseconds have four digits.
    fn to_rfc3339(self) -> [u8; 30] {
        let at = DateTime::from_timestamp_nanos(self.0).naive_utc();
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let parts = [
            (0..4, at.year().unsigned_abs()),
            (5..7, at.month()),
            (8..10, at.day()),
            (11..13, at.hour()),
            (14..16, at.minute()),
            (17..19, at.second()),
            (20..29, at.nanosecond()),
        ];
        for (place, mut rest) in parts {
            for digit in text[place].iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
        }
        text
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an instant in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not an instant; write it like 2026-01-31T12:00:00Z (RFC 3339, years 1678 to 2261)"
)]
pub struct UnknownInstant(pub String);

impl FromStr for Timestamp {
    type Err = UnknownInstant;
    fn from_str(text: &str) -> Result<Self, UnknownInstant> {
        let parsed = DateTime::parse_from_rfc3339(text)
            .ok()
            .and_then(|instant| instant.timestamp_nanos_opt());
        parsed.map(Timestamp).ok_or_else(|| UnknownInstant(text.chars().take(80).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(str::from_utf8(&self.to_rfc3339()).map_err(serde::ser::Error::custom)?)
    }
}

impl<'a> Deserialize<'a> for Timestamp {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        text::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_instant_is_written_as_the_calendar_writes_it(nanos: i64) {
            let at = DateTime::from_timestamp_nanos(nanos);
            let written = at.to_rfc3339_opts(SecondsFormat::Nanos, true);
            prop_assert_eq!(Timestamp(nanos).to_string(), written);
        }
    }

    #[test]
    fn instants_have_nine_decimals_and_are_read_back_exactly() {
        for nanos in [0, 1, 1_700_000_000_123_456_789, -1, i64::MAX, i64::MIN] {
            let text = Timestamp(nanos).to_string();
            assert_eq!(text.parse(), Ok(Timestamp(nanos)), "{text}");
            assert_eq!(text.split_once('.').expect("a point").1.len(), "123456789Z".len());
        }
        assert_eq!(
            Timestamp(1_700_000_000_123_456_789).to_string(),
            "2023-11-14T22:13:20.123456789Z"
        );
    }
}
