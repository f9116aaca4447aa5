//! Numbers in columns: quantities, prices and amounts, with their points in one line.

use biller::per::Per;

use crate::billing::decimal::Decimal;
use crate::invoice::Line;

/// Digits after the decimal point of shown quantities and unit prices.
const SHOWN_DIGITS: u32 = 6;

/// The charged quantity, in the unit of the price.
pub(super) fn quantity(line: &Line) -> String {
    let units: u128 = line.billed.parse().unwrap_or_default();
    match line.per.parse::<Per>() {
        Ok(per) if line.kind != "once" => ratio(units, per.units),
        _ => units.to_string(),
    }
}

/// The price of one unit.
pub(super) fn unit_price(line: &Line) -> String {
    let numerator: u128 = line.price_numerator.parse().unwrap_or_default();
    let denominator: u128 = line.price_denominator.parse().unwrap_or(1);
    let units = line.per.parse::<Per>().map_or(1, |per| per.units);
    let units = if line.kind == "once" { 1 } else { units };
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
    let whole = numerator / denominator.max(1);
    let rest = numerator % denominator.max(1);
    let Some(scaled) = rest.checked_mul(scale) else { return format!("{whole}...") };
    let units = whole.saturating_mul(scale).saturating_add(scaled / denominator.max(1));
    let units = i128::try_from(units).unwrap_or(i128::MAX);
    let cut = if scaled % denominator.max(1) == 0 { "" } else { "..." };
    format!("{}{cut}", Decimal { units, digits: SHOWN_DIGITS })
}

/// An amount of money with at least `digits` digits after its point; other texts as they are.
pub(super) fn money(text: &str, digits: usize) -> String {
    Decimal::stated(text).map_or_else(|_| text.into(), |one| format!("{one:.digits$}"))
}

/// Number of digits after the point.
pub(super) fn digits(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// Pads the numbers of a column on the right, so that their points stand in one line: by the places
/// that the longest fraction has more, `point` for each point and `digit` for each digit.
pub(super) fn align(column: &mut [String], point: char, digit: char) {
    fn tail(text: &str) -> &str {
        text.find('.').map_or("", |place| &text[place..])
    }
    let longest = column.iter().map(|text| tail(text)).max_by_key(|tail| tail.len());
    let longest = longest.unwrap_or_default().to_owned();
    for text in column.iter_mut().filter(|text| !text.is_empty()) {
        let missing = &longest[tail(text).len()..];
        let filler: String =
            missing.chars().map(|place| if place == '.' { point } else { digit }).collect();
        text.push_str(&filler);
    }
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
    fn points_stand_in_one_line() {
        let mut column = ["1.5", "20", "", "0.333333..."].map(str::to_owned);
        align(&mut column, ' ', ' ');
        assert_eq!(column, ["1.5        ", "20          ", "", "0.333333..."]);
        let mut two = ["1.25", "20", "3.5..."].map(str::to_owned);
        align(&mut two, '_', '0');
        assert_eq!(two, ["1.25__", "20_0___", "3.5..."]);
        let mut whole = ["1", "22"].map(str::to_owned);
        align(&mut whole, ' ', ' ');
        assert_eq!(whole, ["1", "22"]);
    }

    #[test]
    fn amounts_have_the_digits_of_the_coin_at_least() {
        let rows = [("1", 2, "1.00"), ("0.0012", 2, "0.0012"), ("-3", 0, "-3"), ("", 2, "")];
        for (text, digits, shown) in rows {
            assert_eq!(money(text, digits), shown);
        }
    }
}
