//! Stretches: the time of an instance under one meter that belongs together, and the part of it
//! that is billed.

use std::ops::Range;

use crate::error::BillError;
use crate::handed::Handed;
use crate::input::{Header, Intervals, Rounding, Span, Stretch, Subject, Terms, TermsInForce};
use crate::mutants::Mutant;
use crate::spans::Spans;
use crate::steps;

/// Counted time of an interval under a book, or of several that join; see [`joins`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// Number of the first interval.
    pub(crate) interval: u32,
    /// Number of the last interval.
    pub(crate) last: u32,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The part that is billed where it is used; empty if both are equal.
    pub(crate) billed_start: i64,
    pub(crate) billed_end: i64,
}

/// Time that is billed beyond what was used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopUp {
    /// Number of the interval that gives the top-up its shape.
    pub(crate) interval: u32,
    /// Instant to which the top-up belongs.
    pub(crate) at: i64,
    pub(crate) nanos: u64,
}

impl Piece {
    /// Sequence numbers of the first and the last fact that opened one of its intervals.
    pub(crate) fn facts(&self, intervals: &Intervals) -> (u64, u64) {
        (intervals.fact[self.interval as usize], intervals.fact[self.last as usize])
    }

    /// Sequence number of the fact that opened the interval at an instant of the piece.
    pub(crate) fn fact_at(&self, at: i64, intervals: &Intervals) -> u64 {
        self.facts_at(intervals).at(at)
    }

    /// The facts at instants of the piece.
    pub(crate) fn facts_at<'a>(&self, intervals: &'a Intervals) -> FactsAt<'a> {
        let range = self.interval as usize..=self.last as usize;
        FactsAt { starts: &intervals.start[range.clone()], facts: &intervals.fact[range], place: 0 }
    }
}

/// Facts of a piece's intervals, to be looked up by instants. Most instants lie where the one
/// before lay, or later.
#[derive(Debug)]
pub(crate) struct FactsAt<'a> {
    starts: &'a [i64],
    facts: &'a [u64],
    place: usize,
}

impl FactsAt<'_> {
    pub(crate) fn at(&mut self, at: i64) -> u64 {
        let is_later = self.starts[self.place] <= at;
        let after = if is_later { self.place + 1 } else { 0 };
        let rest = &self.starts[after..];
        if !is_later || rest.first().is_some_and(|&start| start <= at) {
            let count = rest.partition_point(|&start| start <= at);
            self.place = (after + count).saturating_sub(1);
        }
        self.facts[self.place]
    }
}

/// Intervals of one instance, one after the other, that differ in nothing but their time and their
/// facts: the same meters, start, standby and shape, without a gap, each opened by a later fact
/// than the one before, under one policy. Whatever the book says, they are charged alike, and the
/// facts in a part of their time are those at its ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// Number of the first interval.
    pub(crate) first: u32,
    /// Number of the last interval.
    pub(crate) last: u32,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) meters: u64,
    /// Set if it goes on with the group before in all but the meters and the policy.
    goes_on: bool,
}

impl Group {
    /// The part of a group inside a span, which lies in its time.
    fn within(&self, span: Span, intervals: &Intervals) -> Self {
        let starts = &intervals.start[self.first as usize..=self.last as usize];
        let interval = |at: i64| {
            let place = starts.partition_point(|&start| start <= at).saturating_sub(1);
            self.first + u32::try_from(place).unwrap_or(0)
        };
        let first = interval(span.start);
        let last = interval(span.end - 1);
        Self { first, last, start: span.start, end: span.end, ..*self }
    }
}

/// The intervals of an instance that has some.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) subject: u32,
    pub(crate) intervals: Range<usize>,
    pub(crate) groups: Range<usize>,
}

/// Joins intervals into groups, and adds to each instance's run the range of its groups.
pub(crate) fn groups(header: &Header, intervals: &Intervals, runs: &mut [Run]) -> Vec<Group> {
    let goes_on = goes_on(intervals);
    let changes = header.terms.get(1..).unwrap_or_default();
    let is_change = |at: i64| changes.binary_search_by_key(&at, |terms| terms.from).is_ok();
    let mut groups: Vec<Group> = Vec::with_capacity(runs.len());
    for run in runs {
        let begin = groups.len();
        let range = run.intervals.clone();
        let first = u32::try_from(range.start).unwrap_or(u32::MAX);
        let times = intervals.start[range.clone()].iter().zip(&intervals.end[range.clone()]);
        let rest = intervals.meters[range.clone()].iter().zip(&goes_on[range]);
        let mut group: Option<Group> = None;
        for (((&start, &end), (&meters, &goes_on)), number) in times.zip(rest).zip(first..) {
            match &mut group {
                Some(last) if goes_on & (last.meters == meters) && !is_change(start) => {
                    last.last = number;
                    last.end = end;
                }
                last => {
                    let goes_on = goes_on && last.is_some();
                    groups.extend(last.take());
                    *last =
                        Some(Group { first: number, last: number, start, end, meters, goes_on });
                }
            }
        }
        groups.extend(group);
        run.groups = begin..groups.len();
    }
    groups
}

