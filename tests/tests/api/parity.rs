//! The shared table of histories, through the journal and the API's totals.

use serde_json::Value;
use tallyman::billing::{Entered, InstanceFact, Reading};
use tallyman::clock;
use tallyman::id::InstanceId;
use tallyman::journal::{Entry, InstanceWrite, Options};
use tallyman::units::Instant;
use tallyman::vm::{Asker, Command, Phase, Shape, Traffic};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::parity::{ROWS, Row, millis};
use tallyman_tests::rig::{Host, Rig};

use crate::PROGRAM;

const MILLI: i64 = 1_000_000;
const SHAPE: Shape = Shape { vcpus: 1, memory_bytes: 16 << 20, disk_bytes: 0, snapshot_bytes: 0 };

/// Writes instances with these ids, names and histories into a data folder, with snapshots at the
/// present. The driver sees them as stopped, so that it looks for no machines.
fn write(rows: &[(InstanceId, String, Row)]) -> tempfile::TempDir {
    let mut rig = Rig::down(Options::default());
    rig.start(Host::StayedUp);
    let template = rig.create("template");
    rig.command(&template, Command::Stop).expect("stopped");
    let stored = rig.journal().instance(&template).expect("readable").expect("stored");
    let now = rig.fleet().now();
    for (id, name, row) in rows {
        let begin = now.0 - row.looked_at * MILLI;
        let reading = |millis: i64| Reading {
            boot: clock::boot_id().expect("this is Linux"),
            boottime_ns: clock::boottime_ns(),
            wall_ns: begin + millis * MILLI,
            meter: Instant(begin + millis * MILLI),
        };
        let entered = row.entered.iter().map(|&(phase, at)| {
            let entered =
                Entered { phase, shape: SHAPE, session: 1, cause: None, traffic: Traffic::NONE };
            (reading(at), InstanceFact::Entered(entered))
        });
        let intended =
            InstanceFact::Intended { command: Command::Start, by: Asker::Client, about: None };
        let instance = InstanceWrite::Insert {
            id: id.clone(),
            tenant: rig.tenant.clone(),
            name: name.parse().expect("a name"),
            record: stored.record.clone(),
            state: stored.state.clone(),
            account: Default::default(),
        };
        let facts = std::iter::once((reading(0), intended)).chain(entered).collect();
        rig.run(rig.journal().commit(Entry::of_instance(instance, facts))).expect("committed");
    }
    rig.crash();
    rig.into_folder()
}

/// Milliseconds of a phase in an answer.
fn told(instance: &Value, phase: Phase) -> Option<u64> {
    instance["phase_durations_ms"]
        .get(phase.as_str())
        .map(|millis| millis.as_u64().expect("a number"))
}

#[test]
fn every_history_of_the_table_is_answered_as_it_says() {
    let ids: Vec<InstanceId> = ROWS.iter().map(|_| InstanceId::random()).collect();
    let begun = clock::boottime_ns();
    let rows = ROWS.iter().zip(&ids).enumerate();
    let rows: Vec<_> =
        rows.map(|(index, (row, id))| (id.clone(), format!("row-{index}"), *row)).collect();
    let folder = write(&rows);
    let daemon = Daemon::on(PROGRAM, folder);
    for (id, _, row) in &rows {
        let instance = daemon.api().instance(id.as_str());
        let late_ms = (clock::boottime_ns() - begun).div_ceil(1_000_000);
        let context = format!("{}: {instance}", row.name);
        let Some((current, since)) = row.current else {
            for field in ["current_phase", "current_phase_since", "phase_durations_ms"] {
                assert_eq!(instance.get(field), None, "{context}");
            }
            continue;
        };
        assert_eq!(instance["current_phase"], current.as_str(), "{context}");
        assert_eq!(
            i64::try_from(millis(row.seen, current)).expect("fits")
                - i64::try_from(millis(row.completed, current)).expect("fits"),
            row.looked_at - since
        );
        for phase in Phase::ALL {
            let seen = millis(row.seen, phase);
            let told = told(&instance, phase);
            if phase == current {
                // The visit under way continues up to the response.
                let told = told.unwrap_or_else(|| panic!("no {}: {context}", phase.as_str()));
                assert!(
                    (seen..=seen + late_ms).contains(&told),
                    "{told} is not in {seen} + {late_ms}: {context}"
                );
            } else {
                assert_eq!(told, (seen > 0).then_some(seen), "{}: {context}", phase.as_str());
            }
        }
    }
    let list = daemon.api().get("/instances").done();
    assert_eq!(list.as_array().map(Vec::len), Some(ROWS.len() + 1), "and the template");
    for (listed, (id, _, _)) in list.as_array().expect("instances").iter().skip(1).zip(&rows) {
        let alone = daemon.api().instance(id.as_str());
        for field in ["id", "current_phase", "current_phase_since"] {
            assert_eq!(listed[field], alone[field], "one answer and a list agree: {listed}");
        }
    }
}

#[test]
fn a_prefix_of_several_ids_is_refused_with_their_number() {
    let row = ROWS[0];
    let id = |last: char| -> InstanceId {
        let mut text = "a".repeat(InstanceId::random().as_str().len() - 1);
        text.push(last);
        text.parse().expect("an id")
    };
    let rows = [(id('b'), "one".to_owned(), row), (id('c'), "two".to_owned(), row)];
    let daemon = Daemon::on(PROGRAM, write(&rows));
    daemon.api().get("/instances/aaa").refused(409, "ambiguous", "2 ids");
    daemon.api().act("/instances/aaa/stop").refused(409, "ambiguous", "more characters");
    assert_eq!(daemon.api().instance(rows[0].0.as_str())["name"], "one");
}

#[test]
fn standby_counts_as_standby_and_running_goes_on_after_the_restore() {
    let daemon = crate::daemon();
    let api = daemon.api();
    let id = api.create_running("sleeps");
    let asleep = api.command(&id, "standby");
    assert_eq!(asleep["current_phase"], "standby");
    let running = told(&asleep, Phase::Running).expect("it ran");
    let again = api.instance(&id);
    assert_eq!(told(&again, Phase::Running), Some(running), "nothing runs in standby");
    let awake = api.command(&id, "restore");
    assert_eq!(awake["current_phase"], "running");
    let standby = told(&awake, Phase::Standby).expect("it was in standby");
    api.follow(&format!("/instances/{id}/logs?follow=true&tail=0"), |line| line.starts_with("HB "));
    let later = api.instance(&id);
    assert!(told(&later, Phase::Running) > Some(running), "{later}");
    assert_eq!(told(&later, Phase::Standby), Some(standby), "{later}");
}
