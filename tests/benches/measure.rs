//! Measuring candidates side by side: short rounds in changing order, so that a noisy neighbour
//! hits all of them alike. Only ratios of one run mean anything.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A candidate to be timed. It handles `items` items in each call.
pub(crate) struct Candidate<'a> {
    pub(crate) items: usize,
    pub(crate) run: Box<dyn FnMut() + 'a>,
}

impl<'a> Candidate<'a> {
    pub(crate) fn new<T>(items: usize, mut run: impl FnMut() -> T + 'a) -> Self {
        Self { items, run: Box::new(move || drop(black_box(run()))) }
    }
}

/// Median nanoseconds for each item, in the candidates' order.
pub(crate) fn side_by_side(rounds: usize, candidates: &mut [Candidate<'_>]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(rounds); candidates.len()];
    let repeats: Vec<u32> = candidates.iter_mut().map(repeats_for).collect();
    for round in 0..rounds {
        for step in 0..candidates.len() {
            // Each round begins with another candidate.
            let index = (step + round) % candidates.len();
            let candidate = &mut candidates[index];
            let begin = Instant::now();
            for _ in 0..repeats[index] {
                (candidate.run)();
            }
            let nanos = begin.elapsed().as_nanos() as f64;
            times[index].push(nanos / f64::from(repeats[index]) / candidate.items as f64);
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
}

/// Number of calls of a candidate that fit into a round of two milliseconds.
fn repeats_for(candidate: &mut Candidate<'_>) -> u32 {
    (candidate.run)();
    let begin = Instant::now();
    (candidate.run)();
    let once = begin.elapsed().max(Duration::from_nanos(100));
    (Duration::from_millis(2).as_nanos() / once.as_nanos()).clamp(1, 20_000) as u32
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50)
}

pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// One line of the report.
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) peer: String,
    pub(crate) ratio: String,
    pub(crate) goal: String,
    pub(crate) holds: Option<bool>,
}

impl Line {
    /// A line that is held against a goal and has no peer.
    pub(crate) fn alone(what: impl Into<String>, ours: String, goal: &str, holds: bool) -> Self {
        let peer = String::new();
        let ratio = String::new();
        Self { what: what.into(), ours, peer, ratio, goal: goal.into(), holds: Some(holds) }
    }
}

/// The report: tables that go to the screen as they come, and into the docs when asked for.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    pub(crate) missed: usize,
}

impl Report {
    pub(crate) fn say(&mut self, text: &str) {
        println!("{text}");
        let _ = writeln!(self.text, "{text}");
    }

    pub(crate) fn table(&mut self, title: &str, lines: Vec<Line>) {
        self.say(&format!("\n## {title}\n"));
        let rows: Vec<[String; 6]> = lines
            .into_iter()
            .map(|line| {
                self.missed += usize::from(line.holds == Some(false));
                let verdict = match line.holds {
                    Some(true) => "holds",
                    Some(false) => "MISSED",
                    None => "",
                };
                [line.what, line.ours, line.peer, line.ratio, line.goal, verdict.into()]
            })
            .collect();
        let head = ["what", "ours", "peer", "ratio", "goal", ""].map(String::from);
        let width = |column: usize| {
            rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..6).map(width).collect();
        let line = |row: &[String; 6]| {
            let cells: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("| {} |", cells.join(" | "))
        };
        self.say(&line(&head));
        let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
        self.say(&format!("|-{}-|", rule.join("-|-")));
        for row in &rows {
            self.say(&line(row));
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Writes nanoseconds in a unit that reads well.
pub(crate) fn nanos(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.1} ns"),
        v if v < 1e6 => format!("{:.2} us", v / 1e3),
        v if v < 1e9 => format!("{:.2} ms", v / 1e6),
        v => format!("{:.2} s", v / 1e9),
    }
}
