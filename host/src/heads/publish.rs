//! The hook that publishes signed heads: a URL that each is posted to, or a program that reads each
//! from its standard input. In their order, each until it was taken; the place is kept over
//! restarts.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;

use super::key::SignedHead;
use super::store::Heads;
use crate::blocking;
use crate::clock;
use crate::disk::write_whole;
use crate::limits::head as limits;
use crate::tls;

/// The place that heads are published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// A URL that takes each head as the body of a POST.
    Url(Url),
    /// A program that takes each head from its standard input.
    Program(PathBuf),
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Program(text.into()));
        }
        match text.parse::<Url>() {
            Ok(url) if ["https", "http"].contains(&url.scheme()) => Ok(Self::Url(url)),
            Ok(_) | Err(_) => {
                Err("heads are published to a URL with https:// or http://, or to a \
                                   program, by its absolute path"
                    .into())
            }
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The query may hold a secret.
            Self::Url(url) => write!(f, "{}{}", url.origin().ascii_serialization(), url.path()),
            Self::Program(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The progress of a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Last fact of the last head that was taken; 0 if none was.
    pub seq: u64,
    /// Time since which a head is not taken, in seconds since 1970; none while all are.
    pub failing_since_s: Option<u64>,
}

/// The publisher of the heads of a host.
pub struct Publisher {
    hook: Hook,
    client: Client,
    path: PathBuf,
    published: Mutex<Published>,
}

/// A head as it is handed over.
#[derive(Debug, Serialize)]
struct Message<'a> {
    key: String,
    #[serde(flatten)]
    head: &'a SignedHead,
}

impl Publisher {
    /// The publisher of a data folder's heads. Goes on where it was. Blocking.
    ///
    /// # Errors
    /// The error of the HTTP client, or of reading the place.
    pub fn open(data: &Path, hook: Hook) -> io::Result<Self> {
        let client = tls::client()
            .timeout(Duration::from_millis(limits::PUBLISH_MS_MAX))
            .redirect(redirect::Policy::none())
            .user_agent(concat!("tallyman/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(io::Error::other)?;
        let path = data.join("heads-published");
        let seq = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            read => read?.trim().parse().map_err(io::Error::other)?,
        };
        let published = Mutex::new(Published { seq, failing_since_s: None });
        Ok(Self { hook, client, path, published })
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The progress.
    pub fn published(&self) -> Published {
        self.lock().clone()
    }

    /// Publishes heads for ever.
    pub async fn run(self: Arc<Self>, heads: Arc<Heads>, mut signed: watch::Receiver<u64>) {
        let key = heads.key().to_string();
        loop {
            signed.mark_unchanged();
            while let Some(head) = heads.after(self.published().seq, 1).pop() {
                self.hand_over(&key, &head).await;
            }
            if signed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Hands a head over, however often it takes.
    async fn hand_over(&self, key: &str, head: &SignedHead) {
        let mut wait_ms = limits::RETRY_MS_MIN;
        while let Err(reason) = self.try_once(key, head).await {
            let now_s = u64::try_from(clock::wall_ns()).unwrap_or_default() / 1_000_000_000;
            self.lock().failing_since_s.get_or_insert(now_s);
            let hook = &self.hook;
            let fact = head.seq;
            tracing::warn!(%hook, fact, reason, "a signed head is not published; trying again");
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = wait_ms.saturating_mul(2).min(limits::RETRY_MS_MAX);
        }
        *self.lock() = Published { seq: head.seq, failing_since_s: None };
    }

    async fn try_once(&self, key: &str, head: &SignedHead) -> Result<(), String> {
        let message = Message { key: key.to_owned(), head };
        let text = serde_json::to_vec(&message).map_err(|error| error.to_string())?;
        match &self.hook {
            Hook::Url(url) => post(&self.client, url, text).await?,
            Hook::Program(program) => run(program, &text).await?,
        }
        let path = self.path.clone();
        let text = format!("{}\n", head.seq);
        let kept = blocking::run(move || write_whole(&path, text.as_bytes())).await;
        kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

async fn post(client: &Client, url: &Url, text: Vec<u8>) -> Result<(), String> {
    let request = client.post(url.clone()).header("content-type", "application/json").body(text);
    // The error would name the URL, whose query may hold a secret.
    let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

/// Runs a program with a text as its standard input.
async fn run(program: &Path, text: &[u8]) -> Result<(), String> {
    let ended = async {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program may end without reading; its status decides.
            let _ = stdin.write_all(text).await;
        }
        child.wait().await
    };
    let limit = Duration::from_millis(limits::PUBLISH_MS_MAX);
    match tokio::time::timeout(limit, ended).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it ended with {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not end within {} s", limits::PUBLISH_MS_MAX / 1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_a_url_or_an_absolute_path() {
        let url: Hook = "https://example.com/heads?token=x".parse().expect("a URL");
        assert_eq!(url.to_string(), "https://example.com/heads", "without what may be secret");
        assert_eq!("/usr/bin/x".parse(), Ok(Hook::Program("/usr/bin/x".into())));
        for wrong in ["x", "ftp://example.com", "./x", ""] {
            assert!(wrong.parse::<Hook>().expect_err(wrong).contains("absolute path"), "{wrong}");
        }
    }
}
