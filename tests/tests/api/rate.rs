//! Bills without a daemon: `tallyman rate` and the cases of `policy test`.

use std::path::Path;

use serde_json::{Value, json};
use tallyman_tests::daemon::program;
use tempfile::TempDir;

use crate::PROGRAM;

const BOOK: &str = r#"{"currency": "EUR", "prices": [
    {"id": "run", "rule": "compute", "meter": "active", "per": "vcpu-hour", "price": "0.5"},
    {"id": "keep", "rule": "kept", "meter": "allocated", "per": "instance-hour", "price": "0.01"}
]}"#;

/// Two machines; the second one is off for an hour.
const ROWS: &str = "instance,phase,from,until,vcpus\n\
    a,running,2026-11-01,2026-11-01T02:00:00Z,2\n\
    b,running,2026-11-01,2026-11-01T01:00:00Z,1\n\
    b,stopped,2026-11-01T01:00:00Z,2026-11-01T02:00:00Z,1\n\
    b,running,2026-11-01T02:00:00Z,2026-11-01T04:00:00Z,1\n";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("prices.json"), BOOK).expect("written");
    std::fs::write(folder.path().join("rows.csv"), ROWS).expect("written");
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = program(Path::new(PROGRAM), arguments).current_dir(folder).output().expect("run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn intervals_in_a_file_are_rated_and_each_line_names_its_rows() {
    let folder = folder();
    let rate = ["rate", "rows.csv", "--prices", "prices.json"];
    let (is_done, told, said) = run(folder.path(), &rate);
    assert!(is_done, "{said}");
    // Rule, instance, and the rows of the file that the line came from.
    for words in ["3.56", "compute", "kept", "2-4", "price book prices ("] {
        assert!(told.contains(words), "'{words}' is not in:\n{told}");
    }
    let (_, told, _) = run(folder.path(), &[&rate[..], &["--json"]].concat());
    let bill: Value = serde_json::from_str(&told).expect("JSON");
    let document = &bill["documents"][0];
    // 2 h of 2 processors, 3 h of 1: 7 x 0.5; 6 h of allocation: 6 x 0.01.
    assert_eq!(document["total"], "3.56", "{document}");
    let sources: Vec<(&str, &str, Vec<u64>)> = bill["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .map(|source| {
            let rows = source["rows"].as_array().expect("rows").iter();
            let rows = rows.map(|row| row.as_u64().expect("a number")).collect();
            let text = |name: &str| source[name].as_str().expect("a text");
            (text("rule"), text("instance"), rows)
        })
        .collect();
    let expected = [
        ("compute", "a", vec![1]),
        ("compute", "b", vec![2, 4]),
        ("kept", "a", vec![1]),
        ("kept", "b", vec![2, 3, 4]),
    ];
    assert_eq!(sources, expected);
}

#[test]
fn the_traffic_of_a_row_is_read_at_its_end() {
    let folder = folder();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write(
        "net.json",
        r#"{"currency": "EUR", "prices": [{"id": "out", "rule": "out", "meter": "allocated",
            "per": "network-out-GB", "price": "0.10"}]}"#,
    );
    let rows = "instance,phase,from,until,network_out_bytes\n\
        a,running,2026-10-31,2026-11-01,2000000000\n\
        a,standby,2026-11-01,2026-11-02,\n\
        a,running,2026-11-02,2026-11-03,3000000000\n";
    write("net.csv", rows);
    let rate = ["rate", "net.csv", "--prices", "net.json", "--json"];
    let (is_done, told, said) = run(folder.path(), &rate);
    assert!(is_done, "{said}");
    let bill: Value = serde_json::from_str(&told).expect("JSON");
    let documents = bill["documents"].as_array().expect("documents").iter();
    let totals: Vec<_> = documents.map(|one| one["total"].as_str().expect("a total")).collect();
    // 2 GB at the end of October, 3 GB in November.
    assert_eq!(totals, ["0.20", "0.30"], "{bill}");
    write("open.csv", &rows.replace("2026-11-03,3", ",3"));
    let (is_done, _, said) = run(folder.path(), &["rate", "open.csv", "--prices", "net.json"]);
    assert!(!is_done && said.contains("row 3: has traffic and no end"), "{said}");
}

#[test]
fn what_can_not_be_rated_is_refused_with_the_row_or_the_meter() {
    let folder = folder();
    let wrong = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    wrong("gap.csv", &ROWS.replace("a,running,2026-11-01,2026", "b,running,2026-10-01,2026"));
    wrong("meter.json", &BOOK.replace("\"active\"", "\"passive\""));
    let rows = [
        (["rate", "gap.csv", "--prices", "prices.json"], "in no row, or in two"),
        (["rate", "rows.csv", "--prices", "meter.json"], "'passive'"),
        (["rate", "none.csv", "--prices", "prices.json"], "none.csv"),
    ];
    for (arguments, words) in rows {
        let (is_done, _, said) = run(folder.path(), &arguments);
        assert!(!is_done && said.contains(words), "'{words}' is not in: {said}");
    }
}

#[test]
fn a_policy_is_tested_by_example() {
    let folder = folder();
    let standard = tallyman::policy::PolicyHost::standard_bytes();
    std::fs::write(folder.path().join("mine.wasm"), standard).expect("written");
    let row = json!({"instance": "a", "phase": "running", "from": "2026-11-01",
        "until": "2026-11-01T00:00:30Z", "vcpus": 1});
    let line = |billed: &str| {
        json!([{"rule": "compute", "billed": billed},
            {"rule": "kept", "instance": "a", "quantity": "30000000000"}])
    };
    let case = |name: &str, billed: &str, options: Value| json!({"name": name, "intervals": [row], "options": options, "lines": line(billed)});
    let mut cases = vec![
        case("by the second", "30000000000", json!({})),
        case("a minute at least", "60000000000", json!({"minimum": "60s"})),
    ];
    let test = ["policy", "test", "mine.wasm", "--prices", "prices.json", "--cases", "cases.json"];
    let write = |cases: &[Value]| {
        let text = serde_json::to_vec(cases).expect("JSON");
        std::fs::write(folder.path().join("cases.json"), text).expect("written");
    };
    write(&cases);
    let (is_done, told, said) = run(folder.path(), &test);
    assert!(is_done, "{told}{said}");
    cases.push(case("wrong", "31000000000", json!({})));
    write(&cases);
    let (is_done, told, said) = run(folder.path(), &test);
    assert!(!is_done && said.contains("does not conform"), "{said}");
    assert!(told.contains("no line is") && told.contains("billed 30000000000"), "{told}");
}
