//! Steps of a price: which part of a quantity is charged at which of them.

use super::rounding::Rounding;
use super::text::join;
use crate::{Price, RatingError};

/// How the tiers of a price are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The first tier alone, for everything.
    Flat,
    /// Each tier for what lies inside it.
    Graduated,
    /// The tier that the whole reaches, for the whole.
    Volume,
    /// The first tier alone, for whole packages of its size.
    Package,
}

impl Model {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "flat" => Self::Flat,
            "graduated" => Self::Graduated,
            "volume" => Self::Volume,
            "package" => Self::Package,
            _ => return None,
        })
    }
}

/// A part of a charge at one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// Index of the tier.
    pub tier: usize,
    /// What is charged.
    pub billed: u128,
    /// What it is.
    pub kind: Kind,
}

/// What a part of a charge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For use.
    Usage,
    /// Takes back what was charged at a volume price that no longer holds.
    Reversal,
    /// The fee of a tier.
    Once,
    /// Takes back the fee of a tier whose volume was left behind.
    OnceReversal,
}

impl Kind {
    pub(crate) fn is_fee(self) -> bool {
        matches!(self, Self::Once | Self::OnceReversal)
    }
}

/// The bands of `billed`, given that `before` was charged under the same rule already.
///
/// # Errors
/// [`RatingError::Overflow`] past 128 bits; [`RatingError::Other`] for tiers that make no sense.
pub fn bands(price: &Price, before: u128, billed: u128) -> Result<Vec<Band>, RatingError> {
    let model = Model::named(&price.model);
    let model = model.ok_or_else(|| wrong(price, "no known model"))?;
    if price.tiers.is_empty() {
        return Err(wrong(price, "no tier"));
    }
    let after = before.checked_add(billed).ok_or(RatingError::Overflow)?;
    let mut bands = Bands { price, list: Vec::new() };
    match model {
        Model::Flat => bands.flat(before, billed),
        Model::Package => bands.package(before, after)?,
        Model::Graduated => bands.graduated(before, after)?,
        Model::Volume => bands.volume(before, after)?,
    }
    Ok(bands.list)
}

#[cold]
#[inline(never)]
fn wrong(price: &Price, what: &str) -> RatingError {
    RatingError::Other(join(&["the price ", &price.id, " has ", what]))
}

/// Where the tier ends.
fn end(price: &Price, tier: usize) -> Option<u128> {
    price.tiers.get(tier).and_then(|tier| tier.up_to).map(u128::from)
}

/// The bands of a price, as they are found.
struct Bands<'a> {
    price: &'a Price,
    list: Vec<Band>,
}

impl Bands<'_> {
    #[inline(never)]
    fn push(&mut self, tier: usize, billed: u128, kind: Kind) {
        self.list.push(Band { tier, billed, kind });
    }

    /// Adds the fee of a tier that has one.
    #[inline(never)]
    fn fee(&mut self, tier: usize, kind: Kind) {
        if self.price.tiers.get(tier).is_some_and(|tier| i128::from(tier.once) != 0) {
            self.push(tier, 1, kind);
        }
    }

    fn flat(&mut self, before: u128, billed: u128) {
        self.push(0, billed, Kind::Usage);
        if before == 0 && billed > 0 {
            self.fee(0, Kind::Once);
        }
    }

    /// Packages that were begun before are paid.
    fn package(&mut self, before: u128, after: u128) -> Result<(), RatingError> {
        let size = end(self.price, 0).filter(|&size| size > 0);
        let size = size.ok_or_else(|| wrong(self.price, "no size of a package"))?;
        let whole = |quantity| Rounding::Up.to_multiple(quantity, size).ok_or(RatingError::Overflow);
        self.flat(before, whole(after)? - whole(before)?);
        Ok(())
    }

    fn graduated(&mut self, before: u128, after: u128) -> Result<(), RatingError> {
        let mut start = 0;
        for tier in 0..self.price.tiers.len() {
            let end = end(self.price, tier).unwrap_or(u128::MAX);
            if end < start {
                return Err(wrong(self.price, "tiers out of order"));
            }
            let (from, to) = (before.max(start), after.min(end));
            if from < to {
                self.push(tier, to - from, Kind::Usage);
                if before <= start {
                    self.fee(tier, Kind::Once);
                }
            }
            start = end;
        }
        if after > start {
            return Err(wrong(self.price, "no tier for more"));
        }
        if self.list.is_empty() {
            self.push(tier_of(self.price, before)?, 0, Kind::Usage);
        }
        Ok(())
    }

    fn volume(&mut self, before: u128, after: u128) -> Result<(), RatingError> {
        let (old, new) = (tier_of(self.price, before)?, tier_of(self.price, after)?);
        let moves = before > 0 && old != new;
        if moves {
            self.push(old, before, Kind::Reversal);
            self.fee(old, Kind::OnceReversal);
        }
        self.push(new, if moves { after } else { after - before }, Kind::Usage);
        if moves || (before == 0 && after > 0) {
            self.fee(new, Kind::Once);
        }
        Ok(())
    }
}

