//! The header `Idempotency-Key`: a request that is repeated with the same key is carried out once.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::auth::Caller;
use super::error::ApiError;
use crate::id::{Digest, TenantId};
use crate::invoice::Act;
use crate::journal::RequestKey;

const HEADER: &str = "Idempotency-Key";

const CHARS_MAX: usize = 255;

/// The key that a client has chosen for a request; `None` if it sent none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// An act of a caller on a tenant's money, with the key that makes it the same one again.
    /// `what` names the kind of act.
    pub(super) fn act(
        self,
        caller: &Caller,
        tenant: &TenantId,
        what: &str,
        asked: &impl Serialize,
    ) -> Result<Act, ApiError> {
        Ok(Act { by: caller.actor(), request: self.for_request(tenant, &(what, asked))? })
    }

    /// The key together with a digest of the request, so that it can't be used for two different
    /// ones.
    pub(super) fn for_request(
        self,
        tenant: &TenantId,
        asked: &impl Serialize,
    ) -> Result<Option<RequestKey>, ApiError> {
        let Some(key) = self.0 else { return Ok(None) };
        let asked = serde_json::to_vec(asked).map_err(|error| ApiError::bug(&error))?;
        Ok(Some(RequestKey { tenant: tenant.clone(), key, asked: Digest::of(&asked) }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        sent(&parts.headers).map(Self)
    }
}

fn sent(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut sent = headers.get_all(HEADER).iter();
    let Some(header) = sent.next() else { return Ok(None) };
    let key = header.to_str().ok().filter(|key| (1..=CHARS_MAX).contains(&key.len()));
    match (key, sent.next()) {
        (Some(key), None) => Ok(Some(key.into())),
        _ => Err(ApiError::invalid(format!(
            "the header {HEADER} must hold 1 to {CHARS_MAX} ASCII characters, once"
        ))),
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let header = ParameterBuilder::new()
            .name(HEADER)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "Chosen by the client, 1 to 255 ASCII characters: the same for each try of one \
                 request. A repeated request changes nothing and gets the answer of the first",
            ))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        vec![header.build()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let value =
            |value: &&str| (HEADER.parse().expect("a name"), value.parse().expect("a value"));
        values.iter().map(value).collect()
    }

    #[test]
    fn a_key_is_sent_once_and_is_neither_empty_nor_long() {
        assert_eq!(sent(&headers(&[])).ok(), Some(None));
        assert_eq!(sent(&headers(&["k"])).ok(), Some(Some("k".into())));
        let long = "x".repeat(CHARS_MAX + 1);
        for wrong in [vec!["k", "k"], vec![""], vec![long.as_str()], vec!["\u{e4}"]] {
            let error = sent(&headers(&wrong)).expect_err("refused");
            assert_eq!(error.status(), 400, "{wrong:?}");
        }
    }

    #[test]
    fn one_key_for_two_requests_stands_for_two_things() {
        let key = |asked: &str| {
            let key = IdempotencyKey(Some("k".into()));
            key.for_request(&TenantId::default_tenant(), &asked)
                .expect("a key")
                .expect("one was sent")
        };
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        let none = IdempotencyKey(None).for_request(&TenantId::default_tenant(), &"a");
        assert_eq!(none.expect("none was sent"), None);
    }
}
