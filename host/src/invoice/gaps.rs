//! Times between two boots that the meter has left out: an operator says how long one was, and each
//! tenant is charged once for what its instances held in it.
//!
//! The meter never steps, so no interval can be put in later. What is missing is the length alone:
//! no machine lives from one boot to the next, and the phase in which each instance spent the time
//! is on record.

use std::ops::ControlFlow;
use std::sync::PoisonError;

use super::change::{ChangeError, blocking};
use super::evidence::Evidence;
use super::issuer::{IssueError, Issuer};
use super::one_offs::NewOneOff;
use super::open_gaps::OpenGaps;
use super::sheet::{Sheet, SheetError, SheetRow, SheetRules};
use super::usage::{BootBound, Piece, usage};
use super::view::View;
use super::{InvoiceError, evidence};
use crate::billing::decimal::Decimal;
use crate::billing::{About, Fact, GapSettled, HostFact, Reading, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::{Archive, Entry, ReadError, SpanQuery, StoredGap};
use crate::tenant::{Actor, OneOffKind};
use crate::units::Instant;
use crate::vm::{Phase, Traffic};

/// A gap, and its settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeGap {
    /// The gap.
    pub gap: StoredGap,
    /// Its settlement; none while it is open.
    pub settlement: Option<Settlement>,
}

/// An operator's word on a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleGap {
    /// Sequence number of the fact that records the gap.
    pub gap: u64,
    /// Time that the meter has left out, in nanoseconds.
    pub missing_ns: u64,
    /// The reason, in words.
    pub reason: String,
    /// The operator.
    pub by: Actor,
}

/// A gap that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Sequence number of its fact; none if nothing is recorded.
    pub fact: Option<u64>,
    /// Time that the meter has left out, in nanoseconds.
    pub missing_ns: u64,
    /// The reason, in words.
    pub reason: String,
    /// The operator.
    pub by: Actor,
    /// The charges, by tenant.
    pub charges: Vec<GapCharge>,
}

/// The charge of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapCharge {
    /// The tenant.
    pub tenant: TenantId,
    /// Its id on documents; none if nothing is recorded.
    pub id: Option<String>,
    /// The amount in nano-units.
    pub amount: i64,
    /// ISO 4217 code.
    pub currency: String,
}

/// A reason why a gap is not settled.
#[derive(Debug, thiserror::Error)]
pub enum GapError {
    /// There is no such gap.
    #[error("fact {0} records no gap; `tallyman gap list` lists those that there are")]
    None(u64),
    /// It was settled in another way.
    #[error(
        "gap {gap} was settled by fact {fact}, with {missing_ns} ns; what is owed beside that is \
         charged by `tallyman invoice charge`, or given by `tallyman invoice goodwill`"
    )]
    Settled {
        /// The gap.
        gap: u64,
        /// The fact that settles it.
        fact: u64,
        /// Time that was said to be left out, in nanoseconds.
        missing_ns: u64,
    },
    /// An instance has not been looked at since the gap.
    #[error("instance {0} has not been looked at since the gap; try again when it has been")]
    NotLookedAt(InstanceId),
    /// The tenant's policy gave no answer.
    #[error("tenant {0}: its policy is quarantined and nothing stands in; activate another first")]
    Unrated(TenantId),
    /// A tenant's time can't be rated.
    #[error("tenant {tenant}: its time in the gap can't be rated")]
    Rating {
        /// The tenant.
        tenant: TenantId,
        /// The reason.
        #[source]
        source: Box<SheetError>,
    },
    /// The journal can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The charge is refused, or can't be committed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<InvoiceError> for GapError {
    fn from(error: InvoiceError) -> Self {
        Self::Change(error.into())
    }
}

impl From<evidence::EvidenceError> for GapError {
    fn from(error: evidence::EvidenceError) -> Self {
        InvoiceError::from(error).into()
    }
}

