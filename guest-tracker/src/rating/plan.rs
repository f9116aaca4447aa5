//! Rating by meters: every rule of the book over every instance, in one pass each.

use super::adjustments::adjust;
use super::bill::Bills;
use super::carried::Carried;
use super::line::Terms;
use super::meter::Meter;
use super::rule::Rule;
use super::stretch::Stretches;
use super::text::join;
use crate::{ChargeLine, IntervalColumns, RatingError, Request, Span, Statement};

/// The meters of a policy.
///
/// A book's rules say which meter they price. Without prices, the time on each meter is stated and nothing is charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    meters: Vec<Meter>,
}

/// The intervals of one instance in the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) subject: u32,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Plan {
    /// A policy that measures by these.
    pub fn new(meters: impl Into<Vec<Meter>>) -> Self {
        Self { meters: meters.into() }
    }

    /// Rates a request.
    ///
    /// # Errors
    /// [`RatingError`], whatever keeps the period from being rated.
    pub fn rate(&self, request: &Request) -> Result<Statement, RatingError> {
        let runs = runs(request)?;
        let rules = Rule::all(&self.meters, request)?;
        let terms = Terms::of(&request.book)?;
        // Read twice: the code of a copy would be as long again.
        let (carried, left) = (Carried::of(request)?, Carried::of(request)?);
        let mut rating = Rating { request, terms, carried, lines: Vec::new(), left };
        let mut bills: Vec<Bills> = rules.iter().map(|_| Bills::default()).collect();
        for run in runs {
            for (rule, bills) in rules.iter().zip(&mut bills) {
                rating.run(rule, run, bills)?;
                if !rule.is_tenants {
                    rating.emit(rule, Some(run.subject), bills)?;
                }
            }
        }
        for (rule, bills) in rules.iter().zip(&mut bills).filter(|(rule, _)| rule.is_tenants) {
            rating.emit(rule, None, bills)?;
        }
        rating.finish()
    }
}

/// A request on its way to a statement.
struct Rating<'a> {
    request: &'a Request,
    terms: Terms<'a>,
    /// As it came: several rules on one meter begin with the same.
    carried: Carried,
    lines: Vec<ChargeLine>,
    /// As it goes.
    left: Carried,
}

impl Rating<'_> {
    /// Puts the time of one instance on the bills.
    #[inline(never)]
    fn run(&mut self, rule: &Rule<'_>, run: Run, bills: &mut Bills) -> Result<(), RatingError> {
        let columns = &self.request.intervals;
        let (id, period) = (&self.request.subjects[run.subject as usize].id, self.request.period);
        let mut stretches = (!rule.meter.is_exact()).then(|| {
            let left = self.carried.under_way(rule.meter.name, id, period.start);
            Stretches::new(rule.meter, left)
        });
        for index in run.start..run.end {
            let (phase, counts) = (columns.phase[index], rule.meter.phases.has(columns.phase[index]));
            if let Some(stretches) = &mut stretches {
                stretches.enter(phase, columns.session[index], counts, bills)?;
            }
            if counts {
                cover(rule, columns, index, bills, stretches.as_mut())?;
            }
        }
        let Some(stretches) = stretches else { return Ok(()) };
        let lives = columns.end[run.end - 1] == period.end;
        if let Some(under) = stretches.finish(lives, period.end, bills)? {
            self.left.leave(rule.meter.name, id, under);
        }
        Ok(())
    }

    /// Turns the bills into lines, in the order in which their prices came up.
    fn emit(&mut self, rule: &Rule<'_>, subject: Option<u32>, bills: &mut Bills) -> Result<(), RatingError> {
        let id = subject.map_or("", |subject| self.request.subjects[subject as usize].id.as_str());
        let has_adjustments = !self.request.book.adjustments.is_empty();
        for bill in &mut bills.0 {
            let before = match rule.remembers() {
                true => self.left.count(rule.name, id, rule.resets, bill.billed)?,
                false => 0,
            };
            let first = self.lines.len();
            self.terms.add_lines(rule, subject, bill, before, &mut self.lines)?;
            for line in self.lines[first..].iter().filter(|_| has_adjustments) {
                self.left.add(rule.name, self.request.period.start, line.amount.into())?;
            }
        }
        bills.0.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Statement, RatingError> {
        if self.request.last {
            adjust(self.request, self.terms, &mut self.left, &mut self.lines)?;
        }
        Ok(Statement { lines: self.lines, carried: self.left.left(self.request) })
    }
}

/// Puts an interval on the bills of the prices that hold in it.
#[inline]
fn cover(
    rule: &Rule<'_>,
    columns: &IntervalColumns,
    index: usize,
    bills: &mut Bills,
    mut stretches: Option<&mut Stretches<'_>>,
) -> Result<(), RatingError> {
    let amount = rule.amounts.map_or(1, |amounts| amounts[index]);
    let span = Span { start: columns.start[index], end: columns.end[index] };
    for segment in rule.schedule.pieces(span) {
        let length_ns = segment.span.end.wrapping_sub(segment.span.start).cast_unsigned();
        let bill = bills.place(segment.price);
        bills.0[bill].cover(columns, index, segment.span, u128::from(length_ns) * u128::from(amount))?;
        if let Some(stretches) = &mut stretches {
            stretches.push(bill, amount, length_ns);
        }
    }
    Ok(())
}

/// Where each instance's intervals lie. What the host vouches for is checked, so that no index can fail later.
#[inline(never)]
pub(super) fn runs(request: &Request) -> Result<Vec<Run>, RatingError> {
    let columns = &request.intervals;
    let count = columns.subject.len();
    let lengths = [columns.phase.len(), columns.start.len(), columns.end.len(), columns.session.len()];
    let dimensions = columns.dimensions.iter().map(|dimension| dimension.values.len());
    if lengths.into_iter().chain(dimensions).any(|length| length != count) {
        return Err(malformed());
    }
    let mut runs: Vec<Run> = Vec::new();
    for index in 0..count {
        let subject = columns.subject[index];
        let in_order = columns.start[index] < columns.end[index]
            && request.period.start <= columns.start[index]
            && columns.end[index] <= request.period.end;
        if !in_order || subject as usize >= request.subjects.len() {
            return Err(malformed());
        }
        match runs.last_mut() {
            Some(run) if run.subject == subject => run.end = index + 1,
            Some(run) if run.subject > subject => return Err(malformed()),
            _ => runs.push(Run { subject, start: index, end: index + 1 }),
        }
    }
    Ok(runs)
}

#[cold]
#[inline(never)]
pub(super) fn malformed() -> RatingError {
    RatingError::Other(join(&["the columns of the intervals do not fit together"]))
}
