//! Currencies by their ISO 4217 codes, and how small their coins are.

use std::fmt;
use std::str::FromStr;

/// A currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: &'static str,
    minor_digits: u8,
}

/// A text that is no code of a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no currency; give a code of ISO 4217 in capitals, such as USD, EUR or JPY")]
pub struct UnknownCurrency(pub String);

/// Codes whose smallest coin is a hundredth.
const TWO_DIGITS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF \
    CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR \
    IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN \
    NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL \
    THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG";
/// Codes without a smaller coin.
const NO_DIGITS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
/// Codes whose smallest coin is a thousandth.
const THREE_DIGITS: &str = "BHD IQD JOD KWD LYD OMR TND";
/// Codes whose smallest coin is a ten-thousandth.
const FOUR_DIGITS: &str = "CLF UYW";

impl Currency {
    /// No currency: ISO 4217's code for none, for periods without prices.
    pub const NONE: Currency = Currency { code: "XXX", minor_digits: 0 };

    /// The code of ISO 4217.
    pub fn code(self) -> &'static str {
        self.code
    }

    /// Digits after the point in the smallest coin, 0 to 4.
    pub fn minor_digits(self) -> u8 {
        self.minor_digits
    }

    /// The currency with a code; none if it is not known.
    fn known(code: &str) -> Option<Self> {
        let groups = [(TWO_DIGITS, 2), (NO_DIGITS, 0), (THREE_DIGITS, 3), (FOUR_DIGITS, 4)];
        groups.into_iter().find_map(|(codes, minor_digits)| {
            // Three letters each, and a space between them.
            let mut places = codes.as_bytes().chunks(4);
            let place = places.position(|known| known[..3] == *code.as_bytes())?;
            codes.get(4 * place..4 * place + 3).map(|code| Currency { code, minor_digits })
        })
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;
    fn from_str(text: &str) -> Result<Self, UnknownCurrency> {
        let found = Self::known(text).or_else(|| (text == Self::NONE.code).then_some(Self::NONE));
        found.ok_or_else(|| UnknownCurrency(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_those_of_the_standard() {
        let rows = [
            ("JPY", 0),
            ("KRW", 0),
            ("USD", 2),
            ("EUR", 2),
            ("CHF", 2),
            ("KWD", 3),
            ("TND", 3),
            ("CLF", 4),
            ("XXX", 0),
        ];
        for (code, digits) in rows {
            let currency: Currency = code.parse().expect(code);
            assert_eq!((currency.code(), currency.minor_digits()), (code, digits));
        }
    }

    #[test]
    fn codes_are_three_capitals_and_stand_once() {
        let groups = [NO_DIGITS, TWO_DIGITS, THREE_DIGITS, FOUR_DIGITS];
        let mut codes: Vec<_> = groups.iter().flat_map(|codes| codes.split(' ')).collect();
        assert!(codes.iter().all(|code| code.parse().map(Currency::code) == Ok(*code)));
        assert!(
            codes
                .iter()
                .all(|code| code.len() == 3 && code.bytes().all(|c| c.is_ascii_uppercase()))
        );
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert!(count > 150, "{count}");
    }

    #[test]
    fn what_is_no_code_is_refused_with_examples() {
        for text in ["", "usd", "US", "USDT", "BTC", "US$"] {
            let error = text.parse::<Currency>().expect_err(text);
            assert!(error.to_string().contains("EUR"), "{error}");
        }
    }
}
