//! `tallyman invoice`, `tallyman prices` and `tallyman agreement`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, ValueEnum};

use super::args::Once;
use super::client::is_refused;
use super::document::{self, Format, GroupBy, Page};
use super::export::Export;
use super::global::Global;
use super::output;
use super::policy;
use super::progress::during;
use crate::api::model::{
    Agreement, AgreementInForce, CloseInvoice, CorrectInvoice, DaysOfDocuments, DocumentDays,
    Documents, Invoices, OneOff, Overridden, OverrideRules, PreviewRequest, Prices, PricesHistory,
    PricesState, RecordedOneOff, SettleInvoices, Tenant,
};
use crate::billing::decimal::Decimal;
use crate::id::BookName;
use crate::invoice::{Bundle, Invoice, Kind};
use crate::journal::wire::{Cycle, OneOffKind};
use crate::policy::PolicyHost;
use crate::tenancy::SELF;
use crate::tenant::STANDARD;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Preview the documents that a close would make now
    #[command(after_help = "Examples:\n  \
                      tallyman invoice preview\n  \
                      tallyman invoice preview --to 2026-02-01 --group-by rule\n  \
                      tallyman invoice preview --prices prices.json --format html \
                      > preview.html\n  \
                      tallyman invoice preview --policy night-v3 --json")]
    Preview {
        /// First instant that is not billed, in RFC 3339 or as a date in UTC; now if absent
        #[arg(long, conflicts_with = "month")]
        to: Option<String>,
        /// A month, such as 2026-01: the other rules hold for the tenant's own period that begins
        /// in it, and a closed one shows what was, what would be, and the difference
        #[arg(long, value_name = "YEAR-MONTH", value_parser = month)]
        month: Option<String>,
        #[command(flatten)]
        rules: Rules,
        #[command(flatten)]
        shown: Shown,
    },
    /// Close every period up to an instant
    #[command(after_help = "Examples:\n  \
                      tallyman invoice close --month 2026-01\n  \
                      tallyman invoice close --to 2026-02-01\n  \
                      tallyman invoice close --to now\n  \
                      tallyman invoice close --all --month 2026-01")]
    Close {
        /// First instant that is not billed, in RFC 3339 or as a date in UTC; `now` is now less 60
        /// s
        #[arg(long, required_unless_present = "month", conflicts_with = "month")]
        to: Option<String>,
        /// A month, up to the end of the tenant's own period that begins in it
        #[arg(long, value_name = "YEAR-MONTH", value_parser = month)]
        month: Option<String>,
        /// Close for every tenant, and report those that could not be closed
        #[arg(long)]
        all: bool,
        /// Close although operations are under way; the document names them
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        shown: Shown,
    },
    /// Bring closed periods up to date with what is known now
    #[command(after_help = "Examples:\n  tallyman invoice settle --reason 'late facts of January'")]
    Settle {
        /// The reason, for the payer
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        shown: Shown,
    },
    /// Override the policy or the price book for a span; documents change with the next close or
    /// settlement
    #[command(after_help = "Examples:\n  \
                      tallyman invoice override --from 2026-01-01 --until 2026-02-01 \
                      --prices new.json --reason 'agreed in March'\n  \
                      tallyman invoice override --from 2026-01-01 --until 2026-02-01 \
                      --reason 'as it was'   Ends earlier overrides")]
    Override {
        /// First instant of the span, in RFC 3339 or as a date in UTC
        #[arg(long)]
        from: String,
        /// First instant after the span
        #[arg(long)]
        until: String,
        #[command(flatten)]
        rules: Rules,
        /// The reason, for the payer
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        once: Once,
    },
    /// Charge an amount once, beside what the book prices
    #[command(after_help = "Examples:\n  \
                      tallyman invoice charge 25 --reason 'setting up'\n  \
                      tallyman invoice charge 25 --reason 'setting up' --at 2026-01-15")]
    Charge(OneOffArgs),
    /// Give an amount once: it pays what periods come to until it is used up
    #[command(after_help = "Examples:\n  \
                      tallyman invoice goodwill 12.50 --reason 'the outage of January 15'")]
    Goodwill(OneOffArgs),
    /// List documents
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman invoice list\n  tallyman invoice list --json"
    )]
    List,
    /// Show a document
    #[command(after_help = "Examples:\n  \
                      tallyman invoice show 1\n  \
                      tallyman invoice show 1 --format csv > invoice-1.csv")]
    Show {
        /// The document's number
        number: u64,
        #[command(flatten)]
        shown: Shown,
    },
    /// Correct the period of a document: override its rules and settle
    #[command(after_help = "Examples:\n  \
                      tallyman invoice correct 1 --reason 'the price was wrong' \
                      --prices right.json")]
    Correct {
        /// The document's number
        number: u64,
        /// The reason, for the payer
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        rules: Rules,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        shown: Shown,
    },
    /// Export documents as a table for others' tools
    #[command(after_help = "Examples:\n  \
                      tallyman invoice export > costs.csv\n  \
                      tallyman invoice export --month 2026-01 --provider 'Example Ltd'\n  \
                      tallyman invoice export --format focus-1.4 --parquet costs.parquet\n  \
                      tallyman invoice export --preview --json")]
    Export(Export),
    /// Export a document with its evidence, to be verified on another machine
    #[command(after_help = "Examples:\n  \
                      tallyman invoice bundle 1 invoice-1.json\n  \
                      tallyman verify --bundle invoice-1.json")]
    Bundle {
        /// The document's number
        number: u64,
        /// The file to write
        file: PathBuf,
    },
}

