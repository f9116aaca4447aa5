//! Charges of one counter: each scope is swept, and what was charged becomes lines.

use std::collections::HashMap;

use crate::book::{Resets, Scope};
use crate::counter::{Counter, Standing};
use crate::error::BillError;
use crate::exact;
use crate::input::{CounterBalance, Header, Intervals, Subject};
use crate::lines::{Entry, Ledger, Way, is_charged};
use crate::mutants::Mutant;
use crate::output::Line;
use crate::steps;
use crate::stretches::{Measured, Own, Piece};
use crate::sweep::{Crossing, Fee, Jump, Packages, Part, Phase, Start, Step, Sweep};
use crate::timeline::Timeline;

/// Most lines for which room is reserved before they are there.
const EXPECTED_LINES_MAX: usize = 1 << 17;

/// Input that the charging of all counters shares.
pub(crate) struct Charging<'a> {
    pub(crate) header: &'a Header,
    pub(crate) subjects: &'a [Subject],
    pub(crate) intervals: &'a Intervals,
    /// Place of each subject in the order of first facts, then of ids.
    pub(crate) ranks: &'a [u32],
    /// Set if adjustments need timelines.
    pub(crate) wants_timelines: bool,
}

/// The charges of a counter.
pub(crate) struct Charged {
    /// Lines without amounts; tariffs are those of the counter.
    pub(crate) lines: Vec<Line>,
    /// Balances of counters that are never reset.
    pub(crate) closing: Vec<CounterBalance>,
    pub(crate) timeline: Timeline,
}

/// The source of a counter's units.
#[derive(Debug, Clone, Copy)]
enum Measure<'a> {
    Time,
    Dimension(&'a [u64]),
    Count(&'a [u64]),
    /// No such dimension or count.
    Nothing,
}

impl<'a> Measure<'a> {
    fn of(unit: &str, intervals: &'a Intervals) -> Self {
        if unit == "ns" {
            return Self::Time;
        }
        if let Some(name) = unit.strip_suffix("-ns") {
            let found = intervals.dimensions.iter().find(|column| column.name == name);
            return found.map_or(Self::Nothing, |column| Self::Dimension(&column.values));
        }
        let found = intervals.counts.iter().find(|column| column.name == unit);
        found.map_or(Self::Nothing, |column| Self::Count(&column.values))
    }

    /// Units per nanosecond in an interval.
    fn rate(self, interval: u32) -> u64 {
        match self {
            Self::Time => 1,
            Self::Dimension(values) => values[interval as usize],
            Self::Count(_) | Self::Nothing => 0,
        }
    }
}

/// An instance that uses units in the nanosecond of a crossing.
struct Member {
    crossing: u32,
    subject: u32,
    rate: u64,
    fact: u64,
}

/// Units of one instance in one instant, added to its lines.
struct Extra {
    subject: u32,
    entry: Entry,
}

/// The charging of one counter, in each of its scopes: an instance, or the tenant as a whole.
struct Scopes<'a> {
    charging: &'a Charging<'a>,
    counter: &'a Counter<'a>,
    measured: &'a Measured,
    /// Number of the meter.
    meter: u32,
    measure: Measure<'a>,
    opening: HashMap<Option<&'a str>, &'a CounterBalance>,
    sweep: Sweep<'a>,
    ledger: Ledger<'a>,
    /// Set until the first instance's lines are there.
    expects_lines: bool,
    charged: Charged,
}

impl<'a> Charging<'a> {
    /// Charges the units that a meter counted. The parts of `Charged` are not in a bill's order
    /// yet.
    pub(crate) fn counter(
        &'a self,
        counter: &'a Counter<'a>,
        meter: u32,
        measured: &'a Measured,
    ) -> Result<Charged, BillError> {
        let is_own = |balance: &&CounterBalance| is_of(balance, counter);
        let opening = self.header.opening.counters.iter().filter(is_own);
        let mut scopes = Scopes {
            charging: self,
            counter,
            measured,
            meter,
            measure: Measure::of(counter.key.unit, self.intervals),
            opening: opening.map(|one| (one.instance.as_deref(), one)).collect(),
            sweep: Sweep::new(counter),
            ledger: Ledger::new(counter, self.intervals),
            expects_lines: true,
            charged: Charged {
                lines: Vec::new(),
                closing: Vec::new(),
                timeline: Timeline::default(),
            },
        };
        let is_exact = scopes.all();
        if is_exact.is_none() || scopes.ledger.is_overflown() {
            return Err(BillError::overflow(counter.key.rule));
        }
        let mut charged = scopes.charged;
        charged.timeline.finish();
        Ok(charged)
    }
}

