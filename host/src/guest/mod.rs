//! The way into a guest: one connection to the agent of each machine, made when it is needed, and
//! sessions on it.
//!
//! A connection does not outlive what holds the guest: it ends before a memory is written to disk,
//! and a new one is made afterwards, which sets the guest's clock and stirs its random pool before
//! it does anything else. Nothing that is billed comes from here.

mod connection;
mod dial;
mod error;
mod session;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::message::Open;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::connection::{Close, Connection};
use self::session::Ask;
use crate::limits::guest as limits;

pub use self::dial::Way;
pub use self::error::{Cut, GuestError};
pub use self::session::{Session, SessionEvent, Talk};
pub use agent::message as protocol;
pub use agent::record;

/// Time until a connection that could not be made, or broke before anything was asked, is made
/// again.
const AGAIN: Duration = Duration::from_millis(20);

/// The agent of one launched machine.
pub struct Guest {
    way: Way,
    shared: Mutex<Shared>,
    /// Set once the agent has answered.
    met: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    /// The reason why there may be no connection now.
    held: Option<Cut>,
    /// The settings of its network card that each connection tells it first, as words of a
    /// kernel's command line; none if it knows them.
    network: Option<String>,
    connection: Option<Asker>,
}

/// The channels on which a connection is given orders, and told to end.
#[derive(Clone)]
struct Asker {
    asks: mpsc::Sender<Ask>,
    close: mpsc::Sender<Close>,
}

impl Guest {
    /// The agent at the end of this way.
    pub fn new(way: Way) -> Arc<Self> {
        Arc::new(Self { way, shared: Mutex::default(), met: Arc::default() })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; a new one if there is none.
    fn connection(&self) -> Result<Asker, GuestError> {
        let mut shared = self.shared();
        if let Some(cut) = shared.held {
            return Err(GuestError::Cut(cut));
        }
        if let Some(asker) = shared.connection.as_ref().filter(|asker| !asker.asks.is_closed()) {
            return Ok(asker.clone());
        }
        let (asks, asked) = mpsc::channel(limits::ASKS_MAX);
        let (close, closed) = mpsc::channel(1);
        let network = shared.network.clone();
        let connection = Connection::run(
            self.way.clone(),
            (network, self.met.clone()),
            asks.downgrade(),
            asked,
            closed,
        );
        tokio::spawn(connection);
        let asker = Asker { asks, close };
        shared.connection = Some(asker.clone());
        Ok(asker)
    }

    /// Opens a session; waits up to `patience` for the agent.
    ///
    /// # Errors
    /// Any [`GuestError`]. What was asked for was not begun, unless it is a [`GuestError::Cut`].
    pub async fn open(&self, open: Open, patience: Duration) -> Result<Session, GuestError> {
        let deadline = Instant::now() + patience;
        loop {
            let asker = self.connection()?;
            let (reply, answer) = oneshot::channel();
            let ask = Ask::Open { open: open.clone(), reply };
            let asked = async {
                // What can't be taken is dropped, with the place for its answer.
                let _ = asker.asks.send(ask).await;
                answer.await
            };
            match timeout_at(deadline, asked).await {
                Err(_) => return Err(GuestError::Silent(patience)),
                Ok(Ok(opened)) => return opened,
                Ok(Err(_)) if Instant::now() + AGAIN >= deadline => {
                    return Err(GuestError::Silent(patience));
                }
                Ok(Err(_)) => sleep(AGAIN).await,
            }
        }
    }

    /// Ends the connection and all sessions because of `cut`, and lets no other be made. An agent
    /// that does not say good-bye is waited for a moment only.
    pub async fn close(&self, cut: Cut) {
        let connection = {
            let mut shared = self.shared();
            shared.held = Some(cut);
            shared.connection.take()
        };
        let Some(Asker { asks: _, close }) = connection else { return };
        let (done, closed) = oneshot::channel();
        let limit = Duration::from_millis(limits::GOODBYE_MS_MAX);
        let closing = async {
            if close.send(Close { cut, done }).await.is_ok() {
                // It has ended either way.
                let _ = closed.await;
            }
        };
        // It goes on ending by itself.
        let _ = timeout(limit, closing).await;
    }

    /// Has the guest's processes held until it is woken, so that none runs on before its clock is
    /// set. An agent that never answered is not waited for, and another one a moment only.
    pub async fn hold(&self) {
        if !self.met.load(Ordering::Relaxed) {
            return;
        }
        let Ok(asker) = self.connection() else { return };
        let (reply, answer) = oneshot::channel();
        let limit = Duration::from_millis(limits::HOLD_MS_MAX);
        let asked = async {
            // What can't be taken is dropped, with the place for its answer.
            let _ = asker.asks.send(Ask::Hold { reply }).await;
            // A guest whose processes can't be held runs on with an old clock for a moment.
            let _ = answer.await;
        };
        let _ = timeout(limit, asked).await;
    }

    /// The agent is taken to have answered before: its machine was found, or was saved.
    pub fn assume_met(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    /// The guest runs again after it was held: connections may be made, and its clock and its
    /// random pool are set in the background.
    pub fn wake(self: &Arc<Self>) {
        self.shared().held = None;
        let guest = self.clone();
        tokio::spawn(async move {
            guest.synchronise(Duration::from_millis(limits::WAKE_MS_MAX)).await;
        });
    }

    /// Sets the guest's clock and reseeds its random pool. Returns whether that was done in time.
    pub async fn synchronise(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let Ok(asker) = self.connection() else { return false };
            let (reply, answer) = oneshot::channel();
            // What can't be taken is dropped, with the place for its answer.
            let _ = asker.asks.send(Ask::Sync { reply }).await;
            match timeout_at(deadline, answer).await {
                Ok(Ok(())) => return true,
                Ok(Err(_)) => sleep(AGAIN).await,
                Err(_) => return false,
            }
        }
        false
    }

    /// Has each connection from now on tell the guest the settings of its network card, which are
    /// others than those that it has in its memory.
    pub fn tell_network(&self, words: String) {
        self.shared().network = Some(words);
    }

    /// Connections may be made again: what was to hold the guest did not come about.
    pub fn allow(&self) {
        self.shared().held = None;
    }
}
