//! Price books: a tenant's prices and currency as one JSON document, checked once.

mod document;
mod number;
mod price;
mod rules;
mod window;

use std::fmt;

pub use price::{Model, Price, Ratio, Resets, Scope, Tier};
pub use window::Window;

use crate::currency::Currency;
use crate::input::{Rounding, Span};
use crate::instant;
use crate::limits;
use crate::output::AdjustmentKind;
use document::{AdjustmentEntry, Document};

/// A price book that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    currency: Currency,
    rounding: Rounding,
    line_digits: u8,
    prices: Vec<Price>,
    adjustments: Vec<Adjustment>,
}

/// A minimum, a cap or a credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Id, unique in the book.
    pub id: String,
    /// Minimum, cap or credit.
    pub kind: AdjustmentKind,
    /// Amount in nano-units, 1 or more.
    pub amount: i128,
    /// Rules whose charges it acts on; all, if empty.
    pub rules: Vec<String>,
    /// Validity by the calendar, in nanoseconds since 1970-01-01T00:00:00Z; `i64::MIN` or
    /// `i64::MAX` where it has no start or no end.
    pub valid: Span,
}

/// A reason why a document is no price book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The document is larger than [`limits::BOOK_BYTES_MAX`].
    #[error("a price book has at most {max} bytes; this one has {0}", max = limits::BOOK_BYTES_MAX)]
    TooLarge(usize),
    /// The document is not the JSON that is expected.
    #[error("{0}")]
    Json(String),
    /// A value makes no sense.
    #[error("{place}: {problem}")]
    Value {
        /// Path of the value, such as `prices[2].per`.
        place: String,
        /// The fault, and what would be right.
        problem: String,
    },
}

impl BookError {
    /// The same error with its place inside another one. Places are written from the inside to the
    /// outside, so that those of values without a fault are not written at all.
    fn inside(self, outer: impl fmt::Display) -> Self {
        match self {
            Self::Value { place, problem } if place.is_empty() => wrong(outer.to_string(), problem),
            Self::Value { place, problem } => wrong(format!("{outer}.{place}"), problem),
            Self::TooLarge(_) | Self::Json(_) => self,
        }
    }
}

type Checking<T> = Result<T, BookError>;

/// Checks that depend on who reads a document.
struct Reading<'a> {
    /// Returns true for the name of a known time zone.
    is_zone: &'a dyn Fn(&str) -> bool,
    /// Set for a new document; unset for one that was stored under earlier checks.
    is_new: bool,
}

impl Book {
    /// Reads and checks a document. `is_zone` returns true for the name of a known time zone.
    ///
    /// # Errors
    /// [`BookError`], with the place of the fault and with what would be right.
    pub fn parse(bytes: &[u8], is_zone: impl Fn(&str) -> bool) -> Result<Self, BookError> {
        Self::read(bytes, &Reading { is_zone: &is_zone, is_new: true })
    }

    /// Reads a document that was accepted before: it may have options of a policy, which now belong
    /// to its activation, more rules and windows than a new one may have, and prices of any size.
    /// Time zones are not checked.
    ///
    /// # Errors
    /// [`BookError`], as for [`Book::parse`].
    pub fn parse_stored(bytes: &[u8]) -> Result<Self, BookError> {
        Self::read(bytes, &Reading { is_zone: &|_| true, is_new: false })
    }

    fn read(bytes: &[u8], reading: &Reading<'_>) -> Checking<Self> {
        if bytes.len() > limits::BOOK_BYTES_MAX {
            return Err(BookError::TooLarge(bytes.len()));
        }
        let json = |error: serde_json::Error| BookError::Json(error.to_string());
        let document: Document = serde_json::from_slice(bytes).map_err(json)?;
        if reading.is_new && document.options.is_some() {
            return Err(wrong("options", "belong to the policy: give them where it is activated"));
        }
        let currency: Currency =
            document.currency.parse().map_err(|error| wrong("currency", error))?;
        let line_digits = document.line_digits.unwrap_or(9);
        if line_digits > 9 {
            let problem = format!("{line_digits} is more than 9, which is a nano-unit");
            return Err(wrong("line_digits", problem));
        }
        let mut prices = Vec::with_capacity(document.prices.len());
        for (number, entry) in document.prices.iter().enumerate() {
            let price = entry.check(reading);
            prices.push(price.map_err(|error| error.inside(format_args!("prices[{number}]")))?);
        }
        let mut adjustments = Vec::with_capacity(document.adjustments.len());
        for (number, entry) in document.adjustments.iter().enumerate() {
            let place = format_args!("adjustments[{number}]");
            adjustments.push(entry.check().map_err(|error| error.inside(place))?);
        }
        rules::check_ids(&prices, &adjustments)?;
        rules::check_rules(&prices)?;
        rules::check_adjusted(&prices, &adjustments)?;
        if reading.is_new {
            rules::check_counts(&prices)?;
        }
        let rounding = document.rounding.unwrap_or(Rounding::HalfEven);
        Ok(Self { currency, rounding, line_digits, prices, adjustments })
    }

    /// The currency of the prices.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The rounding of rules' sums and of the total.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// Digits after the point to which rules' sums are rounded, 0 to 9.
    pub fn line_digits(&self) -> u8 {
        self.line_digits
    }

    /// The prices, in the document's order.
    pub fn prices(&self) -> &[Price] {
        &self.prices
    }

    /// The adjustments, in the order in which they act.
    pub fn adjustments(&self) -> &[Adjustment] {
        &self.adjustments
    }

    /// The rules that the book has prices for, sorted.
    pub fn rules(&self) -> Vec<&str> {
        sorted(self.prices.iter().map(|price| price.rule.as_str()))
    }

    /// The time zones that windows name, sorted.
    pub fn zones(&self) -> Vec<&str> {
        let windows = self.prices.iter().flat_map(|price| &price.windows);
        sorted(windows.map(|window| window.zone.as_str()))
    }
}

fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn wrong(place: impl Into<String>, problem: impl fmt::Display) -> BookError {
    BookError::Value { place: place.into(), problem: problem.to_string() }
}

fn word(place: &str, text: &str) -> Checking<String> {
    let is_short = (1..=limits::WORD_BYTES_MAX).contains(&text.len());
    let is_plain = || text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match is_short && (is_plain() || !text.chars().any(char::is_control)) {
        true => Ok(text.into()),
        false => {
            Err(wrong(place, format!("must have 1 to {} bytes of text", limits::WORD_BYTES_MAX)))
        }
    }
}

/// A span of the calendar from two texts; unbounded where one is absent.
fn validity(from: Option<&str>, until: Option<&str>) -> Checking<Span> {
    let read = |field: &str, text: Option<&str>, open: i64| match text {
        None => Ok(open),
        Some(text) => instant::parse(text).ok_or_else(|| {
            let problem = format!("'{text}' is no instant; write it like 2026-02-01T00:00:00Z");
            wrong(field, problem)
        }),
    };
    let span = Span { start: read("from", from, i64::MIN)?, end: read("until", until, i64::MAX)? };
    match span.start < span.end {
        true => Ok(span),
        false => Err(wrong("until", "must be after `from`")),
    }
}

impl AdjustmentEntry {
    fn check(&self) -> Checking<Adjustment> {
        let valid = validity(self.from.as_deref(), self.until.as_deref())?;
        let amount = self.amount.nanos("amount")?;
        if amount == 0 {
            return Err(wrong("amount", "must be more than 0"));
        }
        let id = word("id", &self.id)?;
        Ok(Adjustment { id, kind: self.kind, amount, rules: self.rules.clone(), valid })
    }
}

#[cfg(test)]
mod tests;
