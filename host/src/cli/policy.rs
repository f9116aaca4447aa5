//! `tallyman policy`.

mod cases;
mod new;
mod test;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{Once, option};
use super::client::Client;
use super::global::Global;
use super::progress::during;
use super::{journal, output};
use crate::api::model::{
    Activate, Activated, PerPhase, Policies, Policy, PolicyDetails, PolicyLimits, PolicyStanding,
    Rollback, ShadowMoney, ShadowReport, ShadowRequest, TenantPolicy, Timestamp,
};
use crate::id::PolicyName;
use crate::policy::Profile;
use crate::tenancy::SELF;
use crate::tenant::Standing;
use crate::vm;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Upload a component, which is examined, compiled and tested
    #[command(after_help = "Examples:\n  \
                      tallyman policy upload target/policies/coarse.wasm\n  \
                      tallyman policy upload mine.wasm --name night-v3\n  \
                      tallyman policy upload mine.wasm --profile large")]
    Upload {
        /// File of the component
        file: PathBuf,
        /// Set of limits that it runs under: compact, or large for meters in interpreted languages
        #[arg(long, default_value = "compact")]
        profile: Profile,
        /// A name among the tenant's policies, such as night-v3, which is accepted wherever the
        /// digest is
        #[arg(long)]
        name: Option<PolicyName>,
    },
    /// Create the source of a new policy from a template
    #[command(after_help = "Examples:\n  \
                      tallyman policy new mine --lang rust\n  \
                      tallyman policy new mine --lang python --into ./policies\n\n\
                      The README.md of the new folder says how to build it with the language's \
                      own tools.")]
    New(new::New),
    /// Make a component from a core module that was built for the contract
    #[command(after_help = "Examples:\n  \
                      tallyman policy wrap target/wasm32-unknown-unknown/release/mine.wasm \
                      mine.wasm\n\n\
                      `wasm-tools component new` does the same.")]
    Wrap {
        /// File of the core module
        module: PathBuf,
        /// File of the component to write
        component: PathBuf,
    },
    /// Test a component for conformance, and show its fuel; needs no daemon
    #[command(after_help = "Examples:\n  \
                      tallyman policy test mine.wasm\n  \
                      tallyman policy test mine.wasm --profile large --json\n  \
                      tallyman policy test mine.wasm --cases cases.json --prices prices.json")]
    Test(test::Test),
    /// List policies
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman policy list\n  tallyman policy list --json"
    )]
    List,
    /// Show one policy
    #[command(
        after_help = "Examples:\n  tallyman policy get standard\n  tallyman policy get 3f9a1c"
    )]
    Get {
        /// The policy: its name, its digest, a unique prefix of the digest, or `standard`
        digest: String,
    },
    /// Activate a policy for a tenant
    #[command(after_help = "Examples:\n  \
                      tallyman policy activate 3f9a1c\n  \
                      tallyman policy activate 3f9a1c --at 2026-02-01T00:00:00Z\n  \
                      tallyman policy activate standard --again \
                      --reason 'the new one is too dear'")]
    Activate {
        /// The policy: its name, its digest, a unique prefix of the digest, or `standard`
        digest: String,
        /// First instant at which it is in force, in RFC 3339 or as a date in UTC; now if absent
        #[arg(long, value_name = "INSTANT", value_parser = super::args::instant)]
        at: Option<Timestamp>,
        /// Confirm the activation of a policy that was in force before, or was quarantined
        #[arg(long)]
        again: bool,
        /// An option of the policy, such as minimum=60s; `policy get` lists its options; may be
        /// repeated
        #[arg(long = "option", value_name = "NAME=VALUE", value_parser = option)]
        options: Vec<(String, String)>,
        /// Refuse if its shadow differs in total by more than this amount, up or down
        #[arg(long, value_name = "AMOUNT")]
        max_net: Option<String>,
        /// Refuse if its shadow differs for any one tenant by more than this amount, up or down
        #[arg(long, value_name = "AMOUNT")]
        max_tenant: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Roll back to the policy before the present one
    #[command(after_help = "Examples:\n  \
                      tallyman policy rollback\n  \
                      tallyman policy rollback --tenant acme --reason 'wrong totals'")]
    Rollback {
        #[command(flatten)]
        why: Why,
    },
    /// Withdraw a policy that was planned for later
    #[command(after_help = "Examples:\n  \
                      tallyman policy withdraw night-v3\n  \
                      tallyman policy withdraw 3f9a --at 2026-02-01T00:00:00Z")]
    Withdraw {
        /// The policy: its name, its digest, or a unique prefix of the digest
        digest: String,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        why: Why,
    },
    /// Try a policy beside the one in force, without effect on charges
    #[command(subcommand)]
    Shadow(Shadow),
    /// Show the past, present and planned policies of a tenant
    #[command(after_help = "Examples:\n  tallyman policy status\n  tallyman policy status --json")]
    Status,
    /// Show the limits of policies
    #[command(after_help = "Examples:\n  tallyman policy limits")]
    Limits,
}