/// The tier in which a quantity lies.
#[inline(never)]
fn tier_of(price: &Price, quantity: u128) -> Result<usize, RatingError> {
    let found = (0..price.tiers.len()).find(|&tier| end(price, tier).is_none_or(|end| quantity <= end));
    found.ok_or_else(|| wrong(price, "no tier for more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::sample;
    use crate::{Ratio, Tier};
    use proptest::prelude::*;

    fn price(model: &str, tiers: &[(Option<u128>, i128, i128)]) -> Price {
        let tier = |&(up_to, price, once): &(Option<u128>, i128, i128)| Tier {
            up_to: up_to.map(Into::into),
            price: Ratio::new(price, 1),
            once: once.into(),
        };
        Price { model: model.into(), tiers: tiers.iter().map(tier).collect(), ..sample::price() }
    }

    fn found(price: &Price, before: u128, billed: u128) -> Vec<(usize, u128, Kind)> {
        let bands = bands(price, before, billed).expect("sound tiers");
        bands.iter().map(|band| (band.tier, band.billed, band.kind)).collect()
    }

    /// What bands cost, exactly.
    fn cost(price: &Price, bands: &[Band]) -> i128 {
        let one = |band: &Band| {
            let tier = &price.tiers[band.tier];
            let (unit, once) = (i128::from(tier.price.numerator), i128::from(tier.once));
            match band.kind {
                Kind::Usage => band.billed.cast_signed() * unit,
                Kind::Reversal => -band.billed.cast_signed() * unit,
                Kind::Once => once,
                Kind::OnceReversal => -once,
            }
        };
        bands.iter().map(one).sum()
    }

    const STEPS: [(Option<u128>, i128, i128); 3] = [(Some(10), 5, 0), (Some(15), 4, 0), (None, 3, 0)];

    #[test]
    fn graduated_charges_each_tier_for_what_lies_in_it() {
        let price = price("graduated", &STEPS);
        let usage = Kind::Usage;
        assert_eq!(found(&price, 0, 0), [(0, 0, usage)]);
        assert_eq!(found(&price, 0, 10), [(0, 10, usage)]);
        assert_eq!(found(&price, 0, 11), [(0, 10, usage), (1, 1, usage)]);
        assert_eq!(found(&price, 0, 20), [(0, 10, usage), (1, 5, usage), (2, 5, usage)]);
        assert_eq!(found(&price, 10, 1), [(1, 1, usage)]);
        assert_eq!(found(&price, 14, 2), [(1, 1, usage), (2, 1, usage)]);
        assert_eq!(found(&price, 100, 0), [(2, 0, usage)]);
    }

    #[test]
    fn volume_charges_the_whole_at_the_tier_it_reaches_and_takes_back_the_other() {
        let price = price("volume", &[(Some(15), 10, 0), (None, 5, 0)]);
        assert_eq!(found(&price, 0, 15), [(0, 15, Kind::Usage)]);
        assert_eq!(found(&price, 0, 16), [(1, 16, Kind::Usage)]);
        // 15 at 10 were charged; the sixteenth makes it 16 at 5: -150, +80.
        assert_eq!(found(&price, 15, 1), [(0, 15, Kind::Reversal), (1, 16, Kind::Usage)]);
        assert_eq!(cost(&price, &bands(&price, 15, 1).expect("sound")), -70);
        assert_eq!(found(&price, 16, 4), [(1, 4, Kind::Usage)]);
    }

    #[test]
    fn a_package_that_was_begun_is_paid() {
        let price = price("package", &[(Some(100), 2, 0)]);
        assert_eq!(found(&price, 0, 0), [(0, 0, Kind::Usage)]);
        assert_eq!(found(&price, 0, 1), [(0, 100, Kind::Usage)]);
        assert_eq!(found(&price, 1, 99), [(0, 0, Kind::Usage)]);
        assert_eq!(found(&price, 100, 1), [(0, 100, Kind::Usage)]);
    }

    #[test]
    fn a_fee_is_charged_once_when_its_tier_is_reached() {
        let price = price("graduated", &[(Some(10), 1, 7), (None, 1, 9)]);
        assert_eq!(found(&price, 0, 0), [(0, 0, Kind::Usage)]);
        assert_eq!(found(&price, 0, 5), [(0, 5, Kind::Usage), (0, 1, Kind::Once)]);
        assert_eq!(found(&price, 5, 5), [(0, 5, Kind::Usage)]);
        assert_eq!(found(&price, 10, 1), [(1, 1, Kind::Usage), (1, 1, Kind::Once)]);
        assert_eq!(found(&price, 11, 1), [(1, 1, Kind::Usage)]);
    }

    #[test]
    fn included_quantities_are_a_first_tier_for_nothing() {
        let price = price("graduated", &[(Some(400_000), 0, 0), (None, 1, 0)]);
        assert_eq!(found(&price, 0, 552_960), [(0, 400_000, Kind::Usage), (1, 152_960, Kind::Usage)]);
    }

    #[test]
    fn tiers_that_make_no_sense_are_refused() {
        let rows = [
            price("graduated", &[]),
            price("graduated", &[(Some(3), 1, 0)]),
            price("graduated", &[(Some(3), 1, 0), (Some(2), 1, 0), (None, 1, 0)]),
            price("volume", &[(Some(3), 1, 0)]),
            price("package", &[(None, 1, 0)]),
            price("package", &[(Some(0), 1, 0)]),
            price("steps", &STEPS),
        ];
        for price in rows {
            assert!(matches!(bands(&price, 0, 4), Err(RatingError::Other(_))), "{price:?}");
        }
        assert_eq!(bands(&price("flat", &STEPS), u128::MAX, 1), Err(RatingError::Overflow));
    }

    fn model() -> impl Strategy<Value = &'static str> {
        prop::sample::select(["flat", "graduated", "volume", "package"].as_slice())
    }

    proptest! {
        #[test]
        fn charging_in_two_goes_costs_what_one_go_costs(
            model in model(), before in 0..40_u128, one in 0..40_u128, other in 0..40_u128, fee in 0..9_i128,
        ) {
            let price = price(model, &[(Some(10), 5, fee), (Some(25), 4, 2 * fee), (None, 3, fee)]);
            let together = cost(&price, &bands(&price, before, one + other).expect("sound"));
            let first = cost(&price, &bands(&price, before, one).expect("sound"));
            let second = cost(&price, &bands(&price, before + one, other).expect("sound"));
            prop_assert_eq!(first + second, together);
        }
    }
}
