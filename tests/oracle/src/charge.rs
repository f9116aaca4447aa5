//! Counters, and the charges of rules as functions of time.

use std::collections::{BTreeMap, BTreeSet};

use num_integer::Integer;
use num_rational::BigRational;
use num_traits::Zero;

use crate::book::{Model, Price, Tier, Unit};
use crate::known::Known;
use crate::money::whole;
use crate::scenario::{Nanos, Own};
use crate::usage::{Jump, Part, Place, Usage, What, pairs};

/// Identity of a counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CounterKey {
    pub(crate) rule: String,
    pub(crate) meter: String,
    pub(crate) unit: Unit,
    /// Instance that the counter belongs to; none for the tenant's.
    pub(crate) instance: Option<String>,
    pub(crate) resets: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Counter {
    pub(crate) value: i128,
    /// The last unit that a package covers.
    pub(crate) covered: i128,
    /// Positions of the tiers that were reached.
    pub(crate) reached: BTreeSet<usize>,
    /// The last nanosecond in which the counter grew, and the price in it.
    last: Option<(Nanos, Price)>,
}

/// The charges of a rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charges {
    flows: Vec<Flow>,
    /// Charges of single nanoseconds, in nano-units.
    lumps: Vec<(Nanos, BigRational)>,
}

/// Units of a counter that grows evenly, and their cost.
#[derive(Debug, Clone)]
struct Flow {
    from: Nanos,
    to: Nanos,
    /// Value of the counter at `from`.
    counter: i128,
    /// Units per nanosecond.
    rate: i128,
    portion: Portion,
}

/// Successive units of a counter.
#[derive(Debug, Clone)]
struct Portion {
    /// Value of the counter before the first of the units.
    first: i128,
    /// Value of the counter after the last of them.
    last: i128,
    cost: Cost,
}

#[derive(Debug, Clone)]
enum Cost {
    /// Price of each unit.
    Units(BigRational),
    /// Size of a package, and the price of each that is begun.
    Packages(i128, BigRational),
}

impl Portion {
    /// The cost of the units up to a value of the counter.
    fn up_to(&self, counter: i128) -> BigRational {
        let units = counter.clamp(self.first, self.last) - self.first;
        match &self.cost {
            Cost::Units(price) => whole(units) * price,
            Cost::Packages(size, price) => whole(Integer::div_ceil(&units, size)) * price,
        }
    }
}

impl Charges {
    /// Adds a policy's own line: what it bills at the price of the first tier.
    pub(crate) fn add_own(&mut self, own: &Own, price: &Price) {
        let first = match &price.model {
            Model::Graduated(tiers) | Model::Volume(tiers) => tiers[0].price.clone(),
            Model::Package { .. } => return,
        };
        self.lumps.push((own.at, whole(own.billed.into()) * first));
    }

    /// Charges before the instant, in nano-units.
    pub(crate) fn before(&self, at: Nanos) -> BigRational {
        let flows = self.flows.iter().map(|flow| flow.before(at));
        let lumps = self.lumps.iter().filter(|(nano, _)| *nano < at);
        flows.chain(lumps.map(|(_, amount)| amount.clone())).sum()
    }
}

impl Flow {
    fn before(&self, at: Nanos) -> BigRational {
        if at <= self.from {
            return BigRational::zero();
        }
        self.portion.up_to(self.counter + self.rate * i128::from(at.min(self.to) - self.from))
    }
}

/// The counters of a period, and the charges of their growth.
pub(crate) struct Sweep<'a> {
    known: &'a Known<'a>,
    usage: &'a Usage,
    edges: BTreeSet<Nanos>,
    /// Values of the counters at the end, which pick the tiers of volumes.
    ends: BTreeMap<CounterKey, i128>,
    pub(crate) counters: BTreeMap<CounterKey, Counter>,
    pub(crate) charges: BTreeMap<String, Charges>,
}

/// Units that are priced in one step of a counter.
struct Growth {
    portions: Vec<Portion>,
    /// Fees: the unit with which each is owed, and its nano-units.
    fees: Vec<(i128, BigRational)>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn of(
        known: &'a Known<'a>,
        usage: &'a Usage,
        edges: &BTreeSet<Nanos>,
        opening: &BTreeMap<CounterKey, Counter>,
    ) -> Self {
        let mut edges = edges.clone();
        for part in &usage.billed {
            edges.extend([part.from, part.to]);
        }
        for jump in &usage.jumps {
            edges.extend([jump.at, jump.at + 1]);
        }
        let begin = |ends| Self {
            known,
            usage,
            edges: edges.clone(),
            ends,
            counters: opening.clone(),
            charges: BTreeMap::new(),
        };
        // The growth of counters does not depend on prices: the first sweep finds their ends.
        let mut first = begin(BTreeMap::new());
        first.run();
        let ends = first.counters.iter().map(|(key, counter)| (key.clone(), counter.value));
        let mut second = begin(ends.collect());
        second.run();
        second.owe_fees_of_volumes();
        second
    }

    fn run(&mut self) {
        let edges = self.edges.clone();
        for (from, to) in pairs(&edges) {
            let Some(book) = self.known.book(from) else { continue };
            for rule in book.rules() {
                if let Some(price) = self.known.price(book, rule, from) {
                    self.grow_by_time(price, from, to);
                    self.grow_by_jumps(price, from, to);
                }
            }
        }
    }

