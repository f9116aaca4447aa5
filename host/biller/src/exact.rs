//! Sums of units times prices, exactly, in the narrowest integers that hold them.

use std::cell::OnceCell;
use std::cmp::Ordering;

use ethnum::U256;
use num_bigint::BigUint;

use crate::book::Ratio;
use crate::input::Rounding;

/// An integer of 0 or more, of some width.
pub(crate) trait Natural: Clone + Ord {
    fn of(value: u128) -> Self;
    fn plus(&self, other: &Self) -> Option<Self>;
    fn times(&self, other: &Self) -> Option<Self>;
    /// Returns quotient and remainder; the divisor is not 0.
    fn over(&self, divisor: &Self) -> (Self, Self);
    fn narrow(&self) -> Option<u128>;
    /// The number in 64 bits, if it fits.
    fn word(&self) -> Option<u64> {
        u64::try_from(self.narrow()?).ok()
    }
    fn is_odd(&self) -> bool;
    /// Compares two fractions, each a numerator and a denominator.
    fn compare(one: (&Self, &Self), other: (&Self, &Self)) -> Ordering;
}

impl Natural for u128 {
    fn of(value: u128) -> Self {
        value
    }
    fn plus(&self, other: &Self) -> Option<Self> {
        self.checked_add(*other)
    }
    fn times(&self, other: &Self) -> Option<Self> {
        times(*self, *other)
    }
    fn over(&self, divisor: &Self) -> (Self, Self) {
        divide(*self, *divisor)
    }
    fn narrow(&self) -> Option<u128> {
        Some(*self)
    }
    fn is_odd(&self) -> bool {
        self & 1 == 1
    }
    fn compare(one: (&Self, &Self), other: (&Self, &Self)) -> Ordering {
        if one.1 == other.1 {
            return one.0.cmp(other.0);
        }
        let product = |above: &u128, below: &u128| U256::from(*above) * U256::from(*below);
        product(one.0, other.1).cmp(&product(other.0, one.1))
    }
}

impl Natural for U256 {
    fn of(value: u128) -> Self {
        U256::from(value)
    }
    fn plus(&self, other: &Self) -> Option<Self> {
        self.checked_add(*other)
    }
    fn times(&self, other: &Self) -> Option<Self> {
        self.checked_mul(*other)
    }
    fn over(&self, divisor: &Self) -> (Self, Self) {
        (self / divisor, self % divisor)
    }
    fn narrow(&self) -> Option<u128> {
        u128::try_from(*self).ok()
    }
    fn is_odd(&self) -> bool {
        self.low() & 1 == 1
    }
    fn compare(one: (&Self, &Self), other: (&Self, &Self)) -> Ordering {
        if one.1 == other.1 {
            return one.0.cmp(other.0);
        }
        let big = |value: &U256| BigUint::from_bytes_le(&value.to_le_bytes());
        (big(one.0) * big(other.1)).cmp(&(big(other.0) * big(one.1)))
    }
}

impl Natural for BigUint {
    fn of(value: u128) -> Self {
        BigUint::from(value)
    }
    fn plus(&self, other: &Self) -> Option<Self> {
        Some(self + other)
    }
    fn times(&self, other: &Self) -> Option<Self> {
        Some(self * other)
    }
    fn over(&self, divisor: &Self) -> (Self, Self) {
        (self / divisor, self % divisor)
    }
    fn narrow(&self) -> Option<u128> {
        u128::try_from(self).ok()
    }
    fn is_odd(&self) -> bool {
        self.bit(0)
    }
    fn compare(one: (&Self, &Self), other: (&Self, &Self)) -> Ordering {
        (one.0 * other.1).cmp(&(other.0 * one.1))
    }
}

/// The product without a multiplication of 128 bits, which WebAssembly does not have.
pub(crate) fn product(one: u64, other: u64) -> u128 {
    const HALF: u64 = u32::MAX as u64;
    let one_high = one >> 32;
    let one_low = one & HALF;
    let other_high = other >> 32;
    let other_low = other & HALF;
    // None of these overflows: (2^32 - 1)^2 + 2 * (2^32 - 1) < 2^64.
    let low = one_low * other_low;
    let middle = one_high * other_low + (low >> 32);
    let cross = one_low * other_high + (middle & HALF);
    let high = one_high * other_high + (middle >> 32) + (cross >> 32);
    u128::from(high) << 64 | u128::from(cross << 32 | low & HALF)
}

