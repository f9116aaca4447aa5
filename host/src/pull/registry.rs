//! A registry, as one pull sees it: requests with the authorisation that it wants, and redirects
//! that are looked at first.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::auth::{Challenge, Credentials, is_loopback, may_follow, may_see_credentials, token};
use super::error::{PullError, fault};
use crate::image::{Descriptor, Reference, digest_of};
use crate::limits::{image, pull as limits};

/// The documents that are asked for.
const DOCUMENTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The registry behind the usual name, which is not its address.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A repository of a registry.
#[derive(Debug)]
pub(super) struct Registry {
    client: Client,
    reference: Reference,
    base: Url,
    credentials: Option<Credentials>,
    /// The value of `Authorization`; none until the registry wants one.
    authorization: Mutex<Option<Arc<str>>>,
    pub(super) pace: Pace,
}

/// The times that pulls take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time in which a registry has to send a document, or some of a blob.
    pub patience: Duration,
    /// Pause before the first further try to fetch a blob; it doubles with each.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(limits::ANSWER_MS_MAX),
            pause: Duration::from_millis(limits::PAUSE_MS),
        }
    }
}

impl Registry {
    pub(super) fn new(
        client: Client,
        reference: &Reference,
        credentials: Option<Credentials>,
        pace: Pace,
    ) -> Result<Self, PullError> {
        let name = reference.registry();
        let host = if name == DOCKER.0 { DOCKER.1 } else { name };
        // An address has its port behind the last colon.
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => host.split(':').next(),
        };
        let scheme = if bare.is_some_and(is_loopback) { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{}/", reference.repository());
        let base = base.parse().map_err(|_| fault(name, "its name is no address"))?;
        Ok(Self {
            client,
            reference: reference.clone(),
            base,
            credentials,
            authorization: Mutex::new(None),
            pace,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.reference.registry()
    }

    /// An index or a manifest by its tag or digest, with its digest.
    pub(super) async fn document(&self, version: &str) -> Result<(Descriptor, Vec<u8>), PullError> {
        let answer = self.get(&format!("manifests/{version}"), None).await?;
        let bytes = self.body(answer, image::DOCUMENT_BYTES_MAX).await?;
        let digest = digest_of(&bytes);
        if version.starts_with("sha256:") && version != digest {
            return Err(fault(self.name(), format!("for {version} it gives {digest}")));
        }
        let size = bytes.len() as u64;
        let descriptor =
            Descriptor { digest, size, platform: None, annotations: Default::default() };
        Ok((descriptor, bytes))
    }

    /// A blob from byte `from` on. The answer says whether it begins there or anew.
    pub(super) async fn blob(&self, digest: &str, from: u64) -> Result<Response, PullError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        self.get(&format!("blobs/{digest}"), range.as_deref()).await
    }

    async fn get(&self, path: &str, range: Option<&str>) -> Result<Response, PullError> {
        let url = self.base.join(path).map_err(|_| fault(self.name(), "no such address"))?;
        let authorization = self.authorization.lock().await.clone();
        let answer = self.send(&url, range, authorization.clone()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.judged(answer).await;
        }
        let authorization = self.authorize(&answer, authorization).await?;
        let answer = self.send(&url, range, Some(authorization)).await?;
        self.judged(answer).await
    }

    /// The answer, if it is one; otherwise the error that it stands for.
    async fn judged(&self, answer: Response) -> Result<Response, PullError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let registry = self.name().to_owned();
        let reference = self.reference.to_string();
        Err(match status {
            StatusCode::NOT_FOUND => PullError::NotFound(reference),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                PullError::Denied { registry, reference, reason: status.to_string() }
            }
            StatusCode::TOO_MANY_REQUESTS => PullError::Throttled(registry),
            status => fault(&registry, format!("it answers {status}")),
        })
    }

    /// The authorisation that the answer asks for, instead of the one that was sent.
    async fn authorize(
        &self,
        answer: &Response,
        sent: Option<Arc<str>>,
    ) -> Result<Arc<str>, PullError> {
        let mut authorization = self.authorization.lock().await;
        // Another request of this pull was faster.
        if let Some(known) = authorization.clone().filter(|known| Some(known) != sent.as_ref()) {
            return Ok(known);
        }
        let repository = self.reference.repository();
        let challenge = Challenge::read(self.name(), &self.base, repository, answer.headers())?;
        let denied = |reason: &str| PullError::Denied {
            registry: self.name().into(),
            reference: self.reference.to_string(),
            reason: reason.into(),
        };
        let header = match (challenge, &self.credentials) {
            (_, Some(token @ Credentials::Token(_))) => token.header(),
            (Challenge::Basic, Some(basic)) => basic.header(),
            (Challenge::Basic, None) => return Err(denied("it wants a name and a password")),
            (Challenge::Bearer(at), credentials) => {
                format!("Bearer {}", self.token(at, credentials.as_ref()).await?)
            }
        };
        let header: Arc<str> = header.into();
        *authorization = Some(header.clone());
        Ok(header)
    }

    /// A token of a token server.
    async fn token(&self, at: Url, lent: Option<&Credentials>) -> Result<String, PullError> {
        if lent.is_some() && !may_see_credentials(&self.base, &at) {
            let server = at.host_str().unwrap_or_default();
            let reason = format!("it sends its users to {server}, which credentials are not for");
            return Err(fault(self.name(), reason));
        }
        let mut request = self.client.get(at);
        if let Some(lent) = lent {
            request = request.header(AUTHORIZATION, lent.header());
        }
        let answer = self.in_time(request.send()).await?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(PullError::Denied {
                registry: self.name().into(),
                reference: self.reference.to_string(),
                reason: format!("its token server answers {status}"),
            });
        }
        if !status.is_success() {
            return Err(fault(self.name(), format!("its token server answers {status}")));
        }
        token(self.name(), &self.body(answer, limits::TOKEN_BYTES_MAX as u64).await?)
    }

    /// Sends a request, also to where the registry says. The authorisation is for the registry
    /// alone.
    async fn send(
        &self,
        url: &Url,
        range: Option<&str>,
        authorization: Option<Arc<str>>,
    ) -> Result<Response, PullError> {
        let mut url = url.clone();
        for _ in 0..=limits::REDIRECTS_MAX {
            let mut request = self.client.get(url.clone()).header(ACCEPT, DOCUMENTS);
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            let is_registry = url.origin() == self.base.origin();
            if let Some(authorization) = authorization.as_ref().filter(|_| is_registry) {
                request = request.header(AUTHORIZATION, &**authorization);
            }
            let answer = self.in_time(request.send()).await?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| url.join(to).ok());
            let to = to.filter(|to| may_follow(&url, to));
            let reason = "it leads to an address that is not followed";
            url = to.ok_or_else(|| fault(self.name(), reason))?;
        }
        Err(fault(self.name(), "it leads from one address to the next without an end"))
    }

    /// A body of at most so many bytes.
    async fn body(&self, mut answer: Response, bytes_max: u64) -> Result<Vec<u8>, PullError> {
        let mut body = Vec::new();
        let read = async {
            while let Some(chunk) = answer.chunk().await.map_err(|error| self.away(error))? {
                if (body.len() + chunk.len()) as u64 > bytes_max {
                    let reason = format!("an answer has more than {bytes_max} bytes");
                    return Err(fault(self.name(), reason));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        timeout(self.pace.patience, read).await.map_err(|_| self.slow())??;
        Ok(body)
    }

    async fn in_time(
        &self,
        answer: impl Future<Output = Result<Response, reqwest::Error>>,
    ) -> Result<Response, PullError> {
        let answer = timeout(self.pace.patience, answer).await.map_err(|_| self.slow())?;
        answer.map_err(|error| self.away(error))
    }

    pub(super) fn away(&self, error: reqwest::Error) -> PullError {
        // The address may hold a secret of a redirect.
        PullError::Away { registry: self.name().into(), source: error.without_url() }
    }

    pub(super) fn slow(&self) -> PullError {
        fault(
            self.name(),
            format!("it is too slow: nothing came in {} ms", self.pace.patience.as_millis()),
        )
    }
}
