//! Documents and usage for others' tools: FOCUS 1.2, held against a checker that knows the
//! specification and no code of the product; CloudEvents, pulled page by page.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tallyman_tests::daemon::Api;

use crate::daemon;
use crate::invoices::{BOOK, close, lived, nanos, put_prices};

/// A row by column; nulls left out.
type Row = BTreeMap<String, String>;

/// Columns that FOCUS 1.2 demands of every provider.
const MANDATORY: [&str; 21] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
];

/// Columns of [`MANDATORY`] whose values may be null.
const NULLABLE: [&str; 5] =
    ["BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"];

/// Columns that hold numbers.
const NUMBERS: [&str; 8] = [
    "BilledCost",
    "ConsumedQuantity",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "ListCost",
    "ListUnitPrice",
    "PricingQuantity",
];

/// Columns whose values come from closed lists.
const LISTS: [(&str, &[&str]); 6] = [
    ("ChargeCategory", &["Usage", "Purchase", "Tax", "Credit", "Adjustment"]),
    ("ChargeClass", &["Correction"]),
    ("ChargeFrequency", &["One-Time", "Recurring", "Usage-Based"]),
    ("PricingCategory", &["Standard", "Dynamic", "Committed", "Other"]),
    ("ServiceCategory", &["Compute", "Storage", "Networking", "Other"]),
    ("ServiceSubcategory", &["Virtual Machines"]),
];

/// The rows of a CSV text.
fn rows(csv: &str) -> (Vec<String>, Vec<Row>) {
    let mut lines = records(csv);
    let head = lines.remove(0);
    let row = |fields: Vec<String>| {
        assert_eq!(fields.len(), head.len(), "{fields:?}");
        head.iter().cloned().zip(fields).filter(|(_, value)| !value.is_empty()).collect()
    };
    let rows = lines.into_iter().map(row).collect();
    (head, rows)
}

fn records(csv: &str) -> Vec<Vec<String>> {
    let mut records = vec![];
    let mut record = vec![];
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    assert!(!quoted && record.is_empty() && field.is_empty(), "the text ends within a row");
    records
}

/// A decimal text as a whole number of `10^-27`.
fn exact(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or_else(|| panic!("no point: {text}"));
    check_decimal(text);
    assert!(fraction.len() <= 27, "{text}");
    format!("{whole}{fraction:0<27}").parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Digits with a point between them, after a sign at most.
fn check_decimal(text: &str) {
    let (whole, fraction) = text.split_once('.').unwrap_or_else(|| panic!("no point: {text}"));
    let parts = [whole.trim_start_matches('-'), fraction];
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    assert!(parts.into_iter().all(digits) && whole.matches('-').count() <= 1, "{text}");
}

fn check_instant(column: &str, text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{column}: {text}");
}

/// Holds every row against the rules of the specification.
fn check(head: &[String], rows: &[Row]) {
    let names: BTreeSet<_> = head.iter().map(String::as_str).collect();
    assert_eq!(names.len(), head.len(), "a column is there twice: {head:?}");
    for column in MANDATORY {
        assert!(names.contains(column), "{column} is missing");
    }
    for row in rows {
        check_row(row);
    }
}

fn check_row(row: &Row) {
    let of = |column: &str| row.get(column).map(String::as_str);
    for column in MANDATORY.iter().filter(|column| !NULLABLE.contains(column)) {
        assert!(of(column).is_some(), "{column} is null: {row:?}");
    }
    for column in NUMBERS {
        of(column).inspect(|text| check_decimal(text));
    }
    for (column, values) in LISTS {
        assert!(of(column).is_none_or(|value| values.contains(&value)), "{column}: {row:?}");
    }
    for pair in
        [["BillingPeriodStart", "BillingPeriodEnd"], ["ChargePeriodStart", "ChargePeriodEnd"]]
    {
        let [start, end] = pair.map(|column| of(column).expect("not null"));
        pair.iter().zip([start, end]).for_each(|(column, text)| check_instant(column, text));
        assert!(start < end, "{pair:?}: {row:?}");
    }
    assert!(of("BillingCurrency").is_some_and(|code| code.len() == 3), "{row:?}");
    if of("ChargeCategory") == Some("Usage") {
        for column in ["PricingQuantity", "PricingUnit", "ConsumedQuantity", "SkuPriceId"] {
            assert!(of(column).is_some(), "{column} is null: {row:?}");
        }
        for (price, cost) in
            [("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")]
        {
            let [price, quantity, cost] =
                [price, "PricingQuantity", cost].map(|column| of(column).expect("not null"));
            check_product(price, quantity, cost);
        }
    }
    if let Some(tags) = of("Tags") {
        let tags: Value = serde_json::from_str(tags).expect("JSON");
        assert!(tags.is_object(), "{row:?}");
    }
}

/// Long multiplication of decimal texts, digit by digit.
fn check_product(one: &str, other: &str, product: &str) {
    let digits = |text: &str| -> (bool, Vec<u32>, usize) {
        let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let digits = text.chars().filter_map(|c| c.to_digit(10)).rev().collect();
        (text.starts_with('-'), digits, fraction)
    };
    let (minus, a, before) = digits(one);
    let (less, b, behind) = digits(other);
    let mut made = vec![0_u32; a.len() + b.len() + 1];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0;
        for (j, y) in b.iter().enumerate() {
            let sum = made[i + j] + x * y + carry;
            (made[i + j], carry) = (sum % 10, sum / 10);
        }
        made[i + b.len()] += carry;
    }
    let point = before + behind;
    let text: String = made.iter().rev().map(|digit| char::from(b'0' + *digit as u8)).collect();
    let (whole, fraction) = text.split_at(text.len() - point);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    let is_zero = whole == "0" && fraction == "0";
    let sign = if minus != less && !is_zero { "-" } else { "" };
    assert_eq!(format!("{sign}{whole}.{fraction}"), product, "{one} * {other}");
}

