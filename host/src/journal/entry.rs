//! What goes into the journal at once, and what comes back.

use std::fmt;

use crate::billing::account::Account;
use crate::billing::{Dated, Fact, HostFact, InstanceFact, Reading, TenantFact};
use crate::clock::{Clock, Gap};
use crate::id::{Digest, InstanceId, InstanceName, PolicyName, TenantId, TokenId};
use crate::tenant::{Actor, Plan, Role, Settings, Standing};
use crate::units::Instant;

/// Where an instance's record lies in the database. Stable for its whole life, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub u64);

/// A link of the hash chain: SHA-256 of the link before and the fact's JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FactHash(pub [u8; 32]);

impl FactHash {
    /// The link before the first fact.
    pub const GENESIS: FactHash = FactHash([0; 32]);

    /// The link that follows this one.
    pub fn next(&self, body: &[u8]) -> FactHash {
        use sha2::Digest as _;
        FactHash(sha2::Sha256::new().chain_update(self.0).chain_update(body).finalize().into())
    }
}

impl fmt::Display for FactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FactHash({})", hex::encode(&self.0[..6]))
    }
}

/// The end of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the last fact; 0 while there is none.
    pub seq: u64,
    /// Its link.
    pub hash: FactHash,
}

impl Head {
    /// The end of an empty journal.
    pub const EMPTY: Head = Head { seq: 0, hash: FactHash::GENESIS };
}

/// The facts that are committed together or not at all, and what comes with them.
///
/// The journal has them in the order of the fields here.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Facts of the host, in the order in which they happened.
    pub host: Vec<Dated<HostFact>>,
    /// Facts of tenants, in the order in which they happened.
    pub tenants: Vec<(TenantId, Dated<TenantFact>)>,
    /// An instance's record as it is from here on, with its facts.
    pub instance: Option<InstanceEntry>,
    /// A change of a tenant's rules. The writer adds the fact.
    pub activation: Option<NewActivation>,
    /// A component that was admitted. The writer adds the fact.
    pub policy: Option<NewPolicy>,
    /// SHA-256 of the secret of the token that a fact of this entry creates. It stays out of the
    /// facts.
    pub secret: Option<Digest>,
    /// A price book for a tenant, in an entry without an activation. The writer adds the fact.
    pub prices: Option<NewPrices>,
    /// A planned change that does not come about, in an entry without the others. The writer adds
    /// the fact.
    pub withdrawal: Option<NewWithdrawal>,
    /// A document that charges a period, in an entry without the others. The writer adds the fact.
    pub invoice: Option<NewInvoice>,
    /// Documents that facts of this entry name by their SHA-256, such as a price book.
    pub documents: Vec<Vec<u8>>,
    /// By what the request is known again that this is the answer to, if it is sent a second time.
    pub request: Option<RequestKey>,
    /// What it has survived when it is answered.
    pub durability: Durability,
}

impl Entry {
    /// One fact of the host.
    pub fn of_host(at: Reading, fact: HostFact) -> Self {
        Self { host: vec![(at, fact)], ..Self::default() }
    }

    /// One fact of a tenant.
    pub fn of_tenant(tenant: TenantId, at: Reading, fact: TenantFact) -> Self {
        Self { tenants: vec![(tenant, (at, fact))], ..Self::default() }
    }

    /// The record of an instance from here on, with its facts.
    pub fn of_instance(write: InstanceWrite, facts: Vec<Dated<InstanceFact>>) -> Self {
        Self { instance: Some(InstanceEntry { write, facts }), ..Self::default() }
    }
}

/// The part of an entry that is about an instance.
#[derive(Debug, Clone)]
pub struct InstanceEntry {
    /// Which instance, and its record.
    pub write: InstanceWrite,
    /// Its facts, in the order in which they happened. None follows its deletion.
    pub facts: Vec<Dated<InstanceFact>>,
}

/// What an entry has survived when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A loss of power: the disk has confirmed it.
    #[default]
    Synced,
    /// The end of this process. A loss of power may take it, and nothing else with it, until a
    /// later entry is synced: for what has no meaning after a loss of power.
    Written,
}

