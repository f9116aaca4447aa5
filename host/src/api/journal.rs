//! `/journal`: the facts, as they were hashed.

use axum::Json;
use axum::extract::State as Extract;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::{Body, Params};
use super::error::ApiError;
use super::model::{
    ArchiveSegments, ArchivedSegments, JournalHead, PruneSegments, PrunedSegments, SealFacts,
    SealedFacts, Segment, SegmentCopy, SignedHeads, StayingSegment, Timestamp,
};
use super::rules::instant as parsed_instant;
use super::shared::Failures;
use super::time::parse_duration;
use super::{Shared, State, blocking};
use crate::id::InstanceId;
use crate::journal::wire::Kind;
use crate::journal::{Considered, FactQuery, Listed, Page};
use crate::limits::head::LISTED_MAX;
use crate::retention::Retention;
use crate::units::Instant;

/// The query parameters of a list of facts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JournalParams {
    /// Only facts with a greater sequence number than this; from the first if absent.
    #[serde(default)]
    after: u64,
    /// Most facts in the answer, 1 to 1,000; 1,000 if absent.
    limit: Option<usize>,
    /// Only facts of this instance: its id (also after its deletion), its name, or a unique prefix
    /// of the id.
    instance: Option<String>,
    /// Only facts of this kind.
    #[param(inline)]
    kind: Option<Kind>,
}

/// List facts
///
/// The facts of the tenant, or all facts for an operator who names none, ascending. For the next
/// page, send `next` as `after`; it is null on the last page.
#[utoipa::path(get, path = "/journal",
    tag = "journal", security(("bearer" = [])), params(JournalParams), responses(
    (status = 200, description = "A page of facts", body = Page),
    Failures,
))]
pub(super) async fn list_facts(
    Extract(state): Shared,
    caller: Caller,
    Params(params): Params<JournalParams>,
) -> Result<Json<Page>, ApiError> {
    let instance =
        params.instance.as_deref().map(|key| instance(&state, &caller, key)).transpose()?;
    let query = FactQuery {
        after: params.after,
        through: None,
        tenant: caller.scope().cloned(),
        instance,
        kind: params.kind,
        limit: params.limit,
    };
    let page = blocking(move || Ok(state.journal.facts(&query)?)).await?;
    Ok(Json(page))
}

/// The id of a key. A full id is taken as it is: its facts stay readable after its deletion.
pub(super) fn instance(state: &State, caller: &Caller, key: &str) -> Result<InstanceId, ApiError> {
    match state.fleet.find(&caller.tenant(), key) {
        Ok(view) => Ok(view.record.id.clone()),
        Err(crate::driver::FleetError::NotFound { .. }) => Ok(key.parse()?),
        Err(error) => Err(error.into()),
    }
}

/// Show the end of the journal
///
/// Noted elsewhere, it shows later if the end of the journal was cut off.
#[utoipa::path(get, path = "/journal/head", tag = "journal", security(("bearer" = [])), responses(
    (status = 200, description = "The last fact's sequence number and hash", body = JournalHead),
    Failures,
))]
pub(super) async fn get_journal_head(Extract(state): Shared) -> Json<JournalHead> {
    let head = state.journal.head();
    Json(JournalHead { seq: head.seq, hash: head.hash.to_string() })
}

/// The query parameters of a list of signed heads.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HeadsParams {
    /// Only heads that end after this fact; all if absent.
    #[serde(default)]
    after: u64,
}

/// List the signed ends of the journal
///
/// The end is signed every hour and at each close. Whoever has kept one proves later what the
/// journal was: `tallyman verify --head`. At most 1,000, in their order.
#[utoipa::path(get, path = "/journal/heads", tag = "journal", security(("bearer" = [])),
    params(HeadsParams), responses(
    (status = 200, description = "The host's public key, and what it has signed",
        body = SignedHeads),
    Failures,
))]
pub(super) async fn list_heads(
    Extract(state): Shared,
    Params(params): Params<HeadsParams>,
) -> Json<SignedHeads> {
    let heads = state.heads.after(params.after, LISTED_MAX);
    Json(SignedHeads { key: state.heads.key().to_string(), heads })
}

/// The segments, in the order of their facts
#[utoipa::path(get, path = "/journal/segments", tag = "journal", security(("bearer" = [])), responses(
    (status = 200, description = "Files of sealed facts", body = Vec<Segment>),
    Failures,
))]
pub(super) async fn list_segments(Extract(state): Shared) -> Result<Json<Vec<Segment>>, ApiError> {
    let listed = blocking(move || Ok(state.journal.segments()?)).await?;
    Ok(Json(listed.into_iter().map(Segment::from).collect()))
}

impl From<Listed> for Segment {
    fn from(one: Listed) -> Self {
        let copy = |(store, object)| SegmentCopy { store, object };
        Self {
            digest: one.digest,
            first: one.first,
            last: one.last,
            bytes: one.bytes,
            is_here: one.is_here,
            is_pruned: one.is_pruned,
            copies: one.copies.into_iter().map(copy).collect(),
        }
    }
}

