//! The standard policy, and the library that other policies are written with.
//!
//! A policy decides under which phase time counts, and for which meters. It is a type that
//! implements [`Policy`]; every method has a default, and the defaults together are the standard
//! policy. The module [`metering`] shows a tariff.
//!
//! ```
//! use guest_tracker::{Phase, Policy};
//!
//! /// Boot time counts like running time.
//! struct BootCounts;
//!
//! impl Policy for BootCounts {
//!     fn counts_as(phase: Phase) -> Phase {
//!         match phase {
//!             Phase::Initializing => Phase::Running,
//!             other => other,
//!         }
//!     }
//! }
//!
//! guest_tracker::policy!(BootCounts);
//! ```
//!
//! Put that into a crate of type `cdylib` in `policies/`, and the next build leaves
//! `target/policies/<name>.wasm` beside the standard one. `counts_as` must be pure: the same phase
//! always counts as the same phase, or batched calls and single ones would differ.
//!
//! The logic works on the types of the contract (`wit/`) themselves, so the tests of this crate run
//! it natively and other tests run the same rows through the finished component.

mod columns;
#[cfg(target_arch = "wasm32")]
mod heap;
pub mod metering;
#[cfg(test)]
mod properties;
mod tracker;

/// The contract's types and traits, generated from `wit/`.
#[allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "policy",
        pub_export_macro: true,
        additional_derives: [PartialEq, Eq],
    });
}

use std::marker::PhantomData;

pub use bindings::exports::tallyman::policy::accounting::AccountingError;
pub use bindings::exports::tallyman::policy::metering::{
    Column, Description, IntervalColumns, IntervalRange, Measurement, MeterDescription, MeterTerms,
    MeteringError, OptionDescription, OptionKind, OwnLine, Request, Rounding, Stretch, Subject,
};
pub use bindings::tallyman::policy::types::{
    Instant, Phase, Setting, Span, Totals, TotalsColumns, Tracker, TrackerColumns, U128Words,
};

#[cfg(target_arch = "wasm32")]
pub use heap::Heap;

use metering::{Options, Plan};

/// The ordinal that stands for "no phase" in columns.
pub const NO_PHASE: u8 = 255;

/// The rules of a tenant.
pub trait Policy {
    /// Most that lines of the policy's own may bill, in thousandths of a line's quantity; with
    /// 1,000, no more than was used.
    const BILLED_RATIO: u32 = 1_000;

    /// The phase under which time in `phase` counts. A pure function.
    fn counts_as(phase: Phase) -> Phase {
        phase
    }

    /// The meters, under these options. Without options it must not fail; see
    /// [`metering::Options`].
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] for a value that makes no sense.
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        metering::standard::plan::<Self>(options)
    }

    /// Measures a request. By default by the plan alone: by phases, without lines of its own.
    ///
    /// # Errors
    /// [`MeteringError`] with the reason, for the policy's author to read.
    fn measure(plan: &Plan, request: &Request) -> Result<Measurement, MeteringError> {
        plan.measure(request)
    }
}

/// The standard policy: every phase counts as itself.
#[derive(Debug)]
pub struct Standard;

impl Policy for Standard {}

/// A policy's functions as the contract names them.
#[derive(Debug)]
pub struct Component<P>(PhantomData<P>);

impl<P: Policy> bindings::exports::tallyman::policy::accounting::Guest for Component<P> {
    fn enter(state: Tracker, to: Phase, at: Instant) -> Result<Tracker, AccountingError> {
        tracker::enter(state, P::counts_as(to), at)
    }

    fn snapshot(state: Tracker, at: Instant) -> Result<Totals, AccountingError> {
        tracker::snapshot(state, at)
    }

    fn enter_all(
        states: TrackerColumns,
        to: Vec<u8>,
        at: Vec<Instant>,
    ) -> Result<TrackerColumns, AccountingError> {
        columns::enter_all::<P>(states, &to, at)
    }

    fn snapshot_all(states: TrackerColumns, at: Instant) -> Result<TotalsColumns, AccountingError> {
        columns::snapshot_all(states, at)
    }
}

impl<P: Policy> bindings::exports::tallyman::policy::metering::Guest for Component<P> {
    fn describe() -> Description {
        let mut options = Options::of(&[]);
        // A plan that fails without options declares no meters, which the host refuses.
        let meters = P::plan(&mut options).map(|plan| plan.describe()).unwrap_or_default();
        Description {
            meters,
            options: options.finish().unwrap_or_default(),
            billed_ratio: P::BILLED_RATIO,
        }
    }

    fn measure(request: Request) -> Result<Measurement, MeteringError> {
        let mut options = Options::of(&request.options);
        let plan = P::plan(&mut options)?;
        options.finish()?;
        P::measure(&plan, &request)
    }
}

/// Makes the crate a component that runs the given [`Policy`], with an allocator for an instance
/// that serves one call. Outside WebAssembly it does nothing.
#[macro_export]
macro_rules! policy {
    ($policy:ident) => {
        #[cfg(target_arch = "wasm32")]
        mod component {
            #[global_allocator]
            static HEAP: $crate::Heap = $crate::Heap::new();
            type Component = $crate::Component<super::$policy>;
            $crate::bindings::export!(Component with_types_in $crate::bindings);
        }
    };
}
