//! The budget of one call.

use super::metering::Request;
use super::profile::Bounds;
use crate::limits::policy as limits;
use crate::mutants::money::Mutant;

/// The fuel, bytes of answer and ticks of wall clock that one call may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) fuel: u64,
    pub(super) answer_bytes: usize,
    pub(super) ticks: u64,
}

impl Budget {
    /// Budget of an accounting call with this many items.
    pub(super) fn accounting(items: usize) -> Self {
        let fuel =
            limits::FUEL_PER_ITEM.saturating_mul(items as u64).saturating_add(limits::FUEL_BASE);
        let answer_bytes =
            limits::ANSWER_BYTES_BASE + limits::ANSWER_BYTES_PER_ITEM.saturating_mul(items);
        Self { fuel, answer_bytes, ticks: limits::DEADLINE_TICKS }
    }

    /// Budget of a description: as much as of measuring nothing.
    pub(super) fn describing(bounds: &Bounds) -> Self {
        let answer_bytes = limits::METERING_ANSWER_BYTES_BASE;
        Self { fuel: bounds.metering_fuel.base, answer_bytes, ticks: bounds.deadline_ticks }
    }

    /// Budget of measuring a request, which grows with the size of the request.
    pub(super) fn metering(bounds: &Bounds, request: &Request) -> Self {
        let fuel = &bounds.metering_fuel;
        let columns = &request.intervals;
        let intervals = columns.phase.len();
        let values = intervals.saturating_mul(columns.dimensions.len() + columns.counts.len());
        let tags: usize = request.subjects.iter().map(|subject| subject.tags.len()).sum();
        let parts = [
            (fuel.per_interval, intervals),
            (fuel.per_value, values),
            (fuel.per_subject, request.subjects.len()),
            (fuel.per_setting, request.options.len().saturating_add(tags)),
        ];
        let counted = if Mutant::BudgetByIntervals.is_active() { 1 } else { parts.len() };
        let describing = Self::describing(bounds);
        let add = |sum: u64, (each, count): (u64, usize)| {
            sum.saturating_add(each.saturating_mul(count as u64))
        };
        let answer_bytes = limits::METERING_ANSWER_BYTES_PER_INTERVAL.saturating_mul(intervals);
        Self {
            fuel: parts.into_iter().take(counted).fold(describing.fuel, add),
            answer_bytes: describing.answer_bytes.saturating_add(answer_bytes),
            ..describing
        }
    }
}
