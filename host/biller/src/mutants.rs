//! Faults that tests plant, to show that they are found.
//!
//! Outside of tests and without the feature `mutants` no fault is ever active, and every query for
//! one is a constant `false`.

/// Declares `Mutant`, a crate's planted faults, and which one the current thread has.
///
/// The feature `mutants`, and whether it is a test, are those of the crate that calls the macro.
#[macro_export]
macro_rules! planted_faults {
    ($($(#[$doc:meta])+ $fault:ident,)+) => {
        /// A fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])+ $fault,)+
        }

        impl Mutant {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$fault),+];

            /// Returns whether this thread has the fault.
            #[cfg(any(test, feature = "mutants"))]
            pub(crate) fn is_active(self) -> bool {
                ACTIVE.get() == Some(self)
            }

            #[cfg(not(any(test, feature = "mutants")))]
            pub(crate) const fn is_active(self) -> bool {
                false
            }

            /// Calls `call` with the fault in everything that this thread does.
            #[cfg(any(test, feature = "mutants"))]
            pub fn during<T>(self, call: impl FnOnce() -> T) -> T {
                let before = ACTIVE.replace(Some(self));
                let result = call();
                ACTIVE.set(before);
                result
            }
        }

        #[cfg(any(test, feature = "mutants"))]
        ::std::thread_local! {
            static ACTIVE: ::std::cell::Cell<Option<Mutant>> =
                const { ::std::cell::Cell::new(None) };
        }
    };
}

planted_faults! {
    /// All units of a volume cost what they would cost at the last price.
    VolumesAtLastPrice,
    /// A tenant's tiers are filled instance by instance, not instant by instant.
    TiersByInstance,
    /// Counters begin anew with each book.
    CountersByBook,
    /// Counters begin anew with each change of policy.
    CountersByPolicy,
    /// Counters that are never reset begin anew with each period.
    CountersByPeriod,
    /// Stretches end with each change of policy.
    StretchesByPolicy,
    /// Stretches end with each period.
    StretchesByPeriod,
    /// Minimums and caps are applied to each book separately.
    AdjustmentsByBook,
    /// Minimums and caps are not prorated.
    AmountsWhole,
    /// Adjustments look at the charges of all time, not at those of their span.
    SpansIgnored,
    /// A minimum's raise is no charge that later adjustments see.
    RaisesUnseen,
    /// Credits pay charges outside of their `from` and `until`.
    CreditsAlways,
    /// Credits are full again with each period.
    CreditsByPeriod,
    /// Credits are full again with each change of book or policy.
    CreditsBySwap,
    /// Time is rounded down where it should be rounded up.
    GranularityDown,
    /// Time before the first book is charged by it.
    FirstBookReachesBack,
    /// Planned books don't replace the last one.
    PlannedForgotten,
    /// Prices and windows ignore changes of the calendar's offset.
    CalendarNeverSet,
    /// Each look for a price walks over all prices and windows before it.
    PricesWalked,
}
