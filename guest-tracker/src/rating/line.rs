//! Charge lines, each rounded once and explained.

use super::amounts::amount;
use super::bill::Bill;
use super::rounding::Rounding;
use super::rule::{Rule, TIME};
use super::text::{clipped, decimal, fraction, join, signed_decimal};
use super::tiers::{Band, Kind, bands};
use crate::{Adjustment, ChargeLine, Price, PriceBook, RatingError, Ratio};

/// Most bytes of a description.
const DESCRIPTION_BYTES_MAX: usize = 512;
const NANO_DIGITS: u32 = 9;
const SECOND_NS: u128 = 1_000_000_000;

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

    /// The lines of a bill. `before` is what was charged under the rule before it.
    pub(crate) fn lines(
        &self,
        rule: &Rule<'_>,
        subject: Option<u32>,
        bill: Bill,
        before: u128,
    ) -> Result<Vec<ChargeLine>, RatingError> {
        let Some(price) = bill.price.and_then(|index| rule.prices.get(index)) else {
            return Ok(vec![unpriced(rule, subject, bill)]);
        };
        let bands = bands(price, before, bill.billed)?;
        let mut usage_left = bands.iter().filter(|band| band.kind == Kind::Usage).count();
        let mut quantity_left = bill.quantity;
        let mut covered = Some(bill);
        let mut lines = Vec::with_capacity(bands.len());
        for band in bands {
            let mut line = self.line(rule, price, subject, band)?;
            if band.kind == Kind::Usage {
                usage_left -= 1;
                let part = if usage_left == 0 { quantity_left } else { quantity_left.min(band.billed) };
                quantity_left -= part;
                line.quantity = part.into();
                if let Some(bill) = covered.take() {
                    (line.intervals, line.starts, line.ends) = (bill.intervals, bill.starts, bill.ends);
                    line.sessions = if subject.is_some() { bill.sessions } else { Vec::new() };
                }
            }
            line.description = clipped(self.explain(price, band, &line), DESCRIPTION_BYTES_MAX);
            lines.push(line);
        }
        Ok(lines)
    }

    fn line(
        &self,
        rule: &Rule<'_>,
        price: &Price,
        subject: Option<u32>,
        band: Band,
    ) -> Result<ChargeLine, RatingError> {
        let tier = &price.tiers[band.tier];
        let once = i128::from(tier.once);
        let (unit, unit_price) = match band.kind {
            Kind::Usage => (rule.unit, tier.price),
            Kind::Reversal => (rule.unit, negated(tier.price)?),
            Kind::Once => ("once", Ratio::new(once, 1)),
            Kind::OnceReversal => ("once", negated(Ratio::new(once, 1))?),
        };
        let amount = amount(band.billed, unit_price, self.rounding, self.book.line_digits);
        let amount = amount.ok_or(RatingError::Overflow)?;
        Ok(ChargeLine {
            kind: kind(band.kind).into(),
            rule: rule.name.into(),
            meter: rule.meter.name.into(),
            subject,
            intervals: Vec::new(),
            starts: Vec::new(),
            ends: Vec::new(),
            sessions: Vec::new(),
            quantity: if unit == "once" { band.billed.into() } else { 0.into() },
            billed: band.billed.into(),
            unit: unit.into(),
            price_id: price.id.clone(),
            tier: u32::try_from(band.tier).map_err(|_| RatingError::Overflow)?,
            price: unit_price,
            amount: amount.nanos.into(),
            remainder: amount.remainder.into(),
            description: String::new(),
        })
    }

    fn explain(&self, price: &Price, band: Band, line: &ChargeLine) -> String {
        let mut text = String::from(&*price.rule);
        text.push_str(": ");
        match band.kind {
            Kind::Usage => {}
            Kind::Reversal => text.push_str("taken back, for the whole now has another price: "),
            Kind::Once | Kind::OnceReversal => {
                let fee = signed_decimal(line.price.numerator.into(), NANO_DIGITS);
                return join(&[
                    &text,
                    "fee of tier ",
                    &number(band.tier + 1),
                    ", once ",
                    &fee,
                    " ",
                    &self.book.currency,
                ]);
            }
        }
        let units = u128::from(price.measure_units);
        let measured = |quantity: u128| join(&[&fraction(quantity, units), " ", &price.measure]);
        text.push_str(&measured(band.billed));
        let quantity = u128::from(line.quantity);
        if band.kind == Kind::Usage && quantity != band.billed {
            text.push_str(&join(&[" for ", &measured(quantity), " used"]));
        }
        let unit_price = signed_decimal(line.price.numerator.into(), NANO_DIGITS);
        let divisor = measured(line.price.denominator.into());
        text.push_str(&join(&[" at ", &unit_price, " ", &self.book.currency, " per ", &divisor]));
        text.push_str(&join(&[" (", &price.per, ")"]));
        if price.tiers.len() > 1 {
            text.push_str(&join(&[", tier ", &number(band.tier + 1), " of ", &number(price.tiers.len())]));
        }
        match line.sessions.len() {
            0 => {}
            1 => text.push_str(", at the minimum in 1 session"),
            sessions => text.push_str(&join(&[", at the minimum in ", &number(sessions), " sessions"])),
        }
        text
    }

    /// The line of an adjustment that changes a sum by `change` nano-units, from `sum`.
    pub(crate) fn adjustment(&self, adjustment: &Adjustment, change: i128, sum: i128, amount: i128) -> ChargeLine {
        let size = change.unsigned_abs();
        let currency = &self.book.currency;
        let money = |nanos: i128| join(&[&signed_decimal(nanos, NANO_DIGITS), " ", currency]);
        let how = match adjustment.kind.as_str() {
            "minimum" => join(&["raised from ", &money(sum), " to the minimum of ", &money(amount)]),
            "cap" => join(&["lowered from ", &money(sum), " to the cap of ", &money(amount)]),
            _ => join(&["paid from a credit; ", &money(amount), " of it were left"]),
        };
        ChargeLine {
            kind: adjustment.kind.clone(),
            rule: adjustment.id.clone(),
            meter: String::new(),
            subject: None,
            intervals: Vec::new(),
            starts: Vec::new(),
            ends: Vec::new(),
            sessions: Vec::new(),
            quantity: size.into(),
            billed: size.into(),
            unit: "nano".into(),
            price_id: adjustment.id.clone(),
            tier: 0,
            price: Ratio::new(change.signum(), 1),
            amount: change.into(),
            remainder: 0.into(),
            description: clipped(join(&[&adjustment.id, ": ", &how]), DESCRIPTION_BYTES_MAX),
        }
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Usage => "usage",
        Kind::Reversal | Kind::OnceReversal => "reversal",
        Kind::Once => "once",
    }
}

