//! A rule of the price book, made ready for a period.

use super::meter::Meter;
use super::schedule::Schedule;
use super::text::{join, list};
use super::tiers::Model;
use crate::{Instant, Price, RatingError, Request};

/// A rule: one meter in one unit, and its prices over the period.
#[derive(Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) name: &'a str,
    pub(crate) meter: &'a Meter,
    pub(crate) unit: &'a str,
    /// How much of the unit's dimension each interval held; none where time alone is charged.
    pub(crate) amounts: Option<&'a [u64]>,
    /// Empty where quantities are stated without a price.
    pub(crate) prices: Vec<&'a Price>,
    pub(crate) schedule: Schedule,
    /// Whether the tiers count all instances together.
    pub(crate) is_tenants: bool,
    /// The invoice with which the tiers begin at zero; none if they never do.
    pub(crate) resets: Option<Instant>,
}

/// Unit of time alone.
pub(crate) const TIME: &str = "ns";

impl<'a> Rule<'a> {
    /// The rules of the request's book, sorted by meter and name; without prices, one for each meter.
    pub(crate) fn all(meters: &'a [Meter], request: &'a Request) -> Result<Vec<Self>, RatingError> {
        let mut rules: Vec<Self> = Vec::new();
        let mut add = |rule: Self| {
            let before = |other: &Self| (other.meter.name, other.name) < (rule.meter.name, rule.name);
            rules.insert(rules.partition_point(before), rule);
        };
        if request.book.prices.is_empty() {
            meters.iter().for_each(|meter| add(Self::unpriced(meter, request)));
        }
        for prices in by_rule(&request.book.prices) {
            add(Self::priced(prices, meters, request)?);
        }
        Ok(rules)
    }

    /// Whether a charge depends on what was charged before.
    pub(crate) fn remembers(&self) -> bool {
        let depends = |price: &&Price| {
            price.tiers.len() > 1
                || price.tiers.iter().any(|tier| i128::from(tier.once) != 0)
                || Model::named(&price.model) == Some(Model::Package)
        };
        self.prices.iter().any(depends)
    }

    fn unpriced(meter: &'a Meter, request: &'a Request) -> Self {
        Self {
            name: meter.name,
            meter,
            unit: TIME,
            amounts: None,
            prices: Vec::new(),
            schedule: Schedule::unpriced(request.period),
            is_tenants: false,
            resets: None,
        }
    }

    fn priced(prices: Vec<&'a Price>, meters: &'a [Meter], request: &'a Request) -> Result<Self, RatingError> {
        let first = prices[0];
        let name = first.rule.as_str();
        let alike = |price: &&Price| {
            price.meter == first.meter
                && price.unit == first.unit
                && price.scope == first.scope
                && price.resets == first.resets
        };
        if !prices.iter().all(alike) {
            return Err(other(name, "its prices differ in meter, unit, scope or reset"));
        }
        let meter = meters.iter().find(|meter| meter.name == first.meter).ok_or_else(|| no_meter(first, meters))?;
        Ok(Self {
            name,
            meter,
            unit: &first.unit,
            amounts: amounts(&first.unit, request)?,
            schedule: Schedule::new(&prices, request)?,
            is_tenants: one_of(name, &first.scope, "instance", "tenant")?,
            resets: (!one_of(name, &first.resets, "period", "never")?).then_some(request.invoice.start),
            prices,
        })
    }
}

/// The prices of each rule; no list is empty.
fn by_rule(prices: &[Price]) -> Vec<Vec<&Price>> {
    let mut rules: Vec<Vec<&Price>> = Vec::new();
    for price in prices {
        match rules.iter_mut().find(|rule| rule[0].rule == price.rule) {
            Some(rule) => rule.push(price),
            None => rules.push(vec![price]),
        }
    }
    rules
}

#[cold]
fn other(rule: &str, what: &str) -> RatingError {
    RatingError::Other(join(&["the rule ", rule, ": ", what]))
}

#[cold]
fn no_meter(price: &Price, meters: &[Meter]) -> RatingError {
    let known: Vec<&str> = meters.iter().map(|meter| meter.name).collect();
    let known = list(&known, ", ");
    let what = join(&["meter ", &price.meter, " of price ", &price.id, "; this policy has: ", &known]);
    RatingError::MissingPrice(what)
}

/// Whether `word` is the second of two.
fn one_of(rule: &str, word: &str, first: &str, second: &str) -> Result<bool, RatingError> {
    match word {
        _ if word == first => Ok(false),
        _ if word == second => Ok(true),
        _ => Err(other(rule, &join(&["'", word, "' is neither ", first, " nor ", second]))),
    }
}

/// The column of the dimension that the unit counts.
fn amounts<'a>(unit: &str, request: &'a Request) -> Result<Option<&'a [u64]>, RatingError> {
    if unit == TIME {
        return Ok(None);
    }
    let singular = unit.strip_suffix("-ns").unwrap_or_default();
    let counts = |name: &str| name.strip_suffix('s').unwrap_or(name) == singular;
    let found = request.intervals.dimensions.iter().find(|dimension| counts(&dimension.name));
    let missing = || RatingError::MissingPrice(join(&["unit ", unit, ": the request has no such dimension"]));
    found.map(|dimension| Some(dimension.values.as_slice())).ok_or_else(missing)
}
