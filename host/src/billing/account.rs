//! The account of one instance: its tracker, and the time that a failed policy still has to count.
//!
//! An account is a value. The driver owns it between facts; the journal passes it to an
//! [`Accountant`] when a fact is committed and stores the result in the same transaction.

use super::timeline::{Change, Timeline};
use super::tracker::{Totals, Tracker};
use crate::id::{Digest, TenantId};
use crate::units::Instant;
use crate::vm::Phase;

/// The accounted time of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The state that figures of usage are made from.
    pub tracker: Tracker,
    /// Phase of the fact that opened the interval under way; none before the first fact and after
    /// the last. May differ from `tracker.current`, the phase that the policy counts the interval
    /// under.
    pub phase: Option<Phase>,
    /// Set while a policy owes an answer: `tracker` then goes on under the standard policy.
    pub degraded: Option<Degraded>,
}

/// The point from which a failed policy is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// The tracker before the fact that could not be accounted.
    pub tracker: Tracker,
    /// The phase under way before that fact.
    pub phase: Option<Phase>,
    /// Sequence number of the first fact that is missing in `tracker`.
    pub from_fact: u64,
    /// The policy that failed.
    pub policy: Digest,
    /// The failure, in words for the operator.
    pub reason: String,
}

/// One fact to be accounted.
#[derive(Debug, Clone)]
pub struct Entering {
    /// The tenant whose policies are in force.
    pub tenant: TenantId,
    /// The account before; [`Accountant::enter`] replaces it by the one after.
    pub account: Account,
    /// The phase entered; `None` closes the account (the instance was deleted).
    pub to: Option<Phase>,
    /// Instant of the transition; not before the tracker's `since`.
    pub at: Instant,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// A policy that failed while a batch was accounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The tenant whose policy failed.
    pub tenant: TenantId,
    /// The component that failed.
    pub policy: Digest,
    /// The failure, in words.
    pub reason: String,
}

/// The accounting of facts under the policies in force. It never fails: where a policy does, the
/// standard policy counts, and the account is marked as degraded.
pub trait Accountant: Send + Sync {
    /// Accounts a batch; items belong to different instances, or to one instance in order.
    ///
    /// The time between an item's `since` and `at` is counted by the policies in force at that
    /// time: it is split exactly at each activation. Returns the new faults, at most one for each
    /// tenant and policy, for the journal.
    fn enter(&self, batch: &mut [Entering]) -> Vec<Fault>;

    /// Changes the policies of `tenant`. Called after the change is durable and before anything
    /// later is accounted.
    fn change(&self, tenant: &TenantId, change: Change);
}

/// The totals of an account at an instant, with the phase that time counts under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The phase that the policy counts under; none before the first fact and after the last.
    pub current: Option<Phase>,
    /// Instant of the last fact, at which the instance entered the phase. A later change of rules
    /// does not move it.
    pub since: Instant,
    /// Totals of all phases, with the visit under way.
    pub totals: Totals,
    /// Set if the policy in force failed: these are the standard policy's figures.
    pub degraded: bool,
}

/// The reading of accounts. It never fails, like [`Accountant`].
pub trait Reader: Send + Sync {
    /// The totals of these accounts at `at`, in the same order: one component call for each policy
    /// in force among them.
    fn usage(&self, accounts: &[(&TenantId, &Account)], at: Instant) -> Vec<Usage>;

    /// The policies in force for a tenant, over time.
    fn timeline(&self, tenant: &TenantId) -> Timeline;

    /// Accounts again for the time that a failed policy owes to a degraded account. `history` holds
    /// the phases entered from `from_fact` on, `None` for the end.
    ///
    /// Returns the completed account if the policies answer. Where the failed one does not, and is
    /// not in force any more at `now`, the standard policy's figures become final for its time
    /// alone, and the account is not degraded any more; the journal keeps what is needed to rate
    /// that time anew. Otherwise returns the account as it was.
    fn account_again(
        &self,
        tenant: &TenantId,
        account: &Account,
        history: &[(Option<Phase>, Instant)],
        now: Instant,
    ) -> Account;
}
