//! The table of the trials that ran, and of the others with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallyman::hypervisor::{Description, Kind};

use super::{Case, Operation, Outcome, hazards, trial};

/// Width of the column of operations.
const WHAT: usize = 34;

/// Width of a hypervisor's column.
const COLUMN: usize = 18;

/// A place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Operation(Operation, Case),
    Hazard(&'static str),
}

/// Outcomes so far.
#[derive(Default)]
pub(crate) struct Report(Mutex<Known>);

#[derive(Default)]
struct Known {
    hypervisors: BTreeMap<Kind, Result<String, String>>,
    trials: BTreeMap<(Kind, Cell), Option<Outcome>>,
}

impl Report {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn present(&self, kind: Kind, description: &Description) {
        let Description { version, program, accelerator, .. } = description;
        let words = format!("{version}, {}, by {}", program.display(), accelerator.as_str());
        self.known().hypervisors.insert(kind, Ok(words));
    }

    pub(crate) fn absent(&self, kind: Kind, why: String) {
        self.known().hypervisors.insert(kind, Err(why));
    }

    pub(crate) fn began(&self, kind: Kind, cell: Cell) {
        self.known().trials.insert((kind, cell), None);
    }

    pub(crate) fn ended(&self, kind: Kind, cell: Cell, outcome: Outcome) {
        self.known().trials.insert((kind, cell), Some(outcome));
    }
}

impl Known {
    fn mark(&self, kind: Kind, cell: Cell) -> char {
        let any = match cell {
            Cell::Operation(operation, case) => trial(operation, case).is_ok(),
            Cell::Hazard(name) => hazards::ALL
                .iter()
                .any(|hazard| hazard.name == name && hazard.kinds.contains(&kind)),
        };
        if !any {
            return '.';
        }
        match self.trials.get(&(kind, cell)) {
            None => '-',
            Some(None) => '!',
            Some(Some(Outcome::Passed)) => '+',
            Some(Some(Outcome::Refused)) => 'r',
            Some(Some(Outcome::NotHere(_))) => '?',
        }
    }

    /// A line of the table: the marks of these cells for each hypervisor.
    fn row(&self, f: &mut fmt::Formatter<'_>, what: &str, cells: &[Cell]) -> fmt::Result {
        let marks = |kind| {
            cells
                .iter()
                .map(|&cell| self.mark(kind, cell).to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let columns = Kind::ALL.map(|kind| format!("{:COLUMN$}", marks(kind))).join("  ");
        writeln!(f, "{}", format!("  {what:WHAT$}  {columns}").trim_end())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        writeln!(
            f,
            "\nconformance, for each operation: \
             success, failure, repeated, illegal now, killed in the middle"
        )?;
        writeln!(
            f,
            "  + as it must be   ! not   r can't, and says who can   \
             ? can't be tried here   - not run   . nothing to try\n"
        )?;
        let names = Kind::ALL.map(|kind| format!("{:COLUMN$}", kind.as_str())).join("  ");
        writeln!(f, "{}", format!("  {:WHAT$}  {names}", "").trim_end())?;
        for operation in Operation::ALL {
            known.row(
                f,
                operation.name(),
                &Case::ALL.map(|case| Cell::Operation(operation, case)),
            )?;
        }
        for hazard in hazards::ALL {
            known.row(f, hazard.name, &[Cell::Hazard(hazard.name)])?;
        }
        writeln!(f)?;
        for (kind, hypervisor) in &known.hypervisors {
            match hypervisor {
                Ok(words) => writeln!(f, "  {:COLUMN$}  {words}", kind.as_str())?,
                Err(why) => writeln!(f, "  {:COLUMN$}  NOT RUN: {why}", kind.as_str())?,
            }
        }
        let untried = known.trials.iter().filter_map(|(&(kind, _), outcome)| match outcome {
            Some(Outcome::NotHere(why)) => Some((kind, why)),
            Some(Outcome::Passed | Outcome::Refused) | None => None,
        });
        for (kind, why) in untried.collect::<BTreeSet<_>>() {
            writeln!(f, "  {:COLUMN$}  NOT TRIED: {why}", kind.as_str())?;
        }
        Ok(())
    }
}
