//! Lines in the making: usage and charges of each instance, by tariff.

use crate::book::Model;
use crate::counter::{Counter, Standing};
use crate::exact::product;
use crate::input::Intervals;
use crate::output::Line;
use crate::stretches::Piece;
use crate::sweep::Phase;

/// Usage and charge of an instance at one tariff.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    is_touched: bool,
    quantity: u128,
    billed: u128,
    from: i64,
    until: i64,
    facts: Option<(u64, u64)>,
}

/// Units at one tariff.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) tariff: u32,
    pub(crate) quantity: u128,
    pub(crate) billed: u128,
    pub(crate) from: i64,
    pub(crate) until: i64,
    /// Sequence numbers of the first and the last fact; none for fees and packages.
    pub(crate) facts: Option<(u64, u64)>,
}

/// Used and charged units of one counter, by tariff: those of one instance, or of the tenant.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    counter: &'a Counter<'a>,
    intervals: &'a Intervals,
    sums: Vec<Sum>,
    touched: Vec<u32>,
    steady: Steady,
    /// Set once a sum was too large.
    is_overflown: bool,
}

/// Positions of a counter over time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) phases: &'a [Phase],
    /// The zone that volume prices pick.
    pub(crate) volume: u32,
}

/// Rate of some time, and whether it is billed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shaped<'a> {
    pub(crate) rate: u64,
    pub(crate) piece: &'a Piece,
    pub(crate) is_billed: bool,
}

/// Time in which units have one tariff, with the sum of the pieces of one shape inside it. Most
/// pieces are added here, without a product and without a search.
#[derive(Debug, Default)]
struct Steady {
    start: i64,
    end: i64,
    tariff: u32,
    is_charged: bool,
    /// Units per nanosecond.
    rate: u64,
    used_ns: u64,
    billed_ns: u64,
    /// First instant of the first piece; meaningless while `used_ns` is 0.
    from: i64,
    until: i64,
    first_fact: u64,
    last_fact: u64,
}

impl Steady {
    fn takes(&self, piece: &Piece, rate: u64) -> bool {
        self.start <= piece.start && piece.end <= self.end && self.rate == rate
    }

    fn add(&mut self, piece: &Piece, (first, last): (u64, u64)) {
        if self.used_ns == 0 {
            (self.from, self.first_fact, self.last_fact) = (piece.start, first, last);
        }
        self.until = piece.end;
        self.first_fact = self.first_fact.min(first);
        self.last_fact = self.last_fact.max(last);
        // Pieces of an instance don't overlap, so that their sum is no longer than time.
        self.used_ns += piece.end.abs_diff(piece.start);
        self.billed_ns += piece.billed_end.abs_diff(piece.billed_start);
    }
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(counter: &'a Counter<'a>, intervals: &'a Intervals) -> Self {
        Self {
            counter,
            intervals,
            sums: vec![Sum::default(); counter.tariffs.len()],
            touched: Vec::new(),
            steady: Steady::default(),
            is_overflown: false,
        }
    }

    pub(crate) fn is_overflown(&self) -> bool {
        self.is_overflown
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        let sum = &mut self.sums[entry.tariff as usize];
        if !sum.is_touched {
            let Entry { tariff, quantity, billed, from, until, facts } = entry;
            *sum = Sum { is_touched: true, quantity, billed, from, until, facts };
            self.touched.push(tariff);
            return;
        }
        sum.from = sum.from.min(entry.from);
        sum.until = sum.until.max(entry.until);
        sum.facts = match (sum.facts, entry.facts) {
            (Some((first, last)), Some((one, other))) => Some((first.min(one), last.max(other))),
            (None, facts) | (facts, None) => facts,
        };
        let quantity = sum.quantity.checked_add(entry.quantity);
        let billed = sum.billed.checked_add(entry.billed);
        match (quantity, billed) {
            (Some(quantity), Some(billed)) => (sum.quantity, sum.billed) = (quantity, billed),
            _ => self.is_overflown = true,
        }
    }

    /// Adds the time of a piece, but for the nanoseconds of it that are billed in a crossing.
    pub(crate) fn piece(&mut self, way: Way<'_>, piece: &Piece, rate: u64) {
        if !self.steady.takes(piece, rate) {
            self.settle();
            self.steady = self.steady_at(way, piece.start);
            self.steady.rate = rate;
        }
        if self.steady.takes(piece, rate) {
            self.steady.add(piece, piece.facts(self.intervals));
        } else {
            self.cut(way, piece, rate);
        }
    }

    /// Settles the steady time before another scope's positions are used.
    pub(crate) fn turn(&mut self) {
        self.settle();
        self.steady = Steady::default();
    }

