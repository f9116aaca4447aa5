//! The guest's console.

use std::fs;
use std::sync::Arc;

use rustix::process::Signal;
use tallyman::hypervisor::{ExitStatus, Observed, VmState, files};
use tallyman::limits::instance::{CONSOLE_BYTES_MAX, VMM_LOG_BYTES_MAX};
use tallyman_tests::machine::{
    Bed, console, console_has, exit, gone, heartbeat_after, heartbeats, kill, next,
    type_on_console, until,
};

use super::{Case, Outcome, Try, attempt};

pub(crate) fn trial(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(what_is_typed_reaches_the_guest_and_what_it_says_is_kept),
        Case::Failure => attempt!(a_machine_outlives_its_supervisor_however_much_its_guest_writes),
        Case::Repeated => attempt!(a_flooded_console_holds_nothing_up),
        Case::Illegal => attempt!(what_has_ended_hears_nothing),
        Case::Killed => attempt!(the_last_words_of_a_guest_are_kept),
    }
}

async fn what_is_typed_reaches_the_guest_and_what_it_says_is_kept(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let mut launched = bed.ready(&spec).await;
    type_on_console(&spec, "lwhat \"it\" says\n");
    console_has(&spec, "what \"it\" says\r\n").await;
    type_on_console(&spec, "e");
    match next(&mut launched).await {
        Observed::ProgramExited { code, message, .. } => {
            assert_eq!((code, message.as_str()), (3, "said \"no\""))
        }
        other => panic!("{other:?}"),
    }
    // Only the guest writes there.
    let known = |line: &&str| {
        ["TALLYMAN-", "HB ", "what \"it\" says"]
            .into_iter()
            .any(|beginning| line.starts_with(beginning))
    };
    let console = console(&spec);
    let (complete, _) = console.rsplit_once('\n').expect("lines");
    let foreign: Vec<_> =
        complete.lines().filter(|line| !line.is_empty() && !known(line)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    Outcome::Passed
}

async fn a_machine_outlives_its_supervisor_however_much_its_guest_writes(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let mut launched = bed.ready(&spec).await;
    kill(bed.process(&spec, "supervisor"), Signal::KILL);
    gone(bed.process(&spec, "supervisor")).await;
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    for _ in 0..2 {
        launched.vm.pause().await.expect("pause");
        launched.vm.resume().await.expect("resume");
    }
    launched.vm.request_stop().await.expect("the guest still hears the power button");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.status, exit.witnessed), (ExitStatus::Unknown, false));
    Outcome::Passed
}

async fn a_flooded_console_holds_nothing_up(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "flood");
    let mut launched = bed.running(&spec).await;
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
    until("flood", || {
        fs::metadata(files::console_log(&spec.dir)).is_ok_and(|log| log.len() > 16 << 10)
    })
    .await;
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    // The console is kept also without a reader.
    kill(bed.process(&spec, "supervisor"), Signal::KILL);
    gone(bed.process(&spec, "supervisor")).await;
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    let size = |path| fs::metadata(path).map_or(0, |log| log.len());
    assert!(size(files::console_log(&spec.dir)) <= CONSOLE_BYTES_MAX);
    assert!(size(files::vmm_log(&spec.dir)) <= VMM_LOG_BYTES_MAX);
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    Outcome::Passed
}

async fn what_has_ended_hears_nothing(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let mut launched = bed.ready(&spec).await;
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    gone(bed.process(&spec, "supervisor")).await;
    let nonblocking = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::WRONLY;
    let open =
        rustix::fs::open(files::console_input(&spec.dir), nonblocking, rustix::fs::Mode::empty());
    assert_eq!(open.err(), Some(rustix::io::Errno::NXIO), "nobody reads it");
    Outcome::Passed
}

async fn the_last_words_of_a_guest_are_kept(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let mut launched = bed.ready(&spec).await;
    let seen = heartbeats(&spec).len();
    heartbeat_after(&spec, seen).await;
    launched.vm.kill().expect("kill");
    assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9));
    let kept = console(&spec);
    launched.vm.kill().expect("nothing happens");
    assert!(heartbeats(&spec).len() > seen);
    assert_eq!(console(&spec), kept, "nothing comes after the end");
    Outcome::Passed
}
