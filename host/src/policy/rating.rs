//! What a statement must keep before the host believes it, and the words it is written in.
//!
//! A policy decides which time it charges and in which grain. It can't charge an instant twice on one meter, state another quantity than the
//! journal has, use another price than the book's or use it when it does not hold, or round as it likes.

use std::collections::HashMap;

use num_bigint::BigInt;
use num_integer::Integer;

use super::fault::Fault;
use super::hours::Hours;
use crate::limits::policy as limits;

pub use super::bindings::exports::tallyman::policy::rating::{
    Adjustment, CalendarOffset, ChargeLine, Dimension, IntervalColumns, Price, PriceBook, Request, Statement, Subject,
    Tier, Window, Zone, ZoneTransition,
};
pub use super::bindings::tallyman::policy::types::{Ratio, S128Words, Setting, Span, U128Words};

/// Unit of time alone.
const TIME: &str = "ns";
/// Unit of a tier's fee.
const ONCE: &str = "once";
/// Unit of an adjustment: nano-units of the currency.
const NANO: &str = "nano";
/// Digits after the point of a nano-unit.
const NANO_DIGITS: u8 = 9;

/// How a line of a statement breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A text is too long, or has characters that no line may have.
    #[error("its {what} has {bytes} bytes or control characters; at most {max} bytes of text are taken")]
    Text {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        max: usize,
    },
    /// A line of no kind that the contract knows.
    #[error("kind '{0}' is unknown; known are usage, once, reversal, minimum, cap, credit")]
    Kind(String),
    /// A line stands after one that belongs behind it.
    #[error("it is out of order: lines come by subject, meter and rule, then the adjustments as the book has them")]
    Order,
    /// A line points at a subject that was not sent.
    #[error("subject {0} was not in the request")]
    Subject(u32),
    /// A line points at an interval that was not sent.
    #[error("interval {0} was not in the request")]
    Interval(u32),
    /// A line of one subject covers an interval of another.
    #[error("interval {0} is another subject's")]
    ForeignInterval(u32),
    /// Intervals, or their pieces, are not what the contract asks for.
    #[error("its pieces are not ascending, not inside interval {0}, or not as many as its intervals")]
    Pieces(u32),
    /// A line that is not for use covers intervals.
    #[error("only a line of kind usage covers intervals")]
    Covers,
    /// A meter charges an interval a second time.
    #[error("meter '{meter}' charges interval {interval} twice in {unit}")]
    Twice {
        /// Which meter.
        meter: String,
        /// In which unit.
        unit: String,
        /// Which interval.
        interval: u32,
    },
    /// A quantity that the journal does not have.
    #[error("it states {stated} {unit} where the intervals held {measured}")]
    Quantity {
        /// What the lines say.
        stated: u128,
        /// What the intervals say.
        measured: u128,
        /// Of what.
        unit: String,
    },
    /// A line without a price has an amount.
    #[error("an amount without a price")]
    Unpriced,
    /// A line names a price that the book does not have.
    #[error("the book has no price or adjustment '{0}'")]
    Price(String),
    /// Rule, meter or unit are not those of the price that the line names.
    #[error("price '{0}' is for another rule, meter or unit")]
    OtherRule(String),
    /// A line names a tier that its price does not have, or uses another unit price than the tier's.
    #[error("the unit price is not that of tier {0}")]
    UnitPrice(u32),
    /// Another price holds at the time, or none.
    #[error("at {at} ns another price than '{price}' holds")]
    NotInForce {
        /// Which price the line has.
        price: String,
        /// When.
        at: i64,
    },
    /// Amount and remainder are not what quantity, price and rounding make.
    #[error("amount and remainder do not follow from quantity and price under the book's rounding")]
    Amount,
    /// An adjustment where none is due, or of another size than it can have.
    #[error("adjustment '{0}' is not what the book has")]
    Adjustment(String),
    /// More is carried than the contract allows.
    #[error("it carries {0} bytes; at most {max} are taken", max = limits::CARRIED_BYTES_MAX)]
    Carried(usize),
}

/// Checks every line.
pub(super) fn check(request: &Request, statement: &Statement) -> Result<(), Fault> {
    let fault = |line: usize| move |violation| Fault::Charge { line, violation };
    if statement.carried.len() > limits::CARRIED_BYTES_MAX {
        return Err(fault(statement.lines.len())(Violation::Carried(statement.carried.len())));
    }
    let mut checker = Checker::new(request);
    for (number, line) in statement.lines.iter().enumerate() {
        checker.line(line, statement.lines.get(number + 1)).map_err(fault(number))?;
    }
    Ok(())
}

/// The time that a meter has charged in one unit.
#[derive(Default)]
struct Covered {
    /// A bit for each interval that is charged wholly or in part.
    touched: Vec<u64>,
    /// What of it is charged, where it was in part.
    pieces: HashMap<u32, Vec<Span>>,
}

