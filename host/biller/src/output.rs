//! Output of a bill.

use serde::{Deserialize, Serialize};

use crate::input::{Balances, OneOffKind, Rounding, Stretch, StretchBalance};

const NO_STRETCHES: &str = "\"stretches\":[]";
/// Bytes of the text of a stretch, about.
const STRETCH_BYTES: usize = 192;

/// The bill of a period, up to T.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bill {
    /// ISO 4217 code of the books; none where no book was in force before T.
    pub currency: Option<String>,
    /// Digits after the point in the currency's smallest coin.
    pub minor_digits: u8,
    /// Digits after the point to which rules' sums are rounded, 0 to 9.
    pub line_digits: u8,
    /// Rounding of sums and coins.
    pub rounding: Rounding,
    /// Rules' sums, sorted by rule, rounded; nano-units.
    pub rules: Vec<RuleSum>,
    /// Adjustments, in the order in which they act.
    pub adjustments: Vec<Adjusted>,
    /// One-off charges and goodwill that act before T, in the order in which they act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_offs: Vec<OneOffSum>,
    /// Sum of rules, adjustments and one-offs, in nano-units.
    pub total: i128,
    /// The total in the currency's smallest coins.
    pub payable: i128,
    /// Tariffs of the lines, in the order in which lines of one subject have them.
    pub tariffs: Vec<Tariff>,
    /// Charges, sorted by rule, subject (the tenant as a whole last) and tariff. Those of a rule
    /// add up to its sum.
    pub lines: Vec<Line>,
    /// Balances as they are at T, for the next period.
    pub closing: Balances,
}

/// A rule's sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSum {
    /// Name of the rule.
    pub rule: String,
    /// Sum in nano-units.
    pub amount: i128,
    /// Nano-units of the charges before each of the header's marks, by section 10.2 of
    /// `docs/bill.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<i128>,
}

/// The kind of an adjustment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdjustmentKind {
    /// Raises the charges to its amount at the period's end.
    Minimum,
    /// Lowers the charges to its amount.
    Cap,
    /// Pays charges until it is used up.
    Credit,
}

/// The effect of an adjustment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjusted {
    /// Id of the adjustment.
    pub id: String,
    /// Minimum, cap or credit.
    pub kind: AdjustmentKind,
    /// Amount for the period in nano-units; for a credit, the rest of the grant.
    pub amount: i128,
    /// Nano-units added to the sum; negative for caps and credits.
    pub change: i128,
    /// Raise still to come if nothing more is used, in nano-units; 0 but for a minimum before the
    /// period's end.
    pub to_come: i128,
}

/// The effect of a one-off charge or a goodwill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneOffSum {
    /// Its id.
    pub id: String,
    /// Charge or goodwill.
    pub kind: OneOffKind,
    /// Nano-units added to the sum; negative for a goodwill.
    pub change: i128,
}

/// The price of some lines: a tier of a price, its fee, or the price of a policy's own line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// Kind of the lines.
    pub kind: LineKind,
    /// Rule of the lines.
    pub rule: String,
    /// Meter of the lines.
    pub meter: String,
    /// Id of the price in the book.
    pub price_id: String,
    /// Position of the tier, from 0.
    pub tier: u32,
    /// Unit that the price is for, as the operator wrote it, such as `vcpu-hour`.
    pub per: String,
    /// Unit of both quantities; `once` for a fee.
    pub unit: String,
    /// Price in nano-units per unit: numerator.
    pub price_numerator: i128,
    /// Price in nano-units per unit: denominator, 1 or more.
    pub price_denominator: u128,
}

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// Units of a meter.
    Usage,
    /// A fee.
    Once,
    /// A line that the policy stated itself.
    Own,
}

/// A charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Index into [`Bill::tariffs`].
    pub tariff: u32,
    /// Index into the subjects; none for a charge of the tenant as a whole.
    pub subject: Option<u32>,
    /// Units used.
    pub quantity: u128,
    /// Units charged for.
    pub billed: u128,
    /// Amount in nano-units: the line's share of the rule's rounded sum.
    pub amount: i128,
    /// First instant that the line covers.
    pub from: i64,
    /// First instant after the last that the line covers.
    pub until: i64,
    /// Sequence numbers of the first and the last fact that opened an interval in it; none for
    /// fees, packages and own lines.
    pub facts: Option<(u64, u64)>,
}

