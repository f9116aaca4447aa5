//! The computation of a period's charges from evidence: the one path to a charge.
//!
//! Previews, closes, corrections, comparisons and proofs all use [`Computer::compute`]; they differ
//! in the use of its result.

use std::ops::ControlFlow;

use biller::input::{Balances, BookInForce, FORM, Header, Offset, Span, Zone};
use biller::output::Bill;

use super::InvoiceError;
use super::calls::Calls;
use super::document::{Invoice, Line, Named, Receipt};
use super::evidence::{Evidence, EvidenceError};
use super::measure::{MeasureCall, Measured, Measuring};
use super::period::Period;
use super::rules::{BookSpan, PolicySpan};
use super::usage::{BootBound, INITIALIZING_MAX, Usage, usage};
use super::view::View;
use crate::billing::zones;
use crate::id::{Digest, InstanceId};
use crate::journal::SpanQuery;
use crate::limits::bill::{INITIALIZING_MAX_NS, MEASURED_INSTANCES};
use crate::mutants::money::Mutant;
use crate::units::Instant;

/// Lookup of an instance's name and tags by id.
pub type Names<'a> = &'a dyn Fn(&InstanceId) -> Result<Named, EvidenceError>;

/// The computation of periods and documents.
#[derive(Clone, Copy)]
pub struct Computer<'a, E, C> {
    pub(super) evidence: &'a E,
    pub(super) calls: &'a C,
    pub(super) names: Names<'a>,
    /// The components of periods without documents, where they are not those of this program.
    pub(super) components: Components,
    /// Called after each batch of instances, with the number of intervals in it.
    pub(super) progress: &'a dyn Fn(u64),
}

/// A piece of an interval that a line covers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TracedInterval {
    /// Sequence number of the fact that opened the interval.
    pub fact: u64,
    /// The phase.
    pub phase: &'static str,
    /// First instant on the meter clock, in nanoseconds.
    pub start_ns: i64,
    /// First instant after it, in nanoseconds.
    pub end_ns: i64,
}

/// The charges of a period, with their evidence.
#[derive(Debug)]
pub(super) struct Computed {
    pub(super) bill: Bill,
    pub(super) instances: Vec<Named>,
    /// The ids of instances that lines of the bill name by index.
    pub(super) subjects: Vec<String>,
    pub(super) zones: Vec<Zone>,
    pub(super) receipts: Vec<Receipt>,
    /// The policies of the billed time.
    pub(super) policies: Vec<PolicySpan>,
    /// The books of the period, planned ones included.
    pub(super) books: Vec<BookSpan>,
}

impl<'a, E: Evidence, C: Calls> Computer<'a, E, C> {
    /// A computer over `evidence`; `names` looks instances up.
    pub fn new(evidence: &'a E, calls: &'a C, names: Names<'a>) -> Self {
        let components = Components::default();
        Self { evidence, calls, names, components, progress: &|_| () }
    }

    /// Computes periods that have no document yet by these components, not by those of this
    /// program: a proof of a period's first document runs the ones that made it.
    #[must_use]
    pub(super) fn by(self, components: Components) -> Self {
        Self { components, ..self }
    }

    /// Calls `progress` after each batch of instances, with the number of intervals in it.
    #[must_use]
    pub fn reporting(self, progress: &'a dyn Fn(u64)) -> Self {
        Self { progress, ..self }
    }

