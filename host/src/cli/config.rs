//! `tallyman config`, and the file of the daemon's options.
//!
//! The keys of the file are the long options of `tallyman serve`, with `_` for `-`. The command
//! line goes before the environment, that before the file, and the file before what is built in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::global::Global;
use super::serve::Serve;

/// The place of the file in an installed package.
const INSTALLED: &str = "/etc/tallyman/tallyman.toml";

/// Options that are about one call, and no part of a configuration.
const NOT_IN_FILES: [&str; 12] = [
    "ca", "config", "context", "help", "json", "output", "quiet", "tenant", "token", "url",
    "version", "watch",
];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a configuration file: its keys, their values, and the files that it names
    #[command(after_help = "Examples:\n  tallyman config check\n  \
                      tallyman config check ./tallyman.toml --json")]
    Check {
        /// The file
        #[arg(default_value = INSTALLED)]
        file: PathBuf,
    },
}

/// A configuration that was checked.
#[derive(Debug, Serialize)]
struct Checked {
    file: PathBuf,
    /// Keys that the file sets.
    keys: Vec<String>,
    /// Receivers of events that are named in the file's data folder, or in their own file.
    receivers: usize,
}

impl Command {
    /// Runs the command. `parse` reads the arguments of a `tallyman serve`.
    pub(super) fn run(
        self,
        global: &Global,
        whole: &clap::Command,
        parse: impl FnOnce(Vec<OsString>) -> Result<(Global, Serve), clap::Error>,
    ) -> anyhow::Result<()> {
        let Command::Check { file } = self;
        let keys: Vec<_> = read(&file)?.into_keys().collect();
        let arguments = arguments(&file, whole, None)?;
        let first = ["tallyman", "serve"].map(OsString::from);
        let (read, serve) = parse(first.into_iter().chain(arguments).collect())
            .map_err(|error| anyhow!("{}: {}", file.display(), value_error(&error)))?;
        let receivers = serve.check(&read.data()?)?;
        let checked = Checked { file, keys, receivers };
        global.output().show(&checked, |checked| {
            let Checked { file, keys, receivers } = checked;
            let keys = if keys.is_empty() { "no key".into() } else { keys.join(", ") };
            format!("{} is valid: it sets {keys}; {receivers} receivers", file.display())
        })
    }
}

/// The text of a parser's error, without its advice on the command line.
fn value_error(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.trim_start_matches("error: ").lines().take_while(|line| !line.is_empty());
    text.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The arguments of a call, with those that a configuration file adds.
///
/// # Errors
/// The file's fault, with what is valid.
pub(super) fn completed(
    mut arguments: Vec<OsString>,
    whole: &clap::Command,
) -> anyhow::Result<Vec<OsString>> {
    // What is wrong on the command line is told by the parser itself.
    let Ok(matches) = whole.clone().try_get_matches_from(&arguments) else { return Ok(arguments) };
    let Some(serve) = matches.subcommand_matches("serve") else { return Ok(arguments) };
    let Some(file) = serve.get_one::<PathBuf>("config") else { return Ok(arguments) };
    arguments.extend(self::arguments(file, whole, Some(serve))?);
    Ok(arguments)
}

/// Keys and values.
type Table = BTreeMap<String, Value>;

fn read(file: &Path) -> anyhow::Result<Table> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    basic_toml::from_str(&text).with_context(|| format!("{} is not TOML", file.display()))
}

/// The options of `serve` that a file may set.
fn options(whole: &clap::Command) -> Vec<&Arg> {
    let serve = whole.get_subcommands().find(|command| command.get_name() == "serve");
    let own = serve.into_iter().flat_map(clap::Command::get_arguments);
    let all = own.chain(whole.get_arguments());
    let is_option = |arg: &&Arg| arg.get_long().is_some_and(|long| !NOT_IN_FILES.contains(&long));
    all.filter(is_option).collect()
}

fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

