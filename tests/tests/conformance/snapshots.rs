//! Memory on disk: written, loaded, and loaded for another instance.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;
use tallyman::hypervisor::{
    Adopted, Capability, Disk, ExitStatus, HypervisorError, Kind, Launched, MachineSpec, Origin,
    SnapshotDefect, VmState, files,
};
use tallyman_tests::machine::{
    Bed, assert_no_gap, console, console_has, exit, gone, heartbeat_after, heartbeats, is_gone,
    kill, pid_of, until,
};

use super::{Case, Outcome, Try, attempt};

pub(crate) fn save(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_saved_machine_is_held_and_goes_on),
        Case::Failure => {
            attempt!(a_save_that_fails_leaves_nothing_behind_and_a_machine_that_goes_on)
        }
        Case::Repeated => {
            attempt!(a_machine_is_saved_as_often_as_one_likes_but_nothing_is_overwritten)
        }
        Case::Illegal => attempt!(what_runs_or_never_ran_is_not_saved),
        Case::Killed => attempt!(a_vmm_that_is_killed_under_a_save_leaves_no_snapshot),
    }
}

pub(crate) fn restore(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_restored_machine_goes_on_with_the_next_heartbeat),
        Case::Failure => attempt!(a_damaged_snapshot_never_runs),
        Case::Repeated => attempt!(a_snapshot_is_restored_as_often_as_one_likes),
        Case::Illegal => attempt!(a_snapshot_of_another_shape_or_hypervisor_starts_no_process),
        Case::Killed => attempt!(a_vmm_that_is_killed_under_a_restore_spoils_no_snapshot),
    }
}

pub(crate) fn fork(case: Case) -> Result<Try, &'static str> {
    match case {
        Case::Success => attempt!(a_fork_runs_beside_its_source_from_the_same_heartbeat),
        Case::Failure => attempt!(a_fork_gets_no_disk_that_its_source_writes_to),
        Case::Repeated => attempt!(many_forks_are_launched_at_once),
        Case::Illegal => attempt!(a_fork_of_another_shape_is_refused),
        Case::Killed => attempt!(a_fork_outlives_its_source),
    }
}

/// Word in a VMM's error for a host whose virtualisation can't save memory. Every other failure to
/// save is a fault of ours.
pub(crate) const NO_NESTED_STATE: &str = "GetNestedState";

/// Saves a machine that is held; if this host can't, checks that no file is left and that the
/// machine goes on.
async fn saved(
    bed: &Bed,
    spec: &MachineSpec,
    launched: &Launched,
    to: &Path,
) -> Result<(), Outcome> {
    match launched.vm.save(to).await {
        Ok(saved) => {
            let files = fs::read_dir(to).expect("snapshot").flatten();
            assert_eq!(
                saved.bytes,
                files.map(|file| file.metadata().expect("metadata").len()).sum::<u64>()
            );
        }
        Err(HypervisorError::Save { reason }) if reason.contains(NO_NESTED_STATE) => {
            check_unsaved(to);
            assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
            launched.vm.resume().await.expect("it goes on");
            heartbeat_after(spec, heartbeats(spec).len()).await;
            assert_no_gap(spec);
            return Err(unsaved(bed, &reason));
        }
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    Ok(())
}

/// Outcome of a trial that needs a snapshot where none can be made.
pub(crate) fn unsaved(bed: &Bed, reason: &str) -> Outcome {
    Outcome::NotHere(format!("{} can't save on this host, and says so: {reason}", bed.kind))
}

fn check_unsaved(to: &Path) {
    let mut aside = to.as_os_str().to_owned();
    aside.push(".partial");
    assert!(!to.exists() && !Path::new(&aside).exists());
}

/// A snapshot of a machine at work that has ended.
async fn snapshot_of(bed: &Bed, spec: &MachineSpec) -> Result<PathBuf, Outcome> {
    let mut launched = bed.ready(spec).await;
    let to = spec.dir.join("snapshot");
    launched.vm.pause().await.expect("pause");
    saved(bed, spec, &launched, &to).await?;
    launched.vm.quit().await.expect("quit");
    exit(&mut launched).await;
    Ok(to)
}

/// Unwraps a result, or ends the trial with its outcome.
macro_rules! here {
    ($outcome:expr) => {
        match $outcome {
            Ok(value) => value,
            Err(outcome) => return outcome,
        }
    };
}

async fn a_saved_machine_is_held_and_goes_on(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    here!(saved(&bed, &spec, &launched, &spec.dir.join("snapshot")).await);
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len() + 1).await;
    assert_no_gap(&spec);
    Outcome::Passed
}

