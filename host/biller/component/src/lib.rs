//! The biller as a component; see `wit/biller/biller.wit`.

mod heap;
mod pending;
mod typed;

/// The contract's types and traits, generated from `wit/biller/`.
#[allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/biller", world: "biller" });
}

use std::cell::RefCell;

use bindings::exports::tallyman::biller::billing::{
    BillingError, Guest, IntervalColumns, LineColumns, SubjectColumns,
};
use bindings::exports::tallyman::biller::bills::{Bill, Guest as Bills, Header, StretchColumns};
use pending::Pending;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

thread_local! {
    /// The bill that this instance makes.
    static PENDING: RefCell<Pending> = const { RefCell::new(Pending::Idle) };
}

struct Component;

fn with<T>(act: impl FnOnce(&mut Pending) -> Result<T, BillingError>) -> Result<T, BillingError> {
    PENDING.with_borrow_mut(act)
}

impl Guest for Component {
    fn begin(_: String) -> Result<(), BillingError> {
        Err(pending::out_of_order("this biller is begun by `open` of `bills`"))
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
        Err(pending::out_of_order("this biller makes a bill by `make` of `bills`"))
    }

    fn take_lines(most: u32) -> Result<LineColumns, BillingError> {
        with(|pending| pending.take_lines(most))
    }
}

impl Bills for Component {
    fn open(header: Header) -> Result<(), BillingError> {
        with(|pending| pending.open(header))
    }

    fn add_stretches(stretches: StretchColumns) -> Result<(), BillingError> {
        with(|pending| pending.add_stretches(&stretches))
    }

    fn make() -> Result<Bill, BillingError> {
        with(Pending::make)
    }

    fn take_stretches(most: u32) -> Result<StretchColumns, BillingError> {
        with(|pending| pending.take_stretches(most))
    }
}

bindings::export!(Component with_types_in bindings);
