//! The host's admission: who is refused, who is not, and what is free afterwards.

use std::sync::Arc;

use tallyman::driver::{Claim, FleetError, Full, NewFork, Request, Resource, Target, View};
use tallyman::journal::Options;
use tallyman::vm::{Command, State};
use tallyman_tests::rig::{Host, MEMORY_BYTES, Rig};

use crate::running;

/// A host with memory for so many instances.
fn rig(instances: u64) -> Rig {
    let mut rig = Rig::down(Options::default());
    rig.machine = Claim { memory_bytes: instances * MEMORY_BYTES, ..Claim::ENDLESS };
    rig.start(Host::StayedUp);
    rig
}

/// The claim that was refused.
fn full(refused: Result<Arc<View>, FleetError>) -> Full {
    match refused {
        Err(FleetError::HostFull(full)) => full,
        other => panic!("not refused for the host: {other:?}"),
    }
}

fn reserved(rig: &Rig) -> u64 {
    let (_, reserved) = rig.fleet().admission();
    reserved.memory_bytes / MEMORY_BYTES
}

#[test]
fn a_full_host_refuses_and_says_what_is_free_and_nothing_is_left_of_it() {
    let rig = rig(2);
    let first = running(&rig, "a");
    let mut large = rig.new_instance("b");
    large.memory_bytes = Some(2 * MEMORY_BYTES);
    let refused = full(rig.try_create(large));
    assert_eq!(refused.resource, Resource::Memory);
    assert_eq!((refused.needed, refused.free.memory_bytes), (2 * MEMORY_BYTES, MEMORY_BYTES));
    assert_eq!(rig.fleet().count(), 1);
    running(&rig, "b");
    full(rig.try_create(rig.new_instance("c")));
    // Whoever rests gives back.
    rig.command(&first, Command::Stop).expect("stopped");
    assert_eq!(reserved(&rig), 1);
    running(&rig, "c");
    full(rig.command(&first, Command::Start));
    assert_eq!(rig.view(&first).live.state, State::Stopped);
    rig.check_time(&first);
}

#[test]
fn a_restore_a_fork_and_a_resize_need_room_too() {
    let rig = rig(2);
    let first = running(&rig, "a");
    rig.command(&first, Command::Standby).expect("asleep");
    let others = [running(&rig, "b"), running(&rig, "c")];
    full(rig.command(&first, Command::Restore));
    assert!(matches!(rig.view(&first).live.state, State::Standby { .. }));
    let fork = NewFork { from_running: true, target: Some(Target::Running), ..rig.new_fork() };
    full(rig.fork(&others[0], fork.clone()));
    assert_eq!(rig.fleet().count(), 3, "nothing is left of the fork");
    let asleep = NewFork { target: Some(Target::Standby), ..fork };
    rig.fork(&others[0], asleep).expect("it needs no memory");
    rig.command(&others[1], Command::Stop).expect("stopped");
    rig.command(&first, Command::Restore).expect("awake");
    assert_eq!(reserved(&rig), 2);
    rig.command(&others[0], Command::Delete).expect("deleted");
    assert_eq!(reserved(&rig), 1);
    // While it is stopped, a resize takes nothing; the start does.
    let resize = Request::Resize { memory_bytes: 2 * MEMORY_BYTES };
    rig.ask(&others[1], resize).expect("stopped");
    full(rig.command(&others[1], Command::Start));
}

#[test]
fn what_is_reserved_follows_from_the_instances_after_a_restart() {
    let mut rig = rig(2);
    let first = running(&rig, "a");
    rig.command(&first, Command::Standby).expect("asleep");
    running(&rig, "b");
    let before = rig.fleet().admission();
    rig.crash();
    rig.start(Host::StayedUp);
    assert_eq!(rig.fleet().admission(), before);
    assert_eq!(reserved(&rig), 1);
    running(&rig, "c");
    full(rig.try_create(rig.new_instance("d")));
}

#[test]
fn a_burst_does_not_get_more_than_there_is() {
    let rig = rig(3);
    let creations: Vec<_> = (0..8)
        .map(|number| {
            let fleet = rig.fleet().clone();
            let tenant = rig.tenant.clone();
            let new = rig.new_instance(&format!("n{number}"));
            rig.spawn(async move { fleet.create(&tenant, new).await })
        })
        .collect();
    let outcomes = creations.into_iter().map(|one| rig.run(one).expect("no panic"));
    let made: usize = outcomes.map(|outcome| usize::from(outcome.is_ok())).sum();
    assert_eq!((made, rig.fleet().count(), reserved(&rig)), (3, 3, 3));
}
