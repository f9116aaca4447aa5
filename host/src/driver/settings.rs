//! The settings of an instance that change no phase, as the journal stores them, and their limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use futures::future::BoxFuture;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::error::{FleetError, failed};
use crate::hypervisor::{Capability, Description};
use crate::id::{InstanceName, SnapshotName, TenantId};
use crate::image::Image;
use crate::limits::{health, idle, instance, restart, snapshot};
use crate::units::{Instant, Nanos};
use crate::vm::{RestartMode, RestartPolicy, Shape};

/// The end of an instance's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// Instant of the act, in meter nanoseconds.
    pub at_ns: i64,
    /// The act that follows.
    pub action: ExpiryAction,
}

/// The act that ends an instance's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiryAction {
    /// The instance is deleted.
    #[default]
    Delete,
    /// The instance is stopped.
    Stop,
}

/// The schedule of an instance's automatic snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Time between two snapshots, in milliseconds.
    pub interval_ms: u64,
    /// Upper bound of the random delay of each, in milliseconds, so that not all instances of a
    /// host take theirs at once.
    pub jitter_ms: u64,
    /// Number of the schedule's newest snapshots that stay, 1 to [`snapshot::KEPT_MAX`].
    pub keep: u32,
    /// Age from which the schedule's snapshots are dropped, in milliseconds; none if they are kept
    /// by number alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms_max: Option<u64>,
    /// Prefix of the snapshots' names.
    pub prefix: String,
    /// Set if the memory is compressed afterwards.
    #[serde(default)]
    pub compress: bool,
    /// Labels of its snapshots.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Instant at which the instance got a schedule, in meter nanoseconds; none from an earlier
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ns: Option<i64>,
    /// Instant at which this schedule was set, in meter nanoseconds; none from an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_ns: Option<i64>,
}

impl Schedule {
    /// Instant at which the next snapshot is due after one at `now`, in meter nanoseconds; none
    /// past the end of the meter.
    pub(super) fn next_due(&self, now: Instant) -> Option<i64> {
        let jitter_ms = rand::rng().random_range(0..=self.jitter_ms);
        let wait_ms = self.interval_ms.saturating_add(jitter_ms);
        now.after(Nanos(wait_ms.saturating_mul(1_000_000))).map(|at| at.0)
    }
}

/// A restart policy as JSON.
#[derive(Serialize)]
pub(super) struct StoredRestartPolicy(
    #[serde(with = "RestartPolicyFields")] pub(super) RestartPolicy,
);

#[derive(Serialize, Deserialize)]
#[serde(remote = "RestartPolicy", deny_unknown_fields)]
pub(super) struct RestartPolicyFields {
    #[serde(with = "RestartModeText")]
    mode: RestartMode,
    backoff_ms: u64,
    attempts_max: Option<u32>,
    stable_after_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RestartMode", rename_all = "snake_case")]
enum RestartModeText {
    Never,
    Always,
    OnFailure,
}

/// The check of an instance's workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The question.
    pub probe: Probe,
    /// Time from an answer to the next probe, in milliseconds.
    pub interval_ms: u64,
    /// Time limit of an answer, in milliseconds.
    pub timeout_ms: u64,
    /// Number of failures in a row that make the workload unhealthy, 1 or more.
    pub failures_max: u32,
    /// Time after the launch in which failures do not count, in milliseconds.
    pub start_period_ms: u64,
}

/// A question to a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// The guest, on its console.
    Console {
        /// Text that is typed; may be empty.
        send: String,
        /// Text that the guest has to write after that.
        expect: String,
    },
    /// A TCP connection, which has to be accepted.
    Tcp {
        /// Address of the workload, as seen from this host.
        address: SocketAddr,
    },
    /// An HTTP server, with GET; healthy is a status of 200 to 399.
    Http {
        /// Address of the workload, as seen from this host.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
    /// A program in the guest, which its agent runs; healthy is an exit code of 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
        /// The folder to run it in; `/` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        working_dir: Option<String>,
    },
}

/// The seam to workloads. The composition root chooses the implementation.
pub trait Prober: Send + Sync {
    /// Checks that this probe can be made from this host.
    ///
    /// # Errors
    /// The reason for which it can't be made, and what is valid.
    fn admits(&self, probe: &Probe) -> Result<(), String>;

