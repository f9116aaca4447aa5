//! Control calls over HTTP and a unix socket, one connection each.

use std::path::Path;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tokio::net::UnixStream;

use super::HypervisorError;
use super::launch::within;
use super::movement::{Movement, while_moving};
use crate::tls;

/// Longest answer in bytes. Usual ones have a few kilobytes; a VMM that its guest has compromised
/// must not fill the daemon's memory.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The client of one VMM.
#[derive(Debug)]
pub(super) struct Rest {
    client: Client,
    base: &'static str,
}

/// Answer of a VMM that refuses a call.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

impl Rest {
    /// A client whose calls go to `socket`, below the path `base`.
    pub(super) fn new(socket: &Path, base: &'static str) -> Result<Self, HypervisorError> {
        // Connections are not kept: a VMM serves few, and closes them at will.
        let client = tls::plain_client().unix_socket(socket).pool_max_idle_per_host(0).build();
        let client =
            client.map_err(std::io::Error::other).map_err(HypervisorError::file("use", socket))?;
        Ok(Self { client, base })
    }

    /// Makes a GET call.
    pub(super) async fn get(
        &self,
        call: &'static str,
        ms: u64,
    ) -> Result<Result<Value, Refusal>, HypervisorError> {
        within(ms, call, self.exchange(Method::GET, call, call, None)).await
    }

    /// Makes a call with a body. `call` names it in errors, as several calls may have one `path`.
    pub(super) async fn tell(
        &self,
        method: Method,
        path: &str,
        call: &'static str,
        body: Option<Value>,
        ms: u64,
    ) -> Result<(), HypervisorError> {
        obeyed(call, within(ms, call, self.exchange(method, path, call, body)).await?)
    }

    /// Makes a call that writes or loads a snapshot, which may take any time while it makes
    /// progress.
    pub(super) async fn tell_while_moving(
        &self,
        call: &'static str,
        body: Value,
        movement: Movement,
    ) -> Result<(), HypervisorError> {
        let told = self.exchange(Method::PUT, call, call, Some(body));
        obeyed(call, while_moving(call, movement, told).await?)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        call: &'static str,
        body: Option<Value>,
    ) -> Result<Result<Value, Refusal>, HypervisorError> {
        let mut request =
            self.client.request(method, format!("http://localhost{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(call, request.send().await.map_err(|_| HypervisorError::Disconnected { call })?).await
    }
}

/// Turns a refusal into an error.
fn obeyed(call: &'static str, answer: Result<Value, Refusal>) -> Result<(), HypervisorError> {
    match answer {
        Ok(_) => Ok(()),
        Err(Refusal { reason, .. }) => Err(HypervisorError::Refused { call, reason }),
    }
}

/// Returns the process that listens on a socket.
pub(super) async fn peer(socket: &Path) -> Result<u32, HypervisorError> {
    let gone = |_| HypervisorError::Disconnected { call: "connect" };
    let stream = UnixStream::connect(socket).await.map_err(gone)?;
    Ok(stream.peer_cred().map_err(gone)?.pid().unwrap_or_default().unsigned_abs())
}

/// Reads an answer, or the refusal if its status is not a success.
async fn read(
    call: &'static str,
    mut answer: Response,
) -> Result<Result<Value, Refusal>, HypervisorError> {
    let gone = |_| HypervisorError::Disconnected { call };
    let status = answer.status();
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(gone)? {
        text.extend_from_slice(&chunk);
        if text.len() > ANSWER_BYTES_MAX {
            return Err(HypervisorError::Refused {
                call,
                reason: format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"),
            });
        }
    }
    if !status.is_success() {
        return Ok(Err(Refusal { status, reason: reason(&text) }));
    }
    let value = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&text) };
    let unreadable = |error| HypervisorError::Refused {
        call,
        reason: format!("its answer can't be parsed: {error}"),
    };
    value.map(Ok).map_err(unreadable)
}

/// Extracts a VMM's reason from `{"fault_message": ..}`, a list of causes, or plain text.
pub(super) fn reason(text: &[u8]) -> String {
    let plain = || String::from_utf8_lossy(text).trim().to_owned();
    match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => match fields.get("fault_message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => plain(),
        },
        Ok(Value::Array(causes)) => {
            // A cause may have a backtrace after its first line.
            let causes =
                causes.iter().map(|cause| cause.as_str().and_then(|cause| cause.lines().next()));
            causes.flatten().collect::<Vec<_>>().join(": ")
        }
        Ok(_) | Err(_) => plain(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Outcome of a call that is answered with `text`, byte for byte.
    async fn answered(text: String) -> Result<Result<Value, Refusal>, HypervisorError> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ctl");
        let listener = UnixListener::bind(&path).expect("bind");
        let vmm = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(text.as_bytes()).await;
        });
        let answer = Rest::new(&path, "/api/v1/").expect("client").get("vm.info", 10_000).await;
        vmm.await.expect("answered");
        answer
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn every_success_is_one() {
        for (status, body, expected) in [
            ("200 OK", "{\"a\":1}", serde_json::json!({"a": 1})),
            ("204 No Content", "", Value::Null),
        ] {
            let answer = answered(http(status, body)).await.expect("an answer");
            assert_eq!(answer.ok(), Some(expected), "{status}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_what_the_vmm_says_in_each_ones_form() {
        let rows = [
            ("400 Bad Request", r#"{"fault_message": "no such thing"}"#, "no such thing"),
            (
                "500 Internal Server Error",
                r#"["it failed","because of that\n\nBacktrace: 0"]"#,
                "it failed: because of that",
            ),
            ("404 Not Found", "plain words\n", "plain words"),
            ("500 Internal Server Error", "{}", "{}"),
        ];
        for (status, body, expected) in rows {
            let refusal =
                answered(http(status, body)).await.expect("an answer").expect_err("a refusal");
            assert_eq!(
                (refusal.reason.as_str(), refusal.status.as_str()),
                (expected, &status[..3])
            );
        }
    }

    #[tokio::test]
    async fn an_end_or_nonsense_or_too_much_is_no_answer() {
        let broken = answered(String::new()).await;
        assert!(matches!(broken, Err(HypervisorError::Disconnected { call: "vm.info" })));
        for body in ["nonsense".into(), "x".repeat(ANSWER_BYTES_MAX + 1)] {
            let broken = answered(http("200 OK", &body)).await;
            assert!(matches!(broken, Err(HypervisorError::Refused { call: "vm.info", .. })));
        }
    }
}
