//! What a quantity costs.

use super::rounding::Rounding;
use crate::Ratio;
use crate::words::times;

/// Digits after the point of a nano-unit.
const NANO_DIGITS: u8 = 9;

/// The cost of a quantity, rounded once, and what the rounding left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Nano-units of the currency.
    pub nanos: i128,
    /// `quantity * numerator - nanos * denominator`: over the price's denominator, negative if it was rounded away from zero.
    pub remainder: i128,
}

/// Nano-units in a coin of `digits` digits after the point; a nano-unit for 9 and more.
#[inline(never)]
pub fn coin(digits: u8) -> u128 {
    10_u128.pow(u32::from(NANO_DIGITS.saturating_sub(digits)))
}

/// `quantity * price`, rounded to `digits` digits after the point. `None` past 128 bits.
///
/// Common factors are taken out before anything is multiplied, so that large quantities at ordinary prices fit.
pub fn amount(quantity: u128, price: Ratio, rounding: Rounding, digits: u8) -> Option<Amount> {
    let (numerator, denominator) = (i128::from(price.numerator), u128::from(price.denominator));
    let price_factor = greatest_common_divisor(numerator.unsigned_abs(), denominator);
    let (above, below) = (numerator.unsigned_abs().checked_div(price_factor)?, denominator.checked_div(price_factor)?);
    let factor = greatest_common_divisor(quantity, below);
    let exact = times(quantity.checked_div(factor)?, above)?;
    let below = below.checked_div(factor)?;
    let step = coin(digits);
    let nanos = times(rounding.divide(exact, times(below, step)?)?, step)?;
    let (stated, factors) = (times(nanos, below)?, times(price_factor, factor)?);
    let left = signed(times(exact.abs_diff(stated), factors)?)?;
    let (nanos, left) = (signed(nanos)?, if exact < stated { -left } else { left });
    Some(if numerator < 0 { Amount { nanos: -nanos, remainder: -left } } else { Amount { nanos, remainder: left } })
}

fn signed(value: u128) -> Option<i128> {
    i128::try_from(value).ok()
}

/// Euclid's. With 0 it is the other number.
#[inline(never)]
fn greatest_common_divisor(mut one: u128, mut other: u128) -> u128 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u128 = 3_600_000_000_000;

    #[test]
    fn an_hour_is_one_amount_and_not_3600_rounded_ones() {
        let price = Ratio::new(47_500_000, HOUR);
        assert_eq!(amount(HOUR, price, Rounding::HalfEven, 9), Some(Amount { nanos: 47_500_000, remainder: 0 }));
        let second = amount(HOUR / 3_600, price, Rounding::HalfEven, 6).expect("fits");
        assert_eq!(second.nanos * 3_600, 46_800_000, "one by one, 1.47 % are lost");
    }

    #[test]
    fn a_negative_price_mirrors_the_positive_one() {
        for (digits, nanos) in [(9, 333_333_333), (2, 330_000_000), (0, 0)] {
            let there = amount(1, Ratio::new(1_000_000_000, 3), Rounding::HalfEven, digits).expect("fits");
            let back = amount(1, Ratio::new(-1_000_000_000, 3), Rounding::HalfEven, digits).expect("fits");
            assert_eq!((there.nanos, back.nanos), (nanos, -nanos));
            assert_eq!(there.remainder, -back.remainder);
        }
    }

    #[test]
    fn a_petabyte_for_a_century_at_an_odd_price_fits() {
        let byte_ns = (1_u128 << 50) * 100 * 365 * 24 * HOUR;
        let price = Ratio::new(123_456_789, 1_000_000_000 * 30 * 24 * HOUR);
        assert!(amount(byte_ns, price, Rounding::HalfEven, 9).is_some());
    }

    #[test]
    fn what_does_not_fit_is_none_and_a_price_over_nothing_too() {
        assert_eq!(amount(u128::MAX, Ratio::new(i128::MAX, 1), Rounding::Up, 9), None);
        assert_eq!(amount(u128::MAX, Ratio::new(1, 1), Rounding::Up, 9), None);
        assert_eq!(amount(1, Ratio::new(1, 0), Rounding::Up, 9), None);
        assert_eq!(amount(0, Ratio::new(0, 7), Rounding::Up, 0), Some(Amount { nanos: 0, remainder: 0 }));
        assert_eq!(
            amount(i128::MAX.unsigned_abs(), Ratio::new(1, 1), Rounding::Up, 9).map(|a| a.nanos),
            Some(i128::MAX)
        );
    }

    proptest! {
        #[test]
        fn amount_and_remainder_are_the_exact_product(
            quantity in 0..1_u128 << 60, numerator in -(1_i128 << 40)..1 << 40, denominator in 1..1_u128 << 50, digits in 0..=9_u8,
        ) {
            for rounding in Rounding::ALL {
                let found = amount(quantity, Ratio::new(numerator, denominator), rounding, digits).expect("fits");
                let exact = quantity.cast_signed() * numerator;
                prop_assert_eq!(found.nanos * denominator.cast_signed() + found.remainder, exact);
                prop_assert_eq!(found.nanos.unsigned_abs() % coin(digits), 0);
                prop_assert!(found.remainder.unsigned_abs() < denominator * coin(digits));
            }
        }
    }
}
