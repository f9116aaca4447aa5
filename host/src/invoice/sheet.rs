//! A sheet: intervals, a book and a policy, rated without a journal.
//!
//! Its rows become facts whose sequence numbers are the numbers of the rows, so that a line names
//! the rows that it came from.

use std::collections::BTreeMap;

use biller::book::Book;

use super::InvoiceError;
use super::compute::{Computer, TracedInterval};
use super::days::DaySum;
use super::difference::utc_text;
use super::document::{Invoice, Named};
use super::door::{Refusal, check_policy};
use super::engines::Engines;
use super::evidence::{Evidence, EvidenceError, News, Visit, visit_histories};
use super::view::View;
use crate::billing::agreement::{Agreement, AgreementError};
use crate::billing::calendar::Calendar;
use crate::billing::{About, BootId, Entered, Fact, InstanceFact, Reading, TenantFact};
use crate::id::{BookName, Digest, InstanceId, PolicyName, TenantId};
use crate::journal::{FactHash, Head, SpanQuery, StoredInvoice};
use crate::policy::PolicyHost;
use crate::tenant::Actor;
use crate::units::Instant;
use crate::vm::{Phase, Shape, Traffic};

/// The time of an instance in one phase with one shape. Instants are of UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetRow {
    /// The instance.
    pub instance: InstanceId,
    /// The phase.
    pub phase: Phase,
    /// First instant inside.
    pub from: Instant,
    /// First instant after; none for an instance that lives on.
    pub until: Option<Instant>,
    /// Number of the start that it belongs to; none to count the starts by the phases.
    pub session: Option<u32>,
    /// The resources.
    pub shape: Shape,
    /// Traffic in this time, read at its end.
    pub traffic: Traffic,
}

/// The rules that the rows of a sheet are rated by.
#[derive(Debug, Clone)]
pub struct SheetRules {
    /// The text of the price book.
    pub book: Vec<u8>,
    /// The component; the standard policy's for none.
    pub policy: Option<Vec<u8>>,
    /// Options of the policy, sorted by name.
    pub options: Vec<(String, String)>,
    /// The cut of time into periods.
    pub agreement: Agreement,
    /// The book's name on documents; none for none.
    pub book_name: Option<BookName>,
    /// The component's name on documents; none for none.
    pub policy_name: Option<PolicyName>,
}

/// A reason why a sheet can't be rated.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// There is no row.
    #[error("the sheet has no interval; give one row at least")]
    Empty,
    /// A row ends before it begins.
    #[error("row {row}: must end after it begins")]
    Backwards {
        /// Number of the row, from 1.
        row: u64,
    },
    /// A row without an end has traffic, which is read at the end.
    #[error(
        "row {row}: has traffic and no end; traffic is read at the end of a row, so give it an \
         `until`"
    )]
    Unread {
        /// Number of the row, from 1.
        row: u64,
    },
    /// The traffic of an instance is too much to be added up.
    #[error("row {row}: the traffic of instance '{instance}' is more than 2^64 - 1 bytes in all")]
    Traffic {
        /// Number of the row, from 1.
        row: u64,
        /// The instance.
        instance: InstanceId,
    },
    /// Two rows of an instance overlap, or leave time out.
    #[error(
        "row {row}: instance '{instance}' is in no row, or in two, from {from} to {until}; rows of \
         an instance must touch (time in which it was off has the phase `stopped`)"
    )]
    Gap {
        /// Number of the later row.
        row: u64,
        /// The instance.
        instance: InstanceId,
        /// One end of the time.
        from: String,
        /// The other.
        until: String,
    },
    /// The text is not a price book.
    #[error("price book: {0}")]
    Book(#[from] biller::book::BookError),
    /// The agreement is none.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// Book and policy don't go together.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The bill can't be computed.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
}

/// The documents of a sheet, and where their lines came from.
#[derive(Debug)]
pub struct Rated {
    /// One preview for each period.
    pub documents: Vec<Invoice>,
    /// For each document and each of its lines: the pieces of rows that the line covers. `fact` is
    /// the number of the row, from 1.
    pub sources: Vec<Vec<Vec<TracedInterval>>>,
}

/// Rows with what they are rated by.
#[derive(Debug)]
pub struct Sheet {
    rules: SheetRules,
    policy: Digest,
    /// By instance, ascending in time; the numbers are those of the rows.
    histories: BTreeMap<InstanceId, Vec<(u64, Fact)>>,
    of_tenant: Vec<(u64, Fact)>,
    began: Instant,
    ended: Instant,
    last: u64,
}

