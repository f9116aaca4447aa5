//! A tenant's options for a policy.

use super::meter::{Granularity, HOUR_NS, MINUTE_NS, SECOND_NS};
use super::rounding::Rounding;
use super::text::{join, list};
use crate::{RatingError, Setting};

/// Options by name. Every one must be known to the policy: a misspelt option would be charged by its default in silence.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a>(&'a [Setting]);

const UNITS: [(&str, u64); 5] = [("ms", 1_000_000), ("ns", 1), ("s", SECOND_NS), ("m", MINUTE_NS), ("h", HOUR_NS)];

impl<'a> Options<'a> {
    /// Takes the options of a request.
    ///
    /// # Errors
    /// [`RatingError::InvalidOption`] for a name that is not among `known`, with those that are.
    pub fn new(settings: &'a [Setting], known: &[&str]) -> Result<Self, RatingError> {
        match settings.iter().find(|setting| !known.contains(&setting.name.as_str())) {
            None => Ok(Self(settings)),
            Some(other) => {
                let known = if known.is_empty() { "none" } else { &list(known, ", ") };
                Err(RatingError::InvalidOption(join(&[&other.name, ": unknown; known are: ", known])))
            }
        }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|setting| setting.name == name).map(|setting| setting.value.as_str())
    }

    /// A length of time such as `60s`, `10ms`, `1h`; in nanoseconds.
    ///
    /// # Errors
    /// [`RatingError::InvalidOption`] for anything else.
    pub fn duration_ns(&self, name: &str, default: u64) -> Result<u64, RatingError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        duration_ns(text).ok_or_else(|| invalid(name, text, "a whole number with ns, ms, s, m or h"))
    }

    /// One of some words.
    ///
    /// # Errors
    /// [`RatingError::InvalidOption`] for another word, with those that are known.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T) -> Result<T, RatingError> {
        let mut words = Vec::new();
        for (word, _) in choices {
            words.push(*word);
        }
        Ok(self.word(name, &words)?.and_then(|place| choices.get(place)).map_or(default, |&(_, choice)| choice))
    }

    /// Which of some words was said.
    fn word(&self, name: &str, words: &[&str]) -> Result<Option<usize>, RatingError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let place = words.iter().position(|word| *word == text);
        place.map(Some).ok_or_else(|| invalid(name, text, &list(words, " or ")))
    }

    /// Whether something is `billed` or `free`.
    ///
    /// # Errors
    /// [`RatingError::InvalidOption`] for another word.
    pub fn billed(&self, name: &str, default: bool) -> Result<bool, RatingError> {
        self.choice(name, &[("billed", true), ("free", false)], default)
    }

    /// The grain that the options `granularity` (a length of time) and `granularity-rounding` name.
    ///
    /// # Errors
    /// [`RatingError::InvalidOption`] for a length of 0 and for what is no length or no rounding.
    pub fn granularity(&self, default: Granularity) -> Result<Granularity, RatingError> {
        let unit_ns = self.duration_ns("granularity", default.unit_ns)?;
        if unit_ns == 0 {
            return Err(invalid("granularity", "0", "more than nothing"));
        }
        let roundings = Rounding::ALL.map(|rounding| (rounding.as_str(), rounding));
        let rounding = self.choice("granularity-rounding", &roundings, default.rounding)?;
        Ok(Granularity { unit_ns, rounding })
    }
}

fn duration_ns(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let &(_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(unit_ns)
}

#[cold]
#[inline(never)]
fn invalid(name: &str, text: &str, wanted: &str) -> RatingError {
    RatingError::InvalidOption(join(&[name, ": '", text, "' is not ", wanted]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        pairs.iter().map(|&(name, value)| Setting { name: name.into(), value: value.into() }).collect()
    }

    #[test]
    fn what_is_said_counts_and_what_is_not_is_the_default() {
        let said = settings(&[("granularity", "1h"), ("minimum", "90s"), ("paused", "billed")]);
        let options =
            Options::new(&said, &["granularity", "granularity-rounding", "minimum", "paused"]).expect("known");
        assert_eq!(options.duration_ns("minimum", 0), Ok(90 * SECOND_NS));
        assert_eq!(options.duration_ns("other", 7), Ok(7));
        assert_eq!(options.billed("paused", false), Ok(true));
        assert_eq!(options.granularity(Granularity::SECOND), Ok(Granularity::HOUR));
    }

    #[test]
    fn an_unknown_option_is_named_with_the_known_ones() {
        let said = settings(&[("minimun", "60s")]);
        let refused = Options::new(&said, &["granularity", "minimum"]).expect_err("refused");
        assert_eq!(refused, RatingError::InvalidOption("minimun: unknown; known are: granularity, minimum".into()));
        assert!(Options::new(&said, &[]).is_err());
    }

    #[test]
    fn a_malformed_value_is_refused_with_what_would_be_right() {
        for text in ["", "60", "s", "1.5s", "-1s", "60 s", "99999999999999999999s", "9999999999999h"] {
            let said = settings(&[("minimum", text)]);
            let options = Options::new(&said, &["minimum"]).expect("known");
            assert!(matches!(options.duration_ns("minimum", 0), Err(RatingError::InvalidOption(_))), "{text}");
        }
        let said = settings(&[("granularity", "0s"), ("granularity-rounding", "sideways"), ("paused", "maybe")]);
        let options = Options::new(&said, &["granularity", "granularity-rounding", "paused"]).expect("known");
        assert!(options.granularity(Granularity::SECOND).is_err());
        let refused = RatingError::InvalidOption("paused: 'maybe' is not billed or free".into());
        assert_eq!(options.billed("paused", false), Err(refused));
    }
}
