//! What a statement must keep before the host believes it, and the words it is written in.

use std::collections::HashSet;

use super::fault::Fault;

pub use super::bindings::exports::tallyman::policy::rating::{
    CalendarOffset, ChargeLine, Dimension, IntervalColumns, Price, PriceBook, Request, Statement, Subject, Tier, Zone,
    ZoneTransition,
};
pub use super::bindings::tallyman::policy::types::{Ratio, S128Words, Setting, Span, U128Words};

/// How a line of a statement breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A line points at a subject that was not sent.
    #[error("subject {0} was not in the request")]
    Subject(u32),
    /// A line points at an interval that was not sent.
    #[error("interval {0} was not in the request")]
    Interval(u32),
    /// A meter charges an interval a second time.
    #[error("meter '{meter}' charges interval {interval} twice")]
    Twice {
        /// Which meter.
        meter: String,
        /// Which interval.
        interval: u32,
    },
    /// A line without a price has an amount.
    #[error("an amount without a price")]
    Unpriced,
    /// A line names a price that the book does not have.
    #[error("the book has no price '{0}'")]
    Price(String),
    /// `amount * denominator + remainder` is not `billed * numerator`.
    #[error("amount and remainder do not follow from quantity and price")]
    Amount,
}

/// Checks every line.
pub(super) fn check(request: &Request, statement: &Statement) -> Result<(), Fault> {
    let mut charged = HashSet::new();
    for (number, line) in statement.lines.iter().enumerate() {
        check_line(request, line, &mut charged).map_err(|violation| Fault::Charge { line: number, violation })?;
    }
    Ok(())
}

fn check_line<'a>(
    request: &Request,
    line: &'a ChargeLine,
    charged: &mut HashSet<(&'a str, u32)>,
) -> Result<(), Violation> {
    if let Some(subject) = line.subject.filter(|&subject| subject as usize >= request.subjects.len()) {
        return Err(Violation::Subject(subject));
    }
    for &interval in &line.intervals {
        if interval as usize >= request.intervals.subject.len() {
            return Err(Violation::Interval(interval));
        }
        if !charged.insert((&line.meter, interval)) {
            return Err(Violation::Twice { meter: line.meter.clone(), interval });
        }
    }
    check_amount(request, line)
}

fn check_amount(request: &Request, line: &ChargeLine) -> Result<(), Violation> {
    let (amount, remainder) = (signed(line.amount), signed(line.remainder));
    if line.price_id.is_empty() {
        return if (amount, remainder) == (0, 0) { Ok(()) } else { Err(Violation::Unpriced) };
    }
    if !request.book.prices.iter().any(|price| price.id == line.price_id) {
        return Err(Violation::Price(line.price_id.clone()));
    }
    let follows = || {
        let denominator = i128::try_from(unsigned(line.price.denominator)).ok().filter(|&value| value > 0)?;
        let billed = i128::try_from(unsigned(line.billed)).ok()?;
        let exact = billed.checked_mul(signed(line.price.numerator))?;
        let stated = amount.checked_mul(denominator)?.checked_add(remainder)?;
        Some(exact == stated && remainder.unsigned_abs() < denominator.unsigned_abs())
    };
    if follows() == Some(true) { Ok(()) } else { Err(Violation::Amount) }
}

fn unsigned(words: U128Words) -> u128 {
    (u128::from(words.upper) << 64) | u128::from(words.lower)
}

fn signed(words: S128Words) -> i128 {
    (i128::from(words.upper) << 64) | i128::from(words.lower)
}
