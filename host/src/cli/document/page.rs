//! A document to print.

use clap::ValueEnum;

use crate::invoice::{DaySum, Invoice};

/// The grouping by which charges are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum GroupBy {
    /// All rules of each instance.
    Instance,
    /// All instances of each rule.
    Rule,
    /// All rules of each local day.
    Day,
}

/// A document to print, with its charges by day if they are grouped by it.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Page<'a> {
    pub(in crate::cli) document: &'a Invoice,
    pub(in crate::cli) days: &'a [DaySum],
    pub(in crate::cli) group: Option<GroupBy>,
}
