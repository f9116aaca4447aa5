//! What a policy declares about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::metering::{Description, MeterDescription, OptionDescription, OptionKind};

/// Meters and options, as the component declares them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Declared {
    /// The meters that a price book can price.
    pub meters: Vec<DeclaredMeter>,
    /// The options that an activation can give it, sorted by name.
    pub options: Vec<DeclaredOption>,
    /// How many thousandths of a quantity it may bill in lines of its own; 1,000 is no more than
    /// was used.
    pub billed_ratio: u32,
}

/// A meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredMeter {
    /// Its name in price books.
    pub name: String,
    /// What it counts, in words.
    pub counts: String,
    /// What a minimum and a granularity apply to without any option: `start`, `wake`, `visit` or
    /// `life`.
    pub stretch: String,
}

/// An option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredOption {
    /// Its name.
    pub name: String,
    /// `duration`, `choice` or `text`.
    pub kind: String,
    /// The words to choose from; absent unless it is a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What holds if it is not given.
    pub default: String,
    /// What it does, in words.
    pub does: String,
}

impl From<&Description> for Declared {
    fn from(description: &Description) -> Self {
        Self {
            meters: description.meters.iter().map(DeclaredMeter::from).collect(),
            options: description.options.iter().map(DeclaredOption::from).collect(),
            billed_ratio: description.billed_ratio,
        }
    }
}

impl From<&MeterDescription> for DeclaredMeter {
    fn from(meter: &MeterDescription) -> Self {
        let stretch = meter.stretch.as_str().into();
        Self { name: meter.name.clone(), counts: meter.counts.clone(), stretch }
    }
}

impl From<&OptionDescription> for DeclaredOption {
    fn from(option: &OptionDescription) -> Self {
        let (kind, choices) = match &option.kind {
            OptionKind::Duration => ("duration", Vec::new()),
            OptionKind::Choice(words) => ("choice", words.clone()),
            OptionKind::Text => ("text", Vec::new()),
        };
        Self {
            name: option.name.clone(),
            kind: kind.into(),
            choices,
            default: option.default.clone(),
            does: option.does.clone(),
        }
    }
}
