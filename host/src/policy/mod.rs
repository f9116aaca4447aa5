//! Policies: components that decide how time counts, and for which meters. The only user of the
//! WebAssembly engine.
//!
//! - `admission` inspects a component before anything of it runs; `selftest` runs the golden
//!   vectors that every policy must pass;
//! - `profile` holds the bounds; `difference` lists the differences to another contract;
//!   `conformance` makes every check at once, without a daemon;
//! - `engine` enforces the bounds of a call; `component` makes the calls; `wire` checks the
//!   answers; `fault` defines the faults;
//! - `metering` checks descriptions and measurements;
//! - `biller` runs the biller, the host's own component, in the same engine;
//! - `compiler` compiles in a bounded process; `cache` keeps compiled policies on disk;
//! - `accounting` accounts facts under the policies in force, with a fallback for a policy that
//!   fails; `shadow` compares a candidate with them.
//!
//! No call can reach a clock, a file, the network or another call: a component has no imports,
//! every call has a fresh instance, and its fuel, memory, stack, answer and time are bounded by
//! [`crate::limits::policy`].

pub mod accounting;
mod admission;
pub mod biller;
mod billers;
mod bindings;
mod budget;
mod cache;
mod compiler;
mod component;
pub mod conformance;
mod difference;
mod engine;
mod fault;
pub mod metering;
mod profile;
mod selftest;
pub mod shadow;
mod standard;
mod wire;
mod wit;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use wasmtime::component::Component;

pub use accounting::{Accounting, Occasion};
pub use admission::{AdmissionError, Admitted, Inspected};
pub use bindings::tallyman::policy::types as contract;
pub use cache::CacheError;
pub use compiler::{SUBCOMMAND as COMPILER, compile_for_daemon};
pub use component::{Policy, World};
pub use engine::{Answer, Backend, ENGINE};
pub use fault::{Exceeded, Fault, Refused};
pub use profile::{Bounds, MeteringFuel, Profile};
pub use selftest::{SelfTest, SelfTestError};
pub use standard::SHIPPED;
pub use wit::CONTRACT;

use crate::clock;
use crate::id::Digest;
use cache::Cache;
use engine::Runtime;

/// An error of opening the policy host.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder for compiled policies can't be used.
    #[error("can't open the folder for compiled policies")]
    Cache(#[from] CacheError),
    /// The engine does not start, for example because the address space is limited (`ulimit -v`).
    #[error(
        "the policy engine does not start: {reason}; check the limit of address space (`ulimit -v`)"
    )]
    Engine {
        /// Message of the engine.
        reason: String,
    },
    /// The policy that is built into this program is refused: a bug of the build.
    #[error("the built-in standard policy was refused; this build of the program is faulty")]
    Standard(#[source] AdmissionError),
}

/// An error of making a component from a core module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the module was not built for a world of the contract: {reason}")]
pub struct WrapError {
    reason: String,
}

/// Makes a component from a core module that was built for a world of the contract.
///
/// # Errors
/// [`WrapError`], with the reason.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>, WrapError> {
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(module);
    let encoded = encoder.and_then(|mut encoder| encoder.encode());
    let component =
        encoded.map_err(|error| WrapError { reason: fault::clipped(format!("{error:#}")) })?;
    match admission::world_of(&component) {
        Ok(_) => Ok(component),
        Err(error) => Err(WrapError { reason: error.in_words() }),
    }
}

/// The policies that are loaded on this host, and the engine that runs them.
pub struct PolicyHost {
    compact: Arc<Runtime>,
    backend: Backend,
    /// The engine of profile large, made when a policy first needs it.
    large: OnceLock<Arc<Runtime>>,
    cache: Cache,
    /// The program that compiles in a child process; none to compile in this process.
    compiler: Option<PathBuf>,
    standard: Arc<Policy>,
    loaded: ArcSwap<HashMap<Digest, Arc<Policy>>>,
    billers: Mutex<HashMap<Digest, Arc<biller::Biller>>>,
    /// Held while compiling: a compilation takes a processor and much memory, and can't be
    /// interrupted, so there is one at a time.
    compiling: Mutex<()>,
}

