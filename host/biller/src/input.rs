//! Input of a bill: one tenant, one period, up to one instant.

use serde::{Deserialize, Serialize};

/// The version of this form; an input of another one is refused.
pub const FORM: u32 = 1;

/// Half-open stretch of the meter clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First instant inside.
    pub start: i64,
    /// First instant after; not before `start`.
    pub end: i64,
}

/// Everything but the intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORM`].
    pub form: u32,
    /// The usual period, from border to border. Shares of money minimums and caps are of its
    /// length.
    pub period: Span,
    /// First instant of the period that is the tenant's: the tenant's first fact or the period's
    /// start, whichever is later. No adjustment is in force before it.
    pub first: i64,
    /// End of the tenant in this period; the period's end if the tenant goes on.
    pub last: i64,
    /// The instant up to which is billed, T: `first <= until <= last`. Minimums are owed where it
    /// equals `last`.
    pub until: i64,
    /// How to read the calendar: UTC is the meter plus the offset. At least one, ascending; the
    /// first holds for all time before the second, too.
    pub calendar: Vec<Offset>,
    /// The zones that the books' windows name, resolved for the period and two days on both sides.
    pub zones: Vec<Zone>,
    /// Books in force, ascending, not overlapping; gaps are time without a book. They reach to the
    /// period's end, planned ones included.
    pub books: Vec<BookInForce>,
    /// Names of the meters that bits in [`Intervals::meters`] stand for, at most 64.
    pub meters: Vec<String>,
    /// Terms of the meters, by the policy in force; ascending, covering `first..until`.
    pub terms: Vec<TermsInForce>,
    /// What the period before handed on.
    pub opening: Balances,
}

/// From `since` on, UTC is the meter clock plus `offset` nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// Meter instant.
    pub since: i64,
    /// Nanoseconds to add.
    pub offset: i64,
}

/// A time zone's offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// IANA name.
    pub name: String,
    /// (from this UTC instant on in nanoseconds, seconds east of UTC), ascending, at least one; the
    /// first holds for all time before the second.
    pub transitions: Vec<(i64, i32)>,
}

/// A price book and the time in which it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookInForce {
    /// First instant.
    pub from: i64,
    /// First instant after.
    pub until: i64,
    /// The document as the operator gave it.
    pub text: String,
}

/// The terms of all meters under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsInForce {
    /// First instant.
    pub from: i64,
    /// First instant after.
    pub until: i64,
    /// One for each of [`Header::meters`], in their order; none where the policy has no such meter.
    pub terms: Vec<Option<Terms>>,
}

/// What applies to each stretch of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Kind of stretch.
    pub stretch: Stretch,
    /// Least time that a stretch owes, in nanoseconds; 0 for none.
    pub minimum_ns: u64,
    /// Grain of what a stretch owes, in nanoseconds, 1 or more.
    pub granularity_ns: u64,
    /// What becomes of a part of a grain.
    pub rounding: Rounding,
}

/// Time of one instance that belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stretch {
    /// From one start of the machine from nothing to the next.
    Start,
    /// The same, but leaving standby begins another.
    Wake,
    /// An unbroken run of counted intervals.
    Visit,
    /// All of the instance's life.
    Life,
}

/// A rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest, a tie to the even one.
    HalfEven,
    /// To the nearest, a tie away from zero.
    HalfUp,
    /// Towards zero.
    Down,
    /// Away from zero.
    Up,
}

/// An instance that is billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its id.
    pub id: String,
    /// Sequence number of its first fact: ties go to the earlier one.
    pub first_fact: u64,
    /// Whether its life has ended at or before `until`, so that nothing of it is handed on.
    pub ended: bool,
}

/// Intervals as columns of one length, clipped to `first..until`, sorted by subject and then by
/// start. Those of a subject touch or leave gaps, and never overlap. They are cut where policies
/// change; the biller cuts them where prices do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// Index into the subjects.
    pub subject: Vec<u32>,
    /// First instant inside.
    pub start: Vec<i64>,
    /// First instant after.
    pub end: Vec<i64>,
    /// Number of the start of the machine from nothing that it belongs to.
    pub session: Vec<u32>,
    /// How often the instance had left standby before.
    pub wakes: Vec<u32>,
    /// Bit n: meter n counts it.
    pub meters: Vec<u64>,
    /// Sequence number of the fact that opened it.
    pub fact: Vec<u64>,
    /// Dimensions of the shape, such as `vcpu`, `memory-byte`: unit `<name>-ns`. One value each.
    pub dimensions: Vec<Column>,
    /// Counts, such as `network-in-bytes`: the unit is the name. One value each, read at the end.
    pub counts: Vec<Column>,
}

/// A named column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name.
    pub name: String,
    /// One value for each interval.
    pub values: Vec<u64>,
}

/// A line that a policy states by itself; see section 14 of `docs/bill.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnLine {
    /// Rule.
    pub rule: String,
    /// Meter.
    pub meter: String,
    /// Index into the subjects; none for the tenant as a whole.
    pub subject: Option<u32>,
    /// Unit of both quantities.
    pub unit: String,
    /// What was used.
    pub quantity: u128,
    /// What is charged for.
    pub billed: u128,
    /// Price of the book in force at `at`.
    pub price_id: String,
    /// The instant to which the charge belongs.
    pub at: i64,
}

/// What one period hands on to the next; typed, and the host's. Sorted, so that equal balances are
/// equal texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balances {
    /// Counters that are never reset.
    pub counters: Vec<CounterBalance>,
    /// Stretches that may go on.
    pub stretches: Vec<StretchBalance>,
    /// Credits that were used.
    pub credits: Vec<CreditBalance>,
}

/// A counter that is never reset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterBalance {
    /// Rule.
    pub rule: String,
    /// Meter.
    pub meter: String,
    /// Unit.
    pub unit: String,
    /// The instance whose it is; none for the tenant's.
    pub instance: Option<String>,
    /// Units so far.
    pub units: u128,
    /// Up to which value of the counter packages are paid.
    pub covered: u128,
    /// Positions of tiers whose fee was owed, ascending.
    pub fees: Vec<u32>,
}

/// A stretch that may go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StretchBalance {
    /// The instance.
    pub instance: String,
    /// Meter.
    pub meter: String,
    /// Kind.
    pub stretch: Stretch,
    /// Session, for `start` and `wake`; 0 otherwise.
    pub session: u32,
    /// Wakes, for `wake`; 0 otherwise.
    pub wakes: u32,
    /// End of the last counted interval, for `visit`, on the meter clock; 0 otherwise.
    pub last: i64,
    /// Nanoseconds used so far.
    pub used_ns: u64,
    /// The most that it owed at any border, in nanoseconds.
    pub owed_ns: u64,
}

/// A credit that was used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditBalance {
    /// The grant.
    pub id: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Amount of the grant in nano-units, as it was first named.
    pub amount: i128,
    /// Nano-units used so far.
    pub used: i128,
}
