//! `tallyman rate`: intervals in a file, rated by a book and a policy without a daemon.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::document::{self, Format, GroupBy};
use super::engine::engine;
use super::global::Global;
use super::invoice::{CycleText, Shown};
use super::output;
use super::progress::during;
use super::sheet;
use crate::billing::agreement::Agreement;
use crate::invoice::{DaySum, Invoice, Rated, Sheet, SheetRules};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                  tallyman rate intervals.csv --prices prices.json\n  \
                  tallyman rate intervals.json --prices prices.json --policy mine.wasm\n  \
                  tallyman rate intervals.csv --prices prices.json --format html > bill.html\n\n\
                  Columns: instance, phase, from, until, session, vcpus, memory_bytes,\n\
                  disk_bytes, snapshot_bytes, network_in_bytes, network_out_bytes. The rows of an\n\
                  instance touch; one whose last row has no `until` lives on.")]
pub(super) struct Rate {
    /// The intervals: CSV with names in its first row, or a JSON array of objects
    file: PathBuf,
    /// The price book
    #[arg(long, value_name = "FILE")]
    prices: PathBuf,
    #[command(flatten)]
    by: By,
    /// First instant that is not billed, as an instant or a date in UTC; the end of the latest
    /// interval, if absent
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// The rules beside the prices.
#[derive(Debug, Args)]
pub(super) struct By {
    /// The policy's component; the standard policy, if absent
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// An option of the policy, such as minimum=60s; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = super::args::option)]
    options: Vec<(String, String)>,
    /// IANA name of the zone whose days cut periods
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// The kind of a period
    #[arg(long, value_enum, default_value = "month")]
    cycle: CycleText,
    /// Day of the month on which a month begins, 1 to 31
    #[arg(long, default_value_t = 1)]
    anchor_day: u8,
}

/// The bill, for programs.
#[derive(Debug, Serialize)]
struct Bill {
    documents: Vec<Invoice>,
    sources: Vec<Source>,
    /// The charges of each local day, by document; empty if they are not grouped by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    days: Vec<Vec<DaySum>>,
}

/// The origin of a line.
#[derive(Debug, Serialize)]
struct Source {
    /// Number of the document in the answer, from 1.
    document: usize,
    /// Number of its line.
    line: u64,
    rule: String,
    instance: Option<String>,
    price: String,
    /// Numbers of the rows of the file, from 1, ascending.
    rows: Vec<u64>,
}

impl Rate {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        let rows = sheet::read(&self.file)?;
        let to = self.to.as_deref().map(sheet::instant).transpose().context("--to")?;
        let rules = self.by.rules(&self.prices)?;
        let shown = self.shown;
        let work = move || -> anyhow::Result<Bill> {
            let sheet = Sheet::new(&rows, rules)?;
            let (_folder, engine) = engine()?;
            let rated = sheet.rate(&engine, to)?;
            let days = match shown.group_by {
                Some(GroupBy::Day) => sheet.days(&engine, &rated.documents)?,
                _ => Vec::new(),
            };
            Ok(Bill { sources: sources(&rated), documents: rated.documents, days })
        };
        let rating = tokio::task::spawn_blocking(work);
        let bill = during("rating", async { rating.await.context("it broke off")? }).await?;
        let output = output.or_json(shown.format == Format::Json);
        output.show(&bill, |bill| text(bill, shown))
    }
}

impl By {
    /// The rules of a sheet. Book and policy have the names of their files.
    pub(super) fn rules(self, prices: &Path) -> anyhow::Result<SheetRules> {
        let book = read(prices)?;
        let book_name = name_of(prices);
        let policy_name = self.policy.as_deref().and_then(name_of);
        let policy = self.policy.as_deref().map(read).transpose()?;
        let mut options = self.options;
        options.sort();
        let agreement = Agreement {
            zone: self.zone,
            cycle: self.cycle.cycle().into(),
            anchor_day: self.anchor_day,
        };
        Ok(SheetRules { book, policy, options, agreement, book_name, policy_name })
    }
}

/// The name of a file without its ending; none where it is no name.
fn name_of<N: FromStr>(file: &Path) -> Option<N> {
    file.file_stem()?.to_str()?.parse().ok()
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
}

fn sources(rated: &Rated) -> Vec<Source> {
    let mut sources = Vec::new();
    for (number, (document, lines)) in (1..).zip(rated.documents.iter().zip(&rated.sources)) {
        for (line, pieces) in document.lines.iter().zip(lines) {
            let mut rows: Vec<u64> = pieces.iter().map(|piece| piece.fact).collect();
            rows.sort_unstable();
            rows.dedup();
            sources.push(Source {
                document: number,
                line: line.number,
                rule: line.rule.clone(),
                instance: line.instance.clone(),
                price: line.price_id.clone(),
                rows,
            });
        }
    }
    sources
}

fn text(bill: &Bill, shown: Shown) -> String {
    let mut pages = document::pages(&bill.documents, shown.group_by);
    for (page, days) in pages.iter_mut().zip(&bill.days) {
        page.days = days;
    }
    let text = document::print(&pages, shown.format);
    if shown.format != Format::Table {
        return text;
    }
    let rows = bill.sources.iter().map(|source| {
        vec![
            source.document.to_string(),
            source.line.to_string(),
            source.rule.clone(),
            source.instance.clone().unwrap_or_else(|| "-".into()),
            source.price.clone(),
            ranges(&source.rows),
        ]
    });
    let head = ["DOCUMENT", "LINE", "RULE", "INSTANCE", "PRICE", "ROWS OF THE FILE"];
    format!("{text}\n\n{}", output::table(&head, &[0, 1], rows))
}

/// Ascending numbers as ranges: `1-3, 7`.
fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_ranges() {
        let rows = [(&[][..], ""), (&[4], "4"), (&[1, 2, 3, 7], "1-3, 7"), (&[1, 3], "1, 3")];
        for (numbers, text) in rows {
            assert_eq!(ranges(numbers), text);
        }
    }
}
