//! Every hypervisor of this host through all operations, each fact at the instant of its act. The
//! conformance suite reports which hypervisors those are.

use rustix::process::Signal;
use serde_json::{Value, json};
use tallyman::clock::boottime_ns;
use tallyman_tests::aloud::saves_not;
use tallyman_tests::daemon::{Daemon, Handle};
use tallyman_tests::deadline::eventually;

use crate::daemon;

/// Names of the hypervisors of this host.
pub(crate) fn here(daemon: &Daemon) -> Vec<String> {
    let all =
        daemon.api().get("/capabilities").done()["hypervisors"].as_array().expect("a list").clone();
    let available = all.iter().filter(|one| one["available"] == json!(true));
    let names: Vec<_> =
        available.map(|one| one["name"].as_str().expect("a name").to_owned()).collect();
    assert!(names.len() >= 2, "QEMU is on every host: {names:?}");
    names
}

/// Creates an instance with a hypervisor and waits until it runs.
pub(crate) fn create(daemon: &Daemon, hypervisor: &str) -> String {
    let new = json!({
        "name": format!("on-{hypervisor}"), "image": "tiny", "cmdline": format!("vmm={hypervisor}"),
        "hypervisor": hypervisor, "stop_grace_ms": 5000,
    });
    let id = daemon.api().post("/instances", &new).done()["id"].as_str().expect("an id").to_owned();
    daemon.api().wait(&id, "Running");
    id
}

/// An instance whose facts are checked as they come.
struct Life<'a> {
    daemon: &'a Daemon,
    id: String,
    seen: usize,
}

impl Life<'_> {
    /// Runs `act`; returns the phases to which it led, each of which was entered meanwhile.
    fn led_to(&mut self, act: impl FnOnce(&Daemon, &str)) -> Vec<String> {
        let before = boottime_ns();
        act(self.daemon, &self.id);
        let after = boottime_ns();
        let facts = self.daemon.api().facts(&self.id);
        let entered: Vec<_> =
            facts.iter().filter(|fact| fact["phase"].is_string()).skip(self.seen).collect();
        self.seen += entered.len();
        let instants: Vec<_> =
            entered.iter().map(|fact| fact["boottime_ns"].as_u64().expect("ns")).collect();
        assert!(instants.is_sorted());
        assert!(
            instants.iter().all(|&at| before <= at && at <= after),
            "{facts:?} from {before} to {after}"
        );
        self.daemon.api().check_time(&self.id);
        entered.iter().filter_map(|fact| Some(fact["phase"].as_str()?.to_owned())).collect()
    }

    fn command(&mut self, command: &str, state: &str, phases: &[&str]) {
        let act = |daemon: &Daemon, id: &str| {
            daemon.api().command(id, command);
            daemon.api().wait(id, state);
        };
        assert_eq!(self.led_to(act), phases, "{command}");
    }
}

#[test]
fn every_fact_of_every_hypervisor_is_at_its_instant() {
    let daemon = daemon();
    for hypervisor in here(&daemon) {
        live(&daemon, &hypervisor);
    }
    daemon.check_no_machines();
}

fn live(daemon: &Daemon, hypervisor: &str) {
    let before = boottime_ns();
    let id = create(daemon, hypervisor);
    let first = daemon.api().facts(&id);
    assert!(first.iter().all(|fact| fact["boottime_ns"].as_u64().expect("ns") >= before));
    let mut life = Life { daemon, id, seen: 3 };
    life.command("pause", "Paused", &["paused"]);
    life.command("resume", "Running", &["running"]);
    if standby_works(&mut life, hypervisor) {
        life.command("restore", "Running", &["paused", "running"]);
        assert_no_gap(daemon, &life.id);
    }
    life.command("stop", "Stopped", &["shutdown", "stopped"]);
    assert_eq!(daemon.api().instance(&life.id)["stop_cause"], json!("requested"));
    let boot = ["created", "initializing", "running"];
    for (what, cause, end) in [
        ("the guest powers off", "guest", type_key as fn(&Daemon, &str, char)),
        ("its monitor is killed", "crashed", |daemon, id, _| kill_vmm(daemon, id)),
    ] {
        life.command("start", "Running", &boot);
        let stopped = |daemon: &Daemon, id: &str| {
            end(daemon, id, 'q');
            daemon.api().wait(id, "Stopped");
        };
        assert_eq!(life.led_to(stopped), ["stopped"], "{what}");
        assert_eq!(
            daemon.api().instance(&life.id)["stop_cause"],
            json!(cause),
            "{hypervisor}: {what}"
        );
    }
    daemon.api().delete(&format!("/instances/{}", life.id)).done();
}

/// Puts the instance into standby; if its monitor can't save on this host, checks that the instance
/// runs on and that the facts record it.
fn standby_works(life: &mut Life<'_>, hypervisor: &str) -> bool {
    let path = format!("/instances/{}/standby", life.id);
    let mut status = 0;
    let act = |daemon: &Daemon, _: &str| {
        let answer = daemon.api().act(&path);
        status = answer.status;
        if status != 200 {
            let told = answer.body["message"].as_str().expect("a message");
            assert!(
                status == 502 && told.contains("GetNestedState") && !told.contains('\n'),
                "{told}"
            );
            saves_not(hypervisor, told);
        }
    };
    let before = life.daemon.heartbeats(&life.id).len();
    let phases = life.led_to(act);
    match status {
        200 => assert_eq!(phases, ["paused", "standby"]),
        _ => {
            assert_eq!(phases, ["paused", "running"]);
            beats(life.daemon, &life.id, before);
            assert_no_gap(life.daemon, &life.id);
        }
    }
    status == 200
}

