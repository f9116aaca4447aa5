//! Each piece of time is accounted by the policy in force in it, whatever else goes on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use proptest::prelude::*;
use tallyman::billing::Timeline;
use tallyman::billing::account::{Account, Accountant, Entering, Reader};
use tallyman::billing::{Totals, Tracker};
use tallyman::id::{Digest, TenantId};
use tallyman::mutants::money::Mutant;
use tallyman::policy::accounting::{Quarantined, RecoverError};
use tallyman::policy::{Accounting, Fault, Occasion};
use tallyman::units::Instant;
use tallyman::vm::Phase;
use tallyman_tests::policies;

use crate::Host;
use crate::hostile::{self, EVIL_BEFORE, Evil, When};

struct World {
    accounting: Accounting,
    standard: Digest,
    coarse: Digest,
    host: Host,
}

fn world() -> World {
    let host = Host::open();
    let coarse = host.policies.admit(&policies::component("coarse")).expect("a policy").digest;
    let standard = host.policies.standard().digest();
    World { accounting: Accounting::new(host.policies.clone()), standard, coarse, host }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn entering(account: Account, to: Option<Phase>, at: i64, fact: u64) -> Entering {
    Entering { tenant: tenant(), account, to, at: Instant(at), fact }
}

/// Accounts the facts of one instance, one after the other.
fn live(accounting: &Accounting, facts: &[(Option<Phase>, i64)]) -> Account {
    facts.iter().zip(1..).fold(Account::default(), |account, (&(to, at), fact)| {
        let mut batch = [entering(account, to, at, fact)];
        assert_eq!(accounting.enter(&mut batch), []);
        let [done] = batch;
        done.account
    })
}

/// Phase under which a policy counts a phase.
fn counts_as(policy: Digest, coarse: Digest, phase: Phase) -> Phase {
    match phase {
        Phase::Initializing if policy == coarse => Phase::Running,
        Phase::Paused if policy == coarse => Phase::Standby,
        other => other,
    }
}

/// The totals by the definition: each piece of time counts by the policy in force in it.
fn by_definition(
    facts: &[(Option<Phase>, i64)],
    end: i64,
    timeline: &Timeline,
    coarse: Digest,
) -> Totals {
    let mut totals = Totals::default();
    let ends = facts.iter().skip(1).map(|&(_, at)| at).chain([end]);
    for (&(phase, start), end) in facts.iter().zip(ends) {
        let Some(phase) = phase else { continue };
        let mut from = start;
        let mut policy = timeline.at(Instant(start));
        let cuts: Vec<_> = timeline.between(Instant(start), Instant(end)).collect();
        for (cut, next) in
            cuts.into_iter().map(|(at, next)| (at.0, Some(next))).chain([(end, None)])
        {
            totals.0[counts_as(policy, coarse, phase) as usize] += (cut - from).unsigned_abs();
            from = cut;
            policy = next.unwrap_or(policy);
        }
    }
    totals
}

#[test]
fn an_open_visit_is_cut_exactly_at_the_activation() {
    let world = world();
    world.accounting.activate(&tenant(), Instant(1_000), world.coarse);
    let account =
        live(&world.accounting, &[(Some(Phase::Initializing), 400), (Some(Phase::Stopped), 1_700)]);
    let mut totals = Totals::default();
    totals.0[Phase::Initializing as usize] = 600;
    totals.0[Phase::Running as usize] = 700;
    let tracker = Tracker { current: Some(Phase::Stopped), since: Instant(1_700), totals };
    assert_eq!(account, Account { tracker, phase: Some(Phase::Stopped), degraded: None });
}

#[test]
fn an_account_without_figures_counts_from_its_first_fact_on_and_nothing_before_it() {
    let world = world();
    let policies = [(1_000, world.coarse), (2_000, world.standard), (3_000, world.coarse)];
    policies
        .into_iter()
        .for_each(|(at, policy)| world.accounting.activate(&tenant(), Instant(at), policy));
    let look =
        |account: &Account, at| world.accounting.usage(&[(&tenant(), account)], Instant(at))[0];
    let seen = look(&Account::default(), 4_000);
    assert_eq!((seen.current, seen.totals, seen.degraded), (None, Totals::default(), false));
    let account = live(&world.accounting, &[(Some(Phase::Paused), 4_000)]);
    let tracker =
        Tracker { current: Some(Phase::Standby), since: Instant(4_000), totals: Totals::default() };
    assert_eq!(account, Account { tracker, phase: Some(Phase::Paused), degraded: None });
    let mut totals = Totals::default();
    totals.0[Phase::Standby as usize] = 500;
    assert_eq!(look(&account, 4_500).totals, totals);
}

#[test]
fn an_activation_at_the_instant_of_a_fact_that_came_first_counts_from_there() {
    let world = world();
    let account = live(&world.accounting, &[(Some(Phase::Paused), 1_000)]);
    world.accounting.activate(&tenant(), Instant(1_000), world.coarse);
    let seen = world.accounting.usage(&[(&tenant(), &account)], Instant(1_500));
    assert_eq!(seen[0].totals.get(Phase::Standby).0, 500);
    assert_eq!((seen[0].current, seen[0].since), (Some(Phase::Standby), Instant(1_000)));
}

#[test]
fn a_late_fact_counts_by_the_policy_in_force_at_its_own_time() {
    let world = world();
    let account = live(&world.accounting, &[(Some(Phase::Running), 100)]);
    world.accounting.activate(&tenant(), Instant(1_000), world.coarse);
    // The fact at 500 arrives only now.
    let mut late = [entering(account, Some(Phase::Paused), 500, 2)];
    assert_eq!(world.accounting.enter(&mut late), []);
    let [late] = late;
    let mut last = [entering(late.account, Some(Phase::Stopped), 2_000, 3)];
    assert_eq!(world.accounting.enter(&mut last), []);
    let totals = last[0].account.tracker.totals;
    let counted = [Phase::Running, Phase::Paused, Phase::Standby].map(|phase| totals.get(phase).0);
    assert_eq!(
        counted,
        [400, 500, 1_000],
        "a pause is one until 1,000, and counts as standby from there"
    );
}

#[test]
fn a_rollback_is_an_activation_of_the_policy_before() {
    let world = world();
    world.accounting.activate(&tenant(), Instant(1_000), world.coarse);
    world.accounting.activate(&tenant(), Instant(2_000), world.standard);
    let account = live(&world.accounting, &[(Some(Phase::Paused), 500), (None, 2_500)]);
    assert_eq!(account.tracker.totals.get(Phase::Paused).0, 1_000);
    assert_eq!(account.tracker.totals.get(Phase::Standby).0, 1_000);
    assert_eq!((account.tracker.current, account.phase), (None, None));
}

#[test]
fn a_look_across_an_activation_changes_nothing() {
    let world = world();
    let account = live(&world.accounting, &[(Some(Phase::Initializing), 0)]);
    world.accounting.activate(&tenant(), Instant(10), world.coarse);
    let before = account.clone();
    let one = world.accounting.usage(&[(&tenant(), &account)], Instant(30));
    let two = world.accounting.usage(&[(&tenant(), &account)], Instant(30));
    assert_eq!((&one, &account), (&two, &before));
    assert_eq!(one[0].totals.get(Phase::Initializing).0, 10);
    assert_eq!(one[0].totals.get(Phase::Running).0, 20);
    assert!(!one[0].degraded);
    assert_eq!(
        one[0].since,
        Instant(0),
        "the guest has been in it since then, whatever it counts as"
    );
}

#[test]
fn tenants_are_under_their_own_rules_in_one_batch() {
    let world = world();
    let other: TenantId = "other".parse().expect("a name");
    world.accounting.activate(&other, Instant(0), world.coarse);
    let account = live(&world.accounting, &[(Some(Phase::Paused), 10)]);
    let mut batch = [
        entering(account.clone(), Some(Phase::Stopped), 20, 2),
        entering(account, Some(Phase::Stopped), 20, 2),
    ];
    batch[1].tenant = other;
    assert_eq!(world.accounting.enter(&mut batch), []);
    let usage = world.accounting.usage(
        &[(&batch[0].tenant, &batch[0].account), (&batch[1].tenant, &batch[1].account)],
        Instant(20),
    );
    assert_eq!(usage[0].totals.get(Phase::Paused).0, 10);
    // The visit was opened under the standard policy, as `paused`; an activation before its start
    // does not change that.
    assert_eq!(usage[1].totals.sum(), 10);
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(Phase::ALL.as_slice())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_piece_of_time_counts_by_the_policy_in_force(
        steps in prop::collection::vec((phase(), 0..300_i64), 1..20),
        activations in prop::collection::vec((any::<bool>(), 0..2_500_i64), 0..6),
        rest in 0..500_i64,
    ) {
        thread_local!(static WORLD: World = world());
        WORLD.with(|world| {
            let accounting = Accounting::new(world.host.policies.clone());
            let mut timeline = Timeline::starting_with(world.standard);
            let mut planned = activations.clone();
            planned.sort_by_key(|&(_, at)| at);
            for &(coarse, at) in &planned {
                let digest = if coarse { world.coarse } else { world.standard };
                accounting.activate(&tenant(), Instant(at), digest);
                timeline.set(Instant(at), digest);
            }
            let mut at = 0;
            let facts = steps.iter().map(|&(phase, lasts)| {
                let start = at;
                at += lasts;
                (Some(phase), start)
            });
            let facts: Vec<_> = facts.collect();
            let end = facts.last().expect("one at least").1 + rest;
            let account = live(&accounting, &facts);
            let seen = accounting.usage(&[(&tenant(), &account)], Instant(end));
            assert_eq!(seen[0].totals, by_definition(&facts, end, &timeline, world.coarse));
            assert!(!seen[0].degraded);
        });
    }
}

#[test]
fn a_swap_under_load_loses_nothing_and_mixes_nothing() {
    assert!(swap_under_load(150, 500) > 10, "no load");
}

/// Every visit is cut by dozens of swaps; none is left out, and each leaves only its instant and
/// its digest.
#[test]
fn a_thousand_swaps_under_load_lose_nothing_and_mix_nothing() {
    assert!(swap_under_load(40, 8) > 1_000, "no load");
}

/// Folds `rounds` facts of each of some instances on some threads while the rules change after
/// every `facts_per_swap` facts, and compares the result with the definition. Returns the number of
/// swaps.
fn swap_under_load(rounds: usize, facts_per_swap: usize) -> u32 {
    const THREADS: usize = 4;
    const INSTANCES: usize = 64;
    const JUMP: i64 = 1_000_000_000;
    let world = world();

    let clock = AtomicI64::new(1_000_000);
    let folding = AtomicBool::new(true);
    let told = AtomicUsize::new(0);
    // Instants are handed out in order; an activation lies after all that were handed out, and is
    // known before any later one is.
    let due = |swaps: u32| swaps as usize * facts_per_swap;
    let activate = || {
        let mut timeline = Timeline::starting_with(world.standard);
        let mut swaps = 0_u32;
        while folding.load(Ordering::SeqCst) {
            if told.load(Ordering::SeqCst) < due(swaps) {
                std::thread::yield_now();
                continue;
            }
            let from = clock.load(Ordering::SeqCst) + JUMP;
            let digest = if swaps.is_multiple_of(2) { world.coarse } else { world.standard };
            world.accounting.activate(&tenant(), Instant(from), digest);
            timeline.set(Instant(from), digest);
            clock.fetch_add(JUMP, Ordering::SeqCst);
            clock.fetch_max(from, Ordering::SeqCst);
            swaps += 1;
        }
        (timeline, swaps)
    };
    let fold = |seed: usize| {
        let mut accounts = vec![Account::default(); INSTANCES];
        let mut facts = vec![Vec::new(); INSTANCES];
        for round in 0..rounds {
            let mut batch = Vec::new();
            for (instance, account) in accounts.iter().enumerate() {
                let to = Phase::ALL[(seed + instance * 3 + round * 5 + instance * round) % 8];
                let at = clock.fetch_add(1_000, Ordering::SeqCst);
                told.fetch_add(1, Ordering::SeqCst);
                facts[instance].push((Some(to), at));
                batch.push(entering(account.clone(), Some(to), at, round as u64));
            }
            assert_eq!(world.accounting.enter(&mut batch), []);
            accounts = batch.into_iter().map(|entering| entering.account).collect();
        }
        (facts, accounts)
    };
    let (folded, (timeline, swaps)) = std::thread::scope(|scope| {
        let swapping = scope.spawn(activate);
        let threads: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || fold(seed))).collect();
        let folded: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("folds")).collect();
        folding.store(false, Ordering::SeqCst);
        (folded, swapping.join().expect("swaps"))
    });
    assert_eq!(world.accounting.timeline(&tenant()), timeline);
    let mut at_work = HashSet::new();
    for (facts, account) in folded.iter().flat_map(|(facts, accounts)| facts.iter().zip(accounts)) {
        let end = facts.last().expect("facts").1;
        assert_eq!(account.tracker.totals, by_definition(facts, end, &timeline, world.coarse));
        assert_eq!(account.tracker.totals.sum(), u128::from((end - facts[0].1).unsigned_abs()));
        assert_eq!(account.degraded, None);
        at_work
            .extend(timeline.between(Instant(facts[0].1), Instant(end)).map(|(_, policy)| policy));
    }
    assert_eq!(at_work.len(), 2, "both policies have been at work");
    swaps
}

