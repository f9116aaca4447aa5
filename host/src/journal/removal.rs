//! Removals from the tables for good: of rows of sealed facts, of names of deleted instances.

use rusqlite::Connection;

use super::schema::int;
use crate::id::TenantId;

/// Makes a record without what names people; none if the record can't be read.
pub type Redact = fn(&str) -> Option<String>;

/// Rows, or parts of them, that are to be removed. Nothing is lost if that fails: it can be tried
/// again.
pub(super) enum Removal {
    /// The rows of sealed facts, in these ranges.
    Facts(Vec<(u64, u64)>),
    /// The names and tags of a tenant's deleted instances; their ids take the place of the names.
    Names(TenantId, Redact),
}

impl Removal {
    /// Removes it, inside a transaction. Returns the number of rows.
    pub(super) fn apply(&self, db: &Connection) -> rusqlite::Result<u64> {
        match self {
            Self::Facts(ranges) => {
                let sql = "DELETE FROM fact WHERE seq BETWEEN ?1 AND ?2";
                let mut delete = db.prepare_cached(sql)?;
                let mut rows = 0;
                for &(first, last) in ranges {
                    rows += delete.execute([int(first), int(last)])? as u64;
                }
                Ok(rows)
            }
            Self::Names(tenant, redact) => forget(db, tenant, *redact),
        }
    }
}

/// Puts ids in the place of names, and redacted records in that of records.
fn forget(db: &Connection, tenant: &TenantId, redact: Redact) -> rusqlite::Result<u64> {
    let sql = "SELECT row, record FROM instance WHERE tenant = ?1 AND deleted IS NOT NULL";
    let mut statement = db.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let found = statement.query_map([tenant.as_str()], read)?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut update =
        db.prepare_cached("UPDATE instance SET name = id, record = ?2 WHERE row = ?1")?;
    let mut rows = 0;
    for (row, record) in found {
        if let Some(redacted) = redact(&record) {
            rows += update.execute((row, redacted))? as u64;
        }
    }
    Ok(rows)
}
