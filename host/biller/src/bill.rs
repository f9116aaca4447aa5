//! The bill: from input to output.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use ethnum::U256;

use crate::adjustments::{Adjusting, Source};
use crate::book::{Book, Price};
use crate::charge::{Charged, Charging};
use crate::check;
use crate::clock::Clock;
use crate::counter::{self, Booked, Counter};
use crate::error::BillError;
use crate::input::{
    Balances, CounterBalance, Header, Intervals, OwnLine, Rounding, Span, Stretch, StretchBalance,
    Subject,
};
use crate::mutants::Mutant;
use crate::one_offs;
use crate::output::{Bill, Line, LineKind, RuleSum, Tariff};
use crate::rounding::{Digits, Settling};
use crate::spans::Spans;
use crate::stretches::{Measuring, joins};
use crate::timeline::RuleTimeline;

/// Bills one period of one tenant up to one instant.
///
/// # Errors
/// [`BillError`]: the input is malformed, a book contradicts an earlier one, or a sum is larger
/// than 127 bits of nano-units.
pub fn bill(
    header: &Header,
    subjects: &[Subject],
    intervals: &Intervals,
    own: &[OwnLine],
) -> Result<Bill, BillError> {
    check::header(header)?;
    check::subjects(subjects)?;
    let runs = check::intervals(header, subjects, intervals)?;
    let books = Books::read(header)?;
    let ranks = ranks(subjects);
    let clock = Clock { offsets: &header.calendar, zones: &header.zones };
    let counters = counter::counters(&books.priced(header), &clock);
    let adjusting = Adjusting::of(header, &books, &clock)?;
    let charging = Charging {
        header,
        subjects,
        intervals,
        ranks: &ranks,
        wants_timelines: adjusting.needs_timelines() || !header.marks.is_empty(),
    };
    let mut making = Making { header, rules: BTreeMap::new(), closing: Balances::default() };
    making.charge(&charging, &runs, &counters, &books)?;
    making.own(&books, own, subjects.len())?;
    making.pass_counters(subjects);
    making.finish(&books, adjusting, &ranks)
}

/// The books in force, read.
pub(crate) struct Books {
    /// Each text once.
    books: Vec<Book>,
    /// Time in force and number of the book, ascending.
    in_force: Vec<(Span, usize)>,
    until: i64,
}

impl Books {
    fn read(header: &Header) -> Result<Self, BillError> {
        let mut books = Vec::new();
        let mut numbers = HashMap::new();
        let mut in_force = Vec::new();
        for one in &header.books {
            let number = match numbers.get(one.text.as_str()) {
                Some(&number) => number,
                None => {
                    let book = Book::parse_stored(one.text.as_bytes());
                    let book = book.map_err(|source| BillError::Book { from: one.from, source })?;
                    books.push(book);
                    numbers.insert(one.text.as_str(), books.len() - 1);
                    books.len() - 1
                }
            };
            let reaches_back = Mutant::FirstBookReachesBack.is_active() && in_force.is_empty();
            let start = if reaches_back { header.period.start } else { one.from };
            in_force.push((Span { start, end: one.until }, number));
        }
        let read = Self { books, in_force, until: header.until };
        read.check(header)?;
        Ok(read)
    }

    fn check(&self, header: &Header) -> Result<(), BillError> {
        for pair in self.books.windows(2) {
            let one = pair[0].currency();
            let other = pair[1].currency();
            if one != other {
                let one = one.to_string();
                let other = other.to_string();
                return Err(BillError::Currency { one, other });
            }
        }
        let named = self.books.iter().flat_map(Book::zones);
        let is_given = |name: &str| header.zones.iter().any(|zone| zone.name == name);
        match named.into_iter().find(|name| !is_given(name)) {
            Some(name) => {
                Err(BillError::input("zones", format!("must have '{name}', which a book names")))
            }
            None => Ok(()),
        }
    }

