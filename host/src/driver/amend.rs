//! Changes of what is on record of an instance and moves no phase: its labels, what it does by itself, and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::oneshot;

use super::Fleet;
use super::create::check_tags;
use super::error::FleetError;
use super::health::{self, HealthCheck};
use super::idle::{self, AutoStandby};
use super::record::{Expiry, Record, Schedule, StoredRestartPolicy, View};
use super::slot::Order;
use super::snapshot::next_due;
use super::task::{Task, refused};
use crate::billing::InstanceFact;
use crate::id::{InstanceId, SnapshotName, TenantId};
use crate::limits::{restart, snapshot};
use crate::units::Instant;
use crate::vm::{RestartMode, RestartPolicy, State};

/// What is to be changed; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendment {
    /// All labels from now on.
    pub tags: Option<BTreeMap<String, String>>,
    /// How it is started again after an end that nobody asked for.
    pub restart: Option<RestartPolicy>,
    /// When its time is over; `Some(None)` for never.
    pub expiry: Option<Option<Expiry>>,
    /// When its snapshots are taken by themselves; `Some(None)` for never.
    pub schedule: Option<Option<Schedule>>,
    /// How it is found out whether its workload is well; `Some(None)` for not at all.
    pub health: Option<Option<HealthCheck>>,
    /// When it goes to standby by itself; `Some(None)` for never.
    pub auto_standby: Option<Option<AutoStandby>>,
}

impl Fleet {
    /// Changes what is on record of an instance; answers when it is durable.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn amend(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        amendment: Amendment,
    ) -> Result<Arc<View>, FleetError> {
        check(&amendment, self.now())?;
        let slot = self.slot(tenant, id)?;
        let (reply, answer) = oneshot::channel();
        let (host, owned) = (self.0.clone(), slot.clone());
        slot.send(Order::Amend { amendment: amendment.into(), reply }, |orders| {
            tokio::spawn(Task::new(host, owned, orders).run());
        })?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }
}

/// Whether all is inside its limits that does not depend on the instance.
fn check(amendment: &Amendment, now: Instant) -> Result<(), FleetError> {
    let Amendment { tags, restart, expiry, schedule, health: _, auto_standby: _ } = amendment;
    tags.as_ref().map_or(Ok(()), check_tags)?;
    restart.as_ref().map_or(Ok(()), check_restart)?;
    expiry.flatten().map_or(Ok(()), |expiry| check_expiry(expiry, now))?;
    schedule.as_ref().and_then(Option::as_ref).map_or(Ok(()), check_schedule)
}

/// Whether a restart policy is inside its limits.
pub(super) fn check_restart(policy: &RestartPolicy) -> Result<(), FleetError> {
    let rows = [
        ("restart_policy.backoff", policy.backoff_ms, 1, restart::FIRST_BACKOFF_MS_MAX),
        ("restart_policy.stable_after", policy.stable_after_ms, 1, restart::STABLE_AFTER_MS_MAX),
    ];
    rows.into_iter().try_for_each(within)
}

/// Whether an expiry is still to come.
pub(super) fn check_expiry(expiry: Expiry, now: Instant) -> Result<(), FleetError> {
    if expiry.at_ns > now.0 {
        return Ok(());
    }
    Err(FleetError::Invalid { field: "expires_at", problem: "is past; give an instant to come, or a ttl".into() })
}

fn check_schedule(schedule: &Schedule) -> Result<(), FleetError> {
    let Schedule { interval_ms, jitter_ms, keep, prefix, compress: _ } = schedule;
    let kept_max = u64::try_from(snapshot::KEPT_MAX).unwrap_or(u64::MAX);
    let rows = [
        ("interval", *interval_ms, snapshot::INTERVAL_MS_MIN, snapshot::INTERVAL_MS_MAX),
        ("jitter", *jitter_ms, 0, *interval_ms),
    ];
    rows.into_iter().try_for_each(within)?;
    if !(1..=kept_max).contains(&u64::from(*keep)) {
        let problem = format!("must be 1 to {kept_max}, is {keep}");
        return Err(FleetError::Invalid { field: "retention.max_count", problem });
    }
    if prefix.len() > snapshot::PREFIX_CHARS_MAX {
        let problem = format!("at most {} characters, are {}", snapshot::PREFIX_CHARS_MAX, prefix.len());
        return Err(FleetError::Invalid { field: "name_prefix", problem });
    }
    prefix.parse::<SnapshotName>().map(drop).map_err(FleetError::from)
}

pub(super) fn within((field, value, least, most): (&'static str, u64, u64, u64)) -> Result<(), FleetError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(FleetError::Invalid { field, problem: format!("must be {least} to {most} ms, is {value} ms") })
}

impl Task {
    /// Changes the record. Each change is a fact.
    pub(super) async fn amend(&mut self, amendment: Amendment) -> Result<(), FleetError> {
        if self.live.state == State::Deleted {
            return Err(FleetError::NotFound { key: self.record.id.to_string() });
        }
        amendment.health.iter().flatten().try_for_each(|check| health::check(check, &*self.host.prober))?;
        let hypervisor = self.hypervisor()?;
        amendment.auto_standby.iter().flatten().try_for_each(|auto| idle::check(auto, hypervisor.describe()))?;
        let before = (self.live.clone(), self.record.clone());
        let changes = self.take_over(amendment)?;
        if changes.is_empty() {
            return Ok(());
        }
        let at = self.reading(self.now());
        let facts = changes.into_iter().map(|change| (at.clone(), change)).collect();
        if let Err(error) = self.commit(facts).await {
            (self.live, self.record) = before;
            return Err(refused(error));
        }
        Ok(())
    }

    fn take_over(&mut self, amendment: Amendment) -> Result<Vec<InstanceFact>, FleetError> {
        let Amendment { tags, restart, expiry, schedule, health, auto_standby } = amendment;
        let mut changes = Vec::new();
        if let Some(tags) = tags {
            changes.push(amended("tags", &tags)?);
            self.change_record(|record| record.spec.tags = tags);
        }
        if let Some(restart) = restart {
            changes.push(amended("restart_policy", &StoredRestartPolicy(restart))?);
            self.change_record(|record| record.spec.restart = restart);
            if restart.mode == RestartMode::Never {
                self.live.restarts.due_ns = None;
            }
        }
        if let Some(expiry) = expiry {
            changes.push(amended("expiry", &expiry)?);
            self.change_record(|record| record.spec.expiry = expiry);
        }
        if let Some(schedule) = schedule {
            changes.push(amended("snapshot_schedule", &schedule)?);
            self.live.snapshot_due_ns =
                schedule.as_ref().and_then(|schedule| next_due(schedule, self.host.clock.now()));
            self.change_record(|record| record.spec.schedule = schedule);
        }
        if let Some(health) = health {
            changes.push(amended("health_check", &health)?);
            self.watched = None;
            self.change_record(|record| record.spec.health = health);
        }
        if let Some(auto_standby) = auto_standby {
            changes.push(amended("auto_standby", &auto_standby)?);
            self.idle = None;
            self.change_record(|record| record.spec.auto_standby = auto_standby);
        }
        Ok(changes)
    }

    /// Changes the record; the next commit stores it.
    pub(super) fn change_record(&mut self, change: impl FnOnce(&mut Record)) {
        change(Arc::make_mut(&mut self.record));
    }
}

fn amended(field: &str, value: &impl Serialize) -> Result<InstanceFact, FleetError> {
    let value = serde_json::to_string(value).map_err(|error| FleetError::Bug(error.to_string()))?;
    Ok(InstanceFact::Amended { field: field.into(), value })
}
