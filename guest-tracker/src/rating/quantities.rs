//! Quantities without a price: how long each instance was in each phase, and how much of what it held.

use super::line::{USAGE, blank};
use super::meter::{phase, phase_name};
use super::text::{Text, bytes, decimal, join};
use crate::{ChargeLine, IntervalColumns, Phase, Policy, RatingError, Request, Statement};

/// What is measured: the meter's name, its unit, and the dimension that time is multiplied with.
const METERS: [(&str, &str, Option<&str>); 3] =
    [(MEMORY, "memory-byte-ns", Some("memory-bytes")), ("time", "ns", None), ("vcpu-time", "vcpu-ns", Some("vcpus"))];
const MEMORY: &str = "memory-time";
const SECOND_NS: u128 = 1_000_000_000;
const HOUR_S: u128 = 3_600;

/// Charge lines come sorted by this.
type Key = (u32, &'static str, &'static str);

struct Sum {
    unit: &'static str,
    intervals: Vec<u32>,
    quantity: u128,
    time_ns: u128,
    held: Held,
}

/// How much of a dimension was held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Time alone is measured.
    Nothing,
    /// The same all the time.
    Always(u64),
    /// Now this much, now that.
    Changing,
}

impl Held {
    fn and(self, more: Self) -> Self {
        if self == more { self } else { Self::Changing }
    }
}

/// One line for each subject, meter and counted phase, at no price.
pub(crate) fn quantities<P: Policy + ?Sized>(request: &Request) -> Result<Statement, RatingError> {
    let mut sums: Vec<(Key, Sum)> = Vec::new();
    for (meter, unit, dimension) in METERS {
        let Some(amounts) = amounts(&request.intervals, dimension) else { continue };
        for index in 0..request.intervals.subject.len() {
            let (subject, phase, length) = interval(&request.intervals, index)?;
            let amount = amounts.map(|values| values.get(index).copied().ok_or_else(malformed)).transpose()?;
            let held = amount.map_or(Held::Nothing, Held::Always);
            let sum = entry(&mut sums, (subject, meter, phase_name(P::counts_as(phase))), unit, held);
            sum.intervals.push(u32::try_from(index).map_err(|_| RatingError::Overflow)?);
            sum.held = sum.held.and(held);
            // A request has less than 2^32 intervals, each shorter than 2^64 ns: it fits.
            sum.time_ns += u128::from(length);
            let quantity = u128::from(length) * u128::from(amount.unwrap_or(1));
            sum.quantity = sum.quantity.checked_add(quantity).ok_or(RatingError::Overflow)?;
        }
    }
    let mut lines = Vec::new();
    for (key, sum) in sums {
        lines.push(line(key, sum));
    }
    Ok(Statement { lines, carried: request.carried.clone() })
}

/// The sum of that key; the list stays sorted.
fn entry<'a>(sums: &'a mut Vec<(Key, Sum)>, key: Key, unit: &'static str, held: Held) -> &'a mut Sum {
    let place = sums.binary_search_by(|(of, _)| of.cmp(&key)).unwrap_or_else(|place| {
        sums.insert(place, (key, Sum { unit, intervals: Vec::new(), quantity: 0, time_ns: 0, held }));
        place
    });
    &mut sums[place].1
}

/// `Some(None)` where every interval counts once, `None` where the dimension is not in the request.
fn amounts<'a>(intervals: &'a IntervalColumns, dimension: Option<&str>) -> Option<Option<&'a [u64]>> {
    match dimension {
        None => Some(None),
        Some(name) => {
            intervals.dimensions.iter().find(|held| held.name == name).map(|held| Some(held.values.as_slice()))
        }
    }
}

fn interval(intervals: &IntervalColumns, index: usize) -> Result<(u32, Phase, u64), RatingError> {
    let at = |list: &[i64]| list.get(index).copied().ok_or_else(malformed);
    let length = crate::tracker::elapsed(at(&intervals.start)?, at(&intervals.end)?).ok_or_else(malformed)?;
    let subject = intervals.subject.get(index).copied().ok_or_else(malformed)?;
    let ordinal = intervals.phase.get(index).copied().ok_or_else(malformed)?;
    Ok((subject, phase(ordinal).ok_or_else(malformed)?, length))
}

const UNPRICED: &str = ", not priced (no price book)";

/// What was measured, as a person reads it: what was held for how long, that by the second, and that by the hour.
#[inline(never)]
fn explain(meter: &str, phase: &str, sum: &Sum) -> String {
    let mut text = Text::default();
    let is_memory = meter == MEMORY;
    let held = match sum.held {
        Held::Nothing => {
            text.add(phase).add(": ").clock_time(sum.time_ns).add(UNPRICED);
            return text.into_string();
        }
        Held::Always(amount) if is_memory => bytes(amount),
        Held::Always(amount) => decimal(amount.into(), 0),
        Held::Changing => join(&["changing"]),
    };
    let (what, second, hour) = if is_memory {
        ("memory", " GiB*s, / 3,600 = ", " GiB*h")
    } else {
        ("vcpus", " vcpu*s, / 3,600 = ", " vcpu*h")
    };
    let per_second = if is_memory { SECOND_NS << 30 } else { SECOND_NS };
    text.add(what).add(" while ").add(phase).add(": ").add(&held).add(" for ").clock_time(sum.time_ns).add(" = ");
    text.fraction(sum.quantity, per_second).add(second).fraction(sum.quantity, per_second * HOUR_S).add(hour);
    text.add(UNPRICED);
    text.into_string()
}

fn line((subject, meter, rule): Key, sum: Sum) -> ChargeLine {
    let mut line = blank(USAGE, rule, meter, sum.unit);
    line.subject = Some(subject);
    line.quantity = sum.quantity.into();
    line.billed = line.quantity;
    line.description = explain(meter, rule, &sum);
    line.intervals = sum.intervals;
    line
}

fn malformed() -> RatingError {
    RatingError::Other("the columns of the intervals do not fit together".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_price_is_told_in_units_that_people_know() {
        let hour = 3_600 * SECOND_NS;
        let rows = [
            (
                MEMORY,
                128 << 20,
                Held::Always(128 << 20),
                3 * hour + 2 * 60 * SECOND_NS,
                "memory while running: 128 MiB for 3 h 2 min = 1,365 GiB*s, / 3,600 = 0.379166666... GiB*h, not priced (no price book)",
            ),
            (
                MEMORY,
                1 << 30,
                Held::Changing,
                hour,
                "memory while running: changing for 1 h = 3,600 GiB*s, / 3,600 = 1 GiB*h, not priced (no price book)",
            ),
            (
                "vcpu-time",
                2,
                Held::Always(2),
                hour / 2,
                "vcpus while running: 2 for 30 min = 3,600 vcpu*s, / 3,600 = 1 vcpu*h, not priced (no price book)",
            ),
            ("time", 1, Held::Nothing, hour + 1_500_000_000, "running: 1 h 1.5 s, not priced (no price book)"),
        ];
        for (meter, amount, held, time_ns, expected) in rows {
            let sum = Sum { unit: "", intervals: Vec::new(), quantity: amount * time_ns, time_ns, held };
            assert_eq!(explain(meter, "running", &sum), expected);
        }
    }

    #[test]
    fn what_is_held_is_told_as_long_as_it_stays_the_same() {
        let (one, two) = (Held::Always(1), Held::Always(2));
        assert!(one.and(one) == one && one.and(two) == Held::Changing && Held::Changing.and(one) == Held::Changing);
        assert!(Held::Nothing.and(Held::Nothing) == Held::Nothing);
    }
}
