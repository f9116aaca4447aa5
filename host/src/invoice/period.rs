//! Periods of a tenant on the meter clock, one after the other from its first fact on.

use super::InvoiceError;
use super::document::Invoice;
use crate::billing::agreement::Agreement;
use crate::billing::calendar::Calendar;
use crate::units::Instant;

/// A period, from border to border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// First instant on the meter clock.
    pub start: Instant,
    /// First instant after.
    pub end: Instant,
    /// First instant of a usual period that ends with this one. It lies before `start` where the
    /// agreement began inside of one of its own periods.
    pub usual_start: Instant,
    /// The borders by the calendar, in nanoseconds since 1970 in UTC.
    pub utc_ns: (i64, i64),
    /// The agreement that cut it.
    pub agreement: Agreement,
}

/// An agreement and the first instant at which it cuts periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreementFrom {
    /// A border on the meter clock.
    pub from: Instant,
    /// The agreement.
    pub agreement: Agreement,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// Half a day, in nanoseconds. Two borders of one agreement are further apart, and no news of a
/// zone moves one further.
const NEAR_NS: i64 = 43_200_000_000_000;

/// The inputs that decide a tenant's borders.
#[derive(Debug)]
pub(super) struct Cuts<'a> {
    /// The tenant's agreements in the order of their facts; of two for one instant the later holds.
    pub(super) agreements: &'a [AgreementFrom],
    /// The offset of UTC from the meter clock.
    pub(super) calendar: &'a Calendar,
    /// The tenant's documents: the first one that reaches a border fixes its instant.
    pub(super) documents: Vec<&'a Invoice>,
}

impl Cuts<'_> {
    /// The periods from the one that holds `first` up to the one that holds `last`, in order.
    ///
    /// # Errors
    /// [`InvoiceError::Agreement`] outside the calendar.
    pub(super) fn periods(
        &self,
        first: Instant,
        last: Instant,
    ) -> Result<Vec<Period>, InvoiceError> {
        let mut period = self.first(first)?;
        // A clock that was set back shows instants again: the border was at the first of them.
        while period.end <= first {
            period = self.next(&period)?;
        }
        let mut periods = vec![period];
        while let Some(period) = periods.last().filter(|period| period.end <= last) {
            periods.push(self.next(period)?);
        }
        Ok(periods)
    }

    fn first(&self, at: Instant) -> Result<Period, InvoiceError> {
        let agreement = self.agreement(at);
        let holds = |document: &&&Invoice| {
            document.period.from_ns <= at.0 && at.0 < document.period.until_ns
        };
        if let Some(document) = self.documents.iter().find(holds) {
            let start = Instant(document.period.from_ns);
            return Ok(self.up_to_border((start, start), document.borders_utc_ns, agreement));
        }
        let utc_ns = agreement.around(self.calendar.utc_ns(at))?;
        // The wall clock may have been stepped since: the period holds its first fact in any case.
        let start = self.calendar.meter(utc_ns.0).min(at);
        Ok(self.up_to_border((start, start), utc_ns, agreement))
    }

    fn next(&self, period: &Period) -> Result<Period, InvoiceError> {
        let agreement = self.agreement(period.end);
        let start = period.utc_ns.1;
        let (own_start, mut end) = agreement.around(start)?;
        let mut missing = start.saturating_sub(own_start);
        if agreement == period.agreement && missing != 0 {
            // News of the zone has moved a border that a document has fixed.
            (_, end) = agreement.around(start.saturating_add(NEAR_NS))?;
            missing = 0;
        }
        let usual_start = Instant(period.end.0.saturating_sub(missing));
        Ok(self.up_to_border((usual_start, period.end), (start, end), agreement))
    }

    /// The period from `start` to its border, at least 1 ns long even if the clock was stepped.
    fn up_to_border(
        &self,
        (usual_start, start): (Instant, Instant),
        utc_ns: (i64, i64),
        agreement: Agreement,
    ) -> Period {
        let (end, end_utc_ns) = self.border(start, utc_ns.1);
        let end = end.max(Instant(start.0.saturating_add(1)));
        Period { start, end, usual_start, utc_ns: (utc_ns.0, end_utc_ns), agreement }
    }

    /// The border that ends the period from `start` on: its meter instant, and the one of the
    /// calendar. The first document that reached it has fixed both, whatever became known of the
    /// clock or the zone since; without one, the calendar tells the meter instant.
    fn border(&self, start: Instant, utc_ns: i64) -> (Instant, i64) {
        let fixed =
            self.documents.iter().flat_map(|one| one.borders()).filter(|(at, _)| *at > start);
        let near = fixed.filter(|(_, other)| other.abs_diff(utc_ns) < NEAR_NS.unsigned_abs());
        let nearest = near.min_by_key(|(_, other)| other.abs_diff(utc_ns));
        nearest.unwrap_or_else(|| (self.calendar.meter(utc_ns), utc_ns))
    }

    /// The agreement that cuts the period which begins at an instant, or holds it.
    pub(super) fn agreement(&self, at: Instant) -> Agreement {
        let in_force = self.agreements.iter().filter(|one| one.from <= at);
        in_force
            .max_by_key(|one| (one.from, one.fact))
            .map(|one| one.agreement.clone())
            .unwrap_or_default()
    }
}
