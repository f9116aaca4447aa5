//! Applies to every fact the policies that were in force, and carries on without one that fails.
//!
//! A fact's time is cut at each activation: the old policy closes the visit there, the new one
//! opens the next. Facts that need the same policy for the same tenant go to it in one call. Rules
//! are published by swapping a pointer; nobody waits for an activation.

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
use crate::units::Instant;
use crate::vm::Phase;

/// The rules of all tenants.
pub struct Accounting {
    policies: Arc<PolicyHost>,
    rules: ArcSwap<HashMap<TenantId, Arc<Rules>>>,
    /// For tenants that never chose.
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
    /// Fuel that was burned for the tenant since the start.
    fuel: Arc<AtomicU64>,
}

/// How a policy has been doing for a tenant.
#[derive(Default)]
struct Health {
    faults_in_a_row: AtomicU32,
    /// The same for measuring, which an accounting that goes well says nothing about.
    unmeasured_in_a_row: AtomicU32,
    reported: AtomicBool,
    /// What it did last.
    reason: ArcSwapOption<String>,
}

/// What a measurement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// To be looked at. Whoever looks may ask for what nobody is ever charged by, as often as they
    /// like.
    Preview,
    /// To be charged by.
    Bill,
}

/// A policy that is not asked any more for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Which.
    pub policy: Digest,
    /// How often it failed, one time after the other.
    pub faults: u32,
    /// What it did last, in words; none if that was before the start.
    pub reason: Option<String>,
    /// The policy that accounts what this one owes; none while it is held.
    pub substitute: Option<Digest>,
}

/// Why a tenant's policy did not answer a probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It is not loaded.
    #[error("policy {0} is not loaded")]
    Missing(Digest),
    /// It gave no answer.
    #[error("policy {policy} did not answer")]
    Fault {
        /// Which.
        policy: Digest,
        /// What it did instead.
        #[source]
        fault: Fault,
    },
}

/// Why history can't be told again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A policy in force at the time is quarantined, and nobody answers for it.
    #[error("policy {0} is quarantined, and its time is held")]
    Held(Digest),
    /// A policy in force at the time is not loaded.
    #[error("policy {0} is not loaded")]
    Missing(Digest),
    /// A policy failed again.
    #[error("policy {policy} failed again")]
    Fault {
        /// Which.
        policy: Digest,
        /// How.
        #[source]
        fault: Fault,
    },
}

impl Health {
    fn quarantined() -> Self {
        let faults_in_a_row = AtomicU32::new(limits::FAULTS_IN_A_ROW_MAX);
        let (unmeasured_in_a_row, reason) = (AtomicU32::new(0), ArcSwapOption::empty());
        Self { faults_in_a_row, unmeasured_in_a_row, reported: AtomicBool::new(true), reason }
    }

    fn is_quarantined(&self) -> bool {
        self.faults() >= limits::FAULTS_IN_A_ROW_MAX
    }

    /// How often it failed, one time after the other, at what it does worse.
    fn faults(&self) -> u32 {
        self.faults_in_a_row
            .load(Ordering::Relaxed)
            .max(self.unmeasured_in_a_row.load(Ordering::Relaxed))
    }

    fn succeeded(&self) {
        self.faults_in_a_row.store(0, Ordering::Relaxed);
    }

    /// Answers whether it was one time too many.
    fn failed(&self) -> bool {
        self.faults_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 == limits::FAULTS_IN_A_ROW_MAX
    }

    /// Whether this is the first fault to be told since the policy was activated or retried.
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

    /// The policy that answers where `policy` was in force; none while its time is held.
    fn answering(&self, policy: Digest) -> Option<Digest> {
        self.substitutes.answering(policy)
    }

    fn burn(&self, fuel: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
    }

    fn health(&self, policy: Digest) -> Option<&Arc<Health>> {
        self.health.get(&policy)
    }

