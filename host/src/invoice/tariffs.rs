//! Tariffs: named price books with versions, which many tenants share.
//!
//! Facts of the default tenant say what tariffs there are; a tenant's own facts say which one it
//! is on.

use std::collections::BTreeMap;

use biller::book::Book;

use super::InvoiceError;
use super::act::Act;
use super::change::{BookSet, ChangeError, blocking};
use super::evidence::{Evidence, EvidenceError};
use super::issuer::Issuer;
use crate::billing::{Fact, Reading, TenantFact, zones};
use crate::id::{Digest, TariffName, TenantId};
use crate::journal::FirstTry;
use crate::tenant::Plan;
use crate::units::Instant;

/// A published version of a tariff. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TariffVersion {
    /// Its name.
    pub version: TariffName,
    /// The book.
    pub digest: Digest,
    /// Sequence number of the fact that published it.
    pub fact: u64,
}

/// A price book under a name, in versions, that tenants are put under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff {
    /// Its name.
    pub name: TariffName,
    /// Its versions, the newest last.
    pub versions: Vec<TariffVersion>,
    /// Set if new tenants begin under it.
    pub is_default: bool,
}

/// The version of a tariff that a tenant is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The tariff.
    pub tariff: TariffName,
    /// The version whose book was set last.
    pub version: TariffName,
}

impl std::fmt::Display for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.tariff, self.version)
    }
}

impl Membership {
    /// The tariff that a tenant's facts say; none if its last book was set by itself.
    fn said_by(facts: &[(u64, Fact)]) -> Option<Self> {
        let mut joined: Option<(Digest, Self)> = None;
        // The books that were set and not withdrawn.
        let mut set = Vec::new();
        for (_, fact) in facts {
            match fact.of_tenant() {
                Some(TenantFact::TariffJoined { tariff, version, digest, .. }) => {
                    let tariff = tariff.clone();
                    let version = version.clone();
                    joined = Some((*digest, Self { tariff, version }));
                }
                Some(TenantFact::PricesActivated { digest, from, .. }) => {
                    joined = joined.filter(|(of, _)| of == digest);
                    set.push(((*digest, *from), joined.clone()));
                }
                Some(TenantFact::PlanWithdrawn { plan: Plan::Prices, digest, from, .. }) => {
                    set.retain(|(one, _)| *one != (*digest, *from));
                    joined = set.last().and_then(|(_, joined)| joined.clone());
                }
                _ => {}
            }
        }
        joined.map(|(_, membership)| membership)
    }
}

impl Issuer {
    /// All tariffs, by name. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError::Evidence`].
    pub fn tariffs(&self) -> Result<Vec<Tariff>, InvoiceError> {
        let facts = self.facts_of(&TenantId::default_tenant())?;
        let mut tariffs: BTreeMap<TariffName, Vec<TariffVersion>> = BTreeMap::new();
        let mut default = None;
        for (seq, fact) in &facts {
            match fact.of_tenant() {
                Some(TenantFact::TariffPublished { tariff, version, digest, .. }) => {
                    let version = version.clone();
                    let digest = *digest;
                    let versions = tariffs.entry(tariff.clone()).or_default();
                    versions.push(TariffVersion { version, digest, fact: *seq });
                }
                Some(TenantFact::TariffDefault { tariff, .. }) => default.clone_from(tariff),
                _ => {}
            }
        }
        let tariff = |(name, versions)| {
            let is_default = default.as_ref() == Some(&name);
            Tariff { name, versions, is_default }
        };
        Ok(tariffs.into_iter().map(tariff).collect())
    }

    /// The tariff that a tenant is on; none if its last book was set by itself. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError::Evidence`].
    pub fn membership(&self, tenant: &TenantId) -> Result<Option<Membership>, InvoiceError> {
        Ok(Membership::said_by(&self.facts_of(tenant)?))
    }

    fn facts_of(&self, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, InvoiceError> {
        let facts = self.journal().archive().facts_of_tenant(tenant);
        Ok(facts.map_err(EvidenceError::from)?)
    }

    /// Publishes a version of a tariff. The same book under the same name again changes nothing.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn publish(
        &self,
        (tariff, version): (TariffName, TariffName),
        text: Vec<u8>,
        reading: Reading,
        act: Act,
    ) -> Result<TariffVersion, ChangeError> {
        let owner = TenantId::default_tenant();
        let changing = self.lock(&owner);
        let _changing = changing.lock().await;
        let digest = Digest::of(&text);
        let issuer = self.clone();
        let (name, text, known) = blocking(move || {
            Book::parse(&text, zones::is_known)?;
            let known = issuer.version(&tariff, Some(&version)).ok();
            Ok(((tariff, version), text, known))
        })
        .await?;
        let (tariff, version) = name;
        match known {
            Some(known) if known.digest == digest => return Ok(known),
            Some(known) => {
                return Err(ChangeError::Published { tariff, version, known: known.digest });
            }
            None => {}
        }
        let by = act.by.clone();
        let fact = TenantFact::TariffPublished { tariff, version: version.clone(), digest, by };
        let seq = self.say(&owner, (reading, fact), vec![text], act).await?;
        Ok(TariffVersion { version, digest, fact: seq })
    }

