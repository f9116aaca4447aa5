//! The check of everything that was signed against the journal's facts.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::key::{HeadKey, KeyError, PublicKey, SignedHead};
use super::store::{HEADS, KEY, PLACES};
use super::trees::Trees;
use super::under::Under;
use crate::journal::FactHash;
use crate::journal::wire::FactRecord;

/// A reason why what was signed is not what the journal has.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file can't be read.
    #[error("can't read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A file was altered.
    #[error("{} was altered: {flaw}", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// The difference.
        flaw: String,
    },
}

/// A walk over the facts beside the heads that were signed.
pub struct Audit {
    data: PathBuf,
    heads: VecDeque<SignedHead>,
    /// The host's key as text; empty without heads.
    key: String,
    trees: Trees,
    checked: u64,
    flaw: Option<AuditError>,
}

impl Audit {
    /// Reads the heads of a data folder, and checks their signatures and order. A folder without
    /// heads, such as that of a backup, has none to check. Blocking.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(data: &Path) -> Result<Self, AuditError> {
        let mut audit = Self {
            data: data.to_owned(),
            heads: VecDeque::new(),
            key: String::new(),
            trees: Trees::default(),
            checked: 0,
            flaw: None,
        };
        let path = data.join(HEADS);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(audit),
            read => read.map_err(|source| AuditError::File { path: path.clone(), source })?,
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.is_empty() {
            return Ok(audit);
        }
        let key = HeadKey::read(&data.join(KEY))?.public();
        audit.key = key.to_string();
        for (line, text) in whole.lines().enumerate() {
            let head = checked(text, audit.heads.back(), &key).map_err(|flaw| {
                let flaw = format!("line {}: {flaw}", line + 1);
                AuditError::Altered { path: path.clone(), flaw }
            })?;
            audit.heads.push_back(head);
        }
        Ok(audit)
    }

    /// Takes the next fact of the journal, and holds the head that ends with it against it.
    pub fn take(&mut self, record: &FactRecord, link: FactHash) {
        if self.flaw.is_some() || self.heads.is_empty() {
            return;
        }
        self.trees.add(record, link);
        while self.heads.front().is_some_and(|head| head.seq == record.seq) {
            let Some(head) = self.heads.pop_front() else { return };
            match self.check(&head) {
                Ok(()) => self.checked += 1,
                Err(flaw) => self.flaw = Some(flaw),
            }
        }
    }

    /// Returns the number of heads that agree with the journal. A head of which the journal has no
    /// fact was signed before facts were cut off, or was put there.
    ///
    /// # Errors
    /// The first flaw.
    pub fn finish(self) -> Result<u64, AuditError> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        match self.heads.front() {
            None => Ok(self.checked),
            Some(head) => {
                let flaw = format!("it signs fact {}, which the journal does not have", head.seq);
                Err(AuditError::Altered { path: self.data.join(HEADS), flaw })
            }
        }
    }

    fn check(&mut self, head: &SignedHead) -> Result<(), AuditError> {
        let altered = |flaw| AuditError::Altered { path: self.data.join(HEADS), flaw };
        let found = self.trees.head().hash.to_string();
        if found != head.hash {
            return Err(altered(format!(
                "it signs {} at fact {}, where the journal has {found}",
                head.hash, head.seq
            )));
        }
        let Some(stated) = &head.groups else { return Ok(()) };
        let found = self.trees.groups();
        if *stated != found {
            return Err(altered(format!(
                "at fact {} it signs the root {} over {} groups; the facts have {} over {}",
                head.seq, stated.root, stated.count, found.root, found.count
            )));
        }
        self.check_place(head)
    }

    /// Holds the places that were noted under a head against the trees.
    fn check_place(&mut self, head: &SignedHead) -> Result<(), AuditError> {
        let path = self.data.join(PLACES).join(format!("{}.json", head.seq));
        let altered =
            |flaw: &str| AuditError::Altered { path: path.clone(), flaw: flaw.to_owned() };
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(|source| AuditError::File { path: path.clone(), source })?,
        };
        let under: Under =
            serde_json::from_slice(&bytes).map_err(|error| altered(&error.to_string()))?;
        let is_written = serde_json::to_vec(&under).is_ok_and(|again| again == bytes);
        if !is_written || under.head != *head {
            return Err(altered("it is not the place under the head that was signed"));
        }
        let mut is_right = under.key == self.key;
        for one in &under.groups {
            is_right &= self.trees.place(&one.group).is_some_and(|found| one.is(&found));
        }
        if is_right { Ok(()) } else { Err(altered("it is not the place that the facts have")) }
    }
}

/// Reads a line of the heads' file, and checks it.
fn checked(text: &str, last: Option<&SignedHead>, key: &PublicKey) -> Result<SignedHead, String> {
    let head: SignedHead = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let is_written = serde_json::to_string(&head).is_ok_and(|again| again == text);
    if !is_written {
        return Err("it is not written as it was".into());
    }
    if last.is_some_and(|last| last.seq >= head.seq) {
        return Err(format!("the head at fact {} is not in its order", head.seq));
    }
    if head.is_by(key) {
        return Ok(head);
    }
    Err(format!("the head at fact {} was not signed with the host's key", head.seq))
}
