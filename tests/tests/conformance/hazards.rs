//! Known faults of hypervisors, and the guards against them.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tallyman::hypervisor::{
    Adopted, HypervisorError, Kind, MachineSpec, Observed, Origin, VmState, files,
};
use tallyman_tests::daemon::NONBLOCK;
use tallyman_tests::machine::{
    Bed, console_has, exit, gone, heartbeat_after, heartbeats, kill, next, type_on_console,
};

use super::snapshots::{NO_NESTED_STATE, unsaved};
use super::{Outcome, Try, attempt};

/// A known fault, and its trial.
pub(crate) struct Hazard {
    /// The property that is guarded.
    pub(crate) name: &'static str,
    /// Hypervisors on which it could occur.
    pub(crate) kinds: &'static [Kind],
    attempt: fn() -> Result<Try, &'static str>,
}

impl Hazard {
    /// The trial; none where it can't be tried.
    pub(crate) fn attempt(&self) -> Option<Try> {
        (self.attempt)().ok()
    }
}

/// Every hazard that is not part of an operation.
pub(crate) const ALL: [Hazard; 7] = [
    Hazard {
        name: "a vmm that nobody wrote down",
        kinds: &Kind::ALL,
        attempt: || {
            attempt!(a_vmm_that_nobody_wrote_down_is_ended_before_it_counts_as_never_launched)
        },
    },
    Hazard {
        name: "a snapshot that the vmm refuses",
        kinds: &Kind::ALL,
        attempt: || attempt!(a_snapshot_that_the_vmm_itself_refuses_leaves_no_process_and_says_why),
    },
    Hazard {
        name: "a stranger on the control socket",
        kinds: &[Kind::Qemu, Kind::QemuMicrovm],
        attempt: || attempt!(a_stranger_that_holds_a_control_connection_does_not_hold_us_up),
    },
    Hazard {
        name: "memory that was left out",
        kinds: &[Kind::Firecracker],
        attempt: || attempt!(what_is_written_in_a_hundredth_of_the_time_is_all_of_the_memory),
    },
    Hazard {
        name: "a kernel without the note",
        kinds: &[Kind::Firecracker],
        attempt: || attempt!(a_kernel_without_the_note_is_booted_by_its_64_bit_entry),
    },
    Hazard {
        name: "death by broken pipe",
        kinds: &[Kind::Firecracker],
        attempt: || attempt!(what_nobody_reads_any_more_neither_ends_the_vmm_nor_holds_it_up),
    },
    Hazard {
        name: "an old log keeps its tail",
        kinds: &Kind::ALL,
        attempt: || attempt!(a_short_launch_adds_to_the_logs_of_a_long_one_and_overwrites_nothing),
    },
];

/// Capacity of a pipe in bytes.
const PIPE_BYTES: usize = 64 << 10;

/// Least number of bytes that Firecracker logs per call.
const CALL_LOG_BYTES_MIN: usize = 64;

/// File descriptor on which a VMM finds its log.
const LOG_FD: i32 = 103;

/// Checksum of a snapshot's file, as the program's documentation defines it.
fn checksum(bytes: &[u8]) -> String {
    let mut whole = Sha256::new();
    for (number, chunk) in (0_u64..).zip(bytes.chunks(256 << 10)) {
        if chunk.iter().any(|&byte| byte != 0) {
            whole.update(number.to_le_bytes());
            whole.update(Sha256::digest(chunk));
        }
    }
    whole.update((bytes.len() as u64).to_le_bytes());
    hex::encode(whole.finalize())
}

/// Replaces a file of a snapshot, with a matching manifest.
fn replace(snapshot: &Path, name: &str, bytes: &[u8]) {
    let path = snapshot.join("manifest.json");
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(&path).expect("manifest")).expect("JSON");
    assert_eq!(
        manifest["files"][name]["sha256"],
        checksum(&fs::read(snapshot.join(name)).expect("read")),
        "{name}"
    );
    manifest["files"][name] = json!({ "bytes": bytes.len(), "sha256": checksum(bytes) });
    fs::write(snapshot.join(name), bytes).expect("replace");
    fs::write(path, manifest.to_string()).expect("vouch");
}

