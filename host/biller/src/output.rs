//! Output of a bill.

use serde::{Deserialize, Serialize};

use crate::input::{Balances, OneOffKind, Rounding};

/// The bill of a period, up to T.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bill {
    /// ISO 4217 code of the books; none where no book was in force before T.
    pub currency: Option<String>,
    /// Digits after the point in the currency's smallest coin.
    pub minor_digits: u8,
    /// Digits after the point to which rules' sums are rounded, 0 to 9.
    pub line_digits: u8,
    /// Rounding of sums and coins.
    pub rounding: Rounding,
    /// Rules' sums, sorted by rule, rounded; nano-units.
    pub rules: Vec<RuleSum>,
    /// Adjustments, in the order in which they act.
    pub adjustments: Vec<Adjusted>,
    /// One-off charges and goodwill that act before T, in the order in which they act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_offs: Vec<OneOffSum>,
    /// Sum of rules, adjustments and one-offs, in nano-units.
    pub total: i128,
    /// The total in the currency's smallest coins.
    pub payable: i128,
    /// Tariffs of the lines, in the order in which lines of one subject have them.
    pub tariffs: Vec<Tariff>,
    /// Charges, sorted by rule, subject (the tenant as a whole last) and tariff. Those of a rule
    /// add up to its sum.
    pub lines: Vec<Line>,
    /// Balances as they are at T, for the next period.
    pub closing: Balances,
}

/// A rule's sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSum {
    /// Name of the rule.
    pub rule: String,
    /// Sum in nano-units.
    pub amount: i128,
    /// Nano-units of the charges before each of the header's marks, by section 10.2 of
    /// `docs/bill.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<i128>,
}

/// The kind of an adjustment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdjustmentKind {
    /// Raises the charges to its amount at the period's end.
    Minimum,
    /// Lowers the charges to its amount.
    Cap,
    /// Pays charges until it is used up.
    Credit,
}

/// The effect of an adjustment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjusted {
    /// Id of the adjustment.
    pub id: String,
    /// Minimum, cap or credit.
    pub kind: AdjustmentKind,
    /// Amount for the period in nano-units; for a credit, the rest of the grant.
    pub amount: i128,
    /// Nano-units added to the sum; negative for caps and credits.
    pub change: i128,
    /// Raise still to come if nothing more is used, in nano-units; 0 but for a minimum before the
    /// period's end.
    pub to_come: i128,
}

/// The effect of a one-off charge or a goodwill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneOffSum {
    /// Its id.
    pub id: String,
    /// Charge or goodwill.
    pub kind: OneOffKind,
    /// Nano-units added to the sum; negative for a goodwill.
    pub change: i128,
}

/// The price of some lines: a tier of a price, its fee, or the price of a policy's own line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// Kind of the lines.
    pub kind: LineKind,
    /// Rule of the lines.
    pub rule: String,
    /// Meter of the lines.
    pub meter: String,
    /// Id of the price in the book.
    pub price_id: String,
    /// Position of the tier, from 0.
    pub tier: u32,
    /// Unit that the price is for, as the operator wrote it, such as `vcpu-hour`.
    pub per: String,
    /// Unit of both quantities; `once` for a fee.
    pub unit: String,
    /// Price in nano-units per unit: numerator.
    pub price_numerator: i128,
    /// Price in nano-units per unit: denominator, 1 or more.
    pub price_denominator: u128,
}

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// Units of a meter.
    Usage,
    /// A fee.
    Once,
    /// A line that the policy stated itself.
    Own,
}

/// A charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Index into [`Bill::tariffs`].
    pub tariff: u32,
    /// Index into the subjects; none for a charge of the tenant as a whole.
    pub subject: Option<u32>,
    /// Units used.
    pub quantity: u128,
    /// Units charged for.
    pub billed: u128,
    /// Amount in nano-units: the line's share of the rule's rounded sum.
    pub amount: i128,
    /// First instant that the line covers.
    pub from: i64,
    /// First instant after the last that the line covers.
    pub until: i64,
    /// Sequence numbers of the first and the last fact that opened an interval in it; none for
    /// fees, packages and own lines.
    pub facts: Option<(u64, u64)>,
}

impl Bill {
    /// The tariff of one of its lines.
    pub fn tariff(&self, line: &Line) -> &Tariff {
        &self.tariffs[line.tariff as usize]
    }
}
