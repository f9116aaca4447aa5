//! Counters of rules: the prices that read them, their time, and their tiers.

use std::collections::{BTreeMap, HashMap};

use crate::book::{Model, Price, Ratio, Resets, Scope};
use crate::clock::Clock;
use crate::input::Span;
use crate::mutants::Mutant;
use crate::output::{LineKind, Tariff};
use crate::schedule::Schedule;
use crate::spans::Spans;

/// The name of a counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<'a> {
    pub(crate) rule: &'a str,
    pub(crate) meter: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) scope: Scope,
    pub(crate) resets: Resets,
}

/// A counter and the prices that read it.
#[derive(Debug)]
pub(crate) struct Counter<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) prices: Vec<Reader<'a>>,
    pub(crate) schedule: Schedule,
    /// Ends of tiers of graduated prices, ascending: the next unit falls into the zone whose number
    /// is that of the ends that the counter has reached.
    pub(crate) ends: Vec<u128>,
    /// The same for volume prices.
    pub(crate) volume_ends: Vec<u128>,
    pub(crate) has_packages: bool,
    pub(crate) has_fees: bool,
    /// Tariffs of the counter's lines, in their order.
    pub(crate) tariffs: Vec<Tariff>,
}

/// A price as it reads a counter.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    price: &'a Price,
    pub(crate) model: Model,
    /// Size of a package; 1 for other models.
    pub(crate) size: u128,
    /// Ends of the price's tiers.
    ends: Vec<u128>,
    /// Tariffs of the price's tiers.
    usage: Vec<u32>,
    /// Tariffs of the tiers' fees; none for a tier without a fee.
    fees: Vec<Option<u32>>,
}

/// A time under a book.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Booked<'a> {
    pub(crate) span: Span,
    pub(crate) prices: &'a [Price],
}

/// All counters of the books, in the order of rules and then of their first prices.
pub(crate) fn counters<'a>(books: &[Booked<'a>], clock: &Clock<'_>) -> Vec<Counter<'a>> {
    let mut making: BTreeMap<(Key<'a>, usize), (usize, Making<'a>)> = BTreeMap::new();
    for (number, book) in books.iter().enumerate() {
        let is_anew = Mutant::CountersByBook.is_active() || Mutant::CountersByPolicy.is_active();
        let generation = if is_anew { number } else { 0 };
        for price in book.prices {
            let key = Key {
                rule: &price.rule,
                meter: &price.meter,
                unit: &price.per.unit,
                scope: price.scope,
                resets: price.resets,
            };
            let next = making.len();
            let new = || (next, Making::default());
            let making = making.entry((key, generation)).or_insert_with(new);
            making.1.add(price, book.span, clock);
        }
    }
    let mut making: Vec<_> = making.into_iter().collect();
    making.sort_by_key(|((key, _), (number, _))| (key.rule, *number));
    making.into_iter().map(|((key, _), (_, making))| making.finish(key)).collect()
}

/// A counter in the making.
#[derive(Default)]
struct Making<'a> {
    prices: Vec<Reader<'a>>,
    known: HashMap<&'a str, Vec<u32>>,
    windowed: Vec<(Span, u32)>,
    plain: Vec<(Span, u32)>,
    tariffs: Vec<Tariff>,
}

impl<'a> Making<'a> {
    fn add(&mut self, price: &'a Price, book: Span, clock: &Clock<'_>) {
        let valid = clock.valid(price.valid, book);
        if valid.is_empty() {
            return;
        }
        let number = self.number(price);
        if price.windows.is_empty() {
            self.plain.extend(valid.into_iter().map(|span| (span, number)));
            return;
        }
        let mut open = Vec::new();
        for &span in &valid {
            for window in &price.windows {
                clock.open(window, span, &mut open);
            }
        }
        self.windowed.extend(Spans::union(open).iter().map(|span| (span, number)));
    }

    /// The number of a price; prices that differ only in their time share one.
    fn number(&mut self, price: &'a Price) -> u32 {
        let next = u32::try_from(self.prices.len()).unwrap_or(u32::MAX);
        let known = self.known.entry(&price.id).or_default();
        let is_same = |number: &&u32| self.prices[**number as usize].is_of(price);
        if let Some(&number) = known.iter().find(is_same) {
            return number;
        }
        let reader = reader(price, &self.prices, known, &mut self.tariffs);
        known.push(next);
        self.prices.push(reader);
        next
    }