    /// All books in force, planned ones included, ascending.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Span, &Book)> {
        self.in_force.iter().map(|&(span, number)| (span, &self.books[number]))
    }

    /// All books in force; cut at changes of policy for the faults that begin anew there.
    pub(crate) fn pieces(&self, header: &Header) -> Vec<(Span, &Book)> {
        let is_cut = Mutant::CountersByPolicy.is_active() || Mutant::CreditsBySwap.is_active();
        if !is_cut {
            return self.all().collect();
        }
        let cuts = || header.terms.iter().map(|terms| terms.from);
        let cut = |(span, book): (Span, _)| {
            let inside = cuts().filter(move |&at| span.start < at && at < span.end);
            let starts: Vec<i64> = std::iter::once(span.start).chain(inside).collect();
            let ends: Vec<i64> = starts.iter().copied().skip(1).chain([span.end]).collect();
            let spans = starts.into_iter().zip(ends).map(|(start, end)| Span { start, end });
            spans.map(move |span| (span, book)).collect::<Vec<_>>()
        };
        self.all().flat_map(cut).collect()
    }

    /// The last book in force before T.
    pub(crate) fn last(&self) -> Option<&Book> {
        let before = self.all().take_while(|(span, _)| span.start < self.until);
        before.last().map(|(_, book)| book)
    }

    fn at(&self, at: i64) -> Option<&Book> {
        self.all().find(|(span, _)| span.start <= at && at < span.end).map(|(_, book)| book)
    }

    /// The books up to T, for prices.
    fn priced(&self, header: &Header) -> Vec<Booked<'_>> {
        let cut = |span: Span| Span {
            start: span.start.max(header.first),
            end: span.end.min(header.until),
        };
        let booked = self.pieces(header).into_iter();
        let booked = booked.map(|(span, book)| Booked { span: cut(span), prices: book.prices() });
        booked.filter(|book| book.span.start < book.span.end).collect()
    }

    fn digits(&self) -> Digits {
        match self.last() {
            Some(book) => Digits::new(book.line_digits(), book.rounding()),
            None => Digits::new(9, Rounding::HalfEven),
        }
    }
}

/// The ids of subjects whose life has ended, for which no balance is handed on.
fn ended(subjects: &[Subject]) -> HashSet<&str> {
    let ended = subjects.iter().filter(|subject| subject.ended);
    ended.map(|subject| subject.id.as_str()).collect()
}

/// The place of each subject in the order of first facts, then of ids.
fn ranks(subjects: &[Subject]) -> Vec<u32> {
    let mut order: Vec<_> = (0..subjects.len()).collect();
    order.sort_by_key(|&number| (subjects[number].first_fact, &subjects[number].id));
    let mut ranks = vec![0; subjects.len()];
    for (rank, number) in (0..).zip(order) {
        ranks[number] = rank;
    }
    ranks
}

/// A rule's charges.
struct Rule<'a> {
    tariffs: Vec<Tariff>,
    lines: Vec<Line>,
    timeline: RuleTimeline<'a>,
}

/// A bill in the making.
struct Making<'a> {
    header: &'a Header,
    rules: BTreeMap<String, Rule<'a>>,
    closing: Balances,
}

