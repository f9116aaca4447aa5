//! The header and the bill between the contract's records and the types of the biller.

use biller::input::{
    Balances, BookInForce, CounterBalance, CreditBalance, Header, Offset, OneOff, OneOffKind,
    Rounding, Span, Stretch, Terms, TermsInForce, Zone,
};
use biller::output::{AdjustmentKind, Bill, LineKind, Tariff};

use crate::bindings::exports::tallyman::biller::bills as wire;

pub(crate) fn header(header: wire::Header) -> Header {
    let offset = |one: wire::Offset| Offset { since: one.since, offset: one.offset };
    Header {
        form: header.form,
        period: Span { start: header.period.start, end: header.period.end },
        first: header.first,
        last: header.last,
        until: header.until,
        calendar: header.calendar.into_iter().map(offset).collect(),
        zones: header.zones.into_iter().map(zone).collect(),
        books: header.books.into_iter().map(book).collect(),
        meters: header.meters,
        terms: header.terms.into_iter().map(terms_in_force).collect(),
        opening: Balances {
            counters: header.counters.into_iter().map(counter).collect(),
            stretches: Vec::new(),
            credits: header.credits.into_iter().map(credit).collect(),
        },
        one_offs: header.one_offs.into_iter().map(one_off).collect(),
        marks: header.marks,
    }
}

fn zone(zone: wire::Zone) -> Zone {
    let transitions = zone.transitions.into_iter();
    Zone { name: zone.name, transitions: transitions.map(|one| (one.since, one.east)).collect() }
}

fn book(book: wire::Book) -> BookInForce {
    BookInForce { from: book.start, until: book.end, text: book.text }
}

fn terms_in_force(one: wire::TermsInForce) -> TermsInForce {
    let terms = one.terms.into_iter().map(|terms| terms.map(read_terms)).collect();
    TermsInForce { from: one.start, until: one.end, terms }
}

fn read_terms(terms: wire::Terms) -> Terms {
    Terms {
        stretch: match terms.stretch {
            wire::Stretch::Start => Stretch::Start,
            wire::Stretch::Wake => Stretch::Wake,
            wire::Stretch::Visit => Stretch::Visit,
            wire::Stretch::Life => Stretch::Life,
        },
        minimum_ns: terms.minimum_ns,
        granularity_ns: terms.granularity_ns,
        rounding: match terms.rounding {
            wire::Rounding::HalfEven => Rounding::HalfEven,
            wire::Rounding::HalfUp => Rounding::HalfUp,
            wire::Rounding::Down => Rounding::Down,
            wire::Rounding::Up => Rounding::Up,
        },
    }
}

fn counter(one: wire::Counter) -> CounterBalance {
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

fn credit(one: wire::Credit) -> CreditBalance {
    CreditBalance {
        id: one.id,
        currency: one.currency,
        amount: unsigned(one.amount).cast_signed(),
        used: unsigned(one.used).cast_signed(),
    }
}

fn one_off(one: wire::OneOff) -> OneOff {
    OneOff {
        id: one.id,
        kind: if one.is_goodwill { OneOffKind::Goodwill } else { OneOffKind::Charge },
        at: one.at,
        amount: unsigned(one.amount).cast_signed(),
        currency: one.currency,
    }
}

fn unsigned(words: wire::Words) -> u128 {
    u128::from(words.high) << 64 | u128::from(words.low)
}

fn words(value: u128) -> wire::Words {
    wire::Words { low: value as u64, high: (value >> 64) as u64 }
}

fn signed(value: i128) -> wire::Words {
    words(value.cast_unsigned())
}

/// The bill without its lines.
pub(crate) fn bill(bill: Bill) -> wire::Bill {
    let rules = &bill.rules;
    let index = |name: &String| rules.binary_search_by(|rule| rule.rule.cmp(name)).ok();
    let tariffs = bill.tariffs.into_iter().map(|tariff| {
        let rule = index(&tariff.rule).and_then(|index| u32::try_from(index).ok());
        written_tariff(tariff, rule.unwrap_or(u32::MAX))
    });
    wire::Bill {
        currency: bill.currency,
        minor_digits: bill.minor_digits,
        line_digits: bill.line_digits,
        rounding: match bill.rounding {
            Rounding::HalfEven => wire::Rounding::HalfEven,
            Rounding::HalfUp => wire::Rounding::HalfUp,
            Rounding::Down => wire::Rounding::Down,
            Rounding::Up => wire::Rounding::Up,
        },
        tariffs: tariffs.collect(),
        adjustments: bill.adjustments.into_iter().map(written_adjusted).collect(),
        one_offs: bill.one_offs.into_iter().map(written_one_off).collect(),
        total: signed(bill.total),
        payable: signed(bill.payable),
        counters: bill.closing.counters.into_iter().map(written_counter).collect(),
        credits: bill.closing.credits.into_iter().map(written_credit).collect(),
        rules: bill.rules.into_iter().map(written_rule).collect(),
    }
}

fn written_tariff(tariff: Tariff, rule: u32) -> wire::Tariff {
    wire::Tariff {
        kind: match tariff.kind {
            LineKind::Usage => wire::LineKind::Usage,
            LineKind::Once => wire::LineKind::Once,
            LineKind::Own => wire::LineKind::Own,
        },
        rule,
        meter: tariff.meter,
        price_id: tariff.price_id,
        tier: tariff.tier,
        per: tariff.per,
        unit: tariff.unit,
        numerator: signed(tariff.price_numerator),
        denominator: words(tariff.price_denominator),
    }
}

fn written_rule(rule: biller::output::RuleSum) -> wire::RuleSum {
    let before = rule.before.into_iter().map(signed).collect();
    wire::RuleSum { rule: rule.rule, amount: signed(rule.amount), before }
}

fn written_adjusted(one: biller::output::Adjusted) -> wire::Adjusted {
    wire::Adjusted {
        id: one.id,
        kind: match one.kind {
            AdjustmentKind::Minimum => wire::AdjustmentKind::Minimum,
            AdjustmentKind::Cap => wire::AdjustmentKind::Cap,
            AdjustmentKind::Credit => wire::AdjustmentKind::Credit,
        },
        amount: signed(one.amount),
        change: signed(one.change),
        to_come: signed(one.to_come),
    }
}

fn written_one_off(one: biller::output::OneOffSum) -> wire::OneOffSum {
    let is_goodwill = one.kind == OneOffKind::Goodwill;
    wire::OneOffSum { id: one.id, is_goodwill, change: signed(one.change) }
}

fn written_counter(one: CounterBalance) -> wire::Counter {
    wire::Counter {
        rule: one.rule,
        meter: one.meter,
        unit: one.unit,
        instance: one.instance,
        units: words(one.units),
        covered: words(one.covered),
        fees: one.fees,
    }
}

fn written_credit(one: CreditBalance) -> wire::Credit {
    wire::Credit {
        id: one.id,
        currency: one.currency,
        amount: signed(one.amount),
        used: signed(one.used),
    }
}
