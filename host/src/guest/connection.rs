//! A connection to an agent: one task that owns the wire.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::link::Link;
use agent::message::{FromGuest, FromHost, SessionId, VERSION, VERSION_HOLDS, WINDOW_BYTES};
use rand::RngCore as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::Way;
use super::error::{Cut, GuestError};
use super::session::{Ask, Ends, Opened, Session, SessionEvent};
use crate::clock;
use crate::limits::guest as limits;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Bytes that wait for the wire before nothing more is asked for.
const OUT_BYTES_MAX: usize = 256 << 10;

/// The order to end it.
pub(super) struct Close {
    pub(super) cut: Cut,
    pub(super) done: oneshot::Sender<()>,
}

/// A session, as far as it has come.
enum Known {
    Asked { reply: Opened },
    Open { ends: Ends, credit: u32 },
}

/// The connection.
pub(super) struct Connection {
    stream: UnixStream,
    link: Link,
    out: Vec<u8>,
    sent: usize,
    sessions: HashMap<SessionId, Known>,
    last_id: SessionId,
    /// The channel on which each session's holder asks. It does not keep the connection.
    asks: mpsc::WeakSender<Ask>,
    gone: mpsc::UnboundedSender<SessionId>,
    /// Callers that wait for the clock to be set.
    syncing: Vec<oneshot::Sender<()>>,
    is_synced: bool,
    /// Callers that wait for the guest's processes to be held.
    holding: Vec<oneshot::Sender<()>>,
    /// The guest's processes are held, or about to be: what is asked for meanwhile waits.
    is_held: bool,
    waiting: Vec<Ask>,
    /// The version of the agent's protocol; none before it has said it.
    version: Option<u16>,
    /// Set once an agent has answered.
    met: Arc<AtomicBool>,
    /// The settings of the guest's network card, if it has to be told.
    network: Option<String>,
}

/// The first thing to happen.
enum Next {
    Readable,
    Writable,
    Asked(Option<Ask>),
    Gone(SessionId),
    Close(Option<Close>),
    Idle,
}

/// The channels on which orders to a connection come.
struct Orders {
    asked: mpsc::Receiver<Ask>,
    closed: mpsc::Receiver<Close>,
    /// Sessions whose holders have gone.
    left: mpsc::UnboundedReceiver<SessionId>,
    /// Nobody is left who could close it.
    is_orphan: bool,
}

/// Reasons for its end.
enum End {
    /// Nobody needs it.
    Idle,
    /// It was told to.
    Closed(Close),
    /// It broke.
    Broken(GuestError),
}

impl Connection {
    /// Makes a connection and serves it to its end. `asks` is where the sessions ask.
    pub(super) async fn run(
        way: Way,
        (network, met): (Option<String>, Arc<AtomicBool>),
        asks: mpsc::WeakSender<Ask>,
        asked: mpsc::Receiver<Ask>,
        mut closed: mpsc::Receiver<Close>,
    ) {
        let made = tokio::select! {
            made = way.dial() => made,
            Some(Close { done, .. }) = closed.recv() => {
                let _ = done.send(());
                return;
            }
        };
        let stream = match made {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(?way, %error, "no way to an agent"),
        };
        let (gone, left) = mpsc::unbounded_channel();
        let nonce = u128::from_le_bytes(random());
        let mut connection = Self::over(stream, nonce, (network, met), (asks, gone));
        connection.say(&FromHost::Hello { version: VERSION, nonce });
        let mut orders = Orders { asked, closed, left, is_orphan: false };
        let end = connection.serve(&mut orders).await;
        drop(orders);
        connection.end(end).await;
    }

    fn over(
        stream: UnixStream,
        nonce: u128,
        (network, met): (Option<String>, Arc<AtomicBool>),
        (asks, gone): (mpsc::WeakSender<Ask>, mpsc::UnboundedSender<SessionId>),
    ) -> Self {
        Self {
            stream,
            link: Link::host(nonce),
            out: Vec::new(),
            sent: 0,
            sessions: HashMap::new(),
            last_id: 0,
            asks,
            gone,
            syncing: Vec::new(),
            is_synced: false,
            holding: Vec::new(),
            is_held: false,
            waiting: Vec::new(),
            version: None,
            met,
            network,
        }
    }

    async fn serve(&mut self, orders: &mut Orders) -> End {
        let mut idle_at = Instant::now() + Duration::from_millis(limits::WAKE_MS_MAX);
        loop {
            if let Err(error) = self.flush() {
                return End::Broken(lost(&error));
            }
            let next = self.next(orders, idle_at).await;
            let handled = match next {
                Next::Readable => self.read(),
                Next::Writable => Ok(()),
                Next::Asked(Some(ask)) => {
                    self.take(ask);
                    Ok(())
                }
                Next::Gone(session) => {
                    self.cut(session);
                    Ok(())
                }
                Next::Close(Some(close)) => return End::Closed(close),
                Next::Close(None) => {
                    orders.is_orphan = true;
                    continue;
                }
                Next::Asked(None) | Next::Idle => return End::Idle,
            };
            if let Err(error) = handled {
                return End::Broken(error);
            }
            if self.link.has_begun() {
                idle_at = Instant::now() + Duration::from_millis(limits::LINGER_MS);
            }
        }
    }

