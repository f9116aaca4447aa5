//! Ends of machines, and their reports.

use std::sync::Arc;

use tallyman::hypervisor::{
    Accelerator, Adopted, Capability, Exit, ExitStatus, HypervisorError, Initiator, Launched,
    MachineSpec, Origin, Stamp, VmState,
};
use tallyman_tests::machine::{Bed, console, console_has, exit, type_on_console};

use super::{Case, Outcome, Try, attempt};

const ONCE: &str = "the guest does it once";
const ALWAYS: &str = "the operating system always does it";

pub(crate) fn request_stop(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_guest_that_is_asked_to_stop_powers_itself_off),
        Case::Failure => attempt!(a_guest_that_hangs_is_asked_in_vain_and_killed),
        Case::Repeated => attempt!(a_guest_is_asked_as_often_as_one_likes),
        Case::Illegal => attempt!(what_has_ended_can_not_be_asked),
        Case::Killed => attempt!(a_vmm_that_is_killed_under_a_request_is_reported),
    }
}

pub(crate) fn quit(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_vmm_quits_in_every_state),
        Case::Failure => attempt!(a_guest_that_hangs_can_not_hold_its_vmm),
        Case::Repeated => attempt!(a_vmm_that_has_quit_quits_no_more),
        Case::Illegal => Err("it is legal in every state"),
        Case::Killed => attempt!(a_vmm_that_is_killed_while_it_quits_is_reported),
    }
}

pub(crate) fn kill(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_killed_machine_is_seen_with_its_signal),
        Case::Repeated => attempt!(the_kill_of_what_has_ended_does_nothing),
        Case::Failure => Err(ALWAYS),
        Case::Illegal => Err("it is legal in every state"),
        Case::Killed => Err("it is what it is"),
    }
}

pub(crate) fn power_off(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_power_off_is_the_guests),
        Case::Failure | Case::Repeated | Case::Illegal | Case::Killed => Err(ONCE),
    }
}

pub(crate) fn reset(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_reset_ends_a_machine),
        Case::Failure | Case::Repeated | Case::Illegal | Case::Killed => Err(ONCE),
    }
}

pub(crate) fn triple_fault(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_triple_fault_is_a_reset),
        Case::Failure | Case::Repeated | Case::Illegal | Case::Killed => Err(ONCE),
    }
}

pub(crate) fn breakdown(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(what_a_vmm_can_not_go_on_with_is_not_the_guests_wish),
        Case::Failure | Case::Repeated | Case::Illegal | Case::Killed => Err(ONCE),
    }
}

async fn a_guest_that_is_asked_to_stop_powers_itself_off(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    let before = Stamp::now();
    let asked = launched.vm.request_stop().await.expect("ask");
    let exit = exit(&mut launched).await;
    assert_eq!(
        (exit.status, exit.initiator, exit.witnessed),
        (ExitStatus::Code(0), Initiator::GuestPowerOff, true)
    );
    assert!(before <= asked && before < exit.stamp && exit.stamp <= Stamp::now());
    Outcome::Passed
}

/// Launches a machine whose guest ignores requests.
async fn deaf(bed: &Bed, spec: &MachineSpec) -> Launched {
    let launched = bed.ready(spec).await;
    type_on_console(spec, "x");
    console_has(spec, "HANG").await;
    launched
}

async fn a_guest_that_hangs_is_asked_in_vain_and_killed(bed: Arc<Bed>) -> Outcome {
    let mut launched = deaf(&bed, &bed.spec("one")).await;
    launched.vm.request_stop().await.expect("ask");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    launched.vm.pause().await.expect("it can be held");
    launched.vm.kill().expect("kill");
    assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9));
    Outcome::Passed
}

async fn a_guest_is_asked_as_often_as_one_likes(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    launched.vm.request_stop().await.expect("ask");
    let again = launched.vm.request_stop().await;
    // The machine may have ended by then.
    let gone = matches!(
        again,
        Err(HypervisorError::Disconnected { .. } | HypervisorError::Refused { .. })
    );
    assert!(again.is_ok() || gone, "{again:?}");
    assert_eq!(exit(&mut launched).await.initiator, Initiator::GuestPowerOff);
    Outcome::Passed
}

async fn what_has_ended_can_not_be_asked(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    let asked = launched.vm.request_stop().await;
    assert!(matches!(asked, Err(HypervisorError::Disconnected { .. })), "{asked:?}");
    Outcome::Passed
}

async fn a_vmm_that_is_killed_under_a_request_is_reported(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    let killer = async { launched.vm.kill().expect("kill") };
    let (answer, ()) = tokio::join!(launched.vm.request_stop(), killer);
    assert!(matches!(answer, Ok(_) | Err(HypervisorError::Disconnected { .. })), "{answer:?}");
    assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9));
    Outcome::Passed
}

