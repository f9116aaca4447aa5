//! Minimums, caps and credits over the charges of rules.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use num_rational::BigRational;
use num_traits::Zero;

use crate::book::{Adjustment, AdjustmentKind, Book};
use crate::charge::Charges;
use crate::known::Known;
use crate::money::{Rounding, rounded, shared, whole};
use crate::period::Span;
use crate::scenario::Nanos;
use crate::usage::pairs;

type Spans = Vec<(Nanos, Nanos)>;

/// The charges of a period up to an instant, less what adjustments took.
pub(crate) struct Ledger<'a> {
    known: &'a Known<'a>,
    span: Span,
    step: i128,
    rounding: Rounding,
    /// Pieces of the full period, each with the book that is in force or planned.
    pieces: Vec<BookPiece>,
    streams: Vec<Stream>,
    layers: Vec<Layer>,
    answers: RefCell<HashMap<(usize, Nanos, usize), i128>>,
}

struct BookPiece {
    from: Nanos,
    to: Nanos,
    book: Option<Rc<Book>>,
}

/// Charges that adjustments act on.
enum Stream {
    Rule(String, Charges),
    Raise { id: String, amount: i128, spans: Spans },
}

/// The effect of a cap or a credit.
struct Layer {
    /// Time in which the layer acts, by stream.
    spans: Vec<Spans>,
    /// Nanosecond in which the amount is reached.
    at: Nanos,
    /// Part of that nanosecond's charges below the amount, by stream.
    shares: Vec<i128>,
    keeps: Keeps,
}

/// Side of the amount that remains to be paid.
enum Keeps {
    Below,
    Above,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(
        known: &'a Known<'a>,
        span: Span,
        book: &Book,
        charges: BTreeMap<String, Charges>,
    ) -> Self {
        let edges = known.edges(span.begin, span.usual_end);
        let piece = |(from, to)| {
            let book = known.planned_book(from, span.up_to).cloned();
            BookPiece { from, to, book }
        };
        let mut ledger = Self {
            known,
            span,
            step: crate::money::step_of_digits(book.line_digits),
            rounding: book.rounding,
            pieces: pairs(&edges).map(piece).collect(),
            streams: Vec::new(),
            layers: Vec::new(),
            answers: RefCell::default(),
        };
        // Order in which they share the rest of a cap.
        ledger.streams =
            charges.into_iter().map(|(rule, charges)| Stream::Rule(rule, charges)).collect();
        ledger
    }

    /// Books of the pieces before the end, in order of time.
    fn held(&self) -> impl Iterator<Item = &Book> {
        let pieces = self.pieces.iter().filter(|piece| piece.from < self.span.up_to);
        pieces.filter_map(|piece| piece.book.as_deref())
    }

    pub(crate) fn rules(&self) -> BTreeMap<String, i128> {
        let sum = |(place, stream): (usize, &Stream)| match stream {
            Stream::Rule(rule, _) => Some((rule.clone(), self.before(place, self.span.up_to, 0))),
            Stream::Raise { .. } => None,
        };
        self.streams.iter().enumerate().filter_map(sum).collect()
    }

    /// Sums of rules up to some instants.
    pub(crate) fn parts(&self, marks: &[Nanos]) -> BTreeMap<String, Vec<i128>> {
        let part = |(place, stream): (usize, &Stream)| match stream {
            Stream::Rule(rule, _) => {
                let before = marks.iter().map(|at| self.before(place, *at, 0));
                Some((rule.clone(), before.collect()))
            }
            Stream::Raise { .. } => None,
        };
        self.streams.iter().enumerate().filter_map(part).collect()
    }