    async fn next(&self, orders: &mut Orders, idle_at: Instant) -> Next {
        let is_idle = self.sessions.is_empty();
        tokio::select! {
            biased;
            close = orders.closed.recv(), if !orders.is_orphan => Next::Close(close),
            // Whether it really is shows when it is read.
            _ = self.stream.readable() => Next::Readable,
            _ = self.stream.writable(), if self.sent < self.out.len() => Next::Writable,
            Some(session) = orders.left.recv() => Next::Gone(session),
            ask = orders.asked.recv(), if self.takes_asks() => Next::Asked(ask),
            () = sleep_until(idle_at), if is_idle => Next::Idle,
        }
    }

    fn takes_asks(&self) -> bool {
        let waiting = self.out.len() - self.sent;
        self.link.has_begun() && self.link.has_room() && waiting < OUT_BYTES_MAX
    }

    fn say(&mut self, message: &FromHost) {
        self.link.send(message, &mut self.out);
    }

    /// Writes what waits, as far as the wire takes it.
    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.try_write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    fn read(&mut self) -> Result<(), GuestError> {
        let mut buffer = vec![0; READ_BYTES];
        let count = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(GuestError::Cut(Cut::Lost)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(lost(&error)),
        };
        let mut bytes = &buffer[..count];
        loop {
            let received = self.link.receive::<FromGuest>(&mut bytes);
            match received.map_err(|broken| GuestError::Protocol(broken.to_string()))? {
                Some(message) => self.hear(message)?,
                None => break,
            }
        }
        if self.link.owes_ack() {
            self.say(&FromHost::Ack);
        }
        Ok(())
    }

    fn hear(&mut self, message: FromGuest) -> Result<(), GuestError> {
        match message {
            FromGuest::Welcome { version: version @ ..=VERSION, .. } => self.welcomed(version),
            FromGuest::Welcome { version: found, .. } => {
                return Err(GuestError::Version { found, known: VERSION });
            }
            FromGuest::Synced { before_ns, after_ns, seeded } => {
                let behind_ms = (after_ns - before_ns) / 1_000_000;
                tracing::debug!(behind_ms, seeded, "a guest has the time, and its pool a seed");
                self.synced();
            }
            FromGuest::Opened { session } => self.opened(session),
            FromGuest::Refused { session, errno, text } => {
                if let Some(Known::Asked { reply }) = self.sessions.remove(&session) {
                    let _ = reply.send(Err(GuestError::Refused { errno, text }));
                }
            }
            FromGuest::Output { session, is_error, bytes } => {
                return self.output(session, SessionEvent::Output { is_error, bytes });
            }
            FromGuest::Grant { session, bytes } => return self.granted(session, bytes),
            FromGuest::Ended { session, ending } => {
                if let Some(Known::Open { ends, .. }) = self.sessions.remove(&session) {
                    let _ = ends.events.send(Ok(SessionEvent::Ended(ending)));
                }
            }
            FromGuest::Bye => return Err(GuestError::Cut(Cut::Lost)),
            FromGuest::Held { done } => {
                tracing::debug!(done, "a guest was asked to hold its processes");
                answer(&mut self.holding);
            }
            FromGuest::Ack => {}
        }
        Ok(())
    }

    fn welcomed(&mut self, version: u16) {
        self.version = Some(version);
        self.met.store(true, Ordering::Relaxed);
        self.sync();
        if let Some(words) = self.network.take() {
            self.say(&FromHost::Network { words: words.into_bytes() });
        }
    }

    /// The guest has the time: what was asked for while its processes were held is done.
    fn synced(&mut self) {
        self.is_synced = true;
        self.is_held = false;
        answer(&mut self.syncing);
        for ask in std::mem::take(&mut self.waiting) {
            self.take(ask);
        }
    }

    /// Has the guest's processes held; an agent that can't do it is not asked.
    fn hold(&mut self, reply: oneshot::Sender<()>) {
        if self.version.is_some_and(|version| version >= VERSION_HOLDS) {
            self.is_held = true;
            self.holding.push(reply);
            self.say(&FromHost::Hold);
        }
    }

    fn sync(&mut self) {
        self.is_synced = false;
        self.say(&FromHost::Sync { wall_ns: clock::wall_ns(), seed: random() });
    }

