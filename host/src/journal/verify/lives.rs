//! The histories of instances, checked against their records.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};

use super::super::account::decode;
use super::super::entry::Row;
use super::super::error::{Damage, Flaw, Place, VerifyError, wrong, wrong_row};
use super::super::schema::{self, int, uint_or_null};
use super::super::tables::{MILESTONE_FACTS, Milestone};
use super::super::wire::FactRecord;
use super::account::{Recount, degraded};
use crate::billing::account::Degraded;
use crate::billing::life::wakes;
use crate::billing::{About, Change, Counted, Entered, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::tenant::Plan;
use crate::units::Instant;
use crate::vm::{self, Event, Phase, State};

/// The state of one instance after the facts so far.
#[derive(Debug, Default)]
struct Life {
    tenant: String,
    facts: u64,
    last_fact: u64,
    last_ns: i64,
    phase: Option<Phase>,
    first: Option<(u64, i64)>,
    opened: Option<u64>,
    wakes: u32,
    time: Recount,
}

/// The state of all instances after the facts so far.
pub(super) struct Lives<'a> {
    db: &'a Connection,
    open: HashMap<InstanceId, Life>,
    deleted: u64,
    lawful: Lawful,
    /// The degraded accounts whose failed fact has not been reached, by instance id.
    degraded: HashMap<String, Degraded>,
    plain: &'a [Digest],
    /// The tenants that were under a policy that is not in `plain`.
    coloured: HashSet<TenantId>,
}

impl<'a> Lives<'a> {
    pub(super) fn new(db: &'a Connection, plain: &'a [Digest]) -> Result<Self, VerifyError> {
        Ok(Self {
            db,
            open: HashMap::new(),
            deleted: 0,
            lawful: Lawful::new(),
            degraded: degraded(db)?,
            plain,
            coloured: HashSet::new(),
        })
    }

    /// Notes the policy that a tenant is put under.
    pub(super) fn change_rules(&mut self, tenant: &TenantId, fact: &TenantFact) {
        if let Some(Change::Set { digest, .. }) = fact.changes(Plan::Policy)
            && !self.plain.contains(&digest)
        {
            self.coloured.insert(tenant.clone());
        }
    }

    /// Checks the next fact. Returns the milestone of its instance if the fact is one.
    pub(super) fn step(
        &mut self,
        record: &FactRecord,
        about: &About,
    ) -> Result<Option<Milestone>, VerifyError> {
        if record.meter_ns > record.recorded_ns {
            let meter_ns = record.meter_ns;
            let recorded_ns = record.recorded_ns;
            return Err(wrong(record.seq, Flaw::FromTheFuture { meter_ns, recorded_ns }));
        }
        let About::Instance(id, fact) = about else {
            return match record.previous {
                None => Ok(None),
                found => Err(wrong(record.seq, Flaw::Previous { found, expected: None })),
            };
        };
        let before = self.open.remove(id);
        self.check_order(before.as_ref(), record).map_err(|flaw| wrong(record.seq, flaw))?;
        let mut life =
            before.unwrap_or_else(|| Life { tenant: record.tenant.clone(), ..Life::default() });
        if life.tenant != record.tenant {
            let text = format!(
                "it names tenant {}, but the instance belongs to {}",
                record.tenant, life.tenant
            );
            return Err(wrong(record.seq, Flaw::Disagrees(text)));
        }
        life.facts += 1;
        life.last_fact = record.seq;
        life.last_ns = record.meter_ns;
        life.first.get_or_insert((record.seq, record.meter_ns));
        let counted = fact.counts();
        if let Some(counted) = counted {
            self.check_owed(id, &life, record.seq)?;
            let woken = life.phase.is_some_and(|phase| wakes(phase, counted.phase()));
            life.wakes = life.wakes.saturating_add(u32::from(woken));
            life.opened = Some(record.seq);
            life.phase =
                self.lawful.next(life.phase, counted).map_err(|flaw| wrong(record.seq, flaw))?;
            life.time.step(counted, Instant(record.meter_ns));
        }
        let row = match life.facts % MILESTONE_FACTS {
            0 => self.row(id)?,
            _ => None,
        };
        let milestone = row.map(|row| Milestone { row, wakes: life.wakes });
        if counted == Some(Counted::Ends) {
            self.deleted += 1;
            self.check_record(id, &life, Some(record.seq))?;
        } else {
            self.open.insert(id.clone(), life);
        }
        Ok(milestone)
    }

