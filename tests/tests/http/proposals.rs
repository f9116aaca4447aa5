//! Proposals: what a tenant asks for, and whoever charges it decides.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tallyman::limits::tenant::PROPOSALS_MAX;
use tallyman::tenant::Role;

use super::{Server, answer, book};

const PATH: &str = "/tenants/acme/proposals";

fn asked(minimum: &str) -> Value {
    json!({"prices": book("EUR", minimum).to_string(), "name": format!("m-{minimum}"),
        "reason": "as agreed"})
}

fn number(proposal: &Value) -> u64 {
    proposal["number"].as_u64().expect("a number")
}

async fn decided(
    server: &Server,
    token: &str,
    proposal: &Value,
    what: &str,
) -> (StatusCode, Value) {
    let path = format!("{PATH}/{}/{what}", number(proposal));
    server.ask_as(token, Method::POST, &path, Some(json!({}))).await
}

#[tokio::test]
async fn an_admin_proposes_and_whoever_charges_accepts_or_declines() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let (billing, _) = server.token("acme", Role::Billing).await;
    let propose = |body: Value| server.ask_as(&admin, Method::POST, PATH, Some(body));

    let (status, first) = propose(asked("5")).await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    assert_eq!((&first["plan"], &first["state"]), (&json!("prices"), &json!("open")), "{first}");
    // The one who pays does not decide.
    let (status, refused) = decided(&server, &admin, &first, "accept").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let (status, accepted) = decided(&server, &billing, &first, "accept").await;
    assert_eq!((status, &accepted["state"]), (StatusCode::OK, &json!("accepted")), "{accepted}");
    let (_, prices) = server.get("/tenants/acme/prices").await;
    assert_eq!(prices["current"]["digest"], first["digest"], "{prices}");
    assert_eq!(prices["current"]["name"], "m-5", "{prices}");
    let (status, refused) = decided(&server, &billing, &first, "accept").await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("proposal_ended")));

    let (_, second) = propose(json!({"policy": "standard", "at": "2199-01-01"})).await;
    let (status, declined) = decided(&server, &admin, &second, "decline").await;
    assert_eq!((status, &declined["state"]), (StatusCode::OK, &json!("declined")), "{declined}");

    is_on_record(server.again().await, [&declined, &accepted]).await;
}

/// Checks that a tenant's proposals are listed, newest first, and are among the acts of money.
async fn is_on_record(server: Server, proposals: [&Value; 2]) {
    let (_, listed) = server.get(PATH).await;
    let listed: Vec<_> = listed["proposals"].as_array().expect("a list").iter().collect();
    assert_eq!(listed, proposals, "newest first, also after a restart");
    let (_, acts) = server.get("/tenants/acme/acts").await;
    let acts = acts["facts"].as_array().expect("facts").iter();
    let kinds: Vec<_> = acts.map(|fact| fact["kind"].as_str().expect("a kind")).collect();
    let expected = [
        "policy-activated",
        "proposed",
        "prices-activated",
        "proposal-ended",
        "proposed",
        "proposal-ended",
    ];
    assert_eq!(kinds, expected);
    server.stop().await;
}

#[tokio::test]
async fn a_proposed_book_is_not_in_force_and_can_be_previewed() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let (_, first) = server.ask_as(&admin, Method::POST, PATH, Some(asked("5"))).await;
    let (_, prices) = server.get("/tenants/acme/prices").await;
    assert_eq!(prices["history"], json!([]));
    let preview = json!({"to": "now", "prices": first["digest"]});
    let path = "/tenants/acme/invoice/preview";
    let (status, shown) = server.ask_as(&admin, Method::POST, path, Some(preview)).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    server.stop().await;
}

#[tokio::test]
async fn what_could_not_be_charged_is_not_proposed() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    let rows = [
        (json!({}), StatusCode::BAD_REQUEST, "invalid"),
        (json!({"policy": "standard", "name": "x"}), StatusCode::BAD_REQUEST, "invalid"),
        (json!({"policy": "none"}), StatusCode::NOT_FOUND, "no_such_policy"),
        (json!({"prices": "{}"}), StatusCode::BAD_REQUEST, "invalid"),
        (json!({"policy": "standard", "at": "2001-01-01"}), StatusCode::CONFLICT, "refused"),
        (json!({"policy": "standard", "options": {"no": "1"}}), StatusCode::CONFLICT, "refused"),
    ];
    for (body, status, code) in rows {
        let refused = server.ask_as(&admin, Method::POST, PATH, Some(body.clone())).await;
        assert_eq!((refused.0, refused.1["code"].as_str()), (status, Some(code)), "{body}");
    }
    let (status, refused) = decided(&server, &admin, &json!({"number": 1}), "decline").await;
    assert_eq!((status, &refused["code"]), (StatusCode::NOT_FOUND, &json!("no_such_proposal")));
    let (reader, _) = server.token("acme", Role::TenantReader).await;
    let (status, _) = server.ask_as(&reader, Method::POST, PATH, Some(asked("5"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    server.stop().await;
}

#[tokio::test]
async fn a_proposal_is_made_and_accepted_once_under_its_key() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let send = async |path: &str, body: Value, key: &str| {
        let request = server.bare(Method::POST, path).bearer_auth(super::TOKEN);
        answer(request.header("idempotency-key", key).json(&body)).await
    };
    let first = send(PATH, asked("5"), "one").await;
    assert_eq!(send(PATH, asked("5"), "one").await, first);
    let accept = format!("{PATH}/{}/accept", number(&first.1));
    let accepted = send(&accept, json!({}), "two").await;
    assert_eq!(accepted.0, StatusCode::OK, "{}", accepted.1);
    assert_eq!(send(&accept, json!({}), "two").await, accepted);
    let (_, prices) = server.get("/tenants/acme/prices").await;
    assert_eq!(prices["history"].as_array().map(Vec::len), Some(1), "{prices}");
    // The same book again: its acceptance changes nothing, and still has the key.
    let second = send(PATH, asked("5"), "three").await;
    let accept = format!("{PATH}/{}/accept", number(&second.1));
    assert_eq!(send(&accept, json!({}), "four").await.0, StatusCode::OK);
    let third = send(PATH, asked("6"), "five").await;
    let decline = format!("{PATH}/{}/decline", number(&third.1));
    let (status, refused) = send(&decline, json!({}), "four").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_with_as_many_proposals_as_may_be_takes_no_place_of_another() {
    let server = Server::start().await;
    server.tenant("acme").await;
    server.tenant("globex").await;
    let propose = |path: &'static str| {
        server.ask(Method::POST, path, Some(json!({"policy": "standard", "at": "2199-01-01"})))
    };
    for _ in 0..PROPOSALS_MAX {
        let (status, made) = propose(PATH).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
    let (status, refused) = propose(PATH).await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("too_many_proposals")));
    let (status, made) = propose("/tenants/globex/proposals").await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    server.stop().await;
}