async fn a_vmm_quits_in_every_state(bed: Arc<Bed>) -> Outcome {
    for state in [VmState::NotStarted, VmState::Running, VmState::Paused] {
        let spec = bed.spec(&format!("{state:?}").to_lowercase());
        let mut launched = match state {
            VmState::NotStarted => {
                bed.hypervisor.launch(&spec, Origin::Boot).await.expect("launch")
            }
            VmState::Running | VmState::Paused | VmState::Loading | VmState::Ended => {
                bed.ready(&spec).await
            }
        };
        if state == VmState::Paused {
            launched.vm.pause().await.expect("pause");
        }
        let before = Stamp::now();
        launched.vm.quit().await.expect("quit");
        let exit = exit(&mut launched).await;
        assert_eq!((exit.initiator, exit.witnessed), (Initiator::Host, true), "{state:?}");
        assert!(matches!(exit.status, ExitStatus::Code(0) | ExitStatus::Signal(15)), "{exit:?}");
        assert!(before < exit.stamp && exit.stamp <= Stamp::now());
    }
    Outcome::Passed
}

async fn a_guest_that_hangs_can_not_hold_its_vmm(bed: Arc<Bed>) -> Outcome {
    let mut launched = deaf(&bed, &bed.spec("one")).await;
    launched.vm.quit().await.expect("quit");
    assert_eq!(exit(&mut launched).await.initiator, Initiator::Host);
    Outcome::Passed
}

async fn a_vmm_that_has_quit_quits_no_more(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    launched.vm.quit().await.expect("quit");
    exit(&mut launched).await;
    let again = launched.vm.quit().await;
    assert!(matches!(again, Ok(()) | Err(HypervisorError::Disconnected { .. })), "{again:?}");
    Outcome::Passed
}

async fn a_vmm_that_is_killed_while_it_quits_is_reported(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    let killer = async { launched.vm.kill().expect("kill") };
    let (answer, ()) = tokio::join!(launched.vm.quit(), killer);
    assert!(matches!(answer, Ok(()) | Err(HypervisorError::Disconnected { .. })), "{answer:?}");
    // The status of the first end.
    let status = exit(&mut launched).await.status;
    assert!(matches!(status, ExitStatus::Signal(9 | 15) | ExitStatus::Code(0)), "{status}");
    Outcome::Passed
}

async fn a_killed_machine_is_seen_with_its_signal(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    let before = Stamp::now();
    launched.vm.kill().expect("kill");
    let exit = exit(&mut launched).await;
    assert_eq!(
        (exit.status, exit.initiator, exit.witnessed),
        (ExitStatus::Signal(9), Initiator::Unknown, true)
    );
    assert!(before < exit.stamp && exit.stamp <= Stamp::now());
    Outcome::Passed
}

async fn the_kill_of_what_has_ended_does_nothing(bed: Arc<Bed>) -> Outcome {
    let mut launched = bed.ready(&bed.spec("one")).await;
    launched.vm.kill().expect("kill");
    launched.vm.kill().expect("a second one");
    exit(&mut launched).await;
    launched.vm.kill().expect("a third one");
    Outcome::Passed
}

/// Types `key` on the console of a machine, and returns its exit, which later callers get
/// unchanged.
async fn ended_by(bed: &Bed, key: &str, last_words: &str) -> Exit {
    let spec = bed.spec("one");
    let mut launched = bed.ready(&spec).await;
    let before = Stamp::now();
    type_on_console(&spec, key);
    let exit = exit(&mut launched).await;
    assert!(exit.witnessed && before < exit.stamp && exit.stamp <= Stamp::now());
    let console = console(&spec);
    assert!(console.trim_end().ends_with(last_words), "{console}");
    assert_eq!(console.matches("PROGRAM-START").count(), 1, "it boots no second time");
    let Adopted::Exited { exit: told, .. } = bed.hypervisor.adopt(&spec).await.expect("adopt")
    else {
        panic!("it has ended")
    };
    assert_eq!(told, exit);
    exit
}

async fn a_power_off_is_the_guests(bed: Arc<Bed>) -> Outcome {
    let exit = ended_by(&bed, "q", "POWER OFF").await;
    assert_eq!((exit.status, exit.initiator), (ExitStatus::Code(0), Initiator::GuestPowerOff));
    Outcome::Passed
}

async fn a_reset_ends_a_machine(bed: Arc<Bed>) -> Outcome {
    let exit = ended_by(&bed, "r", "RESET").await;
    let expected = match bed.hypervisor.describe().capabilities.has(Capability::PowerOffCause) {
        true => Initiator::GuestReset,
        false => Initiator::GuestPowerOff,
    };
    assert_eq!(exit.initiator, expected, "{exit:?}");
    Outcome::Passed
}

async fn a_triple_fault_is_a_reset(bed: Arc<Bed>) -> Outcome {
    let exit = ended_by(&bed, "t", "TRIPLE FAULT").await;
    assert_eq!(exit.initiator, Initiator::GuestReset, "{exit:?}");
    Outcome::Passed
}

async fn what_a_vmm_can_not_go_on_with_is_not_the_guests_wish(bed: Arc<Bed>) -> Outcome {
    if bed.hypervisor.describe().accelerator == Accelerator::Tcg {
        return Outcome::NotHere("the emulator goes on with everything".into());
    }
    let exit = ended_by(&bed, "m", "NO MEMORY").await;
    assert_eq!(exit.initiator, Initiator::Unknown, "{exit:?}");
    Outcome::Passed
}
