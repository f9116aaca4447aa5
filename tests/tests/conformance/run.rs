//! Resuming and pausing vCPUs, and growing memory.

use std::sync::Arc;
use std::time::Duration;

use tallyman::hypervisor::{
    Capability, ExitStatus, HypervisorError, Kind, Launched, MachineSpec, Origin, Stamp, VmState,
};
use tallyman_tests::machine::{Bed, assert_no_gap, console, exit, heartbeat_after, heartbeats};

use super::{Case, Outcome, Try, attempt};

/// Time from one heartbeat of the guest to the next.
const BEAT: Duration = Duration::from_millis(40);

const ONLY_ITS_END: &str = "nothing makes it fail but the end of the VMM";

pub(crate) fn resume(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_held_machine_goes_on_where_it_was),
        Case::Failure => Err(ONLY_ITS_END),
        Case::Repeated => attempt!(a_second_resume_does_nothing),
        Case::Illegal => attempt!(what_has_ended_is_not_resumed),
        Case::Killed => attempt!(a_vmm_that_is_killed_under_a_resume_is_reported),
    }
}

pub(crate) fn pause(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_held_machine_does_nothing_and_the_stamps_say_for_how_long),
        Case::Failure => Err(ONLY_ITS_END),
        Case::Repeated => attempt!(a_second_pause_does_nothing),
        Case::Illegal => attempt!(what_never_ran_is_held_already),
        Case::Killed => attempt!(a_vmm_that_is_killed_under_a_pause_is_reported),
    }
}

pub(crate) fn resize_memory(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_machine_gets_more_memory_while_it_runs),
        Case::Failure => attempt!(more_memory_than_was_agreed_is_refused),
        Case::Repeated => attempt!(the_memory_it_has_is_given_again),
        Case::Illegal => attempt!(memory_is_not_taken_away),
        Case::Killed => attempt!(a_vmm_that_is_killed_under_a_resize_is_reported),
    }
}

async fn a_held_machine_goes_on_where_it_was(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    let asked = Stamp::now();
    let resumed = launched.vm.resume().await.expect("resume");
    assert!(asked <= resumed && resumed <= Stamp::now());
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    heartbeat_after(&spec, heartbeats(&spec).len() + 1).await;
    assert_no_gap(&spec);
    assert_eq!(console(&spec).matches("PROGRAM-START").count(), 1);
    Outcome::Passed
}

async fn a_second_resume_does_nothing(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    launched.vm.resume().await.expect("it runs");
    launched.vm.resume().await.expect("it still runs");
    heartbeat_after(&spec, heartbeats(&spec).len() + 1).await;
    assert_no_gap(&spec);
    Outcome::Passed
}

async fn what_has_ended_is_not_resumed(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    check_gone(&launched).await;
    Outcome::Passed
}

async fn check_gone(launched: &Launched) {
    let vm = &launched.vm;
    for answer in [vm.resume().await, vm.pause().await] {
        assert!(matches!(answer, Err(HypervisorError::Disconnected { .. })), "{answer:?}");
    }
    let state = vm.state().await;
    assert!(matches!(state, Err(HypervisorError::Disconnected { .. })), "{state:?}");
}

async fn a_vmm_that_is_killed_under_a_resume_is_reported(bed: Arc<Bed>) -> Outcome {
    let launched = bed.ready(&bed.spec("one")).await;
    launched.vm.pause().await.expect("pause");
    let vm = launched.vm.clone();
    under_fire(launched, vm.resume()).await;
    Outcome::Passed
}

/// Makes a call and kills the VMM meanwhile: the call succeeds, or reports that the VMM is gone.
async fn under_fire(
    mut launched: Launched,
    call: impl Future<Output = Result<Stamp, HypervisorError>>,
) {
    let kill = async { launched.vm.kill() };
    let (answer, killed) = tokio::join!(call, kill);
    killed.expect("kill");
    assert!(matches!(answer, Ok(_) | Err(HypervisorError::Disconnected { .. })), "{answer:?}");
    assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9));
    check_gone(&launched).await;
}

/// Waits for heartbeats of another guest: the measure of time for events that must not occur.
async fn beats(clock: &MachineSpec, count: usize) {
    heartbeat_after(clock, heartbeats(clock).len() + count).await;
}

async fn a_held_machine_does_nothing_and_the_stamps_say_for_how_long(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let clock = bed.spec("clock");
    let _clock = bed.ready(&clock).await;
    let launched = bed.hypervisor.launch(&spec, Origin::Boot).await.expect("launch");
    let mut ran = Duration::ZERO;
    for round in 1..=2 {
        let resumed = launched.vm.resume().await.expect("resume");
        heartbeat_after(&spec, heartbeats(&spec).len() + 2).await;
        let asked = Stamp::now();
        let paused = launched.vm.pause().await.expect("pause");
        let answered = Stamp::now();
        assert!(resumed < asked && asked <= paused && paused <= answered);
        assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
        ran += Duration::from_nanos(paused.boottime_ns - resumed.boottime_ns);
        // Output may still be on its way; it has arrived after a beat of the other guest.
        beats(&clock, 1).await;
        let held = heartbeats(&spec);
        beats(&clock, 3).await;
        assert_eq!(heartbeats(&spec), held, "it did something while it was held");
        assert_no_gap(&spec);
        // A guest can't beat faster than its time goes: if the stamps leave out time in which it
        // ran, it has more beats than fit. In each round one may be due at once, and the guest may
        // have run before its VMM reported it.
        let fit = ran.as_nanos() / BEAT.as_nanos() + 2 * round;
        assert!(held.len() as u128 <= fit, "{} beats in {ran:?} of running", held.len());
    }
    Outcome::Passed
}

