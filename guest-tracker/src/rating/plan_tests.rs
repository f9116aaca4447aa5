//! Rating as a whole: what one request charges, and that it makes no difference how time and instances are divided among requests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::sample::{self, Lived};
use super::*;
use crate::{
    Adjustment, ChargeLine, Phase, Price, RatingError, Ratio, Request, Span, Statement, Window, Zone, ZoneTransition,
};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
const MONTH: Span = Span { start: 0, end: 30 * 24 * HOUR };

fn active() -> Meter {
    Meter::new("active", Phases::of(&[Phase::Initializing, Phase::Running]))
}

fn with_minimum() -> Meter {
    active().at_least(60 * SECOND_NS).in_grains(Granularity::SECOND)
}

fn rate(meter: Meter, request: &Request) -> Statement {
    Plan::new([meter]).rate(request).expect("rated")
}

/// Rule, subject, billed seconds.
fn billed_s(statement: &Statement) -> Vec<(Option<u32>, u128)> {
    statement.lines.iter().map(|line| (line.subject, u128::from(line.billed) / 1_000_000_000)).collect()
}

fn total(statement: &Statement) -> i128 {
    statement.lines.iter().map(|line| i128::from(line.amount)).sum()
}

fn priced(mut request: Request, prices: Vec<Price>) -> Request {
    request.book.prices = prices;
    request
}

#[test]
fn each_start_is_charged_its_minimum_and_a_pause_is_none() {
    let life: &[Lived] = &[
        (Phase::Running, 10 * SECOND, 1, 1),
        (Phase::Stopped, 5 * SECOND, 1, 1),
        (Phase::Running, 30 * SECOND, 2, 1),
        (Phase::Paused, 5 * SECOND, 2, 1),
        (Phase::Running, 20 * SECOND, 2, 1),
    ];
    let statement = rate(with_minimum(), &sample::lived(MONTH, &[("a", life)]));
    let [line] = statement.lines.as_slice() else { panic!("one line: {statement:?}") };
    assert_eq!((u128::from(line.quantity), u128::from(line.billed)), (60_000_000_000, 120_000_000_000));
    assert_eq!((line.intervals.as_slice(), line.sessions.as_slice()), ([0, 2, 4].as_slice(), [1, 2].as_slice()));
    assert_eq!(line.description, "active: 120 s");
}

#[test]
fn a_wake_goes_on_with_its_start_unless_the_policy_says_otherwise() {
    let life: &[Lived] =
        &[(Phase::Running, 10 * SECOND, 1, 1), (Phase::Standby, 5 * SECOND, 1, 1), (Phase::Running, 20 * SECOND, 1, 1)];
    let request = sample::lived(MONTH, &[("a", life)]);
    assert_eq!(billed_s(&rate(with_minimum(), &request)), [(Some(0), 60)]);
    assert_eq!(billed_s(&rate(with_minimum().each(Stretch::StartOrWake), &request)), [(Some(0), 120)]);
    assert_eq!(billed_s(&rate(with_minimum().each(Stretch::Visit), &request)), [(Some(0), 120)]);
    assert_eq!(billed_s(&rate(with_minimum().each(Stretch::Life), &request)), [(Some(0), 60)]);
}

#[test]
fn what_is_missing_to_a_minimum_is_charged_with_the_last_shape() {
    let life: &[Lived] = &[(Phase::Running, 10 * SECOND, 1, 2), (Phase::Running, 20 * SECOND, 1, 4)];
    let price = Price { unit: "vcpu-ns".into(), ..sample::price() };
    let statement = rate(with_minimum(), &priced(sample::lived(MONTH, &[("a", life)]), vec![price]));
    assert_eq!(u128::from(statement.lines[0].quantity) / 1_000_000_000, 10 * 2 + 20 * 4);
    assert_eq!(u128::from(statement.lines[0].billed) / 1_000_000_000, 10 * 2 + 20 * 4 + 30 * 4);
}