/// Copies segments into the host's store
///
/// An object is created once and never changed, and a copy counts when it was read back and found
/// whole. One call copies some segments and says how many are left.
#[utoipa::path(post, path = "/journal/copies", tag = "journal", security(("bearer" = [])),
    request_body = ArchiveSegments, responses(
    (status = 200, description = "The copies that were made, or would be", body = ArchivedSegments),
    Failures,
))]
pub(super) async fn archive_segments(
    Extract(state): Shared,
    Body(asked): Body<ArchiveSegments>,
) -> Result<Json<ArchivedSegments>, ApiError> {
    let retention = state.retention.clone();
    let store = retention.address()?;
    if asked.dry_run {
        let left = blocking(move || Ok(retention.without_copy()?)).await?;
        return Ok(Json(ArchivedSegments { store, copied: Vec::new(), left }));
    }
    let made = retention.archive().await?;
    let copied = made.made.iter().map(|one| one.digest.to_string()).collect();
    Ok(Json(ArchivedSegments { store, copied, left: made.left }))
}

/// Seals old facts into segments
///
/// A segment is an immutable file that takes a small part of the room. Instances go on meanwhile,
/// and everything that was asked of the facts before is answered as before.
#[utoipa::path(post, path = "/journal/segments", tag = "journal", security(("bearer" = [])),
    request_body = SealFacts, responses(
    (status = 200, description = "What was sealed, or would be", body = SealedFacts),
    Failures,
))]
pub(super) async fn seal_facts(
    Extract(state): Shared,
    Body(asked): Body<SealFacts>,
) -> Result<Json<SealedFacts>, ApiError> {
    let age = asked.older_than.as_deref().map(parse_duration).transpose();
    let age = age.map_err(|error| ApiError::invalid(error.to_string()))?;
    let now = state.fleet.now();
    let before = age.map(|age| {
        Instant(now.0.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)))
    });
    if asked.dry_run {
        let facts = blocking(move || Ok(state.journal.sealable(before)?)).await?;
        return Ok(Json(SealedFacts { facts, segments: Vec::new() }));
    }
    let made = state.journal.seal(before).await?;
    let segments: Vec<_> = made.into_iter().map(sealed).collect();
    let facts = segments.iter().map(|one| one.last - one.first + 1).sum();
    Ok(Json(SealedFacts { facts, segments }))
}

/// A segment that was made just now.
fn sealed(one: crate::journal::Segment) -> Segment {
    Segment {
        digest: one.digest.to_string(),
        first: one.first,
        last: one.last,
        bytes: one.bytes,
        is_here: true,
        is_pruned: false,
        copies: Vec::new(),
    }
}

/// Removes segments from the data folder whose copies are enough
///
/// A segment leaves if its copy in the host's store is read and found whole once more, no open
/// period and no document that would differ now needs it, and it is not the last one. What needs it
/// later reads the copy.
#[utoipa::path(post, path = "/journal/prune", tag = "journal", security(("bearer" = [])),
    request_body = PruneSegments, responses(
    (status = 200, description = "The segments that have left, or would", body = PrunedSegments),
    Failures,
))]
pub(super) async fn prune_segments(
    Extract(state): Shared,
    caller: Caller,
    Body(asked): Body<PruneSegments>,
) -> Result<Json<PrunedSegments>, ApiError> {
    let before = parsed_instant(&state, "before", &asked.before)?;
    let retention = state.retention.clone();
    let store = retention.address()?;
    if asked.dry_run {
        return blocking(move || Ok(Json(would_leave(&retention, store, before)?))).await;
    }
    let done = retention.prune(before, caller.actor()).await?;
    Ok(Json(PrunedSegments {
        store,
        bytes: done.pruned.iter().map(|one| one.bytes).sum(),
        pruned: done.pruned.iter().map(|one| one.digest.to_string()).collect(),
        stay: done.stay.into_iter().map(|(segment, reason)| staying(&segment, reason)).collect(),
        left: done.left,
        correctable_until: None,
    }))
}

fn would_leave(
    retention: &Retention,
    store: String,
    before: Instant,
) -> Result<PrunedSegments, ApiError> {
    let mut answer = PrunedSegments {
        store,
        pruned: Vec::new(),
        bytes: 0,
        stay: Vec::new(),
        left: 0,
        correctable_until: None,
    };
    let keeps_ns = retention.keeps().map(|keeps| i64::try_from(keeps.as_nanos()));
    let keeps_ns = keeps_ns.map(|keeps| keeps.unwrap_or(i64::MAX));
    for Considered { segment, stays, archived_ns } in retention.prunable(before)? {
        if let Some(reason) = stays {
            answer.stay.push(staying(&segment, reason));
            continue;
        }
        let until =
            archived_ns.zip(keeps_ns).map(|(at, keeps)| Timestamp(at.saturating_add(keeps)));
        answer.correctable_until = answer.correctable_until.into_iter().chain(until).min();
        answer.pruned.push(segment.digest.to_string());
        answer.bytes += segment.bytes;
        answer.left += 1;
    }
    Ok(answer)
}

fn staying(segment: &crate::journal::Segment, reason: String) -> StayingSegment {
    let digest = segment.digest.to_string();
    StayingSegment { digest, first: segment.first, last: segment.last, reason }
}
