//! The state of each instance at its milestones and at its end, made of all facts.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::super::error::Damage;
use super::super::schema::{int, uint};
use super::super::slim::Slim;
use super::super::tables::MILESTONE_FACTS;
use crate::billing::life::wakes;
use crate::vm::Phase;

/// The state of an instance while its facts pass by.
struct Life {
    row: i64,
    facts: u64,
    first: (i64, i64),
    opened: Option<i64>,
    phase: Option<Phase>,
    wakes: u32,
}

/// Fills the columns that say it, and the milestones.
pub(super) fn fill(db: &Connection) -> rusqlite::Result<()> {
    let mut lives = HashMap::new();
    let mut rows = db.prepare("SELECT id, row FROM instance")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: HashMap<String, i64> = rows.collect::<rusqlite::Result<_>>()?;
    let sql = "INSERT INTO milestone (row, fact, meter_ns, wakes) VALUES (?1, ?2, ?3, ?4)";
    let mut milestone = db.prepare(sql)?;
    let mut facts = db.prepare("SELECT seq, body FROM fact ORDER BY seq")?;
    let mut facts = facts.query([])?;
    while let Some(fact) = facts.next()? {
        let slim = Slim::read(uint(fact, 0)?, fact.get_ref(1)?.as_str()?).map_err(damaged)?;
        let Some((id, &row)) = slim.instance.and_then(|id| Some((id, rows.get(id)?))) else {
            continue;
        };
        let seq = int(slim.seq);
        let meter_ns = slim.meter_ns;
        let life = match lives.get_mut(id) {
            Some(life) => life,
            None => lives.entry(id.to_owned()).or_insert(Life::new(row, (seq, meter_ns))),
        };
        life.step(&slim)?;
        if life.facts.is_multiple_of(MILESTONE_FACTS) {
            milestone.execute(params![row, seq, meter_ns, life.wakes])?;
        }
    }
    lives.values().try_for_each(|life| life.store(db))
}

impl Life {
    fn new(row: i64, first: (i64, i64)) -> Self {
        Self { row, facts: 0, first, opened: None, phase: None, wakes: 0 }
    }

    fn step(&mut self, slim: &Slim<'_>) -> rusqlite::Result<()> {
        self.facts += 1;
        let Some(counted) = slim.counts().map_err(damaged)? else { return Ok(()) };
        let woken = self.phase.is_some_and(|phase| wakes(phase, counted.phase()));
        self.wakes = self.wakes.saturating_add(u32::from(woken));
        self.phase = counted.phase();
        self.opened = Some(int(slim.seq));
        Ok(())
    }

    fn store(&self, db: &Connection) -> rusqlite::Result<()> {
        let (fact, meter_ns) = self.first;
        db.prepare_cached("UPDATE instance SET first_fact = ?2, first_ns = ?3 WHERE row = ?1")?
            .execute(params![self.row, fact, meter_ns])?;
        db.prepare_cached("UPDATE live SET facts = ?2, opened = ?3, wakes = ?4 WHERE row = ?1")?
            .execute(params![self.row, int(self.facts), self.opened, self.wakes])
            .map(drop)
    }
}

fn damaged(damage: Damage) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, damage.into())
}
