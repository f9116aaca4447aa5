//! One code path from evidence to charges: preview, final, correction and proof all go through [`Rater::rate`].

use std::sync::Arc;

use super::document::{FIRST_LINK, Line, Named, Receipt};
use super::evidence::{Evidence, EvidenceError, InForce};
use super::hash;
use super::lives::{Life, columns, subjects};
use super::stand_ins::StandIns;
use crate::billing::calendar::Calendar;
use crate::billing::currency::Currency;
use crate::billing::decimal::Decimal;
use crate::billing::{Change, Timeline};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::Head;
use crate::limits::policy::RATING_PIECES;
use crate::policy::book::{Book, BookError};
use crate::policy::rating::{CalendarOffset, ChargeLine, Request, Span, Statement, signed, unsigned};
use crate::policy::{AdmissionError, Answer, ENGINE, Fault, Policy, PolicyHost, Profile, zones};
use crate::units::Instant;
use crate::vm::Phase;

/// Why a period is not rated.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// Facts or documents.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A price book is none.
    #[error("price book {digest}: {problem}")]
    Book {
        /// Which.
        digest: Digest,
        /// Why.
        problem: BookError,
    },
    /// A policy that was in force can't be loaded.
    #[error("policy {digest} can't be loaded")]
    Policy {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<AdmissionError>,
    },
    /// A policy gave no statement that could be believed. The facts are safe; the period stays unrated.
    #[error("policy {policy} did not rate the period: {}", fault.in_words())]
    Fault {
        /// Which.
        policy: Digest,
        /// What it did.
        fault: Fault,
    },
    /// A policy was quarantined, and the tenant's ladder holds its time. The facts are safe; the period stays unrated.
    #[error("policy {policy} was quarantined, and what it owes is held: its time from {from} to {until} is not rated")]
    Held {
        /// Which.
        policy: Digest,
        /// First instant of the time, by the calendar.
        from: String,
        /// First instant after it.
        until: String,
    },
    /// Prices in two currencies.
    #[error("the period has prices in {0} and in {1}; close it up to the change first")]
    Currencies(&'static str, &'static str),
    /// The sum does not fit.
    #[error("the sum of the period does not fit 128 bits")]
    Overflow,
    /// What was asked for makes no sense.
    #[error("{0}")]
    Period(String),
}

/// What is to be rated.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose time.
    pub tenant: TenantId,
    /// From when on, on the meter clock.
    pub from: Instant,
    /// Up to when.
    pub until: Instant,
    /// Facts after this one do not exist.
    pub as_of: Head,
    /// A policy instead of those in force.
    pub policy: Option<Digest>,
    /// A price book instead of those in force.
    pub book: Option<Digest>,
}

/// What a period comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    /// What the amounts are in.
    pub currency: Currency,
    /// How the sum is rounded to coins.
    pub rounding: &'static str,
    /// The instances that were there, sorted.
    pub instances: Vec<Named>,
    /// The charges.
    pub lines: Vec<Line>,
    /// How they came about.
    pub receipts: Vec<Receipt>,
    /// What the last call left.
    pub carried: Vec<u8>,
    /// The time that the line under the glass covers; see [`Rater::watching`].
    pub watched: Vec<Watched>,
}

/// A piece of an interval that a line covers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Watched {
    /// Sequence number of the fact that opened the interval.
    pub fact: u64,
    /// The phase.
    pub phase: &'static str,
    /// First instant on the meter clock.
    pub start_ns: i64,
    /// First instant after it.
    pub end_ns: i64,
}

/// Rates periods from evidence.
pub struct Rater<'a, E> {
    evidence: &'a E,
    policies: &'a PolicyHost,
    names: &'a dyn Fn(&InstanceId) -> Result<Named, EvidenceError>,
    watching: Option<u64>,
    telling: &'a dyn Fn(u64),
}

/// A stretch of a period under one policy and one book.
#[derive(Debug, Clone)]
struct Segment {
    span: Span,
    /// Who is asked.
    policy: Digest,
    /// In whose place, if that was quarantined.
    stands_in_for: Option<Digest>,
    book: Arc<Book>,
}

