//! Boots of the host with every behaviour of clocks: behind, ahead, stepped, corrected after days.
//!
//! The real program runs with another boot id, another time since boot (a time namespace), and
//! another wall clock (libfaketime). The kernel's knowledge that the wall clock is right can't be
//! faked: a host that is configured to trust its clock stands for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::getuid;
use serde_json::{Value, json};
use tallyman_tests::daemon::{Api, Daemon};
use tallyman_tests::deadline::eventually;
use tempfile::TempDir;

use crate::PROGRAM;

/// Age of each boot when the daemon is first started in it, in seconds.
const BOOT_AGE_S: i64 = 60;

/// Most seconds that a start or two may take.
const TAKES_S_MAX: i64 = 40;

const DAY_S: i64 = 86_400;

/// A host that can be booted with any clock.
struct Host {
    clocks: TempDir,
    daemon: Option<Daemon>,
    folder: Option<TempDir>,
    /// Number of the present boot, and the offset of its clock from ours, in seconds: it goes on
    /// while the daemon is down.
    present: Option<(u32, i64)>,
}

/// One boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Boot {
    /// Number of the boot.
    boot: u32,
    /// Seconds by which the wall clock is ahead of ours.
    ahead_s: i64,
    /// Set if the wall clock is known to be right.
    is_right: bool,
}

const fn boot(boot: u32, ahead_s: i64, is_right: bool) -> Boot {
    Boot { boot, ahead_s, is_right }
}

impl Host {
    fn new() -> Self {
        let clocks = tempfile::tempdir().expect("a folder");
        let script = clocks.path().join("daemon");
        fs::write(&script, Self::script(clocks.path())).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("it can be run");
        Self {
            clocks,
            daemon: None,
            folder: Some(tempfile::tempdir().expect("a folder")),
            present: None,
        }
    }

    /// The script in place of the program: it enters the boot first.
    fn script(clocks: &Path) -> String {
        let clocks = clocks.display();
        let map = if getuid().is_root() { "" } else { "--map-root-user" };
        format!(
            "#!/bin/sh\n\
             . {clocks}/boot\n\
             exec unshare {map} --mount --time --boottime \"$OFFSET\" sh -c '\
             mount --bind {clocks}/boot_id /proc/sys/kernel/random/boot_id && \
             exec env TALLYMAN_TRUST_WALL_CLOCK=\"$TRUST\" TALLYMAN_CLOCK_WAIT_S=0 \
             LD_PRELOAD={faketime} FAKETIME_TIMESTAMP_FILE={clocks}/wall \
             FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
             {PROGRAM} \"$@\"' sh \"$@\"\n",
            faketime = faketime().display(),
        )
    }

    /// Starts the daemon in this boot.
    fn start(&mut self, boot: Boot) -> &Daemon {
        let uptime = fs::read_to_string("/proc/uptime").expect("this is Linux");
        let uptime_s: i64 =
            uptime.split('.').next().and_then(|text| text.parse().ok()).expect("seconds");
        let present = self.present.filter(|(number, _)| *number == boot.boot);
        let (_, offset) =
            *self.present.insert(present.unwrap_or((boot.boot, BOOT_AGE_S - uptime_s)));
        let write = |name: &str, text: String| {
            fs::write(self.clocks.path().join(name), text).expect("written")
        };
        write("boot", format!("export OFFSET={offset} TRUST={}\n", boot.is_right));
        write("boot_id", format!("00000000-0000-4000-8000-{:012}\n", boot.boot));
        self.set_wall(boot.ahead_s);
        match &mut self.daemon {
            Some(daemon) => daemon.start_again(),
            None => {
                let program = self.clocks.path().join("daemon");
                let folder = self.folder.take().expect("the first start");
                self.daemon = Some(Daemon::on(program.to_str().expect("a path"), folder));
            }
        }
        self.daemon()
    }

    /// Steps the wall clock, also for a running daemon.
    fn set_wall(&self, ahead_s: i64) {
        let aside = self.clocks.path().join("wall.new");
        fs::write(&aside, format!("{ahead_s:+}\n")).expect("written");
        fs::rename(aside, self.clocks.path().join("wall")).expect("renamed");
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it was started")
    }

