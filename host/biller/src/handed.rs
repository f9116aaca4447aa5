//! Stretches that one period hands on to the next, by numbers instead of names. There are some for
//! each instance, so names would cost more than all that is computed with them.

use std::collections::HashMap;

use crate::input::{Stretch, StretchBalance, Subject};

/// A stretch that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handed {
    /// Number of the meter: of the header's, and from their number on of the other meters.
    pub meter: u32,
    /// Number of the instance: of the subjects, and from their number on of the other instances.
    pub instance: u32,
    /// Kind of stretch.
    pub stretch: Stretch,
    /// Number of the session, for `start` and `wake`; 0 otherwise.
    pub session: u32,
    /// Number of times that standby was left, for `wake`; 0 otherwise.
    pub wakes: u32,
    /// End of the last counted interval, for `visit`, on the meter clock; 0 otherwise.
    pub last: i64,
    /// Nanoseconds used so far.
    pub used_ns: u64,
    /// The most that it owed at any border, in nanoseconds.
    pub owed_ns: u64,
}

/// Names of the stretches that a period begins with, where the rest of its input has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// Ids of instances that are no subjects.
    pub instances: Vec<String>,
    /// Names of meters that the header does not have.
    pub meters: Vec<String>,
}

/// Stretches that a period begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// The stretches, ascending by meter and instance, one at most for both.
    pub stretches: Vec<Handed>,
    /// Names of those that are neither of a subject nor of a meter of the header.
    pub others: Others,
}

/// Numbers of names: those of a list, and behind it those that are met.
struct Numbers<'a> {
    known: HashMap<&'a str, u32>,
    others: Vec<String>,
    /// The last name and its number: balances are sorted, so most names come many times.
    last: Option<(&'a str, u32)>,
}

impl<'a> Numbers<'a> {
    fn of(names: impl Iterator<Item = &'a str>) -> Self {
        Self { known: names.zip(0..).collect(), others: Vec::new(), last: None }
    }

    fn number(&mut self, name: &'a str) -> u32 {
        if let Some((last, number)) = self.last
            && last == name
        {
            return number;
        }
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let number = *self.known.entry(name).or_insert(next);
        if number == next {
            self.others.push(name.into());
        }
        self.last = Some((name, number));
        number
    }
}

impl Opening {
    /// Numbers the balances that a period begins with.
    pub fn of(balances: &[StretchBalance], subjects: &[Subject], meters: &[String]) -> Self {
        if balances.is_empty() {
            return Self::default();
        }
        let mut instances = Numbers::of(subjects.iter().map(|subject| subject.id.as_str()));
        let mut named = Numbers::of(meters.iter().map(String::as_str));
        let number = |balance| Handed::of(balance, &mut instances, &mut named);
        let mut stretches: Vec<_> = balances.iter().map(number).collect();
        stretches.sort_unstable();
        let others = Others { instances: instances.others, meters: named.others };
        Self { stretches, others }
    }
}

impl Handed {
    fn of<'a>(
        balance: &'a StretchBalance,
        instances: &mut Numbers<'a>,
        meters: &mut Numbers<'a>,
    ) -> Self {
        Self {
            meter: meters.number(&balance.meter),
            instance: instances.number(&balance.instance),
            stretch: balance.stretch,
            session: balance.session,
            wakes: balance.wakes,
            last: balance.last,
            used_ns: balance.used_ns,
            owed_ns: balance.owed_ns,
        }
    }

    /// The balance, by names; none where a number stands for nothing.
    fn balance(
        &self,
        others: &Others,
        subjects: &[Subject],
        meters: &[String],
    ) -> Option<StretchBalance> {
        let instance = self.instance as usize;
        let meter = self.meter as usize;
        let subject = subjects.get(instance).map(|subject| &subject.id);
        let instance = subject.or_else(|| others.instances.get(instance - subjects.len()));
        let meter = meters.get(meter).or_else(|| others.meters.get(meter - meters.len()));
        Some(StretchBalance {
            instance: instance?.clone(),
            meter: meter?.clone(),
            stretch: self.stretch,
            session: self.session,
            wakes: self.wakes,
            last: self.last,
            used_ns: self.used_ns,
            owed_ns: self.owed_ns,
        })
    }
}

/// Names the stretches that a period hands on, sorted by name; none where a number stands for
/// nothing.
pub fn balances(
    handed: &[Handed],
    others: &Others,
    subjects: &[Subject],
    meters: &[String],
) -> Option<Vec<StretchBalance>> {
    let named = handed.iter().map(|one| one.balance(others, subjects, meters));
    let mut named = named.collect::<Option<Vec<_>>>()?;
    // Each meter's are in the order of subjects, mostly that of their ids: runs to be merged.
    named.sort();
    Some(named)
}
