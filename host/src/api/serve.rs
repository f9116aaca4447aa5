//! The HTTP server: the listener, limits of connections, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::door::{Admitted, Busy, Door};
use super::listen::{Arrived, Listeners};
use super::{State, router};
use crate::limits::api as limits;

/// Time until the next connection is accepted after the system refused one, such as for lack of
/// descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The answer to a connection beyond the limit while none is idle.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nx-should-retry: true\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until `stop` is set. Waits and followed logs then end at once; other requests get
/// [`limits::DRAIN_MS`] to end.
///
/// # Errors
/// The errors of the listener.
pub async fn serve(
    listeners: Listeners,
    state: State,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let closing = state.closing.clone();
    let door = Door::new(state.connections);
    let app = router(Arc::new(state));
    let connections = TaskTracker::new();
    let stopped = async move {
        // A dropped sender stops the server, too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let mut stopped = pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listeners.accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok(arrived) => {
                connections.spawn(connect(door.clone(), app.clone(), closing.clone(), arrived));
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted now; closing an idle one");
                door.evict();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    closing.cancel();
    drop(listeners);
    connections.close();
    let drained = tokio::time::timeout(Duration::from_millis(limits::DRAIN_MS), connections.wait());
    // Requests that have not ended by then are cut off by the end of the process.
    let _ = drained.await;
    Ok(())
}

/// Returns true if an error of accepting concerns one connection only, which the peer gave up.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Serves one connection to its end, or refuses it.
async fn connect(door: Arc<Door>, app: Router, closing: CancellationToken, arrived: Arrived) {
    let Some(admitted) = door.admit(arrived.peer()) else {
        // Over TLS nothing can be said before the handshake, for which there is no room.
        if let Some(mut stream) = arrived.unguarded() {
            // A failure means that the peer is gone.
            let _ = stream.write_all(FULL).await;
        }
        return;
    };
    let stream = tokio::select! {
        stream = arrived.open() => stream,
        () = admitted.evicted() => return,
        () = closing.cancelled() => return,
    };
    let Some(stream) = stream else { return };
    let admitted = Arc::new(admitted);
    let asked = admitted.clone();
    let service =
        service_fn(move |request: Request<Incoming>| answer(asked.clone(), app.clone(), request));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::HEADER_READ_MS));
    let mut connection =
        pin!(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut is_draining = false;
    loop {
        tokio::select! {
            // An error of the connection concerns its client only.
            _ = connection.as_mut() => return,
            () = admitted.evicted() => return,
            () = closing.cancelled(), if !is_draining => {
                connection.as_mut().graceful_shutdown();
                is_draining = true;
            }
        }
    }
}

async fn answer(
    connection: Arc<Admitted>,
    app: Router,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let busy = connection.busy();
    let response = app.oneshot(request).await?;
    Ok(response.map(|body| Answer { body, _busy: busy }))
}

/// The body of an answer. Its connection is busy until it is dropped.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