/// An amount that is charged, or given, once.
#[derive(Debug, Args)]
pub(super) struct OneOffArgs {
    /// The amount, in the currency of the book in force
    amount: String,
    /// The reason, for the one who pays
    #[arg(long)]
    reason: String,
    /// The currency, which must be that of the book in force
    #[arg(long)]
    currency: Option<String>,
    /// The instant to which it belongs, as an instant or a date in UTC; now, if absent
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    #[command(flatten)]
    once: Once,
}

impl OneOffArgs {
    async fn run(self, kind: OneOffKind, global: &Global) -> anyhow::Result<()> {
        let Self { amount, reason, currency, at, once } = self;
        let request = OneOff { kind, amount, currency, at, reason };
        let path = ["tenants", SELF, "one-offs"];
        let done: RecordedOneOff = global.client()?.post_once(&path, &request, once.key()).await?;
        global.output().show(&done, |done| {
            let RecordedOneOff { tenant, id, amount, currency, at, .. } = done;
            format!(
                "tenant {tenant}: {id}, {amount} {currency} at {at}; the next close or \
                 `tallyman invoice settle` bills it"
            )
        })
    }
}

/// Arguments that name rules in place of those in force.
#[derive(Debug, Args)]
pub(super) struct Rules {
    /// A policy in place of those in force: its name, its digest or a unique prefix of the digest
    #[arg(long)]
    policy: Option<String>,
    /// A price book in place of those in force: a file, or the name or digest of one that was set
    #[arg(long, value_name = "FILE|NAME|DIGEST")]
    prices: Option<String>,
    /// Apply the book also to time for which no book was in force
    #[arg(long)]
    from_begin: bool,
}

/// Arguments of the printed form of documents.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Shown {
    /// The format of the output
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// Add up the charges of each instance, of each rule, or of each local day
    #[arg(long, value_enum)]
    pub(super) group_by: Option<GroupBy>,
}

