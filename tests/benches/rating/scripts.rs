//! The same rules as scripts, in the languages that are usually embedded for it, called in the way
//! that their crates' documentation shows.

use biller::output::Bill;
use mlua::{Function, LuaSerdeExt as _};
use rhai::serde::{from_dynamic, to_dynamic};
use rhai::{Engine, Scope};
use serde::{Deserialize, Serialize};
use tallyman::policy::metering::{IntervalColumns, Request};
use tallyman::vm::Phase;

/// Price of an hour, in nano-units of the currency.
const HOUR: Price = Price { rule: "compute", nanos: 41_600_000, seconds: 3_600 };

#[derive(Serialize)]
struct Price {
    rule: &'static str,
    nanos: i64,
    seconds: i64,
}

/// An interval as a script receives it.
#[derive(Serialize)]
struct Row {
    phase: &'static str,
    start: i64,
    stop: i64,
    session: i64,
    fact: i64,
}

/// The intervals of one instance.
pub(crate) struct Life {
    instance: String,
    rows: Vec<Row>,
    columns: [Vec<i64>; 4],
}

/// A charge of one instance.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Line {
    rule: String,
    meter: String,
    instance: String,
    quantity: i64,
    pub(crate) billed: i64,
    amount: i64,
}

/// The intervals of each instance, of which each has `count`.
pub(crate) fn lives(request: &Request, count: usize) -> Vec<Life> {
    let IntervalColumns { phase, start, end, session, fact, .. } = &request.intervals;
    let row = |n: usize| Row {
        phase: Phase::from_ordinal(phase[n]).unwrap().as_str(),
        start: start[n],
        stop: end[n],
        session: session[n].into(),
        fact: fact[n].try_into().unwrap(),
    };
    let life = |(place, begin): (usize, usize)| {
        let range = begin..begin + count;
        Life {
            instance: request.subjects[place].id.clone(),
            rows: range.clone().map(row).collect(),
            columns: [
                phase[range.clone()].iter().map(|&phase| phase.into()).collect(),
                start[range.clone()].to_vec(),
                end[range.clone()].to_vec(),
                session[range].iter().map(|&session| session.into()).collect(),
            ],
        }
    };
    (0..phase.len()).step_by(count).enumerate().map(life).collect()
}

/// Returns whether lines are equal. A script rounds each line, a bill the sum, so amounts may
/// differ by a nano-unit.
pub(crate) fn agree(ours: &[Line], theirs: &[Line]) -> bool {
    let same = |(one, other): (&Line, &Line)| {
        (&one.rule, &one.meter, &one.instance) == (&other.rule, &other.meter, &other.instance)
            && (one.quantity, one.billed) == (other.quantity, other.billed)
            && one.amount.abs_diff(other.amount) <= 1
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// A bill's lines in the form of a script's.
pub(crate) fn in_their_words(request: &Request, bill: &Bill) -> Vec<Line> {
    let line = |line: &biller::output::Line| Line {
        rule: bill.tariff(line).rule.clone(),
        meter: bill.tariff(line).meter.clone(),
        instance: request.subjects[line.subject.unwrap() as usize].id.clone(),
        quantity: line.quantity.try_into().unwrap(),
        billed: line.billed.try_into().unwrap(),
        amount: line.amount.try_into().unwrap(),
    };
    bill.lines.iter().map(line).collect()
}

pub(crate) struct Lua {
    lua: mlua::Lua,
    line: Function,
    time: Function,
}

impl Lua {
    pub(crate) fn new() -> Self {
        let lua = mlua::Lua::new();
        lua.load(include_str!("ec2.lua")).exec().unwrap();
        let function = |name: &str| lua.globals().get(name).unwrap();
        Self { line: function("line"), time: function("time"), lua }
    }

    pub(crate) fn rate(&self, life: &Life) -> Line {
        let given = (
            life.instance.as_str(),
            self.lua.to_value(&life.rows).unwrap(),
            self.lua.to_value(&HOUR).unwrap(),
        );
        self.lua.from_value(self.line.call(given).unwrap()).unwrap()
    }

    /// The billed time alone.
    pub(crate) fn time(&self, life: &Life) -> i64 {
        let [phase, start, end, session] = life
            .columns
            .each_ref()
            .map(|column| self.lua.create_sequence_from(column.iter().copied()).unwrap());
        self.time.call((phase, start, end, session)).unwrap()
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

    pub(crate) fn rate(&self, life: &Life) -> Line {
        let given =
            (life.instance.clone(), to_dynamic(&life.rows).unwrap(), to_dynamic(&HOUR).unwrap());
        let line = self.engine.call_fn(&mut Scope::new(), &self.script, "line", given).unwrap();
        from_dynamic(&line).unwrap()
    }
}
