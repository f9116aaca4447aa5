//! Failures: how they are told, and the exit status of each kind.

use std::process::ExitCode;

use serde::Serialize;

use super::client::{NoDaemon, Refused};
use super::output;

/// The exit statuses, for the help.
pub(super) const EXIT_STATUS: &str = "\
Exit status: 0 success, 1 failure, 2 invalid command line, 3 refused as things stand, 4 not found,
5 not allowed, 6 no daemon answers, 7 the daemon can't do it now and may later.";

/// A failure as JSON.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// For programs: the code of the API, or `failed`.
    code: &'a str,
    /// For people.
    message: String,
    /// For people: the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    exit_status: u8,
}

/// Tells a failure on standard error, as JSON if results are, and returns its exit status.
pub(super) fn told(error: &anyhow::Error, json: bool) -> ExitCode {
    let status = status(error);
    if json {
        let refused = error.downcast_ref::<Refused>().map(Refused::body);
        let told = Told {
            code: refused.map_or("failed", |body| &body.code),
            message: refused.map_or_else(|| format!("{error:#}"), |body| body.message.clone()),
            hint: refused.and_then(|body| body.hint.as_deref()),
            exit_status: status,
        };
        eprintln!("{}", output::escaped(&serde_json::to_string(&told).unwrap_or_default()));
    } else {
        eprintln!("tallyman: {}", output::printable(&format!("{error:#}")));
    }
    ExitCode::from(status)
}

fn status(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<NoDaemon>().is_some() {
        return 6;
    }
    match error.downcast_ref::<Refused>().map(Refused::status) {
        Some(404 | 410) => 4,
        Some(401 | 403) => 5,
        Some(408 | 429 | 503 | 507) => 7,
        Some(400..500) => 3,
        Some(_) | None => 1,
    }
}