impl Bill {
    /// The bill as JSON, byte for byte as `serde_json` writes it. Stretches, of which there may be
    /// some for each instance, are written without asking about each byte of each name.
    ///
    /// # Errors
    /// None is known; `serde_json` can return one.
    pub fn into_text(mut self) -> Result<String, serde_json::Error> {
        let stretches = std::mem::take(&mut self.closing.stretches);
        let mut text = serde_json::to_string(&self)?;
        // Only these quotes are not escaped: no name within can look like it.
        let Some(place) = text.rfind(NO_STRETCHES).filter(|_| !stretches.is_empty()) else {
            return Ok(text);
        };
        let rest = text.split_off(place + NO_STRETCHES.len() - 1);
        text.reserve(stretches.len() * STRETCH_BYTES + rest.len());
        for (number, stretch) in stretches.iter().enumerate() {
            text.push_str(if number == 0 { "" } else { "," });
            stretch.write(&mut text)?;
        }
        text.push_str(&rest);
        Ok(text)
    }

    /// The tariff of one of its lines.
    pub fn tariff(&self, line: &Line) -> &Tariff {
        &self.tariffs[line.tariff as usize]
    }
}

impl StretchBalance {
    fn write(&self, text: &mut String) -> Result<(), serde_json::Error> {
        text.push_str("{\"instance\":");
        quote(&self.instance, text)?;
        text.push_str(",\"meter\":");
        quote(&self.meter, text)?;
        text.push_str(match self.stretch {
            Stretch::Start => ",\"stretch\":\"start\",\"session\":",
            Stretch::Wake => ",\"stretch\":\"wake\",\"session\":",
            Stretch::Visit => ",\"stretch\":\"visit\",\"session\":",
            Stretch::Life => ",\"stretch\":\"life\",\"session\":",
        });
        digits(self.session.into(), text);
        text.push_str(",\"wakes\":");
        digits(self.wakes.into(), text);
        text.push_str(if self.last < 0 { ",\"last\":-" } else { ",\"last\":" });
        digits(self.last.unsigned_abs(), text);
        text.push_str(",\"used_ns\":");
        digits(self.used_ns, text);
        text.push_str(",\"owed_ns\":");
        digits(self.owed_ns, text);
        text.push('}');
        Ok(())
    }
}

/// Writes a text as JSON.
fn quote(value: &str, text: &mut String) -> Result<(), serde_json::Error> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if !value.bytes().all(is_plain) {
        text.push_str(&serde_json::to_string(value)?);
        return Ok(());
    }
    text.push('"');
    text.push_str(value);
    text.push('"');
    Ok(())
}

/// Writes a number in decimal digits.
fn digits(mut value: u64, text: &mut String) {
    let mut buffer = [b'0'; 20];
    let mut first = buffer.len() - 1;
    while value > 9 {
        buffer[first] = b'0' + (value % 10) as u8;
        value /= 10;
        first -= 1;
    }
    buffer[first] = b'0' + value as u8;
    text.extend(buffer[first..].iter().map(|&digit| char::from(digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(stretches: Vec<StretchBalance>) -> Bill {
        Bill {
            currency: Some("EUR".into()),
            minor_digits: 2,
            line_digits: 9,
            rounding: Rounding::HalfEven,
            rules: Vec::new(),
            adjustments: Vec::new(),
            one_offs: Vec::new(),
            total: 0,
            payable: 0,
            tariffs: Vec::new(),
            lines: Vec::new(),
            closing: Balances {
                counters: Vec::new(),
                stretches,
                credits: vec![crate::input::CreditBalance {
                    id: NO_STRETCHES.into(),
                    currency: "EUR".into(),
                    amount: 7,
                    used: 5,
                }],
            },
        }
    }

    #[test]
    fn the_text_of_a_bill_is_what_serde_json_writes() {
        let balance = |instance: &str, stretch, last, used_ns| StretchBalance {
            instance: instance.into(),
            meter: "active".into(),
            stretch,
            session: u32::MAX,
            wakes: 0,
            last,
            used_ns,
            owed_ns: 10,
        };
        let all = [
            balance("i1", Stretch::Start, 0, 0),
            balance("a \"quoted\" name, \\, \u{1f600}\n", Stretch::Wake, i64::MIN, u64::MAX),
            balance("", Stretch::Visit, i64::MAX, 9),
            balance(NO_STRETCHES, Stretch::Life, -1, 99),
        ];
        for count in 0..=all.len() {
            let bill = bill(all[..count].to_vec());
            let expected = serde_json::to_string(&bill).expect("JSON");
            assert_eq!(bill.into_text().expect("JSON"), expected);
        }
    }
}