/// An accounting in which a policy that misbehaves for early instants is in force.
fn evil(evil: Evil) -> (World, Digest) {
    let world = world();
    let bytes = evil.component(When::AskedAboutEarlyInstants);
    let digest = world.host.policies.admit(&bytes).expect("honest in the self-test").digest;
    world.accounting.activate(&tenant(), Instant(i64::MIN), digest);
    (world, digest)
}

fn running_since(at: i64) -> Account {
    let tracker =
        Tracker { current: Some(Phase::Running), since: Instant(at), totals: Totals::default() };
    Account { tracker, phase: Some(Phase::Running), degraded: None }
}

#[test]
fn one_bad_item_does_not_degrade_the_others() {
    let (world, digest) = evil(hostile::INVENTS_A_SECOND);
    let honest = EVIL_BEFORE + 10;
    let mut batch: Vec<_> = [honest, 50, honest]
        .map(|at| entering(running_since(0), Some(Phase::Standby), at, 9))
        .into();
    let faults = world.accounting.enter(&mut batch);
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].policy, &faults[0].tenant), (digest, &tenant()));
    assert!(faults[0].reason.contains("invented 1000000000 ns"), "{}", faults[0].reason);
    let degraded: Vec<_> = batch.iter().map(|item| item.account.degraded.is_some()).collect();
    assert_eq!(degraded, [false, true, false]);
    let bad = &batch[1].account;
    // The standard accounting answered, and the state before the fact is kept.
    assert_eq!(bad.tracker.totals.get(Phase::Running).0, 50);
    assert_eq!((bad.tracker.current, bad.phase), (Some(Phase::Standby), Some(Phase::Standby)));
    let from = bad.degraded.as_ref().expect("degraded");
    assert_eq!(
        (from.tracker, from.phase, from.from_fact),
        (running_since(0).tracker, Some(Phase::Running), 9)
    );
    assert!(world.accounting.quarantined(&tenant()).is_empty());
}

