//! Amounts beside the book, tariffs for many tenants, and the end of a tenant.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tallyman::tenant::Role;

use super::{Server, book, done, refused};

async fn close(server: &Server, tenant: &str) -> Value {
    let path = format!("/tenants/{tenant}/invoice/close");
    let closed = done(server, Method::POST, &path, json!({"to": "now", "at_once": true})).await;
    closed["documents"].as_array().and_then(|all| all.last()).expect("a document").clone()
}

#[tokio::test]
async fn a_charge_and_a_goodwill_stand_on_the_next_document() {
    let server = Server::start().await;
    let path = "/tenants/default/one-offs";
    let one = |kind: &str, amount: &str| json!({"kind": kind, "amount": amount, "reason": format!("a {kind}")});
    let without = refused(&server, Method::POST, path, one("charge", "1")).await;
    assert_eq!(without, (409, "refused".into()), "no book is in force");
    let plain = json!({"currency": "EUR", "prices": []});
    done(&server, Method::PUT, "/tenants/default/prices", plain).await;
    for wrong in ["0", "-1", "0.001"] {
        let wrong = refused(&server, Method::POST, path, one("charge", wrong)).await;
        assert_eq!(wrong, (409, "refused".into()));
    }
    let mut other = one("charge", "1");
    other["currency"] = json!("USD");
    assert_eq!(refused(&server, Method::POST, path, other).await.1, "refused");
    let mut later = one("charge", "1");
    later["at"] = json!("2199-01-01");
    assert_eq!(refused(&server, Method::POST, path, later).await.1, "refused");

    let charged = done(&server, Method::POST, path, one("charge", "25")).await;
    let first = close(&server, "default").await;
    assert_eq!(first["payable"], "25.00", "{first}");
    let sum = &first["adjustments"][0];
    assert_eq!((&sum["id"], &sum["kind"]), (&charged["id"], &json!("charge")));
    assert_eq!(sum["reason"], "a charge");
    done(&server, Method::POST, path, one("goodwill", "40")).await;
    let second = close(&server, "default").await;
    assert_eq!((&second["payable"], &second["period_payable"]), (&json!("-25.00"), &json!("0.00")));
    // What the goodwill has left pays the next charge.
    done(&server, Method::POST, path, one("charge", "20")).await;
    let third = close(&server, "default").await;
    assert_eq!((&third["payable"], &third["period_payable"]), (&json!("5.00"), &json!("5.00")));
    server.stop().await;
}

#[tokio::test]
async fn a_tariff_is_published_joined_and_changed_for_all() {
    let server = Server::start().await;
    done(&server, Method::PUT, "/tariffs/pro/2026-11", book("EUR", "5")).await;
    done(&server, Method::PUT, "/tariffs/pro/2026-11", book("EUR", "5")).await;
    let other = refused(&server, Method::PUT, "/tariffs/pro/2026-11", book("EUR", "6")).await;
    assert_eq!(other, (409, "published".into()));
    let unknown = json!({"tariff": "no"});
    let unknown = refused(&server, Method::PUT, "/tariffs/default", unknown).await;
    assert_eq!(unknown, (404, "no_such_tariff".into()));
    done(&server, Method::PUT, "/tariffs/default", json!({"tariff": "pro"})).await;

    server.tenant("acme").await;
    server.tenant("own").await;
    let (_, prices) = server.get("/tenants/acme/prices").await;
    assert!(prices["current"]["text"].as_str().expect("a text").contains("\"5\""), "{prices}");
    done(&server, Method::PUT, "/tenants/own/prices", book("EUR", "7")).await;
    let listed = done(&server, Method::PUT, "/tariffs/pro/2026-12", book("EUR", "6")).await;
    let versions = &listed[0]["versions"];
    assert_eq!((&versions[0]["tenants"], &versions[1]["tenants"]), (&json!(1), &json!(0)));

    // Whoever has a book of its own is not on the tariff any more.
    let changed = done(&server, Method::POST, "/tariffs/pro/change", json!({})).await;
    let rows = changed["tenants"].as_array().expect("rows");
    assert_eq!(rows.len(), 1, "{changed}");
    assert_eq!((&rows[0]["tenant"], &rows[0]["version"]), (&json!("acme"), &json!("2026-12")));
    let (_, agreement) = server.get("/tenants/acme/agreement").await;
    assert_eq!(rows[0]["from"], agreement["until"]);

    let join = json!({"tariff": "pro", "version": "2026-11", "at": "border"});
    let joined = done(&server, Method::PUT, "/tenants/own/tariff", join).await;
    assert_eq!((&joined["state"], &joined["from"]), (&json!("planned"), &agreement["until"]));
    let server = server.again().await;
    let (_, listed) = server.get("/tariffs").await;
    let versions = &listed[0]["versions"];
    assert_eq!((&versions[0]["tenants"], &versions[1]["tenants"]), (&json!(1), &json!(1)));
    assert_eq!(listed[0]["is_default"], true);
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_ends_with_its_last_bill() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let (admin, _) = server.token("acme", Role::TenantAdmin).await;
    done(&server, Method::PUT, "/tenants/acme/prices", book("EUR", "1000000")).await;
    let end = || server.ask(Method::DELETE, "/tenants/acme", None);
    assert_eq!(end().await.1["code"], "not_suspended");
    let suspend = json!({"suspended": true});
    done(&server, Method::PUT, "/tenants/acme/suspension", suspend.clone()).await;
    let create = Some(json!({"name": "web", "image": "x"}));
    let (status, told) = server.ask_as(&admin, Method::POST, "/instances", create.clone()).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &json!("tenant_suspended")));
    done(&server, Method::PUT, "/tenants/acme/suspension", json!({"suspended": false})).await;
    let (_, told) = server.ask_as(&admin, Method::POST, "/instances", create).await;
    assert_eq!(told["code"], "no_such_image", "{told}");
    done(&server, Method::PUT, "/tenants/acme/suspension", suspend.clone()).await;

    let (status, ended) = end().await;
    assert_eq!(status, StatusCode::OK, "{ended}");
    let last = &ended["documents"][0];
    // The minimum is owed for its share of the month.
    assert_eq!(last["reaches_end"], true, "{ended}");
    let total: f64 = last["total"].as_str().expect("an amount").parse().expect("a number");
    assert!(total > 0.0 && total < 1_000_000.0, "{last}");
    let (status, _) = server.ask_as(&admin, Method::GET, "/instances", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "its tokens are revoked");
    let again = refused(&server, Method::PUT, "/tenants/acme/suspension", suspend).await;
    assert_eq!(again, (409, "tenant_ended".into()));
    let taken = server.ask(Method::POST, "/tenants", Some(json!({"id": "acme"}))).await;
    assert_eq!(taken.0, StatusCode::CONFLICT, "{}", taken.1);
    let server = server.again().await;
    let (_, tenant) = server.get("/tenants/acme").await;
    assert!(tenant["ended_at"].is_string(), "{tenant}");
    let (_, listed) = server.get("/tenants/acme/invoices").await;
    assert_eq!(listed["invoices"][0]["stale"], false, "{listed}");
    server.stop().await;
}