#[test]
fn rounding_down_takes_from_the_end_whatever_the_shapes_were() {
    let life: &[Lived] = &[
        (Phase::Running, 50 * SECOND, 1, 1),
        (Phase::Running, 15 * SECOND, 1, 8),
        (Phase::Running, 2 * SECOND, 1, 64),
    ];
    let meter = active().in_grains(Granularity { rounding: Rounding::Down, ..Granularity::MINUTE });
    let price = Price { unit: "vcpu-ns".into(), ..sample::price() };
    let statement = rate(meter, &priced(sample::lived(MONTH, &[("a", life)]), vec![price]));
    assert_eq!(u128::from(statement.lines[0].billed) / 1_000_000_000, 50 + 10 * 8);
}

#[test]
fn a_new_price_in_the_middle_of_an_interval_splits_it_exactly() {
    let life: &[Lived] = &[(Phase::Running, 100, 1, 1)];
    let old = Price { id: "a".into(), valid: Span { start: i64::MIN, end: 33 }, ..sample::price() };
    let new = Price {
        id: "b".into(),
        valid: Span { start: 33, end: i64::MAX },
        tiers: vec![sample::tier(None, 10, 1)],
        ..sample::price()
    };
    let statement = rate(active(), &priced(sample::lived(MONTH, &[("a", life)]), vec![old, new]));
    let rows: Vec<_> =
        statement.lines.iter().map(|l| (l.price_id.as_str(), i128::from(l.amount), l.starts[0], l.ends[0])).collect();
    assert_eq!(rows, [("a", 33, 0, 33), ("b", 670, 33, 100)]);
    assert!(statement.lines.iter().all(|line| line.intervals == [0]));
}

#[test]
fn day_and_night_have_their_prices_on_both_sides_of_a_change_of_the_clocks() {
    let life: &[Lived] = &[(Phase::Running, 48 * HOUR, 1, 1)];
    let mut request = sample::lived(MONTH, &[("a", life)]);
    // An hour east until 24:00 UTC on the first day, then two.
    let at = |since, hours| ZoneTransition { since, offset_seconds: hours * 3_600 };
    request.zones = vec![Zone { name: "Z".into(), transitions: vec![at(0, 1), at(24 * HOUR, 2)] }];
    let night = Window { zone: "Z".into(), days: 127, from_minute: 22 * 60, until_minute: 6 * 60 };
    let by_day = Price { id: "day".into(), ..sample::price() };
    let by_night = Price { id: "night".into(), windows: vec![night], ..sample::price() };
    let statement = rate(active(), &priced(request, vec![by_day, by_night]));
    // Local nights: 22-6 is 21-5 UTC on the first day and 20-4 UTC on the second; the night in between lasts from 21 to 28 UTC.
    let hours: Vec<_> = statement
        .lines
        .iter()
        .map(|line| (line.price_id.as_str(), u128::from(line.billed) / 3_600_000_000_000))
        .collect();
    assert_eq!(hours, [("night", 5 + 7 + 4), ("day", 16 + 16)]);
    let night = &statement.lines[0];
    let pieces: Vec<_> = night.starts.iter().zip(&night.ends).map(|(start, end)| (start / HOUR, end / HOUR)).collect();
    assert_eq!(pieces, [(0, 5), (21, 28), (44, 48)]);
}

#[test]
fn a_tenants_tiers_count_all_its_instances_together() {
    let life: &[Lived] = &[(Phase::Running, 6, 1, 1)];
    let price = Price {
        scope: "tenant".into(),
        model: "graduated".into(),
        tiers: vec![sample::tier(Some(10), 0, 1), sample::tier(None, 3, 1)],
        ..sample::price()
    };
    let each = Price { scope: "instance".into(), ..price.clone() };
    let request = sample::lived(MONTH, &[("a", life), ("b", life)]);
    let together = rate(active(), &priced(request.clone(), vec![price]));
    let rows: Vec<_> = together
        .lines
        .iter()
        .map(|l| (l.tier, u128::from(l.billed), i128::from(l.amount), l.intervals.len()))
        .collect();
    assert_eq!(rows, [(0, 10, 0, 2), (1, 2, 6, 0)]);
    assert!(together.lines.iter().all(|line| line.subject.is_none()));
    assert_eq!(total(&rate(active(), &priced(request, vec![each]))), 0);
}