fn billed(rows: &[&Row]) -> i128 {
    rows.iter().map(|row| exact(&row["BilledCost"])).sum()
}

/// `10^-9` in the scale of [`exact`].
const NANO: i128 = 10_i128.pow(18);

#[test]
fn documents_and_their_corrections_are_rows_of_focus_that_add_up_to_what_is_asked_for() {
    let daemon = daemon();
    let api = daemon.api();
    put_prices(api, BOOK);
    let tagged = json!({"name": "vm-1", "image": "tiny", "tags": {"team": "a \"b\", c"}});
    let id = api.post("/instances", &tagged).done()["id"].as_str().expect("an id").to_owned();
    api.wait(&id, "Running");
    api.command(&id, "standby");
    let invoice = close(api);
    api.command(&id, "restore");
    api.command(&id, "stop");
    let second = close(api);
    let dearer = BOOK.replace("\"36\"", "\"72\"");
    let asked = json!({"reason": "the price was wrong", "prices": dearer});
    let corrected = api.post("/tenants/self/invoices/2/corrections", &asked).done();
    lived(api, "vm-2");

    let text = api.text("/tenants/self/exports/focus-1.2?preview=true&provider=Example");
    let (head, rows) = rows(&text);
    check(&head, &rows);
    let mut documents = vec![invoice, second];
    documents.extend(corrected["documents"].as_array().expect("documents").clone());
    for document in &documents {
        let number = document["number"].as_u64().expect("a number");
        let id = format!("default-{number}");
        let of_it: Vec<_> = rows.iter().filter(|row| row.get("InvoiceId") == Some(&id)).collect();
        assert!(!of_it.is_empty(), "{id}: {text}");
        assert_eq!(billed(&of_it), nanos(&document["payable"]) * NANO, "{id}: {of_it:?}");
        let is_correction = document["kind"] == "correction";
        assert!(of_it.iter().all(|row| row.contains_key("ChargeClass") == is_correction), "{id}");
        assert!(of_it.iter().all(|row| row["x_DocumentDigest"].len() == 64), "{id}");
    }
    let preview: Vec<_> = rows.iter().filter(|row| !row.contains_key("InvoiceId")).collect();
    assert!(preview.iter().any(|row| row.get("ResourceName").is_some_and(|name| name == "vm-2")));
    let named = rows.iter().find(|row| row.get("ResourceId") == Some(&id)).expect("a row");
    assert_eq!(named["Tags"], r#"{"team":"a \"b\", c"}"#);
    assert!(rows.iter().all(|row| row["ProviderName"] == "Example"));
    by_other_ways(api, &rows);
    by_later_version(api, &rows);
}

/// The rows of 1.4 are those of 1.2 wherever both have a column; each invoice is the sum of its
/// details; one period is open.
fn by_later_version(api: &Api, earlier: &[Row]) {
    let export = |table| {
        let path = format!("/tenants/self/exports/{table}?preview=true&provider=Example");
        rows(&api.text(&path))
    };
    let (head, later) = export("focus-1.4");
    assert_eq!(later.len(), earlier.len());
    let has_earlier = |column: &str| ["ProviderName", "PublisherName"].contains(&column);
    let shared = |row: &Row, leave: &dyn Fn(&str) -> bool| -> Row {
        let kept = row.iter().filter(|(column, _)| !leave(column));
        kept.map(|(column, value)| (column.clone(), value.clone())).collect()
    };
    let has_later = |column: &str| {
        ["HostProviderName", "InvoiceDetailId", "ServiceProviderName"].contains(&column)
    };
    // Previews end when they are asked for.
    let finals = later.iter().zip(earlier).filter(|(row, _)| row.contains_key("InvoiceId"));
    for (one, other) in finals {
        assert_eq!(shared(one, &has_later), shared(other, &has_earlier));
        assert_eq!(one["ServiceProviderName"], "Example");
    }
    assert!(head.iter().any(|column| column == "InvoiceDetailId"), "{head:?}");
    let (_, details) = export("focus-1.4-invoice-detail");
    let ids: BTreeSet<_> = later.iter().filter_map(|row| row.get("InvoiceId")).collect();
    for id in ids {
        let of = |rows: &[Row]| {
            let there: Vec<_> =
                rows.iter().filter(|row| row.get("InvoiceId") == Some(id)).collect();
            billed(&there)
        };
        assert_eq!(of(&details), of(&later), "{id}");
    }
    let (_, periods) = export("focus-1.4-billing-period");
    let open = periods.iter().filter(|row| row["BillingPeriodStatus"] == "Open").count();
    assert_eq!(open, 1, "{periods:?}");
}

/// The same rows as JSON, by month, and by the command line.
fn by_other_ways(api: &Api, rows: &[Row]) {
    let as_json = api.get("/tenants/self/exports/focus-1.2?as=json").done();
    let finals = rows.iter().filter(|row| row.contains_key("InvoiceId")).count();
    assert_eq!(as_json.as_array().map(Vec::len), Some(finals));
    let month = &rows[0]["BillingPeriodStart"][..7];
    let path = format!("/tenants/self/exports/focus-1.2?as=json&month={month}");
    assert_eq!(api.get(&path).done().as_array().map(Vec::len), Some(finals));
    let other = api.get("/tenants/self/exports/focus-1.2?as=json&month=1999-01").done();
    assert_eq!(other, json!([]));
    api.get("/tenants/self/exports/focus-1.2?month=1999").refused(400, "invalid", "2026-01");
}

#[test]
fn usage_is_pulled_as_events_that_add_up_to_the_time_and_never_come_twice() {
    let daemon = daemon();
    let api = daemon.api();
    let id = lived(api, "vm-1");
    api.delete(&format!("/instances/{id}"));
    let all = pull(api, 1_000);
    let by_three = pull(api, 3);
    assert_eq!(all, by_three, "pages don't matter");
    let ids: BTreeSet<_> = all.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), all.len(), "an id is there twice");
    let mut end = None;
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for event in &all {
        let data = &event["data"];
        let ns = |name: &str| data[name].as_str().expect("a text").parse::<i64>().expect("digits");
        assert!(end.is_none_or(|end| end == ns("start_ns")), "intervals touch: {all:?}");
        assert_eq!(ns("end_ns") - ns("start_ns"), ns("duration_ns"), "{event}");
        end = Some(ns("end_ns"));
        let phase = data["phase"].as_str().expect("a phase").to_owned();
        *totals.entry(phase).or_default() += ns("duration_ns").unsigned_abs();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["source"], format!("/instances/{id}"));
        assert_eq!(event["subject"], "default");
    }
    let account = api.get(&format!("/instances/{id}/intervals")).done();
    for (phase, ns) in account["totals_ns"].as_object().expect("totals") {
        let ns = ns.as_u64().or_else(|| ns.as_str()?.parse().ok());
        assert_eq!(totals.get(phase).copied(), ns, "{phase}");
    }
    let later = api.get(&format!("/tenants/self/usage/events?after={}", last(api))).done();
    assert_eq!((&later["events"], &later["more"]), (&json!([]), &json!(false)));
    api.create_running("vm-2");
    let new = api.get(&format!("/tenants/self/usage/events?after={}", later["after"])).done();
    assert_eq!(new["events"].as_array().map(Vec::len), Some(2), "created, initializing: {new}");
}

