//! Tenants and tokens on a real journal.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::billing::Change;
use crate::billing::account::{Accountant, Entering, Fault};
use crate::journal::{FactQuery, Options, verify};
use crate::tenant::{FallbackOrder, FallbackStep};

/// Counts nothing.
struct Idle;

impl Accountant for Idle {
    fn enter(&self, _: &mut [Entering]) -> Vec<Fault> {
        Vec::new()
    }

    fn change(&self, _: &TenantId, _: Change) {}
}

fn open(folder: &Path) -> Tenancy {
    let (journal, opened) = Journal::open(folder, Options::default(), Arc::new(Idle)).unwrap();
    Tenancy::new(
        Arc::new(journal),
        opened.clock,
        opened.tenants,
        opened.tokens,
        opened.standings,
        opened.admissions,
        u64::MAX,
    )
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn request(name: &str, lifetime_s: u64) -> TokenRequest {
    TokenRequest {
        tenant: acme(),
        name: name.into(),
        role: Role::TenantReader,
        lifetime_s,
        by: Actor::Operator,
    }
}

async fn with_acme(folder: &Path) -> Tenancy {
    let tenancy = open(folder);
    tenancy.create(acme(), Digest::of(b"policy"), Actor::Operator).await.unwrap();
    tenancy
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let tenancy = with_acme(folder.path()).await;
    let settle = |settings: &mut Settings| {
        settings.quota.set(Limit::Vcpus, Some(4));
        settings.fallback =
            FallbackOrder::new(vec![FallbackStep::LastGood, FallbackStep::Standard]).unwrap();
    };
    tenancy.change(&acme(), Actor::Operator, settle).await.unwrap();
    let (secret, token) = tenancy.create_token(request("ci", 60)).await.unwrap();
    let (gone, revoked) = tenancy.create_token(request("old", 60)).await.unwrap();
    tenancy.revoke(revoked.id, Actor::Token(token.id)).await.unwrap();
    let settings = tenancy.tenant(&acme()).unwrap().settings();
    let tokens = tenancy.tokens(None);
    let created = tenancy.tenant(&acme()).unwrap().created();
    drop(tenancy);
    let again = open(folder.path());
    assert_eq!((again.tenant(&acme()).unwrap().settings(), again.tokens(None)), (settings, tokens));
    assert_eq!(again.tenant(&acme()).unwrap().created(), created);
    assert_eq!(again.authenticate(&secret), Ok(token));
    assert_eq!(again.authenticate(&gone), Err(SecretError::Revoked));
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn only_the_secret_itself_is_accepted() {
    let folder = TempDir::new().unwrap();
    let tenancy = with_acme(folder.path()).await;
    let (secret, token) = tenancy.create_token(request("ci", 60)).await.unwrap();
    assert!(Tenancy::is_secret(&secret) && secret.len() == SECRET_PREFIX.len() + 64);
    for wrong in [
        String::new(),
        SECRET_PREFIX.into(),
        token.id.to_string(),
        hex::encode(token.secret.0),
        format!("{SECRET_PREFIX}{}", hex::encode(token.secret.0)),
        secret.to_uppercase(),
        format!("{secret}0"),
        secret[..secret.len() - 1].into(),
        secret[SECRET_PREFIX.len()..].into(),
    ] {
        assert_eq!(tenancy.authenticate(&wrong), Err(SecretError::Unknown), "{wrong}");
    }
    let (other, _) = tenancy.create_token(request("ci", 60)).await.unwrap();
    assert_ne!(secret, other, "each is fresh");
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let folder = TempDir::new().unwrap();
    let tenancy = with_acme(folder.path()).await;
    let (secret, _) = tenancy.create_token(request("short", 0)).await.unwrap();
    assert_eq!(tenancy.authenticate(&secret), Err(SecretError::Expired));
    let (secret, token) = tenancy.create_token(request("endless", u64::MAX)).await.unwrap();
    assert_eq!(token.expires, Instant(i64::MAX));
    assert!(tenancy.authenticate(&secret).is_ok());
}

#[tokio::test]
async fn no_secret_and_no_hash_of_one_is_in_a_fact() {
    let folder = TempDir::new().unwrap();
    let tenancy = with_acme(folder.path()).await;
    let (secret, token) = tenancy.create_token(request("ci", 60)).await.unwrap();
    let facts = tenancy.journal.facts(&FactQuery::default()).unwrap();
    let text = serde_json::to_string(&facts).unwrap();
    assert!(text.contains(&token.id.to_string()));
    assert!(!text.contains(&secret) && !text.contains(&hex::encode(token.secret.0)), "{text}");
}

#[tokio::test]
async fn what_can_not_be_is_refused() {
    let folder = TempDir::new().unwrap();
    let tenancy = with_acme(folder.path()).await;
    let policy = Digest::of(b"policy");
    let create = |id: &str| tenancy.create(id.parse().unwrap(), policy, Actor::Operator);
    assert!(matches!(create("acme").await, Err(TenancyError::Exists(_))));
    assert!(matches!(create(SELF).await, Err(TenancyError::Reserved)));
    let nobody: TenantId = "nobody".parse().unwrap();
    let settle = tenancy.change(&nobody, Actor::Operator, |_| {}).await;
    assert!(matches!(settle, Err(TenancyError::NoSuchTenant(_))));
    let token = TokenRequest { tenant: nobody.clone(), ..request("ci", 60) };
    assert!(matches!(tenancy.create_token(token).await, Err(TenancyError::NoSuchTenant(_))));
    let (_, token) = tenancy.create_token(request("ci", 60)).await.unwrap();
    let id = token.id.to_string();
    assert_eq!(tenancy.token(Some(&acme()), &id[..8]).unwrap(), token);
    for (tenant, key) in [(Some(&nobody), id.as_str()), (None, ""), (None, "zz")] {
        assert!(matches!(tenancy.token(tenant, key), Err(TenancyError::NoSuchToken(_))), "{key}");
    }
}

#[tokio::test]
async fn whoever_is_first_gets_the_name() {
    let folder = TempDir::new().unwrap();
    let tenancy = open(folder.path());
    let create = || tenancy.create(acme(), Digest::of(b"policy"), Actor::Operator);
    let made = futures::future::join_all((0..8).map(|_| create())).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_tenant_has_no_more_policies_than_it_may() {
    let folder = TempDir::new().unwrap();
    let tenancy = with_acme(folder.path()).await;
    tenancy
        .change(&acme(), Actor::Operator, |settings| settings.quota.set(Limit::Policies, Some(1)))
        .await
        .unwrap();
    let new = |text: &str| NewPolicy {
        name: None,
        tenant: acme(),
        digest: Digest::of(text.as_bytes()),
        bytes: text.into(),
        record: String::new(),
        by: Actor::Operator,
    };
    tenancy.admit(new("one")).await.unwrap();
    tenancy.admit(new("one")).await.unwrap();
    let refused = tenancy.admit(new("two")).await;
    assert!(matches!(
        refused,
        Err(TenancyError::Exceeded(Exceeded { limit: Limit::Policies, most: 1, .. }))
    ));
}
