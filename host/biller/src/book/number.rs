//! Numbers of a book: prices as fractions, money in nano-units, quantities in units.

use super::document::Number;
use super::price::Ratio;
use super::{Checking, wrong};
use crate::decimal::Decimal;

impl Number {
    /// Splits `a` or `a/b` into a decimal and a denominator of 1 or more.
    fn fraction(&self, place: &str) -> Checking<(Decimal, u128)> {
        let decimal = |text: &str| text.parse::<Decimal>().map_err(|error| wrong(place, error));
        match self {
            Number::Whole(units) => Ok((Decimal { units: (*units).into(), digits: 0 }, 1)),
            Number::Text(text) => match text.split_once('/') {
                None => Ok((decimal(text)?, 1)),
                Some((above, below)) => {
                    let whole =
                        |_| wrong(place, "the part after '/' must be a whole number, as in 1/3");
                    let below: u64 = below.parse().map_err(whole)?;
                    if below == 0 {
                        return Err(wrong(place, "the number after '/' must not be 0"));
                    }
                    Ok((decimal(above)?, below.into()))
                }
            },
        }
    }

    /// Reads a fraction that is not negative.
    fn not_negative(&self, place: &str) -> Checking<(Decimal, u128)> {
        let (number, below) = self.fraction(place)?;
        if number.units < 0 {
            Err(wrong(place, "must not be negative"))
        } else {
            Ok((number, below))
        }
    }

    /// Reads an amount of money, in nano-units.
    pub(super) fn nanos(&self, place: &str) -> Checking<i128> {
        let (number, below) = self.not_negative(place)?;
        let nanos = number.scaled(9).filter(|_| below == 1);
        nanos.ok_or_else(|| wrong(place, "must have at most 9 digits after the point"))
    }

    /// Reads a price that is given for `units` units, as the price of one.
    pub(super) fn price(&self, place: &str, units: u128) -> Checking<Ratio> {
        let (number, below) = self.not_negative(place)?;
        // Digits past the ninth go into the denominator.
        let (numerator, more) = match number.scaled(9) {
            Some(numerator) => (numerator, 1),
            None => (number.units, 10_u128.pow(number.digits.saturating_sub(9))),
        };
        let denominator = units.checked_mul(below).and_then(|units| units.checked_mul(more));
        let denominator = denominator.ok_or_else(|| wrong(place, "has too many digits"))?;
        Ok(Ratio { numerator: numerator.unsigned_abs(), denominator })
    }

    /// Reads a quantity in the measure that the price is for, as a number of units.
    pub(super) fn quantity(&self, place: &str, units: u128) -> Checking<u128> {
        let (number, below) = self.not_negative(place)?;
        let exact = || {
            let above = number.units.unsigned_abs().checked_mul(units)?;
            let below = below.checked_mul(10_u128.checked_pow(number.digits)?)?;
            (above % below == 0).then_some(above / below)
        };
        let problem = "is no whole number of nanoseconds and units, or too large";
        exact().ok_or_else(|| wrong(place, problem))
    }
}
