//! Acts on a tenant's money: each is done once under its key, planned ones are withdrawn, and all
//! are on record.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Server, TOKEN, answer, book};

const TENANT: &str = "/tenants/default";

async fn act(
    server: &Server,
    (method, path): (Method, &str),
    body: Option<&Value>,
    key: &str,
) -> (StatusCode, Value) {
    let request = server.bare(method, &format!("{TENANT}{path}")).bearer_auth(TOKEN);
    let request = request.header("idempotency-key", key);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    answer(request).await
}

#[tokio::test]
async fn every_act_of_money_is_done_once_under_its_key() {
    let server = Server::start().await;
    let correction = json!({"reason": "agreed", "prices": book("EUR", "7").to_string()});
    let override_ = json!({"from": "2026-01-01", "until": "2199-01-01", "reason": "as agreed",
        "prices": book("EUR", "6").to_string()});
    // Method, path, body, and another body that the same key is refused for.
    let rows = [
        (Method::PUT, "/prices", book("EUR", "5"), book("EUR", "50")),
        (Method::PUT, "/prices?at=2199-01-01", book("EUR", "8"), book("EUR", "9")),
        (
            Method::PUT,
            "/agreement",
            json!({"zone": "Europe/Berlin", "cycle": "month", "anchor_day": 1}),
            json!({"zone": "Europe/Paris", "cycle": "month", "anchor_day": 1}),
        ),
        (
            Method::POST,
            "/invoice/close",
            json!({"to": "now", "at_once": true}),
            json!({"to": "2026-01-01", "at_once": true}),
        ),
        (
            Method::POST,
            "/invoice/overrides",
            override_,
            json!({"from": "2026-01-01",
            "until": "2026-02-01", "reason": "another"}),
        ),
        (Method::POST, "/invoice/settle", json!({"reason": "as agreed"}), json!({"reason": "no"})),
        (Method::POST, "/invoices/1/corrections", correction, json!({"reason": "another"})),
    ];
    let mut answers = Vec::new();
    for (number, (method, path, body, _)) in rows.iter().enumerate() {
        let key = format!("key-{number}");
        let first = act(&server, (method.clone(), path), Some(body), &key).await;
        assert!(first.0.is_success(), "{path}: {first:?}");
        answers.push(first);
    }
    let facts = server.get("/journal/head").await.1["seq"].clone();
    let server = server.again().await;
    for (number, (method, path, body, other)) in rows.iter().enumerate() {
        let key = format!("key-{number}");
        let again = act(&server, (method.clone(), path), Some(body), &key).await;
        assert_eq!(again, answers[number], "{path}");
        let (status, refused) = act(&server, (method.clone(), path), Some(other), &key).await;
        assert_eq!(
            (status, refused["code"].as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, Some("idempotency_key_reused")),
            "{path}: {refused}"
        );
    }
    // Nothing but the daemon's own start was recorded.
    let head = server.get("/journal/head").await.1["seq"].clone();
    assert_eq!(head.as_u64(), facts.as_u64().map(|seq| seq + 1));
    server.stop().await;
}

#[tokio::test]
async fn planned_prices_are_withdrawn_by_digest_and_instant() {
    let server = Server::start().await;
    for (at, minimum) in
        [("", "1"), ("?at=2197-01-01", "2"), ("?at=2198-01-01", "3"), ("?at=2199-01-01", "2")]
    {
        let path = format!("/prices{at}");
        let (status, set) =
            act(&server, (Method::PUT, &path), Some(&book("EUR", minimum)), &format!("{at}."))
                .await;
        assert_eq!(status, StatusCode::OK, "{set}");
    }
    let path = format!("{TENANT}/prices");
    let states = |prices: &Value| -> Vec<String> {
        let history = prices["history"].as_array().expect("a history").iter();
        history.map(|one| one["state"].as_str().expect("a state").to_owned()).collect()
    };
    let (_, listed) = server.get(&path).await;
    assert_eq!(states(&listed), ["in-force", "planned", "planned", "planned"]);
    let digest = listed["history"][1]["digest"].as_str().expect("a digest").to_owned();
    let second = listed["history"][3]["from"].as_str().expect("an instant").to_owned();

    let one = format!("/prices/planned/{digest}?at={second}&reason=no");
    let (status, left) = act(&server, (Method::DELETE, &one), None, "one").await;
    assert_eq!(
        (status, states(&left)),
        (
            StatusCode::OK,
            ["in-force", "planned", "planned", "withdrawn"].map(String::from).to_vec()
        )
    );
    assert_eq!(act(&server, (Method::DELETE, &one), None, "one").await, (status, left));
    let (status, refused) = act(&server, (Method::DELETE, &one), None, "two").await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::NOT_FOUND, Some("not_planned")));

    let rest = format!("/prices/planned/{digest}");
    let (_, left) = act(&server, (Method::DELETE, &rest), None, "three").await;
    assert_eq!(states(&left), ["in-force", "withdrawn", "planned", "withdrawn"]);
    let server = server.again().await;
    assert_eq!(server.get(&path).await.1, left, "also after a restart");
    let unknown = format!("{TENANT}/prices/planned/abc");
    let (status, refused) = server.ask(Method::DELETE, &unknown, None).await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::NOT_FOUND, Some("no_such_prices")));
    server.stop().await;
}

#[tokio::test]
async fn who_did_what_with_money_is_on_record() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (charging, _) = server.token("acme", tallyman::tenant::Role::Billing).await;
    let path = "/tenants/acme/prices";
    let set = server.ask_as(&charging, Method::PUT, path, Some(book("EUR", "5"))).await;
    assert_eq!(set.0, StatusCode::OK, "{}", set.1);
    let close = json!({"to": "now", "at_once": true});
    let closed = server.ask(Method::POST, "/tenants/acme/invoice/close", Some(close)).await;
    assert_eq!(closed.0, StatusCode::CREATED, "{}", closed.1);
    let (_, acts) = server.get("/tenants/acme/acts").await;
    let acts: Vec<(&str, bool)> = acts["facts"]
        .as_array()
        .expect("facts")
        .iter()
        .map(|fact| {
            let by = fact["by"].as_str().expect("an actor");
            (fact["kind"].as_str().expect("a kind"), by == "operator")
        })
        .collect();
    let expected = [("policy-activated", true), ("prices-activated", false), ("invoiced", true)];
    assert_eq!(acts, expected);
    server.stop().await;
}
