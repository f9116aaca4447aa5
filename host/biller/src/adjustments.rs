//! Minimums, caps and credits, which act on the sums of rules one after the other.

mod source;
mod view;

use std::collections::{BTreeMap, HashMap};

use ethnum::U256;

use crate::bill::Books;
use crate::book::Adjustment;
use crate::clock::Clock;
use crate::error::BillError;
use crate::exact::apportion;
use crate::input::{CreditBalance, Header, Span};
use crate::mutants::Mutant;
use crate::output::{Adjusted, AdjustmentKind};
use crate::rounding::Digits;
use crate::spans::Spans;
pub(crate) use source::Source;
use source::{Probe, Probes};
use view::{Rules, View};

/// An adjustment of the period, over all books that name it.
struct Named {
    id: String,
    kind: AdjustmentKind,
    /// Charges that the adjustment acts on, up to T.
    view: View,
    /// Time in the period in which a book names it, planned books included.
    spans: Spans,
    /// Rules that any book names for it.
    rules: Rules,
    /// Sum of its amounts, each times the nanoseconds in which it holds.
    weighted: U256,
    /// Amount of a grant, in nano-units.
    grant: i128,
    /// Set if a later adjustment depends on the instant at which this one is reached.
    is_cut: bool,
}

/// The charges, and the adjustments that act on them.
pub(crate) struct Adjusting<'a> {
    header: &'a Header,
    currency: &'a str,
    named: Vec<Named>,
    sources: Vec<Source<'a>>,
    /// Changes by adjustments that were not cut, in nano-units; all later ones see them whole.
    uncut: i128,
}

impl<'a> Adjusting<'a> {
    /// The adjustments of a period, in the order in which they act.
    pub(crate) fn of(
        header: &'a Header,
        books: &'a Books,
        clock: &Clock<'_>,
    ) -> Result<Self, BillError> {
        let currency = books.last().map_or("", |book| book.currency().code());
        let mut named = named(header, books, clock)?;
        for one in &named {
            check_grant(header, currency, one)?;
        }
        for number in (0..named.len()).rev() {
            let (before, later) = named.split_at_mut(number + 1);
            let one = &mut before[number];
            let is_partial = |other: &Named| other.is_cut || !other.view.contains(&one.view);
            one.is_cut = later.iter().any(is_partial);
        }
        Ok(Self { header, currency, named, sources: Vec::new(), uncut: 0 })
    }

    /// Returns whether charges have to be known instant by instant.
    pub(crate) fn needs_timelines(&self) -> bool {
        let first = self.header.first;
        let until = self.header.until;
        self.named.iter().any(|one| one.is_cut || !one.view.is_whole(first, until))
    }

    pub(crate) fn add(&mut self, source: Source<'a>) {
        self.sources.push(source);
    }

    /// Applies all adjustments in order; returns their changes and the balances of credits.
    pub(crate) fn adjust(
        mut self,
        digits: Digits,
    ) -> Result<(Vec<Adjusted>, Vec<CreditBalance>), BillError> {
        let opening = &self.header.opening.credits;
        let mut credits: BTreeMap<String, CreditBalance> =
            opening.iter().map(|credit| (credit.id.clone(), credit.clone())).collect();
        let mut adjusted = Vec::with_capacity(self.named.len());
        for one in std::mem::take(&mut self.named) {
            let overflow = || BillError::overflow(&one.id);
            let done = match one.kind {
                AdjustmentKind::Minimum => self.minimum(&one, digits),
                AdjustmentKind::Cap => self.cap(&one, digits),
                AdjustmentKind::Credit => self.credit(&one, digits, &mut credits),
            };
            adjusted.push(done.ok_or_else(overflow)?);
        }
        Ok((adjusted, credits.into_values().collect()))
    }

    /// The amount of a minimum or a cap: its share of the usual period.
    fn amount(&self, one: &Named, digits: Digits) -> Option<i128> {
        if Mutant::AmountsWhole.is_active() {
            return digits.nanos(digits.round(U256::from(one.grant.unsigned_abs()), 1)?);
        }
        let period = self.header.period.end.abs_diff(self.header.period.start);
        digits.nanos(digits.round(one.weighted, period.into())?)
    }

    /// Charges that an adjustment acts on, less what earlier ones took, in nano-units.
    fn charges(&mut self, one: &Named) -> Option<i128> {
        let mut sum = self.uncut;
        for source in &mut self.sources {
            let spans = one.view.spans(source.seen());
            sum = sum.checked_add(source.left(&spans)?)?;
        }
        Some(sum)
    }

