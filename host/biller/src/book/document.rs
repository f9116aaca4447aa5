//! The JSON of a price book, as an operator writes it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::price::{Model, Resets, Scope};
use crate::input::Rounding;
use crate::output::AdjustmentKind;

/// A number as a text or a whole number; never a float.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    Whole(i64),
    Text(String),
}

const NUMBER: &str = "a number is a text, such as \"0.36\", or a whole number";

/// Takes what a number may be, without trying one form after the other.
struct Numbers;

impl Visitor<'_> for Numbers {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NUMBER)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Whole(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        i64::try_from(value).map(Number::Whole).map_err(|_| E::custom(NUMBER))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Number, E> {
        Err(E::custom(NUMBER))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Number, E> {
        Ok(Number::Text(value.into()))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Numbers)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) currency: String,
    pub(super) rounding: Option<Rounding>,
    pub(super) line_digits: Option<u8>,
    /// Options of the policy, which stood here once and belong to its activation now.
    pub(super) options: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) prices: Vec<PriceEntry>,
    #[serde(default)]
    pub(super) adjustments: Vec<AdjustmentEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceEntry {
    pub(super) id: String,
    pub(super) rule: String,
    pub(super) meter: String,
    pub(super) per: String,
    pub(super) price: Option<Number>,
    pub(super) included: Option<Number>,
    pub(super) once: Option<Number>,
    pub(super) package: Option<Number>,
    pub(super) model: Option<Model>,
    pub(super) tiers: Option<Vec<TierEntry>>,
    #[serde(default)]
    pub(super) scope: Scope,
    #[serde(default)]
    pub(super) resets: Resets,
    pub(super) from: Option<String>,
    pub(super) until: Option<String>,
    #[serde(default)]
    pub(super) windows: Vec<WindowEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TierEntry {
    pub(super) up_to: Option<Number>,
    pub(super) price: Number,
    pub(super) once: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowEntry {
    pub(super) zone: String,
    pub(super) days: Option<Vec<Day>>,
    pub(super) from: String,
    pub(super) until: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdjustmentEntry {
    pub(super) id: String,
    pub(super) kind: AdjustmentKind,
    pub(super) amount: Number,
    #[serde(default)]
    pub(super) rules: Vec<String>,
    pub(super) from: Option<String>,
    pub(super) until: Option<String>,
}
