//! Policies: components that say how time counts and what it costs. The only user of the WebAssembly engine.
//!
//! - `admission` looks at a component before anything of it runs; `selftest` asks it what every policy must get right;
//! - `profile` holds the bounds, `difference` says how another contract differs, `conformance` asks everything at once, without a daemon;
//! - `engine` holds a call to its bounds, `component` makes the calls, `wire` checks the answers, `fault` names what went wrong;
//! - `book` reads price books, `zones` looks up time zones, `rating` checks charge lines, `hours` which price holds when;
//! - `cache` keeps compiled policies on disk;
//! - `accounting` applies the policies in force to facts, and carries on without one that fails; `shadow` counts the same beside it.
//!
//! No call can reach a clock, a file, the network or another call: a component gets nothing to import, every call has a fresh
//! instance, and its fuel, memory, stack, answer and time are bounded by [`crate::limits::policy`].

pub mod accounting;
mod admission;
mod bindings;
pub mod book;
mod cache;
mod component;
pub mod conformance;
mod difference;
mod engine;
mod fault;
mod hours;
mod profile;
pub mod rating;
mod selftest;
pub mod shadow;
mod standard;
mod wire;
mod wit;
pub mod zones;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use wasmtime::component::Component;

pub use accounting::Accounting;
pub use admission::{AdmissionError, Admitted};
pub use bindings::tallyman::policy::types as contract;
pub use cache::CacheError;
pub use component::{Policy, World};
pub use engine::{Answer, Backend, ENGINE};
pub use fault::{Exceeded, Fault, Refused};
pub use profile::{Bounds, Profile};
pub use selftest::{SelfTest, SelfTestError};
pub use wit::CONTRACT;

use crate::clock;
use crate::id::Digest;
use cache::Cache;
use engine::Runtime;

/// Why there is no policy host.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder for compiled policies is no good.
    #[error("no place for compiled policies")]
    Cache(#[from] CacheError),
    /// The engine does not start, for example because the address space is limited (`ulimit -v`).
    #[error("the policy engine does not start: {reason}")]
    Engine {
        /// What it says.
        reason: String,
    },
    /// The policy inside this program is not usable: a defect of the build.
    #[error("the embedded standard policy is not usable")]
    Standard(#[source] AdmissionError),
}

/// Why a core module can't be made a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it was not built for a world of the contract: {reason}")]
pub struct WrapError {
    reason: String,
}

/// Makes a component of a core module that was built for a world of the contract.
///
/// # Errors
/// [`WrapError`] with what is missing.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>, WrapError> {
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(module);
    let encoded = encoder.and_then(|mut encoder| encoder.encode());
    let component = encoded.map_err(|error| WrapError { reason: fault::clipped(format!("{error:#}")) })?;
    match admission::world_of(&component) {
        Ok(_) => Ok(component),
        Err(error) => Err(WrapError { reason: error.in_words() }),
    }
}

/// All policies of this host.
pub struct PolicyHost {
    compact: Arc<Runtime>,
    backend: Backend,
    /// Made when the first policy needs it.
    large: OnceLock<Arc<Runtime>>,
    cache: Cache,
    standard: Arc<Policy>,
    loaded: ArcSwap<HashMap<Digest, Arc<Policy>>>,
    /// Held while compiling: it takes a processor and much memory, and can't be interrupted, so there is one at a time.
    compiling: Mutex<()>,
}

impl PolicyHost {
    /// Starts the engine and loads the embedded standard policy. `cache_dir` keeps compiled policies; it is made if missing.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do about it.
    pub fn open(cache_dir: &Path) -> Result<PolicyHost, OpenError> {
        Self::open_with(cache_dir, Backend::Native)
    }

