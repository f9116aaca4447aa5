//! `tallyman proposal`.

use clap::Subcommand;

use super::args::{Once, option};
use super::global::Global;
use super::policy::Why;
use super::{invoice, output};
use crate::api::model::{
    AcceptProposal, DeclineProposal, Proposal, ProposalState, Proposals, Propose,
};
use crate::id::BookName;
use crate::tenancy::SELF;
use crate::tenant::Plan;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Propose a policy to whoever charges the tenant; nothing changes yet
    #[command(after_help = "Examples:\n  \
                      tallyman proposal policy night-v3 --reason 'cheaper nights'\n  \
                      tallyman proposal policy 3f9a1c --at 2026-02-01 --option minimum=60s")]
    Policy {
        /// The policy: its name, its digest, a unique prefix of the digest, or `standard`
        digest: String,
        /// An option of the policy, such as minimum=60s; may be repeated
        #[arg(long = "option", value_name = "NAME=VALUE", value_parser = option)]
        options: Vec<(String, String)>,
        /// First instant at which it is to be in force, in RFC 3339 or as a date in UTC; when it is
        /// accepted, if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Propose a price book to whoever charges the tenant; nothing changes yet
    #[command(after_help = "Examples:\n  \
                      tallyman proposal prices prices.json --reason 'as agreed in March'\n  \
                      tallyman proposal prices prices.json --name night-v3 --at 2026-02-01")]
    Prices {
        /// The book: one JSON document, or the name or digest of one that the tenant has or had
        #[arg(value_name = "FILE|NAME|DIGEST")]
        prices: String,
        /// A name for it among the tenant's books
        #[arg(long)]
        name: Option<BookName>,
        /// First instant at which it is to be in force, in RFC 3339 or as a date in UTC; when it is
        /// accepted, if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// List proposals, newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman proposal list\n  tallyman proposal list --tenant acme"
    )]
    List,
    /// Accept a proposal, which makes the change
    #[command(after_help = "Examples:\n  \
                      tallyman invoice preview --tenant acme --prices 3f9a   What it would cost\n  \
                      tallyman proposal accept 4711 --tenant acme\n  \
                      tallyman proposal accept 4711 --tenant acme --at 2026-03-01")]
    Accept {
        /// The proposal's number
        number: u64,
        /// Another first instant, or now, in place of the proposal's
        #[arg(long, value_name = "INSTANT")]
        at: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Decline a proposal, or take it back
    #[command(after_help = "Examples:\n  \
                      tallyman proposal decline 4711 --tenant acme --reason 'too late for May'")]
    Decline {
        /// The proposal's number
        number: u64,
        #[command(flatten)]
        why: Why,
    },
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Policy { digest, options, at, why } => {
                let (reason, once) = why.into_parts();
                let policy = Some(digest);
                let options = options.into_iter().collect();
                let asked = Propose { policy, options, at, reason, ..Propose::default() };
                propose(global, &asked, once).await
            }
            Self::Prices { prices, name, at, why } => {
                let (reason, once) = why.into_parts();
                let prices = Some(invoice::book(&prices)?);
                let name = name.map(|name| name.to_string());
                let asked = Propose { prices, name, at, reason, ..Propose::default() };
                propose(global, &asked, once).await
            }
            Self::List => list(global).await,
            Self::Accept { number, at, why } => {
                let (reason, once) = why.into_parts();
                let asked = AcceptProposal { at, reason };
                let number = number.to_string();
                let path = ["tenants", SELF, "proposals", &number, "accept"];
                let done: Proposal = global.client()?.post_once(&path, &asked, once.key()).await?;
                show(global, &done)
            }
            Self::Decline { number, why } => {
                let (reason, once) = why.into_parts();
                let number = number.to_string();
                let path = ["tenants", SELF, "proposals", &number, "decline"];
                let asked = DeclineProposal { reason };
                let done: Proposal = global.client()?.post_once(&path, &asked, once.key()).await?;
                show(global, &done)
            }
        }
    }
}

async fn propose(global: &Global, asked: &Propose, once: Once) -> anyhow::Result<()> {
    let path = ["tenants", SELF, "proposals"];
    let done: Proposal = global.client()?.post_once(&path, asked, once.key()).await?;
    show(global, &done)
}

async fn list(global: &Global) -> anyhow::Result<()> {
    let found: Proposals = global.client()?.get(&["tenants", SELF, "proposals"], &[]).await?;
    let head = ["NUMBER", "WHAT", "DIGEST", "NAME", "FROM", "STATE", "BY", "REASON"];
    global
        .output()
        .show(&found, |found| output::table(&head, &[0], found.proposals.iter().map(row)))
}

fn row(one: &Proposal) -> Vec<String> {
    vec![
        one.number.to_string(),
        Plan::from(one.plan).to_string(),
        output::short(&one.digest),
        one.name.clone().unwrap_or_default(),
        one.at.map_or("when accepted".into(), |at| at.to_string()),
        state(one).into(),
        one.by.clone(),
        one.reason.clone().unwrap_or_default(),
    ]
}

fn state(proposal: &Proposal) -> &'static str {
    match proposal.state {
        ProposalState::Open => "open",
        ProposalState::Accepted => "accepted",
        ProposalState::Declined => "declined",
    }
}

fn show(global: &Global, proposal: &Proposal) -> anyhow::Result<()> {
    global.output().show(proposal, |one| {
        let next = match one.state {
            ProposalState::Open => {
                format!("; `tallyman proposal accept {}` makes the change", one.number)
            }
            ProposalState::Accepted | ProposalState::Declined => String::new(),
        };
        let what = Plan::from(one.plan);
        let digest = output::short(&one.digest);
        format!("proposal {}: {what} {digest}, {}{next}", one.number, state(one))
    })
}
