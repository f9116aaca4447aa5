//! Accounting of facts under the policies in force, with a fallback for a policy that fails.
//!
//! The time before a fact is cut at each activation: the old policy closes the visit there, the new
//! one opens the next. Facts that need the same policy for the same tenant go to it in one call.
//! Rules are published by swapping a pointer; nobody waits for an activation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use super::PolicyHost;
use super::budget::Budget;
use super::component::Policy;
use super::engine::Answer;
use super::fault::Fault;
use super::standard::{self, is_shipped};
use super::wire::Step;
use crate::billing::account::{self, Account, Accountant, Degraded, Entering, Usage};
use crate::billing::{Change, Substitutes, Timeline, Totals, Tracker};
use crate::id::{Digest, TenantId};
use crate::limits::policy as limits;
use crate::mutants::{Mutant, money};
use crate::units::Instant;
use crate::vm::Phase;

/// The rules of all tenants.
pub struct Accounting {
    policies: Arc<PolicyHost>,
    rules: ArcSwap<HashMap<TenantId, Arc<Rules>>>,
    /// Rules of tenants without rules of their own.
    default: Arc<Rules>,
    /// Notified when a policy has failed too often in a row.
    quarantine_signal: Notify,
}

/// The rules of one tenant. Replaced as a whole by an activation.
#[derive(Clone)]
struct Rules {
    timeline: Timeline,
    health: HashMap<Digest, Arc<Health>>,
    substitutes: Substitutes,
    /// Fuel burned for the tenant since the daemon's start.
    fuel: Arc<AtomicU64>,
}

/// The record of a policy's faults for a tenant.
#[derive(Default)]
struct Health {
    faults_in_a_row: AtomicU32,
    /// Faults in a row of measuring, counted apart from those of accounting.
    unmeasured_in_a_row: AtomicU32,
    reported: AtomicBool,
    /// Description of the last fault; none before the first.
    reason: ArcSwapOption<String>,
}

/// The purpose of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A preview, which nobody is charged by. Faults do not count against the policy: a caller may
    /// preview anything, as often as they like.
    Preview,
    /// A bill. Faults count against the policy.
    Bill,
}

/// A policy that is quarantined for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// SHA-256 of the policy.
    pub policy: Digest,
    /// Number of faults in a row.
    pub faults: u32,
    /// Description of the last fault; none if it was before the daemon's start.
    pub reason: Option<String>,
    /// SHA-256 of the policy that accounts in its place; none while its time is held.
    pub substitute: Option<Digest>,
}

/// An error of probing a tenant's policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The policy is not loaded.
    #[error("policy {0} is not loaded")]
    Missing(Digest),
    /// The policy failed.
    #[error("policy {policy} did not answer")]
    Fault {
        /// SHA-256 of the policy.
        policy: Digest,
        /// The fault.
        #[source]
        fault: Fault,
    },
}

/// An error of accounting an instance's history again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A policy in force at the time is quarantined, and none accounts in its place.
    #[error("policy {0} is quarantined, and its time is held")]
    Held(Digest),
    /// A policy in force at the time is not loaded.
    #[error("policy {0} is not loaded")]
    Missing(Digest),
    /// A policy failed again.
    #[error("policy {policy} failed again")]
    Fault {
        /// SHA-256 of the policy.
        policy: Digest,
        /// The fault.
        #[source]
        fault: Fault,
    },
}

impl Health {
    fn quarantined() -> Self {
        let faults_in_a_row = AtomicU32::new(limits::FAULTS_IN_A_ROW_MAX);
        let unmeasured_in_a_row = AtomicU32::new(0);
        let reason = ArcSwapOption::empty();
        Self { faults_in_a_row, unmeasured_in_a_row, reported: AtomicBool::new(true), reason }
    }

    fn is_quarantined(&self) -> bool {
        self.faults() >= limits::FAULTS_IN_A_ROW_MAX
    }