    fn stop(&mut self) {
        self.daemon.as_mut().expect("it was started").stop();
    }

    /// Facts of the host of one kind.
    fn facts(&self, kind: &str) -> Vec<Value> {
        let page = self.daemon().api().get(&format!("/journal?kind={kind}&limit=1000")).done();
        page["facts"].as_array().expect("facts").clone()
    }

    fn await_step(&self) {
        eventually("step of the clock", || (!self.facts("clock-stepped").is_empty()).then_some(()));
    }

    /// The meter now, in seconds.
    fn meter_s(&self) -> i64 {
        let facts = self.daemon().api().get("/journal?kind=host-started&limit=1000").done();
        let last = facts["facts"]
            .as_array()
            .and_then(|facts| facts.last())
            .expect("it has started")
            .clone();
        last["meter_ns"].as_i64().expect("a number") / 1_000_000_000
    }
}

fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("this is Linux").flatten();
    let library = folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    library.expect("libfaketime; Debian: apt install faketime")
}

#[test]
fn the_meter_counts_between_boots_what_is_proved_and_says_the_rest() {
    let hour = 3_600;
    let month = 30 * DAY_S;
    // Rows: the boots in order; the seconds that the meter counts from the first start to the last;
    // the gaps.
    let rows: [(&str, &[Boot], i64, &[&str]); 7] = [
        ("down for days", &[boot(1, 0, true), boot(2, 3 * DAY_S, true)], 3 * DAY_S, &[]),
        ("down for an hour", &[boot(1, -month, true), boot(2, hour - month, true)], hour, &[]),
        (
            "behind, then right",
            &[boot(1, -month, false), boot(2, 0, true)],
            BOOT_AGE_S,
            &["never-synchronised"],
        ),
        (
            "right, then behind",
            &[boot(1, 0, true), boot(2, -month, false)],
            BOOT_AGE_S,
            &["not-synchronised"],
        ),
        (
            "right, then ahead",
            &[boot(1, 0, true), boot(2, 400 * DAY_S, false)],
            BOOT_AGE_S,
            &["not-synchronised"],
        ),
        (
            "right, then right and earlier",
            &[boot(1, 0, true), boot(2, -DAY_S, true)],
            BOOT_AGE_S,
            &["went-back"],
        ),
        (
            "right, behind, right",
            &[boot(1, 0, true), boot(2, -month, false), boot(2, 0, true), boot(3, hour, true)],
            BOOT_AGE_S + hour,
            &["not-synchronised"],
        ),
    ];
    for (what, boots, expected, gaps) in rows {
        let mut host = Host::new();
        let mut began = None;
        for &boot in boots {
            host.start(boot);
            began.get_or_insert_with(|| host.meter_s());
            if boot != *boots.last().expect("there is one") {
                host.stop();
            }
        }
        let passed = host.meter_s() - began.expect("it was started");
        assert!(
            (expected..=expected + TAKES_S_MAX).contains(&passed),
            "{what}: {passed} s, not {expected} s"
        );
        let reasons: Vec<_> =
            host.facts("time-unknown").iter().map(|fact| fact["reason"].clone()).collect();
        assert_eq!(json!(reasons), json!(gaps), "{what}");
    }
}

#[test]
fn a_clock_that_was_stepped_in_its_boot_bills_nobody_for_the_step() {
    let month = 30 * DAY_S;
    let mut host = Host::new();
    host.start(boot(1, -month, false));
    let began = host.meter_s();
    host.set_wall(0);
    host.await_step();
    host.stop();
    // The time service has started by now.
    host.start(boot(1, 0, true));
    host.stop();
    host.start(boot(2, 3_600, true));
    let passed = host.meter_s() - began;
    assert!((3_600..=3_600 + TAKES_S_MAX).contains(&passed), "{passed} s for an hour");
    assert_eq!(host.facts("time-unknown"), [] as [Value; 0]);
}

/// The prices of the example 18a of `docs/bill.md`.
const HELD: &str = r#"{"currency": "EUR", "prices": [
    {"id": "sleep", "rule": "sleep", "meter": "standby", "per": "instance-hour", "price": "0.02"},
    {"id": "off", "rule": "off", "meter": "stopped", "per": "instance-hour", "price": "0.001"}]}"#;

