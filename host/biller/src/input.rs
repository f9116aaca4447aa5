//! Input of a bill: one tenant, one period, up to one instant.

use serde::{Deserialize, Serialize};

/// Version of the input's form; an input of another one is refused.
pub const FORM: u32 = 1;

/// Half-open span of the meter clock, in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First instant inside.
    pub start: i64,
    /// First instant after; not before `start`.
    pub end: i64,
}

/// The whole input but for subjects, intervals and own lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the form: [`FORM`].
    pub form: u32,
    /// The full period, from border to border. Minimums and caps are prorated by its length.
    pub period: Span,
    /// First instant of the tenant in the period: the tenant's first fact or the period's start,
    /// whichever is later. No adjustment is in force before it.
    pub first: i64,
    /// End of the tenant in this period; the period's end if the tenant goes on.
    pub last: i64,
    /// Instant T, up to which is billed: `first <= until <= last`. Minimums are owed only when it
    /// equals `last`.
    pub until: i64,
    /// Offsets from the meter clock to UTC. At least one, ascending; the first holds for all time
    /// before the second, too.
    pub calendar: Vec<Offset>,
    /// Time zones that the books' windows name, resolved for the period and two days on both sides.
    pub zones: Vec<Zone>,
    /// Books in force, ascending, not overlapping; gaps are time without a book. They reach to the
    /// period's end, planned ones included.
    pub books: Vec<BookInForce>,
    /// Names of the meters, at most 64; bit n of [`Intervals::meters`] stands for the n-th.
    pub meters: Vec<String>,
    /// Terms of the meters, by the policy in force; ascending, covering `first..until`.
    pub terms: Vec<TermsInForce>,
    /// Balances that the period before handed on.
    pub opening: Balances,
    /// One-off charges and goodwill, in any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_offs: Vec<OneOff>,
    /// Instants, ascending, at which the sums of rules are stated, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<i64>,
}

/// A one-off charge or a goodwill; see section 17 of `docs/bill.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneOff {
    /// Id, unique among the tenant's, and no adjustment's.
    pub id: String,
    /// Charge or goodwill.
    pub kind: OneOffKind,
    /// Instant to which it belongs, on the meter clock; one of an earlier period for a goodwill
    /// that may have something left.
    pub at: i64,
    /// Amount in nano-units, above 0.
    pub amount: i128,
    /// ISO 4217 code.
    pub currency: String,
}

/// The kind of a one-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OneOffKind {
    /// An amount that is added to what is due.
    Charge,
    /// An amount that pays what is due until it is used up.
    Goodwill,
}

/// Offset of the calendar: from `since` on, UTC is the meter clock plus `offset` nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// Meter instant, in nanoseconds.
    pub since: i64,
    /// Nanoseconds to add to the meter clock.
    pub offset: i64,
}

/// A time zone's offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// IANA name, such as `Europe/Berlin`.
    pub name: String,
    /// Pairs of a UTC instant in nanoseconds and the offset from it on, in seconds east of UTC;
    /// ascending, at least one. The first holds for all time before the second.
    pub transitions: Vec<(i64, i32)>,
}

/// A price book and the time in which it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookInForce {
    /// First instant in force, in nanoseconds of the meter clock.
    pub from: i64,
    /// First instant no longer in force, in nanoseconds of the meter clock.
    pub until: i64,
    /// The document as the operator gave it.
    pub text: String,
}

/// The terms of all meters under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsInForce {
    /// First instant in force, in nanoseconds of the meter clock.
    pub from: i64,
    /// First instant no longer in force, in nanoseconds of the meter clock.
    pub until: i64,
    /// Terms of each of [`Header::meters`], in their order; none where the policy has no such
    /// meter.
    pub terms: Vec<Option<Terms>>,
}

/// Terms that apply to each stretch of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Kind of stretch.
    pub stretch: Stretch,
    /// Least time that a stretch owes, in nanoseconds; 0 for none.
    pub minimum_ns: u64,
    /// Grain of what a stretch owes, in nanoseconds, 1 or more.
    pub granularity_ns: u64,
    /// Rounding of a fraction of a grain.
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
    /// Id of the instance.
    pub id: String,
    /// Sequence number of its first fact; of equal remainders, the earlier instance takes the unit.
    pub first_fact: u64,
    /// True if its life ended at or before `until`, so that none of its balances is handed on.
    pub ended: bool,
}

/// Intervals as columns of one length, clipped to `first..until`, sorted by subject and then by
/// start. Those of one subject may touch or leave gaps, and never overlap. They are cut where
/// policies change; the biller cuts them where prices change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// Index into the subjects.
    pub subject: Vec<u32>,
    /// First instant inside.
    pub start: Vec<i64>,
    /// First instant after.
    pub end: Vec<i64>,
    /// Number of the start of the machine from nothing that the interval belongs to, from 1.
    pub session: Vec<u32>,
    /// Number of times that the instance had left standby before.
    pub wakes: Vec<u32>,
    /// Meters that count the interval: bit n stands for meter n of the header.
    pub meters: Vec<u64>,
    /// Sequence number of the fact that opened the interval.
    pub fact: Vec<u64>,
    /// Dimensions of the shape, such as `vcpu`, `memory-byte`; the unit is `<name>-ns`.
    pub dimensions: Vec<Column>,
    /// Counts, such as `network-in-bytes`, read at the end of each interval; the unit is the name.
    pub counts: Vec<Column>,
}

/// A named column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name of the dimension or the count.
    pub name: String,
    /// Values, one for each interval.
    pub values: Vec<u64>,
}

/// A line that a policy states by itself; see section 14 of `docs/bill.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnLine {
    /// Rule that the line belongs to.
    pub rule: String,
    /// Meter that counts the line's intervals.
    pub meter: String,
    /// Index into the subjects; none for a charge of the tenant as a whole.
    pub subject: Option<u32>,
    /// Unit of both quantities.
    pub unit: String,
    /// Units used.
    pub quantity: u128,
    /// Units charged for.
    pub billed: u128,
    /// Id of a price in the book that is in force at `at`.
    pub price_id: String,
    /// Instant to which the charge belongs, on the meter clock.
    pub at: i64,
}

/// Balances that one period hands on to the next. They are the host's, not a policy's. Sorted, so
/// that equal balances are equal texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balances {
    /// Balances of counters that are never reset.
    pub counters: Vec<CounterBalance>,
    /// Stretches that may go on in the next period.
    pub stretches: Vec<StretchBalance>,
    /// Credits of which something was used.
    pub credits: Vec<CreditBalance>,
}

/// The balance of a counter that is never reset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterBalance {
    /// Rule of the counter.
    pub rule: String,
    /// Meter of the counter.
    pub meter: String,
    /// Unit of the counter.
    pub unit: String,
    /// Instance that the counter belongs to; none for the tenant's.
    pub instance: Option<String>,
    /// Units so far.
    pub units: u128,
    /// Value of the counter up to which packages are paid.
    pub covered: u128,
    /// Positions of the tiers whose fee was owed, ascending.
    pub fees: Vec<u32>,
}

/// A stretch that may go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StretchBalance {
    /// Id of the instance.
    pub instance: String,
    /// Meter whose stretch it is.
    pub meter: String,
    /// Kind of stretch.
    pub stretch: Stretch,
    /// Number of the session, for `start` and `wake`; 0 otherwise.
    pub session: u32,
    /// Number of times that standby was left, for `wake`; 0 otherwise.
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
    /// Id of the credit.
    pub id: String,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// Amount of the grant when it was first named, in nano-units.
    pub amount: i128,
    /// Nano-units used so far.
    pub used: i128,
}
