//! Checks at the time of a change: a book or policy that could not be billed with the tenant's
//! other rules is refused when it is set, not when the period is closed.

use std::collections::BTreeMap;

use biller::book::Book;
use biller::currency::Currency;
use biller::output::AdjustmentKind;

use super::InvoiceError;
use super::difference::{adjustment_name, utc_text};
use super::document::Invoice;
use super::period::Period;
use super::usage::INITIALIZING_MAX;
use super::view::View;
use crate::billing::calendar::Calendar;
use crate::id::Digest;
use crate::mutants::money::Mutant;
use crate::policy::SHIPPED;
use crate::policy::metering::{Description, OptionKind};
use crate::units::Instant;

/// Units that the host measures: time, dimensions of the shape times time, counts.
const UNITS: [&str; 7] = [
    "ns",
    "vcpu-ns",
    "memory-byte-ns",
    "disk-byte-ns",
    "snapshot-byte-ns",
    "network-in-bytes",
    "network-out-bytes",
];

/// A reason why a book or a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The change would take effect before now.
    #[error("at: {0} is past; rules change now or later (leave `at` out for now)")]
    Past(String),
    /// A price charges a meter that a policy does not have.
    #[error("price '{price}': meter '{meter}' is not one of policy {policy}, which has {known}")]
    Meter {
        /// The price.
        price: String,
        /// The price's meter.
        meter: String,
        /// A policy that is in force in the price's time.
        policy: String,
        /// The policy's meters.
        known: String,
    },
    /// A price charges a unit that is not measured.
    #[error("price '{price}': nothing is measured in '{unit}'; measured are {known}")]
    Unit {
        /// The price.
        price: String,
        /// The price's unit.
        unit: String,
        /// The units that are measured.
        known: String,
    },
    /// An id of an adjustment could be that of a one-off.
    #[error(
        "adjustment '{id}': ids that begin with `charge:` or `goodwill:` are those of one-offs"
    )]
    Reserved {
        /// The id.
        id: String,
    },
    /// An amount belongs to an instant to come.
    #[error("at: {0} is to come; an amount is charged or given now, or for a time before")]
    ToCome(String),
    /// An amount belongs to time without a book.
    #[error("at: no price book is in force at {0}, so that nothing is billed there")]
    NoBook(String),
    /// An amount belongs to time after the tenant's end.
    #[error("at: the tenant ended at {0}, and nothing is billed after; give an instant before it")]
    Ended(String),
    /// An amount belongs to time before the tenant's first period.
    #[error("at: the tenant's first period begins at {0}; give an instant from there on")]
    BeforeFirst(String),
    /// A period would have two currencies.
    #[error(
        "the period from {from} to {until} would be billed in {one} and in {other}; a currency \
         changes at a border: change or withdraw the book of one of them first"
    )]
    TwoCurrencies {
        /// Begin of the period.
        from: String,
        /// Its end.
        until: String,
        /// A currency.
        one: String,
        /// The other one.
        other: String,
    },
    /// An amount is in another currency than its period.
    #[error("currency: the book in force is in {known}, and {named} was named; leave it out")]
    OtherCurrency {
        /// The currency of the book.
        known: String,
        /// The other one.
        named: String,
    },
    /// An amount that can't be paid in coins.
    #[error(
        "amount: {amount} can't be paid in {currency}; give more than 0, with at most {digits} \
         digits after the point"
    )]
    Amount {
        /// The amount.
        amount: String,
        /// The currency.
        currency: String,
        /// Digits of its coins.
        digits: u8,
    },
    /// An option that the policy does not have, or a value that it does not accept.
    #[error("option '{name}': {problem}")]
    Option {
        /// The option.
        name: String,
        /// The reason, with what is valid.
        problem: String,
    },
    /// The currency would change inside a period.
    #[error(
        "currency: the period to {until} is billed in {known}; \
         {named} can begin at that border (`at`)"
    )]
    Currency {
        /// The currency in force.
        known: String,
        /// The new one.
        named: String,
        /// The border.
        until: String,
    },
    /// A credit has another amount or currency than before.
    #[error("adjustment '{id}': the credit was granted as {known}; a new amount needs a new id")]
    Credit {
        /// The grant.
        id: String,
        /// The grant's amount and currency.
        known: String,
    },
    /// An id stands for another kind of adjustment than before.
    #[error(
        "adjustment '{id}': the id stands for a {known} in another book; \
         another kind needs a new id"
    )]
    Kind {
        /// The id.
        id: String,
        /// The kind that the id stands for.
        known: &'static str,
    },
}

