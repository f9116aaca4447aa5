//! The side of a collector: a copy of each host's journal.
//!
//! A fact is taken only if it follows on the last one of its host: a prefix of each host's chain,
//! or nothing. So order and exactly once need no trust in what carries the facts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::message::{Answer, Batch, Instance, MalformedBatch};
use crate::billing::{Heard, HostFact, Reading};
use crate::id::{Digest, HostName};
use crate::journal::{
    CommitError, Described, Entry, FactHash, Handed, Head, Journal, OpenError, ReadError, Replica,
    TakeError, hosts_folder,
};

/// A reason why a host's facts are not taken. The copy stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The message is malformed.
    #[error(transparent)]
    Malformed(#[from] MalformedBatch),
    /// The host tells another story than before.
    #[error(
        "host '{host}' is refused: {source}. Two machines with one identity, a restored backup or \
         a replay do that"
    )]
    Forked {
        /// The host.
        host: HostName,
        /// The first difference.
        source: TakeError,
    },
    /// The host's journal ends before facts that were taken from it.
    #[error(
        "host '{host}' is refused: its journal ends with fact {end}, and facts up to {taken} were \
         taken from it. A restored backup does that"
    )]
    Lost {
        /// The host.
        host: HostName,
        /// The last fact of its journal.
        end: u64,
        /// The last fact that was taken.
        taken: u64,
    },
    /// The journal is that of another host of the fleet.
    #[error(
        "host '{host}' is refused: its journal begins with the fact that the journal of host \
         '{other}' begins with; one of the two is a copy"
    )]
    Twin {
        /// The host.
        host: HostName,
        /// The host that has the journal already.
        other: HostName,
    },
    /// The facts are none that a journal could hold.
    #[error("host '{host}' is refused: {source}: {}", cause(.source))]
    Damaged {
        /// The host.
        host: HostName,
        /// The first flaw.
        source: TakeError,
    },
    /// The copy can't be opened.
    #[error("the copy of host '{host}' can't be opened")]
    Open {
        /// The host.
        host: HostName,
        /// The reason.
        source: Box<OpenError>,
    },
    /// The copy can't be read or written.
    #[error("the copy of host '{host}' can't be written")]
    Failed {
        /// The host.
        host: HostName,
        /// The reason.
        source: TakeError,
    },
}

fn cause(error: &TakeError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

impl Refused {
    /// Returns whether the host has to be looked at: sending again won't help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Forked { .. } | Self::Lost { .. } | Self::Twin { .. } | Self::Damaged { .. } => {
                true
            }
            Self::Malformed(_) | Self::Open { .. } | Self::Failed { .. } => false,
        }
    }
}

/// A reason why the news of hosts can't be put on record.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// The facts can't be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The earlier news can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The last message of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The collector's wall clock then, in nanoseconds since 1970.
    pub wall_ns: i64,
    /// The host's wall clock less the collector's, in nanoseconds; the message's way included.
    pub ahead_ns: i64,
    /// The last fact of the host's journal.
    pub end: u64,
}

/// The state of a host, as its collector knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStatus {
    /// Name of the host.
    pub host: HostName,
    /// The last fact that was taken.
    pub head: Head,
    /// UTC up to which all its facts were taken, in nanoseconds since 1970.
    pub until_utc_ns: i64,
    /// Its last message; none since the collector's start.
    pub seen: Option<Seen>,
    /// The reason why it is refused; none while it is not.
    pub trouble: Option<String>,
}

/// The collector of a fleet's facts.
#[derive(Debug)]
pub struct Collector {
    folder: PathBuf,
    hosts: Mutex<BTreeMap<HostName, Arc<Mutex<Host>>>>,
    /// The first link of each journal, by which it is told from others.
    first: Mutex<BTreeMap<[u8; 32], HostName>>,
    /// Held while news are put on record.
    noting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Host {
    replica: Replica,
    seen: Option<Seen>,
    trouble: Option<String>,
}

impl Collector {
    /// Opens the copies in a collector's data folder. Blocking.
    ///
    /// # Errors
    /// [`OpenError`] of the first copy that can't be opened.
    pub fn open(data: &Path) -> Result<Self, OpenError> {
        let folder = hosts_folder(data);
        let collector = Self {
            folder,
            hosts: Mutex::default(),
            first: Mutex::default(),
            noting: tokio::sync::Mutex::default(),
        };
        for name in names(&collector.folder).map_err(|source| OpenError::Folder {
            doing: "list",
            path: collector.folder.clone(),
            source,
        })? {
            let replica = Replica::open(&collector.folder.join(name.as_str()))?;
            if let Ok(Some(first)) = replica.link_of(1) {
                guard(&collector.first).insert(first.0, name.clone());
            }
            let host = Host { replica, seen: None, trouble: None };
            guard(&collector.hosts).insert(name, Arc::new(Mutex::new(host)));
        }
        Ok(collector)
    }