async fn a_second_pause_does_nothing(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    let first = launched.vm.pause().await.expect("pause");
    let second = launched.vm.pause().await.expect("a second one");
    match bed.kind {
        // The first reported instant is that of the pause.
        Kind::Qemu | Kind::QemuMicrovm => assert_eq!(first, second),
        Kind::CloudHypervisor | Kind::Firecracker => assert!(first < second),
    }
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len() + 1).await;
    assert_no_gap(&spec);
    Outcome::Passed
}

async fn what_never_ran_is_held_already(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.hypervisor.launch(&spec, Origin::Boot).await.expect("launch");
    launched.vm.pause().await.expect("it is held");
    assert!(matches!(
        launched.vm.state().await.expect("state"),
        VmState::NotStarted | VmState::Paused
    ));
    assert_eq!(console(&spec), "");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, 1).await;
    Outcome::Passed
}

async fn a_vmm_that_is_killed_under_a_pause_is_reported(bed: Arc<Bed>) -> Outcome {
    let launched = bed.ready(&bed.spec("one")).await;
    let vm = launched.vm.clone();
    under_fire(launched, vm.pause()).await;
    Outcome::Passed
}

/// Step in which some hypervisors grow memory, in bytes.
const STEP: u64 = 128 << 20;

/// Launches a machine whose memory may grow by two steps; none if the hypervisor can't, which its
/// error must then say.
async fn growing(bed: &Bed, spec: &MachineSpec) -> Option<Launched> {
    let able = bed.hypervisor.describe().capabilities.has(Capability::MemoryResize);
    let growing =
        MachineSpec { memory_bytes_max: Some(spec.memory_bytes + 2 * STEP), ..spec.clone() };
    if able {
        return Some(bed.ready(&growing).await);
    }
    check_told(bed, bed.hypervisor.launch(&growing, Origin::Boot).await.err());
    let launched = bed.ready(spec).await;
    check_told(bed, launched.vm.resize_memory(spec.memory_bytes + STEP).await.err());
    heartbeat_after(spec, heartbeats(spec).len()).await;
    None
}

/// Checks that an error of an unsupported call names the hypervisors that support it.
fn check_told(bed: &Bed, error: Option<HypervisorError>) {
    let Some(error @ HypervisorError::Unsupported { .. }) = error else { panic!("{error:?}") };
    let told = error.to_string();
    let able =
        Kind::ALL.into_iter().filter(|kind| kind.capabilities().has(Capability::MemoryResize));
    for named in able.chain([bed.kind]) {
        assert!(told.contains(named.as_str()), "{told}");
    }
}

async fn a_machine_gets_more_memory_while_it_runs(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "nobutton");
    let Some(launched) = growing(&bed, &spec).await else { return Outcome::Refused };
    let asked = Stamp::now();
    let resized = launched.vm.resize_memory(spec.memory_bytes + STEP).await.expect("resize");
    assert!(asked <= resized && resized <= Stamp::now());
    launched.vm.resize_memory(spec.memory_bytes + 2 * STEP).await.expect("the rest");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    assert_no_gap(&spec);
    Outcome::Passed
}

async fn more_memory_than_was_agreed_is_refused(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "nobutton");
    let Some(launched) = growing(&bed, &spec).await else { return Outcome::Refused };
    for bytes in [spec.memory_bytes + 3 * STEP, spec.memory_bytes + STEP + 1, u64::MAX] {
        let error = launched.vm.resize_memory(bytes).await;
        assert!(matches!(error, Err(HypervisorError::Refused { .. })), "{error:?}");
    }
    launched.vm.resize_memory(spec.memory_bytes + STEP).await.expect("the next one works");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    Outcome::Passed
}

async fn the_memory_it_has_is_given_again(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "nobutton");
    let Some(launched) = growing(&bed, &spec).await else { return Outcome::Refused };
    launched.vm.resize_memory(spec.memory_bytes).await.expect("what it has");
    for _ in 0..2 {
        launched.vm.resize_memory(spec.memory_bytes + STEP).await.expect("as much again");
    }
    Outcome::Passed
}

async fn memory_is_not_taken_away(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "nobutton");
    let Some(launched) = growing(&bed, &spec).await else { return Outcome::Refused };
    launched.vm.resize_memory(spec.memory_bytes + STEP).await.expect("more");
    for bytes in [spec.memory_bytes, 0] {
        let error = launched.vm.resize_memory(bytes).await;
        assert!(matches!(error, Err(HypervisorError::Refused { .. })), "{error:?}");
    }
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    Outcome::Passed
}

async fn a_vmm_that_is_killed_under_a_resize_is_reported(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "nobutton");
    let Some(launched) = growing(&bed, &spec).await else { return Outcome::Refused };
    let vm = launched.vm.clone();
    under_fire(launched, vm.resize_memory(spec.memory_bytes + STEP)).await;
    Outcome::Passed
}