#[derive(Debug, Subcommand)]
pub(super) enum PricesCommand {
    /// Put a price book in force
    #[command(after_help = "Examples:\n  \
                      tallyman prices set prices.json\n  \
                      tallyman prices set prices.json --name night-v3 --at 2026-02-01")]
    Set {
        /// The book: one JSON document
        file: PathBuf,
        /// A name among the tenant's books, such as night-v3, which is accepted wherever the digest
        /// is
        #[arg(long)]
        name: Option<BookName>,
        /// First instant at which it is in force, in RFC 3339 or as a date in UTC; now if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
        #[command(flatten)]
        once: Once,
    },
    /// Withdraw a price book that was planned for later
    #[command(after_help = "Examples:\n  \
                      tallyman prices withdraw 3f9a\n  \
                      tallyman prices withdraw 3f9a --at 2026-02-01 --reason 'not agreed'")]
    Withdraw {
        /// The book: its name, its digest, or a unique prefix of the digest
        digest: String,
        #[command(flatten)]
        which: policy::Which,
        #[command(flatten)]
        why: policy::Why,
    },
    /// Show past, present and planned price books
    #[command(after_help = "Examples:\n  tallyman prices show\n  tallyman prices show --json")]
    Show,
    /// Check a price book without a daemon
    #[command(after_help = "Examples:\n  \
                      tallyman prices check prices.json\n  \
                      tallyman prices check prices.json --policy standard\n  \
                      tallyman prices check prices.json --policy mine.wasm --option minimum=60s")]
    Check {
        /// The book: one JSON document
        file: PathBuf,
        /// Hold it against a policy, too: the file of its component, or `standard`
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// An option of the policy, such as minimum=60s; may be repeated
        #[arg(long = "option", value_name = "NAME=VALUE", value_parser = super::args::option)]
        #[arg(requires = "policy")]
        options: Vec<(String, String)>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AgreementCommand {
    /// Show the agreement on the tenant's periods
    #[command(after_help = "Examples:\n  tallyman agreement show")]
    Show,
    /// Change the agreement, from the end of the present period on
    #[command(after_help = "Examples:\n  \
                      tallyman agreement set --zone Europe/Berlin\n  \
                      tallyman agreement set --cycle day\n  \
                      tallyman agreement set --anchor-day 15")]
    Set {
        /// IANA name of the time zone in which periods begin at midnight
        #[arg(long, default_value = "UTC")]
        zone: String,
        /// The kind of a period
        #[arg(long, value_enum, default_value = "month")]
        cycle: CycleText,
        /// Day of the month on which a monthly period begins, 1 to 31; the last day of a month that
        /// is shorter
        #[arg(long, default_value_t = 1)]
        anchor_day: u8,
        #[command(flatten)]
        once: Once,
    },
}

/// The kind of a period, as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum CycleText {
    /// A calendar month that begins on the anchor day
    Month,
    /// A local day
    Day,
}

impl CycleText {
    /// As the API takes it.
    pub(super) fn cycle(self) -> Cycle {
        match self {
            CycleText::Month => Cycle::Month,
            CycleText::Day => Cycle::Day,
        }
    }
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let base = ["tenants", SELF];
        let path = |rest: &[&'static str]| [&base[..], rest].concat();
        match self {
            Command::Preview { to, month, rules, shown } => {
                let Rules { policy, prices, from_begin } = rules;
                let prices = prices.as_deref().map(book).transpose()?;
                let request = PreviewRequest {
                    from: month.clone(),
                    to: to.or(month),
                    policy,
                    prices,
                    from_begin,
                };
                if shown.group_by == Some(GroupBy::Day) {
                    let path = path(&["invoice", "preview", "days"]);
                    let days = during("computing", client.post(&path, &request)).await?;
                    return print_days(global, &days, shown);
                }
                let path = path(&["invoice", "preview"]);
                let documents = during("computing", client.post(&path, &request)).await?;
                print(global, &documents, shown).await
            }
            Command::Close { to, month, all: true, at_once, once, .. } => {
                let to = to.or(month).unwrap_or_default();
                close_all(global, &CloseInvoice { to, at_once }, &once).await
            }
            Command::Close { to, month, all: false, at_once, once, shown } => {
                let to = to.or(month).unwrap_or_default();
                let path = path(&["invoice", "close"]);
                let request = CloseInvoice { to, at_once };
                let made = client.post_once(&path, &request, once.key());
                print(global, &during("computing", made).await?, shown).await
            }
            Command::Settle { reason, once, shown } => {
                let path = path(&["invoice", "settle"]);
                let request = SettleInvoices { reason };
                let made = client.post_once(&path, &request, once.key());
                print(global, &during("computing", made).await?, shown).await
            }
            Command::Override { from, until, rules, reason, once } => {
                let Rules { policy, prices, from_begin } = rules;
                let prices = prices.as_deref().map(book).transpose()?;
                let request = OverrideRules { from, until, policy, prices, from_begin, reason };
                let done: Overridden = client
                    .post_once(&path(&["invoice", "overrides"]), &request, once.key())
                    .await?;
                global.output().show(&done, |done| {
                    let Overridden { tenant, from, until, .. } = done;
                    format!(
                        "tenant {tenant}: the override holds from {from} to {until}; \
                         `tallyman invoice settle` bills it"
                    )
                })
            }
            Command::Charge(one) => one.run(OneOffKind::Charge, global).await,
            Command::Goodwill(one) => one.run(OneOffKind::Goodwill, global).await,
            Command::List => {
                let invoices: Invoices = client.get(&path(&["invoices"]), &[]).await?;
                global.output().show(&invoices, list)
            }
            Command::Show { number, shown } => {
                let number = number.to_string();
                let invoice: Invoice =
                    client.get(&["tenants", SELF, "invoices", &number], &[]).await?;
                print(global, &Documents { documents: vec![invoice] }, shown).await
            }
            Command::Correct { number, reason, rules, once, shown } => {
                let Rules { policy, prices, from_begin } = rules;
                let prices = prices.as_deref().map(book).transpose()?;
                let request = CorrectInvoice { reason, policy, prices, from_begin };
                let number = number.to_string();
                let asked = ["tenants", SELF, "invoices", &number, "corrections"];
                let made = client.post_once(&asked, &request, once.key());
                print(global, &during("computing", made).await?, shown).await
            }
            Command::Export(export) => export.run(&client, global.output()).await,
            Command::Bundle { number, file } => {
                let number = number.to_string();
                let asked = ["tenants", SELF, "invoices", &number, "bundle"];
                let bundle: Bundle = during("collecting evidence", client.get(&asked, &[])).await?;
                let bytes = serde_json::to_vec(&bundle)?;
                std::fs::write(&file, &bytes)
                    .with_context(|| format!("can't write {}", file.display()))?;
                let saved = Saved { file, facts: bundle.facts.len() as u64 };
                global.output().show(&saved, |saved| {
                    format!(
                        "{} has {} facts; `tallyman verify --bundle` verifies it",
                        saved.file.display(),
                        saved.facts
                    )
                })
            }
        }
    }
}

/// A written bundle, as JSON output.
#[derive(serde::Serialize)]
struct Saved {
    file: PathBuf,
    facts: u64,
}

/// A valid price book, as JSON output.
#[derive(serde::Serialize)]
struct Sound {
    digest: String,
    currency: String,
    prices: u64,
}

/// Holds a book against the component in a file, or the standard policy.
fn check_together(
    book: &biller::book::Book,
    policy: &Path,
    options: &[(String, String)],
) -> anyhow::Result<()> {
    let bytes = match policy.as_os_str() == STANDARD {
        true => PolicyHost::standard_bytes().to_vec(),
        false => read(policy)?,
    };
    let (_folder, engine) = super::engine::engine()?;
    let digest = engine.admit(&bytes)?.digest;
    let component = engine.get(digest).context("the policy is not there any more")?;
    let description = component.describe().map_err(|fault| anyhow!(fault.in_words()))?;
    Ok(crate::invoice::check_together(book, (digest, description), options)?)
}

impl PricesCommand {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        match self {
            PricesCommand::Set { file, name, at, once } => {
                let bytes = read(&file)?;
                let given = [("at", at.as_deref()), ("name", name.as_ref().map(BookName::as_str))];
                let query: Vec<_> =
                    given.iter().filter_map(|&(name, text)| Some((name, text?))).collect();
                let path = ["tenants", SELF, "prices"];
                let prices: Prices =
                    global.client()?.put_text(&path, &query, bytes, once.key()).await?;
                output.show(&prices, charged)
            }
            PricesCommand::Withdraw { digest, which, why } => {
                let path = ["tenants", SELF, "prices", "planned", &digest];
                let client = global.client()?;
                let left: PricesHistory = policy::withdraw(&client, &path, &which, &why).await?;
                output.show(&left, history)
            }
            PricesCommand::Show => {
                let prices: PricesHistory =
                    global.client()?.get(&["tenants", SELF, "prices"], &[]).await?;
                output.show(&prices, history)
            }
            PricesCommand::Check { file, policy, options } => {
                let bytes = read(&file)?;
                let book = biller::book::Book::parse(&bytes, crate::billing::zones::is_known);
                let book =
                    book.with_context(|| format!("{} is not a price book", file.display()))?;
                if let Some(policy) = &policy {
                    check_together(&book, policy, &options)?;
                }
                let sound = Sound {
                    digest: crate::id::Digest::of(&bytes).to_string(),
                    currency: book.currency().to_string(),
                    prices: book.prices().len() as u64,
                };
                output.show(&sound, |sound| {
                    format!(
                        "{} prices in {}; its digest is {}",
                        sound.prices, sound.currency, sound.digest
                    )
                })
            }
        }
    }
}

