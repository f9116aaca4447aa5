//! Extraction of requests: JSON bodies and query strings, with errors that name the field.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::limits::api as limits;

/// A JSON body. An empty one is read as `{}`, so that commands without options need none.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE).cloned();
        let bytes = read(request, state).await?;
        if let (Some(other), false) = (content_type, bytes.is_empty())
            && !is_json(other.as_bytes())
        {
            let other = String::from_utf8_lossy(other.as_bytes()).into_owned();
            return Err(ApiError::unsupported(format!(
                "a body must be sent as application/json, not as {other}"
            )));
        }
        parse(&bytes).map(Self)
    }
}

/// A body as its bytes.
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(request, state).await.map(Self)
    }
}

/// The query string.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let read = Query::try_from_uri(&parts.uri);
        read.map(|Query(read)| Self(read)).map_err(|rejection| {
            // The rejection's own text begins with "Failed to deserialize query string".
            ApiError::unreadable("query parameter", &rejection.body_text())
        })
    }
}

/// The bytes of a body, which must come within [`limits::BODY_READ_MS`].
async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let within = Duration::from_millis(limits::BODY_READ_MS);
    let read = tokio::time::timeout(within, Bytes::from_request(request, state)).await;
    read.map_err(|_| ApiError::slow_body())?.map_err(too_large)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| ApiError::unreadable("field", &error.to_string()))
}

/// Returns true if a content type is JSON's, with any parameters.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn too_large(rejection: BytesRejection) -> ApiError {
    ApiError::body(rejection.status(), &rejection.body_text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{CreateInstance, StopOptions};

    #[test]
    fn an_unknown_field_is_named_with_those_that_are_known() {
        let error =
            parse::<CreateInstance>(br#"{"name":"a","image":"b","memry":1}"#).expect_err("refused");
        let body = error.into_body();
        assert_eq!(body.code, "unknown_field");
        assert!(body.message.contains("`memry`"), "{}", body.message);
        for known in ["`name`", "`image`", "`vcpus`", "`size`", "`memory_bytes`", "`stop_grace_ms`"]
        {
            assert!(body.message.contains(known), "{known} is not in: {}", body.message);
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let body = parse::<CreateInstance>(br#"{"name":"a"}"#).expect_err("refused").into_body();
        assert_eq!(body.code, "invalid");
        assert!(body.message.contains("missing field `image`"), "{}", body.message);
    }

    #[test]
    fn json_is_json_in_any_case_and_with_any_parameters() {
        for right in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert!(is_json(right.as_bytes()), "{right}");
        }
        for wrong in ["", "text/plain", "application/json5", "application/x-www-form-urlencoded"] {
            assert!(!is_json(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn no_body_is_an_empty_one() {
        assert_eq!(parse::<StopOptions>(b"").expect("read").grace_ms, None);
        assert_eq!(parse::<StopOptions>(b" \n").expect("read").grace_ms, None);
        assert_eq!(parse::<StopOptions>(br#"{"grace_ms":7}"#).expect("read").grace_ms, Some(7));
    }
}