    /// Computes a period up to an instant. `documents` are those of the period so far: it keeps
    /// their biller and their zones.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub(super) fn compute(
        &self,
        view: &View,
        period: &Period,
        until: Instant,
        opening: &Balances,
        documents: &[&Invoice],
    ) -> Result<Computed, InvoiceError> {
        self.compute_marked(view, period, (until, &[]), opening, documents)
    }

    /// Computes a period up to an instant, with the sums of rules up to some other instants.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub(super) fn compute_marked(
        &self,
        view: &View,
        period: &Period,
        (until, marks): (Instant, &[Instant]),
        opening: &Balances,
        documents: &[&Invoice],
    ) -> Result<Computed, InvoiceError> {
        let (start, last) = view.own(period);
        let until = until.clamp(start, last);
        let made = documents.first().map(|document| Components::of(document)).unwrap_or_default();
        let standard = made.standard.or(self.components.standard);
        let standard = standard.unwrap_or_else(|| self.calls.standard());
        let policies = view.rules.policies((start, until), standard);
        let (measured, instances) = self.measure(view, (start, until), &policies)?;
        let spans = view.rules.books_planned_at(until, (start, period.end));
        let books = self.books(view, &spans)?;
        let zones = self.zones(view, period, &books, documents)?;
        let header = Header {
            form: FORM,
            period: Span { start: period.usual_start.0, end: period.end.0 },
            first: start.0,
            last: last.0,
            until: until.0,
            calendar: view.calendar.offsets().into_iter().map(offset).collect(),
            zones,
            books,
            meters: measured.meters.clone(),
            terms: measured.terms.clone(),
            opening: opening.clone(),
            one_offs: view.one_offs(period, until),
            marks: marks.iter().map(|mark| mark.0).collect(),
        };
        let computed = self.bill(header, measured, instances, documents)?;
        Ok(Computed { policies, books: spans, ..computed })
    }

    fn bill(
        &self,
        header: Header,
        measured: Measured,
        instances: Vec<Named>,
        documents: &[&Invoice],
    ) -> Result<Computed, InvoiceError> {
        let made = documents.first().map(|document| Components::of(document)).unwrap_or_default();
        let biller = made.biller.or(self.components.biller);
        let biller = biller.unwrap_or_else(|| self.calls.biller());
        let asked = self.calls.bill(
            biller,
            &header,
            &measured.subjects,
            &measured.intervals,
            &measured.own,
        );
        let call = asked.map_err(|error| error.of(biller))?;
        let mut receipts: Vec<_> = measured.calls.iter().map(|call| self.of_policy(call)).collect();
        let facts = &measured.intervals.fact;
        receipts.push(Receipt {
            call: "bill".into(),
            from_ns: header.first,
            until_ns: header.until,
            component: biller.to_string(),
            stands_in_for: None,
            tzdata: zones::edition().into(),
            engine: self.calls.engine(),
            fuel: call.fuel,
            facts: facts.iter().min().copied().zip(facts.iter().max().copied()),
            intervals: facts.len() as u64,
            input: call.input,
            output: call.output,
            chain: String::new(),
        });
        let subjects = measured.subjects.into_iter().map(|subject| subject.id).collect();
        Ok(Computed {
            bill: call.value,
            instances,
            subjects,
            zones: header.zones,
            receipts,
            policies: Vec::new(),
            books: Vec::new(),
        })
    }

    /// The intervals that a line of a document covers.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub(super) fn trace(
        &self,
        view: &View,
        invoice: &Invoice,
        line: &Line,
    ) -> Result<Vec<TracedInterval>, InvoiceError> {
        Ok(Tracing::of(self.measure_billed(view, invoice)?).of_line(line))
    }

    /// The intervals that each line of a document covers.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub(super) fn trace_all(
        &self,
        view: &View,
        invoice: &Invoice,
    ) -> Result<Vec<Vec<TracedInterval>>, InvoiceError> {
        let tracing = Tracing::of(self.measure_billed(view, invoice)?);
        Ok(invoice.lines.iter().map(|line| tracing.of_line(line)).collect())
    }

    fn measure_billed(&self, view: &View, invoice: &Invoice) -> Result<Measured, InvoiceError> {
        let span = (Instant(invoice.billed.from_ns), Instant(invoice.billed.until_ns));
        // Corrections by a later program don't name the standard policy of the first one.
        let standard = view.first_of(invoice).and_then(Invoice::standard_policy);
        let standard = standard.unwrap_or_else(|| self.calls.standard());
        let policies = view.rules.policies(span, standard);
        Ok(self.measure(view, span, &policies)?.0)
    }

    fn of_policy(&self, call: &MeasureCall) -> Receipt {
        Receipt {
            call: "measure".into(),
            from_ns: call.span.0.0,
            until_ns: call.span.1.0,
            component: call.policy.to_string(),
            stands_in_for: call.stands_in_for.map(|policy| policy.to_string()),
            tzdata: zones::edition().into(),
            engine: self.calls.engine(),
            fuel: call.fuel,
            facts: call.facts,
            intervals: call.intervals,
            input: call.input.clone(),
            output: call.output.clone(),
            chain: String::new(),
        }
    }

    /// The tenant's time in a span, as the policies count it.
    fn measure(
        &self,
        view: &View,
        (start, until): (Instant, Instant),
        policies: &[PolicySpan],
    ) -> Result<(Measured, Vec<Named>), InvoiceError> {
        let mut measuring = Measuring::new(self.calls, view.tenant.as_str(), policies);
        let mut instances = Vec::new();
        let mut waiting: Vec<Usage> = Vec::new();
        let bounds: Vec<_> = policies.iter().map(boot_bound).collect();
        let query = SpanQuery { tenant: &view.tenant, start, end: until, through: view.as_of.seq };
        let mut done = Ok(());
        self.evidence.lives(query, &mut |life| {
            waiting.extend(usage(&life, (start, until), &bounds));
            if waiting.len() >= MEASURED_INSTANCES {
                done = self.measure_some(&mut measuring, &mut waiting, &mut instances);
            }
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        done?;
        self.measure_some(&mut measuring, &mut waiting, &mut instances)?;
        Ok((measuring.finish(), instances))
    }

    fn measure_some(
        &self,
        measuring: &mut Measuring<'_, C>,
        waiting: &mut Vec<Usage>,
        instances: &mut Vec<Named>,
    ) -> Result<(), InvoiceError> {
        let named =
            waiting.iter().map(|usage| (self.names)(&usage.id)).collect::<Result<Vec<_>, _>>()?;
        measuring.add(waiting, &named)?;
        (self.progress)(waiting.iter().map(|usage| usage.pieces.len() as u64).sum());
        instances.extend(named);
        waiting.clear();
        Ok(())
    }

    fn books(&self, view: &View, spans: &[BookSpan]) -> Result<Vec<BookInForce>, InvoiceError> {
        let mut books = Vec::new();
        for in_force in spans {
            let named = view.named.iter().find(|text| Digest::of(text) == in_force.book).cloned();
            let bytes = named.map_or_else(|| self.evidence.document(in_force.book), Ok)?;
            let text = String::from_utf8(bytes).map_err(|_| {
                EvidenceError::Altered(format!("price book {} is not text", in_force.book))
            })?;
            books.push(BookInForce { from: in_force.start.0, until: in_force.end.0, text });
        }
        Ok(books)
    }

    /// The zones that the books name. Zones that the period's documents have resolved stay as they
    /// were, even if a newer edition of the database differs.
    fn zones(
        &self,
        view: &View,
        period: &Period,
        books: &[BookInForce],
        documents: &[&Invoice],
    ) -> Result<Vec<Zone>, InvoiceError> {
        let mut names = Vec::new();
        for in_force in books {
            let book = biller::book::Book::parse_stored(in_force.text.as_bytes());
            let book =
                book.map_err(|problem| InvoiceError::Book { problem: problem.to_string() })?;
            names.extend(book.zones().into_iter().map(str::to_owned));
        }
        names.sort_unstable();
        names.dedup();
        let utc = Span {
            start: view.calendar.utc_ns(period.start),
            end: view.calendar.utc_ns(period.end),
        };
        let known = documents.last().copied().or(view.of_other_edition.as_ref());
        let known = known.map(|document| document.zones.as_slice()).unwrap_or_default();
        let resolve = |name: &String| {
            let kept = known.iter().find(|zone| zone.name == *name).cloned();
            kept.or_else(|| zones::resolve(name, utc))
                .ok_or_else(|| EvidenceError::Missing(format!("time zone {name}")).into())
        };
        names.iter().map(resolve).collect()
    }
}

/// The measured time, to look lines up in.
struct Tracing(Measured);

impl Tracing {
    fn of(measured: Measured) -> Self {
        Self(measured)
    }

    fn of_line(&self, line: &Line) -> Vec<TracedInterval> {
        let Measured { subjects, intervals, meters, phases, .. } = &self.0;
        let meter = meters.iter().position(|meter| *meter == line.meter);
        let bit = meter.map_or(0, |meter| 1_u64 << meter);
        let is_of = |place: &usize| {
            let subject = subjects.get(intervals.subject[*place] as usize);
            let is_named = line.instance.is_none()
                || line.instance.as_deref() == subject.map(|subject| subject.id.as_str());
            let facts = line.facts;
            let is_inside =
                facts.is_some_and(|(first, last)| (first..=last).contains(&intervals.fact[*place]));
            intervals.meters[*place] & bit != 0 && is_named && is_inside
        };
        let piece = |place: usize| TracedInterval {
            fact: intervals.fact[place],
            phase: phases[place].as_str(),
            start_ns: intervals.start[place],
            end_ns: intervals.end[place],
        };
        (0..intervals.fact.len()).filter(is_of).map(piece).collect()
    }
}

/// Components of the program that made a document.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Components {
    /// The biller; none without a receipt of it.
    pub(super) biller: Option<Digest>,
    /// The standard policy of that program, which measures time before any activation; none if the
    /// document has no such time.
    standard: Option<Digest>,
}

impl Components {
    pub(super) fn of(document: &Invoice) -> Self {
        let receipt = document.receipts.iter().find(|receipt| receipt.call == "bill");
        Self {
            biller: receipt.and_then(|receipt| receipt.component.parse().ok()),
            standard: document.standard_policy(),
        }
    }
}

fn offset((since, offset): (Instant, i64)) -> Offset {
    Offset { since: since.0, offset }
}

/// The time for which boots count as `initializing` while a policy measures.
fn boot_bound(span: &PolicySpan) -> BootBound {
    if Mutant::BootsNeverEnd.is_active() {
        return BootBound { end: span.end, max_ns: i64::MAX };
    }
    let option = span.options.iter().find(|(name, _)| name == INITIALIZING_MAX);
    let stated = option.and_then(|(_, text)| crate::units::duration_ns(text));
    let max_ns = i64::try_from(stated.unwrap_or(INITIALIZING_MAX_NS)).unwrap_or(i64::MAX);
    BootBound { end: span.end, max_ns }
}
