//! A launch from nothing.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustix::process::Signal;
use tallyman::hypervisor::{
    Adopted, Disk, ExitStatus, HypervisorError, MachineSpec, Observed, Origin, Stamp, VmState,
    files,
};
use tallyman_tests::machine::{
    Bed, assert_no_gap, console, console_has, exit, gone, heartbeat_after, heartbeats, is_gone,
    kill, next, pid_of, until,
};

use super::{Case, Outcome, Try, attempt};

pub(crate) fn trial(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_machine_is_held_until_it_is_let_go_and_then_announces_itself),
        Case::Failure => attempt!(what_is_wrong_is_named_and_no_process_stays),
        Case::Repeated => attempt!(an_incarnation_is_launched_once),
        Case::Illegal => attempt!(what_is_not_possible_is_refused_before_anything_starts),
        Case::Killed => attempt!(a_vmm_that_is_killed_on_its_way_up_is_reported),
    }
}

async fn a_machine_is_held_until_it_is_let_go_and_then_announces_itself(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    // Files of an earlier launch are no obstacle.
    let run = files::run(&spec.dir, spec.incarnation);
    fs::create_dir_all(&run).expect("create");
    drop(UnixListener::bind(run.join("ctl")).expect("a socket on which nobody listens"));

    let before = Stamp::now();
    let mut launched = bed.hypervisor.launch(&spec, Origin::Boot).await.expect("launch");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::NotStarted);
    assert_eq!(console(&spec), "");
    let held_until = Stamp::now();
    let resumed = launched.vm.resume().await.expect("resume");
    let (Observed::ProgramStarted(started), Observed::AgentReady(ready)) =
        (next(&mut launched).await, next(&mut launched).await)
    else {
        panic!("both markers, in this order");
    };
    let after = Stamp::now();
    assert!(before < held_until && held_until <= resumed && resumed <= after);
    assert!(held_until < started && started < ready && ready <= after);
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    console_has(&spec, "HB 2").await;
    assert_no_gap(&spec);
    Outcome::Passed
}

async fn what_is_wrong_is_named_and_no_process_stays(bed: Arc<Bed>) -> Outcome {
    let nothing = MachineSpec { kernel: "/nowhere/kernel".into(), ..bed.spec("nothing") };
    match bed.hypervisor.launch(&nothing, Origin::Boot).await.err() {
        Some(HypervisorError::File { act: "open", path, .. }) => assert_eq!(path, nothing.kernel),
        other => panic!("{other:?}"),
    }
    assert!(!nothing.dir.exists());

    let junk = bed.path("junk");
    fs::write(&junk, "this is no kernel").expect("write");
    let junk = MachineSpec { kernel: junk, ..bed.spec("nonsense") };
    match bed.hypervisor.launch(&junk, Origin::Boot).await {
        Err(_) => check_no_process(&bed, &junk).await,
        // The VMM reads the kernel when the vCPUs resume.
        Ok(mut launched) => {
            launched.vm.resume().await.expect_err("nothing to run");
            launched.vm.kill().expect("kill");
            exit(&mut launched).await;
        }
    }
    Outcome::Passed
}

async fn check_no_process(bed: &Bed, spec: &MachineSpec) {
    if let Some(pid) = pid_of(&files::run(&spec.dir, spec.incarnation), "vmm") {
        gone(pid).await;
    }
    let adopted = bed.hypervisor.adopt(spec).await.expect("adopt");
    assert!(matches!(adopted, Adopted::Exited { .. } | Adopted::NeverLaunched));
}

async fn an_incarnation_is_launched_once(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let mut launched = bed.ready(&spec).await;
    let again = bed.hypervisor.launch(&spec, Origin::Boot).await.err();
    assert!(matches!(again, Some(HypervisorError::SocketInUse { .. })), "{again:?}");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    let again = bed.hypervisor.launch(&spec, Origin::Boot).await.err();
    assert!(
        matches!(again, Some(HypervisorError::Spec { what: "this incarnation", .. })),
        "{again:?}"
    );
    bed.ready_again(&MachineSpec { incarnation: 2, ..spec }).await;
    Outcome::Passed
}

