//! Conversions between the host's types and the contract's, and checks of batched answers.

use super::bindings::tallyman::policy::types as wire;
use super::fault::Fault;
use crate::billing::conservation::{check_enter, check_snapshot};
use crate::billing::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// The ordinal that stands for "no phase".
const NO_PHASE: u8 = 255;

const LISTS: [&str; Phase::ALL.len()] =
    ["created", "initializing", "running", "paused", "shutdown", "standby", "stopped", "unknown"];

/// One item of a batch: the tracker of an instance, the phase that it enters, and the instant.
pub(super) type Step = (Tracker, Phase, Instant);

pub(super) fn phase(phase: Phase) -> wire::Phase {
    match phase {
        Phase::Created => wire::Phase::Created,
        Phase::Initializing => wire::Phase::Initializing,
        Phase::Running => wire::Phase::Running,
        Phase::Paused => wire::Phase::Paused,
        Phase::Shutdown => wire::Phase::Shutdown,
        Phase::Standby => wire::Phase::Standby,
        Phase::Stopped => wire::Phase::Stopped,
        Phase::Unknown => wire::Phase::Unknown,
    }
}

fn host_phase(phase: wire::Phase) -> Phase {
    match phase {
        wire::Phase::Created => Phase::Created,
        wire::Phase::Initializing => Phase::Initializing,
        wire::Phase::Running => Phase::Running,
        wire::Phase::Paused => Phase::Paused,
        wire::Phase::Shutdown => Phase::Shutdown,
        wire::Phase::Standby => Phase::Standby,
        wire::Phase::Stopped => Phase::Stopped,
        wire::Phase::Unknown => Phase::Unknown,
    }
}

pub(super) fn tracker(tracker: &Tracker) -> wire::Tracker {
    let [created, initializing, running, paused, shutdown, standby, stopped, unknown] =
        tracker.totals.0;
    wire::Tracker {
        current: tracker.current.map(phase),
        since: tracker.since.0,
        totals: wire::Totals {
            created,
            initializing,
            running,
            paused,
            shutdown,
            standby,
            stopped,
            unknown,
        },
    }
}

pub(super) fn host_totals(totals: wire::Totals) -> Totals {
    let wire::Totals {
        created,
        initializing,
        running,
        paused,
        shutdown,
        standby,
        stopped,
        unknown,
    } = totals;
    Totals([created, initializing, running, paused, shutdown, standby, stopped, unknown])
}

pub(super) fn host_tracker(tracker: wire::Tracker) -> Tracker {
    Tracker {
        current: tracker.current.map(host_phase),
        since: Instant(tracker.since),
        totals: host_totals(tracker.totals),
    }
}

/// Converts trackers into columns, in one walk for each column.
pub(super) fn columns<'a>(
    trackers: impl Iterator<Item = &'a Tracker> + Clone,
) -> wire::TrackerColumns {
    let total =
        |ordinal: usize| trackers.clone().map(|tracker| tracker.totals.0[ordinal]).collect();
    wire::TrackerColumns {
        current: trackers
            .clone()
            .map(|tracker| tracker.current.map_or(NO_PHASE, |phase| phase as u8))
            .collect(),
        since: trackers.clone().map(|tracker| tracker.since.0).collect(),
        totals: wire::TotalsColumns {
            created: total(0),
            initializing: total(1),
            running: total(2),
            paused: total(3),
            shutdown: total(4),
            standby: total(5),
            stopped: total(6),
            unknown: total(7),
        },
    }
}

/// Returns the eight lists of totals by ordinal of the phase, after checking their lengths.
fn lists(totals: &wire::TotalsColumns, items: usize) -> Result<[&[u64]; Phase::ALL.len()], Fault> {
    let lists: [&[u64]; Phase::ALL.len()] = [
        &totals.created,
        &totals.initializing,
        &totals.running,
        &totals.paused,
        &totals.shutdown,
        &totals.standby,
        &totals.stopped,
        &totals.unknown,
    ];
    for (list, name) in lists.iter().zip(LISTS) {
        check_length(name, items, list.len())?;
    }
    // Slicing to the checked length lets the compiler drop the bounds checks below.
    Ok(lists.map(|list| &list[..items]))
}

fn check_length(list: &'static str, expected: usize, got: usize) -> Result<(), Fault> {
    if got == expected { Ok(()) } else { Err(Fault::WrongLength { list, expected, got }) }
}

fn current(item: usize, ordinal: u8) -> Result<Option<Phase>, Fault> {
    match Phase::from_ordinal(ordinal) {
        Some(phase) => Ok(Some(phase)),
        None if ordinal == NO_PHASE => Ok(None),
        None => Err(Fault::InvalidPhase { item, ordinal }),
    }
}

/// Checks the answer to a batch of steps, conservation included, and appends it to `after`. After a
/// fault, what was appended is invalid.
pub(super) fn check_entered(
    steps: &[Step],
    answer: &wire::TrackerColumns,
    after: &mut Vec<Tracker>,
) -> Result<(), Fault> {
    check_length("current", steps.len(), answer.current.len())?;
    check_length("since", steps.len(), answer.since.len())?;
    let lists = lists(&answer.totals, steps.len())?;
    let phases = &answer.current[..steps.len()];
    let since = &answer.since[..steps.len()];
    for (item, (before, _, at)) in steps.iter().enumerate() {
        let answered = Tracker {
            current: current(item, phases[item])?,
            since: Instant(since[item]),
            totals: Totals(lists.map(|list| list[item])),
        };
        check_enter(before, *at, &answered)
            .map_err(|violation| Fault::Violation { item, violation })?;
        after.push(answered);
    }
    Ok(())
}

/// Checks the answer to a batch of snapshots, conservation included, and appends it to `totals`.
/// After a fault, what was appended is invalid.
pub(super) fn check_looked(
    trackers: &[Tracker],
    at: Instant,
    answer: &wire::TotalsColumns,
    totals: &mut Vec<Totals>,
) -> Result<(), Fault> {
    let lists = lists(answer, trackers.len())?;
    for (item, before) in trackers.iter().enumerate() {
        let answered = Totals(lists.map(|list| list[item]));
        check_snapshot(before, at, &answered)
            .map_err(|violation| Fault::Violation { item, violation })?;
        totals.push(answered);
    }
    Ok(())
}
