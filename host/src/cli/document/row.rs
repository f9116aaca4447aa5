//! Rows of a document: its lines, or sums of them, and its adjustments.

use std::collections::BTreeMap;

use super::number;
use super::page::{GroupBy, Page};
use super::words::{instant, short};
use crate::billing::decimal::Decimal;
use crate::invoice::{Invoice, Line, RulesNote, Sum};

/// A line, a sum of lines, or an adjustment.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) day: String,
    pub(super) rule: String,
    pub(super) instance: String,
    pub(super) price: String,
    /// The charged quantity, in `unit`.
    pub(super) quantity: String,
    pub(super) unit: String,
    /// Charged units of measurement, before they are divided.
    pub(super) measured: String,
    pub(super) measured_unit: String,
    pub(super) divisor: String,
    pub(super) unit_price: String,
    pub(super) from: String,
    pub(super) until: String,
    pub(super) policy: Rules,
    pub(super) book: Rules,
    pub(super) was: String,
    pub(super) is: String,
    pub(super) amount: String,
}

/// Names and digests of the rules of a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) names: String,
    pub(super) digests: String,
}

impl Rules {
    /// The rules that were in force in some of a line's time.
    fn over(notes: &[RulesNote], line: &Line) -> Self {
        // The calendar's texts have one form, so that they are ordered as their instants.
        let touches =
            |note: &&RulesNote| note.span.from < line.until && line.from < note.span.until;
        let mut over: Vec<&RulesNote> = Vec::new();
        for note in notes.iter().filter(|_| !line.until.is_empty()).filter(touches) {
            if over.iter().all(|known| known.digest != note.digest) {
                over.push(note);
            }
        }
        let list = |of: fn(&RulesNote) -> String| {
            over.iter().map(|note| of(note)).collect::<Vec<_>>().join(", ")
        };
        Self { names: list(name), digests: list(|note| note.digest.clone()) }
    }
}

/// The name of a policy or a book; the beginning of its digest without one.
pub(super) fn name(note: &RulesNote) -> String {
    note.name.clone().unwrap_or_else(|| short(&note.digest))
}

/// The rows of a page, without those that say nothing.
pub(super) fn rows(page: Page<'_>) -> Vec<Row> {
    let document = page.document;
    let mut rows: Vec<Row> = match page.group {
        None => {
            let lines = document.lines.iter().filter(|line| !is_nothing(line));
            lines.map(|line| Row::line(document, line)).collect()
        }
        Some(GroupBy::Day) => by_day(page),
        Some(group @ (GroupBy::Instance | GroupBy::Rule)) => grouped(document, group),
    };
    rows.extend(document.adjustments.iter().map(Row::adjustment));
    let digits = digits(document, &rows);
    for row in &mut rows {
        for amount in [&mut row.was, &mut row.is, &mut row.amount] {
            *amount = number::money(amount, digits);
        }
    }
    rows
}

/// Digits after the point of all amounts: those of the coin, or as many as one of them needs.
fn digits(document: &Invoice, rows: &[Row]) -> usize {
    let amounts = rows.iter().flat_map(|row| [&row.was, &row.is, &row.amount]);
    let needed = amounts.map(|amount| number::digits(&number::money(amount, 0))).max();
    needed.unwrap_or_default().max(document.minor_digits.into())
}

/// Returns whether a line has neither a quantity nor an amount, now or before.
fn is_nothing(line: &Line) -> bool {
    let is_zero = |text: &str| Decimal::stated(text).is_ok_and(|one| one.units == 0);
    let has_quantity = !is_zero(&line.quantity) || !is_zero(&line.billed);
    let was = line.was.as_deref().unwrap_or("0");
    !has_quantity && [&line.is, &line.amount, was].into_iter().all(is_zero)
}

/// Sums of amounts now, before, and their difference.
#[derive(Default)]
struct Added {
    is: i128,
    was: Option<i128>,
    amount: i128,
}

impl Added {
    fn add(&mut self, is: &str, was: Option<&str>, amount: &str) {
        self.is += nanos(is);
        self.amount += nanos(amount);
        if let Some(was) = was {
            self.was = Some(self.was.unwrap_or_default() + nanos(was));
        }
    }

    fn row(self) -> Row {
        let text = |nanos: i128| Decimal::nanos(nanos).to_string();
        Row {
            is: text(self.is),
            was: self.was.map(text).unwrap_or_default(),
            amount: text(self.amount),
            ..Row::default()
        }
    }
}

fn nanos(text: &str) -> i128 {
    Decimal::stated(text).ok().and_then(|one| one.scaled(9)).unwrap_or_default()
}