impl Sheet {
    /// Checks the rows and puts them in order. The end of the latest row is where the sheet ends.
    ///
    /// # Errors
    /// [`SheetError`] with the first row that is wrong.
    pub fn new(rows: &[SheetRow], rules: SheetRules) -> Result<Self, SheetError> {
        rules.agreement.check()?;
        Book::parse(&rules.book, crate::billing::zones::is_known)?;
        let began = rows.iter().map(|row| row.from).min().ok_or(SheetError::Empty)?;
        let ends = rows.iter().map(|row| row.until.unwrap_or(row.from));
        let ended = ends.max().unwrap_or(began);
        let mut numbered: BTreeMap<InstanceId, Vec<(u64, &SheetRow)>> = BTreeMap::new();
        for (number, row) in (1..).zip(rows) {
            if row.until.is_some_and(|until| until <= row.from) {
                return Err(SheetError::Backwards { row: number });
            }
            if row.until.is_none() && row.traffic != Traffic::NONE {
                return Err(SheetError::Unread { row: number });
            }
            numbered.entry(row.instance.clone()).or_default().push((number, row));
        }
        let mut last = rows.len() as u64;
        let mut histories = BTreeMap::new();
        for (instance, mut rows) in numbered {
            rows.sort_by_key(|(_, row)| row.from);
            touching(&rows)?;
            histories.insert(instance, history(&rows, &mut last)?);
        }
        let policy = rules.policy.as_deref().unwrap_or(PolicyHost::standard_bytes());
        let policy = Digest::of(policy);
        let of_tenant = rules_said(&rules, policy, began, &mut last);
        Ok(Self { rules, policy, histories, of_tenant, began, ended, last })
    }

    /// Rates the sheet up to an instant; up to its end, if none. Blocking.
    ///
    /// # Errors
    /// [`SheetError`].
    pub fn rate(&self, policies: &PolicyHost, to: Option<Instant>) -> Result<Rated, SheetError> {
        let engines = Engines::new(self, policies);
        let tenant = TenantId::default_tenant();
        let view = || View::load(self, &tenant, self.head()).map_err(InvoiceError::from);
        let book = Book::parse(&self.rules.book, crate::billing::zones::is_known)?;
        let description = engines.describe(self.policy)?;
        let books = [(self.began, book)];
        let policy = (self.policy, &description);
        check_policy(&view()?, policy, &self.rules.options, self.began, &books)?;
        let computer = Computer::new(self, &engines, &named_by_id);
        let documents = computer.preview(view()?, to.unwrap_or(self.ended))?;
        let view = view()?;
        let traced = documents.iter().map(|document| computer.trace_all(&view, document));
        let sources = traced.collect::<Result<_, _>>()?;
        Ok(Rated { documents, sources })
    }

    /// The charges of each local day of its documents. Blocking.
    ///
    /// # Errors
    /// [`SheetError`].
    pub fn days(
        &self,
        policies: &PolicyHost,
        documents: &[Invoice],
    ) -> Result<Vec<Vec<DaySum>>, SheetError> {
        let engines = Engines::new(self, policies);
        let computer = Computer::new(self, &engines, &named_by_id);
        let tenant = TenantId::default_tenant();
        let mut view = View::load(self, &tenant, self.head()).map_err(InvoiceError::from)?;
        let mut days = Vec::with_capacity(documents.len());
        for document in documents {
            days.push(computer.days(&view, document)?);
            view.add(document.clone());
        }
        Ok(days)
    }

    fn head(&self) -> Head {
        Head { seq: self.last, hash: FactHash::GENESIS }
    }
}

/// An instance of a sheet, whose id is its name.
fn named_by_id(id: &InstanceId) -> Result<Named, EvidenceError> {
    Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() })
}

/// Checks that each row of an instance begins where the one before it ends.
fn touching(rows: &[(u64, &SheetRow)]) -> Result<(), SheetError> {
    for pair in rows.windows(2) {
        let [(_, before), (number, row)] = pair else { continue };
        if before.until != Some(row.from) {
            let text = |at| utc_text(&Calendar::default(), at);
            return Err(SheetError::Gap {
                row: *number,
                instance: row.instance.clone(),
                from: text(before.until.unwrap_or(row.from)),
                until: text(row.from),
            });
        }
    }
    Ok(())
}

