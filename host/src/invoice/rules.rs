//! The policies and books in force over a span of a tenant's time.
//!
//! They follow from facts alone, those up to the document's own place in the journal: a document
//! that depended on anything else could not be made again.

use super::evidence::{InForce, Override, Quarantine};
use super::stand_ins::StandIns;
use crate::billing::{Change, Fact, TenantFact};
use crate::id::Digest;
use crate::mutants::money::Mutant;
use crate::tenant::Plan;
use crate::units::Instant;

/// Time under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicySpan {
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// The policy that measures; none while the time is held.
    pub(super) asked: Option<Digest>,
    /// The policy in force.
    pub(super) in_force: Digest,
    /// The options of the policy that measures.
    pub(super) options: Vec<(String, String)>,
}

/// Time under one book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BookSpan {
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) book: Digest,
}

/// Another policy or book for a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overriding {
    /// First instant of the span.
    pub from: Instant,
    /// First instant after.
    pub until: Instant,
    /// The policy; none if none is named.
    pub policy: Option<Digest>,
    /// The text of the book; none if none is named.
    pub book: Option<Vec<u8>>,
    /// Set if the book also holds for time that no book covers.
    pub from_begin: bool,
    /// The reason, in words.
    pub reason: String,
}

/// The changes of a tenant's rules, in the order of the facts.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) policies: Vec<InForce>,
    pub(super) books: Vec<InForce>,
    pub(super) quarantines: Vec<Quarantine>,
    pub(super) overrides: Vec<Override>,
}

impl Rules {
    /// Reads a tenant's facts, in their order. Withdrawn plans are left out.
    pub(super) fn said_by(facts: &[(u64, Fact)]) -> Self {
        Self {
            policies: standing(facts, Plan::Policy, InForce::policy),
            books: standing(facts, Plan::Prices, InForce::book),
            quarantines: said(facts, Quarantine::from_fact),
            overrides: said(facts, Override::from_fact),
        }
    }

    /// The policies of a span, in order of time; `standard` holds before any other.
    pub(super) fn policies(
        &self,
        (start, end): (Instant, Instant),
        standard: Digest,
    ) -> Vec<PolicySpan> {
        let stand_ins = StandIns::of(&self.quarantines, &self.policies);
        let mut spans: Vec<PolicySpan> = Vec::new();
        for (from, until) in self.stretches(&self.policies, start, end) {
            let named = self.overriding(from, |one| one.policy);
            let change = in_force(&self.policies, from);
            let in_force = named.or(change.map(|change| change.digest)).unwrap_or(standard);
            // A policy that an override names is asked, even if it is quarantined.
            let asked = named.or_else(|| stand_ins.answering(in_force));
            let options = match asked {
                // Options are those of an activation: a stand-in has its own.
                Some(stand_in) if stand_in != in_force => {
                    self.policies.iter().rfind(|change| change.digest == stand_in)
                }
                _ => change.filter(|change| change.digest == in_force),
            };
            let options = options.map(|change| change.options.clone()).unwrap_or_default();
            let span = PolicySpan { start: from, end: until, asked, in_force, options };
            match spans.last_mut().filter(|last| last.is_same(&span)) {
                Some(last) => last.end = until,
                None => spans.push(span),
            }
        }
        spans
    }

    /// The books of a span, in order of time; time without one is left out. An override replaces
    /// books that were in force, and covers time without one only if its `from_begin` is set.
    pub(super) fn books(&self, (start, end): (Instant, Instant)) -> Vec<BookSpan> {
        let mut spans: Vec<BookSpan> = Vec::new();
        for (from, until) in self.stretches(&self.books, start, end) {
            let own = in_force(&self.books, from).map(|change| change.digest);
            let named = self
                .overriding(from, |one| one.book.filter(|_| own.is_some() || one.reaches_back()));
            let Some(book) = named.or(own) else { continue };
            match spans.last_mut().filter(|last| last.book == book && last.end == from) {
                Some(last) => last.end = until,
                None => spans.push(BookSpan { start: from, end: until, book }),
            }
        }
        spans
    }

    /// The books of a period as they are planned at an instant: no book that was set later counts.
    pub(super) fn books_planned_at(
        &self,
        told: Instant,
        span: (Instant, Instant),
    ) -> Vec<BookSpan> {
        let known = self.books.iter().filter(|one| one.set_at <= told).cloned().collect();
        let overrides = self.overrides.clone();
        Self { books: known, overrides, ..Self::default() }.books(span)
    }