impl AgreementCommand {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let path = ["tenants", SELF, "agreement"];
        let in_force: AgreementInForce = match self {
            AgreementCommand::Show => client.get(&path, &[]).await?,
            AgreementCommand::Set { zone, cycle, anchor_day, once } => {
                let cycle = cycle.cycle();
                client.put_once(&path, &Agreement { zone, cycle, anchor_day }, once.key()).await?
            }
        };
        global.output().show(&in_force, agreement)
    }
}

fn agreement(in_force: &AgreementInForce) -> String {
    let words = |agreement: &Agreement| match agreement.cycle {
        Cycle::Month => {
            format!("months from day {} on, in {}", agreement.anchor_day, agreement.zone)
        }
        Cycle::Day => format!("days, in {}", agreement.zone),
    };
    let now = format!(
        "{}: this period from {} to {}",
        words(&in_force.agreement),
        in_force.from,
        in_force.until
    );
    match &in_force.next {
        Some(next) => format!("{now}\nfrom then on: {}", words(next)),
        None => now,
    }
}

/// Prints documents; their days are asked for if charges are grouped by them.
async fn print(global: &Global, documents: &Documents, shown: Shown) -> anyhow::Result<()> {
    if shown.group_by == Some(GroupBy::Day) {
        let mut days = Vec::with_capacity(documents.documents.len());
        for number in documents.documents.iter().filter_map(|document| document.number) {
            let number = number.to_string();
            let path = ["tenants", SELF, "invoices", &number, "days"];
            days.push(global.client()?.get(&path, &[]).await?);
        }
        return print_days(global, &DaysOfDocuments { documents: days }, shown);
    }
    output_of(global, shown).show(documents, |documents| {
        document::print(&document::pages(&documents.documents, shown.group_by), shown.format)
    })
}

