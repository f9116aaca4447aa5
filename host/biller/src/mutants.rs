//! Faults that the biller once had, put back so that tests can show that they are found.
//!
//! Without the feature `mutants` no fault is ever active, and every query for one is a constant
//! `false`.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
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
}

impl Mutant {
    /// Every fault.
    pub const ALL: [Self; 18] = [
        Self::VolumesAtLastPrice,
        Self::TiersByInstance,
        Self::CountersByBook,
        Self::CountersByPolicy,
        Self::CountersByPeriod,
        Self::StretchesByPolicy,
        Self::StretchesByPeriod,
        Self::AdjustmentsByBook,
        Self::AmountsWhole,
        Self::SpansIgnored,
        Self::RaisesUnseen,
        Self::CreditsAlways,
        Self::CreditsByPeriod,
        Self::CreditsBySwap,
        Self::GranularityDown,
        Self::FirstBookReachesBack,
        Self::PlannedForgotten,
        Self::CalendarNeverSet,
    ];

    /// Returns whether bills of this thread have the fault.
    #[cfg(feature = "mutants")]
    pub(crate) fn is_active(self) -> bool {
        ACTIVE.get() == Some(self)
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) const fn is_active(self) -> bool {
        false
    }

    /// Calls `call` with the fault in all bills of this thread.
    #[cfg(feature = "mutants")]
    pub fn during<T>(self, call: impl FnOnce() -> T) -> T {
        let before = ACTIVE.replace(Some(self));
        let result = call();
        ACTIVE.set(before);
        result
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}
