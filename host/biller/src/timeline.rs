//! The charges of a rule as a function of time, for adjustments that look at a part of it.

use std::collections::HashMap;

use crate::book::Model;
use crate::counter::{Counter, Standing};
use crate::exact::Summing;
use crate::output::Tariff;
use crate::rounding::Digits;
use crate::sweep::{Packages, Sweep};

/// The charges of one counter over time.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Changes of the units that are charged in a nanosecond, by class; ascending once it is
    /// sorted.
    changes: Vec<Change>,
    /// Charges of one instant.
    points: Vec<Point>,
    packages: Vec<(Packages, u32)>,
    /// Standings of counters; a class is an index into them.
    classes: Vec<Standing>,
    numbers: HashMap<Standing, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    at: i64,
    class: u32,
    rate: i128,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: i64,
    tariff: u32,
    units: u128,
}

impl Timeline {
    fn class(&mut self, standing: Standing) -> u32 {
        let next = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let class = *self.numbers.entry(standing).or_insert(next);
        if class == next {
            self.classes.push(standing);
        }
        class
    }

    /// Adds the charges of one scope; none where a sum is too large.
    pub(crate) fn add(&mut self, counter: &Counter<'_>, sweep: &Sweep<'_>) -> Option<()> {
        for run in &sweep.runs {
            let class = self.class(sweep.standing(run.zone));
            let rate = i128::try_from(run.rate).ok()?;
            self.changes.push(Change { at: run.start, class, rate });
            self.changes.push(Change { at: run.end, class, rate: -rate });
        }
        for crossing in &sweep.crossings {
            if counter.model(crossing.price) == Model::Package {
                continue;
            }
            for part in sweep.parts(crossing).iter().filter(|part| !part.is_free) {
                let tariff = counter.tariff(crossing.price, sweep.standing(part.zone));
                self.points.push(Point { at: crossing.at, tariff, units: part.units });
            }
        }
        for packages in &sweep.packages {
            let tariff = counter.tariff(packages.price, sweep.standing(0));
            self.packages.push((*packages, tariff));
        }
        self.points.extend(sweep.fees.iter().map(|fee| Point {
            at: fee.at,
            tariff: fee.tariff,
            units: 1,
        }));
        Some(())
    }

    /// Sorts by time, once the last scope is added.
    pub(crate) fn finish(&mut self) {
        self.changes.sort_unstable_by_key(|change| change.at);
        self.points.sort_unstable_by_key(|point| point.at);
    }

    /// Instants between which charges change by the schedule only.
    pub(crate) fn instants(&self) -> impl Iterator<Item = i64> + '_ {
        let changes = self.changes.iter().map(|change| change.at);
        changes.chain(self.points.iter().map(|point| point.at))
    }
}

/// A position in a timeline, and the units charged before it.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    at: i64,
    next_change: usize,
    next_point: usize,
    /// Units in a nanosecond, by class.
    rates: Vec<i128>,
    /// Classes whose rate is not 0.
    active: Vec<u32>,
    /// Units charged, by tariff; without packages.
    units: Vec<u128>,
}

impl Cursor {
    pub(crate) fn new(timeline: &Timeline, counter: &Counter<'_>) -> Self {
        Self {
            at: i64::MIN,
            next_change: 0,
            next_point: 0,
            rates: vec![0; timeline.classes.len()],
            active: Vec::new(),
            units: vec![0; counter.tariffs.len()],
        }
    }

    /// Advances to an instant; none where a sum is too large.
    pub(crate) fn advance(
        &mut self,
        timeline: &Timeline,
        counter: &Counter<'_>,
        to: i64,
    ) -> Option<()> {
        while self.at < to {
            let next =
                timeline.changes.get(self.next_change).map_or(to, |change| change.at.min(to));
            self.charge(timeline, counter, next)?;
            self.at = next;
            while let Some(change) = timeline.changes.get(self.next_change)
                && change.at <= self.at
            {
                self.change(*change);
                self.next_change += 1;
            }
        }
        while let Some(point) = timeline.points.get(self.next_point)
            && point.at < to
        {
            let units = &mut self.units[point.tariff as usize];
            *units = units.checked_add(point.units)?;
            self.next_point += 1;
        }
        Some(())
    }

