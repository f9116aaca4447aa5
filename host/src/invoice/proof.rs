//! Making a document again from evidence, and comparing it byte for byte.

use super::Heading;
use super::document::{FIRST_LINK, Invoice, Kind, Line, Named, Receipt};
use super::evidence::{Evidence, EvidenceError};
use super::rate::{InvoiceError, Order, Rater, Watched};
use crate::id::{Digest, IdError, InstanceId, TenantId};
use crate::policy::PolicyHost;
use crate::units::Instant;

/// What is proved of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// The document.
    pub invoice: Invoice,
    /// Its SHA-256, as the journal has it.
    pub digest: Digest,
    /// Calls that were made again.
    pub calls: usize,
    /// Facts that were read.
    pub facts: u64,
    /// Whether the engine is the one that made it, so that the fuel was compared, too.
    pub same_engine: bool,
}

/// Where a document differs from what evidence makes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The journal goes another way up to the place that the document names.
    #[error("it was made as of fact {seq} with hash {stated}; the journal has {found} there")]
    Place {
        /// Which fact.
        seq: u64,
        /// What the document says.
        stated: String,
        /// What is there.
        found: String,
    },
    /// A receipt is another one.
    #[error("receipt {number}: {field} is {stated}, and comes out as {found}")]
    Receipt {
        /// Which, from 0.
        number: usize,
        /// Which part.
        field: &'static str,
        /// What the document says.
        stated: String,
        /// What comes out.
        found: String,
    },
    /// A line is another one.
    #[error("line {number} is {stated}, and comes out as {found}")]
    Line {
        /// Which, from 1.
        number: usize,
        /// What the document says.
        stated: String,
        /// What comes out.
        found: String,
    },
    /// Something else.
    #[error("{0} is not what comes out")]
    Field(&'static str),
}