impl<'a> Making<'a> {
    fn rule(&mut self, name: &str) -> &mut Rule<'a> {
        let new = || Rule {
            tariffs: Vec::new(),
            lines: Vec::new(),
            timeline: RuleTimeline {
                counters: Vec::new(),
                own: Vec::new(),
                own_tariffs: Vec::new(),
            },
        };
        self.rules.entry(name.into()).or_insert_with(new)
    }

    /// Charges meter by meter, so that the pieces of one are freed before the next.
    fn charge(
        &mut self,
        charging: &Charging<'_>,
        runs: &[(u32, Range<usize>)],
        counters: &'a [Counter<'a>],
        books: &Books,
    ) -> Result<(), BillError> {
        let header = self.header;
        let spans = books.all().map(|(span, _)| span).collect();
        let within = Spans::of(header.first, header.until);
        let booked = Spans::union(spans).intersection(&within);
        let subjects = charging.subjects;
        let intervals = charging.intervals;
        let joins = &joins(intervals);
        let measuring = Measuring { header, subjects, intervals, runs, joins, booked: &booked };
        let counted = intervals.meters.iter().fold(0, |all, meters| all | meters);
        let opening = by_meter(&header.opening.stretches);
        let mut charged: Vec<Option<Charged>> = counters.iter().map(|_| None).collect();
        for (meter, name) in header.meters.iter().enumerate() {
            let opening = opening.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let is_read = counters.iter().any(|counter| counter.key.meter == name);
            if counted & 1 << meter == 0 && opening.is_empty() && !is_read {
                continue;
            }
            let mut measured = measuring.meter(meter, opening)?;
            self.closing.stretches.append(&mut measured.closing);
            for (counter, charged) in counters.iter().zip(&mut charged) {
                if counter.key.meter == name {
                    *charged = Some(charging.counter(counter, meter, &measured)?);
                }
            }
        }
        self.pass_stretches(subjects);
        for (counter, charged) in counters.iter().zip(charged) {
            if let Some(charged) = charged {
                self.add(counter, charged);
            }
        }
        Ok(())
    }

    fn add(&mut self, counter: &'a Counter<'a>, mut charged: Charged) {
        self.closing.counters.append(&mut charged.closing);
        let rule = self.rule(counter.key.rule);
        let first = u32::try_from(rule.tariffs.len()).unwrap_or(u32::MAX);
        rule.tariffs.extend_from_slice(&counter.tariffs);
        rule.timeline.counters.push((counter, charged.timeline));
        if first == 0 {
            rule.lines = charged.lines;
            return;
        }
        for line in &mut charged.lines {
            line.tariff += first;
        }
        rule.lines.append(&mut charged.lines);
        rule.lines.sort_by_key(|line| (line.subject.unwrap_or(u32::MAX), line.tariff));
    }

    /// Adds the lines that the policies stated.
    fn own(&mut self, books: &Books, own: &[OwnLine], subjects: usize) -> Result<(), BillError> {
        for (number, line) in own.iter().enumerate() {
            let wrong = |problem: String| BillError::Own { line: number, problem };
            let price = self.own_price(books, line, subjects).map_err(wrong)?;
            let tariff = Tariff {
                kind: LineKind::Own,
                rule: line.rule.clone(),
                meter: line.meter.clone(),
                price_id: line.price_id.clone(),
                tier: 0,
                per: price.per_text.clone(),
                unit: line.unit.clone(),
                price_numerator: price.tiers[0].price.numerator.cast_signed(),
                price_denominator: price.tiers[0].price.denominator,
            };
            self.rule(&line.rule).own(tariff, line);
        }
        for rule in self.rules.values_mut().filter(|rule| !rule.timeline.own.is_empty()) {
            rule.lines.sort_by_key(|line| (line.subject.unwrap_or(u32::MAX), line.tariff));
        }
        Ok(())
    }

    /// The price of a line of a policy's own, or the reason why it can't have it.
    fn own_price<'b>(
        &self,
        books: &'b Books,
        line: &OwnLine,
        subjects: usize,
    ) -> Result<&'b Price, String> {
        let header = self.header;
        if line.at < header.first || line.at >= header.until {
            return Err("must belong to an instant from `first` to `until`".into());
        }
        if line.subject.is_some_and(|subject| subject as usize >= subjects) {
            return Err("is of a subject that was not given".into());
        }
        let is_counted =
            |price: &Price| price.rule == line.rule && header.meters.contains(&price.meter);
        if books.books.iter().any(|book| book.prices().iter().any(is_counted)) {
            let rule = &line.rule;
            return Err(format!(
                "has the rule '{rule}', which a book prices by meter; name another"
            ));
        }
        let book = books.at(line.at).ok_or("belongs to an instant without a book")?;
        let found = book.prices().iter().find(|price| price.id == line.price_id);
        let price = found.ok_or_else(|| {
            format!("has the price '{}', which the book in force does not have", line.price_id)
        })?;
        if price.per.unit != line.unit {
            let unit = &price.per.unit;
            return Err(format!("is in {}, and its price is for {unit}", line.unit));
        }
        Ok(price)
    }

    /// Hands on the stretches of meters that no policy of the period has. A visit that time without
    /// its meter has ended is none of them.
    fn pass_stretches(&mut self, subjects: &[Subject]) {
        let header = self.header;
        let ended = ended(subjects);
        let is_passed = |balance: &&StretchBalance| {
            let is_known = header.meters.contains(&balance.meter);
            let is_open = balance.stretch != Stretch::Visit || balance.last == header.until;
            !is_known && is_open && !ended.contains(balance.instance.as_str())
        };
        let passed = header.opening.stretches.iter().filter(is_passed);
        self.closing.stretches.extend(passed.cloned());
    }

    /// Hands on counters that the period did not add to.
    fn pass_counters(&mut self, subjects: &[Subject]) {
        if self.header.opening.counters.is_empty() {
            return;
        }
        let ended = ended(subjects);
        let counted = std::mem::take(&mut self.closing.counters);
        let mut closing: BTreeMap<_, CounterBalance> = BTreeMap::new();
        let key = |one: &CounterBalance| {
            (one.rule.clone(), one.meter.clone(), one.unit.clone(), one.instance.clone())
        };
        for balance in &self.header.opening.counters {
            let has_ended = balance.instance.as_deref().is_some_and(|id| ended.contains(id));
            if !has_ended {
                closing.insert(key(balance), balance.clone());
            }
        }
        closing.extend(counted.into_iter().map(|balance| (key(&balance), balance)));
        self.closing.counters = closing.into_values().collect();
    }

    fn finish(
        self,
        books: &Books,
        mut adjusting: Adjusting<'a>,
        ranks: &[u32],
    ) -> Result<Bill, BillError> {
        let digits = books.digits();
        let billed = Span { start: self.header.first, end: self.header.until };
        let mut rules = Vec::new();
        let mut tariffs = Vec::new();
        let mut lines = Vec::new();
        for (name, mut rule) in self.rules {
            if rule.lines.is_empty() {
                continue;
            }
            let settling = Settling { tariffs: &rule.tariffs, ranks, digits };
            let amount =
                settling.settle(&mut rule.lines).ok_or_else(|| BillError::overflow(&name))?;
            collect(&mut rule, &mut tariffs, &mut lines);
            let mut source = Source::rule(&name, amount, rule.timeline, billed, digits);
            let before = source.values(&self.header.marks);
            let before = before.ok_or_else(|| BillError::overflow(&name))?;
            adjusting.add(source);
            rules.push(RuleSum { rule: name, amount, before });
        }
        let (adjustments, mut credits) = adjusting.adjust(digits)?;
        let amounts = rules.iter().map(|rule| rule.amount);
        let changes = adjustments.iter().map(|one| one.change);
        let total = amounts.chain(changes).try_fold(0_i128, i128::checked_add);
        let mut total = total.ok_or_else(|| BillError::overflow("total"))?;
        let book = books.last();
        let one_offs = match book {
            Some(book) => {
                one_offs::act(self.header, book.currency().code(), &mut total, &mut credits)?
            }
            None => Vec::new(),
        };
        credits.sort_unstable();
        let mut closing = self.closing;
        closing.credits = credits;
        // Each meter's are in the order of subjects, mostly that of their ids: runs to be merged.
        closing.stretches.sort();
        closing.counters.sort_unstable();
        let minor_digits = book.map_or(0, |book| book.currency().minor_digits());
        Ok(Bill {
            currency: book.map(|book| book.currency().code().into()),
            minor_digits,
            line_digits: book.map_or(9, Book::line_digits),
            rounding: digits.rounding,
            rules,
            adjustments,
            one_offs,
            total,
            payable: coins(total, minor_digits, digits.rounding)?,
            tariffs,
            lines,
            closing,
        })
    }
}

