//! The proof that a tenant's facts, and no others of the tenant, lie under a signed head.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key::{Groups, PublicKey, SignedHead};
use crate::journal::FactHash;
use crate::journal::wire::{CALENDAR, FactRecord};
use crate::merkle::{Forest, Hash, Log, Path, group_leaf};

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
        })
    }

    /// True if a tree of the group's facts lies under the root.
    fn holds(&self, log: &Log, groups: &Groups) -> bool {
        let siblings: Option<Vec<Hash>> = self.path.iter().map(|text| hash(text)).collect();
        let Some(siblings) = siblings else { return false };
        let path = Path { index: self.index, siblings };
        let root = path.root(group_leaf(&self.group, log), groups.count);
        log.size() == self.facts && root.map(hex::encode).as_ref() == Some(&groups.root)
    }
}

/// A hash as it is written: lower-case digits, one way only.
fn hash(text: &str) -> Option<Hash> {
    let bytes: Hash = hex::decode(text).ok()?.try_into().ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

impl Under {
    /// Checks that facts, in ascending order and each with its link, are all facts of the groups up
    /// to the head, and that the key beside the head has signed it.
    ///
    /// # Errors
    /// [`NotUnder`].
    pub fn check<'a>(
        &self,
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
        let mut logs: Vec<Log> = self.groups.iter().map(|_| Log::default()).collect();
        let mut last = None;
        for (record, link) in facts {
            let place = self.groups.iter().position(|one| one.group == record.group());
            let place = place.ok_or_else(|| NotUnder::Group {
                seq: record.seq,
                group: record.group().to_owned(),
            })?;
            logs[place].push(&link.0);
            last = Some((record.seq, link.to_string()));
        }
        if last.as_ref().is_none_or(|last| (last.0, &last.1) != (seq, &self.head.hash)) {
            return Err(NotUnder::End(seq));
        }
        match self.groups.iter().zip(&logs).find(|(one, log)| !one.holds(log, groups)) {
            Some((one, _)) => Err(NotUnder::Facts { group: one.group.clone() }),
            None => Ok(()),
        }
    }
}
