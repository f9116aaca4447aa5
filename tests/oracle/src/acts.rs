//! Acts, one after the other, and the documents that they make.

use std::collections::BTreeMap;

use crate::clock::{Period, Periods};
use crate::known::Known;
use crate::period::{Handed, Span, View};
use crate::scenario::{Act, Agreement, Document, Nanos, Outcome, Scenario, Sums};
use crate::views::PeriodView;

/// Runs a scenario to its outcome.
#[must_use]
pub fn run(scenario: &Scenario) -> Outcome {
    let mut books = Accounts::of(scenario);
    for (number, act) in scenario.acts.iter().enumerate() {
        books.act(number, act);
    }
    let credits = books.credits();
    let number = scenario.acts.len();
    let documents = books.documents.len();
    books.settle(number);
    let stale = books.documents.split_off(documents);
    Outcome {
        documents: books.documents,
        credits,
        stale: stale.into_iter().map(|document| document.period).collect(),
    }
}

/// Computes the documents that a close up to an instant would make after all acts.
#[must_use]
pub fn preview(scenario: &Scenario, to: Nanos) -> Vec<Document> {
    let mut books = Accounts::of(scenario);
    for (number, act) in scenario.acts.iter().enumerate() {
        books.act(number, act);
    }
    let documents = books.documents.len();
    books.close(scenario.acts.len(), to);
    books.documents.split_off(documents)
}

/// The meter instants from which on agreements that follow on the first one cut periods, in the
/// order of the agreements.
#[must_use]
pub fn borders(scenario: &Scenario) -> Vec<Nanos> {
    let books = Accounts::of(scenario);
    let border_after = |at: Nanos| {
        let mut period = books.first_period();
        while books.border(period.end) <= at {
            period = books.next(&period);
        }
        books.border(period.end)
    };
    scenario.agreements.iter().map(|set| border_after(set.at)).collect()
}

/// Everything that was made for a tenant so far.
pub(crate) struct Accounts<'a> {
    scenario: &'a Scenario,
    known: Known<'a>,
    documents: Vec<Document>,
    /// Balances that each period's last document handed on.
    handed: BTreeMap<String, Handed>,
    /// Meter instants of the borders that a document has reached, by the instants of UTC.
    borders: BTreeMap<Nanos, Nanos>,
    /// Views of all periods that were computed; none unless they are wanted.
    pub(crate) views: Option<Vec<PeriodView>>,
}