/// How the record of an instance changes.
///
/// `account` is the one *before* the facts of the entry; the receipt has the one after. Only the
/// task that owns the instance may write it.
#[derive(Debug, Clone)]
pub enum InstanceWrite {
    /// A new instance.
    Insert {
        /// Its id.
        id: InstanceId,
        /// Its tenant.
        tenant: TenantId,
        /// Its name, unique among the tenant's instances that are not deleted.
        name: InstanceName,
        /// What does not change with each transition, opaque to the journal.
        record: String,
        /// What does, opaque to the journal.
        state: String,
        /// The account before the first fact.
        account: Account,
    },
    /// An instance that is known and not deleted. A fact [`InstanceFact::Deleted`] in the entry
    /// closes it.
    Update {
        /// Which one.
        row: Row,
        /// Its new name, if it changes.
        name: Option<InstanceName>,
        /// Its new record, if it changes.
        record: Option<String>,
        /// The driver's state from here on.
        state: String,
        /// The account before the entry's facts; stored as it is when there are none that count
        /// time.
        account: Account,
    },
}

/// A change of a tenant's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivation {
    /// Whose rules.
    pub tenant: TenantId,
    /// The component.
    pub digest: Digest,
    /// When it takes effect; now, if none or past.
    pub requested: Option<Instant>,
    /// It undoes the activation before it.
    pub rollback: bool,
    /// Who asked for it.
    pub by: Actor,
    /// Why, in words.
    pub reason: Option<String>,
    /// The policy's options, sorted by name.
    pub options: Vec<(String, String)>,
}

impl NewActivation {
    /// An activation that takes effect now.
    pub fn now(tenant: TenantId, digest: Digest, by: Actor) -> Self {
        Self {
            tenant,
            digest,
            requested: None,
            rollback: false,
            by,
            reason: None,
            options: Vec::new(),
        }
    }
}

/// What makes a request the same one when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The tenant whose affair it is.
    pub tenant: TenantId,
    /// Chosen by the client, unique among the tenant's requests.
    pub key: String,
    /// SHA-256 of what was asked for, so that one key is not used for two things.
    pub asked: Digest,
}

/// The outcome of the first try of a request that is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstTry {
    /// Sequence number of the fact that was recorded.
    pub seq: u64,
    /// The fact.
    pub fact: Fact,
    /// Whether the same was asked for then; otherwise the key was used for two things.
    pub same: bool,
}

/// A component that was admitted. What is noted about one that is known stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPolicy {
    /// The tenant that it is for.
    pub tenant: TenantId,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its name among the tenant's policies; none gives it none.
    pub name: Option<PolicyName>,
    /// The component itself.
    pub bytes: Vec<u8>,
    /// What is noted about it, opaque to the journal.
    pub record: String,
    /// Who admitted it.
    pub by: Actor,
}

/// A price book for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrices {
    /// Whose.
    pub tenant: TenantId,
    /// The book's name.
    pub digest: Digest,
    /// The book itself.
    pub bytes: Vec<u8>,
    /// When it takes effect; now, if none or past.
    pub requested: Option<Instant>,
    /// Who asks.
    pub by: Actor,
}

/// A planned change of a tenant's policy or prices that is withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWithdrawal {
    /// The tenant.
    pub tenant: TenantId,
    /// Policy or prices.
    pub plan: Plan,
    /// The component or the price book.
    pub digest: Digest,
    /// The instant for which it was planned.
    pub from: Instant,
    /// Who withdraws it.
    pub by: Actor,
    /// Why, in words.
    pub reason: Option<String>,
}

/// A document that charges a period of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvoice {
    /// Whose.
    pub tenant: TenantId,
    /// Its number: that of the tenant's last document, and one.
    pub number: u64,
    /// Its name.
    pub digest: Digest,
    /// The document itself.
    pub bytes: Vec<u8>,
    /// First instant of the period.
    pub from: Instant,
    /// First instant after it.
    pub until: Instant,
    /// The document that it corrects.
    pub corrects: Option<u64>,
    /// Who makes it final.
    pub by: Actor,
}

/// Proof that an entry is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Sequence number of the entry's first fact; the head's plus one if the entry has none.
    pub first_seq: u64,
    /// Sequence number of its last fact; `first_seq - 1` if the entry has none.
    pub last_seq: u64,
    /// The end of the journal after the commit that the entry was part of.
    pub head: Head,
    /// The instance's account after the entry; none without an instance.
    pub account: Option<Account>,
    /// Where the instance's record lies; none without an instance.
    pub row: Option<Row>,
    /// When the entry's activation, or its prices, take effect; none without one.
    pub activated_from: Option<Instant>,
}