/// Exact sums of the lines' amounts, which are shares of rounded sums already.
fn grouped(document: &Invoice, group: GroupBy) -> Vec<Row> {
    let mut sums: BTreeMap<String, Added> = BTreeMap::new();
    for line in document.lines.iter().filter(|line| !is_nothing(line)) {
        let key = match group {
            GroupBy::Instance => instance_name(document, line),
            GroupBy::Rule | GroupBy::Day => line.rule.clone(),
        };
        sums.entry(key).or_default().add(&line.is, line.was.as_deref(), &line.amount);
    }
    let row = |(key, sum): (String, Added)| match group {
        GroupBy::Instance => Row { instance: key, ..sum.row() },
        GroupBy::Rule | GroupBy::Day => Row { rule: key, ..sum.row() },
    };
    sums.into_iter().map(row).collect()
}

fn by_day(page: Page<'_>) -> Vec<Row> {
    let mut sums: BTreeMap<&str, Added> = BTreeMap::new();
    for day in page.days {
        sums.entry(&day.day).or_default().add(&day.is, day.was.as_deref(), &day.amount);
    }
    let row = |(day, sum): (&str, Added)| Row { day: day.to_owned(), ..sum.row() };
    sums.into_iter().map(row).collect()
}

impl Row {
    fn line(document: &Invoice, line: &Line) -> Self {
        let tier = if line.tier == 0 { String::new() } else { format!(" tier {}", line.tier + 1) };
        let kind = if line.kind == "usage" { String::new() } else { format!(" ({})", line.kind) };
        Self {
            rule: line.rule.clone(),
            instance: instance_name(document, line),
            price: format!("{}{tier}{kind}", line.price_id),
            quantity: number::quantity(line),
            unit: if line.kind == "once" { String::new() } else { line.per.clone() },
            measured: line.billed.clone(),
            measured_unit: line.unit.clone(),
            divisor: line.divisor.clone().unwrap_or_default(),
            unit_price: number::unit_price(line),
            from: instant(&line.from),
            until: instant(&line.until),
            policy: Rules::over(&document.policies, line),
            book: Rules::over(&document.books, line),
            was: line.was.clone().unwrap_or_default(),
            is: line.is.clone(),
            amount: line.amount.clone(),
            ..Self::default()
        }
    }

    fn adjustment(sum: &Sum) -> Self {
        Self {
            rule: sum.kind.clone(),
            price: match &sum.reason {
                Some(reason) => format!("{}: {reason}", sum.id),
                None => sum.id.clone(),
            },
            was: sum.was.clone(),
            is: sum.is.clone(),
            amount: sum.amount.clone(),
            ..Self::default()
        }
    }
}

fn instance_name(document: &Invoice, line: &Line) -> String {
    let Some(id) = line.instance.as_deref() else { return "-".into() };
    let named = document.instances.iter().find(|named| named.id == id);
    named.map_or_else(|| id.to_owned(), |named| named.name.clone())
}

/// A column of the table and of the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) is_number: bool,
    pub(super) of: fn(&Row) -> &String,
}

const fn text(head: &'static str, of: fn(&Row) -> &String) -> Column {
    Column { head, is_number: false, of }
}

const fn figure(head: &'static str, of: fn(&Row) -> &String) -> Column {
    Column { head, is_number: true, of }
}

/// The columns of a page: those in which some row has something to say. The policy and the book
/// stand in the rows if there are several; a document that follows on another says what was and
/// what is.
pub(super) fn columns(page: Page<'_>, rows: &[Row]) -> Vec<Column> {
    let document = page.document;
    let follows = document.follows.is_some();
    let several = |notes: &[RulesNote]| notes.windows(2).any(|two| two[0].digest != two[1].digest);
    let all = [
        (text("DAY", |row| &row.day), true),
        (text("RULE", |row| &row.rule), true),
        (text("INSTANCE", |row| &row.instance), true),
        (text("PRICE", |row| &row.price), true),
        (figure("QUANTITY", |row| &row.quantity), true),
        (text("UNIT", |row| &row.unit), true),
        (figure("UNIT PRICE", |row| &row.unit_price), document.currency.is_some()),
        (text("FROM", |row| &row.from), true),
        (text("UNTIL", |row| &row.until), true),
        (text("POLICY", |row| &row.policy.names), several(&document.policies)),
        (text("BOOK", |row| &row.book.names), several(&document.books)),
        (figure("WAS", |row| &row.was), follows),
        (figure("IS", |row| &row.is), follows),
        (figure("DIFFERENCE", |row| &row.amount), follows),
        (figure("AMOUNT", |row| &row.amount), !follows && document.currency.is_some()),
    ];
    let says = |column: &Column| rows.iter().any(|row| !(column.of)(row).is_empty());
    let shown = all.into_iter().filter(|(column, is_wanted)| *is_wanted && says(column));
    shown.map(|(column, _)| column).collect()
}
