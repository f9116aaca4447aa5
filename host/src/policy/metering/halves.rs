//! Division of a request into two, each with other instances, and joining of the two answers.

use super::measured::Violation;
use super::words::{Column, IntervalColumns, Measurement, Request};

/// The place at which a request was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Number of subjects in the first part.
    subjects: u32,
    /// Number of intervals in the first part.
    intervals: u32,
}

/// Divides a request between two instances, as near to the middle of the intervals as possible.
/// None for a request of one instance or none.
pub(crate) fn halves(request: &Request) -> Option<(Request, Request, Cut)> {
    let columns = &request.intervals;
    let subjects = u32::try_from(request.subjects.len()).ok().filter(|&subjects| subjects > 1)?;
    let middle = columns.subject.get(columns.subject.len() / 2).copied().unwrap_or(subjects / 2);
    let first = middle.clamp(1, subjects - 1);
    let intervals = columns.subject.partition_point(|&subject| subject < first);
    let cut = Cut { subjects: first, intervals: u32::try_from(intervals).ok()? };
    let mut one = request.clone();
    let mut other = request.clone();
    other.subjects = one.subjects.split_off(first as usize);
    other.intervals = split(&mut one.intervals, intervals);
    other.intervals.subject.iter_mut().for_each(|subject| *subject -= first);
    Some((one, other, cut))
}

/// Keeps the intervals before `at`, and returns the rest.
fn split(columns: &mut IntervalColumns, at: usize) -> IntervalColumns {
    let rest = |columns: &mut Vec<Column>| {
        let tail = |column: &mut Column| Column {
            name: column.name.clone(),
            values: column.values.split_off(at),
        };
        columns.iter_mut().map(tail).collect()
    };
    IntervalColumns {
        subject: columns.subject.split_off(at),
        phase: columns.phase.split_off(at),
        start: columns.start.split_off(at),
        end: columns.end.split_off(at),
        session: columns.session.split_off(at),
        wakes: columns.wakes.split_off(at),
        fact: columns.fact.split_off(at),
        dimensions: rest(&mut columns.dimensions),
        counts: rest(&mut columns.counts),
    }
}

/// Joins the answers to two halves into the answer to the whole.
///
/// # Errors
/// [`Violation::TermsDiffer`].
pub(crate) fn joined(
    mut one: Measurement,
    other: Measurement,
    cut: Cut,
) -> Result<Measurement, Violation> {
    if one.terms != other.terms {
        return Err(Violation::TermsDiffer);
    }
    one.counted.extend(other.counted);
    for mut line in other.lines {
        line.subject = line.subject.map(|subject| subject + cut.subjects);
        for range in &mut line.intervals {
            range.first += cut.intervals;
            range.end += cut.intervals;
        }
        one.lines.push(line);
    }
    // The sort is stable: lines with the same key keep their order.
    one.lines.sort_by(|one, other| {
        let of = |subject: Option<u32>| subject.unwrap_or(u32::MAX);
        let by_text = (&one.rule, &one.meter).cmp(&(&other.rule, &other.meter));
        by_text.then_with(|| of(one.subject).cmp(&of(other.subject)))
    });
    Ok(one)
}

#[cfg(test)]
mod tests {
    use super::super::words::{
        IntervalRange, MeterTerms, OwnLine, Rounding, Span, Stretch, Subject, words,
    };
    use super::*;

    /// A request with this many intervals of each instance; an interval's fact is its number.
    fn request(intervals_each: &[usize]) -> Request {
        let mut columns = IntervalColumns::empty();
        columns.dimensions.push(Column { name: "vcpu".into(), values: Vec::new() });
        for (subject, &intervals) in (0..).zip(intervals_each) {
            for _ in 0..intervals {
                let fact = columns.fact.len() as u64;
                columns.subject.push(subject);
                columns.phase.push(2);
                columns.start.push(fact as i64);
                columns.end.push(fact as i64 + 1);
                columns.session.push(1);
                columns.wakes.push(0);
                columns.fact.push(fact);
                columns.dimensions[0].values.push(fact);
            }
        }
        let subject = |number: usize| Subject {
            id: number.to_string(),
            name: String::new(),
            tags: Vec::new(),
        };
        Request {
            tenant: "acme".into(),
            span: Span { start: 0, end: 100 },
            subjects: (0..intervals_each.len()).map(subject).collect(),
            intervals: columns,
            options: Vec::new(),
        }
    }

    /// Masks are the facts, and each instance has a line about all of its intervals.
    fn answer(request: &Request) -> Measurement {
        let columns = &request.intervals;
        let line = |subject: u32| {
            let of = |number: u32| columns.subject.partition_point(|&other| other < number) as u32;
            let first = of(subject);
            let end = of(subject + 1);
            (first < end).then(|| OwnLine {
                rule: "r".into(),
                meter: "m".into(),
                subject: Some(subject),
                intervals: vec![IntervalRange { first, end }],
                unit: "ns".into(),
                quantity: words(u128::from(end - first)),
                billed: words(0),
                price_id: request.subjects[subject as usize].id.clone(),
                description: String::new(),
            })
        };
        let terms = MeterTerms {
            name: "m".into(),
            stretch: Stretch::Start,
            minimum: 0,
            granularity: 1,
            rounding: Rounding::Up,
        };
        let lines = (0..request.subjects.len() as u32).filter_map(line).collect();
        Measurement { terms: vec![terms], counted: columns.fact.clone(), lines }
    }

    #[test]
    fn two_halves_are_the_whole_and_no_instance_is_in_both() {
        for each in [
            &[1, 1][..],
            &[5, 1],
            &[1, 5],
            &[1, 1, 1],
            &[0, 3, 0],
            &[100, 1, 1],
            &[0, 0],
            &[2, 3, 4, 5],
        ] {
            let whole = request(each);
            let (one, other, cut) = halves(&whole).expect("several instances");
            assert!(!one.subjects.is_empty() && !other.subjects.is_empty(), "{each:?}");
            assert_eq!(one.subjects.len() + other.subjects.len(), each.len());
            assert_eq!(joined(answer(&one), answer(&other), cut), Ok(answer(&whole)), "{each:?}");
            let both = [
                one.intervals.dimensions[0].values.clone(),
                other.intervals.dimensions[0].values.clone(),
            ];
            assert_eq!(both.concat(), whole.intervals.dimensions[0].values);
        }
    }

    #[test]
    fn the_cut_is_near_the_middle_of_the_intervals() {
        let parts =
            |each: &[usize]| halves(&request(each)).map(|(one, ..)| one.intervals.fact.len());
        assert_eq!(parts(&[10; 10]), Some(50));
        assert_eq!(parts(&[90, 1, 1, 1]), Some(90));
        assert_eq!(parts(&[1, 1, 1, 90]), Some(3));
    }

    #[test]
    fn one_instance_is_not_cut() {
        assert_eq!(halves(&request(&[7])).map(|_| ()), None);
        assert_eq!(halves(&request(&[])).map(|_| ()), None);
    }

    #[test]
    fn terms_that_differ_between_halves_are_refused() {
        let whole = request(&[1, 1]);
        let (one, other, cut) = halves(&whole).expect("two");
        let mut differs = answer(&other);
        differs.terms[0].minimum = 1;
        assert_eq!(joined(answer(&one), differs, cut), Err(Violation::TermsDiffer));
    }
}
