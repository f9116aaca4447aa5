//! Small pieces of requests for tests.

use crate::{CalendarOffset, Dimension, IntervalColumns, Phase, Price, PriceBook, Ratio, Request, Span, Subject, Tier};

/// One nano-unit for a nanosecond of `active`, always.
pub(crate) fn price() -> Price {
    Price {
        rule: "time".into(),
        id: "time-1".into(),
        meter: "active".into(),
        unit: "ns".into(),
        per: "instance-second".into(),
        measure: "s".into(),
        measure_units: 1_000_000_000.into(),
        valid: Span { start: i64::MIN, end: i64::MAX },
        windows: Vec::new(),
        scope: "instance".into(),
        resets: "period".into(),
        model: "flat".into(),
        tiers: vec![tier(None, 1, 1)],
    }
}

/// A tier without a fee.
pub(crate) fn tier(up_to: Option<u128>, numerator: i128, denominator: u128) -> Tier {
    Tier { up_to: up_to.map(Into::into), price: Ratio::new(numerator, denominator), once: 0.into() }
}

/// A book of these prices, in euro, to the nano-unit.
pub(crate) fn book(prices: Vec<Price>) -> PriceBook {
    PriceBook {
        digest: String::new(),
        currency: "EUR".into(),
        minor_digits: 2,
        line_digits: 9,
        rounding: "half-even".into(),
        prices,
        adjustments: Vec::new(),
    }
}

/// A request without anything to rate.
pub(crate) fn request(period: Span) -> Request {
    Request {
        tenant: "default".into(),
        invoice: period,
        period,
        last: true,
        subjects: Vec::new(),
        intervals: IntervalColumns {
            subject: Vec::new(),
            phase: Vec::new(),
            start: Vec::new(),
            end: Vec::new(),
            session: Vec::new(),
            fact: Vec::new(),
            dimensions: vec![
                Dimension { name: "vcpus".into(), values: Vec::new() },
                Dimension { name: "memory-bytes".into(), values: Vec::new() },
            ],
        },
        calendar: vec![CalendarOffset { since: 0, offset: 0 }],
        zones: Vec::new(),
        book: book(Vec::new()),
        options: Vec::new(),
        carried: Vec::new(),
    }
}

/// One interval: phase, length, session, virtual processors.
pub(crate) type Lived = (Phase, i64, u32, u64);

/// A request in which each of `lives` goes on without a break from the beginning of the period.
pub(crate) fn lived(period: Span, lives: &[(&str, &[Lived])]) -> Request {
    let mut request = request(period);
    for &(id, life) in lives {
        let subject = u32::try_from(request.subjects.len()).expect("few");
        request.subjects.push(Subject { id: id.into(), name: id.to_uppercase(), tags: Vec::new() });
        let mut at = period.start;
        for &(phase, lasts, session, vcpus) in life {
            push(&mut request.intervals, subject, phase, at, at + lasts, session, vcpus);
            at += lasts;
        }
        assert!(at <= period.end, "{id} lives on after the period");
    }
    request
}

fn push(columns: &mut IntervalColumns, subject: u32, phase: Phase, start: i64, end: i64, session: u32, vcpus: u64) {
    columns.subject.push(subject);
    columns.phase.push(phase as u8);
    columns.start.push(start);
    columns.end.push(end);
    columns.session.push(session);
    columns.fact.push(columns.fact.len() as u64 + 1);
    columns.dimensions[0].values.push(vcpus);
    columns.dimensions[1].values.push(vcpus << 30);
}
