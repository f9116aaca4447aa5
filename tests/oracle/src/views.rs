//! Single periods of a scenario, with their whole input, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use crate::acts::Accounts;
use crate::book::Unit;
use crate::clock::DAY;
use crate::known::Known;
use crate::period::{Handed, Span, View};
use crate::scenario::{
    Instance, Meter, Nanos, OneOff, Own, Piece, Scenario, Step, StretchKind, Sums,
};
use crate::usage::{pairs, phase_at, piece_at};

/// The oracle's view of a period up to an instant: input and result.
#[derive(Debug, Clone)]
pub struct PeriodView {
    /// Begin of a usual period that ends with this one; before `begin`, if the agreement began
    /// inside of one of its own periods.
    pub usual_begin: Nanos,
    /// Begin of the period.
    pub begin: Nanos,
    /// Border to the next period.
    pub usual_end: Nanos,
    /// The tenant's end inside the period, or the border.
    pub end: Nanos,
    /// Instant up to which the view goes.
    pub up_to: Nanos,
    /// The tenant's first fact, which may lie before the period.
    pub first_fact: Nanos,
    /// Calendar as far as known.
    pub calendar: Vec<Step>,
    /// Zones of windows: UTC instants and the offsets from them on, in seconds east.
    pub zones: BTreeMap<String, Vec<(Nanos, i32)>>,
    /// Books in force or planned: first instant, first instant after, text.
    pub books: Vec<(Nanos, Nanos, Value)>,
    /// Terms by meter: first instant, first instant after. They cover the time before `up_to`.
    pub terms: Vec<(Nanos, Nanos, BTreeMap<String, Meter>)>,
    /// Instances that are known.
    pub instances: Vec<Instance>,
    /// Intervals, cut where policies change.
    pub cuts: Vec<Cut>,
    /// Own lines of the policies, each with the meter and the unit of its price.
    pub own: Vec<(Own, String, String)>,
    /// One-off charges and goodwill that are known, in the order of the acts.
    pub one_offs: Vec<OneOff>,
    /// Balances that the period before handed on.
    pub opening: Balances,
    /// Sums of the period.
    pub sums: Sums,
    /// Instants inside the billed time.
    pub marks: Vec<Nanos>,
    /// Rounded sums up to each of the marks, by rule.
    pub before: BTreeMap<String, Vec<i128>>,
    /// The total in whole coins, in nano-units.
    pub coins: i128,
    /// Balances for the next period.
    pub closing: Balances,
}

/// Time of an instance that the same meters count.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Index into the instances.
    pub instance: usize,
    /// First instant inside.
    pub from: Nanos,
    /// First instant after.
    pub to: Nanos,
    /// Meters that count it.
    pub meters: BTreeSet<String>,
    /// Interval of the instance in which it lies; its counts are read in the last cut only.
    pub piece: Piece,
}

/// Balances that a period hands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balances {
    /// Counters that are never reset and have begun, without those of instances that have ended.
    pub counters: Vec<CounterBalance>,
    /// Stretches of instances that live on.
    pub stretches: Vec<StretchBalance>,
    /// Nano-units used of each credit.
    pub credits: BTreeMap<String, i128>,
}

/// The balance of a counter that is never reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterBalance {
    /// Rule of the counter.
    pub rule: String,
    /// Meter of the counter.
    pub meter: String,
    /// Unit of the counter.
    pub unit: String,
    /// Instance that the counter belongs to; none for the tenant's.
    pub instance: Option<String>,
    /// Units so far.
    pub value: u128,
    /// Value of the counter up to which packages are paid.
    pub covered: u128,
    /// Positions of the tiers whose fee was owed.
    pub reached: Vec<usize>,
}

/// A stretch that may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StretchBalance {
    /// Id of the instance.
    pub instance: String,
    /// Meter whose stretch it is.
    pub meter: String,
    /// Kind of stretch.
    pub kind: StretchKind,
    /// Number of the session.
    pub session: u32,
    /// Number of times that standby was left.
    pub wakes: u32,
    /// End of the last counted time.
    pub counted_until: Nanos,
    /// Nanoseconds used so far.
    pub used: Nanos,
    /// Most nanoseconds that it owed at any border.
    pub owed_most: Nanos,
}

/// All views that led to documents of a scenario, or showed that none was due.
#[must_use]
pub fn views(scenario: &Scenario) -> Vec<PeriodView> {
    let mut accounts = Accounts::of(scenario);
    accounts.views = Some(Vec::new());
    for (number, act) in scenario.acts.iter().enumerate() {
        accounts.act(number, act);
    }
    accounts.views.unwrap_or_default()
}

impl PeriodView {
    pub(crate) fn of(known: &Known, span: Span, opening: &Handed, view: &View) -> Self {
        let instances: Vec<Instance> = known.instances.values().cloned().collect();
        let edges = known.edges(span.begin, span.up_to);
        let cuts = instances.iter().enumerate();
        let cuts =
            cuts.flat_map(|(number, instance)| cuts_of(known, &edges, number, instance)).collect();
        Self {
            usual_begin: span.usual_begin,
            begin: span.begin,
            usual_end: span.usual_end,
            end: span.end,
            up_to: span.up_to,
            first_fact: known.first_fact(),
            calendar: known.calendar.0.clone(),
            zones: zones(known, span),
            books: books(known, span),
            terms: terms(known, &edges),
            one_offs: [false, true]
                .into_iter()
                .flat_map(|is_goodwill| known.one_offs(is_goodwill, Nanos::MAX))
                .cloned()
                .collect(),
            own: known
                .own(span.begin.max(known.first_fact()), span.up_to)
                .into_iter()
                .map(|(own, price)| (own.clone(), price.meter.clone(), price.unit.name()))
                .collect(),
            opening: opening.balances(&instances, span.begin),
            closing: view.handed.balances(&instances, span.up_to),
            instances,
            cuts,
            marks: view.parts.marks.clone(),
            before: view.parts.before.clone(),
            sums: view.sums.clone(),
            coins: view.coins,
        }
    }
}

