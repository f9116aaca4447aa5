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
use tallyman_tests::daemon::Daemon;
use tallyman_tests::machine::LOOK_AGAIN;
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
        while self.facts("clock-stepped").is_empty() {
            std::thread::sleep(LOOK_AGAIN);
        }
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
