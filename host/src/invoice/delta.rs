//! What a correction says: each line that no longer holds is taken back, each new one added, and what stays is not mentioned.

use super::document::{Invoice, Line};
use super::rate::InvoiceError;
use crate::billing::decimal::Decimal;

/// The lines of a correction: `before` are the invoice and the corrections so far, `now` is what the period comes to.
pub(super) fn changes(before: &[Invoice], mut now: Vec<Line>) -> Result<Vec<Line>, InvoiceError> {
    let mut lines = Vec::new();
    for (place, line) in standing(before) {
        match now.iter().position(|new| is_same(new, line)) {
            Some(same) => drop(now.remove(same)),
            None => lines.push(taken_back(&place, line)?),
        }
    }
    lines.extend(now);
    for (number, line) in (1..).zip(&mut lines) {
        line.number = number;
    }
    Ok(lines)
}

/// The lines of several documents that no later one takes back, each with its place `NUMBER/LINE`.
fn standing(documents: &[Invoice]) -> Vec<(String, &Line)> {
    let place = |document: &Invoice, line: &Line| format!("{}/{}", document.number.unwrap_or(0), line.number);
    let reversed: Vec<&str> =
        documents.iter().flat_map(|document| &document.lines).filter_map(|line| line.reverses.as_deref()).collect();
    let all = documents.iter().flat_map(|document| document.lines.iter().map(move |line| (document, line)));
    let own = all.filter(|(_, line)| line.reverses.is_none());
    let placed = own.map(|(document, line)| (place(document, line), line));
    placed.filter(|(place, _)| !reversed.contains(&place.as_str())).collect()
}

/// Whether two lines charge the same for the same.
fn is_same(one: &Line, other: &Line) -> bool {
    let plain = |line: &Line| Line { number: 0, receipt: None, ..line.clone() };
    plain(one) == plain(other)
}

fn taken_back(place: &str, line: &Line) -> Result<Line, InvoiceError> {
    let negated = |text: &str| match text.strip_prefix('-') {
        Some(positive) => positive.to_owned(),
        None if text == "0" => text.to_owned(),
        None => format!("-{text}"),
    };
    let amount = line.amount_nanos().and_then(i128::checked_neg).ok_or(InvoiceError::Overflow)?;
    Ok(Line {
        kind: "reversal".into(),
        reverses: Some(place.into()),
        price_numerator: negated(&line.price_numerator),
        amount: Decimal::nanos(amount).to_string(),
        remainder: negated(&line.remainder),
        description: format!("takes back {place}: {}", line.description),
        receipt: None,
        ..line.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::super::document::{Kind, Place};
    use super::*;

    fn line(number: u64, rule: &str, amount: &str) -> Line {
        Line {
            number,
            kind: "usage".into(),
            reverses: None,
            rule: rule.into(),
            meter: "active".into(),
            instance: None,
            quantity: "1".into(),
            billed: "1".into(),
            unit: "ns".into(),
            price_id: rule.into(),
            tier: 0,
            price_numerator: "5".into(),
            price_denominator: "1".into(),
            amount: amount.into(),
            remainder: "0".into(),
            description: rule.into(),
            intervals: 1,
            minimums: 0,
            facts: None,
            receipt: Some(number),
        }
    }

    fn document(number: u64, lines: Vec<Line>) -> Invoice {
        Invoice {
            form: 1,
            tenant: "t".into(),
            number: Some(number),
            kind: Kind::Invoice,
            corrects: None,
            reason: None,
            previous: None,
            from: String::new(),
            until: String::new(),
            from_ns: 0,
            until_ns: 1,
            as_of: Place { seq: 1, hash: String::new() },
            policy: None,
            book: None,
            currency: "EUR".into(),
            minor_digits: 2,
            rounding: "half-even".into(),
            instances: Vec::new(),
            lines,
            total: String::new(),
            payable: String::new(),
            receipts: Vec::new(),
            carried: String::new(),
        }
    }

    fn rows(lines: &[Line]) -> Vec<(u64, &str, &str, Option<&str>)> {
        lines.iter().map(|l| (l.number, l.rule.as_str(), l.amount.as_str(), l.reverses.as_deref())).collect()
    }

    #[test]
    fn only_what_changed_is_taken_back_and_added() {
        let invoice = document(4, vec![line(1, "a", "1.5"), line(2, "b", "2"), line(3, "b", "2")]);
        let now = vec![line(1, "a", "1.75"), line(2, "b", "2"), line(3, "c", "3")];
        let first = changes(std::slice::from_ref(&invoice), now).expect("fits");
        let expected =
            [(1, "a", "-1.5", Some("4/1")), (2, "b", "-2", Some("4/3")), (3, "a", "1.75", None), (4, "c", "3", None)];
        assert_eq!(rows(&first), expected);
        assert_eq!((first[0].price_numerator.as_str(), first[0].receipt), ("-5", None));

        // A second correction sees what stands after the first.
        let both = [invoice, document(5, first)];
        let now = vec![line(1, "a", "1.75"), line(2, "b", "2.5")];
        let second = changes(&both, now).expect("fits");
        assert_eq!(rows(&second), [(1, "b", "-2", Some("4/2")), (2, "c", "-3", Some("5/4")), (3, "b", "2.5", None)]);
        let nothing = changes(&both, vec![line(7, "c", "3"), line(8, "b", "2"), line(9, "a", "1.75")]).expect("fits");
        assert_eq!(nothing, []);
    }
}
