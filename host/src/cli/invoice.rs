//! `tallyman invoice` and `tallyman prices`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::Global;
use super::output;
use super::progress::during;
use crate::api::{CloseInvoice, CorrectInvoice, Invoices, Prices, PricesHistory};
use crate::invoice::{Bundle, Invoice, Kind, Line};
use crate::tenancy::SELF;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what a period comes to, as closing it now would make final
    #[command(
        after_help = "Examples:\n  tallyman invoice preview\n  tallyman invoice preview --from 2026-01-01 --to 2026-02-01\n  tallyman invoice preview --policy 3f9a1c --json"
    )]
    Preview {
        #[command(flatten)]
        period: Period,
        /// A policy instead of those in force: its digest, the digest's unique beginning, or `standard`
        #[arg(long)]
        policy: Option<String>,
        /// A price book instead of those in force: its digest or the digest's unique beginning
        #[arg(long, value_name = "DIGEST")]
        prices: Option<String>,
    },
    /// Make a period final
    #[command(
        after_help = "Examples:\n  tallyman invoice close --to 2026-02-01\n  tallyman invoice close --from 2026-01-01 --to 2026-02-01"
    )]
    Close {
        /// First instant of the period, or a date in UTC; the end of the last invoice, if absent
        #[arg(long)]
        from: Option<String>,
        /// First instant after it, or a date in UTC
        #[arg(long)]
        to: String,
        /// A policy instead of those in force, for a period that they left unrated
        #[arg(long)]
        policy: Option<String>,
    },
    /// List invoices and corrections
    #[command(visible_alias = "ls", after_help = "Examples:\n  tallyman invoice list\n  tallyman invoice list --json")]
    List,
    /// Show an invoice or a correction
    #[command(after_help = "Examples:\n  tallyman invoice show 1\n  tallyman invoice show 1 --json")]
    Show {
        /// Its number
        number: u64,
    },
    /// Charge a closed period anew, by what is known now or by other rules; only what changes is charged
    #[command(after_help = "Examples:\n  tallyman invoice correct 1 --reason 'the price was wrong' --prices 3f9a1c")]
    Correct {
        /// The invoice's number
        number: u64,
        /// Why, for the person who pays
        #[arg(long)]
        reason: String,
        /// A policy instead of those that were in force
        #[arg(long)]
        policy: Option<String>,
        /// A price book instead of those that were in force
        #[arg(long, value_name = "DIGEST")]
        prices: Option<String>,
    },
    /// Save an invoice with all its evidence, to be proved on another machine
    #[command(
        after_help = "Examples:\n  tallyman invoice bundle 1 invoice-1.json\n  tallyman verify --bundle invoice-1.json"
    )]
    Bundle {
        /// The invoice's number
        number: u64,
        /// Where to
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PricesCommand {
    /// Put a price book in force
    #[command(
        after_help = "Examples:\n  tallyman prices set prices.json\n  tallyman prices set prices.json --at 2026-02-01"
    )]
    Set {
        /// The book: one JSON document
        file: PathBuf,
        /// From when on, as an instant or a date in UTC; now if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
    },
    /// Show the prices in force, and those that were and will be
    #[command(after_help = "Examples:\n  tallyman prices show\n  tallyman prices show --json")]
    Show,
    /// Check a price book without a daemon
    #[command(after_help = "Examples:\n  tallyman prices check prices.json")]
    Check {
        /// The book: one JSON document
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Period {
    /// First instant of the period, or a date in UTC; the end of the last invoice, if absent
    #[arg(long)]
    from: Option<String>,
    /// First instant after it, or a date in UTC; now, if absent
    #[arg(long)]
    to: Option<String>,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let (client, output) = (global.client()?, global.output());
        match self {
            Command::Preview { period, policy, prices } => {
                let query = [("from", period.from), ("to", period.to), ("policy", policy), ("prices", prices)];
                let query: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                let invoice: Invoice = during("rating", client.get(&["tenants", SELF, "invoice"], &query)).await?;
                output.show(&invoice, text)
            }
            Command::Close { from, to, policy } => {
                let path = ["tenants", SELF, "invoice", "close"];
                let invoice: Invoice = during("rating", client.post(&path, &CloseInvoice { from, to, policy })).await?;
                output.show(&invoice, text)
            }
            Command::List => {
                let invoices: Invoices = client.get(&["tenants", SELF, "invoices"], &[]).await?;
                output.show(&invoices, list)
            }
            Command::Show { number } => {
                let number = number.to_string();
                let invoice: Invoice = client.get(&["tenants", SELF, "invoices", &number], &[]).await?;
                output.show(&invoice, text)
            }
            Command::Correct { number, reason, policy, prices } => {
                let number = number.to_string();
                let path = ["tenants", SELF, "invoices", &number, "corrections"];
                let request = CorrectInvoice { reason, policy, prices };
                let correction: Invoice = during("rating", client.post(&path, &request)).await?;
                output.show(&correction, text)
            }
            Command::Bundle { number, file } => {
                let number = number.to_string();
                let path = ["tenants", SELF, "invoices", &number, "bundle"];
                let bundle: Bundle = during("collecting evidence", client.get(&path, &[])).await?;
                let bytes = serde_json::to_vec(&bundle)?;
                std::fs::write(&file, &bytes).with_context(|| format!("can't write {}", file.display()))?;
                output.show(&Saved { file, facts: bundle.facts.len() as u64 }, |saved| {
                    format!("{} has {} facts; `tallyman verify --bundle` proves it", saved.file.display(), saved.facts)
                })
            }
        }
    }
}