#[test]
fn a_policy_that_fails_in_batches_only_is_asked_one_by_one() {
    let (world, _) = evil(hostile::BREAKS_BATCHES);
    let mut batch: Vec<_> =
        (0..5).map(|n| entering(running_since(0), Some(Phase::Standby), 50 + n, 9)).collect();
    assert_eq!(world.accounting.enter(&mut batch), []);
    for (item, lived) in batch.iter().zip(50..) {
        assert_eq!(item.account.degraded, None);
        assert_eq!(item.account.tracker.totals.get(Phase::Running).0, lived);
    }
}

#[test]
fn a_policy_that_keeps_failing_is_not_asked_until_somebody_says_so() {
    let (world, digest) = evil(hostile::TRAPS);
    let fail = |fact| {
        let mut batch = [entering(running_since(0), Some(Phase::Standby), 50, fact)];
        let faults = world.accounting.enter(&mut batch).len();
        let [item] = batch;
        (faults, item.account.degraded.expect("degraded").reason)
    };
    let (first, reason) = fail(1);
    assert!(first == 1 && reason.starts_with("trapped"), "{reason}");
    let (second, reason) = fail(2);
    assert!(second == 0 && reason.starts_with("trapped"), "told twice: {reason}");
    let ill = world.accounting.quarantined(&tenant());
    assert!(matches!(
        ill.as_slice(),
        [Quarantined { policy, faults: 2, substitute: None, .. }] if *policy == digest
    ));
    assert!(ill[0].reason.as_ref().is_some_and(|reason| reason.starts_with("trapped")), "{ill:?}");
    let (third, reason) = fail(3);
    assert!(third == 0 && reason.starts_with("it failed too often"), "{reason}");
    world.accounting.retry(&tenant(), digest);
    assert!(world.accounting.quarantined(&tenant()).is_empty());
    let mut honest = [entering(running_since(0), Some(Phase::Standby), EVIL_BEFORE + 1, 4)];
    assert_eq!(world.accounting.enter(&mut honest), []);
    assert_eq!(honest[0].account.degraded, None);
}