impl<'a> Accounts<'a> {
    pub(crate) fn of(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            known: Known::at_first(scenario),
            documents: Vec::new(),
            handed: BTreeMap::new(),
            borders: BTreeMap::new(),
            views: None,
        }
    }

    pub(crate) fn act(&mut self, number: usize, act: &Act) {
        match act {
            Act::Close(to) => self.close(number, *to),
            Act::Settle => self.settle(number),
            Act::Override(with) => self.known.replace(with),
            Act::OneOff(one) => self.known.record(one),
            Act::Learn(instance) => self.known.learn(instance),
            Act::Clock(steps) => self.known.set_clock(steps),
        }
    }

    fn close(&mut self, number: usize, to: Nanos) {
        self.go_through(number, to, Some(to));
    }

    fn settle(&mut self, number: usize) {
        let last = self.documents.iter().map(|document| document.up_to).max();
        if let Some(last) = last {
            self.go_through(number, last, None);
        }
    }

    /// Corrects stale documents in the periods that begin before `until`; makes the missing
    /// documents up to `close`.
    fn go_through(&mut self, number: usize, until: Nanos, close: Option<Nanos>) {
        if until <= self.known.first_fact() {
            return;
        }
        let mut handed = Handed::default();
        let mut period = self.first_period();
        while self.border(period.begin) < until.min(self.known.ended()) {
            let closed_to = self.last(&period).map(|document| document.up_to);
            let targets = [close, closed_to].into_iter().flatten();
            let span = targets.max().map(|target| self.span(&period, target));
            let is_longer = span.is_some_and(|span| closed_to.is_none_or(|to| to < span.up_to));
            let view = span.and_then(|span| self.view(span, &handed));
            if let (Some(view), Some(span)) = (view, span) {
                handed = self.document(number, &period, span, view, is_longer);
            } else if let Some(to) = closed_to {
                // The time up to the last document can be rated, only later time can't.
                let span = self.span(&period, to);
                if let Some(view) = self.view(span, &handed) {
                    handed = self.document(number, &period, span, view, false);
                } else {
                    // Its documents stand.
                    handed = self.handed.get(&period.name).cloned().unwrap_or_default();
                }
            }
            period = self.next(&period);
        }
    }

    /// Computes a period's view; none if it can't be rated.
    fn view(&mut self, span: Span, opening: &Handed) -> Option<View> {
        let view = View::of(&self.known, span, opening).ok()?;
        if let Some(views) = &mut self.views {
            views.push(PeriodView::of(&self.known, span, opening, &view));
        }
        Some(view)
    }

    fn document(
        &mut self,
        number: usize,
        period: &Period,
        span: Span,
        view: View,
        is_needed: bool,
    ) -> Handed {
        let billed = self.last(period).map(|document| document.whole.clone()).unwrap_or_default();
        let difference = view.sums.less(&billed);
        if !is_needed && !self.is_due(&difference) {
            return view.handed;
        }
        let of_period = self.documents.iter().filter(|document| document.period == period.name);
        let payable = view.coins - of_period.map(|document| document.payable).sum::<i128>();
        self.borders.insert(period.begin, span.begin);
        if span.up_to == span.usual_end {
            self.borders.insert(period.end, span.usual_end);
        }
        self.handed.insert(period.name.clone(), view.handed.clone());
        self.documents.push(Document {
            period: period.name.clone(),
            up_to: span.up_to,
            act: number,
            whole: view.sums,
            difference,
            payable,
        });
        view.handed
    }

    /// A difference needs a document, unless caps alone take up what rules differ by.
    fn is_due(&self, difference: &Sums) -> bool {
        let is_cap = |id: &String| self.is_of_kind(id, "cap");
        let by_caps = difference.total == 0
            && !difference.adjustments.is_empty()
            && difference.adjustments.keys().all(is_cap);
        !difference.is_nothing() && !by_caps
    }

    fn last(&self, period: &Period) -> Option<&Document> {
        self.documents.iter().rev().find(|document| document.period == period.name)
    }

    fn first_period(&self) -> Period {
        let first = self.known.first_fact();
        let periods = Periods::of(&self.scenario.agreement);
        // Where the clock was set back, an earlier period may hold the instant.
        let mut period =
            periods.from(periods.begin(periods.before(self.known.calendar.reads(first))));
        while self.border(period.end) <= first {
            period = periods.from(period.end);
        }
        period
    }

    /// The period that follows, by the last agreement that was made before it begins.
    fn next(&self, period: &Period) -> Period {
        let border = self.border(period.end);
        Periods::of(self.agreement(border)).from(period.end)
    }

    fn agreement(&self, border: Nanos) -> &'a Agreement {
        let made = self.scenario.agreements.iter().filter(|set| set.at < border);
        made.max_by_key(|set| set.at).map_or(&self.scenario.agreement, |set| &set.agreement)
    }

    /// The meter instant of a border.
    fn border(&self, utc: Nanos) -> Nanos {
        let fixed = self.borders.get(&utc).copied();
        fixed.unwrap_or_else(|| self.known.calendar.first_reading(utc))
    }

    fn span(&self, period: &Period, up_to: Nanos) -> Span {
        let begin = self.border(period.begin);
        let usual_end = self.border(period.end);
        let end = usual_end.min(self.known.ended());
        let usual_begin = begin - period.missing;
        Span { usual_begin, begin, usual_end, end, up_to: up_to.min(end) }
    }

    /// Nano-units of each credit that the last documents used.
    fn credits(&self) -> BTreeMap<String, i128> {
        let mut used = BTreeMap::new();
        let mut period = self.first_period();
        let last = self.documents.iter().map(|document| document.up_to).max();
        while last.is_some_and(|last| self.border(period.begin) < last) {
            for (id, amount) in
                self.last(&period).iter().flat_map(|document| &document.whole.adjustments)
            {
                *used.entry(id.clone()).or_insert(0) -= amount;
            }
            period = self.next(&period);
        }
        used.retain(|id, _| self.is_of_kind(id, "credit") || self.is_goodwill(id));
        used
    }

    fn is_goodwill(&self, id: &str) -> bool {
        let is_it = |act: &Act| matches!(act, Act::OneOff(one) if one.is_goodwill && one.id == id);
        self.scenario.acts.iter().any(is_it)
    }

    fn is_of_kind(&self, id: &str, kind: &str) -> bool {
        let is_of_kind = |book: &serde_json::Value| {
            let adjustments = book["adjustments"].as_array().into_iter().flatten();
            adjustments.filter(|adjustment| adjustment["id"] == *id).any(|it| it["kind"] == kind)
        };
        let set = self.scenario.books.iter().map(|set| &set.book);
        let named = self.scenario.acts.iter().filter_map(|act| match act {
            Act::Override(with) => with.book.as_ref(),
            Act::Close(_) | Act::Settle | Act::OneOff(_) | Act::Learn(_) | Act::Clock(_) => None,
        });
        set.chain(named).any(is_of_kind)
    }
}
