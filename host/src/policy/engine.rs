//! The engine that all policies share: its settings, its slots, and the ticks of the deadline.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter,
    Store, Strategy,
};

use super::budget::Budget;
use super::fault::{Exceeded, Fault};
use super::profile::{Bounds, Profile};
use crate::limits::policy as limits;

/// Name and version of the engine, for receipts.
pub const ENGINE: &str = concat!("wasmtime ", env!("TALLYMAN_WASMTIME_VERSION"));

/// The engine and slots of one profile.
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
}

impl Runtime {
    pub(super) fn new(profile: Profile, backend: Backend) -> wasmtime::Result<Self> {
        let mut config = config(profile);
        if backend == Backend::Interpreter {
            config.target("pulley64")?;
        }
        let engine = Engine::new(&config)?;
        start_ticking(&engine)?;
        Ok(Self { engine, slots: Slots::new(profile.bounds().instances_max), profile })
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    pub(super) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::from_binary(&self.engine, bytes)
    }

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
        .wasm_relaxed_simd(false)
        .relaxed_simd_deterministic(true)
        // Bounds: one small memory, so that the pool's layout fits every component.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        // Bounds: fuel is the limit; the epoch is the backstop.
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(profile.bounds().stack_bytes_max)
        .wasm_backtrace_max_frames(NonZeroUsize::new(limits::BACKTRACE_FRAMES_MAX))
        .allocation_strategy(allocation);
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

/// A semaphore with as many permits as the pool has slots. A caller waits for one: an error of an
/// exhausted pool would look like a policy's fault. The wait is bounded by the calls under way.
struct Slots {
    free: Mutex<u32>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(free: u32) -> Self {
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
