//! A compiled policy and its calls.

use std::sync::{Arc, OnceLock};

use wasmtime::component::{Component, InstancePre};

use super::bindings::exports::tallyman::policy::{accounting, metering as meters};
use super::bindings::tallyman::policy::types::{TotalsColumns, TrackerColumns};
use super::budget::Budget;
use super::engine::{Answer, Limiter, Runtime};
use super::fault::Fault;
use super::metering::{
    self, Description, IntervalColumns, Measurement, MeterTerms, Request, Setting, Span,
};
use super::profile::Profile;
use super::wire::{self, Step};
use crate::billing::conservation::{check_enter, check_snapshot};
use crate::billing::{Totals, Tracker};
use crate::id::Digest;
use crate::limits::policy as limits;
use crate::units::Instant;
use crate::vm::Phase;

/// A world of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Accounting and metering.
    Policy,
    /// Metering alone; accounting is the standard policy's.
    Meter,
}

impl World {
    /// Returns its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            World::Policy => "policy",
            World::Meter => "meter",
        }
    }

    /// Returns the world of a name in a stored record; contract 0.1.0 named world `meter` as
    /// `rater`. Any other name is world `policy`.
    pub fn stored(name: &str) -> Self {
        match name {
            "meter" | "rater" => World::Meter,
            _ => World::Policy,
        }
    }
}

/// A compiled policy. Every call runs in a fresh instance with a budget of its own, and every
/// answer is checked, but for [`Policy::answer_enter_all`] and [`Policy::answer_snapshot_all`].
pub struct Policy {
    digest: Digest,
    runtime: Arc<Runtime>,
    instance: InstancePre<Limiter>,
    accounting: Accounting,
    metering: meters::GuestIndices,
    /// Description of the component; empty until the first call for it.
    description: OnceLock<Answer<Description>>,
}

enum Accounting {
    Own(accounting::GuestIndices),
    Standard(Arc<Policy>),
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("digest", &self.digest)
            .field("world", &self.world())
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// Prepares a compiled component. `standard` accounts for a component of world `meter`; without
    /// it, such a component is refused.
    pub(super) fn new(
        digest: Digest,
        runtime: Arc<Runtime>,
        component: &Component,
        standard: Option<&Arc<Policy>>,
    ) -> wasmtime::Result<Self> {
        let instance = runtime.prepare(component)?;
        let metering = meters::GuestIndices::new(&instance)?;
        let accounting = match (accounting::GuestIndices::new(&instance), standard) {
            (Ok(own), _) => Accounting::Own(own),
            (Err(_), Some(standard)) => Accounting::Standard(Arc::clone(standard)),
            (Err(missing), None) => return Err(missing),
        };
        Ok(Self { digest, runtime, instance, accounting, metering, description: OnceLock::new() })
    }

    /// Returns the SHA-256 of its component.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the world that it was built for.
    pub fn world(&self) -> World {
        match self.accounting {
            Accounting::Own(_) => World::Policy,
            Accounting::Standard(_) => World::Meter,
        }
    }

    /// Returns the profile whose bounds it runs under.
    pub fn profile(&self) -> Profile {
        self.runtime.profile()
    }

    /// Returns the budget of measuring a request.
    pub(super) fn metering_budget(&self, request: &Request) -> Budget {
        Budget::metering(self.runtime.profile().bounds(), request)
    }

    /// Accounts for an instance that enters a phase, and returns the tracker after it.
    ///
    /// # Errors
    /// The policy's [`Fault`], a breach of conservation included.
    pub fn enter(&self, before: &Tracker, to: Phase, at: Instant) -> Result<Tracker, Fault> {
        self.enter_metered(before, to, at).map(|answer| answer.value)
    }

    pub(super) fn enter_metered(
        &self,
        before: &Tracker,
        to: Phase,
        at: Instant,
    ) -> Result<Answer<Tracker>, Fault> {
        let state = wire::tracker(before);
        let answer =
            self.account(1, |guest, store| guest.call_enter(store, state, wire::phase(to), at.0))?;
        let after = wire::host_tracker(answer.value);
        check_enter(before, at, &after)
            .map_err(|violation| Fault::Violation { item: 0, violation })?;
        Ok(Answer { value: after, fuel: answer.fuel })
    }

