//! Signed heads: the end of the journal, signed with the host's key every hour and at each close.
//! With one that was kept, it is proved later what the journal was.
//!
//! A head covers every fact up to its own, by the hash chain and by Merkle trees: one over the
//! facts of each tenant, and one over those. By the second, a tenant proves which facts are its own
//! without anybody else's ([`Under`]). The head of a close covers the document, which the fact
//! names by its SHA-256; the tenant's place under it is kept.

mod audit;
mod key;
mod publish;
mod store;
mod trees;
mod under;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::id::TenantId;
use crate::journal::wire::{CALENDAR, Kind};
use crate::journal::{FactQuery, Head, Journal, ReadError};
use crate::limits::head as limits;
use crate::{blocking, causes};

pub use audit::{Audit, AuditError};
pub use key::{Groups, HeadKey, KeyError, PublicKey, SignedHead};
pub use publish::{Hook, Published, Publisher};
pub use store::{Heads, HeadsError, open_key, set_aside};
use trees::Trees;
pub use under::{GroupBegin, GroupUnder, NotUnder, Under};

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
pub enum SignError {
    /// The journal can't be read.
    #[error("can't read the journal")]
    Read(#[from] ReadError),
    /// The heads can't be written.
    #[error(transparent)]
    Heads(#[from] HeadsError),
}

/// The place of a tenant's facts under the head of a close, signed now if it was not yet. None if
/// the close was signed by an earlier version, which had no trees. Blocking.
///
/// # Errors
/// [`SignError`].
pub fn under(heads: &Heads, journal: &Journal, close: u64) -> Result<Option<Under>, SignError> {
    if let Some(noted) = heads.under(close)? {
        return Ok(Some(noted));
    }
    // Waits also for whoever signs it now.
    sign(heads, journal)?;
    Ok(heads.under(close)?)
}

/// Signs what is to be signed by now. Blocking; one call at a time does it.
fn sign(heads: &Heads, journal: &Journal) -> Result<(), SignError> {
    let mut kept = heads.trees();
    let now_s = u64::try_from(clock::wall_ns()).unwrap_or_default() / 1_000_000_000;
    let end = journal.head();
    let trees = match &mut *kept {
        Some(trees) => trees,
        none => none.insert(Trees::read(&heads.trees_file(), journal)?),
    };
    let signed = heads.last().map_or(0, |last| last.seq.min(end.seq));
    if trees.head().seq < signed {
        // The file of trees was lost: they are made again, and with them the places under heads.
        for close in closed(journal, trees.head().seq, Head { seq: signed, ..end })? {
            sign_close(heads, journal, (trees, now_s), &close)?;
        }
        trees.grow(journal, signed)?;
        heads.keep(trees)?;
    }
    for close in closed(journal, heads.looked(), end)? {
        sign_close(heads, journal, (trees, now_s), &close)?;
    }
    heads.look(end.seq);
    let is_due =
        heads.last().is_none_or(|last| now_s.saturating_sub(last.at_s) >= limits::INTERVAL_S);
    if is_due && heads.last().is_none_or(|last| end.seq > last.seq) {
        trees.grow(journal, end.seq)?;
        heads.sign(end, trees.groups(), now_s)?;
        heads.keep(trees)?;
    }
    Ok(())
}

/// Signs the head of a close, and notes where the tenant's facts lie under it.
fn sign_close(
    heads: &Heads,
    journal: &Journal,
    (trees, now_s): (&mut Trees, u64),
    close: &Close,
) -> Result<(), SignError> {
    let Some(head) = journal.archive().place_of(close.seq)? else { return Ok(()) };
    trees.grow(journal, close.seq)?;
    heads.sign(head, trees.groups(), now_s)?;
    let signed = trees.groups();
    let groups = [close.tenant.as_str(), CALENDAR];
    let places = groups.into_iter().filter_map(|group| trees.place(group)).collect();
    heads.note(head.seq, &signed, places)?;
    // Not before: a close whose places could not be noted is looked at again.
    heads.look(close.seq);
    Ok(())
}

/// A fact that closed a period of a tenant.
struct Close {
    seq: u64,
    tenant: TenantId,
}

/// The facts after `after` that closed a period, up to `end`.
fn closed(journal: &Journal, after: u64, end: Head) -> Result<Vec<Close>, ReadError> {
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
        let closes = page.facts.iter().filter_map(|chained| {
            let tenant = chained.fact.tenant.parse().ok()?;
            Some(Close { seq: chained.fact.seq, tenant })
        });
        found.extend(closes);
        next = page.next;
    }
    Ok(found)
}