/// Puts two instances into standby and stops a third one.
fn hold_three(daemon: &Daemon) {
    daemon.import_tiny();
    let book: Value = serde_json::from_str(HELD).expect("JSON");
    daemon.api().put("/tenants/default/prices", &book).done();
    for (name, act, state) in
        [("a", "standby", "Standby"), ("b", "standby", "Standby"), ("c", "stop", "Stopped")]
    {
        let new = json!({"name": name, "image": "tiny"});
        daemon.api().post("/instances", &new).done();
        daemon.api().wait(name, "Running");
        daemon.api().command(name, act);
        daemon.api().wait(name, state);
    }
}

/// The settlement of a gap, as an operator asks for it.
fn word(missing: &str, dry: bool) -> Value {
    json!({"missing": missing, "reason": "no power", "dry_run": dry})
}

/// A gap of six hours is open in `/health`. Returns the number of its fact.
fn shown_gap(api: &Api) -> Value {
    let health = api.get("/health").done();
    assert_eq!(health["gaps"]["open"], json!(1), "{health}");
    let claimed_s = health["gaps"]["claimed_ns"].as_u64().expect("a number") / 1_000_000_000;
    let off_s = 6 * 3_600 - BOOT_AGE_S.unsigned_abs();
    let lasted = TAKES_S_MAX.unsigned_abs();
    assert!((off_s - lasted..=off_s + lasted).contains(&claimed_s), "{health}");
    let gap = api.get("/gaps").done()[0].clone();
    assert_eq!((&gap["reason"], &gap["settled"]), (&json!("not-synchronised"), &json!(null)));
    gap["fact"].clone()
}

/// Settles a gap; returns the settlement.
fn settle(api: &Api, gap: &Value) -> Value {
    let path = format!("/gaps/{gap}/settlement");
    let tried = api.post(&path, &word("6h", true)).done();
    assert_eq!((&tried["charges"][0]["amount"], &tried["fact"]), (&json!("0.24"), &json!(null)));
    api.post("/gaps/1/settlement", &word("6h", false)).refused(404, "no_such_gap", "");
    let settled = api.post(&path, &word("6h", false)).done();
    assert_eq!(settled["charges"][0]["amount"], json!("0.24"), "{settled}");
    let again = api.post(&path, &word("6h", false)).done();
    assert_eq!(again, settled, "the same word again changes nothing");
    api.post(&path, &word("7h", false)).refused(409, "gap_settled", "");
    assert_eq!(api.get("/gaps").done()[0]["settled"], settled);
    assert_eq!(api.get("/health").done().get("gaps"), None);
    settled
}

#[test]
fn a_gap_is_shown_and_an_operator_s_word_is_a_line_of_each_bill() {
    let mut host = Host::new();
    host.start(boot(1, 0, true));
    hold_three(host.daemon());
    host.stop();
    host.start(boot(2, 6 * 3_600, false));
    let api = host.daemon().api();
    let gap = shown_gap(api);
    let settled = settle(api, &gap);
    let close = json!({"to": "now", "at_once": true});
    let closed = api.post("/tenants/default/invoice/close", &close).done();
    let sum = &closed["documents"][0]["adjustments"][0];
    assert_eq!((&sum["id"], &sum["amount"]), (&settled["charges"][0]["id"], &json!("0.24")));
    let reason = sum["reason"].as_str().expect("a text");
    assert_eq!(reason, format!("21600 s without a clock (gap {gap}): no power"));

    host.stop();
    host.start(boot(3, 0, false));
    let api = host.daemon().api();
    let gaps = api.get("/gaps").done();
    assert_eq!((gaps.as_array().map(Vec::len), &gaps[0]["settled"]), (Some(2), &settled));
    let path = format!("/gaps/{}/settlement", gaps[1]["fact"]);
    let free = api.post(&path, &word("0s", false)).done();
    assert_eq!(free["charges"], json!([]), "example 18b");
    host.stop();
    let verified = host.daemon().command(&["journal", "verify", "--json"]).output().expect("run");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