async fn a_save_that_fails_leaves_nothing_behind_and_a_machine_that_goes_on(
    bed: Arc<Bed>,
) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    let unwritable = launched.vm.save(Path::new("/proc/no/snapshot")).await;
    assert!(matches!(unwritable, Err(HypervisorError::File { .. })), "{unwritable:?}");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    launched.vm.pause().await.expect("pause");
    here!(saved(&bed, &spec, &launched, &spec.dir.join("snapshot")).await);
    Outcome::Passed
}

async fn a_machine_is_saved_as_often_as_one_likes_but_nothing_is_overwritten(
    bed: Arc<Bed>,
) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    let first = spec.dir.join("first");
    here!(saved(&bed, &spec, &launched, &first).await);
    let occupied = launched.vm.save(&first).await;
    assert!(matches!(occupied, Err(HypervisorError::Spec { .. })), "{occupied:?}");
    let again = launched.vm.save(&spec.dir.join("again")).await;
    assert!(matches!(again, Ok(_) | Err(HypervisorError::SavedBefore)), "{again:?}");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    launched.vm.pause().await.expect("pause");
    here!(saved(&bed, &spec, &launched, &spec.dir.join("second")).await);
    let forks = [(bed.spec("of-first"), first), (bed.spec("of-second"), spec.dir.join("second"))];
    for (fork, folder) in forks {
        let launched = bed.hypervisor.launch(&fork, Origin::Snapshot(folder)).await.expect("fork");
        launched.vm.resume().await.expect("resume");
        heartbeat_after(&fork, 0).await;
    }
    assert!(heartbeats(&bed.spec("of-first"))[0] < heartbeats(&bed.spec("of-second"))[0]);
    Outcome::Passed
}

async fn what_runs_or_never_ran_is_not_saved(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let to = spec.dir.join("snapshot");
    let launched = bed.hypervisor.launch(&spec, Origin::Boot).await.expect("launch");
    match launched.vm.save(&to).await {
        Err(HypervisorError::Save { .. }) => check_unsaved(&to),
        // QEMU supports it.
        Ok(_) => fs::remove_dir_all(&to).expect("remove"),
        Err(error) => panic!("{error:?}"),
    }
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, 1).await;
    let running = launched.vm.save(&to).await;
    assert!(matches!(running, Err(HypervisorError::Save { .. })), "{running:?}");
    check_unsaved(&to);
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    Outcome::Passed
}

async fn a_vmm_that_is_killed_under_a_save_leaves_no_snapshot(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let to = spec.dir.join("snapshot");
    let mut launched = bed.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    let killer = async { launched.vm.kill().expect("kill") };
    let (answer, ()) = tokio::join!(launched.vm.save(&to), killer);
    match answer {
        Ok(_) => {}
        Err(
            HypervisorError::Disconnected { .. }
            | HypervisorError::Save { .. }
            | HypervisorError::File { .. },
        ) => {
            check_unsaved(&to);
        }
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9));
    Outcome::Passed
}

async fn a_restored_machine_goes_on_with_the_next_heartbeat(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let snapshot = here!(snapshot_of(&bed, &spec).await);
    let last = *heartbeats(&spec).last().expect("heartbeats");
    let spec = MachineSpec { incarnation: 2, ..spec };
    let launched = bed.hypervisor.launch(&spec, Origin::Snapshot(snapshot)).await.expect("restore");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    launched.vm.resume().await.expect("resume");
    console_has(&spec, &format!("HB {}", last + 2)).await;
    assert_no_gap(&spec);
    assert_eq!(console(&spec).matches("PROGRAM-START").count(), 1);
    launched.vm.pause().await.expect("pause");
    here!(saved(&bed, &spec, &launched, &spec.dir.join("second")).await);
    Outcome::Passed
}

