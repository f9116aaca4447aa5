//! `tallyman policy test`: the conformance kit, without a daemon.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::during;
use crate::cli::output::{self, Output};
use crate::policy::book::Book;
use crate::policy::conformance::{self, Report};
use crate::policy::{PolicyHost, Profile};

#[derive(Debug, Args)]
pub(in crate::cli) struct Test {
    /// The component
    file: PathBuf,
    /// Which bounds hold for it: compact, or large for raters in interpreted languages
    #[arg(long, default_value = "compact")]
    profile: Profile,
    /// A price book that it must charge by, too
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

/// What the kit found out, for programs.
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
    lines: u64,
}

#[derive(Debug, Serialize)]
struct Checked {
    claim: &'static str,
    cases: u64,
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

#[derive(Debug, Serialize)]
struct Burned {
    what: &'static str,
    fuel: u64,
    allowed: u64,
}

impl Test {
    pub(in crate::cli) async fn run(self, output: Output) -> anyhow::Result<()> {
        let bytes = std::fs::read(&self.file).with_context(|| format!("can't read {}", self.file.display()))?;
        let (profile, prices) = (self.profile, self.prices.as_deref().map(book).transpose()?);
        let asked = tokio::task::spawn_blocking(move || ask(&bytes, profile, prices.as_ref()));
        let asked = during("compiling and asking", async { asked.await.context("it broke off")? });
        let report = asked.await.with_context(|| format!("{} is not admitted", self.file.display()))?;
        output.show(&found(&report), text)?;
        if !report.holds() {
            bail!("{} does not conform", self.file.display());
        }
        Ok(())
    }
}

fn book(file: &Path) -> anyhow::Result<Book> {
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    Book::parse(&bytes).with_context(|| format!("{} is no price book", file.display()))
}

fn ask(bytes: &[u8], profile: Profile, prices: Option<&Book>) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir().context("can't make a folder for compiled code")?;
    let host = PolicyHost::open(&folder.path().join("compiled"))?;
    Ok(conformance::run(&host, bytes, profile, prices)?)
}

fn found(report: &Report) -> Found {
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
        holds: report.holds(),
        checks: report.checks.iter().map(checked).collect(),
        fuel: report
            .fuel
            .iter()
            .map(|burned| Burned { what: burned.what, fuel: burned.fuel, allowed: burned.allowed })
            .collect(),
        lines: report.lines,
    }
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
    let fuel = found
        .fuel
        .iter()
        .map(|burned| vec![burned.what.to_owned(), burned.fuel.to_string(), burned.allowed.to_string()]);
    format!(
        "{}\n\n{}\n\n{}\n\n{} charge lines were stated and checked",
        output::pairs(facts),
        output::table(&["MUST HOLD", "CASES", "", ""], &[1], checks),
        output::table(&["FUEL OF", "TOOK", "MAY TAKE"], &[1, 2], fuel),
        found.lines
    )
}
