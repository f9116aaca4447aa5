//! Arguments and output that the commands of instances and snapshots share.

use std::time::Duration;

use clap::Args;

use super::output::Output;
use crate::api::model::{Instance, Timestamp};
use crate::api::{UnknownDuration, format_millis, parse_duration};

/// The key of an act that is done once.
#[derive(Debug, Args)]
pub(super) struct Once {
    /// Makes it the same request when it is sent again: it is done once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Once {
    /// The key, if one was given.
    pub(super) fn key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }
}

/// Reads `NAME=VALUE`.
pub(super) fn option(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| {
        format!("invalid option '{text}'; expected NAME=VALUE, for example minimum=60s")
    })
}

/// Parses a duration of the command line.
///
/// # Errors
/// [`UnknownDuration`], also for a number without a unit: 5 could be hours as well as seconds.
pub(super) fn duration(text: &str) -> Result<Duration, UnknownDuration> {
    match text.parse::<u32>() {
        Ok(1..) => Err(UnknownDuration(text.into())),
        Ok(0) | Err(_) => parse_duration(text),
    }
}

/// Parses an instant of the command line, or a date in UTC, whose begin is meant.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    let at = super::sheet::instant(text)
        .map_err(|error| format!("{error}; a date such as 2026-01-31 is its begin in UTC"))?;
    Ok(Timestamp(at.0))
}

/// Formats a duration as the API takes it.
pub(super) fn duration_text(duration: Duration) -> String {
    format_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Parses a label of the command line.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("a label needs a `=`; write it like team=blue")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Shows the state of an instance.
pub(super) fn done(output: Output, instance: &Instance) -> anyhow::Result<()> {
    output.show(instance, |instance| format!("{} is {}", instance.name, instance.state))
}