async fn a_damaged_snapshot_never_runs(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let snapshot = here!(snapshot_of(&bed, &spec).await);
    let beats = heartbeats(&spec);
    let mut incarnation = 2;
    let files = fs::read_dir(&snapshot).expect("snapshot").flatten().map(|file| file.path());
    for file in files.filter(|file| !file.ends_with("manifest.json")).collect::<Vec<_>>() {
        let whole = fs::read(&file).expect("read");
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).expect("damage");
            let spec = MachineSpec { incarnation, ..spec.clone() };
            match bed.hypervisor.launch(&spec, Origin::Snapshot(snapshot.clone())).await.err() {
                Some(HypervisorError::Snapshot {
                    path,
                    defect: SnapshotDefect::Checksum { .. },
                }) => {
                    assert_eq!(path, file);
                }
                other => panic!("byte {at} of {}: {other:?}", file.display()),
            }
            gone(bed.process(&spec, "vmm")).await;
            incarnation += 1;
        }
        fs::write(&file, &whole[..whole.len() - 1]).expect("cut");
        check_defect(&bed, &spec, &snapshot, |defect| {
            matches!(defect, SnapshotDefect::Size { .. })
        })
        .await;
        fs::remove_file(&file).expect("remove");
        check_defect(&bed, &spec, &snapshot, |defect| matches!(defect, SnapshotDefect::Missing))
            .await;
        fs::write(&file, whole).expect("mend");
    }
    assert_eq!(heartbeats(&spec), beats, "a guest ran");
    let spec = MachineSpec { incarnation, ..spec };
    bed.hypervisor
        .launch(&spec, Origin::Snapshot(snapshot))
        .await
        .expect("a whole one is accepted");
    Outcome::Passed
}

/// Checks that a snapshot with a defect is refused before any process is started.
async fn check_defect(
    bed: &Bed,
    spec: &MachineSpec,
    snapshot: &Path,
    is_it: impl Fn(&SnapshotDefect) -> bool,
) {
    let spec = MachineSpec { incarnation: 99, ..spec.clone() };
    match bed.hypervisor.launch(&spec, Origin::Snapshot(snapshot.into())).await.err() {
        Some(HypervisorError::Snapshot { defect, .. }) => assert!(is_it(&defect), "{defect:?}"),
        other => panic!("{other:?}"),
    }
    assert!(!files::run(&spec.dir, spec.incarnation).exists());
}

async fn a_snapshot_is_restored_as_often_as_one_likes(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let snapshot = here!(snapshot_of(&bed, &spec).await);
    let last = *heartbeats(&spec).last().expect("heartbeats");
    for incarnation in 2..4 {
        let spec = MachineSpec { incarnation, ..spec.clone() };
        let seen = heartbeats(&spec).len();
        let mut launched = bed
            .hypervisor
            .launch(&spec, Origin::Snapshot(snapshot.clone()))
            .await
            .expect("restore");
        launched.vm.resume().await.expect("resume");
        heartbeat_after(&spec, seen).await;
        assert_eq!(heartbeats(&spec)[seen], last + 1);
        launched.vm.kill().expect("kill");
        exit(&mut launched).await;
    }
    Outcome::Passed
}

