//! The options of archives; `tallyman journal archive`, `restore` and `prune`.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::global::Global;
use crate::api::model::{
    ArchiveSegments, ArchivedSegments, PruneSegments, PrunedSegments, StayingSegment,
};
use crate::api::parse_duration;
use crate::heads::Hook;
use crate::id::HostName;
use crate::journal::{CopyStores, Put, Restored, restore_segments};
use crate::objects::{Access, Address, Keys, Stores};
use crate::retention::Plan;
use crate::tls::Trust;

/// Options for reaching stores of copies.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Archives {
    /// The store of copies of the journal's segments: an absolute path of a folder, s3://BUCKET or
    /// s3://BUCKET/PREFIX
    #[arg(long, value_name = "STORE", env = "TALLYMAN_ARCHIVE")]
    archive: Option<Address>,
    /// URL of an object store that is not Amazon's
    #[arg(long, value_name = "URL", env = "TALLYMAN_ARCHIVE_ENDPOINT")]
    archive_endpoint: Option<String>,
    /// Region of the object store; AWS_REGION or us-east-1 if absent
    #[arg(long, value_name = "REGION", env = "TALLYMAN_ARCHIVE_REGION")]
    archive_region: Option<String>,
    /// File with the keys of the object store, as lines `aws_access_key_id = ...` and
    /// `aws_secret_access_key = ...`; the environment's or the machine's own if absent
    #[arg(long, value_name = "FILE", env = "TALLYMAN_ARCHIVE_KEYS")]
    archive_keys: Option<PathBuf>,
    /// PEM file with the authorities from which the object store's certificate must come; those of
    /// this system if absent
    #[arg(long, value_name = "FILE", env = "TALLYMAN_ARCHIVE_CA")]
    archive_ca: Option<PathBuf>,
}

impl Archives {
    /// True if some option says how to reach a store.
    fn is_set(&self) -> bool {
        let Self { archive, archive_endpoint, archive_region, archive_keys, archive_ca } = self;
        archive.is_some()
            || archive_endpoint.is_some()
            || archive_region.is_some()
            || archive_keys.is_some()
            || archive_ca.is_some()
    }

    /// The stores, if some option says how to reach one.
    pub(super) fn reached(&self) -> anyhow::Result<Option<Arc<dyn CopyStores>>> {
        match self.is_set() {
            true => Ok(Some(Arc::new(self.stores()?))),
            false => Ok(None),
        }
    }

    pub(super) fn stores(&self) -> anyhow::Result<Stores> {
        let keys = self.archive_keys.as_deref().map(Keys::read).transpose()?;
        let trust =
            self.archive_ca.as_deref().map_or_else(|| Ok(Trust::of_system()), Trust::of_file)?;
        let access = Access {
            endpoint: self.archive_endpoint.clone(),
            region: self.archive_region.clone(),
            keys,
            trust,
            ..Access::default()
        };
        Stores::new(self.archive.clone(), access).context("can't use the archive")
    }
}

/// Options for what a daemon does with old facts.
#[derive(Debug, Args)]
pub(super) struct Keeping {
    #[command(flatten)]
    archives: Archives,
    /// Name of this host in the archive; one that is made of its first fact if absent
    #[arg(long, value_name = "NAME", env = "TALLYMAN_ARCHIVE_AS", requires = "archive")]
    archive_as: Option<HostName>,
    /// Age at which facts are sealed, such as 720h; only by hand if absent
    #[arg(
        long,
        value_name = "DURATION",
        env = "TALLYMAN_SEAL_AFTER",
        value_parser = parse_duration
    )]
    seal_after: Option<Duration>,
    /// Age at which segments leave the data folder, such as 8760h, once their copies are whole and
    /// no open period needs them; only by hand if absent
    #[arg(
        long,
        value_name = "DURATION",
        env = "TALLYMAN_PRUNE_AFTER",
        value_parser = parse_duration,
        requires = "archive"
    )]
    prune_after: Option<Duration>,
    /// Time for which the archive keeps an object, such as 87600h: said before segments are pruned
    #[arg(
        long,
        value_name = "DURATION",
        env = "TALLYMAN_ARCHIVE_KEEPS",
        value_parser = parse_duration,
        requires = "archive"
    )]
    archive_keeps: Option<Duration>,
    /// Publishes each signed head: a URL that it is posted to, or the path of a program that reads
    /// it from standard input
    #[arg(long, value_name = "URL|PROGRAM", env = "TALLYMAN_HEADS_TO")]
    heads_to: Option<Hook>,
}

