//! Input and outcome of the oracle, as data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// An instant or a length of time on the meter clock, in nanoseconds.
pub type Nanos = i64;

/// Everything that determines the documents of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Division of the tenant's time into periods, from its first one on.
    pub agreement: Agreement,
    /// Agreements that follow, in the order in which they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreements: Vec<AgreementSet>,
    /// Instant of the tenant's first fact.
    pub first_fact: Nanos,
    /// Instant of the tenant's end; it goes on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Nanos>,
    /// Offsets of the calendar: from `at` on, it reads the meter plus `offset`. In order, not
    /// empty; the first step holds before its instant, too.
    pub calendar: Vec<Step>,
    /// Policies in the order in which they were set.
    pub policies: Vec<PolicySet>,
    /// Books in the order in which they were set.
    pub books: Vec<BookSet>,
    /// Instances as known from the beginning.
    pub instances: Vec<Instance>,
    /// Acts in order; the head of each is its index.
    pub acts: Vec<Act>,
    /// Lines that the policies state by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<Own>,
}

/// A line that a policy states by itself. It is one only where the book in force has its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Rule, which no book prices by meter.
    pub rule: String,
    /// Units used.
    pub quantity: u64,
    /// Units charged for.
    pub billed: u64,
    /// Id of a price.
    pub price: String,
    /// Instant to which it belongs.
    pub at: Nanos,
}

/// The division of a tenant's time into periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// IANA name of the time zone.
    pub zone: String,
    /// Length of a period.
    pub kind: PeriodKind,
    /// Day of the month at which a month's period begins, 1 to 31.
    pub anchor: i8,
}

/// An agreement that follows on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementSet {
    /// Instant at which it was made. It cuts the time after the period that holds this instant.
    pub at: Nanos,
    /// Agreement.
    pub agreement: Agreement,
}

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeriodKind {
    /// A month, from anchor day to anchor day.
    Month,
    /// One local day.
    Day,
}

/// A step of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// First meter instant of the new offset.
    pub at: Nanos,
    /// Nanoseconds to add to the meter clock.
    pub offset: Nanos,
}

/// A policy that was put in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySet {
    /// First instant in force.
    pub from: Nanos,
    /// Answers of the policy.
    pub policy: Policy,
}

/// A policy, reduced to its answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Meters by name.
    pub meters: BTreeMap<String, Meter>,
    /// Longest time, in nanoseconds, that is handed over as `initializing`; the rest is `running`.
    pub initializing_max: Nanos,
    /// Set if the policy gives no valid answer.
    #[serde(default)]
    pub unrated: bool,
}

/// A meter of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Phases that the meter counts.
    pub phases: BTreeSet<String>,
    /// Kind of its stretches.
    pub stretch: StretchKind,
    /// Least time that a stretch owes.
    pub minimum: Nanos,
    /// Grain of a stretch's time; 0 and 1 leave it as it is.
    pub granularity: Nanos,
    /// Rounding of time to the grain.
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
    /// To the grain above.
    Up,
    /// To the grain below.
    Down,
    /// To the nearest grain, a tie up.
    HalfUp,
}

/// A book that was put in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BookSet {
    /// Instant at which it was set.
    pub set_at: Nanos,
    /// First instant in force; not before `set_at`.
    pub from: Nanos,
    /// Document, as `docs/prices.md` defines it.
    pub book: serde_json::Value,
}

/// An instance and its intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Id, unique in the tenant.
    pub id: String,
    /// Instant of its first fact.
    pub first_fact: Nanos,
    /// Intervals in order; they touch or leave gaps.
    pub pieces: Vec<Piece>,
}

/// An interval of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First instant inside.
    pub from: Nanos,
    /// First instant after.
    pub to: Nanos,
    /// Name of the phase.
    pub phase: String,
    /// Number of the start of the machine from nothing, from 1.
    pub session: u32,
    /// Number of times that the instance had left standby.
    pub wakes: u32,
    /// Dimensions of the shape, such as `vcpu` or `memory-byte`.
    pub dimensions: BTreeMap<String, u64>,
    /// Counts read at the interval's end, by unit, such as `network-in-bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// An act of the operator, or news.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Makes documents up to the instant.
    Close(Nanos),
    /// Corrects stale documents.
    Settle,
    /// Records an override.
    Override(Override),
    /// Records a one-off charge or a goodwill.
    OneOff(OneOff),
    /// A late fact: the instance replaces what was known of it.
    Learn(Instance),
    /// A late reading of the clock: the steps replace the calendar.
    Clock(Vec<Step>),
}

/// A one-off charge, or a goodwill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOff {
    /// Id, unique in the tenant.
    pub id: String,
    /// Instant to which it belongs.
    pub at: Nanos,
    /// Amount in nano-units, whole coins.
    pub amount: i128,
    /// Set for a goodwill, which pays; a charge is paid.
    pub is_goodwill: bool,
}

/// An override: another policy or book for a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// First instant inside.
    pub from: Nanos,
    /// First instant after.
    pub to: Nanos,
    /// Policy in place of the one in force; absent to keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Book in place of the one in force; absent to keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book: Option<serde_json::Value>,
    /// Set to apply the book also to time without a book.
    #[serde(default)]
    pub from_begin: bool,
}

/// The outcome of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Documents in the order in which they were made.
    pub documents: Vec<Document>,
    /// Nano-units used of each credit by all periods.
    pub credits: BTreeMap<String, i128>,
    /// Periods for which a settle would make a document, by the names that documents have.
    pub stale: Vec<String>,
}

/// One document of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// First local day of the period; its first instant in UTC, if the agreement began inside of
    /// one of its own periods.
    pub period: String,
    /// Instant up to which the document goes.
    pub up_to: Nanos,
    /// Index of the act that made it.
    pub act: usize,
    /// Sums of the whole period up to `up_to`.
    pub whole: Sums,
    /// Sums that it adds to the earlier documents of the period.
    pub difference: Sums,
    /// Amount to pay in nano-units, whole coins.
    pub payable: i128,
}

/// Sums in nano-units; zeros are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Rounded sums by rule.
    pub rules: BTreeMap<String, i128>,
    /// Changes by the ids of adjustments, one-off charges and goodwill.
    pub adjustments: BTreeMap<String, i128>,
    /// Sum of rules, adjustments, one-off charges and goodwill.
    pub total: i128,
}

impl Sums {
    /// The difference from `others`.
    #[must_use]
    pub fn less(&self, others: &Self) -> Self {
        Self {
            rules: less(&self.rules, &others.rules),
            adjustments: less(&self.adjustments, &others.adjustments),
            total: self.total - others.total,
        }
    }

    /// Returns whether no rule and no adjustment has an amount.
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