    /// Makes the probe; `folder` is the instance's. Has no deadline of its own: the caller drops
    /// the future.
    ///
    /// # Errors
    /// The fault of the answer, in words.
    fn ask<'a>(&'a self, folder: &'a Path, probe: &'a Probe) -> BoxFuture<'a, Result<(), String>>;
}

/// The share of its tenant's limits that an instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Disks, memories, snapshots and logs in bytes; a console and a log count as large as they may
    /// become.
    pub disk_bytes: u64,
}

impl Share {
    /// The share of an instance with this shape.
    pub fn of(shape: Shape) -> Self {
        let files = shape.disk_bytes.saturating_add(shape.snapshot_bytes);
        let disk_bytes = files.saturating_add(LOG_BYTES);
        Self { vcpus: shape.vcpus, memory_bytes: shape.memory_bytes, disk_bytes }
    }
}

/// Bytes that the console and the log of an instance's virtual machine monitor may take.
const LOG_BYTES: u64 = instance::CONSOLE_BYTES_MAX + instance::VMM_LOG_BYTES_MAX;

/// The guard of a reserved share: dropping it frees the share.
pub type Reservation = Box<dyn Send + Sync>;

/// The seam to the limits of tenants. The composition root chooses the implementation.
pub trait Quota: Send + Sync {
    /// Reserves `share` for the instance `name`, new or not, if its tenant may have that much.
    /// `there` returns the present shares of the tenant's instances; the implementation adds the
    /// reserved ones itself.
    ///
    /// # Errors
    /// [`FleetError::OverLimit`], with the limit that would be exceeded.
    fn reserve(
        &self,
        tenant: &TenantId,
        name: &InstanceName,
        share: Share,
        there: &dyn Fn() -> Vec<(InstanceName, Share)>,
    ) -> Result<Reservation, FleetError>;

    /// Counts a launch of a machine of a tenant.
    ///
    /// # Errors
    /// [`FleetError::TooFast`] if there were too many of late, or too many events.
    fn launch(&self, tenant: &TenantId) -> Result<(), FleetError>;
}

/// The condition under which an instance goes to standby by itself: nobody has reported activity
/// for a time, and its virtual machine monitor has used little of a processor in that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoStandby {
    /// Time without activity, in milliseconds.
    pub idle_after_ms: u64,
    /// Largest average use of one processor in that time, in thousandths.
    pub cpu_permille_max: u32,
}

/// The program that an instance of an OCI image runs instead of the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Variables beside the image's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// A change of settings; fields that are `None` stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendment {
    /// All labels from now on.
    pub tags: Option<BTreeMap<String, String>>,
    /// Policy of restarts after an exit that nobody asked for.
    pub restart: Option<RestartPolicy>,
    /// End of the instance's time; `Some(None)` for never.
    pub expiry: Option<Option<Expiry>>,
    /// Schedule of automatic snapshots; `Some(None)` for none.
    pub schedule: Option<Option<Schedule>>,
    /// Check of the workload's health; `Some(None)` for none.
    pub health: Option<Option<HealthCheck>>,
    /// Condition of an automatic standby; `Some(None)` for never.
    pub auto_standby: Option<Option<AutoStandby>>,
    /// The program that a stopped instance of an OCI image runs from its next start on.
    pub program: Option<Program>,
}

/// Checks all limits of an amendment that do not depend on the instance.
pub(super) fn check_amendment(amendment: &Amendment, now: Instant) -> Result<(), FleetError> {
    let Amendment { tags, restart, expiry, schedule, .. } = amendment;
    tags.as_ref().map_or(Ok(()), check_tags)?;
    restart.as_ref().map_or(Ok(()), check_restart)?;
    expiry.flatten().map_or(Ok(()), |expiry| check_expiry(expiry, now))?;
    schedule.as_ref().and_then(Option::as_ref).map_or(Ok(()), check_schedule)
}

