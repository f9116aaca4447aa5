//! Policies: components that decide how time counts, and for which meters. The only user of the
//! WebAssembly engine.
//!
//! - `admission` inspects a component before anything of it runs; `selftest` runs the golden
//!   vectors that every policy must pass;
//! - `profile` holds the bounds; `difference` lists the differences to another contract;
//!   `conformance` makes every check at once, without a daemon;
//! - `engine` enforces the bounds of a call; `component` makes the calls; `wire` checks the
//!   answers; `fault` defines the faults;
//! - `toolchain` knows the traps of languages;
//! - `metering` checks descriptions and measurements;
//! - `biller` runs the biller, the host's own component, in the same engine;
//! - `compiler` compiles in a bounded process, `compilations` holds who compiles what, and `cache`
//!   keeps compiled policies on disk;
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
mod compilations;
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
mod slots;
mod standard;
mod toolchain;
mod wire;
mod wit;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwap;
use wasmtime::component::Component;

pub use accounting::{Accounting, Occasion};
pub(crate) use admission::inspects;
pub use admission::{AdmissionError, Admitted, Inspected};
pub use bindings::tallyman::policy::types as contract;
pub use cache::{CacheError, CacheKey};
pub use compiler::{SUBCOMMAND as COMPILER, compile_for_daemon};
pub use component::{Policy, World};
pub use engine::{Answer, Backend, ENGINE};
pub use fault::{Exceeded, Fault, Refused};
pub use profile::{Bounds, MeteringFuel, Profile};
pub use selftest::{SelfTest, SelfTestError};
pub use standard::SHIPPED;
pub use toolchain::Toolchain;
pub use wit::CONTRACT;

use crate::clock;
use crate::id::Digest;
use cache::Cache;
use compilations::Compilations;
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

/// The parts that a policy host is opened with.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// Folder for compiled policies, which is created if it is missing; one for each backend.
    pub cache: &'a Path,
    /// Key that authenticates what is in the folder; none for the one that lies in the folder
    /// itself, which is made if it is missing.
    pub key: Option<CacheKey>,
    /// The way to execute components.
    pub backend: Backend,
    /// The program that compiles for [`Backend::Native`] in a bounded child process; it must
    /// dispatch the subcommand [`COMPILER`] to [`compile_for_daemon`]. None compiles in this
    /// process.
    pub compiler: Option<PathBuf>,
}

/// The policies that are loaded on this host, and the engine that runs them.
pub struct PolicyHost {
    compact: Arc<Runtime>,
    backend: Backend,
    /// The engine of profile large, made when a policy first needs it.
    large: OnceLock<Arc<Runtime>>,
    cache: Cache,
    compiler: Option<PathBuf>,
    standard: Arc<Policy>,
    loaded: ArcSwap<HashMap<Digest, Arc<Policy>>>,
    /// Profiles of policies that were admitted before, loaded or not.
    profiles: RwLock<HashMap<Digest, Profile>>,
    billers: Mutex<HashMap<Digest, Arc<biller::Biller>>>,
    compilations: Compilations,
}