    /// Applies all adjustments, and returns the change of each by its id. Adds to the credits' use.
    pub(crate) fn adjust(&mut self, used: &mut BTreeMap<String, i128>) -> BTreeMap<String, i128> {
        let mut changes = BTreeMap::new();
        for (id, kind) in self.adjustments() {
            let change = match kind {
                AdjustmentKind::Minimum => self.minimum(&id),
                AdjustmentKind::Cap => self.cap(&id),
                AdjustmentKind::Credit => self.credit(&id, used),
            };
            changes.insert(id, change);
        }
        changes
    }

    /// Adjustments in the order in which they act.
    fn adjustments(&self) -> Vec<(String, AdjustmentKind)> {
        let mut last = BTreeMap::new();
        for (number, book) in self.held().enumerate() {
            for (place, adjustment) in book.adjustments.iter().enumerate() {
                last.insert(adjustment.id.clone(), (number, place, adjustment.kind));
            }
        }
        let mut order: Vec<_> = last.into_iter().collect();
        order.sort_by_key(|(_, (number, place, _))| (*number, *place));
        order.into_iter().map(|(id, (_, _, kind))| (id, kind)).collect()
    }

    fn cap(&mut self, id: &str) -> i128 {
        let amount = self.amount(id);
        let spans = self.spans(id);
        let charges = self.inside(&spans, self.span.up_to);
        if charges <= amount {
            return 0;
        }
        self.cut(spans, amount, Keeps::Below);
        amount - charges
    }

    fn credit(&mut self, id: &str, used: &mut BTreeMap<String, i128>) -> i128 {
        let used = used.entry(id.to_owned()).or_insert(0);
        let granted = self.pieces.iter().find_map(|piece| named(piece, id));
        let granted =
            granted.map_or_else(BigRational::zero, |adjustment| adjustment.amount.clone());
        // A credit never pays more than it has, so its payment is rounded down.
        let left = rounded(&(granted - whole(*used)), self.step, Rounding::Down).max(0);
        let spans = self.spans(id);
        let paid = left.min(self.inside(&spans, self.span.up_to));
        self.cut(spans, left, Keeps::Above);
        *used += paid;
        -paid
    }

    fn minimum(&mut self, id: &str) -> i128 {
        if self.span.up_to < self.span.end {
            return 0;
        }
        let spans = self.spans(id);
        let raise = self.amount(id) - self.inside(&spans, self.span.up_to);
        if raise <= 0 {
            return 0;
        }
        let spans = self.acting(id).map(|(piece, _)| (piece.from, piece.to)).collect();
        self.streams.push(Stream::Raise { id: id.to_owned(), amount: raise, spans });
        raise
    }

    /// The pieces of time inside the span of an adjustment.
    fn acting(&self, id: &str) -> impl Iterator<Item = (&BookPiece, &Adjustment)> {
        self.pieces.iter().filter_map(move |piece| {
            let adjustment = named(piece, id)?;
            let is_inside = adjustment.valid.holds(self.known.calendar.reads(piece.from))
                && self.known.first_fact() <= piece.from
                && piece.from < self.known.ended();
            is_inside.then_some((piece, adjustment))
        })
    }

    /// The amount of a minimum or a cap.
    fn amount(&self, id: &str) -> i128 {
        let usual = whole((self.span.usual_end - self.span.usual_begin).into());
        let shares = self.acting(id).map(|(piece, adjustment)| {
            &adjustment.amount * whole((piece.to - piece.from).into()) / &usual
        });
        rounded(&shares.sum(), self.step, self.rounding)
    }

    /// Time in which an adjustment acts, by stream.
    fn spans(&self, id: &str) -> Vec<Spans> {
        let spans = |stream: &Stream| {
            let acts = self.acting(id).filter(|(_, adjustment)| self.acts_on(adjustment, stream));
            acts.map(|(piece, _)| (piece.from, piece.to)).collect()
        };
        self.streams.iter().map(spans).collect()
    }