    /// Number of faults in a row of accounting or measuring, the greater of the two.
    fn faults(&self) -> u32 {
        self.faults_in_a_row
            .load(Ordering::Relaxed)
            .max(self.unmeasured_in_a_row.load(Ordering::Relaxed))
    }

    fn succeeded(&self) {
        self.faults_in_a_row.store(0, Ordering::Relaxed);
    }

    /// Counts a fault. Returns true if the policy is to be quarantined now.
    fn failed(&self) -> bool {
        self.faults_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 == limits::FAULTS_IN_A_ROW_MAX
    }

    /// True for the first fault since the policy was activated or retried, which is to be reported.
    fn is_first_report(&self) -> bool {
        !self.reported.swap(true, Ordering::Relaxed)
    }
}

impl Rules {
    fn starting_with(policy: Digest) -> Self {
        Self {
            timeline: Timeline::starting_with(policy),
            health: HashMap::from([(policy, Arc::default())]),
            substitutes: Substitutes::default(),
            fuel: Arc::default(),
        }
    }

    /// The policy that accounts for `policy`, itself or a substitute; none while its time is held.
    fn answering(&self, policy: Digest) -> Option<Digest> {
        self.substitutes.answering(policy)
    }

    fn burn(&self, fuel: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
    }

    fn health(&self, policy: Digest) -> Option<&Arc<Health>> {
        self.health.get(&policy)
    }

    /// The activations that cut a visit from `since` to `at`. One at `since` itself counts: it may
    /// have become known after the fact at that instant.
    fn cuts(&self, since: Instant, at: Instant) -> impl Iterator<Item = (Instant, Digest)> {
        self.timeline.between(Instant(since.0.saturating_sub(1)), at)
    }
}

/// A call to a policy: an instance enters `to` at `at`.
#[derive(Clone, Copy)]
struct Ask {
    policy: Digest,
    to: Phase,
    at: Instant,
}

/// The calls for one instance, in order, and the tracker after those already made.
struct PendingAccount {
    rules: Arc<Rules>,
    tracker: Tracker,
    asks: std::vec::IntoIter<Ask>,
    failed: Option<(Digest, String)>,
}

/// The calls for a visit: at each cut the old policy closes and the new one opens; then the phase
/// that is entered, if any.
fn asks(
    rules: &Rules,
    tracker: &Tracker,
    phase: Option<Phase>,
    to: Option<Phase>,
    at: Instant,
) -> Vec<Ask> {
    let mut asks = Vec::with_capacity(usize::from(to.is_some()));
    if let (Some(_), Some(phase)) = (tracker.current, phase) {
        let mut old = rules.timeline.at(Instant(tracker.since.0.saturating_sub(1)));
        let cuts = rules.cuts(tracker.since, at);
        for (cut, new) in cuts.filter(|_| !Mutant::SplitForgotten.is_active()) {
            if cut > tracker.since {
                asks.push(Ask { policy: old, to: phase, at: cut });
            }
            asks.push(Ask { policy: new, to: phase, at: cut });
            old = new;
        }
    }
    asks.extend(to.map(|to| Ask { policy: rules.timeline.at(at), to, at }));
    asks
}

impl Accounting {
    /// Makes an accounting in which every tenant is under the standard policy.
    pub fn new(policies: Arc<PolicyHost>) -> Self {
        let default = Arc::new(Rules::starting_with(policies.standard().digest()));
        Self { policies, rules: ArcSwap::default(), default, quarantine_signal: Notify::new() }
    }

    /// Returns the policies in force for a tenant, over time.
    pub fn timeline(&self, tenant: &TenantId) -> Timeline {
        self.rules(tenant).timeline.clone()
    }

    /// Returns the policies that are quarantined for a tenant, sorted by digest.
    pub fn quarantined(&self, tenant: &TenantId) -> Vec<Quarantined> {
        let rules = self.rules(tenant);
        let quarantined = rules.health.iter().filter(|(_, health)| health.is_quarantined());
        let mut quarantined: Vec<_> = quarantined
            .map(|(&policy, health)| Quarantined {
                policy,
                faults: health.faults(),
                reason: health.reason.load().as_deref().cloned(),
                substitute: rules.substitutes.named_for(&policy),
            })
            .collect();
        quarantined.sort_by_key(|quarantined| quarantined.policy);
        quarantined
    }

