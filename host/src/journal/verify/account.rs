//! The account of an instance, recomputed from its facts.

use std::collections::HashMap;

use rusqlite::Connection;

use super::super::account::decode;
use super::super::error::VerifyError;
use crate::billing::account::{Account, Degraded};
use crate::billing::{Counted, Tracker};
use crate::units::Instant;

/// The time of an instance by its facts, each phase counted as itself.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Recount(pub(in super::super) Tracker);

impl Recount {
    pub(in super::super) fn step(&mut self, counted: Counted, at: Instant) {
        let tracker = &mut self.0;
        if let Some(phase) = tracker.current {
            let passed = at.since(tracker.since).unwrap_or_default();
            let total = &mut tracker.totals.0[phase as usize];
            *total = total.saturating_add(passed.0);
        }
        tracker.current = counted.phase();
        tracker.since = at;
    }

    /// Describes the difference between an account and the facts; none if there is none. A policy
    /// may count time under another phase, but can't create, lose or move it; under `is_plain`
    /// policies, each phase must count as itself.
    pub(super) fn differs(&self, found: &Account, is_plain: bool) -> Option<String> {
        let phase = self.0.current;
        if found.phase != phase {
            let named =
                |phase: Option<crate::vm::Phase>| phase.map_or("none", crate::vm::Phase::as_str);
            return Some(format!(
                "is in phase {}; by the facts in {}",
                named(found.phase),
                named(phase)
            ));
        }
        self.tracker_differs(&found.tracker, is_plain && found.degraded.is_none())
    }

    /// Describes the difference between the facts and the tracker that a failed policy resumes
    /// from; none if there is none.
    pub(super) fn degraded_differs(&self, found: &Degraded) -> Option<String> {
        if found.phase != self.0.current {
            return Some(
                "does not resume from the phase before the fact that was not accounted".into(),
            );
        }
        self.tracker_differs(&found.tracker, false)
    }

    fn tracker_differs(&self, found: &Tracker, is_plain: bool) -> Option<String> {
        let Self(told) = self;
        let found_ns = found.totals.sum();
        let told_ns = told.totals.sum();
        if found_ns != told_ns {
            return Some(format!(
                "holds {found_ns} ns in all; by the facts {told_ns} ns have passed"
            ));
        }
        if found.current.is_some() != told.current.is_some() {
            return Some(
                "is open where it should be closed, or closed where it should be open".into(),
            );
        }
        if found.current.is_some() && found.since != told.since {
            return Some(format!(
                "counts from {} ns on; by the facts from {} ns",
                found.since.0, told.since.0
            ));
        }
        let is_same = found.totals == told.totals && found.current == told.current;
        (is_plain && !is_same).then(|| "counts time under another phase than the facts".into())
    }
}

/// The degraded accounts, by instance id. Each is compared with the facts at the fact where its
/// policy failed.
pub(super) fn degraded(db: &Connection) -> Result<HashMap<String, Degraded>, VerifyError> {
    let mut statement = db.prepare("SELECT id, account FROM instance JOIN live USING (row)")?;
    let mut rows = statement.query([])?;
    let mut owed = HashMap::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let account = decode(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        // An account that can't be decoded is reported when its instance is checked.
        if let Ok(Account { degraded: Some(degraded), .. }) = account {
            owed.insert(id, degraded);
        }
    }
    Ok(owed)
}
