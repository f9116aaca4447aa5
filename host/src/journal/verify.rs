//! Proof that a journal is whole: every link, every text, every rule.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::chain::Chain;
use super::entry::{Head, Row};
use super::error::{Damage, Flaw, Place, VerifyError};
use super::schema::{self, int, uint_or_null};
use super::wire::FactRecord;
use crate::billing::{About, Counted, Entered, Fact, TenantFact};
use crate::id::{InstanceId, TenantId};
use crate::tenant::Move;
use crate::vm::{self, Event, Phase, State};

/// A journal that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its end. Whoever has noted this at another place can tell later whether the end was cut off.
    pub head: Head,
    /// Instances, deleted ones included.
    pub instances: u64,
}

/// Facts between two calls of `progress`.
const PROGRESS_FACTS: u64 = 10_000;

/// Proves a journal, given its data folder or file: beside a running daemon or without one. Blocking; memory grows with the instances that
/// are not deleted, not with the facts.
///
/// `progress` hears how many facts of how many are checked.
///
/// # Errors
/// [`VerifyError::Damaged`] with the first place that is wrong.
pub fn verify(path: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Verified, VerifyError> {
    let mut checked = || {
        let (_, db) = database(path)?;
        // One snapshot for all questions.
        let snapshot = db.unchecked_transaction()?;
        let verified = verify_facts(&snapshot, &mut progress)?;
        Ok(verified)
    };
    checked().map_err(|error| match error {
        VerifyError::Database(source) => match schema::damage(&source) {
            Some(damage) => VerifyError::Damaged(damage),
            None => VerifyError::Database(source),
        },
        VerifyError::Damaged(_) | VerifyError::NotAJournal { .. } => error,
    })
}

/// Opens the database at a path, or in a folder, for reading.
pub(super) fn database(path: &Path) -> Result<(PathBuf, Connection), VerifyError> {
    let path = if path.is_dir() { path.join(schema::FILE) } else { path.to_owned() };
    let db = schema::open_reader(&path)?;
    let header = schema::header(&db)?;
    if header.application_id != schema::APPLICATION_ID || header.version != schema::VERSION {
        let (application_id, version) = (header.application_id, header.version);
        return Err(VerifyError::NotAJournal { path, application_id, version });
    }
    Ok((path, db))
}

fn verify_facts(db: &Connection, progress: &mut impl FnMut(u64, u64)) -> Result<Verified, VerifyError> {
    let total: u64 = db.query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| schema::uint(row, 0))?;
    let mut chain = Chain::after(Head::EMPTY);
    let mut lives = Lives::default();
    let mut tally = Tally::default();
    let mut statement = db.prepare("SELECT seq, hash, body FROM fact ORDER BY seq")?;
    let mut rows = statement.query([])?;
    loop {
        let at = chain.head().seq;
        let next = rows.next().map_err(|error| place_of(error, at + 1))?;
        let Some(row) = next else { break };
        let record = super::open::step(&mut chain, row)?.map_err(VerifyError::Damaged)?;
        let fact = Fact::try_from(&record).map_err(|error| {
            let flaw = Flaw::Text(error.to_string());
            VerifyError::Damaged(Damage { place: Place::Fact(record.seq), flaw })
        })?;
        if let About::Tenant(about) = &fact.about {
            check_row_of(db, about, &fact.tenant, record.seq)?;
            tally.step(about);
        }
        lives.step(db, &record, &fact.about)?;
        if record.seq % PROGRESS_FACTS == 0 {
            progress(record.seq, total);
        }
    }
    progress(total, total);
    let instances = lives.finish(db)?;
    tally.finish(db)?;
    Ok(Verified { head: chain.head(), instances })
}

/// An engine that can't read on has at least said after which fact.
fn place_of(error: rusqlite::Error, seq: u64) -> VerifyError {
    match schema::damage(&error) {
        Some(Damage { flaw, .. }) => VerifyError::Damaged(Damage { place: Place::Fact(seq), flaw }),
        None => VerifyError::Database(error),
    }
}

