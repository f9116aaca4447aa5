//! Parts of commands that are about instances and their snapshots alike.

use std::time::Duration;

use super::output::Output;
use crate::api::model::Instance;
use crate::api::{UnknownDuration, format_millis, parse_duration};

/// A duration of the command line.
pub(super) fn duration(text: &str) -> Result<Duration, UnknownDuration> {
    parse_duration(text)
}

/// A duration as the API takes it.
pub(super) fn duration_text(duration: Duration) -> String {
    format_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A label of the command line.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like team=blue")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Shows where an instance stands.
pub(super) fn done(output: Output, instance: &Instance) -> anyhow::Result<()> {
    output.show(instance, |instance| format!("{} is {}", instance.name, instance.state))
}
