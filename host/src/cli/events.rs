//! `tallyman events`.

use clap::Args;

use super::follow::{Wanted, follow};
use super::global::Global;
use super::journal;
use crate::journal::wire::Kind;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    tallyman events\n  \
    tallyman events --instance web\n  \
    tallyman events --after 0 --kind entered -o jsonl\n\n\
    Ends with Ctrl-C. When the daemon is started again, it goes on where it was.")]
pub(super) struct Events {
    /// Facts behind this one, past ones first; only new ones if absent
    #[arg(long, value_name = "FACT")]
    after: Option<u64>,
    /// Only facts of this instance: its id, its name, or a unique prefix of its id
    #[arg(long)]
    instance: Option<String>,
    /// Only facts of this kind
    #[arg(long)]
    kind: Option<Kind>,
}

impl Events {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let wanted =
            Wanted { instance: self.instance, kind: self.kind, one_line: journal::one_line };
        follow(&global.client()?, global.output(), &wanted, self.after).await
    }
}
