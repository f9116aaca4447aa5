//! Units that a price is for: `vcpu-hour`, `memory-GiB-second`, `disk-GB-30days`, `network-in-GB`.

use std::str::FromStr;

use crate::limits;

/// A unit that people price, resolved to the units that the journal counts.
///
/// ```text
/// PER   = WHAT "-" TIME | COUNT
/// WHAT  = "instance" | ("memory" | "disk" | "snapshot") "-" BYTES
///       | the singular of another dimension
/// TIME  = [NUMBER] ("second" | "minute" | "hour" | "day") ["s"]
/// COUNT = NAME "-" [NUMBER] BYTES, NAME of two words or more, such as network-in-GB
///       | [NUMBER] "request" ["s"]
/// BYTES = "B" | "kB" | "MB" | "GB" | "TB" | "KiB" | "MiB" | "GiB" | "TiB"; of a count also "bytes"
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Per {
    /// The unit of quantity: `ns`, a dimension in the singular and `-ns`, or the name of a count.
    pub unit: String,
    /// The measure that people count in, such as `vcpu*s`, `GiB*s` or `GB`.
    pub measure: String,
    /// Number of `unit` in one of `measure`.
    pub measure_units: u128,
    /// Number of `unit` that the price is for.
    pub units: u128,
    /// Most of `unit` that a price must be able to charge for in a period.
    pub units_max: u128,
}

/// A text that is no such unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is nothing that a price can be for; write WHAT-TIME, such as vcpu-hour, \
     instance-second, memory-GiB-hour, disk-GB-30days or snapshot-GiB-730hours, or a count, such \
     as network-in-GB or 1000requests. WHAT is instance, vcpu, memory-, disk- or snapshot- and a \
     unit of bytes, or the singular of another dimension; TIME is second, minute, hour or day, \
     with a whole number before it if it is not one"
)]
pub struct UnknownPer(pub String);

const SECOND_NS: u128 = 1_000_000_000;
const TIMES: [(&str, u128); 4] = [
    ("second", SECOND_NS),
    ("minute", 60 * SECOND_NS),
    ("hour", 3_600 * SECOND_NS),
    ("day", 86_400 * SECOND_NS),
];
const BYTES: [(&str, u128); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
/// Dimensions that are counted in bytes.
const BYTE_DIMENSIONS: [&str; 3] = ["memory", "disk", "snapshot"];
/// Counts that are not of bytes: the singular, and the unit.
const COUNTS: [(&str, &str); 1] = [("request", "requests")];
/// Most bytes of the text.
const LENGTH_MAX: usize = 64;

impl FromStr for Per {
    type Err = UnknownPer;
    fn from_str(text: &str) -> Result<Self, UnknownPer> {
        let is_short = text.len() <= LENGTH_MAX;
        let read = || time(text).or_else(|| byte_count(text)).or_else(|| plain_count(text));
        is_short.then(read).flatten().ok_or_else(|| UnknownPer(text.chars().take(80).collect()))
    }
}

/// Reads `vcpu-hour`, `memory-GiB-hour`, `instance-30days`.
fn time(text: &str) -> Option<Per> {
    let (what, time) = text.rsplit_once('-')?;
    let time_ns = time_ns(time)?;
    let what = what_units(what)?;
    let most = what.most.checked_mul(limits::YEAR_NS)?.checked_mul(limits::INSTANCES_MAX)?;
    Some(Per {
        unit: what.unit,
        measure: what.measure,
        measure_units: what.each.checked_mul(SECOND_NS)?,
        units: what.each.checked_mul(time_ns)?,
        units_max: most,
    })
}

/// Reads `network-in-GB`, `network-in-100GiB`.
fn byte_count(text: &str) -> Option<Per> {
    let (name, bytes) = text.rsplit_once('-')?;
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase());
    if !name.contains('-') || !name.split('-').all(is_word) {
        return None;
    }
    let (count, bytes) = numbered(bytes)?;
    let bytes = if matches!(bytes, "byte" | "bytes") { "B" } else { bytes };
    let &(measure, each) = BYTES.iter().find(|(unit, _)| *unit == bytes)?;
    Some(count_of(format!("{name}-bytes"), measure, each, count))
}

/// Reads `request`, `1000000requests`.
fn plain_count(text: &str) -> Option<Per> {
    let (count, name) = numbered(text)?;
    let &(one, unit) = COUNTS.iter().find(|(one, unit)| name == *one || name == *unit)?;
    Some(count_of(unit.into(), one, 1, count))
}

fn count_of(unit: String, measure: &str, each: u128, count: u128) -> Per {
    let units_max = u128::from(u64::MAX) * limits::INSTANCES_MAX;
    Per { unit, measure: measure.into(), measure_units: each, units: each * count, units_max }
}

