//! The side of the collector.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{AckKind, Context, Message};
use futures::StreamExt;

use super::answered::{Answered, Outcome};
use super::connect::engine;
use super::{ANSWERS, ANSWERS_TO, EngineError, FACTS, FACTS_OF, Servers, answers_to};
use crate::fleet::collector::{Collector, Refused};
use crate::fleet::message::{Batch, Place};
use crate::id::HostName;
use crate::journal::Head;
use crate::limits::fleet as limits;
use crate::{blocking, clock};

/// Decision whether a host belongs to the fleet.
pub type Admits = Arc<dyn Fn(&HostName) -> bool + Send + Sync>;

/// Name of the collector's place in the stream of batches.
const CONSUMER: &str = "collector";

/// Time for which the engine is asked for batches at once.
const ASKED: Duration = Duration::from_secs(30);

/// Time after which an engine without batches says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// The collector's way to the engine.
pub struct Receiver {
    servers: Servers,
    /// Number of servers that keep each batch.
    replicas: usize,
    collector: Arc<Collector>,
    admits: Admits,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Receiver {
    /// The way of a collector that keeps batches on `replicas` servers until it has them.
    ///
    /// # Errors
    /// Any [`EngineError`] of the addresses and files. Servers that are away are none.
    pub fn new(
        servers: Servers,
        replicas: usize,
        collector: Arc<Collector>,
        admits: Admits,
    ) -> Result<Self, EngineError> {
        servers.check()?;
        Ok(Self { servers, replicas, collector, admits })
    }

    /// Takes batches as long as it is polled. A batch that is under way when it is dropped comes
    /// again.
    pub async fn run(self) {
        let mut said = None;
        let mut pause = Duration::from_millis(limits::RETRY_MS_MIN);
        loop {
            let Err(error) = self.take_all(&mut pause).await else { continue };
            let words = error.to_string();
            if said.as_ref() != Some(&words) {
                tracing::warn!("{words}; hosts keep their facts until it can");
            }
            said = Some(words);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(limits::RETRY_MS_MAX));
        }
    }

    /// Takes batches until the engine fails, or ends the stream of messages.
    async fn take_all(&self, pause: &mut Duration) -> Result<(), EngineError> {
        let client = self.servers.connect(CONSUMER).await?;
        let engine = engine(&client);
        let facts = "make the stream of batches";
        let stream = engine.get_or_create_stream(self.facts()).await;
        let stream = stream.map_err(EngineError::of(facts))?;
        let answers = engine.get_or_create_stream(self.answers()).await;
        answers.map_err(EngineError::of("make the stream of answers"))?;
        let place = pull::Config {
            durable_name: Some(CONSUMER.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_millis(limits::TAKE_MS),
            max_ack_pending: limits::UNDER_WAY,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(CONSUMER, place).await;
        let consumer = consumer.map_err(EngineError::of("find the place in the batches"))?;
        let read = "read the batches";
        let stream = consumer.stream().expires(ASKED).heartbeat(HEARTBEAT);
        let mut messages = stream.messages().await.map_err(EngineError::of(read))?;
        tracing::info!(servers = self.servers.addresses, "taking batches from the engine");
        while let Some(message) = messages.next().await {
            let message = message.map_err(EngineError::of(read))?;
            *pause = Duration::from_millis(limits::RETRY_MS_MIN);
            self.take(&engine, message).await?;
        }
        Ok(())
    }

    fn facts(&self) -> Config {
        Config {
            name: FACTS.into(),
            subjects: vec![format!("{FACTS_OF}*")],
            retention: RetentionPolicy::WorkQueue,
            // A full engine refuses, and facts stay in the journals.
            discard: DiscardPolicy::New,
            num_replicas: self.replicas,
            ..Config::default()
        }
    }

    fn answers(&self) -> Config {
        Config {
            name: ANSWERS.into(),
            subjects: vec![format!("{ANSWERS_TO}*")],
            max_messages_per_subject: 1,
            allow_direct: true,
            num_replicas: self.replicas,
            ..Config::default()
        }
    }

    /// Takes one batch, answers it, and lets the engine forget it.
    async fn take(&self, engine: &Context, message: Message) -> Result<(), EngineError> {
        let name = message.subject.strip_prefix(FACTS_OF).and_then(|name| name.parse().ok());
        let Some(host): Option<HostName> = name else {
            return forget(&message, AckKind::Ack).await;
        };
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        let id = id.map(ToString::to_string).unwrap_or_default();
        let Some(answered) = self.answered(&host, id, &message.payload).await else {
            let later = Duration::from_millis(limits::RETRY_MS_MIN);
            return forget(&message, AckKind::Nak(Some(later))).await;
        };
        let answer = "store an answer";
        let text = serde_json::to_vec(&answered).map_err(EngineError::of(answer))?;
        let stored = engine.publish(answers_to(&host), text.into()).await;
        stored.map_err(EngineError::of(answer))?.await.map_err(EngineError::of(answer))?;
        forget(&message, AckKind::Ack).await
    }

    /// The answer to a batch; none if it can't be taken now and has to come again.
    async fn answered(&self, host: &HostName, id: String, payload: &[u8]) -> Option<Answered> {
        let refused = |after: Place, code: &str, message: String| {
            let outcome = Outcome::Refused { code: code.into(), message };
            Some(Answered { batch: id.clone(), after, outcome })
        };
        let nowhere = || Place::from(Head::EMPTY);
        if !(self.admits)(host) {
            let message = format!(
                "this fleet has no host '{host}'; `tallyman token create {host} --role host` at \
                 the collector admits it"
            );
            return refused(nowhere(), "unknown_host", message);
        }
        let batch = match serde_json::from_slice::<Batch>(payload) {
            Ok(batch) => batch,
            Err(error) => return refused(nowhere(), "malformed", error.to_string()),
        };
        let after = batch.after.clone();
        let collector = self.collector.clone();
        let name = host.clone();
        let take = move || collector.take(&name, &batch, clock::wall_ns());
        match blocking::run(take).await {
            Ok(Ok(answer)) => {
                Some(Answered { batch: id, after, outcome: Outcome::Head(answer.head) })
            }
            Ok(Err(error)) if error.is_final() => refused(after, "host_refused", error.to_string()),
            Ok(Err(error @ Refused::Malformed(_))) => {
                refused(after, "malformed", error.to_string())
            }
            Ok(Err(error)) => {
                tracing::warn!("{}", crate::causes::in_words(&error));
                None
            }
            Err(error) => {
                tracing::error!(%error, "a batch could not be taken");
                None
            }
        }
    }
}

async fn forget(message: &Message, kind: AckKind) -> Result<(), EngineError> {
    let done = message.ack_with(kind).await;
    done.map_err(|error| EngineError::Engine { act: "forget a batch", error: error.to_string() })
}