/// Checks the limits of labels.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), FleetError> {
    let invalid = |problem| Err(FleetError::Invalid { field: "tags", problem });
    if tags.len() > instance::TAGS_MAX {
        return invalid(format!(
            "at most {} labels are possible, not {}",
            instance::TAGS_MAX,
            tags.len()
        ));
    }
    let wrong = tags.iter().find(|(name, value)| {
        name.is_empty() || name.len().max(value.len()) > instance::TAG_BYTES_MAX
    });
    match wrong {
        Some((name, _)) => invalid(format!(
            "a name must have 1 to {0} bytes and a value at most {0}; \
             that of '{1}' is longer or empty",
            instance::TAG_BYTES_MAX,
            name.chars().take(80).collect::<String>()
        )),
        None => Ok(()),
    }
}

/// Checks the limits of a restart policy.
pub(super) fn check_restart(policy: &RestartPolicy) -> Result<(), FleetError> {
    let rows = [
        (
            "restart_policy.backoff",
            policy.backoff_ms,
            restart::BACKOFF_MS_MIN,
            restart::FIRST_BACKOFF_MS_MAX,
        ),
        (
            "restart_policy.stable_after",
            policy.stable_after_ms,
            restart::STABLE_AFTER_MS_MIN,
            restart::STABLE_AFTER_MS_MAX,
        ),
    ];
    rows.into_iter().try_for_each(within)
}

/// Checks that an expiry is still to come.
pub(super) fn check_expiry(expiry: Expiry, now: Instant) -> Result<(), FleetError> {
    if expiry.at_ns > now.0 {
        return Ok(());
    }
    let problem = "is past; give an instant to come, or a ttl".into();
    Err(FleetError::Invalid { field: "expires_at", problem })
}

fn check_schedule(schedule: &Schedule) -> Result<(), FleetError> {
    let Schedule { interval_ms, jitter_ms, keep, age_ms_max, prefix, tags, .. } = schedule;
    check_tags(tags)?;
    let age = age_ms_max.unwrap_or(*interval_ms);
    let rows = [
        ("interval", *interval_ms, snapshot::INTERVAL_MS_MIN, snapshot::INTERVAL_MS_MAX),
        ("jitter", *jitter_ms, 0, *interval_ms),
        // A younger one would be dropped before the next is taken.
        ("retention.max_age", age, *interval_ms, snapshot::AGE_MS_MAX),
    ];
    rows.into_iter().try_for_each(within)?;
    check_keep("retention.max_count", *keep)?;
    if prefix.len() > snapshot::PREFIX_CHARS_MAX {
        let max = snapshot::PREFIX_CHARS_MAX;
        let problem = format!("must have at most {max} characters, not {}", prefix.len());
        return Err(FleetError::Invalid { field: "name_prefix", problem });
    }
    prefix.parse::<SnapshotName>().map(drop).map_err(FleetError::from)
}

/// Checks the number of snapshots of one kind that are to stay.
pub(super) fn check_keep(field: &'static str, keep: u32) -> Result<(), FleetError> {
    let kept_max = u64::try_from(snapshot::KEPT_MAX).unwrap_or(u64::MAX);
    if (1..=kept_max).contains(&u64::from(keep)) {
        return Ok(());
    }
    Err(FleetError::Invalid { field, problem: format!("must be 1 to {kept_max}, is {keep}") })
}

