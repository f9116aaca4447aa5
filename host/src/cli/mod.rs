//! The command line. It talks to the daemon through the API alone, except where there is no daemon
//! to talk to: `serve`, `openapi`, `image build`, `journal verify`, `backup`, `restore`, `prices
//! check`, `verify`.
//!
//! Exit status: 0 done, 1 failed, 2 the command line is wrong.

mod args;
mod automation;
mod backup;
mod capabilities;
mod client;
mod daemon;
mod document;
mod image;
mod instance;
mod invoice;
mod journal;
mod output;
mod policy;
mod progress;
mod serve;
mod snapshot;
mod tenant;
mod token;
mod tour;
mod verify;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::api;
use client::Client;
use output::Output;

const EXAMPLES: &str = "\
Examples:
  tallyman tour --keep                        See it all: one guest through its whole life
  tallyman serve                              Run the daemon in the foreground
  tallyman image build debian-busybox         Make something to boot
  tallyman instance create web --image debian-busybox --wait
  tallyman instance intervals web             Every interval, and the proof that they add up
  tallyman instance list --json               The same as the API answers it

Exit status: 0 done, 1 failed, 2 the command line is wrong.";

/// Runs virtual machines and accounts every millisecond of their life.
#[derive(Debug, Parser)]
#[command(name = "tallyman", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// Where the daemon answers
    #[arg(long, global = true, env = "TALLYMAN_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The token to show; read from the data folder's file `token` if absent
    #[arg(long, global = true, env = "TALLYMAN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The data folder
    #[arg(long, global = true, env = "TALLYMAN_DATA", default_value = "./.tallyman")]
    data: PathBuf,
    /// The tenant that it is about; the token's own if absent, `default` for the operator's
    #[arg(long, global = true, env = "TALLYMAN_TENANT")]
    tenant: Option<String>,
    /// Print JSON, as the API answers it
    #[arg(long, global = true)]
    json: bool,
}

impl Global {
    fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.url, self.token.as_deref(), &self.data, self.tenant.as_deref())
    }

    fn output(&self) -> Output {
        Output { json: self.json }
    }

    /// The data folder by its absolute path: machines outlive the folder that the daemon was
    /// started in.
    fn data(&self) -> anyhow::Result<PathBuf> {
        std::path::absolute(&self.data)
            .with_context(|| format!("can't find the folder {}", self.data.display()))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Serve(serve::Serve),
    /// Walk one real guest through its whole life and show its account
    Tour(tour::Tour),
    /// Virtual machines
    #[command(subcommand, visible_alias = "i")]
    Instance(Box<instance::Command>),
    /// What machines were, kept and copied
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// What a machine boots
    #[command(subcommand)]
    Image(image::Command),
    /// How time counts
    #[command(subcommand)]
    Policy(policy::Command),
    /// Who is served, and how much each may have
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Who may speak for a tenant
    #[command(subcommand)]
    Token(token::Command),
    /// What time costs
    #[command(subcommand)]
    Prices(invoice::PricesCommand),
    /// What a tenant is charged
    #[command(subcommand)]
    Invoice(invoice::Command),
    /// How a tenant's time is cut into periods
    #[command(subcommand)]
    Agreement(invoice::AgreementCommand),
    /// The record of everything that happened
    #[command(subcommand)]
    Journal(journal::Command),
    /// Copy the journal into one file, beside a running daemon or without one
    Backup(backup::Backup),
    /// Put a copy of the journal into an empty data folder
    Restore(backup::Restore),
    /// Prove what was charged
    Verify(verify::Verify),
    /// Show the host's hypervisors and what each can do
    Capabilities(capabilities::Capabilities),
    /// Print the description of the API
    #[command(after_help = "Examples:\n  tallyman openapi > openapi/tallyman-0.1.0.json")]
    Openapi,
    /// Ask whether the daemon serves
    #[command(
        after_help = "Examples:\n  tallyman health\n  tallyman health --url http://127.0.0.1:8081"
    )]
    Health,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error).context("can't start")),
    };
    let outcome = runtime.block_on(run(cli));
    // Blocking work that nobody waits for any more (a read of the terminal, a compilation) doesn't
    // hold up the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("tallyman: {}", output::printable(&format!("{error:#}")));
    ExitCode::FAILURE
}

/// Whoever read our output has heard enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn health_text(health: &api::model::Health) -> String {
    let alerts = match health.alerts {
        0 => String::new(),
        alerts => {
            format!("; {alerts} quarantined policies need somebody: see `tallyman tenant list`")
        }
    };
    let aside = match health.set_aside {
        0 => String::new(),
        folders => {
            format!("; {folders} folders of unknown instances lie in the data folder's `set-aside`")
        }
    };
    let head = &health.journal;
    format!(
        "{} (version {}){alerts}{aside}\njournal: fact {}, {}",
        health.status, health.version, head.seq, head.hash
    )
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Serve(serve) => serve.run(&global).await,
        Command::Tour(tour) => tour.run(&global).await,
        Command::Instance(command) => command.run(&global).await,
        Command::Snapshot(command) => command.run(&global).await,
        Command::Image(command) => command.run(&global).await,
        Command::Policy(command) => command.run(&global).await,
        Command::Tenant(command) => command.run(&global).await,
        Command::Token(command) => command.run(&global).await,
        Command::Prices(command) => command.run(&global).await,
        Command::Invoice(command) => command.run(&global).await,
        Command::Agreement(command) => command.run(&global).await,
        Command::Journal(command) => command.run(&global).await,
        Command::Backup(backup) => backup.run(&global).await,
        Command::Restore(restore) => restore.run(&global).await,
        Command::Verify(verify) => verify.run(&global).await,
        Command::Capabilities(capabilities) => capabilities.run(&global).await,
        Command::Openapi => output::text(api::openapi_text()),
        Command::Health => {
            let health: api::model::Health = global.client()?.get(&["health"], &[]).await?;
            global.output().show(&health, health_text)
        }
    }
}
