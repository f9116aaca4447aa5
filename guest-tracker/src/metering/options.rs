//! A tenant's options for a policy: asked for and declared in one step.

use super::text::{duration, duration_ns, join, list};
use crate::{MeteringError, OptionDescription, OptionKind, Setting};

/// Longest minimum and grain that the host takes: 366 days.
const LENGTH_NS_MAX: u64 = 366 * 86_400 * 1_000_000_000;

/// Options by name.
///
/// Asking for an option declares it, with its default and its effect: so ask for all of them every
/// time, whatever the values of the others.
#[derive(Debug)]
pub struct Options<'a> {
    given: &'a [Setting],
    asked: Vec<OptionDescription>,
}

impl<'a> Options<'a> {
    /// The options of a request.
    pub fn of(given: &'a [Setting]) -> Self {
        Self { given, asked: Vec::new() }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.given.iter().find(|setting| setting.name == name).map(|setting| setting.value.as_str())
    }

    fn declare(&mut self, name: &str, kind: OptionKind, default: String, does: &str) {
        let before = |other: &OptionDescription| other.name.as_str() < name;
        let place = self.asked.partition_point(before);
        if self.asked.get(place).is_none_or(|other| other.name != name) {
            let option = OptionDescription { name: name.into(), kind, default, does: does.into() };
            self.asked.insert(place, option);
        }
    }

    /// Reads a length of time such as `60s`, `10ms`, `1h`; in nanoseconds.
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] for any other text, and for more than 366 days.
    pub fn duration_ns(
        &mut self,
        name: &str,
        default_ns: u64,
        does: &str,
    ) -> Result<u64, MeteringError> {
        self.declare(name, OptionKind::Duration, duration(default_ns), does);
        let Some(text) = self.get(name) else { return Ok(default_ns) };
        let known = duration_ns(text).filter(|&ns| ns <= LENGTH_NS_MAX);
        known.ok_or_else(|| {
            invalid(name, text, "a whole number with ns, ms, s, m or h, of at most 366 days")
        })
    }

    /// Reads a length of time above 0, in nanoseconds.
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] for what [`Options::duration_ns`] refuses, and for a length
    /// of 0.
    pub fn grain_ns(
        &mut self,
        name: &str,
        default_ns: u64,
        does: &str,
    ) -> Result<u64, MeteringError> {
        match self.duration_ns(name, default_ns, does)? {
            0 => Err(invalid(name, "0", "a grain: it has to be longer than nothing")),
            ns => Ok(ns),
        }
    }

    /// Reads one of the given words, and returns the value that stands for it.
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] for another word; the message lists those that are known.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        name: &str,
        choices: &[(&str, T)],
        default: T,
        does: &str,
    ) -> Result<T, MeteringError> {
        let mut words = Vec::new();
        let mut chosen = "";
        for &(word, choice) in choices {
            words.push(word);
            if choice == default {
                chosen = word;
            }
        }
        let place = self.word(name, &words, chosen, does)?;
        Ok(place.and_then(|place| choices.get(place)).map_or(default, |&(_, choice)| choice))
    }

    /// Returns the position of the word that the tenant chose.
    fn word(
        &mut self,
        name: &str,
        words: &[&str],
        default: &str,
        does: &str,
    ) -> Result<Option<usize>, MeteringError> {
        let mut known = Vec::new();
        for word in words {
            known.push((*word).into());
        }
        self.declare(name, OptionKind::Choice(known), default.into(), does);
        let Some(text) = self.get(name) else { return Ok(None) };
        let place = words.iter().position(|word| *word == text);
        place.map(Some).ok_or_else(|| invalid(name, text, &list(words, " or ")))
    }

    /// Reads `billed` (true) or `free` (false).
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] for another word.
    pub fn billed(&mut self, name: &str, default: bool, does: &str) -> Result<bool, MeteringError> {
        self.choice(name, &[("billed", true), ("free", false)], default, does)
    }

    /// Reads any text.
    pub fn text(&mut self, name: &str, default: &'a str, does: &str) -> &'a str {
        self.declare(name, OptionKind::Text, default.into(), does);
        self.get(name).unwrap_or(default)
    }

    /// The options that were asked for, sorted by name; each is the one that was asked for first.
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] if an option was given that was never asked for: a misspelt
    /// one would otherwise be replaced by its default in silence.
    pub fn finish(self) -> Result<Vec<OptionDescription>, MeteringError> {
        let is_asked =
            |setting: &&Setting| self.asked.iter().any(|option| option.name == setting.name);
        let Some(other) = self.given.iter().find(|setting| !is_asked(setting)) else {
            return Ok(self.asked);
        };
        let mut known = Vec::new();
        for option in &self.asked {
            known.push(option.name.as_str());
        }
        let known = if known.is_empty() { "none" } else { &list(&known, ", ") };
        Err(MeteringError::InvalidOption(join(&[&other.name, ": unknown; known are: ", known])))
    }
}

#[cold]
#[inline(never)]
fn invalid(name: &str, text: &str, wanted: &str) -> MeteringError {
    MeteringError::InvalidOption(join(&[name, ": '", text, "' is not ", wanted]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        pairs
            .iter()
            .map(|&(name, value)| Setting { name: name.into(), value: value.into() })
            .collect()
    }

    #[test]
    fn an_option_that_is_given_holds_and_one_that_is_not_has_its_default() {
        let given = settings(&[("minimum", "90s"), ("paused", "billed"), ("zone", "a")]);
        let mut options = Options::of(&given);
        assert_eq!(options.duration_ns("minimum", 0, "m"), Ok(90_000_000_000));
        assert_eq!(options.duration_ns("other", 7, "o"), Ok(7));
        assert_eq!(options.billed("paused", false, "p"), Ok(true));
        assert_eq!(options.text("zone", "b", "z"), "a");
        assert_eq!(options.text("place", "b", "q"), "b");
        let declared = options.finish().expect("all were asked for");
        let rows: Vec<_> =
            declared.iter().map(|option| (option.name.as_str(), option.default.as_str())).collect();
        let expected = [
            ("minimum", "0s"),
            ("other", "7ns"),
            ("paused", "free"),
            ("place", "b"),
            ("zone", "b"),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn an_unknown_option_is_named_with_the_known_ones() {
        let given = settings(&[("minimun", "60s")]);
        let mut options = Options::of(&given);
        let _ = options.grain_ns("granularity", 1, "g");
        let _ = options.duration_ns("minimum", 0, "m");
        let words = "minimun: unknown; known are: granularity, minimum".to_owned();
        assert_eq!(options.finish(), Err(MeteringError::InvalidOption(words)));
        assert!(Options::of(&given).finish().is_err());
    }

    #[test]
    fn a_malformed_value_is_refused_with_what_would_be_right() {
        let refused = |pair: (&str, &str), ask: &dyn Fn(&mut Options<'_>) -> bool| {
            assert!(ask(&mut Options::of(&settings(&[pair]))), "{pair:?}");
        };
        for text in ["", "60", "1.5s", "366h1s", "8785h"] {
            refused(("minimum", text), &|options| options.duration_ns("minimum", 0, "m").is_err());
        }
        refused(("minimum", "0s"), &|options| options.grain_ns("minimum", 1, "m").is_err());
        let words = "paused: 'maybe' is not billed or free".to_owned();
        let given = settings(&[("paused", "maybe")]);
        let answer = Options::of(&given).billed("paused", false, "p");
        assert_eq!(answer, Err(MeteringError::InvalidOption(words)));
    }
}
