//! Conformance: every hypervisor of this host, every operation and every case, from lists.
//!
//! It runs real virtual machine monitors with the tiny guest. A hypervisor that is not on this host
//! is not run, and the table at the end gives the reason. The programs are those of
//! `TALLYMAN_TEST_QEMU`, `TALLYMAN_TEST_CLOUD_HYPERVISOR`, `TALLYMAN_TEST_FIRECRACKER`, else those
//! that `scripts/setup test` has put into `target/vmm`, else those on `PATH`.

mod adopt;
mod console;
mod ends;
mod hazards;
mod launch;
mod report;
mod run;
mod snapshots;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};
use tallyman::hypervisor::{Hypervisor, Kind};
use tallyman_tests::machine::{self, Bed};
use tokio::runtime::Runtime;

use hazards::Hazard;
use report::{Cell, Report};

/// Program of this run that stands in for the daemon's.
const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in");

/// An operation on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Launch,
    Resume,
    Pause,
    Save,
    Restore,
    Fork,
    Adopt,
    ResizeMemory,
    RequestStop,
    Quit,
    Kill,
    PowerOff,
    Reset,
    TripleFault,
    Breakdown,
    Console,
}

impl Operation {
    const ALL: [Operation; 16] = [
        Operation::Launch,
        Operation::Resume,
        Operation::Pause,
        Operation::Save,
        Operation::Restore,
        Operation::Fork,
        Operation::Adopt,
        Operation::ResizeMemory,
        Operation::RequestStop,
        Operation::Quit,
        Operation::Kill,
        Operation::PowerOff,
        Operation::Reset,
        Operation::TripleFault,
        Operation::Breakdown,
        Operation::Console,
    ];

    fn name(self) -> &'static str {
        match self {
            Operation::Launch => "launch",
            Operation::Resume => "resume",
            Operation::Pause => "pause",
            Operation::Save => "save",
            Operation::Restore => "restore",
            Operation::Fork => "fork",
            Operation::Adopt => "adopt",
            Operation::ResizeMemory => "resize_memory",
            Operation::RequestStop => "request_stop",
            Operation::Quit => "quit",
            Operation::Kill => "kill",
            Operation::PowerOff => "guest_power_off",
            Operation::Reset => "guest_reset",
            Operation::TripleFault => "guest_triple_fault",
            Operation::Breakdown => "guest_breakdown",
            Operation::Console => "console",
        }
    }
}

/// A case of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// The operation succeeds.
    Success,
    /// A requirement of the operation is broken.
    Failure,
    /// The operation is asked for again.
    Repeated,
    /// The machine is in a state that does not allow the operation.
    Illegal,
    /// The virtual machine monitor is killed in the middle of the operation.
    Killed,
}

impl Case {
    const ALL: [Case; 5] =
        [Case::Success, Case::Failure, Case::Repeated, Case::Illegal, Case::Killed];

    fn name(self) -> &'static str {
        match self {
            Case::Success => "success",
            Case::Failure => "failure",
            Case::Repeated => "repeated",
            Case::Illegal => "illegal",
            Case::Killed => "killed",
        }
    }
}

/// Outcome of a trial that found no fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything was as required.
    Passed,
    /// The hypervisor does not support this, and the error names those that do.
    Refused,
    /// The trial is impossible here, for this reason.
    NotHere(String),
}

/// One trial on one hypervisor.
type Try = fn(Arc<Bed>) -> BoxFuture<'static, Outcome>;

/// The trial for a case of an operation, or the reason why there is none.
fn trial(operation: Operation, case: Case) -> Result<Try, &'static str> {
    match operation {
        Operation::Launch => launch::trial(case),
        Operation::Resume => run::resume(case),
        Operation::Pause => run::pause(case),
        Operation::Save => snapshots::save(case),
        Operation::Restore => snapshots::restore(case),
        Operation::Fork => snapshots::fork(case),
        Operation::Adopt => adopt::trial(case),
        Operation::ResizeMemory => run::resize_memory(case),
        Operation::RequestStop => ends::request_stop(case),
        Operation::Quit => ends::quit(case),
        Operation::Kill => ends::kill(case),
        Operation::PowerOff => ends::power_off(case),
        Operation::Reset => ends::reset(case),
        Operation::TripleFault => ends::triple_fault(case),
        Operation::Breakdown => ends::breakdown(case),
        Operation::Console => console::trial(case),
    }
}

/// Makes a [`Try`] of an async function.
macro_rules! attempt {
    ($name:path) => {
        Ok((|bed| futures::FutureExt::boxed($name(bed))) as crate::Try)
    };
}
use attempt;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let found =
        Kind::ALL.map(|kind| (kind, runtime.block_on(machine::detect(kind, Path::new(STAND_IN)))));
    let report = Arc::new(Report::default());
    let mut trials = Vec::new();
    for (kind, hypervisor) in found {
        match hypervisor {
            Ok(hypervisor) => {
                report.present(kind, hypervisor.describe());
                trials.extend(trials_of(kind, &hypervisor, &runtime, &report));
            }
            Err(why) => report.absent(kind, why.to_string()),
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        eprintln!("{report}");
    }
    conclusion.exit_code()
}

fn trials_of(
    kind: Kind,
    hypervisor: &Arc<dyn Hypervisor>,
    runtime: &Arc<Runtime>,
    report: &Arc<Report>,
) -> Vec<Trial> {
    let cells =
        Operation::ALL.into_iter().flat_map(|operation| Case::ALL.map(|case| (operation, case)));
    let operations = cells.filter_map(|(operation, case)| {
        let name = format!("{}::{}", operation.name(), case.name());
        Some((Cell::Operation(operation, case), name, trial(operation, case).ok()?))
    });
    let here = hazards::ALL.iter().filter(|hazard| hazard.kinds.contains(&kind));
    let hazards = here.filter_map(|hazard: &Hazard| {
        let name = format!("hazard::{}", hazard.name.replace(' ', "_"));
        Some((Cell::Hazard(hazard.name), name, hazard.attempt()?))
    });
    let made = operations.chain(hazards).map(|(cell, name, attempt)| {
        let hypervisor = hypervisor.clone();
        let runtime = runtime.clone();
        let report = report.clone();
        Trial::test(format!("{kind}::{name}"), move || {
            report.began(kind, cell);
            let outcome = runtime.block_on(attempt(Arc::new(Bed::new(kind, hypervisor))));
            report.ended(kind, cell, outcome);
            Ok(())
        })
    });
    made.collect()
}
