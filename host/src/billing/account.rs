//! The account of one instance: its tracker, and what is to be made good when a policy failed.
//!
//! An account is a value. The driver owns it between facts; the journal hands it to an
//! [`Accountant`] when a fact is committed and stores what comes back in the same transaction.

use super::timeline::{Change, Timeline};
use super::tracker::{Totals, Tracker};
use crate::id::{Digest, TenantId};
use crate::units::Instant;
use crate::vm::Phase;

/// What is known about the time of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The state that answers are made from.
    pub tracker: Tracker,
    /// The phase of the fact that opened the interval under way. It may differ from
    /// `tracker.current`, which is what the policy counts it as.
    pub phase: Option<Phase>,
    /// Set while a policy owes an answer: `tracker` then goes on under the standard policy.
    pub degraded: Option<Degraded>,
}

/// From where a failed policy is to be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// The tracker before the fact that could not be accounted.
    pub tracker: Tracker,
    /// The phase that was under way then.
    pub phase: Option<Phase>,
    /// Sequence number of the first fact that is missing in `tracker`.
    pub from_fact: u64,
    /// The policy that failed.
    pub policy: Digest,
    /// What it did, in words, for the operator.
    pub reason: String,
}

/// One fact to be accounted.
#[derive(Debug, Clone)]
pub struct Entering {
    /// Whose rules hold.
    pub tenant: TenantId,
    /// The account before; [`Accountant::enter`] replaces it by the one after.
    pub account: Account,
    /// The phase entered; `None` closes the account (the instance was deleted).
    pub to: Option<Phase>,
    /// When; not before the tracker's `since`.
    pub at: Instant,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// A policy that failed while a batch was accounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose rules.
    pub tenant: TenantId,
    /// Which component.
    pub policy: Digest,
    /// What it did.
    pub reason: String,
}

/// Accounts facts under the policies in force. It never fails: where a policy does, the standard
/// accounting answers and the account says so.
pub trait Accountant: Send + Sync {
    /// Accounts a batch; items belong to different instances, or to one instance in order.
    ///
    /// The time between an item's `since` and `at` is counted by the policies in force at that
    /// time: it is split exactly at each activation. Answers the faults that are new, at most one
    /// for each tenant and policy, for the journal.
    fn enter(&self, batch: &mut [Entering]) -> Vec<Fault>;

    /// Changes the policies of `tenant`. Called after the change is durable and before anything
    /// later is accounted.
    fn change(&self, tenant: &TenantId, change: Change);
}

/// The totals of an account at an instant, and under which phase time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The phase as the policy sees it; none before the first fact.
    pub current: Option<Phase>,
    /// Since when the instance has been in it: the instant of its last fact. A change of rules in
    /// between does not move it.
    pub since: Instant,
    /// The visit under way included.
    pub totals: Totals,
    /// The policy in force failed; these are the standard policy's figures.
    pub degraded: bool,
}

/// Reads accounts off, for answers. It never fails, like [`Accountant`].
pub trait Reader: Send + Sync {
    /// The totals of these accounts at `at`, in the same order: one component call for all that are
    /// under one policy.
    fn usage(&self, accounts: &[(&TenantId, &Account)], at: Instant) -> Vec<Usage>;

    /// Which policies are in force for a tenant.
    fn timeline(&self, tenant: &TenantId) -> Timeline;

    /// Asks again what a failed policy owes to a degraded account. `history` holds the phases
    /// entered from `from_fact` on, `None` for the end.
    ///
    /// Answers the account made good. Where the policy that failed is not in force any more at
    /// `now`, the standard figures stand for the time it owes, and the account is whole again; the
    /// journal keeps what is needed to rate that time anew. Otherwise the account as it was.
    fn mend(
        &self,
        tenant: &TenantId,
        account: &Account,
        history: &[(Option<Phase>, Instant)],
        now: Instant,
    ) -> Account;
}
