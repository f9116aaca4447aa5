//! Bounds of price books and bills, each with its unit and its reason.

/// Bytes of a price book.
pub const BOOK_BYTES_MAX: usize = 1 << 20;
/// Bytes of a rule, a meter, a unit or an id.
pub const WORD_BYTES_MAX: usize = 128;
/// Prices of a book.
pub const PRICES_MAX: usize = 1_000;
/// Rules of a book. A bill sweeps once for each.
pub const RULES_MAX: usize = 64;
/// Windows of a book, over all its prices. Those of a rule are compared pair by pair.
pub const WINDOWS_MAX: usize = 64;
/// Tiers of a price.
pub const TIERS_MAX: usize = 100;
/// Adjustments of a book.
pub const ADJUSTMENTS_MAX: usize = 100;
/// Meters of a bill, which are bits of a word.
pub const METERS_MAX: usize = 64;
/// Marks of a bill: the days of a month that is as long as a year.
pub const MARKS_MAX: usize = 400;
/// Most bytes of one instance that a price must be able to charge for: 64 TiB.
pub const BYTES_MAX: u128 = 64 << 40;
/// Most of any other dimension of one instance that a price must be able to charge for.
pub const DIMENSION_MAX: u128 = 1 << 16;
/// Instances that a price must be able to charge for at once.
pub const INSTANCES_MAX: u128 = 10_000;
/// Time that a price must be able to charge for, in nanoseconds: a leap year.
pub const YEAR_NS: u128 = 366 * 86_400_000_000_000;
/// Most nano-units that a price may come to over all that. A bill adds up some thousand such sums.
pub const AMOUNT_MAX: u128 = i128::MAX as u128 >> 16;
