//! The way to object stores over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use hyper::http::Response;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::{Body, Client, Request, Url};

use crate::limits::archive as limits;
use crate::tls::Trust;

/// Maker of clients.
#[derive(Debug)]
pub(super) struct Connector {
    /// Longest time for one request and its answer.
    pub(super) within: Duration,
    /// The authorities from which the store's certificate must come.
    pub(super) trust: Trust,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let connect = Duration::from_secs(limits::CONNECT_S_MAX);
        let client = self.trust.client().connect_timeout(connect).timeout(self.within).build();
        let client = client.map_err(|source| object_store::Error::Generic {
            store: "S3",
            source: Box::new(source),
        })?;
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(Client);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url: Result<Url, _> = parts.uri.to_string().parse();
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(Body::wrap(body));
        let mut answer = self.0.execute(request).await.map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limits::ANSWER_BYTES_MAX {
                return Err(HttpError::new(HttpErrorKind::Decode, TooLong));
            }
        }
        let (parts, _) = Response::from(answer).into_parts();
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(bytes)))
    }
}

/// An answer that is longer than any object that this program makes.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {} bytes", limits::ANSWER_BYTES_MAX)]
struct TooLong;

fn failed(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}