/// Returns whether a balance is that of a counter, for any instance or the tenant.
pub(crate) fn is_of(balance: &CounterBalance, counter: &Counter<'_>) -> bool {
    let key = &counter.key;
    key.resets == Resets::Never
        && balance.rule == key.rule
        && balance.meter == key.meter
        && balance.unit == key.unit
        && balance.instance.is_some() == (key.scope == Scope::Instance)
}

impl<'a> Scopes<'a> {
    fn all(&mut self) -> Option<()> {
        let measured = self.measured;
        match self.counter.key.scope {
            Scope::Tenant if !Mutant::TiersByInstance.is_active() => self.scope(&measured.subjects),
            Scope::Tenant | Scope::Instance => measured.subjects.iter().try_for_each(|own| {
                self.scope(std::slice::from_ref(own))?;
                self.expect_lines();
                Some(())
            }),
        }
    }

    /// Charges one scope: one instance, or all of the tenant's.
    fn scope(&mut self, owns: &'a [Own]) -> Option<()> {
        let counter = self.counter;
        let is_plain = counter.ends.is_empty()
            && counter.volume_ends.is_empty()
            && !counter.has_packages
            && !counter.has_fees;
        let jumps = self.jumps(owns);
        if is_plain && !self.charging.wants_timelines {
            let mut extras: Vec<_> = jumps.iter().filter_map(|jump| self.plain(jump)).collect();
            extras.sort_by_key(|extra| extra.subject);
            self.enter(owns, true, extras);
            return Some(());
        }
        let start = self.start(owns);
        let steps = self.steps(owns);
        self.sweep.run(start, &steps, &jumps)?;
        let extras = self.shares(owns, &jumps);
        self.enter(owns, false, extras);
        if self.charging.wants_timelines {
            self.charged.timeline.add(counter, &self.sweep)?;
        }
        self.hand_on(owns);
        Some(())
    }

    fn start(&self, owns: &[Own]) -> Start {
        let is_next = Mutant::TiersByInstance.is_active() && self.sweep.units > 0;
        if is_next && self.counter.key.scope == Scope::Tenant {
            let Sweep { units, covered, reached, .. } = self.sweep;
            return Start { units, covered, reached };
        }
        match self.opening.get(&self.instance(owns)) {
            Some(_) if Mutant::CountersByPeriod.is_active() => Start::default(),
            Some(balance) => start(balance),
            None => Start::default(),
        }
    }

