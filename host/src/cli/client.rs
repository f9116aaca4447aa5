//! The client of the daemon's API.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};

use crate::api::ErrorBody;
use crate::tls::{self, Stream as Carrier, Trust};

/// Longest time to connect. The daemon bounds the time of requests.
const CONNECT: Duration = Duration::from_secs(5);

/// A WebSocket to the daemon.
pub(super) type Socket = WebSocketStream<Carrier>;

/// A daemon's API.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// The address as it was given.
    address: String,
    /// The base of all URLs; that of no host if the daemon serves on a unix socket.
    url: Url,
    way: Way,
    token: Option<String>,
    token_file: PathBuf,
    /// The tenant that requests are about; the token's own if `None`.
    tenant: Option<String>,
}

/// The way to a daemon.
#[derive(Debug, Clone)]
enum Way {
    /// TCP to the URL's host.
    Plain,
    /// TLS to the URL's host, whose certificate must come from these authorities.
    Tls(Trust),
    /// A unix socket.
    Local(PathBuf),
}

impl Way {
    /// The way to the daemon at `address`, and the base of its URLs.
    fn to(address: &str, ca: Option<&Path>) -> anyhow::Result<(Self, Url)> {
        let wrong = || {
            anyhow!(
                "'{address}' is not a daemon's URL; write it like http://127.0.0.1:8080, \
                 https://host.example:8443 or unix:/run/tallyman/api.sock"
            )
        };
        if let Some(path) = address.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok((
                Self::Local(path.into()),
                Url::parse("http://localhost").map_err(|_| wrong())?,
            ));
        }
        let url = Url::parse(address).ok().filter(|url| !url.cannot_be_a_base());
        let url = url.ok_or_else(wrong)?;
        let way = match (url.scheme(), ca) {
            ("http", _) => Self::Plain,
            ("https", None) => Self::Tls(Trust::of_system()),
            ("https", Some(file)) => Self::Tls(Trust::of_file(file)?),
            _ => return Err(wrong()),
        };
        Ok((way, url))
    }

    /// The settings of an HTTP client on this way.
    fn client(&self) -> reqwest::ClientBuilder {
        match self {
            Self::Plain => tls::plain_client(),
            Self::Tls(trust) => trust.client(),
            Self::Local(path) => tls::plain_client().unix_socket(path.as_path()),
        }
    }

    /// A connection to the host of `url`.
    async fn connect(&self, url: &Url) -> io::Result<Carrier> {
        if let Self::Local(path) = self {
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        match self {
            Self::Tls(trust) => Ok(Box::new(trust.connect(host, stream).await?)),
            Self::Plain | Self::Local(_) => Ok(Box::new(stream)),
        }
    }
}

/// An error that the daemon answered.
#[derive(Debug)]
pub(super) struct Refused {
    status: u16,
    body: ErrorBody,
}

impl Refused {
    /// The status of the answer.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// The answer.
    pub(super) fn body(&self) -> &ErrorBody {
        &self.body
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.body.message)?;
        if let Some(hint) = &self.body.hint {
            write!(f, "\n  {hint}")?;
        }
        write!(f, " [{}]", self.body.code)
    }
}

impl std::error::Error for Refused {}

/// No daemon listens at the URL.
#[derive(Debug, thiserror::Error)]
#[error("no daemon answers at {url}; start one with `tallyman serve`, or name another with --url")]
pub(super) struct NoDaemon {
    url: String,
}

/// A daemon's certificate is not trusted.
#[derive(Debug, thiserror::Error)]
#[error(
    "{url} did not prove who it is ({reason}); name the authority of its certificate with --ca, or \
     in the context"
)]
struct Untrusted {
    url: String,
    reason: String,
}

impl Client {
    /// A client of the daemon at `address`, which proves who it is by an authority in the file
    /// `ca`, or by one of this system. Without a token, the data folder's is read for each request.
    pub(super) fn new(
        address: &str,
        ca: Option<&Path>,
        token: Option<&str>,
        data: &Path,
        tenant: Option<&str>,
    ) -> anyhow::Result<Self> {
        let (way, url) = Way::to(address, ca)?;
        let http = way.client().connect_timeout(CONNECT).build().context("can't set up HTTP")?;
        Ok(Self {
            http,
            address: address.to_owned(),
            url,
            way,
            token: token.map(str::to_owned),
            token_file: data.join("token"),
            tenant: tenant.map(str::to_owned),
        })
    }

