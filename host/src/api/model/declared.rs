//! The declarations of a policy: its meters and its options.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::metering::{Description, MeterDescription, OptionDescription, OptionKind};

/// Meters and options, as the component declares them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Declared {
    /// The meters that a price book can price.
    pub meters: Vec<DeclaredMeter>,
    /// The options that an activation can set, sorted by name.
    pub options: Vec<DeclaredOption>,
    /// Largest quantity that lines of the policy's own may bill, in thousandths of the quantity
    /// used; 1,000 is no more than was used.
    pub billed_ratio: u32,
}

/// A meter that a policy declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredMeter {
    /// The meter's name in price books.
    pub name: String,
    /// The quantity that it counts, in words.
    pub counts: String,
    /// The unit of time that a minimum and a granularity apply to while every option has its
    /// default: `start`, `wake`, `visit` or `life`.
    pub stretch: String,
}

/// An option that a policy declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredOption {
    /// The option's name, as an activation gives it.
    pub name: String,
    /// The kind of the option's values: `duration`, `choice` or `text`.
    pub kind: String,
    /// The values of a `choice`; absent for other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The value that applies if the activation does not set the option.
    pub default: String,
    /// The effect of the option, in words.
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
