//! QMP, the control protocol: JSON objects; QEMU sends one a line.
//!
//! QEMU reads a request byte by byte and takes ten microseconds or more for each, so requests are
//! short. A request has no line end: an object ends with its brace. Answers come in the order of
//! the requests, one request is under way at a time, and a connection on which one was given up is
//! not used again. The common beginning of all requests is sent ahead, as soon as the answer before
//! it has come; QEMU drops it when the connection closes.
//!
//! QEMU keeps a request when its connection closes before the answer, and gives the answer to the
//! connection that follows (seen with 10.0.2). So the first request of a connection has an id that
//! no other has, and whatever comes before its answer is passed over; the requests after it need
//! none.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::hypervisor::HypervisorError;

/// Longest answer in bytes. Usual ones have a few hundred; a VMM that its guest has compromised
/// must not fill the daemon's memory.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Common beginning of all requests.
const BEGINNING: &str = "{\"execute\":\"";

/// Pause between attempts to connect to a socket whose queue is full.
const DIAL_AGAIN: Duration = Duration::from_millis(50);

/// Number of connections that this process has made.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// A connection. QEMU serves one at a time.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    /// The part of a line read so far.
    line: Vec<u8>,
    /// Number of bytes of the next request that were sent ahead.
    ahead: usize,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
}