fn type_key(daemon: &Daemon, id: &str, key: char) {
    daemon.type_to(id, key);
}

/// Kills the virtual machine monitor of an instance; its supervisor reports the exit.
pub(crate) fn kill_vmm(daemon: &Daemon, id: &str) {
    let newest = daemon.launches(id).pop().expect("a launch");
    let run = tallyman::hypervisor::files::run(&daemon.instance(id), newest);
    let pid = tallyman_tests::machine::pid_of(&run, "vmm").expect("identity");
    tallyman_tests::machine::kill(pid, Signal::KILL);
}

/// Waits until a guest has written more lines than `count`.
fn beats(daemon: &Daemon, id: &str, count: usize) {
    eventually("heartbeat", || (daemon.heartbeats(id).len() > count).then_some(()));
}

fn assert_no_gap(daemon: &Daemon, id: &str) {
    let numbers = daemon.heartbeats(id);
    assert!(numbers.iter().zip(1..).all(|(&number, expected)| number == expected), "{numbers:?}");
}

#[test]
fn machines_of_every_hypervisor_outlive_the_daemon_and_their_ends_are_on_record() {
    let mut daemon = daemon();
    let names = here(&daemon);
    let ids: Vec<_> = names.iter().map(|hypervisor| create(&daemon, hypervisor)).collect();
    let (ending, living) = ids.split_at(ids.len() / 2);
    daemon.kill();
    let down = boottime_ns();
    for id in ending {
        let handles: Vec<_> = daemon.machines_of(id).into_iter().map(Handle::of).collect();
        daemon.type_to(id, 'q');
        handles.iter().for_each(Handle::wait);
    }
    let counts: Vec<_> = living.iter().map(|id| daemon.heartbeats(id).len()).collect();
    for (id, count) in living.iter().zip(counts) {
        beats(&daemon, id, count + 1);
    }
    let up = boottime_ns();
    daemon.start_again();
    for id in ending {
        daemon.api().wait(id, "Stopped");
        let facts = daemon.api().facts(id);
        let stopped =
            facts.iter().rev().find(|fact| fact["phase"] == json!("stopped")).expect("a fact");
        let at = stopped["boottime_ns"].as_u64().expect("ns");
        assert!(down <= at && at <= up, "{stopped}");
        assert_eq!(daemon.api().instance(id)["stop_cause"], json!("guest"));
        daemon.api().check_time(id);
    }
    for id in living {
        daemon.api().wait(id, "Running");
        daemon.api().command(id, "pause");
        daemon.api().command(id, "resume");
        assert_no_gap(&daemon, id);
        assert_eq!(
            daemon.api().phases(id),
            ["created", "initializing", "running", "paused", "running"]
        );
    }
}

#[test]
fn who_can_not_give_a_machine_memory_names_who_can_and_nobody_takes_any_away() {
    let daemon = daemon();
    let api = daemon.api();
    let all = api.get("/capabilities").done()["hypervisors"].as_array().expect("a list").clone();
    let able = all.iter().filter(|one| one["capabilities"]["memory_resize"] == json!(true));
    let able: Vec<_> = able.map(|one| one["name"].as_str().expect("a name")).collect();
    for hypervisor in here(&daemon) {
        let can = able.contains(&hypervisor.as_str());
        let new = json!({
            "name": hypervisor, "image": "tiny", "cmdline": format!("vmm={hypervisor}"),
            "hypervisor": hypervisor,
            "size": "32MB", "memory_bytes_max": can.then_some(160 << 20),
        });
        let id = api.post("/instances", &new).done()["id"].as_str().expect("an id").to_owned();
        api.wait(&id, "Running");
        let told = || (api.instance(&id)["memory_bytes"].clone(), api.facts(&id));
        let before = told();
        let resize =
            |size: &str| api.post(&format!("/instances/{id}/resize"), &json!({"size": size}));
        if can {
            resize("16MB").refused(400, "invalid", "or more, what it booted with");
        } else {
            for size in ["16MB", "160MB"] {
                let refused = resize(size).refused(
                    409,
                    "unsupported",
                    &format!("{hypervisor} can't make the memory"),
                );
                let named = refused["message"].as_str().expect("a message");
                assert!(able.iter().all(|one| named.contains(one)), "{named}");
            }
        }
        assert_eq!(told(), before, "{hypervisor}");
    }
}

#[test]
fn an_unknown_hypervisor_is_answered_with_those_that_are_here() {
    let daemon = daemon();
    let new = json!({"name": "a", "image": "tiny", "hypervisor": "abacus"});
    let refused = daemon.api().post("/instances", &new);
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("no_such_hypervisor")));
    let told = refused.body["message"].as_str().expect("a message");
    assert!(here(&daemon).iter().all(|name| told.contains(name.as_str())), "{told}");
    let shown = daemon.cli(&["capabilities"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(here(&daemon).iter().all(|name| shown.contains(name.as_str())), "{shown}");
    assert!(shown.contains("qemu (default)") && shown.contains("memory_resize"), "{shown}");
    let json: Value =
        serde_json::from_slice(&daemon.cli(&["capabilities", "--json"]).stdout).expect("JSON");
    assert_eq!(json["hypervisors"][0]["name"], json!("qemu"));
}