impl Issuer {
    /// The gaps that nobody has settled.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open_gaps(&self) -> Result<OpenGaps, ReadError> {
        let mut known = self.gaps().open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = *known {
            return Ok(open);
        }
        let open = OpenGaps::of(&self.journal().archive().gaps()?);
        *known = Some(open);
        Ok(open)
    }

    /// All gaps, with their settlements, ascending. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn list_gaps(&self) -> Result<Vec<TimeGap>, ReadError> {
        let archive = self.journal().archive();
        let with = |gap: StoredGap| {
            let settlement = settlement(&archive, &gap)?;
            Ok(TimeGap { gap, settlement })
        };
        archive.gaps()?.into_iter().map(with).collect()
    }

    /// Settles a gap: one fact of the host, and a one-off charge for each of `tenants` whose
    /// instances held something in it, in one commit. The same word again changes nothing. With
    /// `is_trial`, nothing is recorded.
    ///
    /// # Errors
    /// [`GapError`].
    pub async fn settle_gap(
        &self,
        tenants: Vec<TenantId>,
        asked: SettleGap,
        reading: Reading,
        is_trial: bool,
    ) -> Result<Settlement, GapError> {
        let _settling = self.gaps().settling.lock().await;
        let gap = match self.find_gap(&asked)? {
            Known::Open(gap) => gap,
            Known::Settled(settled) => return Ok(settled),
        };
        let SettleGap { missing_ns, reason, by, .. } = asked;
        let locks: Vec<_> = tenants.iter().map(|tenant| self.lock(tenant)).collect();
        let mut held = Vec::with_capacity(locks.len());
        for lock in &locks {
            held.push(lock.lock().await);
        }
        let issuer = self.clone();
        let now = reading.meter;
        let why = reason.clone();
        let seq = gap.fact;
        let rating = move || Ok(issuer.charges(&tenants, &gap, (missing_ns, &why), now));
        let said = blocking(rating).await??;
        let charges = said.iter().map(|(tenant, one)| one.shown(tenant)).collect();
        let mut settlement = Settlement { fact: None, missing_ns, reason, by, charges };
        if !is_trial {
            self.record(seq, &mut settlement, said, reading).await?;
        }
        Ok(settlement)
    }

    /// The gap that is to be settled, or its settlement, if that says the same.
    fn find_gap(&self, asked: &SettleGap) -> Result<Known, GapError> {
        let found = self.list_gaps()?.into_iter().find(|one| one.gap.fact == asked.gap);
        let TimeGap { gap, settlement } = found.ok_or(GapError::None(asked.gap))?;
        match (settlement, gap.settled) {
            (Some(settled), Some(_)) if settled.missing_ns == asked.missing_ns => {
                Ok(Known::Settled(settled))
            }
            (Some(Settlement { missing_ns, .. }), Some(fact)) => {
                Err(GapError::Settled { gap: gap.fact, fact, missing_ns })
            }
            (None, _) | (_, None) => Ok(Known::Open(gap)),
        }
    }

    /// Records a settlement with its charges.
    async fn record(
        &self,
        gap: u64,
        settlement: &mut Settlement,
        said: Vec<(TenantId, Charge)>,
        reading: Reading,
    ) -> Result<(), GapError> {
        let settled = HostFact::GapSettled(GapSettled {
            gap,
            missing_ns: settlement.missing_ns,
            charges: said.len() as u64,
            reason: settlement.reason.clone(),
            by: settlement.by.clone(),
        });
        let by = &settlement.by;
        let charge =
            |(tenant, one): (TenantId, Charge)| (tenant, (reading.clone(), one.fact(by.clone())));
        let entry = Entry {
            host: vec![(reading.clone(), settled)],
            tenants: said.into_iter().map(charge).collect(),
            ..Entry::default()
        };
        let receipt = self.journal().commit(entry).await.map_err(IssueError::from);
        let fact = receipt.map_err(ChangeError::from)?.first_seq;
        *self.gaps().open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        settlement.fact = Some(fact);
        for (seq, charge) in (fact + 1..).zip(&mut settlement.charges) {
            charge.id = Some(evidence::one_off_id(OneOffKind::Charge, seq));
        }
        Ok(())
    }

    /// The charges of all tenants for a gap.
    fn charges(
        &self,
        tenants: &[TenantId],
        gap: &StoredGap,
        (missing_ns, reason): (u64, &str),
        now: Instant,
    ) -> Result<Vec<(TenantId, Charge)>, GapError> {
        let mut charges = Vec::new();
        for tenant in tenants.iter().filter(|_| missing_ns > 0) {
            let Some(amount) = self.worth(tenant, gap, missing_ns)? else { continue };
            let length = Decimal::nanos(missing_ns.into());
            let one = NewOneOff {
                kind: OneOffKind::Charge,
                amount,
                currency: None,
                at: Some(gap.until),
                reason: format!("{length} s without a clock (gap {}): {reason}", gap.fact),
            };
            let currency = self.check_one_off(tenant, &one, now)?;
            charges.push((tenant.clone(), Charge { one, at: gap.until, currency }));
        }
        Ok(charges)
    }

    /// The charge of a tenant in nano-units, in whole coins, rounded down; none without one: what
    /// its instances held as the gap began, for as long as it was, by the policy and the book in
    /// force then, rated by itself.
    fn worth(
        &self,
        tenant: &TenantId,
        gap: &StoredGap,
        missing_ns: u64,
    ) -> Result<Option<i64>, GapError> {
        let archive = self.journal().archive();
        let view = self.view(&archive, tenant)?;
        let span = (gap.from(), Instant(gap.from().0.saturating_add(1)));
        let Some(book) = view.rules.books(span).first().map(|span| span.book) else {
            return Ok(None);
        };
        let rows = rows(&archive, &view, span, missing_ns)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let rules = self.rules_at(&view, span.0, book)?;
        let sum = self.sum(&rows, rules);
        let sum = sum
            .map_err(|source| GapError::Rating { tenant: tenant.clone(), source: source.into() })?;
        let coin = 10_i64.pow(9 - u32::from(self.summary(book)?.currency.minor_digits()));
        let amount = sum - sum.rem_euclid(coin);
        Ok(Some(amount).filter(|amount| *amount > 0))
    }

    /// The policy and the book in force at an instant.
    fn rules_at(&self, view: &View, at: Instant, book: Digest) -> Result<SheetRules, GapError> {
        let archive = self.journal().archive();
        let standard = self.policies().standard().digest();
        let policies = view.rules.policies((at, Instant(at.0.saturating_add(1))), standard);
        let policy = policies.first().and_then(|span| Some((span.asked?, &span.options)));
        let (policy, options) = policy.ok_or_else(|| GapError::Unrated(view.tenant.clone()))?;
        let component = (policy != standard).then(|| Evidence::component(&archive, policy));
        Ok(SheetRules {
            book: Evidence::document(&archive, book)?,
            policy: component.transpose()?,
            options: options.clone(),
            book_name: None,
            policy_name: None,
            agreement: view.agreements_at(at)?.1,
        })
    }

    /// The sum of the rules of a sheet in nano-units, without adjustments.
    fn sum(&self, rows: &[SheetRow], rules: SheetRules) -> Result<i64, SheetError> {
        let rated = Sheet::new(rows, rules)?.rate(self.policies(), None)?;
        let sums = rated.documents.iter().flat_map(|document| &document.rules);
        let sums = sums.filter_map(|sum| sum.is.parse::<Decimal>().ok()?.scaled(9));
        Ok(i64::try_from(sums.sum::<i128>()).unwrap_or(i64::MAX))
    }
}

