//! The states of instances at a border.

use std::collections::BTreeMap;

use super::super::wire::FactRecord;
use super::layout::Carried;
use crate::billing::life::Opening;
use crate::billing::{About, Counted, Fact};
use crate::units::Instant;
use crate::vm::Phase;

/// The instances that have facts and are not deleted, by id.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct States(BTreeMap<String, State>);

#[derive(Debug, Clone, Default)]
struct State {
    /// The fact that opened what is under way, with its link.
    opened: Option<(FactRecord, u32)>,
    opening: Option<Opening>,
    first_fact: u64,
    /// The facts from which what is under way can be told: those since the last one that counts
    /// time, and the boot that it may belong to.
    tail: Vec<u64>,
}

impl States {
    /// Moves past a fact.
    pub(super) fn step(&mut self, record: &FactRecord, fact: &Fact, link: u32) {
        let About::Instance(id, of) = &fact.about else { return };
        let counted = of.counts();
        if counted == Some(Counted::Ends) {
            self.0.remove(id.as_str());
            return;
        }
        let state = self
            .0
            .entry(id.to_string())
            .or_insert_with(|| State { first_fact: record.seq, ..State::default() });
        state.keep(record.seq, counted);
        if let Some(counted) = counted {
            let at = Instant(record.meter_ns);
            state.opening = Opening::after(state.opening.as_ref(), record.seq, at, counted);
            state.opened = Some((record.clone(), link));
        }
    }

    /// Begins with a state that a segment carries.
    pub(super) fn begin(
        &mut self,
        (record, link): (FactRecord, u32),
        first_fact: u64,
        opening: Opening,
    ) {
        let Some(id) = record.instance.clone() else { return };
        let tail = vec![record.seq];
        let opened = Some((record, link));
        self.0.insert(id, State { opened, opening: Some(opening), first_fact, tail });
    }

    /// The rows that the next segment begins with.
    pub(super) fn carried(&self) -> Vec<Carried> {
        let carried = |state: &State| {
            let (record, link) = state.opened.clone()?;
            let opening = state.opening?;
            Some(Carried {
                record,
                link,
                first_fact: state.first_fact,
                wakes: opening.wakes,
                boot_began: opening.boot_began,
            })
        };
        self.0.values().filter_map(carried).collect()
    }

    /// The facts whose rows stay.
    pub(super) fn kept(&self) -> impl Iterator<Item = u64> {
        self.0.values().flat_map(|state| state.tail.iter().copied())
    }
}

impl State {
    fn keep(&mut self, seq: u64, counted: Option<Counted>) {
        let is_boot = |phase: Option<Phase>| phase == Some(Phase::Initializing);
        let before = self.opening.map(|open| open.entered.phase);
        let goes_on = is_boot(before) && counted.is_some_and(|counted| is_boot(counted.phase()));
        if counted.is_some() && !goes_on {
            self.tail.clear();
        }
        self.tail.push(seq);
    }
}
