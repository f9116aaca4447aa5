//! The parsers of what others write, by name: tests and fuzzers hand them anything.
//!
//! Guests, virtual machine monitors, tenants and the writers of files may send what they like. A
//! parser answers it or refuses it; it never panics, and never reads back otherwise what it has
//! written itself.

use agent::link::Link;
use agent::message::{FromGuest, FromHost};

use crate::billing::agreement::{Agreement, Cycle};
use crate::billing::calendar::Calendar;
use crate::billing::{Fact, zones};
use crate::hypervisor;
use crate::invoice::Bundle;
use crate::journal::wire::FactRecord;
use crate::policy;
use crate::units::Instant;
use crate::vm::marker;

/// A parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parser {
    /// The text of a fact of the journal.
    Journal,
    /// A document with its evidence.
    Bundle,
    /// A price book, with its windows.
    Book,
    /// Readings of the wall clock, and the periods of an agreement.
    Calendar,
    /// A component that is uploaded, up to its compilation.
    Component,
    /// Events and logs of virtual machine monitors, and their answers.
    Monitor,
    /// The stream of a guest's agent, and of its host.
    Agent,
    /// Lines of a guest's console.
    Marker,
}

impl Parser {
    /// Every parser.
    pub const ALL: [Self; 8] = [
        Self::Journal,
        Self::Bundle,
        Self::Book,
        Self::Calendar,
        Self::Component,
        Self::Monitor,
        Self::Agent,
        Self::Marker,
    ];

    /// Its name, which is that of its corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Bundle => "bundle",
            Self::Book => "book",
            Self::Calendar => "calendar",
            Self::Component => "component",
            Self::Monitor => "monitor",
            Self::Agent => "agent",
            Self::Marker => "marker",
        }
    }

    /// Hands it bytes. Returns whether they are accepted.
    ///
    /// # Panics
    /// Panics only by a fault of the parser.
    pub fn take(self, bytes: &[u8]) -> bool {
        match self {
            Self::Journal => fact(bytes),
            Self::Bundle => Bundle::read(bytes).is_ok(),
            Self::Book => book(bytes),
            Self::Calendar => calendar(bytes),
            Self::Component => policy::inspects(bytes),
            Self::Monitor => hypervisor::hears(bytes),
            Self::Agent => messages(bytes),
            Self::Marker => bytes.split(|&byte| byte == b'\n').any(marks),
        }
    }
}

/// A fact that is accepted has one text.
fn fact(bytes: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<FactRecord>(bytes) else { return false };
    let written = serde_json::to_vec(&record).unwrap_or_default();
    let again = serde_json::from_slice::<FactRecord>(&written).ok();
    assert_eq!(again.as_ref(), Some(&record), "a fact is read back otherwise");
    Fact::try_from(&record).is_ok()
}

/// A book that is accepted is also read from the journal.
fn book(bytes: &[u8]) -> bool {
    let Ok(book) = biller::book::Book::parse(bytes, zones::is_known) else { return false };
    let stored = biller::book::Book::parse_stored(bytes);
    assert!(stored.is_ok_and(|stored| stored == book), "a book is read back otherwise");
    true
}

/// The bytes are an anchor day, and pairs of integers of 8 bytes: an instant of the meter clock,
/// and what the wall clock shows there.
fn calendar(bytes: &[u8]) -> bool {
    let Some((&anchor_day, rest)) = bytes.split_first() else { return false };
    let mut calendar = Calendar::default();
    let mut at = Instant(i64::MIN);
    for pair in rest.chunks_exact(16) {
        let integer = |part: &[u8]| part.try_into().map(i64::from_le_bytes).unwrap_or_default();
        at = Instant(integer(&pair[..8])).max(at);
        calendar.learn(at, integer(&pair[8..]));
    }
    let utc_ns = calendar.utc_ns(at);
    let _ = (calendar.meter(utc_ns), calendar.meter_to_come(utc_ns, at));
    let zone = zones_of(anchor_day).to_owned();
    [Cycle::Day, Cycle::Month].into_iter().all(|cycle| {
        let agreement = Agreement { zone: zone.clone(), cycle, anchor_day };
        if agreement.check().is_err() {
            return false;
        }
        let Ok((start, end)) = agreement.around(utc_ns) else { return false };
        assert!((start..end).contains(&utc_ns), "{utc_ns} is not in {start}..{end}");
        true
    })
}