    fn check_order(&self, before: Option<&Life>, record: &FactRecord) -> Result<(), Flaw> {
        let expected = before.map(|life| life.last_fact);
        if record.previous != expected {
            return Err(Flaw::Previous { found: record.previous, expected });
        }
        match before.filter(|life| record.meter_ns < life.last_ns) {
            Some(life) => {
                Err(Flaw::MeterBackwards { meter_ns: record.meter_ns, before_ns: life.last_ns })
            }
            None => Ok(()),
        }
    }

    /// Checks a degraded account whose policy failed at this fact: it must resume from the time
    /// before.
    fn check_owed(&mut self, id: &InstanceId, life: &Life, seq: u64) -> Result<(), VerifyError> {
        if self.degraded.get(id.as_str()).is_none_or(|owed| owed.from_fact != seq) {
            return Ok(());
        }
        let owed = self.degraded.remove(id.as_str());
        match owed.and_then(|owed| life.time.degraded_differs(&owed)) {
            None => Ok(()),
            Some(text) => Err(wrong_row(
                "live",
                id.as_str(),
                format!("the degraded part of its account {text}"),
            )),
        }
    }

    fn row(&self, id: &InstanceId) -> Result<Option<Row>, VerifyError> {
        let sql = "SELECT row FROM instance WHERE id = ?1";
        let row = self
            .db
            .prepare_cached(sql)?
            .query_row([id.as_str()], |row| schema::uint(row, 0))
            .optional()?;
        Ok(row.map(Row))
    }

    /// Checks the records of the remaining instances, and that no record lacks its facts. Returns
    /// the number of instances, deleted ones included.
    pub(super) fn finish(self) -> Result<u64, VerifyError> {
        for (instance, life) in &self.open {
            self.check_record(instance, life, None)?;
        }
        if let Some((id, owed)) = self.degraded.iter().next() {
            let text = format!(
                "its account is degraded from fact {} on, which enters no phase of it",
                owed.from_fact
            );
            return Err(wrong_row("live", id, text));
        }
        let sql = "SELECT count(*) FROM instance JOIN live USING (row) WHERE last_fact IS NOT NULL";
        let instances = self.db.query_row(sql, [], |row| schema::uint(row, 0))?;
        let known = self.open.len() as u64 + self.deleted;
        if instances == known {
            return Ok(instances);
        }
        let text = format!("{instances} records name facts, but facts name {known} instances");
        Err(wrong_row("instance", "*", text))
    }

