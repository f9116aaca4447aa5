//! A count of inner steps, which tests compare: it grows with the input, and no faster.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts one step; compiles to nothing outside of tests.
#[inline(always)]
pub(crate) fn count() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// The steps since the last call.
#[cfg(test)]
pub(crate) fn taken() -> u64 {
    STEPS.with(|steps| steps.replace(0))
}