/// A zone for a number: some with leaps of a day, of half an hour, and at midnight.
fn zones_of(number: u8) -> &'static str {
    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Berlin",
        "Pacific/Apia",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Antarctica/Troll",
    ];
    ZONES[usize::from(number) % ZONES.len()]
}

fn messages(bytes: &[u8]) -> bool {
    let mut of_host = bytes;
    let mut guest = Link::guest();
    let heard = std::iter::from_fn(|| guest.receive::<FromHost>(&mut of_host).ok().flatten());
    let some = heard.count();
    let mut of_guest = bytes;
    let mut host = Link::host(1);
    let heard = std::iter::from_fn(|| host.receive::<FromGuest>(&mut of_guest).ok().flatten());
    some + heard.count() > 0
}

fn marks(line: &[u8]) -> bool {
    marker::parse(line).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::TestRunner;

    use super::*;

    /// The texts of the corpus of a parser, in `fuzz/corpus`.
    fn corpus(parser: Parser) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let files = fs::read_dir(folder.join(parser.name())).expect("a corpus");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).expect("a text")).collect()
    }

    /// A change of some bytes.
    #[derive(Debug, Clone)]
    enum Edit {
        Set(Index, u8),
        Insert(Index, Vec<u8>),
        Cut(Index, Index),
        Repeat(Index, Index),
        /// The rest of another text of the corpus.
        Join(Index, Index, Index),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
            (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9))
                .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
            (any::<Index>(), prop::sample::select(&b"0919-\"{}[],:.\\/ \n\x00\xff"[..]))
                .prop_map(|(at, byte)| Edit::Insert(at, vec![byte])),
            any::<(Index, Index)>().prop_map(|(from, to)| Edit::Cut(from, to)),
            any::<(Index, Index)>().prop_map(|(from, to)| Edit::Repeat(from, to)),
            any::<(Index, Index, Index)>()
                .prop_map(|(at, other, from)| Edit::Join(at, other, from)),
        ]
    }

    fn edited(mut text: Vec<u8>, edits: &[Edit], corpus: &[Vec<u8>]) -> Vec<u8> {
        for edit in edits {
            let place = |at: &Index| at.index(text.len() + 1);
            let span = |from: &Index, to: &Index| {
                let ends = [place(from), place(to)];
                ends[0].min(ends[1])..ends[0].max(ends[1])
            };
            match edit {
                Edit::Set(at, byte) => {
                    let at = place(at);
                    text.get_mut(at).into_iter().for_each(|there| *there = *byte);
                }
                Edit::Insert(at, bytes) => {
                    let at = place(at);
                    text.splice(at..at, bytes.iter().copied());
                }
                Edit::Cut(from, to) => drop(text.drain(span(from, to))),
                Edit::Repeat(from, to) => {
                    let span = span(from, to);
                    let again = text[span.clone()].to_vec();
                    text.splice(span.end..span.end, again);
                }
                Edit::Join(at, other, from) => {
                    text.truncate(place(at));
                    let other = &corpus[other.index(corpus.len())];
                    text.extend_from_slice(&other[from.index(other.len() + 1)..]);
                }
            }
        }
        text
    }

    /// Texts for each parser; `TALLYMAN_FUZZ_ROUNDS` sets another number.
    const ROUNDS: u32 = 300;

    #[test]
    fn no_parser_panics_at_what_strangers_write() {
        let told = std::env::var("TALLYMAN_FUZZ_ROUNDS").ok();
        let rounds = told.map_or(ROUNDS, |text| text.parse().expect("a number"));
        for parser in Parser::ALL {
            let corpus = corpus(parser);
            let accepted = corpus.iter().filter(|text| parser.take(text)).count();
            assert!(accepted > 0, "the corpus of {} has nothing that is accepted", parser.name());
            let texts = (any::<Index>(), prop::collection::vec(edit(), 1..6));
            let config = ProptestConfig {
                cases: rounds,
                failure_persistence: None,
                ..ProptestConfig::default()
            };
            let mut runner = TestRunner::new(config);
            let outcome = runner.run(&texts, |(which, edits)| {
                let text = corpus[which.index(corpus.len())].clone();
                parser.take(&edited(text, &edits, &corpus));
                Ok(())
            });
            outcome.unwrap_or_else(|error| panic!("{}: {error}", parser.name()));
        }
    }
}