    fn opened(&mut self, id: SessionId) {
        let Some(Known::Asked { reply }) = self.sessions.remove(&id) else { return };
        // As long as somebody waits for a session, somebody may ask.
        let Some(asks) = self.asks.upgrade() else {
            return self.say(&FromHost::Cut { session: id });
        };
        let (session, ends) = Session::new(id, asks, self.gone.clone());
        self.sessions.insert(id, Known::Open { ends, credit: WINDOW_BYTES });
        // One that nobody wants any more says so when it is dropped.
        let _ = reply.send(Ok(session));
    }

    fn output(&mut self, id: SessionId, event: SessionEvent) -> Result<(), GuestError> {
        // One that was cut may still say something.
        let Some(Known::Open { ends, credit }) = self.sessions.get_mut(&id) else { return Ok(()) };
        if let SessionEvent::Output { bytes, .. } = &event {
            let left = u32::try_from(bytes.len()).ok().and_then(|count| credit.checked_sub(count));
            *credit =
                left.ok_or_else(|| GuestError::Protocol("it sent more than it may".into()))?;
        }
        // A holder that has gone is told of elsewhere.
        let _ = ends.events.send(Ok(event));
        Ok(())
    }

    fn granted(&mut self, id: SessionId, bytes: u32) -> Result<(), GuestError> {
        let Some(Known::Open { ends, .. }) = self.sessions.get(&id) else { return Ok(()) };
        let room = ends.room.available_permits() as u64 + u64::from(bytes);
        if room > u64::from(WINDOW_BYTES) {
            return Err(GuestError::Protocol("it takes more than was sent".into()));
        }
        ends.room.add_permits(bytes as usize);
        Ok(())
    }

    /// Keeps what is asked for until the guest goes on. One too many is dropped, and with it its
    /// reply: whoever asks tries again until they stop waiting.
    fn wait(&mut self, ask: Ask) {
        self.waiting.retain(|ask| !matches!(ask, Ask::Open { reply, .. } if reply.is_closed()));
        if self.waiting.len() < limits::ASKS_MAX {
            self.waiting.push(ask);
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            // Whoever asked has stopped waiting: it must not be begun.
            Ask::Open { reply, .. } if reply.is_closed() => {}
            ask @ Ask::Open { .. } if self.is_held => self.wait(ask),
            Ask::Hold { reply } => self.hold(reply),
            Ask::Open { open, reply } => {
                self.last_id = self.last_id.wrapping_add(1);
                let session = self.last_id;
                self.sessions.insert(session, Known::Asked { reply });
                self.say(&FromHost::Open { session, open });
            }
            Ask::Say(message) => {
                if let FromHost::Grant { session, bytes } = &message
                    && let Some(Known::Open { credit, .. }) = self.sessions.get_mut(session)
                {
                    *credit = credit.saturating_add(*bytes);
                }
                self.say(&message);
            }
            Ask::Sync { reply } => {
                if self.is_synced {
                    self.sync();
                }
                self.syncing.push(reply);
            }
        }
    }

    fn cut(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.say(&FromHost::Cut { session });
        }
    }

    /// Tells everybody, and says good-bye if there is somebody to hear it.
    async fn end(mut self, end: End) {
        let why = match &end {
            End::Idle => GuestError::Cut(Cut::Lost),
            End::Closed(close) => GuestError::Cut(close.cut),
            End::Broken(error) => {
                if !self.sessions.is_empty() {
                    tracing::info!(%error, "the connection to an agent broke off");
                }
                error.clone()
            }
        };
        for (_, session) in self.sessions.drain() {
            match session {
                Known::Asked { reply } => drop(reply.send(Err(why.clone()))),
                Known::Open { ends, .. } => drop(ends.events.send(Err(why.clone()))),
            }
        }
        if !matches!(end, End::Broken(_)) && self.link.has_begun() {
            self.say(&FromHost::Bye);
            let limit = Duration::from_millis(limits::GOODBYE_MS_MAX);
            // A guest that does not answer has its port taken away all the same.
            let _ = timeout(limit, self.part()).await;
        }
        drop(self.stream);
        if let End::Closed(Close { done, .. }) = end {
            let _ = done.send(());
        }
    }

    /// Sends what is left and reads on until the guest closes its end. Has no timeout: the caller
    /// sets one.
    async fn part(&mut self) {
        while self.flush().is_ok() {
            let ready = tokio::select! {
                ready = self.stream.readable() => ready,
                ready = self.stream.writable(), if self.sent < self.out.len() => ready,
            };
            if ready.is_err() || self.read().is_err() {
                return;
            }
        }
    }
}

/// Answers all that wait.
fn answer(waiting: &mut Vec<oneshot::Sender<()>>) {
    for one in waiting.drain(..) {
        // Whoever has gone needs no answer.
        let _ = one.send(());
    }
}

fn lost(error: &io::Error) -> GuestError {
    tracing::debug!(%error, "the connection to an agent broke off");
    GuestError::Cut(Cut::Lost)
}

/// Numbers that nobody can guess.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