/// For each interval, whether it goes on with the one before, if that is of the same instance, in
/// all but its meters.
fn goes_on(intervals: &Intervals) -> Vec<bool> {
    let mut goes_on = vec![false; intervals.subject.len()];
    let mut before = (0, 0, 0, 0);
    let times = intervals.start.iter().zip(&intervals.end);
    let starts = intervals.session.iter().zip(&intervals.wakes).zip(&intervals.fact);
    let rest = times.zip(starts);
    for (flag, ((&start, &end), ((&session, &wakes), &fact))) in goes_on.iter_mut().zip(rest) {
        let is_same = (before.0 == start) & (before.1 == session) & (before.2 == wakes);
        *flag = is_same & (before.3 <= fact);
        before = (end, session, wakes, fact);
    }
    for pair in intervals.dimensions.chunks(2) {
        match pair {
            [one, other] => keep_both(&mut goes_on, &one.values, &other.values),
            one => one.iter().for_each(|one| keep_both(&mut goes_on, &one.values, &one.values)),
        }
    }
    goes_on
}

/// Keeps flags where two columns have the value that they had before.
fn keep_both(flags: &mut [bool], one: &[u64], other: &[u64]) {
    let mut before = (0, 0);
    for ((flag, &one), &other) in flags.iter_mut().zip(one).zip(other) {
        *flag &= (before.0 == one) & (before.1 == other);
        before = (one, other);
    }
}

/// The intervals, pieces and top-ups of a subject.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    pub(crate) subject: u32,
    pub(crate) intervals: Range<usize>,
    pub(crate) pieces: Range<usize>,
    pub(crate) top_ups: Range<usize>,
}

/// The time that one meter counted.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) top_ups: Vec<TopUp>,
    /// Entries in the order of the input, one for each subject that has intervals.
    pub(crate) subjects: Vec<Own>,
    /// Stretches that may go on in the next period, in any order.
    pub(crate) closing: Vec<Handed>,
}

/// The part of a bill's input that stretches depend on.
pub(crate) struct Measuring<'a> {
    pub(crate) header: &'a Header,
    pub(crate) subjects: &'a [Subject],
    pub(crate) intervals: &'a Intervals,
    /// Intervals of each subject that has some.
    pub(crate) runs: &'a [Run],
    /// The intervals, joined.
    pub(crate) groups: &'a [Group],
    /// Time under a book.
    pub(crate) booked: &'a Spans,
}

/// A stretch that is under way.
#[derive(Debug, Clone, Copy)]
struct Current {
    kind: Stretch,
    session: u32,
    wakes: u32,
    /// End of the last counted interval.
    last: i64,
    /// Number of changes of the stretch's kind before it began.
    epoch: u32,
    used_ns: u64,
    /// Nanoseconds used before the period.
    used_before_ns: u64,
    /// Most nanoseconds that were owed at any border.
    owed_ns: u64,
}

/// The terms of one meter in a time under one book and one policy.
#[derive(Debug, Clone, Copy)]
struct Ruling {
    start: i64,
    end: i64,
    terms: Terms,
    /// Number of changes of the stretch's kind before this time.
    epoch: u32,
}

impl Ruling {
    /// A ruling that holds at no time.
    const NONE: Self = Self {
        start: 0,
        end: 0,
        terms: Terms {
            stretch: Stretch::Start,
            minimum_ns: 0,
            granularity_ns: 1,
            rounding: Rounding::Up,
        },
        epoch: 0,
    };

    fn holds(&self, start: i64, end: i64) -> bool {
        self.start <= start && end <= self.end
    }

    /// Returns whether counted time that begins at an instant belongs to a stretch.
    fn goes_on(&self, current: &Current, session: u32, wakes: u32, start: i64) -> bool {
        let is_session = current.session == session;
        let is_one = match self.terms.stretch {
            Stretch::Start => is_session,
            Stretch::Wake => is_session && current.wakes == wakes,
            Stretch::Visit => current.last == start,
            Stretch::Life => true,
        };
        is_one && current.kind == self.terms.stretch && current.epoch == self.epoch
    }

