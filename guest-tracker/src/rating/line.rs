//! Charge lines, each rounded once and explained.

use super::amounts::amount;
use super::bill::Bill;
use super::rounding::Rounding;
use super::rule::{Rule, TIME};
use super::text::{Text, join};
use super::tiers::{Band, Kind, bands};
use crate::{Adjustment, ChargeLine, Price, PriceBook, RatingError, Ratio};

/// Most bytes of a description.
const DESCRIPTION_BYTES_MAX: usize = 512;
const NANO_DIGITS: u32 = 9;
const SECOND_NS: u128 = 1_000_000_000;
/// Kinds of lines.
pub(crate) const USAGE: &str = "usage";
const ONCE: &str = "once";

/// How a book wants amounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) book: &'a PriceBook,
    pub(crate) rounding: Rounding,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(book: &'a PriceBook) -> Result<Self, RatingError> {
        let unknown = || RatingError::Other(join(&["the book's rounding '", &book.rounding, "' is unknown"]));
        Ok(Self { book, rounding: Rounding::named(&book.rounding).ok_or_else(unknown)? })
    }

    /// Adds the lines of a bill. `before` is what was charged under the rule before it.
    pub(crate) fn add_lines(
        &self,
        rule: &Rule<'_>,
        subject: Option<u32>,
        bill: Bill,
        before: u128,
        lines: &mut Vec<ChargeLine>,
    ) -> Result<(), RatingError> {
        let Some(price) = bill.price.and_then(|index| rule.prices.get(index)) else {
            lines.push(unpriced(rule, subject, bill));
            return Ok(());
        };
        let bands = bands(price, before, bill.billed)?;
        let mut usage_left = bands.iter().filter(|band| band.kind == Kind::Usage).count();
        let mut quantity_left = bill.quantity;
        let mut covered = Some(bill);
        for band in bands {
            let mut line = self.line(rule, price, subject, band)?;
            if band.kind == Kind::Usage {
                usage_left -= 1;
                let part = if usage_left == 0 { quantity_left } else { quantity_left.min(band.billed) };
                quantity_left -= part;
                line.quantity = part.into();
                if let Some(bill) = covered.take() {
                    cover(&mut line, bill);
                }
            }
            line.description = self.explain(price, band, &line);
            lines.push(line);
        }
        Ok(())
    }

    fn line(
        &self,
        rule: &Rule<'_>,
        price: &Price,
        subject: Option<u32>,
        band: Band,
    ) -> Result<ChargeLine, RatingError> {
        let tier = &price.tiers[band.tier];
        let charged = if band.kind.is_fee() { Ratio::new(tier.once.into(), 1) } else { tier.price };
        let (kind, unit_price) = match band.kind {
            Kind::Usage => (USAGE, charged),
            Kind::Once => (ONCE, charged),
            Kind::Reversal | Kind::OnceReversal => ("reversal", negated(charged)?),
        };
        let amount = amount(band.billed, unit_price, self.rounding, self.book.line_digits);
        let amount = amount.ok_or(RatingError::Overflow)?;
        let mut line = blank(kind, rule.name, rule.meter.name, if band.kind.is_fee() { ONCE } else { rule.unit });
        line.subject = subject;
        line.billed = band.billed.into();
        if band.kind.is_fee() {
            line.quantity = line.billed;
        }
        line.price_id = join(&[&price.id]);
        line.tier = u32::try_from(band.tier).map_err(|_| RatingError::Overflow)?;
        line.price = unit_price;
        line.amount = amount.nanos.into();
        line.remainder = amount.remainder.into();
        Ok(line)
    }

    fn explain(&self, price: &Price, band: Band, line: &ChargeLine) -> String {
        let mut text = Text::default();
        text.add(&price.rule).add(": ");
        if band.kind.is_fee() {
            text.add("fee of tier ").number(band.tier + 1).add(", once ");
            self.add_money(&mut text, line.price.numerator.into());
            return text.clipped(DESCRIPTION_BYTES_MAX);
        }
        if band.kind == Kind::Reversal {
            text.add("taken back, for the whole now has another price: ");
        }
        add_measured(&mut text, price, band.billed);
        let quantity = u128::from(line.quantity);
        if band.kind == Kind::Usage && quantity != band.billed {
            add_measured(text.add(" for "), price, quantity);
            text.add(" used");
        }
        self.add_money(text.add(" at "), line.price.numerator.into());
        add_measured(text.add(" per "), price, line.price.denominator.into());
        text.add(" (").add(&price.per).add(")");
        if price.tiers.len() > 1 {
            text.add(", tier ").number(band.tier + 1).add(" of ").number(price.tiers.len());
        }
        let sessions = line.sessions.len();
        if sessions > 0 {
            let noun = if sessions == 1 { " session" } else { " sessions" };
            text.add(", at the minimum in ").number(sessions).add(noun);
        }
        text.clipped(DESCRIPTION_BYTES_MAX)
    }

    fn add_money(&self, text: &mut Text, nanos: i128) {
        text.signed_decimal(nanos, NANO_DIGITS).add(" ").add(&self.book.currency);
    }

    /// The line of an adjustment that changes a sum by `change` nano-units, from `sum`.
    pub(crate) fn adjustment(&self, adjustment: &Adjustment, change: i128, sum: i128, amount: i128) -> ChargeLine {
        let mut line = blank(&adjustment.kind, &adjustment.id, "", "nano");
        line.quantity = change.unsigned_abs().into();
        line.billed = line.quantity;
        line.price_id = join(&[&adjustment.id]);
        line.price = Ratio::new(change.signum(), 1);
        line.amount = change.into();
        let mut text = Text::default();
        text.add(&adjustment.id);
        let (before, between, after) = match adjustment.kind.as_str() {
            "minimum" => (": raised from ", " to the minimum of ", ""),
            "cap" => (": lowered from ", " to the cap of ", ""),
            _ => ("", ": paid from a credit; ", " of it were left"),
        };
        if !before.is_empty() {
            self.add_money(text.add(before), sum);
        }
        self.add_money(text.add(between), amount);
        text.add(after);
        line.description = text.clipped(DESCRIPTION_BYTES_MAX);
        line
    }
}

