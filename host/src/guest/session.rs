//! A session in a guest, as whoever asked for it holds it.

use std::sync::Arc;

use agent::message::{DATA_BYTES_MAX, Ending, FromHost, Open, SessionId, Size, WINDOW_BYTES};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::error::{Cut, GuestError};

/// The place for the answer to whoever asked for a session.
pub(super) type Opened = oneshot::Sender<Result<Session, GuestError>>;

/// An order to a connection.
pub(super) enum Ask {
    /// To open a session.
    Open { open: Open, reply: Opened },
    /// To say something into one.
    Say(FromHost),
    /// To set clock and random pool, or to have just set them.
    Sync { reply: oneshot::Sender<()> },
    /// To hold the guest's processes until clock and random pool are set.
    Hold { reply: oneshot::Sender<()> },
}

/// Something that happens in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Output of its process.
    Output {
        /// The output is of standard error, not of standard output.
        is_error: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Its process has ended. Nothing follows.
    Ended(Ending),
}

/// A session. When it is dropped before it has ended, its processes are ended.
pub struct Session {
    talk: Talk,
    events: mpsc::UnboundedReceiver<Result<SessionEvent, GuestError>>,
    gone: mpsc::UnboundedSender<SessionId>,
    /// Output that was taken and the guest does not know of.
    taken: u32,
    is_over: bool,
}

/// The direction into a session.
#[derive(Clone)]
pub struct Talk {
    id: SessionId,
    asks: mpsc::Sender<Ask>,
    /// Bytes of input that may be sent.
    pub(super) room: Arc<Semaphore>,
}

/// The connection's ends of a session.
pub(super) struct Ends {
    pub(super) events: mpsc::UnboundedSender<Result<SessionEvent, GuestError>>,
    pub(super) room: Arc<Semaphore>,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        asks: mpsc::Sender<Ask>,
        gone: mpsc::UnboundedSender<SessionId>,
    ) -> (Self, Ends) {
        let room = Arc::new(Semaphore::new(WINDOW_BYTES as usize));
        let (told, events) = mpsc::unbounded_channel();
        let talk = Talk { id, asks, room: room.clone() };
        (Self { talk, events, gone, taken: 0, is_over: false }, Ends { events: told, room })
    }

    /// The other direction.
    pub fn talk(&self) -> Talk {
        self.talk.clone()
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// [`GuestError::Cut`] and others, if it was not brought to its end; nothing follows.
    pub async fn next(&mut self) -> Result<SessionEvent, GuestError> {
        self.acknowledge().await;
        let event = self.events.recv().await.unwrap_or(Err(GuestError::Cut(Cut::Lost)));
        match &event {
            Ok(SessionEvent::Output { bytes, .. }) => {
                self.taken += u32::try_from(bytes.len()).unwrap_or_default();
            }
            Ok(SessionEvent::Ended(_)) | Err(_) => self.is_over = true,
        }
        event
    }

    /// Tells the guest how much of its output was taken, if it is worth a message.
    async fn acknowledge(&mut self) {
        if self.taken >= WINDOW_BYTES / 4 {
            let grant = FromHost::Grant { session: self.talk.id, bytes: self.taken };
            // Before the wait: a caller that goes away in it must not tell it twice.
            self.taken = 0;
            self.talk.say(grant).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_over {
            // A connection that is gone has cut it.
            let _ = self.gone.send(self.talk.id);
        }
    }
}

impl Talk {
    async fn say(&self, message: FromHost) {
        // A connection that is gone tells the receiving side.
        let _ = self.asks.send(Ask::Say(message)).await;
    }

    /// Sends input; waits as long as the guest takes none.
    pub async fn input(&self, bytes: &[u8]) {
        for part in bytes.chunks(DATA_BYTES_MAX) {
            let count = u32::try_from(part.len()).unwrap_or_default();
            let Ok(room) = self.room.acquire_many(count).await else { return };
            room.forget();
            self.say(FromHost::Input { session: self.id, bytes: part.to_vec() }).await;
        }
    }

    /// There is no more input.
    pub async fn end_input(&self) {
        self.say(FromHost::InputEnd { session: self.id }).await;
    }

    /// Gives the terminal another size.
    pub async fn resize(&self, size: Size) {
        self.say(FromHost::Resize { session: self.id, size }).await;
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: i32) {
        self.say(FromHost::Signal { session: self.id, signal }).await;
    }
}
