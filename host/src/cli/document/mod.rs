//! Invoices for people: as a table, as rows for a spreadsheet, as a page for the browser or the
//! printer.

use std::collections::BTreeMap;
use std::fmt::Write;

use biller::per::Per;
use clap::ValueEnum;

use super::output;
use crate::billing::decimal::Decimal;
use crate::invoice::{Invoice, Kind, Line, Stretch, Sum};

/// Digits after the decimal point of shown quantities and unit prices.
const SHOWN_DIGITS: u32 = 6;

/// The form in which documents are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns for a terminal.
    #[default]
    Table,
    /// The documents as they are stored.
    Json,
    /// One row for each line, adjustment and sum.
    Csv,
    /// A page for a browser and for paper.
    Html,
}

/// The grouping by which lines are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GroupBy {
    /// All rules of each instance.
    Instance,
    /// All instances of each rule.
    Rule,
}

/// A row of a document: a line, a sum of lines, or an adjustment.
struct Row {
    rule: String,
    instance: String,
    price: String,
    quantity: String,
    unit_price: String,
    from: String,
    until: String,
    was: String,
    is: String,
    amount: String,
}

const HEAD: [&str; 10] =
    ["RULE", "INSTANCE", "PRICE", "QUANTITY", "UNIT PRICE", "FROM", "UNTIL", "WAS", "IS", "AMOUNT"];

/// Formats documents for people; JSON is left to the caller.
pub(super) fn print(documents: &[Invoice], format: Format, group: Option<GroupBy>) -> String {
    match format {
        Format::Table | Format::Json => {
            let texts: Vec<_> = documents.iter().map(|document| table(document, group)).collect();
            if texts.is_empty() { "nothing to bill".into() } else { texts.join("\n\n") }
        }
        Format::Csv => csv(documents, group),
        Format::Html => html(documents, group),
    }
}

/// A document as a table, with its sums and its notes.
pub(super) fn table(document: &Invoice, group: Option<GroupBy>) -> String {
    let currency = document.currency.as_deref().unwrap_or("no price book: quantities alone");
    let mut text = format!("{}\n{}\n\n", title(document), period(document));
    let corrects = document.lines.iter().any(|line| line.was.is_some());
    let rows: Vec<_> = rows(document, group).into_iter().map(|row| row.cells(corrects)).collect();
    let head: Vec<_> = columns(corrects).map(|column| HEAD[column]).collect();
    let right: Vec<_> = head
        .iter()
        .enumerate()
        .filter(|(_, name)| is_number(name))
        .map(|(place, _)| place)
        .collect();
    text.push_str(&output::table(&head, &right, rows));
    let _ = write!(text, "\n\ntotal       {} {currency}", document.total);
    if document.total != document.period_total {
        let _ = write!(text, " (the period comes to {})", document.period_total);
    }
    let _ = write!(text, "\nto be paid  {} {currency}, net of tax", document.payable);
    for sum in &document.to_come {
        let _ = write!(
            text,
            "\nstill to come if nothing more is used: {} {currency} ({})",
            sum.amount, sum.id
        );
    }
    for note in notes(document) {
        let _ = write!(text, "\n{note}");
    }
    text
}

fn title(document: &Invoice) -> String {
    let tenant = &document.tenant;
    match (document.kind, document.number, document.reason.as_deref()) {
        (Kind::Correction, Some(number), reason) => {
            let follows = document.follows.unwrap_or_default();
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("correction {number} for tenant {tenant}, of document {follows}{reason}")
        }
        (Kind::Invoice, Some(number), _) => format!("invoice {number} for tenant {tenant}"),
        (Kind::Preview | Kind::Invoice | Kind::Correction, _, _) => {
            format!("preview for tenant {tenant}, not final")
        }
    }
}

fn period(document: &Invoice) -> String {
    let Stretch { from, until, .. } = &document.period;
    let zone = &document.zone;
    let whole = format!("period {} to {} ({zone})", instant(from), instant(until));
    match document.reaches_end {
        true => whole,
        false => format!("{whole}, billed up to {}", instant(&document.billed.until)),
    }
}

