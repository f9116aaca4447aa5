//! The way to a collector by HTTP requests, without a broker.

use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::message::{Answer, Batch};
use super::transport::{SendError, Transport};
use crate::causes::in_words;
use crate::limits::fleet as limits;
use crate::tls::{Trust, TrustError};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest time for a request and its answer.
const WITHIN: Duration = Duration::from_secs(60);

/// An error of setting up the way to a collector.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is not one of a collector.
    #[error("'{0}' is not a collector's URL; write it like https://collector.example:8443")]
    Url(String),
    /// The file of the collector's authorities can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The client can't be set up.
    #[error("can't set up the HTTP client for the collector")]
    Client(#[source] reqwest::Error),
}

/// The way to a collector at a URL.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    facts: Url,
    token: String,
}

/// The part of a refusal that is passed on.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

impl Http {
    /// The way to the collector at `url`, with this host's token. Its certificate must come from an
    /// authority in the file `ca`, or from one of this system.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn new(url: &str, token: &str, ca: Option<&Path>) -> Result<Self, HttpError> {
        let wrong = || HttpError::Url(url.into());
        let parsed = Url::parse(url).ok();
        let mut facts =
            parsed.filter(|url| ["http", "https"].contains(&url.scheme())).ok_or_else(wrong)?;
        facts.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(["fleet", "facts"]);
        let trust = match (facts.scheme(), ca) {
            ("https", Some(file)) => Trust::of_file(file)?,
            ("https", None) => Trust::of_system(),
            _ => Trust::nobody(),
        };
        let client = trust.client().connect_timeout(CONNECT).timeout(WITHIN).build();
        Ok(Self { client: client.map_err(HttpError::Client)?, facts, token: token.trim().into() })
    }

    async fn post(&self, batch: &Batch) -> Result<Answer, SendError> {
        let away = |error: reqwest::Error| SendError::Away(in_words(&error));
        let request = self.client.post(self.facts.clone()).bearer_auth(&self.token).json(batch);
        let response = request.send().await.map_err(away)?;
        match response.status() {
            status if status.is_success() => response.json().await.map_err(away),
            status => Err(refusal(status, response).await),
        }
    }
}

/// Tells a collector that is busy, stopping or full from one that refuses.
async fn refusal(status: StatusCode, response: Response) -> SendError {
    let said = response.json::<Refusal>().await;
    let may_pass = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT;
    match said {
        Ok(Refusal { message, .. }) if may_pass => SendError::Away(message),
        Ok(Refusal { code, message }) => SendError::Refused { code, message },
        Err(_) => SendError::Away(format!("it answers {status}; is it a collector?")),
    }
}

impl Transport for Http {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Answer, SendError>> {
        self.post(batch).boxed()
    }

    fn batch_bytes(&self) -> usize {
        limits::BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_has_a_url_of_http_or_https() {
        let facts = |url| Http::new(url, "t", None).map(|http| http.facts.to_string());
        assert_eq!(facts("http://a:1").expect("good"), "http://a:1/fleet/facts");
        assert_eq!(facts("http://a/b/").expect("good"), "http://a/b/fleet/facts");
        assert_eq!(facts("https://a/").expect("good"), "https://a/fleet/facts");
        for wrong in ["", "a:1", "ftp://a", "mailto:a@b"] {
            assert!(matches!(facts(wrong), Err(HttpError::Url(_))), "{wrong}");
        }
    }
}
