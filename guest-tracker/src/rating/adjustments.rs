//! Minimum commitments, caps and credits: what changes the sum of an invoice.

use super::amounts::coin;
use super::carried::Carried;
use super::line::Terms;
use super::rounding::Rounding;
use super::sharing::shares;
use super::text::join;
use crate::words::times;
use crate::{Adjustment, ChargeLine, RatingError, Request, Span};

/// What one adjustment makes of a sum, in nano-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Up to a minimum.
    Minimum,
    /// Down to a cap.
    Cap,
    /// Paid from a credit.
    Credit,
}

impl Change {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "minimum" => Self::Minimum,
            "cap" => Self::Cap,
            "credit" => Self::Credit,
            _ => return None,
        })
    }

    /// By how much `sum` changes, given an amount of 0 or more. `None` past 128 bits.
    pub fn of(self, sum: i128, amount: i128) -> Option<i128> {
        match self {
            Self::Minimum => amount.checked_sub(sum).map(|missing| missing.max(0)),
            Self::Cap => amount.checked_sub(sum).map(|missing| missing.min(0)),
            Self::Credit => sum.max(0).min(amount).checked_neg(),
        }
    }
}

/// The part of `amount` that falls to `part` of `whole`, in whole coins. All of it where the whole has no length. `None` past 128 bits.
pub fn portion(amount: i128, part: Span, whole: Span, coin: u128, rounding: Rounding) -> Option<i128> {
    let length = |span: Span| u128::try_from(i128::from(span.end) - i128::from(span.start)).unwrap_or(0);
    if part == whole || length(whole) == 0 {
        return Some(amount);
    }
    let exact = times(amount.unsigned_abs(), length(part))?;
    let nanos = rounding.to_multiple(exact, times(length(whole), coin)?)?;
    let nanos = nanos.checked_div(length(whole))?;
    i128::try_from(nanos).ok().map(|nanos| if amount < 0 { -nanos } else { nanos })
}

/// Applies the book's adjustments to what the period has charged.
pub(crate) fn adjust(
    request: &Request,
    terms: Terms<'_>,
    carried: &mut Carried,
    lines: &mut Vec<ChargeLine>,
) -> Result<(), RatingError> {
    let mut sums = carried.sums();
    let start = request.period.start;
    for adjustment in &request.book.adjustments {
        if adjustment.valid.start <= start && start < adjustment.valid.end {
            apply(adjustment, request, terms, carried, &mut sums, lines)?;
        }
    }
    Ok(())
}

fn apply(
    adjustment: &Adjustment,
    request: &Request,
    terms: Terms<'_>,
    carried: &mut Carried,
    sums: &mut Vec<(String, i128)>,
    lines: &mut Vec<ChargeLine>,
) -> Result<(), RatingError> {
    let unknown = || RatingError::Other(join(&["the adjustment ", &adjustment.id, " has no known kind"]));
    let change = Change::named(&adjustment.kind).ok_or_else(unknown)?;
    let covers = |rule: &str| adjustment.rules.is_empty() || adjustment.rules.iter().any(|name| name == rule);
    let mut sum = 0_i128;
    for (_, part) in sums.iter().filter(|(rule, _)| covers(rule)) {
        sum = sum.checked_add(*part).ok_or(RatingError::Overflow)?;
    }
    let amount = amount(adjustment, change, request, terms, carried)?;
    let by = change.of(sum, amount).ok_or(RatingError::Overflow)?;
    if by == 0 {
        return Ok(());
    }
    if change == Change::Credit {
        *carried.used(&adjustment.id) -= by;
    }
    spread(by, sums, covers, &adjustment.id)?;
    terms.add_adjustment(adjustment, (by, sum, amount), lines);
    Ok(())
}

/// What an adjustment comes to in this period: its part of a minimum or a cap, what is left of a credit.
fn amount(
    adjustment: &Adjustment,
    change: Change,
    request: &Request,
    terms: Terms<'_>,
    carried: &mut Carried,
) -> Result<i128, RatingError> {
    let whole = i128::from(adjustment.amount);
    let amount = match change {
        Change::Minimum | Change::Cap => {
            let coin = coin(request.book.minor_digits);
            portion(whole, request.period, request.invoice, coin, terms.rounding)
        }
        Change::Credit => whole.checked_sub(*carried.used(&adjustment.id)).map(|left| left.max(0)),
    };
    amount.ok_or(RatingError::Overflow)
}

/// Lets the rules that were looked at share the change, so that a later adjustment finds them as they are now.
fn spread(
    by: i128,
    sums: &mut Vec<(String, i128)>,
    covers: impl Fn(&str) -> bool,
    id: &str,
) -> Result<(), RatingError> {
    let (mut covered, mut weights) = (Vec::new(), Vec::new());
    for (rule, sum) in sums.iter_mut() {
        if covers(rule) {
            weights.push(u128::try_from(*sum).unwrap_or(0));
            covered.push(sum);
        }
    }
    if covered.is_empty() {
        sums.push((join(&[id]), by));
        return Ok(());
    }
    let parts = shares(by, &weights, 1).ok_or(RatingError::Overflow)?;
    for (sum, part) in covered.into_iter().zip(parts) {
        *sum = sum.checked_add(part).ok_or(RatingError::Overflow)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_changes_a_sum_its_own_way() {
        let rows = [
            // sum, amount: minimum, cap, credit
            (30, 50, [20, 0, -30]),
            (50, 50, [0, 0, -50]),
            (80, 50, [0, -30, -50]),
            (0, 50, [50, 0, 0]),
            (-5, 50, [55, 0, 0]),
            (30, 0, [0, -30, 0]),
        ];
        for (sum, amount, expected) in rows {
            let found = [Change::Minimum, Change::Cap, Change::Credit].map(|change| change.of(sum, amount));
            assert_eq!(found, expected.map(Some), "{sum} {amount}");
        }
        assert_eq!(Change::Minimum.of(i128::MIN, 1), None);
    }

    #[test]
    fn a_part_of_an_invoice_has_its_part_in_whole_coins() {
        let (whole, coin) = (Span { start: 0, end: 30 }, 10);
        let of = |start, end| portion(1_000, Span { start, end }, whole, coin, Rounding::HalfEven);
        assert_eq!(of(0, 30), Some(1_000));
        assert_eq!(of(0, 15), Some(500));
        assert_eq!((of(0, 10), of(10, 30)), (Some(330), Some(670)));
        assert_eq!(of(5, 5), Some(0));
        let empty = Span { start: 4, end: 4 };
        assert_eq!(portion(1_000, empty, empty, coin, Rounding::Up), Some(1_000));
        assert_eq!(portion(i128::MAX, Span { start: 0, end: 29 }, whole, coin, Rounding::Up), None);
    }

    proptest! {
        #[test]
        fn parts_of_a_commitment_are_off_by_less_than_a_coin_each(
            amount in 0..1_000_000_i128, cut in 0..=1_000_i64, coin in 1..1_000_u128,
        ) {
            let (amount, whole) = (amount * coin.cast_signed(), Span { start: 0, end: 1_000 });
            let part = |start, end| portion(amount, Span { start, end }, whole, coin, Rounding::HalfEven);
            let sum = part(0, cut).expect("fits") + part(cut, 1_000).expect("fits");
            prop_assert!(sum.abs_diff(amount) <= coin);
        }
    }
}
