//! Price books, read from their JSON.

use std::collections::BTreeSet;

use num_rational::BigRational;
use num_traits::{ToPrimitive, Zero};
use serde::Deserialize;
use serde_json::Value;

use crate::money::{Rounding, parse, whole};
use crate::scenario::Nanos;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Book {
    pub(crate) currency: String,
    pub(crate) rounding: Rounding,
    pub(crate) line_digits: u32,
    pub(crate) prices: Vec<Price>,
    pub(crate) adjustments: Vec<Adjustment>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Price {
    pub(crate) id: String,
    pub(crate) rule: String,
    pub(crate) meter: String,
    pub(crate) unit: Unit,
    pub(crate) is_tenants: bool,
    pub(crate) resets: bool,
    pub(crate) model: Model,
    pub(crate) valid: Validity,
    pub(crate) windows: Vec<Window>,
}

/// The quantity that a rule counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// Nanoseconds, times a dimension of the shape if one is named.
    Time(Option<String>),
    /// A number that is read at the end of an interval, by name.
    Count(String),
}

/// The reading of a counter by a price.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Model {
    /// Each unit by the tier in which the counter stands; `flat` has a single tier.
    Graduated(Vec<Tier>),
    /// All units by the tier of the last value.
    Volume(Vec<Tier>),
    /// Whole packages: units of each, price, fee of the first.
    Package { size: i128, price: BigRational, once: BigRational },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tier {
    /// The last unit inside; none for the last tier.
    pub(crate) up_to: Option<i128>,
    /// Price in nano-units per unit.
    pub(crate) price: BigRational,
    /// Fee in nano-units, owed when the tier is reached.
    pub(crate) once: BigRational,
}

/// Instants of the calendar, in nanoseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: Option<Nanos>,
    pub(crate) until: Option<Nanos>,
}

impl Validity {
    pub(crate) fn holds(&self, wall: Nanos) -> bool {
        self.from.is_none_or(|from| from <= wall) && self.until.is_none_or(|until| wall < until)
    }

