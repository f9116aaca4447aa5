//! The input of one commit, its receipt, and the records that a start reads back.

use std::fmt;

use crate::billing::account::Account;
use crate::billing::{BootId, Dated, Fact, HostFact, InstanceFact, Reading, TenantFact};
use crate::clock::{Clock, Gap};
use crate::id::{BookName, Digest, InstanceId, InstanceName, PolicyName, TenantId, TokenId};
use crate::tenant::{Actor, Plan, Role, Settings, Standing};
use crate::units::Instant;

/// The row of an instance's record in the database. Never changes, and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub u64);

/// A hash of the chain: SHA-256 of the previous hash and the fact's JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FactHash(pub [u8; 32]);

impl FactHash {
    /// The hash before the first fact.
    pub const GENESIS: FactHash = FactHash([0; 32]);

    /// Returns the hash of the next fact, whose JSON is `body`.
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
    /// Hash of the last fact; [`FactHash::GENESIS`] while there is none.
    pub hash: FactHash,
}

impl Head {
    /// The end of an empty journal.
    pub const EMPTY: Head = Head { seq: 0, hash: FactHash::GENESIS };
}

/// Facts that are committed together or not at all, with the records and documents that they need.
///
/// The journal holds the facts in the order of the fields here.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Facts of the host, in the order in which they happened.
    pub host: Vec<Dated<HostFact>>,
    /// Facts of tenants, in the order in which they happened.
    pub tenants: Vec<(TenantId, Dated<TenantFact>)>,
    /// The new record of an instance, with the instance's facts.
    pub instance: Option<InstanceEntry>,
    /// An activation of a policy. The writer adds the fact.
    pub activation: Option<NewActivation>,
    /// A component that was admitted. The writer adds the fact.
    pub policy: Option<NewPolicy>,
    /// SHA-256 of the secret of the token that a fact of this entry creates; kept out of the facts.
    pub secret: Option<Digest>,
    /// A price book for a tenant, in an entry without an activation. The writer adds the fact.
    pub prices: Option<NewPrices>,
    /// The withdrawal of a planned change, in an entry without the others. The writer adds the
    /// fact.
    pub withdrawal: Option<NewWithdrawal>,
    /// An invoice or correction, in an entry without the others. The writer adds the fact.
    pub invoice: Option<NewInvoice>,
    /// A fact about a segment whose file is in its place, in an entry without the others. Its
    /// instant is that of the commit.
    pub segment: Option<HostFact>,
    /// Documents that facts of this entry name by their SHA-256, such as a price book.
    pub documents: Vec<Vec<u8>>,
    /// The idempotency key of the request; a repeated request is refused with
    /// [`CommitError::Repeated`](super::CommitError::Repeated). None if it has no key.
    pub request: Option<RequestKey>,
    /// The guarantee that the receipt gives.
    pub durability: Durability,
}

impl Entry {
    /// Makes an entry with one fact of the host.
    pub fn of_host(at: Reading, fact: HostFact) -> Self {
        Self { host: vec![(at, fact)], ..Self::default() }
    }

    /// Makes an entry with one fact of a tenant.
    pub fn of_tenant(tenant: TenantId, at: Reading, fact: TenantFact) -> Self {
        Self { tenants: vec![(tenant, (at, fact))], ..Self::default() }
    }

    /// Bytes of the documents and of the component that the entry brings.
    pub(super) fn document_bytes(&self) -> u64 {
        let policy = self.policy.iter().map(|new| &new.bytes);
        let prices = self.prices.iter().map(|new| &new.bytes);
        let invoice = self.invoice.iter().map(|new| &new.bytes);
        let all = policy.chain(prices).chain(invoice).chain(&self.documents);
        all.map(|bytes| bytes.len() as u64).sum()
    }

    /// True if the entry may be refused while the disk is full: what it asks for has not happened
    /// yet, and ends nothing. What has happened, ends, deletions and revocations can't wait.
    pub fn can_wait(&self) -> bool {
        let is_new = self.policy.is_some()
            || self.prices.is_some()
            || self.invoice.is_some()
            || !self.documents.is_empty()
            || matches!(&self.instance, Some(of) if of.write.is_new());
        let mut facts =
            self.tenants.iter().map(|(_, (_, fact))| fact.can_wait()).chain(
                self.instance.iter().flat_map(|of| &of.facts).map(|(_, fact)| fact.can_wait()),
            );
        let is_act = self.activation.is_some() || !self.tenants.is_empty();
        let of_instance = self.instance.as_ref().is_some_and(|of| !of.facts.is_empty());
        is_new
            || (self.host.is_empty()
                && self.withdrawal.is_none()
                && self.segment.is_none()
                && (is_act || of_instance)
                && facts.all(|can_wait| can_wait))
    }