/// What goes from call to call, and whose it is.
#[derive(Debug, Clone, Default)]
struct Carried {
    policy: Option<Digest>,
    bytes: Vec<u8>,
}

/// One call that was made.
struct Call<'a> {
    segment: &'a Segment,
    request: &'a Request,
    lives: &'a [Life],
    statement: &'a Statement,
    fuel: u64,
}

impl<'a, E: Evidence> Rater<'a, E> {
    /// A rater that knows instances by the names that `names` tells.
    pub fn new(
        evidence: &'a E,
        policies: &'a PolicyHost,
        names: &'a dyn Fn(&InstanceId) -> Result<Named, EvidenceError>,
    ) -> Self {
        Self { evidence, policies, names, watching: None, telling: &|_| () }
    }

    /// Also tells which time the line of this number covers.
    #[must_use]
    pub fn watching(self, line: u64) -> Self {
        Self { watching: Some(line), ..self }
    }

    /// Also tells after each call how many intervals it was about.
    #[must_use]
    pub fn telling(self, telling: &'a dyn Fn(u64)) -> Self {
        Self { telling, ..self }
    }

    /// What it is made from.
    pub(super) fn evidence(&self) -> &'a E {
        self.evidence
    }

    /// Rates a period. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn rate(&self, order: &Order) -> Result<Rated, InvoiceError> {
        let whole = Span { start: order.from.0, end: order.until.0 };
        if whole.start >= whole.end {
            return Err(InvoiceError::Period("the period is empty: it must end after it begins".into()));
        }
        let calendar = self.evidence.calendar(order.as_of.seq)?;
        let mut making = Making::new(self.last_link(order)?, self.watching);
        let mut carried = self.before(order, &calendar, &mut making.ids)?;
        let segments = self.segments(order, whole, &calendar)?;
        making.currency = currency(&segments)?;
        for segment in &segments {
            making.rounding = segment.book.rounding();
            self.segment(order, segment, whole, &calendar, &mut carried, &mut |call| making.add(&call))?;
        }
        let instances = making.instances()?.into_iter().map(|id| (self.names)(&id)).collect::<Result<_, _>>()?;
        Ok(Rated {
            currency: making.currency,
            rounding: making.rounding,
            instances,
            lines: making.lines,
            receipts: making.receipts,
            carried: carried.bytes,
            watched: making.watched,
        })
    }

    /// The last link of the receipts' chain so far.
    fn last_link(&self, order: &Order) -> Result<String, InvoiceError> {
        let documents = self.evidence.invoices(&order.tenant, order.as_of.seq)?;
        let Some(stored) = documents.last() else { return Ok(FIRST_LINK.into()) };
        Ok(self.read(stored.digest)?.last_link())
    }

    /// What was left at the beginning of the period: by the tenant's last document that ends no later, and for the time in between by rating it, too.
    /// The instances of that time are added to `ids`.
    fn before(&self, order: &Order, calendar: &Calendar, ids: &mut Vec<InstanceId>) -> Result<Carried, InvoiceError> {
        let documents = self.evidence.invoices(&order.tenant, order.as_of.seq)?;
        let earlier = documents.iter().filter(|stored| stored.until <= order.from);
        let (mut carried, since) = match earlier.max_by_key(|stored| (stored.until, stored.fact)) {
            None => (Carried::default(), self.first_instant(order)?),
            Some(stored) => {
                let document = self.read(stored.digest)?;
                let policy = document.receipts.last().and_then(|receipt| receipt.policy.parse().ok());
                let bytes = base64(&document.carried);
                let bytes = bytes.ok_or_else(|| EvidenceError::Altered(format!("document {}", stored.digest)))?;
                (Carried { policy, bytes }, stored.until)
            }
        };
        if since < order.from {
            let gap = Span { start: since.0, end: order.from.0 };
            for segment in &self.segments(order, gap, calendar)? {
                self.segment(order, segment, gap, calendar, &mut carried, &mut |call| {
                    ids.extend(call.lives.iter().map(|life| life.id.clone()));
                    Ok(())
                })?;
            }
        }
        Ok(carried)
    }

    /// When the tenant's first instance began; the period's own beginning if there is none before it.
    fn first_instant(&self, order: &Order) -> Result<Instant, InvoiceError> {
        let mut first = order.from;
        for id in self.evidence.instances(&order.tenant, order.as_of.seq)? {
            let began = self.evidence.began(&id, order.as_of.seq)?;
            first = began.map_or(first, |began| first.min(began));
        }
        Ok(first)
    }

    pub(super) fn read(&self, digest: Digest) -> Result<super::Invoice, InvoiceError> {
        let bytes = self.evidence.document(digest)?;
        let altered = |error| EvidenceError::Altered(format!("document {digest} can't be read: {error}"));
        Ok(super::Invoice::from_bytes(&bytes).map_err(altered)?)
    }

    /// The period cut wherever another policy or another book comes into force. A policy that is named is asked, whatever became of it.
    fn segments(&self, order: &Order, span: Span, calendar: &Calendar) -> Result<Vec<Segment>, InvoiceError> {
        let seq = order.as_of.seq;
        let standard = self.policies.standard().digest();
        let (policies, stand_ins) = match order.policy {
            Some(digest) => (Timeline::starting_with(digest), StandIns::default()),
            None => {
                let activations = self.evidence.policies(&order.tenant, seq)?;
                let stand_ins = StandIns::of(&self.evidence.quarantines(&order.tenant, seq)?, &activations);
                (timeline(standard, activations), stand_ins)
            }
        };
        let none = Digest::of(b"");
        let books = match order.book {
            Some(digest) => Timeline::starting_with(digest),
            None => timeline(none, self.evidence.books(&order.tenant, seq)?),
        };
        let (start, end) = (Instant(span.start), Instant(span.end));
        let changes = policies.between(start, end).chain(books.between(start, end));
        let mut bounds: Vec<i64> = changes.map(|(from, _)| from.0).collect();
        bounds.extend([span.start, span.end]);
        bounds.sort_unstable();
        bounds.dedup();
        let mut stretches: Vec<(Span, Digest, Digest)> = Vec::new();
        for pair in bounds.windows(2) {
            let (policy, book) = (policies.at(Instant(pair[0])), books.at(Instant(pair[0])));
            match stretches.last_mut() {
                Some((span, last, of)) if (*last, *of) == (policy, book) => span.end = pair[1],
                _ => stretches.push((Span { start: pair[0], end: pair[1] }, policy, book)),
            }
        }
        let segment = |(span, policy, book): (Span, Digest, Digest)| {
            let answering = stand_ins.answering(policy).ok_or_else(|| held(policy, span, calendar))?;
            let stands_in_for = Some(policy).filter(|&policy| policy != answering);
            Ok(Segment { span, policy: answering, stands_in_for, book: self.book(book)? })
        };
        stretches.into_iter().map(segment).collect()
    }

    fn book(&self, digest: Digest) -> Result<Arc<Book>, InvoiceError> {
        if digest == Book::none().digest() {
            return Ok(Arc::new(Book::none()));
        }
        let bytes = self.evidence.document(digest)?;
        Book::parse(&bytes).map(Arc::new).map_err(|problem| InvoiceError::Book { digest, problem })
    }

    fn policy(&self, digest: Digest) -> Result<Arc<Policy>, InvoiceError> {
        if let Some(policy) = self.policies.get(digest) {
            return Ok(policy);
        }
        let bytes = self.evidence.component(digest)?;
        // What it answers does not depend on the bounds; the wider ones are open to those that leave the accounting to the standard policy.
        let load = |profile| self.policies.load(profile, digest, &bytes);
        let loaded = load(Profile::Large).or_else(|_| load(Profile::Compact));
        loaded.map_err(|source| InvoiceError::Policy { digest, source: Box::new(source) })
    }

    /// Rates a segment in as many calls as its instances need.
    fn segment(
        &self,
        order: &Order,
        segment: &Segment,
        invoice: Span,
        calendar: &Calendar,
        carried: &mut Carried,
        made: &mut dyn FnMut(Call<'_>) -> Result<(), InvoiceError>,
    ) -> Result<(), InvoiceError> {
        let policy = self.policy(segment.policy)?;
        if carried.policy != Some(segment.policy) {
            *carried = Carried { policy: Some(segment.policy), bytes: Vec::new() };
        }
        let mut call = |lives: &[Life], last: bool| {
            let mut request = request(order, segment, invoice, calendar, lives)?;
            request.last = last;
            request.subjects = self.subjects(lives)?;
            request.carried = std::mem::take(&mut carried.bytes);
            let failed = |fault| InvoiceError::Fault { policy: segment.policy, fault };
            let Answer { value: statement, fuel } = policy.rate_metered(&request).map_err(failed)?;
            carried.bytes.clone_from(&statement.carried);
            (self.telling)(request.intervals.fact.len() as u64);
            made(Call { segment, request: &request, lives, statement: &statement, fuel })
        };
        let (rules, has_windows) = (segment.book.rules().len(), !segment.book.zones().is_empty());
        let (mut waiting, mut pieces, most) = (Vec::new(), 0, RATING_PIECES / (rules + 1));
        for id in self.evidence.instances(&order.tenant, order.as_of.seq)? {
            let history = self.evidence.history(&id, order.as_of.seq)?;
            let Some(life) = Life::within(&id, &history, segment.span) else { continue };
            let more = life.pieces(has_windows);
            if pieces > 0 && pieces + more > most {
                call(&waiting, false)?;
                waiting.clear();
                pieces = 0;
            }
            pieces += more;
            waiting.push(life);
        }
        call(&waiting, true)
    }

    fn subjects(&self, lives: &[Life]) -> Result<Vec<crate::policy::rating::Subject>, InvoiceError> {
        let named = lives.iter().map(|life| (self.names)(&life.id)).collect::<Result<Vec<_>, _>>()?;
        Ok(subjects(lives, &named))
    }
}