/// What is known of one instance while its facts pass by.
#[derive(Debug)]
struct Life {
    last_fact: u64,
    last_ns: i64,
    phase: Option<Phase>,
}

/// The instances that are not deleted.
#[derive(Debug)]
struct Lives {
    open: HashMap<InstanceId, Life>,
    deleted: u64,
    lawful: Lawful,
}

impl Default for Lives {
    fn default() -> Self {
        Self { open: HashMap::new(), deleted: 0, lawful: Lawful::new() }
    }
}

impl Lives {
    fn step(&mut self, db: &Connection, record: &FactRecord, about: &About) -> Result<(), VerifyError> {
        let wrong = |flaw| VerifyError::Damaged(Damage { place: Place::Fact(record.seq), flaw });
        if record.meter_ns > record.recorded_ns {
            let (meter_ns, recorded_ns) = (record.meter_ns, record.recorded_ns);
            return Err(wrong(Flaw::FromTheFuture { meter_ns, recorded_ns }));
        }
        let About::Instance(id, fact) = about else {
            return match record.previous {
                None => Ok(()),
                found => Err(wrong(Flaw::Previous { found, expected: None })),
            };
        };
        let life = self.open.remove(id);
        let counted = fact.counts();
        let phase = self.next(life.as_ref(), record, counted).map_err(wrong)?;
        if counted == Some(Counted::Ends) {
            self.deleted += 1;
            return check_record(db, id.as_str(), record.seq, Some(record.seq));
        }
        let life = Life { last_fact: record.seq, last_ns: record.meter_ns, phase };
        self.open.insert(id.clone(), life);
        Ok(())
    }

    /// The phase after a fact.
    fn next(&self, life: Option<&Life>, record: &FactRecord, counted: Option<Counted>) -> Result<Option<Phase>, Flaw> {
        let expected = life.map(|life| life.last_fact);
        if record.previous != expected {
            return Err(Flaw::Previous { found: record.previous, expected });
        }
        if let Some(life) = life.filter(|life| record.meter_ns < life.last_ns) {
            return Err(Flaw::MeterBackwards { meter_ns: record.meter_ns, before_ns: life.last_ns });
        }
        let from = life.and_then(|life| life.phase);
        match counted {
            Some(Counted::Enters(Entered { phase: to, .. })) if self.lawful.allows(from, to) => Ok(Some(to)),
            Some(Counted::Enters(Entered { phase: to, .. })) => Err(Flaw::Phase { from, to }),
            Some(Counted::Ends) | None => Ok(from),
        }
    }

    /// Each record must have its facts, as each fact had its record. Answers how many instances there are.
    fn finish(self, db: &Connection) -> Result<u64, VerifyError> {
        for (instance, life) in &self.open {
            check_record(db, instance.as_str(), life.last_fact, None)?;
        }
        let sql = "SELECT count(*) FROM instance JOIN live USING (row) WHERE last_fact IS NOT NULL";
        let instances = db.query_row(sql, [], |row| schema::uint(row, 0))?;
        let known = self.open.len() as u64 + self.deleted;
        if instances == known {
            return Ok(instances);
        }
        let flaw = Flaw::Disagrees(format!("{instances} records have facts, {known} instances occur in facts"));
        Err(VerifyError::Damaged(Damage { place: Place::Table { table: "instance", key: "*".into() }, flaw }))
    }
}

/// The record of an instance must name its last fact, and its deletion.
fn check_record(db: &Connection, id: &str, last: u64, deleted: Option<u64>) -> Result<(), VerifyError> {
    let found = db
        .prepare_cached("SELECT row, last_fact, deleted FROM instance JOIN live USING (row) WHERE id = ?1")?
        .query_row([id], |row| Ok((schema::uint(row, 0)?, uint_or_null(row, 1)?, uint_or_null(row, 2)?)))
        .optional()?;
    let wrong = |place, flaw| Err(VerifyError::Damaged(Damage { place, flaw }));
    let Some((row, found_last, found_deleted)) = found else {
        let flaw = Flaw::Disagrees("the instance has no record".into());
        return wrong(Place::Table { table: "instance", key: id.into() }, flaw);
    };
    if found_last != Some(last) {
        return wrong(Place::Instance(Row(row)), Flaw::LastFact { found: found_last, expected: Some(last) });
    }
    if found_deleted != deleted {
        return wrong(Place::Instance(Row(row)), Flaw::Deletion { found: found_deleted, expected: deleted });
    }
    Ok(())
}

