//! Histograms of durations: counted without a lock, read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets in nanoseconds, ascending; what is longer is in none of them.
pub const BOUNDS_NS: [u64; 17] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// Durations, by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_NS.len()],
    count: AtomicU64,
    sum_ns: AtomicU64,
}

/// A histogram as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    /// The number of durations up to each bound.
    pub up_to: [u64; BOUNDS_NS.len()],
    /// The number of all durations.
    pub count: u64,
    /// Their sum in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, duration_ns: u64) {
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < duration_ns);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(duration_ns, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the buckets. What is counted meanwhile may be in some of the figures; the number of
    /// all is never less than that of a bucket.
    pub fn read(&self) -> Distribution {
        let mut up_to = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        for at in 1..up_to.len() {
            up_to[at] += up_to[at - 1];
        }
        let most = up_to[up_to.len() - 1];
        let count = self.count.load(Ordering::Relaxed).max(most);
        Distribution { up_to, count, sum_ns: self.sum_ns.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_each_bucket_from_its_own_on() {
        let histogram = Histogram::default();
        for ns in [0, 100_000, 100_001, 60_000_000_000, 60_000_000_001] {
            histogram.record(ns);
        }
        let Distribution { up_to, count, sum_ns } = histogram.read();
        assert_eq!((up_to[0], up_to[1], up_to[15], up_to[16]), (2, 3, 3, 4));
        assert_eq!((count, sum_ns), (5, 120_000_200_002));
    }
}
