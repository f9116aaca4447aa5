//! The time that meters count, cut into stretches, and the part of it that is billed.

use std::collections::{BTreeMap, BTreeSet};

use crate::known::{Known, initializing_since};
use crate::scenario::{Instance, Meter, Nanos, Piece, StretchKind, TimeRounding};

/// An instance and a meter.
pub(crate) type Place = (String, String);

/// The newest stretch of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) kind: StretchKind,
    pub(crate) session: u32,
    pub(crate) wakes: u32,
    pub(crate) counted_until: Nanos,
    pub(crate) used: Nanos,
    /// Most nanoseconds that the stretch owed at any border.
    pub(crate) owed_most: Nanos,
}

/// Time of one instance under one meter, with one shape.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) place: Place,
    pub(crate) from: Nanos,
    pub(crate) to: Nanos,
    pub(crate) dimensions: BTreeMap<String, u64>,
}

/// Units that are counted at the end of a nanosecond.
#[derive(Debug, Clone)]
pub(crate) struct Jump {
    pub(crate) place: Place,
    pub(crate) at: Nanos,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Time that is owed beyond the usage in the period, in this shape.
    TopUp { nanos: Nanos, dimensions: BTreeMap<String, u64> },
    /// Counts that were read.
    Counts(BTreeMap<String, u64>),
}

#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) billed: Vec<Part>,
    pub(crate) jumps: Vec<Jump>,
    pub(crate) stretches: BTreeMap<Place, Stretch>,
}

/// No valid answer from a policy in force.
#[derive(Debug)]
pub(crate) struct Unrated;

/// A stretch during the pass over a period.
struct Run {
    stretch: Stretch,
    used_before: Nanos,
    parts: Vec<Part>,
    terms: Option<Meter>,
}

impl Usage {
    /// The usage between the first and the last of `edges`.
    pub(crate) fn of(
        known: &Known,
        edges: &BTreeSet<Nanos>,
        opening: &BTreeMap<Place, Stretch>,
    ) -> Result<Self, Unrated> {
        let mut usage = Self { stretches: opening.clone(), ..Self::default() };
        let meters: BTreeSet<&String> =
            known.policies().flat_map(|policy| policy.meters.keys()).collect();
        for instance in known.instances.values() {
            check_rated(known, edges, instance)?;
            for &meter in &meters {
                usage.walk(known, edges, instance, meter);
            }
        }
        Ok(usage)
    }

    fn walk(&mut self, known: &Known, edges: &BTreeSet<Nanos>, instance: &Instance, meter: &str) {
        let place = (instance.id.clone(), meter.to_owned());
        let mut runs: Vec<Run> = Vec::new();
        let mut current = self.stretches.get(&place).cloned().map(Run::resumed);
        for (from, to) in pairs(edges) {
            let Some(piece) = piece_at(instance, from) else { continue };
            let policy = known.policy(from);
            let Some(terms) = policy.and_then(|policy| policy.meters.get(meter)) else { continue };
            if current.as_ref().is_some_and(|run| run.stretch.kind != terms.stretch) {
                runs.extend(current.take());
            }
            let max = policy.map_or(0, |policy| policy.initializing_max);
            let phase = phase_at(instance, piece, from, max);
            if !terms.phases.contains(phase) || known.book(from).is_none() {
                continue;
            }
            if !current.as_ref().is_some_and(|run| run.stretch.goes_on(piece, from)) {
                runs.extend(current.take());
            }
            let run = current.get_or_insert_with(|| Run::begun(piece, terms.stretch));
            let dimensions = piece.dimensions.clone();
            run.count(Part { place: place.clone(), from, to, dimensions }, terms);
            if to == piece.to && !piece.counts.is_empty() {
                let what = What::Counts(piece.counts.clone());
                self.jumps.push(Jump { place: place.clone(), at: to - 1, what });
            }
        }
        for run in runs {
            self.bill(run);
        }
        match current.map(|run| self.bill(run)) {
            Some(stretch) => self.stretches.insert(place, stretch),
            // A policy has ended it.
            None => self.stretches.remove(&place),
        };
    }

