//! The hosts that have names, in a file of this user.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The address of a daemon on this host.
const HERE: &str = "http://127.0.0.1:8080";

/// A host, and who speaks to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) url: String,
    /// A file with the token; absent for that of the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
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
pub(super) struct Contexts {
    /// The one in use; none for the daemon of this host.
    pub(super) current: Option<String>,
    pub(super) contexts: BTreeMap<String, Context>,
}

/// The file of this user's contexts.
pub(super) fn file() -> anyhow::Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|at| !at.is_empty()).map(PathBuf::from);
    let folder = of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config")));
    let folder = folder.context("neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(folder.join("tallyman/contexts.json"))
}

pub(super) fn read(file: &Path) -> anyhow::Result<Contexts> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
        read => {
            let text = read.with_context(|| format!("can't read {}", file.display()))?;
            serde_json::from_slice(&text)
                .with_context(|| format!("{} is not a file of contexts", file.display()))
        }
    }
}

pub(super) fn write(file: &Path, contexts: &Contexts) -> anyhow::Result<()> {
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

pub(super) fn unknown(name: &str, contexts: &Contexts) -> String {
    let known: Vec<_> = contexts.contexts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "there are none".into() } else { known.join(", ") };
    format!("no context is named '{name}' ({known}); `tallyman context add` makes one")
}