impl Keeping {
    pub(super) fn stores(&self) -> anyhow::Result<Stores> {
        self.check()?;
        self.archives.stores()
    }

    /// Refuses spans that contradict each other.
    fn check(&self) -> anyhow::Result<()> {
        let Self { seal_after, prune_after, archive_keeps, .. } = self;
        if let (Some(prune), Some(seal)) = (prune_after, seal_after)
            && prune < seal
        {
            bail!("prune_after must not be shorter than seal_after: what is pruned was sealed");
        }
        if let (Some(prune), Some(keeps)) = (prune_after, archive_keeps)
            && keeps <= prune
        {
            bail!(
                "archive_keeps must be longer than prune_after: a segment would leave the data \
                 folder when its copy is gone"
            );
        }
        Ok(())
    }

    /// The place that signed heads are published to.
    pub(super) fn heads_to(&self) -> Option<Hook> {
        self.heads_to.clone()
    }

    pub(super) fn plan(&self) -> Plan {
        Plan {
            host: self.archive_as.clone(),
            seal_after: self.seal_after,
            prune_after: self.prune_after,
            keeps: self.archive_keeps,
        }
    }
}

/// Arguments of `journal archive`.
#[derive(Debug, Args)]
pub(super) struct Archive {
    /// Only tell how many segments have no copy
    #[arg(long)]
    dry_run: bool,
}

impl Archive {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let asked = ArchiveSegments { dry_run: self.dry_run };
        let bar = bar();
        let mut all: ArchivedSegments = client.post(&["journal", "copies"], &asked).await?;
        while !self.dry_run && all.left > 0 {
            bar.set_length((all.copied.len() + all.left) as u64);
            bar.set_position(all.copied.len() as u64);
            let next: ArchivedSegments = client.post(&["journal", "copies"], &asked).await?;
            all.copied.extend(next.copied);
            all.left = next.left;
        }
        bar.finish_and_clear();
        global.output().show(&all, |all| {
            let ArchivedSegments { store, copied, left } = all;
            match self.dry_run {
                true => format!("{left} segments would be copied to {store}"),
                false => format!("{} segments copied to {store} and read back", copied.len()),
            }
        })
    }
}

/// Arguments of `journal prune`.
#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Only segments whose facts were all recorded before this: RFC 3339 in UTC, or a date
    #[arg(long, value_name = "INSTANT")]
    before: String,
    /// Only tell which segments would leave, and why others stay
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let Prune { before, dry_run } = self;
        let client = global.client()?;
        let path = ["journal", "prune"];
        let mut asked = PruneSegments { before, dry_run: true };
        let first: PrunedSegments = client.post(&path, &asked).await?;
        if dry_run {
            return global.output().show(&first, would_leave);
        }
        // The last word before anything is removed.
        eprintln!("{}", correctable(&first));
        asked.dry_run = false;
        let bar = bar();
        bar.set_length(first.left as u64);
        let mut all: PrunedSegments = client.post(&path, &asked).await?;
        let mut goes_on = !all.pruned.is_empty();
        while all.left > 0 && goes_on {
            bar.set_position(all.pruned.len() as u64);
            let next: PrunedSegments = client.post(&path, &asked).await?;
            // Segments whose copies can't be read stay, and would be asked for ever.
            goes_on = !next.pruned.is_empty();
            all.pruned.extend(next.pruned);
            all.bytes += next.bytes;
            all.stay = next.stay;
            all.left = next.left;
        }
        bar.finish_and_clear();
        global.output().show(&all, |all| {
            let PrunedSegments { pruned, bytes, store, .. } = all;
            let count = pruned.len();
            format!(
                "{count} segments of {bytes} bytes pruned; their copies are in {store}{}",
                stay(all)
            )
        })
    }
}

