//! Shapes, snapshots and automatic operations of instances, against a hypervisor without machines
//! and a clock that the test advances.

mod admission;
mod bundles;
mod by_itself;
mod faults;
mod forks;
mod snapshots;
mod traffic;
mod vectors;

use std::time::Duration;

use tallyman::driver::Waiting;
use tallyman::hypervisor::Observed;
use tallyman::id::InstanceId;
use tallyman::vm::Phase;
use tallyman_tests::rig::Rig;

/// Reports both of the guest's markers.
fn boot(rig: &Rig, id: &InstanceId) {
    let now = rig.double.now();
    rig.double.observe(id, Observed::ProgramStarted(now));
    rig.double.observe(id, Observed::AgentReady(now));
    reach(rig, id, Phase::Running);
}

fn reach(rig: &Rig, id: &InstanceId, phase: Phase) {
    let waiting = rig.fleet().wait(&rig.tenant, id, Waiting::For(phase), Duration::from_secs(30));
    rig.run(waiting).unwrap_or_else(|error| panic!("not {phase}: {error}; {:?}", rig.story(id)));
}

fn gone(rig: &Rig, id: &InstanceId) {
    let waiting = rig.fleet().wait(&rig.tenant, id, Waiting::ForDeletion, Duration::from_secs(30));
    // The instance may be deleted before the wait begins.
    let _ = rig.run(waiting);
    assert!(rig.view(id).deleted.is_some(), "{:?}", rig.story(id));
}

/// Creates an instance that is ready.
fn running(rig: &Rig, name: &str) -> InstanceId {
    let id = rig.create(name);
    boot(rig, &id);
    id
}