    fn minimum(&mut self, one: &Named, digits: Digits) -> Option<Adjusted> {
        let amount = self.amount(one, digits)?;
        let missing = amount.checked_sub(self.charges(one)?)?.max(0);
        let is_owed = self.header.until == self.header.last;
        let change = if is_owed { missing } else { 0 };
        if change > 0 {
            let spans = one.spans.clone();
            if Mutant::RaisesUnseen.is_active() {
                return Some(one.adjusted(amount, change, missing - change));
            }
            self.sources.push(Source::raise(one.rules.clone(), change, spans, digits));
        }
        Some(one.adjusted(amount, change, missing - change))
    }

    fn cap(&mut self, one: &Named, digits: Digits) -> Option<Adjusted> {
        let amount = self.amount(one, digits)?;
        let charges = self.charges(one)?;
        let over = charges.checked_sub(amount)?.max(0);
        if over > 0 && one.is_cut {
            self.cut(one, amount, digits, Source::keep_before)?;
        } else {
            self.uncut = self.uncut.checked_sub(over)?;
        }
        Some(one.adjusted(amount, -over, 0))
    }

    fn credit(
        &mut self,
        one: &Named,
        digits: Digits,
        credits: &mut BTreeMap<String, CreditBalance>,
    ) -> Option<Adjusted> {
        let new = || CreditBalance {
            id: one.id.clone(),
            currency: self.currency.into(),
            amount: one.grant,
            used: 0,
        };
        let used = match credits.get(&one.id) {
            Some(_) if Mutant::CreditsByPeriod.is_active() => 0,
            Some(_) if Mutant::CreditsBySwap.is_active() => self.opening_use(&one.id),
            Some(balance) => balance.used,
            None => 0,
        };
        let left = one.grant.checked_sub(used)?.max(0).unsigned_abs();
        // A credit never pays more than it has.
        let left = digits.nanos(left / digits.unit_nanos)?;
        let charges = self.charges(one)?;
        let paid = charges.min(left);
        if paid > 0 {
            let balance = credits.entry(one.id.clone()).or_insert_with(new);
            balance.used = balance.used.checked_add(paid)?;
        }
        match one.is_cut {
            true if paid > 0 && paid == charges => {
                let until = self.header.until;
                self.sources.iter_mut().for_each(|source| {
                    let spans = one.view.spans(source.seen());
                    source.keep_after(&spans, until, 0);
                });
            }
            true if paid > 0 => self.cut(one, paid, digits, Source::keep_after)?,
            _ => self.uncut = self.uncut.checked_sub(paid)?,
        }
        Some(one.adjusted(left, -paid, 0))
    }

    /// Nano-units of a credit that earlier periods have used.
    fn opening_use(&self, id: &str) -> i128 {
        let opening = self.header.opening.credits.iter().find(|credit| credit.id == id);
        opening.map_or(0, |credit| credit.used)
    }

    /// Finds the nanosecond in which the charges that an adjustment acts on pass an amount, and
    /// lets each source keep its part before or after it. In that nanosecond they share the rest.
    fn cut(
        &mut self,
        one: &Named,
        amount: i128,
        digits: Digits,
        keep: fn(&mut Source<'a>, &Spans, i64, i128),
    ) -> Option<()> {
        let views: Vec<_> =
            self.sources.iter().map(|source| one.view.spans(source.seen())).collect();
        let probes = self.sources.iter_mut().zip(&views).map(|(source, spans)| source.probe(spans));
        let probes = Probes::new(probes.collect::<Option<Vec<Probe>>>()?, &self.sources);
        let found = probes.pass(amount, self.header.first, self.header.until)?;
        let units = |nanos: &i128| nanos.unsigned_abs() / digits.unit_nanos;
        let weights: Vec<_> = found.inside.iter().map(units).collect();
        let rest = amount.checked_sub(found.before)?.unsigned_abs() / digits.unit_nanos;
        let shares = if weights.iter().all(|&weight| weight == 0) {
            weights.clone()
        } else {
            apportion(rest, &weights, |number| number as u64)
        };
        let parts = shares.into_iter().zip(&found.inside).zip(&views);
        for (source, ((share, &inside), spans)) in self.sources.iter_mut().zip(parts) {
            source.note_inside(inside);
            keep(source, spans, found.at, digits.nanos(share)?);
        }
        Some(())
    }
}

impl Named {
    fn adjusted(&self, amount: i128, change: i128, to_come: i128) -> Adjusted {
        Adjusted { id: self.id.clone(), kind: self.kind, amount, change, to_come }
    }

