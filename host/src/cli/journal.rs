//! `tallyman journal`.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;

use super::archive::{Archive, Archives, Prune, Restore};
use super::client::Client;
use super::follow::{self, Wanted};
use super::global::Global;
use super::output::{self, Output};
use crate::api::model::{
    Acts, JournalHead, SealFacts, SealedFacts, Segment, SignedHeads, Timestamp,
};
use crate::heads::Audit;
use crate::id::Digest;
use crate::journal::wire::{ChainedFact, FactRecord, Kind, SegmentArchived, SegmentPruned, What};
use crate::journal::{CopyStores, FactHash, Page, Verified, verify_showing};
use crate::policy::PolicyHost;
use crate::tenancy::SELF;
use crate::{billing, tenant, vm};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List facts, oldest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  \
                      tallyman journal list --limit 20\n  \
                      tallyman journal list --instance web --follow\n  \
                      tallyman journal list --kind policy-activated --json\n  \
                      tallyman journal list --money"
    )]
    List(List),
    /// Verify the journal: its hash chain, its facts, its tables and its accounts
    #[command(after_help = "Examples:\n  \
                      tallyman journal verify\n  \
                      tallyman journal verify /backup/journal.db\n\n\
                      Reads the file itself, beside a running daemon or without one.")]
    Verify {
        /// The database or its folder; the data folder if absent
        path: Option<PathBuf>,
        #[command(flatten)]
        archives: Archives,
    },
    /// Seal old facts into segments: immutable files that take a small part of the room
    #[command(after_help = "Examples:\n  tallyman journal seal --older-than 720h --dry-run\n  \
                      tallyman journal seal --older-than 720h\n\n\
                      Instances go on meanwhile, and bills, proofs and lists say what they \
                      said before.")]
    Seal {
        /// Only facts that were recorded at least so long ago, such as 720h; all if absent
        #[arg(long)]
        older_than: Option<String>,
        /// Only tell how many facts would be sealed
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy segments into the archive: another folder, or an object store
    #[command(after_help = "Examples:\n  tallyman journal archive --dry-run\n  \
                      tallyman journal archive\n\n\
                      The daemon's option --archive names the store. An object is created once and \
                      never changed; a copy counts when it was read back.")]
    Archive(Archive),
    /// Remove segments from the data folder whose copies in the archive are enough
    #[command(after_help = "Examples:\n  tallyman journal prune --before 2026-01-01 --dry-run\n  \
                      tallyman journal prune --before 2026-01-01\n\n\
                      What needs a pruned segment later reads its copy; `journal restore --pruned` \
                      puts the file back.")]
    Prune(Prune),
    /// Put files of segments back from their copies
    #[command(after_help = "Examples:\n  tallyman journal restore --dry-run\n  \
                      tallyman journal restore --pruned --archive-keys ./keys\n\n\
                      Reads the data folder itself, beside a running daemon or without one.")]
    Restore(Restore),
    /// List the segments, oldest first
    #[command(after_help = "Examples:\n  tallyman journal segments\n  \
                      tallyman journal segments --json\n\n\
                      The files lie in the folder `segments` of the data folder; DuckDB, \
                      pandas and polars read them.")]
    Segments,
    /// List the signed ends of the journal: one an hour and one at each close
    #[command(after_help = "Examples:\n  tallyman journal heads\n  \
                      tallyman journal heads --json > heads.json\n  \
                      tallyman verify --bundle invoice.json --head heads.json --key \
                      d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")]
    Heads {
        /// Only those that end after this fact
        #[arg(long, value_name = "FACT", default_value_t = 0)]
        after: u64,
    },
    /// Show the end of the journal; noted elsewhere, it shows later if the end was cut off
    #[command(after_help = "Examples:\n  tallyman journal head\n  tallyman journal head --json")]
    Head,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only facts with a greater sequence number than this
    #[arg(long, default_value_t = 0)]
    after: u64,
    /// Most facts to list; all if absent
    #[arg(long)]
    limit: Option<usize>,
    /// Only facts of this instance: its id, its name, or a unique prefix of its id
    #[arg(long)]
    instance: Option<String>,
    /// Only facts of this kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Go on with facts as they are recorded
    #[arg(long, short, conflicts_with_all = ["limit", "money"])]
    follow: bool,
    /// Only those that decide what the tenant is charged: who did what with money
    #[arg(long, conflicts_with_all = ["after", "limit", "instance", "kind"])]
    money: bool,
}

