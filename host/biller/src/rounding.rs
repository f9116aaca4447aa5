//! Rounding: a rule's sum is rounded once, and its lines share it by largest remainder.

use ethnum::U256;
use num_bigint::BigUint;

use crate::book::Ratio;
use crate::exact::{Natural, Summing, rounded, times};
use crate::input::Rounding;
use crate::output::{Line, Tariff};

/// The digits to which sums are rounded, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digits {
    /// Nano-units in the last digit.
    pub(crate) unit_nanos: u128,
    pub(crate) rounding: Rounding,
}

impl Digits {
    /// Rounding to `digits` digits after the point, 0 to 9.
    pub(crate) fn new(digits: u8, rounding: Rounding) -> Self {
        Self { unit_nanos: 10_u128.pow(9_u32.saturating_sub(digits.into())), rounding }
    }

    /// Rounds a fraction of nano-units to units of the last digit.
    pub(crate) fn round(self, numerator: U256, denominator: u128) -> Option<u128> {
        let divisor = U256::from(denominator).checked_mul(U256::from(self.unit_nanos))?;
        let (quotient, rest) = numerator.over(&divisor);
        rounded(quotient, &rest, &divisor, self.rounding)?.narrow()
    }

    /// Converts units of the last digit to nano-units.
    pub(crate) fn nanos(self, units: u128) -> Option<i128> {
        let nanos = if self.unit_nanos == 1 { units } else { times(units, self.unit_nanos)? };
        i128::try_from(nanos).ok()
    }
}

/// The lines of a rule, whose amounts are to be found.
pub(crate) struct Settling<'a> {
    pub(crate) tariffs: &'a [Tariff],
    /// Place of each subject in the order of first facts, then of ids.
    pub(crate) ranks: &'a [u32],
    pub(crate) digits: Digits,
}

impl Settling<'_> {
    /// Sets the lines' amounts, and returns their sum in nano-units; none where it is too large.
    pub(crate) fn settle(&self, lines: &mut [Line]) -> Option<i128> {
        let sum = self.sum(lines)?;
        self.share_in::<u128>(lines, sum)
            .or_else(|| self.share_in::<U256>(lines, sum))
            .or_else(|| self.share_in::<BigUint>(lines, sum))?;
        self.digits.nanos(sum)
    }

    /// The rounded sum of all lines.
    fn sum(&self, lines: &[Line]) -> Option<u128> {
        let mut units = vec![0_u128; self.tariffs.len()];
        for line in lines {
            let sum = &mut units[line.tariff as usize];
            *sum = sum.checked_add(line.billed)?;
        }
        let is_charged = |(_, units): &(&Tariff, &u128)| **units > 0;
        let charged = self.tariffs.iter().zip(&units).filter(is_charged);
        let (prices, units): (Vec<_>, Vec<_>) =
            charged.map(|(tariff, &units)| (tariff.ratio(), units)).unzip();
        let digits = self.digits;
        Summing::of(prices, digits.unit_nanos, digits.rounding).sum(&units)
    }

    /// Shares a sum among the lines, in integers of some width; none where these are too narrow.
    fn share_in<N: Natural>(&self, lines: &mut [Line], sum: u128) -> Option<()> {
        let prices = self.tariffs.iter().map(|tariff| self.price(tariff));
        let prices: Vec<(N, N)> = prices.collect::<Option<_>>()?;
        let nothing = N::of(0);
        let mut cut = 0_u128;
        let mut rests = Vec::with_capacity(lines.len());
        for (place, line) in lines.iter_mut().enumerate() {
            line.amount = 0;
            let (numerator, denominator) = &prices[line.tariff as usize];
            if line.billed == 0 || *numerator == nothing {
                continue;
            }
            let (units, rest) = N::of(line.billed).times(numerator)?.over(denominator);
            let units = units.narrow()?;
            line.amount = self.digits.nanos(units)?;
            cut = cut.checked_add(units)?;
            if rest > nothing {
                rests.push((rest, place));
            }
        }
        self.fill(lines, rests, &prices, sum.checked_sub(cut)?)
    }

    /// A price in units of the last digit: numerator and denominator.
    fn price<N: Natural>(&self, tariff: &Tariff) -> Option<(N, N)> {
        let ratio = tariff.ratio();
        let denominator = N::of(ratio.denominator).times(&N::of(self.digits.unit_nanos))?;
        Some((N::of(ratio.numerator), denominator))
    }

    /// Adds the units that are missing to the lines with the largest remainders.
    fn fill<N: Natural>(
        &self,
        lines: &mut [Line],
        mut rests: Vec<(N, usize)>,
        prices: &[(N, N)],
        missing: u128,
    ) -> Option<()> {
        let missing = usize::try_from(missing).unwrap_or(usize::MAX).min(rests.len());
        if missing > 0 && missing < rests.len() {
            match words(lines, &rests, prices) {
                Some(mut words) => {
                    let rank = |place: u32| self.rank(lines, place as usize);
                    words.select_nth_unstable_by(missing - 1, |one, other| {
                        other.0.cmp(&one.0).then_with(|| rank(one.1).cmp(&rank(other.1)))
                    });
                    let places = words[..missing].iter().map(|&(_, place)| place as usize);
                    return self.raise(lines, places);
                }
                None => {
                    let below = |place: usize| &prices[lines[place].tariff as usize].1;
                    rests.select_nth_unstable_by(missing - 1, |one, other| {
                        let rests = N::compare((&other.0, below(other.1)), (&one.0, below(one.1)));
                        rests.then_with(|| self.rank(lines, one.1).cmp(&self.rank(lines, other.1)))
                    });
                }
            }
        }
        self.raise(lines, rests[..missing].iter().map(|&(_, place)| place))
    }

    /// Adds a unit to each of some lines.
    fn raise(&self, lines: &mut [Line], places: impl Iterator<Item = usize>) -> Option<()> {
        let unit = self.digits.nanos(1)?;
        for place in places {
            lines[place].amount = lines[place].amount.checked_add(unit)?;
        }
        Some(())
    }

    /// The place of a line among those with the same remainder.
    fn rank(&self, lines: &[Line], place: usize) -> (u32, u32, usize) {
        let line = &lines[place];
        let subject = line.subject.map(|subject| self.ranks[subject as usize]);
        (subject.unwrap_or(u32::MAX), line.tariff, place)
    }
}

/// The remainders and their lines in less room, where all have one denominator and fit: most prices
/// of a rule are for one unit.
fn words<N: Natural>(
    lines: &[Line],
    rests: &[(N, usize)],
    prices: &[(N, N)],
) -> Option<Vec<(u64, u32)>> {
    let below = |place: usize| &prices[lines[place].tariff as usize].1;
    let first = below(rests.first()?.1);
    let mut words = Vec::with_capacity(rests.len());
    for (rest, place) in rests {
        if below(*place) != first {
            return None;
        }
        words.push((rest.word()?, u32::try_from(*place).ok()?));
    }
    Some(words)
}

impl Tariff {
    pub(crate) fn ratio(&self) -> Ratio {
        Ratio {
            numerator: self.price_numerator.unsigned_abs(),
            denominator: self.price_denominator,
        }
    }
}