/// A line without time, that states nothing and costs nothing. It stands in a component once.
#[inline(never)]
pub(crate) fn blank(kind: &str, rule: &str, meter: &str, unit: &str) -> ChargeLine {
    ChargeLine {
        kind: join(&[kind]),
        rule: join(&[rule]),
        meter: join(&[meter]),
        subject: None,
        intervals: Vec::new(),
        starts: Vec::new(),
        ends: Vec::new(),
        sessions: Vec::new(),
        quantity: 0.into(),
        billed: 0.into(),
        unit: join(&[unit]),
        price_id: String::new(),
        tier: 0,
        price: Ratio::new(0, 1),
        amount: 0.into(),
        remainder: 0.into(),
        description: String::new(),
    }
}

/// Names the time that a bill is of; sessions only where they are those of one instance.
fn cover(line: &mut ChargeLine, bill: Bill) {
    (line.intervals, line.starts, line.ends) = (bill.intervals, bill.starts, bill.ends);
    if line.subject.is_some() {
        line.sessions = bill.sessions;
    }
}

fn add_measured(text: &mut Text, price: &Price, quantity: u128) {
    text.fraction(quantity, price.measure_units.into()).add(" ").add(&price.measure);
}

fn negated(price: Ratio) -> Result<Ratio, RatingError> {
    let numerator = i128::from(price.numerator).checked_neg().ok_or(RatingError::Overflow)?;
    Ok(Ratio { numerator: numerator.into(), ..price })
}

/// A line that states a quantity and costs nothing.
fn unpriced(rule: &Rule<'_>, subject: Option<u32>, bill: Bill) -> ChargeLine {
    let dimension = rule.unit.strip_suffix(TIME).unwrap_or_default().trim_end_matches('-');
    let mut text = Text::default();
    text.add(rule.name).add(": ").fraction(bill.billed, SECOND_NS).add(" ");
    text.add(dimension).add(if dimension.is_empty() { "s" } else { "*s" });
    text.add(if rule.prices.is_empty() { "" } else { ", at a time without a price" });
    let mut line = blank(USAGE, rule.name, rule.meter.name, rule.unit);
    line.subject = subject;
    (line.quantity, line.billed) = (bill.quantity.into(), bill.billed.into());
    line.description = text.clipped(DESCRIPTION_BYTES_MAX);
    cover(&mut line, bill);
    line
}