    /// Sets the tariff under which new tenants begin; none for none.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn set_default_tariff(
        &self,
        tariff: Option<TariffName>,
        reading: Reading,
        act: Act,
    ) -> Result<(), ChangeError> {
        let owner = TenantId::default_tenant();
        let changing = self.lock(&owner);
        let _changing = changing.lock().await;
        let issuer = self.clone();
        let tariff = blocking(move || {
            tariff.as_ref().map(|tariff| issuer.version(tariff, None)).transpose()?;
            Ok(tariff)
        })
        .await?;
        let by = act.by.clone();
        self.say(&owner, (reading, TenantFact::TariffDefault { tariff, by }), Vec::new(), act)
            .await?;
        Ok(())
    }

    /// Charges a tenant by a version of a tariff from `at` on; the newest version, if none is
    /// named.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn join(
        &self,
        tenant: &TenantId,
        (tariff, version): (TariffName, Option<TariffName>),
        at: Option<Instant>,
        reading: Reading,
        act: Act,
    ) -> Result<(BookSet, Membership), ChangeError> {
        if let Some(first) = self.first_try(&act).await? {
            return self.joined_before(tenant, &first);
        }
        let issuer = self.clone();
        let name = tariff.clone();
        let whose = tenant.clone();
        let (version, text, known) = blocking(move || {
            let version = issuer.version(&name, version.as_ref())?;
            let bytes = Evidence::document(&issuer.journal().archive(), version.digest);
            let known = issuer.membership(&whose)?;
            Ok((version, bytes.map_err(InvoiceError::from)?, known))
        })
        .await?;
        let TariffVersion { version, digest, .. } = version;
        let on = Membership { tariff: tariff.clone(), version: version.clone() };
        let is_news = known.as_ref() != Some(&on);
        let now = reading.meter;
        let joined = TenantFact::TariffJoined {
            tariff: tariff.clone(),
            version: version.clone(),
            digest,
            by: act.by.clone(),
        };
        let with = if is_news { vec![(reading, joined)] } else { Vec::new() };
        let set = self.put_prices(tenant, (text, None), at, now, (act, with)).await?;
        Ok((BookSet { name: Some(on.to_string()), ..set }, on))
    }

    /// The answer to the first try of joining a tariff.
    fn joined_before(
        &self,
        tenant: &TenantId,
        first: &FirstTry,
    ) -> Result<(BookSet, Membership), ChangeError> {
        let set = self.book_set(first)?;
        let mut facts = self.facts_of(tenant)?;
        facts.retain(|(seq, _)| *seq <= first.seq);
        let on = Membership::said_by(&facts).ok_or_else(|| first.used_otherwise())?;
        Ok((BookSet { name: Some(on.to_string()), ..set }, on))
    }

    /// A version of a tariff; the newest, if none is named. Blocking.
    fn version(
        &self,
        tariff: &TariffName,
        version: Option<&TariffName>,
    ) -> Result<TariffVersion, ChangeError> {
        let tariffs = self.tariffs()?;
        let found = tariffs.into_iter().find(|one| one.name == *tariff);
        let named = |one: &TariffVersion| version.is_none_or(|version| one.version == *version);
        let found = found.and_then(|tariff| tariff.versions.into_iter().rev().find(named));
        found.ok_or_else(|| {
            let version = version.map(|version| format!(" {version}")).unwrap_or_default();
            ChangeError::NoTariff(format!("{tariff}{version}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId};
    use crate::tenant::Actor;

    /// `j1` joins the version whose book is 1, `p2` sets book 2 by itself, `w2` withdraws it.
    fn membership(acts: &str) -> Option<String> {
        let digest = |act: &str| Digest([act.as_bytes()[1]; 32]);
        let fact = |act: &str| {
            let by = Actor::Operator;
            let said = match act.as_bytes()[0] {
                b'w' => TenantFact::PlanWithdrawn {
                    plan: Plan::Prices,
                    digest: digest(act),
                    from: Instant(0),
                    by,
                    reason: None,
                },
                b'j' => TenantFact::TariffJoined {
                    tariff: "pro".parse().expect("a name"),
                    version: act[1..].parse().expect("a name"),
                    digest: digest(act),
                    by,
                },
                _ => TenantFact::PricesActivated {
                    digest: digest(act),
                    from: Instant(0),
                    by,
                    name: None,
                },
            };
            let boot = BootId("b".into());
            let at = Reading { boot, boottime_ns: 0, wall_ns: 0, meter: Instant(0) };
            Fact { at, tenant: TenantId::default_tenant(), about: About::Tenant(said) }
        };
        let facts: Vec<_> = (1..).zip(acts.split_whitespace().map(fact)).collect();
        Membership::said_by(&facts).map(|membership| membership.version.to_string())
    }

    #[test]
    fn a_tenant_is_on_a_tariff_until_another_book_is_set() {
        let rows = [
            ("", None),
            ("p1", None),
            ("j1 p1", Some("1")),
            ("j1 p1 p2", None),
            ("j1 p1 j2 p2", Some("2")),
            ("j1 p1 p2 j1 p1", Some("1")),
            ("j1 p1 p1", Some("1")),
            ("j1 p1 w1", None),
            ("j1 p1 j2 p2 w2", Some("1")),
            ("j1 p1 p2 w2", Some("1")),
            ("p2 j1 p1 w1", None),
        ];
        for (acts, version) in rows {
            assert_eq!(membership(acts).as_deref(), version, "{acts}");
        }
    }
}
