//! Read access to a journal for proofs: beside the daemon's writer, or without a daemon.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;

use super::copies::CopyStores;
use super::entry::{Activation, Head, StoredGap, StoredInstance, StoredInvoice, StoredPrices};
use super::error::{ReadError, VerifyError};
use super::hosts::{self, Hosts};
use super::period::{self, SpanQuery};
use super::read::{self, Readers};
use super::schema::{int, uint, uint_or_null};
use super::single::{self, fact};
use super::verify::{LostLog, database};
use super::wire::ChainedFact;
use crate::billing::life::Life;
use crate::billing::{About, Change, Fact, Heard, TenantFact};
use crate::id::{Digest, HostName, InstanceId, TenantId};
use crate::tenant::Plan;
use crate::units::Instant;

/// A reader of a journal. Prices, policies and documents are read from the facts themselves; the
/// derived tables only locate them.
#[derive(Debug, Clone)]
pub struct Archive {
    readers: Arc<Readers>,
    /// Copies of hosts' journals beside this one.
    hosts: Arc<Hosts>,
    /// The durable end, published by the writer of this process; none if the file was opened
    /// without one.
    durable: Option<watch::Receiver<Head>>,
}

impl Archive {
    pub(super) fn of(
        readers: Arc<Readers>,
        hosts: Arc<Hosts>,
        durable: watch::Receiver<Head>,
    ) -> Self {
        Self { readers, hosts, durable: Some(durable) }
    }

