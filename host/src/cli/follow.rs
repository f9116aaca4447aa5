//! Facts as they are recorded, printed one a line.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, pin_mut};

use super::client::{self, Client};
use super::output::{self, Form, Output};
use crate::journal::wire::{ChainedFact, Kind};

/// Time before a daemon that went away is asked again.
const AGAIN: Duration = Duration::from_millis(500);

const BROKEN: &str = "the connection was lost while reading facts";

/// A selection of facts.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) instance: Option<String>,
    pub(super) kind: Option<Kind>,
    /// A fact for people.
    pub(super) one_line: fn(&ChainedFact) -> String,
}

/// Prints facts as they are recorded, those behind `after` first.
pub(super) async fn follow(
    client: &Client,
    output: Output,
    wanted: &Wanted,
    after: Option<u64>,
) -> anyhow::Result<()> {
    let mut last = after.map(|after| after.to_string());
    let mut is_known = false;
    loop {
        match tell(client, output, wanted, &mut last, &mut is_known).await {
            Err(error) if !is_known || !is_gone(&error) => return Err(error),
            Ok(()) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Returns true if the daemon went away, and not if it refused.
fn is_gone(error: &anyhow::Error) -> bool {
    client::is_nobody(error) || error.to_string() == BROKEN
}

/// Prints facts until the answer ends. `last` is the last one, behind which it goes on.
async fn tell(
    client: &Client,
    output: Output,
    wanted: &Wanted,
    last: &mut Option<String>,
    is_known: &mut bool,
) -> anyhow::Result<()> {
    let query: Vec<(&str, &str)> =
        [("instance", wanted.instance.as_deref()), ("kind", wanted.kind.map(Kind::as_str))]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
    let facts = client.events(&["events", "stream"], &query, last.as_deref()).await?;
    *is_known = true;
    pin_mut!(facts);
    while let Some(fact) = facts.next().await {
        let fact = fact.context(BROKEN)?;
        let chained: ChainedFact =
            serde_json::from_str(&fact.data).context("the daemon sent no fact")?;
        match output.form {
            Form::Table | Form::Wide => output::line(&(wanted.one_line)(&chained))?,
            // A stream is no list: each fact is a line.
            Form::Json | Form::Jsonl => {
                Output { form: Form::Jsonl }.show(&chained, |_| String::new())?
            }
            Form::Name => output::line(&chained.fact.seq.to_string())?,
        }
        *last = fact.id.or(last.take());
    }
    Ok(())
}
