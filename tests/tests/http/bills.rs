//! Documents for people: names, numbers, dates and days.

use reqwest::Method;
use serde_json::json;

use tallyman_tests::policies;

use super::{Server, book, done, refused};

#[tokio::test]
async fn a_document_names_issuer_payer_and_rules() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let path = "/tenants/acme/billing-name";
    for wrong in ["", " Acme", "Ac\nme", &"x".repeat(257)] {
        assert_eq!(refused(&server, Method::PUT, path, json!({"name": wrong})).await.0, 400);
    }
    let named = done(&server, Method::PUT, path, json!({"name": "Acme GmbH, Berlin"})).await;
    assert_eq!(named["billing_name"], "Acme GmbH, Berlin");
    assert_eq!(named["policy_name"], "standard");
    let prices = "/tenants/acme/prices?name=night-v3";
    let set = done(&server, Method::PUT, prices, book("EUR", "5")).await;
    assert_eq!(set["name"], "night-v3");

    let close = json!({"to": "now", "at_once": true});
    let close = done(&server, Method::POST, "/tenants/acme/invoice/close", close).await;
    let document = &close["documents"][0];
    assert_eq!(document["reference"], "EX-acme-1", "{document}");
    assert_eq!(document["issuer"], "Example Ltd");
    assert_eq!(document["billed_to"], "Acme GmbH, Berlin");
    assert!(document["issued"].as_str().expect("an instant").starts_with("20"), "{document}");
    assert_eq!(document["policies"][0]["name"], "standard");
    assert_eq!(document["books"][0]["name"], "night-v3");
    assert_eq!(document["books"][0]["digest"], set["digest"]);
    let (_, listed) = server.get("/tenants/acme/invoices").await;
    assert_eq!(listed["invoices"][0]["reference"], "EX-acme-1");

    // Another name later changes no document, and the document is still proved.
    done(&server, Method::PUT, path, json!({"name": null})).await;
    let proof = "/tenants/acme/invoices/1/proof";
    let (status, proof) = server.ask(Method::POST, proof, None).await;
    assert!(status.is_success(), "{proof}");
    let (_, again) = server.get("/tenants/acme/invoices/1").await;
    assert_eq!(again, *document);
    server.stop().await;
}

#[tokio::test]
async fn a_book_is_found_by_its_name_and_a_name_is_one_book() {
    let server = Server::start().await;
    let path = "/tenants/default/prices";
    let named = format!("{path}?name=winter");
    let first = done(&server, Method::PUT, &named, book("EUR", "5")).await;
    assert_eq!(
        refused(&server, Method::PUT, &named, book("EUR", "6")).await,
        (409, "name_in_use".into())
    );
    // The same again is in force already: nothing is recorded.
    let again = done(&server, Method::PUT, path, book("EUR", "5")).await;
    assert_eq!((&again["already"], &again["fact"]), (&json!(true), &first["fact"]));
    assert_eq!(again["name"], "winter");
    let (_, history) = server.get(path).await;
    assert_eq!(history["history"].as_array().map(Vec::len), Some(1));
    assert_eq!(history["current"]["name"], "winter");
    done(&server, Method::PUT, &format!("{path}?name=summer"), book("EUR", "6")).await;
    let over = json!({
        "from": "2026-01-01", "until": "2199-01-01", "prices": "winter", "reason": "as agreed",
    });
    let over = done(&server, Method::POST, "/tenants/default/invoice/overrides", over).await;
    assert_eq!((&over["prices"], &over["prices_name"]), (&first["digest"], &json!("winter")));
    let unknown = json!({"prices": "autumn"});
    let unknown = refused(&server, Method::POST, "/tenants/default/invoice/preview", unknown).await;
    assert_eq!(unknown, (404, "no_such_prices".into()));
    server.stop().await;
}

#[tokio::test]
async fn days_of_a_preview_and_of_a_document_say_the_same() {
    let server = Server::start().await;
    done(&server, Method::PUT, "/tenants/default/prices", book("EUR", "5")).await;
    let preview = "/tenants/default/invoice/preview/days";
    let days = done(&server, Method::POST, preview, json!({})).await;
    let of_preview = &days["documents"][0];
    assert_eq!(of_preview["document"]["kind"], "preview", "{days}");
    let close = json!({"to": "now", "at_once": true});
    done(&server, Method::POST, "/tenants/default/invoice/close", close).await;
    let (status, stored) = server.get("/tenants/default/invoices/1/days").await;
    assert!(status.is_success(), "{stored}");
    assert_eq!(stored["days"], of_preview["days"]);
    assert_eq!(stored["document"]["number"], 1);
    server.stop().await;
}

