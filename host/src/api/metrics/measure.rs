//! The measurement of every request.

use axum::extract::{MatchedPath, Request, State as Extract};
use axum::middleware::Next;
use axum::response::Response;

use super::super::Shared;
use super::latency::Label;
use crate::clock;

/// Measures a request up to the head of its answer.
pub(in crate::api) async fn measure(
    Extract(state): Shared,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().to_string();
    let began = clock::boottime_ns();
    let response = next.run(request).await;
    let class = response.status().as_u16() / 100;
    let label = Label { method, route: path.as_str().to_owned(), class };
    state.latencies.record(label, clock::boottime_ns().saturating_sub(began));
    response
}
