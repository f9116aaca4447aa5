//! The policies that a tenant has been under, and those that were rolled back.

use std::collections::BTreeSet;

use crate::billing::{Fact, TenantFact, Timeline};
use crate::id::Digest;
use crate::mutants::money::Mutant;
use crate::units::Instant;

/// The policies that a tenant has been under up to an instant, without those that were rolled back.
///
/// An activation puts a policy on top; a rollback takes policies off until the one that it names is
/// on top. So a second rollback goes one further back, and does not restore a policy that the first
/// one has taken off.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    stack: Vec<Digest>,
    /// Policies that a rollback has taken off, and that were not activated since.
    taken_back: BTreeSet<Digest>,
}

impl History {
    /// The history of a timeline up to `now`. `facts` are the facts about the tenant's policies:
    /// they show which changes were rollbacks.
    pub(super) fn of<'a>(
        timeline: &Timeline,
        facts: impl IntoIterator<Item = &'a Fact>,
        now: Instant,
    ) -> Self {
        let rollback = |fact: &Fact| match fact.of_tenant() {
            Some(&TenantFact::PolicyActivated { from, digest, rollback: true, .. }) => {
                Some((from, digest))
            }
            _ => None,
        };
        let rollbacks: BTreeSet<_> = facts.into_iter().filter_map(rollback).collect();
        let mut history = Self::default();
        for change in timeline.until(now) {
            match rollbacks.contains(change) {
                true => history.roll_back(change.1),
                false => history.activate(change.1),
            }
        }
        history
    }

    fn activate(&mut self, digest: Digest) {
        self.taken_back.remove(&digest);
        if self.stack.last() != Some(&digest) {
            self.stack.push(digest);
        }
    }

    fn roll_back(&mut self, to: Digest) {
        if Mutant::RollbackUndone.is_active() {
            return self.activate(to);
        }
        while let Some(top) = self.stack.pop_if(|top| *top != to) {
            self.taken_back.insert(top);
        }
        self.activate(to);
    }

    /// The policies before `present`, newest first.
    pub(super) fn before(&self, present: Digest) -> impl Iterator<Item = Digest> {
        self.stack.iter().rev().copied().filter(move |&digest| digest != present)
    }

    /// Returns whether a rollback has taken the policy off, and it was not activated since.
    pub(super) fn is_taken_back(&self, digest: &Digest) -> bool {
        self.taken_back.contains(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, Reading};
    use crate::id::TenantId;
    use crate::mutants::money::is_found;

    fn digest(letter: char) -> Digest {
        Digest([letter as u8; 32])
    }

    /// `A` activates, `<A` rolls back to it, `A@9` plans it for instant 9. Each act has an instant
    /// of its own, from 0 on.
    fn history(acts: &str, now: i64) -> History {
        let mut timeline = Timeline::starting_with(digest('S'));
        let mut facts = Vec::new();
        for (meter, act) in (0..).zip(acts.split(' ')) {
            let (act, from) = act.split_once('@').unwrap_or((act, ""));
            let from = Instant(from.parse().unwrap_or(meter));
            let (rollback, name) = act.strip_prefix('<').map_or((false, act), |name| (true, name));
            let digest = digest(name.chars().next().expect("a name"));
            timeline.set(from, digest);
            let at = Reading {
                boot: BootId("b".into()),
                boottime_ns: 0,
                wall_ns: 0,
                meter: Instant(meter),
            };
            let activated = TenantFact::PolicyActivated {
                digest,
                from,
                rollback,
                by: None,
                reason: None,
                options: Vec::new(),
            };
            facts.push(Fact {
                at,
                tenant: TenantId::default_tenant(),
                about: About::Tenant(activated),
            });
        }
        History::of(&timeline, &facts, Instant(now))
    }

    fn before(history: &History, present: char) -> String {
        history.before(digest(present)).map(|digest| char::from(digest.0[0])).collect()
    }

    #[test]
    fn each_rollback_goes_one_further_back() {
        // What was done, what is in force then, and what a rollback would try, in order.
        let rows = [
            ("S A B", 'B', "AS"),
            ("S A B <A", 'A', "S"),
            ("S A B <A <S", 'S', ""),
            ("S A B <A C", 'C', "AS"),
            ("S A B <A B", 'B', "AS"),
            ("S A A", 'A', "S"),
            ("S A B A", 'A', "BS"),
            ("S A B A <B", 'B', "AS"),
            ("A B <C", 'C', ""),
        ];
        for (acts, present, expected) in rows {
            assert_eq!(before(&history(acts, 99), present), expected, "{acts}");
        }
    }

    /// Rollbacks alone never come back to a policy.
    #[test]
    fn rollbacks_go_further_back_until_there_is_nothing_left() {
        let cases = proptest::collection::vec(0..4_u8, 1..8);
        let holds = |activated: &Vec<u8>| {
            let name = |letter: &u8| char::from(b'A' + letter).to_string();
            let mut acts: Vec<String> = activated.iter().map(name).collect();
            let mut been = vec![acts[acts.len() - 1].clone()];
            loop {
                let present = been[been.len() - 1].chars().next().expect("a name");
                let earlier = before(&history(&acts.join(" "), 99), present);
                let Some(to) = earlier.chars().next().map(String::from) else { return true };
                if been.contains(&to) {
                    return false;
                }
                acts.push(format!("<{to}"));
                been.push(to);
            }
        };
        // What an activation repeats is further back, too.
        let distinct = proptest::strategy::Strategy::prop_map(cases, |mut all: Vec<u8>| {
            all.sort_unstable();
            all.dedup();
            all
        });
        assert!(is_found(Mutant::RollbackUndone, &distinct, holds));
    }

    #[test]
    fn a_policy_is_taken_back_until_it_is_activated_again() {
        let rows =
            [("S A B <A", true), ("S A B <A B", false), ("S A B", false), ("S A B C <A", true)];
        for (acts, expected) in rows {
            assert_eq!(history(acts, 99).is_taken_back(&digest('B')), expected, "{acts}");
        }
    }

    #[test]
    fn a_plan_counts_from_its_instant_on() {
        assert_eq!(before(&history("S A B@50", 10), 'A'), "S");
        assert_eq!(before(&history("S A B@50", 50), 'B'), "AS");
        assert_eq!(before(&history("S A B@50 C", 10), 'C'), "AS");
        assert_eq!(before(&history("S A B@50 C", 99), 'B'), "CAS");
    }
}