fn would_leave(answer: &PrunedSegments) -> String {
    let PrunedSegments { pruned, bytes, .. } = answer;
    let count = pruned.len();
    format!(
        "{}\n{count} segments of {bytes} bytes would be pruned{}",
        correctable(answer),
        stay(answer)
    )
}

/// The time for which pruned periods can be corrected, in words.
fn correctable(answer: &PrunedSegments) -> String {
    let PrunedSegments { store, correctable_until, .. } = answer;
    match correctable_until {
        Some(until) => format!(
            "periods in these segments can be corrected and proved from {store} until {until}"
        ),
        None => format!(
            "periods in these segments can be corrected and proved from {store} as long as it \
             keeps them; the daemon's option --archive-keeps says how long that is"
        ),
    }
}

fn stay(answer: &PrunedSegments) -> String {
    let line = |one: &StayingSegment| {
        format!("\nfacts {} to {} stay: {}", one.first, one.last, one.reason)
    };
    answer.stay.iter().map(line).collect()
}

/// A bar on the error output, if that is a terminal.
fn bar() -> ProgressBar {
    if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() }
}

/// Arguments of `journal restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    archives: Archives,
    /// Put back those that were pruned, too
    #[arg(long)]
    pruned: bool,
    /// Only tell which files would be put back
    #[arg(long)]
    dry_run: bool,
}

/// The files that were put back, as JSON output.
#[derive(Debug, Serialize)]
struct PutBack {
    files: Vec<String>,
    failed: Vec<Failed>,
    pruned: usize,
}

/// A file that could not be put back.
#[derive(Debug, Serialize)]
struct Failed {
    digest: String,
    reason: String,
}

impl From<Restored> for PutBack {
    fn from(restored: Restored) -> Self {
        let Restored { files, failed, pruned } = restored;
        let failed = failed
            .into_iter()
            .map(|(digest, reason)| Failed { digest: digest.to_string(), reason });
        let files = files.iter().map(ToString::to_string).collect();
        Self { files, failed: failed.collect(), pruned }
    }
}

impl Restore {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let Restore { archives, pruned, dry_run } = self;
        let data = global.data()?;
        let stores = Arc::new(archives.stores()?);
        let bar = bar();
        let shown = bar.clone();
        let work = move || {
            restore_segments(&data, &*stores, Put { pruned, dry_run }, |done, of| {
                shown.set_length(of as u64);
                shown.set_position(done as u64);
            })
        };
        let restored = tokio::task::spawn_blocking(work).await;
        bar.finish_and_clear();
        let restored = PutBack::from(restored.context("the restore was interrupted")??);
        global.output().show(&restored, |restored| text(restored, dry_run))?;
        match restored.failed.len() {
            0 => Ok(()),
            failed => bail!("{failed} segments could not be put back; nothing else was changed"),
        }
    }
}

fn text(restored: &PutBack, dry_run: bool) -> String {
    let PutBack { files, failed, pruned } = restored;
    let mut text = match dry_run {
        true => format!("{} files would be put back", files.len()),
        false => format!("{} files put back", files.len()),
    };
    if *pruned > 0 {
        text.push_str(&format!("; {pruned} were pruned and stay in the archive (see --pruned)"));
    }
    for Failed { digest, reason } in failed {
        text.push_str(&format!("\n{digest}: {reason}"));
    }
    text
}