fn print_days(global: &Global, days: &DaysOfDocuments, shown: Shown) -> anyhow::Result<()> {
    output_of(global, shown).show(days, |days| {
        document::print(&days.documents.iter().map(page).collect::<Vec<_>>(), shown.format)
    })
}

fn page(one: &DocumentDays) -> Page<'_> {
    Page { document: &one.document, days: &one.days, group: Some(GroupBy::Day) }
}

fn output_of(global: &Global, shown: Shown) -> output::Output {
    global.output().or_json(shown.format == Format::Json)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
}

/// The text of a price book file, or a name or digest as it is.
pub(super) fn book(named: &str) -> anyhow::Result<String> {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    // A tariff and its version have a slash between them.
    let mut parts = named.splitn(2, '/');
    let is_name = parts.all(|part| !part.is_empty() && part.bytes().all(is_of_name));
    if is_name && !Path::new(named).exists() {
        return Ok(named.into());
    }
    std::fs::read_to_string(named).with_context(|| format!("can't read the price book {named}"))
}

/// A month as it is typed.
fn month(text: &str) -> Result<String, String> {
    match chrono::NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d") {
        Ok(first) => Ok(first.format("%Y-%m").to_string()),
        Err(_) => Err(format!("invalid month '{text}'; expected one like 2026-01")),
    }
}