    /// Returns the totals of an instance at an instant.
    ///
    /// # Errors
    /// The policy's [`Fault`], a breach of conservation included.
    pub fn snapshot(&self, before: &Tracker, at: Instant) -> Result<Totals, Fault> {
        self.snapshot_metered(before, at).map(|answer| answer.value)
    }

    pub(super) fn snapshot_metered(
        &self,
        before: &Tracker,
        at: Instant,
    ) -> Result<Answer<Totals>, Fault> {
        let state = wire::tracker(before);
        let answer = self.account(1, |guest, store| guest.call_snapshot(store, state, at.0))?;
        let totals = wire::host_totals(answer.value);
        check_snapshot(before, at, &totals)
            .map_err(|violation| Fault::Violation { item: 0, violation })?;
        Ok(Answer { value: totals, fuel: answer.fuel })
    }

    /// Accounts for many instances that enter phases, in calls of [`limits::BATCH_ITEMS`] items,
    /// and returns the trackers after it, in the same order.
    ///
    /// # Errors
    /// The first [`Fault`] of the policy, with the item's number in `steps`.
    pub fn enter_all(&self, steps: &[(Tracker, Phase, Instant)]) -> Result<Vec<Tracker>, Fault> {
        self.enter_all_metered(steps).map(|answer| answer.value)
    }

    pub(super) fn enter_all_metered(&self, steps: &[Step]) -> Result<Answer<Vec<Tracker>>, Fault> {
        let mut after = Vec::with_capacity(steps.len());
        let mut fuel = 0;
        for chunk in steps.chunks(limits::BATCH_ITEMS) {
            let first = after.len();
            fuel += self.enter_batch(chunk, &mut after).map_err(|fault| fault.in_batch(first))?;
        }
        Ok(Answer { value: after, fuel })
    }

    /// Appends the trackers after `steps` to `after`, and returns the fuel burned. Makes one call,
    /// so `steps` must be a chunk of at most [`limits::BATCH_ITEMS`].
    pub(super) fn enter_batch(
        &self,
        steps: &[Step],
        after: &mut Vec<Tracker>,
    ) -> Result<u64, Fault> {
        let states = wire::columns(steps.iter().map(|step| &step.0));
        let to: Vec<u8> = steps.iter().map(|step| step.1 as u8).collect();
        let at: Vec<i64> = steps.iter().map(|step| step.2.0).collect();
        let answer = self
            .account(steps.len(), |guest, store| guest.call_enter_all(store, &states, &to, &at))?;
        wire::check_entered(steps, &answer.value, after)?;
        Ok(answer.fuel)
    }

    /// Returns the totals of many instances at one instant, in calls of [`limits::BATCH_ITEMS`]
    /// items, in the same order.
    ///
    /// # Errors
    /// The first [`Fault`] of the policy, with the item's number in `trackers`.
    pub fn snapshot_all(&self, trackers: &[Tracker], at: Instant) -> Result<Vec<Totals>, Fault> {
        self.snapshot_all_metered(trackers, at).map(|answer| answer.value)
    }

    pub(super) fn snapshot_all_metered(
        &self,
        trackers: &[Tracker],
        at: Instant,
    ) -> Result<Answer<Vec<Totals>>, Fault> {
        let mut totals = Vec::with_capacity(trackers.len());
        let mut fuel = 0;
        for chunk in trackers.chunks(limits::BATCH_ITEMS) {
            let first = totals.len();
            fuel += self
                .snapshot_batch(chunk, at, &mut totals)
                .map_err(|fault| fault.in_batch(first))?;
        }
        Ok(Answer { value: totals, fuel })
    }

    /// Appends the totals of `trackers` to `totals`, and returns the fuel burned. Makes one call,
    /// so `trackers` must be a chunk of at most [`limits::BATCH_ITEMS`].
    pub(super) fn snapshot_batch(
        &self,
        trackers: &[Tracker],
        at: Instant,
        totals: &mut Vec<Totals>,
    ) -> Result<u64, Fault> {
        let states = wire::columns(trackers.iter());
        let answer = self.account(trackers.len(), |guest, store| {
            guest.call_snapshot_all(store, &states, at.0)
        })?;
        wire::check_looked(trackers, at, &answer.value, totals)?;
        Ok(answer.fuel)
    }

