//! `tallyman context`: hosts under names.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::Global;
use super::output;

/// The address of a daemon on this host.
const HERE: &str = "http://127.0.0.1:8080";

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

/// A host, and who speaks to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) url: String,
    /// A file with the token; absent for that of the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    /// A file with the authorities of its certificate; absent for those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
}

impl Default for Context {
    fn default() -> Self {
        Self { url: HERE.into(), token_file: None, ca: None, tenant: None }
    }
}

impl Context {
    /// The token, if the context names one.
    pub(super) fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("can't read the token in {}", file.display()))?;
        Ok(Some(text.trim().to_owned()))
    }
}

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    /// The one in use; none for the daemon of this host.
    current: Option<String>,
    contexts: BTreeMap<String, Context>,
}

/// A context as it is listed.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    is_current: bool,
    #[serde(flatten)]
    context: &'a Context,
}

/// The file of this user's contexts.
fn file() -> anyhow::Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|at| !at.is_empty()).map(PathBuf::from);
    let folder = of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config")));
    let folder = folder.context("neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(folder.join("tallyman/contexts.json"))
}

fn read(file: &Path) -> anyhow::Result<Contexts> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
        read => {
            let text = read.with_context(|| format!("can't read {}", file.display()))?;
            serde_json::from_slice(&text)
                .with_context(|| format!("{} is not a file of contexts", file.display()))
        }
    }
}

fn write(file: &Path, contexts: &Contexts) -> anyhow::Result<()> {
    let writing = || -> anyhow::Result<()> {
        let folder = file.parent().context("it has no folder")?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = file.with_extension("new");
        let mut options = OpenOptions::new();
        let mut to = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        to.write_all(&serde_json::to_vec_pretty(contexts)?)?;
        Ok(fs::rename(&new, file)?)
    };
    writing().with_context(|| format!("can't write {}", file.display()))
}

/// The context of that name, or the one in use; this host's daemon if none is.
pub(super) fn chosen(name: Option<&str>) -> anyhow::Result<Context> {
    // Who has no home has no contexts, and needs none.
    let contexts = match file() {
        Ok(file) => read(&file)?,
        Err(_) => Contexts::default(),
    };
    let Some(name) = name.or(contexts.current.as_deref()) else { return Ok(Context::default()) };
    contexts.contexts.get(name).cloned().with_context(|| unknown(name, &contexts))
}

fn unknown(name: &str, contexts: &Contexts) -> String {
    let known: Vec<_> = contexts.contexts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "there are none".into() } else { known.join(", ") };
    format!("no context is named '{name}' ({known}); `tallyman context add` makes one")
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
