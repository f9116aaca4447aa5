//! Quantities without a price: how long each instance was in each phase, and how much of what it held.

use super::meter::{phase, phase_name};
use super::text::join;
use crate::{ChargeLine, IntervalColumns, Phase, Policy, RatingError, Ratio, Request, Statement};

/// What is measured: the meter's name, its unit, and the dimension that time is multiplied with.
const METERS: [(&str, &str, Option<&str>); 3] = [
    ("memory-time", "memory-byte-ns", Some("memory-bytes")),
    ("time", "ns", None),
    ("vcpu-time", "vcpu-ns", Some("vcpus")),
];

/// Charge lines come sorted by this.
type Key = (u32, &'static str, &'static str);

struct Sum {
    unit: &'static str,
    intervals: Vec<u32>,
    quantity: u128,
}

/// One line for each subject, meter and counted phase, at no price.
pub(crate) fn quantities<P: Policy + ?Sized>(request: &Request) -> Result<Statement, RatingError> {
    let mut sums: Vec<(Key, Sum)> = Vec::new();
    for (meter, unit, dimension) in METERS {
        let Some(amounts) = amounts(&request.intervals, dimension) else { continue };
        for index in 0..request.intervals.subject.len() {
            let (subject, phase, length) = interval(&request.intervals, index)?;
            let sum = entry(&mut sums, (subject, meter, phase_name(P::counts_as(phase))), unit);
            sum.intervals.push(u32::try_from(index).map_err(|_| RatingError::Overflow)?);
            let amount = amounts.map_or(Ok(1), |values| values.get(index).copied().ok_or_else(malformed))?;
            let quantity = u128::from(length) * u128::from(amount);
            sum.quantity = sum.quantity.checked_add(quantity).ok_or(RatingError::Overflow)?;
        }
    }
    Ok(Statement { lines: sums.into_iter().map(line).collect(), carried: request.carried.clone() })
}

/// The sum of that key; the list stays sorted.
fn entry<'a>(sums: &'a mut Vec<(Key, Sum)>, key: Key, unit: &'static str) -> &'a mut Sum {
    let place = sums.binary_search_by(|(of, _)| of.cmp(&key)).unwrap_or_else(|place| {
        sums.insert(place, (key, Sum { unit, intervals: Vec::new(), quantity: 0 }));
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

fn line(((subject, meter, rule), sum): (Key, Sum)) -> ChargeLine {
    ChargeLine {
        kind: "usage".into(),
        rule: rule.into(),
        meter: meter.into(),
        subject: Some(subject),
        intervals: sum.intervals,
        starts: Vec::new(),
        ends: Vec::new(),
        sessions: Vec::new(),
        quantity: sum.quantity.into(),
        billed: sum.quantity.into(),
        unit: sum.unit.into(),
        price_id: String::new(),
        tier: 0,
        price: Ratio::new(0, 1),
        amount: 0.into(),
        remainder: 0.into(),
        description: join(&[rule, ", in ", sum.unit]),
    }
}

fn malformed() -> RatingError {
    RatingError::Other("the columns of the intervals do not fit together".into())
}
