//! The components of this host, by digest, with the results of their examination.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::journal::StoredPolicy;
use crate::policy::{Admitted, Inspected, PolicyHost, Profile, SelfTest, World};

/// A component that the host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueEntry {
    /// The component was uploaded and is being compiled and tested.
    Examining {
        /// SHA-256 of the component's bytes.
        digest: Digest,
        /// Size of the component in bytes.
        size_bytes: u64,
        /// The resource bounds of the examination.
        profile: Profile,
    },
    /// The component has passed the examination.
    Admitted(PolicyRecord),
}

impl CatalogueEntry {
    /// SHA-256 of the component's bytes.
    pub fn digest(&self) -> Digest {
        match self {
            CatalogueEntry::Examining { digest, .. } => *digest,
            CatalogueEntry::Admitted(record) => record.digest,
        }
    }

    /// The resource bounds of the component.
    pub fn profile(&self) -> Profile {
        match self {
            CatalogueEntry::Examining { profile, .. } => *profile,
            CatalogueEntry::Admitted(record) => record.profile,
        }
    }

    /// Set for the standard policy, which is embedded in this program.
    pub fn is_standard(&self) -> bool {
        match self {
            CatalogueEntry::Examining { .. } => false,
            CatalogueEntry::Admitted(record) => record.is_standard,
        }
    }
}

/// An admitted component, with the results of its examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// SHA-256 of the component's bytes.
    pub digest: Digest,
    /// Size of the component in bytes.
    pub size_bytes: u64,
    /// The WIT world that the component was built for.
    pub world: World,
    /// The resource bounds of the component.
    pub profile: Profile,
    /// Set for the standard policy, which is embedded in this program.
    pub is_standard: bool,
    /// Time that the compiler took, in milliseconds; none for the standard policy.
    pub compile_ms: Option<u64>,
    /// Result of the self-test on the golden vectors; none for the standard policy.
    pub self_test: Option<SelfTest>,
}

impl PolicyRecord {
    pub(super) fn standard(digest: Digest) -> Self {
        Self {
            digest,
            size_bytes: PolicyHost::standard_bytes().len() as u64,
            world: World::Policy,
            profile: Profile::Compact,
            is_standard: true,
            compile_ms: None,
            self_test: None,
        }
    }

    pub(super) fn new(admitted: &Admitted) -> Self {
        Self {
            digest: admitted.digest,
            size_bytes: admitted.size_bytes as u64,
            world: admitted.world,
            profile: admitted.profile,
            is_standard: false,
            compile_ms: Some(admitted.compile_ms),
            self_test: Some(admitted.self_test),
        }
    }

    /// The JSON that the journal stores.
    pub(super) fn to_stored(&self) -> String {
        let noted = Noted {
            world: self.world.as_str().into(),
            profile: self.profile.to_string(),
            compile_ms: self.compile_ms,
            self_test: self.self_test.map(NotedTest::from),
        };
        // Only texts and numbers: serialization does not fail.
        serde_json::to_string(&noted).unwrap_or_default()
    }

    /// Reads a stored record. One that can't be read, from an earlier version, gives the defaults
    /// with the stored digest and size. A standard policy of an earlier version is an ordinary one
    /// now.
    fn of_stored(stored: &StoredPolicy) -> Self {
        let unknown = Self {
            size_bytes: stored.size_bytes,
            is_standard: false,
            ..Self::standard(stored.digest)
        };
        let Ok(noted) = serde_json::from_str::<Noted>(&stored.record) else { return unknown };
        Self {
            world: World::stored(&noted.world),
            profile: noted.profile.parse().unwrap_or_default(),
            compile_ms: noted.compile_ms,
            self_test: noted.self_test.map(SelfTest::from),
            ..unknown
        }
    }
}

/// The stored form of a [`PolicyRecord`]. Fields may be added; present ones keep their names and
/// meanings. Unknown fields are ignored: earlier versions stored the digest and the size, too.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    world: String,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    compile_ms: Option<u64>,
    #[serde(default)]
    self_test: Option<NotedTest>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct NotedTest {
    vectors: usize,
    enter_fuel: u64,
    snapshot_fuel: u64,
    enter_all_fuel: u64,
    snapshot_all_fuel: u64,
}

