//! Cases of `tallyman policy test`: intervals, and the lines that they must come to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::billing::agreement::Agreement;
use crate::billing::decimal::Decimal;
use crate::cli::sheet;
use crate::invoice::{Invoice, Line, Sheet, SheetRules};
use crate::policy::PolicyHost;

/// A case as its author wrote it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    name: String,
    intervals: Vec<Value>,
    /// The price book; that of `--prices`, if absent.
    #[serde(default)]
    prices: Option<Value>,
    /// Options of the policy, by name.
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// First instant that is not billed; the end of the latest interval, if absent.
    #[serde(default)]
    to: Option<String>,
    /// All lines, in any order.
    #[serde(default)]
    lines: Option<Vec<Expected>>,
    /// The sum of everything.
    #[serde(default)]
    total: Option<String>,
}

/// A line that must be there. What is absent may be anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    rule: String,
    #[serde(default)]
    instance: Option<String>,
    #[serde(default)]
    price: Option<String>,
    #[serde(default)]
    quantity: Option<String>,
    #[serde(default)]
    billed: Option<String>,
    #[serde(default)]
    amount: Option<String>,
}

/// The outcome of a case.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
}

/// Reads the cases of a file: a JSON array.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Case>> {
    let text = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} has no cases", file.display()))
}

/// Rates each case by a component. Blocking.
pub(super) fn run(
    host: &PolicyHost,
    component: &[u8],
    book: Option<&[u8]>,
    cases: &[Case],
) -> Vec<Outcome> {
    let outcome = |case: &Case| {
        let failed = case.check(host, component, book).err().map(|error| format!("{error:#}"));
        Outcome { name: case.name.clone(), holds: failed.is_none(), failed }
    };
    cases.iter().map(outcome).collect()
}

impl Case {
    fn check(
        &self,
        host: &PolicyHost,
        component: &[u8],
        book: Option<&[u8]>,
    ) -> anyhow::Result<()> {
        let own = self.prices.as_ref().map(|book| book.to_string().into_bytes());
        let book = own.or_else(|| book.map(<[u8]>::to_vec));
        let rules = SheetRules {
            book: book.context("it has no `prices`; give some, or a book with --prices")?,
            policy: Some(component.to_vec()),
            options: self.options.clone().into_iter().collect(),
            agreement: Agreement::default(),
            book_name: None,
            policy_name: None,
        };
        let to = self.to.as_deref().map(sheet::instant).transpose().context("to")?;
        let rows = sheet::parse(self.intervals.clone()).context("intervals")?;
        let documents = Sheet::new(&rows, rules)?.rate(host, to)?.documents;
        self.check_lines(&documents)?;
        self.check_total(&documents)
    }

    fn check_lines(&self, documents: &[Invoice]) -> anyhow::Result<()> {
        let Some(expected) = &self.lines else { return Ok(()) };
        let mut left: Vec<&Line> = documents.iter().flat_map(|document| &document.lines).collect();
        for wanted in expected {
            match left.iter().position(|line| wanted.is(line)) {
                Some(place) => drop(left.remove(place)),
                None => {
                    let near = left.iter().find(|line| wanted.is_named(line));
                    let near = near.map_or_else(|| "there is none".into(), |line| shown(line));
                    bail!("no line is {wanted:?}; {near}");
                }
            }
        }
        match left.first() {
            Some(more) => bail!("one line more: {}", shown(more)),
            None => Ok(()),
        }
    }

    fn check_total(&self, documents: &[Invoice]) -> anyhow::Result<()> {
        let Some(wanted) = &self.total else { return Ok(()) };
        let totals = documents.iter().map(|document| nanos(&document.total));
        let total = totals.sum::<Option<i128>>().context("a total is no amount")?;
        match nanos(wanted) == Some(total) {
            true => Ok(()),
            false => bail!("the total is {}, not {wanted}", Decimal::nanos(total)),
        }
    }
}

impl Expected {
    /// Returns whether a line is of this rule, instance and price.
    fn is_named(&self, line: &Line) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.rule == line.rule
            && is(&self.instance, line.instance.as_deref())
            && is(&self.price, Some(&line.price_id))
    }

    fn is(&self, line: &Line) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| nanos(wanted) == nanos(found))
        };
        self.is_named(line)
            && is(&self.quantity, &line.quantity)
            && is(&self.billed, &line.billed)
            && is(&self.amount, &line.amount)
    }
}

fn shown(line: &Line) -> String {
    let Line { rule, price_id, quantity, billed, amount, .. } = line;
    let instance = line.instance.as_deref().unwrap_or("-");
    format!(
        "rule {rule}, instance {instance}, price {price_id}: quantity {quantity}, billed {billed}, \
         amount {amount}"
    )
}

/// A number as its value, so that `1.50` and `1.5` are one.
fn nanos(text: &str) -> Option<i128> {
    text.parse::<Decimal>().ok()?.scaled(9)
}
