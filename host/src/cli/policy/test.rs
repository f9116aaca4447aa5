//! `tallyman policy test`: the conformance kit, without a daemon.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::cases::{self, Case};
use crate::api::model::Declared;
use crate::cli::engine::engine;
use crate::cli::output::{self, Output};
use crate::cli::progress::during;
use crate::policy::Profile;
use crate::policy::conformance::{self, Report, Terms};
use crate::policy::metering::Setting;
use biller::book::Book;

#[derive(Debug, Args)]
pub(in crate::cli) struct Test {
    /// File of the component
    file: PathBuf,
    /// Set of limits that it is tested under: compact, or large for meters in interpreted languages
    #[arg(long, default_value = "compact")]
    profile: Profile,
    /// A price book whose meters it must declare and measure
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// An option to measure under, such as minimum=60s; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = setting)]
    options: Vec<(String, String)>,
    /// Intervals and the lines that they must come to: a JSON array of cases
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("an option needs a `=`; write it like minimum=60s")?;
    Ok((name.into(), value.into()))
}

/// The result of the conformance kit, as JSON output.
#[derive(Debug, Serialize)]
struct Found {
    digest: String,
    world: &'static str,
    profile: &'static str,
    size_bytes: u64,
    size_bytes_max: u64,
    compile_ms: u64,
    holds: bool,
    checks: Vec<Checked>,
    fuel: Vec<Burned>,
    #[serde(flatten)]
    declared: Declared,
    counted: u64,
    lines: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    billed: Vec<Ratio>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cases: Vec<cases::Outcome>,
}

