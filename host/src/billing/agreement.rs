//! Agreements: the cut of a tenant's time into periods, by the local calendar of a zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span as Length, Timestamp};

use super::zones;

/// The kind of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cycle {
    /// A calendar month that begins on the anchor day.
    Month,
    /// A local day.
    Day,
}

/// The cut of a tenant's time into periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// IANA name of the zone whose local days count, such as `Europe/Berlin`.
    pub zone: String,
    /// The kind of a period.
    pub cycle: Cycle,
    /// Day of the month on which a month begins, 1 to 31; the last day of a month that is shorter.
    pub anchor_day: u8,
}

/// A reason why an agreement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// There is no such zone.
    #[error("zone: '{0}' is not in the IANA database; write it like Europe/Berlin")]
    Zone(String),
    /// The day is not one of a month.
    #[error("anchor_day: {0} is not a day of a month; valid are 1 to 31")]
    AnchorDay(u8),
    /// The calendar ends before the period does.
    #[error("the calendar can't show an instant of this period; valid are the years 1970 to 2200")]
    Calendar,
}

impl Default for Agreement {
    fn default() -> Self {
        Self { zone: "UTC".into(), cycle: Cycle::Month, anchor_day: 1 }
    }
}

impl Agreement {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`AgreementError`], with what is valid.
    pub fn check(&self) -> Result<(), AgreementError> {
        if !(1..=31).contains(&self.anchor_day) {
            return Err(AgreementError::AnchorDay(self.anchor_day));
        }
        self.time_zone().map(drop)
    }

    /// The borders around an instant of the calendar: the last at or before it, and the one after.
    /// All three are nanoseconds since 1970 in UTC.
    ///
    /// # Errors
    /// [`AgreementError`] outside the calendar.
    pub fn around(&self, utc_ns: i64) -> Result<(i64, i64), AgreementError> {
        let zone = self.time_zone()?;
        let at = Timestamp::from_nanosecond(utc_ns.into()).map_err(|_| AgreementError::Calendar)?;
        let mut date = self.first_day(zone.to_datetime(at).date())?;
        let mut start = first_instant(&zone, date)?;
        // A local day may begin after the instant that the clock calls by its date.
        if start > utc_ns {
            date = self.first_day(date.yesterday().map_err(|_| AgreementError::Calendar)?)?;
            start = first_instant(&zone, date)?;
        }
        let mut end = first_instant(&zone, self.next_day(date)?)?;
        // A day that a zone skipped as a whole has no length; the period goes on with the next.
        while end <= utc_ns {
            date = self.next_day(date)?;
            start = end;
            end = first_instant(&zone, self.next_day(date)?)?;
        }
        Ok((start, end))
    }

    fn time_zone(&self) -> Result<TimeZone, AgreementError> {
        zones::zone(&self.zone).ok_or_else(|| AgreementError::Zone(crate::id::clipped(&self.zone)))
    }

    /// The first day of the period that holds a local day.
    fn first_day(&self, date: Date) -> Result<Date, AgreementError> {
        match self.cycle {
            Cycle::Day => Ok(date),
            Cycle::Month => {
                let here = self.anchored(date);
                if here <= date {
                    return Ok(here);
                }
                let before = date.first_of_month().yesterday();
                Ok(self.anchored(before.map_err(|_| AgreementError::Calendar)?))
            }
        }
    }

    /// The first day of the period after the one that begins on `date`.
    fn next_day(&self, date: Date) -> Result<Date, AgreementError> {
        let next = match self.cycle {
            Cycle::Day => date.tomorrow(),
            Cycle::Month => date.first_of_month().checked_add(Length::new().months(1)),
        };
        let next = next.map_err(|_| AgreementError::Calendar)?;
        Ok(if self.cycle == Cycle::Month { self.anchored(next) } else { next })
    }

    /// The anchor day in the month of `date`.
    fn anchored(&self, date: Date) -> Date {
        let last = date.days_in_month();
        let day = i8::try_from(self.anchor_day).unwrap_or(last).clamp(1, last);
        date.with().day(day).build().unwrap_or(date)
    }
}

/// The local day of an instant of the calendar, such as `2026-11-30`.
///
/// # Errors
/// [`AgreementError`] outside the calendar.
pub fn local_date(zone: &str, utc_ns: i64) -> Result<String, AgreementError> {
    let known = zones::zone(zone);
    let zone = known.ok_or_else(|| AgreementError::Zone(crate::id::clipped(zone)))?;
    let at = Timestamp::from_nanosecond(utc_ns.into()).map_err(|_| AgreementError::Calendar)?;
    Ok(zone.to_datetime(at).date().to_string())
}

