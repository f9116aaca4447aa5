//! The table of what really ran, and what did not and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tallyman::hypervisor::{Description, Kind};

use super::{Case, Operation, Outcome, trial};

/// Width of a hypervisor's column.
const COLUMN: usize = 18;

/// What is known so far.
#[derive(Default)]
pub(crate) struct Report(Mutex<Known>);

#[derive(Default)]
struct Known {
    hypervisors: BTreeMap<Kind, Result<String, String>>,
    trials: BTreeMap<(Kind, Operation, Case), Option<Outcome>>,
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

    pub(crate) fn began(&self, kind: Kind, operation: Operation, case: Case) {
        self.known().trials.insert((kind, operation, case), None);
    }

    pub(crate) fn ended(&self, kind: Kind, operation: Operation, case: Case, outcome: Outcome) {
        self.known().trials.insert((kind, operation, case), Some(outcome));
    }
}

impl Known {
    fn mark(&self, kind: Kind, operation: Operation, case: Case) -> char {
        if trial(operation, case).is_err() {
            return '.';
        }
        match self.trials.get(&(kind, operation, case)) {
            None => '-',
            Some(None) => '!',
            Some(Some(Outcome::Passed)) => '+',
            Some(Some(Outcome::Refused)) => 'r',
            Some(Some(Outcome::NotHere(_))) => '?',
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        writeln!(
            f,
            "\nconformance, for each operation: success, failure, repeated, illegal now, killed in the middle"
        )?;
        writeln!(
            f,
            "  + as it must be   ! not   r can't, and says who can   ? can't be tried here   - not run   . nothing to try\n"
        )?;
        write!(f, "  {:18}", "")?;
        for kind in Kind::ALL {
            write!(f, "  {:COLUMN$}", kind.as_str())?;
        }
        writeln!(f)?;
        for operation in Operation::ALL {
            write!(f, "  {:18}", operation.name())?;
            for kind in Kind::ALL {
                let marks = Case::ALL.map(|case| known.mark(kind, operation, case).to_string()).join(" ");
                write!(f, "  {marks:COLUMN$}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for (kind, hypervisor) in &known.hypervisors {
            match hypervisor {
                Ok(words) => writeln!(f, "  {:COLUMN$}{words}", kind.as_str())?,
                Err(why) => writeln!(f, "  {:COLUMN$}NOT RUN: {why}", kind.as_str())?,
            }
        }
        let untried = known.trials.iter().filter_map(|(&(kind, _, _), outcome)| match outcome {
            Some(Outcome::NotHere(why)) => Some((kind, why)),
            Some(Outcome::Passed | Outcome::Refused) | None => None,
        });
        for (kind, why) in untried.collect::<BTreeSet<_>>() {
            writeln!(f, "  {:COLUMN$}NOT TRIED: {why}", kind.as_str())?;
        }
        Ok(())
    }
}