    fn acts_on(&self, adjustment: &Adjustment, stream: &Stream) -> bool {
        let Some(rules) = &adjustment.rules else { return true };
        match stream {
            Stream::Rule(rule, _) => rules.contains(rule),
            Stream::Raise { id, .. } => {
                let mut minimums = self.pieces.iter().filter_map(|piece| named(piece, id));
                minimums.all(|minimum| {
                    minimum.rules.as_ref().is_some_and(|raised| raised.is_subset(rules))
                })
            }
        }
    }

    /// Charges inside spans and before an instant that all layers so far leave.
    fn inside(&self, spans: &[Spans], at: Nanos) -> i128 {
        let layers = self.layers.len();
        spans
            .iter()
            .enumerate()
            .map(|(stream, spans)| self.inside_of(stream, spans, at, layers))
            .sum()
    }

    fn inside_of(&self, stream: usize, spans: &Spans, at: Nanos, layers: usize) -> i128 {
        let begun = spans.iter().filter(|(from, _)| *from < at);
        begun
            .map(|(from, to)| {
                self.before(stream, at.min(*to), layers) - self.before(stream, *from, layers)
            })
            .sum()
    }

    /// Charges of a stream before an instant that the first `layers` layers leave.
    fn before(&self, stream: usize, at: Nanos, layers: usize) -> i128 {
        let key = (stream, at, layers);
        if let Some(&known) = self.answers.borrow().get(&key) {
            return known;
        }
        let answer = self.compute_before(stream, at, layers);
        self.answers.borrow_mut().insert(key, answer);
        answer
    }

    fn compute_before(&self, stream: usize, at: Nanos, layers: usize) -> i128 {
        let Some(below) = layers.checked_sub(1) else { return self.charged(stream, at) };
        let left = self.before(stream, at, below);
        let layer = &self.layers[below];
        // The layer does not act on a raise that came later.
        let Some(spans) = layer.spans.get(stream) else { return left };
        let reached = self.inside_of(stream, spans, at.min(layer.at), below);
        let share = if at > layer.at { layer.shares[stream] } else { 0 };
        let under = reached + share;
        match layer.keeps {
            Keeps::Below => left - (self.inside_of(stream, spans, at, below) - under),
            Keeps::Above => left - under,
        }
    }

    fn charged(&self, stream: usize, at: Nanos) -> i128 {
        let exact = match &self.streams[stream] {
            Stream::Rule(_, charges) => charges.before(at),
            Stream::Raise { amount, spans, .. } => {
                let length = |until: Nanos| -> Nanos {
                    spans.iter().map(|(from, to)| (until.min(*to) - from).max(0)).sum()
                };
                whole(*amount) * whole(length(at).into()) / whole(length(Nanos::MAX).into())
            }
        };
        rounded(&exact, self.step, self.rounding)
    }

    /// Divides charges in order of time into those below an amount and those above.
    fn cut(&mut self, spans: Vec<Spans>, amount: i128, keeps: Keeps) {
        let mut at = self.span.begin;
        let mut over = self.span.up_to;
        if self.inside(&spans, over) <= amount {
            at = over;
        }
        while at + 1 < over {
            let middle = at + (over - at) / 2;
            if self.inside(&spans, middle) <= amount { at = middle } else { over = middle }
        }
        let layers = self.layers.len();
        let in_nanosecond = |(stream, spans): (usize, &Spans)| {
            self.inside_of(stream, spans, at + 1, layers)
                - self.inside_of(stream, spans, at, layers)
        };
        let weights: Vec<i128> = spans.iter().enumerate().map(in_nanosecond).collect();
        let rest = amount - self.inside(&spans, at);
        let shares = if weights.iter().sum::<i128>() == 0 {
            vec![0; weights.len()]
        } else {
            shared(rest, &weights, self.step)
        };
        self.layers.push(Layer { spans, at, shares, keeps });
    }
}

fn named<'b>(piece: &'b BookPiece, id: &str) -> Option<&'b Adjustment> {
    let book = piece.book.as_deref()?;
    book.adjustments.iter().find(|adjustment| adjustment.id == id)
}