/// What an earlier run has left.
#[derive(Debug)]
pub struct Opened {
    /// The meter clock, anchored for this boot.
    pub clock: Clock,
    /// The instances that are not deleted, by row.
    pub instances: Vec<StoredInstance>,
    /// The activations that were not withdrawn, in the order of their facts.
    pub activations: Vec<Activation>,
    /// All components, without their bytes; see [`super::Journal::policy_bytes`].
    pub policies: Vec<StoredPolicy>,
    /// All tenants.
    pub tenants: Vec<StoredTenant>,
    /// All tokens, those that are no good any more included.
    pub tokens: Vec<StoredToken>,
    /// Where each policy stands with each tenant that has to do with it.
    pub standings: Vec<StoredStanding>,
    /// Which components each tenant has brought, in the order of the facts.
    pub admissions: Vec<StoredAdmission>,
    /// Where the wall clock stood, in nanoseconds since 1970, at each start of the daemon and after
    /// each step, ascending.
    pub calendar: Vec<(Instant, i64)>,
    /// The last proof that the host was alive before this start; none on the very first one.
    pub alive: Option<Alive>,
    /// Time before this boot of which nothing is known; none where it is known, and where the boot
    /// is not new.
    pub gap: Option<Gap>,
    /// The end of the journal.
    pub head: Head,
}

/// An instance as it was last committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// Where it lies.
    pub row: Row,
    /// Its id.
    pub id: InstanceId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: InstanceName,
    /// The opaque record.
    pub record: String,
    /// The opaque state.
    pub state: String,
    /// Its account.
    pub account: Account,
    /// Sequence number of its last fact; none before the first.
    pub last_fact: Option<u64>,
    /// When that happened.
    pub last: Option<Instant>,
    /// Sequence number of the fact that closed it; none while it lives.
    pub deleted: Option<u64>,
}

/// A change of a tenant's rules that is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Whose rules.
    pub tenant: TenantId,
    /// From when on.
    pub from: Instant,
    /// The component.
    pub digest: Digest,
    /// Sequence number of its fact.
    pub fact: u64,
}

/// A change of a tenant's prices that is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPrices {
    /// From when on.
    pub from: Instant,
    /// The book.
    pub digest: Digest,
    /// Sequence number of its fact.
    pub fact: u64,
}

/// A document that charges a period, as its fact tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInvoice {
    /// Number among the tenant's documents.
    pub number: u64,
    /// The document.
    pub digest: Digest,
    /// First instant of the period.
    pub from: Instant,
    /// First instant after it.
    pub until: Instant,
    /// The document that it corrects.
    pub corrects: Option<u64>,
    /// Sequence number of its fact.
    pub fact: u64,
}

impl StoredInvoice {
    /// The document that a tenant's fact tells of; none for another fact.
    pub fn from_fact(fact: u64, said: &TenantFact) -> Option<Self> {
        match *said {
            TenantFact::Invoiced { number, digest, from, until, corrects, .. } => {
                Some(Self { number, digest, from, until, corrects, fact })
            }
            _ => None,
        }
    }
}

/// A component in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The opaque record.
    pub record: String,
}

/// A tenant in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTenant {
    /// Its id.
    pub id: TenantId,
    /// When it was made.
    pub created: Instant,
    /// What is settled for it.
    pub settings: Settings,
}

/// A token in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of its secret.
    pub secret: Digest,
    /// Whose it is.
    pub tenant: TenantId,
    /// What a person calls it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// When it was made.
    pub created: Instant,
    /// First instant at which it is no good any more.
    pub expires: Instant,
    /// When it was revoked, if it was.
    pub revoked: Option<Instant>,
    /// Who made it.
    pub by: Actor,
}

/// Where a policy stands with a tenant, by the last fact about the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStanding {
    /// The tenant.
    pub tenant: TenantId,
    /// The component.
    pub digest: Digest,
    /// Where it stands.
    pub standing: Standing,
    /// Who put it there; none before this was recorded.
    pub by: Option<Actor>,
    /// The policy that accounts what it owes while it is quarantined.
    pub stand_in: Option<Digest>,
}

/// That a tenant has brought a component, by the fact about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAdmission {
    /// The tenant.
    pub tenant: TenantId,
    /// The component.
    pub digest: Digest,
    /// Its name among the tenant's policies; none if it has none.
    pub name: Option<PolicyName>,
    /// When it was admitted for this tenant.
    pub at: Instant,
}

/// The last moment at which the host is proved to have been alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// The boot it was in.
    pub boot: crate::billing::BootId,
    /// `CLOCK_BOOTTIME` then, in nanoseconds.
    pub boottime_ns: u64,
    /// The meter clock then.
    pub meter: Instant,
    /// Whether the wall clock was known to be right then.
    pub is_synchronised: bool,
}
