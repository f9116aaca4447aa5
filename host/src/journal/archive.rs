//! The journal as those read it who prove what it says: beside the daemon's writer, or without a
//! daemon at all.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow};
use tokio::sync::watch;

use super::entry::{Activation, FactHash, Head, StoredInstance, StoredInvoice, StoredPrices};
use super::error::{Damage, Flaw, Place, ReadError, VerifyError};
use super::read::{self, INSTANCE_COLUMNS, Readers, stored_instance};
use super::schema::{int, uint};
use super::verify::{LostLog, database};
use super::wire::{ChainedFact, FactRecord};
use crate::billing::{About, Change, Fact, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::tenant::Plan;
use crate::units::Instant;

/// A reader of a journal. What it tells of prices, policies and documents, it takes from the facts
/// themselves.
#[derive(Debug, Clone)]
pub struct Archive {
    readers: Arc<Readers>,
    /// The end that is durable, where a writer of this process tells it.
    durable: Option<watch::Receiver<Head>>,
}

/// A row of `seq, body`.
fn fact(row: &SqlRow<'_>) -> rusqlite::Result<Result<(u64, Fact), ReadError>> {
    let seq = uint(row, 0)?;
    let body = row.get_ref(1)?.as_str()?;
    Ok(read_fact(seq, body))
}

fn read_fact(seq: u64, body: &str) -> Result<(u64, Fact), ReadError> {
    let damaged = |text: String| {
        ReadError::Damaged(Damage { place: Place::Fact(seq), flaw: Flaw::Text(text) })
    };
    let record: FactRecord =
        serde_json::from_str(body).map_err(|error| damaged(error.to_string()))?;
    Fact::try_from(&record).map(|fact| (seq, fact)).map_err(|error| damaged(error.to_string()))
}

impl Archive {
    pub(super) fn of(readers: Arc<Readers>, durable: watch::Receiver<Head>) -> Self {
        Self { readers, durable: Some(durable) }
    }

    /// Opens a database, or that of a folder, for reading. A daemon may be writing to it.
    ///
    /// # Errors
    /// [`VerifyError::NotAJournal`], [`VerifyError::Database`].
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        let (path, _) = database(path, LostLog::Refused)?;
        Ok(Self { readers: Arc::new(Readers::new(path)), durable: None })
    }

    /// The end of the journal now.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn head(&self) -> Result<Head, ReadError> {
        if let Some(durable) = &self.durable {
            return Ok(*durable.borrow());
        }
        let last = self.readers.with(|db| {
            let last =
                db.query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| uint(row, 0))?;
            Ok(last)
        })?;
        Ok(self.place_of(last)?.unwrap_or(Head::EMPTY))
    }

    /// The place of a fact; none if there is no such fact.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn place_of(&self, seq: u64) -> Result<Option<Head>, ReadError> {
        if seq == 0 {
            return Ok(Some(Head::EMPTY));
        }
        self.readers.with(|db| {
            let hash: Option<Vec<u8>> = db
                .prepare_cached("SELECT hash FROM fact WHERE seq = ?1")?
                .query_row([int(seq)], |row| row.get(0))
                .optional()?;
            let hash = hash.and_then(|hash| hash.try_into().ok());
            Ok(hash.map(|hash| Head { seq, hash: FactHash(hash) }))
        })
    }

    /// A fact with its link, as it was hashed.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn fact(&self, seq: u64) -> Result<Option<ChainedFact>, ReadError> {
        self.readers.with(|db| {
            let query = read::FactQuery {
                after: seq.saturating_sub(1),
                limit: Some(1),
                ..read::FactQuery::default()
            };
            let page = read::facts(db, &query)?;
            Ok(page.facts.into_iter().find(|chained| chained.fact.seq == seq))
        })
    }

    /// Every instance that a tenant ever had, in the order in which they were made.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instances_of(&self, tenant: &TenantId) -> Result<Vec<StoredInstance>, ReadError> {
        self.readers.with(|db| {
            let sql = format!("{INSTANCE_COLUMNS} WHERE tenant = ?1 ORDER BY row");
            let mut statement = db.prepare_cached(&sql)?;
            let found = statement.query_map([tenant.as_str()], stored_instance)?;
            let found = found.collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
            found.map_err(ReadError::Damaged)
        })
    }

    /// An instance as it was last committed, deleted or not.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instance(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, ReadError> {
        self.readers.with(|db| read::instance(db, instance))
    }

    /// All facts of one instance, ascending, with their sequence numbers.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history(&self, instance: &InstanceId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history(db, instance))
    }

    /// The first fact of an instance.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn first(&self, instance: &InstanceId) -> Result<Option<(u64, Fact)>, ReadError> {
        self.readers.with(|db| Ok(read::beginning(db, instance, Some(1))?.pop()))
    }

    /// The policies that a tenant was put under, in the order of their facts.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn activations_of(&self, tenant: &TenantId) -> Result<Vec<Activation>, ReadError> {
        let facts = self.readers.with(|db| facts_of(db, "activation", tenant))?;
        let told = facts.into_iter().filter_map(|(seq, fact)| match fact.about {
            About::Tenant(TenantFact::PolicyActivated { digest, from, .. }) => {
                Some(Activation { tenant: fact.tenant, from, digest, fact: seq })
            }
            _ => None,
        });
        Ok(told.collect())
    }

    /// What a tenant's policies have been through, in the order of the facts.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn policy_facts_of(&self, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| facts_of(db, "policy_fact", tenant))
    }

    /// The price books that a tenant was charged by, in the order of their facts.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn books_of(&self, tenant: &TenantId) -> Result<Vec<StoredPrices>, ReadError> {
        let facts = self.readers.with(|db| facts_of(db, "prices", tenant))?;
        let told = facts.into_iter().filter_map(|(seq, fact)| match fact.about {
            About::Tenant(TenantFact::PricesActivated { digest, from, .. }) => {
                Some(StoredPrices { from, digest, fact: seq })
            }
            _ => None,
        });
        Ok(told.collect())
    }

    /// The facts of a tenant that say how it is billed, and its documents, in their order.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn facts_of_tenant(&self, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| {
            let mut statement = db.prepare_cached(OF_TENANT)?;
            let found = statement.query_map([tenant.as_str()], fact)?;
            let found = found.collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
            let mut found = found?;
            found.retain(|(_, fact)| fact.tenant == *tenant);
            Ok(found)
        })
    }

    /// The facts of an instance after a place in the journal, ascending.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history_after(
        &self,
        instance: &InstanceId,
        after: u64,
    ) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history_after(db, instance, after))
    }

    /// The changes of a tenant's policy, or of its prices, in the order of their facts: what was
    /// set, and what was withdrawn. [`Timeline::with`](crate::billing::Timeline::with) says what
    /// they come to.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn changes_of(
        &self,
        tenant: &TenantId,
        plan: Plan,
    ) -> Result<Vec<(u64, Change)>, ReadError> {
        let set = match plan {
            Plan::Policy => "activation",
            Plan::Prices => "prices",
        };
        let mut facts = self.readers.with(|db| facts_of(db, set, tenant))?;
        facts.extend(self.readers.with(|db| facts_of(db, "withdrawal", tenant))?);
        facts.sort_unstable_by_key(|&(seq, _)| seq);
        Ok(facts
            .iter()
            .filter_map(|(seq, fact)| Some((*seq, fact.of_tenant()?.changes(plan)?)))
            .collect())
    }

    /// The documents that a tenant was charged with, in the order of their facts.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn invoices_of(&self, tenant: &TenantId) -> Result<Vec<StoredInvoice>, ReadError> {
        let facts = self.readers.with(|db| facts_of(db, "invoice", tenant))?;
        let told = facts.into_iter().filter_map(|(seq, fact)| match fact.about {
            About::Tenant(TenantFact::Invoiced {
                number, digest, from, until, corrects, ..
            }) => Some(StoredInvoice { number, digest, from, until, corrects, fact: seq }),
            _ => None,
        });
        Ok(told.collect())
    }

    /// Where the wall clock stood at each start of the daemon and after each step: fact, instant,
    /// nanoseconds since 1970.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn calendar(&self) -> Result<Vec<(u64, Instant, i64)>, ReadError> {
        self.readers.with(|db| {
            let sql =
                "SELECT fact.seq, fact.body FROM calendar JOIN fact ON fact.seq = calendar.fact ORDER BY fact.seq";
            let mut statement = db.prepare_cached(sql)?;
            let found = statement.query_map([], fact)?.collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
            Ok(found?.into_iter().map(|(seq, fact)| (seq, fact.at.meter, fact.at.wall_ns)).collect())
        })
    }

    /// The bytes of a price book or an invoice.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        self.readers.with(|db| {
            let sql = "SELECT bytes FROM document WHERE digest = ?1";
            Ok(db
                .prepare_cached(sql)?
                .query_row([digest.to_string()], |row| row.get(0))
                .optional()?)
        })
    }

    /// The bytes of a component.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn policy_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        self.readers.with(|db| read::policy_bytes(db, digest))
    }
}

