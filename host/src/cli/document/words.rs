//! Words of a document: its title, its period, the rules in force, and its notes.

use crate::billing::agreement::local_date;
use crate::invoice::{Invoice, Kind, RulesNote, Stretch};

/// The title: the kind and number of the document.
pub(super) fn title(document: &Invoice) -> String {
    let own = || document.number.map(|number| number.to_string());
    let number = document.reference.clone().or_else(own);
    match (document.kind, number, document.reason.as_deref()) {
        (Kind::Correction, Some(number), reason) => {
            let follows = document.follows.unwrap_or_default();
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("correction {number}, of document {follows}{reason}")
        }
        (Kind::Invoice, Some(number), _) => format!("invoice {number}"),
        (Kind::Preview | Kind::Invoice | Kind::Correction, _, _) => "preview, not final".into(),
    }
}

/// Lines below the title: payer, issuer, dates and rules.
pub(super) fn heading(document: &Invoice) -> Vec<String> {
    let tenant = &document.tenant;
    let to = match &document.billed_to {
        Some(name) => format!("for {name} (tenant {tenant})"),
        None => format!("for tenant {tenant}"),
    };
    let issuer = document.issuer.as_ref().map(|name| format!("from {name}"));
    let issued = document.issued.as_ref().map(|at| format!("issued {}", instant(at)));
    let issue: Vec<_> = [issuer, issued].into_iter().flatten().collect();
    let mut lines = vec![to];
    if !issue.is_empty() {
        lines.push(issue.join(", "));
    }
    lines.push(period(document));
    lines.extend(rules("policy", &document.policies));
    lines.extend(rules("price book", &document.books));
    lines
}

/// The period by its first and last local day.
fn period(document: &Invoice) -> String {
    let (start, end) = document.borders_utc_ns;
    let days = local_date(&document.zone, start).ok().zip(local_date(&document.zone, end - 1).ok());
    let zone = &document.zone;
    let whole = match days {
        Some((first, last)) if first == last => format!("period {first} ({zone})"),
        Some((first, last)) => format!("period {first} to {last} ({zone})"),
        None => {
            let Stretch { from, until, .. } = &document.period;
            format!("period {} to {} ({zone})", instant(from), instant(until))
        }
    };
    match document.reaches_end {
        true => whole,
        false => format!("{whole}, billed up to {}", instant(&document.billed.until)),
    }
}

/// Policies or books by name and digest, with their time if there are several.
fn rules(what: &str, notes: &[RulesNote]) -> Vec<String> {
    let text = |note: &RulesNote| match &note.name {
        Some(name) => format!("{what} {name} ({})", short(&note.digest)),
        None => format!("{what} {}", short(&note.digest)),
    };
    match notes {
        [only] => vec![text(only)],
        several => {
            let span = |note: &RulesNote| {
                let Stretch { from, until, .. } = &note.span;
                format!("{} from {} to {}", text(note), instant(from), instant(until))
            };
            several.iter().map(span).collect()
        }
    }
}

/// The notes of a document: units, overrides, unrated time, open operations, quarantines and
/// evidence.
pub(super) fn notes(document: &Invoice) -> Vec<String> {
    let mut notes = units(document);
    if document.currency.is_none() {
        notes.push("no price book is in force: this is usage, and nothing is charged".into());
    }
    notes.extend(document.overrides.iter().map(|one| overridden(document, one)));
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
            let policy = short(quarantined);
            let by = short(&receipt.component);
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

/// The measured units in each unit of a price.
fn units(document: &Invoice) -> Vec<String> {
    let mut notes = Vec::new();
    for line in &document.lines {
        let Some(divisor) = line.divisor.as_deref().filter(|divisor| *divisor != "1") else {
            continue;
        };
        let note = format!("1 {} is {} {}", line.per, grouped(divisor), line.unit);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

/// A number with its digits in groups of three.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn overridden(document: &Invoice, one: &crate::invoice::OverrideNote) -> String {
    let named = |what: &str, digest: &Option<String>, name: &Option<String>| {
        let digest = digest.as_deref()?;
        Some(match name {
            Some(name) => format!("{what} {name} ({})", short(digest)),
            None => format!("{what} {}", short(digest)),
        })
    };
    let policy = named("policy", &one.policy, &one.policy_name);
    let book = named("price book", &one.book, &one.book_name);
    let what = match (policy, book) {
        (Some(policy), Some(book)) => format!("{policy} and {book}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "no override any more".into(),
    };
    // A preview's rules hold from the begin of time.
    let from = match one.span.from_ns < document.period.from_ns {
        true => &document.period.from,
        false => &one.span.from,
    };
    format!("{} to {}: {what}, because {}", instant(from), instant(&one.span.until), one.reason)
}

/// An instant without a fraction of 0 nanoseconds.
pub(super) fn instant(text: &str) -> String {
    text.strip_suffix(".000000000Z").map_or_else(|| text.into(), |text| format!("{text}Z"))
}

pub(super) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// Sums below the rows: name, amount.
pub(super) fn totals(document: &Invoice) -> Vec<(String, String)> {
    let Some(currency) = document.currency.as_deref() else { return Vec::new() };
    let mut totals = Vec::new();
    if document.follows.is_some() {
        totals.push(("the period comes to".into(), document.period_total.clone()));
    }
    totals.push(("total".into(), document.total.clone()));
    totals.push(("to be paid".into(), document.payable.clone()));
    for sum in &document.to_come {
        let name = format!("still to come if nothing more is used ({})", sum.id);
        totals.push((name, sum.amount.clone()));
    }
    let with = |(name, amount): (String, String)| {
        let tax = if name == "to be paid" { ", net of tax" } else { "" };
        (name, format!("{amount} {currency}{tax}"))
    };
    totals.into_iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        let rows = [("1", "1"), ("1000", "1,000"), ("3600000000000", "3,600,000,000,000")];
        for (digits, text) in rows {
            assert_eq!(grouped(digits), text);
        }
    }
}
