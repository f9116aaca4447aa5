//! `tallyman backup`, `tallyman restore`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::global::Global;
use crate::heads;
use crate::journal::{Loss, LostLog, Verified, backup, loss, restore};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tallyman backup /backup/journal.db
  tallyman backup - > journal.db

Reads the data folder itself, beside a running daemon or without one. The copy is one file, and
verified. It holds the journal: every fact, account, policy, price book and invoice. Disks, images
and snapshots are not in it.")]
pub(super) struct Backup {
    /// The new file, or `-` for standard output
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tallyman restore /backup/journal.db --dry-run
  tallyman restore /backup/journal.db --data ./restored

The data folder must hold no journal. Folders of instances that the journal does not know are moved
aside by the next `tallyman serve`, never removed.")]
pub(super) struct Restore {
    /// The copy, as `tallyman backup` wrote it
    file: PathBuf,
    /// Only show the loss if the copy replaced the data folder's journal
    #[arg(long)]
    dry_run: bool,
    /// Accept a database file that was copied without its write-ahead log, whose facts are lost
    #[arg(long)]
    accept_lost_log: bool,
}

/// A verified copy, as JSON output.
#[derive(Debug, Serialize)]
struct Copied {
    facts: u64,
    hash: String,
    instances: u64,
    /// Facts of pruned segments, which are in the archive alone.
    unread: u64,
}

impl From<Verified> for Copied {
    fn from(Verified { head, instances, unread }: Verified) -> Self {
        Self { facts: head.seq, hash: head.hash.to_string(), instances, unread }
    }
}

impl Copied {
    fn text(&self, what: &str) -> String {
        let whole = format!(
            "{what}: {} facts, {} instances\nhead {}",
            self.facts, self.instances, self.hash
        );
        match self.unread {
            0 => whole,
            unread => format!(
                "{whole}\n{unread} facts were pruned and are in the archive alone; the chain was \
                 verified, tables and accounts were not"
            ),
        }
    }
}

impl Backup {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let data = global.data()?;
        if self.file == Path::new("-") {
            return tokio::task::spawn_blocking(move || stream(&data))
                .await
                .context("the backup was interrupted")?;
        }
        let file = self.file;
        let copied = tokio::task::spawn_blocking(move || backup(&data, &file))
            .await
            .context("the backup was interrupted")??;
        let copied = Copied::from(copied);
        global.output().show(&copied, |copied| copied.text("copied and verified"))
    }
}

/// Copies the journal into a temporary file in the data folder, and from there to standard output
/// once the copy is verified.
fn stream(data: &Path) -> anyhow::Result<()> {
    let file = data.join(format!("backup-{}.db", std::process::id()));
    let copied = backup(data, &file).map_err(anyhow::Error::from).and_then(|copied| {
        let mut copy = File::open(&file)?;
        io::copy(&mut copy, &mut io::stdout().lock())?;
        Ok(copied)
    });
    let removed = std::fs::remove_file(&file);
    let Verified { head, instances, unread } = copied?;
    removed.with_context(|| format!("can't remove {}", file.display()))?;
    eprintln!("copied and verified: {} facts, {instances} instances, head {}", head.seq, head.hash);
    if unread > 0 {
        eprintln!("{unread} facts were pruned and are in the archive alone");
    }
    Ok(())
}

/// The loss that a restore would cause, as JSON output.
#[derive(Debug, Serialize)]
struct Lost {
    facts: u64,
    instances: Vec<String>,
    continues: bool,
    copy: u64,
    place: Option<u64>,
}

impl Restore {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let Restore { file, dry_run, accept_lost_log } = self;
        let data = global.data()?;
        let lost_log = if accept_lost_log { LostLog::Accepted } else { LostLog::Refused };
        if dry_run {
            let lost = move || loss(&file, &data, lost_log);
            let lost = tokio::task::spawn_blocking(lost)
                .await
                .context("the comparison was interrupted")??;
            let Loss { copy, place, continues, facts, instances } = lost;
            let lost = Lost {
                facts,
                instances,
                continues,
                copy: copy.seq,
                place: place.map(|place| place.seq),
            };
            return global.output().show(&lost, lost_text);
        }
        let work = move || put_back(&file, &data, lost_log);
        let (restored, aside) =
            tokio::task::spawn_blocking(work).await.context("the restore was interrupted")??;
        if let Some(aside) = aside {
            eprintln!(
                "signed heads of facts that the copy does not have were moved to {}",
                aside.display()
            );
        }
        let restored = Copied::from(restored);
        global.output().show(&restored, |copied| copied.text("restored and verified"))
    }
}

/// Puts a copy in the place of the journal. Returns also the folder with heads that it lacks.
fn put_back(
    file: &Path,
    data: &Path,
    lost_log: LostLog,
) -> anyhow::Result<(Verified, Option<PathBuf>)> {
    let restored = restore(file, data, lost_log)?;
    let aside = heads::set_aside(data, restored.head)?;
    Ok((restored, aside))
}

fn lost_text(lost: &Lost) -> String {
    let Lost { facts, instances, continues, copy, place } = lost;
    let Some(place) = place else {
        return format!(
            "nothing would be lost: the data folder holds no journal, the copy has {copy} facts"
        );
    };
    let whose = match continues {
        true => format!("the copy ends with fact {copy}, the journal in place with fact {place}"),
        false => "the copy is not of the journal in place".into(),
    };
    let mut text = format!("{whose}: {facts} facts would be lost");
    if !instances.is_empty() {
        text.push_str(&format!(
            "\n{} instances would be unknown: {}",
            instances.len(),
            instances.join(", ")
        ));
    }
    text
}
