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
    names: Vec<&'a str>,
    /// The names' places, unless they are sorted.
    places: Option<HashMap<&'a str, usize>>,
    /// Place of the name that was met last: balances are sorted, as names mostly are.
    last: usize,
    others: HashMap<&'a str, usize>,
}

impl<'a> Numbers<'a> {
    fn of(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<_> = names.collect();
        let places = || names.iter().copied().zip(0..).collect();
        let places = (!names.is_sorted_by(|one, other| one < other)).then(places);
        Self { names, places, last: 0, others: HashMap::new() }
    }

    fn place(&mut self, name: &'a str) -> usize {
        let next = (self.last..self.last + 2).find(|&place| self.names.get(place) == Some(&name));
        let found = next.or_else(|| match &self.places {
            Some(places) => places.get(name).copied(),
            None => self.names.binary_search(&name).ok(),
        });
        match found {
            Some(place) => {
                self.last = place;
                place
            }
            None => {
                let next = self.names.len() + self.others.len();
                *self.others.entry(name).or_insert(next)
            }
        }
    }

    fn number(&mut self, name: &'a str) -> u32 {
        u32::try_from(self.place(name)).unwrap_or(u32::MAX)
    }

    /// The names that were met and are not in the list, by their numbers.
    fn others(self) -> Vec<String> {
        let mut others: Vec<_> = self.others.into_iter().collect();
        others.sort_unstable_by_key(|&(_, number)| number);
        others.into_iter().map(|(name, _)| name.into()).collect()
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
        let others = Others { instances: instances.others(), meters: named.others() };
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
    let name = |one: &Handed| one.balance(others, subjects, meters);
    if *others != Others::default() || !subjects.is_sorted_by(|one, other| one.id < other.id) {
        let mut named = handed.iter().map(name).collect::<Option<Vec<_>>>()?;
        named.sort_unstable();
        return Some(named);
    }
    // In the order of the numbers of instances, which is that of their ids, and of meters' names.
    let mut ranks: Vec<u32> = (0..).take(meters.len()).collect();
    ranks.sort_unstable_by_key(|&meter| &meters[meter as usize]);
    let mut places = vec![0_u32; meters.len()];
    for (place, meter) in (0..).zip(ranks) {
        places[meter as usize] = place;
    }
    let place = |one: &Handed| Some((one.instance, *places.get(one.meter as usize)?));
    let keyed = (0..).zip(handed).map(|(number, one)| Some((place(one)?, number)));
    let mut order = keyed.collect::<Option<Vec<((u32, u32), usize)>>>()?;
    order.sort_unstable();
    order.into_iter().map(|(_, number)| name(&handed[number])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(instance: &str, meter: &str, used_ns: u64) -> StretchBalance {
        StretchBalance {
            instance: instance.into(),
            meter: meter.into(),
            stretch: Stretch::Start,
            session: 1,
            wakes: 0,
            last: 0,
            used_ns,
            owed_ns: used_ns,
        }
    }

    #[test]
    fn numbers_become_the_names_that_they_stand_for() {
        let subject = |id: &str| Subject { id: id.into(), first_fact: 1, ended: false };
        let meters = ["running", "active"].map(str::to_owned);
        let sorted = vec![
            balance("a", "active", 1),
            balance("a", "running", 2),
            balance("b", "active", 3),
            balance("b", "running", 4),
        ];
        for subjects in [vec![subject("a"), subject("b")], vec![subject("b"), subject("a")]] {
            let opening = Opening::of(&sorted, &subjects, &meters);
            assert_eq!(opening.others, Others::default());
            let named = balances(&opening.stretches, &opening.others, &subjects, &meters);
            assert_eq!(named.as_ref(), Some(&sorted));
        }
        let subjects = [subject("b")];
        let mut with_others = sorted.clone();
        with_others.insert(2, balance("a", "stopped", 5));
        let opening = Opening::of(&with_others, &subjects, &meters);
        assert_eq!((opening.others.instances.len(), opening.others.meters.len()), (1, 1));
        let named = balances(&opening.stretches, &opening.others, &subjects, &meters);
        assert_eq!(named, Some(with_others));
        let nothing = Handed { meter: 2, instance: 0, ..opening.stretches[0] };
        assert_eq!(balances(&[nothing], &Others::default(), &subjects, &meters), None);
    }
}
