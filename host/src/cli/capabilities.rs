//! `tallyman capabilities`.

use clap::Args;

use super::global::Global;
use super::output;
use crate::api::model::{HostCapabilities, HypervisorStatus};

const EXAMPLES: &str = "\
Examples:
  tallyman capabilities
  tallyman capabilities --json";

/// The command has no arguments of its own.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Capabilities {}

impl Capabilities {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let capabilities: HostCapabilities = global.client()?.get(&["capabilities"], &[]).await?;
        global.output().show(&capabilities, |capabilities| in_words(&capabilities.hypervisors))
    }
}

/// A table of hypervisors, a table of their capabilities, and the reasons for which some are not
/// available.
fn in_words(hypervisors: &[HypervisorStatus]) -> String {
    let cell = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let there = hypervisors.iter().map(|one| {
        let name = if one.default { format!("{} (default)", one.name) } else { one.name.clone() };
        vec![
            name,
            cell(&one.version),
            cell(&one.accelerator),
            cell(&one.machine_type),
            one.vcpus_max.to_string(),
        ]
    });
    let there = output::table(
        &["HYPERVISOR", "VERSION", "ACCELERATOR", "MACHINE TYPE", "VCPUS MAX"],
        &[4],
        there,
    );
    let names: Vec<_> = hypervisors.iter().map(|one| one.name.to_uppercase()).collect();
    let head: Vec<_> =
        std::iter::once("CAPABILITY").chain(names.iter().map(String::as_str)).collect();
    let all = hypervisors.first().map(|one| one.capabilities.keys().cloned()).into_iter().flatten();
    let can = all.map(|capability| {
        let yes = |one: &HypervisorStatus| one.capabilities.get(&capability) == Some(&true);
        let cells = hypervisors.iter().map(|one| if yes(one) { "yes" } else { "-" }.to_owned());
        std::iter::once(capability.clone()).chain(cells).collect()
    });
    let can = output::table(&head, &[], can);
    let missing = hypervisors
        .iter()
        .filter_map(|one| one.reason.as_ref().map(|why| format!("{}: {why}\n", one.name)));
    format!("{there}\n\n{can}\n\n{}", missing.collect::<String>())
}
