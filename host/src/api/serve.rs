//! Listening, and ending in an orderly way.

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{State, router};
use crate::limits;

/// Serves until `stop` is set. Those who wait or follow are let go at once; other requests get
/// [`limits::api::DRAIN_MS`] to end.
///
/// # Errors
/// Those of the listener.
pub async fn serve(listener: TcpListener, state: State, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let closing = state.closing.clone();
    let app = router(Arc::new(state));
    let stopped = {
        let closing = closing.clone();
        async move {
            // Nobody left who could ask to stop is a reason to stop, too.
            let _ = stop.wait_for(|stop| *stop).await;
            closing.cancel();
        }
    };
    let drained = async {
        closing.cancelled().await;
        tokio::time::sleep(Duration::from_millis(limits::api::DRAIN_MS)).await;
    };
    // The end of an answer is not held back until its beginning has arrived. A connection that can't is already gone.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(stopped).into_future() => served,
        () = drained => Ok(()),
    }
}