    /// The instance that the scope belongs to; none for the tenant's scope.
    fn instance(&self, owns: &[Own]) -> Option<&'a str> {
        match (self.counter.key.scope, owns) {
            (Scope::Instance, [own]) => Some(&self.charging.subjects[own.subject as usize].id),
            _ => None,
        }
    }

    fn pieces(&self, own: &Own) -> &'a [Piece] {
        &self.measured.pieces[own.pieces.clone()]
    }

    fn fact(&self, interval: u32) -> u64 {
        self.charging.intervals.fact[interval as usize]
    }

    /// Units that the scope bills over time, ascending.
    fn steps(&self, owns: &[Own]) -> Vec<Step> {
        let pieces = owns.iter().flat_map(|own| self.pieces(own));
        let billed = pieces.filter(|piece| piece.billed_start < piece.billed_end);
        let rated = billed.map(|piece| (piece, u128::from(self.measure.rate(piece.interval))));
        let steps = rated.filter(|(_, rate)| *rate > 0).map(|(piece, rate)| {
            steps::count();
            Step { start: piece.billed_start, end: piece.billed_end, rate }
        });
        if self.counter.key.scope == Scope::Instance { steps.collect() } else { together(steps) }
    }

    /// Units that the scope bills in single instants, ascending.
    fn jumps(&self, owns: &[Own]) -> Vec<Jump> {
        let mut jumps = Vec::new();
        for own in owns {
            match self.measure {
                Measure::Time | Measure::Dimension(_) => self.top_ups(own, &mut jumps),
                Measure::Count(values) => self.counts(own, values, &mut jumps),
                Measure::Nothing => {}
            }
        }
        if owns.len() > 1 {
            jumps.sort_by_key(|jump| jump.at);
        }
        jumps
    }

    fn top_ups(&self, own: &Own, jumps: &mut Vec<Jump>) {
        for top_up in &self.measured.top_ups[own.top_ups.clone()] {
            let rate = self.measure.rate(top_up.interval);
            let units = exact::product(top_up.nanos, rate);
            let subject = own.subject;
            let fact = self.fact(top_up.interval);
            let jump = Jump { at: top_up.at, subject, units, is_used: false, fact };
            jumps.extend((units > 0).then_some(jump));
        }
    }

    fn counts(&self, own: &Own, values: &[u64], jumps: &mut Vec<Jump>) {
        let intervals = self.charging.intervals;
        for interval in own.intervals.clone() {
            let is_counted = intervals.meters[interval] & 1 << self.meter != 0;
            if is_counted && values[interval] > 0 {
                steps::count();
                jumps.push(Jump {
                    at: intervals.end[interval] - 1,
                    subject: own.subject,
                    units: values[interval].into(),
                    is_used: true,
                    fact: intervals.fact[interval],
                });
            }
        }
    }

    /// Charges a jump to which neither tiers nor packages apply.
    fn plain(&self, jump: &Jump) -> Option<Extra> {
        let price = self.counter.schedule.price_at(jump.at)?;
        let tariff = self.counter.tariff(price, Standing { zone: 0, volume: 0 });
        Some(jump.extra(tariff, jump.units, jump.units))
    }

    /// The part of the crossings that each instance has, in the order of instances.
    fn shares(&self, owns: &[Own], jumps: &[Jump]) -> Vec<Extra> {
        let mut members = self.members(owns);
        members.sort_by_key(|member| member.crossing);
        let mut members = members.as_slice();
        let mut extras = Vec::new();
        for (number, crossing) in (0_u32..).zip(&self.sweep.crossings) {
            if let Some(range) = crossing.jumps.clone() {
                self.share(crossing, &jumps[range], &mut extras);
                continue;
            }
            let count = members.partition_point(|member| member.crossing <= number);
            let (these, rest) = members.split_at(count);
            let these: Vec<_> = these.iter().map(|member| member.jump(crossing.at)).collect();
            self.share(crossing, &these, &mut extras);
            members = rest;
        }
        extras.sort_by_key(|extra| extra.subject);
        extras
    }

    /// The instances that use units in the nanoseconds of crossings.
    fn members(&self, owns: &[Own]) -> Vec<Member> {
        let phases = self.sweep.phases.as_slice();
        let mut members = Vec::new();
        if phases.len() == 1 {
            return members;
        }
        for own in owns {
            for piece in self.pieces(own) {
                let first = phases.partition_point(|phase| phase.start <= piece.billed_start);
                let inside = phases[first..].iter();
                let inside = inside.take_while(|phase| phase.start <= piece.billed_end);
                let rate = self.measure.rate(piece.interval);
                for crossing in inside.filter_map(|phase| phase.crossing).filter(|_| rate > 0) {
                    let subject = own.subject;
                    let at = self.sweep.crossings[crossing as usize].at;
                    let fact = piece.fact_at(at, self.charging.intervals);
                    members.push(Member { crossing, subject, rate, fact });
                }
            }
        }
        members
    }

    /// Shares the parts of a crossing in proportion to the units that each instance has left.
    fn share(&self, crossing: &Crossing, jumps: &[Jump], extras: &mut Vec<Extra>) {
        if let [only] = jumps {
            let parts = self.sweep.parts(crossing).iter();
            extras.extend(parts.map(|part| self.part(crossing, part, only, part.units)));
            return;
        }
        let mut left: Vec<_> = jumps.iter().map(|jump| jump.units).collect();
        let rank = |number: usize| self.charging.ranks[jumps[number].subject as usize].into();
        for part in self.sweep.parts(crossing) {
            let shares = exact::apportion(part.units, &left, rank);
            for ((jump, share), left) in jumps.iter().zip(shares).zip(&mut left) {
                *left = left.saturating_sub(share);
                if share > 0 {
                    extras.push(self.part(crossing, part, jump, share));
                }
            }
        }
    }

    /// An instance's share of a part of a crossing.
    fn part(&self, crossing: &Crossing, part: &Part, jump: &Jump, share: u128) -> Extra {
        let standing = self.sweep.standing(part.zone);
        let tariff = self.counter.tariff(crossing.price, standing);
        let is_charged = is_charged(self.counter, crossing.price, part.is_free);
        jump.extra(tariff, share, if is_charged { share } else { 0 })
    }

    /// Enters the scope's charges into lines.
    fn enter(&mut self, owns: &[Own], is_plain: bool, extras: Vec<Extra>) {
        let one = [Phase { start: i64::MIN, zone: 0, is_free: false, crossing: None }];
        let volume = if is_plain { 0 } else { self.sweep.standing(0).volume };
        let phases = if is_plain { one.as_slice() } else { self.sweep.phases.as_slice() };
        let way = Way { phases, volume };
        let mut extras = extras.into_iter().peekable();
        if !is_plain {
            self.ledger.turn();
        }
        for own in owns {
            for piece in &self.measured.pieces[own.pieces.clone()] {
                steps::count();
                let rate = self.measure.rate(piece.interval);
                if rate > 0 {
                    self.ledger.piece(way, piece, rate);
                }
            }
            while let Some(extra) = extras.next_if(|extra| extra.subject == own.subject) {
                self.ledger.add(extra.entry);
            }
            if self.counter.key.scope == Scope::Instance {
                enter_whole(&mut self.ledger, self.counter, &self.sweep, is_plain);
            }
            self.ledger.flush(Some(own.subject), &mut self.charged.lines);
        }
        if self.counter.key.scope == Scope::Tenant {
            enter_whole(&mut self.ledger, self.counter, &self.sweep, is_plain);
            self.ledger.flush(None, &mut self.charged.lines);
        }
    }

    /// Reserves room for the lines of the instances after the first one, which mostly have as many:
    /// growing would copy them.
    fn expect_lines(&mut self) {
        if self.expects_lines {
            self.expects_lines = false;
            let others = self.measured.subjects.len() - 1;
            let expected = self.charged.lines.len().saturating_mul(others);
            self.charged.lines.reserve(expected.min(EXPECTED_LINES_MAX));
        }
    }

    fn hand_on(&mut self, owns: &[Own]) {
        let sweep = &self.sweep;
        let key = &self.counter.key;
        let is_over = |own: &Own| self.charging.subjects[own.subject as usize].ended;
        let has_ended = key.scope == Scope::Instance && owns.iter().any(is_over);
        let instance = self.instance(owns);
        let is_new = !self.opening.contains_key(&instance);
        if key.resets == Resets::Period || has_ended || is_new && sweep.units == 0 {
            return;
        }
        self.charged.closing.push(CounterBalance {
            rule: key.rule.into(),
            meter: key.meter.into(),
            unit: key.unit.into(),
            instance: instance.map(str::to_owned),
            units: sweep.units,
            covered: sweep.covered,
            fees: (0..u128::BITS).filter(|bit| sweep.reached & 1 << bit != 0).collect(),
        });
    }
}