/// A verified journal, as JSON output.
#[derive(Debug, Serialize)]
struct Whole {
    facts: u64,
    hash: String,
    instances: u64,
    /// Signed heads that agree with the facts.
    heads: u64,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let output = global.output();
        match self {
            Command::List(list) => list.run(&global.client()?, output).await,
            Command::Verify { path, archives } => {
                let path = path.map_or_else(|| global.data(), Ok)?;
                verify(path, &archives, output).await
            }
            Command::Seal { older_than, dry_run } => {
                seal(&global.client()?, SealFacts { older_than, dry_run }, output).await
            }
            Command::Archive(archive) => archive.run(global).await,
            Command::Prune(prune) => prune.run(global).await,
            Command::Restore(restore) => restore.run(global).await,
            Command::Segments => {
                let segments: Vec<Segment> =
                    global.client()?.get(&["journal", "segments"], &[]).await?;
                output.show(&segments, |segments| listed(segments))
            }
            Command::Heads { after } => {
                let after = after.to_string();
                let path = ["journal", "heads"];
                let heads: SignedHeads =
                    global.client()?.get(&path, &[("after", after.as_str())]).await?;
                output.show(&heads, heads_text)
            }
            Command::Head => {
                let head: JournalHead = global.client()?.get(&["journal", "head"], &[]).await?;
                output.show(&head, |head| format!("{} {}", head.seq, head.hash))
            }
        }
    }
}

async fn verify(path: PathBuf, archives: &Archives, output: Output) -> anyhow::Result<()> {
    let stores = archives.reached()?;
    let work = tokio::task::spawn_blocking(move || prove(&path, stores));
    let (verified, heads) = work.await.context("the verification was interrupted")??;
    let whole = Whole {
        facts: verified.head.seq,
        hash: verified.head.hash.to_string(),
        instances: verified.instances,
        heads,
    };
    output.show(&whole, |whole| {
        let Whole { facts, hash, instances, heads } = whole;
        let text = format!("the journal is whole: {facts} facts, {instances} instances");
        format!("{text}, {heads} signed heads\nhead {hash}")
    })
}

async fn seal(client: &Client, asked: SealFacts, output: Output) -> anyhow::Result<()> {
    let sealed: SealedFacts = client.post(&["journal", "segments"], &asked).await?;
    output.show(&sealed, |sealed| match asked.dry_run {
        true => format!("{} facts would be sealed", sealed.facts),
        false => {
            let bytes: u64 = sealed.segments.iter().map(|one| one.bytes).sum();
            let facts = sealed.facts;
            let files = sealed.segments.len();
            format!("{facts} facts sealed in {files} segments of {bytes} bytes")
        }
    })
}

fn listed(segments: &[Segment]) -> String {
    let rows = segments.iter().map(|one| {
        vec![
            one.first.to_string(),
            one.last.to_string(),
            one.bytes.to_string(),
            place(one).to_owned(),
            one.digest.clone(),
        ]
    });
    output::table(&["FIRST", "LAST", "BYTES", "PLACE", "SHA-256"], &[0, 1, 2], rows)
}

/// The places of a segment, in words.
fn place(segment: &Segment) -> &'static str {
    match (segment.is_here, segment.copies.is_empty(), segment.is_pruned) {
        (true, true, _) => "here",
        (true, false, _) => "here, archive",
        (false, false, true) => "archive",
        (false, false, false) => "archive, missing here",
        (false, true, _) => "missing",
    }
}

fn heads_text(heads: &SignedHeads) -> String {
    let rows = heads.heads.iter().map(|head| {
        let at_ns = i64::try_from(head.at_s).unwrap_or_default().saturating_mul(1_000_000_000);
        vec![head.seq.to_string(), head.hash.clone(), Timestamp(at_ns).to_string()]
    });
    let table = output::table(&["FACT", "HASH", "SIGNED"], &[0], rows);
    format!("public key {}\n{table}", heads.key)
}

