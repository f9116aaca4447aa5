//! The side of a host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::DirectGetErrorKind;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answered::{Answered, Outcome};
use super::connect::engine;
use super::{ANSWERS, EngineError, Servers, answers_to, facts_of};
use crate::fleet::message::{Answer, Batch, Place};
use crate::fleet::transport::{SendError, Transport};
use crate::id::HostName;
use crate::journal::Head;
use crate::limits::fleet as limits;

/// A host's way to the engine.
///
/// A batch is published, and its answer is waited for as long as the collector seems to be there.
/// While it is away the host goes on as if the collector had what the engine has; an answer that
/// says otherwise comes later.
#[derive(Debug)]
pub struct Publisher {
    servers: Servers,
    host: HostName,
    /// Tells the batches of this process apart from those of earlier ones.
    run: u64,
    batches: AtomicU64,
    session: Mutex<Option<Session>>,
}

/// A connection, and what it has heard.
#[derive(Debug)]
struct Session {
    engine: Context,
    answers: Subscriber,
    /// The answers come: the collector is there.
    is_answered: bool,
    /// The end of what the engine has; none before the first batch.
    published: Option<Place>,
    /// The time at which the engine took the last batch.
    sent_at: Option<Instant>,
    /// The last answer that the engine has kept, until it is used.
    kept: Option<Answered>,
}

impl Publisher {
    /// The way of a host, by its name in the fleet.
    ///
    /// # Errors
    /// Any [`EngineError`] of the addresses and files. Servers that are away are none.
    pub fn new(servers: Servers, host: HostName) -> Result<Self, EngineError> {
        servers.check()?;
        let run = rand::random();
        Ok(Self { servers, host, run, batches: AtomicU64::new(0), session: Mutex::default() })
    }

    async fn connect(&self) -> Result<Session, EngineError> {
        let client = self.servers.connect(self.host.as_str()).await?;
        let engine = engine(&client);
        let subject = answers_to(&self.host);
        let subscribed = client.subscribe(subject.clone()).await;
        let answers =
            subscribed.map_err(EngineError::of("subscribe to the collector's answers"))?;
        let kept = kept(&engine, subject).await?;
        Ok(Session { engine, answers, is_answered: true, published: None, sent_at: None, kept })
    }

    async fn publish(&self, batch: &Batch) -> Result<Answer, SendError> {
        let mut open = self.session.lock().await;
        let session = match open.take() {
            Some(session) => open.insert(session),
            None => open.insert(self.connect().await.map_err(away)?),
        };
        let id = format!("{:016x}-{}", self.run, self.batches.fetch_add(1, Ordering::Relaxed));
        let sent = session.send(facts_of(&self.host), id, batch).await;
        if matches!(sent, Err(SendError::Away(_))) {
            // A new connection finds another server.
            *open = None;
        }
        sent
    }
}

impl Transport for Publisher {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Answer, SendError>> {
        self.publish(batch).boxed()
    }

    fn batch_bytes(&self) -> usize {
        limits::PUBLISHED_BYTES
    }
}

/// The last answer to this host that the engine has kept.
async fn kept(engine: &Context, subject: String) -> Result<Option<Answered>, EngineError> {
    let find = "find the stream of answers; the collector makes it";
    let stream = engine.get_stream_no_info(ANSWERS).await.map_err(EngineError::of(find))?;
    match stream.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(serde_json::from_slice(&message.payload).ok()),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::of(find)(error)),
    }
}

fn away(error: EngineError) -> SendError {
    SendError::Away(error.to_string())
}

impl Session {
    async fn send(
        &mut self,
        subject: String,
        id: String,
        batch: &Batch,
    ) -> Result<Answer, SendError> {
        while let Some(answered) = self.answers.next().now_or_never().flatten() {
            self.hear(&answered.payload);
        }
        if let Some(gap) = self.kept.as_ref().and_then(Answered::gap) {
            self.kept = None;
            self.published = None;
            return Ok(gap);
        }
        if let Some(standing) = self.standing(batch) {
            return Ok(standing);
        }
        let text = serde_json::to_vec(batch).map_err(|error| SendError::Away(error.to_string()))?;
        let message = PublishMessage::build().payload(text.into()).message_id(&id);
        let stored = "store the batch";
        let published = self.engine.send_publish(subject, message).await;
        let published = published.map_err(EngineError::of(stored)).map_err(away)?;
        published.await.map_err(EngineError::of(stored)).map_err(away)?;
        self.published = Some(end_of(batch)?);
        self.sent_at = Some(Instant::now());
        self.answer(&id).await
    }

    /// The place from which the host goes on without sending this batch; none if it has to be sent.
    fn standing(&mut self, batch: &Batch) -> Option<Answer> {
        if !batch.facts.is_empty() {
            return None;
        }
        let kept = self.kept.take();
        let Some(published) = self.published.clone() else {
            // The first batch asks where to begin. The engine may know.
            let head = match kept.map(|kept| kept.outcome) {
                Some(Outcome::Head(head)) => head,
                Some(Outcome::Refused { .. }) | None => Head::EMPTY.into(),
            };
            self.published = Some(head.clone());
            return (head != batch.after).then_some(Answer { head });
        };
        // While the collector is away, a beat now and then is enough: the engine keeps them all.
        let quiet = Duration::from_millis(limits::QUIET_BEAT_MS);
        let is_enough = !self.is_answered && self.sent_at.is_some_and(|at| at.elapsed() < quiet);
        is_enough.then_some(Answer { head: published })
    }

    /// The answer to a batch that the engine has; the end of the batch if none comes in time.
    async fn answer(&mut self, id: &str) -> Result<Answer, SendError> {
        let patience = if self.is_answered { limits::ANSWER_MS } else { 0 };
        let last = Instant::now() + Duration::from_millis(patience);
        loop {
            let answered = tokio::time::timeout_at(last, self.answers.next()).await;
            let Ok(answered) = answered else {
                self.is_answered = false;
                let head = self.published.clone();
                return Ok(Answer { head: head.unwrap_or_else(|| Head::EMPTY.into()) });
            };
            let Some(message) = answered else {
                return Err(SendError::Away("the connection to the engine has ended".into()));
            };
            self.hear(&message.payload);
            let own = self.kept.take_if(|kept| kept.batch == id);
            match own.map(|own| own.outcome) {
                Some(Outcome::Head(head)) => return Ok(Answer { head }),
                Some(Outcome::Refused { code, message }) => {
                    return Err(SendError::Refused { code, message });
                }
                None => {}
            }
        }
    }

    fn hear(&mut self, payload: &[u8]) {
        if let Ok(answered) = serde_json::from_slice(payload) {
            self.is_answered = true;
            self.kept = Some(answered);
        }
    }
}

/// The last fact of a batch, or the one that it follows on.
fn end_of(batch: &Batch) -> Result<Place, SendError> {
    let after = batch.after.head().map_err(|error| SendError::Away(error.to_string()))?;
    let link = |head: Head, text: &String| Head {
        seq: head.seq + 1,
        hash: head.hash.next(text.as_bytes()),
    };
    Ok(batch.facts.iter().fold(after, link).into())
}
