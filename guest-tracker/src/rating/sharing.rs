//! One amount for several, to the last coin.

use crate::words::times;

/// Splits `total` in proportion to `weights`, in multiples of `coin`, by largest remainder: each gets its share rounded down, and the coins that
/// are left go one each to those that lost most by that. Of equal losses the first in the list is served first.
///
/// The shares add up to `total` exactly; what of it is no multiple of `coin` goes to the first that has a weight. Without any weight all
/// count the same. `None` for nobody to share, a coin of 0, and past 128 bits.
pub fn shares(total: i128, weights: &[u128], coin: u128) -> Option<Vec<i128>> {
    let coins = total.unsigned_abs().checked_div(coin)?;
    let odd = total.unsigned_abs() % coin;
    let ones = vec![1; weights.len()];
    let weights = if weights.iter().all(|&weight| weight == 0) { ones.as_slice() } else { weights };
    let mut sum = 0_u128;
    for &weight in weights {
        sum = sum.checked_add(weight)?;
    }
    let mut whole = Vec::with_capacity(weights.len());
    let mut losses = Vec::with_capacity(weights.len());
    let mut left = coins;
    for &weight in weights {
        let exact = times(coins, weight)?;
        let share = exact.checked_div(sum)?;
        left = left.checked_sub(share)?;
        whole.push(share);
        losses.push(exact - times(share, sum)?);
    }
    // Fewer coins are left than weights have lost a part of one.
    for _ in 0..left {
        let largest = losses.iter().max()?;
        let index = losses.iter().position(|loss| loss == largest)?;
        whole[index] = whole[index].checked_add(1)?;
        losses[index] = 0;
    }
    let first = weights.iter().position(|&weight| weight > 0)?;
    let mut split = Vec::with_capacity(whole.len());
    for (index, share) in whole.into_iter().enumerate() {
        let nanos = times(share, coin)?.checked_add(if index == first { odd } else { 0 })?;
        let nanos = i128::try_from(nanos).ok()?;
        split.push(if total < 0 { -nanos } else { nanos });
    }
    Some(split)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CENT: u128 = 10_000_000;

    #[test]
    fn a_unit_in_three_is_34_33_33() {
        let unit = 1_000_000_000;
        assert_eq!(shares(unit, &[1, 1, 1], CENT), Some(vec![340_000_000, 330_000_000, 330_000_000]));
        assert_eq!(shares(-unit, &[5, 5, 5], CENT), Some(vec![-340_000_000, -330_000_000, -330_000_000]));
        assert_eq!(shares(unit, &[0, 0, 0], CENT), shares(unit, &[1, 1, 1], CENT), "no weight is the same weight");
    }

    #[test]
    fn the_largest_loss_is_served_first() {
        // 10 coins over 1:1:4 are 1 2/3, 1 2/3, 6 2/3: two coins are left, and the first two have lost as much as the third.
        assert_eq!(shares(10, &[1, 1, 4], 1), Some(vec![2, 2, 6]));
        assert_eq!(shares(10, &[4, 1, 1], 1), Some(vec![7, 2, 1]));
    }

    #[test]
    fn half_a_coin_stays_with_the_first_that_has_a_weight() {
        assert_eq!(shares(15, &[0, 1, 1], 10), Some(vec![0, 15, 0]));
        assert_eq!(shares(0, &[3], 10), Some(vec![0]));
        assert_eq!(shares(5, &[], 1), None);
        assert_eq!(shares(5, &[1], 0), None);
        assert_eq!(shares(i128::MAX, &[u128::MAX, 1], 1), None);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_are_off_by_less_than_a_coin(
            total in -1_000_000_i128..1_000_000, weights in prop::collection::vec(0..1_000_u128, 1..20), coin in 1..100_u128,
        ) {
            let total = total * coin.cast_signed();
            let split = shares(total, &weights, coin).expect("fits");
            prop_assert_eq!(split.iter().sum::<i128>(), total);
            let sum: u128 = weights.iter().sum();
            for (share, weight) in split.iter().zip(&weights).filter(|_| sum > 0) {
                let exact = total.unsigned_abs() * weight;
                prop_assert!((share.unsigned_abs() * sum).abs_diff(exact) < coin * sum);
            }
        }
    }
}
