//! The charges that an adjustment looks at: of some rules, in some time.

use std::collections::BTreeSet;

use crate::input::Span;
use crate::spans::Spans;

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rules {
    /// Every rule, whatever its name.
    All,
    /// These.
    Some(BTreeSet<String>),
}

impl Rules {
    /// The rules that an adjustment names; every rule, if it names none.
    pub(super) fn of(names: &[String]) -> Self {
        match names {
            [] => Self::All,
            names => Self::Some(names.iter().cloned().collect()),
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Some(one), Self::Some(other)) => Self::Some(one | other),
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Some(_), Self::All) => false,
            (Self::Some(one), Self::Some(other)) => one.is_superset(other),
        }
    }
}

/// Rules, each in its time.
#[derive(Debug, Default)]
pub(super) struct View(Vec<(Rules, Spans)>);

impl View {
    /// Adds time in which these rules are looked at.
    pub(super) fn add(&mut self, spans: &Spans, rules: Rules) {
        match self.0.iter_mut().find(|(known, _)| *known == rules) {
            Some((_, known)) => *known = joined(known, spans),
            None => self.0.push((rules, spans.clone())),
        }
    }

    /// Time in which charges of a source are seen. `seen` are the rules of which a view has to
    /// contain all to see the source.
    pub(super) fn spans(&self, seen: &Rules) -> Spans {
        let looks = self.0.iter().filter(|(rules, _)| rules.contains(seen));
        looks.fold(Spans::default(), |all, (_, spans)| joined(&all, spans))
    }

    /// Returns whether this view contains everything in the other.
    pub(super) fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(rules, spans)| self.spans(rules).covers(spans))
    }

    /// Returns whether the view consists of whole sums of rules only.
    pub(super) fn is_whole(&self, first: i64, until: i64) -> bool {
        let whole = Spans::of(first, until);
        self.0.iter().all(|(_, spans)| spans.is_empty() || *spans == whole)
    }
}

fn joined(one: &Spans, other: &Spans) -> Spans {
    let spans: Vec<Span> = one.iter().chain(other.iter()).collect();
    Spans::union(spans)
}
