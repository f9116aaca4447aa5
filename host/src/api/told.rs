//! The facts of an instance as lines of a log.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event;
use tokio::sync::{mpsc, watch};

use super::error::ApiError;
use super::{State, blocking};
use crate::id::InstanceId;
use crate::journal::wire::Kind;
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
        let told = async {
            let recent = self.read(tail).await?;
            self.pass_on(recent).await?;
            let Some(mut head) = head else { return Ok(()) };
            while head.changed().await.is_ok() {
                let new = self.read(usize::MAX).await?;
                self.pass_on(new).await?;
            }
            Ok::<(), ApiError>(())
        };
        tokio::select! {
            told = told => if let Err(error) = told {
                tracing::warn!(?error, "the facts of an instance could not be read");
            },
            () = closing.cancelled() => {}
        }
    }

    /// The last `most` of the facts that were not read yet.
    async fn read(&mut self, most: usize) -> Result<VecDeque<Line>, ApiError> {
        let mut lines = VecDeque::new();
        loop {
            let query = FactQuery {
                after: self.after,
                through: None,
                tenant: None,
                instance: Some(self.instance.clone()),
                kind: None::<Kind>,
                limit: Some(limits::STREAM_PAGE),
            };
            let state = self.state.clone();
            let page = blocking(move || Ok(state.journal.facts(&query)?)).await?;
            for fact in &page.facts {
                self.after = fact.fact.seq;
                let line = serde_json::to_string(fact).map_err(|error| ApiError::bug(&error))?;
                lines.push_back((self.after, line));
            }
            lines.drain(..lines.len().saturating_sub(most));
            match page.next {
                Some(next) => self.after = next,
                None => return Ok(lines),
            }
        }
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
