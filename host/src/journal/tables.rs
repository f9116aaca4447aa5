//! The derived tables: indexes of the facts that a start needs before it reads all facts.
//!
//! The writer fills them fact by fact; `verify` fills them anew in a database of its own, and
//! compares.

use rusqlite::{Connection, ToSql};

use super::entry::Row;
use super::schema::int;
use super::wire::FactRecord;
use crate::billing::{Archived, Heard, HostFact, Sealed, TenantFact};
use crate::id::Digest;
use crate::tenant::Move;

/// The derived tables, each with its derived columns, the key first.
pub(super) const DERIVED: [(&str, &str); 17] = [
    ("calendar", "fact, meter_ns, wall_ns"),
    ("gap", "fact, meter_ns, reason, claimed_ns, counted_ns"),
    ("gap_settled", "fact, gap"),
    ("policy_fact", "fact, tenant, digest"),
    ("tenant_fact", "fact, tenant"),
    ("tenant", "id, created, changed"),
    ("token", "id, created, revoked"),
    ("activation", "fact, tenant, from_ns, digest"),
    ("prices", "fact, tenant, from_ns, digest"),
    ("withdrawal", "fact, tenant, plan, from_ns, digest"),
    ("invoice", "fact, tenant, number, digest"),
    ("rule_fact", "fact, tenant"),
    ("segment", "fact, digest, first, last, before, link, recorded_ns, meter_ns, bytes"),
    ("segment_archived", "fact, digest, store, object"),
    ("segment_pruned", "fact, digest"),
    ("heard", "fact, host, upto, link, until_ns"),
    ("milestone", "fact, row, meter_ns, wakes"),
];

/// Number of facts of an instance from one milestone to the next: reading its history from anywhere
/// walks no further back than this.
pub(super) const MILESTONE_FACTS: u64 = 64;

/// Indexes a fact of the host.
pub(super) fn index_host(
    db: &Connection,
    fact: &HostFact,
    record: &FactRecord,
) -> rusqlite::Result<()> {
    match fact {
        HostFact::Sealed(sealed) => return index_segment(db, sealed, record),
        HostFact::Archived(archived) => return index_archived(db, archived, record),
        HostFact::Pruned(pruned) => {
            let sql = "INSERT INTO segment_pruned (fact, digest) VALUES (?1, ?2)";
            return insert(db, sql, &[&int(record.seq), &pruned.digest.to_string()]);
        }
        HostFact::Heard(heard) => return index_heard(db, heard, record),
        HostFact::GapSettled(settled) => {
            let sql = "INSERT INTO gap_settled (fact, gap) VALUES (?1, ?2)";
            return insert(db, sql, &[&int(record.seq), &int(settled.gap)]);
        }
        HostFact::TimeUnknown { reason, claimed_ns, counted_ns } => {
            let sql = "INSERT INTO gap (fact, meter_ns, reason, claimed_ns, counted_ns)
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            let counted_ns = int(*counted_ns);
            let values: [&dyn ToSql; 5] =
                [&int(record.seq), &record.meter_ns, &reason.as_str(), claimed_ns, &counted_ns];
            insert(db, sql, &values)?;
        }
        HostFact::Started { .. } | HostFact::ClockStepped { .. } | HostFact::Suspended { .. } => {}
    }
    insert(
        db,
        "INSERT INTO calendar (fact, meter_ns, wall_ns) VALUES (?1, ?2, ?3)",
        &[&int(record.seq), &record.meter_ns, &record.wall_ns],
    )
}

fn index_segment(db: &Connection, sealed: &Sealed, record: &FactRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO segment
               (fact, digest, first, last, before, link, recorded_ns, meter_ns, bytes)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let Sealed { digest, first, last, before, link, recorded_until, meter_from, bytes, .. } =
        sealed;
    let values: [&dyn ToSql; 9] = [
        &int(record.seq),
        &digest.to_string(),
        &int(*first),
        &int(*last),
        &before.0,
        &link.0,
        &recorded_until.0,
        &meter_from.0,
        &int(*bytes),
    ];
    insert(db, sql, &values)
}

fn index_archived(
    db: &Connection,
    archived: &Archived,
    record: &FactRecord,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO segment_archived (fact, digest, store, object) VALUES (?1, ?2, ?3, ?4)";
    let Archived { digest, store, object } = archived;
    insert(db, sql, &[&int(record.seq), &digest.to_string(), store, object])
}

