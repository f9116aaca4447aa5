//! What a price is for: `vcpu-hour`, `memory-GiB-second`, `disk-GB-30days`, `instance-hour`.

use std::str::FromStr;

/// A unit that people price, taken apart into what the journal counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Per {
    /// The unit of quantity: `ns`, or a dimension in the singular and `-ns`.
    pub unit: String,
    /// The unit that people count in, such as `vcpu*s` or `GiB*s`.
    pub measure: String,
    /// How many of `unit` make one of `measure`.
    pub measure_units: u128,
    /// How many of `unit` the price is for.
    pub units: u128,
}

/// A text that is no such unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is nothing that a price can be for; write WHAT-TIME, such as vcpu-hour, instance-second, memory-GiB-hour, disk-GB-30days or \
     snapshot-GiB-730hours. WHAT is instance, vcpu, memory-, disk- or snapshot- and a unit of bytes, or the singular of another dimension; TIME is \
     second, minute, hour or day, with a whole number before it if it is not one"
)]
pub struct UnknownPer(pub String);

const SECOND_NS: u128 = 1_000_000_000;
const TIMES: [(&str, u128); 4] =
    [("second", SECOND_NS), ("minute", 60 * SECOND_NS), ("hour", 3_600 * SECOND_NS), ("day", 86_400 * SECOND_NS)];
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
/// Most bytes of a text.
const LENGTH_MAX: usize = 64;

impl FromStr for Per {
    type Err = UnknownPer;
    fn from_str(text: &str) -> Result<Self, UnknownPer> {
        let read = || {
            let (what, time) = text.rsplit_once('-').filter(|_| text.len() <= LENGTH_MAX)?;
            let time_ns = time_ns(time)?;
            let (unit, measure, each) = what_units(what)?;
            Some(Self { unit, measure, measure_units: each.checked_mul(SECOND_NS)?, units: each.checked_mul(time_ns)? })
        };
        read().ok_or_else(|| UnknownPer(text.chars().take(80).collect()))
    }
}

/// `hour`, `30days`.
fn time_ns(text: &str) -> Option<u128> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, name) = text.split_at(digits);
    let count: u128 = if count.is_empty() { 1 } else { count.parse::<u32>().ok()?.into() };
    let &(_, length) = TIMES.iter().find(|(time, _)| name == *time || name.strip_suffix('s') == Some(time))?;
    count.checked_mul(length).filter(|&nanos| nanos > 0)
}

/// The unit, what people call it for a second, and how many of the dimension one of what people price is.
fn what_units(what: &str) -> Option<(String, String, u128)> {
    if what == "instance" {
        return Some(("ns".into(), "s".into(), 1));
    }
    if let Some((dimension, bytes)) = what.split_once('-') {
        let is_bytes = BYTE_DIMENSIONS.contains(&dimension);
        let &(name, each) = BYTES.iter().find(|(name, _)| *name == bytes && is_bytes)?;
        return Some((format!("{dimension}-byte-ns"), format!("{name}*s"), each));
    }
    let is_word = !what.is_empty() && what.bytes().all(|c| c.is_ascii_lowercase()) && !BYTE_DIMENSIONS.contains(&what);
    is_word.then(|| (format!("{what}-ns"), format!("{what}*s"), 1))
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
            ("memory-GiB-hour", "memory-byte-ns", "GiB*s", (1 << 30) * SECOND_NS, (1 << 30) * 3_600 * SECOND_NS),
            ("disk-GB-30days", "disk-byte-ns", "GB*s", SECOND_NS * SECOND_NS, SECOND_NS * 30 * 86_400 * SECOND_NS),
            ("snapshot-B-1minute", "snapshot-byte-ns", "B*s", SECOND_NS, 60 * SECOND_NS),
            ("gpu-day", "gpu-ns", "gpu*s", SECOND_NS, 86_400 * SECOND_NS),
        ];
        for (text, unit, measure, measure_units, units) in rows {
            let per = Per { unit: unit.into(), measure: measure.into(), measure_units, units };
            assert_eq!(text.parse(), Ok(per), "{text}");
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
        ];
        for text in wrong {
            let error = text.parse::<Per>().expect_err(text);
            assert!(error.to_string().contains("disk-GB-30days"), "{error}");
        }
        assert!(format!("{}-hour", "a".repeat(90)).parse::<Per>().is_err());
    }
}