    fn bill(&mut self, run: Run) -> Stretch {
        let mut stretch = run.stretch;
        let (Some(terms), Some(last)) = (run.terms, run.parts.last()) else { return stretch };
        let owed = terms.owed(stretch.used);
        let mut missing = (owed - stretch.owed_most).max(0);
        let mut used = run.used_before;
        for part in &run.parts {
            // Nanoseconds of the stretch from `used + 1` on.
            let first = stretch.owed_most.max(used);
            let end = owed.min(used + (part.to - part.from));
            if first < end {
                let from = part.from + (first - used);
                let to = part.from + (end - used);
                missing -= to - from;
                self.billed.push(Part { from, to, ..part.clone() });
            }
            used += part.to - part.from;
        }
        if missing > 0 {
            let what = What::TopUp { nanos: missing, dimensions: last.dimensions.clone() };
            self.jumps.push(Jump { place: last.place.clone(), at: last.to - 1, what });
        }
        stretch.owed_most = stretch.owed_most.max(owed);
        stretch
    }
}

impl Run {
    fn resumed(stretch: Stretch) -> Self {
        Self { used_before: stretch.used, stretch, parts: Vec::new(), terms: None }
    }

    fn begun(piece: &Piece, kind: StretchKind) -> Self {
        Self::resumed(Stretch {
            kind,
            session: piece.session,
            wakes: piece.wakes,
            counted_until: Nanos::MIN,
            used: 0,
            owed_most: 0,
        })
    }

    fn count(&mut self, part: Part, terms: &Meter) {
        self.stretch.used += part.to - part.from;
        self.stretch.counted_until = part.to;
        self.terms = Some(terms.clone());
        self.parts.push(part);
    }
}

impl Stretch {
    fn goes_on(&self, piece: &Piece, at: Nanos) -> bool {
        match self.kind {
            StretchKind::Life => true,
            StretchKind::Start => self.session == piece.session,
            StretchKind::Wake => self.session == piece.session && self.wakes == piece.wakes,
            StretchKind::Visit => self.counted_until == at,
        }
    }
}

impl Meter {
    /// Time that a stretch owes after using `used`.
    fn owed(&self, used: Nanos) -> Nanos {
        let least = used.max(self.minimum);
        let step = self.granularity.max(1);
        let below = least / step * step;
        let is_up = match self.rounding {
            TimeRounding::Up => below < least,
            TimeRounding::Down => false,
            TimeRounding::HalfUp => 2 * (least - below) >= step && below < least,
        };
        below + if is_up { step } else { 0 }
    }
}

fn check_rated(known: &Known, edges: &BTreeSet<Nanos>, instance: &Instance) -> Result<(), Unrated> {
    let lives = pairs(edges).filter(|(from, _)| piece_at(instance, *from).is_some());
    for (from, _) in lives {
        if known.policy(from).is_some_and(|policy| policy.unrated) {
            return Err(Unrated);
        }
    }
    Ok(())
}

pub(crate) fn pairs(edges: &BTreeSet<Nanos>) -> impl Iterator<Item = (Nanos, Nanos)> {
    edges.iter().copied().zip(edges.iter().copied().skip(1))
}

pub(crate) fn piece_at(instance: &Instance, at: Nanos) -> Option<&Piece> {
    instance.pieces.iter().find(|piece| piece.from <= at && at < piece.to)
}

pub(crate) fn phase_at<'a>(
    instance: &Instance,
    piece: &'a Piece,
    at: Nanos,
    max: Nanos,
) -> &'a str {
    let is_long = || at - initializing_since(instance, at) >= max;
    if piece.phase == "initializing" && is_long() { "running" } else { &piece.phase }
}