async fn a_snapshot_of_another_shape_or_hypervisor_starts_no_process(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let snapshot = here!(snapshot_of(&bed, &spec).await);
    check_shapes(&bed, &spec, &snapshot).await;
    let manifest = snapshot.join("manifest.json");
    let whole = fs::read_to_string(&manifest).expect("manifest");
    let other = Kind::ALL.into_iter().find(|&other| other != bed.kind).expect("another one");
    let hypervisor = |kind: Kind| format!("\"hypervisor\": \"{kind}\"");
    fs::write(&manifest, whole.replace(&hypervisor(bed.kind), &hypervisor(other))).expect("write");
    check_defect(&bed, &spec, &snapshot, |defect| matches!(defect, SnapshotDefect::Manifest(_)))
        .await;

    let version =
        serde_json::from_str::<serde_json::Value>(&whole).expect("json")["version"].clone();
    let version = version.as_str().expect("a version");
    fs::write(&manifest, whole.replace(&format!("\"{version}\""), "\"0.0.1\"")).expect("write");
    if bed.hypervisor.describe().capabilities.has(Capability::PortableSnapshots) {
        let spec = MachineSpec { incarnation: 2, ..spec };
        bed.hypervisor
            .launch(&spec, Origin::Snapshot(snapshot))
            .await
            .expect("versions do not matter");
    } else {
        check_defect(&bed, &spec, &snapshot, |defect| {
            matches!(defect, SnapshotDefect::Version { .. })
        })
        .await;
    }
    Outcome::Passed
}

/// Checks that a snapshot is refused for a machine of a larger shape.
async fn check_shapes(bed: &Bed, spec: &MachineSpec, snapshot: &Path) {
    let disk = bed.path("another-disk");
    fs::write(&disk, vec![0; 1 << 20]).expect("disk");
    let others = [
        MachineSpec { memory_bytes: spec.memory_bytes * 2, ..spec.clone() },
        MachineSpec { vcpus: 2, ..spec.clone() },
        MachineSpec { disks: vec![Disk { path: disk, read_only: true }], ..spec.clone() },
    ];
    for other in others {
        check_defect(bed, &other, snapshot, |defect| {
            matches!(defect, SnapshotDefect::Mismatch { .. })
        })
        .await;
    }
}

async fn a_vmm_that_is_killed_under_a_restore_spoils_no_snapshot(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let snapshot = here!(snapshot_of(&bed, &spec).await);
    let spec = MachineSpec { incarnation: 2, ..spec };
    let run = files::run(&spec.dir, spec.incarnation);
    let killer = async {
        until("process", || pid_of(&run, "vmm").is_some()).await;
        let pid = bed.process(&spec, "vmm");
        if !is_gone(pid) {
            kill(pid, Signal::KILL);
        }
    };
    let launch = bed.hypervisor.launch(&spec, Origin::Snapshot(snapshot.clone()));
    match tokio::join!(launch, killer).0 {
        Ok(mut launched) => assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9)),
        Err(
            HypervisorError::Launch { .. }
            | HypervisorError::Disconnected { .. }
            | HypervisorError::File { .. },
        ) => {
            let adopted = bed.hypervisor.adopt(&spec).await.expect("adopt");
            assert!(matches!(adopted, Adopted::Exited { .. }));
        }
        Err(error) => panic!("{error:?}"),
    }
    let spec = MachineSpec { incarnation: 3, ..spec };
    let seen = heartbeats(&spec).len();
    let launched = bed.hypervisor.launch(&spec, Origin::Snapshot(snapshot)).await.expect("restore");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, seen).await;
    assert_no_gap(&spec);
    Outcome::Passed
}

/// Launches a machine with a disk, pauses and saves it.
async fn source(bed: &Bed, name: &str) -> Result<(Launched, MachineSpec, PathBuf), Outcome> {
    let spec = with_disk(bed, bed.spec(name));
    let launched = bed.ready(&spec).await;
    let to = spec.dir.join("snapshot");
    launched.vm.pause().await.expect("pause");
    saved(bed, &spec, &launched, &to).await?;
    Ok((launched, spec, to))
}

/// Adds a disk of its own to a machine.
fn with_disk(bed: &Bed, spec: MachineSpec) -> MachineSpec {
    let path = bed.path(&format!("disk-of-{}", spec.name));
    fs::write(&path, vec![0; 1 << 20]).expect("disk");
    MachineSpec { disks: vec![Disk { path, read_only: false }], ..spec }
}