/// A bundle on disk, for programs.
#[derive(serde::Serialize)]
struct Saved {
    file: PathBuf,
    facts: u64,
}

/// A price book that is one, for programs.
#[derive(serde::Serialize)]
struct Sound {
    digest: String,
    currency: String,
    prices: u64,
}

impl PricesCommand {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        match self {
            PricesCommand::Set { file, at } => {
                let bytes = read(&file)?;
                let query: Vec<_> = at.as_deref().map(|at| ("at", at)).into_iter().collect();
                let path = ["tenants", SELF, "prices"];
                let prices: Prices = global.client()?.put_text(&path, &query, bytes).await?;
                output.show(&prices, |prices| {
                    let Prices { tenant, digest, currency, prices: count, from, .. } = prices;
                    format!("tenant {tenant} is charged by {digest} ({count} prices in {currency}) from {from} on")
                })
            }
            PricesCommand::Show => {
                let prices: PricesHistory = global.client()?.get(&["tenants", SELF, "prices"], &[]).await?;
                output.show(&prices, history)
            }
            PricesCommand::Check { file } => {
                let bytes = read(&file)?;
                let book = crate::policy::book::Book::parse(&bytes);
                let book = book.with_context(|| format!("{} is no price book", file.display()))?;
                let sound = Sound {
                    digest: book.digest().to_string(),
                    currency: book.currency().to_string(),
                    prices: book.len() as u64,
                };
                output.show(&sound, |sound| {
                    format!("{} prices in {}; its digest is {}", sound.prices, sound.currency, sound.digest)
                })
            }
        }
    }
}

fn read(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
}

fn history(prices: &PricesHistory) -> String {
    let current = prices.current.as_ref().map(|current| current.fact);
    let rows = prices.history.iter().map(|book| {
        let note = if Some(book.fact) == current { "in force" } else { "" };
        let (from, digest) = (book.from.to_string(), book.digest.clone());
        vec![from, digest, book.currency.clone(), book.prices.to_string(), note.into()]
    });
    let mut text = output::table(&["FROM", "BOOK", "CURRENCY", "PRICES", ""], &[3], rows);
    if let Some(book) = prices.current.as_ref().and_then(|current| current.text.as_ref()) {
        text.push_str("\n\n");
        text.push_str(book.trim_end());
    }
    text
}

fn list(invoices: &Invoices) -> String {
    let rows = invoices.invoices.iter().map(|invoice| {
        let kind = match invoice.corrects {
            Some(number) => format!("corrects {number}"),
            None => "invoice".into(),
        };
        vec![
            invoice.number.to_string(),
            kind,
            invoice.from.clone(),
            invoice.until.clone(),
            invoice.total.clone(),
            invoice.payable.clone(),
            invoice.currency.clone(),
            invoice.digest.chars().take(12).collect(),
        ]
    });
    output::table(&["NUMBER", "KIND", "FROM", "UNTIL", "TOTAL", "PAYABLE", "", "DIGEST"], &[0, 4, 5], rows)
}

/// An invoice as a table, with its sum and where it comes from.
pub(super) fn text(invoice: &Invoice) -> String {
    let title = match (invoice.kind, invoice.number) {
        (Kind::Correction, Some(number)) => {
            let corrects = invoice.corrects.unwrap_or_default();
            format!("correction {number} of invoice {corrects}: {}", invoice.reason.as_deref().unwrap_or("no reason"))
        }
        (Kind::Invoice, Some(number)) => format!("invoice {number}"),
        (Kind::Preview | Kind::Invoice | Kind::Correction, _) => "preview, not final".into(),
    };
    let head = format!("{title}\ntenant {}, {} to {}\n", invoice.tenant, invoice.from, invoice.until);
    let name = |line: &Line| {
        let id = line.instance.as_deref().unwrap_or("-");
        let named = invoice.instances.iter().find(|named| named.id == id);
        named.map_or_else(|| id.to_owned(), |named| named.name.clone())
    };
    let rows = invoice.lines.iter().map(|line| {
        vec![line.number.to_string(), name(line), line.rule.clone(), line.amount.clone(), line.description.clone()]
    });
    let lines = output::table(&["LINE", "INSTANCE", "RULE", "AMOUNT", ""], &[0, 3], rows);
    let Invoice { total, currency, payable, as_of, receipts, .. } = invoice;
    let sum = format!("total {total} {currency}, to be paid {payable} {currency}");
    let proof = format!("as of fact {}; {} calls, each with a receipt", as_of.seq, receipts.len());
    format!("{head}\n{lines}\n\n{sum}\n{proof}{}", stood_in(invoice))
}

/// Which time was rated by another policy than the one that was in force, a line each.
fn stood_in(invoice: &Invoice) -> String {
    let mut said: Vec<String> = Vec::new();
    for receipt in &invoice.receipts {
        let Some(ill) = &receipt.stands_in_for else { continue };
        let short = |digest: &String| digest.chars().take(12).collect::<String>();
        let line = format!("\npolicy {} was quarantined; {} rated its time", short(ill), short(&receipt.policy));
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said.concat()
}
