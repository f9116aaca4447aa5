//! Where an invoice's inputs come from: the journal of this host, or a bundle that was taken from it.

use crate::billing::calendar::Calendar;
use crate::billing::{Fact, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::{Archive, Head, ReadError, StoredInvoice};
use crate::tenant::Standing;
use crate::units::Instant;

/// From `from` on, `digest` is in force; written by fact number `fact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// From when on.
    pub from: Instant,
    /// A component or a price book.
    pub digest: Digest,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// A policy is not asked any more for a tenant; written by fact number `fact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantine {
    /// Which.
    pub policy: Digest,
    /// Who answers in its place; none while its time is held.
    pub stand_in: Option<Digest>,
    /// Sequence number of the fact.
    pub fact: u64,
}

impl Quarantine {
    /// What a fact says about it; none if that is about something else.
    pub(super) fn told(fact: u64, told: &TenantFact) -> Option<Self> {
        match told {
            TenantFact::PolicyMoved(moved) if moved.to == Standing::Quarantined => {
                Some(Self { policy: moved.digest, stand_in: moved.stand_in, fact })
            }
            _ => None,
        }
    }
}

/// Why evidence can't be had.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The journal can't be read.
    #[error("can't read the journal")]
    Journal(#[from] ReadError),
    /// Something that an invoice depends on is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// Something is there and is not what it is called.
    #[error("{0}")]
    Altered(String),
}

/// The facts and documents that invoices are made from. Everything is as of a fact: what was recorded later does not exist.
pub trait Evidence {
    /// The instances that a tenant ever had, sorted.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn instances(&self, tenant: &TenantId, through: u64) -> Result<Vec<InstanceId>, EvidenceError>;

    /// The facts of an instance, ascending.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn history(&self, instance: &InstanceId, through: u64) -> Result<Vec<(u64, Fact)>, EvidenceError>;

    /// When an instance began: its first fact. None if it has none yet.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn began(&self, instance: &InstanceId, through: u64) -> Result<Option<Instant>, EvidenceError>;

    /// Which policies a tenant was put under, in the order of the facts.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn policies(&self, tenant: &TenantId, through: u64) -> Result<Vec<InForce>, EvidenceError>;

    /// Which policies of a tenant were quarantined, in the order of the facts.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn quarantines(&self, tenant: &TenantId, through: u64) -> Result<Vec<Quarantine>, EvidenceError>;

    /// Which price books a tenant was charged by, in the order of the facts.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn books(&self, tenant: &TenantId, through: u64) -> Result<Vec<InForce>, EvidenceError>;

    /// The documents that a tenant was given, in the order of the facts.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn invoices(&self, tenant: &TenantId, through: u64) -> Result<Vec<StoredInvoice>, EvidenceError>;

    /// Where the calendar lies.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn calendar(&self, through: u64) -> Result<Calendar, EvidenceError>;

    /// The bytes of a price book or an invoice, whose digest they have.
    ///
    /// # Errors
    /// [`EvidenceError::Missing`], [`EvidenceError::Altered`].
    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError>;

    /// The bytes of a component, whose digest they have.
    ///
    /// # Errors
    /// [`EvidenceError::Missing`], [`EvidenceError::Altered`].
    fn component(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError>;

    /// The place of a fact, its link included.
    ///
    /// # Errors
    /// [`EvidenceError::Missing`].
    fn place(&self, seq: u64) -> Result<Head, EvidenceError>;
}

/// Bytes that have the digest that they are called by.
pub(super) fn sound(what: &str, digest: Digest, bytes: Option<Vec<u8>>) -> Result<Vec<u8>, EvidenceError> {
    let bytes = bytes.ok_or_else(|| EvidenceError::Missing(format!("{what} {digest}")))?;
    let is = Digest::of(&bytes);
    if is == digest {
        return Ok(bytes);
    }
    Err(EvidenceError::Altered(format!("{what} {digest} was altered: its SHA-256 is {is}")))
}

impl Evidence for Archive {
    fn instances(&self, tenant: &TenantId, through: u64) -> Result<Vec<InstanceId>, EvidenceError> {
        let _ = through;
        let mut ids: Vec<_> = self.instances_of(tenant)?.into_iter().map(|stored| stored.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn history(&self, instance: &InstanceId, through: u64) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let mut history = Archive::history(self, instance)?;
        history.retain(|(seq, _)| *seq <= through);
        Ok(history)
    }

    fn began(&self, instance: &InstanceId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(self.first(instance)?.filter(|(seq, _)| *seq <= through).map(|(_, fact)| fact.at.meter))
    }

    fn policies(&self, tenant: &TenantId, through: u64) -> Result<Vec<InForce>, EvidenceError> {
        let activations = self.activations_of(tenant)?.into_iter().filter(|one| one.fact <= through);
        Ok(activations.map(|one| InForce { from: one.from, digest: one.digest, fact: one.fact }).collect())
    }

    fn quarantines(&self, tenant: &TenantId, through: u64) -> Result<Vec<Quarantine>, EvidenceError> {
        let facts = self.policy_facts_of(tenant)?.into_iter().filter(|(seq, _)| *seq <= through);
        Ok(facts.filter_map(|(seq, fact)| Quarantine::told(seq, fact.of_tenant()?)).collect())
    }

    fn books(&self, tenant: &TenantId, through: u64) -> Result<Vec<InForce>, EvidenceError> {
        let books = self.books_of(tenant)?.into_iter().filter(|one| one.fact <= through);
        Ok(books.map(|one| InForce { from: one.from, digest: one.digest, fact: one.fact }).collect())
    }

    fn invoices(&self, tenant: &TenantId, through: u64) -> Result<Vec<StoredInvoice>, EvidenceError> {
        let mut invoices = self.invoices_of(tenant)?;
        invoices.retain(|invoice| invoice.fact <= through);
        Ok(invoices)
    }

    fn calendar(&self, through: u64) -> Result<Calendar, EvidenceError> {
        let mut calendar = Calendar::default();
        for (fact, at, wall_ns) in Archive::calendar(self)? {
            if fact <= through {
                calendar.learn(at, wall_ns);
            }
        }
        Ok(calendar)
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        sound("document", digest, Archive::document(self, &digest)?)
    }

    fn component(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        sound("component", digest, self.policy_bytes(&digest)?)
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        self.place_of(seq)?.ok_or_else(|| EvidenceError::Missing(format!("fact {seq}")))
    }
}