#[derive(Debug, Subcommand)]
pub(super) enum Shadow {
    /// Run a policy in the shadow of the one in force
    #[command(after_help = "Examples:\n  tallyman policy shadow start 3f9a1c")]
    Start {
        /// The policy: its name, its digest, a unique prefix of the digest, or `standard`
        digest: String,
        /// The reason, for the journal
        #[arg(long)]
        reason: Option<String>,
    },
    /// Show the report of a shadow
    #[command(after_help = "Examples:\n  \
                      tallyman policy shadow report 3f9a1c\n  \
                      tallyman policy shadow report 3f9a1c --json")]
    Report {
        /// The policy: its name, its digest, or a unique prefix of the digest
        digest: String,
    },
    /// Stop the shadow of a policy
    #[command(after_help = "Examples:\n  tallyman policy shadow stop 3f9a1c")]
    Stop {
        /// The policy: its name, its digest, or a unique prefix of the digest
        digest: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Why {
    /// The reason, for the journal
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    once: Once,
}

impl Why {
    /// The reason, and by what the request is known again.
    pub(super) fn into_parts(self) -> (Option<String>, Once) {
        (self.reason, self.once)
    }
}

/// The plan that is meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only the one for this instant, as the listing has it; all of them if absent
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
}

/// Withdraws plans; answers what is left.
pub(super) async fn withdraw<T: DeserializeOwned>(
    client: &Client,
    path: &[&str],
    which: &Which,
    why: &Why,
) -> anyhow::Result<T> {
    let given = [("at", which.at.as_deref()), ("reason", why.reason.as_deref())];
    let query: Vec<_> = given.iter().filter_map(|&(name, text)| Some((name, text?))).collect();
    client.remove_once(path, &query, why.once.key()).await
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        match self {
            Command::New(new) => new.run(output),
            Command::Wrap { module, component } => new::wrap(&module, &component, output),
            Command::Test(test) => test.run(output).await,
            Command::Upload { file, profile, name } => {
                let policy = upload(&client, &file, profile, name.as_ref()).await?;
                output.show(&policy, details)
            }
            Command::List => {
                let policies: Policies = client.get(&["policies"], &[]).await?;
                output.show(&policies, |policies| output::policies(&policies.policies))
            }
            Command::Get { digest } => {
                let policy: PolicyDetails = client.get(&["policies", &digest], &[]).await?;
                output.show(&policy, |policy| {
                    let declared = policy
                        .declared
                        .as_ref()
                        .map(|declared| format!("{}\n\n", output::declared(declared)));
                    let declared = declared.unwrap_or_default();
                    format!(
                        "{}\n\n{declared}{}",
                        details(&policy.policy),
                        journal::table(&policy.history)
                    )
                })
            }
            Command::Activate { digest, at, again, options, max_net, max_tenant, why } => {
                let options = options.into_iter().collect();
                let request = Activate {
                    digest,
                    at,
                    again,
                    options,
                    reason: why.reason,
                    max_net,
                    max_tenant,
                };
                let activated = activate(&client, &request, why.once.key()).await?;
                output.show(&activated, in_force)
            }
            Command::Rollback { why } => {
                let request = Rollback { reason: why.reason };
                let activated = roll_back(&client, &request, why.once.key()).await?;
                output.show(&activated, in_force)
            }
            Command::Withdraw { digest, which, why } => {
                let path = ["tenants", SELF, "policy", "planned", &digest];
                let status: TenantPolicy = withdraw(&client, &path, &which, &why).await?;
                output.show(&status, status_text)
            }
            Command::Shadow(Shadow::Start { digest, reason }) => {
                let stands: PolicyStanding = client
                    .post(&["tenants", SELF, "shadows"], &ShadowRequest { digest, reason })
                    .await?;
                output.show(&stands, stands_text)
            }
            Command::Shadow(Shadow::Report { digest }) => {
                let report: ShadowReport =
                    client.get(&["tenants", SELF, "shadows", &digest], &[]).await?;
                output.show(&report, report_text)
            }
            Command::Shadow(Shadow::Stop { digest }) => {
                let stands: PolicyStanding =
                    client.remove(&["tenants", SELF, "shadows", &digest]).await?;
                output.show(&stands, stands_text)
            }
            Command::Status => {
                let status: TenantPolicy = client.get(&["tenants", SELF, "policy"], &[]).await?;
                output.show(&status, status_text)
            }
            Command::Limits => {
                let policies: Policies = client.get(&["policies"], &[]).await?;
                let both = Limits { compact: policies.limits, large: policies.large };
                output.show(&both, limits)
            }
        }
    }
}