impl PolicyHost {
    /// Starts the engine and loads the built-in standard policy. `cache_dir` keeps compiled
    /// policies; it is created if missing. Blocks while the standard policy is compiled, if it is
    /// not in the cache.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(cache_dir: &Path) -> Result<PolicyHost, OpenError> {
        Self::open_with(cache_dir, Backend::Native)
    }

    /// Opens the policy host as [`PolicyHost::open`] does, on another backend, which needs a folder
    /// of its own.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(cache_dir: &Path, backend: Backend) -> Result<PolicyHost, OpenError> {
        let cache = Cache::open(cache_dir)?;
        let runtime = Runtime::new(Profile::Compact, backend);
        let runtime =
            Arc::new(runtime.map_err(|error| OpenError::Engine { reason: format!("{error:#}") })?);
        let digest = Digest::of(standard::COMPONENT);
        let standard = match from_cache(&runtime, &cache, digest, None) {
            Some(policy) => Arc::new(policy),
            None => {
                let compiled = compile(&runtime, digest, standard::COMPONENT, None)
                    .map_err(OpenError::Standard)?;
                cache.put(digest, &compiled.component);
                compiled.policy
            }
        };
        let loaded = ArcSwap::from_pointee(HashMap::from([(digest, Arc::clone(&standard))]));
        let large = OnceLock::new();
        let compiling = Mutex::new(());
        let billers = Mutex::default();
        Ok(Self {
            compact: runtime,
            backend,
            large,
            cache,
            compiler: None,
            standard,
            loaded,
            billers,
            compiling,
        })
    }

    /// Sets the program that compiles policies in a bounded child process; it must dispatch the
    /// subcommand [`COMPILER`] to [`compile_for_daemon`]. None compiles them in this process.
    pub fn compiling_with(self, program: Option<PathBuf>) -> Self {
        Self { compiler: program, ..self }
    }

    /// Returns the engine of a profile.
    fn runtime(&self, profile: Profile) -> Result<Arc<Runtime>, AdmissionError> {
        if profile == Profile::Compact {
            return Ok(self.compact.clone());
        }
        if let Some(large) = self.large.get() {
            return Ok(large.clone());
        }
        let made = Runtime::new(profile, self.backend);
        let made = made.map_err(|error| AdmissionError::Compile {
            reason: fault::clipped(format!("{error:#}")),
        })?;
        // Another thread may have made one too; the first is kept.
        Ok(self.large.get_or_init(|| Arc::new(made)).clone())
    }

    /// Returns the standard policy, in force for tenants without another one.
    pub fn standard(&self) -> &Arc<Policy> {
        &self.standard
    }

    /// Returns the bytes of the standard policy's component.
    pub fn standard_bytes() -> &'static [u8] {
        standard::COMPONENT
    }

    /// Inspects and hashes a component, without compiling it.
    ///
    /// # Errors
    /// [`AdmissionError`], with what is valid.
    pub fn inspect(
        bytes: impl Into<Arc<[u8]>>,
        profile: Profile,
    ) -> Result<Inspected, AdmissionError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        Inspected::new(bytes, digest, profile)
    }

    /// Compiles, tests and loads a component. A component that is loaded already is tested only,
    /// and keeps its profile. Blocks for this compilation and those queued before it.
    ///
    /// # Errors
    /// [`AdmissionError`], with what is valid.
    pub fn examine(&self, inspected: Inspected) -> Result<Admitted, AdmissionError> {
        let Inspected { bytes, digest, world, profile } = inspected;
        let size_bytes = bytes.len();
        let (profile, self_test, compile_ms) = match self.get(digest) {
            Some(policy) => {
                let self_test = selftest::run(&policy).map_err(AdmissionError::SelfTest)?;
                (policy.profile(), self_test, 0)
            }
            None => {
                let (self_test, compile_ms) = self.compile_and_test(profile, digest, &bytes)?;
                (profile, self_test, compile_ms)
            }
        };
        Ok(Admitted { digest, world, profile, size_bytes, self_test, compile_ms })
    }

    /// Inspects and examines a component under the bounds of profile compact; see
    /// [`PolicyHost::admit_in`].
    ///
    /// # Errors
    /// [`AdmissionError`], with what is valid.
    pub fn admit(&self, bytes: &[u8]) -> Result<Admitted, AdmissionError> {
        self.admit_in(Profile::Compact, bytes)
    }

    /// Inspects and examines a component. A component that is loaded already keeps its profile.
    ///
    /// # Errors
    /// [`AdmissionError`], with what is valid.
    pub fn admit_in(&self, profile: Profile, bytes: &[u8]) -> Result<Admitted, AdmissionError> {
        let digest = Digest::of(bytes);
        let profile = self.get(digest).map_or(profile, |policy| policy.profile());
        self.examine(Inspected::new(bytes.into(), digest, profile)?)
    }

    fn compile_and_test(
        &self,
        profile: Profile,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(SelfTest, u64), AdmissionError> {
        let runtime = self.runtime(profile)?;
        let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let start = clock::boottime_ns();
        let policy = match &self.compiler {
            Some(program) => self.compile_elsewhere(program, &runtime, digest, bytes)?,
            None => {
                let compiled = compile(&runtime, digest, bytes, Some(&self.standard))?;
                self.cache.put(digest, &compiled.component);
                compiled.policy
            }
        };
        let ms = clock::boottime_ns().saturating_sub(start) / 1_000_000;
        let self_test = selftest::run(&policy).map_err(|error| {
            self.cache.remove(digest);
            AdmissionError::SelfTest(error)
        })?;
        self.keep(policy);
        Ok((self_test, ms))
    }

    /// Compiles in a child process, and loads the artifact that it left in the cache.
    fn compile_elsewhere(
        &self,
        program: &Path,
        runtime: &Arc<Runtime>,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Arc<Policy>, AdmissionError> {
        compiler::compile_elsewhere(program, self.cache.folder(), runtime.profile(), bytes)?;
        let compiled = from_cache(runtime, &self.cache, digest, Some(&self.standard));
        let reason = || "the compiled artifact can't be loaded".to_owned();
        compiled.map(Arc::new).ok_or_else(|| AdmissionError::Compile { reason: reason() })
    }

    /// Loads a component that was admitted before, such as at a start: from the cache, or by
    /// inspecting, compiling and testing it again.
    ///
    /// # Errors
    /// [`AdmissionError`] if the bytes do not have this digest, or this version no longer admits
    /// them.
    pub fn load(
        &self,
        profile: Profile,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Arc<Policy>, AdmissionError> {
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
        self.examine(Inspected::new(bytes.into(), digest, profile)?)?;
        self.get(digest).ok_or(AdmissionError::Compile {
            reason: "it was unloaded meanwhile; try again".into(),
        })
    }

    /// Returns a loaded policy; none if it is not loaded.
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
}

fn compile(
    runtime: &Arc<Runtime>,
    digest: Digest,
    bytes: &[u8],
    standard: Option<&Arc<Policy>>,
) -> Result<Compiled, AdmissionError> {
    let refused = |error: wasmtime::Error| AdmissionError::Compile {
        reason: fault::clipped(format!("{error:#}")),
    };
    let component = runtime.compile(bytes).map_err(refused)?;
    let policy = Policy::new(digest, Arc::clone(runtime), &component, standard).map_err(refused)?;
    Ok(Compiled { policy: Arc::new(policy), component })
}

fn from_cache(
    runtime: &Arc<Runtime>,
    cache: &Cache,
    digest: Digest,
    standard: Option<&Arc<Policy>>,
) -> Option<Policy> {
    let component: Component = cache.get(runtime.engine(), digest)?;
    Policy::new(digest, Arc::clone(runtime), &component, standard).ok()
}
