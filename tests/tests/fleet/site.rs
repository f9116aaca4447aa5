//! Journals whose facts have instants of the test's choice.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tallyman::billing::account::Account;
use tallyman::billing::{Entered, HostFact, InstanceFact, Reading, TenantFact};
use tallyman::clock::{self, Clock};
use tallyman::fleet::{self, Describe, Sender, Transport};
use tallyman::id::{Digest, InstanceId, TenantId};
use tallyman::invoice::{Directory, Invoice, Issuer, Named};
use tallyman::journal::{Entry, InstanceWrite, Journal, Options, Row};
use tallyman::policy::{Accounting, PolicyHost};
use tallyman::tenant::Actor;
use tallyman::units::{Instant, Nanos};
use tallyman::vm::{Phase, Shape, Traffic};
use tempfile::TempDir;

pub(crate) const HOUR: u64 = 3_600_000_000_000;
pub(crate) const DAY: u64 = 24 * HOUR;

/// 2026-01-01 in UTC, in nanoseconds since 1970: the instant 0 of all sites.
pub(crate) const NEW_YEAR: i64 = 1_767_225_600_000_000_000;

/// Time by which the writers' clocks are ahead of all facts.
const AHEAD: u64 = 90 * DAY;

static POLICIES: LazyLock<(TempDir, Arc<PolicyHost>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let host = PolicyHost::open(&folder.path().join("compiled")).expect("an engine");
    (folder, Arc::new(host))
});

/// `CLOCK_BOOTTIME` of the instant 0, the same for all sites.
static BEGAN: LazyLock<u64> = LazyLock::new(clock::boottime_ns);

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// A host's journal, or a collector's.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) journal: Arc<Journal>,
    clock: Clock,
    instances: HashMap<InstanceId, (Row, Account)>,
}

impl Site {
    /// A journal that begins at the instant 0.
    pub(crate) async fn new() -> Self {
        LazyLock::force(&BEGAN);
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, clock) = open(folder.path());
        let site = Self { folder, journal, clock, instances: HashMap::new() };
        let started = HostFact::Started { version: "0".into() };
        let created = (tenant(), (site.at(0), TenantFact::Created { by: Actor::Host }));
        let entry = Entry { tenants: vec![created], ..Entry::of_host(site.at(0), started) };
        site.journal.commit(entry).await.expect("committed");
        site
    }

    /// The reading of all clocks `ns` after the instant 0. UTC is the same for all sites, to the
    /// nanosecond; the meters are not.
    pub(crate) fn at(&self, ns: u64) -> Reading {
        self.clock.reading_of(*BEGAN + ns, NEW_YEAR + i64::try_from(ns).expect("some days"))
    }

    /// The instant on the site's meter.
    pub(crate) fn meter(&self, ns: u64) -> Instant {
        self.at(ns).meter
    }

    /// Names the book for all time from the instant 0 on.
    pub(crate) async fn set_book(&self, book: &str) {
        let fact = TenantFact::Overridden {
            from: self.meter(0),
            until: self.meter(AHEAD),
            policy: None,
            book: Some(Digest::of(book.as_bytes())),
            from_begin: true,
            reason: "as agreed".into(),
            by: Actor::Operator,
        };
        let mut entry = Entry::of_tenant(tenant(), self.at(0), fact);
        entry.documents = vec![book.as_bytes().to_vec()];
        self.journal.commit(entry).await.expect("committed");
    }

    /// Lets an instance enter a phase; it ends with none.
    pub(crate) async fn enter(&mut self, id: &InstanceId, ns: u64, phase: Option<Phase>) {
        let shape = Shape { vcpus: 2, memory_bytes: 3 << 30, ..Shape::default() };
        let fact = match phase {
            Some(phase) => InstanceFact::Entered(Entered {
                phase,
                shape,
                session: 1,
                cause: None,
                traffic: Traffic::NONE,
            }),
            None => InstanceFact::Deleted,
        };
        let record = String::new();
        let state = String::new();
        let write = match self.instances.get(id).cloned() {
            Some((row, account)) => {
                InstanceWrite::Update { row, name: None, record: None, state, account }
            }
            None => InstanceWrite::Insert {
                id: id.clone(),
                tenant: tenant(),
                name: id.as_str().parse().expect("a name"),
                record,
                state,
                account: Account::default(),
            },
        };
        let entry = Entry::of_instance(write, vec![(self.at(ns), fact)]);
        let receipt = self.journal.commit(entry).await.expect("committed");
        let known = receipt.row.zip(receipt.account).expect("an instance");
        self.instances.insert(id.clone(), known);
    }

    /// A sender of this site's facts.
    pub(crate) fn sender(&self, transport: Arc<dyn Transport>) -> Sender {
        let describe: Describe = Arc::new(|id| {
            let name = format!("name-of-{id}").parse().expect("a name");
            let tags = vec![("kind".into(), "web".into())];
            Some(fleet::Instance { id: id.clone(), name, tags })
        });
        Sender::new(self.journal.clone(), self.clock.clone(), describe, transport)
    }

    /// The documents that a close up to an instant would make.
    pub(crate) fn preview(&self, ns: u64) -> Vec<Invoice> {
        let issuer = Issuer::new(self.journal.clone(), POLICIES.1.clone());
        let made = issuer.preview(&tenant(), &directory(), self.meter(ns), None);
        made.unwrap_or_else(|error| panic!("no bill: {error:?}"))
    }

    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::new(self.journal.clone(), POLICIES.1.clone())
    }
}

/// Opens a journal whose writer's clock is ahead of all facts.
fn open(folder: &Path) -> (Arc<Journal>, Clock) {
    let accounting = Arc::new(Accounting::new(POLICIES.1.clone()));
    let (journal, opened) =
        Journal::open(folder, Options::default(), accounting).expect("a journal");
    opened.clock.skip(Nanos(AHEAD));
    (Arc::new(journal), opened.clock)
}

/// Names that do not depend on the journal.
pub(crate) fn directory() -> Directory {
    Arc::new(|id: &InstanceId| {
        Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() })
    })
}