    fn finish(self, key: Key<'a>) -> Counter<'a> {
        let schedule = Schedule::of(self.windowed, &self.plain);
        let reading = || schedule.prices().iter().map(|&price| &self.prices[price as usize]);
        let of = |model| reading().filter(move |price| price.model == model);
        let has_fees = reading().any(|price| price.fees.iter().any(Option::is_some));
        Counter {
            ends: sorted(of(Model::Graduated)),
            volume_ends: sorted(of(Model::Volume)),
            has_packages: of(Model::Package).next().is_some(),
            // A counter that is never reset hands on the tiers that it reached.
            has_fees: has_fees || key.resets == Resets::Never,
            key,
            schedule,
            prices: self.prices,
            tariffs: self.tariffs,
        }
    }
}

/// Reads a price. `prices` are those of the counter so far, and `known` the numbers of those with
/// its id, of which it takes over the tariffs that are the same.
fn reader<'a>(
    price: &'a Price,
    prices: &[Reader<'a>],
    known: &[u32],
    tariffs: &mut Vec<Tariff>,
) -> Reader<'a> {
    let known = known.iter().map(|&number| &prices[number as usize]);
    let known =
        known.flat_map(|one| one.usage.iter().copied().chain(one.fees.iter().copied().flatten()));
    let known: Vec<u32> = known.collect();
    let mut number = |tier: u32, kind: LineKind, ratio: Ratio| {
        let is_same = |number: &&u32| {
            let tariff = &tariffs[**number as usize];
            tariff.tier == tier
                && tariff.kind == kind
                && tariff.per == price.per_text
                && tariff.ratio() == ratio
        };
        if let Some(&number) = known.iter().find(is_same) {
            return number;
        }
        tariffs.push(tariff(price, tier, kind, ratio));
        u32::try_from(tariffs.len() - 1).unwrap_or(u32::MAX)
    };
    let mut usage = Vec::with_capacity(price.tiers.len());
    let mut fees = Vec::with_capacity(price.tiers.len());
    for (position, tier) in (0..).zip(&price.tiers) {
        usage.push(number(position, LineKind::Usage, tier.price));
        let fee = Ratio { numerator: tier.once, denominator: 1 };
        let has_fee = tier.once > 0;
        fees.push(has_fee.then(|| number(position, LineKind::Once, fee)));
    }
    let is_package = price.model == Model::Package;
    let ends = price.tiers.iter().filter_map(|tier| tier.up_to);
    Reader {
        price,
        model: price.model,
        size: price.tiers[0].up_to.filter(|_| is_package).unwrap_or(1),
        ends: if is_package { Vec::new() } else { ends.collect() },
        usage,
        fees,
    }
}

fn tariff(price: &Price, tier: u32, kind: LineKind, ratio: Ratio) -> Tariff {
    let unit = if kind == LineKind::Once { "once" } else { &price.per.unit };
    Tariff {
        kind,
        rule: price.rule.clone(),
        meter: price.meter.clone(),
        price_id: price.id.clone(),
        tier,
        per: price.per_text.clone(),
        unit: unit.into(),
        price_numerator: ratio.numerator.cast_signed(),
        price_denominator: ratio.denominator,
    }
}

fn sorted<'r, 'a: 'r>(prices: impl Iterator<Item = &'r Reader<'a>>) -> Vec<u128> {
    let mut ends: Vec<_> = prices.flat_map(|price| price.ends.iter().copied()).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

impl Reader<'_> {
    fn is_of(&self, price: &Price) -> bool {
        let own = self.price;
        own.per_text == price.per_text && own.model == price.model && own.tiers == price.tiers
    }

    /// The tier of a value that is the end of some tier, or above it and below the next.
    fn tier(&self, floor: u128) -> usize {
        match self.ends.as_slice() {
            [] => 0,
            ends => ends.partition_point(|&end| end <= floor),
        }
    }
}

/// Position of a counter in its tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Standing {
    /// The zone into which the next unit falls.
    pub(crate) zone: u32,
    /// The zone that its units pick for volume prices.
    pub(crate) volume: u32,
}

impl Counter<'_> {
    /// The zone into which the unit after `units` falls.
    pub(crate) fn zone(&self, units: u128) -> u32 {
        let zone = self.ends.partition_point(|&end| end <= units);
        u32::try_from(zone).unwrap_or(u32::MAX)
    }

    /// The zone that `units` pick for volume prices.
    pub(crate) fn volume_zone(&self, units: u128) -> u32 {
        let zone = self.volume_ends.partition_point(|&end| end < units);
        u32::try_from(zone).unwrap_or(u32::MAX)
    }

    /// The position of the tier of a price.
    pub(crate) fn tier(&self, price: u32, standing: Standing) -> usize {
        let reader = &self.prices[price as usize];
        let floor = |ends: &[u128], zone: u32| match zone {
            0 => 0,
            zone => ends[zone as usize - 1],
        };
        match reader.model {
            Model::Flat | Model::Package => 0,
            Model::Graduated => reader.tier(floor(&self.ends, standing.zone)),
            Model::Volume => reader.tier(floor(&self.volume_ends, standing.volume)),
        }
    }

    fn priced_as(&self, price: u32) -> u32 {
        let is_volume = |price: &u32| self.model(*price) == Model::Volume;
        if Mutant::VolumesAtLastPrice.is_active() && is_volume(&price) {
            return self.schedule.prices().iter().copied().rfind(is_volume).unwrap_or(price);
        }
        price
    }

    /// The tariff of units at a price.
    pub(crate) fn tariff(&self, price: u32, standing: Standing) -> u32 {
        let price = self.priced_as(price);
        let usage = &self.prices[price as usize].usage;
        match usage.as_slice() {
            [only] => *only,
            usage => usage[self.tier(price, standing)],
        }
    }

    /// The tariff of the fee of a position; none for a tier without a fee.
    pub(crate) fn fee(&self, price: u32, position: usize) -> Option<u32> {
        self.prices[price as usize].fees[position]
    }

    pub(crate) fn model(&self, price: u32) -> Model {
        self.prices[price as usize].model
    }
}