/// Where the facts of a tenant stand that say how it is billed.
const OF_TENANT: &str = "
    WITH own (seq) AS (
      SELECT created FROM tenant WHERE id = ?1
      UNION SELECT fact FROM policy_fact WHERE tenant = ?1
      UNION SELECT fact FROM prices WHERE tenant = ?1
      UNION SELECT fact FROM withdrawal WHERE tenant = ?1
      UNION SELECT fact FROM rule_fact WHERE tenant = ?1
      UNION SELECT fact FROM invoice WHERE tenant = ?1
    )
    SELECT fact.seq, fact.body FROM own JOIN fact USING (seq) ORDER BY fact.seq";

/// The facts of a tenant that a table points at. The table says where they are; what they say
/// stands in themselves.
fn facts_of(
    db: &Connection,
    table: &str,
    tenant: &TenantId,
) -> Result<Vec<(u64, Fact)>, ReadError> {
    let sql = format!(
        "SELECT fact.seq, fact.body FROM {table} JOIN fact ON fact.seq = {table}.fact WHERE {table}.tenant = ?1 ORDER BY fact.seq"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let found = statement
        .query_map([tenant.as_str()], fact)?
        .collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
    let mut found = found?;
    found.retain(|(_, fact)| fact.tenant == *tenant);
    Ok(found)
}