impl Covered {
    /// Takes a piece; false if part of it is taken already.
    fn take(&mut self, interval: u32, piece: Span, is_whole: bool) -> bool {
        let (word, bit) = (interval as usize / 64, 1_u64 << (interval % 64));
        if self.touched.len() <= word {
            self.touched.resize(word + 1, 0);
        }
        let is_first = self.touched[word] & bit == 0;
        self.touched[word] |= bit;
        if is_first && is_whole {
            return true;
        }
        let taken = self.pieces.entry(interval).or_default();
        // An interval that was charged wholly has no pieces.
        if !is_first && taken.is_empty() || taken.iter().any(|other| piece.start < other.end && other.start < piece.end)
        {
            return false;
        }
        taken.push(piece);
        true
    }
}

/// What lines that belong together state, and what their intervals held.
#[derive(Default)]
struct Group<'a> {
    stated: u128,
    measured: u128,
    /// The unit, if it is one that the host can measure.
    unit: Option<&'a str>,
}

/// Walks over the lines of a statement.
struct Checker<'a> {
    request: &'a Request,
    covered: HashMap<(&'a str, &'a str), Covered>,
    group: Group<'a>,
    hours: Hours<'a>,
    last: Option<&'a ChargeLine>,
    /// Adjustments up to here had their line.
    adjustments: usize,
}

impl<'a> Checker<'a> {
    fn new(request: &'a Request) -> Self {
        Self {
            request,
            covered: HashMap::new(),
            group: Group::default(),
            hours: Hours::of(request),
            last: None,
            adjustments: 0,
        }
    }

    fn line(&mut self, line: &'a ChargeLine, next: Option<&ChargeLine>) -> Result<(), Violation> {
        check_texts(line)?;
        let is_adjustment = match line.kind.as_str() {
            "usage" | "once" | "reversal" => false,
            "minimum" | "cap" | "credit" => true,
            other => return Err(Violation::Kind(other.into())),
        };
        if let Some(subject) = line.subject.filter(|&subject| subject as usize >= self.request.subjects.len()) {
            return Err(Violation::Subject(subject));
        }
        check_pieces(line)?;
        if is_adjustment {
            self.adjustment(line)?;
        } else {
            self.check_order(line)?;
            self.charge(line, next)?;
        }
        self.last = Some(line);
        check_amount(&self.request.book, line)
    }

    fn check_order(&self, line: &ChargeLine) -> Result<(), Violation> {
        let key = |line: &'a ChargeLine| (line.subject.unwrap_or(u32::MAX), &line.meter, &line.rule);
        let here = (line.subject.unwrap_or(u32::MAX), &line.meter, &line.rule);
        let in_order = self.adjustments == 0 && self.last.is_none_or(|last| key(last) <= here);
        if in_order { Ok(()) } else { Err(Violation::Order) }
    }

    /// A line for use, a fee, or what takes one back.
    fn charge(&mut self, line: &'a ChargeLine, next: Option<&ChargeLine>) -> Result<(), Violation> {
        self.check_price(line)?;
        if line.kind == "usage" {
            self.usage(line)?;
        } else if !line.intervals.is_empty() {
            return Err(Violation::Covers);
        }
        if next.is_some_and(|next| belong_together(line, next)) {
            return Ok(());
        }
        match std::mem::take(&mut self.group) {
            Group { stated, measured, unit: Some(unit) } if stated != measured => {
                Err(Violation::Quantity { stated, measured, unit: unit.into() })
            }
            _ => Ok(()),
        }
    }

    /// Adds to the group what a line states and what its pieces held.
    fn usage(&mut self, line: &'a ChargeLine) -> Result<(), Violation> {
        let amounts = self.amounts(&line.unit);
        let is_always = self.hours.is_always(&line.rule, &line.price_id);
        let mut measured = 0_u128;
        let covered = self.covered.entry((&line.meter, &line.unit)).or_default();
        for (place, &interval) in line.intervals.iter().enumerate() {
            let (piece, is_whole) = piece(&self.request.intervals, line, place, interval)?;
            if !covered.take(interval, piece, is_whole) {
                let (meter, unit) = (line.meter.clone(), line.unit.clone());
                return Err(Violation::Twice { meter, unit, interval });
            }
            if !is_always && let Some(at) = self.hours.first_instant_under_another(&line.rule, &line.price_id, piece) {
                return Err(Violation::NotInForce { price: line.price_id.clone(), at });
            }
            let length = u128::from(piece.end.abs_diff(piece.start));
            // Two of 64 bits never outgrow 128.
            let held = amounts.map_or(length, |amounts| length.wrapping_mul(amounts[interval as usize].into()));
            measured = measured.saturating_add(held);
        }
        self.group.measured = self.group.measured.saturating_add(measured);
        self.group.stated = self.group.stated.saturating_add(unsigned(line.quantity));
        if line.unit == TIME || amounts.is_some() {
            self.group.unit = Some(&line.unit);
        }
        Ok(())
    }

