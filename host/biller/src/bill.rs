//! The bill: from input to output.

use std::collections::{BTreeMap, HashSet};

use ethnum::U256;

use crate::adjustments::{Adjusting, Source};
use crate::book::{Book, Price};
use crate::charge::{Charged, Charging};
use crate::check;
use crate::clock::Clock;
use crate::counter::{self, Booked, Counter};
use crate::error::BillError;
use crate::handed::{Handed, Opening, balances};
use crate::input::{
    Balances, CounterBalance, Header, Intervals, OwnLine, Rounding, Span, Stretch, Subject,
};
use crate::mutants::Mutant;
use crate::one_offs;
use crate::output::{Bill, Line, LineKind, RuleSum, Tariff};
use crate::rounding::{Digits, Settling};
use crate::spans::Spans;
use crate::stretches::{Group, Measuring, Run, groups};
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
    let opening = Opening::of(&header.opening.stretches, subjects, &header.meters);
    let (mut bill, handed) = make(header, subjects, intervals, own, &opening)?;
    let named = balances(&handed, &opening.others, subjects, &header.meters);
    bill.closing.stretches = named.unwrap_or_default();
    Ok(bill)
}

/// Bills one period, with its stretches by numbers: those that it begins with are `opening`, not
/// those of the header, and those that it hands on stand beside the bill, in any order.
///
/// # Errors
/// As for [`bill`].
pub fn make(
    header: &Header,
    subjects: &[Subject],
    intervals: &Intervals,
    own: &[OwnLine],
    opening: &Opening,
) -> Result<(Bill, Vec<Handed>), BillError> {
    check::header(header)?;
    check::subjects(subjects)?;
    check::opening(&opening.stretches)?;
    let mut runs = check::intervals(header, subjects, intervals)?;
    let groups = groups(header, intervals, &mut runs);
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
    let usage = Usage { runs: &runs, groups: &groups, opening: &opening.stretches };
    let mut making =
        Making { header, rules: BTreeMap::new(), closing: Balances::default(), handed: Vec::new() };
    making.charge(&charging, &usage, &counters, &books)?;
    making.own(&books, own, subjects.len())?;
    making.pass_counters(subjects);
    making.finish(&books, adjusting, &ranks)
}

/// The time to be charged.
struct Usage<'a> {
    runs: &'a [Run],
    groups: &'a [Group],
    /// Stretches that the period begins with.
    opening: &'a [Handed],
}

impl Usage<'_> {
    /// The stretches of a meter that the period begins with.
    fn opening(&self, meter: u32) -> &[Handed] {
        let first = self.opening.partition_point(|one| one.meter < meter);
        let end = self.opening.partition_point(|one| one.meter <= meter);
        &self.opening[first..end]
    }

    /// A meter and those after it that count the same time under the same terms and begin with the
    /// same stretches: bit n stands for meter n. A machine that always runs is counted by many
    /// meters, of which the book prices few; one walk does for all.
    fn alike(&self, header: &Header, meter: u32) -> u64 {
        let differs = |all: u64, group: &Group| match group.meters >> meter & 1 {
            0 => all | group.meters,
            _ => all | !group.meters,
        };
        let same = !self.groups.iter().fold(0, differs);
        let opening = self.opening(meter);
        let is_alike = |&other: &u32| {
            let terms = |one: u32| header.terms.iter().map(move |terms| terms.terms[one as usize]);
            let same_stretch =
                |(one, other): (&Handed, &Handed)| *one == Handed { meter: one.meter, ..*other };
            let others = self.opening(other);
            terms(meter).eq(terms(other))
                && opening.len() == others.len()
                && opening.iter().zip(others).all(same_stretch)
        };
        let count = u32::try_from(header.meters.len()).unwrap_or(u64::BITS);
        let later = (meter + 1..count).filter(|other| same >> other & 1 != 0);
        later.filter(is_alike).fold(1 << meter, |all, other| all | 1 << other)
    }
}

/// The numbers of the bits that are set, ascending.
fn bits(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let first = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (first < u64::BITS).then_some(first)
    })
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
        let mut texts: Vec<&str> = Vec::new();
        let mut in_force = Vec::new();
        for one in &header.books {
            let known = texts.iter().position(|text| *text == one.text);
            let number = known.unwrap_or(texts.len());
            if known.is_none() {
                let book = Book::parse_stored(one.text.as_bytes());
                books.push(book.map_err(|source| BillError::Book { from: one.from, source })?);
                texts.push(&one.text);
            }
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
    /// Stretches that are handed on.
    handed: Vec<Handed>,
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
        usage: &Usage<'_>,
        counters: &'a [Counter<'a>],
        books: &Books,
    ) -> Result<(), BillError> {
        let header = self.header;
        let spans = books.all().map(|(span, _)| span).collect();
        let within = Spans::of(header.first, header.until);
        let booked = Spans::union(spans).intersection(&within);
        let Charging { subjects, intervals, .. } = *charging;
        let Usage { runs, groups, .. } = *usage;
        let measuring = Measuring { header, subjects, intervals, runs, groups, booked: &booked };
        let counted = groups.iter().fold(0, |all, group| all | group.meters);
        let mut charged: Vec<Option<Charged>> = counters.iter().map(|_| None).collect();
        let mut done = 0_u64;
        for meter in (0..).take(header.meters.len()) {
            if done >> meter & 1 != 0 {
                continue;
            }
            let alike = usage.alike(header, meter) & !done;
            done |= alike;
            let name = |meter: u32| header.meters[meter as usize].as_str();
            let is_read =
                |counter: &Counter<'_>| bits(alike).any(|one| counter.key.meter == name(one));
            let is_idle = counted & 1 << meter == 0 && usage.opening(meter).is_empty();
            if is_idle && !counters.iter().any(is_read) {
                continue;
            }
            let mut measured = measuring.meter(meter, usage.opening(meter))?;
            self.hand_on(std::mem::take(&mut measured.closing), alike);
            for (counter, charged) in counters.iter().zip(&mut charged) {
                if let Some(meter) = bits(alike).find(|&one| counter.key.meter == name(one)) {
                    *charged = Some(charging.counter(counter, meter, &measured)?);
                }
            }
        }
        self.pass_stretches(usage.opening, subjects);
        for (counter, charged) in counters.iter().zip(charged) {
            if let Some(charged) = charged {
                self.add(counter, charged);
            }
        }
        Ok(())
    }

    /// Hands on stretches of meters that are measured alike.
    fn hand_on(&mut self, closing: Vec<Handed>, alike: u64) {
        self.handed.reserve(closing.len() * alike.count_ones() as usize);
        for meter in bits(alike) {
            self.handed.extend(closing.iter().map(|one| Handed { meter, ..*one }));
        }
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
    fn pass_stretches(&mut self, opening: &[Handed], subjects: &[Subject]) {
        let header = self.header;
        let is_over =
            |one: &Handed| subjects.get(one.instance as usize).is_some_and(|subject| subject.ended);
        let is_passed = |one: &&Handed| {
            let is_known = (one.meter as usize) < header.meters.len();
            let is_open = one.stretch != Stretch::Visit || one.last == header.until;
            !is_known && is_open && !is_over(one)
        };
        self.handed.extend(opening.iter().filter(is_passed));
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
    ) -> Result<(Bill, Vec<Handed>), BillError> {
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
        closing.counters.sort_unstable();
        let minor_digits = book.map_or(0, |book| book.currency().minor_digits());
        let bill = Bill {
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
        };
        Ok((bill, self.handed))
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
