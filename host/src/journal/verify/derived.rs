//! The derived tables, filled again in a temporary database and compared row by row.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::Value;
use rusqlite::{Connection, Row as SqlRow};
use sha2::Digest as _;

use super::super::error::{Flaw, VerifyError, wrong, wrong_row};
use super::super::schema;
use super::super::tables::{self, DERIVED, Milestone};
use super::super::wire::FactRecord;
use crate::billing::{HostFact, TenantFact};
use crate::id::Digest;
use crate::tenant::Plan;

/// The first bytes of a component.
const COMPONENT: &[u8] = b"\0asm";

/// The expected content of the derived tables, by the facts so far.
pub(super) struct Derived<'a> {
    db: &'a Connection,
    /// Set for a copy of another host's journal: files of segments, secrets, components and
    /// documents stay on that host.
    is_replica: bool,
    again: Connection,
    /// The offset of the meter clock in ns, by boot id.
    offsets: BTreeMap<String, i64>,
    components: BTreeSet<Digest>,
    documents: BTreeSet<Digest>,
}

impl<'a> Derived<'a> {
    pub(super) fn new(db: &'a Connection) -> Result<Self, VerifyError> {
        // A database without a name is in memory as far as it fits the cache, and spills to a file
        // that is unlinked.
        let again = Connection::open("")?;
        again.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
        schema::upgrade(&again, 0, |_| Ok(()))?;
        again.execute_batch("BEGIN")?;
        let mut boots = db.prepare("SELECT boot_id, offset_ns FROM boot")?;
        let boots = boots.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let offsets = boots.collect::<rusqlite::Result<_>>()?;
        let is_replica = schema::is_replica(db)?;
        Ok(Self {
            db,
            is_replica,
            again,
            offsets,
            components: BTreeSet::new(),
            documents: BTreeSet::new(),
        })
    }

    pub(super) fn host(&mut self, fact: &HostFact, record: &FactRecord) -> Result<(), VerifyError> {
        self.check_clock(record)?;
        if self.is_replica && fact.is_of_a_segment() {
            return Ok(());
        }
        tables::index_host(&self.again, fact, record).map_err(|error| twice(error, record.seq))
    }

    pub(super) fn tenant(
        &mut self,
        fact: &TenantFact,
        record: &FactRecord,
    ) -> Result<(), VerifyError> {
        self.check_clock(record)?;
        match fact {
            TenantFact::PolicyAdmitted { digest, .. } => drop(self.components.insert(*digest)),
            TenantFact::PricesActivated { digest, .. }
            | TenantFact::TariffPublished { digest, .. }
            | TenantFact::Invoiced { digest, .. } => {
                self.documents.insert(*digest);
            }
            TenantFact::Overridden { book, .. } => self.documents.extend(*book),
            TenantFact::Proposed { plan: Plan::Prices, digest, .. } => {
                self.documents.insert(*digest);
            }
            TenantFact::PolicyActivated { .. }
            | TenantFact::PolicyFaulted { .. }
            | TenantFact::PolicyMoved(_)
            | TenantFact::PlanWithdrawn { .. }
            | TenantFact::AgreementChanged { .. }
            | TenantFact::TariffDefault { .. }
            | TenantFact::TariffJoined { .. }
            | TenantFact::OneOff { .. }
            | TenantFact::Proposed { plan: Plan::Policy, .. }
            | TenantFact::ProposalEnded { .. }
            | TenantFact::Created { .. }
            | TenantFact::Changed { .. }
            | TenantFact::TokenCreated { .. }
            | TenantFact::TokenRevoked { .. } => {}
        }
        tables::index_tenant(&self.again, fact, record).map_err(|error| twice(error, record.seq))
    }

    pub(super) fn milestone(
        &mut self,
        milestone: Milestone,
        record: &FactRecord,
    ) -> Result<(), VerifyError> {
        tables::write_milestone(&self.again, milestone, record)
            .map_err(|error| twice(error, record.seq))
    }

    /// Checks the instant of a fact of the host or a tenant against the meter of its boot. The
    /// instants of an instance's facts may be later: they never go back.
    fn check_clock(&self, record: &FactRecord) -> Result<(), VerifyError> {
        let offset = self.offsets.get(&record.boot);
        let expected = record.meter_ns.saturating_sub_unsigned(record.boottime_ns);
        match offset {
            Some(&offset) if offset == expected => Ok(()),
            Some(offset) => {
                let text = format!(
                    "its offset is {offset} ns; by fact {} it is {expected} ns",
                    record.seq
                );
                Err(wrong_row("boot", &record.boot, text))
            }
            None => {
                Err(wrong_row("boot", &record.boot, format!("fact {} has no such row", record.seq)))
            }
        }
    }

    pub(super) fn finish(self) -> Result<(), VerifyError> {
        for (table, columns) in DERIVED {
            self.compare(table, columns)?;
        }
        if !self.is_replica {
            self.check_secrets()?;
            self.check_bytes("policy", &self.components)?;
            self.check_bytes("document", &self.documents)?;
        }
        self.check_copies()?;
        self.check_single("alive")?;
        self.check_single("session")?;
        self.check_alive()
    }

    /// Refuses a second row in a table of one row.
    fn check_single(&self, table: &'static str) -> Result<(), VerifyError> {
        let sql = format!("SELECT count(*) FROM {table} WHERE one != 1");
        match self.db.query_row(&sql, [], |row| row.get::<_, i64>(0))? {
            0 => Ok(()),
            _ => Err(wrong_row(table, "*", "it has more than its one row")),
        }
    }