    /// How much each interval held of what a unit counts.
    fn amounts(&self, unit: &str) -> Option<&'a [u64]> {
        let singular = unit.strip_suffix("-ns")?;
        let counts = |name: &str| name.strip_suffix('s').unwrap_or(name) == singular;
        let found = self.request.intervals.dimensions.iter().find(|dimension| counts(&dimension.name));
        found.map(|dimension| dimension.values.as_slice())
    }

    fn check_price(&self, line: &ChargeLine) -> Result<(), Violation> {
        if line.price_id.is_empty() {
            let is_free = signed(line.price.numerator) == 0 && signed(line.amount) == 0 && signed(line.remainder) == 0;
            return if is_free && line.kind == "usage" { Ok(()) } else { Err(Violation::Unpriced) };
        }
        let price = self.request.book.prices.binary_search_by(|price| price.id.cmp(&line.price_id));
        let price = price.map(|place| &self.request.book.prices[place]);
        let price = price.map_err(|_| Violation::Price(line.price_id.clone()))?;
        let is_fee = line.unit == ONCE && line.kind != "usage";
        if (&price.rule, &price.meter) != (&line.rule, &line.meter) || !(is_fee || price.unit == line.unit) {
            return Err(Violation::OtherRule(line.price_id.clone()));
        }
        let tier = price.tiers.get(line.tier as usize).ok_or(Violation::UnitPrice(line.tier))?;
        let of_tier = if is_fee { Ratio { numerator: tier.once, denominator: words(1) } } else { tier.price };
        let takes_back = line.kind == "reversal" && price.model == "volume";
        let numerator =
            if takes_back { signed(of_tier.numerator).checked_neg() } else { Some(signed(of_tier.numerator)) };
        let is_kind = match line.kind.as_str() {
            "usage" => !is_fee,
            "once" => is_fee,
            _ => takes_back,
        };
        let is_price = Some(signed(line.price.numerator)) == numerator && line.price.denominator == of_tier.denominator;
        let is_one = !is_fee || (unsigned(line.billed), unsigned(line.quantity)) == (1, 1);
        if is_kind && is_price && is_one { Ok(()) } else { Err(Violation::UnitPrice(line.tier)) }
    }

    /// An adjustment stands at the end of the last request, once, and goes the way that its kind goes.
    fn adjustment(&mut self, line: &ChargeLine) -> Result<(), Violation> {
        let wrong = || Violation::Adjustment(line.rule.clone());
        if !self.request.last || !line.intervals.is_empty() || line.subject.is_some() {
            return Err(wrong());
        }
        let rest = &self.request.book.adjustments[self.adjustments..];
        let place = rest.iter().position(|adjustment| adjustment.id == line.price_id).ok_or_else(wrong)?;
        let adjustment = &rest[place];
        self.adjustments += place + 1;
        let direction = if line.kind == "minimum" { 1 } else { -1 };
        let size = unsigned(line.billed);
        let is_sound = line.kind == adjustment.kind
            && line.rule == adjustment.id
            && line.unit == NANO
            && signed(line.price.numerator) == direction
            && unsigned(line.price.denominator) == 1
            && line.quantity == line.billed
            && (line.kind == "cap" || size <= signed(adjustment.amount).unsigned_abs());
        if is_sound { Ok(()) } else { Err(wrong()) }
    }
}

/// The piece of an interval that a line covers, if it may, and whether it is the whole interval.
fn piece(columns: &IntervalColumns, line: &ChargeLine, place: usize, interval: u32) -> Result<(Span, bool), Violation> {
    let index = interval as usize;
    let subject = columns.subject.get(index).ok_or(Violation::Interval(interval))?;
    if line.subject.is_some_and(|of| of != *subject) {
        return Err(Violation::ForeignInterval(interval));
    }
    let whole = Span { start: columns.start[index], end: columns.end[index] };
    let piece = match (line.starts.get(place), line.ends.get(place)) {
        (Some(&start), Some(&end)) => Span { start, end },
        _ => whole,
    };
    if piece.start < whole.start || piece.end > whole.end || piece.start >= piece.end {
        return Err(Violation::Pieces(interval));
    }
    Ok((piece, piece == whole))
}

/// Lines that divide one charge among tiers.
fn belong_together(one: &ChargeLine, other: &ChargeLine) -> bool {
    fn key(line: &ChargeLine) -> (Option<u32>, &str, &str, &str) {
        (line.subject, &line.meter, &line.rule, &line.price_id)
    }
    !matches!(other.kind.as_str(), "minimum" | "cap" | "credit") && key(one) == key(other)
}

