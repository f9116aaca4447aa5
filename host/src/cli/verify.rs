//! `tallyman verify`: computes invoices and their lines again and compares them, byte for byte,
//! without a daemon.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use chrono::NaiveDate;
use clap::Args;
use serde::Serialize;

use super::archive::Archives;
use super::global::Global;
use super::output;
use super::progress::during;
use crate::api::model::SignedHeads;
use crate::heads::{PublicKey, SignedHead};
use crate::id::TenantId;
use crate::invoice::{Engines, Evidence, Line, Proofs, Proved, TracedInterval, prove, trace_line};
use crate::journal::{Archive, Head, verify_reaching};
use crate::policy::{Backend, PolicyHost};

const EXAMPLES: &str = "\
Examples:
  tallyman verify                        Every document of the tenant
  tallyman verify 3                      One invoice or correction
  tallyman verify 3/12                   One of its lines, and the time that it covers
  tallyman verify 2026-01                All that was charged for a month
  tallyman verify --bundle invoice.json  On another machine, from a bundle alone
  tallyman verify --bundle invoice.json --key \
  d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
  tallyman verify --bundle invoice.json --head heads.json --key \
  d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a

Reads the journal's file itself, beside a running daemon or without one. Components run as compiled
code and, as a second computation, in the engine's interpreter. With the host's key, which
`tallyman journal heads` shows, a bundle proves that its facts are all of the tenant's that lie
under a head which the host has signed; with a head that was published, that it is that one.";

/// Verify invoices: compute them again from the facts and compare
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Verify {
    /// A document (3), a line (3/12) or a month (2026-01); all documents of the tenant if absent
    what: Option<String>,
    /// A bundle to verify instead of the data folder's journal
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Signed ends of the journal, as `tallyman journal heads --json` printed them when they were
    /// published: one must be of the close that made the document
    #[arg(long, value_name = "FILE", requires = "key")]
    head: Option<PathBuf>,
    /// The host's public key, 64 hexadecimal digits, as it was shown when the tenant began; without
    /// --head, the head that the bundle holds must be signed with it
    #[arg(long, value_name = "KEY")]
    key: Option<PublicKey>,
    /// Compute with compiled code only, not with the interpreter as well
    #[arg(long)]
    one_witness: bool,
    #[command(flatten)]
    archives: Archives,
}

/// The documents to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    Document(u64),
    Line(u64, u64),
    Month(i32, u32),
}

/// The result of the verification, as JSON output.
#[derive(Debug, Serialize)]
struct Report {
    tenant: String,
    documents: Vec<Document>,
    line: Option<LineReport>,
    witnesses: Vec<String>,
    journal: Option<u64>,
    /// Facts of the closes that the host has signed, one for each document; absent without heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<Vec<u64>>,
    /// Last fact of the head under which all facts of the bundle lie; absent without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    under: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Document {
    number: u64,
    digest: String,
    lines: usize,
    calls: usize,
    facts: u64,
    payable: String,
    currency: Option<String>,
    same_engine: bool,
    /// Set for a document of the earlier form: its bytes are verified, its amounts are opening
    /// amounts.
    earlier_form: bool,
}

#[derive(Debug, Serialize)]
struct LineReport {
    line: Line,
    time: Vec<TracedInterval>,
}