    /// The activations that cut a visit which began at `since` and is looked at `at`. One at
    /// `since` itself counts: it may have become known after the fact at that instant.
    fn cuts(&self, since: Instant, at: Instant) -> impl Iterator<Item = (Instant, Digest)> {
        self.timeline.between(Instant(since.0.saturating_sub(1)), at)
    }
}

/// One thing to ask a policy about an instance.
#[derive(Clone, Copy)]
struct Ask {
    policy: Digest,
    to: Phase,
    at: Instant,
}

/// What is to be asked about one instance, in order, and how far that has got.
struct PendingAccount {
    rules: Arc<Rules>,
    tracker: Tracker,
    asks: std::vec::IntoIter<Ask>,
    failed: Option<(Digest, String)>,
}

/// The questions of a visit: at each cut the old policy closes and the new one opens; then the
/// phase that is entered, if any.
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
        for (cut, new) in rules.cuts(tracker.since, at) {
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
    /// Accounting in which every tenant is under the standard policy.
    pub fn new(policies: Arc<PolicyHost>) -> Self {
        let default = Arc::new(Rules::starting_with(policies.standard().digest()));
        Self { policies, rules: ArcSwap::default(), default, quarantine_signal: Notify::new() }
    }

    /// Which policy is in force when for a tenant.
    pub fn timeline(&self, tenant: &TenantId) -> Timeline {
        self.rules(tenant).timeline.clone()
    }

    /// The policies that failed too often in a row to be asked for a tenant, by digest.
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

    /// Waits until some policy has failed too often in a row since this was last asked.
    pub async fn quarantine_signal(&self) {
        self.quarantine_signal.notified().await;
    }

    /// Asks `policy` no more for a tenant; `substitute`, which must be loaded, accounts what it
    /// owes.
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

    /// Puts a tenant under a policy from an instant on. The policy is trusted again.
    pub fn activate(&self, tenant: &TenantId, from: Instant, digest: Digest) {
        self.change(tenant, Change::Set { from, digest });
    }

    /// Asks a quarantined policy again from now on.
    pub fn retry(&self, tenant: &TenantId, policy: Digest) {
        self.update(tenant, |rules| {
            rules.health.insert(policy, Arc::default());
            rules.substitutes.trust(&policy);
        });
    }

    /// Fuel that was burned for a tenant since the start.
    pub fn fuel(&self, tenant: &TenantId) -> u64 {
        self.rules(tenant).fuel.load(Ordering::Relaxed)
    }

    /// Notes fuel that was burned for a tenant elsewhere.
    pub fn charge(&self, tenant: &TenantId, fuel: u64) {
        self.rules(tenant).burn(fuel);
    }

    /// Notes that a policy measured a tenant's time.
    pub fn measured(&self, tenant: &TenantId, policy: Digest) {
        if let Some(health) =
            self.rules(tenant).health(policy).filter(|health| !health.is_quarantined())
        {
            health.unmeasured_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a policy failed to measure a tenant's time; one time too many quarantines it.
    ///
    /// That it refuses to, such as for an option that makes no sense, is an answer and no failure.
    /// What fails in a preview counts for nothing.
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

    /// Asks whoever accounts for a tenant at `at` a question of no consequence, and answers who
    /// that was.
    ///
    /// # Errors
    /// [`ProbeError`]; the policy's record is not touched.
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

    /// Accounts the history of an instance again from where its policy failed: `facts` are the
    /// phases entered since, the failed one first, `None` for its end.
    ///
    /// # Errors
    /// The first fault; the account stays as it is then.
    pub fn recover(
        &self,
        tenant: &TenantId,
        from: &Degraded,
        facts: &[(Option<Phase>, Instant)],
    ) -> Result<Tracker, RecoverError> {
        let rules = self.rules(tenant);
        self.replay(&rules, from, facts, |tracker, ask| self.ask_again(&rules, tracker, ask))
    }

    /// The same where a policy goes on failing at a question and answers later ones: the standard
    /// figures stand for the time between. None if it does not answer the last question.
    fn recover_with_gaps(
        &self,
        tenant: &TenantId,
        from: &Degraded,
        facts: &[(Option<Phase>, Instant)],
    ) -> Option<Tracker> {
        let rules = self.rules(tenant);
        let mut answered = false;
        let replayed: Result<Tracker, std::convert::Infallible> =
            self.replay(&rules, from, facts, |tracker, ask| {
                let answer = self.ask_again(&rules, tracker, ask);
                answered = answer.is_ok();
                Ok(answer.unwrap_or_else(|_| standard::enter(tracker, ask.to, ask.at)))
            });
        replayed.ok().filter(|_| answered)
    }

    /// Puts the questions of a history, one after the other.
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

    /// Asks a question that was asked before. A failure is no news, and is not counted again; the
    /// fuel is.
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

    /// The totals of many accounts at one instant, the visit under way included, in the order
    /// asked: one call for each tenant and policy. An account whose `since` is after `at` has
    /// nothing under way.
    ///
    /// It changes nothing, and it always answers: where a policy fails, with the standard figures,
    /// and says so.
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
            // What a tenant's policies burn, and how they do, is nobody else's: nothing is shared
            // with the default.
            let fresh = || Rules::starting_with(self.policies.standard().digest());
            let mut rules = all.get(tenant).map_or_else(fresh, |rules| Rules::clone(rules));
            change(&mut rules);
            all.insert(tenant.clone(), Arc::new(rules));
            all
        });
    }

    /// Asks everything, in rounds: each takes the next question of every account, and puts those
    /// for one policy and one tenant into one call. Without an activation in between there is one
    /// round.
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

    /// Asks one policy about a group of one tenant's instances: together, and one by one if that
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
            // A fact that was committed after `at` was read has nothing under way yet: that is no
            // question for a policy.
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

    /// One answer for each item, or why there is none.
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
                tracing::warn!(policy = %asked, fault = fault.in_words(), items, "a policy failed on a batch; asking item by item");
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

    /// Notes a fault, and answers it in words. It costs the whole budget: what a call that failed
    /// has burned is not known.
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