impl Rule<'_> {
    fn own(&mut self, tariff: Tariff, line: &OwnLine) {
        let first = self.tariffs.len() - self.timeline.own_tariffs.len();
        let known = self.timeline.own_tariffs.iter().position(|one| *one == tariff);
        let number = known.unwrap_or(self.timeline.own_tariffs.len());
        if known.is_none() {
            self.tariffs.push(tariff.clone());
            self.timeline.own_tariffs.push(tariff);
        }
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.timeline.own.push((line.at, narrow(number), line.billed));
        if line.quantity > 0 || line.billed > 0 {
            self.lines.push(Line {
                tariff: narrow(first + number),
                subject: line.subject,
                quantity: line.quantity,
                billed: line.billed,
                amount: 0,
                from: line.at,
                until: line.at.saturating_add(1),
                facts: None,
            });
        }
    }
}

/// The stretches that an earlier period handed on, by meter.
fn by_meter(stretches: &[StretchBalance]) -> HashMap<&str, Vec<&StretchBalance>> {
    let mut by_meter: HashMap<&str, Vec<&StretchBalance>> = HashMap::new();
    for balance in stretches {
        by_meter.entry(balance.meter.as_str()).or_default().push(balance);
    }
    by_meter
}

/// Moves a rule's lines to the bill's, with the tariffs that they use.
fn collect(rule: &mut Rule<'_>, tariffs: &mut Vec<Tariff>, lines: &mut Vec<Line>) {
    const UNUSED: u32 = u32::MAX;
    let mut numbers = vec![UNUSED; rule.tariffs.len()];
    for line in &rule.lines {
        numbers[line.tariff as usize] = 0;
    }
    for (number, tariff) in numbers.iter_mut().zip(rule.tariffs.drain(..)) {
        if *number != UNUSED {
            *number = u32::try_from(tariffs.len()).unwrap_or(UNUSED);
            tariffs.push(tariff);
        }
    }
    for line in &mut rule.lines {
        line.tariff = numbers[line.tariff as usize];
    }
    match lines.is_empty() {
        true => *lines = std::mem::take(&mut rule.lines),
        false => lines.append(&mut rule.lines),
    }
}

/// Converts nano-units to the currency's smallest coins.
fn coins(total: i128, minor_digits: u8, rounding: Rounding) -> Result<i128, BillError> {
    let digits = Digits::new(minor_digits, rounding);
    let coins = digits.round(U256::from(total.unsigned_abs()), 1);
    let coins = coins.and_then(|coins| i128::try_from(coins).ok());
    let coins = coins.ok_or_else(|| BillError::overflow("total"))?;
    Ok(if total < 0 { -coins } else { coins })
}