/// Uploads the component in a file.
pub(super) async fn upload(
    client: &Client,
    file: &Path,
    profile: Profile,
    name: Option<&PolicyName>,
) -> anyhow::Result<Policy> {
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let mut query = vec![("profile", profile.as_str())];
    query.extend(name.map(|name| ("name", name.as_str())));
    during("examining and compiling", client.upload(&["policies"], &query, bytes))
        .await
        .with_context(|| format!("{} is not admitted", file.display()))
}

/// Activates a policy for the tenant.
pub(super) async fn activate(
    client: &Client,
    request: &Activate,
    key: Option<&str>,
) -> anyhow::Result<Activated> {
    client.put_once(&["tenants", SELF, "policy"], request, key).await
}

/// Rolls the tenant back to the policy before the present one.
pub(super) async fn roll_back(
    client: &Client,
    request: &Rollback,
    key: Option<&str>,
) -> anyhow::Result<Activated> {
    client.post_once(&["tenants", SELF, "policy", "rollback"], request, key).await
}

fn stands_text(stands: &PolicyStanding) -> String {
    let policy = output::named(stands.name.as_deref(), &stands.digest.to_string());
    format!("policy {policy} is {}", Standing::from(stands.state))
}

fn report_text(report: &ShadowReport) -> String {
    let of = |totals: &PerPhase, phase| totals.0[phase as usize];
    let rows = vm::Phase::ALL.into_iter().filter_map(|phase| {
        let active = of(&report.active_ns, phase);
        let candidate = of(&report.candidate_ns, phase);
        let row = vec![phase.to_string(), output::exact(active), output::exact(candidate)];
        (active != 0 || candidate != 0).then_some(row)
    });
    let tried = output::named(report.name.as_deref(), &report.digest.to_string());
    let in_force = output::named(report.active_name.as_deref(), &report.active.to_string());
    let mut text = format!("{tried} is tried; {in_force} is in force\n\n");
    text.push_str(&output::table(&["PHASE", "IN FORCE", "TRIED"], &[1, 2], rows));
    text.push_str(&format!(
        "\n\n{} of {} instances compared since {}; {} differ; {} fuel",
        report.compared, report.instances, report.since, report.differing, report.fuel
    ));
    if let Some(worst) = &report.worst {
        text.push_str(&format!(
            "\nmost: {} ({}), {}",
            worst.name,
            worst.instance,
            output::exact(worst.moved_ns)
        ));
    }
    if let Some(fault) = &report.fault {
        text.push_str(&format!("\nit failed at {} instances: {fault}", report.faults));
    }
    if let Some(money) = &report.money {
        text.push_str(&format!("\n\n{}", money_text(money)));
    }
    if let Some(unrated) = &report.unrated {
        text.push_str(&format!("\nthe charges are unknown: {unrated}"));
    }
    text
}

fn money_text(money: &ShadowMoney) -> String {
    let row = |whose: String, active: &str, candidate: &str| {
        vec![whose, active.to_owned(), candidate.to_owned()]
    };
    let differing = money.instances.iter().map(|worth| {
        let whose = worth.instance.clone().unwrap_or_else(|| "the tenant as a whole".into());
        row(whose, &worth.active, &worth.candidate)
    });
    let rows =
        std::iter::once(row("in all".into(), &money.active, &money.candidate)).chain(differing);
    let table = output::table(&["MONEY", "IN FORCE", "TRIED"], &[1, 2], rows);
    format!(
        "{table}\n\n{} {} more, if it had been in force; {} fuel",
        money.net,
        money.currency.as_deref().unwrap_or_default(),
        money.fuel
    )
}

fn in_force(activated: &Activated) -> String {
    let before = match (activated.repeated, activated.already) {
        (true, _) => " (done by an earlier try)",
        (false, true) => " already; nothing was recorded",
        (false, false) => "",
    };
    let policy = output::named(activated.name.as_deref(), &activated.digest.to_string());
    format!("tenant {} is under {policy} from {} on{before}", activated.tenant, activated.from)
}

