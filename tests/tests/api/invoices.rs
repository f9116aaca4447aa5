//! Charges of a tenant, from the price book to the proof on another machine, over HTTP and by the
//! command line.

use std::path::Path;

use serde_json::{Value, json};
use tallyman::id::Digest;
use tallyman_tests::daemon::{Api, Daemon, Request, program};
use tallyman_tests::policies;

use crate::{PROGRAM, daemon};

/// Two rules: running time by the second of a processor, and bytes in standby.
pub(crate) const BOOK: &str = r#"{
  "currency": "EUR",
  "prices": [
    {"id": "compute-1", "rule": "compute", "meter": "active", "per": "vcpu-hour", "price": "36"},
    {"id": "sleep-1", "rule": "sleep", "meter": "standby", "per": "snapshot-MiB-hour",
     "price": "3600"}
  ]
}"#;

/// Path that makes periods final.
const CLOSE: &str = "/tenants/default/invoice/close";

/// Sets the price book of the operator's own tenant.
pub(crate) fn put_prices(api: &Api, book: &str) -> Value {
    put_prices_of(api, "default", book)
}

/// Sets a tenant's price book, as the operator.
pub(crate) fn put_prices_of(operator: &Api, tenant: &str, book: &str) -> Value {
    let path = &format!("/tenants/{tenant}/prices");
    let content_type = Some("application/json");
    operator
        .send(&Request {
            method: "PUT",
            path,
            authorization: None,
            content_type,
            body: book.into(),
        })
        .done()
}

/// Creates an instance that runs, is in standby, is restored and stopped; returns its id.
pub(crate) fn lived(api: &Api, name: &str) -> String {
    let id = api.create_running(name);
    api.command(&id, "standby");
    api.command(&id, "restore");
    api.command(&id, "stop");
    id
}

/// Closes everything up to now; returns the document of the present period.
pub(crate) fn close(api: &Api) -> Value {
    close_of(api, "default")
}

/// Closes a tenant's periods up to now, as the operator.
pub(crate) fn close_of(operator: &Api, tenant: &str) -> Value {
    let path = format!("/tenants/{tenant}/invoice/close");
    last(&operator.post(&path, &json!({"to": "now", "at_once": true})).done())
}

/// The wall clock, as the API writes instants.
pub(crate) fn now() -> String {
    tallyman::api::model::Timestamp(tallyman::clock::wall_ns()).to_string()
}

/// The last document of an answer.
pub(crate) fn last(answer: &Value) -> Value {
    answer["documents"].as_array().expect("documents").last().expect("a document").clone()
}

/// The document that a close would make now.
pub(crate) fn preview(api: &Api, query: &str) -> Value {
    last(&api.get(&format!("/tenants/self/invoice{query}")).done())
}

pub(crate) fn nanos(text: &Value) -> i128 {
    let text = text.as_str().expect("a number as text");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<9}").parse().expect("digits")
}

pub(crate) fn lines(invoice: &Value) -> &[Value] {
    invoice["lines"].as_array().expect("lines")
}

pub(crate) fn sum(invoice: &Value) -> i128 {
    lines(invoice).iter().map(|line| nanos(&line["amount"])).sum()
}

/// The document without number, hash and instants, which differ between documents.
fn plain(invoice: &Value) -> Value {
    let mut plain = invoice.clone();
    for field in ["number", "kind", "previous", "as_of"] {
        plain[field] = Value::Null;
    }
    for field in ["issued", "reference"] {
        plain.as_object_mut().expect("a document").remove(field);
    }
    plain
}

/// The line of a rule.
fn of<'a>(invoice: &'a Value, rule: &str) -> &'a Value {
    lines(invoice).iter().find(|line| line["rule"] == rule).expect("a line")
}

/// Runs a command that needs no daemon on a data folder.
fn offline(arguments: &[&str], data: &Path) -> std::process::Output {
    program(Path::new(PROGRAM), arguments).arg("--data").arg(data).output().expect("run")
}

pub(crate) fn proves(arguments: &[&str], data: &Path) -> Value {
    let output = offline(&[arguments, &["--json"]].concat(), data);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub(crate) fn fails(arguments: &[&str], data: &Path, words: &str) {
    let output = offline(arguments, data);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(words), "'{words}' is not in: {said}");
}