/// The changes as a timeline that begins with `first`.
fn timeline(first: Digest, changes: Vec<InForce>) -> Timeline {
    let set = |InForce { from, digest, .. }| Change::Set { from, digest };
    Timeline::starting_with(first).with(changes.into_iter().map(set))
}

fn held(policy: Digest, span: Span, calendar: &Calendar) -> InvoiceError {
    let utc = |at| super::utc_text(calendar, Instant(at));
    InvoiceError::Held { policy, from: utc(span.start), until: utc(span.end) }
}

/// The one currency of all segments that have prices.
fn currency(segments: &[Segment]) -> Result<Currency, InvoiceError> {
    let mut found = Currency::NONE;
    for segment in segments.iter().filter(|segment| segment.book.currency() != Currency::NONE) {
        let here = segment.book.currency();
        if found != Currency::NONE && found != here {
            return Err(InvoiceError::Currencies(found.code(), here.code()));
        }
        found = here;
    }
    Ok(found)
}

/// The request for these lives; subjects and what is carried are for the caller to fill in.
fn request(
    order: &Order,
    segment: &Segment,
    invoice: Span,
    calendar: &Calendar,
    lives: &[Life],
) -> Result<Request, InvoiceError> {
    let utc =
        Span { start: calendar.utc_ns(Instant(segment.span.start)), end: calendar.utc_ns(Instant(segment.span.end)) };
    let missing = |name: &str| InvoiceError::from(EvidenceError::Missing(format!("time zone {name}")));
    let zone = |name: &str| zones::resolve(name, utc).ok_or_else(|| missing(name));
    let offset = |(since, offset): (Instant, i64)| CalendarOffset { since: since.0, offset };
    Ok(Request {
        tenant: order.tenant.to_string(),
        invoice,
        period: segment.span,
        last: true,
        subjects: Vec::new(),
        intervals: columns(lives),
        calendar: calendar.offsets().into_iter().map(offset).collect(),
        zones: segment.book.zones().into_iter().map(zone).collect::<Result<_, _>>()?,
        book: segment.book.on_meter(calendar),
        options: segment.book.options().to_vec(),
        carried: Vec::new(),
    })
}

