//! Charge lines, each rounded once and explained.

use std::mem::take;

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
        bill: &mut Bill,
        before: u128,
        lines: &mut Vec<ChargeLine>,
    ) -> Result<(), RatingError> {
        let Some(price) = bill.price.and_then(|index| rule.prices.get(index)) else {
            add_unpriced(rule, subject, bill, lines);
            return Ok(());
        };
        let bands = bands(price, before, bill.billed)?;
        let mut usage_left = bands.iter().filter(|band| band.kind == Kind::Usage).count();
        let mut quantity_left = bill.quantity;
        for band in bands {
            let line = self.add_line(rule, price, subject, band, lines)?;
            if band.kind == Kind::Usage {
                usage_left -= 1;
                let part = if usage_left == 0 { quantity_left } else { quantity_left.min(band.billed) };
                quantity_left -= part;
                line.quantity = part.into();
                cover(line, bill);
            }
            line.description = self.explain(price, band, line);
        }
        Ok(())
    }

    fn add_line<'l>(
        &self,
        rule: &Rule<'_>,
        price: &Price,
        subject: Option<u32>,
        band: Band,
        lines: &'l mut Vec<ChargeLine>,
    ) -> Result<&'l mut ChargeLine, RatingError> {
        let tier = &price.tiers[band.tier];
        let is_fee = band.kind.is_fee();
        let charged = if is_fee { Ratio::new(tier.once.into(), 1) } else { tier.price };
        let (kind, unit_price) = match band.kind {
            Kind::Usage => (USAGE, charged),
            Kind::Once => (ONCE, charged),
            Kind::Reversal | Kind::OnceReversal => ("reversal", negated(charged)?),
        };
        let amount = amount(band.billed, unit_price, self.rounding, self.book.line_digits);
        let amount = amount.ok_or(RatingError::Overflow)?;
        let line = add(lines, kind, rule.name, rule.meter.name, if is_fee { ONCE } else { rule.unit });
        line.subject = subject;
        line.billed = band.billed.into();
        if is_fee {
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

    /// Adds the line of an adjustment that changes a sum by `change` nano-units, from `sum`.
    pub(crate) fn add_adjustment(
        &self,
        adjustment: &Adjustment,
        (change, sum, amount): (i128, i128, i128),
        lines: &mut Vec<ChargeLine>,
    ) {
        let line = add(lines, &adjustment.kind, &adjustment.id, "", "nano");
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
    }
}

/// Adds a line without time, that states nothing and costs nothing yet. It stands in a component once.
#[inline(never)]
pub(crate) fn add<'l>(
    lines: &'l mut Vec<ChargeLine>,
    kind: &str,
    rule: &str,
    meter: &str,
    unit: &str,
) -> &'l mut ChargeLine {
    lines.push_mut(ChargeLine {
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
    })
}

/// Gives a line the time that a bill is of, once; sessions only where they are those of one instance.
fn cover(line: &mut ChargeLine, bill: &mut Bill) {
    line.intervals = take(&mut bill.intervals);
    line.starts = take(&mut bill.starts);
    line.ends = take(&mut bill.ends);
    if line.subject.is_some() {
        line.sessions = take(&mut bill.sessions);
    }
}

fn add_measured(text: &mut Text, price: &Price, quantity: u128) {
    text.fraction(quantity, price.measure_units.into()).add(" ").add(&price.measure);
}

fn negated(price: Ratio) -> Result<Ratio, RatingError> {
    let numerator = i128::from(price.numerator).checked_neg().ok_or(RatingError::Overflow)?;
    Ok(Ratio { numerator: numerator.into(), ..price })
}

/// Adds a line that states a quantity and costs nothing.
fn add_unpriced(rule: &Rule<'_>, subject: Option<u32>, bill: &mut Bill, lines: &mut Vec<ChargeLine>) {
    let dimension = rule.unit.strip_suffix(TIME).unwrap_or_default().trim_end_matches('-');
    let mut text = Text::default();
    text.add(rule.name).add(": ").fraction(bill.billed, SECOND_NS).add(" ");
    text.add(dimension).add(if dimension.is_empty() { "s" } else { "*s" });
    text.add(if rule.prices.is_empty() { "" } else { ", at a time without a price" });
    let line = add(lines, USAGE, rule.name, rule.meter.name, rule.unit);
    line.subject = subject;
    (line.quantity, line.billed) = (bill.quantity.into(), bill.billed.into());
    line.description = text.clipped(DESCRIPTION_BYTES_MAX);
    cover(line, bill);
}
