//! Signed heads: the end of the journal, signed with the host's key every hour and at each close.
//! With one that was kept, it is proved later what the journal was.
//!
//! A head covers every fact up to its own, by the hash chain. That of a close covers the document,
//! which the fact names by its SHA-256.

mod key;
mod store;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::journal::wire::Kind;
use crate::journal::{FactQuery, Head, Journal, ReadError};
use crate::limits::head as limits;
use crate::{blocking, causes};

pub use key::{HeadKey, KeyError, PublicKey, SignedHead};
pub use store::{Heads, HeadsError};

/// Signs heads for ever: one after each close, and one an hour if there are new facts.
pub async fn run(heads: Arc<Heads>, journal: Arc<Journal>) {
    let mut end = journal.follow();
    loop {
        end.mark_unchanged();
        let signing = (heads.clone(), journal.clone());
        let signed = blocking::run(move || sign(&signing.0, &signing.1)).await;
        match signed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = causes::in_words(&error);
                tracing::warn!(error, "the end of the journal could not be signed; trying again");
            }
            Err(error) => tracing::error!(%error, "signing the end of the journal broke off"),
        }
        // Facts that come together are looked at together.
        tokio::time::sleep(Duration::from_millis(limits::PAUSE_MS)).await;
        let hour = Duration::from_secs(limits::INTERVAL_S);
        if let Ok(Err(_)) = tokio::time::timeout(hour, end.changed()).await {
            // The journal is closed.
            return;
        }
    }
}

/// An error of signing.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("can't read the journal")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Heads(#[from] HeadsError),
}

/// Signs what is to be signed by now. Blocking.
fn sign(heads: &Heads, journal: &Journal) -> Result<(), SignError> {
    let now_s = u64::try_from(clock::wall_ns()).unwrap_or_default() / 1_000_000_000;
    let end = journal.head();
    let Some(last) = heads.last() else { return Ok(heads.sign(end, now_s)?) };
    for seq in closed(journal, heads.looked(), end)? {
        if let Some(head) = journal.archive().place_of(seq)? {
            heads.sign(head, now_s)?;
        }
    }
    heads.look(end.seq);
    let is_due = now_s.saturating_sub(last.at_s) >= limits::INTERVAL_S;
    if is_due && end.seq > last.seq {
        heads.sign(end, now_s)?;
    }
    Ok(())
}

/// The facts after `after` that closed a period, up to `end`.
fn closed(journal: &Journal, after: u64, end: Head) -> Result<Vec<u64>, ReadError> {
    let mut found = Vec::new();
    let mut next = Some(after);
    while let Some(after) = next {
        let query = FactQuery {
            after,
            through: Some(end.seq),
            kind: Some(Kind::Invoiced),
            ..FactQuery::default()
        };
        let page = journal.facts(&query)?;
        found.extend(page.facts.iter().map(|fact| fact.fact.seq));
        next = page.next;
    }
    Ok(found)
}