    /// Makes an entry with the new record of an instance and its facts.
    pub fn of_instance(write: InstanceWrite, facts: Vec<Dated<InstanceFact>>) -> Self {
        Self { instance: Some(InstanceEntry { write, facts }), ..Self::default() }
    }
}

/// The part of an entry that is about an instance.
#[derive(Debug, Clone)]
pub struct InstanceEntry {
    /// The instance, and its new record.
    pub write: InstanceWrite,
    /// Facts of the instance, in the order in which they happened. None may follow its deletion.
    pub facts: Vec<Dated<InstanceFact>>,
}

/// The guarantee that a receipt gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The entry survives a loss of power: the disk has confirmed it.
    #[default]
    Synced,
    /// The entry survives the end of this process. Until a later entry is synced, a loss of power
    /// may lose it, and nothing else: for facts that mean nothing after a loss of power.
    Written,
}

/// A change of an instance's record.
///
/// `account` is the account *before* the facts of the entry; the receipt has the account after
/// them. Only the task that owns the instance may write it.
#[derive(Debug, Clone)]
pub enum InstanceWrite {
    /// A new instance.
    Insert {
        /// Unique id; refused if it was ever used.
        id: InstanceId,
        /// Owner of the instance.
        tenant: TenantId,
        /// Name, unique among the tenant's instances that are not deleted.
        name: InstanceName,
        /// The driver's record: what does not change with each transition. Opaque to the journal.
        record: String,
        /// The driver's state: what changes with each transition. Opaque to the journal.
        state: String,
        /// The account before the first fact.
        account: Account,
    },
    /// A change of an instance that is not deleted. A fact [`InstanceFact::Deleted`] in the entry
    /// closes the record.
    Update {
        /// Row of the instance.
        row: Row,
        /// New name; none keeps the present one.
        name: Option<InstanceName>,
        /// New record of the driver; none keeps the present one.
        record: Option<String>,
        /// New state of the driver.
        state: String,
        /// The account before the entry's facts; stored unchanged if none of them counts time.
        account: Account,
    },
}

impl InstanceWrite {
    fn is_new(&self) -> bool {
        match self {
            Self::Insert { .. } => true,
            Self::Update { .. } => false,
        }
    }
}

/// An activation of a policy for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivation {
    /// Tenant that the policy is activated for.
    pub tenant: TenantId,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Instant from which the policy is in force; the instant of the commit if none or in the past.
    pub requested: Option<Instant>,
    /// True if it reverts the activation before it.
    pub rollback: bool,
    /// Actor that asked for it.
    pub by: Actor,
    /// Reason in free text; none if none was given.
    pub reason: Option<String>,
    /// The policy's options, sorted by name.
    pub options: Vec<(String, String)>,
}

impl NewActivation {
    /// Makes an activation that takes effect at its commit, without options.
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

/// The idempotency key of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Tenant that the key belongs to.
    pub tenant: TenantId,
    /// Key chosen by the client, unique among the tenant's requests.
    pub key: String,
    /// SHA-256 of the request's content, to find a key that is used for two requests.
    pub asked: Digest,
}

/// The outcome of the first attempt of a request that was sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstTry {
    /// Sequence number of the fact that was recorded.
    pub seq: u64,
    /// The fact that was recorded.
    pub fact: Fact,
    /// True if both requests have the same content; otherwise the key was used for two requests.
    pub same: bool,
}

/// A component that was admitted. The record of a component that is already known is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPolicy {
    /// Tenant that it was admitted for.
    pub tenant: TenantId,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Name among the tenant's policies; none if it has no name.
    pub name: Option<PolicyName>,
    /// Bytes of the component.
    pub bytes: Vec<u8>,
    /// Measurements of the admission, opaque to the journal.
    pub record: String,
    /// Actor that uploaded it.
    pub by: Actor,
}

