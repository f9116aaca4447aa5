//! Proofs: a document is computed again from evidence, and compared byte for byte.
//!
//! A second engine, the interpreter, runs the same calls: a fault of the compiler that changed a
//! charge would otherwise prove itself.

use super::InvoiceError;
use super::calls::Calls;
use super::compute::{Components, Computer, TracedInterval};
use super::document::{FORM, Invoice, Line, Named, Receipt};
use super::evidence::{Evidence, EvidenceError};
use super::view::View;
use crate::billing::zones;
use crate::id::{Digest, IdError, InstanceId, TenantId};

/// The proof of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// Number of the document.
    pub number: u64,
    /// The document; none if it is of the earlier form.
    pub invoice: Option<Invoice>,
    /// SHA-256 of the document, as the journal has it.
    pub digest: Digest,
    /// Number of calls that were repeated.
    pub calls: usize,
    /// Sequence number of the last fact that was taken into account.
    pub facts: u64,
    /// Set if the engine is the one that made the document, so that the fuel was compared, too.
    pub same_engine: bool,
}

/// A difference between a document and the one that its evidence gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The journal has another history up to the place that the document names.
    #[error("it was made as of fact {seq} with hash {stated}; the journal has {found} there")]
    Place {
        /// Sequence number of the fact.
        seq: u64,
        /// The document's value.
        stated: String,
        /// The journal's hash.
        found: String,
    },
    /// A receipt differs.
    #[error("receipt {number}: {field} is {stated}, and comes out as {found}")]
    Receipt {
        /// Position of the receipt, from 0.
        number: usize,
        /// Name of the part, for people.
        field: &'static str,
        /// The document's value.
        stated: String,
        /// The value from the evidence.
        found: String,
    },
    /// Another field differs.
    #[error("{field} is {stated}, and comes out as {found}")]
    Field {
        /// The field, by its name in the document.
        field: String,
        /// The document's value.
        stated: String,
        /// The value from the evidence.
        found: String,
    },
}

