//! Checks of a book as a whole: ids, and which prices may stand side by side.

use std::collections::BTreeMap;

use super::price::Price;
use super::window::meeting;
use super::{Adjustment, Checking, wrong};
use crate::input::Span;
use crate::{instant, limits};

/// Refuses a book that is larger than a bill can be made of.
pub(super) fn check_counts(prices: &[Price]) -> Checking<()> {
    let windows: usize = prices.iter().map(|price| price.windows.len()).sum();
    if windows > limits::WINDOWS_MAX {
        let max = limits::WINDOWS_MAX;
        return Err(wrong(
            "prices",
            format!("at most {max} windows in all; this book has {windows}"),
        ));
    }
    let rules = by(prices, |price| price.rule.as_str()).len();
    if rules > limits::RULES_MAX {
        let max = limits::RULES_MAX;
        return Err(wrong("prices", format!("at most {max} rules; this book has {rules}")));
    }
    Ok(())
}

/// Refuses an id that stands twice.
pub(super) fn check_ids(prices: &[Price], adjustments: &[Adjustment]) -> Checking<()> {
    let counts = [
        ("prices", prices.len(), limits::PRICES_MAX),
        ("adjustments", adjustments.len(), limits::ADJUSTMENTS_MAX),
    ];
    if let Some((what, count, max)) = counts.iter().find(|(_, count, max)| count > max) {
        return Err(wrong(*what, format!("at most {max}; this book has {count}")));
    }
    let prices = prices.iter().map(|price| price.id.as_str());
    let mut ids: Vec<_> = prices.chain(adjustments.iter().map(|one| one.id.as_str())).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let problem = "stands twice; every price and adjustment has an id of its own";
            Err(wrong("id", format!("'{}' {problem}", pair[0])))
        }
        None => Ok(()),
    }
}

/// Refuses an adjustment of a rule that no price has.
pub(super) fn check_adjusted(prices: &[Price], adjustments: &[Adjustment]) -> Checking<()> {
    let known = by(prices, |price| price.rule.as_str());
    for (number, adjustment) in adjustments.iter().enumerate() {
        if let Some(rule) = adjustment.rules.iter().find(|rule| !known.contains_key(rule.as_str()))
        {
            let place = format!("adjustments[{number}].rules");
            return Err(wrong(
                place,
                format!("no price has the rule '{rule}'; name the rule of a price"),
            ));
        }
    }
    Ok(())
}

/// Refuses prices that contradict each other: all prices of one rule are of one kind, no two hold
/// at one time, and no two rules charge one meter in one unit at one time.
pub(super) fn check_rules(prices: &[Price]) -> Checking<()> {
    for group in by(prices, |price| price.rule.as_str()).values() {
        for &number in group {
            check_kind(prices, group[0], number)?;
        }
        let (plain, windowed): (Vec<_>, Vec<_>) =
            group.iter().partition(|&&number| prices[number].windows.is_empty());
        check_plain(prices, plain)?;
        check_windowed(prices, &windowed)?;
    }
    let by_meter = by(prices, |price| (price.meter.as_str(), price.per.unit.as_str()));
    by_meter.into_values().try_for_each(|group| check_meter(prices, group))
}

/// The numbers of prices by a key, ascending.
fn by<'a, K: Ord>(prices: &'a [Price], key: impl Fn(&'a Price) -> K) -> BTreeMap<K, Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (number, price) in prices.iter().enumerate() {
        groups.entry(key(price)).or_default().push(number);
    }
    groups
}

fn check_kind(prices: &[Price], first: usize, number: usize) -> Checking<()> {
    let there = &prices[first];
    let here = &prices[number];
    let is_same = here.meter == there.meter
        && here.per.unit == there.per.unit
        && here.scope == there.scope
        && here.resets == there.resets;
    if is_same {
        return Ok(());
    }
    let other = &there.id;
    let problem =
        format!("differs from price '{other}' of the same rule in meter, unit, scope or resets");
    Err(wrong(format!("prices[{number}]"), problem))
}

/// Prices without windows: once they are sorted, only neighbours can meet first.
fn check_plain(prices: &[Price], mut group: Vec<usize>) -> Checking<()> {
    group.sort_by_key(|&number| (prices[number].valid.start, number));
    for pair in group.windows(2) {
        if let Some(both) = common(&prices[pair[0]], &prices[pair[1]]) {
            return Err(both_hold(prices, pair[0], pair[1], &in_words(both)));
        }
    }
    Ok(())
}

/// Prices with windows, of which a book has few.
fn check_windowed(prices: &[Price], group: &[usize]) -> Checking<()> {
    for (place, &number) in group.iter().enumerate() {
        for &other in &group[..place] {
            let here = &prices[number];
            let there = &prices[other];
            let Some(both) = common(here, there) else { continue };
            if let Some(when) = meeting(&here.windows, &there.windows) {
                return Err(both_hold(
                    prices,
                    other,
                    number,
                    &format!("{when}, {}", in_words(both)),
                ));
            }
        }
    }
    Ok(())
}

fn both_hold(prices: &[Price], one: usize, other: usize, when: &str) -> super::BookError {
    let first = one.min(other);
    let second = one.max(other);
    let id = &prices[first].id;
    let rule = &prices[first].rule;
    let problem = format!(
        "'{}' holds at the same time as price '{id}' of the same rule '{rule}': {when}; \
         end the one where the other begins",
        prices[second].id
    );
    wrong(format!("prices[{second}]"), problem)
}

/// Prices for one meter in one unit: those of two rules never hold at one time.
fn check_meter(prices: &[Price], mut group: Vec<usize>) -> Checking<()> {
    group.sort_by_key(|&number| (prices[number].valid.start, number));
    // Of the prices so far, the one that ends last, and the one of another rule that ends last.
    let mut last: Option<usize> = None;
    let mut other: Option<usize> = None;
    for number in group {
        for before in [last, other].into_iter().flatten() {
            check_pair(prices, before, number)?;
        }
        let ends = |number: usize| prices[number].valid.end;
        if last.is_none_or(|last| ends(number) > ends(last)) {
            let is_other = last.is_some_and(|last| prices[last].rule != prices[number].rule);
            other = if is_other { last } else { other };
            last = Some(number);
        } else if last.is_some_and(|last| prices[last].rule != prices[number].rule) {
            other = Some(number);
        }
    }
    Ok(())
}

fn check_pair(prices: &[Price], one: usize, other: usize) -> Checking<()> {
    let there = &prices[one];
    let here = &prices[other];
    if here.rule == there.rule || common(here, there).is_none() {
        return Ok(());
    }
    let number = one.max(other);
    let problem = format!(
        "rule '{}' charges meter '{}' in {} like rule '{}' (prices '{}' and '{}'): \
         time would be charged twice on one meter; end the one where the other begins",
        here.rule, here.meter, here.per.unit, there.rule, here.id, there.id
    );
    Err(wrong(format!("prices[{number}]"), problem))
}

/// The time in which both are valid.
fn common(one: &Price, other: &Price) -> Option<Span> {
    let start = one.valid.start.max(other.valid.start);
    let end = one.valid.end.min(other.valid.end);
    (start < end).then_some(Span { start, end })
}

fn in_words(span: Span) -> String {
    match (span.start, span.end) {
        (i64::MIN, i64::MAX) => "at all times".into(),
        (i64::MIN, end) => format!("until {}", instant::text(end)),
        (start, i64::MAX) => format!("from {} on", instant::text(start)),
        (start, end) => format!("from {} until {}", instant::text(start), instant::text(end)),
    }
}
