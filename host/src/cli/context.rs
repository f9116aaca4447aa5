//! `tallyman context`: hosts under names.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::contexts::{Context, Contexts, file, read, unknown, write};
use super::global::Global;
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Name a host, and use it
    #[command(after_help = "Examples:\n  \
                      tallyman context add lab --url https://lab:8443 --ca ~/lab-ca.pem \
                      --token-file ~/lab.token\n  \
                      tallyman context add here --url unix:/run/tallyman/api.sock\n  \
                      tallyman --context lab instance list")]
    Add {
        /// The name
        name: String,
        /// A file with the token, which is read at each call
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Use a host in the calls to come
    #[command(after_help = "Examples:\n  tallyman context use lab")]
    Use {
        /// The name
        name: String,
    },
    /// List the hosts that have names
    #[command(visible_alias = "ls", after_help = "Examples:\n  tallyman context list")]
    List,
    /// Forget a name
    #[command(visible_alias = "rm", after_help = "Examples:\n  tallyman context remove lab")]
    Remove {
        /// The name
        name: String,
    },
}

/// A context as it is listed.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    is_current: bool,
    #[serde(flatten)]
    context: &'a Context,
}

impl Command {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let file = file()?;
        let mut contexts = read(&file)?;
        match self {
            Command::Add { name, token_file } => {
                let Some(url) = global.url.clone() else {
                    bail!("say the host's address with --url, such as https://lab:8443");
                };
                let absolute = token_file.map(std::path::absolute).transpose()?;
                let context = Context {
                    url,
                    token_file: absolute,
                    ca: global.ca.as_ref().map(std::path::absolute).transpose()?,
                    tenant: global.tenant.clone(),
                };
                contexts.contexts.insert(name.clone(), context);
                contexts.current = Some(name);
            }
            Command::Use { name } => {
                if !contexts.contexts.contains_key(&name) {
                    bail!(unknown(&name, &contexts));
                }
                contexts.current = Some(name);
            }
            Command::Remove { name } => {
                if contexts.contexts.remove(&name).is_none() {
                    bail!(unknown(&name, &contexts));
                }
                contexts.current = contexts.current.filter(|current| *current != name);
            }
            Command::List => return list(&contexts, global),
        }
        write(&file, &contexts)?;
        list(&contexts, global)
    }
}

fn list(contexts: &Contexts, global: &Global) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (name, context) in &contexts.contexts {
        let is_current = contexts.current.as_ref() == Some(name);
        all.push(Listed { name, is_current, context });
    }
    global.output().show(&all, |all| {
        let rows = all.iter().map(|one| {
            let mark = if one.is_current { "*" } else { "" };
            let tenant = one.context.tenant.clone().unwrap_or_default();
            vec![mark.into(), one.name.to_owned(), one.context.url.clone(), tenant]
        });
        output::table(&["", "NAME", "URL", "TENANT"], &[], rows)
    })
}
