//! The binary form of an account: totals may exceed what a SQLite integer holds.
//!
//! Layout, little-endian: version (1), tracker (1 current, 8 since, 8 x 8 totals), phase (1),
//! degraded (1). If degraded: tracker, phase (1), fact (8), digest (32), and the reason in UTF-8 to
//! the end. 255 stands for "no phase".

use crate::billing::account::{Account, Degraded};
use crate::billing::{Totals, Tracker};
use crate::id::Digest;
use crate::units::Instant;
use crate::vm::Phase;

const VERSION: u8 = 1;
const NO_PHASE: u8 = 255;

/// The error for bytes that are not a whole account of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an account in a layout that this version of the program knows")]
pub(super) struct NotAnAccount;

pub(super) fn encode(account: &Account, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    put_tracker(&account.tracker, out);
    out.push(ordinal(account.phase));
    match &account.degraded {
        None => out.push(0),
        Some(degraded) => {
            out.push(1);
            put_tracker(&degraded.tracker, out);
            out.push(ordinal(degraded.phase));
            out.extend(degraded.from_fact.to_le_bytes());
            out.extend(degraded.policy.0);
            out.extend(degraded.reason.as_bytes());
        }
    }
}

fn put_tracker(tracker: &Tracker, out: &mut Vec<u8>) {
    out.push(ordinal(tracker.current));
    out.extend(tracker.since.0.to_le_bytes());
    for total in tracker.totals.0 {
        out.extend(total.to_le_bytes());
    }
}

fn ordinal(phase: Option<Phase>) -> u8 {
    phase.map_or(NO_PHASE, |phase| phase as u8)
}

pub(super) fn decode(mut bytes: &[u8]) -> Result<Account, NotAnAccount> {
    let rest = &mut bytes;
    if take::<1>(rest)? != [VERSION] {
        return Err(NotAnAccount);
    }
    let tracker = take_tracker(rest)?;
    let phase = take_phase(rest)?;
    let degraded = match take::<1>(rest)? {
        [0] if rest.is_empty() => None,
        [1] => Some(take_degraded(rest)?),
        _ => return Err(NotAnAccount),
    };
    Ok(Account { tracker, phase, degraded })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NotAnAccount> {
    let (head, tail) = rest.split_first_chunk().ok_or(NotAnAccount)?;
    *rest = tail;
    Ok(*head)
}

fn take_phase(rest: &mut &[u8]) -> Result<Option<Phase>, NotAnAccount> {
    match take::<1>(rest)? {
        [NO_PHASE] => Ok(None),
        [ordinal] => Phase::from_ordinal(ordinal).map(Some).ok_or(NotAnAccount),
    }
}

fn take_tracker(rest: &mut &[u8]) -> Result<Tracker, NotAnAccount> {
    let current = take_phase(rest)?;
    let since = Instant(i64::from_le_bytes(take(rest)?));
    let mut totals = Totals::default();
    for total in &mut totals.0 {
        *total = u64::from_le_bytes(take(rest)?);
    }
    Ok(Tracker { current, since, totals })
}

fn take_degraded(rest: &mut &[u8]) -> Result<Degraded, NotAnAccount> {
    Ok(Degraded {
        tracker: take_tracker(rest)?,
        phase: take_phase(rest)?,
        from_fact: u64::from_le_bytes(take(rest)?),
        policy: Digest(take(rest)?),
        reason: str::from_utf8(rest).map_err(|_| NotAnAccount)?.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn phases() -> impl Strategy<Value = Option<Phase>> {
        proptest::option::of((0u8..8).prop_map(|ordinal| Phase::from_ordinal(ordinal).unwrap()))
    }

    fn trackers() -> impl Strategy<Value = Tracker> {
        (phases(), any::<i64>(), any::<[u64; 8]>()).prop_map(|(current, since, totals)| Tracker {
            current,
            since: Instant(since),
            totals: Totals(totals),
        })
    }

    fn accounts() -> impl Strategy<Value = Account> {
        let degraded = (trackers(), phases(), any::<u64>(), any::<[u8; 32]>(), any::<String>())
            .prop_map(|(tracker, phase, from_fact, policy, reason)| Degraded {
                tracker,
                phase,
                from_fact,
                policy: Digest(policy),
                reason,
            });
        (trackers(), phases(), proptest::option::of(degraded))
            .prop_map(|(tracker, phase, degraded)| Account { tracker, phase, degraded })
    }

    proptest! {
        #[test]
        fn every_account_comes_back_exactly(account in accounts()) {
            let mut bytes = Vec::new();
            encode(&account, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok(account));
        }

        #[test]
        fn any_bytes_are_an_account_or_refused_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            if let Ok(account) = decode(&bytes) {
                let mut again = Vec::new();
                encode(&account, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn a_cut_account_is_refused() {
        let mut bytes = Vec::new();
        encode(&Account::default(), &mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), Err(NotAnAccount), "{length} bytes");
        }
    }
}
