//! Checks of a measurement against the contract.

use std::collections::{BTreeMap, HashMap};

use super::words::{
    Description, IntervalRange, Measurement, MeterTerms, OwnLine, Request, TIME, unsigned,
};
use crate::limits::policy as limits;
use crate::mutants::money::Mutant;

/// A breach of the contract by a measurement, its own lines apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The terms are not those of the declared meters in the declared order.
    #[error(
        "answered terms of {} in place {place}, where {} is declared",
        or_none(answered),
        or_none(declared)
    )]
    Terms {
        /// Index of the first difference.
        place: usize,
        /// Name of the meter that is declared there; none beyond the last one.
        declared: Option<String>,
        /// Name of the meter whose terms were answered there, clipped to 80 characters; none beyond
        /// the last one.
        answered: Option<String>,
    },
    /// A minimum is too large.
    #[error(
        "meter '{meter}' has a minimum of {ns} ns; at most {max} are allowed",
        max = limits::TERMS_NS_MAX
    )]
    Minimum {
        /// Name of the meter.
        meter: String,
        /// The minimum in nanoseconds.
        ns: u64,
    },
    /// A granularity is 0 or too large.
    #[error(
        "meter '{meter}' has a granularity of {ns} ns; 1 to {max} are allowed",
        max = limits::TERMS_NS_MAX
    )]
    Granularity {
        /// Name of the meter.
        meter: String,
        /// The granularity in nanoseconds.
        ns: u64,
    },
    /// A mask has a bit that stands for no meter.
    #[error("interval {interval} is counted for meter {meter}; there are {meters} meters")]
    Mask {
        /// Index of the interval.
        interval: usize,
        /// Index of the bit.
        meter: u32,
        /// Number of declared meters.
        meters: usize,
    },
    /// The terms differ between two parts of one request.
    #[error("answered other terms for another part of the same request")]
    TermsDiffer,
    /// There are too many own lines. The field is their number.
    #[error("stated {0} lines of its own; at most {max} are allowed", max = limits::OWN_LINES_MAX)]
    Lines(usize),
}

/// A breach of the contract by one of a policy's own lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineViolation {
    /// A text is too short, too long, or has control characters.
    #[error(
        "its {what} has {bytes} bytes or control characters; {min} to {max} bytes of text are \
         allowed"
    )]
    Text {
        /// Name of the field.
        what: &'static str,
        /// Length of the text in bytes.
        bytes: usize,
        /// Least length in bytes.
        min: usize,
        /// Greatest length in bytes.
        max: usize,
    },
    /// The lines are not sorted.
    #[error(
        "it is out of order: sort lines by rule, meter and subject, lines without a subject last"
    )]
    Order,
    /// The meter is not declared. The field is its name.
    #[error("meter '{0}' is not declared")]
    Meter(String),
    /// The subject is not in the request. The field is its index.
    #[error("subject {0} was not in the request")]
    Subject(u32),
    /// The line names no interval.
    #[error("it names no interval")]
    NoInterval,
    /// A range that is empty, out of order, or beyond the intervals.
    #[error(
        "its range from {first} to {end} is empty, out of order, or beyond the {intervals} \
         intervals"
    )]
    Range {
        /// Index of the range's first interval.
        first: u32,
        /// Index of the first interval after the range.
        end: u32,
        /// Number of intervals in the request.
        intervals: usize,
    },
    /// A line of one subject names an interval of another.
    #[error("its range from {first} to {end} reaches another subject's intervals")]
    ForeignInterval {
        /// Index of the range's first interval.
        first: u32,
        /// Index of the first interval after the range.
        end: u32,
    },
    /// A line names an interval that its meter does not count.
    #[error("meter '{meter}' does not count all intervals from {first} to {end}")]
    Uncounted {
        /// Name of the meter.
        meter: String,
        /// Index of the range's first interval.
        first: u32,
        /// Index of the first interval after the range.
        end: u32,
    },
    /// An interval is charged twice by the same rule, meter and unit.
    #[error("an interval from {first} to {end} is charged twice by this rule, meter and unit")]
    Twice {
        /// Index of the range's first interval.
        first: u32,
        /// Index of the first interval after the range.
        end: u32,
    },
    /// The unit is unknown to the host. The field is its name.
    #[error("unit '{0}' is neither ns, nor a dimension's name and -ns, nor a count's name")]
    Unit(String),
    /// The quantity is not what the intervals held.
    #[error("it states {stated} {unit} where the intervals held {measured}")]
    Quantity {
        /// Quantity of the line.
        stated: u128,
        /// Quantity that the intervals held.
        measured: u128,
        /// Unit of both.
        unit: String,
    },
    /// The quantity that the intervals held exceeds 128 bits. The field is the unit.
    #[error("what the intervals held of {0} does not fit 128 bits")]
    Overflow(String),
    /// The line bills more than the component's declared ratio allows.
    #[error("it bills {billed} of {quantity}; the component declares at most {ratio} thousandths")]
    Billed {
        /// Quantity that the line bills.
        billed: u128,
        /// Quantity that the intervals held.
        quantity: u128,
        /// Declared ratio in thousandths.
        ratio: u32,
    },
}

