//! `tallyman completion` and `tallyman man`: the command line for shells and for `man`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use super::output;

const COMPLETION: &str = "\
Examples:
  tallyman completion bash > /etc/bash_completion.d/tallyman
  tallyman completion zsh > /usr/local/share/zsh/site-functions/_tallyman
  tallyman completion fish > ~/.config/fish/completions/tallyman.fish";

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETION)]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(&self, mut command: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "tallyman", &mut script);
        output::text(&String::from_utf8_lossy(&script))
    }
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tallyman man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The folder to write the pages into, one for each command
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self, command: Command) -> anyhow::Result<()> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("can't make the folder {}", folder.display()))?;
        clap_mangen::generate_to(command, folder)
            .with_context(|| format!("can't write into {}", folder.display()))?;
        output::text(&format!("the pages are in {}\n", folder.display()))
    }
}