/// The description of a policy, by its digest.
pub(super) type Describe<'a> = &'a dyn Fn(Digest) -> Result<Description, InvoiceError>;

/// Checks a book that is to be in force in a span: against every policy of that time (meters,
/// units, options), and against the tenant's other books: an adjustment keeps its kind, a credit
/// its amount, and the currency changes at a period's border only.
///
/// # Errors
/// The inner one says why the book is refused; the outer one, that a policy or a book can't be
/// read.
pub(super) fn check_book(
    view: &View,
    book: &Book,
    span: (Instant, Instant),
    standard: Digest,
    describe: Describe<'_>,
    others: &[Book],
) -> Result<Result<(), Refusal>, InvoiceError> {
    if let Err(refusal) = check_units(book) {
        return Ok(Err(refusal));
    }
    let checked = check_span(view, book, span, standard, describe)?;
    Ok(checked.and_then(|()| check_adjustments(book, others.iter())))
}

/// Checks a policy with its options that is to hold from `from` on, against every book that is in
/// force while it holds.
///
/// # Errors
/// [`Refusal`].
pub fn check_policy(
    view: &View,
    (policy, description): (Digest, &Description),
    options: &[(String, String)],
    from: Instant,
    books: &[(Instant, Book)],
) -> Result<(), Refusal> {
    check_options(description, options)?;
    for (place, (start, book)) in books.iter().enumerate() {
        let end = books.get(place + 1).map_or(i64::MAX, |(next, _)| view.calendar.utc_ns(*next));
        let start = view.calendar.utc_ns((*start).max(from));
        if start < end {
            let name = view.naming.policy(policy);
            check_meters(book, (policy, name), description, (start, end))?;
        }
    }
    Ok(())
}

/// Checks a book and a policy that are to hold together for all time: units, options, and the
/// meters of all prices.
///
/// # Errors
/// [`Refusal`].
pub fn check_together(
    book: &Book,
    (policy, description): (Digest, &Description),
    options: &[(String, String)],
) -> Result<(), Refusal> {
    check_units(book)?;
    check_adjustments(book, std::iter::empty())?;
    check_options(description, options)?;
    check_meters(book, (policy, None), description, (i64::MIN, i64::MAX))
}

/// Checks the options of an activation against those that its policy declares.
///
/// # Errors
/// [`Refusal::Option`].
pub fn check_options(
    description: &Description,
    options: &[(String, String)],
) -> Result<(), Refusal> {
    for (name, value) in options {
        let refused = |problem: String| Refusal::Option { name: name.clone(), problem };
        if name == INITIALIZING_MAX {
            let known = crate::units::duration_ns(value);
            known.ok_or_else(|| {
                refused(format!("'{value}' is not a length of time; write it like 10m"))
            })?;
            continue;
        }
        let known = description.options.iter().find(|option| option.name == *name);
        let option = known.ok_or_else(|| {
            let mut names: Vec<_> =
                description.options.iter().map(|option| option.name.as_str()).collect();
            names.push(INITIALIZING_MAX);
            refused(format!("the policy has no such option; it has {}", names.join(", ")))
        })?;
        match &option.kind {
            OptionKind::Text => {}
            OptionKind::Duration if crate::units::duration_ns(value).is_some() => {}
            OptionKind::Duration => {
                return Err(refused(format!(
                    "'{value}' is not a length of time; write it like 60s, 10ms or 1h"
                )));
            }
            OptionKind::Choice(words) if words.contains(value) => {}
            OptionKind::Choice(words) => {
                return Err(refused(format!("'{value}' is not one of {}", words.join(", "))));
            }
        }
    }
    Ok(())
}

/// Refuses a change for an instant that is past.
///
/// # Errors
/// [`Refusal::Past`].
pub(super) fn check_instant(
    calendar: &Calendar,
    at: Option<Instant>,
    now: Instant,
) -> Result<(), Refusal> {
    match at.filter(|&at| at < now && !Mutant::PastIsNow.is_active()) {
        Some(at) => Err(Refusal::Past(utc_text(calendar, at))),
        None => Ok(()),
    }
}

fn check_units(book: &Book) -> Result<(), Refusal> {
    let unknown = book.prices().iter().find(|price| !UNITS.contains(&price.per.unit.as_str()));
    match unknown {
        None => Ok(()),
        Some(price) => Err(Refusal::Unit {
            price: price.id.clone(),
            unit: price.per.unit.clone(),
            known: UNITS.join(", "),
        }),
    }
}

