//! The side of a host: its journal is the outbox.
//!
//! Nothing of a host waits for the collector. One batch is in memory at a time; what the collector
//! lacks is read from the journal when it is sent, from the place that the collector names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::message::{Batch, FORM, Instance, Place};
use super::transport::{SendError, Transport};
use crate::billing::Reading;
use crate::blocking;
use crate::clock::Clock;
use crate::id::InstanceId;
use crate::journal::{FactQuery, Head, Journal, ReadError};
use crate::limits::fleet as limits;

/// Lookup of an instance's name and tags; none for an instance that is not known.
pub type Describe = Arc<dyn Fn(&InstanceId) -> Option<Instance> + Send + Sync>;

/// The sender of a host's facts.
pub struct Sender {
    journal: Arc<Journal>,
    clock: Clock,
    describe: Describe,
    transport: Arc<dyn Transport>,
}

/// The state between two batches.
#[derive(Debug, Default)]
struct Standing {
    /// The collector's end; none while it is not known.
    collector: Option<Head>,
    /// The last failure that was logged.
    said: Option<String>,
    /// Time until the next try after a failure.
    pause: Duration,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender of the facts of `journal`.
    pub fn new(
        journal: Arc<Journal>,
        clock: Clock,
        describe: Describe,
        transport: Arc<dyn Transport>,
    ) -> Self {
        Self { journal, clock, describe, transport }
    }

    /// Sends facts as long as it is polled. Dropping it loses nothing: the next sender goes on
    /// from the collector's end.
    pub async fn run(self) {
        let mut head = self.journal.follow();
        let mut standing = Standing::default();
        loop {
            // Facts from here on are news, also those that come during this step.
            head.mark_unchanged();
            match self.step(standing.collector).await {
                Ok((collector, is_whole)) => {
                    let is_progress = standing.collector != Some(collector);
                    standing.succeeded(collector);
                    if is_whole {
                        until_news(&mut head).await;
                    } else if !is_progress {
                        tokio::time::sleep(Duration::from_millis(limits::RETRY_MS_MIN)).await;
                    }
                }
                Err(error) => {
                    let pause = standing.failed(&error);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Sends one batch from the collector's end on. Returns its new end, and whether it has
    /// everything now.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn step(&self, collector: Option<Head>) -> Result<(Head, bool), SendError> {
        // The reading comes first: everything before it is in the journal up to `end`, or late.
        let clock = self.clock.reading();
        let end = self.journal.head();
        let journal = self.journal.clone();
        let describe = self.describe.clone();
        let collector = collector.unwrap_or(end);
        let bytes_max = self.transport.batch_bytes();
        let read = move || batch(&journal, &describe, collector, (end, &clock), bytes_max);
        let read = blocking::run(read).await.map_err(|error| SendError::Away(error.to_string()))?;
        let batch = read.map_err(|error| SendError::Away(error.to_string()))?;
        let answer = self.transport.send(&batch).await?;
        let told = answer.head.head().map_err(|error| SendError::Away(error.to_string()))?;
        Ok((told, told.seq == end.seq))
    }
}

/// The facts after the collector's end, as far as they fit into one batch.
fn batch(
    journal: &Journal,
    describe: &Describe,
    collector: Head,
    (end, clock): (Head, &Reading),
    bytes_max: usize,
) -> Result<Batch, ReadError> {
    let is_lost = collector.seq > end.seq;
    // The own link, not the collector's: it finds a fork by comparing the two.
    let after =
        if is_lost { end } else { journal.archive().place_of(collector.seq)?.unwrap_or(end) };
    let query = FactQuery {
        after: after.seq,
        through: Some(end.seq),
        limit: Some(limits::BATCH_FACTS),
        ..FactQuery::default()
    };
    let page = if after.seq < end.seq { journal.facts(&query)?.facts } else { Vec::new() };
    let mut facts = Vec::new();
    let mut ids = BTreeSet::new();
    let mut bytes = 0;
    for chained in page {
        let text = serde_json::to_string(&chained.fact).unwrap_or_default();
        bytes += text.len();
        if bytes > bytes_max && !facts.is_empty() {
            break;
        }
        facts.push(text);
        ids.extend(chained.fact.instance.and_then(|id| id.parse::<InstanceId>().ok()));
    }
    Ok(Batch {
        form: FORM,
        after: after.into(),
        facts,
        instances: ids.iter().filter_map(|id| describe(id)).collect(),
        end: end.into(),
        lost: is_lost.then(|| Place::from(collector)),
        clock: clock.into(),
    })
}

/// Waits until the journal has grown, or for the time after which a host says that it is there.
async fn until_news(head: &mut watch::Receiver<Head>) {
    let beat = Duration::from_millis(limits::BEAT_MS);
    if let Ok(Ok(())) = tokio::time::timeout(beat, head.changed()).await {
        // What follows at once goes along.
        tokio::time::sleep(Duration::from_millis(limits::GATHER_MS)).await;
    }
}

impl Standing {
    fn succeeded(&mut self, collector: Head) {
        if self.said.take().is_some() {
            tracing::info!(fact = collector.seq, "the collector takes facts again");
        }
        *self = Self { collector: Some(collector), ..Self::default() };
    }

    /// Notes a failure, and returns the time until the next try. The same failure is logged once.
    fn failed(&mut self, error: &SendError) -> Duration {
        let said = error.to_string();
        if self.said.as_ref() != Some(&said) {
            match error {
                SendError::Away(_) => tracing::warn!("{said}; facts wait in the journal"),
                SendError::Refused { .. } => tracing::error!("{said}"),
            }
        }
        self.said = Some(said);
        let least = limits::RETRY_MS_MIN;
        let most = limits::RETRY_MS_MAX;
        let least = Duration::from_millis(least);
        self.pause = (self.pause * 2).clamp(least, Duration::from_millis(most));
        self.pause
    }
}