/// A gap that is asked for.
enum Known {
    Open(StoredGap),
    Settled(Settlement),
}

/// A charge that is about to be recorded.
#[derive(Debug)]
struct Charge {
    one: NewOneOff,
    at: Instant,
    currency: String,
}

impl Charge {
    fn shown(&self, tenant: &TenantId) -> GapCharge {
        let tenant = tenant.clone();
        let currency = self.currency.clone();
        GapCharge { tenant, id: None, amount: self.one.amount, currency }
    }

    fn fact(self, by: Actor) -> TenantFact {
        let Self { one: NewOneOff { kind, amount, reason, .. }, at, currency } = self;
        TenantFact::OneOff { kind, amount, currency, at, reason, by }
    }
}

/// The settlement of a gap, as its facts say it; none while it is open.
fn settlement(archive: &Archive, gap: &StoredGap) -> Result<Option<Settlement>, ReadError> {
    let Some(fact) = gap.settled else { return Ok(None) };
    let Some(About::Host(HostFact::GapSettled(settled))) = said(archive, fact)?.map(|of| of.about)
    else {
        return Ok(None);
    };
    let mut charges = Vec::new();
    for seq in fact + 1..=fact.saturating_add(settled.charges) {
        charges.extend(said(archive, seq)?.and_then(|charge| GapCharge::of(charge, seq)));
    }
    let GapSettled { missing_ns, reason, by, .. } = settled;
    Ok(Some(Settlement { fact: Some(fact), missing_ns, reason, by, charges }))
}

