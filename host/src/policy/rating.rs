//! The parsed form of a price book.

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
    /// IANA name of the time zone.
    pub zone: String,
    /// Days of the week on which it begins, as a mask: bit 0 is Monday.
    pub days: u8,
    /// Minute of the local day at which it begins, 0 to 1,439.
    pub from_minute: u16,
    /// Minute of the local day at which it ends; on the next day if it is not after `from_minute`.
    pub until_minute: u16,
}

/// A tier of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Greatest quantity in the tier, inclusive; none for the last one.
    pub up_to: Option<U128Words>,
    /// Price of each unit in the tier.
    pub price: Ratio,
    /// Nano-units charged once when the tier is reached.
    pub once: S128Words,
}

/// A price, valid for a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Name of the rule that it prices.
    pub rule: String,
    /// Id, unique within the book.
    pub id: String,
    /// Name of the meter that it prices.
    pub meter: String,
    /// Unit of quantity.
    pub unit: String,
    /// Unit and amount that the price is for, as the operator wrote it.
    pub per: String,
    /// Unit in which quantities are shown.
    pub measure: String,
    /// Number of `unit` in one `measure`.
    pub measure_units: U128Words,
    /// Span in which it applies.
    pub valid: Span,
    /// Hours in which it applies; at all hours if empty.
    pub windows: Vec<Window>,
    /// Counter of the tiers: `instance` or `tenant`.
    pub scope: String,
    /// Reset of the counter: `period` or `never`.
    pub resets: String,
    /// Price model: `flat`, `graduated`, `volume` or `package`.
    pub model: String,
    /// Tiers in ascending order, at least one.
    pub tiers: Vec<Tier>,
}

/// An adjustment of the sum of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Id, unique within the book.
    pub id: String,
    /// Kind of the adjustment: `minimum`, `cap` or `credit`.
    pub kind: String,
    /// Nano-units of the currency, more than 0.
    pub amount: S128Words,
    /// Names of the rules that it applies to; all if empty.
    pub rules: Vec<String>,
    /// Span in which a period must begin for it to apply.
    pub valid: Span,
}

/// A price book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBook {
    /// Lower-case hex SHA-256 of the book.
    pub digest: String,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// Decimal places of the currency's smallest unit.
    pub minor_digits: u8,
    /// Decimal places to which a line is rounded.
    pub line_digits: u8,
    /// Name of the rounding mode.
    pub rounding: String,
    /// Prices, sorted by `id`.
    pub prices: Vec<Price>,
    /// Adjustments, in the order in which they apply.
    pub adjustments: Vec<Adjustment>,
}

/// Converts two words into a number.
pub fn unsigned(words: U128Words) -> u128 {
    (u128::from(words.upper) << 64) | u128::from(words.lower)
}

/// Converts two words into a signed number.
pub fn signed(words: S128Words) -> i128 {
    (i128::from(words.upper) << 64) | i128::from(words.lower)
}

/// Converts a number into two words.
pub fn words(value: u128) -> U128Words {
    U128Words { lower: (value & u128::from(u64::MAX)) as u64, upper: (value >> 64) as u64 }
}

/// Converts a signed number into two words.
pub fn signed_words(value: i128) -> S128Words {
    let words = words(value.cast_unsigned());
    S128Words { lower: words.lower, upper: words.upper.cast_signed() }
}
