//! Checks of a component's description, and of a tenant's options against it.

use super::words::{
    Description, INITIALIZING_MAX, MeterDescription, OptionDescription, OptionKind, Setting,
};
use crate::limits::policy as limits;

/// A breach of the contract by a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// There is no meter, or there are too many. The field is their number.
    #[error("declares {0} meters; 1 to {max} are allowed", max = limits::METERS_MAX)]
    Meters(usize),
    /// There are too many options. The field is their number.
    #[error("declares {0} options; at most {max} are allowed", max = limits::OPTIONS_MAX)]
    Options(usize),
    /// A name is malformed.
    #[error(
        "'{name}' is not a valid name for {what}: write 1 to {max} bytes of a-z, 0-9, '-', '.' \
         and '_'",
        max = limits::WORD_BYTES_MAX
    )]
    Name {
        /// Kind of the named thing.
        what: &'static str,
        /// The name, clipped to 80 characters.
        name: String,
    },
    /// Two things of a kind have the same name.
    #[error("declares {what} '{name}' twice")]
    Twice {
        /// Kind of the named thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The options are not sorted. The field is the name of the first that is out of order.
    #[error("option '{0}' is out of order; sort options by the bytes of their names")]
    Order(String),
    /// An option has the name of the host's own.
    #[error("option '{INITIALIZING_MAX}' is the host's own; give it another name")]
    Reserved,
    /// A description for people is empty, too long, or has control characters.
    #[error(
        "the description of '{name}' has {bytes} bytes or control characters; write 1 to {max} \
         bytes of text",
        max = limits::DESCRIPTION_BYTES_MAX
    )]
    Words {
        /// Name of the meter or option described.
        name: String,
        /// Length of the description in bytes.
        bytes: usize,
    },
    /// A choice has no words, or too many.
    #[error(
        "option '{option}' is a choice of {words} words; 1 to {max} are allowed",
        max = limits::CHOICES_MAX
    )]
    Choices {
        /// Name of the option.
        option: String,
        /// Number of words.
        words: usize,
    },
    /// The default of an option is not a valid value of it.
    #[error("the default of option '{option}': {problem}")]
    Default {
        /// Name of the option.
        option: String,
        /// Problem with the value.
        problem: Box<OptionError>,
    },
    /// The billed ratio is too large. The field is the ratio in thousandths.
    #[error(
        "may bill {0} thousandths of what was used; at most {max} are allowed",
        max = limits::BILLED_RATIO_MAX
    )]
    BilledRatio(u32),
}

/// A reason to refuse a tenant's option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The policy has no such option.
    #[error("option '{name}' is unknown to this policy; known are: {known}")]
    Unknown {
        /// The name that was given, clipped to 80 characters.
        name: String,
        /// The policy's options, separated by commas; `none` if it has none.
        known: String,
    },
    /// The value is not of the option's kind.
    #[error("'{value}' is no value for option '{name}': write {wants}")]
    Value {
        /// Name of the option.
        name: String,
        /// The value, clipped to 80 characters.
        value: String,
        /// Description of valid values.
        wants: String,
    },
}

impl Description {
    /// Returns the declared meter of that name; none if there is none.
    pub fn meter(&self, name: &str) -> Option<&MeterDescription> {
        self.meters.iter().find(|meter| meter.name == name)
    }

    /// Checks a tenant's options, without the host's own, against the declared ones.
    ///
    /// # Errors
    /// [`OptionError`] for the first that is unknown or malformed.
    pub fn check_options(&self, options: &[Setting]) -> Result<(), OptionError> {
        options.iter().try_for_each(|setting| self.check_option(setting))
    }

