//! Prices: what a rule charges for a unit of a meter, by tier and time.

use serde::Deserialize;

use super::document::{Number, PriceEntry, TierEntry};
use super::window::Window;
use super::{Checking, Reading, validity, word, wrong};
use crate::input::Span;
use crate::limits;
use crate::per::Per;

/// A price of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Id, unique in the book.
    pub id: String,
    /// Rule that the price belongs to.
    pub rule: String,
    /// Meter that the price charges.
    pub meter: String,
    /// Unit that the price is for, as the operator wrote it.
    pub per_text: String,
    /// Unit that the price is for, parsed.
    pub per: Per,
    /// Validity by the calendar, in nanoseconds since 1970-01-01T00:00:00Z; `i64::MIN` or
    /// `i64::MAX` where it has no start or no end.
    pub valid: Span,
    /// Windows of local time in which the price holds; at all times, if empty.
    pub windows: Vec<Window>,
    /// Owner of the units that fill the tiers.
    pub scope: Scope,
    /// Time after which the counter starts anew.
    pub resets: Resets,
    /// Reading of the tiers.
    pub model: Model,
    /// Tiers, one at least. Only the last has no end; a package's is its size.
    pub tiers: Vec<Tier>,
}

/// The owner of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Each instance by itself.
    #[default]
    Instance,
    /// All instances of the tenant together.
    Tenant,
}

/// The time after which a counter starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Resets {
    /// With each period.
    #[default]
    Period,
    /// Not at all.
    Never,
}

/// The reading of tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// One price for each unit.
    Flat,
    /// Each unit by the tier into which it falls.
    Graduated,
    /// All units by the tier that all together pick.
    Volume,
    /// Whole packages.
    Package,
}

impl Model {
    /// Returns whether each unit is charged by itself, and not by the sum of many.
    pub(crate) fn is_by_unit(self) -> bool {
        match self {
            Self::Flat | Self::Graduated => true,
            Self::Volume | Self::Package => false,
        }
    }
}

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The last unit inside; none for a tier without an end.
    pub up_to: Option<u128>,
    /// Nano-units per unit.
    pub price: Ratio,
    /// Fee in nano-units, owed when the tier is reached; 0 for none.
    pub once: u128,
}

/// An exact price, in nano-units per unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ratio {
    /// Numerator, at most `i128::MAX`.
    pub numerator: u128,
    /// Denominator, 1 or more.
    pub denominator: u128,
}

impl PriceEntry {
    /// Reads a price. Errors have places inside it.
    pub(super) fn check(&self, reading: &Reading<'_>) -> Checking<Price> {
        let per: Per = self.per.parse().map_err(|error| wrong("per", error))?;
        let (model, tiers) = self.tiers(per.units)?;
        if model == Model::Volume && self.resets == Resets::Never {
            let problem = "a volume price picks its tier anew in each period; \
                           leave `resets` out, or use `graduated`";
            return Err(wrong("resets", problem));
        }
        let mut windows = Vec::with_capacity(self.windows.len());
        for (number, window) in self.windows.iter().enumerate() {
            let window = window.check(reading.is_zone);
            windows.push(window.map_err(|error| error.inside(format_args!("windows[{number}]")))?);
        }
        let price = Price {
            id: word("id", &self.id)?,
            rule: word("rule", &self.rule)?,
            meter: word("meter", &self.meter)?,
            per_text: self.per.clone(),
            per,
            valid: validity(self.from.as_deref(), self.until.as_deref())?,
            windows,
            scope: self.scope,
            resets: self.resets,
            model,
            tiers,
        };
        if reading.is_new {
            check_size(&price)?;
        }
        Ok(price)
    }

    /// Reads the model and its tiers. `included` is a first tier at no charge.
    fn tiers(&self, units: u128) -> Checking<(Model, Vec<Tier>)> {
        let implied = if self.tiers.is_some() { Model::Graduated } else { Model::Flat };
        let model = self.model.unwrap_or(implied);
        match (model, &self.price, &self.tiers) {
            (Model::Flat, Some(price), None) => self.flat(units, price),
            (Model::Package, Some(price), None) => self.packages(units, price),
            (Model::Graduated | Model::Volume, None, Some(tiers)) => {
                self.refuse_beside_tiers()?;
                Ok((model, check_tiers(tiers, units)?))
            }
            (Model::Flat | Model::Package, _, _) => {
                let problem = "a flat or package price has `price` and no `tiers`";
                Err(wrong("price", problem))
            }
            (Model::Graduated | Model::Volume, _, _) => {
                let problem = "a graduated or volume price has `tiers` and no `price`";
                Err(wrong("tiers", problem))
            }
        }
    }