    /// The book that was set for an instant, whatever overrides say; none without one.
    pub(super) fn book_set(&self, at: Instant) -> Option<&InForce> {
        in_force(&self.books, at)
    }

    /// The books that hold at some time, also those that overrides stand in for, ascending.
    pub(super) fn all_books(&self) -> Vec<BookSpan> {
        let ever = (Instant(i64::MIN), Instant(i64::MAX));
        let own = Self { books: self.books.clone(), ..Self::default() };
        [own.books(ever), self.books(ever)].concat()
    }

    /// Leaves a planned change out.
    pub(super) fn withdraw(&mut self, plan: Plan, (from, digest): (Instant, Digest)) {
        let of = match plan {
            Plan::Policy => &mut self.policies,
            Plan::Prices => &mut self.books,
        };
        of.retain(|one| (one.digest, one.from) != (digest, from));
    }

    /// The overrides that touch a span and were not replaced, in the order of their facts.
    pub(super) fn overrides(&self, (start, end): (Instant, Instant)) -> Vec<&Override> {
        let touches = |one: &&Override| one.from < end && start < one.until;
        let replaced = |one: &Override| {
            let later = self.overrides.iter().filter(|later| later.fact > one.fact);
            later.into_iter().any(|later| {
                later.from <= one.from && one.until <= later.until && later.replaces(one)
            })
        };
        self.overrides.iter().filter(touches).filter(|one| !replaced(one)).collect()
    }