    fn new(adjustment: &Adjustment) -> Self {
        Self {
            id: adjustment.id.clone(),
            kind: adjustment.kind,
            view: View::default(),
            spans: Spans::default(),
            rules: Rules::of(&adjustment.rules),
            weighted: U256::from(0_u8),
            grant: adjustment.amount,
            is_cut: false,
        }
    }
}

/// The number of the last book that names an adjustment, and its place in it.
type Order = (usize, usize);

/// The adjustments that books in force before T name, in the order in which they act.
fn named(header: &Header, books: &Books, clock: &Clock<'_>) -> Result<Vec<Named>, BillError> {
    let mut found: HashMap<(&str, usize), (Order, Named)> = HashMap::new();
    for (number, (in_force, book)) in books.pieces(header).into_iter().enumerate() {
        let is_planned = in_force.start >= header.until;
        if is_planned && Mutant::PlannedForgotten.is_active() {
            continue;
        }
        for (place, adjustment) in book.adjustments().iter().enumerate() {
            let is_by_book = match adjustment.kind {
                AdjustmentKind::Credit => Mutant::CreditsBySwap.is_active(),
                AdjustmentKind::Minimum | AdjustmentKind::Cap => {
                    Mutant::AdjustmentsByBook.is_active()
                }
            };
            let key = (adjustment.id.as_str(), if is_by_book { number } else { 0 });
            if is_planned && !found.contains_key(&key) {
                continue;
            }
            let new = || ((number, place), Named::new(adjustment));
            let (order, one) = found.entry(key).or_insert_with(new);
            if one.kind != adjustment.kind {
                return Err(BillError::Kind { id: adjustment.id.clone() });
            }
            if one.kind == AdjustmentKind::Credit && one.grant != adjustment.amount {
                return Err(BillError::Grant { id: adjustment.id.clone() });
            }
            if !is_planned {
                *order = (number, place);
            }
            let within = header.within(in_force);
            let is_always =
                Mutant::CreditsAlways.is_active() && adjustment.kind == AdjustmentKind::Credit;
            let spans = match is_always {
                true => Spans::of(header.first, header.last),
                false => Spans::union(clock.valid(adjustment.valid, within)),
            };
            let rules = Rules::of(&adjustment.rules);
            one.name(adjustment, spans, rules, header.until)
                .ok_or_else(|| BillError::overflow(&adjustment.id))?;
        }
    }
    let mut named: Vec<_> = found.into_values().collect();
    named.sort_by_key(|(order, _)| *order);
    Ok(named.into_iter().map(|(_, one)| one).collect())
}

impl Named {
    /// Adds the time in which a book names it.
    fn name(
        &mut self,
        adjustment: &Adjustment,
        spans: Spans,
        rules: Rules,
        until: i64,
    ) -> Option<()> {
        let amount = U256::from(adjustment.amount.unsigned_abs());
        let more = amount.checked_mul(U256::from(spans.length()))?;
        self.weighted = self.weighted.checked_add(more)?;
        self.rules = self.rules.union(&rules);
        let looked_at = match Mutant::SpansIgnored.is_active() {
            true => Spans::of(i64::MIN, until),
            false => spans.intersection(&Spans::of(i64::MIN, until)),
        };
        self.view.add(&looked_at, rules);
        self.spans = Spans::union(self.spans.iter().chain(spans.iter()).collect());
        Some(())
    }
}

fn check_grant(header: &Header, currency: &str, one: &Named) -> Result<(), BillError> {
    let known = header.opening.credits.iter().find(|credit| credit.id == one.id);
    let Some(known) = known else { return Ok(()) };
    if one.kind != AdjustmentKind::Credit {
        return Err(BillError::Kind { id: one.id.clone() });
    }
    match known.amount == one.grant && known.currency == currency {
        true => Ok(()),
        false => Err(BillError::Grant { id: one.id.clone() }),
    }
}

impl Header {
    /// The part of a time that is the tenant's and of the period, beyond T too.
    fn within(&self, span: Span) -> Span {
        let start = span.start.max(self.first);
        Span { start, end: span.end.min(self.last).max(start) }
    }
}
