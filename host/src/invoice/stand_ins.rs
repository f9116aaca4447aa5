//! The policies that rate the time of quarantined ones.

use super::evidence::{InForce, Quarantine};
use crate::billing::Substitutes;
use crate::id::Digest;

/// The quarantined policies, with their substitutes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StandIns(Substitutes);

impl StandIns {
    /// The quarantines that are in force after these facts: an activation after a quarantine ends
    /// it.
    pub(super) fn of(quarantines: &[Quarantine], activations: &[InForce]) -> Self {
        let again = |quarantine: &Quarantine| {
            activations
                .iter()
                .any(|one| one.digest == quarantine.policy && one.fact > quarantine.fact)
        };
        let mut substitutes = Substitutes::default();
        for quarantine in quarantines.iter().filter(|quarantine| !again(quarantine)) {
            substitutes.quarantine(quarantine.policy, quarantine.stand_in);
        }
        Self(substitutes)
    }

    /// The policy that rates the time in which `policy` was in force; none while it is held.
    pub(super) fn answering(&self, policy: Digest) -> Option<Digest> {
        self.0.answering(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Instant;

    fn digest(number: u8) -> Digest {
        Digest([number; 32])
    }

    fn quarantine(policy: u8, stand_in: Option<u8>, fact: u64) -> Quarantine {
        Quarantine { policy: digest(policy), stand_in: stand_in.map(digest), fact }
    }

    fn activated(policy: u8, fact: u64) -> InForce {
        let from = Instant(0);
        InForce { from, digest: digest(policy), set_at: from, fact, options: Vec::new() }
    }

    fn answering(quarantines: &[Quarantine], activations: &[InForce]) -> Option<Digest> {
        StandIns::of(quarantines, activations).answering(digest(1))
    }

    #[test]
    fn a_policy_answers_for_itself_until_it_is_quarantined_and_again_when_it_is_trusted_again() {
        let stands_in = quarantine(1, Some(2), 5);
        let rows: [(&[Quarantine], &[InForce], Option<u8>); 8] = [
            (&[], &[activated(1, 1)], Some(1)),
            (&[quarantine(1, None, 5)], &[activated(1, 1)], None),
            (&[stands_in], &[activated(1, 1), activated(2, 6)], Some(2)),
            (&[stands_in], &[activated(1, 1), activated(1, 7)], Some(1)),
            (&[quarantine(1, None, 5), quarantine(1, Some(3), 8)], &[activated(1, 1)], Some(3)),
            (&[stands_in, quarantine(2, Some(3), 9)], &[], Some(3)),
            (&[stands_in, quarantine(2, None, 9)], &[], None),
            (&[stands_in, quarantine(2, Some(1), 9)], &[], None),
        ];
        for (quarantines, activations, expected) in rows {
            assert_eq!(
                answering(quarantines, activations),
                expected.map(digest),
                "{quarantines:?} {activations:?}"
            );
        }
    }
}