    /// The time around an instant in which units have one tariff.
    fn steady_at(&self, way: Way<'_>, at: i64) -> Steady {
        let number = way.phases.partition_point(|phase| phase.start <= at) - 1;
        let phase = &way.phases[number];
        let end = way
            .phases
            .get(number + 1)
            .map_or(i64::MAX, |next| next.start - i64::from(next.crossing.is_some()));
        let Some(segment) = self.counter.schedule.segment_at(at) else {
            return Steady::default();
        };
        let standing = Standing { zone: phase.zone, volume: way.volume };
        Steady {
            start: segment.start.max(phase.start),
            end: segment.end.min(end),
            tariff: self.counter.tariff(segment.price, standing),
            is_charged: is_charged(self.counter, segment.price, phase.is_free),
            ..Steady::default()
        }
    }

    /// Adds the steady time's sums to the tariff's, and keeps the time.
    fn settle(&mut self) {
        let steady = std::mem::take(&mut self.steady);
        self.steady = Steady {
            start: steady.start,
            end: steady.end,
            tariff: steady.tariff,
            is_charged: steady.is_charged,
            rate: steady.rate,
            ..Steady::default()
        };
        if steady.used_ns == 0 {
            return;
        }
        let billed_ns = if steady.is_charged { steady.billed_ns } else { 0 };
        self.add(Entry {
            tariff: steady.tariff,
            quantity: product(steady.rate, steady.used_ns),
            billed: product(steady.rate, billed_ns),
            from: steady.from,
            until: steady.until,
            facts: Some((steady.first_fact, steady.last_fact)),
        });
    }

    fn cut(&mut self, way: Way<'_>, piece: &Piece, rate: u64) {
        let shaped = |is_billed| Shaped { rate, piece, is_billed };
        if piece.billed_start >= piece.billed_end {
            return self.time(way, (piece.start, piece.end), shaped(false));
        }
        self.time(way, (piece.start, piece.billed_start), shaped(false));
        self.time(way, (piece.billed_start, piece.billed_end), shaped(true));
        self.time(way, (piece.billed_end, piece.end), shaped(false));
    }

    fn time(&mut self, way: Way<'_>, (start, end): (i64, i64), shaped: Shaped<'_>) {
        if let [only] = way.phases {
            return self.flow(way.volume, only, (start, end), shaped);
        }
        let mut number = way.phases.partition_point(|phase| phase.start <= start) - 1;
        let mut from = start;
        while from < end {
            let next = way.phases.get(number + 1);
            let until = next.map_or(end, |next| next.start.min(end));
            let is_shared = next.is_some_and(|next| next.start == until && next.crossing.is_some());
            let last = until - i64::from(is_shared && shaped.is_billed);
            self.flow(way.volume, &way.phases[number], (from, last), shaped);
            from = until;
            number += 1;
        }
    }

    fn flow(&mut self, volume: u32, phase: &Phase, (start, end): (i64, i64), shaped: Shaped<'_>) {
        if start >= end {
            return;
        }
        let counter = self.counter;
        let mut facts = shaped.piece.facts_at(self.intervals);
        let standing = Standing { zone: phase.zone, volume };
        counter.schedule.each(start, end, |held| {
            let units = product(shaped.rate, held.nanos);
            let is_charged = shaped.is_billed && is_charged(counter, held.price, phase.is_free);
            self.add(Entry {
                tariff: counter.tariff(held.price, standing),
                quantity: units,
                billed: if is_charged { units } else { 0 },
                from: held.first,
                until: held.last,
                facts: Some((facts.at(held.first), facts.at(held.last - 1))),
            });
        });
    }

    /// Makes lines of the sums, in the order of tariffs, and clears them.
    pub(crate) fn flush(&mut self, subject: Option<u32>, lines: &mut Vec<Line>) {
        self.settle();
        if self.touched.len() > 1 {
            self.touched.sort_unstable();
        }
        for &tariff in &self.touched {
            let sum = &mut self.sums[tariff as usize];
            sum.is_touched = false;
            if sum.quantity == 0 && sum.billed == 0 {
                continue;
            }
            lines.push(Line {
                tariff,
                subject,
                quantity: sum.quantity,
                billed: sum.billed,
                amount: 0,
                from: sum.from,
                until: sum.until,
                facts: sum.facts,
            });
        }
        self.touched.clear();
    }
}

/// Returns whether a billed unit is charged by its price: a package is charged as a whole, and
/// covers units that other prices would charge.
pub(crate) fn is_charged(counter: &Counter<'_>, price: u32, is_free: bool) -> bool {
    !is_free && counter.model(price) != Model::Package
}