    /// The same on another backend, which needs a folder of its own.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(cache_dir: &Path, backend: Backend) -> Result<PolicyHost, OpenError> {
        let cache = Cache::open(cache_dir)?;
        let runtime = Runtime::new(Profile::Compact, backend);
        let runtime = Arc::new(runtime.map_err(|error| OpenError::Engine { reason: format!("{error:#}") })?);
        let digest = Digest::of(standard::COMPONENT);
        let standard = match from_cache(&runtime, &cache, digest, None) {
            Some(policy) => Arc::new(policy),
            None => {
                let compiled = compile(&runtime, digest, standard::COMPONENT, None).map_err(OpenError::Standard)?;
                cache.put(digest, &compiled.component);
                compiled.policy
            }
        };
        let loaded = ArcSwap::from_pointee(HashMap::from([(digest, Arc::clone(&standard))]));
        let (large, compiling) = (OnceLock::new(), Mutex::new(()));
        Ok(Self { compact: runtime, backend, large, cache, standard, loaded, compiling })
    }

    /// Where policies of a profile run.
    fn runtime(&self, profile: Profile) -> Result<Arc<Runtime>, AdmissionError> {
        if profile == Profile::Compact {
            return Ok(self.compact.clone());
        }
        if let Some(large) = self.large.get() {
            return Ok(large.clone());
        }
        let made = Runtime::new(profile, self.backend);
        let made = made.map_err(|error| AdmissionError::Compile { reason: fault::clipped(format!("{error:#}")) })?;
        // Somebody else may have been quicker; one of the two is kept.
        Ok(self.large.get_or_init(|| Arc::new(made)).clone())
    }

    /// The policy that holds where no other does.
    pub fn standard(&self) -> &Arc<Policy> {
        &self.standard
    }

    /// Its component's bytes.
    pub fn standard_bytes() -> &'static [u8] {
        standard::COMPONENT
    }

    /// Asks a component everything that can be asked without compiling it, and answers its name.
    ///
    /// # Errors
    /// [`AdmissionError`], with what would be right.
    pub fn inspect(&self, bytes: &[u8], profile: Profile) -> Result<Digest, AdmissionError> {
        admission::inspect(bytes, profile).map(|_| Digest::of(bytes))
    }

    /// Examines a component under the bounds of profile compact; see [`PolicyHost::admit_in`].
    ///
    /// # Errors
    /// [`AdmissionError`], with what would be right.
    pub fn admit(&self, bytes: &[u8]) -> Result<Admitted, AdmissionError> {
        self.admit_in(Profile::Compact, bytes)
    }

    /// Examines a component and keeps it ready. Blocks for as long as a compilation takes, and for those before it; call it where
    /// waiting does no harm. One that is loaded keeps the profile that it has.
    ///
    /// # Errors
    /// [`AdmissionError`], with what would be right.
    pub fn admit_in(&self, profile: Profile, bytes: &[u8]) -> Result<Admitted, AdmissionError> {
        let digest = Digest::of(bytes);
        let known = self.get(digest);
        let profile = known.as_ref().map_or(profile, |policy| policy.profile());
        let world = admission::inspect(bytes, profile)?;
        let (self_test, compile_ms) = match known {
            Some(policy) => (selftest::run(&policy).map_err(AdmissionError::SelfTest)?, 0),
            None => self.compile_and_test(profile, digest, bytes)?,
        };
        Ok(Admitted { digest, world, profile, size_bytes: bytes.len(), self_test, compile_ms })
    }

    fn compile_and_test(
        &self,
        profile: Profile,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(SelfTest, u64), AdmissionError> {
        let runtime = self.runtime(profile)?;
        let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = compile(&runtime, digest, bytes, Some(&self.standard))?;
        let self_test = selftest::run(&compiled.policy).map_err(AdmissionError::SelfTest)?;
        self.cache.put(digest, &compiled.component);
        self.keep(compiled.policy);
        Ok((self_test, compiled.ms))
    }

    /// Loads a component that was admitted before, such as at a start: compiled from the cache, or compiled again after the same examination as at
    /// its admission.
    ///
    /// # Errors
    /// [`AdmissionError`] if the bytes are not those of `digest`, or are no longer admitted by this version.
    pub fn load(&self, profile: Profile, digest: Digest, bytes: &[u8]) -> Result<Arc<Policy>, AdmissionError> {
        let is = Digest::of(bytes);
        if is != digest {
            return Err(AdmissionError::Digest { named: digest, is });
        }
        if let Some(policy) = self.get(digest) {
            return Ok(policy);
        }
        let runtime = self.runtime(profile)?;
        if let Some(policy) = from_cache(&runtime, &self.cache, digest, Some(&self.standard)) {
            return Ok(self.keep(Arc::new(policy)));
        }
        self.admit_in(profile, bytes)?;
        self.get(digest).ok_or(AdmissionError::Compile { reason: "it was unloaded meanwhile".into() })
    }

    /// A loaded policy.
    pub fn get(&self, digest: Digest) -> Option<Arc<Policy>> {
        self.loaded.load().get(&digest).cloned()
    }

    fn keep(&self, policy: Arc<Policy>) -> Arc<Policy> {
        self.loaded.rcu(|loaded| {
            let mut loaded = HashMap::clone(loaded);
            loaded.insert(policy.digest(), Arc::clone(&policy));
            loaded
        });
        policy
    }
}

struct Compiled {
    policy: Arc<Policy>,
    component: Component,
    ms: u64,
}

fn compile(
    runtime: &Arc<Runtime>,
    digest: Digest,
    bytes: &[u8],
    standard: Option<&Arc<Policy>>,
) -> Result<Compiled, AdmissionError> {
    let refused = |error: wasmtime::Error| AdmissionError::Compile { reason: fault::clipped(format!("{error:#}")) };
    let start = clock::boottime_ns();
    let component = runtime.compile(bytes).map_err(refused)?;
    let ms = clock::boottime_ns().saturating_sub(start) / 1_000_000;
    let policy = Policy::new(digest, Arc::clone(runtime), &component, standard).map_err(refused)?;
    Ok(Compiled { policy: Arc::new(policy), component, ms })
}

fn from_cache(runtime: &Arc<Runtime>, cache: &Cache, digest: Digest, standard: Option<&Arc<Policy>>) -> Option<Policy> {
    let component: Component = cache.get(runtime.engine(), digest)?;
    Policy::new(digest, Arc::clone(runtime), &component, standard).ok()
}
