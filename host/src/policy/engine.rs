//! The engine that all policies share: its settings, its slots, and the ticks of the deadline.

use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter,
    Store, Strategy, WasmFeatures,
};

use super::budget::Budget;
use super::fault::{Exceeded, Fault};
use super::profile::{Bounds, Profile};
use super::slots::Slots;
use crate::limits::policy as limits;

/// Name and version of the engine, for receipts.
pub const ENGINE: &str = concat!("wasmtime ", env!("TALLYMAN_WASMTIME_VERSION"));

/// The features of WebAssembly that components may use, by name: an engine's defaults change from
/// version to version.
pub(super) const FEATURES: [(&str, WasmFeatures); 10] = [
    ("mutable-global", WasmFeatures::MUTABLE_GLOBAL),
    ("saturating-float-to-int", WasmFeatures::SATURATING_FLOAT_TO_INT),
    ("sign-extension", WasmFeatures::SIGN_EXTENSION),
    ("multi-value", WasmFeatures::MULTI_VALUE),
    ("bulk-memory", WasmFeatures::BULK_MEMORY),
    ("reference-types", WasmFeatures::REFERENCE_TYPES),
    ("simd", WasmFeatures::SIMD),
    ("extended-const", WasmFeatures::EXTENDED_CONST),
    ("tail-call", WasmFeatures::TAIL_CALL),
    ("component-model", WasmFeatures::COMPONENT_MODEL),
];

/// The engine of one profile, and a slot for each call that may be under way. A caller waits for
/// one: an error of an exhausted pool would look like a policy's fault. The wait is bounded by the
/// calls under way.
pub(super) struct Runtime {
    engine: Engine,
    slots: Slots,
    profile: Profile,
}

/// An answer, with the fuel that the call burned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// Fuel burned.
    pub fuel: u64,
}

/// A way to execute a component's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Native code, compiled for the processor.
    Native,
    /// The engine's own interpreter: slower, with the same answers.
    Interpreter,
    /// Native code in instances whose memory is copied when they begin, not mapped: the same
    /// answers for other fuel, as another version of the engine would take it.
    Copied,
}

impl Backend {
    /// Name and version of the engine with its settings, for receipts: one name, one count of fuel.
    pub fn engine(self) -> &'static str {
        match self {
            Backend::Native | Backend::Interpreter => ENGINE,
            Backend::Copied => {
                concat!("wasmtime ", env!("TALLYMAN_WASMTIME_VERSION"), ", memory copied")
            }
        }
    }
}

impl Runtime {
    pub(super) fn new(profile: Profile, backend: Backend) -> wasmtime::Result<Self> {
        let mut config = config(profile);
        match backend {
            Backend::Native => {}
            Backend::Interpreter => {
                config.target("pulley64")?;
            }
            Backend::Copied => {
                config.memory_init_cow(false);
            }
        }
        let engine = Engine::new(&config)?;
        start_ticking(&engine)?;
        Ok(Self { engine, slots: Slots::new(profile.bounds().instances_max), profile })
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    /// Compiles a component to an artifact, which only this engine takes, on any host with the same
    /// processor.
    pub(super) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
        self.engine.precompile_component(bytes)
    }

    /// Loads an artifact. It must be one that [`Runtime::compile`] of this user's program made: it
    /// is machine code. The engine itself refuses that of another version or of other settings.
    pub(super) fn load(&self, artifact: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the artifact comes from this program's own compiler, in this process or in a
        // child, or from the cache, which has authenticated it as such.
        unsafe { Component::deserialize(&self.engine, artifact) }
    }

    #[cfg(test)]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Prepares a component to be instantiated, without any imports.
    pub(super) fn prepare(&self, component: &Component) -> wasmtime::Result<InstancePre<Limiter>> {
        Linker::new(&self.engine).instantiate_pre(component)
    }