#[test]
fn a_line_says_what_was_charged_for_in_units_that_people_know() {
    let life: &[Lived] = &[(Phase::Running, 30 * SECOND, 1, 2)];
    let price = Price {
        rule: "compute".into(),
        unit: "vcpu-ns".into(),
        per: "vcpu-hour".into(),
        measure: "vcpu*s".into(),
        model: "graduated".into(),
        tiers: vec![
            sample::tier(Some(100 * 1_000_000_000), 47_500_000, 3_600_000_000_000),
            sample::tier(None, 38_000_000, 3_600_000_000_000),
        ],
        ..sample::price()
    };
    let statement = rate(with_minimum(), &priced(sample::lived(MONTH, &[("a", life)]), vec![price]));
    let texts: Vec<_> = statement.lines.iter().map(|line| line.description.as_str()).collect();
    assert_eq!(
        texts,
        [
            "compute: 100 vcpu*s for 60 vcpu*s used at 0.0475 EUR per 3,600 vcpu*s (vcpu-hour), tier 1 of 2, at the minimum in 1 session",
            "compute: 20 vcpu*s for 0 vcpu*s used at 0.038 EUR per 3,600 vcpu*s (vcpu-hour), tier 2 of 2",
        ]
    );
}

#[test]
fn adjustments_come_last_and_each_sees_what_the_one_before_left() {
    let life: &[Lived] = &[(Phase::Running, 30, 1, 1)];
    let adjustment = |id: &str, kind: &str, amount: i128, rules: &[&str]| Adjustment {
        id: id.into(),
        kind: kind.into(),
        amount: amount.into(),
        rules: rules.iter().map(|&rule| rule.into()).collect(),
        valid: Span { start: i64::MIN, end: i64::MAX },
    };
    let mut request = priced(sample::lived(MONTH, &[("a", life), ("b", life)]), vec![sample::price()]);
    request.book.adjustments = vec![
        adjustment("at-most", "cap", 40, &["time"]),
        adjustment("at-least", "minimum", 100, &[]),
        adjustment("gift", "credit", 130, &[]),
    ];
    let statement = rate(active(), &request);
    let rows: Vec<_> = statement.lines.iter().map(|line| (line.kind.as_str(), i128::from(line.amount))).collect();
    assert_eq!(rows, [("usage", 30), ("usage", 30), ("cap", -20), ("minimum", 60), ("credit", -100)]);
    assert_eq!(statement.lines[3].description, "at-least: raised from 0.00000004 EUR to the minimum of 0.0000001 EUR");
    assert_eq!(total(&statement), 0);

    // The next invoice finds 30 left of the credit.
    let next = Span { start: MONTH.end, end: 2 * MONTH.end };
    let mut request = Request { carried: statement.carried, ..request };
    (request.invoice, request.period) = (next, next);
    for column in [&mut request.intervals.start, &mut request.intervals.end] {
        column.iter_mut().for_each(|at| *at += next.start);
    }
    let statement = rate(active(), &request);
    let rows: Vec<_> = statement.lines.iter().map(|line| (line.kind.as_str(), i128::from(line.amount))).collect();
    assert_eq!(rows, [("usage", 30), ("usage", 30), ("cap", -20), ("minimum", 60), ("credit", -30)]);
}

type Spoil = fn(&mut Request);

#[test]
fn what_makes_no_sense_is_refused_and_nothing_panics() {
    let good = || priced(sample::lived(MONTH, &[("a", &[(Phase::Running, 6, 1, 1)])]), vec![sample::price()]);
    let plan = Plan::new([active()]);
    assert!(plan.rate(&good()).is_ok());
    let wrong: [(&str, Spoil); 13] = [
        ("a short column", |request| request.intervals.session.clear()),
        ("a short dimension", |request| request.intervals.dimensions[0].values.clear()),
        ("no such subject", |request| request.subjects.clear()),
        ("backwards", |request| request.intervals.end[0] = -1),
        ("outside", |request| request.period = Span { start: 0, end: 3 }),
        ("no such meter", |request| request.book.prices[0].meter = "passive".into()),
        ("no such dimension", |request| request.book.prices[0].unit = "gpu-ns".into()),
        ("no such unit", |request| request.book.prices[0].unit = "furlong".into()),
        ("no such model", |request| request.book.prices[0].model = "auction".into()),
        ("no such scope", |request| request.book.prices[0].scope = "planet".into()),
        ("no such reset", |request| request.book.prices[0].resets = "daily".into()),
        ("no such rounding", |request| request.book.rounding = "sideways".into()),
        ("somebody else's state", |request| request.carried = b"?".to_vec()),
    ];
    for (name, spoil) in wrong {
        let mut request = good();
        spoil(&mut request);
        assert!(plan.rate(&request).is_err(), "{name}");
    }
    let mut dear = good();
    dear.book.prices[0].tiers[0].price = Ratio::new(i128::MAX, 1);
    assert_eq!(plan.rate(&dear), Err(RatingError::Overflow));
}

