//! Proposals: policies and price books that a tenant asks for, and whoever charges it decides on.
//!
//! A proposal passes the same checks as the change itself, and changes no amount. Accepting one is
//! the change, made by whoever accepts.

use biller::book::Book;

use super::InvoiceError;
use super::act::Act;
use super::change::{ChangeError, blocking};
use super::door::check_instant;
use super::evidence::EvidenceError;
use super::issuer::Issuer;
use crate::billing::{Change, Reading, TenantFact, zones};
use crate::id::{BookName, Digest, TenantId};
use crate::journal::ReadError;
use crate::limits::tenant as limits;
use crate::tenant::{Actor, Plan};
use crate::units::Instant;

/// The change that is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A policy with its options, sorted by name.
    Policy {
        /// The component.
        digest: Digest,
        /// Its options.
        options: Vec<(String, String)>,
    },
    /// A price book.
    Prices {
        /// Its text.
        text: Vec<u8>,
        /// Its name among the tenant's books; none without one.
        name: Option<BookName>,
    },
}

impl Wish {
    fn plan(&self) -> Plan {
        match self {
            Self::Policy { .. } => Plan::Policy,
            Self::Prices { .. } => Plan::Prices,
        }
    }
}

/// A proposal that is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Sequence number of its fact, by which it is named.
    pub fact: u64,
    /// Policy or prices.
    pub plan: Plan,
    /// The component or the price book.
    pub digest: Digest,
    /// Instant from which it would be in force; none for that of the acceptance.
    pub from: Option<Instant>,
    /// Name of the book; none without one, and for a policy.
    pub name: Option<BookName>,
    /// Options of the policy.
    pub options: Vec<(String, String)>,
    /// The reason, in words; none if none was given.
    pub reason: Option<String>,
    /// The actor who proposed it.
    pub by: Actor,
    /// Its end; none while it is open.
    pub end: Option<ProposalEnd>,
}

/// The end of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalEnd {
    /// Set if it was accepted.
    pub is_accepted: bool,
    /// The reason, in words; none if none was given.
    pub reason: Option<String>,
    /// The actor who ended it.
    pub by: Actor,
}

impl Proposal {
    fn of(fact: u64, said: &TenantFact) -> Option<Self> {
        let TenantFact::Proposed { plan, digest, from, name, options, reason, by } = said else {
            return None;
        };
        Some(Self {
            fact,
            plan: *plan,
            digest: *digest,
            from: *from,
            name: name.clone(),
            options: options.clone(),
            reason: reason.clone(),
            by: by.clone(),
            end: None,
        })
    }
}

impl Issuer {
    /// The proposals of a tenant, in the order of their facts. Blocking.
    ///
    /// # Errors
    /// The journal's errors.
    pub fn proposals(&self, tenant: &TenantId) -> Result<Vec<Proposal>, ReadError> {
        let mut proposals: Vec<Proposal> = Vec::new();
        for (seq, fact) in self.journal().archive().proposals_of(tenant)? {
            let Some(said) = fact.of_tenant() else { continue };
            proposals.extend(Proposal::of(seq, said));
            let TenantFact::ProposalEnded { proposal, is_accepted, reason, by } = said else {
                continue;
            };
            let ended = proposals.iter_mut().find(|one| one.fact == *proposal);
            if let Some(ended) = ended {
                ended.end = Some(ProposalEnd {
                    is_accepted: *is_accepted,
                    reason: reason.clone(),
                    by: by.clone(),
                });
            }
        }
        Ok(proposals)
    }

    /// The proposal of a number, which must be open. Blocking.
    ///
    /// # Errors
    /// [`ChangeError::NoProposal`], [`ChangeError::ProposalEnded`].
    pub fn open_proposal(&self, tenant: &TenantId, number: u64) -> Result<Proposal, ChangeError> {
        let found = self.proposal(tenant, number)?;
        match &found.end {
            None => Ok(found),
            Some(end) => Err(ChangeError::ProposalEnded { number, is_accepted: end.is_accepted }),
        }
    }

    fn proposal(&self, tenant: &TenantId, number: u64) -> Result<Proposal, ChangeError> {
        let all =
            self.proposals(tenant).map_err(EvidenceError::from).map_err(InvoiceError::from)?;
        let found = all.into_iter().find(|one| one.fact == number);
        found.ok_or(ChangeError::NoProposal(number))
    }

