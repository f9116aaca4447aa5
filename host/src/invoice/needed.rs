//! The time whose facts documents to come are made of.

use super::InvoiceError;
use super::calls::Calls;
use super::compute::Computer;
use super::difference::utc_text;
use super::evidence::Evidence;
use super::issue::Standing;
use super::view::View;
use crate::units::Instant;

/// A reason why facts are needed from an instant on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// First instant of the period.
    pub from: Instant,
    /// The same in UTC.
    pub begins: String,
    /// Number of the document that would differ if it were made now; none for a period without a
    /// document up to its end.
    pub stale: Option<u64>,
}

impl<E: Evidence, C: Calls> Computer<'_, E, C> {
    /// The first period up to an instant that is not closed to its end, or whose last document
    /// would differ if it were made now; none if there is none. Time without a price book is never
    /// charged, and needs no document.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn needed(&self, view: &View, until: Instant) -> Result<Option<Needed>, InvoiceError> {
        let mut standing = Standing::new();
        for period in view.periods(until)? {
            let (start, end) = view.own(&period);
            let documents = view.of(&period);
            let last = documents.last();
            let differs = self.differs(view, &period, &mut standing)?;
            let need = |stale| {
                let begins = utc_text(&view.calendar, start);
                Ok(Some(Needed { from: start, begins, stale }))
            };
            let is_charged = !view.rules.books((start, end)).is_empty();
            match last {
                Some(last) if last.until() >= end && differs => return need(last.number),
                Some(last) if last.until() >= end => {}
                Some(_) => return need(None),
                None if is_charged => return need(None),
                None => {}
            }
        }
        Ok(None)
    }
}