    /// The daemon's address, as it was given.
    pub(super) fn url(&self) -> &str {
        &self.address
    }

    /// The daemon's host and port; `None` if it does not serve plain HTTP there.
    pub(super) fn plain(&self) -> Option<(&str, u16)> {
        match self.way {
            Way::Plain => self.url.host_str().zip(self.url.port_or_known_default()),
            Way::Tls(_) | Way::Local(_) => None,
        }
    }

    /// The error of a failure to connect, if it is one.
    fn unreached(&self, error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
        let url = self.address.clone();
        match tls::refusal(error) {
            Some(reason) => Untrusted { url, reason }.into(),
            None => NoDaemon { url }.into(),
        }
    }

    /// A request to the path made of these segments, each escaped.
    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.http.request(method, url);
        if let Some(tenant) = &self.tenant {
            request = request.header("tallyman-tenant", tenant);
        }
        // Further lines are tokens that other clients send.
        let first = |text: String| text.lines().next().map(|line| line.trim().to_owned());
        let read = || std::fs::read_to_string(&self.token_file).ok().and_then(first);
        match self.token.clone().or_else(read) {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A WebSocket at the path made of these segments.
    pub(super) async fn socket(&self, path: &[&str]) -> anyhow::Result<Socket> {
        let request = self.request(Method::GET, path).build().context("can't set up HTTP")?;
        let mut handshake =
            request.url().as_str().replacen("http", "ws", 1).into_client_request()?;
        handshake.headers_mut().extend(request.headers().clone());
        let connected = self.way.connect(&self.url).await;
        let stream = connected.map_err(|error| self.unreached(&error))?;
        match client_async(handshake, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => {
                let text = answer.body().clone().unwrap_or_default();
                match serde_json::from_slice(&text) {
                    Ok(body) => Err(Refused { status: answer.status().as_u16(), body }.into()),
                    Err(_) => {
                        let status = answer.status();
                        bail!("{} answered {status}; is it a tallyman daemon?", self.address)
                    }
                }
            }
            Err(error) => Err(error).context("the daemon did not answer"),
        }
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Err(self.unreached(&error)),
            Err(error) => return Err(error).context("the daemon did not answer"),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.bytes().await.context("the daemon's answer broke off")?;
        match serde_json::from_slice(&text) {
            Ok(body) => Err(Refused { status: status.as_u16(), body }.into()),
            Err(_) => bail!(
                "{} answered {status} without an error of the API; is it a tallyman daemon?",
                self.address
            ),
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = self.send(request).await?;
        let text = response.bytes().await.context("the daemon's answer broke off")?;
        serde_json::from_slice(&text).with_context(|| {
            let url = &self.address;
            format!("can't parse the answer of {url}; is the daemon of the same version?")
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        self.answer(self.request(Method::GET, path).query(query)).await
    }

    /// Returns the bytes of an answer.
    pub(super) async fn get_bytes(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<Vec<u8>> {
        let response = self.send(self.request(Method::GET, path).query(query)).await?;
        Ok(response.bytes().await.context("the daemon's answer broke off")?.into())
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.answer(self.request(Method::PUT, path).json(body)).await
    }

    /// Sends a JSON text as it is.
    pub(super) async fn put_text<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        text: Vec<u8>,
        key: Option<&str>,
    ) -> anyhow::Result<T> {
        let request = with_key(self.request(Method::PUT, path).query(query), key);
        self.answer(request.header("content-type", "application/json").body(text)).await
    }

    pub(super) async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// Sends a request that is carried out once, however often it is sent with the same `key`.
    pub(super) async fn put_once<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        key: Option<&str>,
    ) -> anyhow::Result<T> {
        self.answer(with_key(self.request(Method::PUT, path), key).json(body)).await
    }

    /// See [`Client::put_once`].
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        key: Option<&str>,
    ) -> anyhow::Result<T> {
        self.answer(with_key(self.request(Method::POST, path), key).json(body)).await
    }

    /// Sends a `DELETE` that answers with JSON.
    pub(super) async fn remove<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        self.answer(self.request(Method::DELETE, path)).await
    }

    /// See [`Client::put_once`].
    pub(super) async fn remove_once<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        key: Option<&str>,
    ) -> anyhow::Result<T> {
        self.answer(with_key(self.request(Method::DELETE, path).query(query), key)).await
    }

    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        bytes: Vec<u8>,
    ) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path).query(query);
        let request = request.header("content-type", "application/wasm").body(bytes);
        self.answer(request).await
    }

    pub(super) async fn delete(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path).query(query)).await.map(drop)
    }

    /// Server-sent events; with `last`, those after the event of that id.
    pub(super) async fn events(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        last: Option<&str>,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<Event>> + use<>> {
        let request = self.request(Method::GET, path).query(query);
        let request =
            last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let response = self.send(request).await?;
        let bytes = response
            .bytes_stream()
            .map_err(|error| anyhow!(error).context("the daemon's answer broke off"));
        Ok(bytes
            .scan(Vec::new(), |partial, bytes| {
                let told = bytes.map(|bytes| complete_lines(partial, &bytes));
                futures::future::ready(Some(told))
            })
            .map_ok(|lines| futures::stream::iter(lines.into_iter().map(Ok)))
            .try_flatten()
            .scan(None, |id, line| {
                let event = line.map(|line: String| event(id, &line));
                futures::future::ready(Some(event))
            })
            .try_filter_map(|event| futures::future::ready(Ok(event))))
    }
}