/// The first instant of a local day, in UTC: midnight, or the first one after a midnight that a
/// change of the clocks skips. Where midnight comes twice, the first.
fn first_instant(zone: &TimeZone, date: Date) -> Result<i64, AgreementError> {
    let midnight = date.at(0, 0, 0, 0);
    let ambiguous = zone.to_ambiguous_timestamp(midnight);
    let at = match ambiguous.offset() {
        jiff::tz::AmbiguousOffset::Unambiguous { .. } => ambiguous.compatible(),
        jiff::tz::AmbiguousOffset::Fold { .. } => ambiguous.earlier(),
        // The gap ends where the later reading of midnight falls before the change: ask the zone.
        jiff::tz::AmbiguousOffset::Gap { before, .. } => {
            let skipped = before.to_timestamp(midnight).map_err(|_| AgreementError::Calendar)?;
            let change = zone.preceding(skipped + Length::new().nanoseconds(1)).next();
            Ok(change.map_or(skipped, |change| change.timestamp()))
        }
    };
    let at = at.map_err(|_| AgreementError::Calendar)?;
    i64::try_from(at.as_nanosecond()).map_err(|_| AgreementError::Calendar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(text: &str) -> i64 {
        let at: Timestamp = text.parse().expect("an instant");
        i64::try_from(at.as_nanosecond()).expect("this era")
    }

    fn agreement(zone: &str, cycle: Cycle, anchor_day: u8) -> Agreement {
        Agreement { zone: zone.into(), cycle, anchor_day }
    }

    #[test]
    fn borders_are_those_of_the_local_calendar() {
        let rows = [
            (
                "UTC",
                Cycle::Month,
                1,
                "2026-11-30T12:00:00Z",
                "2026-11-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
            (
                "UTC",
                Cycle::Month,
                31,
                "2026-02-15T00:00:00Z",
                "2026-01-31T00:00:00Z",
                "2026-02-28T00:00:00Z",
            ),
            (
                "UTC",
                Cycle::Month,
                31,
                "2026-02-28T00:00:00Z",
                "2026-02-28T00:00:00Z",
                "2026-03-31T00:00:00Z",
            ),
            (
                "Europe/Berlin",
                Cycle::Month,
                1,
                "2026-03-31T21:59:59Z",
                "2026-02-28T23:00:00Z",
                "2026-03-31T22:00:00Z",
            ),
            (
                "Europe/Berlin",
                Cycle::Day,
                1,
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            // Midnight of 6 September 2026 is skipped in Santiago.
            (
                "America/Santiago",
                Cycle::Day,
                1,
                "2026-09-06T12:00:00Z",
                "2026-09-06T04:00:00Z",
                "2026-09-07T03:00:00Z",
            ),
            // Midnight of 2 November 2025 came twice in Havana.
            (
                "America/Havana",
                Cycle::Day,
                1,
                "2025-11-02T04:30:00Z",
                "2025-11-02T04:00:00Z",
                "2025-11-03T05:00:00Z",
            ),
        ];
        for (zone, cycle, anchor, at, start, end) in rows {
            let found = agreement(zone, cycle, anchor).around(utc(at)).expect("a period");
            assert_eq!(found, (utc(start), utc(end)), "{zone} {at}");
        }
    }

    #[test]
    fn what_is_no_agreement_is_refused_with_what_is_valid() {
        let rows = [
            agreement("Berlin", Cycle::Month, 1),
            agreement("UTC", Cycle::Month, 0),
            agreement("UTC", Cycle::Day, 32),
        ];
        for row in rows {
            let error = row.check().expect_err("refused").to_string();
            assert!(error.contains("valid") || error.contains("Europe/Berlin"), "{error}");
        }
        assert_eq!(Agreement::default().check(), Ok(()));
    }

    proptest! {
        #[test]
        fn periods_touch_and_hold_their_instants(
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/Santiago", "Asia/Kolkata", "Pacific/Apia",
            ]),
            cycle in prop::sample::select(vec![Cycle::Month, Cycle::Day]),
            anchor in 1_u8..=31,
            at in 0..4_000_000_000_000_000_000_i64,
        ) {
            let agreement = agreement(zone, cycle, anchor);
            let (start, end) = agreement.around(at).expect("a period");
            prop_assert!(start <= at && at < end);
            prop_assert_eq!(agreement.around(start).expect("a period"), (start, end));
            prop_assert_eq!(agreement.around(end - 1).expect("a period"), (start, end));
            prop_assert_eq!(agreement.around(end).expect("a period").0, end);
        }
    }
}
