//! `tallyman tenant`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};

use super::document;
use super::global::Global;
use super::output;

use super::client::Client;
use crate::api::model::{
    Billing, BillingName, CreateTenant, EndedTenant, Fallback, Suspension, Tenant, TenantLimits,
};
use crate::api::{format_size, parse_size};
use crate::tenancy::SELF;
use crate::tenant::{FallbackStep, Limit};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a tenant
    #[command(after_help = "Examples:\n  tallyman tenant create acme")]
    Create {
        /// Id of the new tenant: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or
        /// digit
        id: String,
    },
    /// List tenants
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman tenant list\n  tallyman tenant list --json"
    )]
    List,
    /// Show one tenant
    #[command(after_help = "Examples:\n  tallyman tenant get acme\n  tallyman tenant get")]
    Get {
        /// The tenant's id; the token's own if absent
        #[arg(default_value = SELF)]
        id: String,
    },
    /// Set limits of a tenant; limits that are not named stay as they are
    #[command(after_help = "Examples:\n  \
                      tallyman tenant limit acme --instances 20 --vcpus 40 --memory 64GB\n  \
                      tallyman tenant limit acme --requests-per-s 10\n  \
                      tallyman tenant limit acme --default vcpus")]
    Limit(SetLimits),
    /// Set the right to charge a tenant: to change its prices, its invoices and its policy
    ///
    /// Operators and tokens with the role billing always have it.
    #[command(after_help = "Examples:\n  \
                      tallyman tenant billing acme delegated\n  \
                      tallyman tenant billing acme kept")]
    Billing {
        /// The tenant's id
        id: String,
        /// delegated: the tenant's own admins have the right, too; kept: they do not
        #[arg(value_enum)]
        to: Delegation,
    },
    /// Set the name to which a tenant's documents are addressed
    #[command(after_help = "Examples:\n  \
                      tallyman tenant billing-name acme 'Acme GmbH, Berlin'\n  \
                      tallyman tenant billing-name acme   Only its id again")]
    BillingName {
        /// The tenant's id
        id: String,
        /// The name; none but the tenant's id if absent
        name: Option<String>,
    },
    /// Start and make nothing of a tenant's any more, or again with --resume
    #[command(
        after_help = "Examples:\n  tallyman tenant suspend acme\n  tallyman tenant suspend acme --resume"
    )]
    Suspend {
        /// Its id
        id: String,
        /// Let it go on
        #[arg(long)]
        resume: bool,
    },
    /// End a tenant that is suspended and has no instances, and make its last bill
    #[command(after_help = "Examples:\n  tallyman tenant end acme")]
    End {
        /// Its id
        id: String,
    },
    /// Set the fallback for a tenant's policy that fails twice in a row
    #[command(after_help = "Examples:\n  \
                      tallyman tenant fallback acme hold\n  \
                      tallyman tenant fallback acme last-good standard")]
    Fallback {
        /// The tenant's id
        id: String,
        /// The steps in the order in which they are tried: hold, last-good, standard
        #[arg(required = true)]
        steps: Vec<FallbackStep>,
    },
}

/// The right of a tenant's own admins to charge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Delegation {
    /// The tenant's own admins may charge it.
    Delegated,
    /// Only operators and the role billing may charge it.
    Kept,
}

#[derive(Debug, Args)]
pub(super) struct SetLimits {
    /// The tenant's id
    id: String,
    /// Most instances that are not deleted
    #[arg(long)]
    instances: Option<u64>,
    /// Most virtual processors of all those instances together
    #[arg(long)]
    vcpus: Option<u64>,
    /// Most memory of all those instances together, such as 64GB
    #[arg(long, value_parser = parse_size)]
    memory: Option<u64>,
    /// Most policies that it has uploaded
    #[arg(long)]
    policies: Option<u64>,
    /// Most requests per second, on average
    #[arg(long)]
    requests_per_s: Option<u64>,
    /// Most fuel that its policies burn per minute, on average
    #[arg(long)]
    fuel_per_minute: Option<u64>,
    /// Most bytes of disks, memories, snapshots and logs of all its instances, such as 1TB
    #[arg(long, value_parser = parse_size)]
    disk: Option<u64>,
    /// Most bytes of price books and components that are stored for it, such as 100MB
    #[arg(long, value_parser = parse_size)]
    stored: Option<u64>,
    /// Most launches of machines per minute, on average
    #[arg(long)]
    launches_per_minute: Option<u64>,
    /// Most changes of phase per minute, on average
    #[arg(long)]
    events_per_minute: Option<u64>,
    /// A limit to reset to its default, by its name in JSON, such as memory_bytes; may be repeated
    #[arg(long = "default", value_name = "LIMIT")]
    defaults: Vec<Limit>,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        match self {
            Command::Create { id } => {
                let tenant: Tenant = client.post(&["tenants"], &CreateTenant { id }).await?;
                output.show(&tenant, |tenant| {
                    format!("tenant {} is created, under the standard policy", tenant.id)
                })
            }
            Command::List => {
                let tenants: Vec<Tenant> = client.get(&["tenants"], &[]).await?;
                output.show(&tenants, |tenants| table(tenants))
            }
            Command::Get { id } => {
                let tenant: Tenant = client.get(&["tenants", &id], &[]).await?;
                output.show(&tenant, details)
            }
            Command::Limit(limits) => output.show(&limits.set(&client).await?, details),
            Command::Billing { id, to } => {
                let billing = Billing { delegated: to == Delegation::Delegated };
                let tenant: Tenant = client.put(&["tenants", &id, "billing"], &billing).await?;
                output.show(&tenant, details)
            }
            Command::BillingName { id, name } => {
                let path = ["tenants", &id, "billing-name"];
                let tenant: Tenant = client.put(&path, &BillingName { name }).await?;
                output.show(&tenant, details)
            }
            Command::Suspend { id, resume } => {
                let suspension = Suspension { suspended: !resume };
                let path = ["tenants", &id, "suspension"];
                let tenant: Tenant = client.put(&path, &suspension).await?;
                output.show(&tenant, details)
            }
            Command::End { id } => {
                let ended: EndedTenant = client.remove(&["tenants", &id]).await?;
                output.show(&ended, last_bill)
            }
            Command::Fallback { id, steps } => {
                let fallback = Fallback { ladder: steps.into_iter().map(Into::into).collect() };
                let tenant: Tenant = client.put(&["tenants", &id, "fallback"], &fallback).await?;
                output.show(&tenant, details)
            }
        }
    }
}

