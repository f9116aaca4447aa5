//! Time as integers: nanoseconds on the meter scale.

use std::fmt;

/// A point on the meter clock: nanoseconds since the Unix epoch, never stepping, never running
/// backwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Instant(pub i64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Nanos(pub u64);

impl Instant {
    /// The time from `earlier` to `self`; `None` if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Option<Nanos> {
        let delta = i128::from(self.0) - i128::from(earlier.0);
        u64::try_from(delta).ok().map(Nanos)
    }

    /// The instant `nanos` later; `None` past the end of the scale.
    pub fn after(self, nanos: Nanos) -> Option<Instant> {
        self.0.checked_add_unsigned(nanos.0).map(Instant)
    }
}

impl Nanos {
    /// Whole milliseconds, truncated. Only answers to clients use it, once, on a finished sum.
    pub fn as_millis_truncated(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// Units of lengths of time, longest names first.
const UNITS_NS: [(&str, u64); 7] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

/// Parses a length of time such as `60s`, `10ms` or `1h30m` into nanoseconds; `None` for anything
/// else. Every number needs its unit.
pub fn duration_ns(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let (unit, unit_ns) = UNITS_NS.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        let part = number.parse::<u64>().ok()?.checked_mul(unit_ns)?;
        nanos = nanos.checked_add(part)?;
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then_some(nanos)
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

/// Exact seconds with nine decimals, such as `3.000000001 s`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        f.pad_integral(true, "", &text)
    }
}
