//! `/metrics`, the alerts and the dashboard made of it, in a real Prometheus.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tallyman_tests::daemon::Api;
use tallyman_tests::deadline::eventually;
use tempfile::TempDir;

use crate::daemon;
use crate::invoices::lived;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prometheus")
}

fn promtool(arguments: &[&str], input: &Path) -> (bool, String) {
    let input = fs::File::open(input).expect("readable");
    let run = Command::new("promtool").args(arguments).stdin(input).output();
    let run = run.expect("promtool is missing; `scripts/setup test` installs it");
    let said = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A host that has done what is measured, and another tenant.
fn busy(api: &Api) {
    let admin = api.tenant("acme", "tenant-admin");
    lived(&admin, "vm-1");
    admin.create_running("vm-2");
    admin.get("/instances/none").refused(404, "not_found", "none");
}

#[test]
fn the_metrics_are_clean_and_no_series_is_there_twice() {
    let daemon = daemon();
    busy(daemon.api());
    let text = daemon.api().text("/metrics");
    let file = daemon.folder().join("metrics.txt");
    fs::write(&file, &text).expect("written");
    let (clean, said) = promtool(&["check", "metrics"], &file);
    assert!(clean && said.trim().is_empty(), "{said}\n{text}");
    let mut seen = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        assert!(seen.insert(series, value).is_none(), "twice: {series}");
    }
    let of = |series: &str| seen.get(series).copied().unwrap_or_else(|| panic!("{series}: {text}"));
    assert_eq!(of("tallyman_instances_in_phase{tenant=\"acme\",phase=\"stopped\"}"), "1");
    assert_eq!(of("tallyman_transitions_total{tenant=\"acme\",phase=\"standby\"}"), "1");
    assert_eq!(of("tallyman_tenant_used{tenant=\"acme\",resource=\"instances\"}"), "2");
    let standby = of("tallyman_phase_seconds_total{tenant=\"acme\",phase=\"standby\"}");
    assert!(standby.parse::<f64>().is_ok_and(|seconds| seconds > 0.0), "{standby}");
}

#[test]
fn time_is_counted_once_whether_a_visit_goes_on_or_has_ended() {
    let daemon = daemon();
    let api = daemon.api();
    let id = lived(api, "vm-1");
    let seconds = || -> HashMap<String, f64> {
        let text = api.text("/metrics");
        let lines = text.lines().filter_map(|line| {
            let rest =
                line.strip_prefix("tallyman_phase_seconds_total{tenant=\"default\",phase=\"")?;
            let (phase, value) = rest.split_once("\"} ")?;
            Some((phase.to_owned(), value.parse().ok()?))
        });
        lines.collect()
    };
    let before = seconds();
    let account = api.get(&format!("/instances/{id}/intervals")).done();
    for (phase, ns) in account["totals_ns"].as_object().expect("totals") {
        let ns = ns.as_u64().or_else(|| ns.as_str()?.parse().ok()).expect("a number");
        // What goes on has gone on between the two answers.
        if phase != "stopped" {
            let told = format!("{:.9}", before[phase]);
            assert_eq!(
                told,
                format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000),
                "{phase}"
            );
        }
    }
    api.delete(&format!("/instances/{id}"));
    let after = seconds();
    for (phase, value) in &before {
        assert!(after[phase] >= *value, "{phase} went down: {before:?} {after:?}");
    }
}

/// Prometheus on a folder of its own; it ends with the value.
struct Prometheus {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts it on the metrics of a daemon, with the alerts.
    fn start(api: &Api) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let target = api.url().trim_start_matches("http://");
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n  - {}\n\
             scrape_configs:\n  - job_name: tallyman\n    authorization:\n      credentials: {}\n\
             \x20   static_configs:\n      - targets: ['{target}']\n",
            folder_of_rules().display(),
            api.secret(),
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("written");
        let place = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = place.local_addr().expect("an address");
        drop(place);
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("prometheus is missing; `scripts/setup test` installs it");
        Self { child, url: format!("http://{address}"), _folder: folder }
    }

    /// The answer of a query; none if it does not answer yet.
    fn ask(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), query);
        tallyman_tests::daemon::get_json(url.expect("a URL").as_str())
    }

    fn query(&self, expression: &str) -> Value {
        let answer = self.ask("/api/v1/query", &[("query", expression)]);
        let answer = answer.unwrap_or_else(|| panic!("no answer to {expression}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].clone()
    }
}

fn folder_of_rules() -> PathBuf {
    folder().join("alerts.yml").canonicalize().expect("the alerts")
}

/// The expressions of the dashboard's panels.
fn expressions() -> Vec<String> {
    let text = fs::read_to_string(folder().join("dashboard.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    expressions.map(|text| text.replace("$__rate_interval", "1m")).collect()
}

#[test]
fn every_alert_and_every_panel_is_evaluated_by_prometheus() {
    let (clean, said) =
        promtool(&["check", "rules", &folder_of_rules().to_string_lossy()], Path::new("/dev/null"));
    assert!(clean, "{said}");
    let daemon = daemon();
    let api = daemon.api();
    busy(api);
    let prometheus = Prometheus::start(api);
    // Rates need two samples.
    let scraped = || {
        let asked = prometheus.ask("/api/v1/query", &[("query", "count_over_time(up[1h]) > 2")]);
        asked.is_some_and(|answer| answer["data"]["result"][0]["value"][1].is_string())
    };
    eventually("second sample", || scraped().then_some(()));
    assert_eq!(prometheus.query("up == 1").as_array().map(Vec::len), Some(1));
    for expression in expressions() {
        let found = prometheus.query(&expression);
        assert!(found[0]["value"][1].is_string(), "nothing: {expression}");
    }
    let rules = prometheus.ask("/api/v1/rules", &[]).expect("the rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.len() >= 10, "{rules:?}");
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule}");
        prometheus.query(rule["query"].as_str().expect("a query"));
    }
}