/// A product, if it fits. Most have a factor of 64 bits, which takes two of the above.
pub(crate) fn times(one: u128, other: u128) -> Option<u128> {
    if (one | other) >> 64 == 0 {
        return Some(product(one as u64, other as u64));
    }
    let wide = one.max(other);
    let narrow = one.min(other);
    let Ok(narrow) = u64::try_from(narrow) else { return wide.checked_mul(one.min(other)) };
    let low = product(wide as u64, narrow);
    let high = product((wide >> 64) as u64, narrow);
    if high >> 64 != 0 { None } else { (high << 64).checked_add(low) }
}

/// Quotient and remainder; the divisor is not 0. WebAssembly divides 64 bits at once and 128 bit by
/// bit, and most divisors have no more than 64 bits beside factors of two.
pub(crate) fn divide(value: u128, divisor: u128) -> (u128, u128) {
    if let Ok(divisor) = u64::try_from(divisor) {
        let (quotient, rest) = divide_by(value, divisor);
        return (quotient, rest.into());
    }
    let shift = divisor.trailing_zeros();
    match u64::try_from(divisor >> shift) {
        Ok(odd) => {
            let (quotient, rest) = divide_by(value >> shift, odd);
            (quotient, u128::from(rest) << shift | value & !(u128::MAX << shift))
        }
        Err(_) => {
            let quotient = value / divisor;
            // A second division would cost as much as the first.
            (quotient, value.wrapping_sub(quotient.wrapping_mul(divisor)))
        }
    }
}

fn divide_by(value: u128, divisor: u64) -> (u128, u64) {
    let high = (value >> 64) as u64;
    let low = value as u64;
    if high == 0 {
        return ((low / divisor).into(), low % divisor);
    }
    let first = high / divisor;
    let rest = high % divisor;
    let (second, rest) = match rest {
        0 => (low / divisor, low % divisor),
        rest => divide_wide(rest, low, divisor),
    };
    (u128::from(first) << 64 | u128::from(second), rest)
}

/// Divides `high * 2^64 + low`, where `high` is less than the divisor, in digits of 32 bits:
/// Knuth, The Art of Computer Programming, volume 2, section 4.3.1, algorithm D.
fn divide_wide(high: u64, low: u64, divisor: u64) -> (u64, u64) {
    let shift = divisor.leading_zeros();
    let divisor = divisor << shift;
    // Two shifts, since one by 64 is none.
    let high = high << shift | low >> 1 >> (63 - shift);
    let low = low << shift;
    let (first, rest) = digit(high, low >> 32, divisor);
    let (second, rest) = digit(rest, low & u64::from(u32::MAX), divisor);
    (first << 32 | second, rest >> shift)
}

/// One digit of the quotient of `rest * 2^32 + next`, and what remains. The divisor's highest bit
/// is set, and `rest` is less than it.
fn digit(rest: u64, next: u64, divisor: u64) -> (u64, u64) {
    const HALF: u64 = u32::MAX as u64;
    let above = divisor >> 32;
    let below = divisor & HALF;
    let mut digit = rest / above;
    let mut left = rest % above;
    // At most two too large.
    while left <= HALF && (digit > HALF || digit * below > (left << 32 | next)) {
        digit -= 1;
        left += above;
    }
    let rest = (rest << 32 | next).wrapping_sub(digit.wrapping_mul(divisor));
    (digit, rest)
}

/// Rounds a quotient, given the remainder and the divisor.
pub(crate) fn rounded<N: Natural>(
    quotient: N,
    rest: &N,
    divisor: &N,
    rounding: Rounding,
) -> Option<N> {
    let nothing = N::of(0);
    if *rest == nothing {
        return Some(quotient);
    }
    let is_up = match rounding {
        Rounding::Down => false,
        Rounding::Up => true,
        Rounding::HalfUp | Rounding::HalfEven => {
            let double = rest.plus(rest)?;
            let is_tie_up = rounding == Rounding::HalfUp || quotient.is_odd();
            double > *divisor || double == *divisor && is_tie_up
        }
    };
    if is_up { quotient.plus(&N::of(1)) } else { Some(quotient) }
}

/// Prices over one denominator: the amount of `units` is `units * factor / denominator`, in the
/// units that sums are rounded to.
pub(crate) struct Scale<N> {
    pub(crate) factors: Vec<N>,
    pub(crate) denominator: N,
}

