//! `tallyman policy`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::Global;
use super::client::Client;
use super::output;
use super::progress::during;
use crate::api::model::{
    Activate, Activated, NoOptions, Policies, Policy, PolicyDetails, PolicyLimits, TenantPolicy, Timestamp,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Upload a component; it is examined, compiled and tested
    #[command(after_help = "Examples:\n  tallyman policy upload target/policies/coarse.wasm")]
    Upload {
        /// The component
        file: PathBuf,
    },
    /// List policies
    #[command(visible_alias = "ls", after_help = "Examples:\n  tallyman policy list\n  tallyman policy list --json")]
    List,
    /// Show one policy
    #[command(after_help = "Examples:\n  tallyman policy get standard\n  tallyman policy get 3f9a1c")]
    Get {
        /// Its digest, the digest's unique beginning, or `standard`
        digest: String,
    },
    /// Put a tenant under a policy
    #[command(
        after_help = "Examples:\n  tallyman policy activate 3f9a1c\n  tallyman policy activate 3f9a1c --at 2026-02-01T00:00:00Z\n  tallyman policy activate standard"
    )]
    Activate {
        /// Its digest, the digest's unique beginning, or `standard`
        digest: String,
        /// From when on; now if absent
        #[arg(long, value_name = "INSTANT")]
        at: Option<Timestamp>,
        #[command(flatten)]
        tenant: Tenant,
    },
    /// Put the policy before the present one in force again
    #[command(after_help = "Examples:\n  tallyman policy rollback")]
    Rollback {
        #[command(flatten)]
        tenant: Tenant,
    },
    /// Show under which policy a tenant is, was and will be
    #[command(after_help = "Examples:\n  tallyman policy status\n  tallyman policy status --json")]
    Status {
        #[command(flatten)]
        tenant: Tenant,
    },
    /// Show what every policy may cost
    #[command(after_help = "Examples:\n  tallyman policy limits")]
    Limits,
}

#[derive(Debug, Args)]
pub(super) struct Tenant {
    /// Whose rules
    #[arg(long = "tenant", default_value = "default")]
    id: String,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let (client, output) = (global.client()?, global.output());
        match self {
            Command::Upload { file } => {
                let policy = upload(&client, &file).await?;
                output.show(&policy, details)
            }
            Command::List => {
                let policies: Policies = client.get(&["policies"], &[]).await?;
                output.show(&policies, |policies| output::policies(&policies.policies))
            }
            Command::Get { digest } => {
                let policy: PolicyDetails = client.get(&["policies", &digest], &[]).await?;
                output.show(&policy, |policy| details(&policy.policy))
            }
            Command::Activate { digest, at, tenant } => {
                let activated = activate(&client, &tenant.id, &digest, at).await?;
                output.show(&activated, in_force)
            }
            Command::Rollback { tenant } => output.show(&roll_back(&client, &tenant.id).await?, in_force),
            Command::Status { tenant } => {
                let status: TenantPolicy = client.get(&["tenants", &tenant.id, "policy"], &[]).await?;
                output.show(&status, status_text)
            }
            Command::Limits => {
                let policies: Policies = client.get(&["policies"], &[]).await?;
                output.show(&policies.limits, limits)
            }
        }
    }
}

/// Uploads the component in a file.
pub(super) async fn upload(client: &Client, file: &Path) -> anyhow::Result<Policy> {
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    during("examining and compiling", client.upload(&["policies"], bytes))
        .await
        .with_context(|| format!("{} is not admitted", file.display()))
}

/// Puts a tenant under a policy.
pub(super) async fn activate(
    client: &Client,
    tenant: &str,
    digest: &str,
    at: Option<Timestamp>,
) -> anyhow::Result<Activated> {
    client.put(&["tenants", tenant, "policy"], &Activate { digest: digest.into(), at }).await
}

/// Puts the policy before the present one in force again.
pub(super) async fn roll_back(client: &Client, tenant: &str) -> anyhow::Result<Activated> {
    client.post(&["tenants", tenant, "policy", "rollback"], &NoOptions {}).await
}

fn in_force(activated: &Activated) -> String {
    format!("tenant {} is under {} from {} on", activated.tenant, activated.digest, activated.from)
}

fn details(policy: &Policy) -> String {
    let rows = [
        ("digest", Some(policy.digest.to_string())),
        ("world", Some(policy.world.clone())),
        ("bytes", Some(policy.size_bytes.to_string())),
        ("standard", policy.standard.then(|| "yes, it is part of this program".into())),
        ("admitted", policy.admitted_at.map(|at| at.to_string())),
        ("compiled in", policy.compile_ms.map(|millis| format!("{millis} ms"))),
        (
            "self-test",
            policy.self_test.map(|test| {
                let (vectors, enter, snapshot) = (test.vectors, test.enter_fuel, test.snapshot_fuel);
                format!("{vectors} vectors; at most {enter} fuel for a transition, {snapshot} for a snapshot")
            }),
        ),
    ];
    output::pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

fn status_text(status: &TenantPolicy) -> String {
    let activations = status.activations.iter().map(|one| (one, if one.digest == status.digest { "" } else { "past" }));
    let planned = status.planned.iter().map(|one| (one, "planned"));
    let rows = activations
        .chain(planned)
        .map(|(one, note)| vec![one.from.to_string(), one.digest.to_string(), note.to_owned()]);
    let mut text = format!("tenant {} is under {}\n\n", status.tenant, status.digest);
    text.push_str(&output::table(&["FROM", "POLICY", ""], &[], rows));
    for ill in &status.quarantined {
        text.push_str(&format!("\nnot asked any more: {} failed {} times in a row", ill.digest, ill.faults));
    }
    text
}

fn limits(limits: &PolicyLimits) -> String {
    let rows = [
        ("component", limits.component_bytes_max, "bytes"),
        ("functions", limits.functions_max, ""),
        ("custom section", limits.custom_section_bytes_max, "bytes"),
        ("memory of a call", limits.memory_bytes_max, "bytes"),
        ("table of a call", limits.table_elements_max, "elements"),
        ("stack of a call", limits.stack_bytes_max, "bytes"),
        ("fuel of an accounting call", limits.fuel_base, "units"),
        ("and for each item", limits.fuel_per_item, "units"),
        ("fuel of a rating call", limits.rating_fuel_base, "units"),
        ("and for each interval", limits.rating_fuel_per_interval, "units"),
        ("items of a call", limits.batch_items_max, ""),
        ("wall clock of a call", limits.deadline_ms, "ms"),
        ("faults in a row", limits.faults_in_a_row_max, ""),
    ];
    let rows = rows.map(|(what, value, unit)| vec![what.to_owned(), value.to_string(), unit.to_owned()]);
    output::table(&["AT MOST", "", ""], &[1], rows)
}