fn check_texts(line: &ChargeLine) -> Result<(), Violation> {
    let texts = [
        ("kind", &line.kind, limits::WORD_BYTES_MAX),
        ("rule", &line.rule, limits::WORD_BYTES_MAX),
        ("meter", &line.meter, limits::WORD_BYTES_MAX),
        ("unit", &line.unit, limits::WORD_BYTES_MAX),
        ("price-id", &line.price_id, limits::WORD_BYTES_MAX),
        ("description", &line.description, limits::DESCRIPTION_BYTES_MAX),
    ];
    let is_bad = |text: &str, max: usize| text.len() > max || text.chars().any(char::is_control);
    match texts.into_iter().find(|(_, text, max)| is_bad(text, *max)) {
        Some((what, text, max)) => Err(Violation::Text { what, bytes: text.len(), max }),
        None => Ok(()),
    }
}

/// Intervals ascend, and pieces of one interval do; there are as many pieces as intervals, or none.
fn check_pieces(line: &ChargeLine) -> Result<(), Violation> {
    let first = line.intervals.first().copied().unwrap_or_default();
    let are_named = !line.starts.is_empty() || !line.ends.is_empty();
    if are_named && (line.starts.len() != line.intervals.len() || line.ends.len() != line.intervals.len()) {
        return Err(Violation::Pieces(first));
    }
    for place in 1..line.intervals.len() {
        let (before, here) = (line.intervals[place - 1], line.intervals[place]);
        let follows = here > before || (here == before && are_named && line.ends[place - 1] <= line.starts[place]);
        if !follows {
            return Err(Violation::Pieces(here));
        }
    }
    Ok(())
}

/// Computes the amount in exact integers, in another way than policies do, and compares.
fn check_amount(book: &PriceBook, line: &ChargeLine) -> Result<(), Violation> {
    let denominator = unsigned(line.price.denominator);
    if denominator == 0 {
        return Err(Violation::Amount);
    }
    let exact = BigInt::from(unsigned(line.billed)) * BigInt::from(signed(line.price.numerator));
    let step = BigInt::from(10_u32.pow(NANO_DIGITS.saturating_sub(book.line_digits).into()));
    let amount = rounded(&exact, &(BigInt::from(denominator) * &step), &book.rounding).ok_or(Violation::Amount)? * step;
    let remainder = exact - &amount * BigInt::from(denominator);
    let is_right = amount == BigInt::from(signed(line.amount)) && remainder == BigInt::from(signed(line.remainder));
    if is_right { Ok(()) } else { Err(Violation::Amount) }
}

/// `dividend / divisor`, the divisor being positive. None for an unknown mode.
fn rounded(dividend: &BigInt, divisor: &BigInt, mode: &str) -> Option<BigInt> {
    let (down, rest) = dividend.div_mod_floor(divisor);
    let (twice, is_negative) = (rest.clone() * 2, *dividend < BigInt::ZERO);
    let is_middle = twice == *divisor;
    let up = match mode {
        "half-even" => twice > *divisor || (is_middle && down.is_odd()),
        // Away from zero: of two neighbours the floor is the one away from zero for a negative number.
        "half-up" => twice > *divisor || (is_middle && !is_negative),
        "down" => is_negative && rest != BigInt::ZERO,
        "up" => !is_negative && rest != BigInt::ZERO,
        _ => return None,
    };
    Some(if up { down + 1 } else { down })
}

/// Nano-units as whole coins of `minor_digits` digits after the point, rounded once. None for an unknown mode, and past 128 bits.
pub fn to_coins(nanos: i128, minor_digits: u8, rounding: &str) -> Option<i128> {
    let coin = BigInt::from(10_u32.pow(NANO_DIGITS.saturating_sub(minor_digits).into()));
    i128::try_from(rounded(&BigInt::from(nanos), &coin, rounding)?).ok()
}

/// Two words as one number.
pub fn unsigned(words: U128Words) -> u128 {
    (u128::from(words.upper) << 64) | u128::from(words.lower)
}

/// Two words as one number with a sign.
pub fn signed(words: S128Words) -> i128 {
    (i128::from(words.upper) << 64) | i128::from(words.lower)
}

/// One number as two words.
pub fn words(value: u128) -> U128Words {
    U128Words { lower: (value & u128::from(u64::MAX)) as u64, upper: (value >> 64) as u64 }
}

/// One number with a sign as two words.
pub fn signed_words(value: i128) -> S128Words {
    let words = words(value.cast_unsigned());
    S128Words { lower: words.lower, upper: words.upper.cast_signed() }
}

#[cfg(test)]
mod tests;