fn or_none(meter: &Option<String>) -> String {
    meter.as_ref().map_or_else(|| "none".into(), |name| format!("meter '{name}'"))
}

/// A flaw of an answer.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// The answer is for another number of intervals.
    Length {
        /// Number of intervals in the request.
        expected: usize,
        /// Number of masks in the answer.
        got: usize,
    },
    /// The answer breaks the contract.
    Answer(Violation),
    /// An own line, by its index, breaks the contract.
    Line(usize, LineViolation),
}

/// Checks an answer to a request.
pub(crate) fn check(
    description: &Description,
    request: &Request,
    answer: &Measurement,
) -> Result<(), Flaw> {
    check_terms(description, &answer.terms).map_err(Flaw::Answer)?;
    let expected = request.intervals.phase.len();
    let got = answer.counted.len();
    if got != expected {
        return Err(Flaw::Length { expected, got });
    }
    check_masks(&answer.counted, answer.terms.len()).map_err(Flaw::Answer)?;
    if answer.lines.len() > limits::OWN_LINES_MAX {
        return Err(Flaw::Answer(Violation::Lines(answer.lines.len())));
    }
    let mut lines = Lines::new(description, request, answer);
    for (number, line) in answer.lines.iter().enumerate() {
        lines.check(line).map_err(|violation| Flaw::Line(number, violation))?;
    }
    Ok(())
}

fn check_terms(description: &Description, terms: &[MeterTerms]) -> Result<(), Violation> {
    for place in 0..terms.len().max(description.meters.len()) {
        let declared = description.meters.get(place).map(|meter| &meter.name);
        let answered = terms.get(place).map(|terms| &terms.name);
        if declared != answered {
            let clip = |name: &String| name.chars().take(80).collect();
            return Err(Violation::Terms {
                place,
                declared: declared.cloned(),
                answered: answered.map(clip),
            });
        }
    }
    for terms in terms {
        let meter = || terms.name.clone();
        if terms.minimum > limits::TERMS_NS_MAX {
            return Err(Violation::Minimum { meter: meter(), ns: terms.minimum });
        }
        if !(1..=limits::TERMS_NS_MAX).contains(&terms.granularity) {
            return Err(Violation::Granularity { meter: meter(), ns: terms.granularity });
        }
    }
    Ok(())
}

fn check_masks(counted: &[u64], meters: usize) -> Result<(), Violation> {
    let known = u64::MAX.checked_shr(64 - meters.min(64) as u32).unwrap_or(0);
    match counted.iter().position(|mask| mask & !known != 0) {
        Some(interval) => {
            let meter = (counted[interval] & !known).trailing_zeros();
            Err(Violation::Mask { interval, meter, meters })
        }
        None => Ok(()),
    }
}

/// Ranges that are taken, by their first interval; the value is the first interval after.
type Taken = BTreeMap<u32, u32>;

/// A walk over a policy's own lines. Quantities of intervals are summed up once for each unit, so
/// that the cost of a line is that of its ranges.
struct Lines<'a> {
    description: &'a Description,
    request: &'a Request,
    answer: &'a Measurement,
    /// Prefix sums of the intervals' quantities, by unit; none if a sum exceeds 128 bits.
    held: HashMap<&'a str, Option<Vec<u128>>>,
    /// Prefix sums of the intervals counted, by index of the meter.
    counted: HashMap<usize, Vec<u32>>,
    taken: HashMap<(&'a str, &'a str, &'a str), Taken>,
    last: Option<&'a OwnLine>,
}

impl<'a> Lines<'a> {
    fn new(description: &'a Description, request: &'a Request, answer: &'a Measurement) -> Self {
        Self {
            description,
            request,
            answer,
            held: HashMap::new(),
            counted: HashMap::new(),
            taken: HashMap::new(),
            last: None,
        }
    }

    fn check(&mut self, line: &'a OwnLine) -> Result<(), LineViolation> {
        check_texts(line)?;
        let order = |line: &'a OwnLine| (&line.rule, &line.meter, line.subject.unwrap_or(u32::MAX));
        if self.last.replace(line).is_some_and(|last| order(last) > order(line)) {
            return Err(LineViolation::Order);
        }
        if let Some(subject) =
            line.subject.filter(|&subject| subject as usize >= self.request.subjects.len())
        {
            return Err(LineViolation::Subject(subject));
        }
        let meter = self.description.meters.iter().position(|meter| meter.name == line.meter);
        let meter = meter.ok_or_else(|| LineViolation::Meter(line.meter.clone()))?;
        self.check_ranges(line, meter)?;
        self.check_quantities(line)
    }