#[test]
fn a_preview_is_what_closing_makes_final() {
    let mut daemon = daemon();
    put_prices(daemon.api(), BOOK);
    let id = lived(daemon.api(), "web");
    let api = daemon.api();
    let now = json!(now());
    let to = now.as_str().expect("an instant");
    let preview = preview(api, &format!("?to={to}"));
    assert_eq!((&preview["number"], &preview["kind"]), (&Value::Null, &json!("preview")));
    let invoice = last(&api.post(CLOSE, &json!({"to": to, "at_once": true})).done());
    assert_eq!((&invoice["number"], &invoice["kind"]), (&json!(1), &json!("invoice")));
    // The chain and the inputs of the receipts are the same, too: only the heading differs.
    assert_eq!(plain(&invoice), plain(&preview));
    assert_eq!(sum(&invoice), nanos(&invoice["total"]));

    // Quantities are those of the journal, to the nanosecond.
    let pieces = api.check_time(&id);
    let spent = |phases: &[&str]| -> u64 {
        let in_phase = pieces
            .iter()
            .filter(|piece| phases.contains(&piece["phase"].as_str().expect("a phase")));
        in_phase.map(|piece| piece["duration_ns"].as_u64().expect("nanoseconds")).sum()
    };
    let compute = of(&invoice, "compute");
    assert_eq!(compute["quantity"], json!(spent(&["initializing", "running"]).to_string()));
    // 36 an hour is 0.01 a second.
    let cents = i128::from(spent(&["initializing", "running"]));
    assert!((nanos(&compute["amount"]) - cents / 100).abs() <= 1, "{compute}");
    assert!(nanos(&of(&invoice, "sleep")["amount"]) > 0);
    assert_eq!(invoice["instances"], json!([{"id": id, "name": "web", "tags": []}]));

    // The stored, the listed and the returned document have the same bytes, and the journal has
    // their hash.
    let listed = api.get("/tenants/default/invoices").done()["invoices"].clone();
    let facts = api.get("/journal?kind=invoiced").done()["facts"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0]["digest"], facts[0]["digest"]);
    assert_eq!(listed[0]["stale"], json!(false));
    assert_eq!(api.get("/tenants/default/invoices/1").done(), invoice);

    daemon.stop();
    let proved = proves(&["verify"], daemon.folder());
    assert_eq!(proved["documents"][0]["digest"], facts[0]["digest"]);
    assert_eq!(proved["witnesses"].as_array().map(Vec::len), Some(2), "{proved}");
    let line = compute["number"].as_u64().expect("a number");
    let proved = proves(&["verify", &format!("1/{line}")], daemon.folder());
    let time = proved["line"]["time"].as_array().expect("pieces").clone();
    let covered: u64 = time
        .iter()
        .map(|piece| {
            piece["end_ns"].as_u64().expect("ns") - piece["start_ns"].as_u64().expect("ns")
        })
        .sum();
    assert_eq!(covered, spent(&["initializing", "running"]));
}

#[test]
fn a_period_is_closed_once_and_the_future_is_not_charged() {
    let daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    lived(api, "web");
    let first = close(api);
    let again = api.post(CLOSE, &json!({"to": first["billed"]["until"], "at_once": true}));
    assert_eq!((again.status, last(&again.done())), (200, first.clone()));
    api.post(CLOSE, &json!({"to": "2199-01-01"})).refused(400, "invalid", "not over yet");
    api.post(CLOSE, &json!({"to": "soon"})).refused(400, "invalid", "2026-11-30");
    assert_eq!(api.get("/journal?kind=invoiced").done()["facts"].as_array().map(Vec::len), Some(1));
    api.get("/tenants/default/invoices/7").refused(404, "no_such_invoice", "1 to 1");
    let preview = "/tenants/default/invoice/preview";
    api.post(preview, &json!({"policy": "abc"})).refused(404, "no_such_policy", "'abc'");
    api.post(preview, &json!({"prices": "abc"})).refused(404, "no_such_prices", "'abc'");
    // The next document of the period states later usage, and nothing ran.
    let second = close(api);
    assert_eq!((&second["number"], &second["follows"]), (&json!(2), &json!(1)));
    assert_eq!((&second["period"], sum(&second)), (&first["period"], 0));
    assert_ne!(second["previous"], Value::Null);
}

#[test]
fn a_close_waits_for_the_grace_unless_it_is_to_be_at_once() {
    let daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    lived(api, "web");
    let now = json!(now());
    let refused =
        api.post(CLOSE, &json!({"to": now})).refused(409, "unsettled", "may not be known yet");
    assert!(refused["hint"].as_str().expect("a hint").contains("at_once"), "{refused}");
    api.post(CLOSE, &json!({"to": now, "at_once": true})).done();
}

