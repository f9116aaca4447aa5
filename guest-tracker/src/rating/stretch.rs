//! One stretch of an instance's time on a meter: how long it was, and for how long it is charged.

use super::bill::Bills;
use super::carried::Under;
use super::meter::{Meter, Stretch};
use crate::{Instant, Phase, RatingError};

/// A piece of a stretch, as it was put on a bill.
#[derive(Debug, Clone, Copy)]
struct Piece {
    bill: usize,
    amount: u64,
    length_ns: u64,
}

/// Follows the stretches of one instance on one meter, in order of time, and corrects the bills where a stretch is charged for another time
/// than it lasted. What is missing is charged with the shape and at the price of the stretch's end; what is too much is taken off its end.
#[derive(Debug)]
pub(crate) struct Stretches<'a> {
    meter: &'a Meter,
    /// What an earlier period left, until it is known whether it goes on.
    left: Option<Under>,
    /// What of the stretch under way lies in earlier periods.
    before: Option<Under>,
    session: Option<u32>,
    pieces: Vec<Piece>,
    /// The instance went to standby, so that what comes next is a waking.
    asleep: bool,
    /// The last phase counted.
    counted: bool,
}

impl<'a> Stretches<'a> {
    pub(crate) fn new(meter: &'a Meter, left: Option<Under>) -> Self {
        Self { meter, left, before: None, session: None, pieces: Vec::new(), asleep: false, counted: true }
    }

    /// An interval begins. Ends the stretch under way where the interval does not belong to it.
    pub(crate) fn enter(
        &mut self,
        phase: u8,
        session: u32,
        counts: bool,
        bills: &mut Bills,
    ) -> Result<(), RatingError> {
        let sleeps = phase == Phase::Standby as u8;
        let woke = self.asleep && !sleeps;
        self.asleep = sleeps;
        let goes_on = match self.meter.stretch {
            Stretch::Start => self.session.is_none_or(|of| of == session),
            Stretch::StartOrWake => !woke && self.session.is_none_or(|of| of == session),
            Stretch::Visit => self.counted,
            Stretch::Life => true,
        };
        if !goes_on {
            self.settle(bills)?;
        }
        self.counted = counts;
        if counts && self.session.is_none() {
            self.begin(session);
        }
        Ok(())
    }

    /// A stretch begins, or goes on with one that an earlier period left.
    fn begin(&mut self, session: u32) {
        self.session = Some(session);
        let of_session = |under: &Under| match self.meter.stretch {
            Stretch::Start | Stretch::StartOrWake => under.session == session,
            Stretch::Visit | Stretch::Life => true,
        };
        self.before = self.left.take().filter(of_session);
    }

    /// A piece of the stretch was put on a bill.
    #[inline]
    pub(crate) fn push(&mut self, bill: usize, amount: u64, length_ns: u64) {
        self.pieces.push(Piece { bill, amount, length_ns });
    }

    /// Ends the stretch under way: brings the bills to what is due. Answers how long it was and for how long it is charged.
    fn settle(&mut self, bills: &mut Bills) -> Result<Option<Under>, RatingError> {
        // Whatever an earlier period left is over, too.
        self.left = None;
        let Some(session) = self.session.take() else { return Ok(None) };
        let before = self.before.take();
        let mut used_ns = 0_u64;
        for piece in &self.pieces {
            used_ns = used_ns.checked_add(piece.length_ns).ok_or(RatingError::Overflow)?;
        }
        let (used_before, charged_before) = before.map_or((0, 0), |under| (under.used_ns, under.charged_ns));
        let total_ns = used_ns.checked_add(used_before).ok_or(RatingError::Overflow)?;
        let charged_ns = self.meter.due_ns(total_ns).ok_or(RatingError::Overflow)?.max(charged_before);
        let due_ns = charged_ns - charged_before;
        if due_ns > used_ns {
            self.charge(due_ns - used_ns, session, total_ns < self.meter.minimum_ns, bills)?;
        } else {
            self.spare(used_ns - due_ns, bills)?;
        }
        self.pieces.clear();
        Ok(Some(Under { at: 0, session, used_ns: total_ns, charged_ns }))
    }

    fn charge(&self, more_ns: u64, session: u32, is_minimum: bool, bills: &mut Bills) -> Result<(), RatingError> {
        let Some(last) = self.pieces.last() else { return Ok(()) };
        let bill = &mut bills.0[last.bill];
        bill.charge(product(more_ns, last.amount))?;
        if is_minimum {
            bill.note_minimum(session);
        }
        Ok(())
    }

    fn spare(&self, mut less_ns: u64, bills: &mut Bills) -> Result<(), RatingError> {
        for piece in self.pieces.iter().rev() {
            let part = less_ns.min(piece.length_ns);
            bills.0[piece.bill].spare(product(part, piece.amount))?;
            less_ns -= part;
        }
        Ok(())
    }

    /// The instance's intervals are over. Answers what the next period has to know; `lives` says whether the instance reaches it.
    pub(crate) fn finish(mut self, lives: bool, end: Instant, bills: &mut Bills) -> Result<Option<Under>, RatingError> {
        let may_go_on = lives
            && match self.meter.stretch {
                Stretch::StartOrWake => !self.asleep,
                Stretch::Visit => self.counted,
                Stretch::Start | Stretch::Life => true,
            };
        let untouched = self.left.take();
        let under = self.settle(bills)?.or(untouched);
        Ok(under.filter(|_| may_go_on).map(|under| Under { at: end, ..under }))
    }
}

/// Two numbers of 64 bits always fit.
fn product(nanos: u64, amount: u64) -> u128 {
    u128::from(nanos) * u128::from(amount)
}