    fn compare(&self, table: &'static str, columns: &str) -> Result<(), VerifyError> {
        let width = columns.split(", ").count();
        let order = (1..=width).map(|column| column.to_string()).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {columns} FROM {table} ORDER BY {order}");
        let mut found = self.db.prepare(&sql)?;
        let mut found = found.query([])?;
        let mut told = self.again.prepare(&sql)?;
        let mut told = told.query([])?;
        loop {
            let found = found.next()?.map(|row| cells(row, width)).transpose()?;
            let told = told.next()?.map(|row| cells(row, width)).transpose()?;
            match (found, told) {
                (None, None) => return Ok(()),
                (Some(found), Some(told)) if found == told => {}
                (found, told) => return Err(differs(table, columns, found, told)),
            }
        }
    }

    /// Checks that each copy of a segment is one of the segments that facts tell of.
    fn check_copies(&self) -> Result<(), VerifyError> {
        let mut told = self.again.prepare("SELECT 1 FROM segment WHERE digest = ?1")?;
        let mut statement = self.db.prepare("SELECT digest, bytes FROM segment_copy")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let is = Digest::of(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
            if is.to_string() != name {
                return Err(wrong_row(
                    "segment_copy",
                    name,
                    format!("its bytes are those of {is}"),
                ));
            }
            if !told.exists([&name])? {
                return Err(wrong_row("segment_copy", name, "no fact tells of it"));
            }
        }
        Ok(())
    }

    /// Checks that each token's id is the first 12 bytes of the hash of its secret, so that a
    /// secret can't be replaced.
    fn check_secrets(&self) -> Result<(), VerifyError> {
        let sql = "SELECT id FROM token \
                   WHERE length(secret) != 32 OR lower(hex(substr(secret, 1, 12))) != id";
        let mut statement = self.db.prepare(sql)?;
        let mut rows = statement.query([])?;
        match rows.next()? {
            None => Ok(()),
            Some(row) => Err(wrong_row(
                "token",
                row.get::<_, String>(0)?,
                "the hash of its secret is another token's",
            )),
        }
    }

    /// Checks that each component and document has the digest it is stored under, that a fact names
    /// it, and that no named one is missing. The components that made documents are stored among
    /// the documents; receipts in the documents name them, and no fact does.
    fn check_bytes(&self, table: &'static str, told: &BTreeSet<Digest>) -> Result<(), VerifyError> {
        let mut missing = told.clone();
        let mut statement = self.db.prepare(&format!("SELECT digest, bytes FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let is = Digest(sha2::Sha256::digest(bytes).into());
            if is.to_string() != name {
                return Err(wrong_row(table, name, format!("its bytes are those of {is}")));
            }
            let made_documents = table == "document" && bytes.starts_with(COMPONENT);
            if !missing.remove(&is) && !made_documents {
                return Err(wrong_row(table, name, "no fact names it"));
            }
        }
        match missing.first() {
            None => Ok(()),
            Some(digest) => {
                Err(wrong_row(table, digest.to_string(), "a fact names it, but it is not there"))
            }
        }
    }

    /// Checks that the liveness record is a reading of the meter of its boot.
    fn check_alive(&self) -> Result<(), VerifyError> {
        let mut statement = self.db.prepare("SELECT boot_id, boottime_ns, meter_ns FROM alive")?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(()) };
        let boot: String = row.get(0)?;
        let boottime_ns: i64 = row.get(1)?;
        let meter_ns: i64 = row.get(2)?;
        let offset = self.offsets.get(&boot).copied();
        if offset == Some(meter_ns.saturating_sub(boottime_ns)) {
            return Ok(());
        }
        Err(wrong_row("alive", "1", format!("it is not a reading of the meter in boot {boot}")))
    }
}

fn cells(row: &SqlRow<'_>, width: usize) -> rusqlite::Result<Vec<Value>> {
    (0..width).map(|column| row.get(column)).collect()
}

/// Describes the first rows that differ: if their keys differ, the row with the smaller key is in
/// one table only.
fn differs(
    table: &'static str,
    columns: &str,
    found: Option<Vec<Value>>,
    told: Option<Vec<Value>>,
) -> VerifyError {
    let key = |row: &Vec<Value>| row.first().map(text).unwrap_or_default();
    match (found, told) {
        (Some(found), Some(told)) if found.first() == told.first() => {
            let pairs = columns.split(", ").zip(found.iter().zip(&told));
            let differing = pairs.filter(|(_, (found, told))| found != told);
            let differing = differing.map(|(column, (found, told))| {
                format!("{column} is {}, by the facts it is {}", text(found), text(told))
            });
            wrong_row(table, key(&found), differing.collect::<Vec<_>>().join("; "))
        }
        (Some(found), told) if told.as_ref().is_none_or(|told| comes_before(&found, told)) => {
            wrong_row(table, key(&found), "no fact accounts for this row")
        }
        (_, Some(told)) => {
            wrong_row(table, key(&told), "by the facts this row must exist, but it is not there")
        }
        (found, None) => wrong_row(
            table,
            found.as_ref().map(key).unwrap_or_default(),
            "no fact accounts for this row",
        ),
    }
}

fn comes_before(one: &[Value], other: &[Value]) -> bool {
    match (one.first(), other.first()) {
        (Some(Value::Integer(one)), Some(Value::Integer(other))) => one < other,
        (Some(Value::Text(one)), Some(Value::Text(other))) => one < other,
        _ => false,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => hex::encode(bytes),
    }
}

/// Reports a fact whose row violates a unique key: it contradicts an earlier fact.
fn twice(error: rusqlite::Error, seq: u64) -> VerifyError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            wrong(seq, Flaw::Disagrees("it contradicts an earlier fact".into()))
        }
        _ => VerifyError::Database(error),
    }
}