async fn what_is_not_possible_is_refused_before_anything_starts(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let most = bed.hypervisor.describe().vcpus_max;
    let impossible = [
        MachineSpec { vcpus: 0, ..spec.clone() },
        MachineSpec { vcpus: most + 1, ..spec.clone() },
        MachineSpec { memory_bytes: 0, ..spec.clone() },
        MachineSpec { memory_bytes: spec.memory_bytes + 1, ..spec.clone() },
        MachineSpec { cmdline: "x".repeat(2_048), ..spec.clone() },
        MachineSpec {
            disks: vec![Disk { path: "/dev/null".into(), read_only: true }; 17],
            ..spec.clone()
        },
    ];
    for row in impossible {
        let error = bed.hypervisor.launch(&row, Origin::Boot).await.err();
        assert!(matches!(error, Some(HypervisorError::Spec { .. })), "{error:?}");
    }
    let deep = MachineSpec { dir: spec.dir.join("x".repeat(100)), ..spec.clone() };
    let error = bed.hypervisor.launch(&deep, Origin::Boot).await.err();
    assert!(
        matches!(error, Some(HypervisorError::SocketPathTooLong { max: 107, .. })),
        "{error:?}"
    );
    assert!(!spec.dir.exists());

    let disk = bed.path("disk");
    fs::write(&disk, vec![0; 1 << 20]).expect("disk");
    let with = |read_only, spec| MachineSpec {
        disks: vec![Disk { path: disk.clone(), read_only }],
        ..spec
    };
    let writer = with(false, spec);
    let mut launched = bed.ready(&writer).await;
    for read_only in [false, true] {
        let error =
            bed.hypervisor.launch(&with(read_only, bed.spec("two")), Origin::Boot).await.err();
        assert!(
            matches!(&error, Some(HypervisorError::DiskInUse { path }) if *path == disk),
            "{error:?}"
        );
    }
    heartbeat_after(&writer, heartbeats(&writer).len()).await;
    // The machine holds its disks as long as it lives, also without its supervisor.
    kill(bed.process(&writer, "supervisor"), Signal::KILL);
    gone(bed.process(&writer, "supervisor")).await;
    let error = bed.hypervisor.launch(&with(false, bed.spec("two")), Origin::Boot).await.err();
    assert!(matches!(&error, Some(HypervisorError::DiskInUse { .. })), "{error:?}");
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    let readers = [with(true, bed.spec("three")), with(true, bed.spec("four"))];
    bed.ready(&readers[0]).await;
    bed.ready(&readers[1]).await;
    Outcome::Passed
}

async fn a_vmm_that_is_killed_on_its_way_up_is_reported(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let run = files::run(&spec.dir, spec.incarnation);
    let killer = async {
        until("process", || pid_of(&run, "vmm").is_some()).await;
        let pid = bed.process(&spec, "vmm");
        if !is_gone(pid) {
            kill(pid, Signal::KILL);
        }
    };
    let (launched, ()) = tokio::join!(bed.hypervisor.launch(&spec, Origin::Boot), killer);
    // The kill may have come after the launch.
    let status = match launched {
        Ok(mut launched) => exit(&mut launched).await.status,
        Err(HypervisorError::Launch { .. } | HypervisorError::Disconnected { .. }) => {
            match bed.hypervisor.adopt(&spec).await.expect("adopt") {
                Adopted::Exited { exit, .. } => exit.status,
                Adopted::Alive { .. } | Adopted::Lost { .. } | Adopted::NeverLaunched => {
                    panic!("its end was seen")
                }
            }
        }
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(status, ExitStatus::Signal(9));
    Outcome::Passed
}
