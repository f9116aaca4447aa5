//! The substitutes of quarantined policies.

use std::collections::BTreeMap;

use crate::id::Digest;

/// The quarantined policies, each with its substitute; none where the time is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Substitutes(BTreeMap<Digest, Option<Digest>>);

impl Substitutes {
    /// Puts `substitute` in the place of `policy`; without one, its time is held.
    pub fn quarantine(&mut self, policy: Digest, substitute: Option<Digest>) {
        self.0.insert(policy, substitute);
    }

    /// Lets `policy` answer for itself again.
    pub fn trust(&mut self, policy: &Digest) {
        self.0.remove(policy);
    }

    /// The substitute that was put in the place of `policy` itself, even if that one is quarantined
    /// in its turn.
    pub fn named_for(&self, policy: &Digest) -> Option<Digest> {
        self.0.get(policy).copied().flatten()
    }

    /// The policy that answers where `policy` was in force: itself, or the end of its chain of
    /// substitutes. None while its time is held: the chain ends at a policy without a substitute,
    /// or is a loop.
    pub fn answering(&self, policy: Digest) -> Option<Digest> {
        let mut asked = policy;
        // A chain without a loop has at most as many links as there are policies in quarantine.
        for _ in 0..=self.0.len() {
            match self.0.get(&asked) {
                None => return Some(asked),
                Some(substitute) => asked = (*substitute)?,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn the_end_of_the_chain_answers_unless_it_is_held_or_a_loop() {
        type Quarantined = &'static [(u8, Option<u8>)];
        let rows: [(&str, Quarantined, Option<u8>); 9] = [
            ("not quarantined", &[], Some(1)),
            ("another one is", &[(2, Some(3))], Some(1)),
            ("held", &[(1, None)], None),
            ("one step", &[(1, Some(2))], Some(2)),
            ("two steps", &[(1, Some(2)), (2, Some(3))], Some(3)),
            ("the substitute is held", &[(1, Some(2)), (2, None)], None),
            ("a loop of two", &[(1, Some(2)), (2, Some(1))], None),
            ("a loop further on", &[(1, Some(2)), (2, Some(3)), (3, Some(2))], None),
            ("its own substitute", &[(1, Some(1))], None),
        ];
        for (name, quarantined, expected) in rows {
            let mut substitutes = Substitutes::default();
            for &(policy, substitute) in quarantined {
                substitutes.quarantine(digest(policy), substitute.map(digest));
            }
            assert_eq!(substitutes.answering(digest(1)), expected.map(digest), "{name}");
        }
    }

    #[test]
    fn a_policy_that_is_trusted_again_answers_for_itself() {
        let mut substitutes = Substitutes::default();
        substitutes.quarantine(digest(1), Some(digest(2)));
        assert_eq!(substitutes.named_for(&digest(1)), Some(digest(2)));
        substitutes.trust(&digest(1));
        assert_eq!(
            (substitutes.answering(digest(1)), substitutes.named_for(&digest(1))),
            (Some(digest(1)), None)
        );
    }
}
