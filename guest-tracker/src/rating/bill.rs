//! What is charged under one price, before it becomes lines.

use crate::{Instant, IntervalColumns, RatingError, Span};

/// Quantities under one price of a rule, and the time that they are of.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    /// Index into the rule's prices; none where no price holds.
    pub(crate) price: Option<usize>,
    pub(crate) quantity: u128,
    pub(crate) billed: u128,
    pub(crate) intervals: Vec<u32>,
    /// Empty as long as every interval is covered whole.
    pub(crate) starts: Vec<Instant>,
    pub(crate) ends: Vec<Instant>,
    pub(crate) sessions: Vec<u32>,
}

/// The bills of a rule, in the order in which their prices came up.
#[derive(Debug, Default)]
pub(crate) struct Bills(pub(crate) Vec<Bill>);

impl Bills {
    /// The place of the bill under a price, made if there is none.
    #[inline]
    pub(crate) fn place(&mut self, price: Option<usize>) -> usize {
        match self.0.iter().position(|bill| bill.price == price) {
            Some(place) => place,
            None => {
                self.0.push(Bill { price, ..Bill::default() });
                self.0.len() - 1
            }
        }
    }
}

impl Bill {
    /// Covers the piece `span` of interval number `index`, in which `quantity` was used.
    #[inline]
    pub(crate) fn cover(
        &mut self,
        columns: &IntervalColumns,
        index: usize,
        span: Span,
        quantity: u128,
    ) -> Result<(), RatingError> {
        let is_whole = span.start == columns.start[index] && span.end == columns.end[index];
        if !(is_whole && self.starts.is_empty()) {
            self.name_pieces(columns, span);
        }
        self.intervals.push(u32::try_from(index).map_err(|_| RatingError::Overflow)?);
        self.quantity = self.quantity.checked_add(quantity).ok_or(RatingError::Overflow)?;
        self.charge(quantity)
    }

    /// The first piece that is not whole makes all of them be named.
    #[cold]
    fn name_pieces(&mut self, columns: &IntervalColumns, span: Span) {
        for &index in &self.intervals[self.starts.len()..] {
            self.starts.push(columns.start[index as usize]);
            self.ends.push(columns.end[index as usize]);
        }
        self.starts.push(span.start);
        self.ends.push(span.end);
    }

    /// Charges for more than was used.
    #[inline]
    pub(crate) fn charge(&mut self, more: u128) -> Result<(), RatingError> {
        self.billed = self.billed.checked_add(more).ok_or(RatingError::Overflow)?;
        Ok(())
    }

    /// Charges for less than was used.
    pub(crate) fn spare(&mut self, less: u128) -> Result<(), RatingError> {
        self.billed = self.billed.checked_sub(less).ok_or(RatingError::Overflow)?;
        Ok(())
    }

    /// Notes that a minimum applied to a session.
    pub(crate) fn note_minimum(&mut self, session: u32) {
        if self.sessions.last() != Some(&session) {
            self.sessions.push(session);
        }
    }
}