/// Why a document is not proved.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Evidence is missing or altered.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// It can't be rated again.
    #[error(transparent)]
    Rating(#[from] InvoiceError),
    /// It holds a name that is none.
    #[error("the document holds a name that is none")]
    Name(#[from] IdError),
    /// It differs.
    #[error("document {number} of tenant {tenant} is not what its evidence makes")]
    Differs {
        /// Whose.
        tenant: String,
        /// Which.
        number: u64,
        /// Where it differs first.
        #[source]
        difference: Box<Difference>,
    },
}

/// Makes document `number` of a tenant again and compares it with the one that is stored. Blocking.
///
/// # Errors
/// [`ProofError::Differs`] with the first difference; the others if it can't be made.
pub fn prove<E: Evidence>(
    evidence: &E,
    policies: &PolicyHost,
    tenant: &TenantId,
    number: u64,
) -> Result<Proved, ProofError> {
    let documents = evidence.invoices(tenant, u64::MAX)?;
    let stored = documents.iter().find(|stored| stored.number == number);
    let stored = stored.ok_or_else(|| EvidenceError::Missing(format!("document {number} of tenant {tenant}")))?;
    let bytes = evidence.document(stored.digest)?;
    let unreadable = |error| EvidenceError::Altered(format!("document {} can't be read: {error}", stored.digest));
    let invoice = Invoice::from_bytes(&bytes).map_err(unreadable)?;
    let differs =
        |difference| ProofError::Differs { tenant: tenant.to_string(), number, difference: Box::new(difference) };
    let head = evidence.place(invoice.as_of.seq)?;
    if head.hash.to_string() != invoice.as_of.hash {
        let (stated, found) = (invoice.as_of.hash.clone(), head.hash.to_string());
        return Err(differs(Difference::Place { seq: head.seq, stated, found }));
    }
    // Also where this program has the component within itself: what is kept must be whole.
    for receipt in &invoice.receipts {
        evidence.component(receipt.policy.parse()?)?;
    }
    let again = make_again(evidence, policies, &invoice)?;
    let same_engine = engines(&invoice) == engines(&again);
    let again = match same_engine {
        true => again,
        false => as_other_engine(again, &invoice, link_before(evidence, &invoice)?),
    };
    match first_difference(&invoice, &again) {
        Some(difference) => Err(differs(difference)),
        // What is compared field by field is all there is; the bytes say so once more.
        None if again.to_bytes() != bytes => Err(differs(Difference::Field("its text"))),
        None => Ok(Proved {
            digest: stored.digest,
            calls: invoice.receipts.len(),
            facts: invoice.as_of.seq,
            same_engine,
            invoice,
        }),
    }
}

/// The time that a line of an invoice covers, made again; empty for a line of a correction, which covers what the lines do that it changes.
/// Blocking.
///
/// # Errors
/// [`ProofError`] if it can't be made.
pub fn time_of<E: Evidence>(
    evidence: &E,
    policies: &PolicyHost,
    invoice: &Invoice,
    line: u64,
) -> Result<Vec<Watched>, ProofError> {
    if invoice.kind == Kind::Correction {
        return Ok(Vec::new());
    }
    let named = |id: &InstanceId| Ok(name_in(invoice, id));
    let order = order(evidence, invoice)?;
    Ok(Rater::new(evidence, policies, &named).watching(line).rate(&order)?.watched)
}

fn make_again<E: Evidence>(evidence: &E, policies: &PolicyHost, invoice: &Invoice) -> Result<Invoice, ProofError> {
    let named = |id: &InstanceId| Ok(name_in(invoice, id));
    let order = order(evidence, invoice)?;
    let heading = Heading {
        number: invoice.number,
        kind: invoice.kind,
        corrects: invoice.corrects,
        reason: invoice.reason.clone(),
        previous: previous(evidence, invoice)?.map(|digest| digest.to_string()),
    };
    Ok(Rater::new(evidence, policies, &named).invoice(&order, heading)?)
}

/// The digest of the document before, as the evidence has it.
fn previous<E: Evidence>(evidence: &E, invoice: &Invoice) -> Result<Option<Digest>, ProofError> {
    let documents = evidence.invoices(&invoice.tenant.parse()?, u64::MAX)?;
    let before = documents.iter().filter(|stored| Some(stored.number) < invoice.number);
    Ok(before.max_by_key(|stored| stored.number).map(|stored| stored.digest))
}

/// What an invoice orders.
fn order<E: Evidence>(evidence: &E, invoice: &Invoice) -> Result<Order, ProofError> {
    let digest = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
    Ok(Order {
        tenant: invoice.tenant.parse()?,
        from: Instant(invoice.from_ns),
        until: Instant(invoice.until_ns),
        as_of: evidence.place(invoice.as_of.seq)?,
        policy: digest(&invoice.policy)?,
        book: digest(&invoice.book)?,
    })
}

/// What a document calls an instance; a name that was changed shows in the hash of the input.
fn name_in(invoice: &Invoice, id: &InstanceId) -> Named {
    let place = invoice.instances.binary_search_by(|one| one.id.as_str().cmp(id.as_str()));
    match place {
        Ok(place) => invoice.instances[place].clone(),
        Err(_) => Named { id: id.to_string(), name: String::new(), tags: Vec::new() },
    }
}

fn engines(invoice: &Invoice) -> Vec<(&str, &str)> {
    invoice.receipts.iter().map(|receipt| (receipt.engine.as_str(), receipt.tzdata.as_str())).collect()
}

/// What another engine made, told as if the first one had: its name and its fuel are its own affair, everything else must agree.
fn as_other_engine(mut again: Invoice, invoice: &Invoice, mut link: String) -> Invoice {
    for (receipt, stated) in again.receipts.iter_mut().zip(&invoice.receipts) {
        receipt.engine.clone_from(&stated.engine);
        receipt.tzdata.clone_from(&stated.tzdata);
        receipt.fuel = stated.fuel;
        *receipt = receipt.clone().chained(&link);
        link.clone_from(&receipt.chain);
    }
    again
}

/// The link before the first receipt of a document.
fn link_before<E: Evidence>(evidence: &E, invoice: &Invoice) -> Result<String, ProofError> {
    let Some(digest) = previous(evidence, invoice)? else { return Ok(FIRST_LINK.into()) };
    let unreadable = |error| EvidenceError::Altered(format!("document {digest} can't be read: {error}"));
    let before = Invoice::from_bytes(&evidence.document(digest)?).map_err(unreadable)?;
    Ok(before.last_link())
}

fn first_difference(stated: &Invoice, found: &Invoice) -> Option<Difference> {
    let pairs = stated.receipts.iter().zip(&found.receipts).enumerate();
    let of_receipts = pairs.filter_map(|(number, (stated, found))| receipt_difference(number, stated, found)).next();
    let lines = stated.lines.iter().zip(&found.lines).zip(1..);
    let of_lines = lines
        .filter(|((stated, found), _)| stated != found)
        .map(|((stated, found), number)| Difference::Line { number, stated: in_words(stated), found: in_words(found) });
    let fields = [
        ("the form", stated.form == found.form),
        ("the document before", stated.previous == found.previous),
        ("the period", (&stated.from, &stated.until) == (&found.from, &found.until)),
        ("the currency", (&stated.currency, stated.minor_digits) == (&found.currency, found.minor_digits)),
        ("the rounding", stated.rounding == found.rounding),
        ("the number of receipts", stated.receipts.len() == found.receipts.len()),
        ("the number of lines", stated.lines.len() == found.lines.len()),
        ("the list of instances", stated.instances == found.instances),
        ("the total", stated.total == found.total),
        ("what is to be paid", stated.payable == found.payable),
        ("what is carried", stated.carried == found.carried),
    ];
    let of_fields = fields.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| Difference::Field(name));
    of_receipts.into_iter().chain(of_lines).chain(of_fields).next()
}

fn receipt_difference(number: usize, stated: &Receipt, found: &Receipt) -> Option<Difference> {
    let text =
        |facts: Option<(u64, u64)>| facts.map_or_else(|| "none".into(), |(first, last)| format!("{first} to {last}"));
    let other = |policy: &Option<String>| policy.clone().unwrap_or_else(|| "none".into());
    let fields = [
        (
            "period",
            format!("{} to {}", stated.from_ns, stated.until_ns),
            format!("{} to {}", found.from_ns, found.until_ns),
        ),
        ("policy", stated.policy.clone(), found.policy.clone()),
        ("the policy in whose place it ran", other(&stated.stands_in_for), other(&found.stands_in_for)),
        ("book", stated.book.clone(), found.book.clone()),
        ("facts", text(stated.facts), text(found.facts)),
        ("intervals", stated.intervals.to_string(), found.intervals.to_string()),
        ("input", stated.input.clone(), found.input.clone()),
        ("output", stated.output.clone(), found.output.clone()),
        ("fuel", stated.fuel.to_string(), found.fuel.to_string()),
        ("chain", stated.chain.clone(), found.chain.clone()),
    ];
    let differs = fields.into_iter().find(|(_, stated, found)| stated != found);
    differs.map(|(field, stated, found)| Difference::Receipt { number, field, stated, found })
}

fn in_words(line: &Line) -> String {
    format!("{} ({})", line.amount, line.description)
}
