//! Tenants, tokens, standings and admissions, read from the facts that the derived tables point at.

use rusqlite::Row as SqlRow;

use super::entry::{StoredAdmission, StoredStanding, StoredTenant, StoredToken};
use super::error::{Damage, Flaw, Place};
use super::read::record;
use super::schema::uint;
use super::wire::FactRecord;
use crate::billing::{About, Fact, TenantFact};
use crate::id::Digest;
use crate::tenant::{Settings, Standing};

/// The query for [`tenant`].
pub(super) const TENANTS: &str = "
    SELECT made.seq, made.body, told.seq, told.body FROM tenant
    JOIN fact made ON made.seq = created LEFT JOIN fact told ON told.seq = changed
    ORDER BY created";

/// The query for [`token`].
pub(super) const TOKENS: &str = "
    SELECT made.seq, made.body, ended.seq, ended.body, secret FROM token
    JOIN fact made ON made.seq = created LEFT JOIN fact ended ON ended.seq = revoked
    ORDER BY created";

/// The query for [`standing`]. A fault by itself changes no standing.
pub(super) const STANDINGS: &str = "
    SELECT seq, body FROM (
      SELECT max(seq) AS seq FROM policy_fact JOIN fact ON seq = policy_fact.fact
      WHERE body ->> '$.kind' != 'policy-faulted' GROUP BY policy_fact.tenant, policy_fact.digest
    ) JOIN fact USING (seq) ORDER BY seq";

/// The query for [`admission`].
pub(super) const ADMISSIONS: &str = "
    SELECT seq, body FROM policy_fact JOIN fact ON seq = policy_fact.fact
    WHERE body ->> '$.kind' = 'policy-admitted' ORDER BY seq";

pub(super) fn tenant(row: &SqlRow<'_>) -> rusqlite::Result<Result<StoredTenant, Damage>> {
    let made = fact(row, 0)?;
    let changed = fact_or_none(row, 2)?;
    let read = || {
        let (record, made) = made?;
        let settings = match changed.transpose()? {
            None => Settings::default(),
            Some((_, Fact { about: About::Tenant(TenantFact::Changed { settings, .. }), .. })) => {
                settings
            }
            Some((record, _)) => return Err(another(&record)),
        };
        Ok(StoredTenant { id: made.tenant, created: record.meter(), settings })
    };
    Ok(read())
}

pub(super) fn token(row: &SqlRow<'_>) -> rusqlite::Result<Result<StoredToken, Damage>> {
    let made = fact(row, 0)?;
    let ended = fact_or_none(row, 2)?;
    let secret = row.get_ref(4)?.as_blob()?.try_into().ok().map(Digest);
    let read = || {
        let (record, made) = made?;
        let About::Tenant(TenantFact::TokenCreated { token: id, name, role, expires, by }) =
            made.about
        else {
            return Err(another(&record));
        };
        let secret = secret.ok_or_else(|| Damage {
            place: Place::Table { table: "token", key: id.to_string() },
            flaw: Flaw::Malformed("the hash of its secret is not 32 bytes long".into()),
        })?;
        let revoked = ended.transpose()?.map(|(record, _)| record.meter());
        Ok(StoredToken {
            id,
            secret,
            tenant: made.tenant,
            name,
            role,
            created: record.meter(),
            expires,
            revoked,
            by,
        })
    };
    Ok(read())
}

pub(super) fn standing(row: &SqlRow<'_>) -> rusqlite::Result<Result<StoredStanding, Damage>> {
    let read = |(record, fact): (FactRecord, Fact)| {
        let About::Tenant(about) = fact.about else { return Err(another(&record)) };
        let (digest, standing, by, stand_in) = match about {
            TenantFact::PolicyAdmitted { digest, by, .. } => (digest, Standing::Admitted, by, None),
            TenantFact::PolicyActivated { digest, by, .. } => (digest, Standing::Active, by, None),
            TenantFact::PolicyMoved(moved) => {
                (moved.digest, moved.to, Some(moved.by), moved.stand_in)
            }
            _ => return Err(another(&record)),
        };
        Ok(StoredStanding { tenant: fact.tenant, digest, standing, by, stand_in })
    };
    Ok(fact(row, 0)?.and_then(read))
}

pub(super) fn admission(row: &SqlRow<'_>) -> rusqlite::Result<Result<StoredAdmission, Damage>> {
    let read = |(record, fact): (FactRecord, Fact)| {
        let About::Tenant(TenantFact::PolicyAdmitted { digest, name, .. }) = fact.about else {
            return Err(another(&record));
        };
        Ok(StoredAdmission { tenant: fact.tenant, digest, name, at: record.meter() })
    };
    Ok(fact(row, 0)?.and_then(read))
}

type Read = Result<(FactRecord, Fact), Damage>;

/// Reads a fact from two columns: sequence number and body.
fn fact(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Read> {
    let seq = uint(row, column)?;
    let body = row.get_ref(column + 1)?.as_str()?;
    let wrong = |flaw| Damage { place: Place::Fact(seq), flaw };
    Ok(record(seq, body).and_then(|record| match Fact::try_from(&record) {
        Ok(fact) => Ok((record, fact)),
        Err(error) => Err(wrong(Flaw::Text(error.to_string()))),
    }))
}

fn fact_or_none(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Option<Read>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => fact(row, column).map(Some),
    }
}

/// Reports a row that points at a fact of the wrong kind.
fn another(record: &FactRecord) -> Damage {
    let flaw =
        Flaw::Disagrees(format!("a row points at it, but its kind is {}", record.what.kind()));
    Damage { place: Place::Fact(record.seq), flaw }
}
