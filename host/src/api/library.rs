//! The policies that were admitted, by digest.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::error::ApiError;
use super::model::{Policy, SelfTest, Timestamp};
use crate::driver::FleetError;
use crate::id::Digest;
use crate::journal::{Journal, StoredPolicy};
use crate::policy::{Admitted, PolicyHost, Profile, World};

/// What is noted about the embedded standard policy when it is stored with the first facts.
pub fn standard_record() -> String {
    record(&standard(Digest::of(PolicyHost::standard_bytes())))
}

/// Everything that was admitted, and the host that runs it.
pub(super) struct Library {
    host: Arc<PolicyHost>,
    known: RwLock<BTreeMap<Digest, Policy>>,
}

impl Library {
    pub(super) fn new(host: Arc<PolicyHost>, stored: &[StoredPolicy]) -> Self {
        let mut known: BTreeMap<_, _> = stored.iter().map(|stored| (stored.digest, from_record(stored))).collect();
        let digest = host.standard().digest();
        known.insert(digest, standard(digest));
        Self { host, known: RwLock::new(known) }
    }

    pub(super) fn host(&self) -> &Arc<PolicyHost> {
        &self.host
    }

    /// All of them: the standard policy first, then by digest.
    pub(super) fn list(&self) -> Vec<Policy> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut policies: Vec<_> = known.values().cloned().collect();
        policies.sort_by_key(|policy| !policy.standard);
        policies
    }

    /// The policy with this digest.
    pub(super) fn get(&self, digest: &Digest) -> Option<Policy> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Shows a policy that is being examined, unless it is known.
    pub(super) fn arrive(&self, policy: Policy) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).entry(policy.digest).or_insert(policy);
    }

    /// Shows a policy no more that was not admitted.
    pub(super) fn refuse(&self, digest: &Digest) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(digest).is_some_and(|policy| policy.world.is_empty()) {
            known.remove(digest);
        }
    }

    pub(super) fn keep(&self, policy: Policy) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(policy.digest, policy);
    }

    /// Makes sure that a known policy is compiled, so that its activation waits for nothing. Blocking.
    pub(super) fn make_ready(&self, journal: &Journal, digest: Digest) -> Result<(), ApiError> {
        if self.host.get(digest).is_some() {
            return Ok(());
        }
        let missing = || ApiError::from(FleetError::NoSuchPolicy(digest.to_string()));
        let bytes = journal.policy_bytes(&digest)?.ok_or_else(missing)?;
        let profile = self.get(&digest).map_or(Profile::default(), |policy| profile_of(&policy));
        self.host.load(profile, digest, &bytes)?;
        Ok(())
    }
}

/// The one of `policies` with this digest, the only one whose digest begins so, or `standard`.
pub(super) fn find(policies: Vec<Policy>, key: &str) -> Result<Policy, ApiError> {
    let digits = key.strip_prefix("sha256:").unwrap_or(key);
    let mut matches = policies.into_iter().filter(|policy| answers_to(policy, digits));
    let key: String = key.chars().take(80).collect();
    match (matches.next(), matches.count()) {
        (None, _) => Err(FleetError::NoSuchPolicy(format!("'{key}'")).into()),
        (Some(only), 0) => Ok(only),
        (Some(_), more) => {
            let message = format!("'{key}' is the beginning of {} digests; give more digits", more + 1);
            Err(ApiError::conflict("ambiguous", message))
        }
    }
}

fn answers_to(policy: &Policy, key: &str) -> bool {
    (policy.standard && key == "standard") || (!key.is_empty() && policy.digest.to_string().starts_with(key))
}

/// What is shown, and stored as JSON, of a policy that was just admitted.
pub(super) fn describe(admitted: &Admitted, at: Timestamp) -> Policy {
    let test = admitted.self_test;
    Policy {
        digest: admitted.digest,
        size_bytes: admitted.size_bytes as u64,
        world: admitted.world.as_str().into(),
        profile: admitted.profile.to_string(),
        standard: false,
        state: None,
        admitted_at: Some(at),
        compile_ms: Some(admitted.compile_ms),
        self_test: Some(SelfTest {
            vectors: test.vectors as u64,
            enter_fuel: test.enter_fuel,
            snapshot_fuel: test.snapshot_fuel,
            enter_all_fuel: test.enter_all_fuel,
            snapshot_all_fuel: test.snapshot_all_fuel,
        }),
    }
}

/// What is shown of a component before it was examined: it has no world yet.
pub(super) fn arrived(digest: Digest, size_bytes: usize, profile: Profile) -> Policy {
    let (world, size_bytes) = (String::new(), size_bytes as u64);
    Policy { standard: false, world, profile: profile.to_string(), size_bytes, ..standard(digest) }
}

/// The bounds that a policy runs under.
pub(super) fn profile_of(policy: &Policy) -> Profile {
    policy.profile.parse().unwrap_or_default()
}

/// The bounds that a stored policy runs under.
pub fn noted_profile(stored: &StoredPolicy) -> Profile {
    profile_of(&from_record(stored))
}

/// The policy as the journal stores it.
pub(super) fn record(policy: &Policy) -> String {
    // The type has no map with keys that aren't text, and nothing in it refuses: the fallback is never seen.
    serde_json::to_string(policy).unwrap_or_default()
}

fn standard(digest: Digest) -> Policy {
    Policy {
        digest,
        size_bytes: PolicyHost::standard_bytes().len() as u64,
        world: World::Policy.as_str().into(),
        profile: Profile::Compact.to_string(),
        standard: true,
        state: None,
        admitted_at: None,
        compile_ms: None,
        self_test: None,
    }
}

/// What an earlier version noted may have another form; the digest and the size are known anyway. A standard policy of an earlier
/// version is an ordinary one now.
fn from_record(stored: &StoredPolicy) -> Policy {
    let noted: Option<Policy> = serde_json::from_str(&stored.record).ok();
    let (digest, size_bytes) = (stored.digest, stored.size_bytes);
    match noted {
        Some(noted) => Policy { digest, size_bytes, standard: false, ..noted },
        None => Policy { standard: false, size_bytes, ..standard(digest) },
    }
}