/// A document's content while its calls are made.
struct Making {
    currency: Currency,
    rounding: &'static str,
    lines: Vec<Line>,
    receipts: Vec<Receipt>,
    ids: Vec<InstanceId>,
    link: String,
    watching: Option<u64>,
    watched: Vec<Watched>,
}

impl Making {
    fn new(link: String, watching: Option<u64>) -> Self {
        let (lines, receipts, ids, watched) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { currency: Currency::NONE, rounding: "half-even", lines, receipts, ids, link, watching, watched }
    }

    fn add(&mut self, call: &Call<'_>) -> Result<(), InvoiceError> {
        let receipt = receipt(call).chained(&self.link);
        self.link.clone_from(&receipt.chain);
        self.receipts.push(receipt);
        let receipt = (self.receipts.len() - 1) as u64;
        for charge in &call.statement.lines {
            let number = self.lines.len() as u64 + 1;
            if self.watching == Some(number) {
                self.watched = watched(charge, call.request);
            }
            self.lines.push(line(number, charge, call.request, receipt));
        }
        self.ids.extend(call.lives.iter().map(|life| life.id.clone()));
        Ok(())
    }

    /// The instances of all calls, each once.
    fn instances(&mut self) -> Result<Vec<InstanceId>, InvoiceError> {
        let mut ids = std::mem::take(&mut self.ids);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

fn watched(charge: &ChargeLine, request: &Request) -> Vec<Watched> {
    let columns = &request.intervals;
    let piece = |(place, &index): (usize, &u32)| {
        let index = index as usize;
        Watched {
            fact: columns.fact[index],
            phase: Phase::from_ordinal(columns.phase[index]).map_or("none", Phase::as_str),
            start_ns: charge.starts.get(place).copied().unwrap_or(columns.start[index]),
            end_ns: charge.ends.get(place).copied().unwrap_or(columns.end[index]),
        }
    };
    charge.intervals.iter().enumerate().map(piece).collect()
}

fn receipt(call: &Call<'_>) -> Receipt {
    let facts = &call.request.intervals.fact;
    Receipt {
        from_ns: call.segment.span.start,
        until_ns: call.segment.span.end,
        policy: call.segment.policy.to_string(),
        stands_in_for: call.segment.stands_in_for.map(|policy| policy.to_string()),
        book: call.segment.book.digest().to_string(),
        tzdata: zones::edition().into(),
        engine: ENGINE.into(),
        fuel: call.fuel,
        facts: facts.iter().min().copied().zip(facts.iter().max().copied()),
        intervals: facts.len() as u64,
        input: hash::of_request(call.request),
        output: hash::of_statement(call.statement),
        chain: String::new(),
    }
}

fn line(number: u64, charge: &ChargeLine, request: &Request, receipt: u64) -> Line {
    let facts = || charge.intervals.iter().filter_map(|&index| request.intervals.fact.get(index as usize).copied());
    let subject = charge.subject.and_then(|subject| request.subjects.get(subject as usize));
    Line {
        number,
        kind: charge.kind.clone(),
        reverses: None,
        rule: charge.rule.clone(),
        meter: charge.meter.clone(),
        instance: subject.map(|subject| subject.id.clone()),
        quantity: unsigned(charge.quantity).to_string(),
        billed: unsigned(charge.billed).to_string(),
        unit: charge.unit.clone(),
        price_id: charge.price_id.clone(),
        tier: charge.tier,
        price_numerator: signed(charge.price.numerator).to_string(),
        price_denominator: unsigned(charge.price.denominator).to_string(),
        amount: Decimal::nanos(signed(charge.amount)).to_string(),
        remainder: signed(charge.remainder).to_string(),
        description: charge.description.clone(),
        intervals: charge.intervals.len() as u64,
        minimums: charge.sessions.len() as u64,
        facts: facts().min().zip(facts().max()),
        receipt: Some(receipt),
    }
}

/// The bytes of a base64 text.
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
