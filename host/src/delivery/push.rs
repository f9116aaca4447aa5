//! The pushes to one receiver.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};

use super::cursor::{Cursor, Place};
use super::receivers::{Begin, Receiver};
use super::sign::signatures;
use super::source::{Message, Messages, Progress, Source, SourceError};
use crate::causes::in_words;
use crate::id::Digest;
use crate::limits::delivery as limits;
use crate::{blocking, clock, tls};

/// The answer of a receiver.
#[derive(Debug)]
enum Answer {
    Taken,
    /// It wants no more, ever.
    Gone,
    /// It is to be asked again, after that time at least if it said one.
    Failed {
        reason: String,
        wait: Option<Duration>,
    },
}

/// A receiver on its way through the journal.
struct Push<'a> {
    receiver: &'a Receiver,
    cursor: Arc<Cursor>,
    progress: Arc<Progress>,
    source: Arc<dyn Source>,
    client: Client,
    /// The place on disk.
    saved: Place,
    saved_at_ns: u64,
}

/// Pushes events to a receiver until it says that it is gone.
pub(super) async fn run(
    receiver: &Receiver,
    cursor: Cursor,
    progress: Arc<Progress>,
    source: Arc<dyn Source>,
) {
    let cursor = Arc::new(cursor);
    let pause = Duration::from_millis(limits::RETRY_MS_MAX);
    loop {
        let started = Push::start(receiver, cursor.clone(), progress.clone(), source.clone());
        let ended = match started.await {
            Ok(push) => push.run().await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => return,
            Err(error) => {
                let receiver = &receiver.name;
                tracing::error!(receiver, %error, "events can't be sent; trying again");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Runs blocking work off the asynchronous threads.
async fn off<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    blocking::run(work).await?
}

impl<'a> Push<'a> {
    async fn start(
        receiver: &'a Receiver,
        cursor: Arc<Cursor>,
        progress: Arc<Progress>,
        source: Arc<dyn Source>,
    ) -> Result<Self, SourceError> {
        let begin = receiver.begin;
        let name = receiver.name.clone();
        let at = cursor.clone();
        let maker = source.clone();
        let saved = off(move || place(&name, begin, &at, maker.as_ref())).await?;
        let client = tls::client()
            .timeout(Duration::from_millis(limits::REQUEST_MS_MAX))
            .redirect(redirect::Policy::none())
            .user_agent(concat!("tallyman/", env!("CARGO_PKG_VERSION")))
            .build()?;
        progress.after.store(saved.after, Ordering::Relaxed);
        Ok(Self { receiver, cursor, progress, source, client, saved, saved_at_ns: 0 })
    }

    /// Sends what there is and waits for more; returns once the receiver is gone.
    async fn run(mut self) -> Result<(), SourceError> {
        let mut head = self.source.follow();
        let mut after = self.saved.after;
        loop {
            let end = head.borrow_and_update().seq;
            while after < end {
                let Messages { messages, after: looked } = self.next(after).await?;
                for batch in messages.chunks(self.receiver.batch) {
                    if !self.deliver(batch).await {
                        self.progress.is_gone.store(true, Ordering::Relaxed);
                        let receiver = &self.receiver.name;
                        tracing::warn!(receiver, "it is gone (410): no event is sent any more");
                        return Ok(());
                    }
                    after = batch.last().map_or(after, |last| last.fact.saturating_sub(1));
                    self.save(after, false).await?;
                }
                after = looked.max(after);
                self.progress.taken(0, after);
                self.save(after, false).await?;
            }
            let changed =
                tokio::time::timeout(Duration::from_millis(limits::CURSOR_SAVE_MS), head.changed());
            match changed.await {
                Ok(Ok(())) => {}
                // The journal is closed.
                Ok(Err(_)) => return self.save(after, true).await,
                Err(_) => self.save(after, true).await?,
            }
        }
    }

    async fn next(&self, after: u64) -> Result<Messages, SourceError> {
        let source = self.source.clone();
        let topics = self.receiver.send.clone();
        let tenant = self.receiver.tenant.clone();
        off(move || source.events(&topics, tenant.as_ref(), after)).await
    }

    /// Writes the place down, unless that was done a moment ago.
    async fn save(&mut self, after: u64, at_once: bool) -> Result<(), SourceError> {
        let passed_ns = clock::boottime_ns().saturating_sub(self.saved_at_ns);
        let is_due = at_once || passed_ns > limits::CURSOR_SAVE_MS * 1_000_000;
        if after == self.saved.after || !is_due {
            return Ok(());
        }
        let source = self.source.clone();
        let cursor = self.cursor.clone();
        self.saved = off(move || {
            let place = Place { after, link: source.link(after)? };
            cursor.write(&place)?;
            Ok(place)
        })
        .await?;
        self.saved_at_ns = clock::boottime_ns();
        Ok(())
    }

    /// Sends events until they are taken. Returns false if the receiver is gone.
    async fn deliver(&self, batch: &[Message]) -> bool {
        let (id, body) = match batch {
            [one] if self.receiver.batch == 1 => (one.id.clone(), one.body.clone()),
            _ => (batch_id(batch), list(batch)),
        };
        for failures in 0_u32.. {
            let (reason, wait) = match self.post(&id, &body).await {
                Answer::Taken => break,
                Answer::Gone => return false,
                Answer::Failed { reason, wait } => (reason, wait),
            };
            let count = self.progress.failures.fetch_add(1, Ordering::Relaxed) + 1;
            let pause = wait.unwrap_or_default().max(backoff(failures));
            let receiver = &self.receiver.name;
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(receiver, id, reason, count, pause_ms, "an event was not taken");
            tokio::time::sleep(pause).await;
        }
        let last = batch.last().map_or(0, |last| last.fact.saturating_sub(1));
        self.progress.taken(batch.len(), last);
        true
    }

    async fn post(&self, id: &str, body: &[u8]) -> Answer {
        let form = match self.receiver.batch {
            1 => "application/cloudevents+json; charset=utf-8",
            _ => "application/cloudevents-batch+json; charset=utf-8",
        };
        let mut request = self.client.post(&self.receiver.url).header(CONTENT_TYPE, form);
        if !self.receiver.secrets.is_empty() {
            let time_s = clock::wall_ns().div_euclid(1_000_000_000);
            let signed = signatures(&self.receiver.secrets, id, time_s, body);
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", time_s.to_string())
                .header("webhook-signature", signed);
        }
        if let Some(token) = &self.receiver.token {
            request = request.bearer_auth(token);
        }
        match request.body(body.to_vec()).send().await {
            Ok(answer) if answer.status().is_success() => Answer::Taken,
            Ok(answer) if answer.status() == StatusCode::GONE => Answer::Gone,
            Ok(answer) => {
                let said = answer.headers().get(RETRY_AFTER).and_then(|at| at.to_str().ok());
                let most = Duration::from_millis(limits::RETRY_AFTER_MS_MAX);
                let wait = said.and_then(|text| text.parse().ok()).map(Duration::from_secs);
                let reason = format!("it answered {}", answer.status());
                Answer::Failed { reason, wait: wait.map(|wait| wait.min(most)) }
            }
            Err(error) => {
                // The address may hold a secret.
                Answer::Failed { reason: in_words(&error.without_url()), wait: None }
            }
        }
    }
}

/// The place to go on from. Blocking.
fn place(
    name: &str,
    begin: Begin,
    cursor: &Cursor,
    source: &dyn Source,
) -> Result<Place, SourceError> {
    let end = source.follow().borrow().seq;
    let Some(saved) = cursor.read()? else {
        let after = if begin == Begin::Now { end } else { 0 };
        let place = Place { after, link: source.link(after)? };
        cursor.write(&place)?;
        return Ok(place);
    };
    if saved.after <= end && source.link(saved.after)? == saved.link {
        return Ok(saved);
    }
    tracing::warn!(
        receiver = name,
        after = saved.after,
        "the journal is not the one that the cursor is of: it was put back from a copy; all \
         events are sent again"
    );
    Ok(Place { after: 0, link: None })
}

/// The time before a further try: doubled each time, less up to a quarter of it by chance.
fn backoff(failures: u32) -> Duration {
    let whole = limits::RETRY_MS_MIN.saturating_mul(1 << failures.min(20));
    let whole = whole.min(limits::RETRY_MS_MAX);
    Duration::from_millis(whole - rand::rng().random_range(0..=whole / 4))
}

fn batch_id(batch: &[Message]) -> String {
    let ids: Vec<_> = batch.iter().map(|message| message.id.as_str()).collect();
    format!("batch-{}", Digest::of(ids.join("\n").as_bytes()))
}

fn list(batch: &[Message]) -> Vec<u8> {
    let mut body = vec![b'['];
    for (at, message) in batch.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&message.body);
    }
    body.push(b']');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_most() {
        for failures in [0, 1, 5, 30] {
            let most = (limits::RETRY_MS_MIN << failures.min(20)).min(limits::RETRY_MS_MAX);
            let least = most - most / 4;
            let pause = backoff(failures).as_millis() as u64;
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
    }

    #[test]
    fn a_batch_is_a_list_whose_id_names_its_events() {
        let one = |id: &str| Message { id: id.into(), fact: 1, body: br#"{"a":1}"#.to_vec() };
        let batch = [one("x"), one("y")];
        assert_eq!(list(&batch), br#"[{"a":1},{"a":1}]"#);
        assert_eq!(batch_id(&batch), batch_id(&batch.clone()));
        assert_ne!(batch_id(&batch), batch_id(&batch[..1]));
    }
}
