//! The calendar, time zones, borders of periods and windows of prices.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::book::{Validity, Window};
use crate::scenario::{Agreement, Nanos, PeriodKind, Step};

pub(crate) const DAY: Nanos = 86_400_000_000_000;
const EPOCH: Date = Date::constant(1970, 1, 1);

/// The calendar as a function of the meter.
#[derive(Debug, Clone)]
pub(crate) struct Calendar(pub(crate) Vec<Step>);

impl Calendar {
    pub(crate) fn reads(&self, at: Nanos) -> Nanos {
        let step = self.0.iter().rev().find(|step| step.at <= at).unwrap_or(&self.0[0]);
        at + step.offset
    }

    /// The first instant at which the calendar reads `wall` or later.
    pub(crate) fn first_reading(&self, wall: Nanos) -> Nanos {
        for (place, step) in self.0.iter().enumerate() {
            let begin = if place == 0 { Nanos::MIN } else { step.at };
            let end = self.0.get(place + 1).map_or(Nanos::MAX, |next| next.at);
            let at = begin.max(wall - step.offset);
            if at < end {
                return at;
            }
        }
        unreachable!("the last step has no end")
    }

    /// All instants at which the calendar reads `wall`, and those at which it is set.
    pub(crate) fn crossings(&self, wall: Nanos) -> Vec<Nanos> {
        self.0.iter().flat_map(|step| [step.at, wall - step.offset]).collect()
    }
}

/// A time zone.
pub(crate) struct Zone(TimeZone);

impl Zone {
    pub(crate) fn named(name: &str) -> Self {
        Self(TimeZone::get(name).unwrap_or_else(|_| panic!("no zone {name}")))
    }

    /// The local clock, as nanoseconds since a local 1970.
    pub(crate) fn local(&self, utc: Nanos) -> Nanos {
        let at = Timestamp::from_nanosecond(utc.into()).expect("an instant");
        utc + Nanos::from(self.0.to_offset(at).seconds()) * 1_000_000_000
    }

    /// The instants from `from` to `to` at which the offset changes.
    pub(crate) fn changes(&self, from: Nanos, to: Nanos) -> Vec<Nanos> {
        let start = Timestamp::from_nanosecond(from.into()).expect("an instant");
        self.0
            .following(start)
            .map(|change| {
                Nanos::try_from(change.timestamp().as_nanosecond()).expect("this century")
            })
            .take_while(|change| *change <= to)
            .collect()
    }

    /// Instants of UTC, more than enough of them, between which the local clock runs evenly and
    /// does not read `local`.
    fn candidates(&self, local: Nanos) -> BTreeSet<Nanos> {
        let changes = self.changes(local - 2 * DAY, local + 2 * DAY);
        let samples =
            changes.iter().flat_map(|&at| [at - 1, at]).chain([local - 2 * DAY, local + 2 * DAY]);
        let offsets: BTreeSet<Nanos> = samples.map(|at| self.local(at) - at).collect();
        offsets.into_iter().map(|offset| local - offset).chain(changes).collect()
    }

    /// The first instant at which the local clock reads `local` or later.
    fn first_reading(&self, local: Nanos) -> Nanos {
        let mut candidates = self.candidates(local).into_iter();
        candidates.find(|&at| self.local(at) >= local).expect("time goes on")
    }
}

fn day_number(date: Date) -> i64 {
    i64::from(EPOCH.until(date).expect("a span of days").get_days())
}

fn date_of(local: Nanos) -> Date {
    EPOCH.checked_add(local.div_euclid(DAY).days()).expect("a date")
}

/// A period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Period {
    /// Name: the first local day, or the first instant where the agreement began inside of it.
    pub(crate) name: String,
    /// First instant, in UTC.
    pub(crate) begin: Nanos,
    /// First instant after, in UTC.
    pub(crate) end: Nanos,
    /// Nanoseconds before `begin` that a usual period would have, too.
    pub(crate) missing: Nanos,
}

/// The periods of an agreement.
pub(crate) struct Periods<'a> {
    pub(crate) agreement: &'a Agreement,
    pub(crate) zone: Zone,
}

