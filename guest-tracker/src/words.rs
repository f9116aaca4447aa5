//! The contract's 128-bit integers as Rust's own.

use crate::{Ratio, S128Words, U128Words};

impl From<u128> for U128Words {
    fn from(value: u128) -> Self {
        Self { lower: (value & u128::from(u64::MAX)) as u64, upper: (value >> 64) as u64 }
    }
}

impl From<U128Words> for u128 {
    fn from(words: U128Words) -> Self {
        (u128::from(words.upper) << 64) | u128::from(words.lower)
    }
}

impl From<i128> for S128Words {
    fn from(value: i128) -> Self {
        let words = U128Words::from(value.cast_unsigned());
        Self { lower: words.lower, upper: words.upper.cast_signed() }
    }
}

impl From<S128Words> for i128 {
    fn from(words: S128Words) -> Self {
        u128::from(U128Words { lower: words.lower, upper: words.upper.cast_unsigned() }).cast_signed()
    }
}

impl Ratio {
    /// `numerator` nano-units for `denominator` units of quantity.
    pub fn new(numerator: i128, denominator: u128) -> Self {
        Self { numerator: numerator.into(), denominator: denominator.into() }
    }
}

/// `one * other`; `None` past 128 bits. WebAssembly multiplies 64 bits, so this is long, and it stands in a component once.
#[inline(never)]
pub(crate) fn times(one: u128, other: u128) -> Option<u128> {
    one.checked_mul(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_carry_every_bit_and_the_sign() {
        for value in [0, 1, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX - 1, u128::MAX] {
            assert_eq!(u128::from(U128Words::from(value)), value);
        }
        for value in [0, 1, -1, i128::from(i64::MIN), i128::from(u64::MAX), i128::MIN, i128::MAX] {
            assert_eq!(i128::from(S128Words::from(value)), value);
        }
        assert_eq!(S128Words::from(-1), S128Words { lower: u64::MAX, upper: -1 });
    }
}
