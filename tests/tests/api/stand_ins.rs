//! Charges for the time of a policy that was quarantined: those of the tenant's ladder, once.

use serde_json::{Value, json};
use tallyman_tests::daemon::{Api, Daemon};
use tallyman_tests::policies;

use crate::daemon;
use crate::hostile::{Evil, When};
use crate::invoices::{last, lines, now, preview, proves, put_prices_of, sum};
use crate::policies::breaks_at_a_pause;
use crate::tenants::quarantined;

/// A price for running time only, for which every reference policy has a meter.
const BOOK: &str = r#"{"currency": "EUR", "prices": [
    {"id": "compute-1", "rule": "compute", "meter": "active", "per": "instance-second",
     "price": "1"}]}"#;

const CLOSE: &str = "/tenants/acme/invoice/close";

/// A policy that accounts correctly, and from the year 2024 on traps when it is asked to measure.
fn breaks_at_measuring() -> Vec<u8> {
    let measure = "\"{metering}#measure\") (param $request i32) (result i32)
    (local $n i32) (local $i i32) (local $masks i32)";
    let begins = "(i64.load offset=8 (local.get $request))";
    let this_century = format!(
        "(i32.and (i64.gt_s {begins} (i64.const 1704067200000000000)) \
         (i64.lt_s {begins} (i64.const 4102444800000000000)))"
    );
    Evil { enter: "", columns: "" }.component_with(
        When::Never,
        measure,
        &format!("{measure} (if {this_century} (then unreachable))"),
    )
}

/// A tenant with prices, a ladder, a good policy and then `bad`, under which a machine ran.
fn under(daemon: &Daemon, bad: Vec<u8>, ladder: Value) -> (Api, [String; 2], Value, Value) {
    let tenant = daemon.api().tenant("acme", "tenant-admin");
    put_prices_of(daemon.api(), "acme", BOOK);
    tenant.put("/tenants/self/fallback", &json!({"ladder": ladder})).done();
    let put = |component: Vec<u8>| {
        let digest = tenant.upload(component).done()["digest"].clone();
        tenant.put("/tenants/self/policy", &json!({"digest": digest})).done();
        digest
    };
    let good = put(policies::component("coarse"));
    let first = tenant.create_running("web");
    let bad = put(bad);
    let second = tenant.create_running("db");
    (tenant, [first, second], good, bad)
}

/// Running time of all instances, in nanoseconds.
fn ran(tenant: &Api, ids: &[String]) -> u128 {
    let pieces = ids.iter().flat_map(|id| tenant.check_time(id));
    let running = pieces.filter(|piece| {
        ["initializing", "running"].contains(&piece["phase"].as_str().expect("a phase"))
    });
    running.map(|piece| u128::from(piece["duration_ns"].as_u64().expect("nanoseconds"))).sum()
}

fn charged(invoice: &Value) -> u128 {
    lines(invoice)
        .iter()
        .map(|line| line["quantity"].as_str().expect("digits").parse::<u128>().expect("digits"))
        .sum()
}

/// The policy that measured, and the policy that it replaced, for each receipt.
fn asked(invoice: &Value) -> Vec<(Value, Value)> {
    let receipts = invoice["receipts"].as_array().expect("receipts").iter();
    let measured = receipts.filter(|receipt| receipt["call"] == "measure");
    measured
        .map(|receipt| (receipt["component"].clone(), receipt["stands_in_for"].clone()))
        .collect()
}

#[test]
fn what_is_held_is_not_charged_and_is_charged_once_by_whoever_stands_in() {
    let mut daemon = daemon();
    let (tenant, ids, good, bad) = under(&daemon, breaks_at_a_pause(), json!(["hold"]));
    for id in &ids {
        tenant.command(id, "pause");
    }
    quarantined(&tenant, &bad, &bad);
    for id in &ids {
        tenant.command(id, "stop");
    }
    let until = now();
    let operator = daemon.api();
    let close = || operator.post(CLOSE, &json!({"to": until, "at_once": true}));
    let refused = close().refused(409, "held", "is quarantined and its time is held");
    assert!(
        refused["message"].as_str().expect("a message").contains(bad.as_str().expect("a digest")),
        "{refused}"
    );
    let hint = refused["hint"].as_str().expect("a hint");
    assert!(
        ["fallback", "last-good", "again", "override"].iter().all(|way| hint.contains(way)),
        "{hint}"
    );
    tenant.get("/tenants/self/invoice").refused(409, "held", "is held");
    assert_eq!(tenant.get("/tenants/self/invoices").done()["invoices"], json!([]));

    tenant.put("/tenants/self/fallback", &json!({"ladder": ["last-good", "standard"]})).done();
    quarantined(&tenant, &bad, &good);
    let preview = preview(&tenant, &format!("?to={until}"));
    let invoice = last(&close().done());
    assert_eq!(lines(&preview), lines(&invoice), "one way for preview and close");
    assert!(asked(&invoice).contains(&(good.clone(), bad.clone())), "{invoice}");
    assert!(
        asked(&invoice).iter().all(|(policy, _)| *policy != bad),
        "it was not asked: {invoice}"
    );
    assert_eq!(charged(&invoice), ran(&tenant, &ids), "every nanosecond once");
    assert!(sum(&invoice) > 0);

    // The policy is trusted again; earlier charges stay.
    tenant.put("/tenants/self/policy", &json!({"digest": bad, "again": true})).done();
    assert_eq!(last(&close().done()), invoice);
    assert_eq!(
        tenant.get("/tenants/self/invoices").done()["invoices"].as_array().map(Vec::len),
        Some(1)
    );
    let shown = daemon.cli(&["--tenant", "acme", "invoice", "show", "1"]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(shown.contains("was quarantined; ") && shown.contains(" measured its time"), "{shown}");
    let file = daemon.folder().join("bundle.json");
    let path = file.to_str().expect("text");
    assert!(daemon.cli(&["--tenant", "acme", "invoice", "bundle", "1", path]).status.success());
    daemon.stop();
    proves(&["verify", "--tenant", "acme"], daemon.folder());
    let elsewhere = tempfile::tempdir().expect("a folder");
    proves(&["verify", "--bundle", path], elsewhere.path());
}

#[test]
fn two_faults_at_rating_quarantine_a_policy_and_the_period_is_rated_by_the_ladder() {
    let mut daemon = daemon();
    let (tenant, ids, _, bad) = under(&daemon, breaks_at_measuring(), json!(["standard"]));
    for id in &ids {
        tenant.command(id, "stop");
    }
    let standard = daemon.api().get("/policies/standard").done()["digest"].clone();
    let until = now();
    let operator = daemon.api();
    let close = || operator.post(CLOSE, &json!({"to": until, "at_once": true}));
    close().refused(409, "unrated", "unreachable");
    assert_eq!(
        tenant.get("/tenants/self/policy").done()["quarantined"],
        json!([]),
        "one fault is none"
    );
    assert_eq!(tenant.get("/health").done()["alerts"], json!(0));
    close().refused(409, "unrated", "unreachable");
    let status = quarantined(&tenant, &bad, &standard);
    assert_eq!(
        (&status["quarantined"][0]["digest"], &status["quarantined"][0]["faults"]),
        (&bad, &json!(2)),
        "{status}"
    );
    assert_eq!(tenant.get("/health").done()["alerts"], json!(1));
    let invoice = last(&close().done());
    assert_eq!(asked(&invoice).last(), Some(&(standard, bad)), "{invoice}");
    assert_eq!(charged(&invoice), ran(&tenant, &ids), "every nanosecond once");
    daemon.stop();
    proves(&["verify", "--tenant", "acme"], daemon.folder());
}
