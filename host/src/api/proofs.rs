//! `/tenants/{id}/invoices/{number}/proof`: a document is made again from the facts, and compared.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::error::ApiError;
use super::model::{DocumentProof, LineTime};
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::id::TenantId;
use crate::invoice::{
    Engines, Evidence, EvidenceError, Invoice, ProofError, Proved, prove, trace_line,
};
use crate::policy::{Backend, ENGINE, PolicyHost};

/// Prove a document
///
/// Every call that made it is made again from the facts, on the processor and on the engine's
/// interpreter, and what comes out is compared byte for byte. Nothing is stored. One proof of a
/// tenant is made at a time.
#[utoipa::path(post, path = "/tenants/{id}/invoices/{number}/proof", tag = "invoices",
    security(("bearer" = [])), responses(
    (status = 200, description = "Whether it is proved, and by what", body = DocumentProof),
    Failures,
))]
pub(super) async fn prove_document(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
) -> Result<Json<DocumentProof>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    caller.check_fuel(&state)?;
    let seat = state.proofs.take(&tenant);
    let seat = seat.ok_or_else(|| ApiError::too_many_at_once("proofs", state.proofs.most()))?;
    let work = move || {
        let _seat = seat;
        Ok(Json(proof(&state, &tenant, number)?))
    };
    blocking(work).await
}

fn proof(state: &State, tenant: &TenantId, number: u64) -> Result<DocumentProof, ApiError> {
    let evidence = state.journal.archive();
    let stored = evidence.invoices(tenant, u64::MAX)?;
    let digest = stored.iter().find(|stored| stored.number == number).map(|stored| stored.digest);
    let native = Engines::new(&evidence, state.rollout.policies());
    let mut proof = match prove(&evidence, &native, tenant, number) {
        Ok(proved) => present(&proved),
        Err(error) => return refuted(number, digest.map(|one| one.to_string()), error),
    };
    if proof.earlier_form {
        return Ok(proof);
    }
    let folder = tempfile::tempdir().map_err(|error| ApiError::bug(&error))?;
    let interpreter = PolicyHost::open_with(&folder.path().join("cache"), Backend::Interpreter);
    let interpreter = interpreter.map_err(|error| ApiError::bug(&error))?;
    match prove(&evidence, &Engines::new(&evidence, &interpreter), tenant, number) {
        Ok(proved) => {
            let fuel = proved.invoice.as_ref().map_or(0, Invoice::fuel);
            state.accounting.charge(tenant, fuel.saturating_mul(2));
            proof.witnesses.push(format!("{ENGINE}, interpreted"));
            Ok(proof)
        }
        Err(error) => refuted(number, Some(proof.digest), error),
    }
}

fn present(proved: &Proved) -> DocumentProof {
    DocumentProof {
        number: proved.number,
        digest: proved.digest.to_string(),
        proved: true,
        difference: None,
        witnesses: vec![ENGINE.to_owned()],
        calls: proved.calls as u64,
        facts: proved.facts,
        earlier_form: proved.invoice.is_none(),
    }
}

/// A document that differs is an answer, not a failure to answer.
fn refuted(
    number: u64,
    digest: Option<String>,
    error: ProofError,
) -> Result<DocumentProof, ApiError> {
    let difference = match (&error, &digest) {
        (ProofError::Differs { difference, .. }, _) => difference.to_string(),
        (ProofError::Evidence(EvidenceError::Altered(_)), Some(_)) => error.to_string(),
        (_, _) => return Err(error.into()),
    };
    Ok(DocumentProof {
        number,
        digest: digest.unwrap_or_default(),
        proved: false,
        difference: Some(difference),
        witnesses: Vec::new(),
        calls: 0,
        facts: 0,
        earlier_form: false,
    })
}

/// Show the time that a line covers
///
/// The intervals that the line's meter counts, between its first and its last instant.
#[utoipa::path(get, path = "/tenants/{id}/invoices/{number}/lines/{line}", tag = "invoices",
    security(("bearer" = [])),
    params(("line" = u64, Path, description = "The line's number in the document, from 1")), responses(
    (status = 200, description = "The line and its time", body = LineTime),
    Failures,
))]
pub(super) async fn trace_document_line(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number, line)): Path<(String, u64, u64)>,
) -> Result<Json<LineTime>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    caller.check_fuel(&state)?;
    blocking(move || Ok(Json(traced(&state, &tenant, number, line)?))).await
}

fn traced(
    state: &State,
    tenant: &TenantId,
    number: u64,
    wanted: u64,
) -> Result<LineTime, ApiError> {
    let evidence = state.journal.archive();
    let invoice = super::invoices::read(&evidence, tenant, number)?;
    let line = invoice.lines.iter().find(|line| line.number == wanted);
    let line = line.ok_or_else(|| {
        let last = invoice.lines.len();
        let message = format!("document {number} has no line {wanted}; it has 1 to {last}");
        ApiError::not_found("no_such_line", message)
    })?;
    let engines = Engines::new(&evidence, state.rollout.policies());
    let time = trace_line(&evidence, &engines, &invoice, line)?;
    Ok(LineTime { line: line.clone(), time: time.into_iter().map(Into::into).collect() })
}

impl From<ProofError> for ApiError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Evidence(error) => error.into(),
            ProofError::Rating(error) => error.into(),
            ProofError::Name(_) | ProofError::Differs { .. } => Self::bug(&error),
        }
    }
}
