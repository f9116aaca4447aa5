//! What is billed, as data: everything that a bill follows from, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// An instant or a length of time on the meter clock, in nanoseconds.
pub type Nanos = i64;

/// Everything that the documents of one tenant follow from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// How the tenant's time is divided.
    pub agreement: Agreement,
    /// The tenant's creation.
    pub first_fact: Nanos,
    /// The tenant's end; it lives on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Nanos>,
    /// The calendar: from `at` on, it reads the meter plus `offset`. In order, not empty; the
    /// first step holds before its instant, too.
    pub calendar: Vec<Step>,
    /// In the order in which they were set.
    pub policies: Vec<PolicySet>,
    /// In the order in which they were set.
    pub books: Vec<BookSet>,
    /// As known from the beginning.
    pub instances: Vec<Instance>,
    /// What happens, one after the other; the head of each is its place here.
    pub acts: Vec<Act>,
}

/// The division of a tenant's time into periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// A name of the time-zone database.
    pub zone: String,
    /// The length of a period.
    pub kind: PeriodKind,
    /// The day of the month at which a month's period begins, 1 to 31.
    pub anchor: i8,
}

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeriodKind {
    /// From anchor day to anchor day.
    Month,
    /// One local day.
    Day,
}

/// A step of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The first meter instant of the new offset.
    pub at: Nanos,
    /// Nanoseconds since 1970 that the calendar reads, less the meter's.
    pub offset: Nanos,
}

/// A policy that was put in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySet {
    /// The first instant at which it holds.
    pub from: Nanos,
    /// The rules of time.
    pub policy: Policy,
}

/// A policy, reduced to its answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// By name.
    pub meters: BTreeMap<String, Meter>,
    /// The time of `initializing` from which on it is handed over as `running`.
    pub initializing_max: Nanos,
    /// It gives no answer that can be believed.
    #[serde(default)]
    pub unrated: bool,
}

/// A meter of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// The phases that it counts.
    pub phases: BTreeSet<String>,
    /// The kind of its stretches.
    pub stretch: StretchKind,
    /// Least time of a stretch.
    pub minimum: Nanos,
    /// The time of a stretch is a multiple of it; 0 and 1 leave it as it is.
    pub granularity: Nanos,
    /// Of time to its granularity.
    pub rounding: TimeRounding,
}

/// The kind of stretch to which minimum and granularity apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StretchKind {
    /// From one start of the machine from nothing to the next.
    Start,
    /// The same, but leaving standby begins another.
    Wake,
    /// An unbroken run of counted intervals.
    Visit,
    /// All of the instance's life.
    Life,
}

/// The rounding of time to its granularity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeRounding {
    /// To the next multiple.
    Up,
    /// To the multiple before.
    Down,
    /// To the nearest, a tie goes up.
    HalfUp,
}

/// A book that was put in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BookSet {
    /// When it was set.
    pub set_at: Nanos,
    /// The first instant at which it holds; not before `set_at`.
    pub from: Nanos,
    /// The document, as `docs/prices.md` has it.
    pub book: serde_json::Value,
}

/// An instance and its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Unique in the tenant.
    pub id: String,
    /// The instant of its first fact.
    pub first_fact: Nanos,
    /// In order; what touches has no gap between.
    pub pieces: Vec<Piece>,
}

/// An interval of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First instant.
    pub from: Nanos,
    /// First instant after it.
    pub to: Nanos,
    /// By its name.
    pub phase: String,
    /// Starts from nothing until now.
    pub session: u32,
    /// Times it left standby until now.
    pub wakes: u32,
    /// Values of the shape by the unit's word, such as `vcpu` or `memory-byte`.
    pub dimensions: BTreeMap<String, u64>,
    /// Numbers read at its end, by unit, such as `network-in-bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Documents are made up to the instant.
    Close(Nanos),
    /// What is stale is made right.
    Settle,
    /// An override is recorded.
    Override(Override),
    /// A late fact: the instance was as told here, in place of what was known of it.
    Learn(Instance),
    /// News of the clock: the calendar is as told here.
    Clock(Vec<Step>),
}

/// Another policy or book for a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// First instant.
    pub from: Nanos,
    /// First instant after it.
    pub to: Nanos,
    /// In place of the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// In place of the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book: Option<serde_json::Value>,
    /// Time without a book gets it, too.
    #[serde(default)]
    pub from_begin: bool,
}

/// What comes of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In the order in which they were made.
    pub documents: Vec<Document>,
    /// Used of each credit by all periods, in nano-units.
    pub credits: BTreeMap<String, i128>,
    /// Periods for which a settle would make a document, by their first local day.
    pub stale: Vec<String>,
}

/// One document of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The period's first local day.
    pub period: String,
    /// The instant up to which it goes.
    pub up_to: Nanos,
    /// The place of the act that made it.
    pub act: usize,
    /// The period up to `up_to`, whole.
    pub whole: Sums,
    /// What it adds to the documents of the period before it.
    pub difference: Sums,
    /// In nano-units, whole coins.
    pub payable: i128,
}

/// Sums in nano-units; what is nothing is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// By rule, rounded.
    pub rules: BTreeMap<String, i128>,
    /// By id, what it changes.
    pub adjustments: BTreeMap<String, i128>,
    /// All of them.
    pub total: i128,
}

impl Sums {
    /// What these have more than `others`.
    #[must_use]
    pub fn less(&self, others: &Self) -> Self {
        Self {
            rules: less(&self.rules, &others.rules),
            adjustments: less(&self.adjustments, &others.adjustments),
            total: self.total - others.total,
        }
    }

    /// No rule and no adjustment has an amount.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.rules.is_empty() && self.adjustments.is_empty()
    }
}

fn less(some: &BTreeMap<String, i128>, others: &BTreeMap<String, i128>) -> BTreeMap<String, i128> {
    let of = |map: &BTreeMap<String, i128>, name: &String| map.get(name).copied().unwrap_or(0);
    let names: BTreeSet<&String> = some.keys().chain(others.keys()).collect();
    let differences =
        names.into_iter().map(|name| (name.clone(), of(some, name) - of(others, name)));
    differences.filter(|(_, amount)| *amount != 0).collect()
}