fn with_key(request: RequestBuilder, key: Option<&str>) -> RequestBuilder {
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The id from which to resume after it; `None` if it has none.
    pub(super) id: Option<String>,
    /// Its data.
    pub(super) data: String,
}

impl Event {
    /// The text that the data is.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        serde_json::from_str(&self.data).context("the daemon sent an event that is not a text")
    }
}

fn complete_lines(partial: &mut Vec<u8>, bytes: &[u8]) -> Vec<String> {
    partial.extend_from_slice(bytes);
    let Some(end) = partial.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
    let rest = partial.split_off(end + 1);
    let whole = std::mem::replace(partial, rest);
    String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
}

/// Parses one line of the stream. Returns the event that it completes, if any; keeps the id of an
/// `id:` line in `id`.
fn event(id: &mut Option<String>, line: &str) -> Option<Event> {
    if let Some(told) = line.strip_prefix("id:") {
        *id = Some(told.trim().to_owned());
        return None;
    }
    let data = line.strip_prefix("data:")?;
    Some(Event { id: id.clone(), data: data.trim().to_owned() })
}

/// Returns true if no daemon listened at the URL.
pub(super) fn is_nobody(error: &anyhow::Error) -> bool {
    error.is::<NoDaemon>()
}

/// Returns true if the daemon answered an error.
pub(super) fn has_refused(error: &anyhow::Error) -> bool {
    error.is::<Refused>()
}

/// Returns true if the daemon answered an error with this code.
pub(super) fn is_refused(error: &anyhow::Error, code: &str) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.body.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_across_pieces() {
        let mut partial = Vec::new();
        assert_eq!(complete_lines(&mut partial, b"data: \"a"), Vec::<String>::new());
        assert_eq!(
            complete_lines(&mut partial, b"b\"\n\n: ping\ndata"),
            ["data: \"ab\"", "", ": ping"]
        );
        assert_eq!(partial, b"data");
        let mut id = None;
        let mut told =
            |line| event(&mut id, line).map(|event| (event.text().expect("a text"), event.id));
        assert_eq!(told("data: \"ab\""), Some(("ab".into(), None)));
        assert_eq!((told(": ping"), told("id: 1-2-3"), told("event: gap")), (None, None, None));
        assert_eq!(told("data: \"cd\""), Some(("cd".into(), Some("1-2-3".into()))));
    }

    #[test]
    fn a_url_that_is_none_is_refused_with_an_example() {
        for url in ["127.0.0.1:8080", "ftp://x", "unix:", ""] {
            let error = Client::new(url, None, None, Path::new("/"), None).expect_err(url);
            assert!(error.to_string().contains("http://127.0.0.1:8080"), "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_names_the_next_step() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("bind")
            .local_addr()
            .expect("address");
        let client = Client::new(&format!("http://{free}"), None, Some("t"), Path::new("/"), None)
            .expect("a client");
        let error = client.get::<serde_json::Value>(&["health"], &[]).await.expect_err("nobody");
        assert!(error.to_string().contains("tallyman serve"), "{error}");
    }
}