    fn check_option(&self, setting: &Setting) -> Result<(), OptionError> {
        let Some(option) = self.options.iter().find(|option| option.name == setting.name) else {
            let known: Vec<&str> = self.options.iter().map(|option| option.name.as_str()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(OptionError::Unknown { name: clipped(&setting.name), known });
        };
        check_value(option, &setting.value)
    }

    /// Checks a description.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn check(&self) -> Result<(), Violation> {
        if self.meters.is_empty() || self.meters.len() > limits::METERS_MAX {
            return Err(Violation::Meters(self.meters.len()));
        }
        if self.options.len() > limits::OPTIONS_MAX {
            return Err(Violation::Options(self.options.len()));
        }
        if self.billed_ratio > limits::BILLED_RATIO_MAX {
            return Err(Violation::BilledRatio(self.billed_ratio));
        }
        for (place, meter) in self.meters.iter().enumerate() {
            check_name("a meter", &meter.name)?;
            check_words(&meter.name, &meter.counts)?;
            if self.meters[..place].iter().any(|other| other.name == meter.name) {
                return Err(Violation::Twice { what: "meter", name: meter.name.clone() });
            }
        }
        for option in &self.options {
            check_declared(option)?;
        }
        match self.options.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            Some(pair) if pair[0].name == pair[1].name => {
                Err(Violation::Twice { what: "option", name: pair[1].name.clone() })
            }
            Some(pair) => Err(Violation::Order(pair[1].name.clone())),
            None => Ok(()),
        }
    }
}

fn check_declared(option: &OptionDescription) -> Result<(), Violation> {
    check_name("an option", &option.name)?;
    if option.name == INITIALIZING_MAX {
        return Err(Violation::Reserved);
    }
    check_words(&option.name, &option.does)?;
    if let OptionKind::Choice(words) = &option.kind {
        if words.is_empty() || words.len() > limits::CHOICES_MAX {
            return Err(Violation::Choices { option: option.name.clone(), words: words.len() });
        }
        for (place, word) in words.iter().enumerate() {
            check_name("a word to choose", word)?;
            if words[..place].contains(word) {
                return Err(Violation::Twice { what: "the word", name: word.clone() });
            }
        }
    }
    let wrong =
        |problem| Violation::Default { option: option.name.clone(), problem: Box::new(problem) };
    check_value(option, &option.default).map_err(wrong)
}

fn check_value(option: &OptionDescription, value: &str) -> Result<(), OptionError> {
    let is_right = match &option.kind {
        OptionKind::Duration => duration_ns(value).is_some(),
        OptionKind::Choice(words) => words.iter().any(|word| word == value),
        OptionKind::Text => {
            value.len() <= limits::OPTION_BYTES_MAX && !value.chars().any(char::is_control)
        }
    };
    if is_right {
        return Ok(());
    }
    let wants = match &option.kind {
        OptionKind::Duration => "a whole number with ns, ms, s, m or h, such as 60s".into(),
        OptionKind::Choice(words) => words.join(" or "),
        OptionKind::Text => {
            format!("at most {} bytes of text without control characters", limits::OPTION_BYTES_MAX)
        }
    };
    Err(OptionError::Value { name: option.name.clone(), value: clipped(value), wants })
}

/// Parses a length of time such as `60s` into nanoseconds; none for any other text.
pub(crate) fn duration_ns(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 5] = [
        ("ns", 1),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let &(_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(unit_ns)
}

fn check_name(what: &'static str, name: &str) -> Result<(), Violation> {
    let is_of_name =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    if (1..=limits::WORD_BYTES_MAX).contains(&name.len()) && name.chars().all(is_of_name) {
        return Ok(());
    }
    Err(Violation::Name { what, name: clipped(name) })
}

fn check_words(name: &str, words: &str) -> Result<(), Violation> {
    let bytes = words.len();
    if (1..=limits::DESCRIPTION_BYTES_MAX).contains(&bytes) && !words.chars().any(char::is_control)
    {
        return Ok(());
    }
    Err(Violation::Words { name: name.into(), bytes })
}

/// Returns the first 80 characters of a text from a component or a tenant, without control
/// characters, fit to be printed.
fn clipped(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}