    /// Opens a database file, or the one in a data folder, for reading. A daemon may be writing to
    /// it.
    ///
    /// # Errors
    /// [`VerifyError::NotAJournal`], [`VerifyError::Database`].
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        let (path, _) = database(path, LostLog::Refused)?;
        let hosts = Arc::new(Hosts::beside(&path));
        Ok(Self { readers: Arc::new(Readers::new(path)), hosts, durable: None })
    }

    /// Reads segments that are not in the data folder from their copies, from now on.
    pub fn reach(&self, stores: Arc<dyn CopyStores>) {
        self.readers.store.reach(stores);
    }

    /// Returns the end of the journal now.
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

    /// Returns the sequence number and hash of a fact; none if there is no such fact.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn place_of(&self, seq: u64) -> Result<Option<Head>, ReadError> {
        single::place_of(&self.readers, seq)
    }

    /// Returns a fact with its hash, as it was recorded; none if there is no such fact.
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
            if let Some((fact, link)) = self.readers.store.fact(db, seq)? {
                return Ok(Some(ChainedFact { fact, hash: link.to_string() }));
            }
            let page = read::facts(db, &self.readers.store, &query)?;
            Ok(page.facts.into_iter().find(|chained| chained.fact.seq == seq))
        })
    }

    /// Returns the bytes of price books and components that are stored for a tenant, without those
    /// of these digests.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn stored_bytes(&self, tenant: &TenantId, without: &[Digest]) -> Result<u64, ReadError> {
        let sql = "SELECT
            (SELECT coalesce(sum(length(bytes)), 0) FROM document
             WHERE digest NOT IN (SELECT value FROM json_each(?2)) AND digest IN
             (SELECT digest FROM prices WHERE tenant = ?1 UNION
              SELECT body ->> '$.digest' FROM tenant_fact JOIN fact ON seq = tenant_fact.fact
              WHERE tenant_fact.tenant = ?1 AND body ->> '$.kind' = 'proposed')) +
            (SELECT coalesce(sum(length(bytes)), 0) FROM policy
             WHERE digest NOT IN (SELECT value FROM json_each(?2)) AND digest IN
             (SELECT digest FROM policy_fact JOIN fact ON seq = policy_fact.fact
              WHERE tenant = ?1 AND body ->> '$.kind' = 'policy-admitted'))";
        let without: Vec<String> = without.iter().map(|digest| format!("\"{digest}\"")).collect();
        let without = format!("[{}]", without.join(","));
        self.readers.with(|db| {
            let values = (tenant.as_str(), &without);
            Ok(db.prepare_cached(sql)?.query_row(values, |row| uint(row, 0))?)
        })
    }

    /// Returns every instance that a tenant ever had, deleted ones included, in order of creation.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instances_of(&self, tenant: &TenantId) -> Result<Vec<StoredInstance>, ReadError> {
        single::instances_of(&self.readers, tenant)
    }

    /// Returns an instance as it was last committed, deleted or not; none if the id is unknown.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instance(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, ReadError> {
        self.readers.with(|db| read::instance(db, instance))
    }

    /// Returns all facts of one instance, ascending, with their sequence numbers.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history(&self, instance: &InstanceId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history(db, &self.readers.store, instance))
    }

    /// The last news of each host that this journal's collector had up to a fact, sorted by name;
    /// empty on a host.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn heard(&self, through: u64) -> Result<Vec<Heard>, ReadError> {
        self.readers.with(|db| hosts::heard(db, through))
    }

    /// The instants up to which the hosts were heard, on this journal's scale, as of a fact.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn hosts_until(&self, through: u64) -> Result<BTreeMap<HostName, Instant>, ReadError> {
        let parts = hosts::parts(&self.readers, &self.hosts, through)?;
        Ok(parts.iter().map(hosts::Part::until).collect())
    }

    /// Returns an instance of some host that this journal's collector has heard of; none if there
    /// is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instance_of_hosts(
        &self,
        instance: &InstanceId,
    ) -> Result<Option<StoredInstance>, ReadError> {
        hosts::instance(&self.readers, &self.hosts, instance)
    }

    /// Returns whether a collector heard in `after..=through` of something that counts for a tenant
    /// before `until`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn is_news_of_hosts(
        &self,
        tenant: &TenantId,
        (after, through): (u64, u64),
        until: Instant,
    ) -> Result<bool, ReadError> {
        hosts::is_news(&self.readers, &self.hosts, tenant, (after, through), until)
    }

    /// The first instant of the tenant's first instance, as far as the facts up to `through` tell.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn first_of_instances(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Option<Instant>, ReadError> {
        let mut first = single::first_of_instances(&self.readers, tenant, through)?;
        for part in hosts::parts(&self.readers, &self.hosts, through)? {
            first = first.into_iter().chain(part.began(tenant)?).min();
        }
        Ok(first)
    }

    /// Visits the lives of a tenant's instances in a span, sorted by id, as of one state of the
    /// journal; at a collector, those of all hosts that it has heard of. What is read follows the
    /// span, not the histories.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn lives(
        &self,
        query: SpanQuery<'_>,
        mut visit: impl FnMut(Life) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let parts = hosts::parts(&self.readers, &self.hosts, query.through)?;
        if parts.is_empty() {
            return self.own_lives(query, visit);
        }
        let mut own = Vec::new();
        self.own_lives(query, |life| {
            own.push(life);
            ControlFlow::Continue(())
        })?;
        let _ = hosts::merge(&parts, own, query)?.into_iter().try_for_each(&mut visit);
        Ok(())
    }

    fn own_lives(
        &self,
        query: SpanQuery<'_>,
        visit: impl FnMut(Life) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let read = self.readers.with(|db| {
            let snapshot = db.unchecked_transaction()?;
            period::visit(&snapshot, &self.readers.store, query, visit)
        })?;
        self.readers.facts_read.fetch_add(read, Ordering::Relaxed);
        Ok(())
    }

    /// A fact up to which all were recorded by an instant: the last one, or, of those that are
    /// sealed, the last one of a segment; 0 if there is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn recorded_by(&self, at: Instant) -> Result<u64, ReadError> {
        self.readers.with(|db| period::recorded_by(db, at))
    }

    /// Facts that [`Archive::lives`] has read so far.
    pub fn facts_read(&self) -> u64 {
        self.readers.facts_read.load(Ordering::Relaxed)
    }

    /// Returns the activations of policies for a tenant, in the order of their facts.
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

    /// Returns the facts about a tenant's policies (admissions, activations, faults, moves),
    /// ascending, with their sequence numbers.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn policy_facts_of(&self, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| facts_of(db, "policy_fact", tenant))
    }

    /// Returns the activations of price books for a tenant, in the order of their facts.
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

    /// Returns the facts that decide how a tenant is billed, and those of its invoices, ascending,
    /// with their sequence numbers.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn facts_of_tenant(&self, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.located(OF_TENANT, tenant)
    }

    /// Returns the facts about a tenant's proposals, ascending. No bill depends on them.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn proposals_of(&self, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.located(PROPOSALS, tenant)
    }

    fn located(&self, sql: &str, tenant: &TenantId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| {
            let mut statement = db.prepare_cached(sql)?;
            let found = statement.query_map([tenant.as_str()], fact)?;
            let found = found.collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
            let mut found = found?;
            found.retain(|(_, fact)| fact.tenant == *tenant);
            Ok(found)
        })
    }

    /// Returns the sequence numbers of all facts of a tenant up to one that are about no instance,
    /// ascending.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn own_facts(&self, tenant: &TenantId, through: u64) -> Result<Vec<u64>, ReadError> {
        let sql = "SELECT fact FROM tenant_fact WHERE tenant = ?1 AND fact <= ?2 ORDER BY fact";
        self.readers.with(|db| {
            let mut statement = db.prepare_cached(sql)?;
            let found = statement.query_map((tenant.as_str(), int(through)), |row| uint(row, 0))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns the facts of an instance with a sequence number greater than `after`, ascending.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history_after(
        &self,
        instance: &InstanceId,
        after: u64,
    ) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history_after(db, &self.readers.store, instance, after))
    }

    /// Returns the facts of an instance with a sequence number greater than `after`, ascending, and
    /// all of those that happened before `before`; later ones may be left out. Segments without
    /// such facts are not read.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history_between(
        &self,
        instance: &InstanceId,
        after: u64,
        before: Instant,
    ) -> Result<Vec<(u64, Fact)>, ReadError> {
        let store = &self.readers.store;
        self.readers.with(|db| read::history_between(db, store, instance, (after, before)))
    }

    /// Returns the changes of a tenant's policy or prices, activations and withdrawals, in the
    /// order of their facts. [`Timeline::with`](crate::billing::Timeline::with) applies them.
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

    /// The last fact that set or withdrew the prices of any tenant; 0 without one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn last_change_of_prices(&self) -> Result<u64, ReadError> {
        let sql = "SELECT max((SELECT coalesce(max(fact), 0) FROM prices),
                              (SELECT coalesce(max(fact), 0) FROM withdrawal))";
        self.readers.with(|db| Ok(db.prepare_cached(sql)?.query_row([], |row| uint(row, 0))?))
    }

    /// Returns a tenant's invoices and corrections, in the order of their facts.
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

    /// Returns the readings of the wall clock at each start of the daemon and after each step, as
    /// (sequence number of the fact, instant on the meter clock, wall clock in ns since 1970),
    /// ascending.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn calendar(&self) -> Result<Vec<(u64, Instant, i64)>, ReadError> {
        single::calendar(&self.readers)
    }

    /// Returns the times between two boots of which only the minimum is known, ascending.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn gaps(&self) -> Result<Vec<StoredGap>, ReadError> {
        let sql = "SELECT gap.fact, meter_ns, reason, claimed_ns, counted_ns, gap_settled.fact \
                   FROM gap LEFT JOIN gap_settled ON gap = gap.fact ORDER BY gap.fact";
        self.readers.with(|db| {
            let gap = |row: &rusqlite::Row<'_>| {
                Ok(StoredGap {
                    fact: uint(row, 0)?,
                    until: Instant(row.get(1)?),
                    reason: row.get(2)?,
                    claimed_ns: row.get(3)?,
                    counted_ns: uint(row, 4)?,
                    settled: uint_or_null(row, 5)?,
                })
            };
            Ok(db.prepare_cached(sql)?.query_map([], gap)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns the bytes of a price book or an invoice; none if no document has this digest.
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

    /// Returns the bytes of a component; none if none was recorded under this digest.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn policy_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        self.readers.with(|db| read::policy_bytes(db, digest))
    }
}