impl From<SelfTest> for NotedTest {
    fn from(test: SelfTest) -> Self {
        let SelfTest { vectors, enter_fuel, snapshot_fuel, enter_all_fuel, snapshot_all_fuel } =
            test;
        Self { vectors, enter_fuel, snapshot_fuel, enter_all_fuel, snapshot_all_fuel }
    }
}

impl From<NotedTest> for SelfTest {
    fn from(noted: NotedTest) -> Self {
        let NotedTest { vectors, enter_fuel, snapshot_fuel, enter_all_fuel, snapshot_all_fuel } =
            noted;
        Self { vectors, enter_fuel, snapshot_fuel, enter_all_fuel, snapshot_all_fuel }
    }
}

/// The stored record of the embedded standard policy.
pub fn standard_record() -> String {
    PolicyRecord::standard(Digest::of(PolicyHost::standard_bytes())).to_stored()
}

/// The resource bounds of a stored policy.
pub fn profile_of(stored: &StoredPolicy) -> Profile {
    PolicyRecord::of_stored(stored).profile
}

/// The components that are under examination or admitted, by digest.
pub(super) struct Catalogue(RwLock<BTreeMap<Digest, CatalogueEntry>>);

impl Catalogue {
    pub(super) fn new(stored: &[StoredPolicy], standard: Digest) -> Self {
        let records = stored.iter().map(PolicyRecord::of_stored);
        let records = records.chain([PolicyRecord::standard(standard)]);
        let entry = |record: PolicyRecord| (record.digest, CatalogueEntry::Admitted(record));
        Self(RwLock::new(records.map(entry).collect()))
    }

    /// The entries: the standard policy first, then by digest.
    pub(super) fn list(&self) -> Vec<CatalogueEntry> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<_> = known.values().cloned().collect();
        entries.sort_by_key(|entry| !entry.is_standard());
        entries
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<CatalogueEntry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Lists a component as under examination, unless it is known.
    pub(super) fn arrive(&self, inspected: &Inspected) {
        let entry = CatalogueEntry::Examining {
            digest: inspected.digest(),
            size_bytes: inspected.bytes().len() as u64,
            profile: inspected.profile(),
        };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(entry.digest()).or_insert(entry);
    }

    /// Removes a refused component, unless another upload has admitted it.
    pub(super) fn refuse(&self, digest: &Digest) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(known.get(digest), Some(CatalogueEntry::Examining { .. })) {
            known.remove(digest);
        }
    }

    pub(super) fn admit(&self, record: PolicyRecord) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(record.digest, CatalogueEntry::Admitted(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(record: &str) -> StoredPolicy {
        StoredPolicy { digest: Digest([7; 32]), size_bytes: 9, record: record.into() }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let test = SelfTest {
            vectors: 1,
            enter_fuel: 2,
            snapshot_fuel: 3,
            enter_all_fuel: 4,
            snapshot_all_fuel: 5,
        };
        let record = PolicyRecord {
            digest: Digest([7; 32]),
            size_bytes: 9,
            world: World::Meter,
            profile: Profile::Large,
            is_standard: false,
            compile_ms: Some(6),
            self_test: Some(test),
        };
        assert_eq!(PolicyRecord::of_stored(&stored(&record.to_stored())), record);
    }

    #[test]
    fn a_record_of_an_earlier_version_is_still_read() {
        let old = r#"{"digest":"0707070707070707070707070707070707070707070707070707070707070707",
            "size_bytes":9,"world":"rater","profile":"large","standard":false,
            "admitted_at":"2023-11-14T22:13:20.123456789Z","compile_ms":6,
            "self_test":{"vectors":1,"enter_fuel":2,"snapshot_fuel":3,"enter_all_fuel":4,
            "snapshot_all_fuel":5}}"#;
        let read = PolicyRecord::of_stored(&stored(old));
        assert_eq!((read.world, read.profile), (World::Meter, Profile::Large));
        assert_eq!((read.compile_ms, read.self_test.map(|test| test.vectors)), (Some(6), Some(1)));
        let oldest = PolicyRecord::of_stored(&stored(r#"{"world":"policy","standard":true}"#));
        assert_eq!((oldest.profile, oldest.is_standard), (Profile::Compact, false));
        let unknown = PolicyRecord::of_stored(&stored("what is this"));
        assert_eq!((unknown.size_bytes, unknown.world), (9, World::Policy));
    }
}