    fn grow_by_time(&mut self, price: &Price, from: Nanos, to: Nanos) {
        let rate = |part: &Part| price.unit.of_shape(&part.dimensions);
        for (key, rate) in grouped(price, covering(&self.usage.billed, price, from, to), rate) {
            let counter = self.counter(&key).value;
            self.counter(&key).last = Some((to - 1, price.clone()));
            let growth = self.grow(&key, price, rate * i128::from(to - from));
            let charges = self.charges.entry(key.rule.clone()).or_default();
            charges.flows.extend(growth.portions.into_iter().map(|portion| Flow {
                from,
                to,
                counter,
                rate,
                portion,
            }));
            charges.lumps.extend(growth.fees.into_iter().map(|(unit, fee)| {
                // The unit falls into the nanosecond at whose end it has been counted.
                let nanos = (unit - counter + rate - 1) / rate - 1;
                (from + Nanos::try_from(nanos).expect("inside the period"), fee)
            }));
        }
    }

    fn grow_by_jumps(&mut self, price: &Price, from: Nanos, to: Nanos) {
        if to != from + 1 {
            return;
        }
        let here = |jump: &&Jump| jump.at == from && jump.place.1 == price.meter;
        let jumps: Vec<&Jump> = self.usage.jumps.iter().filter(here).collect();
        for (key, units) in grouped(price, jumps, |jump| jump.units(&price.unit)) {
            self.counter(&key).last = Some((from, price.clone()));
            let growth = self.grow(&key, price, units);
            let charges = self.charges.entry(key.rule.clone()).or_default();
            let portions = growth.portions.into_iter();
            let amounts = portions.map(|portion| portion.up_to(portion.last));
            let fees = growth.fees.into_iter().map(|(_, fee)| fee);
            charges.lumps.extend(amounts.chain(fees).map(|amount| (from, amount)));
        }
    }

    fn counter(&mut self, key: &CounterKey) -> &mut Counter {
        self.counters.entry(key.clone()).or_default()
    }

    fn grow(&mut self, key: &CounterKey, price: &Price, units: i128) -> Growth {
        let end = self.ends.get(key).copied().unwrap_or(0);
        self.counter(key).grow(&price.model, units, end)
    }

    /// Of volumes, only the tier that is picked at the end has a fee.
    fn owe_fees_of_volumes(&mut self) {
        for (key, counter) in &mut self.counters {
            let Some((at, price)) = &counter.last else { continue };
            let Model::Volume(tiers) = &price.model else { continue };
            if counter.value == 0 {
                continue;
            }
            let place = Tier::place(tiers, counter.value - 1);
            if counter.reached.insert(place) {
                let charges = self.charges.entry(key.rule.clone()).or_default();
                charges.lumps.push((*at, tiers[place].once.clone()));
            }
        }
    }
}

impl Counter {
    /// The counter as a period hands it on, without a last instant.
    pub(crate) fn handed_on(&self) -> Self {
        Self { last: None, ..self.clone() }
    }

    fn grow(&mut self, model: &Model, units: i128, end_of_period: i128) -> Growth {
        let end = self.value + units;
        let mut growth = Growth { portions: Vec::new(), fees: Vec::new() };
        while self.value < end {
            let first = self.value;
            let (last, cost) = if first < self.covered {
                (self.covered, Cost::Units(BigRational::zero()))
            } else {
                match model {
                    Model::Package { size, price, once } => {
                        self.reach(0, once, &mut growth);
                        self.covered = first + Integer::div_ceil(&(end - first), size) * size;
                        (self.covered, Cost::Packages(*size, price.clone()))
                    }
                    Model::Graduated(tiers) => {
                        let place = Tier::place(tiers, first);
                        self.reach(place, &tiers[place].once, &mut growth);
                        (tiers[place].up_to.unwrap_or(end), Cost::Units(tiers[place].price.clone()))
                    }
                    Model::Volume(tiers) => {
                        let place = Tier::place(tiers, (end_of_period - 1).max(0));
                        (end, Cost::Units(tiers[place].price.clone()))
                    }
                }
            };
            self.value = last.min(end);
            growth.portions.push(Portion { first, last: self.value, cost });
        }
        growth
    }

    fn reach(&mut self, place: usize, once: &BigRational, growth: &mut Growth) {
        if self.reached.insert(place) {
            growth.fees.push((self.value + 1, once.clone()));
        }
    }
}

impl Jump {
    fn units(&self, unit: &Unit) -> i128 {
        match (&self.what, unit) {
            (What::TopUp { nanos, dimensions }, Unit::Time(_)) => {
                i128::from(*nanos) * unit.of_shape(dimensions)
            }
            (What::Counts(counts), Unit::Count(name)) => {
                counts.get(name).copied().unwrap_or(0).into()
            }
            (What::TopUp { .. }, Unit::Count(_)) | (What::Counts(_), Unit::Time(_)) => 0,
        }
    }
}

trait Placed {
    fn place(&self) -> &Place;
}

impl Placed for Part {
    fn place(&self) -> &Place {
        &self.place
    }
}

impl Placed for Jump {
    fn place(&self) -> &Place {
        &self.place
    }
}

fn covering<'a>(parts: &'a [Part], price: &Price, from: Nanos, to: Nanos) -> Vec<&'a Part> {
    let covers = |part: &&Part| part.place.1 == price.meter && part.from <= from && to <= part.to;
    parts.iter().filter(covers).collect()
}

/// The units for each counter of the price's rule; counters without units are left out.
fn grouped<T: Placed>(
    price: &Price,
    things: Vec<&T>,
    units: impl Fn(&T) -> i128,
) -> BTreeMap<CounterKey, i128> {
    let mut groups = BTreeMap::new();
    for thing in things {
        let key = CounterKey {
            rule: price.rule.clone(),
            meter: price.meter.clone(),
            unit: price.unit.clone(),
            instance: (!price.is_tenants).then(|| thing.place().0.clone()),
            resets: price.resets,
        };
        *groups.entry(key).or_insert(0) += units(thing);
    }
    groups.retain(|_, units| *units > 0);
    groups
}