/// Makes a snapshot of a machine that has ended; the outcome if the VMM can't write one on this
/// host.
async fn snapshot(bed: &Bed, spec: &MachineSpec) -> Result<PathBuf, Outcome> {
    let mut launched = bed.ready(spec).await;
    let to = spec.dir.join("snapshot");
    launched.vm.pause().await.expect("pause");
    let saved = launched.vm.save(&to).await;
    launched.vm.quit().await.expect("quit");
    exit(&mut launched).await;
    match saved {
        Ok(_) => Ok(to),
        Err(HypervisorError::Save { reason }) if reason.contains(NO_NESTED_STATE) => {
            Err(unsaved(bed, &reason))
        }
        Err(error) => panic!("{error:?}"),
    }
}

async fn a_vmm_that_nobody_wrote_down_is_ended_before_it_counts_as_never_launched(
    bed: Arc<Bed>,
) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.hypervisor.launch(&spec, Origin::Boot).await.expect("launch");
    let pid = launched.pid;
    let supervisor = bed.process(&spec, "supervisor");
    drop(launched);
    kill(supervisor, Signal::KILL);
    gone(supervisor).await;
    let identity = files::run(&spec.dir, spec.incarnation).join("identity.json");
    fs::remove_file(identity).expect("as if it had been killed earlier");
    assert!(matches!(bed.hypervisor.adopt(&spec).await.expect("adopt"), Adopted::NeverLaunched));
    gone(pid).await;
    assert!(matches!(bed.hypervisor.adopt(&spec).await.expect("adopt"), Adopted::NeverLaunched));
    Outcome::Passed
}

async fn a_snapshot_that_the_vmm_itself_refuses_leaves_no_process_and_says_why(
    bed: Arc<Bed>,
) -> Outcome {
    let spec = bed.spec("one");
    let snapshot = match snapshot(&bed, &spec).await {
        Ok(snapshot) => snapshot,
        Err(outcome) => return outcome,
    };
    let beats = heartbeats(&spec);
    let victim = match bed.kind {
        Kind::Qemu | Kind::QemuMicrovm => "memory",
        Kind::CloudHypervisor => "state.json",
        Kind::Firecracker => "state",
    };
    let whole = fs::read(snapshot.join(victim)).expect("read");
    for (n, nonsense) in
        [vec![0x5a; whole.len()], whole[..whole.len() / 2].to_vec()].into_iter().enumerate()
    {
        replace(&snapshot, victim, &nonsense);
        let spec =
            MachineSpec { incarnation: 2 + u32::try_from(n).expect("small"), ..spec.clone() };
        let error = bed.hypervisor.launch(&spec, Origin::Snapshot(snapshot.clone())).await.err();
        let told =
            matches!(error, Some(HypervisorError::Refused { .. } | HypervisorError::Launch { .. }));
        assert!(told, "{error:?}");
        gone(bed.process(&spec, "vmm")).await;
    }
    assert_eq!(heartbeats(&spec), beats, "a guest ran");
    Outcome::Passed
}

async fn a_stranger_that_holds_a_control_connection_does_not_hold_us_up(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let launched = bed.ready(&spec).await;
    let control = files::run(&spec.dir, spec.incarnation).join("ctl");
    let stranger = UnixStream::connect(control).expect("connect");
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    stranger.set_nonblocking(true).expect("a socket");
    assert!((&stranger).read(&mut [0; 1]).is_err(), "it is not served");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    Outcome::Passed
}