#[derive(Debug, Serialize)]
struct Checked {
    claim: &'static str,
    cases: u64,
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// Sums of a policy's own lines under one rule. Numbers are texts, as they pass 2^53.
#[derive(Debug, Serialize)]
struct Ratio {
    rule: String,
    unit: String,
    quantity: String,
    billed: String,
    /// Billed through used, rounded up to thousandths; absent if nothing was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<String>,
}

#[derive(Debug, Serialize)]
struct Burned {
    what: &'static str,
    fuel: u64,
    allowed: u64,
}

impl Test {
    pub(in crate::cli) async fn run(self, output: Output) -> anyhow::Result<()> {
        let bytes = std::fs::read(&self.file)
            .with_context(|| format!("can't read {}", self.file.display()))?;
        let profile = self.profile;
        let terms = self.terms()?;
        let cases = self.cases.as_deref().map(cases::read).transpose()?.unwrap_or_default();
        let book = self.prices.as_deref().map(read).transpose()?;
        let ask = move || ask(&bytes, profile, &terms, book.as_deref(), &cases);
        let asked = tokio::task::spawn_blocking(ask);
        let asked = during("compiling and testing", async {
            asked.await.context("the test was interrupted")?
        });
        let (report, cases) =
            asked.await.with_context(|| format!("{} is not admitted", self.file.display()))?;
        let found = found(&report, cases);
        output.show(&found, text)?;
        if !found.holds {
            bail!("{} does not conform", self.file.display());
        }
        Ok(())
    }
}

impl Test {
    fn terms(&self) -> anyhow::Result<Terms> {
        let setting =
            |(name, value): &(String, String)| Setting { name: name.clone(), value: value.clone() };
        let mut options: Vec<Setting> = self.options.iter().map(setting).collect();
        options.sort_by(|one, other| one.name.cmp(&other.name));
        let priced = self.prices.as_deref().map(meters).transpose()?.unwrap_or_default();
        Ok(Terms { options, priced })
    }
}

/// The meters that a book prices, each once.
fn meters(file: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = read(file)?;
    let book = Book::parse(&bytes, crate::billing::zones::is_known)
        .with_context(|| format!("{} is not a price book", file.display()))?;
    let mut meters: Vec<String> = book.prices().iter().map(|price| price.meter.clone()).collect();
    meters.sort_unstable();
    meters.dedup();
    Ok(meters)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
}

fn ask(
    bytes: &[u8],
    profile: Profile,
    terms: &Terms,
    book: Option<&[u8]>,
    cases: &[Case],
) -> anyhow::Result<(Report, Vec<cases::Outcome>)> {
    let (_folder, host) = engine()?;
    let report = conformance::run(&host, bytes, profile, terms)?;
    let outcomes = cases::run(&host, bytes, book, cases);
    Ok((report, outcomes))
}

fn found(report: &Report, cases: Vec<cases::Outcome>) -> Found {
    let admitted = &report.admitted;
    let checked = |check: &conformance::Check| Checked {
        claim: check.claim,
        cases: check.cases,
        holds: check.failed.is_none(),
        failed: check.failed.clone(),
    };
    Found {
        digest: admitted.digest.to_string(),
        world: admitted.world.as_str(),
        profile: admitted.profile.as_str(),
        size_bytes: admitted.size_bytes as u64,
        size_bytes_max: admitted.profile.bounds().component_bytes_max as u64,
        compile_ms: admitted.compile_ms,
        holds: report.holds() && cases.iter().all(|case| case.holds),
        checks: report.checks.iter().map(checked).collect(),
        fuel: report
            .fuel
            .iter()
            .map(|burned| Burned { what: burned.what, fuel: burned.fuel, allowed: burned.allowed })
            .collect(),
        declared: Declared::from(&report.description),
        counted: report.counted,
        lines: report.lines,
        billed: report.billed.iter().map(ratio).collect(),
        warnings: report.warnings.clone(),
        cases,
    }
}

fn ratio(billed: &conformance::Billed) -> Ratio {
    let ratio = billed.thousandths();
    Ratio {
        rule: billed.rule.clone(),
        unit: billed.unit.clone(),
        quantity: billed.quantity.to_string(),
        billed: billed.billed.to_string(),
        ratio: ratio.map(|parts| format!("{}.{:03}", parts / 1_000, parts % 1_000)),
    }
}

/// The rules of a policy's own lines, and the warnings; empty without any.
fn remarks(found: &Found) -> String {
    let mut text = String::new();
    if !found.billed.is_empty() {
        let rows = found.billed.iter().map(|one| {
            let ratio = one.ratio.clone().unwrap_or_default();
            let sums = [one.quantity.clone(), one.billed.clone(), ratio];
            [one.rule.clone(), one.unit.clone()].into_iter().chain(sums).collect()
        });
        let head = ["RULE OF ITS OWN", "UNIT", "USED", "BILLED", "BILLED / USED"];
        text.push_str(&format!("\n\n{}", output::table(&head, &[2, 3, 4], rows)));
    }
    for warning in &found.warnings {
        text.push_str(&format!("\n\nwarning: {warning}"));
    }
    text
}

fn text(found: &Found) -> String {
    let facts = [
        ("digest", found.digest.clone()),
        ("world", found.world.into()),
        ("profile", found.profile.into()),
        ("size", format!("{} of {} bytes", found.size_bytes, found.size_bytes_max)),
        ("compiled in", format!("{} ms", found.compile_ms)),
    ];
    let checks = found.checks.iter().map(|check| {
        let verdict = if check.holds { "holds" } else { "FAILS" };
        let why = check.failed.clone().unwrap_or_default();
        vec![check.claim.to_owned(), check.cases.to_string(), verdict.to_owned(), why]
    });
    let fuel = found.fuel.iter().map(|burned| {
        vec![burned.what.to_owned(), burned.fuel.to_string(), burned.allowed.to_string()]
    });
    let told = format!(
        "{}\n\n{}\n\n{}\n\n{}\n\n\
         {} intervals were counted, {} lines of its own were stated and checked{}",
        output::pairs(facts),
        output::declared(&found.declared),
        output::table(&["MUST HOLD", "CASES", "", ""], &[1], checks),
        output::table(&["FUEL OF", "TOOK", "MAY TAKE"], &[1, 2], fuel),
        found.counted,
        found.lines,
        remarks(found)
    );
    if found.cases.is_empty() {
        return told;
    }
    let cases = found.cases.iter().map(|case| {
        let verdict = if case.holds { "holds" } else { "FAILS" };
        vec![case.name.clone(), verdict.into(), case.failed.clone().unwrap_or_default()]
    });
    format!("{told}\n\n{}", output::table(&["CASE", "", ""], &[], cases))
}
