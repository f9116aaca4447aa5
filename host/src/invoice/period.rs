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

/// The inputs that decide a tenant's borders.
#[derive(Debug)]
pub(super) struct Cuts<'a> {
    /// The tenant's agreements in the order of their facts; of two for one instant the later holds.
    pub(super) agreements: &'a [AgreementFrom],
    /// The offset of UTC from the meter clock.
    pub(super) calendar: &'a Calendar,
    /// The tenant's documents: the first one that reaches a border fixes its instant.
    pub(super) documents: &'a [Invoice],
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
        let mut periods = vec![self.first(first)?];
        while let Some(period) = periods.last().filter(|period| period.end <= last) {
            periods.push(self.next(period)?);
        }
        Ok(periods)
    }

    fn first(&self, at: Instant) -> Result<Period, InvoiceError> {
        let agreement = self.agreement(at);
        let utc_ns = agreement.around(self.calendar.utc_ns(at))?;
        // The wall clock may have been stepped since: the period holds its first fact in any case.
        let start = self.border(utc_ns.0).min(at);
        self.up_to_border(start, utc_ns, agreement)
    }

    fn next(&self, period: &Period) -> Result<Period, InvoiceError> {
        let agreement = self.agreement(period.end);
        let (_, end) = agreement.around(period.utc_ns.1)?;
        self.up_to_border(period.end, (period.utc_ns.1, end), agreement)
    }

    /// The period from `start` to its border, at least 1 ns long even if the clock was stepped.
    fn up_to_border(
        &self,
        start: Instant,
        utc_ns: (i64, i64),
        agreement: Agreement,
    ) -> Result<Period, InvoiceError> {
        let end = self.border(utc_ns.1).max(Instant(start.0.saturating_add(1)));
        Ok(Period { start, end, utc_ns, agreement })
    }

    /// The meter instant of a border: that of the first document that reached it, or by the
    /// calendar.
    fn border(&self, utc_ns: i64) -> Instant {
        let mut fixed = self.documents.iter().filter_map(|document| document.border(utc_ns));
        fixed.next().unwrap_or_else(|| self.calendar.meter(utc_ns))
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