/// Locates the facts that decide how a tenant is billed.
const OF_TENANT: &str = "
    WITH own (seq) AS (
      SELECT created FROM tenant WHERE id = ?1
      UNION SELECT changed FROM tenant WHERE id = ?1 AND changed IS NOT NULL
      UNION SELECT fact FROM policy_fact WHERE tenant = ?1
      UNION SELECT fact FROM prices WHERE tenant = ?1
      UNION SELECT fact FROM withdrawal WHERE tenant = ?1
      UNION SELECT fact FROM rule_fact WHERE tenant = ?1
      UNION SELECT fact FROM invoice WHERE tenant = ?1
    )
    SELECT fact.seq, fact.body FROM own JOIN fact USING (seq) ORDER BY fact.seq";

/// Locates the facts about a tenant's proposals.
const PROPOSALS: &str = "
    SELECT fact.seq, fact.body FROM tenant_fact JOIN fact ON fact.seq = tenant_fact.fact
    WHERE tenant_fact.tenant = ?1 AND fact.body ->> '$.kind' IN ('proposed', 'proposal-ended')
    ORDER BY fact.seq";

/// Returns the facts of a tenant that a derived table points at, ascending. The table locates them;
/// their content is read from the facts.
fn facts_of(
    db: &Connection,
    table: &str,
    tenant: &TenantId,
) -> Result<Vec<(u64, Fact)>, ReadError> {
    let sql = format!(
        "SELECT fact.seq, fact.body FROM {table} JOIN fact ON fact.seq = {table}.fact \
         WHERE {table}.tenant = ?1 ORDER BY fact.seq"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let found = statement
        .query_map([tenant.as_str()], fact)?
        .collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
    let mut found = found?;
    found.retain(|(_, fact)| fact.tenant == *tenant);
    Ok(found)
}