/// The facts of an instance; what ends it is numbered after all rows.
fn history(rows: &[(u64, &SheetRow)], last: &mut u64) -> Result<Vec<(u64, Fact)>, SheetError> {
    let mut facts = Vec::with_capacity(rows.len() + 2);
    let mut session = 0;
    let mut was_off = true;
    // The traffic before each row, which the fact that begins the row says.
    let mut traffic = Traffic::NONE;
    for &(number, row) in rows {
        let is_on = is_on(row.phase);
        session = row.session.unwrap_or(session + u32::from(is_on && was_off));
        was_off = !is_on;
        let entered = entered(row, session.max(1), traffic);
        facts.push((number, of_instance(row.from, &row.instance, entered)));
        let sum = traffic.plus(row.traffic);
        if sum.since(traffic) != row.traffic {
            return Err(SheetError::Traffic { row: number, instance: row.instance.clone() });
        }
        traffic = sum;
    }
    if let Some((_, row)) = rows.last()
        && let Some(until) = row.until
    {
        // The end itself says no traffic.
        if row.traffic != Traffic::NONE {
            *last += 1;
            let read = entered(row, session.max(1), traffic);
            facts.push((*last, of_instance(until, &row.instance, read)));
        }
        *last += 1;
        facts.push((*last, of_instance(until, &row.instance, InstanceFact::Deleted)));
    }
    Ok(facts)
}

fn entered(row: &SheetRow, session: u32, traffic: Traffic) -> InstanceFact {
    let phase = row.phase;
    let shape = row.shape;
    InstanceFact::Entered(Entered { phase, shape, session, cause: None, traffic })
}

/// Returns whether an instance in this phase has been started and not stopped since.
fn is_on(phase: Phase) -> bool {
    match phase {
        Phase::Initializing
        | Phase::Running
        | Phase::Paused
        | Phase::Shutdown
        | Phase::Standby
        | Phase::Unknown => true,
        Phase::Created | Phase::Stopped => false,
    }
}

fn rules_said(
    rules: &SheetRules,
    policy: Digest,
    from: Instant,
    last: &mut u64,
) -> Vec<(u64, Fact)> {
    let bytes = rules.policy.as_deref().unwrap_or(PolicyHost::standard_bytes());
    let said = [
        TenantFact::PolicyAdmitted {
            digest: policy,
            size_bytes: bytes.len() as u64,
            by: Some(Actor::Operator),
            name: rules.policy_name.clone(),
        },
        TenantFact::PolicyActivated {
            digest: policy,
            from,
            rollback: false,
            by: None,
            reason: None,
            options: rules.options.clone(),
        },
        TenantFact::PricesActivated {
            digest: Digest::of(&rules.book),
            from,
            by: Actor::Operator,
            name: rules.book_name.clone(),
        },
        TenantFact::AgreementChanged {
            agreement: rules.agreement.clone(),
            from,
            by: Actor::Operator,
        },
    ];
    let numbered = said.into_iter().map(|said| {
        *last += 1;
        (*last, fact(from, About::Tenant(said)))
    });
    numbered.collect()
}

fn of_instance(at: Instant, instance: &InstanceId, said: InstanceFact) -> Fact {
    fact(at, About::Instance(instance.clone(), said))
}

fn fact(at: Instant, about: About) -> Fact {
    let boot = BootId("sheet".into());
    let at = Reading { boot, boottime_ns: 0, wall_ns: at.0, meter: at };
    Fact { at, tenant: TenantId::default_tenant(), about }
}

impl Evidence for Sheet {
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError> {
        visit_histories(&self.histories, query, visit);
        Ok(())
    }

    fn began(&self, _: &TenantId, _: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(Some(self.began))
    }

    fn ended(&self, _: &TenantId, _: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(None)
    }

    fn tenant_facts(&self, _: &TenantId, _: u64) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        Ok(self.of_tenant.clone())
    }

    fn changed(&self, _: &TenantId, _: &News) -> Result<bool, EvidenceError> {
        Ok(false)
    }

    fn invoices(&self, _: &TenantId, _: u64) -> Result<Vec<StoredInvoice>, EvidenceError> {
        Ok(Vec::new())
    }

    fn calendar(&self, _: u64) -> Result<Calendar, EvidenceError> {
        Ok(Calendar::default())
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        match digest == Digest::of(&self.rules.book) {
            true => Ok(self.rules.book.clone()),
            false => Err(EvidenceError::Missing(format!("document {digest}"))),
        }
    }

    fn component(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let own = self.rules.policy.as_ref().filter(|_| digest == self.policy);
        own.cloned().ok_or_else(|| EvidenceError::Missing(format!("component {digest}")))
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        Ok(Head { seq, hash: FactHash::GENESIS })
    }
}