/// A policy by its name, or that under which it is shipped, and the beginning of its digest.
fn called(policy: Digest, name: Option<&str>) -> String {
    let short: String = policy.to_string().chars().take(12).collect();
    let shipped = || SHIPPED.iter().find(|(_, digest)| *digest == policy.0).map(|(name, _)| *name);
    match name.or_else(shipped) {
        Some(name) => format!("{name} ({short})"),
        None => short,
    }
}

/// Checks the meters of the prices that are valid in a span of the calendar.
fn check_meters(
    book: &Book,
    (policy, name): (Digest, Option<&str>),
    description: &Description,
    utc: (i64, i64),
) -> Result<(), Refusal> {
    if Mutant::MeetingSkipped.is_active() {
        return Ok(());
    }
    let valid =
        book.prices().iter().filter(|price| price.valid.start < utc.1 && utc.0 < price.valid.end);
    for price in valid {
        if !description.meters.iter().any(|meter| meter.name == price.meter) {
            let names: Vec<_> =
                description.meters.iter().map(|meter| meter.name.as_str()).collect();
            return Err(Refusal::Meter {
                price: price.id.clone(),
                meter: price.meter.clone(),
                policy: called(policy, name),
                known: names.join(", "),
            });
        }
    }
    Ok(())
}

/// Refuses another amount for the id of a credit, and another kind for that of any adjustment: both
/// are bound to the id for ever.
fn check_adjustments<'a>(
    book: &Book,
    others: impl Iterator<Item = &'a Book>,
) -> Result<(), Refusal> {
    let mut known = BTreeMap::new();
    for other in others {
        for one in other.adjustments() {
            known.insert(one.id.as_str(), (one, other.currency()));
        }
    }
    for one in book.adjustments() {
        if one.id.starts_with("charge:") || one.id.starts_with("goodwill:") {
            return Err(Refusal::Reserved { id: one.id.clone() });
        }
        let Some((before, currency)) = known.get(one.id.as_str()) else { continue };
        let id = one.id.clone();
        if before.kind != one.kind {
            return Err(Refusal::Kind { id, known: adjustment_name(before.kind) });
        }
        let is_same = (before.amount, *currency) == (one.amount, book.currency());
        if one.kind == AdjustmentKind::Credit && !is_same {
            let amount = crate::billing::decimal::Decimal::nanos(before.amount);
            return Err(Refusal::Credit { id, known: format!("{amount} {currency}") });
        }
    }
    Ok(())
}

/// The currency of a book, by its digest.
pub(super) type CurrencyOf<'a> = &'a dyn Fn(Digest) -> Result<Currency, InvoiceError>;

/// Refuses rules under which a period would have two currencies: books that hold in it one after
/// the other, or its documents and a book. Periods that end before `from` are left as they are.
/// `added` is the currency of the book that is to be set, if there is one.
pub(super) fn check_currencies(
    view: &View,
    from: Instant,
    currency_of: CurrencyOf<'_>,
    added: Option<Currency>,
) -> Result<Result<(), Refusal>, InvoiceError> {
    let spans = view.rules.books((Instant(i64::MIN), Instant(i64::MAX)));
    let mut held = Vec::with_capacity(spans.len());
    for span in &spans {
        held.push((span.start, span.end, currency_of(span.book)?));
    }
    let changes = held.windows(2).filter(|two| two[0].2 != two[1].2).map(|two| two[1].0);
    let changes: Vec<Instant> = changes.chain([from]).filter(|&at| at >= from).collect();
    let billed = view.documents.iter().map(Invoice::until);
    let Some(last) = changes.into_iter().chain(billed).max() else { return Ok(Ok(())) };
    let periods = view.periods(Instant(last.0.saturating_add(1)))?;
    for period in periods.into_iter().filter(|period| period.end > from) {
        let billed = view.of(&period).iter().find_map(|document| document.currency.clone());
        let (start, end) = view.own(&period);
        let inside = held.iter().filter(|(since, until, _)| *since < end && start < *until);
        let mut currencies: Vec<String> = billed.into_iter().collect();
        currencies.extend(inside.map(|(_, _, currency)| currency.code().to_owned()));
        currencies.dedup();
        if let [one, other, ..] = currencies.as_slice() {
            return Ok(Err(two_currencies(view, &period, (one, other), added)));
        }
    }
    Ok(Ok(()))
}