    /// The span, cut at the begin of each change and at the begin and end of each override.
    fn stretches(
        &self,
        changes: &[InForce],
        start: Instant,
        end: Instant,
    ) -> Vec<(Instant, Instant)> {
        let mut cuts: Vec<Instant> = changes.iter().map(|change| change.from).collect();
        cuts.extend(self.overrides.iter().flat_map(|one| [one.from, one.until]));
        cuts.retain(|&cut| start < cut && cut < end);
        cuts.extend([start, end]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// The digest that the last override over an instant names; an override that names nothing ends
    /// earlier ones.
    fn overriding(
        &self,
        at: Instant,
        named: impl Fn(&Override) -> Option<Digest>,
    ) -> Option<Digest> {
        let over = self.overrides.iter().rev().filter(|one| one.from <= at && at < one.until);
        let mut deciding = over.filter(|one| one.is_end() || named(one).is_some());
        deciding.next().and_then(named)
    }
}

impl PolicySpan {
    fn is_same(&self, other: &Self) -> bool {
        (self.asked, self.in_force, &self.options) == (other.asked, other.in_force, &other.options)
    }
}

/// The values that `read` finds in a tenant's facts, in their order.
pub(super) fn said<T>(
    facts: &[(u64, Fact)],
    read: impl Fn(u64, &TenantFact) -> Option<T>,
) -> Vec<T> {
    facts
        .iter()
        .filter_map(|(seq, fact)| fact.of_tenant().and_then(|said| read(*seq, said)))
        .collect()
}

/// The changes that were set and not withdrawn.
fn standing(
    facts: &[(u64, Fact)],
    of: Plan,
    read: impl Fn(u64, Instant, &TenantFact) -> Option<InForce>,
) -> Vec<InForce> {
    let mut standing: Vec<InForce> = Vec::new();
    for (seq, fact) in facts {
        let Some(said) = fact.of_tenant() else { continue };
        match said.changes(of) {
            Some(Change::Set { .. }) => standing.extend(read(*seq, fact.at.meter, said)),
            Some(Change::Withdrawn { from, digest }) => {
                standing.retain(|one| (one.digest, one.from) != (digest, from));
            }
            None => {}
        }
    }
    standing
}

/// The change in force at an instant: the last to come into force; of two for one instant, the one
/// that was set later.
fn in_force(changes: &[InForce], at: Instant) -> Option<&InForce> {
    let reached = changes.iter().filter(|change| change.from <= at);
    match Mutant::PlansReplaced.is_active() {
        true => reached.max_by_key(|change| change.fact),
        false => reached.max_by_key(|change| (change.from, change.fact)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest([number; 32])
    }

    fn change(number: u8, from: i64, fact: u64) -> InForce {
        let from = Instant(from);
        InForce { from, digest: digest(number), set_at: from, fact, options: Vec::new() }
    }

    fn over(from: i64, until: i64, book: Option<u8>, fact: u64) -> Override {
        Override {
            from: Instant(from),
            until: Instant(until),
            policy: None,
            book: book.map(digest),
            from_begin: false,
            reason: "because".into(),
            fact,
        }
    }

    fn books(rules: &Rules) -> Vec<(i64, i64, u8)> {
        let spans = rules.books((Instant(0), Instant(100)));
        spans.iter().map(|span| (span.start.0, span.end.0, span.book.0[0])).collect()
    }

    #[test]
    fn a_planned_book_stays_when_another_is_set_before_it() {
        let rules = Rules {
            books: vec![change(1, 10, 1), change(2, 50, 2), change(3, 20, 3)],
            ..Rules::default()
        };
        assert_eq!(books(&rules), [(10, 20, 1), (20, 50, 3), (50, 100, 2)]);
    }

    #[test]
    fn of_two_books_for_one_instant_the_later_set_holds() {
        let rules = Rules { books: vec![change(1, 10, 1), change(2, 10, 2)], ..Rules::default() };
        assert_eq!(books(&rules), [(10, 100, 2)]);
    }

    #[test]
    fn an_override_stands_in_for_books_and_not_for_time_without_one() {
        let mut rules = Rules { books: vec![change(1, 10, 1)], ..Rules::default() };
        rules.overrides = vec![over(0, 30, Some(5), 2)];
        assert_eq!(books(&rules), [(10, 30, 5), (30, 100, 1)]);
        rules.overrides[0].from_begin = true;
        assert_eq!(books(&rules), [(0, 30, 5), (30, 100, 1)]);
        rules.overrides.push(over(0, 20, Some(6), 3));
        assert_eq!(books(&rules), [(0, 10, 5), (10, 20, 6), (20, 30, 5), (30, 100, 1)]);
        rules.overrides.push(over(0, 100, None, 4));
        assert_eq!(books(&rules), [(10, 100, 1)]);
        assert_eq!(rules.overrides((Instant(0), Instant(100))).len(), 1);
    }

    #[test]
    fn a_stand_in_is_asked_with_options_of_its_own() {
        let option = |value: &str| vec![("minimum".to_owned(), value.to_owned())];
        let with = |number: u8, from: i64, value: &str| InForce {
            options: option(value),
            ..change(number, from, from.unsigned_abs())
        };
        let mut rules = Rules {
            policies: vec![with(1, 10, "60s"), with(2, 20, "5s"), with(3, 40, "9s")],
            ..Rules::default()
        };
        let options = |rules: &Rules| -> Vec<Vec<(String, String)>> {
            let spans = rules.policies((Instant(10), Instant(100)), digest(9));
            spans.into_iter().map(|span| span.options).collect()
        };
        assert_eq!(options(&rules), [option("60s"), option("5s"), option("9s")]);
        let quarantined = |stand_in: u8| Quarantine {
            policy: digest(2),
            stand_in: Some(digest(stand_in)),
            fact: 50,
        };
        rules.quarantines = vec![quarantined(1)];
        assert_eq!(options(&rules), [option("60s"), option("60s"), option("9s")]);
        rules.quarantines = vec![quarantined(9)];
        assert_eq!(options(&rules), [option("60s"), vec![], option("9s")]);
    }

    #[test]
    fn a_quarantined_policy_is_answered_for_and_a_named_one_answers_for_itself() {
        let mut rules = Rules { policies: vec![change(1, 10, 1)], ..Rules::default() };
        rules.quarantines =
            vec![Quarantine { policy: digest(1), stand_in: Some(digest(2)), fact: 2 }];
        let spans = |rules: &Rules| {
            let spans = rules.policies((Instant(0), Instant(100)), digest(9));
            spans
                .iter()
                .map(|span| (span.start.0, span.asked.map(|one| one.0[0])))
                .collect::<Vec<_>>()
        };
        assert_eq!(spans(&rules), [(0, Some(9)), (10, Some(2))]);
        rules.quarantines[0].stand_in = None;
        assert_eq!(spans(&rules), [(0, Some(9)), (10, None)]);
        rules.overrides = vec![Override { policy: Some(digest(1)), ..over(0, 50, None, 3) }];
        assert_eq!(spans(&rules), [(0, Some(1)), (50, None)]);
    }
}