impl SetLimits {
    async fn set(&self, client: &Client) -> anyhow::Result<Tenant> {
        let given = |limit| match limit {
            Limit::Instances => self.instances,
            Limit::Vcpus => self.vcpus,
            Limit::MemoryBytes => self.memory,
            Limit::Policies => self.policies,
            Limit::RequestsPerS => self.requests_per_s,
            Limit::FuelPerMinute => self.fuel_per_minute,
            Limit::DiskBytes => self.disk,
            Limit::StoredBytes => self.stored,
            Limit::LaunchesPerMinute => self.launches_per_minute,
            Limit::EventsPerMinute => self.events_per_minute,
        };
        let named = Limit::ALL
            .into_iter()
            .filter(|&limit| given(limit).is_some() || self.defaults.contains(&limit));
        let limits: BTreeMap<&str, Option<u64>> =
            named.map(|limit| (limit.as_str(), given(limit))).collect();
        client.patch(&["tenants", &self.id, "limits"], &limits).await
    }
}

fn table(tenants: &[Tenant]) -> String {
    let rows = tenants.iter().map(|tenant| {
        vec![
            tenant.id.to_string(),
            tenant.instances.to_string(),
            tenant.vcpus.to_string(),
            format_size(tenant.memory_bytes),
            output::named(tenant.policy_name.as_deref(), &tenant.policy.short()),
            tenant.created_at.to_string(),
            if tenant.alerts == 0 {
                String::new()
            } else {
                format!("{} quarantined", tenant.alerts)
            },
        ]
    });
    output::table(
        &["ID", "INSTANCES", "VCPUS", "MEMORY", "POLICY", "CREATED", ""],
        &[1, 2, 3],
        rows,
    )
}

fn last_bill(ended: &EndedTenant) -> String {
    let pages = document::pages(&ended.documents, None);
    let bill = document::print(&pages, document::Format::Table);
    let unbilled = ended.unbilled.as_ref().map(|why| {
        format!("\n\nthe last bill could not be made: {why}; close it when that is mended")
    });
    format!("{}\n\n{bill}{}", details(&ended.tenant), unbilled.unwrap_or_default())
}

fn charged_by(tenant: &Tenant) -> &'static str {
    match tenant.billing_delegated {
        true => "operators, the role billing, and its own admins",
        false => "operators and the role billing",
    }
}

fn details(tenant: &Tenant) -> String {
    let limits = &tenant.limits;
    let of = |has: String, most: String| Some(format!("{has} of {most}"));
    let ladder = tenant
        .fallback
        .iter()
        .map(|&step| FallbackStep::from(step).as_str())
        .collect::<Vec<_>>()
        .join(", then ");
    let rows = [
        ("tenant", Some(tenant.id.to_string())),
        ("created", Some(tenant.created_at.to_string())),
        ("billed to", tenant.billing_name.clone()),
        ("policy", Some(output::named(tenant.policy_name.as_deref(), &tenant.policy.to_string()))),
        ("if it fails", Some(ladder)),
        ("ended", tenant.ended_at.map(|at| at.to_string())),
        ("suspended", tenant.suspended.then(|| "nothing of it is started or made".into())),
        ("charged by", Some(charged_by(tenant).into())),
        (
            "quarantined",
            (tenant.alerts > 0).then(|| format!("{}; see `tallyman policy status`", tenant.alerts)),
        ),
        ("instances", of(tenant.instances.to_string(), limits.instances.to_string())),
        ("vcpus", of(tenant.vcpus.to_string(), limits.vcpus.to_string())),
        ("memory", of(format_size(tenant.memory_bytes), format_size(limits.memory_bytes))),
        ("disk", of(format_size(tenant.disk_bytes), format_size(limits.disk_bytes))),
        ("rates", Some(rates(limits))),
        ("policies", of(tenant.policies.to_string(), limits.policies.to_string())),
        ("requests", Some(format!("{} a second", limits.requests_per_s))),
        (
            "fuel",
            Some(format!(
                "{} a minute; {} since the daemon's start",
                limits.fuel_per_minute, tenant.fuel
            )),
        ),
    ];
    output::pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// The limits of what happens in a minute, and of what is stored.
fn rates(limits: &TenantLimits) -> String {
    format!(
        "{} launches and {} events a minute; {} stored",
        limits.launches_per_minute,
        limits.events_per_minute,
        format_size(limits.stored_bytes)
    )
}