impl Verify {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        let data = global.data()?;
        let tenant = tenant(global)?;
        let work = tokio::task::spawn_blocking(move || self.prove(&data, &tenant));
        let report =
            during("verifying", work).await.context("the verification was interrupted")??;
        output.show(&report, text)
    }

    fn prove(self, data: &Path, tenant: &TenantId) -> anyhow::Result<Report> {
        let what = self.what.as_deref().map_or(Ok(What::All), parse)?;
        match &self.bundle {
            Some(file) => {
                let bytes = std::fs::read(file)
                    .with_context(|| format!("can't read {}", file.display()))?;
                let proofs = crate::invoice::Bundle::read(&bytes)
                    .with_context(|| format!("{} is not a valid bundle", file.display()))?;
                let tenant: TenantId = proofs.tenant().parse()?;
                let what = if what == What::All { What::Document(proofs.number()) } else { what };
                self.check_under(&proofs)?;
                let mut report = self.of(&proofs, &tenant, what, None)?;
                report.under =
                    proofs.under().filter(|_| self.key.is_some()).map(|one| one.head.seq);
                Ok(report)
            }
            None => {
                let stores = self.archives.reached()?;
                let whole = verify_reaching(data, &[], stores.clone(), |_, _| ())
                    .with_context(|| format!("can't verify {}", data.display()))?;
                let archive = Archive::open(data)
                    .with_context(|| format!("can't read {}", data.display()))?;
                if let Some(stores) = stores {
                    archive.reach(stores);
                }
                self.of(&archive, tenant, what, Some(whole.head.seq))
            }
        }
    }

    fn of<E: Evidence>(
        &self,
        evidence: &E,
        tenant: &TenantId,
        what: What,
        journal: Option<u64>,
    ) -> anyhow::Result<Report> {
        let folder = tempfile::tempdir().context("can't create a folder for compiled policies")?;
        let host = |backend, name: &str| PolicyHost::open_with(&folder.path().join(name), backend);
        let native = host(Backend::Native, "native").context("can't start the policy engine")?;
        let mut witnesses = vec![crate::policy::ENGINE.to_owned()];
        let numbers = numbers(evidence, tenant, what)?;
        let mut proved = Vec::new();
        for &number in &numbers {
            proved.push(prove(evidence, &Engines::new(evidence, &native), tenant, number)?);
        }
        if !self.one_witness {
            let interpreter =
                host(Backend::Interpreter, "interpreter").context("can't start the interpreter")?;
            for &number in &numbers {
                let calls = Engines::new(evidence, &interpreter);
                prove(evidence, &calls, tenant, number)
                    .context("the interpreter disagrees with the compiled code")?;
            }
            witnesses.push(format!("{}, interpreted", crate::policy::ENGINE));
        }
        let line = match (what, proved.first()) {
            (What::Line(_, line), Some(proved)) => Some(line_of(evidence, &native, proved, line)?),
            _ => None,
        };
        let documents = proved.iter().map(document).collect();
        let signed = self.signed(evidence, tenant, &numbers)?;
        let tenant = tenant.to_string();
        Ok(Report { tenant, documents, line, witnesses, journal, signed, under: None })
    }

    /// Checks that the head in a bundle was signed with the key that was given, and is the
    /// published one.
    fn check_under(&self, proofs: &Proofs) -> anyhow::Result<()> {
        let Some(key) = self.key else { return Ok(()) };
        match (proofs.under(), &self.head) {
            (Some(under), _) if !under.head.is_by(&key) => {
                bail!("the head at fact {} was not signed with this key", under.head.seq)
            }
            (None, None) => bail!(
                "the bundle holds no signed head: its document was closed before there were any; \
                 give one that was published with --head"
            ),
            (Some(_), _) | (None, Some(_)) => Ok(()),
        }
    }

    /// Checks that the host has signed the close of each document. Returns the facts of the closes;
    /// none if no signed heads were given.
    fn signed<E: Evidence>(
        &self,
        evidence: &E,
        tenant: &TenantId,
        numbers: &[u64],
    ) -> anyhow::Result<Option<Vec<u64>>> {
        let Some((file, key)) = self.head.as_ref().zip(self.key) else { return Ok(None) };
        let text = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        let heads: SignedHeads = serde_json::from_slice(&text).with_context(|| {
            format!("{} is no list of signed heads, as GET /journal/heads has it", file.display())
        })?;
        let heads = heads.heads;
        let stored = evidence.invoices(tenant, u64::MAX)?;
        let of = stored.iter().filter(|stored| numbers.contains(&stored.number));
        let mut facts = Vec::new();
        for document in of {
            let place = evidence.place(document.fact)?;
            check(&heads, &key, document.number, place)?;
            facts.push(document.fact);
        }
        Ok(Some(facts))
    }
}

/// Checks that a signed head is the end of the journal at the close of a document.
fn check(heads: &[SignedHead], key: &PublicKey, number: u64, place: Head) -> anyhow::Result<()> {
    let Some(head) = heads.iter().find(|head| head.seq == place.seq) else {
        bail!(
            "no signed head ends with fact {}, which closed document {number}; ask for the one \
             that was published with it",
            place.seq
        );
    };
    if !head.is_by(key) {
        bail!("the head at fact {} was not signed with this key", head.seq);
    }
    if head.hash != place.hash.to_string() {
        bail!(
            "the host has signed another journal: at fact {} it had {}, document {number} has {}",
            head.seq,
            head.hash,
            place.hash
        );
    }
    Ok(())
}

fn tenant(global: &Global) -> anyhow::Result<TenantId> {
    Ok(global
        .tenant
        .as_deref()
        .map(str::parse)
        .transpose()?
        .unwrap_or_else(TenantId::default_tenant))
}

fn document(proved: &Proved) -> Document {
    let invoice = proved.invoice.as_ref();
    Document {
        number: proved.number,
        digest: proved.digest.to_string(),
        lines: invoice.map_or(0, |invoice| invoice.lines.len()),
        calls: proved.calls,
        facts: proved.facts,
        payable: invoice.map_or_else(|| "-".into(), |invoice| invoice.payable.clone()),
        currency: invoice.and_then(|invoice| invoice.currency.clone()),
        same_engine: proved.same_engine,
        earlier_form: invoice.is_none(),
    }
}

fn line_of<E: Evidence>(
    evidence: &E,
    policies: &PolicyHost,
    proved: &Proved,
    number: u64,
) -> anyhow::Result<LineReport> {
    let invoice = proved
        .invoice
        .as_ref()
        .context("the document is of the earlier form, which has no such lines")?;
    let line = invoice.lines.iter().find(|line| line.number == number).cloned();
    let line =
        line.ok_or_else(|| anyhow!("it has lines 1 to {}, not {number}", invoice.lines.len()))?;
    let time = trace_line(evidence, &Engines::new(evidence, policies), invoice, &line)?;
    Ok(LineReport { line, time })
}

