//! Durations of requests, by route and kind of answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::histogram::Histogram;

/// Route and kind of answer. There are as many as there are routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::api) struct Label {
    /// Method of the request.
    pub(super) method: String,
    /// Path of the route, with the names of its parameters.
    pub(super) route: String,
    /// First digit of the status.
    pub(super) class: u16,
}

/// Durations of all requests since the start.
#[derive(Debug, Default)]
pub(in crate::api) struct Latencies(Mutex<BTreeMap<Label, Arc<Histogram>>>);

impl Latencies {
    /// Adds a request that took so many nanoseconds.
    pub(super) fn record(&self, label: Label, duration_ns: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = known.entry(label).or_default().clone();
        drop(known);
        histogram.record(duration_ns);
    }

    /// Returns every histogram with its label.
    pub(super) fn all(&self) -> Vec<(Label, Arc<Histogram>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(label, histogram)| (label.clone(), histogram.clone())).collect()
    }
}
