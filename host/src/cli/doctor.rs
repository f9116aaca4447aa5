//! `tallyman doctor`: what the host has, what it lacks, and what to do about it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::bail;
use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::client::is_nobody;
use super::global::Global;
use super::output;
use crate::api::model::Health;
use crate::clock;
use crate::disk::Disk;
use crate::network;

const EXAMPLES: &str = "\
Examples:
  tallyman doctor
  tallyman doctor --data /var/lib/tallyman --json

Exit status: 1 if something must be mended before machines run well.";

/// Descriptors that a host with many machines needs.
const DESCRIPTORS_WANTED: u64 = 65_536;
/// Free space below which operations are likely to be refused soon, in bytes.
const SPACE_WANTED: u64 = 2 << 30;
/// Syncs that are tried.
const SYNCS: usize = 16;
/// Longest sync that operations don't suffer from, in nanoseconds.
const SYNC_NS_WANTED: u64 = 20_000_000;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {}

/// The state of one matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Machines run, but not as well as they could.
    Warning,
    /// To be mended first.
    Bad,
}

/// One matter that was examined.
#[derive(Debug, Serialize)]
struct Finding {
    matter: &'static str,
    verdict: Verdict,
    found: String,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

impl Finding {
    fn new(
        matter: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        let remedy = (verdict != Verdict::Good).then_some(remedy);
        Self { matter, verdict, found: found.into(), remedy }
    }
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let data = global.data()?;
        let mut findings = vec![processor(), accelerator()];
        findings.extend(hypervisors());
        findings.extend(networks());
        findings.extend([folder(&data), space(&data), syncs(&data), clock(), descriptors()]);
        findings.push(daemon(global).await);
        global.output().show(&findings, |findings| text(findings))?;
        let bad = findings.iter().filter(|one| one.verdict == Verdict::Bad).count();
        match bad {
            0 => Ok(()),
            1 => bail!("1 matter must be mended"),
            _ => bail!("{bad} matters must be mended"),
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|one| {
        let verdict = match one.verdict {
            Verdict::Good => "good",
            Verdict::Warning => "warning",
            Verdict::Bad => "BAD",
        };
        let remedy = one.remedy.unwrap_or_default();
        vec![one.matter.into(), verdict.into(), one.found.clone(), remedy.into()]
    });
    output::table(&["MATTER", "VERDICT", "FOUND", "REMEDY"], &[], rows)
}

fn processor() -> Finding {
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let verdict = if cfg!(target_arch = "x86_64") { Verdict::Good } else { Verdict::Bad };
    let found = format!("{count} of {}", std::env::consts::ARCH);
    Finding::new("processors", verdict, found, "machines need x86-64")
}

fn accelerator() -> Finding {
    let matter = "/dev/kvm";
    match File::options().read(true).write(true).open(matter) {
        Ok(_) => Finding::new(matter, Verdict::Good, "can be used", ""),
        Err(error) => Finding::new(
            matter,
            Verdict::Warning,
            error.to_string(),
            "switch on virtualisation, join the group kvm; without it QEMU emulates, slowly",
        ),
    }
}

/// The programs of hypervisors that are on `PATH`. One is enough.
fn hypervisors() -> Vec<Finding> {
    let programs = ["qemu-system-x86_64", "cloud-hypervisor", "firecracker"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let place = |program: &str| {
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
    };
    let found = programs.map(|program| (program, place(program)));
    let none = found.iter().all(|(_, place)| place.is_none());
    let finding = |(program, place): (&'static str, Option<std::path::PathBuf>)| match place {
        Some(place) => Finding::new(program, Verdict::Good, place.display().to_string(), ""),
        None => {
            let verdict = if none { Verdict::Bad } else { Verdict::Warning };
            Finding::new(
                program,
                verdict,
                "not on PATH",
                "install one hypervisor: apt install qemu-system-x86",
            )
        }
    };
    let findings = found.into_iter().map(finding);
    // One hypervisor is enough; those that are missing beside it are no finding.
    findings.filter(|one| none || one.verdict == Verdict::Good).collect()
}

/// The needs of guests' networks. A host without them runs machines all the same.
fn networks() -> Vec<Finding> {
    let matter = "networks of guests";
    let lacks = network::examine().into_iter();
    let lacks = lacks.map(|lack| Finding::new(matter, Verdict::Warning, lack.fault, lack.remedy));
    let found: Vec<_> = lacks.collect();
    match found.is_empty() {
        true => vec![Finding::new(matter, Verdict::Good, "can be had with --network-pool", "")],
        false => found,
    }
}

fn folder(data: &Path) -> Finding {
    let matter = "data folder";
    let Ok(known) = fs::metadata(data) else {
        let found = format!("{} is not there yet", data.display());
        return Finding::new(matter, Verdict::Good, found, "");
    };
    let mode = known.permissions().mode() & 0o777;
    let verdict = if mode & 0o077 == 0 { Verdict::Good } else { Verdict::Warning };
    let found = format!("{}, mode {mode:o}", data.display());
    Finding::new(matter, verdict, found, "chmod 700: it holds secrets and consoles")
}

/// The nearest folder that is there.
fn present(data: &Path) -> &Path {
    data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

fn space(data: &Path) -> Finding {
    let matter = "disk space";
    let Ok(space) = Disk::of(present(data)).space() else {
        return Finding::new(matter, Verdict::Warning, "can't be read", "look at the disk");
    };
    let free = space.free_bytes;
    let verdict = if free >= SPACE_WANTED { Verdict::Good } else { Verdict::Bad };
    let found = format!("{} left", crate::api::format_size(free));
    Finding::new(matter, verdict, found, "free some: a standby takes as much as its memory")
}

/// Durations of syncs, which every operation waits for.
fn syncs(data: &Path) -> Finding {
    let matter = "syncs";
    match slowest_sync(present(data)) {
        Ok(slowest) => {
            let verdict = if slowest <= SYNC_NS_WANTED { Verdict::Good } else { Verdict::Warning };
            let found = format!("slowest of {SYNCS}: {}", output::exact(slowest));
            Finding::new(matter, verdict, found, "operations wait for syncs: use a faster disk")
        }
        Err(error) => Finding::new(
            matter,
            Verdict::Bad,
            error.to_string(),
            "the folder must be writable by this user",
        ),
    }
}

fn slowest_sync(folder: &Path) -> std::io::Result<u64> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut slowest = 0;
    for _ in 0..SYNCS {
        file.write_all(&[0; 4_096])?;
        let began = clock::monotonic_ns();
        file.sync_data()?;
        slowest = slowest.max(clock::monotonic_ns().saturating_sub(began));
    }
    Ok(slowest)
}

fn clock() -> Finding {
    let (verdict, found) = match clock::is_synchronised() {
        true => (Verdict::Good, "synchronised"),
        false => (Verdict::Warning, "not synchronised"),
    };
    let remedy = "run an NTP client; until then, time between boots of the host is not counted";
    Finding::new("wall clock", verdict, found, remedy)
}

fn descriptors() -> Finding {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let verdict = if most >= DESCRIPTORS_WANTED { Verdict::Good } else { Verdict::Warning };
    let found = if most == u64::MAX { "unlimited".into() } else { format!("at most {most}") };
    Finding::new("descriptors", verdict, found, "LimitNOFILE=65536: a machine takes four")
}

async fn daemon(global: &Global) -> Finding {
    let matter = "daemon";
    let client = match global.client() {
        Ok(client) => client,
        Err(error) => {
            let remedy = "name a daemon with --url or --context";
            return Finding::new(matter, Verdict::Warning, format!("{error:#}"), remedy);
        }
    };
    let url = client.url();
    let asked = client.get::<Health>(&["health"], &[]).await;
    match asked {
        Ok(health) if health.alerts > 0 => Finding::new(
            matter,
            Verdict::Warning,
            format!("{} quarantined policies", health.alerts),
            "`tallyman policy status` says which",
        ),
        Ok(health) => {
            let found = format!("{url} answers, version {}", health.version);
            Finding::new(matter, Verdict::Good, found, "")
        }
        Err(error) if is_nobody(&error) => Finding::new(
            matter,
            Verdict::Warning,
            format!("none answers at {url}"),
            "start one: tallyman serve",
        ),
        // It is there, and what it lacks is no matter of this host.
        Err(error) => Finding::new(
            matter,
            Verdict::Warning,
            format!("{url} answers: {error:#}"),
            "its log says why; is it of this version?",
        ),
    }
}