impl PolicyHost {
    /// Starts the engine and loads the built-in standard policy, natively and without another
    /// process. `cache_dir` keeps compiled policies; it is created if missing.
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
        Self::open_as(Setup { cache: cache_dir, key: None, backend, compiler: None })
    }

    /// Starts the engine and loads the built-in standard policy. Blocks while that is compiled, if
    /// it is not in the cache.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_as(setup: Setup<'_>) -> Result<PolicyHost, OpenError> {
        let Setup { cache, key, backend, compiler } = setup;
        let cache = Cache::open(cache, key)?;
        let compact = Runtime::new(Profile::Compact, backend);
        let compact =
            Arc::new(compact.map_err(|error| OpenError::Engine { reason: format!("{error:#}") })?);
        let digest = Digest::of(standard::COMPONENT);
        let compilations = Compilations::new();
        let compiling =
            Compiling { cache: &cache, compiler: compiler.as_deref(), compilations: &compilations };
        let standard = compiling
            .admitted(&compact, digest, standard::COMPONENT, |component| {
                prepare(&compact, digest, component, None)
            })
            .map_err(OpenError::Standard)?;
        Ok(Self {
            loaded: ArcSwap::from_pointee(HashMap::from([(digest, Arc::clone(&standard))])),
            compact,
            backend,
            large: OnceLock::new(),
            cache,
            compiler,
            standard,
            profiles: RwLock::default(),
            billers: Mutex::default(),
            compilations,
        })
    }

    /// Returns the engine's name, its version, and its settings, for receipts.
    pub fn engine(&self) -> &'static str {
        self.backend.engine()
    }

    /// Returns the engine of a profile.
    fn runtime(&self, profile: Profile) -> Result<Arc<Runtime>, AdmissionError> {
        if profile == Profile::Compact {
            return Ok(self.compact.clone());
        }
        if let Some(large) = self.large.get() {
            return Ok(large.clone());
        }
        let made = Runtime::new(profile, self.backend).map_err(refused)?;
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
        let (policy, self_test, compile_ms) = self.compile_and_test(profile, digest, &bytes)?;
        let profile = policy.profile();
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
    ) -> Result<(Arc<Policy>, SelfTest, u64), AdmissionError> {
        let tested = |policy: &Policy| selftest::run(policy).map_err(AdmissionError::SelfTest);
        self.compilations.alone(digest, || {
            // Whoever came first has compiled it, in a profile of its own.
            if let Some(policy) = self.get(digest) {
                let self_test = tested(&policy)?;
                return Ok((policy, self_test, 0));
            }
            let start = clock::boottime_ns();
            let runtime = self.runtime(profile)?;
            let test = |component: &Component| {
                let policy = prepare(&runtime, digest, component, Some(&self.standard))?;
                let ms = clock::boottime_ns().saturating_sub(start) / 1_000_000;
                let self_test = tested(&policy)?;
                Ok((policy, self_test, ms))
            };
            let admitted = self.compiling().admitted(&runtime, digest, bytes, test);
            let (policy, self_test, ms) = admitted?;
            Ok((self.keep(policy), self_test, ms))
        })
    }

    fn compiling(&self) -> Compiling<'_> {
        Compiling {
            cache: &self.cache,
            compiler: self.compiler.as_deref(),
            compilations: &self.compilations,
        }
    }

    /// Notes the profile of a policy that was admitted before, for whoever loads it.
    pub fn expect(&self, digest: Digest, profile: Profile) {
        let mut profiles = self.profiles.write().unwrap_or_else(PoisonError::into_inner);
        profiles.insert(digest, profile);
    }

    /// Loads a component that was admitted before, if it lies compiled in the cache. Returns
    /// whether it is loaded.
    pub fn load_compiled(&self, profile: Profile, digest: Digest) -> bool {
        if self.get(digest).is_some() {
            return true;
        }
        let Ok(runtime) = self.runtime(profile) else { return false };
        let Some(component) = self.compiling().known(&runtime, digest) else { return false };
        let policy = prepare(&runtime, digest, &component, Some(&self.standard));
        policy.map(|policy| self.keep(policy)).is_ok()
    }

    /// Loads a component that was admitted before: from the cache, or by inspecting, compiling and
    /// testing it again. Its profile is the one that is expected, or `profile`.
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
        let profiles = self.profiles.read().unwrap_or_else(PoisonError::into_inner);
        let profile = profiles.get(&digest).copied().unwrap_or(profile);
        drop(profiles);
        if !self.load_compiled(profile, digest) {
            self.examine(Inspected::new(bytes.into(), digest, profile)?)?;
        }
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

/// The parts that compile components.
#[derive(Clone, Copy)]
struct Compiling<'a> {
    cache: &'a Cache,
    compiler: Option<&'a Path>,
    compilations: &'a Compilations,
}

impl Compiling<'_> {
    /// Returns a component from the cache; none if it is not there, or from another engine.
    fn known(&self, runtime: &Runtime, digest: Digest) -> Option<Component> {
        let artifact = self.cache.get(digest)?;
        let loaded = runtime.load(&artifact);
        loaded
            .inspect_err(
                |why| tracing::info!(policy = %digest, %why, "compiling a policy for this engine"),
            )
            .ok()
    }

    /// Admits a component from the cache, or compiles it and admits it then. Blocks for this
    /// compilation.
    fn admitted<T>(
        &self,
        runtime: &Runtime,
        digest: Digest,
        bytes: &[u8],
        admit: impl FnOnce(&Component) -> Result<T, AdmissionError>,
    ) -> Result<T, AdmissionError> {
        if let Some(component) = self.known(runtime, digest) {
            return admit(&component).inspect_err(|_| self.cache.remove(digest));
        }
        let profile = runtime.profile();
        let place = self.compilations.place(profile);
        let artifact = match self.compiler {
            Some(program) => compiler::compile_elsewhere(program, profile, bytes)?,
            None => runtime.compile(bytes).map_err(refused)?,
        };
        drop(place);
        let admitted = admit(&runtime.load(&artifact).map_err(refused)?)?;
        // Not before: what lies in the cache was admitted, for whoever finds it.
        self.cache.put(digest, &artifact);
        Ok(admitted)
    }
}

fn refused(error: wasmtime::Error) -> AdmissionError {
    AdmissionError::Compile { reason: fault::clipped(format!("{error:#}")) }
}

/// Prepares a policy for calls.
fn prepare(
    runtime: &Arc<Runtime>,
    digest: Digest,
    component: &Component,
    standard: Option<&Arc<Policy>>,
) -> Result<Arc<Policy>, AdmissionError> {
    let policy = Policy::new(digest, Arc::clone(runtime), component, standard);
    policy.map(Arc::new).map_err(refused)
}