/// A fact of the journal; none if there is no such fact.
fn said(archive: &Archive, seq: u64) -> Result<Option<Fact>, ReadError> {
    Ok(archive.fact(seq)?.and_then(|chained| Fact::try_from(&chained.fact).ok()))
}

impl GapCharge {
    /// The charge that a fact records; none if it records none.
    fn of(fact: Fact, seq: u64) -> Option<Self> {
        match fact.about {
            About::Tenant(TenantFact::OneOff { kind, amount, currency, .. }) => {
                let id = Some(evidence::one_off_id(kind, seq));
                Some(Self { tenant: fact.tenant, id, amount, currency })
            }
            About::Tenant(_) | About::Host(_) | About::Instance(..) => None,
        }
    }
}

/// The instances of a tenant as a gap began, each in its phase for as long as the gap was.
fn rows(
    archive: &Archive,
    view: &View,
    (start, end): (Instant, Instant),
    missing_ns: u64,
) -> Result<Vec<SheetRow>, GapError> {
    let through = view.as_of.seq;
    let from = Instant(view.calendar.utc_ns(start));
    let until = Some(Instant(from.0.saturating_add_unsigned(missing_ns)));
    let bounds = [BootBound { end: Instant(i64::MAX), max_ns: i64::MAX }];
    let mut rows = Vec::new();
    let mut alive = None;
    let query = SpanQuery { tenant: &view.tenant, start, end, through };
    archive.lives(query, |life| {
        let of = usage(&life, (start, end), &bounds);
        let piece = of.and_then(|usage| usage.pieces.first().copied());
        let Some(Piece { phase, session, shape, .. }) = piece else {
            return ControlFlow::Continue(());
        };
        if is_alive(phase) {
            alive = Some(life.id.clone());
            return ControlFlow::Break(());
        }
        let instance = life.id.clone();
        let session = Some(session);
        let traffic = Traffic::NONE;
        rows.push(SheetRow { instance, phase, from, until, session, shape, traffic });
        ControlFlow::Continue(())
    })?;
    alive.map_or(Ok(rows), |instance| Err(GapError::NotLookedAt(instance)))
}

/// Returns whether a machine has to live for a phase: none does from one boot to the next.
fn is_alive(phase: Phase) -> bool {
    match phase {
        Phase::Initializing | Phase::Running | Phase::Paused | Phase::Shutdown => true,
        Phase::Created | Phase::Standby | Phase::Stopped | Phase::Unknown => false,
    }
}
