//! The header and the bill between the contract's records and the types of the biller.

use biller::input::{
    Balances, CounterBalance, CreditBalance, Header, OneOffKind, Rounding, Stretch, Terms,
};
use biller::output::{Adjusted, AdjustmentKind, Bill, LineKind, OneOffSum, RuleSum, Tariff};

use super::bindings::exports::tallyman::biller::bills as wire;

pub(super) fn header(header: &Header) -> wire::Header {
    let calendar = header.calendar.iter();
    let calendar =
        calendar.map(|one| wire::Offset { since: one.since, offset: one.offset }).collect();
    let books = header.books.iter();
    let books = books
        .map(|one| wire::Book { start: one.from, end: one.until, text: one.text.clone() })
        .collect();
    wire::Header {
        form: header.form,
        period: wire::Span { start: header.period.start, end: header.period.end },
        first: header.first,
        last: header.last,
        until: header.until,
        calendar,
        zones: header.zones.iter().map(zone).collect(),
        books,
        meters: header.meters.clone(),
        terms: header.terms.iter().map(terms_in_force).collect(),
        counters: header.opening.counters.iter().map(counter).collect(),
        credits: header.opening.credits.iter().map(credit).collect(),
        one_offs: header.one_offs.iter().map(one_off).collect(),
        marks: header.marks.clone(),
    }
}

fn zone(zone: &biller::input::Zone) -> wire::Zone {
    let transition = |&(since, east): &(i64, i32)| wire::Transition { since, east };
    let transitions = zone.transitions.iter().map(transition).collect();
    wire::Zone { name: zone.name.clone(), transitions }
}

fn terms_in_force(one: &biller::input::TermsInForce) -> wire::TermsInForce {
    let terms = one.terms.iter().map(|terms| terms.map(written_terms)).collect();
    wire::TermsInForce { start: one.from, end: one.until, terms }
}

fn written_terms(terms: Terms) -> wire::Terms {
    wire::Terms {
        stretch: match terms.stretch {
            Stretch::Start => wire::Stretch::Start,
            Stretch::Wake => wire::Stretch::Wake,
            Stretch::Visit => wire::Stretch::Visit,
            Stretch::Life => wire::Stretch::Life,
        },
        minimum_ns: terms.minimum_ns,
        granularity_ns: terms.granularity_ns,
        rounding: match terms.rounding {
            Rounding::HalfEven => wire::Rounding::HalfEven,
            Rounding::HalfUp => wire::Rounding::HalfUp,
            Rounding::Down => wire::Rounding::Down,
            Rounding::Up => wire::Rounding::Up,
        },
    }
}

fn counter(one: &CounterBalance) -> wire::Counter {
    wire::Counter {
        rule: one.rule.clone(),
        meter: one.meter.clone(),
        unit: one.unit.clone(),
        instance: one.instance.clone(),
        units: words(one.units),
        covered: words(one.covered),
        fees: one.fees.clone(),
    }
}

fn credit(one: &CreditBalance) -> wire::Credit {
    wire::Credit {
        id: one.id.clone(),
        currency: one.currency.clone(),
        amount: words(one.amount.cast_unsigned()),
        used: words(one.used.cast_unsigned()),
    }
}

fn one_off(one: &biller::input::OneOff) -> wire::OneOff {
    wire::OneOff {
        id: one.id.clone(),
        is_goodwill: one.kind == OneOffKind::Goodwill,
        at: one.at,
        amount: words(one.amount.cast_unsigned()),
        currency: one.currency.clone(),
    }
}

fn words(value: u128) -> wire::Words {
    wire::Words { low: value as u64, high: (value >> 64) as u64 }
}

fn unsigned(words: wire::Words) -> u128 {
    u128::from(words.high) << 64 | u128::from(words.low)
}

fn signed(words: wire::Words) -> i128 {
    unsigned(words).cast_signed()
}

/// The bill, without lines and stretches; none where a tariff names no rule.
pub(super) fn bill(bill: wire::Bill) -> Option<Bill> {
    let rules: Vec<_> = bill.rules.into_iter().map(rule_sum).collect();
    let tariff = |one: wire::Tariff| {
        let rule = rules.get(one.rule as usize)?.rule.clone();
        Some(read_tariff(one, rule))
    };
    let tariffs = bill.tariffs.into_iter().map(tariff).collect::<Option<_>>()?;
    Some(Bill {
        currency: bill.currency,
        minor_digits: bill.minor_digits,
        line_digits: bill.line_digits,
        rounding: match bill.rounding {
            wire::Rounding::HalfEven => Rounding::HalfEven,
            wire::Rounding::HalfUp => Rounding::HalfUp,
            wire::Rounding::Down => Rounding::Down,
            wire::Rounding::Up => Rounding::Up,
        },
        rules,
        adjustments: bill.adjustments.into_iter().map(adjusted).collect(),
        one_offs: bill.one_offs.into_iter().map(one_off_sum).collect(),
        total: signed(bill.total),
        payable: signed(bill.payable),
        tariffs,
        lines: Vec::new(),
        closing: Balances {
            counters: bill.counters.into_iter().map(read_counter).collect(),
            stretches: Vec::new(),
            credits: bill.credits.into_iter().map(read_credit).collect(),
        },
    })
}

fn rule_sum(one: wire::RuleSum) -> RuleSum {
    let before = one.before.into_iter().map(signed).collect();
    RuleSum { rule: one.rule, amount: signed(one.amount), before }
}

fn read_tariff(one: wire::Tariff, rule: String) -> Tariff {
    Tariff {
        kind: match one.kind {
            wire::LineKind::Usage => LineKind::Usage,
            wire::LineKind::Once => LineKind::Once,
            wire::LineKind::Own => LineKind::Own,
        },
        rule,
        meter: one.meter,
        price_id: one.price_id,
        tier: one.tier,
        per: one.per,
        unit: one.unit,
        price_numerator: signed(one.numerator),
        price_denominator: unsigned(one.denominator),
    }
}

fn adjusted(one: wire::Adjusted) -> Adjusted {
    Adjusted {
        id: one.id,
        kind: match one.kind {
            wire::AdjustmentKind::Minimum => AdjustmentKind::Minimum,
            wire::AdjustmentKind::Cap => AdjustmentKind::Cap,
            wire::AdjustmentKind::Credit => AdjustmentKind::Credit,
        },
        amount: signed(one.amount),
        change: signed(one.change),
        to_come: signed(one.to_come),
    }
}

fn one_off_sum(one: wire::OneOffSum) -> OneOffSum {
    let kind = if one.is_goodwill { OneOffKind::Goodwill } else { OneOffKind::Charge };
    OneOffSum { id: one.id, kind, change: signed(one.change) }
}

fn read_counter(one: wire::Counter) -> CounterBalance {
    CounterBalance {
        rule: one.rule,
        meter: one.meter,
        unit: one.unit,
        instance: one.instance,
        units: unsigned(one.units),
        covered: unsigned(one.covered),
        fees: one.fees,
    }
}

fn read_credit(one: wire::Credit) -> CreditBalance {
    CreditBalance {
        id: one.id,
        currency: one.currency,
        amount: signed(one.amount),
        used: signed(one.used),
    }
}
