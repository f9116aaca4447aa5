//! `tallyman gap`.

use std::time::Duration;

use clap::Subcommand;

use super::global::Global;
use super::{args, output};
use crate::api::model::{GapSettlement, GapsHealth, SettleGap, TimeGap};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the times between two boots that no clock has proved
    #[command(visible_alias = "ls", after_help = "Examples:\n  tallyman gap list")]
    List,
    /// Say how much time the meter has left out: each tenant is charged once for what it held
    #[command(after_help = "Examples:\n  \
                      tallyman gap settle 812 --missing 6h --reason 'no power' --dry-run\n  \
                      tallyman gap settle 812 --missing 6h --reason 'no power'\n  \
                      tallyman gap settle 812 --nothing --reason 'our fault'")]
    Settle {
        /// The number of the fact that records the gap
        fact: u64,
        /// The time beyond what the meter has counted, such as 6h
        #[arg(long, value_parser = args::duration, required_unless_present = "nothing")]
        missing: Option<Duration>,
        /// Charge nobody for it
        #[arg(long, conflicts_with = "missing")]
        nothing: bool,
        /// The reason, for those who pay
        #[arg(long)]
        reason: String,
        /// Show the charges, and record nothing
        #[arg(long)]
        dry_run: bool,
    },
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        match self {
            Command::List => {
                let gaps: Vec<TimeGap> = client.get(&["gaps"], &[]).await?;
                global.output().show(&gaps, |gaps| table(gaps))
            }
            Command::Settle { fact, missing, nothing: _, reason, dry_run } => {
                let missing = args::duration_text(missing.unwrap_or_default());
                let request = SettleGap { missing, reason, dry_run };
                let path = ["gaps", &fact.to_string(), "settlement"];
                let settled: GapSettlement = client.post(&path, &request).await?;
                global.output().show(&settled, charges)
            }
        }
    }
}

/// The open gaps, for `tallyman health`.
pub(super) fn health_text(gaps: &GapsHealth) -> String {
    format!("; {} gaps of the clock since {} are open: {}", gaps.open, gaps.since, gaps.remedy)
}

fn table(gaps: &[TimeGap]) -> String {
    let rows = gaps.iter().map(|gap| {
        vec![
            gap.fact.to_string(),
            gap.from.to_string(),
            gap.until.to_string(),
            seconds(gap.counted_ns.into()),
            seconds(gap.claimed_ns.into()),
            gap.reason.clone(),
            gap.settled.as_ref().map_or_else(
                || "open".into(),
                |settled| format!("{} s: {}", seconds(settled.missing_ns.into()), settled.reason),
            ),
        ]
    });
    let head = [
        "FACT",
        "KNOWN UNTIL",
        "AND FROM",
        "COUNTED S",
        "BY THE WALL CLOCK S",
        "REASON",
        "SETTLED",
    ];
    output::table(&head, &[0, 3, 4], rows)
}

/// Whole seconds of nanoseconds.
fn seconds(ns: i128) -> String {
    (ns / 1_000_000_000).to_string()
}

fn charges(settled: &GapSettlement) -> String {
    let said = match settled.fact {
        Some(fact) => format!("settled by fact {fact}; the next close or settlement bills it"),
        None => "nothing is recorded: this is a dry run".into(),
    };
    let rows = settled.charges.iter().map(|charge| {
        vec![
            charge.tenant.clone(),
            charge.amount.clone(),
            charge.currency.clone(),
            charge.id.clone().unwrap_or_default(),
        ]
    });
    format!("{}\n{said}", output::table(&["TENANT", "AMOUNT", "CURRENCY", "ID"], &[1], rows))
}
