//! Things that clients of similar services ask for and this one does not have: the lists of such
//! things are empty, and everything else about them is refused in a sentence, once.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::{Method, Uri};

use futures::StreamExt as _;
use tokio::time::timeout;

use super::error::{ApiError, no_route};
use crate::limits::api as limits;

/// Kinds of absent things: their path, and what to do instead.
const ABSENT: [(&str, &str); 6] = [
    ("builders", "images are built elsewhere; `tallyman image import --oci` takes them"),
    ("builds", "images are built elsewhere; `tallyman image import --oci` takes them"),
    ("devices", "no device of the host is given to a guest"),
    ("ingresses", "a proxy in front of this host does that"),
    ("pushes", "no image is sent to a registry from here"),
    ("volumes", "an operator gives an instance disks of the host when it is created"),
];

/// The answer to a path that no route has.
pub(super) async fn fallback(
    method: Method,
    uri: Uri,
    body: Body,
) -> Result<Json<[(); 0]>, ApiError> {
    take_in(body).await;
    answer(method, uri).await
}

/// Reads a body that nobody wants: a client that is still sending may miss an answer before its
/// end, and ask again.
async fn take_in(body: Body) {
    let mut parts = body.into_data_stream();
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(part)) = parts.next().await {
            bytes += part.len();
            if bytes > limits::BODY_BYTES_MAX {
                return;
            }
        }
    };
    // One that is too slow, or sends too much, is answered all the same.
    let _ = timeout(Duration::from_millis(limits::BODY_READ_MS), read).await;
}

async fn answer(method: Method, uri: Uri) -> Result<Json<[(); 0]>, ApiError> {
    let parts: Vec<_> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let (kind, is_list) = match parts.as_slice() {
        [kind] => (*kind, true),
        ["devices", "available"] => ("devices", true),
        ["instances", _, "volumes", _] => ("volumes", false),
        ["resources", "memory", "reclaim"] => {
            return Err(absent("reclaiming memory", "a guest keeps the memory that it was given"));
        }
        [kind, ..] => (*kind, false),
        [] => ("", false),
    };
    match ABSENT.iter().find(|(absent, _)| *absent == kind) {
        Some(_) if is_list && method == Method::GET => Ok(Json([])),
        Some((kind, instead)) => Err(absent(kind, instead)),
        None => Err(no_route(method, uri).await),
    }
}

fn absent(what: &str, instead: &str) -> ApiError {
    let message = format!("this service has no {what}: {instead}");
    ApiError::not_implemented(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(method: Method, path: &'static str) -> u16 {
        match answer(method, Uri::from_static(path)).await {
            Ok(_) => 200,
            Err(error) => error.status(),
        }
    }

    #[tokio::test]
    async fn lists_of_what_is_absent_are_empty_and_the_rest_is_refused_once() {
        let rows = [
            (Method::GET, "/volumes", 200),
            (Method::GET, "/devices/available", 200),
            (Method::POST, "/builds", 501),
            (Method::GET, "/builds/b1/events", 501),
            (Method::DELETE, "/ingresses/i1", 501),
            (Method::POST, "/instances/web/volumes/v1", 501),
            (Method::POST, "/resources/memory/reclaim", 501),
            (Method::GET, "/nothing", 404),
            (Method::GET, "/", 404),
        ];
        for (method, path, expected) in rows {
            assert_eq!(status(method, path).await, expected, "{path}");
        }
    }
}