    /// Waits until a policy has failed too often in a row since the last call.
    pub async fn quarantine_signal(&self) {
        self.quarantine_signal.notified().await;
    }

    /// Quarantines `policy` for a tenant; `substitute`, which must be loaded, accounts in its
    /// place. None holds its time.
    pub fn quarantine(&self, tenant: &TenantId, policy: Digest, substitute: Option<Digest>) {
        self.update(tenant, |rules| {
            if !rules.health(policy).is_some_and(|health| health.is_quarantined()) {
                rules.health.insert(policy, Arc::new(Health::quarantined()));
            }
            if let Some(substitute) = substitute {
                rules.health.entry(substitute).or_default();
            }
            rules.substitutes.quarantine(policy, substitute);
        });
    }

    /// Activates a policy for a tenant from an instant on. Ends its quarantine.
    pub fn activate(&self, tenant: &TenantId, from: Instant, digest: Digest) {
        self.change(tenant, Change::Set { from, digest });
    }

    /// Ends the quarantine of a policy for a tenant.
    pub fn retry(&self, tenant: &TenantId, policy: Digest) {
        self.update(tenant, |rules| {
            rules.health.insert(policy, Arc::default());
            rules.substitutes.trust(&policy);
        });
    }

    /// Returns the fuel burned for a tenant since the daemon's start.
    pub fn fuel(&self, tenant: &TenantId) -> u64 {
        self.rules(tenant).fuel.load(Ordering::Relaxed)
    }

    // Fuel is counted here and refused at the API alone: accounting of facts is never refused, or a
    // policy that burns much would leave its tenant's time unbilled.
    /// Adds fuel that was burned for a tenant elsewhere.
    pub fn charge(&self, tenant: &TenantId, fuel: u64) {
        self.rules(tenant).burn(fuel);
    }

