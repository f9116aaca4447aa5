//! Traffic of guests on record, and the addresses that they have.

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use tallyman::billing::Counted;
use tallyman::driver::{NewFork, Target};
use tallyman::id::InstanceId;
use tallyman::journal::Options;
use tallyman::vm::{Command, Phase, Traffic};
use tallyman_tests::networks::DoubleNetworks;
use tallyman_tests::rig::{Host, Rig};

use crate::boot;

const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

fn rig() -> (Rig, DoubleNetworks) {
    let mut rig = Rig::down(Options::default());
    let networks = DoubleNetworks::default();
    rig.networks = Some(networks.clone());
    rig.start(Host::StayedUp);
    (rig, networks)
}

fn address(rig: &Rig, id: &InstanceId) -> Ipv4Addr {
    let view = rig.view(id);
    view.record.spec.network.as_ref().expect("a network").address
}

/// The phases of an instance with its bytes in and out so far.
fn told(rig: &Rig, id: &InstanceId) -> Vec<(Phase, u64, u64)> {
    let entered = rig.history(id).into_iter().filter_map(|(_, fact)| match fact.counts() {
        Some(Counted::Enters(entered)) => Some(entered),
        Some(Counted::Ends) | None => None,
    });
    let bytes = |traffic: Traffic| (traffic.in_bytes, traffic.out_bytes);
    entered.map(|entered| (entered.phase, bytes(entered.traffic))).map(flat).collect()
}

fn flat((phase, (received, sent)): (Phase, (u64, u64))) -> (Phase, u64, u64) {
    (phase, received, sent)
}

fn some() -> Traffic {
    Traffic::of([1_000, 2, 30, 1])
}

#[test]
fn traffic_is_told_at_changes_and_by_the_hour_if_it_moved() {
    let (mut rig, networks) = rig();
    let id = rig.create("a");
    boot(&rig, &id);
    networks.exchange(address(&rig, &id), some());
    rig.pass(HOUR - SECOND);
    assert_eq!(told(&rig, &id).len(), 3, "not before its time");
    rig.pass(2 * SECOND);
    let mut views = rig.fleet().views(&rig.tenant, &id).expect("known");
    rig.run(async {
        views.wait_for(|view| view.live.traffic == some()).await.expect("told").live.state
    });
    // Nothing moves for hours.
    rig.pass(5 * HOUR);
    rig.command(&id, Command::Pause).expect("paused");
    networks.exchange(address(&rig, &id), some());
    rig.command(&id, Command::Stop).expect("stopped");
    let rows = [
        (Phase::Created, 0, 0),
        (Phase::Initializing, 0, 0),
        (Phase::Running, 0, 0),
        (Phase::Running, 1_000, 30),
        (Phase::Paused, 1_000, 30),
        (Phase::Shutdown, 2_000, 60),
        (Phase::Stopped, 2_000, 60),
    ];
    assert_eq!(told(&rig, &id), rows);
    assert_eq!(networks.guests(), [] as [Ipv4Addr; 0], "nobody is there");
    rig.check_time(&id);
}

#[test]
fn traffic_goes_on_over_naps_launches_and_restarts_of_the_daemon() {
    let (mut rig, networks) = rig();
    let id = rig.create("a");
    boot(&rig, &id);
    let guest = address(&rig, &id);
    networks.exchange(guest, some());
    rig.command(&id, Command::Standby).expect("asleep");
    rig.command(&id, Command::Restore).expect("awake");
    networks.exchange(guest, some());
    rig.crash();
    networks.exchange(guest, some());
    rig.start(Host::StayedUp);
    let waiting = rig.fleet().wait(
        &rig.tenant,
        &id,
        tallyman::driver::Waiting::For(Phase::Running),
        Duration::from_secs(30),
    );
    rig.run(waiting).expect("found");
    networks.exchange(guest, some());
    rig.command(&id, Command::Stop).expect("stopped");
    assert_eq!(told(&rig, &id).last(), Some(&(Phase::Stopped, 4_000, 120)));
    rig.command(&id, Command::Start).expect("started");
    networks.exchange(guest, some());
    rig.command(&id, Command::Stop).expect("stopped");
    assert_eq!(told(&rig, &id).last(), Some(&(Phase::Stopped, 5_000, 150)));
    assert_eq!(address(&rig, &id), guest);
}