/// The arguments that a file stands for, without those that a call of `serve` or its environment
/// has.
fn arguments(
    file: &Path,
    whole: &clap::Command,
    serve: Option<&ArgMatches>,
) -> anyhow::Result<Vec<OsString>> {
    let options = options(whole);
    let mut arguments = Vec::new();
    for (name, value) in read(file)? {
        let Some(option) = options.iter().find(|option| key(option) == name) else {
            let known: Vec<_> = options.iter().map(|option| key(option)).collect();
            bail!("{}: unknown key `{name}`; there are {}", file.display(), known.join(", "));
        };
        let source = serve.and_then(|serve| serve.value_source(option.get_id().as_str()));
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let wrong = |what: &str| anyhow!("{}: `{name}` must be {what}", file.display());
        let long = option.get_long().unwrap_or_default();
        match (option.get_action(), value) {
            (ArgAction::SetTrue, Value::Bool(true)) => arguments.push(format!("--{long}").into()),
            (ArgAction::SetTrue, Value::Bool(false)) => {}
            (ArgAction::SetTrue, _) => return Err(wrong("true or false")),
            (ArgAction::Append, Value::Array(values)) => {
                for value in values {
                    let value = scalar(&value).ok_or_else(|| wrong("a list of texts"))?;
                    arguments.push(format!("--{long}={value}").into());
                }
            }
            (ArgAction::Append, _) => return Err(wrong("a list of texts")),
            (_, value) => {
                let value = scalar(&value).ok_or_else(|| wrong("a text or a whole number"))?;
                arguments.push(format!("--{long}={value}").into());
            }
        }
    }
    Ok(arguments)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() => Some(number.to_string()),
        Value::Number(_) | Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

impl Serve {
    /// Reads the files that the options name. Returns the number of receivers.
    fn check(&self, data: &Path) -> anyhow::Result<usize> {
        if let Some(config) = self.signed_tokens() {
            crate::tenancy::Jwt::new(config).context("the key of signed tokens")?;
        }
        self.places().check()?;
        self.archive.stores()?;
        Ok(self.receivers(data)?.len())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, text).expect("written");
        file
    }

    fn call(text: &str, more: &[&str]) -> anyhow::Result<Vec<String>> {
        let file = file(text);
        let path = file.path().to_str().expect("text");
        let call = [&["tallyman", "serve", "--config", path], more].concat();
        let known = call.len();
        let whole = completed(call.into_iter().map(OsString::from).collect(), &Cli::command())?;
        let added = whole.into_iter().skip(known);
        Ok(added.map(|text| text.into_string().expect("text")).collect())
    }

    #[test]
    fn a_file_stands_for_options_that_the_call_does_not_have() {
        let text = "listen = \"127.0.0.1:1\"\ntrust_wall_clock = true\nclock_wait_s = 7\n\
            probe_network = [\"10.0.0.0/8\", \"192.168.0.0/16\"]\ndata = \"/x\"\n";
        let all = [
            "--clock-wait-s=7",
            "--data=/x",
            "--listen=127.0.0.1:1",
            "--probe-network=10.0.0.0/8",
            "--probe-network=192.168.0.0/16",
            "--trust-wall-clock",
        ];
        assert_eq!(call(text, &[]).expect("valid"), all);
        let fewer = call(text, &["--listen", "127.0.0.1:2", "--data", "/y"]).expect("valid");
        assert_eq!(fewer, [&all[..1], &all[3..]].concat());
    }

    #[test]
    fn a_key_that_is_unknown_or_has_a_wrong_value_is_refused() {
        let rows = [
            ("listne = 1", "unknown key `listne`; there are listen"),
            ("json = true", "unknown key `json`"),
            ("trust_wall_clock = \"yes\"", "true or false"),
            ("listen = true", "a text or a whole number"),
            ("probe_network = \"10.0.0.0/8\"", "a list of texts"),
            ("listen", "is not TOML"),
        ];
        for (text, words) in rows {
            let error = format!("{:#}", call(text, &[]).expect_err(text));
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    fn is_word(text: &str) -> bool {
        text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
    }

    /// The file of the package has every option, as a comment.
    #[test]
    fn the_commented_file_names_every_option_and_is_valid_without_its_marks() {
        let text = include_str!("../../../packaging/tallyman.toml");
        let whole = Cli::command();
        let is_key = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| is_word(key));
        let lines = text.lines().map(|line| line.trim_start_matches('#'));
        let keys: Vec<_> = lines.filter(is_key).collect();
        for option in options(&whole) {
            let start = format!("{} = ", key(option));
            assert!(keys.iter().any(|line| line.starts_with(&start)), "no `{start}` in the file");
        }
        assert_eq!(keys.len(), options(&whole).len());
        call(&keys.join("\n"), &[]).expect("valid");
        assert_eq!(call(text, &[]).expect("valid"), ["--data=/var/lib/tallyman"]);
    }
}
