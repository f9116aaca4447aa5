//! Strays: virtual machine monitors that belong to no recorded instance. They are found, reported,
//! and left for an operator to judge.
//!
//! There should be none. A database that was restored from a copy, a lost record, or a defect of
//! this program may leave some, which hold memory and write to disks unbilled.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::aside;
use super::host::Host;
use crate::blocking;
use crate::causes;
use crate::hypervisor::{Launches, MachineProcess};
use crate::id::InstanceId;
use crate::network::Networks;

/// Time between two looks. A process counts as a stray when two looks in a row see it: one that was
/// just recorded as ended may take a moment to exit.
const LOOK: Duration = Duration::from_secs(15);

/// Takes guests of the host's network that no record has the address of. Nobody else answers for
/// them, and a new instance may get their address.
pub(super) fn sweep_networks(networks: &dyn Networks, in_use: &BTreeSet<Ipv4Addr>) {
    match networks.sweep(in_use) {
        Ok(strays) => strays.iter().for_each(|address| {
            tracing::warn!(%address, "a network of no recorded instance was removed");
        }),
        Err(error) => tracing::warn!(
            error = causes::in_words(&error),
            "networks of no recorded instance can't be looked for"
        ),
    }
}

/// The processes that a look saw, by their ids and starts.
#[derive(Debug, Default)]
struct Seen {
    unknown: BTreeSet<(u32, u64)>,
    halted: BTreeSet<(u32, u64)>,
}

/// Looks for strays, and for machines that somebody has halted, until the host is dropped.
pub(super) async fn watch(host: Weak<Host>) {
    let mut seen = Seen::default();
    while let Some(host) = host.upgrade() {
        seen = look(&host, seen).await;
        drop(host);
        sleep(LOOK).await;
    }
}

/// Looks once, after a look that saw `before`.
async fn look(host: &Arc<Host>, before: Seen) -> Seen {
    let launches = host.launches.clone();
    let instances = host.instances.clone();
    let processes = match blocking::run(move || all(&*launches, &instances)).await {
        Ok(Ok(processes)) => processes,
        Ok(Err(error)) => {
            tracing::debug!(%error, "processes of machines can't be looked for");
            return before;
        }
        Err(_) => return before,
    };
    let (known, unknown): (Vec<_>, Vec<_>) =
        processes.into_iter().partition(|process| is_known(host, process));
    let halted: Vec<_> = known.into_iter().filter(|process| process.is_halted).collect();
    note_strays(host, again(&unknown, &before.unknown));
    note_halted(host, again(&halted, &before.halted));
    let keys = |processes: &[MachineProcess]| processes.iter().map(key).collect();
    Seen { unknown: keys(&unknown), halted: keys(&halted) }
}

/// The processes in the folders of instances, and in those that were moved aside: a machine whose
/// record an older journal does not have runs on.
fn all(launches: &dyn Launches, instances: &Path) -> io::Result<Vec<MachineProcess>> {
    let mut found = launches.processes(instances)?;
    let aside = aside::folder(instances);
    if aside.is_dir() {
        found.extend(launches.processes(&aside)?);
    }
    Ok(found)
}

/// The processes that the look before saw, too.
fn again(processes: &[MachineProcess], before: &BTreeSet<(u32, u64)>) -> Vec<MachineProcess> {
    processes.iter().filter(|process| before.contains(&key(process))).cloned().collect()
}

fn note_strays(host: &Host, strays: Vec<MachineProcess>) {
    let known_strays = host.strays();
    for stray in strays.iter().filter(|stray| !known_strays.contains(stray)) {
        tracing::error!(
            pid = stray.pid,
            instance = stray.instance,
            launch = stray.incarnation,
            "a virtual machine monitor runs that belongs to no recorded instance; its time is not \
             billed. If it is not needed: kill -9 {}",
            stray.pid
        );
    }
    *host.strays.lock().unwrap_or_else(PoisonError::into_inner) = strays;
}

fn note_halted(host: &Host, halted: Vec<MachineProcess>) {
    let known = host.halted();
    for process in halted.iter().filter(|process| !known.contains(process)) {
        tracing::error!(
            pid = process.pid,
            instance = process.instance,
            launch = process.incarnation,
            "a process of a machine was stopped or frozen from outside; it does nothing, and the \
             machine's time goes on. To let it go on: kill -CONT {}, or thaw its control group",
            process.pid
        );
    }
    *host.halted.lock().unwrap_or_else(PoisonError::into_inner) = halted;
}

fn key(process: &MachineProcess) -> (u32, u64) {
    (process.pid, process.start_ticks)
}

/// Returns whether a record accounts for this process.
fn is_known(host: &Host, process: &MachineProcess) -> bool {
    let Ok(id) = process.instance.parse::<InstanceId>() else { return false };
    let Some(slot) = host.directory().by_id.get(&id).cloned() else { return false };
    let view = slot.view();
    let is_busy = view.live.state.has_vmm() || view.live.intent.is_some();
    is_busy && process.incarnation.is_none_or(|incarnation| incarnation == view.live.incarnation)
}
