//! Decimal numbers of any length, for exports: sums and products without rounding.

use std::fmt;

use num_bigint::{BigInt, Sign};
use num_integer::Integer;

/// Digits after the point of a price that has no end.
const PRICE_DIGITS: u32 = 18;
/// Digits after the point of a nano-unit.
const NANO_DIGITS: u32 = 9;

/// The exact number `units / 10^digits`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Exact {
    units: BigInt,
    digits: u32,
}

impl Exact {
    pub(super) fn new(units: BigInt, digits: u32) -> Self {
        Self { units, digits }
    }

    /// Reads a decimal text of a document; a text that is none is 0.
    pub(super) fn read(text: &str) -> Self {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = u32::try_from(fraction.len()).unwrap_or_default();
        let units = [whole, fraction].concat().parse().unwrap_or_default();
        Self { units, digits }
    }

    /// A price as documents state it, a fraction in nano-units, in units; to 18 digits, half away
    /// from zero, if it has no end before.
    pub(super) fn price(numerator: &str, denominator: &str) -> Self {
        let read = |text: &str| text.parse::<BigInt>().unwrap_or_default();
        let numerator = read(numerator);
        let mut denominator = read(denominator);
        if denominator.sign() != Sign::Plus {
            denominator = BigInt::from(1);
        }
        let scaled = numerator * BigInt::from(10).pow(PRICE_DIGITS - NANO_DIGITS);
        let half = &denominator / 2;
        let rounded = match scaled.sign() {
            Sign::Minus => (scaled - half) / denominator,
            Sign::NoSign | Sign::Plus => (scaled + half) / denominator,
        };
        Self { units: rounded, digits: PRICE_DIGITS }
    }

    fn at(&self, digits: u32) -> BigInt {
        &self.units * BigInt::from(10).pow(digits - self.digits)
    }

    pub(super) fn less(&self, other: &Self) -> Self {
        let digits = self.digits.max(other.digits);
        Self { units: self.at(digits) - other.at(digits), digits }
    }

    /// The number in units of `10^-digits`, half to even.
    pub(super) fn rounded(&self, digits: u32) -> BigInt {
        if self.digits <= digits {
            return self.at(digits);
        }
        let divisor = BigInt::from(10).pow(self.digits - digits);
        let (whole, rest) = self.units.div_mod_floor(&divisor);
        let twice: BigInt = rest * 2;
        let up = twice > divisor || (twice == divisor && whole.is_odd());
        if up { whole + 1 } else { whole }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let digits = self.digits.max(other.digits);
        Self { units: self.at(digits) + other.at(digits), digits }
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        Self { units: &self.units * &other.units, digits: self.digits + other.digits }
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits as usize;
        let size = format!("{:0>width$}", self.units.magnitude(), width = digits + 1);
        let (whole, fraction) = size.split_at(size.len() - digits);
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.units.sign() == Sign::Minus { "-" } else { "" };
        // A point in every number: readers of CSV take a column of whole ones for integers.
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_written_exactly() {
        for (text, expected) in
            [("0", "0.0"), ("-0.50", "-0.5"), ("12.000000001", "12.000000001"), ("60", "60.0")]
        {
            assert_eq!(Exact::read(text).to_string(), expected);
        }
    }

    #[test]
    fn a_price_is_written_to_its_end_or_to_eighteen_digits() {
        let rows = [
            ("10000000", "1", "0.01"),
            ("36000000000", "3600", "0.01"),
            ("1", "3", "0.000000000333333333"),
            ("-2", "3", "-0.000000000666666667"),
        ];
        for (numerator, denominator, expected) in rows {
            assert_eq!(Exact::price(numerator, denominator).to_string(), expected);
        }
    }

    #[test]
    fn a_half_is_rounded_to_even() {
        let rows =
            [("0.25", 2), ("0.35", 4), ("-0.25", -2), ("-0.35", -4), ("0.251", 3), ("7", 70)];
        for (text, expected) in rows {
            assert_eq!(Exact::read(text).rounded(1), BigInt::from(expected), "{text}");
        }
    }

    #[test]
    fn products_and_differences_are_exact() {
        let price = Exact::read("0.000000000333333333");
        let quantity = Exact::read("3.000000001");
        assert_eq!(price.times(&quantity).to_string(), "0.000000000999999999333333333");
        assert_eq!(Exact::read("1.5").less(&Exact::read("0.25")).to_string(), "1.25");
    }
}