impl<N: Natural> Scale<N> {
    /// `unit_nanos`: nano-units in the unit that sums are rounded to. None where the width is too
    /// small.
    pub(crate) fn of(prices: &[Ratio], unit_nanos: u128) -> Option<Self> {
        let mut common = N::of(1);
        for price in prices {
            common = least_common_multiple(&common, &N::of(price.denominator))?;
        }
        let factor =
            |price: &Ratio| N::of(price.numerator).times(&common.over(&N::of(price.denominator)).0);
        let factors = prices.iter().map(factor).collect::<Option<_>>()?;
        let denominator = common.times(&N::of(unit_nanos))?;
        Some(Self { factors, denominator })
    }

    /// Numerator of the amount of some units at a price.
    pub(crate) fn numerator(&self, price: usize, units: u128) -> Option<N> {
        N::of(units).times(&self.factors[price])
    }

    /// A sum of numerators, rounded.
    pub(crate) fn round(&self, sum: &N, rounding: Rounding) -> Option<u128> {
        let (quotient, rest) = sum.over(&self.denominator);
        rounded(quotient, &rest, &self.denominator, rounding)?.narrow()
    }
}

fn least_common_multiple<N: Natural>(one: &N, other: &N) -> Option<N> {
    let nothing = N::of(0);
    let mut larger = one.clone();
    let mut smaller = other.clone();
    while smaller != nothing {
        let rest = larger.over(&smaller).1;
        larger = smaller;
        smaller = rest;
    }
    one.over(&larger).0.times(other)
}

/// Rounded sums of units at prices.
pub(crate) struct Summing {
    prices: Vec<Ratio>,
    unit_nanos: u128,
    rounding: Rounding,
    narrow: OnceCell<Option<Scale<u128>>>,
    wide: OnceCell<Option<Scale<U256>>>,
}

impl Summing {
    pub(crate) fn of(prices: Vec<Ratio>, unit_nanos: u128, rounding: Rounding) -> Self {
        let narrow = OnceCell::new();
        let wide = OnceCell::new();
        Self { prices, unit_nanos, rounding, narrow, wide }
    }

    /// The sum of `units[n]` at price n, in rounded units; none if it is larger than 128 bits.
    pub(crate) fn sum(&self, units: &[u128]) -> Option<u128> {
        let narrow = self.narrow.get_or_init(|| self.scale());
        narrow.as_ref().and_then(|scale| self.by(scale, units)).or_else(|| {
            let wide = self.wide.get_or_init(|| self.scale());
            let sum = wide.as_ref().and_then(|scale| self.by(scale, units));
            sum.or_else(|| self.by(&self.scale::<BigUint>()?, units))
        })
    }

    fn scale<N: Natural>(&self) -> Option<Scale<N>> {
        Scale::of(&self.prices, self.unit_nanos)
    }

    fn by<N: Natural>(&self, scale: &Scale<N>, units: &[u128]) -> Option<u128> {
        let mut sum = N::of(0);
        for (price, &units) in units.iter().enumerate().filter(|(_, units)| **units > 0) {
            sum = sum.plus(&scale.numerator(price, units)?)?;
        }
        scale.round(&sum, self.rounding)
    }
}

/// Returns `value * share / whole`, rounded down, and the remainder.
pub(crate) fn share(value: u128, share: u128, whole: u128) -> (u128, u128) {
    if let Some(product) = times(value, share) {
        return divide(product, whole);
    }
    let product = U256::from(value) * U256::from(share);
    let (quotient, rest) = product.over(&U256::from(whole));
    // A share of the whole is no more than the value.
    (quotient.narrow().unwrap_or(u128::MAX), rest.narrow().unwrap_or(0))
}

