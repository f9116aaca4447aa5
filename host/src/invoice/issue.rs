//! Issuing: the next document of a tenant, for a close, a settlement or a preview.
//!
//! The caller commits the document that [`Computer::next`] returns, and asks again on a view that
//! has it, until there is none left. So a close over several borders, or a correction that
//! cascades, is a sequence of documents, each as of its own place in the journal, and a crash in
//! between loses nothing.

use biller::input::Balances;

use super::InvoiceError;
use super::calls::Calls;
use super::carried::Carried;
use super::compute::Computer;
use super::difference::{Heading, Parts};
use super::document::{CarriedNote, Closing, Invoice, Kind, Stretch};
use super::evidence::{Evidence, EvidenceError, News};
use super::period::Period;
use super::view::View;
use crate::limits::bill::GRACE_NS;
use crate::mutants::money::Mutant;
use crate::units::Instant;

/// The goal of issuing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Every period up to this instant has its documents, the last one of which ends there.
    Close(Instant),
    /// The documents of every period include all facts that are known now.
    Settle,
}

/// The state of the tenant's bill before a period.
pub(super) struct Standing {
    /// The balances that the earlier periods hand on.
    pub(super) handed: Balances,
    /// The earlier periods without a document up to their end.
    unrated: Vec<(Instant, Instant)>,
}

impl Standing {
    pub(super) fn new() -> Self {
        Self { handed: Balances::default(), unrated: Vec::new() }
    }

    /// The state that a document which reaches the end of its period leaves.
    fn after(document: &Invoice) -> Self {
        let span = |one: &Stretch| (Instant(one.from_ns), Instant(one.until_ns));
        let handed = document.closing.0.clone();
        Self { handed, unrated: document.unrated.iter().map(span).collect() }
    }

    /// Moves past a period without a document up to its end. Balances that its documents have used
    /// stay used.
    fn leave_open(&mut self, period: &Period, last: Option<&Invoice>) {
        self.unrated.push((period.start, period.end));
        if let Some(last) = last {
            self.handed.clone_from(&last.closing.0);
        } else if Mutant::UnbilledTimePays.is_active() {
            self.handed.credits.iter_mut().for_each(|credit| credit.used = credit.amount);
        }
    }
}

