//! Faults from outside the program: syncs that fail, processes that are frozen, sockets that are
//! removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tallyman::hypervisor::files;
use tallyman_tests::aloud;
use tallyman_tests::daemon::{Api, Daemon, Request};
use tallyman_tests::deadline::eventually;
use tallyman_tests::machine::pid_of;

use crate::daemon;

/// Makes the `nth` sync from now on of each thread of a process fail, and all after it; none if
/// this machine does not allow that.
fn failing_syncs(pid: u32, nth: u32) -> Result<Child, String> {
    let inject = format!("inject=fdatasync,fsync:error=EIO:when={nth}+");
    let mut strace = Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", &inject])
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("strace: {error}; Debian: apt install strace"))?;
    let is_traced = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    let attached = eventually("tracer of each thread", || {
        if let Some(status) = strace.try_wait().expect("a child of ours") {
            return Some(Err(format!("strace can't attach to a process here: {status}")));
        }
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
        let mut tasks = tasks.map(|task| task.expect("a task").path());
        tasks.all(is_traced).then_some(Ok(()))
    });
    attached.map(|()| strace)
}

/// Makes tokens until the daemon answers no more. Returns the names that were acknowledged.
fn make_tokens(api: &Api, round: u32) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let name = format!("t{round}-{number}");
        let body = json!({"name": name, "role": "metrics", "tenant": "default"}).to_string();
        let content_type = Some("application/json");
        let path = "/tokens";
        let body = body.into_bytes();
        let request = Request { method: "POST", path, authorization: None, content_type, body };
        let Some(answer) = api.try_send(&request) else { break };
        assert!(number < 1_000, "the daemon goes on without its disk");
        if answer.status == 201 {
            acknowledged.push(name);
        }
    }
    acknowledged
}

fn recorded_tokens(api: &Api) -> Vec<String> {
    let page = api.get("/journal?kind=token-created&limit=1000").done();
    let facts = page["facts"].as_array().expect("facts").iter();
    facts.map(|fact| fact["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_sync_that_fails_ends_the_daemon_and_what_it_acknowledged_is_there() {
    let mut daemon = daemon();
    let mut acknowledged = Vec::new();
    for nth in [1, 2, 7] {
        let mut strace = match failing_syncs(daemon.pid(), nth) {
            Ok(strace) => strace,
            Err(why) => return aloud::say(&format!("failing syncs NOT RUN: {why}")),
        };
        acknowledged.extend(make_tokens(daemon.api(), nth));
        let status = daemon.ended();
        strace.wait().expect("it ends with the daemon");
        assert!(!status.success(), "{status}");
        assert!(daemon.said().contains("sync"), "{}", daemon.said());
        daemon.start_again();
        let recorded = recorded_tokens(daemon.api());
        let lost: Vec<_> = acknowledged.iter().filter(|name| !recorded.contains(name)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        daemon.prove_journal();
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged before the seventh sync");
}

/// A control group whose processes are frozen. Dropping it lets them go on.
struct Frozen(PathBuf);

impl Frozen {
    fn new(pid: Pid) -> Result<Self, String> {
        let group = format!("/sys/fs/cgroup/freezer/tallyman-{}", std::process::id());
        let group = Path::new(&group);
        let failed = |error: std::io::Error| format!("{}: {error}", group.display());
        fs::create_dir(group).map_err(failed)?;
        let frozen = Self(group.into());
        let pid = pid.as_raw_nonzero().to_string();
        fs::write(group.join("cgroup.procs"), pid).map_err(failed)?;
        fs::write(group.join("freezer.state"), "FROZEN").map_err(failed)?;
        eventually("frozen group", || {
            let state = fs::read_to_string(group.join("freezer.state")).expect("a state");
            (state.trim() == "FROZEN").then_some(())
        });
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let root = Path::new("/sys/fs/cgroup/freezer/cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(root, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// The process of an instance's newest launch: `vmm` or `supervisor`.
fn process(daemon: &Daemon, id: &str, role: &str) -> Pid {
    let newest = daemon.launches(id).pop().expect("a launch");
    let pid = pid_of(&files::run(&daemon.instance(id), newest), role).expect("identity");
    Pid::from_raw(pid.cast_signed()).expect("a process id")
}

/// A machine that can't answer is paused by nobody's word: the request fails, and the fact comes
/// with the event.
fn answers_late(daemon: &Daemon, id: &str, go_on: impl FnOnce()) {
    let api = daemon.api();
    let answer = api.act(&format!("/instances/{id}/pause"));
    assert!(answer.status >= 500, "{answer:?}");
    assert_eq!(api.instance(id)["state"], json!("Running"));
    eventually("word of the halted process", || {
        (api.get("/health").done()["halted"] == json!(1)).then_some(())
    });
    go_on();
    eventually("pause", || {
        let answer = api.act(&format!("/instances/{id}/pause"));
        (answer.status == 200 || api.instance(id)["state"] == json!("Paused")).then_some(())
    });
    api.command(id, "resume");
    api.check_time(id);
}

#[test]
fn a_frozen_machine_is_paused_when_it_is_and_not_when_it_is_asked() {
    let daemon = daemon();
    let id = daemon.api().create_running("frozen");
    let vmm = process(&daemon, &id, "vmm");
    match Frozen::new(vmm) {
        Ok(frozen) => answers_late(&daemon, &id, || drop(frozen)),
        Err(why) => aloud::say(&format!("a frozen control group NOT RUN: {why}")),
    }
    kill_process(vmm, Signal::STOP).expect("it lives");
    answers_late(&daemon, &id, || kill_process(vmm, Signal::CONT).expect("it lives"));
}

#[test]
fn an_exit_that_a_stopped_supervisor_tells_late_counts_when_it_was() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("late");
    let supervisor = process(&daemon, &id, "supervisor");
    kill_process(supervisor, Signal::STOP).expect("it lives");
    let before = tallyman::clock::boottime_ns();
    kill_process(process(&daemon, &id, "vmm"), Signal::KILL).expect("it lives");
    daemon.stop();
    daemon.start_again();
    kill_process(supervisor, Signal::CONT).expect("it lives");
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let last = api.facts(&id).pop().expect("facts");
    let at = last["boottime_ns"].as_u64().expect("a number");
    assert!(before <= at && at <= tallyman::clock::boottime_ns(), "{before} {last}");
    api.check_time(&id);
}

#[test]
fn a_machine_whose_socket_is_gone_is_shown_and_can_be_ended() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("deaf");
    let newest = daemon.launches(&id).pop().expect("a launch");
    let run = files::run(&daemon.instance(&id), newest);
    daemon.stop();
    fs::remove_file(run.join("ctl")).expect("a socket");
    daemon.start_again();
    let api = daemon.api();
    let shown = eventually("error of the instance", || {
        let shown: Value = api.instance(&id);
        shown["state_error"].is_string().then_some(shown)
    });
    assert_eq!(shown["state"], json!("Running"), "{shown}");
    api.command(&id, "stop");
    api.wait(&id, "Stopped");
    daemon.check_no_machines_of(&id);
    api.check_time(&id);
}
