//! Properties of every history.

use proptest::prelude::*;

use crate::bindings::exports::tallyman::policy::accounting::Guest as _;
use crate::{
    AccountingError, Component, NO_PHASE, Phase, Policy, Standard, Totals, TotalsColumns, Tracker,
    TrackerColumns,
};

struct Coarse;

impl Policy for Coarse {
    fn counts_as(phase: Phase) -> Phase {
        match phase {
            Phase::Initializing => Phase::Running,
            Phase::Paused => Phase::Standby,
            other => other,
        }
    }
}

const PHASES: [Phase; 8] = [
    Phase::Created,
    Phase::Initializing,
    Phase::Running,
    Phase::Paused,
    Phase::Shutdown,
    Phase::Standby,
    Phase::Stopped,
    Phase::Unknown,
];

fn list(totals: Totals) -> [u64; 8] {
    PHASES.map(|phase| totals.get(phase))
}

fn sum(totals: Totals) -> u128 {
    list(totals).into_iter().map(u128::from).sum()
}

fn columns(states: &[Tracker]) -> TrackerColumns {
    let column = |phase: Phase| states.iter().map(|state| state.totals.get(phase)).collect();
    TrackerColumns {
        current: states
            .iter()
            .map(|state| state.current.map_or(NO_PHASE, |phase| phase as u8))
            .collect(),
        since: states.iter().map(|state| state.since).collect(),
        totals: TotalsColumns {
            created: column(Phase::Created),
            initializing: column(Phase::Initializing),
            running: column(Phase::Running),
            paused: column(Phase::Paused),
            shutdown: column(Phase::Shutdown),
            standby: column(Phase::Standby),
            stopped: column(Phase::Stopped),
            unknown: column(Phase::Unknown),
        },
    }
}

fn totals_at(totals: &TotalsColumns, item: usize) -> Totals {
    Totals {
        created: totals.created[item],
        initializing: totals.initializing[item],
        running: totals.running[item],
        paused: totals.paused[item],
        shutdown: totals.shutdown[item],
        standby: totals.standby[item],
        stopped: totals.stopped[item],
        unknown: totals.unknown[item],
    }
}

fn renumbered(error: AccountingError, item: usize) -> AccountingError {
    let item = u32::try_from(item).expect("small");
    match error {
        AccountingError::TimeWentBack(_) => AccountingError::TimeWentBack(item),
        AccountingError::Overflow(_) => AccountingError::Overflow(item),
        AccountingError::InvalidState(_) => AccountingError::InvalidState(item),
        AccountingError::Other(text) => AccountingError::Other(text),
    }
}

/// Asks the single function for every item; its first refusal has the item's number.
fn one_by_one<T, A>(
    items: &[T],
    ask: impl Fn(&T) -> Result<A, AccountingError>,
) -> Result<Vec<A>, AccountingError> {
    items
        .iter()
        .enumerate()
        .map(|(item, one)| ask(one).map_err(|error| renumbered(error, item)))
        .collect()
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(PHASES.as_slice())
}

fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..10_000_000_000_u64, any::<u64>(), Just(u64::MAX)]
}

fn tracker() -> impl Strategy<Value = Tracker> {
    let totals = prop::array::uniform8(prop_oneof![9 => 0..1_u64 << 50, 1 => nanos()]);
    (prop::option::of(phase()), -1_000_000_i64..1_000_000, totals).prop_map(
        |(current, since, t)| Tracker {
            current,
            since,
            totals: Totals {
                created: t[0],
                initializing: t[1],
                running: t[2],
                paused: t[3],
                shutdown: t[4],
                standby: t[5],
                stopped: t[6],
                unknown: t[7],
            },
        },
    )
}

/// A history in order: phases and how long each lasts.
fn history() -> impl Strategy<Value = Vec<(Phase, i64)>> {
    prop::collection::vec((phase(), 0..10_000_000_000_i64), 1..40)
}

fn fold<P: Policy>(history: &[(Phase, i64)]) -> (Tracker, i64) {
    let fresh = Tracker { current: None, since: 0, totals: Totals::default() };
    history.iter().fold((fresh, 0), |(state, at), &(to, lasts)| {
        (Component::<P>::enter(state, to, at).expect("in order"), at + lasts)
    })
}