/// Checks that a health check is inside its limits and can be made from here.
pub(super) fn check_health(check: &HealthCheck, prober: &dyn Prober) -> Result<(), FleetError> {
    let HealthCheck { probe, interval_ms, timeout_ms, failures_max, start_period_ms } = check;
    let rows = [
        ("health_check.interval", *interval_ms, health::INTERVAL_MS_MIN, health::INTERVAL_MS_MAX),
        ("health_check.timeout", *timeout_ms, health::INTERVAL_MS_MIN, health::TIMEOUT_MS_MAX),
        ("health_check.start_period", *start_period_ms, 0, health::INTERVAL_MS_MAX),
    ];
    rows.into_iter().try_for_each(within)?;
    let invalid =
        |field, problem: &str| Err(FleetError::Invalid { field, problem: problem.into() });
    if *failures_max == 0 {
        return invalid("health_check.failure_threshold", "must be 1 or more");
    }
    match probe {
        Probe::Console { expect, .. } if expect.is_empty() => {
            return invalid(
                "health_check.console.expect",
                "must not be empty; give the text that the guest has to write",
            );
        }
        Probe::Console { send, expect }
            if send.len().max(expect.len()) > health::TEXT_BYTES_MAX =>
        {
            return invalid(
                "health_check.console",
                "send and expect may have at most 1024 bytes each",
            );
        }
        // A terminal may echo what is typed: a guest that hangs would be healthy.
        Probe::Console { send, expect } if send.contains(expect.as_str()) => {
            let problem = "may not be part of send, which a terminal may echo; \
                expect text that only the guest writes";
            return invalid("health_check.console.expect", problem);
        }
        Probe::Http { path, .. }
            if !path.starts_with('/') || path.len() > health::TEXT_BYTES_MAX =>
        {
            let problem = "must begin with '/' and have at most 1024 bytes";
            return invalid("health_check.http.path", problem);
        }
        Probe::Exec { command, working_dir }
            if command.first().is_none_or(String::is_empty)
                || command.iter().chain(working_dir).map(String::len).sum::<usize>()
                    > health::TEXT_BYTES_MAX
                || command.iter().chain(working_dir).any(|word| word.contains('\0'))
                || working_dir.as_ref().is_some_and(|folder| !folder.starts_with('/')) =>
        {
            let problem = "must name a program, with words of at most 1024 bytes together and no \
                           NUL; working_dir is an absolute path";
            return invalid("health_check.exec", problem);
        }
        Probe::Console { .. } | Probe::Tcp { .. } | Probe::Http { .. } | Probe::Exec { .. } => {}
    }
    prober.admits(probe).map_err(|why| FleetError::Unsupported(format!("health_check: {why}")))
}

/// Checks that auto-standby is inside its limits and that the hypervisor can do it.
pub(super) fn check_auto_standby(
    auto: &AutoStandby,
    hypervisor: &Description,
) -> Result<(), FleetError> {
    hypervisor.require(Capability::Snapshots).map_err(failed)?;
    within((
        "auto_standby.idle_after",
        auto.idle_after_ms,
        idle::AFTER_MS_MIN,
        idle::AFTER_MS_MAX,
    ))?;
    if auto.cpu_permille_max <= idle::CPU_PERMILLE_MAX {
        return Ok(());
    }
    let problem = format!("must be 0 to {}, is {}", idle::CPU_PERMILLE_MAX, auto.cpu_permille_max);
    Err(FleetError::Invalid { field: "auto_standby.cpu_permille", problem })
}

/// Checks that a guest of this image can have `bytes` bytes of memory.
pub(super) fn check_memory(
    field: &'static str,
    bytes: u64,
    image: &Image,
) -> Result<(), FleetError> {
    let least = image.manifest.memory_bytes_min.max(instance::MEMORY_BYTES_MIN);
    let most = instance::MEMORY_BYTES_MAX;
    if (least..=most).contains(&bytes) && bytes.is_multiple_of(1 << 20) {
        return Ok(());
    }
    let problem =
        format!("must be {least} to {most} bytes in whole MiB for this image, is {bytes}");
    Err(FleetError::Invalid { field, problem })
}

fn within((field, value, least, most): (&'static str, u64, u64, u64)) -> Result<(), FleetError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let problem = format!("must be {least} to {most} ms, is {value} ms");
    Err(FleetError::Invalid { field, problem })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_schedule_is_late_by_its_jitter_at_most_and_never_early() {
        let schedule = Schedule {
            interval_ms: 60_000,
            jitter_ms: 5_000,
            keep: 1,
            age_ms_max: None,
            prefix: "daily".into(),
            compress: false,
            tags: BTreeMap::new(),
            created_ns: None,
            updated_ns: None,
        };
        for _ in 0..1_000 {
            let due = schedule.next_due(Instant(7)).unwrap();
            assert!((60_000_000_007..=65_000_000_007).contains(&due), "{due}");
        }
        let never = Schedule { interval_ms: u64::MAX, ..schedule };
        assert_eq!(never.next_due(Instant(i64::MAX)), None);
    }
}