/// Enters the charges of a scope as a whole: fees and packages.
fn enter_whole(ledger: &mut Ledger<'_>, counter: &Counter<'_>, sweep: &Sweep<'_>, is_plain: bool) {
    if is_plain {
        return;
    }
    sweep.fees.iter().for_each(|fee| ledger.add(fee.entry()));
    sweep.packages.iter().for_each(|packages| ledger.add(packages.entry(counter)));
}

impl Fee {
    fn entry(&self) -> Entry {
        let from = self.at;
        let until = self.at.saturating_add(1);
        Entry { tariff: self.tariff, quantity: 1, billed: 1, from, until, facts: None }
    }
}

impl Packages {
    fn entry(&self, counter: &Counter<'_>) -> Entry {
        let standing = Standing { zone: 0, volume: 0 };
        Entry {
            tariff: counter.tariff(self.price, standing),
            quantity: 0,
            billed: self.units(self.count),
            from: self.begins(0),
            until: self.begins(self.count - 1).saturating_add(1),
            facts: None,
        }
    }
}

impl Jump {
    /// Takes units, of which `billed` are charged, at a tariff.
    fn extra(&self, tariff: u32, units: u128, billed: u128) -> Extra {
        let entry = Entry {
            tariff,
            quantity: if self.is_used { units } else { 0 },
            billed,
            from: self.at,
            until: self.at.saturating_add(1),
            facts: Some((self.fact, self.fact)),
        };
        Extra { subject: self.subject, entry }
    }
}

impl Member {
    /// The instance's units in the nanosecond of the crossing.
    fn jump(&self, at: i64) -> Jump {
        let units = self.rate.into();
        Jump { at, subject: self.subject, units, is_used: true, fact: self.fact }
    }
}

/// Start of a counter from the balance that an earlier period handed on.
fn start(balance: &CounterBalance) -> Start {
    let bits = balance.fees.iter().filter(|&&bit| bit < u128::BITS);
    let reached = bits.fold(0, |set, bit| set | 1 << bit);
    Start { units: balance.units, covered: balance.covered, reached }
}

/// Adds up the steps of many instances.
fn together(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut changes = Vec::new();
    for step in steps {
        let rate = step.rate.cast_signed();
        changes.push((step.start, rate));
        changes.push((step.end, -rate));
    }
    changes.sort_unstable();
    let mut together: Vec<Step> = Vec::new();
    let mut rate = 0_i128;
    let mut from = i64::MIN;
    for (at, change) in changes {
        if rate > 0 && from < at {
            let step = Step { start: from, end: at, rate: rate.cast_unsigned() };
            match together.last_mut() {
                Some(last) if last.end == from && last.rate == step.rate => last.end = at,
                Some(_) | None => together.push(step),
            }
        }
        rate += change;
        from = at;
    }
    together
}
