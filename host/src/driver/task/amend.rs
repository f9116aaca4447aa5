//! Changes of settings, which move no phase. Each change is a fact.

use serde::Serialize;

use super::Task;
use crate::billing::InstanceFact;
use crate::driver::error::{FleetError, refused};
use crate::driver::files::blocking;
use crate::driver::settings::{
    Amendment, Program, Schedule, StoredRestartPolicy, check_auto_standby, check_health,
};
use crate::vm::{RestartMode, State};

impl Task {
    /// Changes the settings.
    pub(super) async fn amend(&mut self, amendment: Amendment) -> Result<(), FleetError> {
        if self.state() == State::Deleted {
            return Err(FleetError::NotFound { key: self.recorder.record.id.to_string() });
        }
        for check in amendment.health.iter().flatten() {
            check_health(check, &*self.host.prober)?;
        }
        for auto in amendment.auto_standby.iter().flatten() {
            check_auto_standby(auto, self.recorder.hypervisor()?.describe())?;
        }
        if let Some(program) = &amendment.program {
            self.set_program(program).await?;
        }
        let before = (self.live().clone(), self.recorder.record.clone());
        let changes = self.apply(amendment)?;
        if changes.is_empty() {
            return Ok(());
        }
        let at = self.recorder.reading(self.recorder.now());
        let facts = changes.into_iter().map(|body| (at.clone(), body)).collect();
        if let Err(error) = self.recorder.commit(facts).await {
            (self.recorder.live, self.recorder.record) = before;
            return Err(refused(error));
        }
        Ok(())
    }

    fn apply(&mut self, amendment: Amendment) -> Result<Vec<InstanceFact>, FleetError> {
        let Amendment { tags, restart, expiry, schedule, health, auto_standby, program } =
            amendment;
        let mut changes = Vec::new();
        if let Some(tags) = tags {
            changes.push(amended("tags", &tags)?);
            self.recorder.change_record(|record| record.spec.tags = tags);
        }
        if let Some(restart) = restart {
            changes.push(amended("restart_policy", &StoredRestartPolicy(restart))?);
            self.recorder.change_record(|record| record.spec.restart = restart);
            if restart.mode == RestartMode::Never {
                self.recorder.live.restarts.due_ns = None;
            }
        }
        if let Some(expiry) = expiry {
            changes.push(amended("expiry", &expiry)?);
            self.recorder.change_record(|record| record.spec.expiry = expiry);
        }
        if let Some(schedule) = schedule {
            changes.push(amended("snapshot_schedule", &schedule)?);
            self.set_schedule(schedule);
        }
        if let Some(health) = health {
            changes.push(amended("health_check", &health)?);
            self.recorder.watch.probes = None;
            self.recorder.change_record(|record| record.spec.health = health);
        }
        if let Some(auto_standby) = auto_standby {
            changes.push(amended("auto_standby", &auto_standby)?);
            self.recorder.watch.active();
            self.recorder.change_record(|record| record.spec.auto_standby = auto_standby);
        }
        if let Some(program) = program {
            changes.push(amended("program", &program)?);
            self.recorder.change_record(|record| record.spec.program = program);
        }
        Ok(changes)
    }

    fn set_schedule(&mut self, schedule: Option<Schedule>) {
        let now = self.host.clock.now();
        self.recorder.live.snapshot_due_ns =
            schedule.as_ref().and_then(|schedule| schedule.next_due(now));
        self.recorder.change_record(|record| record.spec.schedule = schedule);
    }

    /// Writes the program of a stopped instance where its next start reads it.
    async fn set_program(&self, program: &Program) -> Result<(), FleetError> {
        if self.state() != State::Stopped {
            return Err(FleetError::Invalid {
                field: "cmd",
                problem: "a program is set while the instance is stopped".into(),
            });
        }
        let host = self.host.clone();
        let record = self.recorder.record.clone();
        let program = program.clone();
        blocking(move || host.rewrite_setup(&record, &program)).await
    }
}

fn amended(field: &str, value: &impl Serialize) -> Result<InstanceFact, FleetError> {
    let value = serde_json::to_string(value).map_err(|error| FleetError::Bug(error.to_string()))?;
    Ok(InstanceFact::Amended { field: field.into(), value })
}