    /// Checks the record of an instance: tenant, last fact and its instant, deletion, and account.
    fn check_record(
        &self,
        id: &InstanceId,
        life: &Life,
        deleted: Option<u64>,
    ) -> Result<(), VerifyError> {
        let sql = "SELECT row, last_fact, deleted, last_ns, tenant, account, first_fact, first_ns, opened, wakes, facts
                   FROM instance JOIN live USING (row) WHERE id = ?1";
        let found = self.db.prepare_cached(sql)?.query_row([id.as_str()], |row| {
            let last_ns = row.get(3)?;
            let tenant = row.get(4)?;
            let account = row.get(5)?;
            Ok(Found {
                row: Row(schema::uint(row, 0)?),
                last_fact: uint_or_null(row, 1)?,
                deleted: uint_or_null(row, 2)?,
                last_ns,
                tenant,
                account,
                first: uint_or_null(row, 6)?.zip(row.get(7)?),
                opened: uint_or_null(row, 8)?,
                wakes: row.get(9)?,
                facts: schema::uint(row, 10)?,
            })
        });
        let Some(found) = found.optional()? else {
            return Err(wrong_row("instance", id.as_str(), "the instance has no record"));
        };
        let wrong =
            |flaw| Err(VerifyError::Damaged(Damage { place: Place::Instance(found.row), flaw }));
        if found.last_fact != Some(life.last_fact) {
            return wrong(Flaw::LastFact {
                found: found.last_fact,
                expected: Some(life.last_fact),
            });
        }
        if found.deleted != deleted {
            return wrong(Flaw::Deletion { found: found.deleted, expected: deleted });
        }
        if found.last_ns != Some(life.last_ns) {
            return wrong(Flaw::Disagrees(
                "it names another instant as that of its last fact".into(),
            ));
        }
        if found.tenant != life.tenant {
            return wrong(Flaw::Disagrees(format!(
                "it belongs to tenant {}; by the facts to {}",
                found.tenant, life.tenant
            )));
        }
        let named = (found.first, found.facts, found.opened, found.wakes);
        let told = (life.first, life.facts, life.opened, life.wakes);
        if named != told {
            let text = format!(
                "it names as its begin, number of facts, opening fact and wakes {named:?}, by the facts {told:?}"
            );
            return wrong(Flaw::Disagrees(text));
        }
        if deleted.is_none()
            && let Some(opened) = life.opened
            && !self
                .db
                .prepare_cached("SELECT 1 FROM fact WHERE seq = ?1")?
                .exists([int(opened)])?
        {
            let text = format!("the row of fact {opened}, which opened what is under way, is gone");
            return wrong(Flaw::Disagrees(text));
        }
        let Ok(account) = decode(&found.account) else {
            return wrong(Flaw::Malformed("its account can't be read".into()));
        };
        let is_plain = !self.plain.is_empty() && !self.is_coloured(&life.tenant);
        match life.time.differs(&account, is_plain) {
            None => Ok(()),
            Some(text) => wrong(Flaw::Disagrees(format!("its account {text}"))),
        }
    }

    fn is_coloured(&self, tenant: &str) -> bool {
        self.coloured.iter().any(|coloured| coloured.as_str() == tenant)
    }
}

/// The stored record of an instance.
struct Found {
    row: Row,
    last_fact: Option<u64>,
    deleted: Option<u64>,
    last_ns: Option<i64>,
    tenant: String,
    account: Vec<u8>,
    first: Option<(u64, i64)>,
    opened: Option<u64>,
    wakes: u32,
    facts: u64,
}

/// The table of phases that may follow each other: some event leads from a state of the one to a
/// state of the other, or only the shape changed.
#[derive(Debug)]
struct Lawful([[bool; Phase::ALL.len()]; Phase::ALL.len()]);

impl Lawful {
    fn new() -> Self {
        let mut table = [[false; Phase::ALL.len()]; Phase::ALL.len()];
        for phase in Phase::ALL {
            table[phase as usize][phase as usize] = true;
        }
        for (state, event) in
            State::ALL.into_iter().flat_map(|state| Event::ALL.map(|event| (state, event)))
        {
            let to = vm::apply(state, event).ok().and_then(State::phase);
            if let (Some(from), Some(to)) = (state.phase(), to) {
                table[from as usize][to as usize] = true;
            }
        }
        // The phase of a running machine is `unknown` while no daemon runs, until the next one
        // finds it, or finds that a restore did not come to run.
        for phase in [Phase::Initializing, Phase::Running, Phase::Paused, Phase::Standby] {
            table[Phase::Unknown as usize][phase as usize] = true;
        }
        table[Phase::Standby as usize][Phase::Unknown as usize] = true;
        Self(table)
    }

    /// Returns the phase after a fact that counts time.
    fn next(&self, from: Option<Phase>, counted: Counted) -> Result<Option<Phase>, Flaw> {
        match counted {
            Counted::Enters(Entered { phase: to, .. }) if self.allows(from, to) => Ok(Some(to)),
            Counted::Enters(Entered { phase: to, .. }) => Err(Flaw::Phase { from, to }),
            Counted::Ends => Ok(from),
        }
    }

    fn allows(&self, from: Option<Phase>, to: Phase) -> bool {
        match from {
            // A fork begins in the phase of its source.
            None => matches!(to, Phase::Created | Phase::Standby | Phase::Stopped),
            Some(from) => self.0[from as usize][to as usize],
        }
    }
}
