//! What a price book is read into.

pub use super::metering::{Setting, Span, U128Words};

/// A signed 128-bit integer in two's complement, `upper * 2^64 + lower`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S128Words {
    /// The low 64 bits.
    pub lower: u64,
    /// The high 64 bits, with the sign.
    pub upper: i64,
}

/// An exact price: `numerator / denominator` nano-units for one unit of quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// Nano-units of the currency.
    pub numerator: S128Words,
    /// Units of quantity, 1 or more.
    pub denominator: U128Words,
}

/// Hours of the local week in which a price holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// IANA name.
    pub zone: String,
    /// Days on which it begins: bit 0 is Monday.
    pub days: u8,
    /// Minute of the local day at which it begins.
    pub from_minute: u16,
    /// Minute of the local day at which it ends; not after `from_minute`, on the day after.
    pub until_minute: u16,
}

/// One step of a tiered price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Up to and including this quantity; none for the last.
    pub up_to: Option<U128Words>,
    /// Price for each unit inside.
    pub price: Ratio,
    /// Charged once when the tier is reached.
    pub once: S128Words,
}

/// A price, valid for a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The rule that it prices.
    pub rule: String,
    /// Unique within the book.
    pub id: String,
    /// The meter that it prices.
    pub meter: String,
    /// The unit of quantity.
    pub unit: String,
    /// What the price is for, as the operator wrote it.
    pub per: String,
    /// The unit in which people count.
    pub measure: String,
    /// How many of `unit` make one of `measure`.
    pub measure_units: U128Words,
    /// When it holds.
    pub valid: Span,
    /// Hours in which it holds; always, if empty.
    pub windows: Vec<Window>,
    /// `instance` or `tenant`.
    pub scope: String,
    /// `period` or `never`.
    pub resets: String,
    /// `flat`, `graduated`, `volume` or `package`.
    pub model: String,
    /// At least one.
    pub tiers: Vec<Tier>,
}

/// A change to the sum of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Unique within the book.
    pub id: String,
    /// `minimum`, `cap` or `credit`.
    pub kind: String,
    /// More than 0.
    pub amount: S128Words,
    /// The rules that it looks at; all, if empty.
    pub rules: Vec<String>,
    /// It counts for periods that begin in this span.
    pub valid: Span,
}

/// All prices of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBook {
    /// Lower-case hex SHA-256 of the book.
    pub digest: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Digits after the point in the currency's smallest coin.
    pub minor_digits: u8,
    /// Digits after the point to which a line is rounded.
    pub line_digits: u8,
    /// Name of a rounding.
    pub rounding: String,
    /// Sorted by `id`.
    pub prices: Vec<Price>,
    /// In the order in which they are applied.
    pub adjustments: Vec<Adjustment>,
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