async fn what_is_written_in_a_hundredth_of_the_time_is_all_of_the_memory(bed: Arc<Bed>) -> Outcome {
    let large = |name| MachineSpec { memory_bytes: 64 << 20, ..bed.spec(name) };
    let spec = large("one");
    let launched = bed.ready(&spec).await;
    let control = files::run(&spec.dir, spec.incarnation).join("ctl");
    let vmm = tallyman::tls::plain_client().unix_socket(control).build().expect("a client");
    for round in ["first", "second"] {
        heartbeat_after(&spec, heartbeats(&spec).len() + 1).await;
        launched.vm.pause().await.expect("pause");
        let ours = spec.dir.join(round);
        launched.vm.save(&ours).await.expect("save");
        let state = spec.dir.join("full-state");
        let memory = spec.dir.join(format!("full-{round}"));
        let body =
            json!({ "snapshot_type": "Full", "snapshot_path": state, "mem_file_path": memory });
        let answer = vmm
            .put("http://localhost/snapshot/create")
            .json(&body)
            .send()
            .await
            .expect("an answer");
        assert!(answer.status().is_success());
        let ours = fs::read(ours.join("memory")).expect("ours");
        let full = fs::read(memory).expect("full");
        assert_eq!(full.len() as u64, spec.memory_bytes);
        assert!(ours == full, "{round}: it left something out");
        launched.vm.resume().await.expect("resume");
    }
    // A machine on a snapshot's memory has only part of its own present.
    let child = large("child");
    let grandchild = large("grandchild");
    let launched = bed
        .hypervisor
        .launch(&child, Origin::Snapshot(spec.dir.join("second")))
        .await
        .expect("fork");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&child, 1).await;
    launched.vm.pause().await.expect("pause");
    launched.vm.save(&child.dir.join("third")).await.expect("save");
    let launched = bed
        .hypervisor
        .launch(&grandchild, Origin::Snapshot(child.dir.join("third")))
        .await
        .expect("fork");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&grandchild, 0).await;
    assert!(heartbeats(&grandchild)[0] > heartbeats(&child)[0]);
    Outcome::Passed
}

async fn a_kernel_without_the_note_is_booted_by_its_64_bit_entry(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec("one");
    let kernel = bed.path("kernel");
    let mut bytes = fs::read(&spec.kernel).expect("the guest");
    let note = bytes.windows(4).position(|window| window == b"Xen\0").expect("a note");
    bytes[note] = b'Y';
    fs::write(&kernel, bytes).expect("write");
    bed.ready(&MachineSpec { kernel, ..spec }).await;
    Outcome::Passed
}

async fn what_nobody_reads_any_more_neither_ends_the_vmm_nor_holds_it_up(bed: Arc<Bed>) -> Outcome {
    let spec = bed.spec_with("one", "flood");
    let mut launched = bed.running(&spec).await;
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
    console_has(&spec, "flood").await;
    let supervisor = bed.process(&spec, "supervisor");
    kill(supervisor, Signal::KILL);
    gone(supervisor).await;
    // Each call is logged.
    for _ in 0..PIPE_BYTES / CALL_LOG_BYTES_MIN {
        assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    }
    let wire = format!("/proc/{}/fd/{LOG_FD}", launched.pid);
    let mut log = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(wire).expect("the log");
    let mut bytes = Vec::new();
    let end = io::ErrorKind::WouldBlock;
    assert_eq!(
        log.read_to_end(&mut bytes).map_err(|error| error.kind()),
        Err(end),
        "the VMM holds its end"
    );
    assert!(bytes.len() > PIPE_BYTES - 4_096, "it is not full: {}", bytes.len());
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    Outcome::Passed
}

async fn a_short_launch_adds_to_the_logs_of_a_long_one_and_overwrites_nothing(
    bed: Arc<Bed>,
) -> Outcome {
    let first = bed.spec("one");
    let second = MachineSpec { incarnation: 2, ..first.clone() };
    let mut launched = bed.ready(&first).await;
    type_on_console(&first, "lonly in the first\n");
    console_has(&first, "only in the first\r\n").await;
    heartbeat_after(&first, heartbeats(&first).len() + 5).await;
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    let logs = [
        files::console_log(&first.dir),
        files::vmm_log(&first.dir),
        files::run(&first.dir, first.incarnation).join("events.jsonl"),
    ];
    let before = logs.each_ref().map(|log| fs::read(log).expect("a log"));

    let mut launched = bed.running(&second).await;
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
    assert!(matches!(next(&mut launched).await, Observed::AgentReady(_)));
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    let [console, log, events] = logs.each_ref().map(|log| fs::read(log).expect("a log"));
    assert_eq!(events, before[2], "the folder of a launch is its own");
    let added = |log: &[u8], before: &[u8]| {
        let added =
            log.strip_prefix(before).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(log)));
        String::from_utf8_lossy(added).into_owned()
    };
    let console = added(&console, &before[0]);
    let log = added(&log, &before[1]);
    assert_eq!(console.matches("PROGRAM-START").count(), 1, "{console}");
    assert!(console.len() < before[0].len() && !console.contains("only in the first"), "{console}");
    assert!(!log.contains("one-1"), "a name of the first launch: {log}");
    Outcome::Passed
}
