//! The view of a period up to an instant, as of a head.

use std::collections::BTreeMap;

use crate::adjust::Ledger;
use crate::charge::{Counter, CounterKey, Sweep};
use crate::known::Known;
use crate::money::{coin, rounded, whole};
use crate::scenario::{Nanos, Sums};
use crate::usage::{Place, Stretch, Unrated, Usage, pairs};

/// The part of a period that a view covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Begin of a usual period that ends with this one; `begin`, unless an agreement began inside
    /// of one of its own periods.
    pub(crate) usual_begin: Nanos,
    pub(crate) begin: Nanos,
    /// Border to the next period.
    pub(crate) usual_end: Nanos,
    /// Border, or the tenant's end before it.
    pub(crate) end: Nanos,
    /// Instant up to which the view goes; not after `end`.
    pub(crate) up_to: Nanos,
}

/// State that a period hands on to the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handed {
    pub(crate) counters: BTreeMap<CounterKey, Counter>,
    pub(crate) stretches: BTreeMap<Place, Stretch>,
    /// Nano-units used of each credit.
    pub(crate) credits: BTreeMap<String, i128>,
}

/// The result of a period.
pub(crate) struct View {
    pub(crate) sums: Sums,
    /// The total in whole coins, in nano-units.
    pub(crate) coins: i128,
    pub(crate) handed: Handed,
    /// Instants inside the billed time, and the rounded sums of the rules up to each.
    pub(crate) parts: Parts,
}

/// Rounded sums of rules up to some instants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub(crate) marks: Vec<Nanos>,
    pub(crate) before: BTreeMap<String, Vec<i128>>,
}

impl View {
    pub(crate) fn of(known: &Known, span: Span, opening: &Handed) -> Result<Self, Unrated> {
        let edges = known.edges(span.begin, span.up_to);
        let usage = Usage::of(known, &edges, &opening.stretches)?;
        let sweep = Sweep::of(known, &usage, &edges, &opening.counters);
        let counters = sweep.counters.iter().filter(|(key, _)| !key.resets);
        let counters = counters.map(|(key, counter)| (key.clone(), counter.handed_on())).collect();
        let mut charges = sweep.charges;
        for (own, price) in known.own(span.begin.max(known.first_fact()), span.up_to) {
            charges.entry(own.rule.clone()).or_default().add_own(own, price);
        }
        let mut credits = opening.credits.clone();
        // The last one that was in force: the time before T may be without a book.
        let last_book = pairs(&edges).filter_map(|(from, _)| known.book(from)).last();
        let mut sums = Sums::default();
        let mut coins = 0;
        let mut parts = Parts::default();
        if let Some(book) = last_book {
            let mut ledger = Ledger::new(known, span, book, charges);
            let rules = ledger.rules();
            let third = (span.up_to - span.begin) / 3;
            parts.marks = vec![span.begin + third, span.up_to - third];
            parts.before = ledger.parts(&parts.marks);
            let mut adjustments = ledger.adjust(&mut credits);
            let mut total: i128 = rules.values().chain(adjustments.values()).sum();
            for charge in known.one_offs(false, span.up_to) {
                if span.begin <= charge.at {
                    adjustments.insert(charge.id.clone(), charge.amount);
                    total += charge.amount;
                }
            }
            for goodwill in known.one_offs(true, span.up_to) {
                let used = credits.entry(goodwill.id.clone()).or_insert(0);
                let paid = total.max(0).min(goodwill.amount - *used);
                *used += paid;
                total -= paid;
                adjustments.insert(goodwill.id.clone(), -paid);
            }
            sums = Sums { rules, adjustments, total };
            sums.rules.retain(|_, amount| *amount != 0);
            sums.adjustments.retain(|_, amount| *amount != 0);
            coins = rounded(&whole(total), coin(&book.currency), book.rounding);
        }
        let handed = Handed { counters, stretches: usage.stretches, credits };
        Ok(Self { sums, coins, handed, parts })
    }
}
