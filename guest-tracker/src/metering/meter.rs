//! Meters: the phases that count, and the least that a stretch of them owes.

use super::options::Options;
use super::text::{Text, join, list};
use crate::{MeterTerms, MeteringError, NO_PHASE, Phase, Rounding, Stretch};

/// A second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;
/// A minute in nanoseconds.
pub const MINUTE_NS: u64 = 60 * SECOND_NS;
/// An hour in nanoseconds.
pub const HOUR_NS: u64 = 60 * MINUTE_NS;

/// A set of phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// No phase.
    pub const NONE: Phases = Phases(0);
    /// Every phase.
    pub const ALL: Phases = Phases(u8::MAX);

    /// The set of the listed phases.
    pub const fn of(phases: &[Phase]) -> Self {
        let mut set = 0;
        let mut index = 0;
        while index < phases.len() {
            set |= 1 << phases[index] as u8;
            index += 1;
        }
        Self(set)
    }

    /// Adds `phase` if `included`, and leaves the set as it is if not.
    #[must_use]
    pub const fn with(self, phase: Phase, included: bool) -> Self {
        if included { Self(self.0 | 1 << phase as u8) } else { self }
    }

    /// Returns whether the phase of that ordinal is in the set; false for an ordinal that names no
    /// phase.
    #[inline]
    pub const fn has(self, ordinal: u8) -> bool {
        ordinal < 8 && self.0 & (1 << ordinal) != 0
    }

    /// The phases in words, such as `time in initializing, running`.
    fn in_words(self) -> String {
        if self == Self::ALL {
            return "all time from the creation to the deletion".into();
        }
        let mut names = Vec::new();
        for phase in (0..8).filter(|&ordinal| self.has(ordinal)).filter_map(phase) {
            names.push(phase_name(phase));
        }
        let names = if names.is_empty() { "no phase" } else { &list(&names, ", ") };
        let mut text = Text::default();
        text.add("time in ").add(names);
        text.into_string()
    }
}

/// The grain in which time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granularity {
    /// Length of a grain in nanoseconds, 1 or more.
    pub unit_ns: u64,
    /// Rounding of a fraction of a grain.
    pub rounding: Rounding,
}

impl Granularity {
    /// Every nanosecond as it is.
    pub const EXACT: Granularity = Granularity::of(1);
    /// A second that has begun counts whole.
    pub const SECOND: Granularity = Granularity::of(SECOND_NS);
    /// A minute that has begun counts whole.
    pub const MINUTE: Granularity = Granularity::of(MINUTE_NS);
    /// An hour that has begun counts whole.
    pub const HOUR: Granularity = Granularity::of(HOUR_NS);

    /// Grains of that length; one that has begun counts whole.
    pub const fn of(unit_ns: u64) -> Self {
        Self { unit_ns, rounding: Rounding::Up }
    }
}

/// A meter: which time counts, in which grain, and at least how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Name in price books: `a-z`, `0-9`, `-`, `.` and `_`.
    pub name: &'static str,
    /// The phases that count.
    pub phases: Phases,
    /// Remark for people beside the phases; empty for none.
    pub note: &'static str,
    /// Time that `minimum_ns` and `granularity` apply to.
    pub stretch: Stretch,
    /// Least time that a stretch owes, in nanoseconds; 0 for none.
    pub minimum_ns: u64,
    /// The grain of a stretch.
    pub granularity: Granularity,
}

impl Meter {
    /// A meter that counts every nanosecond of these phases, and no more.
    pub const fn new(name: &'static str, phases: Phases) -> Self {
        let granularity = Granularity::EXACT;
        Self { name, phases, note: "", stretch: Stretch::Start, minimum_ns: 0, granularity }
    }

    /// Adds a note for people, such as the unit that the meter is meant to be priced in.
    #[must_use]
    pub const fn noted(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// Sets the kind of stretch.
    #[must_use]
    pub const fn each(self, stretch: Stretch) -> Self {
        Self { stretch, ..self }
    }

    /// Sets the least time for each stretch, in nanoseconds.
    #[must_use]
    pub const fn at_least(self, minimum_ns: u64) -> Self {
        Self { minimum_ns, ..self }
    }

    /// Sets the grain of each stretch.
    #[must_use]
    pub const fn in_grains(self, granularity: Granularity) -> Self {
        Self { granularity, ..self }
    }

    /// Sets the minimum, the grain and the kind of stretch that the options `minimum`,
    /// `granularity`, `granularity-rounding` and `wake` name. Without them the meter stays as it
    /// is.
    ///
    /// # Errors
    /// [`MeteringError::InvalidOption`] for a malformed one.
    pub fn chosen(self, options: &mut Options<'_>) -> Result<Self, MeteringError> {
        const WAKE: [(&str, Stretch); 2] =
            [("continues", Stretch::Start), ("start", Stretch::Wake)];
        const ROUNDINGS: [(&str, Rounding); 4] = [
            ("half-even", Rounding::HalfEven),
            ("half-up", Rounding::HalfUp),
            ("down", Rounding::Down),
            ("up", Rounding::Up),
        ];
        let does = join(&["least time that a stretch of ", self.name, " owes"]);
        let minimum_ns = options.duration_ns("minimum", self.minimum_ns, &does)?;
        let does = join(&["grain of what a stretch of ", self.name, " owes"]);
        let unit_ns = options.grain_ns("granularity", self.granularity.unit_ns, &does)?;
        let does = "rounding of a fraction of a grain";
        let rounding =
            options.choice("granularity-rounding", &ROUNDINGS, self.granularity.rounding, does)?;
        let does = "whether leaving standby is a start of its own or continues the one before";
        let stretch = options.choice("wake", &WAKE, self.stretch, does)?;
        Ok(Self { stretch, minimum_ns, granularity: Granularity { unit_ns, rounding }, ..self })
    }

    /// Describes the time that the meter counts, in words.
    pub fn counts(&self) -> String {
        let mut text = Text::default();
        text.add(&self.phases.in_words());
        if !self.note.is_empty() {
            text.add("; ").add(self.note);
        }
        text.into_string()
    }

    /// Terms that apply to each stretch, as the contract has them.
    pub fn terms(&self) -> MeterTerms {
        MeterTerms {
            name: self.name.into(),
            stretch: self.stretch,
            minimum: self.minimum_ns,
            granularity: self.granularity.unit_ns,
            rounding: self.granularity.rounding,
        }
    }
}

/// The phase of an ordinal; none above 7.
pub fn phase(ordinal: u8) -> Option<Phase> {
    const ALL: [Phase; 8] = [
        Phase::Created,
        Phase::Initializing,
        Phase::Running,
        Phase::Paused,
        Phase::Shutdown,
        Phase::Standby,
        Phase::Stopped,
        Phase::Unknown,
    ];
    debug_assert!(usize::from(NO_PHASE) >= ALL.len());
    ALL.get(usize::from(ordinal)).copied()
}

/// A phase's name, as in the journal and in the API.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Created => "created",
        Phase::Initializing => "initializing",
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Shutdown => "shutdown",
        Phase::Standby => "standby",
        Phase::Stopped => "stopped",
        Phase::Unknown => "unknown",
    }
}