#[test]
fn prices_that_are_none_are_refused_with_the_place() {
    let daemon = daemon();
    let api = daemon.api();
    let set = |book: &str, query: &str| {
        let path = &format!("/tenants/default/prices{query}");
        let content_type = Some("application/json");
        api.send(&Request {
            method: "PUT",
            path,
            authorization: None,
            content_type,
            body: book.into(),
        })
    };
    let refused = |book: &str, words: &str| set(book, "").refused(400, "invalid", words);
    refused("{}", "missing field `currency`");
    refused(r#"{"currency": "euro"}"#, "ISO 4217");
    refused(&BOOK.replace("vcpu-hour", "vcpu-month"), "prices[0].per");
    refused(&BOOK.replace(r#""36""#, "36.5"), "a whole number");
    // A book that could not be billed is refused when it is set, not when a period is closed.
    set(&BOOK.replace("\"active\"", "\"passive\""), "").refused(409, "refused", "'passive'");
    set(&BOOK.replace("vcpu-hour", "gpu-hour"), "").refused(409, "refused", "'gpu-ns'");
    set(BOOK, "?at=2020-01-01").refused(409, "refused", "past");
    assert_eq!(api.get("/tenants/default/prices").done(), json!({"current": null, "history": []}));
    let set = put_prices(api, BOOK);
    assert_eq!((&set["currency"], &set["prices"]), (&json!("EUR"), &json!(2)));
    assert_eq!(set["digest"], json!(Digest::of(BOOK.as_bytes()).to_string()));
    let shown = api.get("/tenants/default/prices").done();
    assert_eq!(
        (&shown["current"]["text"], &shown["current"]["digest"]),
        (&json!(BOOK), &set["digest"])
    );
}

#[test]
fn a_currency_changes_only_at_a_border_and_a_credit_never() {
    let daemon = daemon();
    let api = daemon.api();
    let with = |adjustments: &str| {
        BOOK.replace("\n  ]\n}", &format!("\n  ],\n  \"adjustments\": [{adjustments}]\n}}"))
    };
    put_prices(api, &with(r#"{"id": "welcome", "kind": "credit", "amount": "10"}"#));
    lived(api, "web");
    let refused = |book: &str, words: &str| {
        let path = "/tenants/default/prices";
        let content_type = Some("application/json");
        let request =
            Request { method: "PUT", path, authorization: None, content_type, body: book.into() };
        api.send(&request).refused(409, "refused", words);
    };
    refused(&BOOK.replace("EUR", "USD"), "border");
    refused(&with(r#"{"id": "welcome", "kind": "credit", "amount": "11"}"#), "granted as 10 EUR");
    refused(&with(r#"{"id": "welcome", "kind": "cap", "amount": "10"}"#), "stands for a credit");
    put_prices(api, &with(r#"{"id": "another", "kind": "credit", "amount": "11"}"#));
}

#[test]
fn a_correction_states_the_difference_and_leaves_the_invoice_as_it_is() {
    let mut daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    lived(api, "web");
    let invoice = close(api);
    let path = "/tenants/default/invoices/1/corrections";
    assert_eq!(api.post(path, &json!({"reason": "for nothing"})).done(), json!({"documents": []}));
    api.post(path, &json!({"reason": ""})).refused(400, "invalid", "reason");

    // Half the price for processors, by a book that was never in force.
    let half = BOOK.replace("\"36\"", "\"18\"").replace("compute-1", "compute-2");
    let correction =
        last(&api.post(path, &json!({"reason": "it was too dear", "prices": half})).done());
    assert_eq!((&correction["number"], &correction["follows"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&correction["kind"], &correction["reason"]),
        (&json!("correction"), &json!("it was too dear"))
    );
    assert_eq!(correction["overrides"][0]["reason"], json!("it was too dear"));
    let was = nanos(&of(&invoice, "compute")["amount"]);
    let rows: Vec<_> = lines(&correction)
        .iter()
        .map(|line| (line["price_id"].as_str(), line["was"].as_str().is_some()))
        .collect();
    assert_eq!(rows, [(Some("compute-1"), true), (Some("compute-2"), false)]);
    let is = nanos(&lines(&correction)[1]["amount"]);
    assert_eq!(nanos(&lines(&correction)[0]["amount"]), -was);
    assert!((2 * is - was).abs() <= 1, "{was} {is}");
    assert_eq!(nanos(&correction["total"]), is - was);
    assert_eq!(correction["rules"][0]["amount"], correction["total"]);
    assert_eq!(api.get("/tenants/default/invoices/1").done(), invoice);
    let again = json!({"reason": "the same again", "prices": half});
    assert_eq!(api.post(path, &again).done(), json!({"documents": []}));
    // An override that names nothing ends those before it.
    let period = &invoice["period"];
    let span = json!({"from": period["from"], "until": period["until"], "reason": "it was right"});
    api.post("/tenants/default/invoice/overrides", &span).done();
    let listed = api.get("/tenants/default/invoices").done()["invoices"].clone();
    assert_eq!(listed[0]["stale"], json!(true));
    let back = last(
        &api.post("/tenants/default/invoice/settle", &json!({"reason": "it was right"})).done(),
    );
    assert_eq!(nanos(&back["total"]), was - is);
    let settled = api.post("/tenants/default/invoice/settle", &json!({"reason": "again"})).done();
    assert_eq!(settled, json!({"documents": []}));

    daemon.stop();
    let proved = proves(&["verify"], daemon.folder());
    assert_eq!(proved["documents"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_change_of_prices_and_of_policy_splits_what_goes_on_exactly_there() {
    let mut daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    let id = api.create_running("web");
    let ec2 = api.upload(policies::component("ec2")).done()["digest"].clone();
    // EC2 has no meter for standby: the policy is refused as long as the book prices one.
    api.put("/tenants/default/policy", &json!({"digest": ec2})).refused(
        409,
        "refused",
        "'standby'",
    );
    let dearer = BOOK
        .replace("\"36\"", "\"72\"")
        .replace("compute-1", "compute-2")
        .replace("standby", "allocated");
    put_prices(api, &dearer);
    let swap = api.put("/tenants/default/policy", &json!({"digest": ec2})).done();
    api.command(&id, "stop");
    let invoice = close(api);
    let receipts = invoice["receipts"].as_array().expect("receipts");
    let measured: Vec<_> = receipts.iter().filter(|receipt| receipt["call"] == "measure").collect();
    assert_eq!(measured.len(), 2, "{receipts:?}");
    assert_eq!((&measured[1]["from_ns"], &measured[1]["component"]), (&swap["from_ns"], &ec2));
    let compute: Vec<_> = lines(&invoice).iter().filter(|line| line["rule"] == "compute").collect();
    let prices: Vec<_> =
        compute.iter().map(|line| line["price_id"].as_str().expect("a price")).collect();
    assert_eq!(prices, ["compute-1", "compute-2"]);
    let sum_of = |field: &str| -> u128 {
        compute
            .iter()
            .map(|line| line[field].as_str().expect("digits").parse::<u128>().expect("digits"))
            .sum()
    };
    let pieces = api.check_time(&id);
    let running = pieces.iter().filter(|piece| {
        ["initializing", "running"].contains(&piece["phase"].as_str().expect("a phase"))
    });
    assert_eq!(
        sum_of("quantity"),
        running.map(|piece| u128::from(piece["duration_ns"].as_u64().expect("ns"))).sum::<u128>()
    );
    // EC2 counts from wake to wake, the standard policy from start to start: a stretch ends at the
    // swap, and the next one is charged as a minute at least.
    let under_standard = pieces.iter().filter(|piece| {
        piece["policy"] != ec2
            && ["initializing", "running"].contains(&piece["phase"].as_str().expect("a phase"))
    });
    let before: u128 =
        under_standard.map(|piece| u128::from(piece["duration_ns"].as_u64().expect("ns"))).sum();
    assert_eq!(sum_of("billed"), before + 60_000_000_000);
    daemon.stop();
    proves(&["verify", "1"], daemon.folder());
}

#[test]
fn a_preview_under_other_rules_keeps_nothing() {
    let daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    lived(api, "web");
    let heads = || api.get("/journal/head").done()["seq"].clone();
    let before = heads();
    let asked =
        |request: Value| last(&api.post("/tenants/default/invoice/preview", &request).done());
    let now = json!(now());
    let plain = asked(json!({"to": now}));
    let double = asked(json!({"to": now, "prices": BOOK.replace("\"36\"", "\"72\"")}));
    let one = nanos(&of(&plain, "compute")["amount"]);
    let two = nanos(&of(&double, "compute")["amount"]);
    assert!((two - 2 * one).abs() <= 1, "{one} {two}");
    assert_eq!(heads(), before);
    assert_eq!(asked(json!({"to": now})), plain);
}

#[test]
fn a_trial_says_what_it_would_change_in_money_and_a_gate_holds_it_back() {
    let daemon = daemon();
    let api = daemon.api();
    put_prices(api, &BOOK.replace("standby", "allocated"));
    let ec2 = api.upload(policies::component("ec2")).done()["digest"].clone();
    let activate = |gate: Value| {
        let mut request = json!({"digest": ec2, "reason": "a trial"});
        request
            .as_object_mut()
            .expect("an object")
            .extend(gate.as_object().expect("a gate").clone());
        api.put("/tenants/default/policy", &request)
    };
    activate(json!({"max_net": "1"})).refused(409, "not_tried", "not tried");
    api.post("/tenants/default/shadows", &json!({"digest": ec2})).done();
    let id = lived(api, "web");
    let report =
        api.get(&format!("/tenants/default/shadows/{}", ec2.as_str().expect("a digest"))).done();
    let money = &report["money"];
    // By EC2's rules a start and a wake are charged as a minute each, at 0.01 a second.
    let active = nanos(&money["active"]);
    let candidate = nanos(&money["candidate"]);
    assert_eq!(nanos(&money["net"]), candidate - active);
    assert!(candidate - active > 0 && candidate >= 1_200_000_000, "{money}");
    let [worst] = money["instances"].as_array().expect("instances").as_slice() else {
        panic!("{money}")
    };
    assert_eq!(worst["instance"], json!(id));
    assert_eq!(nanos(&worst["candidate"]) - nanos(&worst["active"]), candidate - active);
    assert!(money["fuel"].as_u64() > Some(0));

    activate(json!({"max_net": "lots"})).refused(400, "invalid", "max_net");
    let standard = api.get("/tenants/default/policy").done()["digest"].clone();
    for (gate, whose) in [("max_net", "EUR in all"), ("max_tenant", "EUR for 'default'")] {
        let refused = activate(json!({gate: "0.10"})).refused(409, "gate", whose);
        // The difference, the tolerance, the excess; and the tolerance that would pass.
        let said = refused["message"].as_str().expect("a message");
        let differs = said.split(' ').nth(4).expect("an amount");
        let over = said.split(' ').rev().nth(2).expect("an amount");
        assert_eq!(nanos(&json!(differs)) - nanos(&json!("0.10")), nanos(&json!(over)), "{said}");
        assert!(
            nanos(&json!(differs)) >= candidate - active
                && said.contains(&format!("`{gate}` allows 0.1:")),
            "{said}"
        );
        let hint = refused["hint"].as_str().expect("a hint");
        assert!(hint.contains(&format!("`{gate}` of {differs} or more")), "{hint}");
        assert_eq!(
            api.get("/tenants/default/policy").done()["digest"],
            standard,
            "the policy in force stays"
        );
    }
    let digest = ec2.as_str().expect("a digest");
    let refused =
        daemon.cli(&["policy", "activate", digest, "--max-net", "0.10", "--max-tenant", "1000"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success()
            && said.contains("`max_net` allows 0.1:")
            && said.contains("or more"),
        "{said}"
    );
    assert_eq!(api.get("/tenants/default/policy").done()["digest"], standard);
    let planned = api.get("/journal?kind=policy-activated").done()["facts"].clone();
    assert!(
        planned.as_array().expect("facts").iter().all(|fact| fact["digest"] == standard),
        "{planned}"
    );
    activate(json!({"max_net": "1000", "max_tenant": "1000"})).done();
    assert_eq!(api.get("/tenants/default/policy").done()["digest"], ec2);
}

#[test]
fn a_gate_does_not_add_up_two_currencies() {
    let daemon = daemon();
    let api = daemon.api();
    let acme = api.tenant("acme", "tenant-admin");
    let ec2 = acme.upload(policies::component("ec2")).done()["digest"].clone();
    let book = BOOK.replace("standby", "allocated");
    put_prices(api, &book);
    put_prices_of(api, "acme", &book.replace("EUR", "USD"));
    for tenant in [api, &acme] {
        tenant.post("/tenants/self/shadows", &json!({"digest": ec2})).done();
        lived(tenant, "web");
    }
    let activate = |gates: Value| {
        let mut request = json!({"digest": ec2});
        request
            .as_object_mut()
            .expect("an object")
            .extend(gates.as_object().expect("gates").clone());
        api.put("/tenants/default/policy", &request)
    };
    activate(json!({"max_net": "1000"})).refused(409, "two_currencies", "EUR and in USD");
    activate(json!({"max_tenant": "1000"})).done();
}

#[test]
fn a_tenant_reads_its_own_invoices_and_no_others() {
    let daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    lived(api, "web");
    close(api);
    let reader = api.tenant("acme", "tenant-reader");
    reader.get("/tenants/self/invoice").done();
    let admin = api.token("acme", "tenant-admin");
    api.put("/tenants/acme/billing", &json!({"delegated": false})).done();
    for path in ["close", "settle", "overrides"] {
        let path = format!("/tenants/acme/invoice/{path}");
        admin.post(&path, &json!({})).refused(403, "forbidden", "tenant-admin");
    }
    assert_eq!(reader.get("/tenants/acme/invoices").done()["invoices"], json!([]));
    reader.get("/tenants/default/invoices/1").refused(404, "no_such_tenant", "default");
    reader.get("/tenants/default/invoices/1/bundle").refused(404, "no_such_tenant", "default");
    reader.get("/tenants/default/prices").refused(404, "no_such_tenant", "default");
    let path = "/tenants/acme/invoice/close";
    reader.post(path, &json!({"to": "2026-01-01"})).refused(403, "forbidden", "tenant-reader");
}

#[test]
fn documents_say_pseudonyms_whose_key_can_be_destroyed_and_are_proved_all_the_same() {
    let mut daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    let path = "/tenants/default/names";
    assert_eq!(api.get(path).done()["mode"], json!("plain"));
    let body = json!({"name": "anna-laptop", "image": "tiny", "tags": {"owner": "anna"}});
    api.put(path, &json!({"mode": "pseudonyms"})).done();
    let id = api.post("/instances", &body).done()["id"].as_str().expect("an id").to_owned();
    api.wait(&id, "Running");
    let mapping = api.get(path).done()["names"].clone();
    let (pseudonym, name) = mapping.as_object().expect("names").iter().next().expect("one");
    assert_eq!(name, &json!("anna-laptop"));
    let document = close(api).to_string();
    assert!(document.contains(pseudonym) && !document.contains("anna"), "{document}");
    api.delete(&format!("/instances/{id}")).done();
    api.put(path, &json!({"mode": "plain"})).refused(400, "invalid", "can't be undone");
    assert_eq!(api.put(path, &json!({"mode": "destroyed"})).done()["names"], json!({}));
    let later = close(api).to_string();
    assert!(later.contains(&id) && !later.contains("anna"), "{later}");
    daemon.stop();
    proves(&["verify"], daemon.folder());
    let db = rusqlite::Connection::open(daemon.folder().join("tallyman.db")).expect("the journal");
    let sql = "SELECT count(*) FROM instance WHERE name LIKE '%anna%' OR record LIKE '%anna%'";
    let left: i64 = db.query_row(sql, [], |row| row.get(0)).expect("a number");
    assert_eq!(left, 0);
}

/// Changes a row of the database directly.
fn tamper(daemon: &Daemon, sql: &str) {
    let db = rusqlite::Connection::open(daemon.folder().join("tallyman.db")).expect("the journal");
    let changed = db.execute(sql, []).expect(sql);
    assert!(changed > 0, "nothing to change: {sql}");
}

#[test]
fn whatever_is_changed_behind_an_invoice_is_found() {
    let mut daemon = daemon();
    put_prices(daemon.api(), BOOK);
    lived(daemon.api(), "web");
    close(daemon.api());
    daemon.stop();
    proves(&["verify"], daemon.folder());
    let files = ["tallyman.db", "tallyman.db-wal"].map(|name| daemon.folder().join(name));
    let good = files.each_ref().map(std::fs::read);
    let rows = [
        (
            "UPDATE document SET bytes = CAST(replace(CAST(bytes AS TEXT), 'EUR', 'USD') AS BLOB)",
            "its bytes are those of",
        ),
        ("DELETE FROM document", "is not there"),
        ("UPDATE policy SET bytes = zeroblob(length(bytes))", "its bytes are those of"),
        (
            "UPDATE fact SET body = replace(body, '\"running\"', '\"paused\"') \
             WHERE body LIKE '%entered%running%'",
            "hash",
        ),
        ("DELETE FROM invoice", "is not there"),
        ("UPDATE invoice SET number = 2", "number is 2, by the facts it is 1"),
    ];
    for (sql, words) in rows {
        tamper(&daemon, sql);
        fails(&["verify"], daemon.folder(), words);
        // The log and its index are there only if the engine left them.
        let _ = std::fs::remove_file(daemon.folder().join("tallyman.db-shm"));
        for (file, good) in files.iter().zip(&good) {
            match good {
                Ok(bytes) => std::fs::write(file, bytes).expect("put back"),
                Err(_) => drop(std::fs::remove_file(file)),
            }
        }
    }
    proves(&["verify"], daemon.folder());
}

#[test]
fn a_bundle_proves_itself_on_another_machine_and_no_part_of_it_can_be_changed() {
    let mut daemon = daemon();
    put_prices(daemon.api(), BOOK);
    lived(daemon.api(), "web");
    close(daemon.api());
    lived(daemon.api(), "later");
    close(daemon.api());
    let file = daemon.folder().join("bundle.json");
    let saved = daemon.cli(&["invoice", "bundle", "2", file.to_str().expect("text")]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    daemon.stop();

    let elsewhere = tempfile::tempdir().expect("a folder");
    let path = file.to_str().expect("text");
    let proved = proves(&["verify", "--bundle", path], elsewhere.path());
    assert_eq!(proved["documents"][0]["number"], json!(2));
    assert_eq!(proved["journal"], Value::Null);
    proves(&["verify", "1", "--bundle", path], elsewhere.path());

    let good: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("a bundle")).expect("JSON");
    type Spoil = fn(&mut Value);
    let lies: [(Spoil, &str); 6] = [
        (|bundle| replace(&mut bundle["facts"], "running", "stopped"), "altered"),
        (|bundle| remove(&mut bundle["facts"], "\"running\""), "which is not here"),
        (|bundle| first(&mut bundle["documents"]), "altered"),
        (|bundle| first(&mut bundle["components"]), "altered"),
        (|bundle| bundle["components"] = json!({}), "missing"),
        (|bundle| bundle["form"] = json!(9), "form 9"),
    ];
    for (spoil, words) in lies {
        let mut bundle = good.clone();
        spoil(&mut bundle);
        std::fs::write(&file, bundle.to_string()).expect("a bundle");
        fails(&["verify", "--bundle", path], elsewhere.path(), words);
    }
}

/// Parts of a bundle's text: the first byte of each, and the words with which a failure names it.
/// The bundle is written in the order of its form.
fn parts(text: &str) -> Vec<(usize, &'static [&'static str])> {
    let begin = |key: &str| text.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}"));
    vec![
        (0, &["form", "tenant", "document", "bundle", "id"]),
        (begin("facts"), &["fact", "bundle"]),
        (begin("places"), &["place", "bundle"]),
        (begin("documents"), &["document", "bundle"]),
        (begin("components"), &["component", "bundle"]),
        (begin("under"), &["head", "signed", "key", "group", "facts", "bundle", "trees"]),
        (text.len(), &[]),
    ]
}

#[test]
fn every_byte_of_a_bundle_that_is_changed_is_found_and_named() {
    /// Number of bytes that are tried in each part.
    const TRIED: usize = 24;
    let mut daemon = daemon();
    put_prices(daemon.api(), BOOK);
    lived(daemon.api(), "web");
    close(daemon.api());
    // The bundle also contains prices that no invoice depends on.
    put_prices(daemon.api(), &BOOK.replace("\"36\"", "\"72\"").replace("compute-1", "compute-2"));
    lived(daemon.api(), "later");
    close(daemon.api());
    let file = daemon.folder().join("bundle.json");
    let path = file.to_str().expect("text");
    assert!(daemon.cli(&["invoice", "bundle", "2", path]).status.success());
    daemon.stop();
    let good = std::fs::read(&file).expect("a bundle");
    let elsewhere = tempfile::tempdir().expect("a folder");
    proves(&["verify", "--bundle", path], elsewhere.path());
    let parts = parts(std::str::from_utf8(&good).expect("text"));
    for pair in parts.windows(2) {
        let (start, words) = pair[0];
        let (end, _) = pair[1];
        let step = ((end - start) / TRIED).max(1);
        for (round, place) in (start..end).step_by(step).enumerate() {
            // One bit of each byte, not always the same; the last round also of a letter's case.
            let mut bad = good.clone();
            bad[place] ^= [1, 0x20, 2, 4][round % 4];
            std::fs::write(&file, &bad).expect("a bundle");
            let output = offline(&["verify", "--bundle", path], elsewhere.path());
            let said = String::from_utf8_lossy(&output.stderr);
            let around = String::from_utf8_lossy(
                &bad[place.saturating_sub(30)..(place + 30).min(bad.len())],
            )
            .into_owned();
            assert!(
                !output.status.success(),
                "byte {place} was changed and nobody noticed: {around}"
            );
            assert!(
                words.iter().any(|word| said.contains(word)),
                "byte {place} ({around}) is not named: {said}"
            );
        }
    }
}

/// Replaces a word in the first fact that has it.
fn replace(facts: &mut Value, from: &str, to: &str) {
    let facts = facts.as_array_mut().expect("facts");
    let fact = facts
        .iter_mut()
        .find(|fact| fact["text"].as_str().expect("a text").contains(from))
        .expect(from);
    fact["text"] = json!(fact["text"].as_str().expect("a text").replace(from, to));
}

/// Removes the first fact that contains a word.
fn remove(facts: &mut Value, word: &str) {
    let facts = facts.as_array_mut().expect("facts");
    let place = facts
        .iter()
        .position(|fact| fact["text"].as_str().expect("a text").contains(word))
        .expect(word);
    facts.remove(place);
}

/// Changes the last bytes of the first entry.
fn first(entries: &mut Value) {
    let entries = entries.as_object_mut().expect("entries");
    let entry = entries.values_mut().next().expect("one");
    let text = entry.as_str().expect("base64");
    *entry = json!(format!("{}AAAA", &text[..text.len() - 4]));
}

#[test]
fn the_command_line_says_what_was_charged_and_for_what() {
    let mut daemon = daemon();
    let book = daemon.folder().join("book.json");
    std::fs::write(&book, BOOK).expect("a book");
    let said = |daemon: &Daemon, arguments: &[&str]| {
        let output = daemon.cli(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    };
    let path = book.to_str().expect("text");
    assert!(said(&daemon, &["prices", "check", path]).contains("2 prices in EUR"));
    let standard = said(&daemon, &["prices", "check", path, "--policy", "standard"]);
    assert!(standard.contains("2 prices in EUR"), "{standard}");
    let misspelt = std::fs::read_to_string(path).expect("a book").replace("active", "activ");
    let other = format!("{path}.misspelt");
    std::fs::write(&other, misspelt).expect("a book");
    let refused = daemon.cli(&["prices", "check", &other, "--policy", "standard"]);
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("meter 'activ' is not one of policy"), "{refused}");
    let past = daemon.cli(&["policy", "activate", "standard", "--at", "2020-01-01"]);
    assert!(!past.status.success(), "an instant in the past, as a date");
    let past = String::from_utf8_lossy(&past.stderr).into_owned();
    assert!(past.contains("past") && !past.contains("not an instant"), "{past}");
    assert!(said(&daemon, &["prices", "set", path]).contains("2 prices in EUR"));
    assert!(said(&daemon, &["prices", "show"]).contains("in force"));
    lived(daemon.api(), "web");
    let preview = said(&daemon, &["invoice", "preview"]);
    assert!(
        preview.contains("not final")
            && preview.contains("vcpu-hour")
            && preview.contains("to be paid"),
        "{preview}"
    );
    let closed = said(&daemon, &["invoice", "close", "--to", "now", "--at-once"]);
    assert!(
        closed.contains("invoice default-1")
            && closed.contains("web")
            && closed.contains("to be paid"),
        "{closed}"
    );
    assert_eq!(said(&daemon, &["invoice", "show", "1"]), closed);
    let grouped = said(&daemon, &["invoice", "show", "1", "--group-by", "rule"]);
    assert!(grouped.contains("compute") && !grouped.contains("web"), "{grouped}");
    let by_day = said(&daemon, &["invoice", "show", "1", "--group-by", "day"]);
    assert!(by_day.contains("DAY") && !by_day.contains("web"), "{by_day}");
    let csv = said(&daemon, &["invoice", "show", "1", "--format", "csv"]);
    assert!(csv.starts_with("document,reference,issued,kind,"), "{csv}");
    assert!(csv.contains("\n1,default-1,20") && csv.contains(",vcpu-ns,3600000000000,"), "{csv}");
    let json = said(&daemon, &["invoice", "show", "1", "--format", "json"]);
    let document: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["documents"][0]["reference"], "default-1");
    let html = said(&daemon, &["invoice", "show", "1", "--format", "html"]);
    assert!(html.starts_with("<!doctype html>") && html.contains("<tfoot>"), "{html}");
    assert!(said(&daemon, &["invoice", "list"]).contains("invoice"));
    assert!(said(&daemon, &["agreement", "show"]).contains("months from day 1 on, in UTC"));
    let proved = said(&daemon, &["verify", "1/1"]);
    assert!(
        proved.contains("the journal is whole")
            && proved.contains("interpreted")
            && proved.contains("running"),
        "{proved}"
    );
    let refused = daemon.cli(&["invoice", "close", "--to", "2199-01-01"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not over yet"));
    daemon.stop();
}

#[test]
fn a_preview_without_a_book_says_that_nothing_is_priced() {
    let daemon = daemon();
    lived(daemon.api(), "web");
    let output = daemon.cli(&["invoice", "preview"]);
    let told = String::from_utf8(output.stdout).expect("text");
    // Usage, and no money: neither amounts nor a currency.
    assert!(told.contains("no price book") && told.contains("instance-hour"), "{told}");
    assert!(told.contains("web") && told.contains("active"), "{told}");
    for money in ["EUR", "XXX", "AMOUNT", "UNIT PRICE", "to be paid"] {
        assert!(!told.contains(money), "{money}: {told}");
    }
}
