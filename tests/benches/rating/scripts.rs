//! The same rules as scripts, in the languages that are usually embedded for it.

use mlua::Function;
use rhai::{Dynamic, Engine, Scope};
use tallyman::policy::rating::IntervalColumns;

/// The intervals of one instance, as numbers that a script knows.
pub(crate) struct Columns {
    phase: Vec<i64>,
    start: Vec<i64>,
    end: Vec<i64>,
    session: Vec<i64>,
}

/// Each instance's own columns; each has `count` intervals.
pub(crate) fn columns(all: &IntervalColumns, count: usize) -> Vec<Columns> {
    let of = |begin: usize| {
        let range = begin..begin + count;
        Columns {
            phase: all.phase[range.clone()].iter().map(|&phase| phase.into()).collect(),
            start: all.start[range.clone()].to_vec(),
            end: all.end[range.clone()].to_vec(),
            session: all.session[range].iter().map(|&session| session.into()).collect(),
        }
    };
    (0..all.subject.len()).step_by(count).map(of).collect()
}

pub(crate) struct Lua {
    lua: mlua::Lua,
    rate: Function,
}

impl Lua {
    pub(crate) fn new() -> Self {
        let lua = mlua::Lua::new();
        lua.load(include_str!("ec2.lua")).exec().unwrap();
        let rate = lua.globals().get("rate").unwrap();
        Self { lua, rate }
    }

    pub(crate) fn rate(&self, columns: &Columns) -> i64 {
        let table = |column: &[i64]| self.lua.create_sequence_from(column.iter().copied()).unwrap();
        let Columns { phase, start, end, session } = columns;
        self.rate.call((table(phase), table(start), table(end), table(session))).unwrap()
    }
}

pub(crate) struct Rhai {
    engine: Engine,
    script: rhai::AST,
}

impl Rhai {
    pub(crate) fn new() -> Self {
        let engine = Engine::new();
        let script = engine.compile(include_str!("ec2.rhai")).unwrap();
        Self { engine, script }
    }

    pub(crate) fn rate(&self, columns: &Columns) -> i64 {
        let array = |column: &[i64]| Dynamic::from_array(column.iter().copied().map(Dynamic::from_int).collect());
        let Columns { phase, start, end, session } = columns;
        let arguments = (array(phase), array(start), array(end), array(session));
        self.engine.call_fn(&mut Scope::new(), &self.script, "rate", arguments).unwrap()
    }
}