    fn change(&mut self, change: Change) {
        let rate = &mut self.rates[change.class as usize];
        let was = *rate;
        *rate += change.rate;
        if was == 0 && *rate != 0 {
            self.active.push(change.class);
        } else if was != 0 && *rate == 0 {
            self.active.retain(|&class| class != change.class);
        }
    }

    /// Charges the time up to an instant before which no rate changes.
    fn charge(&mut self, timeline: &Timeline, counter: &Counter<'_>, to: i64) -> Option<()> {
        if self.active.is_empty() {
            return Some(());
        }
        let mut is_exact = true;
        let active = &self.active;
        let rates = &self.rates;
        let units = &mut self.units;
        counter.schedule.each(self.at, to, |held| {
            if counter.model(held.price) == Model::Package {
                return;
            }
            for &class in active {
                let tariff = counter.tariff(held.price, timeline.classes[class as usize]);
                let sum = &mut units[tariff as usize];
                let more = rates[class as usize].unsigned_abs().checked_mul(held.nanos.into());
                match more.and_then(|more| sum.checked_add(more)) {
                    Some(all) => *sum = all,
                    None => is_exact = false,
                }
            }
        });
        is_exact.then_some(())
    }

    /// Units charged so far, by tariff.
    fn units(&self, timeline: &Timeline) -> Option<Vec<u128>> {
        let mut all = self.units.clone();
        for (packages, tariff) in &timeline.packages {
            let units = packages.units(packages.begun(self.at));
            let sum = &mut all[*tariff as usize];
            *sum = sum.checked_add(units)?;
        }
        Some(all)
    }
}

/// The charges of a rule over time: of its counters, and of lines that policies stated.
pub(crate) struct RuleTimeline<'a> {
    pub(crate) counters: Vec<(&'a Counter<'a>, Timeline)>,
    /// Instant, number of the tariff, and units, of a policy's own lines.
    pub(crate) own: Vec<(i64, u32, u128)>,
    pub(crate) own_tariffs: Vec<Tariff>,
}

/// A position in a rule's timeline.
#[derive(Clone)]
pub(crate) struct RuleCursor(Vec<Cursor>, i64);

impl RuleTimeline<'_> {
    /// The sums of its tariffs, in the order in which a cursor has their units.
    pub(crate) fn summing(&self, digits: Digits) -> Summing {
        let counted = self.counters.iter().flat_map(|(counter, _)| &counter.tariffs);
        let ratios = counted.chain(&self.own_tariffs).map(Tariff::ratio);
        Summing::of(ratios.collect(), digits.unit_nanos, digits.rounding)
    }

    pub(crate) fn cursor(&self) -> RuleCursor {
        let new = |(counter, timeline): &(&Counter<'_>, Timeline)| Cursor::new(timeline, counter);
        RuleCursor(self.counters.iter().map(new).collect(), i64::MIN)
    }

    pub(crate) fn advance(&self, cursor: &mut RuleCursor, to: i64) -> Option<()> {
        for (cursor, (counter, timeline)) in cursor.0.iter_mut().zip(&self.counters) {
            cursor.advance(timeline, counter, to)?;
        }
        cursor.1 = to;
        Some(())
    }

    /// Units charged before the cursor's place.
    pub(crate) fn units(&self, cursor: &RuleCursor) -> Option<Vec<u128>> {
        let mut units = Vec::new();
        for (cursor, (_, timeline)) in cursor.0.iter().zip(&self.counters) {
            units.extend(cursor.units(timeline)?);
        }
        let first_own = units.len();
        units.resize(first_own + self.own_tariffs.len(), 0);
        for &(_, tariff, more) in self.own.iter().filter(|(at, ..)| *at < cursor.1) {
            let sum = &mut units[first_own + tariff as usize];
            *sum = sum.checked_add(more)?;
        }
        Some(units)
    }

    /// Instants between which charges change by schedules only.
    pub(crate) fn instants(&self) -> impl Iterator<Item = i64> + '_ {
        let counted = self.counters.iter().flat_map(|(_, timeline)| timeline.instants());
        counted.chain(self.own.iter().map(|&(at, ..)| at))
    }
}