/// The number before a name, 1 if there is none, and the name.
fn numbered(text: &str) -> Option<(u128, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, name) = text.split_at(digits);
    let count = if count.is_empty() { 1 } else { count.parse::<u32>().ok()? };
    (count > 0).then_some((count.into(), name))
}

/// Reads `hour`, `30days` as nanoseconds.
fn time_ns(text: &str) -> Option<u128> {
    let (count, name) = numbered(text)?;
    let is_named = |time: &str| name == time || name.strip_suffix('s') == Some(time);
    let &(_, length) = TIMES.iter().find(|(time, _)| is_named(time))?;
    count.checked_mul(length)
}

/// A dimension that people price.
struct What {
    unit: String,
    /// Name of the measure, such as `GiB*s` for `memory-GiB`.
    measure: String,
    /// Number of the dimension in one of the measure.
    each: u128,
    /// Most of the dimension that one instance has.
    most: u128,
}

fn what_units(what: &str) -> Option<What> {
    if what == "instance" {
        return Some(What { unit: "ns".into(), measure: "s".into(), each: 1, most: 1 });
    }
    if let Some((dimension, bytes)) = what.split_once('-') {
        let is_bytes = BYTE_DIMENSIONS.contains(&dimension);
        let &(name, each) = BYTES.iter().find(|(name, _)| *name == bytes && is_bytes)?;
        let unit = format!("{dimension}-byte-ns");
        let measure = format!("{name}*s");
        return Some(What { unit, measure, each, most: limits::BYTES_MAX });
    }
    let is_lower = what.bytes().all(|c| c.is_ascii_lowercase());
    let is_word = !what.is_empty() && is_lower && !BYTE_DIMENSIONS.contains(&what);
    let unit = format!("{what}-ns");
    let measure = format!("{what}*s");
    is_word.then_some(What { unit, measure, each: 1, most: limits::DIMENSION_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_taken_apart() {
        let rows = [
            ("instance-hour", "ns", "s", SECOND_NS, 3_600 * SECOND_NS),
            ("vcpu-second", "vcpu-ns", "vcpu*s", SECOND_NS, SECOND_NS),
            ("vcpu-730hours", "vcpu-ns", "vcpu*s", SECOND_NS, 730 * 3_600 * SECOND_NS),
            (
                "memory-GiB-hour",
                "memory-byte-ns",
                "GiB*s",
                (1 << 30) * SECOND_NS,
                (1 << 30) * 3_600 * SECOND_NS,
            ),
            (
                "disk-GB-30days",
                "disk-byte-ns",
                "GB*s",
                SECOND_NS * SECOND_NS,
                SECOND_NS * 30 * 86_400 * SECOND_NS,
            ),
            ("snapshot-B-1minute", "snapshot-byte-ns", "B*s", SECOND_NS, 60 * SECOND_NS),
            ("gpu-day", "gpu-ns", "gpu*s", SECOND_NS, 86_400 * SECOND_NS),
            ("network-in-GB", "network-in-bytes", "GB", SECOND_NS, SECOND_NS),
            ("network-out-10MiB", "network-out-bytes", "MiB", 1 << 20, 10 << 20),
            ("network-in-bytes", "network-in-bytes", "B", 1, 1),
            ("request", "requests", "request", 1, 1),
            ("1000000requests", "requests", "request", 1, 1_000_000),
        ];
        for (text, unit, measure, measure_units, units) in rows {
            let per: Per = text.parse().expect(text);
            assert_eq!((per.unit.as_str(), per.measure.as_str()), (unit, measure), "{text}");
            assert_eq!((per.measure_units, per.units), (measure_units, units), "{text}");
        }
    }

    #[test]
    fn what_is_no_unit_is_refused_with_examples() {
        let wrong = [
            "",
            "-",
            "hour",
            "vcpu",
            "vcpu-",
            "vcpu-month",
            "vcpu-0hours",
            "vcpu-1.5hours",
            "memory-hour",
            "memory-gib-hour",
            "vcpu-GiB-hour",
            "VCPU-hour",
            "memory-GiB-GiB-hour",
            "vcpu-99999999999hours",
            "disk-GB",
            "vcpu-GB",
            "network-in-gb",
            "network--GB",
            "network-in-0GB",
            "0requests",
            "1000",
            "reqests",
        ];
        for text in wrong {
            let error = text.parse::<Per>().expect_err(text);
            assert!(error.to_string().contains("disk-GB-30days"), "{error}");
        }
        assert!(format!("{}-hour", "a".repeat(90)).parse::<Per>().is_err());
    }
}