/// Changes after which a period would have two currencies are refused when they are made.
#[tokio::test]
async fn no_change_leaves_a_period_with_two_currencies() {
    let server = Server::start().await;
    let prices = "/tenants/default/prices";
    done(&server, Method::PUT, prices, book("EUR", "5")).await;
    let (_, agreement) = server.get("/tenants/default/agreement").await;
    let border = agreement["until"].as_str().expect("an instant").to_owned();
    let after = format!("{}-10T00:00:00Z", &border[..7]);
    let at = |instant: &str| format!("{prices}?at={instant}");

    // A euro inside the next period, then a dollar from its border on: the period would have both.
    let planned = done(&server, Method::PUT, &at(&after), book("EUR", "6")).await;
    assert_eq!(refused(&server, Method::PUT, &at(&border), book("USD", "7")).await.0, 409);
    let withdraw = format!(
        "/tenants/default/prices/planned/{}",
        planned["digest"].as_str().expect("a digest")
    );
    let (status, _) = server.ask(Method::DELETE, &withdraw, None).await;
    assert!(status.is_success());

    // A dollar from the border on, and another book inside: the first can't be withdrawn alone.
    let dollar = done(&server, Method::PUT, &at(&border), book("USD", "7")).await;
    done(&server, Method::PUT, &at(&after), book("USD", "8")).await;
    let withdraw =
        format!("/tenants/default/prices/planned/{}", dollar["digest"].as_str().expect("a digest"));
    let (status, answer) = server.ask(Method::DELETE, &withdraw, None).await;
    assert_eq!((status.as_u16(), &answer["code"]), (409, &json!("refused")), "{answer}");

    // An override in the other currency can't end inside a period.
    let over = json!({
        "from": border, "until": format!("{}-02T12:00:00Z", &border[..7]),
        "prices": book("EUR", "9").to_string(), "reason": "a mistake",
    });
    let path = "/tenants/default/invoice/overrides";
    assert_eq!(refused(&server, Method::POST, path, over).await, (409, "refused".into()));
    server.stop().await;
}

