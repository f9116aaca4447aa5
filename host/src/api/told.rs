//! The facts of an instance as lines of a log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use tokio::sync::{mpsc, watch};

use super::error::ApiError;
use super::{State, blocking};
use crate::id::InstanceId;
use crate::journal::wire::ChainedFact;
use crate::journal::{FactQuery, Head};
use crate::limits::api as limits;

/// The facts of an instance that a client reads.
pub(super) struct Facts {
    pub(super) state: Arc<State>,
    pub(super) instance: InstanceId,
    pub(super) after: u64,
    pub(super) lines: mpsc::Sender<Result<Event, axum::Error>>,
}

impl Facts {
    /// Sends the last `tail` facts, and with `head` those to come, until the client disconnects or
    /// the daemon stops.
    pub(super) async fn send(mut self, tail: usize, head: Option<watch::Receiver<Head>>) {
        let closing = self.state.closing.clone();
        let lines = self.lines.clone();
        let told = async {
            if tail < usize::MAX {
                self.skip_to_last(tail).await?;
            }
            self.pass_on_all().await?;
            let Some(mut head) = head else { return Ok(()) };
            while head.changed().await.is_ok() {
                self.pass_on_all().await?;
                tokio::time::sleep(Duration::from_millis(limits::STREAM_PAUSE_MS)).await;
            }
            Ok::<(), ApiError>(())
        };
        tokio::select! {
            told = told => if let Err(error) = told {
                tracing::warn!(?error, "the facts of an instance could not be read");
            },
            () = closing.cancelled() => {}
            () = lines.closed() => {}
        }
    }

    /// Moves on to the last `most` of the facts. Only their numbers are held meanwhile.
    async fn skip_to_last(&mut self, most: usize) -> Result<(), ApiError> {
        let mut last = VecDeque::new();
        loop {
            let (page, is_last) = self.page().await?;
            last.extend(page.iter().map(|fact| fact.fact.seq));
            last.drain(..last.len().saturating_sub(most));
            if is_last {
                break;
            }
        }
        self.after = last.front().map_or(self.after, |first| first.saturating_sub(1));
        Ok(())
    }

    /// Passes on the facts that were not read yet, a page at a time.
    async fn pass_on_all(&mut self) -> Result<(), ApiError> {
        loop {
            let (page, is_last) = self.page().await?;
            self.pass_on(page).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// The next facts that were not read yet; true beside them if there are no more.
    async fn page(&mut self) -> Result<(Vec<ChainedFact>, bool), ApiError> {
        let query = FactQuery {
            after: self.after,
            through: None,
            tenant: None,
            instance: Some(self.instance.clone()),
            kind: None,
            limit: Some(limits::STREAM_PAGE),
        };
        let state = self.state.clone();
        let page = blocking(move || Ok(state.journal.facts(&query)?)).await?;
        let last = page.facts.last().map(|fact| fact.fact.seq);
        self.after = page.next.or(last).unwrap_or(self.after);
        Ok((page.facts, page.next.is_none()))
    }

    async fn pass_on(&self, facts: Vec<ChainedFact>) -> Result<(), ApiError> {
        for fact in facts {
            let line = serde_json::to_string(&fact).map_err(|error| ApiError::bug(&error))?;
            let event = Event::default().id(fact.fact.seq.to_string()).json_data(line);
            // The client has gone.
            if self.lines.send(event).await.is_err() {
                return Err(ApiError::stopping());
            }
        }
        Ok(())
    }
}