fn lives() -> impl Strategy<Value = Vec<Vec<Lived>>> {
    let phases = &[Phase::Created, Phase::Initializing, Phase::Running, Phase::Paused, Phase::Standby, Phase::Stopped];
    let visit = (prop::sample::select(phases.as_slice()), 1..200 * SECOND, 0..2_u32, 0..5_u64);
    prop::collection::vec(prop::collection::vec(visit, 1..12), 1..5).prop_map(|mut lives| {
        for life in &mut lives {
            let mut session = 1;
            for (_, _, step, _) in life {
                session += *step;
                *step = session;
            }
        }
        lives
    })
}

fn meter() -> impl Strategy<Value = Meter> {
    let grain = prop::sample::select([Granularity::EXACT, Granularity::SECOND, Granularity::MINUTE].as_slice());
    let stretch = &[Stretch::Start, Stretch::StartOrWake, Stretch::Visit, Stretch::Life];
    (grain, prop::sample::select(stretch.as_slice()), prop::sample::select([0, 60 * SECOND_NS].as_slice()))
        .prop_map(|(grain, stretch, minimum)| active().each(stretch).at_least(minimum).in_grains(grain))
}

fn price() -> impl Strategy<Value = Price> {
    let model = prop::sample::select(["flat", "graduated", "volume", "package"].as_slice());
    let scope = prop::sample::select(["instance", "tenant"].as_slice());
    let unit = prop::sample::select(["ns", "vcpu-ns"].as_slice());
    (model, scope, unit).prop_map(|(model, scope, unit)| Price {
        model: model.into(),
        scope: scope.into(),
        unit: unit.into(),
        resets: "never".into(),
        tiers: vec![
            sample::tier(Some(100_000_000_000), 9, 1),
            sample::tier(Some(300_000_000_000), 7, 1),
            sample::tier(None, 5, 1),
        ],
        ..sample::price()
    })
}

/// The part of a request's time from `start` to `end`, as an invoice of its own.
fn cut(request: &Request, start: i64, end: i64, carried: Vec<u8>) -> Request {
    let mut part = Request { carried, ..request.clone() };
    (part.invoice, part.period) = (Span { start, end }, Span { start, end });
    keep(&mut part, |columns, index| columns.end[index] > start && columns.start[index] < end);
    for index in 0..part.intervals.start.len() {
        part.intervals.start[index] = part.intervals.start[index].max(start);
        part.intervals.end[index] = part.intervals.end[index].min(end);
    }
    part
}

fn keep(request: &mut Request, keeps: impl Fn(&crate::IntervalColumns, usize) -> bool) {
    let columns = &request.intervals;
    let kept: Vec<usize> = (0..columns.subject.len()).filter(|&index| keeps(columns, index)).collect();
    let columns = &mut request.intervals;
    columns.subject = kept.iter().map(|&index| columns.subject[index]).collect();
    columns.phase = kept.iter().map(|&index| columns.phase[index]).collect();
    columns.start = kept.iter().map(|&index| columns.start[index]).collect();
    columns.end = kept.iter().map(|&index| columns.end[index]).collect();
    columns.session = kept.iter().map(|&index| columns.session[index]).collect();
    columns.fact = kept.iter().map(|&index| columns.fact[index]).collect();
    for dimension in &mut columns.dimensions {
        dimension.values = kept.iter().map(|&index| dimension.values[index]).collect();
    }
}