/// An activation of a price book for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrices {
    /// Tenant that is charged by the book.
    pub tenant: TenantId,
    /// SHA-256 of the book.
    pub digest: Digest,
    /// Bytes of the book.
    pub bytes: Vec<u8>,
    /// Instant from which the book is in force; the instant of the commit if none or in the past.
    pub requested: Option<Instant>,
    /// Actor that asked for it.
    pub by: Actor,
    /// Name among the tenant's books; none without one.
    pub name: Option<BookName>,
}

/// The withdrawal of a planned change of a tenant's policy or prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWithdrawal {
    /// Tenant of the planned change.
    pub tenant: TenantId,
    /// Kind of the planned change.
    pub plan: Plan,
    /// SHA-256 of the component or of the price book.
    pub digest: Digest,
    /// Instant for which the change was planned.
    pub from: Instant,
    /// Actor that withdraws it.
    pub by: Actor,
    /// Reason in free text; none if none was given.
    pub reason: Option<String>,
}

/// An invoice or correction for a period of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvoice {
    /// Tenant that is charged.
    pub tenant: TenantId,
    /// Number among the tenant's documents: the last one's plus one, 1 for the first.
    pub number: u64,
    /// SHA-256 of the document.
    pub digest: Digest,
    /// Bytes of the document.
    pub bytes: Vec<u8>,
    /// First instant of the period.
    pub from: Instant,
    /// First instant after the period.
    pub until: Instant,
    /// Number of the document that it corrects; none for an invoice.
    pub corrects: Option<u64>,
    /// Actor that makes it final.
    pub by: Actor,
}

/// The confirmation that an entry is as durable as it asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Sequence number of the entry's first fact; the head's plus one if the entry has none.
    pub first_seq: u64,
    /// Sequence number of the entry's last fact; `first_seq - 1` if the entry has none.
    pub last_seq: u64,
    /// The end of the journal after the commit that the entry was part of.
    pub head: Head,
    /// The instance's account after the entry; none for an entry without an instance.
    pub account: Option<Account>,
    /// Row of the instance's record; none for an entry without an instance.
    pub row: Option<Row>,
    /// Instant from which the entry's activation or price book is in force; none for an entry
    /// without one.
    pub activated_from: Option<Instant>,
}

/// The state that a start reads back from the journal.
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
    /// All tokens, expired and revoked ones included.
    pub tokens: Vec<StoredToken>,
    /// The standing of each policy with each tenant that admitted or activated it.
    pub standings: Vec<StoredStanding>,
    /// The admissions of components, by tenant, in the order of the facts.
    pub admissions: Vec<StoredAdmission>,
    /// Readings of the wall clock at each start of the daemon and after each step, ascending:
    /// (instant on the meter clock, wall clock in ns since 1970).
    pub calendar: Vec<(Instant, i64)>,
    /// The last liveness record before this start; none at the first start.
    pub alive: Option<Alive>,
    /// The boots of this host before the present one.
    pub boots: Vec<EarlierBoot>,
    /// The time before this boot whose length is unknown; none if it is known or if the boot was
    /// seen before.
    pub gap: Option<Gap>,
    /// The end of the journal.
    pub head: Head,
}

/// An instance as it was last committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// Row of the record.
    pub row: Row,
    /// Id of the instance.
    pub id: InstanceId,
    /// Owner of the instance.
    pub tenant: TenantId,
    /// Name of the instance.
    pub name: InstanceName,
    /// The driver's record, opaque to the journal.
    pub record: String,
    /// The driver's state, opaque to the journal.
    pub state: String,
    /// The account after its last fact.
    pub account: Account,
    /// Sequence number of the instance's last fact; none before the first.
    pub last_fact: Option<u64>,
    /// Instant of the last fact; none before the first.
    pub last: Option<Instant>,
    /// Number of its facts.
    pub facts: u64,
    /// Sequence number of its last fact that counts time.
    pub opened: Option<u64>,
    /// Number of times that it has left standby.
    pub wakes: u32,
    /// Sequence number of the fact that deleted the instance; none while it is not deleted.
    pub deleted: Option<u64>,
}

