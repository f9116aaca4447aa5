//! The policy host from outside: admission, faults, and correct counts.

#[path = "../../guests/hostile/mod.rs"]
mod hostile;

mod admission;
mod billed;
mod conformance;
mod faults;
mod metering;
mod meters;
mod parity;
mod size;
mod swap;
mod vectors;

use tallyman::policy::PolicyHost;

/// A host with a cache of its own, removed with the value.
struct Host {
    policies: std::sync::Arc<PolicyHost>,
    _cache: tempfile::TempDir,
}

impl Host {
    fn open() -> Self {
        let cache = tempfile::tempdir().expect("a folder");
        let policies = PolicyHost::open(&cache.path().join("compiled")).expect("a policy host");
        Self { policies: policies.into(), _cache: cache }
    }
}