/// Whether a fault is held against a policy. What ships with this program is known to end: where
/// its fuel does not suffice, the budget is at fault.
fn counts_against(policy: Digest, fault: &Fault) -> bool {
    let is_budgets = matches!(fault, Fault::OutOfFuel { .. }) && is_shipped(policy);
    fault.is_the_policys() && !is_budgets
}

const QUARANTINED: &str = "it failed too often in a row and is not asked until somebody says so";

fn one<T>(answer: Answer<T>) -> Answer<Vec<T>> {
    Answer { value: vec![answer.value], fuel: answer.fuel }
}

impl PendingAccount {
    /// A degraded account asks nobody: it goes on under the standard accounting until it is
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

/// An answer to a question about usage. Where the policy failed, it is told from the account as it
/// was, not from one that is half way.
fn usage(account: &Account, each: &PendingAccount, totals: Option<Totals>, at: Instant) -> Usage {
    let degraded = account.degraded.is_some() || each.failed.is_some();
    let tracker = if degraded { &account.tracker } else { &each.tracker };
    let totals = totals.filter(|_| !degraded).unwrap_or_else(|| standard::snapshot(tracker, at));
    Usage { current: tracker.current, since: account.tracker.since, totals, degraded }
}

/// Puts what the policies answered into the account. Closing is entering the phase that is under
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

    fn mend(
        &self,
        tenant: &TenantId,
        account: &Account,
        history: &[(Option<Phase>, Instant)],
        now: Instant,
    ) -> Account {
        let Some(owed) = &account.degraded else { return account.clone() };
        let tracker = match self.recover(tenant, owed, history) {
            Ok(tracker) => tracker,
            Err(
                RecoverError::Held(policy)
                | RecoverError::Missing(policy)
                | RecoverError::Fault { policy, .. },
            ) if policy == self.timeline(tenant).at(now) => {
                match self.recover_with_gaps(tenant, owed, history) {
                    Some(tracker) => tracker,
                    None => return account.clone(),
                }
            }
            Err(_) => account.tracker,
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