/// A time between two boots of which only the minimum is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGap {
    /// Sequence number of the fact that records it.
    pub fact: u64,
    /// Instant of that fact: the first start of the daemon after the gap.
    pub until: Instant,
    /// The reason not to trust the wall clock.
    pub reason: String,
    /// Time that has passed by the wall clock, in nanoseconds; negative where it was set back.
    pub claimed_ns: i64,
    /// Time that the meter has counted instead, in nanoseconds.
    pub counted_ns: u64,
    /// Sequence number of the fact that settles it; none while it is open.
    pub settled: Option<u64>,
}

impl StoredGap {
    /// The instant up to which the boot before is known.
    pub fn from(&self) -> Instant {
        Instant(self.until.0.saturating_sub_unsigned(self.counted_ns))
    }
}

/// An activation of a policy that is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Tenant that the policy is activated for.
    pub tenant: TenantId,
    /// Instant from which the policy is in force.
    pub from: Instant,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Sequence number of the activation's fact.
    pub fact: u64,
}

/// An activation of a price book that is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPrices {
    /// Instant from which the book is in force.
    pub from: Instant,
    /// SHA-256 of the book.
    pub digest: Digest,
    /// Sequence number of the activation's fact.
    pub fact: u64,
}

/// An invoice or correction, as its fact states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInvoice {
    /// Number among the tenant's documents, from 1.
    pub number: u64,
    /// SHA-256 of the document.
    pub digest: Digest,
    /// First instant of the period.
    pub from: Instant,
    /// First instant after the period.
    pub until: Instant,
    /// Number of the document that it corrects; none for an invoice.
    pub corrects: Option<u64>,
    /// Sequence number of the document's fact.
    pub fact: u64,
}

impl StoredInvoice {
    /// Reads the document from its fact, number `fact` in the journal; none for any other kind of
    /// fact.
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
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Size of the component in bytes.
    pub size_bytes: u64,
    /// Measurements of the admission, opaque to the journal.
    pub record: String,
}

/// A tenant in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTenant {
    /// Id of the tenant.
    pub id: TenantId,
    /// Instant of its creation.
    pub created: Instant,
    /// Limits, fallback order and billing rights.
    pub settings: Settings,
}

/// A token in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Id of the token.
    pub id: TokenId,
    /// SHA-256 of the token's secret.
    pub secret: Digest,
    /// Tenant that the token belongs to.
    pub tenant: TenantId,
    /// Label for people.
    pub name: String,
    /// Rights of the token's holder.
    pub role: Role,
    /// Instant of its creation.
    pub created: Instant,
    /// First instant at which it is no longer valid.
    pub expires: Instant,
    /// Instant of its revocation; none while it is not revoked.
    pub revoked: Option<Instant>,
    /// Actor that created it.
    pub by: Actor,
}

/// The standing of a policy with a tenant, by the last fact about the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStanding {
    /// Tenant that the standing is with.
    pub tenant: TenantId,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// State of the policy for this tenant.
    pub standing: Standing,
    /// Actor that caused it; none for facts from before actors were recorded.
    pub by: Option<Actor>,
    /// SHA-256 of the policy that accounts in its place while it is quarantined; none while its
    /// time is held, and in any other standing.
    pub stand_in: Option<Digest>,
}

/// An admission of a component for a tenant, by its fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAdmission {
    /// Tenant that it was admitted for.
    pub tenant: TenantId,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Name among the tenant's policies; none if it has no name.
    pub name: Option<PolicyName>,
    /// Instant of the admission.
    pub at: Instant,
}

/// A boot of the host that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierBoot {
    /// The boot.
    pub boot: BootId,
    /// Nanoseconds between its `CLOCK_BOOTTIME` and the meter.
    pub offset_ns: i64,
    /// The last instant at which the host is known to have been alive in it; none if an earlier
    /// version did not note it.
    pub last: Option<Instant>,
}

impl EarlierBoot {
    /// The meter clock of that boot.
    pub fn clock(&self) -> Clock {
        Clock::resume(self.boot.clone(), self.offset_ns)
    }
}

/// The last liveness record: an instant at which the host is proved to have been running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Boot of the host at that instant.
    pub boot: BootId,
    /// `CLOCK_BOOTTIME` at that instant, in nanoseconds.
    pub boottime_ns: u64,
    /// The instant on the meter clock.
    pub meter: Instant,
    /// True if the wall clock was synchronised, or trusted by option, at that instant.
    pub is_synchronised: bool,
}