fn two_currencies(
    view: &View,
    period: &Period,
    (one, other): (&str, &str),
    added: Option<Currency>,
) -> Refusal {
    let until = utc_text(&view.calendar, period.end);
    match added.map(Currency::code).filter(|named| *named == other) {
        Some(named) => Refusal::Currency { known: one.into(), named: named.into(), until },
        None => Refusal::TwoCurrencies {
            from: utc_text(&view.calendar, period.start),
            until,
            one: one.into(),
            other: other.into(),
        },
    }
}

/// Refuses rules under which a price of a book has a meter that the policy of its time does not
/// have.
pub(super) fn check_meetings(
    view: &View,
    (from, until): (Instant, Instant),
    standard: Digest,
    describe: Describe<'_>,
    book_of: &dyn Fn(Digest) -> Result<Book, InvoiceError>,
) -> Result<Result<(), Refusal>, InvoiceError> {
    for held in view.rules.books((from, until)) {
        let book = book_of(held.book)?;
        let checked = check_span(view, &book, (held.start, held.end), standard, describe)?;
        if checked.is_err() {
            return Ok(checked);
        }
    }
    Ok(Ok(()))
}

fn check_span(
    view: &View,
    book: &Book,
    span: (Instant, Instant),
    standard: Digest,
    describe: Describe<'_>,
) -> Result<Result<(), Refusal>, InvoiceError> {
    for span in view.rules.policies(span, standard) {
        let Some(policy) = span.asked else { continue };
        let utc = (view.calendar.utc_ns(span.start), view.calendar.utc_ns(span.end));
        let named = (policy, view.naming.policy(policy));
        if let Err(refusal) = check_meters(book, named, &describe(policy)?, utc) {
            return Ok(Err(refusal));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::money::is_found;
    use crate::policy::metering::{MeterDescription, Stretch};

    const METERS: [&str; 4] = ["active", "allocated", "activ", "running"];
    const HOUR: i64 = 3_600_000_000_000;

    /// A price of a meter, by its place, from an hour on for some hours.
    type Price = (usize, i64, i64);

    fn book(prices: &[Price]) -> Book {
        let hour = |hour: i64| utc_text(&Calendar::default(), Instant(hour * HOUR));
        let price = |(number, &(meter, from, hours)): (usize, &Price)| {
            serde_json::json!({
                "id": format!("p{number}"), "rule": format!("r{number}"), "meter": METERS[meter],
                "per": "instance-hour", "price": "1",
                "from": hour(from), "until": hour(from + hours),
            })
        };
        let prices: Vec<_> = prices.iter().enumerate().map(price).collect();
        let text = serde_json::json!({"currency": "EUR", "prices": prices}).to_string();
        Book::parse(text.as_bytes(), |_| true).expect("a book")
    }

    fn with_meters(count: usize) -> Description {
        let meter = |name: &&str| MeterDescription {
            name: (*name).into(),
            counts: "time".into(),
            stretch: Stretch::Start,
        };
        let meters = METERS[..count].iter().map(meter).collect();
        Description { meters, options: Vec::new(), billed_ratio: 1_000 }
    }

    #[test]
    fn a_book_is_refused_where_a_price_meets_a_policy_without_its_meter() {
        // Prices of different meters may be of one rule no more than once.
        let prices = proptest::collection::vec((0..4_usize, 0..50_i64, 1..20_i64), 0..5);
        let cases = (prices, 1..5_usize, 0..50_i64, 1..30_i64);
        let holds = |(prices, meters, from, hours): &(Vec<Price>, usize, i64, i64)| {
            let utc = (from * HOUR, (from + hours) * HOUR);
            let description = with_meters(*meters);
            let checked = check_meters(&book(prices), (Digest([1; 32]), None), &description, utc);
            let meets = |&(meter, start, length): &Price| {
                meter >= *meters && start < from + hours && *from < start + length
            };
            checked.is_err() == prices.iter().any(meets)
        };
        assert!(is_found(Mutant::MeetingSkipped, &cases, holds));
    }

    #[test]
    fn a_change_for_a_past_instant_is_refused() {
        let cases = (proptest::option::of(-5..5_i64), -5..5_i64);
        let holds = |&(at, now): &(Option<i64>, i64)| {
            let checked = check_instant(&Calendar::default(), at.map(Instant), Instant(now));
            checked.is_err() == at.is_some_and(|at| at < now)
        };
        assert!(is_found(Mutant::PastIsNow, &cases, holds));
    }
}