    fn begun(&self, session: u32, wakes: u32) -> Current {
        Current {
            kind: self.terms.stretch,
            session,
            wakes,
            last: 0,
            epoch: self.epoch,
            used_ns: 0,
            used_before_ns: 0,
            owed_ns: 0,
        }
    }
}

/// One meter's walk over all intervals.
struct Walk<'a> {
    measuring: &'a Measuring<'a>,
    meter: u32,
    /// Number of changes of the stretch's kind, for each of the header's terms.
    epochs: Vec<u32>,
    /// Kind of stretch under the first policy with the meter; none if there is no such policy.
    first_kind: Option<Stretch>,
    /// Stretches that the period began with, of instances that the walk has not come to.
    opening: &'a [Handed],
    /// Ruling of the last counted time.
    ruling: Ruling,
    measured: Measured,
}

impl Measuring<'_> {
    /// Computes the time that a meter counted, and the part of it that is billed. `opening` are the
    /// meter's stretches, ascending by instance.
    pub(crate) fn meter(&self, meter: u32, opening: &[Handed]) -> Result<Measured, BillError> {
        let (epochs, first_kind) = epochs(&self.header.terms, meter as usize);
        let measured = Measured::default();
        let ruling = Ruling::NONE;
        let mut walk =
            Walk { measuring: self, meter, epochs, first_kind, opening, ruling, measured };
        walk.subjects()?;
        walk.absent(u32::MAX);
        Ok(walk.measured)
    }
}

/// For each of the terms, the number of changes of the meter's kind of stretch; and the first kind.
fn epochs(terms: &[TermsInForce], meter: usize) -> (Vec<u32>, Option<Stretch>) {
    let mut first = None;
    let mut last = None;
    let mut epoch = 0;
    let mut epochs = Vec::with_capacity(terms.len());
    for in_force in terms {
        if let Some(terms) = &in_force.terms[meter] {
            let is_another = |kind| kind != terms.stretch || Mutant::StretchesByPolicy.is_active();
            epoch += u32::from(last.is_some_and(is_another));
            first = first.or(Some(terms.stretch));
            last = Some(terms.stretch);
        }
        epochs.push(epoch);
    }
    (epochs, first)
}