    /// Returns the component's own answer to `enter-all`, in columns and unchecked: the bare call,
    /// for benchmarks. For a checked answer call [`Policy::enter_all`].
    ///
    /// # Errors
    /// The policy's [`Fault`]; conservation is not checked.
    pub fn answer_enter_all(
        &self,
        states: &TrackerColumns,
        to: &[u8],
        at: &[i64],
    ) -> Result<TrackerColumns, Fault> {
        self.account(to.len(), |guest, store| guest.call_enter_all(store, states, to, at))
            .map(|answer| answer.value)
    }

    /// Returns the component's own answer to `snapshot-all`; see [`Policy::answer_enter_all`].
    ///
    /// # Errors
    /// The policy's [`Fault`]; conservation is not checked.
    pub fn answer_snapshot_all(
        &self,
        states: &TrackerColumns,
        at: i64,
    ) -> Result<TotalsColumns, Fault> {
        let items = states.current.len();
        self.account(items, |guest, store| guest.call_snapshot_all(store, states, at))
            .map(|answer| answer.value)
    }

    /// Returns the component's description: its meters and options. The component is called once;
    /// the answer is kept.
    ///
    /// # Errors
    /// The policy's [`Fault`], a description that breaks the contract included.
    pub fn describe(&self) -> Result<&Description, Fault> {
        if let Some(known) = self.description.get() {
            return Ok(&known.value);
        }
        let answer = self.describe_metered()?;
        Ok(&self.description.get_or_init(|| answer).value)
    }

    /// Calls the component for its description, whether it is known or not.
    pub(super) fn describe_metered(&self) -> Result<Answer<Description>, Fault> {
        let answer = self.runtime.call(
            &self.instance,
            Budget::describing(self.runtime.profile().bounds()),
            |store, instance| {
                let guest = self.metering.load(&mut *store, instance)?;
                guest.call_describe(store)
            },
        )?;
        answer
            .value
            .check()
            .map_err(|violation| Fault::Description { violation: Box::new(violation) })?;
        Ok(answer)
    }

    /// Returns the terms of all meters under these options, which are the same for every request.
    /// `options` must not include the host's own options.
    ///
    /// # Errors
    /// The policy's [`Fault`]; [`Fault::Refused`] if it refuses the options.
    pub fn terms(&self, options: &[Setting]) -> Result<Answer<Vec<MeterTerms>>, Fault> {
        let nothing = Request {
            tenant: String::new(),
            span: Span { start: 0, end: 0 },
            subjects: Vec::new(),
            intervals: IntervalColumns::empty(),
            options: options.to_vec(),
        };
        let answer = self.measure(&nothing)?;
        Ok(Answer { value: answer.value.terms, fuel: answer.fuel })
    }