#[test]
fn intervals_come_by_pages_that_touch_and_each_of_which_adds_up() {
    let daemon = daemon();
    let api = daemon.api();
    let id = lived(api, "vm-1");
    let path = format!("/instances/{id}/intervals");
    let of_all = api.get(&path).done();
    let all = of_all["intervals"].as_array().expect("intervals").clone();
    assert!(all.len() > 4, "{all:?}");
    assert_eq!(of_all.get("next"), None);
    let mut found = Vec::new();
    let mut after = json!(0);
    loop {
        let page = api.get(&format!("{path}?limit=2&after={after}")).done();
        assert_eq!(page["proof"]["difference_ns"], json!(0), "{page}");
        assert_eq!(page["accounted"]["proof"]["difference_ns"], json!(0), "{page}");
        found.extend(page["intervals"].as_array().expect("intervals").clone());
        match page.get("next") {
            Some(next) => after = next.clone(),
            None => break,
        }
    }
    // The open interval goes on meanwhile.
    let begins = |all: &[Value]| {
        all.iter().map(|one| (one["fact"].clone(), one["start_ns"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(begins(&found), begins(&all));
    api.delete(&format!("/instances/{id}"));
    let last = api.get(&format!("{path}?limit=1&after={}", all[all.len() - 2]["fact"])).done();
    assert_eq!(last["intervals"].as_array().map(Vec::len), Some(1), "{last}");
    assert_eq!(last["intervals"][0]["open"], json!(false));
}

/// The place behind all events.
fn last(api: &Api) -> Value {
    api.get("/tenants/self/usage/events").done()["after"].clone()
}

/// All events, so many facts at a time.
pub(crate) fn pull(api: &Api, limit: usize) -> Vec<Value> {
    let mut events = Vec::new();
    let mut after = json!(0);
    loop {
        let path = format!("/tenants/self/usage/events?after={after}&limit={limit}");
        let page = api.get(&path).done();
        events.extend(page["events"].as_array().expect("events").clone());
        after = page["after"].clone();
        if page["more"] == json!(false) {
            return events;
        }
    }
}