/// The outcome of a close for one tenant.
#[derive(serde::Serialize)]
struct Closed {
    tenant: String,
    outcome: &'static str,
    /// Numbers of the documents that were made, or answer it.
    documents: Vec<u64>,
    /// Sum of their payables, with the currency.
    payable: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Closes for every tenant; one that can't be closed holds up no other.
async fn close_all(global: &Global, request: &CloseInvoice, once: &Once) -> anyhow::Result<()> {
    let client = global.client()?;
    let tenants: Vec<Tenant> = client.get(&["tenants"], &[]).await?;
    let mut report = Vec::with_capacity(tenants.len());
    for tenant in &tenants {
        let path = ["tenants", tenant.id.as_str(), "invoice", "close"];
        let done: anyhow::Result<Documents> = client.post_once(&path, request, once.key()).await;
        report.push(Closed::of(tenant.id.to_string(), done));
    }
    global.output().show(&report, |report| {
        let rows = report.iter().map(|one| {
            let documents: Vec<_> = one.documents.iter().map(ToString::to_string).collect();
            vec![
                one.tenant.clone(),
                one.outcome.into(),
                documents.join(", "),
                one.payable.clone(),
                one.reason.clone().unwrap_or_default(),
            ]
        });
        output::table(&["TENANT", "", "DOCUMENTS", "PAYABLE", "REASON"], &[3], rows)
    })?;
    let open = report.iter().filter(|one| one.reason.is_some()).count();
    anyhow::ensure!(open == 0, "{open} of {} tenants are not closed", report.len());
    Ok(())
}

/// Codes of the errors that leave a period without a document.
const UNRATED: [&str; 3] = ["unrated", "unbillable", "held"];

impl Closed {
    fn of(tenant: String, done: anyhow::Result<Documents>) -> Self {
        let none = || (Vec::new(), String::new());
        let (outcome, (documents, payable), reason) = match done {
            Ok(Documents { documents }) => ("closed", added(&documents), None),
            Err(error) => {
                let outcome = match &error {
                    error if is_refused(error, "unsettled") => "unsettled",
                    error if UNRATED.iter().any(|code| is_refused(error, code)) => "unrated",
                    _ => "failed",
                };
                // A table has a line for each.
                (outcome, none(), Some(format!("{error:#}").replace('\n', "; ")))
            }
        };
        Self { tenant, outcome, documents, payable, reason }
    }
}

/// The numbers of documents, and what they ask for in all.
fn added(documents: &[Invoice]) -> (Vec<u64>, String) {
    let numbers = documents.iter().filter_map(|document| document.number).collect();
    let amounts = documents.iter().filter_map(|document| Decimal::stated(&document.payable).ok());
    let nanos: i128 = amounts.filter_map(|amount| amount.scaled(9)).sum();
    let last = documents.last();
    let digits = last.map_or(0, |document| usize::from(document.minor_digits));
    let currency = last.and_then(|document| document.currency.clone()).unwrap_or_default();
    (numbers, format!("{:.digits$} {currency}", Decimal::nanos(nanos)))
}

/// The book by which a tenant is charged.
pub(super) fn charged(prices: &Prices) -> String {
    let Prices { tenant, digest, name, currency, prices: count, from, already, .. } = prices;
    let named = name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    let already = if *already { " already; nothing was recorded" } else { "" };
    format!(
        "tenant {tenant} is charged by {named}{digest} ({count} prices in {currency}) from {from} \
         on{already}"
    )
}

fn history(prices: &PricesHistory) -> String {
    let rows = prices.history.iter().map(|book| {
        let state = match book.state {
            PricesState::Past => "past",
            PricesState::InForce => "in force",
            PricesState::Planned => "planned",
            PricesState::Withdrawn => "withdrawn",
        };
        vec![
            book.from.to_string(),
            book.name.clone().unwrap_or_default(),
            book.digest.clone(),
            book.currency.clone(),
            book.prices.to_string(),
            state.into(),
        ]
    });
    let head = ["FROM", "NAME", "BOOK", "CURRENCY", "PRICES", ""];
    let mut text = output::table(&head, &[4], rows);
    if let Some(book) = prices.current.as_ref().and_then(|current| current.text.as_ref()) {
        text.push_str("\n\n");
        text.push_str(book.trim_end());
    }
    text
}

fn list(invoices: &Invoices) -> String {
    let rows = invoices.invoices.iter().map(|invoice| {
        let kind = match (invoice.kind, invoice.follows) {
            (Some(Kind::Correction), Some(number)) => format!("corrects {number}"),
            (Some(_), Some(number)) => format!("continues {number}"),
            (Some(_), None) => "invoice".into(),
            (None, _) => "earlier form".into(),
        };
        vec![
            invoice.number.to_string(),
            invoice.reference.clone().unwrap_or_default(),
            invoice.issued.as_deref().and_then(|at| at.get(..10)).unwrap_or_default().to_owned(),
            kind,
            invoice.from.clone(),
            invoice.until.clone(),
            invoice.total.clone(),
            invoice.payable.clone(),
            invoice.currency.clone().unwrap_or_default(),
            if invoice.stale { "stale".into() } else { String::new() },
            invoice.digest.chars().take(12).collect(),
        ]
    });
    let head = [
        "NUMBER",
        "REFERENCE",
        "ISSUED",
        "KIND",
        "FROM",
        "UNTIL",
        "TOTAL",
        "PAYABLE",
        "",
        "",
        "DIGEST",
    ];
    let mut text = output::table(&head, &[0, 6, 7], rows);
    if invoices.invoices.iter().any(|invoice| invoice.stale) {
        text.push_str("\n\n`tallyman invoice settle` brings stale documents up to date");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_a_year_and_a_month() {
        assert_eq!(month("2026-01").as_deref(), Ok("2026-01"));
        for text in ["", "2026", "2026-13", "january", "2026-01-01"] {
            assert!(month(text).is_err(), "{text}");
        }
    }
}