#[test]
fn a_degraded_instance_lives_on_under_the_standard_and_is_told_again_later() {
    let (world, digest) = evil(hostile::TRAPS);
    let mut account = running_since(0);
    let facts = [(Some(Phase::Paused), 50), (Some(Phase::Running), 80), (None, 100)];
    for (fact, &(to, at)) in facts.iter().enumerate() {
        let mut batch = [entering(account, to, at, fact as u64)];
        world.accounting.enter(&mut batch);
        let [item] = batch;
        account = item.account;
    }
    let degraded = account.degraded.clone().expect("degraded");
    assert_eq!((degraded.from_fact, degraded.tracker), (0, running_since(0).tracker));
    assert_eq!((account.tracker.current, account.phase), (None, None));
    assert_eq!(account.tracker.totals.get(Phase::Running).0, 70);
    assert_eq!(account.tracker.totals.get(Phase::Paused).0, 30);
    let seen = world.accounting.usage(&[(&tenant(), &account)], Instant(1_000));
    assert!(seen[0].degraded);
    let facts = facts.map(|(to, at)| (to, Instant(at)));
    let again = world.accounting.recover(&tenant(), &degraded, &facts);
    assert!(
        matches!(again, Err(RecoverError::Fault { policy, .. }) if policy == digest),
        "{again:?}"
    );
    // The operator replaces the policy for all of that time.
    world.accounting.activate(&tenant(), Instant(i64::MIN), world.coarse);
    let told = world.accounting.recover(&tenant(), &degraded, &facts).expect("a good policy");
    assert_eq!((told.current, told.totals.get(Phase::Standby).0), (None, 30));
    assert_eq!(told.totals.sum(), 100);
}

