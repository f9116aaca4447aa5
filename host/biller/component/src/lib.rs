//! The biller as a component; see `wit/biller/biller.wit`.

mod pending;

/// The contract's types and traits, generated from `wit/biller/`.
#[allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/biller", world: "biller" });
}

use std::cell::RefCell;

use bindings::exports::tallyman::biller::billing::{
    BillingError, Guest, IntervalColumns, LineColumns, SubjectColumns,
};
use pending::Pending;

thread_local! {
    /// The bill that this instance makes.
    static PENDING: RefCell<Pending> = const { RefCell::new(Pending::Idle) };
}

struct Component;

fn with<T>(act: impl FnOnce(&mut Pending) -> Result<T, BillingError>) -> Result<T, BillingError> {
    PENDING.with_borrow_mut(act)
}

impl Guest for Component {
    fn begin(header: String) -> Result<(), BillingError> {
        with(|pending| pending.begin(&header))
    }

    fn add_subjects(subjects: SubjectColumns) -> Result<(), BillingError> {
        with(|pending| pending.add_subjects(subjects))
    }

    fn add_intervals(intervals: IntervalColumns) -> Result<(), BillingError> {
        with(|pending| pending.add_intervals(intervals))
    }

    fn add_own_lines(lines: String) -> Result<(), BillingError> {
        with(|pending| pending.add_own_lines(&lines))
    }

    fn finish() -> Result<String, BillingError> {
        with(Pending::finish)
    }

    fn take_lines(most: u32) -> Result<LineColumns, BillingError> {
        with(|pending| pending.take_lines(most))
    }
}

bindings::export!(Component with_types_in bindings);