    /// Measures one request, and returns the fuel burned. A request that is too large for one call
    /// is divided in halves, each with other instances; the fuel that the failed call burned counts
    /// as well.
    ///
    /// # Errors
    /// The policy's [`Fault`], an answer that breaks the contract included.
    pub fn measure(&self, request: &Request) -> Result<Answer<Measurement>, Fault> {
        let fault = match self.measure_at_once(request) {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        let halves = if fault.is_of_size() { metering::halves(request) } else { None };
        let Some((one, other, cut)) = halves else { return Err(fault) };
        let one = self.measure(&one)?;
        let other = self.measure(&other)?;
        let burned = match fault {
            Fault::OutOfFuel { allowed } => allowed,
            _ => 0,
        };
        let fuel = burned.saturating_add(one.fuel).saturating_add(other.fuel);
        let joined = metering::joined(one.value, other.value, cut);
        Ok(Answer {
            value: joined
                .map_err(|violation| Fault::Measurement { violation: Box::new(violation) })?,
            fuel,
        })
    }

    /// Measures one request in one call.
    pub(super) fn measure_at_once(&self, request: &Request) -> Result<Answer<Measurement>, Fault> {
        let description = self.describe()?;
        let answer = self.runtime.call(
            &self.instance,
            Budget::metering(self.runtime.profile().bounds(), request),
            |store, instance| {
                let guest = self.metering.load(&mut *store, instance)?;
                guest.call_measure(store, request)
            },
        )?;
        let value = answer.value?;
        metering::check_measurement(description, request, &value)?;
        Ok(Answer { value, fuel: answer.fuel })
    }

    /// Calls the accounting interface, the component's own or the standard policy's.
    fn account<T, E>(
        &self,
        items: usize,
        ask: impl FnOnce(
            &accounting::Guest,
            &mut wasmtime::Store<Limiter>,
        ) -> wasmtime::Result<Result<T, E>>,
    ) -> Result<Answer<T>, Fault>
    where
        Fault: From<E>,
    {
        let indices = match &self.accounting {
            Accounting::Own(indices) => indices,
            Accounting::Standard(standard) => return standard.account(items, ask),
        };
        let answer =
            self.runtime.call(&self.instance, Budget::accounting(items), |store, instance| {
                let guest = indices.load(&mut *store, instance)?;
                ask(&guest, store)
            })?;
        Ok(Answer { value: answer.value?, fuel: answer.fuel })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{PolicyHost, standard};
    use super::*;

    fn host() -> (PolicyHost, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (PolicyHost::open(&folder.path().join("compiled")).expect("a host"), folder)
    }

    #[test]
    fn a_call_past_its_deadline_is_stopped_and_the_next_is_not() {
        let (host, _folder) = host();
        let policy = host.standard();
        let Accounting::Own(indices) = &policy.accounting else {
            panic!("the standard accounts itself")
        };
        let before = wire::tracker(&Tracker::default());
        let ask = |late: bool| {
            let budget = Budget { ticks: 1_000, ..Budget::accounting(1) };
            policy.runtime.call(&policy.instance, budget, |store, instance| {
                let guest = indices.load(&mut *store, instance)?;
                // As if the host stood still for a thousand ticks.
                (0..if late { 1_000 } else { 0 })
                    .for_each(|_| policy.runtime.engine().increment_epoch());
                guest.call_snapshot(store, before, 7)
            })
        };
        assert_eq!(ask(true).map(|_| ()), Err(Fault::Deadline { ms: 1_000 * limits::TICK_MS }));
        assert!(ask(false).is_ok_and(|answer| answer.value.is_ok()));
    }

    #[test]
    fn a_call_takes_the_same_fuel_every_time() {
        let (host, _folder) = host();
        let steps = vec![(Tracker::default(), Phase::Running, Instant(3)); 257];
        let fuel = || host.standard().enter_batch(&steps, &mut Vec::new()).expect("legal");
        let first = fuel();
        assert!((0..20).all(|_| fuel() == first));
    }

    fn tracker() -> impl Strategy<Value = Tracker> {
        let current = prop::option::of(prop::sample::select(Phase::ALL.as_slice()));
        (current, -1_000_000..1_000_000_i64, prop::array::uniform8(0..1_u64 << 60)).prop_map(
            |(current, since, totals)| Tracker {
                current,
                since: Instant(since),
                totals: Totals(totals),
            },
        )
    }

    #[test]
    fn the_standard_policy_never_fails_and_its_understudy_plays_the_same() {
        let (host, _folder) = host();
        let steps = (tracker(), prop::sample::select(Phase::ALL.as_slice()), 0..i64::MAX);
        proptest!(|(steps in prop::collection::vec(steps, 1..60))| {
            let later = |(before, to, passed): (Tracker, Phase, i64)| {
                (before, to, Instant(before.since.0.saturating_add(passed)))
            };
            let steps: Vec<Step> = steps.into_iter().map(later).collect();
            let expected: Vec<_> = steps
                .iter()
                .map(|(before, to, at)| standard::enter(before, *to, *at))
                .collect();
            prop_assert_eq!(host.standard().enter_all(&steps), Ok(expected));
        });
    }
}