fn index_heard(db: &Connection, heard: &Heard, record: &FactRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO heard (fact, host, upto, link, until_ns) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Heard { host, seq, link, until } = heard;
    insert(db, sql, &[&int(record.seq), &host.as_str(), &int(*seq), &link.0, &until.0])
}

/// Indexes a fact of a tenant.
pub(super) fn index_tenant(
    db: &Connection,
    fact: &TenantFact,
    record: &FactRecord,
) -> rusqlite::Result<()> {
    let tenant = &record.tenant;
    let seq = int(record.seq);
    // A step of the schema has noted those that were there before it.
    let sql = "INSERT OR IGNORE INTO tenant_fact (tenant, fact) VALUES (?1, ?2)";
    insert(db, sql, &[&tenant, &seq])?;
    let about_policy = |digest: &Digest| {
        let sql = "INSERT INTO policy_fact (tenant, digest, fact) VALUES (?1, ?2, ?3)";
        insert(db, sql, &[&tenant, &digest.to_string(), &seq])
    };
    match fact {
        TenantFact::PolicyAdmitted { digest, .. }
        | TenantFact::PolicyFaulted { digest, .. }
        | TenantFact::PolicyMoved(Move { digest, .. }) => about_policy(digest),
        TenantFact::PolicyActivated { digest, from, .. } => {
            about_policy(digest)?;
            let sql =
                "INSERT INTO activation (fact, tenant, from_ns, digest) VALUES (?1, ?2, ?3, ?4)";
            insert(db, sql, &[&seq, &tenant, &from.0, &digest.to_string()])
        }
        TenantFact::PricesActivated { digest, from, .. } => {
            let sql = "INSERT INTO prices (fact, tenant, from_ns, digest) VALUES (?1, ?2, ?3, ?4)";
            insert(db, sql, &[&seq, &tenant, &from.0, &digest.to_string()])
        }
        TenantFact::PlanWithdrawn { plan, digest, from, .. } => {
            let sql = "INSERT INTO withdrawal (fact, tenant, plan, from_ns, digest) \
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            insert(db, sql, &[&seq, &tenant, &plan.as_str(), &from.0, &digest.to_string()])
        }
        TenantFact::Invoiced { number, digest, .. } => {
            let sql = "INSERT INTO invoice (fact, tenant, number, digest) VALUES (?1, ?2, ?3, ?4)";
            insert(db, sql, &[&seq, &tenant, &int(*number), &digest.to_string()])
        }
        TenantFact::AgreementChanged { .. }
        | TenantFact::Overridden { .. }
        | TenantFact::TariffPublished { .. }
        | TenantFact::TariffDefault { .. }
        | TenantFact::TariffJoined { .. }
        | TenantFact::OneOff { .. } => {
            insert(db, "INSERT INTO rule_fact (fact, tenant) VALUES (?1, ?2)", &[&seq, &tenant])
        }
        // Read with the tenant's other facts.
        TenantFact::Proposed { .. } | TenantFact::ProposalEnded { .. } => Ok(()),
        TenantFact::Created { .. } => insert(
            db,
            "INSERT OR IGNORE INTO tenant (id, created) VALUES (?1, ?2)",
            &[&tenant, &seq],
        ),
        TenantFact::Changed { .. } => {
            insert(db, "UPDATE tenant SET changed = ?2 WHERE id = ?1", &[&tenant, &seq])
        }
        // The writer fills in the hash of the secret, which is in no fact.
        TenantFact::TokenCreated { token, .. } => insert(
            db,
            "INSERT INTO token (id, secret, created) VALUES (?1, x'', ?2)",
            &[&token.to_string(), &seq],
        ),
        TenantFact::TokenRevoked { token, .. } => insert(
            db,
            "UPDATE token SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL",
            &[&token.to_string(), &seq],
        ),
    }
}

/// A fact from which the history of its instance can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Milestone {
    /// Its instance.
    pub(super) row: Row,
    /// Times that the instance has left standby up to it.
    pub(super) wakes: u32,
}

/// Notes a milestone.
pub(super) fn write_milestone(
    db: &Connection,
    milestone: Milestone,
    record: &FactRecord,
) -> rusqlite::Result<()> {
    let Milestone { row, wakes } = milestone;
    let sql = "INSERT INTO milestone (row, fact, meter_ns, wakes) VALUES (?1, ?2, ?3, ?4)";
    insert(db, sql, &[&int(row.0), &int(record.seq), &record.meter_ns, &wakes])
}

fn insert(db: &Connection, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute(values).map(drop)
}
