//! The sweep of a counter: instant by instant over everything that its scope bills.

use std::ops::Range;

use crate::book::Model;
use crate::counter::{Counter, Standing};
use crate::exact::times;

/// Time in which a scope bills the same number of units in each nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Units per nanosecond, 1 or more.
    pub(crate) rate: u128,
}

/// Units that are billed at the end of one nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump {
    pub(crate) at: i64,
    pub(crate) subject: u32,
    /// Number of units, 1 or more.
    pub(crate) units: u128,
    /// True if the units were used; false for a top-up, which is only billed.
    pub(crate) is_used: bool,
    /// Sequence number of the fact that opened the units' interval.
    pub(crate) fact: u64,
}

/// A position in the tiers, from `start` to the next phase's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) start: i64,
    pub(crate) zone: u32,
    /// Set while a paid package covers units that other prices would charge.
    pub(crate) is_free: bool,
    /// The crossing in the nanosecond before, if there is one.
    pub(crate) crossing: Option<u32>,
}

/// A nanosecond, or jumps at its end, in which units fall into several zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) at: i64,
    pub(crate) price: u32,
    /// Jumps that take part; none for a crossing of time.
    pub(crate) jumps: Option<Range<usize>>,
    parts: Range<usize>,
}

/// Units of a crossing that fall into one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) units: u128,
    pub(crate) zone: u32,
    pub(crate) is_free: bool,
}

/// Charged time in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) rate: u128,
    pub(crate) zone: u32,
}

/// Packages that begin one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packages {
    pub(crate) price: u32,
    pub(crate) start: i64,
    rate: u128,
    /// Units from the start to the first package.
    lead: u128,
    size: u128,
    pub(crate) count: u128,
}

/// A fee that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fee {
    pub(crate) at: i64,
    pub(crate) tariff: u32,
}

/// The position at which a counter begins a period.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    pub(crate) units: u128,
    pub(crate) covered: u128,
    /// Set of reached tiers: bit n stands for the tier at position n.
    pub(crate) reached: u128,
}