    fn refuse_beside_tiers(&self) -> Checking<()> {
        let there =
            [("package", &self.package), ("included", &self.included), ("once", &self.once)];
        match there.iter().find(|(_, value)| value.is_some()) {
            Some((field, _)) => Err(wrong(*field, "does not go with tiers; say it in the tiers")),
            None => Ok(()),
        }
    }

    fn flat(&self, units: u128, price: &Number) -> Checking<(Model, Vec<Tier>)> {
        if self.package.is_some() {
            return Err(wrong("package", "is for the model package alone"));
        }
        let price = price.price("price", units)?;
        let tier = Tier { up_to: None, price, once: once(self.once.as_ref(), "once")? };
        let Some(included) = &self.included else { return Ok((Model::Flat, vec![tier])) };
        let up_to = Some(included.quantity("included", units)?);
        let free = Ratio { numerator: 0, denominator: price.denominator };
        Ok((Model::Graduated, vec![Tier { up_to, price: free, once: 0 }, tier]))
    }

    fn packages(&self, units: u128, price: &Number) -> Checking<(Model, Vec<Tier>)> {
        let missing = || wrong("package", "is missing: how much one package holds");
        let size = self.package.as_ref().ok_or_else(missing)?.quantity("package", units)?;
        if size == 0 {
            return Err(wrong("package", "must be more than 0"));
        }
        if self.included.is_some() {
            return Err(wrong("included", "does not go with packages"));
        }
        // The price of a package is that of one unit times its size.
        let price = price.price("price", size)?;
        let tier = Tier { up_to: Some(size), price, once: once(self.once.as_ref(), "once")? };
        Ok((Model::Package, vec![tier]))
    }
}

fn once(number: Option<&Number>, place: &str) -> Checking<u128> {
    let nanos = number.map(|number| number.nanos(place)).transpose()?;
    Ok(nanos.unwrap_or(0).unsigned_abs())
}

fn check_tiers(entries: &[TierEntry], units: u128) -> Checking<Vec<Tier>> {
    if entries.is_empty() || entries.len() > limits::TIERS_MAX {
        return Err(wrong("tiers", format!("a price has 1 to {} tiers", limits::TIERS_MAX)));
    }
    let mut tiers: Vec<Tier> = Vec::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        let is_last = number + 1 == entries.len();
        let tier = entry.check(tiers.last(), is_last, units);
        tiers.push(tier.map_err(|error| error.inside(format_args!("tiers[{number}]")))?);
    }
    Ok(tiers)
}

impl TierEntry {
    fn check(&self, before: Option<&Tier>, is_last: bool, units: u128) -> Checking<Tier> {
        let up_to = self.up_to.as_ref().map(|up_to| up_to.quantity("up_to", units));
        let up_to = up_to.transpose()?;
        let floor = before.and_then(|tier| tier.up_to).unwrap_or(0);
        match up_to {
            Some(_) if is_last => return Err(wrong("up_to", "the last tier has no end")),
            None if !is_last => {
                return Err(wrong("up_to", "is missing: only the last tier has no end"));
            }
            Some(up_to) if up_to <= floor => {
                return Err(wrong("up_to", "must be more than that of the tier before"));
            }
            Some(_) | None => {}
        }
        let price = self.price.price("price", units)?;
        Ok(Tier { up_to, price, once: once(self.once.as_ref(), "once")? })
    }
}

/// Refuses a price under which the use of a large tenant in a year could not be added up.
fn check_size(price: &Price) -> Checking<()> {
    let most = price.per.units_max;
    for (number, tier) in price.tiers.iter().enumerate() {
        // A package is paid whole, however little of it is used.
        let units =
            if price.model == Model::Package { most.max(tier.up_to.unwrap_or(0)) } else { most };
        // units * numerator / denominator <= max, without a product that could overflow.
        let whole = (units / tier.price.denominator + 1).checked_mul(tier.price.numerator);
        let sum = whole.and_then(|amount| amount.checked_add(tier.once));
        if sum.is_none_or(|amount| amount > limits::AMOUNT_MAX) {
            let problem = format!(
                "tier {number} is too dear to be added up for {} instances over a year; \
                 the most in nano-units is {}",
                limits::INSTANCES_MAX,
                limits::AMOUNT_MAX
            );
            return Err(wrong("", problem));
        }
    }
    Ok(())
}
