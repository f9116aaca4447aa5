//! Properties of every bill.

mod support;

use biller::input::{Balances, Column, Header, Intervals, Span, Subject};
use biller::output::{Bill, Line, Tariff};
use proptest::prelude::*;
use support::checked;
use support::scenarios::{DAY, Period, instant, scenario};
use tallyman_oracle::Scenario;

fn bill(header: &Header, subjects: &[Subject], intervals: &Intervals) -> Bill {
    let bill = biller::bill(header, subjects, intervals, &[]);
    checked(bill.unwrap_or_else(|error| panic!("{error}")))
}

/// The first day of a scenario, up to an instant.
fn first_day(scenario: &Scenario, until: i64) -> Period<'_> {
    let last = scenario.ended.unwrap_or(DAY).min(DAY);
    Period { scenario, span: Span { start: 0, end: DAY }, until: until.clamp(1, last) }
}

/// The same intervals, cut where they contain one of some instants. A count stays at the end.
fn cut(intervals: &Intervals, instants: &[i64]) -> Intervals {
    let empty = |columns: &[Column]| {
        let column = |column: &Column| Column { name: column.name.clone(), values: Vec::new() };
        columns.iter().map(column).collect()
    };
    let mut cut = Intervals {
        dimensions: empty(&intervals.dimensions),
        counts: empty(&intervals.counts),
        ..Intervals::default()
    };
    for number in 0..intervals.subject.len() {
        let start = intervals.start[number];
        let end = intervals.end[number];
        let inside = instants.iter().copied().filter(|&at| start < at && at < end);
        let mut edges: Vec<_> = inside.chain([start, end]).collect();
        edges.sort_unstable();
        edges.dedup();
        for edge in edges.windows(2) {
            cut.subject.push(intervals.subject[number]);
            cut.start.push(edge[0]);
            cut.end.push(edge[1]);
            cut.session.push(intervals.session[number]);
            cut.wakes.push(intervals.wakes[number]);
            cut.meters.push(intervals.meters[number]);
            cut.fact.push(intervals.fact[number]);
            for (into, from) in cut.dimensions.iter_mut().zip(&intervals.dimensions) {
                into.values.push(from.values[number]);
            }
            for (into, from) in cut.counts.iter_mut().zip(&intervals.counts) {
                into.values.push(if edge[1] == end { from.values[number] } else { 0 });
            }
        }
    }
    cut
}

/// Subjects in the opposite order, with their intervals.
fn reversed(subjects: &[Subject], intervals: &Intervals) -> (Vec<Subject>, Intervals) {
    let last = u32::try_from(subjects.len() - 1).expect("few");
    let mut order: Vec<_> = (0..intervals.subject.len()).collect();
    order.sort_by_key(|&number| last - intervals.subject[number]);
    fn by<T: Copy>(order: &[usize], values: &[T]) -> Vec<T> {
        order.iter().map(|&number| values[number]).collect()
    }
    let columns = |columns: &[Column]| {
        let column = |column: &Column| Column {
            name: column.name.clone(),
            values: by(&order, &column.values),
        };
        columns.iter().map(column).collect()
    };
    let other = Intervals {
        subject: by(&order, &intervals.subject).into_iter().map(|subject| last - subject).collect(),
        start: by(&order, &intervals.start),
        end: by(&order, &intervals.end),
        session: by(&order, &intervals.session),
        wakes: by(&order, &intervals.wakes),
        meters: by(&order, &intervals.meters),
        fact: by(&order, &intervals.fact),
        dimensions: columns(&intervals.dimensions),
        counts: columns(&intervals.counts),
    };
    (subjects.iter().rev().cloned().collect(), other)
}

/// The lines with the names of their subjects, in an order that no order of subjects changes.
fn named(bill: &Bill, subjects: &[Subject]) -> Vec<(String, Tariff, Line)> {
    let name = |line: &Line| match line.subject {
        Some(subject) => subjects[subject as usize].id.clone(),
        None => String::new(),
    };
    let named = bill.lines.iter().map(|line| {
        let plain = Line { tariff: 0, subject: None, ..line.clone() };
        (name(line), bill.tariff(line).clone(), plain)
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|(name, tariff, line)| (name.clone(), format!("{tariff:?}"), line.from));
    named
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn cuts_of_intervals_change_nothing(
        scenario in scenario(),
        until in instant(),
        cuts in proptest::collection::vec(instant(), 0..20),
    ) {
        let period = first_day(&scenario, until);
        let header = period.header(Balances::default());
        let (subjects, intervals) = period.intervals(&header);
        let whole = bill(&header, &subjects, &intervals);
        prop_assert_eq!(bill(&header, &subjects, &cut(&intervals, &cuts)), whole);
    }

    #[test]
    fn the_order_of_subjects_changes_nothing_but_the_order_of_lines(
        scenario in scenario(),
        until in instant(),
    ) {
        let period = first_day(&scenario, until);
        let header = period.header(Balances::default());
        let (subjects, intervals) = period.intervals(&header);
        let one = bill(&header, &subjects, &intervals);
        let (subjects_back, intervals_back) = reversed(&subjects, &intervals);
        let other = bill(&header, &subjects_back, &intervals_back);
        prop_assert_eq!(named(&one, &subjects), named(&other, &subjects_back));
        let plain = |bill: Bill| Bill { lines: Vec::new(), tariffs: Vec::new(), ..bill };
        prop_assert_eq!(plain(one), plain(other));
    }

    #[test]
    fn a_bill_up_to_an_instant_forgets_what_comes_after(
        scenario in scenario(),
        one in instant(),
        other in instant(),
    ) {
        let until = one.min(other);
        let later = one.max(other);
        let period = first_day(&scenario, until);
        let before = period.bill(Balances::default());
        // What was billed up to T has no part in what is billed up to a later T.
        let whole = first_day(&scenario, later).bill(Balances::default());
        prop_assert_eq!(first_day(&scenario, later).bill(Balances::default()), whole);
        // Facts after T have no part in what is billed up to T.
        let mut shorter = scenario.clone();
        for instance in &mut shorter.instances {
            instance.pieces.retain(|piece| piece.from < period.until);
        }
        prop_assert_eq!(first_day(&shorter, until).bill(Balances::default()), before);
    }

    #[test]
    fn no_adjustment_takes_more_than_there_is(scenario in scenario(), until in instant()) {
        let bill = first_day(&scenario, until).bill(Balances::default());
        let mut sum: i128 = bill.rules.iter().map(|rule| rule.amount).sum();
        for adjusted in &bill.adjustments {
            sum += adjusted.change;
            prop_assert!(sum >= 0, "{:?}", bill.adjustments);
        }
        for credit in &bill.closing.credits {
            prop_assert!(0 <= credit.used && credit.used <= credit.amount);
        }
    }
}
