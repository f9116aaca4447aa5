//! The upload of components: inspection, examination, admission; and their lookup.

use std::sync::Arc;

use super::catalogue::{CatalogueEntry, PolicyRecord};
use super::{Rollout, RolloutError, blocking};
use crate::id::{Digest, PolicyName, TenantId};
use crate::journal::NewPolicy;
use crate::policy::{Admitted, Inspected, PolicyHost, Profile};
use crate::tenancy::Admission;
use crate::tenant::{Actor, Move, STANDARD, Standing};

/// A component that is uploaded for a tenant.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The tenant that the component is for.
    pub tenant: TenantId,
    /// The component's bytes.
    pub bytes: Vec<u8>,
    /// The resource bounds of the examination.
    pub profile: Profile,
    /// Name among the tenant's policies; none leaves the component without one.
    pub name: Option<PolicyName>,
    /// The actor who uploads it.
    pub by: Actor,
}

impl Rollout {
    /// The components that have a standing with a tenant, or all without one; the standard policy
    /// is always included, and comes first.
    pub fn policies_of(&self, tenant: Option<&TenantId>) -> Vec<CatalogueEntry> {
        let mut entries = self.catalogue.list();
        if let Some(tenant) = tenant {
            let has = |digest| self.tenancy.standing(tenant, &digest).is_some();
            entries.retain(|entry| entry.is_standard() || has(entry.digest()));
        }
        entries
    }

    /// The component with this name for the tenant, with this digest, or the only one whose digest
    /// has this prefix; `standard` is that of every tenant. Components without a standing with the
    /// tenant are found only with `all`.
    ///
    /// # Errors
    /// [`RolloutError::NoSuchPolicy`], [`RolloutError::Ambiguous`].
    pub fn find(
        &self,
        tenant: &TenantId,
        all: bool,
        key: &str,
    ) -> Result<CatalogueEntry, RolloutError> {
        let named = self.tenancy.policy_named(tenant, key);
        if let Some(entry) = named.and_then(|digest| self.catalogue.get(&digest)) {
            return Ok(entry);
        }
        find(self.policies_of(Some(tenant).filter(|_| !all)), key)
    }

    /// The admission of a policy for a tenant; none without one.
    pub fn admission(&self, tenant: &TenantId, digest: &Digest) -> Option<Admission> {
        self.tenancy.admission(tenant, digest)
    }

    /// The present standing of a component with a tenant; none without one.
    pub fn standing_of(&self, tenant: &TenantId, digest: &Digest) -> Option<Standing> {
        self.tenancy.standing(tenant, digest).map(|stood| self.standing(&stood))
    }

    /// Examines a component and admits it. One that the tenant has already, or the standard policy,
    /// is returned as it is.
    ///
    /// # Errors
    /// [`RolloutError::Admission`] with what is valid, [`RolloutError::Exceeded`] with the limit of
    /// policies, and the journal's errors.
    pub async fn upload(self: &Arc<Self>, upload: Upload) -> Result<CatalogueEntry, RolloutError> {
        let Upload { tenant, bytes, profile, name, by } = upload;
        let inspected = blocking(move || Ok(PolicyHost::inspect(bytes, profile)?)).await?;
        let digest = inspected.digest();
        self.tenancy.check_policy_name(&tenant, &digest, name.as_ref())?;
        if let Some(known) = self.known(&tenant, &digest) {
            self.check_name(&tenant, digest, name)?;
            return Ok(known);
        }
        self.tenancy.check_policies(&tenant, &digest)?;
        let bytes = inspected.bytes().clone();
        let admitted = self.examine(&tenant, by.clone(), inspected).await?;
        // The record of another tenant's upload of the same bytes stays as it is.
        let record = match self.catalogue.get(&digest) {
            Some(CatalogueEntry::Admitted(record)) => record,
            Some(CatalogueEntry::Examining { .. }) | None => PolicyRecord::new(&admitted),
        };
        let stored = record.to_stored();
        let new = NewPolicy { tenant, digest, name, bytes: bytes.to_vec(), record: stored, by };
        self.tenancy.admit(new).await?;
        self.catalogue.admit(record.clone());
        Ok(CatalogueEntry::Admitted(record))
    }

    /// Refuses to give a known policy another name: recorded facts use its first one.
    fn check_name(
        &self,
        tenant: &TenantId,
        digest: Digest,
        name: Option<PolicyName>,
    ) -> Result<(), RolloutError> {
        let has = self.tenancy.admission(tenant, &digest).and_then(|admission| admission.name);
        match name {
            Some(name) if has.as_ref() != Some(&name) => Err(RolloutError::Known { digest, has }),
            Some(_) | None => Ok(()),
        }
    }

