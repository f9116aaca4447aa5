//! The trees over the facts by group, grown when a head is signed and kept over restarts.
//!
//! The file is a help alone: if it is missing, damaged, or not of this journal, the trees are made
//! again of all facts.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::Groups;
use super::under::GroupUnder;
use crate::disk::write_whole;
use crate::journal::wire::FactRecord;
use crate::journal::{FactHash, FactQuery, Head, Journal, ReadError};
use crate::merkle::{Forest, Log, parsed};

/// Version of the file's form.
const FORM: u32 = 1;

/// The trees over all facts up to one.
#[derive(Debug)]
pub(super) struct Trees {
    head: Head,
    forest: Forest,
}

impl Default for Trees {
    fn default() -> Self {
        Self { head: Head::EMPTY, forest: Forest::default() }
    }
}

impl Trees {
    /// Reads the trees; those of no facts if there is no file that belongs to this journal.
    pub(super) fn read(path: &Path, journal: &Journal) -> Result<Self, ReadError> {
        let kept = fs::read_to_string(path).ok().and_then(|text| Self::parse(&text));
        let Some(kept) = kept else { return Ok(Self::default()) };
        let is_ours = journal.archive().place_of(kept.head.seq)? == Some(kept.head);
        Ok(if is_ours { kept } else { Self::default() })
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.trim_end().rsplit_once('\n')?;
        if hex::encode(Sha256::digest(body)) != sum {
            return None;
        }
        let stored: Stored =
            serde_json::from_str(body).ok().filter(|one: &Stored| one.form == FORM)?;
        let mut forest = Forest::default();
        for (name, facts, peaks) in stored.groups {
            let peaks = peaks.iter().map(|text| parsed(text)).collect::<Option<_>>()?;
            forest.put(name, Log::stored(facts, peaks)?);
        }
        Some(Self { head: Head { seq: stored.seq, hash: FactHash(parsed(&stored.hash)?) }, forest })
    }

    /// Writes the trees, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let groups = self.forest.groups().iter();
        let group = |(name, log): &(String, Log)| {
            (name.clone(), log.size(), log.peaks().iter().map(hex::encode).collect())
        };
        let stored = Stored {
            form: FORM,
            seq: self.head.seq,
            hash: self.head.hash.to_string(),
            groups: groups.map(group).collect(),
        };
        let body = serde_json::to_string(&stored)?;
        let sum = hex::encode(Sha256::digest(&body));
        write_whole(path, format!("{body}\n{sum}\n").as_bytes())
    }

    /// The last fact of the trees.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Takes the facts up to `seq`. Blocking.
    pub(super) fn grow(&mut self, journal: &Journal, seq: u64) -> Result<(), ReadError> {
        while self.head.seq < seq {
            let asked =
                FactQuery { after: self.head.seq, through: Some(seq), ..FactQuery::default() };
            let page = journal.facts(&asked)?;
            for chained in &page.facts {
                let Some(link) = parsed(&chained.hash) else { continue };
                self.add(&chained.fact, FactHash(link));
            }
            if page.next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next fact.
    pub(super) fn add(&mut self, record: &FactRecord, link: FactHash) {
        record.grow(&mut self.forest, link);
        self.head = Head { seq: record.seq, hash: link };
    }

    /// The part of the trees that a head signs.
    pub(super) fn groups(&mut self) -> Groups {
        let root = hex::encode(self.forest.root());
        Groups { count: self.forest.groups().len() as u64, root }
    }

    /// The place of a group; none if it has no facts.
    pub(super) fn place(&mut self, group: &str) -> Option<GroupUnder> {
        GroupUnder::of(&mut self.forest, group)
    }
}

/// The trees as they are kept: per group its name, the number of its facts, and the roots of its
/// whole subtrees.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    form: u32,
    seq: u64,
    hash: String,
    groups: Vec<(String, u64, Vec<String>)>,
}
