//! Reading over several journals: beside the journal of a collector lie its copies of hosts'
//! journals.
//!
//! The part of each copy that counts at a fact of the collector's journal is said by the facts
//! `host-heard` before it, so that everything that is made from a collector's facts up to a place
//! can be made again. Each host has a meter clock and a calendar of its own: an instant is taken
//! from the one scale to the other through UTC.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row, params};

use super::entry::StoredInstance;
use super::error::{Damage, Flaw, Place, ReadError};
use super::period::{self, SpanQuery};
use super::read::{self, Readers};
use super::schema::{self, int};
use super::single::{calendar_of, facts_in, first_of_instances, instances_of, place_of};
use crate::billing::calendar::Calendar;
use crate::billing::life::{CountedFact, Life, Opening};
use crate::billing::{About, Counted, Entered, Heard, HostFact};
use crate::id::{HostName, InstanceId, TenantId};
use crate::units::Instant;
use crate::vm::Phase;

/// The folder of a collector's copies, each in a folder of the host's name.
const FOLDER: &str = "hosts";

/// The folder of a collector's copies, beside its own database or in its data folder.
pub fn hosts_folder(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

/// Readers of the copies that lie beside a journal.
#[derive(Debug)]
pub(super) struct Hosts {
    folder: PathBuf,
    readers: Mutex<BTreeMap<HostName, Arc<Readers>>>,
}

impl Hosts {
    pub(super) fn beside(database: &Path) -> Self {
        let folder = hosts_folder(database.parent().unwrap_or(Path::new("")));
        Self { folder, readers: Mutex::default() }
    }

    fn of(&self, host: &HostName) -> Arc<Readers> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let path = || self.folder.join(host.as_str()).join(schema::FILE);
        let found = readers.entry(host.clone()).or_insert_with(|| Arc::new(Readers::new(path())));
        found.clone()
    }
}

/// The last news of each host up to a fact, sorted by the host's name.
pub(super) fn heard(db: &Connection, through: u64) -> Result<Vec<Heard>, ReadError> {
    let sql = "SELECT fact.seq, fact.body FROM heard JOIN fact ON fact.seq = heard.fact
               WHERE heard.fact IN (SELECT max(fact) FROM heard WHERE fact <= ?1 GROUP BY host)
               ORDER BY heard.host";
    let facts = facts_in(db, sql, params![int(through)])?;
    let told = facts.into_iter().filter_map(|(_, fact)| match fact.about {
        About::Host(HostFact::Heard(heard)) => Some(heard),
        _ => None,
    });
    Ok(told.collect())
}

/// The part of a host's journal that counts at a fact of the collector's.
pub(super) struct Part {
    heard: Heard,
    readers: Arc<Readers>,
    /// The host's calendar.
    own: Calendar,
    /// The collector's calendar.
    fleet: Calendar,
}

/// The parts of all hosts, as of a fact of the collector's journal; none on a host.
pub(super) fn parts(
    readers: &Readers,
    hosts: &Hosts,
    through: u64,
) -> Result<Vec<Part>, ReadError> {
    let heard = readers.with(|db| heard(db, through))?;
    if heard.is_empty() {
        return Ok(Vec::new());
    }
    let fleet = calendar_of(readers, through)?;
    heard.into_iter().map(|heard| Part::new(hosts, heard, fleet.clone())).collect()
}

impl Part {
    /// Checks that the copy holds the fact that the collector's fact names.
    fn new(hosts: &Hosts, heard: Heard, fleet: Calendar) -> Result<Self, ReadError> {
        let readers = hosts.of(&heard.host);
        let place = place_of(&readers, heard.seq)?;
        if place.map(|place| place.hash.0) != Some(heard.link.0) {
            let text = format!("fact {} has not the link that was heard", heard.seq);
            return Err(damaged(&heard.host, text));
        }
        let own = calendar_of(&readers, heard.seq)?;
        Ok(Self { heard, readers, own, fleet })
    }

    fn to_fleet(&self, at: Instant) -> Instant {
        self.fleet.meter(self.own.utc_ns(at))
    }

    fn to_host(&self, at: Instant) -> Instant {
        self.own.meter(self.fleet.utc_ns(at))
    }

    /// The lives of a tenant's instances of this host, on the collector's scale.
    fn lives(&self, query: SpanQuery<'_>) -> Result<Vec<Life>, ReadError> {
        let start = self.to_host(query.start);
        let end = self.to_host(query.end).max(start);
        let span = SpanQuery { tenant: query.tenant, start, end, through: self.heard.seq };
        let mut lives = Vec::new();
        self.readers.with(|db| {
            let snapshot = db.unchecked_transaction()?;
            let ranks = self.ranks(&snapshot, query.tenant)?;
            period::visit(&snapshot, &self.readers.store, span, |life| {
                let first_fact = ranks.get(life.id.as_str()).copied().unwrap_or_default();
                lives.push(self.placed(Life { first_fact, ..life }, query));
                ControlFlow::Continue(())
            })
        })?;
        Ok(lives)
    }