/// Returns whether a line is an answer.
pub(in crate::hypervisor) fn answers(line: &[u8]) -> bool {
    serde_json::from_slice::<Answer>(line).is_ok_and(|answer| answer.value.is_some())
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Connects. Also returns the id of the process that listens.
    pub(super) async fn connect(socket: &Path) -> Result<(Self, u32), HypervisorError> {
        let gone = |_| HypervisorError::Disconnected { call: "connect" };
        let stream = dial(socket).await.map_err(gone)?;
        let peer = stream.peer_cred().map_err(gone)?.pid().unwrap_or_default().unsigned_abs();
        Ok((Self { stream: BufReader::new(stream), line: Vec::new(), ahead: 0 }, peer))
    }

    /// Waits for the greeting, which QEMU sends when it has set the machine up and serves no other
    /// client, and negotiates capabilities.
    pub(super) async fn greet(&mut self) -> Result<(), HypervisorError> {
        let gone = |_| HypervisorError::Disconnected { call: "connect" };
        while !self.read_line().await.map_err(gone)?.contains_key("QMP") {}
        let nth = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}.{nth}", std::process::id());
        let negotiate = format!("{BEGINNING}qmp_capabilities\",\"id\":\"{id}\"}}");
        self.stream.write_all(negotiate.as_bytes()).await.map_err(gone)?;
        let answer = loop {
            let line = self.read_line().await.map_err(gone)?;
            if line.get("id").and_then(Value::as_str) == Some(&id) {
                break line;
            }
        };
        match answer.get("error") {
            Some(error) => Err(HypervisorError::Refused {
                call: "qmp_capabilities",
                reason: error["desc"].to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Makes one call and waits for its answer. Events in between are ignored: the supervisor
    /// records them.
    pub(super) async fn call(
        &mut self,
        call: &'static str,
        arguments: Option<Value>,
    ) -> Result<Value, HypervisorError> {
        let gone = |_| HypervisorError::Disconnected { call };
        let request = match arguments {
            None => format!("{BEGINNING}{call}\"}}"),
            Some(arguments) => format!("{BEGINNING}{call}\",\"arguments\":{arguments}}}"),
        };
        let rest = &request.as_bytes()[std::mem::take(&mut self.ahead)..];
        self.stream.write_all(rest).await.map_err(gone)?;
        let answer = self.answer(call).await;
        // Errors are ignored: the next request finds a broken connection.
        self.ahead = self.stream.get_ref().try_write(BEGINNING.as_bytes()).unwrap_or_default();
        answer
    }

    async fn answer(&mut self, call: &'static str) -> Result<Value, HypervisorError> {
        loop {
            let line =
                self.read_line().await.map_err(|_| HypervisorError::Disconnected { call })?;
            let answer: Answer = serde_json::from_value(Value::Object(line)).map_err(|error| {
                HypervisorError::Refused {
                    call,
                    reason: format!("its answer can't be parsed: {error}"),
                }
            })?;
            match (answer.error, answer.value) {
                (Some(Refusal { desc: reason }), _) => {
                    return Err(HypervisorError::Refused { call, reason });
                }
                (None, Some(value)) => return Ok(value),
                (None, None) => {}
            }
        }
    }

    async fn read_line(&mut self) -> io::Result<serde_json::Map<String, Value>> {
        loop {
            let bytes = self.stream.fill_buf().await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            self.line.extend_from_slice(&bytes[..taken]);
            self.stream.consume(taken);
            if self.line.len() > ANSWER_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if end.is_some() {
                let parsed = serde_json::from_slice(&self.line);
                self.line.clear();
                return Ok(parsed?);
            }
        }
    }
}

/// Connects. The queue of a QEMU that hangs is short; while it is full, the connection is tried
/// again. Has no timeout: the caller sets one.
async fn dial(socket: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(DIAL_AGAIN).await
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// Greets, and answers the negotiation after `before`, which an earlier connection was to get.
    async fn greet(stream: &mut UnixStream, before: &str) {
        stream.write_all(b"{\"QMP\": {}}\r\n").await.expect("greeting");
        let mut request = [0; 256];
        let length = stream.read(&mut request).await.expect("request");
        let request: Value = serde_json::from_slice(&request[..length]).expect("JSON");
        assert_eq!(request["execute"], "qmp_capabilities");
        let answer = format!("{before}{{\"return\": {{}}, \"id\": {}}}\r\n", request["id"]);
        stream.write_all(answer.as_bytes()).await.expect("answer");
    }

    /// A VMM that sends `text`, whatever the request, and hangs up when its client does.
    async fn vmm(before: &'static str, text: String) -> (Qmp, JoinHandle<()>) {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ctl");
        let listener = UnixListener::bind(&path).expect("bind");
        let (qmp, peer) = Qmp::connect(&path).await.expect("connect");
        assert_eq!(peer, std::process::id());
        let (mut stream, _) = listener.accept().await.expect("accept");
        let says = tokio::spawn(async move {
            greet(&mut stream, before).await;
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        (qmp, says)
    }

    /// The answer to the first call after the greeting.
    async fn answer(text: &str) -> Result<Value, HypervisorError> {
        let (mut qmp, _says) = vmm("", text.to_owned()).await;
        qmp.greet().await.expect("greeting");
        qmp.call("query-status", None).await
    }

    #[tokio::test]
    async fn events_are_passed_over() {
        let text = "{\"event\": \"STOP\"}\n{\"event\": \"RESUME\", \"data\": {}}\n{\"return\": {\"status\": \"paused\"}}\n";
        assert_eq!(answer(text).await.expect("answer"), json!({ "status": "paused" }));
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_connection_is_passed_over() {
        for before in [
            "{\"return\": {\"running\": true}}\n",
            "{\"error\": {\"desc\": \"no\"}}\n{\"return\": {}, \"id\": \"1.0\"}\n",
        ] {
            let (mut qmp, _says) = vmm(before, "{\"return\": \"mine\"}\n".to_owned()).await;
            qmp.greet().await.expect("greeting");
            assert_eq!(qmp.call("query-status", None).await.expect("answer"), "mine");
        }
    }

    #[tokio::test]
    async fn requests_arrive_whole_and_each_is_begun_ahead() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ctl");
        let listener = UnixListener::bind(&path).expect("bind");
        let (mut qmp, _) = Qmp::connect(&path).await.expect("connect");
        let (mut stream, _) = listener.accept().await.expect("accept");
        let (greeted, ()) = tokio::join!(qmp.greet(), greet(&mut stream, ""));
        greeted.expect("greeting");
        stream
            .write_all(b"{\"error\": {\"desc\": \"no\"}}\n{\"return\": {}}\n")
            .await
            .expect("answers");
        qmp.call("query-status", None).await.expect_err("refused");
        qmp.call("migrate", Some(json!({ "uri": "unix:x" }))).await.expect("answer");
        drop(qmp);
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.expect("requests");
        let requests = [
            r#"{"execute":"query-status"}"#,
            r#"{"execute":"migrate","arguments":{"uri":"unix:x"}}"#,
            BEGINNING,
        ];
        assert_eq!(heard, requests.concat());
    }

    #[tokio::test]
    async fn a_refusal_says_what_the_vmm_says() {
        let refused =
            answer("{\"error\": {\"class\": \"E\", \"desc\": \"no such thing\"}}\n").await;
        assert!(
            matches!(&refused, Err(HypervisorError::Refused { call: "query-status", reason }) if reason == "no such thing"),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn an_end_or_nonsense_or_too_much_is_a_broken_connection() {
        let endless = "x".repeat(ANSWER_BYTES_MAX + 1);
        for text in ["", "{\"return\": {}}", "nonsense\n", "[1]\n", &endless] {
            let broken = answer(text).await;
            assert!(
                matches!(broken, Err(HypervisorError::Disconnected { call: "query-status" })),
                "{broken:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_queue_that_is_full_is_waited_for_and_not_taken_for_an_end() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("ctl");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let _waiting = UnixStream::connect(&path).await.expect("the only place");
        let full = UnixStream::connect(&path).await.expect_err("no place");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let accept = tokio::task::spawn_blocking(move || listener.accept().map(|_| listener));
        let (connected, accepted) = tokio::join!(Qmp::connect(&path), accept);
        connected.expect("a place");
        accepted.expect("no panic").expect("accept");
    }
}