fn negated(price: Ratio) -> Result<Ratio, RatingError> {
    let numerator = i128::from(price.numerator).checked_neg().ok_or(RatingError::Overflow)?;
    Ok(Ratio { numerator: numerator.into(), ..price })
}

fn number(value: usize) -> String {
    decimal(value as u128, 0)
}

/// A line that states a quantity and costs nothing.
fn unpriced(rule: &Rule<'_>, subject: Option<u32>, bill: Bill) -> ChargeLine {
    let dimension = rule.unit.strip_suffix(TIME).unwrap_or_default().trim_end_matches('-');
    let measure = if dimension.is_empty() { String::from("s") } else { join(&[dimension, "*s"]) };
    let why = if rule.prices.is_empty() { "" } else { ", at a time without a price" };
    let description = join(&[rule.name, ": ", &fraction(bill.billed, SECOND_NS), " ", &measure, why]);
    ChargeLine {
        kind: "usage".into(),
        rule: rule.name.into(),
        meter: rule.meter.name.into(),
        subject,
        intervals: bill.intervals,
        starts: bill.starts,
        ends: bill.ends,
        sessions: if subject.is_some() { bill.sessions } else { Vec::new() },
        quantity: bill.quantity.into(),
        billed: bill.billed.into(),
        unit: rule.unit.into(),
        price_id: String::new(),
        tier: 0,
        price: Ratio::new(0, 1),
        amount: 0.into(),
        remainder: 0.into(),
        description: clipped(description, DESCRIPTION_BYTES_MAX),
    }
}
