//! The command line. Its commands use the daemon's API only, except those that need no daemon:
//! `serve`, `fleet serve`, `openapi`, `image build`, `journal verify`, `backup`, `restore`,
//! `prices check`, `verify`, `policy new`, `policy wrap`, `policy test`, `rate`, `doctor`,
//! `completion`, `man`.

mod archive;
mod args;
mod automation;
mod backup;
mod capabilities;
mod client;
mod config;
mod context;
mod contexts;
mod copy;
mod daemon;
mod doctor;
mod document;
mod engine;
mod events;
mod exec;
mod export;
mod failure;
mod fleet;
mod follow;
mod gap;
mod global;
mod guest_network;
mod image;
mod instance;
mod invoice;
mod journal;
mod listen;
mod output;
mod overcommit;
mod policy;
mod progress;
mod proposal;
mod rate;
mod serve;
mod sheet;
mod shell;
mod snapshot;
mod tariff;
mod tenant;
mod terminal;
mod token;
mod top;
mod tour;
mod verify;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::api;
use crate::api::model::{DiskHealth, DiskState};
use crate::tls;
use global::Global;

const EXAMPLES: &str = "\
Examples:
  tallyman tour --keep                        See it all: one guest's whole lifecycle
  tallyman serve                              Run the daemon in the foreground
  tallyman image build debian-busybox         Build an image to boot
  tallyman instance create web --image debian-busybox --wait
  tallyman instance intervals web             Every interval, and the proof that they add up
  tallyman instance list --json               The same as the API answers it
  tallyman doctor                             Check what this host has, and lacks";

/// Runs virtual machines and accounts every nanosecond of their lifetime.
#[derive(Debug, Parser)]
#[command(name = "tallyman", version, about, arg_required_else_help = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", failure::EXIT_STATUS))]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Serve(Box<serve::Serve>),
    /// Take one real guest through its whole lifecycle and show its time
    Tour(tour::Tour),
    /// Create, run and inspect virtual machines
    #[command(subcommand, visible_alias = "i")]
    Instance(Box<instance::Command>),
    /// Take, restore and fork snapshots of instances
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Build, import and list the images that instances boot from
    #[command(subcommand)]
    Image(image::Command),
    /// Upload, test and activate policies, which decide how time counts
    #[command(subcommand)]
    Policy(policy::Command),
    /// Create tenants, and set their limits
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Create and revoke tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Set, show and check price books
    #[command(subcommand)]
    Prices(invoice::PricesCommand),
    /// Preview, close and correct a tenant's invoices
    #[command(subcommand)]
    Invoice(invoice::Command),
    /// Propose policies and price books; accept and decline what is proposed
    #[command(subcommand)]
    Proposal(proposal::Command),
    /// Named price books with versions, for many tenants
    #[command(subcommand)]
    Tariff(tariff::Command),
    /// Time between two boots that no clock has proved: show it, and settle it
    #[command(subcommand)]
    Gap(gap::Command),
    /// Rate intervals in a file by a price book; needs no daemon
    Rate(rate::Rate),
    /// Show and change the agreement on a tenant's billing periods
    #[command(subcommand)]
    Agreement(invoice::AgreementCommand),
    /// List and verify the journal of all facts
    #[command(subcommand)]
    Journal(journal::Command),
    /// Follow the facts of the journal as they are recorded
    Events(events::Events),
    /// Show what runs, and what it uses of the host
    Top(top::Top),
    /// Name hosts, and choose among them
    #[command(subcommand)]
    Context(context::Command),
    /// Collect the facts of many hosts, and see how far each one is
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Copy the journal into one file, beside a running daemon or without one
    Backup(backup::Backup),
    /// Put a copy of the journal into an empty data folder
    Restore(backup::Restore),
    /// Verify invoices: compute them again from the facts and compare
    Verify(Box<verify::Verify>),
    /// Show the host's hypervisors and their capabilities
    Capabilities(capabilities::Capabilities),
    /// Check a configuration file of the daemon
    #[command(subcommand)]
    Config(config::Command),
    /// Check what the host has and lacks, with a remedy for each
    Doctor(doctor::Doctor),
    /// Print a script with which a shell completes commands
    Completion(shell::Completion),
    /// Write the pages for `man`
    Man(shell::Man),
    /// Print the OpenAPI document of the API
    #[command(after_help = "Examples:\n  tallyman openapi > openapi/tallyman-0.1.0.json")]
    Openapi,
    /// Check that the daemon serves
    #[command(
        after_help = "Examples:\n  tallyman health\n  tallyman health --url http://127.0.0.1:8081"
    )]
    Health,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    tls::install();
    let call = std::env::args_os().collect();
    let call = match config::completed(call, &Cli::command()) {
        Ok(call) => call,
        Err(error) => return failure::told(&error, false),
    };
    let cli = Cli::parse_from(&call);
    let json = cli.global.output().is_json();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::told(&anyhow::Error::from(error).context("can't start"), json);
        }
    };
    let outcome = match cli.global.watch {
        true => runtime.block_on(watch::run(&call, Cli::command(), async || {
            run(Cli::parse_from(&call)).await
        })),
        false => runtime.block_on(run(cli)),
    };
    // Without waiting for blocking work (a read of the terminal, a compilation) that is not needed
    // any more.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<exec::ExitCode>() {
            Some(&exec::ExitCode(code)) => ExitCode::from(code),
            None => failure::told(&error, json),
        },
    }
}