proptest! {
    #[test]
    fn every_nanosecond_is_counted_once(history in history()) {
        for (state, end) in [fold::<Standard>(&history), fold::<Coarse>(&history)] {
            let totals = Component::<Standard>::snapshot(state, end).expect("in order");
            prop_assert_eq!(sum(totals), u128::from(end.unsigned_abs()));
        }
    }

    #[test]
    fn each_phase_gets_the_sum_of_its_visits(history in history()) {
        let (state, end) = fold::<Standard>(&history);
        let totals = Component::<Standard>::snapshot(state, end).expect("in order");
        for phase in PHASES {
            let of_phase = history.iter().filter(|(of, _)| *of == phase);
            let visits = of_phase.map(|(_, lasts)| lasts.unsigned_abs());
            prop_assert_eq!(totals.get(phase), visits.sum::<u64>());
        }
    }

    #[test]
    fn splitting_a_visit_changes_no_total(
        history in history(),
        cut in any::<prop::sample::Index>(),
        part in 0..=100_i64,
    ) {
        let cut = cut.index(history.len());
        let mut split = history.clone();
        let (phase, lasts) = split[cut];
        let first = lasts / 100 * part;
        split[cut] = (phase, first);
        split.insert(cut + 1, (phase, lasts - first));
        let (one, end) = fold::<Coarse>(&history);
        let (two, _) = fold::<Coarse>(&split);
        let snapshot = |state| Component::<Coarse>::snapshot(state, end);
        prop_assert_eq!(snapshot(one), snapshot(two));
    }

    #[test]
    fn a_snapshot_is_what_the_next_fact_completes(
        state in tracker(),
        to in phase(),
        at in -2_000_000_i64..2_000_000,
    ) {
        let looked = Component::<Coarse>::snapshot(state, at);
        let entered = Component::<Coarse>::enter(state, to, at).map(|after| after.totals);
        prop_assert_eq!(looked, entered);
    }

    #[test]
    fn columns_answer_what_single_calls_answer(
        items in prop::collection::vec((tracker(), phase(), -2_000_000_i64..9_000_000), 0..50),
    ) {
        let states: Vec<_> = items.iter().map(|item| item.0).collect();
        let to = items.iter().map(|item| item.1 as u8).collect();
        let at: Vec<_> = items.iter().map(|item| item.2).collect();
        let single = one_by_one(&items, |&(state, to, at)| {
            Component::<Coarse>::enter(state, to, at)
        });
        let batch = Component::<Coarse>::enter_all(columns(&states), to, at.clone());
        prop_assert_eq!(batch, single.map(|answers| columns(&answers)));
        if let Some(&at) = at.first() {
            let single = one_by_one(&states, |&state| Component::<Coarse>::snapshot(state, at));
            let batch = Component::<Coarse>::snapshot_all(columns(&states), at);
            let items = 0..states.len();
            let batch = batch.map(|totals| {
                items.map(|item| totals_at(&totals, item)).collect::<Vec<_>>()
            });
            prop_assert_eq!(batch, single);
        }
    }
}

#[test]
fn ordinals_that_name_no_phase_are_refused_with_their_item() {
    let state = Tracker { current: Some(Phase::Running), since: 0, totals: Totals::default() };
    let two = || columns(&[state, state]);
    let refused = Component::<Standard>::enter_all(two(), vec![0, 8], vec![1, 1]);
    assert_eq!(refused, Err(AccountingError::InvalidState(1)));
    for ordinal in [8, 254] {
        let mut states = two();
        states.current[1] = ordinal;
        let refused = Component::<Standard>::snapshot_all(states, 1);
        assert_eq!(refused, Err(AccountingError::InvalidState(1)), "{ordinal}");
    }
}

#[test]
fn lists_of_different_lengths_are_refused() {
    let state = Tracker { current: Some(Phase::Running), since: 0, totals: Totals::default() };
    let two = || columns(&[state, state]);
    let wrong: [fn(&mut TrackerColumns); 3] = [
        |states| states.since.truncate(1),
        |states| states.totals.unknown.truncate(1),
        |states| states.totals.created.push(1),
    ];
    for shorten in wrong {
        let mut states = two();
        shorten(&mut states);
        let enter = Component::<Standard>::enter_all(states.clone(), vec![1, 1], vec![1, 1]);
        assert!(matches!(enter, Err(AccountingError::InvalidState(_))), "{enter:?}");
        let snapshot = Component::<Standard>::snapshot_all(states, 1);
        assert!(matches!(snapshot, Err(AccountingError::InvalidState(_))), "{snapshot:?}");
    }
    let short = Component::<Standard>::enter_all(two(), vec![1], vec![1, 1]);
    assert_eq!(short, Err(AccountingError::InvalidState(1)));
    let short = Component::<Standard>::enter_all(two(), vec![1, 1], vec![1]);
    assert_eq!(short, Err(AccountingError::InvalidState(1)));
}
