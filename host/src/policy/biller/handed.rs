//! Stretches that go from period to period, as columns of the biller's contract.

use biller::handed::{Handed, Opening, balances};
use biller::input::{Balances, Header, Stretch, StretchBalance, Subject};

use super::bindings::exports::tallyman::biller::bills::StretchColumns;
use crate::limits::biller as limits;

/// Kinds of stretches, by their numbers in columns.
const KINDS: [Stretch; 4] = [Stretch::Start, Stretch::Wake, Stretch::Visit, Stretch::Life];

/// The stretches that a period begins with, and its header without them.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) header: Header,
    pub(super) opening: Opening,
}

impl Opened {
    pub(super) fn of(header: &Header, subjects: &[Subject]) -> Self {
        let opening = Opening::of(&header.opening.stretches, subjects, &header.meters);
        let balances = Balances {
            counters: header.opening.counters.clone(),
            stretches: Vec::new(),
            credits: header.opening.credits.clone(),
        };
        // Field by field, because there may be millions of stretches that need no copy.
        let header = Header {
            form: header.form,
            period: header.period,
            first: header.first,
            last: header.last,
            until: header.until,
            calendar: header.calendar.clone(),
            zones: header.zones.clone(),
            books: header.books.clone(),
            meters: header.meters.clone(),
            terms: header.terms.clone(),
            opening: balances,
            one_offs: header.one_offs.clone(),
            marks: header.marks.clone(),
        };
        Self { header, opening }
    }

    /// The columns of each call.
    pub(super) fn columns(&self) -> impl Iterator<Item = StretchColumns> + '_ {
        self.opening.stretches.chunks(limits::BATCH_INTERVALS).map(columns)
    }

    /// Names the stretches that the period hands on; none where a number stands for nothing.
    pub(super) fn closing(
        &self,
        handed: &[Handed],
        subjects: &[Subject],
    ) -> Option<Vec<StretchBalance>> {
        balances(handed, &self.opening.others, subjects, &self.header.meters)
    }
}

fn columns(stretches: &[Handed]) -> StretchColumns {
    StretchColumns {
        instance: stretches.iter().map(|one| one.instance).collect(),
        meter: stretches.iter().map(|one| one.meter).collect(),
        kind: stretches.iter().map(|one| one.stretch as u8).collect(),
        session: stretches.iter().map(|one| one.session).collect(),
        wakes: stretches.iter().map(|one| one.wakes).collect(),
        last: stretches.iter().map(|one| one.last).collect(),
        used_ns: stretches.iter().map(|one| one.used_ns).collect(),
        owed_ns: stretches.iter().map(|one| one.owed_ns).collect(),
    }
}

/// Reads stretches from columns; none if a column is too short or a kind unknown.
pub(super) fn read(columns: &StretchColumns) -> Option<Vec<Handed>> {
    let one = |number: usize| {
        Some(Handed {
            meter: *columns.meter.get(number)?,
            instance: *columns.instance.get(number)?,
            stretch: *KINDS.get(usize::from(*columns.kind.get(number)?))?,
            session: *columns.session.get(number)?,
            wakes: *columns.wakes.get(number)?,
            last: *columns.last.get(number)?,
            used_ns: *columns.used_ns.get(number)?,
            owed_ns: *columns.owed_ns.get(number)?,
        })
    };
    (0..columns.instance.len()).map(one).collect()
}