    /// Calls a fresh instance, which is dropped afterwards.
    pub(super) fn call<T>(
        &self,
        policy: &InstancePre<Limiter>,
        budget: Budget,
        ask: impl FnOnce(&mut Store<Limiter>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Fault> {
        self.call_within(self.profile.bounds(), policy, budget, ask)
    }

    /// Calls a fresh instance as [`Runtime::call`] does, within other bounds than the profile's.
    pub(super) fn call_within<T>(
        &self,
        bounds: &'static Bounds,
        policy: &InstancePre<Limiter>,
        budget: Budget,
        ask: impl FnOnce(&mut Store<Limiter>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Fault> {
        let _slot = self.slots.take();
        let mut store = Store::new(&self.engine, Limiter(bounds));
        let run = || -> wasmtime::Result<Answer<T>> {
            store.limiter(|limiter| limiter);
            store.set_fuel(budget.fuel)?;
            store.set_epoch_deadline(budget.ticks);
            store.set_hostcall_fuel(budget.answer_bytes);
            let instance = policy.instantiate(&mut store)?;
            let value = ask(&mut store, &instance)?;
            Ok(Answer { value, fuel: budget.fuel.saturating_sub(store.get_fuel()?) })
        };
        run().map_err(|error| Fault::of(&error, budget))
    }
}

/// The engine's settings. Each affects results, bounds or speed, as its comment says.
fn config(profile: Profile) -> Config {
    let allocation = match profile {
        Profile::Compact => InstanceAllocationStrategy::Pooling(pool(profile.bounds())),
        // Calls are rare and long: a pool of large slots would waste memory.
        Profile::Large => InstanceAllocationStrategy::OnDemand,
    };
    let mut config = Config::new();
    config
        // Results: another compiler charges fuel differently.
        .strategy(Strategy::Cranelift)
        // Speed: a small component is compiled by all processors; a large one takes seconds, and
        // leaves the other processors free.
        .parallel_compilation(profile == Profile::Compact)
        // Results: the same bytes on every host.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Bounds: fuel is the limit; the epoch is the backstop.
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(profile.bounds().stack_bytes_max)
        .wasm_backtrace_max_frames(NonZeroUsize::new(limits::BACKTRACE_FRAMES_MAX))
        .allocation_strategy(allocation)
        // Results and bounds: what one version admits, the next one does. One memory of 32 bits, so
        // that the pool's layout fits every component; no threads; no relaxed SIMD, which differs
        // between processors.
        .wasm_features(WasmFeatures::all(), false);
    for (_, feature) in FEATURES {
        config.wasm_features(feature, true);
    }
    // Not a proposal, but floating-point numbers at all.
    config.wasm_features(WasmFeatures::FLOATS, true);
    config
}

/// The settings of the pool. Memory reservation and guard keep their defaults: with less than 4 GiB
/// reserved the compiler checks every access, which doubles the cost of a batch.
fn pool(bounds: &Bounds) -> PoolingAllocationConfig {
    let slots = bounds.instances_max;
    let resident_bytes = match PoolingAllocationConfig::is_pagemap_scan_available() {
        true => limits::KEEP_RESIDENT_BYTES,
        false => limits::KEEP_RESIDENT_BLINDLY_BYTES,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * bounds.core_instances_max)
        .total_memories(slots)
        .total_tables(slots * bounds.tables_max)
        .max_memories_per_component(1)
        .max_core_instances_per_component(bounds.core_instances_max)
        .max_tables_per_component(bounds.tables_max)
        .max_memory_size(bounds.memory_bytes_max)
        .table_elements(bounds.table_elements_max)
        .linear_memory_keep_resident(resident_bytes)
        .table_keep_resident(bounds.table_elements_max * size_of::<usize>())
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(slots);
    pool
}

/// Starts a thread that counts epochs until the engine is dropped.
fn start_ticking(engine: &Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(Duration::from_millis(limits::TICK_MS));
        }
    };
    thread::Builder::new().name("policy-tick".into()).spawn(tick)?;
    Ok(())
}

/// A limiter whose refusals end the call: a guest that sees `memory.grow` fail could answer
/// differently under other limits.
#[derive(Debug)]
pub(super) struct Limiter(&'static Bounds);

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        wanted: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = self.0.memory_bytes_max;
        if wanted > allowed {
            return Err(Exceeded::Memory { wanted, allowed }.into());
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        wanted: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = self.0.table_elements_max;
        if wanted > allowed {
            return Err(Exceeded::Table { wanted, allowed }.into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.0.core_instances_max as usize
    }

    fn tables(&self) -> usize {
        self.0.tables_max as usize
    }

    fn memories(&self) -> usize {
        1
    }
}