fn numbers<E: Evidence>(evidence: &E, tenant: &TenantId, what: What) -> anyhow::Result<Vec<u64>> {
    let stored = evidence.invoices(tenant, u64::MAX)?;
    let all = || stored.iter().map(|stored| stored.number);
    let calendar = evidence.calendar(u64::MAX)?;
    let numbers: Vec<u64> = match what {
        What::All => all().collect(),
        What::Document(number) | What::Line(number, _) => vec![number],
        What::Month(year, month) => {
            let (start, end) =
                month_ns(year, month).ok_or_else(|| anyhow!("there is no such month"))?;
            let start = calendar.meter(start);
            let end = calendar.meter(end);
            stored
                .iter()
                .filter(|stored| stored.from < end && start < stored.until)
                .map(|stored| stored.number)
                .collect()
        }
    };
    if numbers.is_empty() {
        bail!("tenant {tenant} has no documents for that; `tallyman invoice list` lists them");
    }
    Ok(numbers)
}

fn month_ns(year: i32, month: u32) -> Option<(i64, i64)> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    let first = NaiveDate::from_ymd_opt(year, month, 1)?;
    Some((midnight(first)?, midnight(first.checked_add_months(chrono::Months::new(1))?)?))
}

fn parse(text: &str) -> anyhow::Result<What> {
    let read = || {
        if let Some((document, line)) = text.split_once('/') {
            return Some(What::Line(document.parse().ok()?, line.parse().ok()?));
        }
        if let Some((year, month)) = text.split_once('-') {
            return Some(What::Month(year.parse().ok()?, month.parse().ok()?));
        }
        text.parse().ok().map(What::Document)
    };
    read().ok_or_else(|| {
        anyhow!("'{text}' is not a document (3), a line (3/12) or a month (2026-01)")
    })
}

fn text(report: &Report) -> String {
    let rows = report.documents.iter().map(|document| {
        vec![
            document.number.to_string(),
            document.lines.to_string(),
            document.calls.to_string(),
            document.facts.to_string(),
            format!("{} {}", document.payable, document.currency.as_deref().unwrap_or_default()),
            document.digest.clone(),
        ]
    });
    let head = ["DOCUMENT", "LINES", "CALLS", "AS OF FACT", "PAYABLE", "DIGEST"];
    let mut text = output::table(&head, &[0, 1, 2, 3, 4], rows);
    if let Some(line) = &report.line {
        text.push_str(&format!("\n\n{}", line_text(line)));
    }
    if let Some(facts) = report.journal {
        text.push_str(&format!("\n\nthe journal is whole: {facts} facts"));
    }
    if report.documents.iter().any(|document| document.earlier_form) {
        text.push_str(
            "\n\ndocuments without lines are of the earlier form: their bytes are unaltered, their \
             amounts opening amounts",
        );
    }
    if let Some(facts) = &report.signed {
        let facts: Vec<_> = facts.iter().map(u64::to_string).collect();
        text.push_str(&format!("\n\nsigned by the host at fact {}", facts.join(", ")));
    }
    if let Some(fact) = report.under {
        text.push_str(&format!(
            "\n\nall facts of tenant {} up to fact {fact}, and no others, lie under the head that \
             the host has signed there",
            report.tenant
        ));
    }
    for witness in &report.witnesses {
        text.push_str(&format!("\nverified byte for byte by {witness}"));
    }
    text
}

fn line_text(report: &LineReport) -> String {
    let LineReport { line, time } = report;
    let rows = time.iter().map(|piece| {
        let lasts = piece.end_ns.abs_diff(piece.start_ns);
        vec![
            piece.fact.to_string(),
            piece.phase.into(),
            piece.start_ns.to_string(),
            output::exact(lasts),
        ]
    });
    let pieces = output::table(&["FACT", "PHASE", "METER NS", "DURATION"], &[0, 2, 3], rows);
    let Line { number, rule, price_id, tier, billed, unit, is, amount, .. } = line;
    let price = format!("{}/{}", line.price_numerator, line.price_denominator);
    format!(
        "line {number}: rule {rule}, price {price_id}, tier {tier}\n\
         {billed} {unit} at {price} nano-units each is {is}; the document asks for {amount}\n\n\
         {pieces}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lines_and_months_are_told_apart() {
        assert_eq!(parse("3").ok(), Some(What::Document(3)));
        assert_eq!(parse("3/12").ok(), Some(What::Line(3, 12)));
        assert_eq!(parse("2026-01").ok(), Some(What::Month(2026, 1)));
        for text in ["", "x", "3/", "/3", "2026-", "-1", "1.5"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        assert_eq!(month_ns(2026, 1), Some((1_767_225_600_000_000_000, 1_769_904_000_000_000_000)));
        assert_eq!(month_ns(2026, 13), None);
    }
}