    /// Records that a policy measured a tenant's time.
    pub fn measured(&self, tenant: &TenantId, policy: Digest) {
        if let Some(health) =
            self.rules(tenant).health(policy).filter(|health| !health.is_quarantined())
        {
            health.unmeasured_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Records that a policy failed to measure a tenant's time; too many such faults in a row
    /// signal a quarantine.
    ///
    /// A refusal, such as of an invalid option, is an answer and no fault. Faults of a preview do
    /// not count.
    pub fn failed_to_measure(
        &self,
        tenant: &TenantId,
        policy: Digest,
        occasion: Occasion,
        fault: &Fault,
    ) {
        let rules = self.rules(tenant);
        let counts = match occasion {
            Occasion::Preview => false,
            Occasion::Bill => counts_against(policy, fault) && !matches!(fault, Fault::Refused(_)),
        };
        let Some(health) = rules.health(policy).filter(|_| counts) else { return };
        health.reason.store(Some(Arc::new(fault.in_words())));
        if health.unmeasured_in_a_row.fetch_add(1, Ordering::Relaxed) + 1
            == limits::FAULTS_IN_A_ROW_MAX
        {
            self.quarantine_signal.notify_one();
        }
    }

    /// Calls the policy in force for a tenant at `at` without any effect, and returns its digest.
    ///
    /// # Errors
    /// [`ProbeError`]; the policy's record of faults is unchanged.
    pub fn probe(&self, tenant: &TenantId, at: Instant) -> Result<Digest, ProbeError> {
        let rules = self.rules(tenant);
        let digest = rules.timeline.at(at);
        let policy = self.policies.get(digest).ok_or(ProbeError::Missing(digest))?;
        let tracker =
            Tracker { current: Some(Phase::Running), since: at, totals: Totals::default() };
        let answer = policy.snapshot_metered(&tracker, at);
        let answer = answer.map_err(|fault| ProbeError::Fault { policy: digest, fault })?;
        rules.burn(answer.fuel);
        Ok(policy.digest())
    }

    /// Accounts the history of an instance again from the fact at which its policy failed: `facts`
    /// are the phases entered since, the failed one first, `None` for the deletion.
    ///
    /// # Errors
    /// The first error; the caller keeps the account as it is.
    pub fn recover(
        &self,
        tenant: &TenantId,
        from: &Degraded,
        facts: &[(Option<Phase>, Instant)],
    ) -> Result<Tracker, RecoverError> {
        let rules = self.rules(tenant);
        self.replay(&rules, from, facts, |tracker, ask| self.ask_again(&rules, tracker, ask))
    }

    /// Accounts the history as [`Accounting::recover`] does, with the standard figures for every
    /// call that fails. The second value is set if the last call was answered.
    fn recover_with_gaps(
        &self,
        tenant: &TenantId,
        from: &Degraded,
        facts: &[(Option<Phase>, Instant)],
    ) -> (Tracker, bool) {
        let rules = self.rules(tenant);
        let mut answered = false;
        let Ok::<_, std::convert::Infallible>(tracker) =
            self.replay(&rules, from, facts, |tracker, ask| {
                let answer = self.ask_again(&rules, tracker, ask);
                answered = answer.is_ok();
                Ok(answer.unwrap_or_else(|_| standard::enter(tracker, ask.to, ask.at)))
            });
        (tracker, answered)
    }

    /// Makes the calls for a history, one after the other.
    fn replay<E>(
        &self,
        rules: &Rules,
        from: &Degraded,
        facts: &[(Option<Phase>, Instant)],
        mut ask_again: impl FnMut(&Tracker, Ask) -> Result<Tracker, E>,
    ) -> Result<Tracker, E> {
        let mut tracker = from.tracker;
        let mut phase = from.phase;
        for &(to, at) in facts {
            for ask in asks(rules, &tracker, phase, to.or(phase), at) {
                tracker = ask_again(&tracker, ask)?;
            }
            if to.is_none() {
                tracker.current = None;
            }
            phase = to;
        }
        Ok(tracker)
    }

    /// Repeats a call. A fault is not counted against the policy again; the fuel is.
    fn ask_again(
        &self,
        rules: &Rules,
        tracker: &Tracker,
        ask: Ask,
    ) -> Result<Tracker, RecoverError> {
        let asked = rules.answering(ask.policy).ok_or(RecoverError::Held(ask.policy))?;
        let policy = self.policies.get(asked).ok_or(RecoverError::Missing(asked))?;
        match policy.enter_metered(tracker, ask.to, ask.at) {
            Ok(answer) => {
                rules.burn(answer.fuel);
                Ok(answer.value)
            }
            Err(fault) => {
                rules.burn(Budget::accounting(1).fuel);
                Err(RecoverError::Fault { policy: asked, fault })
            }
        }
    }

    /// Returns the totals of many accounts at one instant, the visit under way included, in the
    /// given order: one call for each tenant and policy. An account whose `since` is after `at` has
    /// no visit under way.
    ///
    /// Changes no account, and never fails: for a policy that fails, the standard figures are
    /// returned, marked as degraded.
    pub fn usage(&self, accounts: &[(&TenantId, &Account)], at: Instant) -> Vec<Usage> {
        let of_one_tenant = accounts.chunk_by(|(one, _), (next, _)| one == next);
        let mut pending: Vec<PendingAccount> = of_one_tenant
            .flat_map(|accounts| {
                let rules = self.rules(accounts[0].0);
                accounts
                    .iter()
                    .map(move |(_, account)| PendingAccount::new(rules.clone(), account, None, at))
            })
            .collect();
        self.run_rounds(&mut pending);
        let totals = self.totals_at(accounts, &mut pending, at);
        let finished = accounts.iter().zip(pending).zip(totals);
        finished.map(|((&(_, account), each), totals)| usage(account, &each, totals, at)).collect()
    }

    fn rules(&self, tenant: &TenantId) -> Arc<Rules> {
        self.rules.load().get(tenant).unwrap_or(&self.default).clone()
    }

    fn update(&self, tenant: &TenantId, change: impl Fn(&mut Rules)) {
        self.rules.rcu(|all| {
            let mut all = HashMap::clone(all);
            // Fuel and faults are counted per tenant, so nothing is shared with the default rules.
            let fresh = || Rules::starting_with(self.policies.standard().digest());
            let mut rules = all.get(tenant).map_or_else(fresh, |rules| Rules::clone(rules));
            change(&mut rules);
            all.insert(tenant.clone(), Arc::new(rules));
            all
        });
    }

    /// Makes all calls, in rounds: each takes the next call of every account, and batches those to
    /// one policy for one tenant. Without an activation in between there is one round.
    fn run_rounds(&self, pending: &mut [PendingAccount]) {
        loop {
            let mut groups: BTreeMap<(Digest, *const Rules), Vec<(usize, Step)>> = BTreeMap::new();
            for (index, each) in pending.iter_mut().enumerate() {
                if let Some(ask) = each.asks.next() {
                    let group = (ask.policy, Arc::as_ptr(&each.rules));
                    groups.entry(group).or_default().push((index, (each.tracker, ask.to, ask.at)));
                }
            }
            if groups.is_empty() {
                return;
            }
            for ((policy, _), group) in groups {
                self.ask(policy, &group, pending);
            }
        }
    }

    /// Calls one policy for a group of one tenant's instances: in a batch, and one by one if that
    /// fails, so that one bad item does not spoil the others.
    fn ask(&self, digest: Digest, group: &[(usize, Step)], pending: &mut [PendingAccount]) {
        let Some(&(first, _)) = group.first() else { return };
        let rules = Arc::clone(&pending[first].rules);
        let steps: Vec<Step> = group.iter().map(|&(_, step)| step).collect();
        let together = |policy: &Policy| match steps.as_slice() {
            [(before, to, at)] => policy.enter_metered(before, *to, *at).map(one),
            steps => policy.enter_all_metered(steps),
        };
        let single = |policy: &Policy, item: usize| {
            let (before, to, at) = &steps[item];
            policy.enter_metered(before, *to, *at)
        };
        for (&(index, _), answer) in
            group.iter().zip(self.call_policy(&rules, digest, steps.len(), together, single))
        {
            match answer {
                Ok(after) => pending[index].tracker = after,
                Err(reason) => pending[index].fail(digest, reason),
            }
        }
    }

    /// The totals of every account at its end; none where the policy failed.
    fn totals_at(
        &self,
        accounts: &[(&TenantId, &Account)],
        pending: &mut [PendingAccount],
        at: Instant,
    ) -> Vec<Option<Totals>> {
        let mut totals = vec![None; pending.len()];
        let mut groups: BTreeMap<(Digest, *const Rules), Vec<usize>> = BTreeMap::new();
        for (index, each) in pending.iter().enumerate() {
            let asked = accounts[index].1.degraded.is_none() && each.failed.is_none();
            // An account whose last fact was committed after `at` was read has no visit under way
            // yet, and needs no call.
            let under_way = each.tracker.current.is_some() && each.tracker.since <= at;
            if asked && under_way {
                let group = (each.rules.timeline.at(at), Arc::as_ptr(&each.rules));
                groups.entry(group).or_default().push(index);
            }
        }
        for ((digest, _), group) in groups {
            let rules = Arc::clone(&pending[group[0]].rules);
            let trackers: Vec<Tracker> =
                group.iter().map(|&index| pending[index].tracker).collect();
            let together = |policy: &Policy| match trackers.as_slice() {
                [tracker] => policy.snapshot_metered(tracker, at).map(one),
                trackers => policy.snapshot_all_metered(trackers, at),
            };
            let single =
                |policy: &Policy, item: usize| policy.snapshot_metered(&trackers[item], at);
            for (&index, answer) in
                group.iter().zip(self.call_policy(&rules, digest, trackers.len(), together, single))
            {
                match answer {
                    Ok(answer) => totals[index] = Some(answer),
                    Err(reason) => pending[index].fail(digest, reason),
                }
            }
        }
        totals
    }

    /// Returns an answer for each item, or the reason that there is none.
    fn call_policy<T>(
        &self,
        rules: &Rules,
        digest: Digest,
        items: usize,
        together: impl Fn(&Policy) -> Result<Answer<Vec<T>>, Fault>,
        single: impl Fn(&Policy, usize) -> Result<Answer<T>, Fault>,
    ) -> Vec<Result<T, String>> {
        let none = |why: &str| (0..items).map(|_| Err(why.to_owned())).collect();
        let Some(asked) = rules.answering(digest) else { return none(QUARANTINED) };
        let (Some(policy), Some(health)) = (self.policies.get(asked), rules.health(asked)) else {
            return none("it is not loaded on this host");
        };
        if health.is_quarantined() {
            return none(QUARANTINED);
        }
        match together(&policy) {
            Ok(answer) => {
                health.succeeded();
                rules.burn(answer.fuel);
                answer.value.into_iter().map(Ok).collect()
            }
            Err(fault) if items == 1 => vec![Err(self.failed(rules, asked, health, &fault))],
            Err(fault) => {
                rules.burn(Budget::accounting(items).fuel);
                tracing::warn!(
                    policy = %asked, fault = fault.in_words(), items,
                    "a policy failed on a batch; calling it item by item"
                );
                (0..items)
                    .map(|item| self.ask_one(rules, asked, health, || single(&policy, item)))
                    .collect()
            }
        }
    }

    fn ask_one<T>(
        &self,
        rules: &Rules,
        asked: Digest,
        health: &Health,
        ask: impl FnOnce() -> Result<Answer<T>, Fault>,
    ) -> Result<T, String> {
        if health.is_quarantined() {
            return Err(QUARANTINED.into());
        }
        match ask() {
            Ok(answer) => {
                health.succeeded();
                rules.burn(answer.fuel);
                Ok(answer.value)
            }
            Err(fault) => Err(self.failed(rules, asked, health, &fault)),
        }
    }

    /// Records a fault, and returns its description. Counts the whole budget as burned: the fuel of
    /// a failed call is not known.
    fn failed(&self, rules: &Rules, asked: Digest, health: &Health, fault: &Fault) -> String {
        rules.burn(Budget::accounting(1).fuel);
        let reason = fault.in_words();
        if counts_against(asked, fault) {
            health.reason.store(Some(Arc::new(reason.clone())));
            if health.failed() {
                self.quarantine_signal.notify_one();
            }
        }
        reason
    }
}

/// True if a fault counts against a policy. The shipped policies are known to terminate: if their
/// fuel does not suffice, the budget is too small.
fn counts_against(policy: Digest, fault: &Fault) -> bool {
    let is_budgets = matches!(fault, Fault::OutOfFuel { .. }) && is_shipped(policy);
    fault.is_the_policys() && !is_budgets
}

const QUARANTINED: &str =
    "it failed too often in a row and is quarantined until it is activated again or retried";

fn one<T>(answer: Answer<T>) -> Answer<Vec<T>> {
    Answer { value: vec![answer.value], fuel: answer.fuel }
}

impl PendingAccount {
    /// A degraded account makes no calls: it stays under the standard accounting until it is
    /// recovered.
    fn new(rules: Arc<Rules>, account: &Account, to: Option<Phase>, at: Instant) -> Self {
        let asks = match account.degraded {
            Some(_) => Vec::new(),
            None => asks(&rules, &account.tracker, account.phase, to, at),
        };
        Self { rules, tracker: account.tracker, asks: asks.into_iter(), failed: None }
    }

    fn fail(&mut self, policy: Digest, reason: String) {
        self.failed = Some((policy, reason));
        self.asks = Vec::new().into_iter();
    }
}

/// The usage of an account. If the policy failed, it is computed from the account before the calls,
/// not from one in the middle of them.
fn usage(account: &Account, each: &PendingAccount, totals: Option<Totals>, at: Instant) -> Usage {
    let degraded = account.degraded.is_some() || each.failed.is_some();
    let tracker = if degraded { &account.tracker } else { &each.tracker };
    let totals = totals.filter(|_| !degraded).unwrap_or_else(|| standard::snapshot(tracker, at));
    Usage { current: tracker.current, since: account.tracker.since, totals, degraded }
}

/// Stores the policies' answers in the account. A deletion is accounted as entering the phase under
/// way once more, and then having none.
fn finish(entering: &mut Entering, each: PendingAccount) -> Option<account::Fault> {
    let before = entering.account.clone();
    let mut news = None;
    let asked = entering.to.or(before.phase);
    let after = match (&before.degraded, each.failed) {
        (None, None) => each.tracker,
        (degraded, failed) => {
            if let (None, Some((policy, reason))) = (degraded, failed) {
                if each.rules.health(policy).is_none_or(|health| health.is_first_report()) {
                    news = Some(account::Fault {
                        tenant: entering.tenant.clone(),
                        policy,
                        reason: reason.clone(),
                    });
                }
                entering.account.degraded = Some(Degraded {
                    tracker: before.tracker,
                    phase: before.phase,
                    from_fact: entering.fact,
                    policy,
                    reason,
                });
            }
            asked.map_or(before.tracker, |to| standard::enter(&before.tracker, to, entering.at))
        }
    };
    let current = after.current.filter(|_| entering.to.is_some());
    entering.account.tracker = Tracker { current, ..after };
    entering.account.phase = entering.to;
    news
}

impl account::Reader for Accounting {
    fn usage(&self, accounts: &[(&TenantId, &Account)], at: Instant) -> Vec<Usage> {
        Accounting::usage(self, accounts, at)
    }

    fn timeline(&self, tenant: &TenantId) -> Timeline {
        Accounting::timeline(self, tenant)
    }

    fn account_again(
        &self,
        tenant: &TenantId,
        account: &Account,
        history: &[(Option<Phase>, Instant)],
        now: Instant,
    ) -> Account {
        let Some(owed) = &account.degraded else { return account.clone() };
        if money::Mutant::DegradedForEver.is_active() {
            return account.clone();
        }
        let tracker = match self.recover(tenant, owed, history) {
            Ok(tracker) => tracker,
            Err(
                RecoverError::Held(failed)
                | RecoverError::Missing(failed)
                | RecoverError::Fault { policy: failed, .. },
            ) => {
                let (tracker, is_answered) = self.recover_with_gaps(tenant, owed, history);
                let is_in_force = failed == self.timeline(tenant).at(now);
                if is_in_force && !is_answered {
                    return account.clone();
                }
                tracker
            }
        };
        Account { tracker, phase: account.phase, degraded: None }
    }
}

impl Accountant for Accounting {
    fn enter(&self, batch: &mut [Entering]) -> Vec<account::Fault> {
        let start = |entering: &Entering| {
            let to = entering.to.or(entering.account.phase);
            PendingAccount::new(self.rules(&entering.tenant), &entering.account, to, entering.at)
        };
        let mut pending: Vec<PendingAccount> = batch.iter().map(start).collect();
        self.run_rounds(&mut pending);
        batch
            .iter_mut()
            .zip(pending)
            .filter_map(|(entering, each)| finish(entering, each))
            .collect()
    }

    fn change(&self, tenant: &TenantId, change: Change) {
        self.update(tenant, |rules| {
            rules.timeline.apply(change);
            if let Change::Set { digest, .. } = change {
                rules.health.insert(digest, Arc::default());
                rules.substitutes.trust(&digest);
            }
        });
    }
}