impl Walk<'_> {
    fn subjects(&mut self) -> Result<(), BillError> {
        let measuring = self.measuring;
        let bit = 1 << self.meter;
        let is_piece = |group: &&Group| group.meters & bit != 0 && !group.goes_on;
        let count = measuring.groups.iter().filter(is_piece).count();
        // There may be millions; growing would reserve half as much again.
        self.measured.pieces.reserve_exact(count);
        self.measured.subjects.reserve_exact(measuring.runs.len());
        self.measured.closing.reserve(measuring.runs.len());
        for run in measuring.runs {
            self.absent(run.subject);
            let before = self.opening.first().filter(|one| one.instance == run.subject);
            if before.is_some() {
                self.opening = &self.opening[1..];
            }
            self.subject(run, before)?;
        }
        Ok(())
    }

    fn subject(&mut self, run: &Run, before: Option<&Handed>) -> Result<(), BillError> {
        let measuring = self.measuring;
        let first = (self.measured.pieces.len(), self.measured.top_ups.len());
        let mut stretch = first.0;
        let mut current = before.and_then(|one| self.resumed(one));
        for group in &measuring.groups[run.groups.clone()] {
            if group.meters & 1 << self.meter != 0 {
                self.group(group, first.0, &mut current, &mut stretch)?;
            }
        }
        self.end(current.as_mut(), stretch)?;
        self.hand_on(run.subject, current.as_ref());
        self.measured.subjects.push(Own {
            subject: run.subject,
            intervals: run.intervals.clone(),
            pieces: first.0..self.measured.pieces.len(),
            top_ups: first.1..self.measured.top_ups.len(),
        });
        Ok(())
    }

    /// Counts a group of a subject whose pieces begin at number `first`.
    fn group(
        &mut self,
        group: &Group,
        first: usize,
        current: &mut Option<Current>,
        stretch: &mut usize,
    ) -> Result<(), BillError> {
        let measuring = self.measuring;
        let is_ruled = self.ruling.holds(group.start, group.end);
        if is_ruled && self.join(group, first, current.as_mut())? {
            return Ok(());
        }
        if !is_ruled {
            self.ruling = self.ruling_at(group.start)?;
        }
        if self.ruling.holds(group.start, group.end) {
            return self.count(group, current, stretch);
        }
        for span in measuring.booked.within(group.start, group.end) {
            self.ruling = self.ruling_at(span.start)?;
            self.count(&group.within(span, measuring.intervals), current, stretch)?;
        }
        Ok(())
    }

    /// Adds a group to the piece before, which began at number `first` or later, if it goes on with
    /// it under the same ruling. Returns whether it does.
    fn join(
        &mut self,
        group: &Group,
        first: usize,
        current: Option<&mut Current>,
    ) -> Result<bool, BillError> {
        let pieces = self.measured.pieces.get_mut(first..).unwrap_or_default();
        let (true, Some(last), Some(current)) = (group.goes_on, pieces.last_mut(), current) else {
            return Ok(false);
        };
        if last.last + 1 != group.first {
            return Ok(false);
        }
        let used = current.used_ns.checked_add(group.end.abs_diff(last.end));
        (last.last, last.end, last.billed_end) = (group.last, group.end, group.end);
        current.last = group.end;
        current.used_ns = used.ok_or_else(|| self.overflow())?;
        Ok(true)
    }

    /// The stretch that an earlier period hands on, unless a policy has ended it.
    fn resumed(&self, before: &Handed) -> Option<Current> {
        let is_kept = self.first_kind.is_none_or(|kind| kind == before.stretch)
            && !Mutant::StretchesByPeriod.is_active();
        is_kept.then_some(Current {
            kind: before.stretch,
            session: before.session,
            wakes: before.wakes,
            last: before.last,
            epoch: 0,
            used_ns: before.used_ns,
            used_before_ns: before.used_ns,
            owed_ns: before.owed_ns,
        })
    }

    /// The ruling at an instant of counted time.
    fn ruling_at(&self, at: i64) -> Result<Ruling, BillError> {
        let all = &self.measuring.header.terms;
        let number = all.partition_point(|terms| terms.from <= at).saturating_sub(1);
        let missing = || {
            let name = &self.measuring.header.meters[self.meter as usize];
            let problem = format!("counts for '{name}' at {at} ns, which the policy does not have");
            BillError::input("intervals", problem)
        };
        let terms = all.get(number).and_then(|in_force| in_force.terms[self.meter as usize]);
        let terms = terms.ok_or_else(missing)?;
        let booked = self.measuring.booked.around(at).unwrap_or(Span { start: at, end: at });
        Ok(Ruling {
            start: booked.start.max(all[number].from),
            end: booked.end.min(all[number].until),
            terms,
            epoch: self.epochs[number],
        })
    }

    /// Counts time under one book and one policy, which the ruling covers.
    fn count(
        &mut self,
        group: &Group,
        current: &mut Option<Current>,
        stretch: &mut usize,
    ) -> Result<(), BillError> {
        steps::count();
        let Group { first: interval, last, start, end, .. } = *group;
        let columns = self.measuring.intervals;
        let session = columns.session[interval as usize];
        let wakes = columns.wakes[interval as usize];
        let goes_on = |current: &Current| self.ruling.goes_on(current, session, wakes, start);
        if !current.as_ref().is_some_and(goes_on) {
            self.end(current.as_mut(), *stretch)?;
            *stretch = self.measured.pieces.len();
            *current = Some(self.ruling.begun(session, wakes));
        }
        if let Some(current) = current {
            current.last = end;
            let used = current.used_ns.checked_add(end.abs_diff(start));
            current.used_ns = used.ok_or_else(|| self.overflow())?;
        }
        let billed_start = start;
        let billed_end = end;
        self.measured.pieces.push(Piece { interval, last, start, end, billed_start, billed_end });
        Ok(())
    }

    /// Marks the billed part of a stretch, whose pieces begin at number `first`.
    fn end(&mut self, current: Option<&mut Current>, first: usize) -> Result<(), BillError> {
        let (Some(current), Some(last)) = (current, self.measured.pieces[first..].last().copied())
        else {
            return Ok(());
        };
        // The ruling may be that of a later time, so the terms at the stretch's end are looked up.
        let terms = match self.ruling.holds(last.end - 1, last.end) {
            true => self.ruling.terms,
            false => self.ruling_at(last.end - 1)?.terms,
        };
        let owed = terms.owed(current.used_ns).ok_or_else(|| self.overflow())?;
        let billed = owed.saturating_sub(current.owed_ns);
        let mut in_place = current.used_ns - current.used_before_ns;
        if owed < current.used_ns || current.owed_ns > current.used_before_ns {
            let pieces = &mut self.measured.pieces[first..];
            in_place = mark(pieces, current.used_before_ns, current.owed_ns, owed);
        }
        let nanos = billed.saturating_sub(in_place);
        if nanos > 0 {
            let at = last.end - 1;
            self.measured.top_ups.push(TopUp { interval: last.last, at, nanos });
        }
        current.owed_ns = current.owed_ns.max(owed);
        Ok(())
    }

    fn hand_on(&mut self, instance: u32, current: Option<&Current>) {
        let is_over = self.measuring.subjects[instance as usize].ended;
        let Some(current) = current.filter(|_| !is_over) else {
            return;
        };
        let is_last = self.epochs.last().is_none_or(|&epoch| epoch == current.epoch);
        let is_open = current.kind != Stretch::Visit || current.last == self.measuring.header.until;
        if !is_last || !is_open {
            return;
        }
        let has_session = matches!(current.kind, Stretch::Start | Stretch::Wake);
        self.measured.closing.push(Handed {
            meter: self.meter,
            instance,
            stretch: current.kind,
            session: if has_session { current.session } else { 0 },
            wakes: if current.kind == Stretch::Wake { current.wakes } else { 0 },
            last: if current.kind == Stretch::Visit { current.last } else { 0 },
            used_ns: current.used_ns,
            owed_ns: current.owed_ns,
        });
    }

    /// Hands on the stretches of instances before number `until`, which have no interval in the
    /// period or are no subjects of it.
    fn absent(&mut self, until: u32) {
        while let Some((one, rest)) =
            self.opening.split_first().filter(|(one, _)| one.instance < until)
        {
            self.opening = rest;
            if (one.instance as usize) < self.measuring.subjects.len() {
                let current = self.resumed(one);
                self.hand_on(one.instance, current.as_ref());
            } else {
                self.measured.closing.push(*one);
            }
        }
    }

    fn overflow(&self) -> BillError {
        BillError::overflow(&self.measuring.header.meters[self.meter as usize])
    }
}

