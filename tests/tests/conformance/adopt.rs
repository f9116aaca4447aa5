//! Machines that another daemon launched, found again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use tallyman::hypervisor::{
    Adopted, ExitStatus, HypervisorError, Initiator, Kind, MachineSpec, Observed, Stamp, VmState,
    files,
};
use tallyman_tests::machine::{
    Bed, assert_no_gap, console_has, exit, gone, heartbeat_after, heartbeats, kill, next,
    type_on_console,
};

use super::{Case, Outcome, STAND_IN, Try, attempt};

pub(crate) fn trial(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_machine_outlives_the_daemon_that_launched_it),
        Case::Failure => attempt!(what_is_not_the_machine_is_not_taken_for_it),
        Case::Repeated => {
            attempt!(a_machine_is_adopted_with_everything_that_was_seen_of_it_each_time)
        }
        Case::Illegal => attempt!(what_was_never_launched_is_not_found_and_a_lost_one_neither),
        Case::Killed => attempt!(an_end_that_no_daemon_saw_has_its_true_time_and_cause),
    }
}

/// Launches a machine under another process, which is then killed.
async fn orphan(bed: &Bed, spec: &MachineSpec) {
    let launcher = Command::new(STAND_IN)
        .arg("launch")
        .arg(bed.kind.as_str())
        .arg(&spec.dir)
        .stdout(Stdio::piped())
        .spawn();
    let mut launcher = launcher.expect("spawn the launcher");
    let output = launcher.stdout.take().expect("its output");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map(|_| line)
    });
    assert_eq!(line.await.expect("no panic").expect("read"), "ready\n");
    launcher.kill().and_then(|()| launcher.wait()).expect("kill the launcher");
    console_has(spec, "HB 1").await;
}

async fn adopt(bed: &Bed, spec: &MachineSpec) -> Adopted {
    bed.hypervisor.adopt(spec).await.expect("adopt")
}

/// Returns whether VMMs of this kind report that vCPUs are held and resumed.
fn says_what_its_vcpus_do(kind: Kind) -> bool {
    match kind {
        Kind::Qemu | Kind::QemuMicrovm | Kind::CloudHypervisor => true,
        Kind::Firecracker => false,
    }
}

/// The guest's observations in a history.
fn markers(history: Vec<Observed>) -> Vec<Observed> {
    let of_the_vmm = |seen: &Observed| {
        matches!(seen, Observed::Launched(_) | Observed::Paused(_) | Observed::Resumed(_))
    };
    history.into_iter().filter(|seen| !of_the_vmm(seen)).collect()
}

async fn a_machine_outlives_the_daemon_that_launched_it(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    orphan(&bed, &spec).await;
    heartbeat_after(&spec, heartbeats(&spec).len() + 2).await;
    let Adopted::Alive { mut launched, state, since } = adopt(&bed, &spec).await else {
        panic!("it lives")
    };
    assert_eq!(state, VmState::Running);
    assert_eq!(since.is_some(), says_what_its_vcpus_do(bed.kind));
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
    assert!(matches!(next(&mut launched).await, Observed::AgentReady(_)));
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    assert_no_gap(&spec);
    launched.vm.request_stop().await.expect("ask");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.initiator, exit.witnessed), (Initiator::GuestPowerOff, true));
    Outcome::Passed
}

async fn what_is_not_the_machine_is_not_taken_for_it(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    drop(bed.ready(&spec).await);
    let run = files::run(&spec.dir, spec.incarnation);
    let identity = run.join("identity.json");
    let true_one = fs::read_to_string(&identity).expect("identity");

    let boot = tallyman::clock::boot_id().expect("boot id");
    let earlier_boot = true_one.replace(&*boot.0, "00000000-0000-0000-0000-000000000000");
    let parsed: serde_json::Value = serde_json::from_str(&true_one).expect("json");
    let mut recycled = parsed.clone();
    let ticks = parsed["vmm"]["start_ticks"].as_u64().expect("ticks");
    recycled["vmm"]["start_ticks"] = (ticks - 1).into();
    // The supervisor lives, and would report the VMM's end.
    recycled["supervisor"]["start_ticks"] = 1.into();
    for forged in [earlier_boot, recycled.to_string()] {
        assert_ne!(forged, true_one);
        fs::write(&identity, forged).expect("forge");
        let Adopted::Lost { history, .. } = adopt(&bed, &spec).await else {
            panic!("it is another process")
        };
        assert_eq!(markers(history).len(), 2);
    }
    fs::write(&identity, true_one).expect("mend");

    let control = run.join("ctl");
    let aside = run.join("aside");
    fs::rename(&control, &aside).expect("rename");
    let stranger = UnixListener::bind(&control).expect("bind");
    let answering = tokio::task::spawn_blocking(move || stranger.accept().map(drop));
    let error = bed.hypervisor.adopt(&spec).await.err();
    let refused = matches!(
        error,
        Some(HypervisorError::Identity { .. } | HypervisorError::Disconnected { .. })
    );
    assert!(refused, "{error:?}");
    answering.await.expect("no panic").expect("accept");
    fs::rename(&aside, &control).expect("rename");
    let Adopted::Alive { state, .. } = adopt(&bed, &spec).await else { panic!("it lives") };
    assert_eq!(state, VmState::Running);
    Outcome::Passed
}