    /// Takes facts of a host, received when the wall clock read `wall_ns`. On return they are on
    /// the disk. Blocking.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take(&self, name: &HostName, batch: &Batch, wall_ns: i64) -> Result<Answer, Refused> {
        batch.check()?;
        let host = self.host(name)?;
        let mut host = guard(&host);
        host.seen = Some(Seen {
            wall_ns,
            ahead_ns: batch.clock.wall_ns.saturating_sub(wall_ns),
            end: batch.end.seq,
        });
        let taken = self.take_into(&mut host.replica, name, batch);
        match &taken {
            Ok(_) => host.trouble = None,
            Err(refused) if refused.is_final() => {
                let said = refused.to_string();
                if host.trouble.as_ref() != Some(&said) {
                    tracing::error!("{said}");
                }
                host.trouble = Some(said);
            }
            Err(_) => {}
        }
        taken.map(|head| Answer { head: head.into() })
    }

    fn take_into(
        &self,
        replica: &mut Replica,
        name: &HostName,
        batch: &Batch,
    ) -> Result<Head, Refused> {
        let link = |error| Refused::Malformed(MalformedBatch::Link(error));
        let after = batch.after.head().map_err(link)?;
        let end = batch.end.head().map_err(link)?;
        let refused = |source| refused(name, source);
        replica.check(end).map_err(refused)?;
        if let Some(lost) = batch.lost.as_ref().map(super::Place::head).transpose().map_err(link)?
            && end.seq < lost.seq
            && lost.seq <= replica.head().seq
        {
            let taken = replica.head().seq;
            return Err(Refused::Lost { host: name.clone(), end: end.seq, taken });
        }
        let described: Vec<_> = batch.instances.iter().map(described).collect();
        let reading = Reading::from(&batch.clock);
        let handed = Handed {
            after,
            texts: &batch.facts,
            described: &described,
            mark: Some((end, &reading)),
        };
        if replica.head().seq > 0 {
            return replica.take(handed).map_err(refused);
        }
        let Some(first) = batch.facts.first().filter(|_| after.seq == 0) else {
            return Ok(replica.head());
        };
        let first = FactHash::GENESIS.next(first.as_bytes());
        let mut known = guard(&self.first);
        match known.get(&first.0) {
            Some(other) if other != name => {
                Err(Refused::Twin { host: name.clone(), other: other.clone() })
            }
            Some(_) | None => {
                let head = replica.take(handed).map_err(refused)?;
                known.insert(first.0, name.clone());
                Ok(head)
            }
        }
    }

    /// The host of a name; an unknown one begins with nothing.
    fn host(&self, name: &HostName) -> Result<Arc<Mutex<Host>>, Refused> {
        let mut hosts = guard(&self.hosts);
        if let Some(host) = hosts.get(name) {
            return Ok(host.clone());
        }
        let opened = Replica::open(&self.folder.join(name.as_str()));
        let replica = opened
            .map_err(|source| Refused::Open { host: name.clone(), source: Box::new(source) })?;
        let host = Arc::new(Mutex::new(Host { replica, seen: None, trouble: None }));
        hosts.insert(name.clone(), host.clone());
        Ok(host)
    }

    /// The state of every host, by name. Blocking.
    pub fn hosts(&self) -> Vec<HostStatus> {
        let hosts = guard(&self.hosts).clone();
        let status = |(name, host): (HostName, Arc<Mutex<Host>>)| {
            let host = guard(&host);
            HostStatus {
                host: name,
                head: host.replica.head(),
                until_utc_ns: host.replica.until_utc_ns(),
                seen: host.seen,
                trouble: host.trouble.clone(),
            }
        };
        hosts.into_iter().map(status).collect()
    }

    /// Puts on record how far each host was heard, as far as that is news: what is computed from
    /// the collector's journal includes facts of hosts up to there.
    ///
    /// # Errors
    /// [`NoteError`].
    pub async fn note(&self, journal: &Journal, at: Reading) -> Result<(), NoteError> {
        let _noting = self.noting.lock().await;
        let known = journal.archive().heard(u64::MAX)?;
        let news = self.heard().into_iter().filter(|heard| !known.contains(heard));
        let host: Vec<_> = news.map(|heard| (at.clone(), HostFact::Heard(heard))).collect();
        if !host.is_empty() {
            journal.commit(Entry { host, ..Entry::default() }).await?;
        }
        Ok(())
    }

    fn heard(&self) -> Vec<Heard> {
        let hosts = guard(&self.hosts).clone();
        let heard = |(name, host): (HostName, Arc<Mutex<Host>>)| {
            let host = guard(&host);
            let Head { seq, hash } = host.replica.head();
            let until = host.replica.until();
            (seq > 0).then_some(Heard { host: name, seq, link: Digest(hash.0), until })
        };
        hosts.into_iter().filter_map(heard).collect()
    }
}

/// Sorts out errors of a copy.
fn refused(name: &HostName, source: TakeError) -> Refused {
    let host = name.clone();
    match source {
        TakeError::Forked { .. } => Refused::Forked { host, source },
        TakeError::Damaged(_) => Refused::Damaged { host, source },
        TakeError::Database(_) | TakeError::Broken => Refused::Failed { host, source },
    }
}

fn described(instance: &Instance) -> Described {
    Described {
        id: instance.id.clone(),
        name: instance.name.clone(),
        record: serde_json::to_string(&instance.tags).unwrap_or_default(),
    }
}

/// The names of the hosts of which there are copies.
fn names(folder: &Path) -> io::Result<Vec<HostName>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(names)
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