/// Marks the nanoseconds of a stretch that are billed where they are used: those above `paid` and
/// not above `owed`. Returns their number.
fn mark(pieces: &mut [Piece], used_before: u64, paid: u64, owed: u64) -> u64 {
    let mut used = used_before;
    let mut marked = 0;
    for piece in pieces {
        let length = piece.end.abs_diff(piece.start);
        let from = paid.clamp(used, used + length) - used;
        let until = owed.clamp(used, used + length) - used;
        piece.billed_start = piece.start.saturating_add_unsigned(from);
        piece.billed_end = piece.start.saturating_add_unsigned(until.max(from));
        marked += until.saturating_sub(from);
        used += length;
    }
    marked
}

impl Terms {
    /// Nanoseconds that a stretch owes after using `used_ns`; none if they exceed 64 bits.
    pub(crate) fn owed(&self, used_ns: u64) -> Option<u64> {
        if used_ns == 0 {
            return Some(0);
        }
        let least = used_ns.max(self.minimum_ns);
        if self.granularity_ns == 1 {
            return Some(least);
        }
        let grains = least / self.granularity_ns;
        let rest = least % self.granularity_ns;
        let half = rest.cmp(&(self.granularity_ns - rest));
        let is_up = match self.rounding {
            Rounding::Down => false,
            Rounding::Up => rest > 0 && !Mutant::GranularityDown.is_active(),
            Rounding::HalfUp => rest > 0 && half.is_ge(),
            Rounding::HalfEven => half.is_gt() || half.is_eq() && grains % 2 == 1,
        };
        grains.checked_add(u64::from(is_up))?.checked_mul(self.granularity_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_a_minimum_in_grains() {
        let owed = |minimum_ns, granularity_ns, rounding, used| {
            Terms { stretch: Stretch::Start, minimum_ns, granularity_ns, rounding }.owed(used)
        };
        let rows = [
            (60, 1, Rounding::Up, 0, Some(0)),
            (60, 1, Rounding::Up, 4, Some(60)),
            (60, 1, Rounding::Up, 61, Some(61)),
            (0, 60, Rounding::Up, 1, Some(60)),
            (0, 60, Rounding::Up, 60, Some(60)),
            (0, 60, Rounding::Down, 59, Some(0)),
            (0, 60, Rounding::HalfUp, 29, Some(0)),
            (0, 60, Rounding::HalfUp, 30, Some(60)),
            (0, 60, Rounding::HalfEven, 30, Some(0)),
            (0, 60, Rounding::HalfEven, 90, Some(120)),
            (61, 60, Rounding::Up, 1, Some(120)),
            (0, 1 << 63, Rounding::Up, u64::MAX, None),
        ];
        for (minimum, granularity, rounding, used, expected) in rows {
            let found = owed(minimum, granularity, rounding, used);
            assert_eq!(found, expected, "{minimum} {granularity} {rounding:?} {used}");
        }
    }
}
