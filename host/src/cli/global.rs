//! The arguments of every command.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::client::Client;
use super::contexts::{self, Context};
use super::output::{Form, Output};

/// Arguments of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// URL of the daemon, or unix:PATH of its socket; that of the context, or
    /// http://127.0.0.1:8080, if absent
    #[arg(long, global = true, env = "TALLYMAN_URL")]
    pub(super) url: Option<String>,
    /// PEM file with the authorities from which the certificate of an https:// daemon must come;
    /// the context's, or those of this system, if absent
    #[arg(long, global = true, value_name = "FILE", env = "TALLYMAN_CA")]
    pub(super) ca: Option<PathBuf>,
    /// A host that `tallyman context add` has named; the one in use if absent
    #[arg(long, global = true, env = "TALLYMAN_CONTEXT")]
    pub(super) context: Option<String>,
    /// The token to send; that of the data folder's file `token` if absent
    #[arg(long, global = true, env = "TALLYMAN_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// The data folder
    #[arg(long, global = true, env = "TALLYMAN_DATA", default_value = "./.tallyman")]
    pub(super) data: PathBuf,
    /// The tenant that the command is about; the token's own if absent, `default` for an operator's
    /// token
    #[arg(long, global = true, env = "TALLYMAN_TENANT")]
    pub(super) tenant: Option<String>,
    /// Print JSON, as the API answers it: the same as -o json
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// The form of results
    #[arg(long = "output", short, global = true, value_enum, conflicts_with = "json")]
    pub(super) output: Option<Form>,
    /// Print names alone: the same as -o name
    #[arg(long, short, global = true, conflicts_with_all = ["json", "output"])]
    pub(super) quiet: bool,
    /// Do it every two seconds until Ctrl-C; for commands that only read
    #[arg(long, global = true)]
    pub(super) watch: bool,
}

impl Global {
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let context = self.context()?;
        // A token that is named for the call is for the call's host, wherever that is named.
        let token = self.token.clone().or(context.token()?);
        let tenant = self.tenant.as_ref().or(context.tenant.as_ref());
        let url = self.url.as_ref().unwrap_or(&context.url);
        let ca = self.ca.as_ref().or(context.ca.as_ref());
        Client::new(
            url,
            ca.map(PathBuf::as_path),
            token.as_deref(),
            &self.data,
            tenant.map(String::as_str),
        )
    }

    /// The host that the call is for, if its options don't say another.
    pub(super) fn context(&self) -> anyhow::Result<Context> {
        match (&self.context, &self.url) {
            // Nothing of a context goes to a host that it does not name.
            (None, Some(_)) => Ok(Context::default()),
            (named, _) => contexts::chosen(named.as_deref()),
        }
    }

    pub(super) fn output(&self) -> Output {
        let form = match (self.output, self.json, self.quiet) {
            (Some(form), ..) => form,
            (None, true, _) => Form::Json,
            (None, false, true) => Form::Name,
            (None, false, false) => Form::Table,
        };
        Output { form }
    }

    /// The absolute path of the data folder: machines keep using it when the daemon is started
    /// again in another folder.
    pub(super) fn data(&self) -> anyhow::Result<PathBuf> {
        std::path::absolute(&self.data)
            .with_context(|| format!("can't find the folder {}", self.data.display()))
    }
}
