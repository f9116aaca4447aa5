//! Merkle trees with SHA-256 as RFC 9162, section 2.1, has them, and trees of such trees.
//!
//! A leaf's hash begins with a zero byte and a node's with a one, so that neither passes for the
//! other. A [`Forest`] has a tree for each group of facts, and one tree over those: its leaves
//! stand in the order in which the groups first came.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest as _, Sha256};

/// A hash of a leaf or a node.
pub(crate) type Hash = [u8; 32];

/// A hash as it is written: lower-case digits, one way only.
pub(crate) fn parsed(text: &str) -> Option<Hash> {
    let bytes: Hash = hex::decode(text).ok()?.try_into().ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

/// The hash of a leaf.
pub(crate) fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The tree of a list that only grows: its number of leaves, and the roots of the whole subtrees
/// that it consists of, from left to right. There are as many as the number has binary ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Log {
    size: u64,
    peaks: Vec<Hash>,
}

impl Log {
    /// A tree as it was stored; none if the number of subtrees is not that of its leaves.
    pub(crate) fn stored(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == peaks.len()).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its whole subtrees, from left to right.
    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf at the end.
    pub(crate) fn push(&mut self, data: &[u8]) {
        let mut hash = leaf(data);
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root; that of no leaves is the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Sha256::digest([]).into(),
            Some(last) => peaks.fold(*last, |right, left| node(left, &right)),
        }
    }
}

/// The leaf of a group in the tree over all groups: three lines, each with a line feed.
pub(crate) fn group_leaf(name: &str, log: &Log) -> Hash {
    leaf(format!("{name}\n{}\n{}\n", log.size, hex::encode(log.root())).as_bytes())
}

/// The place of a leaf in a tree, and the hashes from it up to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// Number of the leaf, from 0.
    pub(crate) index: u64,
    /// Hashes of the siblings, from the leaf up.
    pub(crate) siblings: Vec<Hash>,
}

impl Path {
    /// The root of a tree of `size` leaves with this leaf in this place, by RFC 9162, section
    /// 2.1.3.2; none if no such tree has such a path.
    pub(crate) fn root(&self, leaf: Hash, size: u64) -> Option<Hash> {
        let mut place = self.index;
        let mut last = size.checked_sub(1).filter(|last| place <= *last)?;
        let mut hash = leaf;
        for sibling in &self.siblings {
            if last == 0 {
                return None;
            }
            if place & 1 == 1 || place == last {
                hash = node(sibling, &hash);
                while place & 1 == 0 && place != 0 {
                    place >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(&hash, sibling);
            }
            place >>= 1;
            last >>= 1;
        }
        (last == 0).then_some(hash)
    }
}

/// A tree for each group, and the tree over all groups.
#[derive(Debug, Default)]
pub(crate) struct Forest {
    groups: Vec<(String, Log)>,
    places: HashMap<String, usize>,
    /// Hashes of the tree over the groups, its leaves first. A node without a right neighbour is
    /// its own parent.
    levels: Vec<Vec<Hash>>,
    /// Groups that have grown since their leaf was hashed.
    grown: BTreeSet<usize>,
}

impl Forest {
    /// Adds a leaf to a group, which is made if it is new.
    pub(crate) fn add(&mut self, group: &str, data: &[u8]) {
        let place = self.place(group);
        self.groups[place].1.push(data);
        self.grown.insert(place);
    }

    fn place(&mut self, group: &str) -> usize {
        if let Some(place) = self.places.get(group) {
            return *place;
        }
        self.put(group.to_owned(), Log::default());
        self.groups.len() - 1
    }

    /// Puts a group as it was stored behind the others.
    pub(crate) fn put(&mut self, name: String, log: Log) {
        self.places.insert(name.clone(), self.groups.len());
        self.grown.insert(self.groups.len());
        self.groups.push((name, log));
    }

    /// The groups, in the order in which they came.
    pub(crate) fn groups(&self) -> &[(String, Log)] {
        &self.groups
    }

    /// The root of the tree over all groups.
    pub(crate) fn root(&mut self) -> Hash {
        self.settle();
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| Sha256::digest([]).into())
    }

    /// The tree of a group and its place among all; none if there is no such group.
    pub(crate) fn path(&mut self, group: &str) -> Option<(&Log, Path)> {
        self.settle();
        let index = *self.places.get(group)?;
        let mut place = index;
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(place ^ 1).copied());
            place >>= 1;
        }
        Some((&self.groups[index].1, Path { index: index as u64, siblings }))
    }

    /// Hashes what has grown. Each group takes as many hashes as the tree is high.
    fn settle(&mut self) {
        for place in std::mem::take(&mut self.grown) {
            let (name, log) = &self.groups[place];
            let hash = group_leaf(name, log);
            self.set(place, hash);
        }
    }

    fn set(&mut self, mut place: usize, mut hash: Hash) {
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            match row.get_mut(place) {
                Some(found) => *found = hash,
                None => row.push(hash),
            }
            if row.len() == 1 {
                return;
            }
            place >>= 1;
            hash = match row.get(place * 2 + 1) {
                Some(right) => node(&row[place * 2], right),
                None => row[place * 2],
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root as RFC 9162 defines it: the left part has the largest power of two below all.
    fn defined(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => leaf(one),
            _ => {
                let left = leaves.len().next_power_of_two() / 2;
                node(&defined(&leaves[..left]), &defined(&leaves[left..]))
            }
        }
    }

    #[test]
    fn a_list_that_grows_has_the_root_that_the_standard_defines() {
        let mut log = Log::default();
        let mut leaves = Vec::new();
        for number in 0..70_u8 {
            assert_eq!(log.root(), defined(&leaves), "{number} leaves");
            let stored = Log::stored(log.size(), log.peaks().to_vec());
            assert_eq!(stored, Some(log.clone()), "{number} leaves");
            log.push(&[number]);
            leaves.push(vec![number]);
        }
        assert_eq!(Log::stored(3, vec![[0; 32]]), None);
    }

    #[test]
    fn the_test_vectors_of_certificate_transparency_come_out() {
        let mut log = Log::default();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex::encode(log.root()), empty);
        for data in ["", "00", "10", "2021", "3031", "40414243"] {
            log.push(&hex::decode(data).expect("hexadecimal"));
        }
        let six = "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef";
        assert_eq!(hex::encode(log.root()), six);
    }

    #[test]
    fn every_group_is_proved_under_the_root_and_no_other() {
        let mut forest = Forest::default();
        for groups in 1..40_u64 {
            let name = |number: u64| format!("t{number}");
            forest.add(&name(groups - 1), b"first");
            forest.add(&name(groups * 7 % groups), &groups.to_be_bytes());
            let root = forest.root();
            for number in 0..groups {
                let (log, path) = forest.path(&name(number)).expect("a group");
                let hash = group_leaf(&name(number), log);
                assert_eq!(path.root(hash, groups), Some(root), "{number} of {groups}");
                let other = group_leaf("other", log);
                assert_ne!(path.root(other, groups), Some(root), "{number} of {groups}");
                let beside = Path { index: path.index + 1, ..path.clone() };
                assert_ne!(beside.root(hash, groups), Some(root), "{number} of {groups}");
            }
            let leaves: Vec<Vec<u8>> = forest
                .groups()
                .iter()
                .map(|(name, log)| {
                    format!("{name}\n{}\n{}\n", log.size(), hex::encode(log.root())).into_bytes()
                })
                .collect();
            assert_eq!(root, defined(&leaves), "{groups} groups");
        }
        assert!(forest.path("nobody").is_none());
    }
}