impl<'a> Periods<'a> {
    pub(crate) fn of(agreement: &'a Agreement) -> Self {
        Self { agreement, zone: Zone::named(&agreement.zone) }
    }

    fn day_in_month(&self, year: i16, month: i8) -> Date {
        let first = Date::constant(year, month, 1);
        let day = self.agreement.anchor.min(first.days_in_month());
        Date::constant(year, month, day)
    }

    pub(crate) fn next(&self, period: Date) -> Date {
        match self.agreement.kind {
            PeriodKind::Day => period.tomorrow().expect("a next day"),
            PeriodKind::Month if period.month() == 12 => self.day_in_month(period.year() + 1, 1),
            PeriodKind::Month => self.day_in_month(period.year(), period.month() + 1),
        }
    }

    /// A period that begins before the instant of UTC.
    pub(crate) fn before(&self, utc: Nanos) -> Date {
        let date = date_of(self.zone.local(utc) - 3 * DAY);
        match self.agreement.kind {
            PeriodKind::Day => date,
            PeriodKind::Month if date.month() == 1 => self.day_in_month(date.year() - 1, 12),
            PeriodKind::Month => self.day_in_month(date.year(), date.month() - 1),
        }
    }

    /// The first instant of the period, in UTC.
    pub(crate) fn begin(&self, period: Date) -> Nanos {
        self.zone.first_reading(day_number(period) * DAY)
    }

    /// The agreement's own period that holds an instant of UTC.
    pub(crate) fn holding(&self, utc: Nanos) -> Period {
        let mut day = self.before(utc);
        while self.begin(self.next(day)) <= utc {
            day = self.next(day);
        }
        let begin = self.begin(day);
        Period { name: day.to_string(), begin, end: self.begin(self.next(day)), missing: 0 }
    }

    /// The period from a border on, which need not be one of the agreement's own.
    pub(crate) fn from(&self, border: Nanos) -> Period {
        let usual = self.holding(border);
        if usual.begin == border {
            return usual;
        }
        let name = Timestamp::from_nanosecond(border.into()).expect("an instant").to_string();
        Period { name, begin: border, end: usual.end, missing: border - usual.begin }
    }
}

impl Window {
    pub(crate) fn holds(&self, zone: &Zone, wall: Nanos) -> bool {
        let local = zone.local(wall);
        let time = local.rem_euclid(DAY);
        // 1970 began on a Thursday.
        let weekday = (local.div_euclid(DAY) + 3).rem_euclid(7);
        let yesterday = (weekday + 6) % 7;
        let runs_over = self.until <= self.from;
        let by_today =
            self.days.contains(&weekday) && time >= self.from && (runs_over || time < self.until);
        let by_yesterday = runs_over && self.days.contains(&yesterday) && time < self.until;
        by_today || by_yesterday
    }

    /// Instants of UTC, more than enough of them, between which the window holds or does not.
    pub(crate) fn edges(&self, zone: &Zone, from: Nanos, to: Nanos) -> BTreeSet<Nanos> {
        let first = zone.local(from).div_euclid(DAY) - 2;
        let last = zone.local(to).div_euclid(DAY) + 2;
        let mut edges = BTreeSet::from_iter(zone.changes(from - 2 * DAY, to + 2 * DAY));
        let samples: Vec<Nanos> =
            edges.iter().flat_map(|&at| [at - 1, at]).chain([from, to]).collect();
        let offsets: BTreeSet<Nanos> = samples.iter().map(|&at| zone.local(at) - at).collect();
        for day in first..=last {
            for local in [day * DAY, day * DAY + self.from, day * DAY + self.until] {
                edges.extend(offsets.iter().map(|offset| local - offset));
            }
        }
        edges.retain(|edge| (from..=to).contains(edge));
        edges
    }
}

impl Validity {
    pub(crate) fn crossings(&self, calendar: &Calendar) -> Vec<Nanos> {
        self.edges().flat_map(|edge| calendar.crossings(edge)).collect()
    }
}