/// A counter's progress through a scope, and what the scope is charged.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    counter: &'a Counter<'a>,
    pub(crate) units: u128,
    pub(crate) covered: u128,
    pub(crate) reached: u128,
    zone: u32,
    /// A zone, and the positions of tiers that time in it can reach.
    reachable: Option<(u32, u128)>,
    /// First instant after the counter last grew; none before it grows.
    grown: Option<i64>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) crossings: Vec<Crossing>,
    parts: Vec<Part>,
    pub(crate) runs: Vec<Run>,
    pub(crate) packages: Vec<Packages>,
    pub(crate) fees: Vec<Fee>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(counter: &'a Counter<'a>) -> Self {
        Self {
            counter,
            units: 0,
            covered: 0,
            reached: 0,
            zone: 0,
            reachable: None,
            grown: None,
            phases: Vec::new(),
            crossings: Vec::new(),
            parts: Vec::new(),
            runs: Vec::new(),
            packages: Vec::new(),
            fees: Vec::new(),
        }
    }

    /// Sweeps one scope; none where a sum is too large. Steps are ascending and don't overlap;
    /// jumps are ascending.
    pub(crate) fn run(&mut self, start: Start, steps: &[Step], jumps: &[Jump]) -> Option<()> {
        self.begin(start);
        let mut next = 0;
        for step in steps {
            let mut from = step.start;
            while let Some(jump) = jumps.get(next).filter(|jump| jump.at < step.end) {
                let until = jump.at.saturating_add(1).max(from);
                self.advance(from, until, step.rate)?;
                from = until;
                next = self.jump(jumps, next)?;
            }
            self.advance(from, step.end, step.rate)?;
        }
        while next < jumps.len() {
            next = self.jump(jumps, next)?;
        }
        self.volume_fee();
        Some(())
    }

    fn begin(&mut self, start: Start) {
        (self.units, self.covered, self.reached) = (start.units, start.covered, start.reached);
        self.zone = self.counter.zone(start.units);
        self.grown = None;
        self.phases.clear();
        self.crossings.clear();
        self.parts.clear();
        self.runs.clear();
        self.packages.clear();
        self.fees.clear();
        let first = Phase { start: i64::MIN, zone: self.zone, is_free: false, crossing: None };
        self.phases.push(first);
    }

    /// The standing in a zone, with the volume tier that the counter's units pick.
    pub(crate) fn standing(&self, zone: u32) -> Standing {
        Standing { zone, volume: self.counter.volume_zone(self.units) }
    }

    pub(crate) fn parts(&self, crossing: &Crossing) -> &[Part] {
        &self.parts[crossing.parts.clone()]
    }

    fn advance(&mut self, start: i64, end: i64, rate: u128) -> Option<()> {
        if start >= end {
            return Some(());
        }
        let counter = self.counter;
        if !counter.has_packages {
            return self.flow(start, end, rate, false);
        }
        for held in counter.schedule.within(start, end) {
            let is_package = counter.model(held.price) == Model::Package;
            let before = self.units;
            self.flow(held.first, held.last, rate, is_package)?;
            if is_package {
                self.begin_packages(held.price, held.first, before, rate)?;
            }
        }
        Some(())
    }

    /// Adds the units of some time. With packages, one price holds in all of it.
    fn flow(&mut self, start: i64, end: i64, rate: u128, is_package: bool) -> Option<()> {
        let schedule = &self.counter.schedule;
        let mut from = start;
        loop {
            let is_free = self.is_free(is_package);
            self.enter(from, is_free, None);
            let left = schedule.priced(from, end);
            if left == 0 {
                return Some(());
            }
            let room = self.room(is_free);
            let full = room.map_or(left, |room| narrow(room / rate).min(left));
            if full > 0 {
                let until = if full == left { end } else { schedule.nth(from, full) };
                self.grow(times(rate, full.into())?)?;
                self.flowed(
                    Run { start: from, end: until, rate, zone: self.phase().zone },
                    is_free,
                );
                from = until;
            }
            // Either the zone ends exactly here, or inside the next nanosecond, or not in this
            // time.
            if full < left && room.is_some_and(|room| room % rate != 0) {
                let at = schedule.nth(from, 0);
                let price = schedule.price_at(at)?;
                self.cross(at, price, rate, None, is_package)?;
                from = at.saturating_add(1);
                let crossing = u32::try_from(self.crossings.len() - 1).ok();
                self.enter(from, self.is_free(is_package), crossing);
            }
        }
    }

    fn phase(&self) -> Phase {
        self.phases[self.phases.len() - 1]
    }

    fn is_free(&self, is_package: bool) -> bool {
        !is_package && self.units < self.covered
    }

    /// Units to the end of the zone, or to the end of the paid packages; none without an end.
    fn room(&self, is_free: bool) -> Option<u128> {
        let end = self.counter.ends.get(self.zone as usize).map(|end| end - self.units);
        let cover = is_free.then(|| self.covered - self.units);
        match (end, cover) {
            (Some(end), Some(cover)) => Some(end.min(cover)),
            (end, cover) => end.or(cover),
        }
    }

    fn grow(&mut self, units: u128) -> Option<()> {
        self.units = self.units.checked_add(units)?;
        let ends = &self.counter.ends;
        while ends.get(self.zone as usize).is_some_and(|&end| end <= self.units) {
            self.zone += 1;
        }
        Some(())
    }

    /// Records the position in the tiers from an instant on.
    fn enter(&mut self, start: i64, is_free: bool, crossing: Option<u32>) {
        let last = self.phase();
        if last.zone == self.zone && last.is_free == is_free && crossing.is_none() {
            return;
        }
        let phase = Phase { start, zone: self.zone, is_free, crossing };
        match self.phases.last_mut() {
            Some(last) if last.start == start => {
                *last = Phase { crossing: crossing.or(last.crossing), ..phase };
            }
            Some(_) | None => self.phases.push(phase),
        }
    }

    fn flowed(&mut self, run: Run, is_free: bool) {
        self.grown = Some(run.end);
        if is_free {
            return;
        }
        self.reach_in(run);
        self.runs.push(run);
    }

    /// Splits units of one instant among the zones that they fall into.
    fn cross(
        &mut self,
        at: i64,
        price: u32,
        units: u128,
        jumps: Option<Range<usize>>,
        is_package: bool,
    ) -> Option<()> {
        let first = self.parts.len();
        let mut left = units;
        while left > 0 {
            let is_free = self.is_free(is_package);
            let units = self.room(is_free).map_or(left, |room| room.min(left));
            self.parts.push(Part { units, zone: self.zone, is_free });
            if !is_free {
                let standing = Standing { zone: self.zone, volume: 0 };
                self.reach(at, price, standing);
            }
            self.grow(units)?;
            left -= units;
        }
        self.grown = Some(at.saturating_add(1));
        self.crossings.push(Crossing { at, price, jumps, parts: first..self.parts.len() });
        Some(())
    }

    /// Adds the jumps of one instant, and returns the number of the next jump.
    fn jump(&mut self, jumps: &[Jump], first: usize) -> Option<usize> {
        let at = jumps[first].at;
        let count = jumps[first..].iter().take_while(|jump| jump.at == at).count();
        let next = first + count;
        let Some(price) = self.counter.schedule.price_at(at) else { return Some(next) };
        let mut units = 0_u128;
        for jump in &jumps[first..next] {
            units = units.checked_add(jump.units)?;
        }
        let is_package = self.counter.model(price) == Model::Package;
        let before = self.units;
        self.cross(at, price, units, Some(first..next), is_package)?;
        if is_package {
            self.begin_packages(price, at, before, units)?;
        }
        self.enter(at.saturating_add(1), self.is_free(is_package), None);
        Some(next)
    }

    /// Begins packages for the units from `before` on that no package covers; `rate` is their
    /// number per nanosecond.
    fn begin_packages(&mut self, price: u32, start: i64, before: u128, rate: u128) -> Option<()> {
        let first = before.max(self.covered);
        if self.units <= first {
            return Some(());
        }
        let size = self.counter.prices[price as usize].size;
        let count = (self.units - first).div_ceil(size);
        self.covered = first.checked_add(times(count, size)?)?;
        let packages = Packages { price, start, rate, lead: first - before, size, count };
        self.fee(packages.begins(0), price, 0);
        self.packages.push(packages);
        Some(())
    }

    /// Records the tiers that charged time reaches.
    fn reach_in(&mut self, run: Run) {
        if !self.counter.has_fees || self.reachable(run.zone) & !self.reached == 0 {
            return;
        }
        let standing = Standing { zone: run.zone, volume: 0 };
        let mut found: Vec<(i64, u32)> = Vec::new();
        self.counter.schedule.each(run.start, run.end, |held| {
            let position = self.counter.tier(held.price, standing);
            if self.reached & 1 << position == 0 {
                found.push((held.first, held.price));
            }
        });
        found.sort_unstable();
        for (at, price) in found {
            self.reach(at, price, standing);
        }
    }

    /// The positions of tiers that time in a zone can reach.
    fn reachable(&mut self, zone: u32) -> u128 {
        if let Some((known, positions)) = self.reachable
            && known == zone
        {
            return positions;
        }
        let standing = Standing { zone, volume: 0 };
        let prices = self.counter.schedule.prices().iter();
        let prices = prices.filter(|&&price| self.counter.model(price).is_by_unit());
        let positions = prices.fold(0, |set, &price| set | 1 << self.counter.tier(price, standing));
        self.reachable = Some((zone, positions));
        positions
    }

    fn reach(&mut self, at: i64, price: u32, standing: Standing) {
        // Volume prices and packages reach their tiers elsewhere.
        if self.counter.model(price).is_by_unit() {
            self.fee(at, price, self.counter.tier(price, standing));
        }
    }

    fn fee(&mut self, at: i64, price: u32, position: usize) {
        if self.reached & 1 << position != 0 {
            return;
        }
        self.reached |= 1 << position;
        if let Some(tariff) = self.counter.fee(price, position) {
            self.fees.push(Fee { at, tariff });
        }
    }

    /// The fee of the tier that volume prices pick, at the price in force when the counter last
    /// grew.
    fn volume_fee(&mut self) {
        let last = self.grown.and_then(|end| self.counter.schedule.last_before(end));
        if let Some((at, price)) = last
            && self.counter.model(price) == Model::Volume
        {
            let position = self.counter.tier(price, self.standing(0));
            self.fee(at, price, position);
        }
    }
}

impl Packages {
    /// The instant in which package `number` begins.
    pub(crate) fn begins(&self, number: u128) -> i64 {
        let units = self.lead + number * self.size;
        self.start.saturating_add_unsigned(narrow(units / self.rate))
    }

    /// Number of packages that begin before an instant.
    pub(crate) fn begun(&self, before: i64) -> u128 {
        if before <= self.start {
            return 0;
        }
        let units = self.rate.saturating_mul(before.abs_diff(self.start).into());
        units.saturating_sub(self.lead).div_ceil(self.size).min(self.count)
    }

    /// Units that `count` packages charge.
    pub(crate) fn units(&self, count: u128) -> u128 {
        count * self.size
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
