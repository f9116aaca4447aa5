//! Quantities without a price: how long each instance was in each phase, and how much of what it held.

use super::line::{USAGE, add};
use super::meter::phase_name;
use super::plan::{Run, malformed, runs};
use super::text::{Text, bytes, decimal, join};
use crate::columns::counted_as;
use crate::{IntervalColumns, Phase, Policy, RatingError, Request, Statement};

/// What is measured: the meter's name, its unit, and the dimension that time is multiplied with.
const METERS: [(&str, &str, Option<&str>); 3] =
    [(MEMORY, "memory-byte-ns", Some("memory-bytes")), ("time", "ns", None), ("vcpu-time", "vcpu-ns", Some("vcpus"))];
const MEMORY: &str = "memory-time";
const SECOND_NS: u128 = 1_000_000_000;
const HOUR_S: u128 = 3_600;

/// The phases by their names, as the lines of a meter come.
const BY_NAME: [Phase; 8] = [
    Phase::Created,
    Phase::Initializing,
    Phase::Paused,
    Phase::Running,
    Phase::Shutdown,
    Phase::Standby,
    Phase::Stopped,
    Phase::Unknown,
];

struct Sum {
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
    stated(request, &counted_as::<P>())
}

fn stated(request: &Request, counted: &[u8; 8]) -> Result<Statement, RatingError> {
    let mut lines = Vec::new();
    for run in runs(request)? {
        for &(meter, unit, dimension) in &METERS {
            let held = request.intervals.dimensions.iter().find(|held| Some(held.name.as_str()) == dimension);
            if held.is_none() && dimension.is_some() {
                continue;
            }
            let amounts = held.map(|held| held.values.as_slice());
            for &phase in &BY_NAME {
                let sum = sum(&request.intervals, run, amounts, counted, phase)?;
                if !sum.intervals.is_empty() {
                    let line = add(&mut lines, USAGE, phase_name(phase), meter, unit);
                    line.subject = Some(run.subject);
                    line.quantity = sum.quantity.into();
                    line.billed = line.quantity;
                    line.description = explain(meter, phase_name(phase), &sum);
                    line.intervals = sum.intervals;
                }
            }
        }
    }
    Ok(Statement { lines, carried: request.carried.clone() })
}

/// What an instance has used in a phase; `amounts` is how much each interval held, none where time alone is measured.
fn sum(
    columns: &IntervalColumns,
    run: Run,
    amounts: Option<&[u64]>,
    counted: &[u8; 8],
    phase: Phase,
) -> Result<Sum, RatingError> {
    let mut sum = Sum { intervals: Vec::new(), quantity: 0, time_ns: 0, held: Held::Nothing };
    for index in run.start..run.end {
        let counts_as = *counted.get(usize::from(columns.phase[index])).ok_or_else(malformed)?;
        if counts_as != phase as u8 {
            continue;
        }
        let amount = amounts.map(|amounts| amounts[index]);
        let held = amount.map_or(Held::Nothing, Held::Always);
        sum.held = if sum.intervals.is_empty() { held } else { sum.held.and(held) };
        sum.intervals.push(u32::try_from(index).map_err(|_| RatingError::Overflow)?);
        let length = u128::from(columns.end[index].wrapping_sub(columns.start[index]).cast_unsigned());
        // A request has less than 2^32 intervals, each shorter than 2^64 ns: it fits.
        sum.time_ns += length;
        let quantity = length * u128::from(amount.unwrap_or(1));
        sum.quantity = sum.quantity.checked_add(quantity).ok_or(RatingError::Overflow)?;
    }
    Ok(sum)
}

const UNPRICED: &str = ", not priced (no price book)";

/// What was measured, as a person reads it: what was held for how long, that by the second, and that by the hour.
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
            let sum = Sum { intervals: Vec::new(), quantity: amount * time_ns, time_ns, held };
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
