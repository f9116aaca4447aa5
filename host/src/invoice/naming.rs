//! Names of a tenant's policies and price books, as its facts say them.

use std::collections::BTreeMap;

use crate::billing::{Fact, TenantFact};
use crate::id::Digest;

/// The names of a tenant's policies and books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    policies: BTreeMap<Digest, String>,
    books: BTreeMap<Digest, String>,
    /// The book of each name.
    named: BTreeMap<String, Digest>,
}

impl Naming {
    /// Reads a tenant's facts, in their order. A policy keeps its first name; a book has the one
    /// under which it was set last.
    pub(super) fn said_by(facts: &[(u64, Fact)]) -> Self {
        let mut naming = Self::default();
        for (_, fact) in facts {
            match fact.of_tenant() {
                Some(TenantFact::PolicyAdmitted { digest, name: Some(name), .. }) => {
                    naming.policies.entry(*digest).or_insert_with(|| name.to_string());
                }
                Some(TenantFact::PricesActivated { digest, name: Some(name), .. }) => {
                    naming.book_is(*digest, name.to_string());
                }
                Some(TenantFact::TariffJoined { tariff, version, digest, .. }) => {
                    naming.book_is(*digest, format!("{tariff}/{version}"));
                }
                _ => {}
            }
        }
        naming
    }

    fn book_is(&mut self, digest: Digest, name: String) {
        self.named.insert(name.clone(), digest);
        self.books.insert(digest, name);
    }

    /// The name of a policy; none without one.
    pub fn policy(&self, digest: Digest) -> Option<&str> {
        self.policies.get(&digest).map(String::as_str)
    }

    /// The name of a book, or the tariff and version that it is, such as `pro/2026-12`; none
    /// without one.
    pub fn book(&self, digest: Digest) -> Option<&str> {
        self.books.get(&digest).map(String::as_str)
    }

    /// The book of a name; none without one.
    pub fn book_named(&self, name: &str) -> Option<Digest> {
        self.named.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, Reading};
    use crate::id::TenantId;
    use crate::tenant::Actor;
    use crate::units::Instant;

    fn facts(said: Vec<TenantFact>) -> Vec<(u64, Fact)> {
        let fact = |said| {
            let boot = BootId("b".into());
            let at = Reading { boot, boottime_ns: 0, wall_ns: 0, meter: Instant(0) };
            Fact { at, tenant: TenantId::default_tenant(), about: About::Tenant(said) }
        };
        (1..).zip(said.into_iter().map(fact)).collect()
    }

    fn set(number: u8, name: Option<&str>) -> TenantFact {
        let name = name.map(|name| name.parse().expect("a name"));
        let digest = Digest([number; 32]);
        TenantFact::PricesActivated { digest, from: Instant(0), by: Actor::Operator, name }
    }

    #[test]
    fn a_book_has_the_name_under_which_it_was_set_last() {
        let joined = TenantFact::TariffJoined {
            tariff: "pro".parse().expect("a name"),
            version: "2026-12".parse().expect("a name"),
            digest: Digest([2; 32]),
            by: Actor::Operator,
        };
        let said = vec![
            set(1, None),
            set(2, Some("night-v3")),
            joined,
            set(2, None),
            set(3, Some("summer")),
        ];
        let naming = Naming::said_by(&facts(said));
        let names: Vec<_> = (1..=3).map(|number| naming.book(Digest([number; 32]))).collect();
        assert_eq!(names, [None, Some("pro/2026-12"), Some("summer")]);
        assert_eq!(naming.book_named("night-v3"), Some(Digest([2; 32])));
        assert_eq!(naming.book_named("pro/2026-12"), Some(Digest([2; 32])));
        assert_eq!(naming.book_named("winter"), None);
    }

    #[test]
    fn a_policy_keeps_its_first_name() {
        let admitted = |name: &str| TenantFact::PolicyAdmitted {
            digest: Digest([1; 32]),
            size_bytes: 1,
            by: None,
            name: Some(name.parse().expect("a name")),
        };
        let naming = Naming::said_by(&facts(vec![admitted("night"), admitted("day")]));
        assert_eq!(naming.policy(Digest([1; 32])), Some("night"));
        assert_eq!(naming.policy(Digest([2; 32])), None);
    }
}