/// Shares `value` in proportion to weights, as whole numbers by largest remainder. Of equal
/// remainders the one with the smaller rank goes first. The weights' sum is at least `value` and
/// not 0, so that no share is larger than its weight.
pub(crate) fn apportion(value: u128, weights: &[u128], rank: impl Fn(usize) -> u64) -> Vec<u128> {
    let whole: u128 = weights.iter().sum();
    if let [_] = weights {
        return vec![value];
    }
    let cut: Vec<_> = weights.iter().map(|&weight| share(value, weight, whole)).collect();
    let mut shares: Vec<_> = cut.iter().map(|&(quotient, _)| quotient).collect();
    let missing = value - shares.iter().sum::<u128>();
    if missing > 0 {
        let mut order: Vec<_> = (0..weights.len()).collect();
        order.sort_unstable_by_key(|&number| (std::cmp::Reverse(cut[number].1), rank(number)));
        for &number in order.iter().take(usize::try_from(missing).unwrap_or(usize::MAX)) {
            shares[number] += 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratio(numerator: u128, denominator: u128) -> Ratio {
        Ratio { numerator, denominator }
    }

    proptest! {
        #[test]
        fn products_are_exact(one: u64, other: u64) {
            prop_assert_eq!(product(one, other), u128::from(one) * u128::from(other));
        }

        #[test]
        fn quotients_are_exact(
            value: u128,
            divisor in 1_u128..,
            cut in 0..128_u32,
            other_cut in 0..128_u32,
            shift in 0..64_u32,
        ) {
            let value = value >> cut;
            let divisor = ((divisor >> other_cut) << shift).max(1);
            prop_assert_eq!(divide(value, divisor), (value / divisor, value % divisor));
        }

        #[test]
        fn products_that_fit_are_exact_and_others_none(one: u128, other: u64, cut in 0..128_u32) {
            let one = one >> cut;
            let other = u128::from(other);
            prop_assert_eq!(times(one, other), one.checked_mul(other));
            prop_assert_eq!(times(other, one), one.checked_mul(other));
        }
    }

    #[test]
    fn products_of_extremes_are_exact() {
        let most = u64::MAX;
        assert_eq!(product(most, most), u128::from(most) * u128::from(most));
        assert_eq!(product(most, 0), 0);
        assert_eq!(times(u128::MAX, 1), Some(u128::MAX));
        assert_eq!(times(u128::MAX, 2), None);
        assert_eq!(times(1 << 64, 1 << 64), None);
    }

    #[test]
    fn quotients_of_extremes_are_exact() {
        let most = u128::from(u64::MAX);
        let some = [0, 1, 2, 3, most - 1, most, most + 1, most << 1, u128::MAX - 1, u128::MAX];
        let some = || some.into_iter().chain((0..128).map(|bit| 1 << bit));
        for value in some() {
            for divisor in some().filter(|&divisor| divisor > 0) {
                let expected = (value / divisor, value % divisor);
                assert_eq!(divide(value, divisor), expected, "{value} by {divisor}");
            }
        }
    }

    #[test]
    fn ties_go_where_the_rounding_says() {
        let rows = [
            (Rounding::HalfEven, [0, 0, 2, 2]),
            (Rounding::HalfUp, [0, 1, 2, 2]),
            (Rounding::Down, [0, 0, 1, 1]),
            (Rounding::Up, [1, 1, 2, 2]),
        ];
        for (rounding, expected) in rows {
            let round =
                |tenths: u128| rounded(tenths / 10, &(tenths % 10), &10, rounding).expect("small");
            assert_eq!([1, 5, 15, 19].map(round), expected, "{rounding:?}");
        }
    }

    #[test]
    fn every_width_gives_the_same_sum() {
        let prices = vec![ratio(1, 3), ratio(1, 7), ratio(5, 2), ratio(u64::MAX.into(), 11)];
        let units = [1, 1, 1, 0];
        let summing = Summing::of(prices.clone(), 1, Rounding::HalfUp);
        let narrow = Scale::<u128>::of(&prices, 1).expect("fits");
        let wide = Scale::<U256>::of(&prices, 1).expect("fits");
        let big = Scale::<BigUint>::of(&prices, 1).expect("fits");
        let sums =
            [summing.by(&narrow, &units), summing.by(&wide, &units), summing.by(&big, &units)];
        assert_eq!(sums, [Some(3); 3], "1/3 + 1/7 + 5/2 = 2.976");
    }

    #[test]
    fn sums_of_any_size_are_exact_or_refused() {
        let most = u128::MAX;
        let primes = [most - 158, most - 172, most - 232].map(|prime| ratio(1, prime));
        let summing = Summing::of(primes.to_vec(), 1, Rounding::Up);
        assert_eq!(summing.sum(&[1, 1, 1]), Some(1));
        let large = Summing::of(vec![ratio(most >> 1, 1)], 1, Rounding::Up);
        assert_eq!(large.sum(&[2]), Some(most - 1));
        assert_eq!(large.sum(&[3]), None);
    }

    #[test]
    fn shares_add_up_and_never_exceed_their_weights() {
        assert_eq!(apportion(5, &[3, 3, 3], |n| n as u64), [2, 2, 1]);
        assert_eq!(apportion(5, &[3, 3, 3], |n| 9 - n as u64), [1, 2, 2]);
        assert_eq!(apportion(0, &[3, 1], |n| n as u64), [0, 0]);
        let huge = u128::MAX / 4;
        assert_eq!(apportion(huge, &[huge, huge], |n| n as u64), [huge - huge / 2, huge / 2]);
    }
}