fn details(policy: &Policy) -> String {
    let rows = [
        ("digest", Some(policy.digest.to_string())),
        ("name", policy.name.clone()),
        ("world", Some(policy.world.clone())),
        ("profile", Some(policy.profile.clone())),
        ("bytes", Some(policy.size_bytes.to_string())),
        ("state", policy.state.map(|state| Standing::from(state).to_string())),
        ("standard", policy.standard.then(|| "yes, it is part of this program".into())),
        ("admitted", policy.admitted_at.map(|at| at.to_string())),
        ("compiled in", policy.compile_ms.map(|millis| format!("{millis} ms"))),
        (
            "self-test",
            policy.self_test.map(|test| {
                format!(
                    "{} vectors; at most {} fuel for a transition, {} for a snapshot",
                    test.vectors, test.enter_fuel, test.snapshot_fuel
                )
            }),
        ),
    ];
    output::pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

fn status_text(status: &TenantPolicy) -> String {
    let activations = status
        .activations
        .iter()
        .map(|one| (one, if one.digest == status.digest { "" } else { "past" }));
    let planned = status.planned.iter().map(|one| (one, "planned"));
    let rows = activations.chain(planned).map(|(one, note)| {
        let name = one.name.clone().unwrap_or_default();
        vec![one.from.to_string(), one.digest.to_string(), name, note.to_owned()]
    });
    let policy = output::named(status.name.as_deref(), &status.digest.to_string());
    let mut text = format!("tenant {} is under {policy}\n\n", status.tenant);
    text.push_str(&output::table(&["FROM", "POLICY", "NAME", ""], &[], rows));
    let stands = status.policies.iter().map(|one| {
        let name = one.name.clone().unwrap_or_default();
        vec![one.digest.to_string(), name, Standing::from(one.state).to_string()]
    });
    text.push_str(&format!("\n\n{}", output::table(&["POLICY", "NAME", "STATE"], &[], stands)));
    for found in &status.quarantined {
        let reason = found.reason.as_deref().unwrap_or("it failed before the daemon's start");
        let owed = match found.stand_in {
            Some(stand_in) => {
                let name = found.stand_in_name.as_deref();
                format!("{} accounts its time", output::named(name, &stand_in.to_string()))
            }
            None => "its time waits for another policy".into(),
        };
        let policy = output::named(found.name.as_deref(), &found.digest.to_string());
        text.push_str(&format!("\n\nquarantined: {policy}\n  {reason}; {owed}"));
    }
    text
}

/// The limits of either profile, as JSON output.
#[derive(Debug, Serialize)]
struct Limits {
    compact: PolicyLimits,
    large: PolicyLimits,
}

fn limits(limits: &Limits) -> String {
    type Of = fn(&PolicyLimits) -> u64;
    let rows: [(&str, Of, &str); 16] = [
        ("component", |limits| limits.component_bytes_max, "bytes"),
        ("functions", |limits| limits.functions_max, ""),
        ("custom section", |limits| limits.custom_section_bytes_max, "bytes"),
        ("memory of a call", |limits| limits.memory_bytes_max, "bytes"),
        ("table of a call", |limits| limits.table_elements_max, "elements"),
        ("stack of a call", |limits| limits.stack_bytes_max, "bytes"),
        ("fuel of an accounting call", |limits| limits.fuel_base, "units"),
        ("and for each item", |limits| limits.fuel_per_item, "units"),
        ("fuel of a metering call", |limits| limits.metering_fuel_base, "units"),
        ("and for each interval", |limits| limits.metering_fuel_per_interval, "units"),
        ("for each value of a column", |limits| limits.metering_fuel_per_value, "units"),
        ("for each instance", |limits| limits.metering_fuel_per_subject, "units"),
        ("for each option and tag", |limits| limits.metering_fuel_per_setting, "units"),
        ("items of a call", |limits| limits.batch_items_max, ""),
        ("wall clock of a call", |limits| limits.deadline_ms, "ms"),
        ("faults in a row", |limits| limits.faults_in_a_row_max, ""),
    ];
    let row = |(what, of, unit): (&str, Of, &str)| {
        vec![
            what.to_owned(),
            of(&limits.compact).to_string(),
            of(&limits.large).to_string(),
            unit.to_owned(),
        ]
    };
    output::table(&["AT MOST", "COMPACT", "LARGE", ""], &[1, 2], rows.map(row))
}
