//! Exact decimal numbers: read from texts such as `0.0475`, written without a float in between.

use std::fmt;
use std::str::FromStr;

/// The exact number `units / 10^digits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// The number without its point.
    pub units: i128,
    /// Digits after the point, at most [`DIGITS_MAX`].
    pub digits: u32,
}

/// Most digits after the point that a text may have.
pub const DIGITS_MAX: u32 = 18;
/// Most digits in all of a number that people write.
const LENGTH_MAX: usize = 30;
/// Most digits in all of an amount that a document states: those of 128 bits.
const STATED_LENGTH_MAX: usize = 39;

/// A text that is no decimal number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no decimal number; write it like 0.0475, \
     with at most {DIGITS_MAX} digits after the point and {LENGTH_MAX} in all"
)]
pub struct UnknownDecimal(pub String);

impl Decimal {
    /// The number of `units` nano-units, in whole units.
    pub fn nanos(units: i128) -> Self {
        Self { units, digits: 9 }
    }

    /// The number times `10^digits`; none if that is not whole or doesn't fit.
    pub fn scaled(self, digits: u32) -> Option<i128> {
        match digits.checked_sub(self.digits) {
            Some(0) => Some(self.units),
            Some(more) => self.units.checked_mul(10_i128.checked_pow(more)?),
            None => {
                let divisor = 10_i128.pow(self.digits - digits);
                (self.units % divisor == 0).then_some(self.units / divisor)
            }
        }
    }
}

impl Decimal {
    /// Reads an amount as documents state it, which may be larger than any that people write.
    ///
    /// # Errors
    /// [`UnknownDecimal`].
    pub fn stated(text: &str) -> Result<Self, UnknownDecimal> {
        Self::read(text, STATED_LENGTH_MAX)
    }

    fn read(text: &str, length_max: usize) -> Result<Self, UnknownDecimal> {
        let unknown = || UnknownDecimal(text.chars().take(80).collect());
        let (is_negative, number) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
        let digits = if number.contains('.') { fraction.len() } else { 0 };
        let fits = digits <= DIGITS_MAX as usize && whole.len() + digits <= length_max;
        if !all_digits(whole) || !all_digits(fraction) || !fits {
            return Err(unknown());
        }
        let fraction = if digits == 0 { "" } else { fraction };
        let units = joined(whole, fraction).ok_or_else(unknown)?;
        Ok(Self {
            units: if is_negative { -units } else { units },
            digits: u32::try_from(digits).unwrap_or(0),
        })
    }
}

/// The number that digits form, and digits after them; none where it does not fit.
fn joined(digits: &str, more: &str) -> Option<i128> {
    let mut values = digits.bytes().chain(more.bytes()).map(|digit| digit - b'0');
    if digits.len() + more.len() < 19 {
        return Some(values.fold(0_i64, |sum, digit| sum * 10 + i64::from(digit)).into());
    }
    values.try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(digit.into()))
}

impl FromStr for Decimal {
    type Err = UnknownDecimal;
    fn from_str(text: &str) -> Result<Self, UnknownDecimal> {
        Self::read(text, LENGTH_MAX)
    }
}

/// Writes the number without zeros at the end: `0.0475`, `12`, `-0.5`. A precision asks for at
/// least that many digits after the point.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_u128.pow(self.digits);
        let whole = self.units.unsigned_abs() / scale;
        let fraction = self.units.unsigned_abs() % scale;
        let mut text = whole.to_string();
        let mut places = format!("{fraction:0width$}", width = self.digits as usize);
        let least = f.precision().unwrap_or(0);
        while places.len() > least && places.ends_with('0') {
            places.pop();
        }
        while places.len() < least {
            places.push('0');
        }
        if self.digits == 0 {
            places = "0".repeat(least);
        }
        if !places.is_empty() {
            text.push('.');
            text.push_str(&places);
        }
        f.pad_integral(self.units >= 0, "", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_exactly() {
        let rows =
            [("0", 0, 0), ("0.0475", 475, 4), ("-1.50", -150, 2), ("12", 12, 0), ("007.1", 71, 1)];
        for (text, units, digits) in rows {
            assert_eq!(text.parse(), Ok(Decimal { units, digits }), "{text}");
        }
        let longest = "123456789012.123456789012345678";
        assert_eq!(longest.parse::<Decimal>().expect("fits").to_string(), longest);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1,5",
            "1e3",
            "+1",
            "0x1",
            " 1",
            "1.2.3",
            "NaN",
            "1.0000000000000000001",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        assert!("1".repeat(31).parse::<Decimal>().is_err());
    }

    #[test]
    fn any_amount_that_is_stated_can_be_read_again() {
        for nanos in [0, -1, 10_i128.pow(30), i128::MAX, i128::MIN + 1] {
            let stated = Decimal::stated(&Decimal::nanos(nanos).to_string());
            assert_eq!(stated.expect("read").scaled(9), Some(nanos), "{nanos}");
        }
    }

    #[test]
    fn scaling_loses_nothing_or_is_refused() {
        let price: Decimal = "0.0475".parse().expect("a number");
        assert_eq!(price.scaled(9), Some(47_500_000));
        assert_eq!(price.scaled(4), Some(475));
        assert_eq!(price.scaled(3), None);
        assert_eq!(Decimal { units: i128::MAX, digits: 0 }.scaled(1), None);
    }

    #[test]
    fn numbers_are_written_without_zeros_at_the_end_unless_asked_for() {
        assert_eq!(Decimal::nanos(47_500_000).to_string(), "0.0475");
        assert_eq!(Decimal::nanos(-1_000_000_000).to_string(), "-1");
        assert_eq!(format!("{:.2}", Decimal::nanos(1_500_000_000)), "1.50");
        assert_eq!(format!("{:.2}", Decimal::nanos(28_008_000)), "0.028008");
        assert_eq!(format!("{:.2}", Decimal { units: 7, digits: 0 }), "7.00");
        assert_eq!(format!("{:>8.2}", Decimal::nanos(-10_000_000)), "   -0.01");
        assert_eq!(format!("{:.0}", Decimal { units: 7, digits: 0 }), "7");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            units in -1_000_000_000_000_000_000_i128..1_000_000_000_000_000_000,
            digits in 0..=18_u32,
        ) {
            let number = Decimal { units, digits };
            let again: Decimal = number.to_string().parse().expect("a number");
            prop_assert_eq!(again.scaled(18), number.scaled(18));
        }
    }
}