    pub(crate) fn edges(&self) -> impl Iterator<Item = Nanos> + use<> {
        [self.from, self.until].into_iter().flatten()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) zone: String,
    /// Days of the week; Monday is 0.
    pub(crate) days: BTreeSet<i64>,
    /// Begin as a time of the local day.
    pub(crate) from: Nanos,
    /// End as a time of the local day, or of the next one where it is not after `from`.
    pub(crate) until: Nanos,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adjustment {
    pub(crate) id: String,
    pub(crate) kind: AdjustmentKind,
    /// Amount in nano-units.
    pub(crate) amount: BigRational,
    /// Rules whose charges it acts on; all if none.
    pub(crate) rules: Option<BTreeSet<String>>,
    pub(crate) valid: Validity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AdjustmentKind {
    Minimum,
    Cap,
    Credit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BookText {
    currency: String,
    #[serde(default)]
    rounding: Rounding,
    line_digits: Option<u32>,
    #[serde(default)]
    prices: Vec<PriceText>,
    #[serde(default)]
    adjustments: Vec<AdjustmentText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceText {
    id: String,
    rule: String,
    meter: String,
    per: String,
    price: Option<Value>,
    included: Option<Value>,
    once: Option<Value>,
    package: Option<Value>,
    model: Option<String>,
    tiers: Option<Vec<TierText>>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    resets: Resets,
    from: Option<String>,
    until: Option<String>,
    #[serde(default)]
    windows: Vec<WindowText>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    #[default]
    Instance,
    Tenant,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Resets {
    #[default]
    Period,
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierText {
    up_to: Option<Value>,
    price: Value,
    once: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowText {
    zone: String,
    days: Option<Vec<String>>,
    from: String,
    until: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentText {
    id: String,
    kind: AdjustmentKind,
    amount: Value,
    rules: Option<BTreeSet<String>>,
    from: Option<String>,
    until: Option<String>,
}

const SECOND: i128 = 1_000_000_000;

impl Book {
    pub(crate) fn read(text: &Value) -> Self {
        let text: BookText = serde_json::from_value(text.clone()).expect("a price book");
        Self {
            currency: text.currency,
            rounding: text.rounding,
            line_digits: text.line_digits.unwrap_or(9),
            prices: text.prices.into_iter().map(price).collect(),
            adjustments: text.adjustments.into_iter().map(adjustment).collect(),
        }
    }

    /// The rules, in the order in which they are first named.
    pub(crate) fn rules(&self) -> Vec<&str> {
        let mut rules: Vec<&str> = Vec::new();
        for price in &self.prices {
            if !rules.contains(&price.rule.as_str()) {
                rules.push(&price.rule);
            }
        }
        rules
    }
}

fn price(text: PriceText) -> Price {
    let (unit, units) = per(&text.per);
    let model = model(&text, units);
    Price {
        id: text.id,
        rule: text.rule,
        meter: text.meter,
        unit,
        is_tenants: text.scope == Scope::Tenant,
        resets: text.resets == Resets::Period,
        model,
        valid: validity(text.from.as_ref(), text.until.as_ref()),
        windows: text.windows.into_iter().map(window).collect(),
    }
}

fn model(text: &PriceText, units: i128) -> Model {
    let quantity = |number: &Value| {
        let number = parse(number) * whole(units);
        assert!(number.is_integer(), "a quantity is a whole number of units");
        number.to_integer().to_i128().expect("a quantity")
    };
    let money = |number: &Value| parse(number) * whole(SECOND);
    let fee = |number: &Option<Value>| number.as_ref().map_or_else(BigRational::zero, money);
    if let Some(tiers) = &text.tiers {
        let tier = |tier: &TierText| Tier {
            up_to: tier.up_to.as_ref().map(quantity),
            price: money(&tier.price) / whole(units),
            once: fee(&tier.once),
        };
        let tiers = tiers.iter().map(tier).collect();
        return match text.model.as_deref() {
            None | Some("graduated") => Model::Graduated(tiers),
            Some("volume") => Model::Volume(tiers),
            other => panic!("tiers of {other:?}"),
        };
    }
    let price = money(text.price.as_ref().expect("a price or tiers"));
    if let Some(package) = &text.package {
        return Model::Package { size: quantity(package), price, once: fee(&text.once) };
    }
    let zero = BigRational::zero();
    let free = text.included.as_ref().map(|included| Tier {
        up_to: Some(quantity(included)),
        price: zero.clone(),
        once: zero.clone(),
    });
    let rest = Tier { up_to: None, price: price / whole(units), once: fee(&text.once) };
    Model::Graduated(free.into_iter().chain([rest]).collect())
}

fn validity(from: Option<&String>, until: Option<&String>) -> Validity {
    let nanos = |text: &String| {
        let at: jiff::Timestamp = text.parse().expect("an instant");
        Nanos::try_from(at.as_nanosecond()).expect("this century")
    };
    Validity { from: from.map(nanos), until: until.map(nanos) }
}

fn window(text: WindowText) -> Window {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |name: &String| {
        let place = DAYS.iter().position(|day| day == name).expect("a day of the week");
        i64::try_from(place).expect("below 7")
    };
    let days = match &text.days {
        Some(days) => days.iter().map(day).collect(),
        None => (0..7).collect(),
    };
    Window { zone: text.zone, days, from: minute(&text.from), until: minute(&text.until) }
}

/// Reads `22:00` as a time of the day.
fn minute(text: &str) -> Nanos {
    let (hour, minute) = text.split_once(':').expect("HH:MM");
    let number = |text: &str| text.parse::<Nanos>().expect("digits");
    (number(hour) * 3_600 + number(minute) * 60) * 1_000_000_000
}

fn adjustment(text: AdjustmentText) -> Adjustment {
    Adjustment {
        id: text.id,
        kind: text.kind,
        amount: parse(&text.amount) * whole(SECOND),
        rules: text.rules,
        valid: validity(text.from.as_ref(), text.until.as_ref()),
    }
}

/// The unit of `vcpu-hour`, `memory-GiB-30days` or `network-in-GB`, and the number of units that
/// the price is for.
fn per(text: &str) -> (Unit, i128) {
    let (what, last) = text.rsplit_once('-').expect("WHAT-TIME");
    if let Some(bytes) = bytes(last) {
        return (Unit::Count(format!("{what}-bytes")), bytes);
    }
    let time = time(last);
    if what == "instance" {
        return (Unit::Time(None), time);
    }
    match what.split_once('-') {
        Some((dimension, size)) => {
            let bytes = bytes(size).expect("a unit of bytes");
            (Unit::Time(Some(format!("{dimension}-byte"))), bytes * time)
        }
        None => (Unit::Time(Some(what.to_owned())), time),
    }
}

fn bytes(text: &str) -> Option<i128> {
    let steps = [("B", 0), ("k", 1), ("M", 2), ("G", 3), ("T", 4)];
    if text == "B" {
        return Some(1);
    }
    let (prefix, base) = match text.strip_suffix("iB") {
        Some("K") => ("k", 1_024_i128),
        Some(prefix) => (prefix, 1_024),
        None => (text.strip_suffix('B')?, 1_000),
    };
    let &(_, power) = steps.iter().find(|(name, _)| *name == prefix)?;
    Some(base.pow(power))
}

fn time(text: &str) -> i128 {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: i128 = if digits == 0 { 1 } else { text[..digits].parse().expect("digits") };
    let seconds = match text[digits..].trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        other => panic!("{other} is no length of time"),
    };
    count * seconds * SECOND
}

impl Unit {
    /// Value of the shape that multiplies time.
    pub(crate) fn of_shape(&self, dimensions: &std::collections::BTreeMap<String, u64>) -> i128 {
        match self {
            Self::Time(None) => 1,
            Self::Time(Some(name)) => dimensions.get(name).copied().unwrap_or(0).into(),
            Self::Count(_) => 0,
        }
    }
}

impl Tier {
    /// The first tier whose end is not before the unit after `counter`.
    pub(crate) fn place(tiers: &[Self], counter: i128) -> usize {
        let is_inside = |tier: &Self| tier.up_to.is_none_or(|up_to| counter < up_to);
        tiers.iter().position(is_inside).expect("the last tier has no end")
    }
}