/// A fact about a policy, a tenant or a token must have its row in the table that the host reads.
fn check_row_of(db: &Connection, fact: &TenantFact, tenant: &TenantId, seq: u64) -> Result<(), VerifyError> {
    let tenant = tenant.as_str();
    let row = int(seq);
    let exists = |sql, values: &[&dyn rusqlite::ToSql]| db.prepare_cached(sql)?.exists(values);
    if let TenantFact::PolicyAdmitted { digest, .. }
    | TenantFact::PolicyActivated { digest, .. }
    | TenantFact::PolicyFaulted { digest, .. }
    | TenantFact::PolicyMoved(Move { digest, .. }) = fact
    {
        let sql = "SELECT 1 FROM policy_fact WHERE tenant = ?1 AND digest = ?2 AND fact = ?3";
        if !exists(sql, &[&tenant, &digest.to_string(), &row])? {
            return Err(no_row("policy_fact", digest.to_string(), seq));
        }
    }
    let (table, key, found) = match fact {
        TenantFact::PolicyActivated { digest, from, .. } => {
            let sql = "SELECT 1 FROM activation WHERE fact = ?1 AND tenant = ?2 AND from_ns = ?3 AND digest = ?4";
            ("activation", seq.to_string(), exists(sql, &[&row, &tenant, &from.0, &digest.to_string()])?)
        }
        TenantFact::PolicyAdmitted { digest, size_bytes, .. } => {
            let sql = "SELECT 1 FROM policy WHERE digest = ?1 AND length(bytes) = ?2";
            ("policy", digest.to_string(), exists(sql, &[&digest.to_string(), &int(*size_bytes)])?)
        }
        TenantFact::Created { .. } => {
            let sql = "SELECT 1 FROM tenant WHERE id = ?1 AND created = ?2";
            ("tenant", tenant.to_owned(), exists(sql, &[&tenant, &row])?)
        }
        TenantFact::Changed { .. } => {
            let sql = "SELECT 1 FROM tenant WHERE id = ?1 AND changed >= ?2";
            ("tenant", tenant.to_owned(), exists(sql, &[&tenant, &row])?)
        }
        TenantFact::TokenCreated { token, .. } => {
            // The id is the beginning of the hash, so that another secret can't be put in its place.
            let sql = "SELECT 1 FROM token WHERE id = ?1 AND created = ?2 AND lower(hex(substr(secret, 1, 12))) = id";
            ("token", token.to_string(), exists(sql, &[&token.to_string(), &row])?)
        }
        TenantFact::TokenRevoked { token, .. } => {
            let sql = "SELECT 1 FROM token WHERE id = ?1 AND revoked <= ?2";
            ("token", token.to_string(), exists(sql, &[&token.to_string(), &row])?)
        }
        TenantFact::PricesActivated { digest, from, .. } => {
            let sql = "SELECT 1 FROM prices JOIN document USING (digest)
                       WHERE fact = ?1 AND tenant = ?2 AND from_ns = ?3 AND digest = ?4";
            ("prices", seq.to_string(), exists(sql, &[&row, &tenant, &from.0, &digest.to_string()])?)
        }
        TenantFact::PlanWithdrawn { plan, digest, from, .. } => {
            let sql = "SELECT 1 FROM withdrawal
                       WHERE fact = ?1 AND tenant = ?2 AND plan = ?3 AND from_ns = ?4 AND digest = ?5";
            let values: [&dyn rusqlite::ToSql; 5] = [&row, &tenant, &plan.as_str(), &from.0, &digest.to_string()];
            ("withdrawal", seq.to_string(), exists(sql, &values)?)
        }
        TenantFact::Invoiced { number, digest, .. } => {
            let sql = "SELECT 1 FROM invoice JOIN document USING (digest)
                       WHERE fact = ?1 AND tenant = ?2 AND number = ?3 AND digest = ?4";
            ("invoice", seq.to_string(), exists(sql, &[&row, &tenant, &int(*number), &digest.to_string()])?)
        }
        TenantFact::PolicyFaulted { .. } | TenantFact::PolicyMoved(_) => return Ok(()),
    };
    if found { Ok(()) } else { Err(no_row(table, key, seq)) }
}