    /// The entry of a policy that the tenant has already, or of the standard policy.
    fn known(&self, tenant: &TenantId, digest: &Digest) -> Option<CatalogueEntry> {
        let has = match self.tenancy.standing(tenant, digest).map(|stood| stood.standing) {
            Some(Standing::Uploaded | Standing::Refused) => false,
            Some(
                Standing::Admitted
                | Standing::Shadow
                | Standing::Active
                | Standing::Draining
                | Standing::Retired
                | Standing::Quarantined,
            ) => true,
            None => *digest == self.policies.standard().digest(),
        };
        self.catalogue.get(digest).filter(|_| has)
    }

    /// Compiles and tests an inspected component, and records the upload and its outcome.
    async fn examine(
        self: &Arc<Self>,
        tenant: &TenantId,
        by: Actor,
        inspected: Inspected,
    ) -> Result<Admitted, RolloutError> {
        let digest = inspected.digest();
        let moved = |to, by, reason| Move { digest, to, by, reason, stand_in: None };
        let told = format!("{} bytes, profile {}", inspected.bytes().len(), inspected.profile());
        let uploaded = moved(Standing::Uploaded, by, told);
        self.tenancy.move_policy(tenant, uploaded, None).await?;
        self.catalogue.arrive(&inspected);
        let policies = self.policies.clone();
        let _turn = self.turns.take(tenant).await;
        let examined = blocking(move || Ok(policies.examine(inspected))).await?;
        if let Err(refusal) = &examined {
            let refused = moved(Standing::Refused, Actor::Host, refusal.in_words());
            self.tenancy.move_policy(tenant, refused, None).await?;
            self.catalogue.refuse(&digest);
        }
        Ok(examined?)
    }

    /// Loads a known policy, compiling it if need be, before its activation. Blocking.
    ///
    /// # Errors
    /// [`RolloutError::NoSuchPolicy`], [`RolloutError::Admission`] if this version does not admit
    /// it any more.
    pub fn make_ready(&self, digest: Digest) -> Result<(), RolloutError> {
        if self.policies.get(digest).is_some() {
            return Ok(());
        }
        let bytes = self.journal.policy_bytes(&digest)?;
        let bytes = bytes.ok_or_else(|| RolloutError::NoSuchPolicy(digest.to_string()))?;
        let profile = self.catalogue.get(&digest).map(|entry| entry.profile());
        self.policies.load(profile.unwrap_or_default(), digest, &bytes)?;
        Ok(())
    }
}

fn find(entries: Vec<CatalogueEntry>, key: &str) -> Result<CatalogueEntry, RolloutError> {
    let digits = key.strip_prefix("sha256:").unwrap_or(key);
    let mut matches = entries.into_iter().filter(|entry| answers_to(entry, digits));
    let key: String = key.chars().take(80).collect();
    match (matches.next(), matches.count()) {
        (None, _) => Err(RolloutError::NoSuchPolicy(format!("'{key}'"))),
        (Some(only), 0) => Ok(only),
        (Some(_), more) => Err(RolloutError::Ambiguous { key, count: more + 1 }),
    }
}

fn answers_to(entry: &CatalogueEntry, key: &str) -> bool {
    (entry.is_standard() && key == STANDARD)
        || (!key.is_empty() && entry.digest().to_string().starts_with(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_found_by_a_unique_beginning_of_its_digest() {
        let entry = |byte: u8| {
            let digest = Digest([byte; 32]);
            CatalogueEntry::Examining { digest, size_bytes: 1, profile: Profile::Compact }
        };
        let standard = CatalogueEntry::Admitted(PolicyRecord::standard(Digest([0x11; 32])));
        let entries = || vec![standard.clone(), entry(0x1a), entry(0xbb)];
        let found = |key: &str| find(entries(), key).map(|entry| entry.digest().0[0]);
        assert_eq!(found("standard").ok(), Some(0x11));
        assert_eq!(found("sha256:b").ok(), Some(0xbb));
        assert_eq!(found("1a").ok(), Some(0x1a));
        assert!(matches!(found("1"), Err(RolloutError::Ambiguous { count: 2, .. })));
        assert!(matches!(found(""), Err(RolloutError::NoSuchPolicy(_))));
        assert!(matches!(found("cc"), Err(RolloutError::NoSuchPolicy(_))));
    }
}