/// The notes of a document: overrides, unrated time, open operations, quarantines and evidence.
fn notes(document: &Invoice) -> Vec<String> {
    let mut notes = Vec::new();
    for one in &document.overrides {
        let what = match (&one.policy, &one.book) {
            (Some(policy), Some(book)) => {
                format!("policy {} and price book {}", short(policy), short(book))
            }
            (Some(policy), None) => format!("policy {}", short(policy)),
            (None, Some(book)) => format!("price book {}", short(book)),
            (None, None) => "no override any more".into(),
        };
        let until = &one.span.until;
        // A preview's rules hold from the begin of time.
        let from = match one.span.from_ns < document.period.from_ns {
            true => &document.period.from,
            false => &one.span.from,
        };
        notes.push(format!(
            "{} to {}: {what}, because {}",
            instant(from),
            instant(until),
            one.reason
        ));
    }
    for span in &document.unrated {
        notes.push(format!(
            "{} to {} is not rated and was taken as unused",
            instant(&span.from),
            instant(&span.until)
        ));
    }
    for name in &document.unsettled {
        notes.push(format!("{name}: an operation was under way; its outcome will be a correction"));
    }
    for receipt in &document.receipts {
        if let Some(quarantined) = &receipt.stands_in_for {
            let (policy, by) = (short(quarantined), short(&receipt.component));
            let note = format!("policy {policy} was quarantined; {by} measured its time");
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes.push(format!(
        "as of fact {}; {} calls, each with a receipt",
        document.as_of.seq,
        document.receipts.len()
    ));
    notes
}

fn rows(document: &Invoice, group: Option<GroupBy>) -> Vec<Row> {
    let mut rows: Vec<Row> = match group {
        None => document.lines.iter().map(|line| Row::line(document, line)).collect(),
        Some(group) => grouped(document, group),
    };
    rows.extend(document.adjustments.iter().map(Row::adjustment));
    rows
}

/// Exact sums of the lines' amounts, which are shares of rounded sums already.
fn grouped(document: &Invoice, group: GroupBy) -> Vec<Row> {
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    for line in &document.lines {
        let key = match group {
            GroupBy::Instance => name(document, line),
            GroupBy::Rule => line.rule.clone(),
        };
        *sums.entry(key).or_default() += line.amount_nanos().unwrap_or_default();
    }
    let row = |(key, nanos): (String, i128)| {
        let amount = format!("{:.2}", Decimal::nanos(nanos));
        let (rule, instance) = match group {
            GroupBy::Instance => (String::new(), key),
            GroupBy::Rule => (key, String::new()),
        };
        Row { rule, instance, amount, ..Row::empty() }
    };
    sums.into_iter().map(row).collect()
}

impl Row {
    fn empty() -> Self {
        let none = String::new;
        Self {
            rule: none(),
            instance: none(),
            price: none(),
            quantity: none(),
            unit_price: none(),
            from: none(),
            until: none(),
            was: none(),
            is: none(),
            amount: none(),
        }
    }

    fn line(document: &Invoice, line: &Line) -> Self {
        let digits = usize::from(document.minor_digits);
        let money = |text: &str| {
            text.parse::<Decimal>().map_or_else(|_| text.into(), |one| format!("{one:.digits$}"))
        };
        let tier = if line.tier == 0 { String::new() } else { format!(" tier {}", line.tier + 1) };
        let kind = if line.kind == "usage" { String::new() } else { format!(" ({})", line.kind) };
        Self {
            rule: line.rule.clone(),
            instance: name(document, line),
            price: format!("{}{tier}{kind}", line.price_id),
            quantity: quantity(line),
            unit_price: unit_price(line),
            from: instant(&line.from),
            until: instant(&line.until),
            was: line.was.as_deref().map(money).unwrap_or_default(),
            is: money(&line.is),
            amount: money(&line.amount),
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
            ..Self::empty()
        }
    }

    fn all(self) -> [String; 10] {
        [
            self.rule,
            self.instance,
            self.price,
            self.quantity,
            self.unit_price,
            self.from,
            self.until,
            self.was,
            self.is,
            self.amount,
        ]
    }

    fn cells(self, corrects: bool) -> Vec<String> {
        let all = self.all();
        columns(corrects).map(|column| all[column].clone()).collect()
    }
}

/// The columns of a table, as indexes into [`HEAD`]; `WAS` and `IS` only in a correction.
fn columns(corrects: bool) -> impl Iterator<Item = usize> {
    (0..HEAD.len()).filter(move |column| corrects || !matches!(HEAD[*column], "WAS" | "IS"))
}

fn is_number(name: &str) -> bool {
    matches!(name, "QUANTITY" | "UNIT PRICE" | "WAS" | "IS" | "AMOUNT")
}

fn name(document: &Invoice, line: &Line) -> String {
    let Some(id) = line.instance.as_deref() else { return "-".into() };
    let named = document.instances.iter().find(|named| named.id == id);
    named.map_or_else(|| id.to_owned(), |named| named.name.clone())
}

/// The charged quantity, in the unit of the price.
fn quantity(line: &Line) -> String {
    let units: u128 = line.billed.parse().unwrap_or_default();
    match line.per.parse::<Per>() {
        Ok(per) if line.kind == "usage" => format!("{} {}", ratio(units, per.units), line.per),
        _ => units.to_string(),
    }
}

/// The price of one unit.
fn unit_price(line: &Line) -> String {
    let numerator: u128 = line.price_numerator.parse().unwrap_or_default();
    let denominator: u128 = line.price_denominator.parse().unwrap_or(1);
    let units = line.per.parse::<Per>().map_or(1, |per| per.units);
    let units = if line.kind == "usage" { units } else { 1 };
    let nanos = denominator.checked_mul(1_000_000_000);
    match numerator.checked_mul(units).zip(nanos) {
        Some((numerator, denominator)) => ratio(numerator, denominator),
        None => format!("{numerator}/{denominator}"),
    }
}

/// A ratio as a decimal number, truncated after [`SHOWN_DIGITS`] and marked with `...` if that is
/// not exact.
fn ratio(numerator: u128, denominator: u128) -> String {
    let scale = 10_u128.pow(SHOWN_DIGITS);
    let (whole, rest) = (numerator / denominator.max(1), numerator % denominator.max(1));
    let Some(scaled) = rest.checked_mul(scale) else { return format!("{whole}...") };
    let units = whole.saturating_mul(scale).saturating_add(scaled / denominator.max(1));
    let units = i128::try_from(units).unwrap_or(i128::MAX);
    let cut = if scaled % denominator.max(1) == 0 { "" } else { "..." };
    format!("{}{cut}", Decimal { units, digits: SHOWN_DIGITS })
}

/// An instant without a fraction of 0 nanoseconds.
fn instant(text: &str) -> String {
    text.strip_suffix(".000000000Z").map_or_else(|| text.into(), |text| format!("{text}Z"))
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn csv(documents: &[Invoice], group: Option<GroupBy>) -> String {
    let mut text = String::from("document,kind,period_from,period_until,currency");
    for name in HEAD {
        text.push(',');
        text.push_str(&name.to_lowercase().replace(' ', "_"));
    }
    for document in documents {
        let number = document.number.map(|number| number.to_string()).unwrap_or_default();
        let kind = format!("{:?}", document.kind).to_lowercase();
        let currency = document.currency.clone().unwrap_or_default();
        let head =
            [number, kind, document.period.from.clone(), document.period.until.clone(), currency];
        for row in rows(document, group) {
            let cells: Vec<_> =
                head.iter().cloned().chain(row.all()).map(|cell| field(&cell)).collect();
            text.push('\n');
            text.push_str(&cells.join(","));
        }
    }
    text
}

/// A field of RFC 4180. A text that a spreadsheet would run as a formula is quoted with `'`.
fn field(text: &str) -> String {
    let is_number = text.parse::<Decimal>().is_ok();
    let text = match text.chars().next() {
        Some('=' | '+' | '-' | '@') if !is_number && text.len() > 1 => format!("'{text}"),
        _ => text.to_owned(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:72rem;\
    color:#111;background:#fff}table{border-collapse:collapse;width:100%}\
    th,td{padding:.25rem .6rem;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}\
    th{font-weight:600}td.n,th.n{text-align:right;\
    font-variant-numeric:tabular-nums;white-space:nowrap}tfoot td{font-weight:600;border-bottom:0}\
    p.note{color:#555}section{break-after:page}@media print{body{margin:0;font-size:11px}}";

fn html(documents: &[Invoice], group: Option<GroupBy>) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tallyman</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body>\n"
    );
    for document in documents {
        section(&mut page, document, group);
    }
    page.push_str("</body></html>");
    page
}

fn section(page: &mut String, document: &Invoice, group: Option<GroupBy>) {
    let currency = document.currency.as_deref().unwrap_or("");
    let corrects = document.lines.iter().any(|line| line.was.is_some());
    let shown: Vec<_> = columns(corrects).collect();
    let class = |column: usize| if is_number(HEAD[column]) { " class=\"n\"" } else { "" };
    let _ = write!(
        page,
        "<section><h1>{}</h1><p>{}</p><table><thead><tr>",
        escaped(&title(document)),
        period(document)
    );
    for &column in &shown {
        let name = HEAD[column];
        let name = format!("{}{}", &name[..1], name[1..].to_lowercase());
        let _ = write!(page, "<th scope=\"col\"{}>{name}</th>", class(column));
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in rows(document, group) {
        page.push_str("<tr>");
        for (&column, cell) in shown.iter().zip(row.cells(corrects)) {
            let _ = write!(page, "<td{}>{}</td>", class(column), escaped(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody><tfoot>");
    let before = shown.len() - 1;
    for (name, amount) in
        [("Total", &document.total), ("To be paid, net of tax", &document.payable)]
    {
        let _ = write!(
            page,
            "<tr><td colspan=\"{before}\">{name}</td><td class=\"n\">{amount} {currency}</td></tr>"
        );
    }
    page.push_str("</tfoot></table>\n");
    for note in notes(document) {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escaped(&note));
    }
    page.push_str("</section>\n");
}

/// Escapes text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_cut_and_say_so() {
        let rows = [(1, 2, "0.5"), (10, 5, "2"), (1, 3, "0.333333..."), (0, 7, "0"), (7, 0, "7")];
        for (numerator, denominator, text) in rows {
            assert_eq!(ratio(numerator, denominator), text);
        }
    }

    #[test]
    fn fields_are_quoted_and_never_formulas() {
        let rows = [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("-1.5", "-1.5"),
            ("=1+2", "'=1+2"),
            ("say \"x\"", "\"say \"\"x\"\"\""),
        ];
        for (text, written) in rows {
            assert_eq!(field(text), written);
        }
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