/// Parses a call of `serve`.
fn parsed_serve(call: Vec<std::ffi::OsString>) -> Result<(Global, serve::Serve), clap::Error> {
    let cli = Cli::try_parse_from(call)?;
    match cli.command {
        Command::Serve(serve) => Ok((cli.global, *serve)),
        _ => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
    }
}

/// Returns true if the reader of the output closed it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn health_text(health: &api::model::Health) -> String {
    let alerts = match health.alerts {
        0 => String::new(),
        alerts => {
            format!("; {alerts} quarantined policies need attention: see `tallyman tenant list`")
        }
    };
    let aside = match health.set_aside {
        0 => String::new(),
        folders => {
            format!("; {folders} folders of unknown instances are in the data folder's `set-aside`")
        }
    };
    let strays = match health.strays {
        0 => String::new(),
        strays => format!("; {strays} processes of machines are on no record: see the log"),
    };
    let halted = match health.halted {
        0 => String::new(),
        halted => format!("; {halted} processes of machines are stopped or frozen: see the log"),
    };
    let disk = health.disk.as_ref().map(disk_text).unwrap_or_default();
    let gaps = health.gaps.as_ref().map(gap::health_text).unwrap_or_default();
    let head = &health.journal;
    format!(
        "{} (version {}){alerts}{aside}{strays}{halted}{disk}{gaps}\njournal: fact {}, {}",
        health.status, health.version, head.seq, head.hash
    )
}

fn disk_text(disk: &DiskHealth) -> String {
    let free = api::format_size(disk.free_bytes);
    match disk.state {
        DiskState::Good => String::new(),
        DiskState::GettingLow => format!("; the disk is getting full, {free} are left: make room"),
        DiskState::Low => {
            format!("; the disk has {free} left: snapshots, standby, forks and uploads are refused")
        }
        DiskState::Full => {
            "; the disk is full: facts and deletions are recorded, all else is refused".into()
        }
    }
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
        Command::Proposal(command) => command.run(&global).await,
        Command::Tariff(command) => command.run(&global).await,
        Command::Gap(command) => command.run(&global).await,
        Command::Rate(rate) => rate.run(&global).await,
        Command::Agreement(command) => command.run(&global).await,
        Command::Journal(command) => command.run(&global).await,
        Command::Events(events) => events.run(&global).await,
        Command::Top(top) => top.run(&global).await,
        Command::Context(command) => command.run(&global),
        Command::Fleet(command) => command.run(&global).await,
        Command::Backup(backup) => backup.run(&global).await,
        Command::Restore(restore) => restore.run(&global).await,
        Command::Verify(verify) => verify.run(&global).await,
        Command::Capabilities(capabilities) => capabilities.run(&global).await,
        Command::Config(command) => command.run(&global, &Cli::command(), parsed_serve),
        Command::Doctor(doctor) => doctor.run(&global).await,
        Command::Completion(completion) => completion.run(Cli::command()),
        Command::Man(man) => man.run(Cli::command()),
        Command::Openapi => output::text(api::openapi_text()),
        Command::Health => {
            let health: api::model::Health = global.client()?.get(&["health"], &[]).await?;
            global.output().show(&health, health_text)
        }
    }
}