#[test]
fn each_instance_and_each_fork_has_an_address_of_its_own_until_it_is_deleted() {
    let (rig, networks) = rig();
    let parent = rig.create("a");
    boot(&rig, &parent);
    let fork = NewFork { from_running: true, target: Some(Target::Running), ..rig.new_fork() };
    let fork = rig.fork(&parent, fork).expect("forked").record.id.clone();
    let both = [address(&rig, &parent), address(&rig, &fork)];
    assert_ne!(both[0], both[1]);
    let is_told = |id| {
        let view = rig.view(id);
        view.record.spec.network.as_ref().expect("a network").is_told
    };
    assert_eq!((is_told(&parent), is_told(&fork)), (false, true));
    assert_eq!(networks.guests(), both);
    let mut plain = rig.new_instance("plain");
    plain.network.enabled = Some(false);
    assert_eq!(rig.try_create(plain).expect("created").record.spec.network, None);
    rig.command(&parent, Command::Delete).expect("deleted");
    assert_eq!(networks.guests(), both[1..]);
    let next = rig.create("b");
    assert!(!both.contains(&address(&rig, &next)), "the first one rests");
}

#[test]
fn a_reading_that_is_asked_for_is_a_fact_if_something_moved() {
    let (rig, networks) = rig();
    let id = rig.create("a");
    boot(&rig, &id);
    let other = rig.create("b");
    rig.run(rig.fleet().read_traffic(&rig.tenant));
    let before = [told(&rig, &id).len(), told(&rig, &other).len()];
    networks.exchange(address(&rig, &id), some());
    rig.run(rig.fleet().read_traffic(&rig.tenant));
    assert_eq!(told(&rig, &id).len(), before[0] + 1);
    assert_eq!(told(&rig, &id).last(), Some(&(Phase::Running, 1_000, 30)));
    assert_eq!(told(&rig, &other).len(), before[1], "nothing of it moved");
    assert_eq!(rig.fleet().tenants_with_traffic(), [rig.tenant.clone()].into());
    rig.check_time(&id);
}

/// A step of a guest's life with a network.
#[derive(Debug, Clone, Copy)]
enum Step {
    Exchange(u64),
    Command(Command),
    Hour,
    Crash,
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let commands = [
        Command::Start,
        Command::Stop,
        Command::Pause,
        Command::Resume,
        Command::Standby,
        Command::Restore,
    ];
    prop_oneof![
        4 => (1..1_000_u64).prop_map(Step::Exchange),
        4 => proptest::sample::select(commands.to_vec()).prop_map(Step::Command),
        1 => Just(Step::Hour),
        1 => Just(Step::Crash),
        1 => Just(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The facts add up to what the guest has exchanged, whatever happened in between.
    #[test]
    fn no_history_loses_or_doubles_a_byte(steps in proptest::collection::vec(step(), 1..20)) {
        let (mut rig, networks) = rig();
        let id = rig.create("a");
        boot(&rig, &id);
        let guest = address(&rig, &id);
        let mut exchanged = Traffic::NONE;
        for step in steps {
            match step {
                Step::Exchange(bytes) if networks.guests() == [guest] => {
                    let more = Traffic::of([bytes, 1, 2 * bytes, 1]);
                    networks.exchange(guest, more);
                    exchanged = exchanged.plus(more);
                }
                Step::Exchange(_) => {}
                // One that is refused changes nothing.
                Step::Command(command) => drop(rig.command(&id, command)),
                Step::Hour => rig.pass(HOUR + SECOND),
                Step::Crash => {
                    rig.crash();
                    rig.start(Host::StayedUp);
                }
                Step::Read => rig.run(rig.fleet().read_traffic(&rig.tenant)),
            }
        }
        rig.command(&id, Command::Delete).expect("deleted");
        let told = told(&rig, &id);
        let last = told.last().map(|&(_, received, sent)| (received, sent));
        prop_assert_eq!(last, Some((exchanged.in_bytes, exchanged.out_bytes)), "{:?}", told);
        let rises = told.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].2 <= pair[1].2);
        prop_assert!(rises, "{:?}", told);
    }
}
