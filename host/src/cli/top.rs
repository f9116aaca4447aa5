//! `tallyman top`.

use std::collections::HashMap;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::stream;
use serde::Serialize;

use super::client::{self, Client};
use super::global::Global;
use super::output;
use crate::api::format_size;
use crate::api::model::{Instance, InstanceStats};
use crate::clock;

/// Requests for statistics at a time.
const AT_ONCE: usize = 8;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    tallyman top\n  \
    tallyman top --once -o json\n\n\
    The share of a processor is that of the time between two looks; figures are the kernel's, and\n\
    nothing is billed from them.")]
pub(super) struct Top {
    /// Look once, at two instants a second apart
    #[arg(long)]
    once: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = super::args::duration)]
    every: Duration,
}

/// A machine and its use of the host.
#[derive(Debug, Serialize)]
struct Used {
    name: String,
    id: String,
    state: String,
    vcpus: u32,
    /// Share of one processor in thousandths, between two looks.
    cpu_permille: u64,
    cpu_ns: u64,
    memory_rss_bytes: u64,
    allocated_memory_bytes: u64,
}

/// The processor time of each instance, and the instant at which it was read.
type Seen = HashMap<String, (u64, u64)>;

impl Top {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        let mut seen = Seen::new();
        look(&client, &mut seen).await?;
        let every = if self.once { Duration::from_secs(1) } else { self.every };
        loop {
            tokio::time::sleep(every).await;
            let used = look(&client, &mut seen).await?;
            if !self.once && !output.is_json() && stdout().is_terminal() {
                print!("\x1b[H\x1b[2J");
            }
            output.show(&used, |used| table(used))?;
            if self.once {
                return Ok(());
            }
        }
    }
}

/// Reads the machines that have a process, the busiest first.
async fn look(client: &Client, seen: &mut Seen) -> anyhow::Result<Vec<Used>> {
    let instances: Vec<Instance> = client.get(&["instances"], &[]).await?;
    let asked = stream::iter(instances).map(|instance| async move {
        let path = ["instances", instance.id.as_str(), "stats"];
        let stats = client.get::<InstanceStats>(&path, &[]).await;
        (instance, stats, clock::boottime_ns())
    });
    let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    let mut used = Vec::new();
    let mut now = Seen::new();
    for (instance, stats, at_ns) in answers {
        let stats = match stats {
            Ok(stats) => stats,
            // One that has no process, or is gone by now.
            Err(error) if client::has_refused(&error) => continue,
            Err(error) => return Err(error),
        };
        let id = instance.id.to_string();
        let (before, then_ns) = seen.get(&id).copied().unwrap_or((stats.cpu_ns, 0));
        let passed = at_ns.saturating_sub(then_ns).max(1);
        let cpu_ns = stats.cpu_ns;
        let share = u128::from(cpu_ns.saturating_sub(before)) * 1_000 / u128::from(passed);
        now.insert(id.clone(), (cpu_ns, at_ns));
        used.push(Used {
            name: instance.name.to_string(),
            id,
            state: instance.state.to_string(),
            vcpus: instance.vcpus,
            cpu_permille: u64::try_from(share).unwrap_or(u64::MAX),
            cpu_ns,
            memory_rss_bytes: stats.memory_rss_bytes,
            allocated_memory_bytes: stats.allocated_memory_bytes,
        });
    }
    *seen = now;
    used.sort_by(|one, other| {
        (other.cpu_permille, &one.name).cmp(&(one.cpu_permille, &other.name))
    });
    Ok(used)
}

fn table(used: &[Used]) -> String {
    let rows = used.iter().map(|one| {
        vec![
            one.name.clone(),
            one.state.clone(),
            format!("{}.{} %", one.cpu_permille / 10, one.cpu_permille % 10),
            output::duration(one.cpu_ns),
            one.vcpus.to_string(),
            format_size(one.memory_rss_bytes),
            format_size(one.allocated_memory_bytes),
        ]
    });
    let head = ["NAME", "STATE", "CPU", "CPU TIME", "VCPUS", "MEMORY", "OF"];
    output::table(&head, &[2, 3, 4, 5, 6], rows)
}