/// Verifies the journal, and what was signed of it. Returns also the number of heads.
fn prove(path: &Path, stores: Option<Arc<dyn CopyStores>>) -> anyhow::Result<(Verified, u64)> {
    let bar = if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    // Accounts under the standard policy are computed again.
    let plain = [Digest::of(PolicyHost::standard_bytes())];
    // Before the facts: a daemon may sign meanwhile.
    let mut audit = path.is_dir().then(|| Audit::open(path)).transpose()?;
    let mut shown = |record: &FactRecord, link: FactHash| {
        if let Some(audit) = &mut audit {
            audit.take(record, link);
        }
    };
    let verified = verify_showing(path, &plain, stores, &mut shown, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let verified = verified.with_context(|| format!("can't verify {}", path.display()))?;
    let heads = audit.map_or(Ok(0), Audit::finish)?;
    Ok((verified, heads))
}

impl List {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        if self.money {
            let acts: Acts = client.get(&["tenants", SELF, "acts"], &[]).await?;
            return output.show(&acts.facts, |facts| table(facts));
        }
        if self.follow {
            let wanted = Wanted { instance: self.instance, kind: self.kind, one_line };
            return follow::follow(client, output, &wanted, Some(self.after)).await;
        }
        let mut facts: Vec<ChainedFact> = Vec::new();
        let mut after = self.after;
        loop {
            let wanted = self.limit.map(|limit| limit.saturating_sub(facts.len()));
            if wanted == Some(0) {
                break;
            }
            let page = self.page(client, after, wanted).await?;
            facts.extend(page.facts);
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        output.show(&facts, |facts| table(facts))
    }

    async fn page(
        &self,
        client: &Client,
        after: u64,
        limit: Option<usize>,
    ) -> anyhow::Result<Page> {
        let after = after.to_string();
        let limit = limit.map(|limit| limit.to_string());
        let query: Vec<(&str, &str)> = [
            ("after", Some(after.as_str())),
            ("limit", limit.as_deref()),
            ("instance", self.instance.as_deref()),
            ("kind", self.kind.map(Kind::as_str)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        client.get(&["journal"], &query).await
    }
}

pub(super) fn table(facts: &[ChainedFact]) -> String {
    let rows = facts.iter().map(|fact| {
        let record = &fact.fact;
        vec![
            record.seq.to_string(),
            Timestamp(record.wall_ns).to_string(),
            record.instance.clone().unwrap_or_else(|| "-".into()),
            record.what.kind().to_string(),
            details(&record.what),
            fact.hash.chars().take(12).collect(),
        ]
    });
    output::table(&["FACT", "WALL CLOCK", "INSTANCE", "KIND", "", "HASH"], &[0], rows)
}

/// A fact in one line.
pub(super) fn one_line(chained: &ChainedFact) -> String {
    let record = &chained.fact;
    let instance = record.instance.as_deref().unwrap_or(&record.tenant);
    let line = format!(
        "{} {} {instance} {} {}",
        record.seq,
        Timestamp(record.wall_ns),
        record.what.kind(),
        details(&record.what)
    );
    line.trim_end().replace('\n', " ")
}

fn who(by: Option<&str>) -> String {
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

fn details(what: &What) -> String {
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    match what {
        What::HostStarted { version } => format!("version {version}"),
        What::ClockStepped { step_ns } => format!("by {step_ns} ns"),
        What::TimeUnknown { reason, claimed_ns, counted_ns } => {
            format!("{reason}: {claimed_ns} ns by the wall clock, {counted_ns} ns counted")
        }
        What::GapSettled { gap, missing_ns, charges, reason, by } => {
            let by = who(Some(by));
            format!("gap {gap}: {missing_ns} ns, {charges} charges{by}: {reason}")
        }
        What::HostSuspended { duration_ns } => format!("for {duration_ns} ns"),
        What::HostHeard { host, upto, .. } => format!("{host} up to its fact {upto}"),
        What::SegmentSealed { digest, first, last, bytes, .. } => {
            format!("facts {first} to {last} in {} ({bytes} bytes)", short(digest))
        }
        What::SegmentArchived(SegmentArchived { digest, store, object }) => {
            format!("{} is at {store}/{object}", short(digest))
        }
        What::SegmentPruned(SegmentPruned { digest, by }) => {
            format!("{}{}", short(digest), who(Some(by)))
        }
        What::PolicyAdmitted { digest, size_bytes, by, name } => {
            let name = name.as_deref().map(|name| format!(" '{name}'")).unwrap_or_default();
            format!("{}{name} ({size_bytes} bytes){}", short(digest), who(by.as_deref()))
        }
        What::PolicyActivated { digest, rollback, by, reason, .. } => {
            let rollback = if *rollback { " (rollback)" } else { "" };
            let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{}{rollback}{}{reason}", short(digest), who(by.as_deref()))
        }
        What::PolicyFaulted { digest, reason } => format!("{}: {reason}", short(digest)),
        What::PolicyMoved { digest, to, by, reason, .. } => {
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("{} is {}{}{reason}", short(digest), tenant::Standing::from(*to), who(Some(by)))
        }
        What::TenantCreated { by } => format!("by {by}"),
        What::TenantChanged { by, .. } => format!("by {by}"),
        What::TokenCreated { token, name, role, by, .. } => {
            format!("{} '{name}' as {}{}", short(token), tenant::Role::from(*role), who(Some(by)))
        }
        What::TokenRevoked { token, by } => format!("{}{}", short(token), who(Some(by))),
        What::PricesActivated { digest, by, name, .. } => {
            let name = name.as_ref().map(|name| format!(" '{name}'")).unwrap_or_default();
            format!("{}{name}{}", short(digest), who(Some(by)))
        }
        What::AgreementChanged { zone, cycle, anchor_day, by, .. } => {
            let cycle = match billing::agreement::Cycle::from(*cycle) {
                billing::agreement::Cycle::Month => format!("months from day {anchor_day}"),
                billing::agreement::Cycle::Day => "days".into(),
            };
            format!("{cycle} in {zone}{}", who(Some(by)))
        }
        What::Overridden { policy, book, reason, by, .. } => {
            let named = [policy.as_deref(), book.as_deref()].into_iter().flatten().map(short);
            let named: Vec<_> = named.collect();
            let named =
                if named.is_empty() { "no override any more".into() } else { named.join(", ") };
            format!("{named}{}: {reason}", who(Some(by)))
        }
        What::TariffPublished { tariff, version, digest, by } => {
            format!("{tariff} {version} is {} by {by}", digest.chars().take(12).collect::<String>())
        }
        What::TariffDefault { tariff, by } => {
            format!("new tenants: {} by {by}", tariff.as_deref().unwrap_or("no tariff"))
        }
        What::TariffJoined { tariff, version, by, .. } => format!("{tariff} {version} by {by}"),
        What::OneOff { what, amount, currency, reason, by, .. } => {
            format!("{} of {amount} {currency} by {by}: {reason}", tenant::OneOffKind::from(*what))
        }
        What::Proposed { plan, digest, reason, by, .. } => {
            let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} {}{}{reason}", tenant::Plan::from(*plan), short(digest), who(Some(by)))
        }
        What::ProposalEnded { proposal, is_accepted, reason, by } => {
            let end = if *is_accepted { "accepted" } else { "declined" };
            let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{proposal} {end}{}{reason}", who(Some(by)))
        }
        What::PlanWithdrawn { plan, digest, by, reason, .. } => {
            let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} {}{}{reason}", tenant::Plan::from(*plan), short(digest), who(Some(by)))
        }
        What::Invoiced { number, digest, corrects, by, .. } => {
            let corrects =
                corrects.map(|number| format!(" (corrects {number})")).unwrap_or_default();
            format!("number {number}, {}{corrects}{}", short(digest), who(Some(by)))
        }
        What::Intended { command, by, about } => {
            let about = about.as_ref().map(|about| format!(" {about}")).unwrap_or_default();
            let by = match vm::Asker::from(*by) {
                vm::Asker::Client => String::new(),
                other => format!(" (by {})", other.as_str()),
            };
            format!("{}{about}{by}", vm::Command::from(*command))
        }
        What::Abandoned { command, reason } => format!("{}: {reason}", vm::Command::from(*command)),
        What::Entered { phase, cause, traffic, .. } => {
            let cause = cause
                .map(|cause| format!(" ({})", vm::ExitCause::from(cause).as_str()))
                .unwrap_or_default();
            let traffic = traffic.map(|traffic| {
                format!(", {} bytes in, {} out", traffic.in_bytes, traffic.out_bytes)
            });
            let traffic = traffic.unwrap_or_default();
            format!("{}{cause}{traffic}", vm::Phase::from(*phase))
        }
        What::Forked { parent, child, snapshot } => match snapshot {
            Some(snapshot) => format!("{child} of {parent}'s {snapshot}"),
            None => format!("{child} of {parent}"),
        },
        What::Amended { field, value } => format!("{field} = {value}"),
        What::Visited { by, what, about } => format!("{what} {about} (by {by})"),
        What::Deleted => String::new(),
    }
}
