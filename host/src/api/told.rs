//! The facts of an instance as lines of a log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use tokio::sync::{mpsc, watch};

use super::error::ApiError;
use super::{State, blocking};
use crate::id::InstanceId;
use crate::journal::{FactQuery, Head};
use crate::limits::api as limits;

/// The facts of an instance that a client reads.
pub(super) struct Facts {
    pub(super) state: Arc<State>,
    pub(super) instance: InstanceId,
    pub(super) after: u64,
    pub(super) lines: mpsc::Sender<Result<Event, axum::Error>>,
}

/// A line, and the number of its fact.
type Line = (u64, String);

impl Facts {
    /// Sends the last `tail` facts, and with `head` those to come, until the client disconnects or
    /// the daemon stops.
    pub(super) async fn send(mut self, tail: usize, head: Option<watch::Receiver<Head>>) {
        let closing = self.state.closing.clone();
        let lines = self.lines.clone();
        let told = async {
            if tail == usize::MAX {
                self.pass_on_all().await?;
            } else {
                let recent = self.last(tail).await?;
                self.pass_on(recent).await?;
            }
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

    /// The last `most` of the facts that were not read yet.
    async fn last(&mut self, most: usize) -> Result<VecDeque<Line>, ApiError> {
        let mut lines = VecDeque::new();
        loop {
            let (page, is_last) = self.page().await?;
            lines.extend(page);
            lines.drain(..lines.len().saturating_sub(most));
            if is_last {
                return Ok(lines);
            }
        }
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
    async fn page(&mut self) -> Result<(VecDeque<Line>, bool), ApiError> {
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
        let mut lines = VecDeque::new();
        for fact in &page.facts {
            self.after = fact.fact.seq;
            let line = serde_json::to_string(fact).map_err(|error| ApiError::bug(&error))?;
            lines.push_back((self.after, line));
        }
        self.after = page.next.unwrap_or(self.after);
        Ok((lines, page.next.is_none()))
    }

    async fn pass_on(&self, lines: VecDeque<Line>) -> Result<(), ApiError> {
        for (seq, line) in lines {
            let event = Event::default().id(seq.to_string()).json_data(line);
            // The client has gone.
            if self.lines.send(event).await.is_err() {
                return Err(ApiError::stopping());
            }
        }
        Ok(())
    }
}