fn request(lives: &[Vec<Lived>], price: Option<Price>) -> Request {
    let names = ["a", "b", "c", "d", "e"];
    let named: Vec<(&str, &[Lived])> = names.into_iter().zip(lives.iter().map(Vec::as_slice)).collect();
    priced(sample::lived(MONTH, &named), price.into_iter().collect())
}

/// What lines charge for, by subject.
fn sums<'a>(lines: impl Iterator<Item = &'a ChargeLine>) -> BTreeMap<Option<u32>, (u128, i128)> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let (quantity, amount): &mut (u128, i128) = sums.entry(line.subject).or_default();
        *quantity += u128::from(line.quantity);
        *amount += i128::from(line.amount);
    }
    sums.retain(|_, sum| *sum != (0, 0));
    sums
}

proptest! {
    #[test]
    fn two_periods_charge_what_one_charges(
        lives in lives(), meter in meter(), price in price(), at in 0..1_000_i64,
    ) {
        // Time that was charged ahead and time still to be charged can lie on different sides of a change of shape: so one shape.
        let lives: Vec<Vec<Lived>> = lives.into_iter().map(|life| life.into_iter().map(|(p, l, s, _)| (p, l, s, 3)).collect()).collect();
        let whole = request(&lives, Some(price));
        let end = whole.intervals.end.iter().copied().max().unwrap_or(1);
        let at = (end / 1_000 * at).max(1);
        let first = rate(meter, &cut(&whole, 0, at, Vec::new()));
        let second = rate(meter, &cut(&whole, at, MONTH.end, first.carried));
        let whole = rate(meter, &whole);
        prop_assert_eq!(sums(first.lines.iter().chain(&second.lines)), sums(whole.lines.iter()));
        prop_assert_eq!(second.carried, whole.carried);
    }

    #[test]
    fn two_requests_for_one_period_charge_what_one_charges(lives in lives(), meter in meter(), price in price(), part in 0..5_u32) {
        let whole = request(&lives, Some(price));
        let mut first = whole.clone();
        first.last = false;
        keep(&mut first, |columns, index| columns.subject[index] < part);
        let first = rate(meter, &first);
        let mut second = Request { carried: first.carried, ..whole.clone() };
        keep(&mut second, |columns, index| columns.subject[index] >= part);
        let second = rate(meter, &second);
        let whole = rate(meter, &whole);
        prop_assert_eq!(sums(first.lines.iter().chain(&second.lines)), sums(whole.lines.iter()));
        prop_assert_eq!(second.carried, whole.carried);
    }

    #[test]
    fn quantities_are_the_time_that_was_covered_and_no_instant_is_covered_twice(
        lives in lives(), meter in meter(), price in price(), change in 1..500 * SECOND,
    ) {
        let early = Price { id: "early".into(), valid: Span { start: i64::MIN, end: change }, ..price.clone() };
        let late = Price { id: "late".into(), valid: Span { start: change, end: i64::MAX }, ..price };
        let mut request = request(&lives, None);
        request.book.prices = vec![early, late];
        let statement = rate(meter, &request);
        let columns = &request.intervals;
        let mut covered = Vec::new();
        let (mut stated, mut measured) = (0_u128, 0_u128);
        for line in &statement.lines {
            stated += u128::from(line.quantity);
            for (place, &index) in line.intervals.iter().enumerate() {
                let index = index as usize;
                let start = line.starts.get(place).copied().unwrap_or(columns.start[index]);
                let end = line.ends.get(place).copied().unwrap_or(columns.end[index]);
                prop_assert!(columns.start[index] <= start && start < end && end <= columns.end[index]);
                covered.push((index, start, end));
                let held = if line.unit == "ns" { 1 } else { columns.dimensions[0].values[index] };
                measured += u128::from((end - start).unsigned_abs()) * u128::from(held);
            }
        }
        prop_assert_eq!(stated, measured);
        covered.sort_unstable();
        for pair in covered.windows(2) {
            prop_assert!(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1);
        }
        let counts = |index: &usize| meter.phases.has(columns.phase[*index]);
        let lived: i64 = (0..columns.phase.len()).filter(counts).map(|index| columns.end[index] - columns.start[index]).sum();
        prop_assert_eq!(covered.iter().map(|(_, start, end)| end - start).sum::<i64>(), lived);
    }
}
