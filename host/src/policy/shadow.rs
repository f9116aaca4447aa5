//! Comparison of a candidate with the policies in force, on the same facts. Changes nothing.

use super::accounting::Accounting;
use super::component::Policy;
use super::fault::Fault;
use crate::billing::account::Degraded;
use crate::billing::{Totals, Tracker};
use crate::id::{Digest, TenantId};
use crate::units::Instant;
use crate::vm::Phase;

/// The history of an instance: the phases that it entered, in order, with their instants; none for
/// its deletion.
pub type Lived = [(Option<Phase>, Instant)];

/// The time of one instance, by the policies in force and by a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Totals by the policies in force.
    pub active: Totals,
    /// Totals by the candidate.
    pub candidate: Totals,
    /// Fuel that the candidate burned.
    pub fuel: u64,
}

impl Compared {
    /// Returns the nanoseconds that the candidate counts under another phase. Both have the same
    /// sum: neither can lose or create time.
    pub fn moved_ns(&self) -> u128 {
        let each = self.active.0.iter().zip(self.candidate.0);
        each.map(|(active, candidate)| u128::from(active.abs_diff(candidate))).sum::<u128>() / 2
    }
}

/// An error of comparing the time of an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// The candidate failed, as it would if it were in force.
    #[error("the candidate failed")]
    Candidate(#[source] Fault),
    /// A policy in force failed or is not loaded, so there is nothing to compare with. The field is
    /// the reason.
    #[error("the policy in force did not answer: {0}")]
    Active(String),
}

impl Accounting {
    /// Counts the time of an instance up to `until` by the policies in force and by `candidate`
    /// alone.
    ///
    /// # Errors
    /// See [`CompareError`].
    pub fn compare(
        &self,
        tenant: &TenantId,
        candidate: &Policy,
        lived: &Lived,
        until: Instant,
    ) -> Result<Compared, CompareError> {
        let active = self.active(tenant, lived, until)?;
        let (candidate, fuel) = alone(candidate, lived, until).map_err(CompareError::Candidate)?;
        Ok(Compared { active, candidate, fuel })
    }

    fn active(
        &self,
        tenant: &TenantId,
        lived: &Lived,
        until: Instant,
    ) -> Result<Totals, CompareError> {
        let nothing = Degraded {
            tracker: Tracker::default(),
            phase: None,
            from_fact: 0,
            policy: Digest([0; 32]),
            reason: String::new(),
        };
        // Entering the phase under way once more counts its time up to `until`.
        let under_way = lived.last().and_then(|&(phase, _)| phase);
        let facts: Vec<_> =
            lived.iter().copied().chain(under_way.map(|phase| (Some(phase), until))).collect();
        let told = self.recover(tenant, &nothing, &facts);
        told.map(|tracker| tracker.totals).map_err(|error| CompareError::Active(error.to_string()))
    }
}

fn alone(policy: &Policy, lived: &Lived, until: Instant) -> Result<(Totals, u64), Fault> {
    let mut tracker = Tracker::default();
    let mut under_way = None;
    let mut fuel = 0;
    for &(to, at) in lived {
        // A deletion is accounted as entering the phase under way once more, and then having none.
        let Some(phase) = to.or(under_way) else { continue };
        let answer = policy.enter_metered(&tracker, phase, at)?;
        fuel += answer.fuel;
        tracker = answer.value;
        if to.is_none() {
            tracker.current = None;
        }
        under_way = to;
    }
    if tracker.current.is_none() {
        return Ok((tracker.totals, fuel));
    }
    let answer = policy.snapshot_metered(&tracker, until)?;
    Ok((answer.value, fuel + answer.fuel))
}