async fn a_fork_runs_beside_its_source_from_the_same_heartbeat(bed: Arc<Bed>) -> Outcome {
    let (launched, source, snapshot) = here!(source(&bed, "source").await);
    launched.vm.resume().await.expect("the source goes on after it was saved");
    let fork = with_disk(&bed, bed.spec("fork"));
    let memory = fs::canonicalize(&snapshot).expect("snapshot").join("memory");
    let forked =
        bed.hypervisor.launch(&fork, Origin::Snapshot(snapshot.clone())).await.expect("fork");
    let maps = fs::read_to_string(format!("/proc/{}/maps", forked.pid)).expect("maps");
    let shared = maps
        .lines()
        .any(|line| line.contains(" rw-p ") && line.ends_with(memory.to_str().expect("UTF-8")));
    assert_eq!(
        shared,
        bed.hypervisor.describe().capabilities.has(Capability::SharedMemory),
        "{maps}"
    );
    fs::remove_dir_all(&snapshot).expect("it is not needed any more");
    forked.vm.resume().await.expect("resume");
    heartbeat_after(&fork, 1).await;
    let first = heartbeats(&fork)[0];
    let count = heartbeats(&source).len();
    assert!(heartbeats(&source).contains(&first) && first > 2);
    heartbeat_after(&source, count).await;
    heartbeat_after(&fork, heartbeats(&fork).len()).await;
    assert_no_gap(&source);
    Outcome::Passed
}

async fn a_fork_gets_no_disk_that_its_source_writes_to(bed: Arc<Bed>) -> Outcome {
    let (launched, source, snapshot) = here!(source(&bed, "source").await);
    launched.vm.resume().await.expect("resume");
    let fork = MachineSpec { disks: source.disks.clone(), ..bed.spec("fork") };
    let error = bed.hypervisor.launch(&fork, Origin::Snapshot(snapshot)).await.err();
    assert!(matches!(error, Some(HypervisorError::DiskInUse { .. })), "{error:?}");
    heartbeat_after(&source, heartbeats(&source).len()).await;
    Outcome::Passed
}

async fn many_forks_are_launched_at_once(bed: Arc<Bed>) -> Outcome {
    let (launched, source, snapshot) = here!(source(&bed, "source").await);
    launched.vm.resume().await.expect("resume");
    let forks: Vec<_> = (0..5).map(|n| with_disk(&bed, bed.spec(&format!("fork-{n}")))).collect();
    let launches =
        forks.iter().map(|fork| bed.hypervisor.launch(fork, Origin::Snapshot(snapshot.clone())));
    let launched = futures::future::try_join_all(launches).await.expect("all of them");
    for (fork, launched) in forks.iter().zip(&launched) {
        launched.vm.resume().await.expect("resume");
        heartbeat_after(fork, 0).await;
        assert_eq!(heartbeats(fork)[0], heartbeats(&forks[0])[0]);
    }
    heartbeat_after(&source, heartbeats(&source).len()).await;
    Outcome::Passed
}

async fn a_fork_of_another_shape_is_refused(bed: Arc<Bed>) -> Outcome {
    let (_launched, _, snapshot) = here!(source(&bed, "source").await);
    let fork = bed.spec("fork");
    let without_disk = |defect: &SnapshotDefect| matches!(defect, SnapshotDefect::Mismatch { .. });
    check_defect(&bed, &fork, &snapshot, without_disk).await;
    check_shapes(&bed, &MachineSpec { vcpus: 3, ..with_disk(&bed, fork) }, &snapshot).await;
    Outcome::Passed
}

async fn a_fork_outlives_its_source(bed: Arc<Bed>) -> Outcome {
    let (mut launched, _, snapshot) = here!(source(&bed, "source").await);
    let fork = with_disk(&bed, bed.spec("fork"));
    let forked = bed.hypervisor.launch(&fork, Origin::Snapshot(snapshot)).await.expect("fork");
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    forked.vm.resume().await.expect("resume");
    heartbeat_after(&fork, 2).await;
    Outcome::Passed
}