    fn check_ranges(&mut self, line: &'a OwnLine, meter: usize) -> Result<(), LineViolation> {
        let intervals = self.answer.counted.len();
        if line.intervals.is_empty() {
            return Err(LineViolation::NoInterval);
        }
        let mut before = 0;
        for &IntervalRange { first, end } in &line.intervals {
            if first < before || first >= end || end as usize > intervals {
                return Err(LineViolation::Range { first, end, intervals });
            }
            before = end;
            self.check_subject(line, first, end)?;
            let counted = self
                .counted
                .entry(meter)
                .or_insert_with(|| sums_of_bits(&self.answer.counted, meter));
            if counted[end as usize] - counted[first as usize] != end - first {
                return Err(LineViolation::Uncounted { meter: line.meter.clone(), first, end });
            }
            let taken = self.taken.entry((&line.rule, &line.meter, &line.unit)).or_default();
            // Taken ranges never overlap, so of those that begin before `end` the last one ends
            // last.
            if taken.range(..end).next_back().is_some_and(|(_, &other)| other > first) {
                return Err(LineViolation::Twice { first, end });
            }
            taken.insert(first, end);
        }
        Ok(())
    }

    /// Checks that a range is of the line's subject. Intervals are sorted by subject, so its ends
    /// suffice.
    fn check_subject(&self, line: &OwnLine, first: u32, end: u32) -> Result<(), LineViolation> {
        let Some(subject) = line.subject else { return Ok(()) };
        let of =
            |interval: u32| self.request.intervals.subject.get(interval as usize) == Some(&subject);
        if of(first) && of(end - 1) {
            Ok(())
        } else {
            Err(LineViolation::ForeignInterval { first, end })
        }
    }

    fn check_quantities(&mut self, line: &'a OwnLine) -> Result<(), LineViolation> {
        let request = self.request;
        if !self.held.contains_key(line.unit.as_str()) {
            let held =
                held(request, &line.unit).ok_or_else(|| LineViolation::Unit(line.unit.clone()))?;
            self.held.insert(&line.unit, held);
        }
        let held = self.held.get(line.unit.as_str()).and_then(Option::as_ref);
        let held = held.ok_or_else(|| LineViolation::Overflow(line.unit.clone()))?;
        let of = |range: &IntervalRange| held[range.end as usize] - held[range.first as usize];
        let measured = line.intervals.iter().map(of).sum();
        let stated = unsigned(line.quantity);
        if stated != measured && !Mutant::OwnLinesUnchecked.is_active() {
            return Err(LineViolation::Quantity { stated, measured, unit: line.unit.clone() });
        }
        let billed = unsigned(line.billed);
        let ratio = self.description.billed_ratio;
        let is_checked = !Mutant::RatioIgnored.is_active();
        if billed > thousandths(stated, ratio) && is_checked {
            return Err(LineViolation::Billed { billed, quantity: stated, ratio });
        }
        Ok(())
    }
}

/// Returns `ratio` thousandths of a quantity, rounded down; saturates.
fn thousandths(quantity: u128, ratio: u32) -> u128 {
    let ratio = u128::from(ratio);
    (quantity / 1_000).saturating_mul(ratio).saturating_add(quantity % 1_000 * ratio / 1_000)
}

/// Returns the number of masks before each index that have a bit set.
fn sums_of_bits(masks: &[u64], bit: usize) -> Vec<u32> {
    let mut sum = 0;
    let mut sums = vec![0];
    for mask in masks {
        sum += (mask >> bit & 1) as u32;
        sums.push(sum);
    }
    sums
}

/// Returns the prefix sums of the intervals' quantities in a unit. The outer none is an unknown
/// unit, the inner one a sum that exceeds 128 bits.
fn held(request: &Request, unit: &str) -> Option<Option<Vec<u128>>> {
    let columns = &request.intervals;
    let lengths =
        || columns.start.iter().zip(&columns.end).map(|(start, end)| end.abs_diff(*start));
    if unit == TIME {
        return Some(sums(lengths().map(u128::from)));
    }
    if let Some(count) = columns.counts.iter().find(|count| count.name == unit) {
        return Some(sums(count.values.iter().map(|&value| value.into())));
    }
    let name = unit.strip_suffix("-ns")?;
    let dimension = columns.dimensions.iter().find(|dimension| dimension.name == name)?;
    // A product of two 64-bit numbers fits 128 bits.
    let products = lengths()
        .zip(&dimension.values)
        .map(|(length, value)| u128::from(length) * u128::from(*value));
    Some(sums(products))
}

fn sums(values: impl Iterator<Item = u128>) -> Option<Vec<u128>> {
    let mut sum = 0_u128;
    let mut sums = vec![0];
    for value in values {
        sum = sum.checked_add(value)?;
        sums.push(sum);
    }
    Some(sums)
}

fn check_texts(line: &OwnLine) -> Result<(), LineViolation> {
    let texts = [
        ("rule", &line.rule, 1, limits::WORD_BYTES_MAX),
        ("meter", &line.meter, 1, limits::WORD_BYTES_MAX),
        ("unit", &line.unit, 1, limits::WORD_BYTES_MAX),
        ("price-id", &line.price_id, 1, limits::WORD_BYTES_MAX),
        ("description", &line.description, 0, limits::DESCRIPTION_BYTES_MAX),
    ];
    for (what, text, min, max) in texts {
        if !(min..=max).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(LineViolation::Text { what, bytes: text.len(), min, max });
        }
    }
    Ok(())
}