    /// The proposal that an earlier try of the same act has ended; none if there was none.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn ended_before(
        &self,
        tenant: &TenantId,
        number: u64,
        act: &Act,
    ) -> Result<Option<Proposal>, ChangeError> {
        if self.first_try(act).await?.is_none() {
            return Ok(None);
        }
        let issuer = self.clone();
        let whose = tenant.clone();
        blocking(move || issuer.proposal(&whose, number).map(Some)).await
    }

    /// Proposes a change from `from` on; none for the instant at which it is accepted.
    ///
    /// # Errors
    /// [`ChangeError`]: those of the change itself, [`ChangeError::Proposals`].
    pub async fn propose(
        &self,
        tenant: &TenantId,
        (wish, from): (Wish, Option<Instant>),
        reason: Option<String>,
        at: Reading,
        act: Act,
    ) -> Result<Proposal, ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if let Some(first) = self.first_try(&act).await? {
            let known = first.fact.of_tenant().and_then(|said| Proposal::of(first.seq, said));
            return Ok(known.ok_or_else(|| first.used_otherwise())?);
        }
        let issuer = self.clone();
        let whose = tenant.clone();
        let wish = blocking(move || {
            issuer.check_wish(&whose, &wish, from, at.meter)?;
            Ok(wish)
        })
        .await?;
        let plan = wish.plan();
        let by = act.by.clone();
        let (digest, options, name, documents) = match wish {
            Wish::Policy { digest, options } => (digest, options, None, Vec::new()),
            Wish::Prices { text, name } => (Digest::of(&text), Vec::new(), name, vec![text]),
        };
        let said = TenantFact::Proposed { plan, digest, from, name, options, reason, by };
        let mut proposal = Proposal::of(0, &said);
        let fact = self.say(tenant, (at, said), documents, act).await?;
        proposal.iter_mut().for_each(|proposal| proposal.fact = fact);
        proposal.ok_or(ChangeError::NoProposal(fact))
    }

    /// Ends an open proposal. Whoever accepts it has made the change before.
    ///
    /// # Errors
    /// As [`Issuer::open_proposal`]; the journal's errors.
    pub async fn end_proposal(
        &self,
        tenant: &TenantId,
        number: u64,
        (is_accepted, reason): (bool, Option<String>),
        at: Reading,
        act: Act,
    ) -> Result<Proposal, ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if let Some(ended) = self.ended_before(tenant, number, &act).await? {
            return Ok(ended);
        }
        let issuer = self.clone();
        let whose = tenant.clone();
        let mut proposal = blocking(move || {
            let proposal = issuer.open_proposal(&whose, number)?;
            // An acceptance that a crash has ended between the change and its end.
            match !is_accepted && issuer.is_made(&whose, &proposal)? {
                true => Err(ChangeError::ProposalEnded { number, is_accepted: true }),
                false => Ok(proposal),
            }
        })
        .await?;
        let end = ProposalEnd { is_accepted, reason, by: act.by.clone() };
        let said = TenantFact::ProposalEnded {
            proposal: number,
            is_accepted,
            reason: end.reason.clone(),
            by: end.by.clone(),
        };
        self.say(tenant, (at, said), Vec::new(), act).await?;
        proposal.end = Some(end);
        Ok(proposal)
    }

    /// Returns whether what is proposed was put in force since.
    fn is_made(&self, tenant: &TenantId, proposal: &Proposal) -> Result<bool, ChangeError> {
        let changes = self.journal().archive().changes_of(tenant, proposal.plan);
        let changes = changes.map_err(EvidenceError::from).map_err(InvoiceError::from)?;
        Ok(changes.into_iter().any(|(fact, change)| match change {
            Change::Set { digest, .. } => fact > proposal.fact && digest == proposal.digest,
            Change::Withdrawn { .. } => false,
        }))
    }

    /// Refuses what could not be accepted.
    fn check_wish(
        &self,
        tenant: &TenantId,
        wish: &Wish,
        from: Option<Instant>,
        now: Instant,
    ) -> Result<(), ChangeError> {
        let all =
            self.proposals(tenant).map_err(EvidenceError::from).map_err(InvoiceError::from)?;
        if all.iter().filter(|one| one.end.is_none()).count() >= limits::PROPOSALS_MAX {
            return Err(ChangeError::Proposals);
        }
        match wish {
            Wish::Policy { digest, options } => {
                let view = self.view(&self.journal().archive(), tenant)?;
                check_instant(&view.calendar, from, now)?;
                self.check_activation(tenant, *digest, options, from.unwrap_or(now))
            }
            Wish::Prices { text, name } => {
                let book = Book::parse(text, zones::is_known)?;
                let digest = Digest::of(text);
                self.check_prices(tenant, (&book, digest), from, now)?;
                self.known_book(tenant, (digest, name.as_ref()), from.unwrap_or(now)).map(drop)
            }
        }
    }
}
