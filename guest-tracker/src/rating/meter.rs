//! What is measured: which phases count, and what a stretch of them is charged as at least.

use super::rounding::Rounding;
use crate::{NO_PHASE, Phase};

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

    /// Those of a list.
    pub const fn of(phases: &[Phase]) -> Self {
        let (mut set, mut index) = (0, 0);
        while index < phases.len() {
            set |= 1 << phases[index] as u8;
            index += 1;
        }
        Self(set)
    }

    /// These and `phase`, if `included`.
    #[must_use]
    pub const fn with(self, phase: Phase, included: bool) -> Self {
        if included { Self(self.0 | 1 << phase as u8) } else { self }
    }

    /// Whether the phase of that ordinal is among them. An ordinal that names no phase is not.
    #[inline]
    pub const fn has(self, ordinal: u8) -> bool {
        ordinal < 8 && self.0 & (1 << ordinal) != 0
    }
}

/// The grain in which time is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granularity {
    /// Length of a grain in nanoseconds, 1 or more.
    pub unit_ns: u64,
    /// What becomes of a part of one.
    pub rounding: Rounding,
}

impl Granularity {
    /// Every nanosecond as it is.
    pub const EXACT: Granularity = Granularity { unit_ns: 1, rounding: Rounding::Down };
    /// A second that has begun counts whole.
    pub const SECOND: Granularity = Granularity { unit_ns: SECOND_NS, rounding: Rounding::Up };
    /// A minute that has begun counts whole.
    pub const MINUTE: Granularity = Granularity { unit_ns: MINUTE_NS, rounding: Rounding::Up };
    /// An hour that has begun counts whole.
    pub const HOUR: Granularity = Granularity { unit_ns: HOUR_NS, rounding: Rounding::Up };

    /// `nanos` in whole grains. `None` past 64 bits, and for a grain of 0.
    pub fn round(self, nanos: u64) -> Option<u64> {
        if self.unit_ns == 1 {
            return Some(nanos);
        }
        self.rounding.to_multiple_u64(nanos, self.unit_ns)
    }
}

/// What a minimum and a granularity apply to: time of one instance that belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// From one start of the machine from nothing to the next. A reboot, a pause or a standby goes on with it.
    Start,
    /// The same, but waking from standby begins another.
    StartOrWake,
    /// As long as the meter counts without a break.
    Visit,
    /// All of the instance's life.
    Life,
}

/// A meter: which time counts, in which grain, and at least how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Its name in price books and charge lines.
    pub name: &'static str,
    /// The phases that count.
    pub phases: Phases,
    /// What `minimum_ns` and `granularity` apply to.
    pub stretch: Stretch,
    /// Least time that a stretch is charged for, in nanoseconds.
    pub minimum_ns: u64,
    /// The grain of a stretch.
    pub granularity: Granularity,
}

impl Meter {
    /// A meter that counts every nanosecond of these phases, and no more.
    pub const fn new(name: &'static str, phases: Phases) -> Self {
        Self { name, phases, stretch: Stretch::Start, minimum_ns: 0, granularity: Granularity::EXACT }
    }

    /// With stretches of another kind.
    #[must_use]
    pub const fn each(self, stretch: Stretch) -> Self {
        Self { stretch, ..self }
    }

    /// With a least time for each stretch, in nanoseconds.
    #[must_use]
    pub const fn at_least(self, minimum_ns: u64) -> Self {
        Self { minimum_ns, ..self }
    }

    /// With a grain for each stretch.
    #[must_use]
    pub const fn in_grains(self, granularity: Granularity) -> Self {
        Self { granularity, ..self }
    }

    /// What a stretch is charged for that lasted `used_ns`. `None` past 64 bits.
    pub fn due_ns(&self, used_ns: u64) -> Option<u64> {
        self.granularity.round(used_ns.max(self.minimum_ns))
    }

    /// Whether a stretch is always charged for exactly as long as it lasted, so that nothing must be remembered of it.
    pub fn is_exact(&self) -> bool {
        self.minimum_ns == 0 && self.granularity.unit_ns == 1
    }
}

/// The phase of an ordinal.
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

/// A phase's name, as in journals and answers.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_no_more() {
        let set = Phases::of(&[Phase::Running, Phase::Unknown]).with(Phase::Paused, true).with(Phase::Standby, false);
        let found: Vec<_> = (0..=NO_PHASE).filter(|&ordinal| set.has(ordinal)).collect();
        assert_eq!(found, [Phase::Running as u8, Phase::Paused as u8, Phase::Unknown as u8]);
        assert_eq!((0..=NO_PHASE).filter(|&ordinal| Phases::ALL.has(ordinal)).count(), 8);
        assert_eq!((0..=NO_PHASE).filter(|&ordinal| Phases::NONE.has(ordinal)).count(), 0);
    }

    #[test]
    fn grains_round_as_they_say() {
        let rows = [
            (Granularity::EXACT, 59_999, 59_999),
            (Granularity::SECOND, 1, SECOND_NS),
            (Granularity::SECOND, 0, 0),
            (Granularity::SECOND, SECOND_NS, SECOND_NS),
            (Granularity::SECOND, SECOND_NS + 1, 2 * SECOND_NS),
            (Granularity::MINUTE, 61 * SECOND_NS, 2 * MINUTE_NS),
            (Granularity { rounding: Rounding::Down, ..Granularity::MINUTE }, 405 * SECOND_NS, 6 * MINUTE_NS),
            (Granularity { rounding: Rounding::Down, ..Granularity::MINUTE }, 59 * SECOND_NS, 0),
            (Granularity { rounding: Rounding::HalfUp, ..Granularity::HOUR }, HOUR_NS / 2, HOUR_NS),
        ];
        for (granularity, nanos, rounded) in rows {
            assert_eq!(granularity.round(nanos), Some(rounded), "{granularity:?} {nanos}");
        }
        assert_eq!(Granularity::SECOND.round(u64::MAX), None);
        assert_eq!(Granularity { unit_ns: 0, rounding: Rounding::Up }.round(1), None);
    }

    #[test]
    fn a_minimum_comes_before_the_grain() {
        let meter = Meter::new("active", Phases::ALL).at_least(61 * SECOND_NS).in_grains(Granularity::MINUTE);
        assert_eq!(meter.due_ns(0), Some(2 * MINUTE_NS));
        assert_eq!(meter.due_ns(121 * SECOND_NS), Some(3 * MINUTE_NS));
    }

    #[test]
    fn ordinals_and_names_are_those_of_the_contract() {
        for ordinal in 0..8 {
            let phase = phase(ordinal).expect("a phase");
            assert_eq!(phase as u8, ordinal);
            assert_eq!(phase_name(phase), format!("{phase:?}").trim_start_matches("Phase::").to_lowercase());
        }
        assert_eq!(phase(8), None);
    }
}
