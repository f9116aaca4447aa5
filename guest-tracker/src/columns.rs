//! Many instances at once, in place: the lists that arrive are the lists that are answered.

use crate::tracker::elapsed;
use crate::{AccountingError, Instant, NO_PHASE, Phase, Policy, TotalsColumns, TrackerColumns};

const PHASES: usize = 8;

/// `enter` for every item.
pub(crate) fn enter_all<P: Policy + ?Sized>(
    mut states: TrackerColumns,
    to: &[u8],
    at: Vec<Instant>,
) -> Result<TrackerColumns, AccountingError> {
    let items = states.current.len();
    check_length(items, to.len())?;
    check_length(items, at.len())?;
    check_length(items, states.since.len())?;
    let counted = counted_as::<P>();
    let mut totals = columns(&mut states.totals, items)?;
    let since = &states.since[..items];
    let current = &mut states.current[..items];
    for item in 0..items {
        let next = counted.get(usize::from(to[item])).ok_or_else(|| invalid(item))?;
        add(&mut totals, current[item], item, since[item], at[item])?;
        current[item] = *next;
    }
    states.since = at;
    Ok(states)
}

/// `snapshot` for every item.
pub(crate) fn snapshot_all(
    mut states: TrackerColumns,
    at: Instant,
) -> Result<TotalsColumns, AccountingError> {
    let items = states.current.len();
    check_length(items, states.since.len())?;
    let mut totals = columns(&mut states.totals, items)?;
    let since = &states.since[..items];
    let current = &states.current[..items];
    for item in 0..items {
        add(&mut totals, current[item], item, since[item], at)?;
    }
    Ok(states.totals)
}

/// Adds the visit under way of one item to its total.
#[inline(always)]
fn add(
    totals: &mut [&mut [u64]; PHASES],
    current: u8,
    item: usize,
    since: Instant,
    at: Instant,
) -> Result<(), AccountingError> {
    let Some(column) = totals.get_mut(usize::from(current)) else {
        return if current == NO_PHASE { Ok(()) } else { Err(invalid(item)) };
    };
    let elapsed = elapsed(since, at).ok_or_else(|| went_back(item))?;
    column[item] = column[item].checked_add(elapsed).ok_or_else(|| overflow(item))?;
    Ok(())
}

/// For each ordinal, the ordinal under which it counts. Looked up once a batch, so the loop holds
/// no call of the policy.
pub(crate) fn counted_as<P: Policy + ?Sized>() -> [u8; PHASES] {
    [
        Phase::Created,
        Phase::Initializing,
        Phase::Running,
        Phase::Paused,
        Phase::Shutdown,
        Phase::Standby,
        Phase::Stopped,
        Phase::Unknown,
    ]
    .map(|phase| P::counts_as(phase) as u8)
}

/// The eight lists by ordinal, each proved to hold `items`.
fn columns(
    totals: &mut TotalsColumns,
    items: usize,
) -> Result<[&mut [u64]; PHASES], AccountingError> {
    let lists: [&mut [u64]; PHASES] = [
        &mut totals.created,
        &mut totals.initializing,
        &mut totals.running,
        &mut totals.paused,
        &mut totals.shutdown,
        &mut totals.standby,
        &mut totals.stopped,
        &mut totals.unknown,
    ];
    for list in &lists {
        check_length(items, list.len())?;
    }
    Ok(lists)
}

/// Refuses lists of unequal length; the error names the first item that the shorter list lacks.
fn check_length(items: usize, len: usize) -> Result<(), AccountingError> {
    if len == items { Ok(()) } else { Err(invalid(items.min(len))) }
}

#[cold]
fn invalid(item: usize) -> AccountingError {
    AccountingError::InvalidState(number(item))
}

#[cold]
fn went_back(item: usize) -> AccountingError {
    AccountingError::TimeWentBack(number(item))
}

#[cold]
fn overflow(item: usize) -> AccountingError {
    AccountingError::Overflow(number(item))
}

fn number(item: usize) -> u32 {
    u32::try_from(item).unwrap_or(u32::MAX)
}