#[tokio::test]
async fn no_agreement_moves_a_border_away_from_a_change_of_currency() {
    let server = Server::start().await;
    done(&server, Method::PUT, "/tenants/default/prices", book("EUR", "5")).await;
    let at = "/tenants/default/prices?at=2199-03-01T00:00:00Z";
    done(&server, Method::PUT, at, book("USD", "7")).await;
    let zone = |zone: &str| json!({"zone": zone, "cycle": "month", "anchor_day": 1});
    let path = "/tenants/default/agreement";
    let moved = refused(&server, Method::PUT, path, zone("Asia/Tokyo")).await;
    assert_eq!(moved, (409, "refused".into()));
    done(&server, Method::PUT, path, zone("Africa/Abidjan")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_credit_keeps_its_amount_under_an_override_that_hides_it() {
    let server = Server::start().await;
    let credit = |amount: &str| {
        json!({"currency": "EUR", "prices": [],
            "adjustments": [{"id": "gift", "kind": "credit", "amount": amount}]})
    };
    done(&server, Method::PUT, "/tenants/default/prices", credit("10")).await;
    let over = json!({
        "from": "2020-01-01", "until": "2199-01-01", "reason": "for now",
        "prices": json!({"currency": "EUR", "prices": []}).to_string(),
    });
    done(&server, Method::POST, "/tenants/default/invoice/overrides", over).await;
    // The grant is still the tenant's, though no book in force names it.
    let other = refused(&server, Method::PUT, "/tenants/default/prices", credit("20")).await;
    assert_eq!(other, (409, "refused".into()));
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_charged_once_after_a_tenants_end() {
    let server = Server::start().await;
    server.tenant("gone").await;
    done(&server, Method::PUT, "/tenants/gone/prices", book("EUR", "5")).await;
    let (_, set) = server.get("/tenants/gone/prices").await;
    let since = set["history"][0]["from"].clone();
    assert!(since.is_string(), "{set}");
    done(&server, Method::PUT, "/tenants/gone/suspension", json!({"suspended": true})).await;
    let (status, ended) = server.ask(Method::DELETE, "/tenants/gone", None).await;
    assert!(status.is_success(), "{ended}");
    let charge = json!({"kind": "charge", "amount": "1", "reason": "too late"});
    let late = refused(&server, Method::POST, "/tenants/gone/one-offs", charge.clone()).await;
    assert_eq!(late, (409, "refused".into()));
    // For time before the end there still is a document to settle.
    let mut before = charge;
    before["at"] = since;
    done(&server, Method::POST, "/tenants/gone/one-offs", before).await;
    let settled =
        done(&server, Method::POST, "/tenants/gone/invoice/settle", json!({"reason": "late"}))
            .await;
    assert_eq!(settled["documents"][0]["payable"], "1.00", "{settled}");
    server.stop().await;
}

/// A document that a settlement would correct is marked in the list and counted for alerts; one
/// that would come out the same is not, whatever became known.
#[tokio::test]
async fn a_document_is_stale_only_while_a_settlement_would_correct_it() {
    let server = Server::start().await;
    done(&server, Method::PUT, "/tenants/default/prices", book("EUR", "5")).await;
    let (_, set) = server.get("/tenants/default/prices").await;
    let since = set["history"][0]["from"].clone();
    let close = json!({"to": "now", "at_once": true});
    done(&server, Method::POST, "/tenants/default/invoice/close", close).await;
    let over = json!({
        "from": since, "until": "2199-01-01", "prices": book("EUR", "5").to_string(),
        "reason": "in other words",
    });
    done(&server, Method::POST, "/tenants/default/invoice/overrides", over).await;
    assert_eq!(stale(&server).await, (json!(false), 0));

    let charge = json!({"kind": "charge", "amount": "1", "reason": "late", "at": since});
    done(&server, Method::POST, "/tenants/default/one-offs", charge).await;
    assert_eq!(stale(&server).await, (json!(true), 1));
    let settle = json!({"reason": "late"});
    done(&server, Method::POST, "/tenants/default/invoice/settle", settle).await;
    assert_eq!(stale(&server).await, (json!(false), 0));
    server.stop().await;
}

/// The first document's mark in the list, and the count of stale documents in the metrics.
async fn stale(server: &Server) -> (serde_json::Value, u64) {
    let (_, listed) = server.get("/tenants/default/invoices").await;
    let asked = server.bare(Method::GET, "/metrics").bearer_auth(super::TOKEN).send().await;
    let text = asked.expect("metrics").text().await.expect("text");
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(r#"tallyman_documents_stale{tenant="default"} "#));
    let count = found.expect("a sample").parse().expect("a number");
    (listed["invoices"][0]["stale"].clone(), count)
}

#[tokio::test]
async fn a_repeated_join_answers_with_the_version_of_the_first() {
    let server = Server::start().await;
    done(&server, Method::PUT, "/tariffs/pro/2026-11", book("EUR", "5")).await;
    let join = |key: &str| {
        let request = server.bare(Method::PUT, "/tenants/default/tariff");
        let request = request.bearer_auth(super::TOKEN).header("Idempotency-Key", key);
        super::answer(request.json(&json!({"tariff": "pro"})))
    };
    let (_, first) = join("k").await;
    assert_eq!(first["name"], "pro/2026-11", "{first}");
    done(&server, Method::PUT, "/tariffs/pro/2026-12", book("EUR", "6")).await;
    let (_, again) = join("k").await;
    assert_eq!(again, first);
    let (_, listed) = server.get("/tariffs").await;
    assert_eq!(listed[0]["versions"][0]["tenants"], 1);
    server.stop().await;
}

#[tokio::test]
async fn rules_that_can_t_be_billed_together_are_refused_in_words() {
    let server = Server::start().await;
    done(&server, Method::PUT, "/tenants/default/prices", book("EUR", "5")).await;
    let asked = json!({"to": "now", "prices": book("USD", "5").to_string()});
    let path = "/tenants/default/invoice/preview";
    let (status, answer) = server.ask(Method::POST, path, Some(asked)).await;
    assert_eq!((status.as_u16(), answer["code"].as_str()), (409, Some("unbillable")), "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("USD and EUR"), "{message}");
    server.stop().await;
}

#[tokio::test]
async fn a_policy_without_a_meter_of_the_book_is_neither_rolled_back_to_nor_named() {
    let server = Server::start().await;
    let (_, uploaded) = server.upload(policies::component("ec2")).await;
    let put = "/tenants/default/policy";
    done(&server, Method::PUT, put, json!({"digest": uploaded["digest"]})).await;
    done(&server, Method::PUT, put, json!({"digest": "standard", "again": true})).await;
    let price = json!({"id": "p", "rule": "r", "meter": "standby", "per": "instance-hour",
        "price": "1"});
    let book = json!({"currency": "EUR", "prices": [price]});
    done(&server, Method::PUT, "/tenants/default/prices", book).await;

    let back = refused(&server, Method::POST, "/tenants/default/policy/rollback", json!({})).await;
    assert_eq!(back, (409, "refused".into()));
    let override_ = json!({"from": "2020-01-01", "until": "2199-01-01", "reason": "a trial",
        "policy": uploaded["digest"]});
    let path = "/tenants/default/invoice/overrides";
    assert_eq!(refused(&server, Method::POST, path, override_).await, (409, "refused".into()));
    let (_, state) = server.get(put).await;
    assert_ne!(state["digest"], uploaded["digest"], "{state}");
    server.stop().await;
}