fn zones(known: &Known, span: Span) -> BTreeMap<String, Vec<(Nanos, i32)>> {
    let walls = known
        .calendar
        .0
        .iter()
        .flat_map(|step| [span.begin + step.offset, span.usual_end + step.offset]);
    let walls: Vec<Nanos> = walls.collect();
    let from = walls.iter().min().copied().unwrap_or(0) - 3 * DAY;
    let to = walls.iter().max().copied().unwrap_or(0) + 3 * DAY;
    let offset = |zone: &crate::clock::Zone, at: Nanos| {
        i32::try_from((zone.local(at) - at) / 1_000_000_000).expect("less than a day")
    };
    let zone = |zone: &crate::clock::Zone| {
        let changes = zone.changes(from, to).into_iter();
        [from].into_iter().chain(changes).map(|at| (at, offset(zone, at))).collect()
    };
    known.zones.iter().map(|(name, of)| (name.clone(), zone(of))).collect()
}

fn books(known: &Known, span: Span) -> Vec<(Nanos, Nanos, Value)> {
    let edges = known.edges(span.begin, span.usual_end);
    let mut books: Vec<(Nanos, Nanos, Value)> = Vec::new();
    let mut last = None;
    for (from, to) in pairs(&edges) {
        let book = known.planned_book(from, span.up_to);
        let number = book.map(Rc::as_ptr);
        match (book, books.last_mut()) {
            (Some(_), Some(before)) if number == last => before.1 = to,
            (Some(book), _) => books.push((from, to, known.texts[&Rc::as_ptr(book)].clone())),
            (None, _) => {}
        }
        last = number;
    }
    books
}

fn terms(known: &Known, edges: &BTreeSet<Nanos>) -> Vec<(Nanos, Nanos, BTreeMap<String, Meter>)> {
    let mut all: Vec<(Nanos, Nanos, BTreeMap<String, Meter>)> = Vec::new();
    for (from, to) in pairs(edges) {
        let meters = known.policy(from).map(|policy| policy.meters.clone()).unwrap_or_default();
        match all.last_mut() {
            Some((_, until, before)) if *before == meters => *until = to,
            Some(_) | None => all.push((from, to, meters)),
        }
    }
    all
}

fn cuts_of(known: &Known, edges: &BTreeSet<Nanos>, number: usize, instance: &Instance) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut last_terms = None;
    for (from, to) in pairs(edges) {
        let (Some(whole), Some(policy)) = (piece_at(instance, from), known.policy(from)) else {
            continue;
        };
        let phase = phase_at(instance, whole, from, policy.initializing_max);
        let counts = policy.meters.iter().filter(|(_, meter)| meter.phases.contains(phase));
        let meters: BTreeSet<String> = counts.map(|(name, _)| name.clone()).collect();
        let mut piece = whole.clone();
        if to != whole.to {
            piece.counts.clear();
        }
        let is_same = |before: &Cut| {
            let mut one = before.piece.clone();
            one.counts = whole.counts.clone();
            one == *whole && before.to == from && before.meters == meters
        };
        let has_same_terms = last_terms == Some(&policy.meters);
        match cuts.last_mut().filter(|before| has_same_terms && is_same(before)) {
            Some(before) => {
                before.to = to;
                before.piece = piece;
            }
            None => cuts.push(Cut { instance: number, from, to, meters, piece }),
        }
        last_terms = Some(&policy.meters);
    }
    cuts
}

impl Handed {
    /// Balances that may matter after an instant.
    fn balances(&self, instances: &[Instance], at: Nanos) -> Balances {
        let lives_on = |id: &String| {
            let instance = instances.iter().find(|instance| instance.id == *id);
            instance.is_some_and(|instance| instance.pieces.iter().any(|piece| piece.to > at))
        };
        let counters = self.counters.iter().filter(|(key, counter)| {
            counter.value > 0 && key.instance.as_ref().is_none_or(lives_on)
        });
        let counters = counters.map(|(key, counter)| CounterBalance {
            rule: key.rule.clone(),
            meter: key.meter.clone(),
            unit: key.unit.name(),
            instance: key.instance.clone(),
            value: counter.value.unsigned_abs(),
            covered: counter.covered.unsigned_abs(),
            reached: counter.reached.iter().copied().collect(),
        });
        let open = self.stretches.iter().filter(|((instance, _), stretch)| {
            let is_over = stretch.kind == StretchKind::Visit && stretch.counted_until != at;
            lives_on(instance) && !is_over
        });
        let stretches = open.map(|((instance, meter), stretch)| StretchBalance {
            instance: instance.clone(),
            meter: meter.clone(),
            kind: stretch.kind,
            session: stretch.session,
            wakes: stretch.wakes,
            counted_until: stretch.counted_until,
            used: stretch.used,
            owed_most: stretch.owed_most,
        });
        let credits = self.credits.iter().filter(|(_, used)| **used > 0);
        Balances {
            counters: counters.collect(),
            stretches: stretches.collect(),
            credits: credits.map(|(id, used)| (id.clone(), *used)).collect(),
        }
    }
}

impl Unit {
    fn name(&self) -> String {
        match self {
            Self::Time(None) => "ns".to_owned(),
            Self::Time(Some(dimension)) => format!("{dimension}-ns"),
            Self::Count(name) => name.clone(),
        }
    }
}