fn no_row(table: &'static str, key: String, fact: u64) -> VerifyError {
    let flaw = Flaw::Disagrees(format!("fact {fact} has no such row"));
    VerifyError::Damaged(Damage { place: Place::Table { table, key }, flaw })
}

/// How many facts there are of those that a table has one row for each.
#[derive(Debug, Default)]
struct Tally {
    tenants: u64,
    tokens: u64,
    revoked: u64,
    activations: u64,
    prices: u64,
    withdrawals: u64,
    invoices: u64,
}

impl Tally {
    fn step(&mut self, fact: &TenantFact) {
        let count = match fact {
            TenantFact::Created { .. } => &mut self.tenants,
            TenantFact::TokenCreated { .. } => &mut self.tokens,
            TenantFact::TokenRevoked { .. } => &mut self.revoked,
            TenantFact::PolicyActivated { .. } => &mut self.activations,
            TenantFact::PricesActivated { .. } => &mut self.prices,
            TenantFact::PlanWithdrawn { .. } => &mut self.withdrawals,
            TenantFact::Invoiced { .. } => &mut self.invoices,
            TenantFact::PolicyAdmitted { .. }
            | TenantFact::PolicyFaulted { .. }
            | TenantFact::PolicyMoved(_)
            | TenantFact::Changed { .. } => return,
        };
        *count += 1;
    }

    /// Each fact has its row, so that a row more has no fact: somebody gave a token, a tenant, rules, prices or an invoice to the host behind the journal's back.
    fn finish(self, db: &Connection) -> Result<(), VerifyError> {
        let rows = [
            ("tenant", "SELECT count(*) FROM tenant", self.tenants),
            ("token", "SELECT count(*) FROM token", self.tokens),
            ("token", "SELECT count(*) FROM token WHERE revoked IS NOT NULL", self.revoked),
            ("activation", "SELECT count(*) FROM activation", self.activations),
            ("prices", "SELECT count(*) FROM prices", self.prices),
            ("withdrawal", "SELECT count(*) FROM withdrawal", self.withdrawals),
            ("invoice", "SELECT count(*) FROM invoice", self.invoices),
        ];
        for (table, sql, facts) in rows {
            let rows = db.query_row(sql, [], |row| schema::uint(row, 0))?;
            if rows != facts {
                let flaw = Flaw::Disagrees(format!("{rows} rows, {facts} facts"));
                return Err(VerifyError::Damaged(Damage { place: Place::Table { table, key: "*".into() }, flaw }));
            }
        }
        Ok(())
    }
}

/// Which phase can follow which: some event leads from a state of the one to a state of the other, or only the shape changed.
#[derive(Debug)]
struct Lawful([[bool; Phase::ALL.len()]; Phase::ALL.len()]);

impl Lawful {
    fn new() -> Self {
        let mut table = [[false; Phase::ALL.len()]; Phase::ALL.len()];
        for phase in Phase::ALL {
            table[phase as usize][phase as usize] = true;
        }
        for (state, event) in State::ALL.into_iter().flat_map(|state| Event::ALL.map(|event| (state, event))) {
            let to = vm::apply(state, event).ok().and_then(State::phase);
            if let (Some(from), Some(to)) = (state.phase(), to) {
                table[from as usize][to as usize] = true;
            }
        }
        Self(table)
    }

    fn allows(&self, from: Option<Phase>, to: Phase) -> bool {
        match from {
            // A fork begins as what it is a copy of.
            None => matches!(to, Phase::Created | Phase::Standby | Phase::Stopped),
            Some(from) => self.0[from as usize][to as usize],
        }
    }
}
