//! The dashboard: its door over HTTP, and all of it in Chromium.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tallyman_tests::aloud;
use tallyman_tests::daemon::Api;
use tallyman_tests::policies;

use crate::daemon;
use crate::invoices::{BOOK, close_of, lived, put_prices_of};

const TENANT: &str = "acme";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard")
}

/// The data of a busy host: machines that live and one that rests, a document, a policy on trial.
fn busy(api: &Api) -> Value {
    let admin = api.tenant(TENANT, "tenant-admin");
    put_prices_of(api, TENANT, BOOK);
    let instance = lived(&admin, "vm-1");
    let other = admin.create_running("vm-2");
    admin.command(&other, "pause");
    admin.create_running("vm-3");
    let asked = json!({"digest": policy(&admin), "reason": "for a test"});
    admin.post("/tenants/self/shadows", &asked).done();
    close_of(api, TENANT);
    admin.command(&other, "resume");
    let reader = api
        .post("/tokens", &json!({"name": "a reader", "role": "tenant-reader", "tenant": TENANT}));
    json!({
        "instance": instance,
        "tenant": TENANT,
        "coarse": asked["digest"],
        "reader": reader.done()["secret"],
    })
}

/// Uploads the policy `coarse` under that name and answers its digest.
fn policy(api: &Api) -> String {
    let request = tallyman_tests::daemon::Request {
        method: "POST",
        path: "/policies?name=coarse",
        authorization: None,
        content_type: Some("application/wasm"),
        body: policies::component("coarse"),
    };
    let digest = api.send(&request).done()["digest"].clone();
    digest.as_str().expect("a digest").to_owned()
}

fn chromium() -> String {
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let found = known.into_iter().find(|program| Path::new(program).is_file());
    found.expect("Chromium is missing; `scripts/setup test` installs it").to_owned()
}

#[test]
fn every_view_works_in_a_browser_without_a_complaint() {
    let checks = folder();
    let parts = checks.join("node_modules/playwright-core");
    assert!(parts.is_dir(), "{} is missing; `scripts/setup test` installs it", parts.display());
    let daemon = daemon();
    let mut told = busy(daemon.api());
    told["url"] = json!(daemon.api().url());
    told["token"] = json!(daemon.api().secret());
    told["chromium"] = json!(chromium());
    told["pictures"] = json!(std::env::var("TALLYMAN_TEST_PICTURES").ok());
    let run = Command::new("node")
        .arg(checks.join("check.mjs"))
        .env("DASHBOARD", told.to_string())
        .output()
        .expect("node; `scripts/setup test` installs it");
    let said = String::from_utf8_lossy(&run.stdout);
    let failed = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}{failed}");
    for line in said.lines() {
        aloud::say(&format!("dashboard: {line}"));
    }
}

#[test]
fn the_files_are_formatted() {
    let program = folder().join("node_modules/.bin/prettier");
    assert!(program.exists(), "{} is missing; see `scripts/setup test`", program.display());
    let root = folder().join("../..");
    let files = ["host/dashboard/app/*.js", "host/dashboard/style.css", "tests/dashboard/*.mjs"];
    let run = Command::new(program).arg("--check").args(files).current_dir(root).output();
    let run = run.expect("node");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "run it with --write instead of --check:\n{said}");
}

/// Headers of a request from a browser.
type Sent<'a> = &'a [(&'a str, &'a str)];

#[test]
fn a_cookie_counts_in_the_dashboard_s_own_requests_alone() {
    let daemon = daemon();
    let api = daemon.api();
    let token = daemon.api().secret().to_owned();
    let own = ("tallyman-dashboard", "1");
    let sign_in = |headers: Sent<'_>, token: &str| {
        api.send_with("POST", "/sessions", headers, Some(&json!({"token": token})))
    };
    sign_in(&[], &token).refused(401, "unauthorized", "dashboard");
    sign_in(&[own, ("sec-fetch-site", "cross-site")], &token).refused(401, "unauthorized", "");
    sign_in(&[own], "wrong").refused(401, "unauthorized", "token");
    let signed_in = sign_in(&[own], &token);
    let cookie = signed_in.headers["set-cookie"].to_str().expect("text").to_owned();
    assert_eq!(signed_in.done()["role"], "operator");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&token), "{cookie}");
    let cookie = ("cookie", cookie.split(';').next().expect("a pair"));

    let ask = |method, path, headers: Sent<'_>| api.send_with(method, path, headers, None);
    ask("GET", "/tenants", &[cookie, own]).done();
    ask("GET", "/tenants", &[cookie]).refused(401, "unauthorized", "Tallyman-Dashboard");
    let foreign = [cookie, own, ("sec-fetch-site", "same-site")];
    ask("GET", "/tenants", &foreign).refused(401, "unauthorized", "dashboard");
    let body = json!({"id": "evil"});
    api.send_with("POST", "/tenants", &[cookie], Some(&body)).refused(401, "unauthorized", "");
    assert_eq!(ask("DELETE", "/sessions/current", &[cookie, own]).status, 204);
    ask("GET", "/tenants", &[cookie, own]).refused(401, "unauthorized", "sign in again");
}

#[test]
fn a_session_ends_with_its_token_and_may_do_no_more_than_it() {
    let daemon = daemon();
    let api = daemon.api();
    api.post("/tenants", &json!({"id": TENANT})).done();
    let reader = json!({"name": "r", "role": "tenant-reader", "tenant": TENANT});
    let made = api.post("/tokens", &reader).done();
    let own = ("tallyman-dashboard", "1");
    let asked = json!({"token": made["secret"]});
    let signed_in = api.send_with("POST", "/sessions", &[own], Some(&asked));
    let cookie = signed_in.headers["set-cookie"].to_str().expect("text").to_owned();
    let cookie = ("cookie", cookie.split(';').next().expect("a pair"));
    let ask = |method, path| api.send_with(method, path, &[cookie, own], None);
    let me = ask("GET", "/sessions/current").done();
    assert_eq!((&me["role"], &me["tenant"]), (&json!("tenant-reader"), &json!(TENANT)));
    ask("POST", "/instances/x/stop").refused(403, "forbidden", "tenant-reader");
    api.delete(&format!("/tokens/{}", made["id"].as_str().expect("an id"))).done();
    ask("GET", "/sessions/current").refused(401, "unauthorized", "revoked");
}

#[test]
fn the_page_may_ask_nobody_else_and_run_nothing_but_its_files() {
    let daemon = daemon();
    let answer = daemon.api().open("/");
    let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("x-content-type-options"), "nosniff");
    daemon.api().get("/dashboard/app/other.js").refused(404, "no_such_file", "other.js");
}