impl<E: Evidence, C: Calls> Computer<'_, E, C> {
    /// The next document towards a goal; none if that is reached.
    ///
    /// # Errors
    /// [`InvoiceError`]; that of a period that can't be rated only if it is the last one.
    pub fn next(
        &self,
        view: &View,
        goal: Goal,
        heading: &Heading,
    ) -> Result<Option<Invoice>, InvoiceError> {
        let periods = view.periods(self.horizon(view, goal))?;
        let mut standing = Standing::new();
        let count = periods.len();
        for (place, period) in periods.iter().enumerate() {
            let made = match self.period(view, period, goal, heading, &mut standing) {
                Err(error) if error.is_unrated() => {
                    let corrected = self.correct(view, period, heading, &mut standing)?;
                    match corrected.is_none() && place + 1 == count {
                        true => Err(error),
                        false => Ok(corrected),
                    }
                }
                made => made,
            };
            if let Some(invoice) = made? {
                return Ok(Some(invoice));
            }
        }
        Ok(None)
    }

    /// The correction of a period up to its last document; none if there is nothing to correct. A
    /// period that can't be rated does not block later ones, which treat it as unused.
    fn correct(
        &self,
        view: &View,
        period: &Period,
        heading: &Heading,
        standing: &mut Standing,
    ) -> Result<Option<Invoice>, InvoiceError> {
        match self.period(view, period, Goal::Settle, heading, standing) {
            Err(error) if error.is_unrated() => {
                standing.leave_open(period, view.of(period).last().copied());
                Ok(None)
            }
            made => made,
        }
    }

    /// The documents that a close up to `to` would make now; stored nowhere.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn preview(&self, mut view: View, to: Instant) -> Result<Vec<Invoice>, InvoiceError> {
        let mut documents = Vec::new();
        while let Some(invoice) = self.next_preview(&view, to)? {
            view.add(invoice.clone());
            documents.push(invoice);
        }
        Ok(documents)
    }

    /// The next of the documents that a close up to `to` would make.
    pub(super) fn next_preview(
        &self,
        view: &View,
        to: Instant,
    ) -> Result<Option<Invoice>, InvoiceError> {
        let standard = Some(self.calls.standard());
        let heading = Heading { is_preview: true, standard, ..Heading::default() };
        self.next(view, Goal::Close(to), &heading)
    }

    /// Numbers of the documents that a settlement would correct now. A period is computed again
    /// only if a fact of its time became known after its last document, or what it began from has
    /// changed.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn stale(&self, view: &View) -> Result<Vec<u64>, InvoiceError> {
        let mut stale = Vec::new();
        let mut standing = Standing::new();
        for period in view.periods(self.horizon(view, Goal::Settle))? {
            if self.differs(view, &period, &mut standing)? {
                stale.extend(view.of(&period).iter().filter_map(|document| document.number));
            }
        }
        Ok(stale)
    }

    /// The first instants of the periods that are over and that no policy has measured: they have
    /// no document up to their end, and can't have one.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn unrated(&self, view: &View, now: Instant) -> Result<Vec<Instant>, InvoiceError> {
        let mut unrated = Vec::new();
        let mut standing = Standing::new();
        for period in view.periods(Instant(now.0.saturating_sub(GRACE_NS)))? {
            let documents = view.of(&period);
            let (start, end) = view.own(&period);
            let is_over = end.0 <= now.0.saturating_sub(GRACE_NS);
            let reached = documents.last().map(|document| document.until());
            if is_over && reached.is_none_or(|reached| reached < end) {
                match self.compute(view, &period, end, &standing.handed, &documents) {
                    Err(error) if error.is_unrated() => unrated.push(start),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            self.correct(view, &period, &Heading::default(), &mut standing)?;
        }
        Ok(unrated)
    }

    /// Returns whether a settlement would correct a period. `standing` moves past it.
    pub(super) fn differs(
        &self,
        view: &View,
        period: &Period,
        standing: &mut Standing,
    ) -> Result<bool, InvoiceError> {
        let made = self.correct(view, period, &Heading::default(), standing)?;
        Ok(made.is_some())
    }

    fn horizon(&self, view: &View, goal: Goal) -> Instant {
        let last = view.documents.iter().map(Invoice::until).max().unwrap_or(Instant(i64::MIN));
        match goal {
            Goal::Close(to) => to.max(last),
            Goal::Settle => last,
        }
    }

    /// The document that a period lacks; none if it lacks none. `standing` moves past the period.
    fn period(
        &self,
        view: &View,
        period: &Period,
        goal: Goal,
        heading: &Heading,
        standing: &mut Standing,
    ) -> Result<Option<Invoice>, InvoiceError> {
        let documents = view.of(period);
        let (_, end) = view.own(period);
        let reached = documents.last().map(|document| document.until());
        let wanted = match goal {
            Goal::Close(to) => Some(to.min(end)),
            Goal::Settle => None,
        };
        let Some(until) = reached.max(wanted) else {
            standing.leave_open(period, None);
            return Ok(None);
        };
        let last = documents.last().filter(|_| reached == Some(until));
        if let Some(last) = last
            && !self.is_stale(view, period, last, &standing.handed)?
        {
            match until < end {
                true => standing.leave_open(period, Some(last)),
                false => standing.handed.clone_from(&last.closing.0),
            }
            let is_refused = Mutant::RepeatedCloseRefused.is_active() && wanted == Some(until);
            return if is_refused { Err(InvoiceError::Empty) } else { Ok(None) };
        }
        let computed = self.compute(view, period, until, &standing.handed, &documents)?;
        let closing = computed.bill.closing.clone();
        let parts = Parts {
            view,
            period,
            until,
            opening: &standing.handed,
            unrated: &standing.unrated,
            heading,
        };
        let draft = parts.draft(computed)?;
        standing.handed = closing;
        if until < end {
            standing.unrated.push((period.start, period.end));
        }
        if !draft.differs && reached == Some(until) {
            return Ok(None);
        }
        let carried = self.carried(view, &draft.invoice)?;
        Ok(Some(Invoice { carried, ..draft.invoice }))
    }

    /// The state that a document carries to the next period; none if it does not reach it.
    fn carried(&self, view: &View, invoice: &Invoice) -> Result<Option<CarriedNote>, InvoiceError> {
        let until = invoice.until();
        if invoice.kind == Kind::Preview || until.0 < invoice.period.until_ns {
            return Ok(None);
        }
        let Some(through) = self.evidence.recorded_by(until)? else { return Ok(None) };
        let through = through.min(view.as_of.seq);
        // A state of no facts would spare none.
        if through == 0 {
            return Ok(None);
        }
        let carried = Carried::read(self.evidence, &view.tenant, (until, through))?;
        Ok(Some(carried.note()))
    }

    /// Returns whether a period's last document may differ if computed now.
    fn is_stale(
        &self,
        view: &View,
        period: &Period,
        last: &Invoice,
        handed: &Balances,
    ) -> Result<bool, InvoiceError> {
        let is_other = last.opening != Closing(handed.clone()).digest();
        if is_other && !Mutant::CascadeForgotten.is_active() {
            return Ok(true);
        }
        // A plan for later in the period counts from the day on which it is made: amounts of
        // minimums and caps are shares of the whole period.
        let news = News {
            after: last.as_of.seq,
            through: view.as_of.seq,
            period_start: period.start,
            until: last.until(),
            period_end: period.end,
        };
        // Rules that are named for a preview have no facts.
        let named = view.rules.overrides((period.start, period.end));
        let is_named = named.iter().any(|one| one.fact > view.as_of.seq);
        Ok(is_named || self.evidence.changed(&view.tenant, &news)?)
    }

    /// Computes a document again from the evidence that it names; none if the tenant has no such
    /// period.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub(super) fn again(
        &self,
        view: &View,
        invoice: &Invoice,
    ) -> Result<Option<Invoice>, InvoiceError> {
        let Some((period, standing)) = self.standing_before(view, invoice)? else {
            return Ok(None);
        };
        let documents = view.of(&period);
        let computed =
            self.compute(view, &period, invoice.until(), &standing.handed, &documents)?;
        let parts = Parts {
            view,
            period: &period,
            until: invoice.until(),
            opening: &standing.handed,
            unrated: &standing.unrated,
            heading: &Heading::stated_by(invoice),
        };
        let mut made = parts.draft(computed)?.invoice;
        if let Some(stated) = &invoice.carried {
            let place = (invoice.until(), stated.through);
            made.carried = Some(Carried::read(self.evidence, &view.tenant, place)?.note());
        }
        Ok(Some(match invoice.reference {
            Some(_) => made,
            None => made.without_names(),
        }))
    }

    /// A document's period, and the state of the tenant's bill before it; none if the tenant has no
    /// such period.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub(super) fn standing_before(
        &self,
        view: &View,
        invoice: &Invoice,
    ) -> Result<Option<(Period, Standing)>, InvoiceError> {
        let mut standing = view.base.as_ref().map_or_else(Standing::new, Standing::after);
        let begin = view.base.as_ref().map_or(i64::MIN, |base| base.period.until_ns);
        if invoice.period.from_ns < begin {
            let text = "the evidence of time before the period that the bundle is of";
            return Err(EvidenceError::Missing(text.into()).into());
        }
        for period in view.periods(invoice.until())? {
            if period.start.0 == invoice.period.from_ns {
                return Ok(Some((period, standing)));
            }
            if period.start.0 < begin {
                continue;
            }
            // The balances that earlier periods handed on, by their documents as of that place.
            self.correct(view, &period, &Heading::default(), &mut standing)?;
        }
        Ok(None)
    }
}
