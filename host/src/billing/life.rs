//! The part of an instance's life that a span of time needs: where it stood at the border, and what
//! happened inside.

use super::fact::{Counted, Entered, Fact};
use crate::id::InstanceId;
use crate::units::Instant;
use crate::vm::Phase;

/// The interval that is under way at a border, with what it takes to go on counting from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Sequence number of the fact that began it.
    pub fact: u64,
    /// Instant of that fact.
    pub at: Instant,
    /// The phase and the shape.
    pub entered: Entered,
    /// Number of times that the instance has left standby in its life so far.
    pub wakes: u32,
    /// Instant at which the boot under way began; `at` in other phases than `initializing`.
    pub boot_began: Instant,
}

impl Opening {
    /// The interval under way after a fact that counts; none after the end.
    #[must_use]
    pub fn after(before: Option<&Self>, fact: u64, at: Instant, counted: Counted) -> Option<Self> {
        let Counted::Enters(entered) = counted else { return None };
        let is_boot = |entered: &Entered| entered.phase == Phase::Initializing;
        let goes_on = before.filter(|open| is_boot(&open.entered) && is_boot(&entered));
        Some(Self {
            fact,
            at,
            entered,
            wakes: before.map_or(0, |open| {
                open.wakes.saturating_add(u32::from(wakes(open.entered.phase, Some(entered.phase))))
            }),
            // A boot may be several intervals, if the shape changes in it.
            boot_began: goes_on.map_or(at, |open| open.boot_began),
        })
    }
}

/// Returns true if an instance that was in phase `from` wakes by entering `to`.
pub fn wakes(from: Phase, to: Option<Phase>) -> bool {
    from == Phase::Standby && to.is_some_and(|to| to != Phase::Standby)
}

/// A fact that counts time: its sequence number, its instant, its meaning.
pub type CountedFact = (u64, Instant, Counted);

/// The part of the life of one instance that a span needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The instance.
    pub id: InstanceId,
    /// Rank of the instance among those of the tenant: the sequence number of its first fact. Over
    /// several journals, the instant of that fact in nanoseconds.
    pub first_fact: u64,
    /// The interval under way at the first instant of the span; none before its time begins, and
    /// after it has ended.
    pub opening: Option<Opening>,
    /// The facts that count time after that instant and up to the end of the span, ascending.
    pub counted: Vec<CountedFact>,
}

impl Life {
    /// The part of a whole history that the span needs; none without a fact.
    pub fn of(
        id: &InstanceId,
        history: &[(u64, Fact)],
        (start, end): (Instant, Instant),
    ) -> Option<Self> {
        let &(first_fact, _) = history.first()?;
        let life = Self { id: id.clone(), first_fact, opening: None, counted: Vec::new() };
        Some(life.with(history, (start, end)))
    }

    /// The life with facts that follow.
    #[must_use]
    pub fn with(mut self, history: &[(u64, Fact)], (start, end): (Instant, Instant)) -> Self {
        for (seq, fact) in history {
            let (at, Some(counted)) = (fact.at.meter, fact.counts()) else { continue };
            if at <= start {
                self.opening = Opening::after(self.opening.as_ref(), *seq, at, counted);
            } else if at <= end {
                self.counted.push((*seq, at, counted));
            }
        }
        self
    }

    /// Returns whether the instance ended before the span: the last of its facts counts no time
    /// from there on.
    pub fn is_over(&self, history: &[(u64, Fact)]) -> bool {
        let ends = |(_, fact): &(u64, Fact)| fact.counts() == Some(Counted::Ends);
        self.opening.is_none() && self.counted.is_empty() && history.iter().any(ends)
    }
}