async fn a_machine_is_adopted_with_everything_that_was_seen_of_it_each_time(
    bed: Arc<Bed>,
) -> Outcome {
    let spec = bed.spec("one");
    let mut launched = bed.running(&spec).await;
    let seen = [next(&mut launched).await, next(&mut launched).await];
    let pid = launched.pid;
    drop(launched);

    let Adopted::Alive { mut launched, state, since: ran } = adopt(&bed, &spec).await else {
        panic!("it lives")
    };
    assert_eq!((launched.pid, state), (pid, VmState::Running));
    assert_eq!([next(&mut launched).await, next(&mut launched).await], seen);
    let before = Stamp::now();
    let paused = launched.vm.pause().await.expect("pause");
    assert!((before.boottime_ns..=Stamp::now().boottime_ns).contains(&paused.boottime_ns));
    drop(launched);

    let Adopted::Alive { mut launched, state, since } = adopt(&bed, &spec).await else {
        panic!("it lives")
    };
    assert_eq!(state, VmState::Paused);
    match bed.kind {
        // A restarted daemon receives the same instant as the one before.
        Kind::Qemu | Kind::QemuMicrovm => assert_eq!(since, Some(paused)),
        Kind::CloudHypervisor => assert!(since.is_some()),
        Kind::Firecracker => assert_eq!(since, None),
    }
    assert!(ran.is_none_or(|ran| ran < paused));
    launched.vm.quit().await.expect("quit");
    assert_eq!(next(&mut launched).await, seen[0]);
    let end = exit(&mut launched).await;
    for _ in 0..2 {
        let Adopted::Exited { history, exit, .. } = adopt(&bed, &spec).await else {
            panic!("it has ended")
        };
        assert!(matches!(history[0], Observed::Launched(_)), "{history:?}");
        assert_eq!((markers(history).as_slice(), &exit), (&seen[..], &end));
    }
    Outcome::Passed
}

async fn what_was_never_launched_is_not_found_and_a_lost_one_neither(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    assert!(matches!(adopt(&bed, &spec).await, Adopted::NeverLaunched));
    let launched = bed.ready(&spec).await;
    kill(bed.process(&spec, "supervisor"), Signal::KILL);
    gone(bed.process(&spec, "supervisor")).await;
    kill(launched.pid, Signal::KILL);
    gone(launched.pid).await;
    let Adopted::Lost { history, .. } = adopt(&bed, &spec).await else {
        panic!("nobody saw the end")
    };
    assert!(matches!(markers(history)[..], [Observed::ProgramStarted(_), Observed::AgentReady(_)]));
    let next = MachineSpec { incarnation: 2, ..spec };
    assert!(matches!(adopt(&bed, &next).await, Adopted::NeverLaunched));
    Outcome::Passed
}

async fn an_end_that_no_daemon_saw_has_its_true_time_and_cause(bed: Arc<Bed>) -> Outcome {
    for by_guest in [true, false] {
        let spec = bed.spec(if by_guest { "off" } else { "killed" });
        orphan(&bed, &spec).await;
        let vmm = bed.process(&spec, "vmm");
        let supervisor = bed.process(&spec, "supervisor");
        let before = Stamp::now();
        match by_guest {
            true => type_on_console(&spec, "q"),
            false => kill(vmm, Signal::KILL),
        }
        gone(supervisor).await;
        let after = Stamp::now();
        let Adopted::Exited { history, exit, boot } = adopt(&bed, &spec).await else {
            panic!("it has ended")
        };
        assert!(matches!(
            markers(history)[..],
            [Observed::ProgramStarted(_), Observed::AgentReady(_)]
        ));
        assert!(before < exit.stamp && exit.stamp < after);
        assert!(exit.witnessed);
        assert_eq!(boot, tallyman::clock::boot_id().expect("boot id"));
        match by_guest {
            true => assert_eq!(exit.initiator, Initiator::GuestPowerOff),
            false => assert_eq!(
                (exit.status, exit.initiator),
                (ExitStatus::Signal(9), Initiator::Unknown)
            ),
        }
    }
    Outcome::Passed
}
