//! The facts of segments, and the rows that are left of them.

use rusqlite::Connection;

use super::super::chain::{Chain, encode_body};
use super::super::entry::{FactHash, Head};
use super::super::error::{Damage, Flaw, Place, ReadError, VerifyError, wrong};
use super::super::schema::{int, uint};
use super::super::segment::{Segment, Store};
use super::super::wire::FactRecord;

fn check_begin(segment: &Segment, chain: &Chain) -> Result<(), VerifyError> {
    let head = chain.head();
    if segment.first == head.seq + 1 && segment.before == head.hash {
        return Ok(());
    }
    let place = Place::Segment { digest: segment.digest, fact: Some(segment.first) };
    let flaw = Flaw::Gap { after: head.seq };
    Err(VerifyError::Damaged(Damage { place, flaw }))
}

/// Moves past a segment that is not there, by the links that its fact tells of.
pub(super) fn skip(segment: &Segment, chain: &mut Chain) -> Result<(), VerifyError> {
    check_begin(segment, chain)?;
    *chain = Chain::after(Head { seq: segment.last, hash: segment.link });
    Ok(())
}

/// Checks a segment: its file is what it is called, its facts follow on those before, and the rows
/// that are left say the same. `told` is shown each fact with its link.
pub(super) fn verify(
    db: &Connection,
    store: &Store,
    segment: &Segment,
    chain: &mut Chain,
    told: &mut impl FnMut(&FactRecord, FactHash) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    check_begin(segment, chain)?;
    let facts = store.prove(db, segment).map_err(|error| match error {
        ReadError::Database(error) => VerifyError::Database(error),
        ReadError::Damaged(damage) => VerifyError::Damaged(damage),
        ReadError::Elsewhere { digest, why } => VerifyError::Elsewhere { digest, why },
    })?;
    let sql = "SELECT seq, hash, body FROM fact WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([int(segment.first), int(segment.last)])?;
    let mut row = rows.next()?;
    let mut body = Vec::new();
    for (record, link) in &facts {
        let found = row.map(|row| uint(row, 0)).transpose()?;
        if found == Some(record.seq) {
            body.clear();
            encode_body(record, &mut body)?;
            let is_same = match row {
                Some(row) => {
                    row.get_ref(1)?.as_blob().ok() == Some(link.0.as_slice())
                        && row.get_ref(2)?.as_bytes().ok() == Some(body.as_slice())
                }
                None => false,
            };
            if !is_same {
                return Err(wrong(record.seq, Flaw::Hash));
            }
            row = rows.next()?;
        } else if record.instance.is_none() {
            let text = "its row is not there; it is only in its segment".to_owned();
            return Err(wrong(record.seq, Flaw::Disagrees(text)));
        }
        chain.pass(record, *link).map_err(VerifyError::Damaged)?;
        told(record, *link)?;
    }
    Ok(())
}
