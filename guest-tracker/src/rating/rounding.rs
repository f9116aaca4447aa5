//! What becomes of what does not fit the grid.

use crate::words::times;

/// How a number is brought to a whole. Named by what happens to the magnitude: negative numbers mirror positive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest; from the middle to the even one.
    HalfEven,
    /// To the nearest; from the middle away from zero.
    HalfUp,
    /// Towards zero.
    Down,
    /// Away from zero.
    Up,
}

impl Rounding {
    /// All of them.
    pub const ALL: [Rounding; 4] = [Rounding::HalfEven, Rounding::HalfUp, Rounding::Down, Rounding::Up];

    /// Its name in price books and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Rounding::HalfEven => "half-even",
            Rounding::HalfUp => "half-up",
            Rounding::Down => "down",
            Rounding::Up => "up",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rounding| rounding.as_str() == name)
    }

    /// `dividend / divisor` as a whole number. `None` for a divisor of 0, and past 128 bits.
    #[inline(never)]
    pub fn divide(self, dividend: u128, divisor: u128) -> Option<u128> {
        let quotient = dividend.checked_div(divisor)?;
        let rest = dividend % divisor;
        // The rest is compared with what is missing to the next whole: doubling it could overflow.
        let up = self.goes_up(rest, divisor - rest, quotient % 2 == 1);
        quotient.checked_add(u128::from(up))
    }

    /// Whether a rest goes up to the next whole, to which so much is missing.
    #[inline]
    fn goes_up<T: Ord + Default>(self, rest: T, missing: T, is_odd: bool) -> bool {
        match self {
            Rounding::Down => false,
            Rounding::Up => rest > T::default(),
            Rounding::HalfUp => rest >= missing,
            Rounding::HalfEven => rest > missing || (rest == missing && is_odd),
        }
    }

    /// [`Rounding::to_multiple`] in 64 bits, for every stretch of time is brought to its grain.
    #[inline]
    pub(crate) fn to_multiple_u64(self, value: u64, step: u64) -> Option<u64> {
        let quotient = value.checked_div(step)?;
        let rest = value % step;
        let up = self.goes_up(rest, step - rest, quotient % 2 == 1);
        (value - rest).checked_add(if up { step } else { 0 })
    }

    /// `value` as a multiple of `step`. `None` for a step of 0, and past 128 bits.
    pub fn to_multiple(self, value: u128, step: u128) -> Option<u128> {
        times(self.divide(value, step)?, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_mode_rounds_its_own_way_at_the_edges() {
        let rows = [
            // dividend, divisor: half-even, half-up, down, up
            (0, 2, [0, 0, 0, 0]),
            (1, 2, [0, 1, 0, 1]),
            (2, 2, [1, 1, 1, 1]),
            (3, 2, [2, 2, 1, 2]),
            (5, 2, [2, 3, 2, 3]),
            (1, 3, [0, 0, 0, 1]),
            (2, 3, [1, 1, 0, 1]),
            (7, 1, [7, 7, 7, 7]),
            (u128::MAX, 1, [u128::MAX; 4]),
            (u128::MAX, u128::MAX, [1; 4]),
            (u128::MAX - 1, u128::MAX, [1, 1, 0, 1]),
            (u128::MAX / 2, u128::MAX, [0, 0, 0, 1]),
            (u128::MAX / 2 + 1, u128::MAX, [1, 1, 0, 1]),
        ];
        for (dividend, divisor, expected) in rows {
            let found = Rounding::ALL.map(|rounding| rounding.divide(dividend, divisor));
            assert_eq!(found, expected.map(Some), "{dividend} / {divisor}");
        }
        assert!(Rounding::ALL.iter().all(|rounding| rounding.divide(1, 0).is_none()));
    }

    #[test]
    fn a_multiple_past_the_end_is_none() {
        assert_eq!(Rounding::Up.to_multiple(u128::MAX, 2), None);
        assert_eq!(Rounding::Down.to_multiple(u128::MAX, 2), Some(u128::MAX - 1));
        assert_eq!(Rounding::Up.to_multiple(59_999, 60_000), Some(60_000));
    }

    #[test]
    fn names_lead_back() {
        for rounding in Rounding::ALL {
            assert_eq!(Rounding::named(rounding.as_str()), Some(rounding));
        }
        assert_eq!(Rounding::named("banker"), None);
    }

    proptest! {
        #[test]
        fn a_multiple_is_the_same_in_64_bits(value: u64, step: u64, small in 0..5_u64) {
            for (rounding, step) in Rounding::ALL.into_iter().flat_map(|rounding| [(rounding, step), (rounding, small)]) {
                let wide = rounding.to_multiple(value.into(), step.into());
                let wide = wide.and_then(|multiple| u64::try_from(multiple).ok());
                prop_assert_eq!(rounding.to_multiple_u64(value, step), wide);
            }
        }

        #[test]
        fn no_mode_is_off_by_a_whole_and_the_near_ones_by_more_than_a_half(dividend: u64, divisor in 1..=u64::MAX) {
            let (dividend, divisor) = (u128::from(dividend), u128::from(divisor));
            for rounding in Rounding::ALL {
                let off = (rounding.divide(dividend, divisor).expect("fits") * divisor).abs_diff(dividend);
                prop_assert!(off < divisor);
                if matches!(rounding, Rounding::HalfEven | Rounding::HalfUp) {
                    prop_assert!(off * 2 <= divisor);
                }
            }
        }
    }
}