    /// The instants of first facts on the collector's scale, by instance: numbers of different
    /// journals have no order among each other.
    fn ranks(&self, db: &Connection, tenant: &TenantId) -> Result<HashMap<String, u64>, ReadError> {
        let sql = "SELECT id, first_ns FROM instance WHERE tenant = ?1 AND first_ns IS NOT NULL";
        let rank = |row: &Row<'_>| {
            let first = self.to_fleet(Instant(row.get(1)?));
            Ok((row.get(0)?, u64::try_from(first.0).unwrap_or_default()))
        };
        let mut statement = db.prepare_cached(sql)?;
        let ranks = statement.query_map([tenant.as_str()], rank)?;
        Ok(ranks.collect::<rusqlite::Result<_>>()?)
    }

    /// A life on the collector's scale. Where a step of a wall clock would turn two instants
    /// around, they become one. After the last news of the host, time is `unknown`.
    fn placed(&self, life: Life, query: SpanQuery<'_>) -> Life {
        let mut last = Instant(i64::MIN);
        let mut place = |at: Instant| {
            last = last.max(self.to_fleet(at));
            last
        };
        let opening = life.opening.map(|open| Opening {
            boot_began: place(open.boot_began),
            at: place(open.at).min(query.start),
            ..open
        });
        let told = life.counted.into_iter().map(|(seq, at, counted)| (seq, place(at), counted));
        let mut told: Vec<CountedFact> = told.collect();
        let open = match (told.last(), &opening) {
            (Some(&(seq, _, Counted::Enters(entered))), _) => Some((seq, entered)),
            (None, Some(open)) => Some((open.fact, open.entered)),
            (Some(_), _) | (None, None) => None,
        };
        if let Some((seq, entered)) = open.filter(|(_, entered)| entered.phase != Phase::Unknown) {
            let unknown = Entered { phase: Phase::Unknown, cause: None, ..entered };
            told.push((seq, place(self.heard.until), Counted::Enters(unknown)));
        }
        let mut placed = Life { opening, counted: Vec::new(), ..life };
        for (seq, at, counted) in told {
            if at <= query.start {
                placed.opening = Opening::after(placed.opening.as_ref(), seq, at, counted);
            } else if at <= query.end {
                placed.counted.push((seq, at, counted));
            }
        }
        placed
    }

    /// The host, and the instant up to which it was heard, on the collector's scale.
    pub(super) fn until(&self) -> (HostName, Instant) {
        (self.heard.host.clone(), self.to_fleet(self.heard.until))
    }

    /// The first instant of the tenant on this host, on the collector's scale.
    pub(super) fn began(&self, tenant: &TenantId) -> Result<Option<Instant>, ReadError> {
        let first = first_of_instances(&self.readers, tenant, self.heard.seq)?;
        Ok(first.map(|at| self.to_fleet(at)))
    }

    /// Returns whether the host has told something since `before` that counts before `until`.
    fn is_news(
        &self,
        before: Option<&Heard>,
        tenant: &TenantId,
        until: Instant,
    ) -> Result<bool, ReadError> {
        let after = before.map_or(0, |before| before.seq);
        let instances = instances_of(&self.readers, tenant)?;
        let has_time_known = before.is_some_and(|before| {
            before.until < self.heard.until && self.to_fleet(before.until) < until
        });
        for instance in instances.iter().filter(|one| one.last_fact.is_some()) {
            let may_go_on = instance.deleted.is_none_or(|deleted| deleted > after);
            if has_time_known && may_go_on {
                return Ok(true);
            }
            if instance.last_fact <= Some(after) {
                continue;
            }
            let store = &self.readers.store;
            let recent =
                self.readers.with(|db| read::history_after(db, store, &instance.id, after))?;
            let counts = recent.iter().any(|(seq, fact)| {
                *seq <= self.heard.seq
                    && fact.counts().is_some()
                    && self.to_fleet(fact.at.meter) < until
            });
            if counts {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns whether a fact of some host became known in `after..=through` of the collector's
/// journal that counts before `until`.
pub(super) fn is_news(
    readers: &Readers,
    hosts: &Hosts,
    tenant: &TenantId,
    (after, through): (u64, u64),
    until: Instant,
) -> Result<bool, ReadError> {
    let parts = parts(readers, hosts, through)?;
    if parts.is_empty() {
        return Ok(false);
    }
    let before = readers.with(|db| heard(db, after))?;
    for part in parts {
        let before = before.iter().find(|before| before.host == part.heard.host);
        if before != Some(&part.heard) && part.is_news(before, tenant, until)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds the lives of hosts to those of the journal itself, sorted by id.
pub(super) fn merge(
    parts: &[Part],
    mut lives: Vec<Life>,
    query: SpanQuery<'_>,
) -> Result<Vec<Life>, ReadError> {
    for part in parts {
        lives.extend(part.lives(query)?);
    }
    lives.sort_by(|one, other| one.id.cmp(&other.id));
    match lives.windows(2).find(|pair| pair[0].id == pair[1].id) {
        None => Ok(lives),
        Some(pair) => {
            let text = format!("instance {} is told of by two journals", pair[0].id);
            let table = "instance";
            let key = pair[0].id.to_string();
            let place = Place::Table { table, key };
            Err(ReadError::Damaged(Damage { place, flaw: Flaw::Disagrees(text) }))
        }
    }
}

/// An instance of some host; none if no host has it.
pub(super) fn instance(
    readers: &Readers,
    hosts: &Hosts,
    id: &InstanceId,
) -> Result<Option<StoredInstance>, ReadError> {
    for heard in readers.with(|db| heard(db, u64::MAX))? {
        let found = hosts.of(&heard.host).with(|db| read::instance(db, id))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn damaged(host: &HostName, text: String) -> ReadError {
    let place = Place::Table { table: "heard", key: host.to_string() };
    ReadError::Damaged(Damage { place, flaw: Flaw::Disagrees(text) })
}