#[test]
fn a_policy_that_failed_once_accounts_again_as_soon_as_it_answers() {
    let (world, digest) = evil(hostile::TRAPS);
    let mut account = running_since(0);
    let later = EVIL_BEFORE + 10;
    let facts = [(Some(Phase::Paused), 50), (Some(Phase::Running), later)];
    let reaccount = |account: &Account, facts: &[(Option<Phase>, i64)]| {
        let history: Vec<_> = facts.iter().map(|&(to, at)| (to, Instant(at))).collect();
        world.accounting.account_again(&tenant(), account, &history, Instant(later + 1))
    };
    for (fact, &(to, at)) in facts.iter().enumerate() {
        let mut batch = [entering(account, to, at, fact as u64)];
        world.accounting.enter(&mut batch);
        let [item] = batch;
        account = item.account;
        let owed = account.degraded.as_ref().expect("degraded");
        assert_eq!(owed.policy, digest);
        if fact == 0 {
            assert_eq!(
                reaccount(&account, &facts[..1]),
                account,
                "its last answer is still missing"
            );
        }
    }
    let for_ever = Mutant::DegradedForEver.during(|| reaccount(&account, &facts));
    assert!(for_ever.degraded.is_some());
    let again = reaccount(&account, &facts);
    assert_eq!((again.degraded, again.phase), (None, Some(Phase::Running)));
    assert_eq!(again.tracker.current, Some(Phase::Running));
    assert_eq!(again.tracker.totals.get(Phase::Running).0, 50, "the standard figures stand");
    assert_eq!(again.tracker.totals.sum(), later as u128);
    assert!(world.accounting.quarantined(&tenant()).is_empty());
}

#[test]
fn what_one_tenant_burns_is_not_counted_for_another() {
    let world = world();
    let other: TenantId = "other".parse().expect("a name");
    for tenant in [&tenant(), &other] {
        world.accounting.activate(tenant, Instant(0), world.standard);
    }
    world.accounting.charge(&other, 7);
    assert_eq!((world.accounting.fuel(&other), world.accounting.fuel(&tenant())), (7, 0));
}