/// A reason why a document is not proved.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Evidence is missing or altered.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The document can't be computed again.
    #[error(transparent)]
    Rating(#[from] InvoiceError),
    /// The document holds a malformed id.
    #[error("the document holds a malformed id")]
    Name(#[from] IdError),
    /// The document differs.
    #[error("document {number} of tenant {tenant} is not what its evidence makes")]
    Differs {
        /// The tenant.
        tenant: String,
        /// Number of the document.
        number: u64,
        /// The first difference.
        #[source]
        difference: Box<Difference>,
    },
}

/// Computes document `number` of a tenant again and compares it with the stored one. Blocking.
///
/// A document of the earlier form is checked by its SHA-256 alone, which the journal's chain holds.
///
/// # Errors
/// [`ProofError::Differs`] with the first difference; the others if it can't be computed.
pub fn prove<E: Evidence, C: Calls>(
    evidence: &E,
    calls: &C,
    tenant: &TenantId,
    number: u64,
) -> Result<Proved, ProofError> {
    let documents = evidence.invoices(tenant, u64::MAX)?;
    let stored = documents.iter().find(|stored| stored.number == number);
    let stored = stored
        .ok_or_else(|| EvidenceError::Missing(format!("document {number} of tenant {tenant}")))?;
    let bytes = evidence.document(stored.digest)?;
    if super::view::form(&bytes).is_some_and(|form| form < FORM) {
        let digest = stored.digest;
        return Ok(Proved {
            number,
            invoice: None,
            digest,
            calls: 0,
            facts: stored.fact,
            same_engine: true,
        });
    }
    let invoice = super::view::read(stored.digest, &bytes)?;
    let differs = |difference| ProofError::Differs {
        tenant: tenant.to_string(),
        number,
        difference: Box::new(difference),
    };
    let head = evidence.place(invoice.as_of.seq)?;
    if head.hash.to_string() != invoice.as_of.hash {
        let stated = invoice.as_of.hash.clone();
        return Err(differs(Difference::Place {
            seq: head.seq,
            stated,
            found: head.hash.to_string(),
        }));
    }
    // Also for components that are embedded in this program: the stored ones must be intact.
    for receipt in &invoice.receipts {
        evidence.component(receipt.component.parse()?)?;
    }
    let mut view = View::load(evidence, tenant, head)?;
    if invoice.receipts.iter().any(|receipt| receipt.tzdata != zones::edition()) {
        view.of_other_edition = Some(invoice.clone());
    }
    let named = |id: &InstanceId| Ok(name_in(&invoice, id));
    let again = Computer::new(evidence, calls, &named)
        .by(Components::of(&invoice))
        .again(&view, &invoice)?;
    let again = again.ok_or_else(|| {
        differs(Difference::Field {
            field: "period".into(),
            stated: format!("{} to {}", invoice.period.from, invoice.period.until),
            found: "no period of the tenant".into(),
        })
    })?;
    let same_engine = engines(&invoice) == engines(&again);
    let again =
        if same_engine { again } else { as_other_engine(again, &invoice, view.last_link.clone()) };
    match first_difference(&invoice, &again) {
        Some(difference) => Err(differs(difference)),
        // A JSON value can't hold amounts of 128 bits: the bytes decide.
        None if again.to_bytes() != bytes => Err(differs(Difference::Field {
            field: "text".into(),
            stated: stored.digest.to_string(),
            found: again.digest().to_string(),
        })),
        None => Ok(Proved {
            number,
            digest: stored.digest,
            calls: invoice.receipts.len(),
            facts: invoice.as_of.seq,
            same_engine,
            invoice: Some(invoice),
        }),
    }
}

/// The time that a line of a document covers: the intervals of its instance that its meter counts,
/// between its first and last instant. Blocking.
///
/// # Errors
/// [`ProofError`] if it can't be computed.
pub fn trace_line<E: Evidence, C: Calls>(
    evidence: &E,
    calls: &C,
    invoice: &Invoice,
    line: &Line,
) -> Result<Vec<TracedInterval>, ProofError> {
    let tenant: TenantId = invoice.tenant.parse()?;
    let head = evidence.place(invoice.as_of.seq)?;
    let view = View::load(evidence, &tenant, head)?;
    let named = |id: &InstanceId| Ok(name_in(invoice, id));
    Ok(Computer::new(evidence, calls, &named).trace(&view, invoice, line)?)
}

/// The name of an instance in a document; an altered one changes the hash of the input.
fn name_in(invoice: &Invoice, id: &InstanceId) -> Named {
    let place = invoice.instances.binary_search_by(|one| one.id.as_str().cmp(id.as_str()));
    match place {
        Ok(place) => invoice.instances[place].clone(),
        Err(_) => Named { id: id.to_string(), name: String::new(), tags: Vec::new() },
    }
}

fn engines(invoice: &Invoice) -> Vec<(&str, &str)> {
    invoice
        .receipts
        .iter()
        .map(|receipt| (receipt.engine.as_str(), receipt.tzdata.as_str()))
        .collect()
}

/// The document of another engine with the stated engine and fuel put in: these may differ,
/// everything else must agree.
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

/// The first receipt or field that differs; none without one. Fields are compared as JSON, so that
/// none can be forgotten.
fn first_difference(stated: &Invoice, found: &Invoice) -> Option<Difference> {
    let pairs = stated.receipts.iter().zip(&found.receipts).enumerate();
    let of_receipts = pairs
        .filter_map(|(number, (stated, found))| receipt_difference(number, stated, found))
        .next();
    of_receipts.or_else(|| field_difference(stated, found))
}

fn receipt_difference(number: usize, stated: &Receipt, found: &Receipt) -> Option<Difference> {
    let text = |facts: Option<(u64, u64)>| {
        facts.map_or_else(|| "none".into(), |(first, last)| format!("{first} to {last}"))
    };
    let other = |policy: &Option<String>| policy.clone().unwrap_or_else(|| "none".into());
    let span = |receipt: &Receipt| format!("{} to {}", receipt.from_ns, receipt.until_ns);
    let fields = [
        ("the call", stated.call.clone(), found.call.clone()),
        ("its time", span(stated), span(found)),
        ("the component", stated.component.clone(), found.component.clone()),
        (
            "the policy in whose place it ran",
            other(&stated.stands_in_for),
            other(&found.stands_in_for),
        ),
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

fn field_difference(stated: &Invoice, found: &Invoice) -> Option<Difference> {
    let value = |invoice: &Invoice| serde_json::to_value(invoice).unwrap_or_default();
    let mut path = String::new();
    first_in(&value(stated), &value(found), &mut path)
}

/// The first place, in the order of the document, at which two values differ.
fn first_in(
    stated: &serde_json::Value,
    found: &serde_json::Value,
    path: &mut String,
) -> Option<Difference> {
    use serde_json::Value;
    let here = path.len();
    match (stated, found) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                path.push_str(if here == 0 { "" } else { "." });
                path.push_str(name);
                let inside = first_in(value, other.get(name).unwrap_or(&Value::Null), path);
                if inside.is_some() {
                    return inside;
                }
                path.truncate(here);
            }
            None
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (place, (one, other)) in one.iter().zip(other).enumerate() {
                path.push_str(&format!("[{place}]"));
                let inside = first_in(one, other, path);
                if inside.is_some() {
                    return inside;
                }
                path.truncate(here);
            }
            None
        }
        (one, other) if one == other => None,
        (one, other) => {
            Some(Difference::Field { field: path.clone(), stated: short(one), found: short(other) })
        }
    }
}

/// A value in an error: the number of items of a list, or the beginning of the text.
fn short(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) => format!("a list of {}", items.len()),
        other => crate::id::clipped(&other.to_string()),
    }
}
