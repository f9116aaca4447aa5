//! The proof that a tenant's facts, and no others of the tenant, lie under a signed head.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key::{Groups, PublicKey, SignedHead};
use crate::journal::FactHash;
use crate::journal::wire::{CALENDAR, FactRecord};
use crate::merkle::{Forest, Hash, Log, Path, group_leaf, parsed};

/// The place of a tenant's facts under a signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Under {
    /// The head. Its last fact is the close that made the document.
    pub head: SignedHead,
    /// Public key of the host, which has signed the head: 64 hexadecimal digits. It proves nothing
    /// by itself: hold it against the key that was shown when the tenant began.
    pub key: String,
    /// The groups that the facts belong to: the tenant, and the calendar.
    pub groups: Vec<GroupUnder>,
}

/// The place of a group's tree in the tree over all groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupUnder {
    /// Id of the tenant, or `*calendar` for the host's facts about its clocks.
    pub group: String,
    /// Number of its facts up to the head.
    pub facts: u64,
    /// Place of the group among all, from 0.
    pub index: u64,
    /// Hashes of the siblings, from the group up to the root: 64 hexadecimal digits each.
    pub path: Vec<String>,
    /// Roots of the whole subtrees that its tree consists of, from left to right: 64 hexadecimal
    /// digits each. A later bundle goes on from them; absent from places of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peaks: Vec<String>,
}

/// The part of a group's tree that its first facts make, which are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupBegin {
    /// Id of the tenant, or `*calendar`.
    pub group: String,
    /// Sequence number of the first fact of the group that is not left out.
    pub from: u64,
    /// Number of facts before it.
    pub facts: u64,
    /// Roots of the whole subtrees that they make, from left to right: 64 hexadecimal digits each.
    pub peaks: Vec<String>,
}

impl GroupBegin {
    /// The begin of a group's facts, of which `log` has those before `from`.
    pub(crate) fn of(group: &str, from: u64, log: &Log) -> Self {
        Self { group: group.to_owned(), from, facts: log.size(), peaks: peaks(log) }
    }

    fn log(&self) -> Option<Log> {
        log(self.facts, &self.peaks)
    }
}

fn peaks(log: &Log) -> Vec<String> {
    log.peaks().iter().map(hex::encode).collect()
}

/// A tree as it was written down; none if it can't be one.
fn log(facts: u64, peaks: &[String]) -> Option<Log> {
    Log::stored(facts, peaks.iter().map(|text| parsed(text)).collect::<Option<_>>()?)
}

/// A reason why facts are not those that lie under a signed head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnder {
    /// The head has no trees.
    #[error("the head at fact {0} has no trees over the facts")]
    NoTrees(u64),
    /// The key is not written as one.
    #[error("the head's key: {0}")]
    Key(String),
    /// Another key has signed the head, or none.
    #[error("the head at fact {0} was not signed with the key beside it")]
    Signature(u64),
    /// The facts end elsewhere.
    #[error("the facts do not end with the fact of the signed head, {0}")]
    End(u64),
    /// A fact belongs to no group of the proof.
    #[error("fact {seq} belongs to {group}, which the signed head's proof leaves out")]
    Group {
        /// Sequence number of the fact.
        seq: u64,
        /// Its group.
        group: String,
    },
    /// The facts of a group are not those under the head.
    #[error(
        "the facts of {group} are not those that the host has signed: a fact is missing, altered \
         or not its own, or its path under the head is"
    )]
    Facts {
        /// The group.
        group: String,
    },
}

impl GroupUnder {
    /// The place of a group in a forest; none if it is not there.
    pub(super) fn of(forest: &mut Forest, group: &str) -> Option<Self> {
        let (log, path) = forest.path(group)?;
        Some(Self {
            group: group.to_owned(),
            facts: log.size(),
            index: path.index,
            path: path.siblings.iter().map(hex::encode).collect(),
            peaks: peaks(log),
        })
    }

    /// The tree of the group; none if the place has only its root.
    pub(crate) fn log(&self) -> Option<Log> {
        log(self.facts, &self.peaks)
    }

    /// Returns whether this is the place that the facts have. One of an earlier version has no
    /// subtrees.
    pub(super) fn is(&self, found: &Self) -> bool {
        let peaks = if self.peaks.is_empty() { Vec::new() } else { found.peaks.clone() };
        *self == Self { peaks, ..found.clone() }
    }

    /// True if a tree of the group's facts lies under the root.
    fn holds(&self, log: &Log, groups: &Groups) -> bool {
        let siblings: Option<Vec<Hash>> = self.path.iter().map(|text| parsed(text)).collect();
        let Some(siblings) = siblings else { return false };
        let path = Path { index: self.index, siblings };
        let root = path.root(group_leaf(&self.group, log), groups.count);
        let is_whole = self.peaks.is_empty() || self.peaks == peaks(log);
        is_whole && log.size() == self.facts && root.map(hex::encode).as_ref() == Some(&groups.root)
    }
}

impl Under {
    /// Checks that facts, in ascending order and each with its link, are all facts of the groups up
    /// to the head, from the first one of each or from its begin on, and that the key beside the
    /// head has signed it.
    ///
    /// # Errors
    /// [`NotUnder`].
    pub fn check<'a>(
        &self,
        begins: &[GroupBegin],
        facts: impl IntoIterator<Item = (&'a FactRecord, FactHash)>,
    ) -> Result<(), NotUnder> {
        let seq = self.head.seq;
        let key: PublicKey = self.key.parse().map_err(NotUnder::Key)?;
        if key.to_string() != self.key || !self.head.is_by(&key) {
            return Err(NotUnder::Signature(seq));
        }
        let groups = self.head.groups.as_ref().ok_or(NotUnder::NoTrees(seq))?;
        // Every journal begins with a fact of the calendar. Left out, it would go unseen.
        if !self.groups.iter().any(|one| one.group == CALENDAR) {
            return Err(NotUnder::Facts { group: CALENDAR.into() });
        }
        let mut logs = Vec::with_capacity(self.groups.len());
        for one in &self.groups {
            let begin = begins.iter().find(|begin| begin.group == one.group);
            let log = begin.map_or_else(|| Some(Log::default()), GroupBegin::log);
            let from = begin.map_or(0, |begin| begin.from);
            logs.push((from, log.ok_or_else(|| NotUnder::Facts { group: one.group.clone() })?));
        }
        let mut last = None;
        for (record, link) in facts {
            let place = self.groups.iter().position(|one| one.group == record.group());
            let place = place.ok_or_else(|| NotUnder::Group {
                seq: record.seq,
                group: record.group().to_owned(),
            })?;
            let (from, log) = &mut logs[place];
            if record.seq >= *from {
                log.push(&link.0);
            }
            last = Some((record.seq, link.to_string()));
        }
        if last.as_ref().is_none_or(|last| (last.0, &last.1) != (seq, &self.head.hash)) {
            return Err(NotUnder::End(seq));
        }
        match self.groups.iter().zip(&logs).find(|(one, (_, log))| !one.holds(log, groups)) {
            Some((one, _)) => Err(NotUnder::Facts { group: one.group.clone() }),
            None => Ok(()),
        }
    }
}