#[test]
fn a_look_at_a_broken_policy_answers_with_standard_figures_and_says_so() {
    let (world, _) = evil(hostile::TRAPS);
    let good = TenantId::default_tenant();
    // Rolling the visit forward to an activation is what fails here.
    world.accounting.activate(&good, Instant(40), world.coarse);
    let account = running_since(10);
    let seen = world.accounting.usage(&[(&good, &account)], Instant(60));
    assert!(seen[0].degraded);
    assert_eq!((seen[0].current, seen[0].totals.get(Phase::Running).0), (Some(Phase::Running), 50));
}

#[test]
fn a_policy_that_is_not_loaded_degrades_and_does_not_stop_anything() {
    let world = world();
    let missing = Digest([9; 32]);
    world.accounting.activate(&tenant(), Instant(0), missing);
    let mut batch = [entering(running_since(5), Some(Phase::Stopped), 9, 1)];
    let faults = world.accounting.enter(&mut batch);
    assert_eq!((faults.len(), faults[0].policy), (1, missing));
    assert_eq!(batch[0].account.tracker.totals.get(Phase::Running).0, 4);
    assert_eq!(batch[0].account.degraded.as_ref().map(|degraded| degraded.policy), Some(missing));
}

#[test]
fn a_look_at_an_instant_before_the_last_fact_blames_nobody() {
    let world = world();
    let account = running_since(100);
    for _ in 0..5 {
        let seen = world.accounting.usage(&[(&tenant(), &account)], Instant(50));
        assert!(!seen[0].degraded);
        assert_eq!(seen[0].totals, Totals::default());
    }
    assert!(world.accounting.quarantined(&tenant()).is_empty());
}

#[test]
fn thousands_of_accounts_are_looked_at_in_the_order_asked() {
    let world = world();
    world.accounting.activate(&tenant(), Instant(5_000), world.coarse);
    let accounts: Vec<_> = (0..3_456).map(running_since).collect();
    let tenant = tenant();
    let questions: Vec<_> = accounts.iter().map(|account| (&tenant, account)).collect();
    let seen = world.accounting.usage(&questions, Instant(6_000));
    for (since, usage) in seen.iter().enumerate() {
        assert_eq!(usage.totals.get(Phase::Running).0, 6_000 - since as u64);
    }
}

fn times_out_of_fuel(world: &World, policy: Digest, occasion: Occasion) -> usize {
    let fault = Fault::OutOfFuel { allowed: 1 };
    (0..3).for_each(|_| world.accounting.failed_to_measure(&tenant(), policy, occasion, &fault));
    world.accounting.quarantined(&tenant()).len()
}

#[test]
fn what_fails_in_a_preview_counts_for_nothing() {
    let world = world();
    let trap = Fault::Trap { reason: "unreachable".into() };
    let fail = |occasion| {
        (0..3).for_each(|_| {
            world.accounting.failed_to_measure(&tenant(), world.standard, occasion, &trap)
        });
        world.accounting.quarantined(&tenant()).len()
    };
    assert_eq!(fail(Occasion::Preview), 0);
    assert_eq!(fail(Occasion::Bill), 1);
}

#[test]
fn fuel_alone_never_quarantines_a_shipped_policy() {
    let world = world();
    assert_eq!(times_out_of_fuel(&world, world.standard, Occasion::Bill), 0);
    world.accounting.activate(&tenant(), Instant(5), world.coarse);
    assert_eq!(times_out_of_fuel(&world, world.coarse, Occasion::Bill), 0);
    let strangers = world
        .host
        .policies
        .admit(&hostile::HONEST.component(When::Never))
        .expect("a policy")
        .digest;
    world.accounting.activate(&tenant(), Instant(6), strangers);
    assert_eq!(times_out_of_fuel(&world, strangers, Occasion::Preview), 0);
    assert_eq!(times_out_of_fuel(&world, strangers, Occasion::Bill), 1);
}

#[test]
fn a_measurement_that_is_given_ends_a_row_of_faults() {
    let world = world();
    let trap = Fault::Trap { reason: "unreachable".into() };
    for _ in 0..3 {
        world.accounting.failed_to_measure(&tenant(), world.standard, Occasion::Bill, &trap);
        world.accounting.measured(&tenant(), world.standard);
    }
    assert_eq!(world.accounting.quarantined(&tenant()), []);
}
