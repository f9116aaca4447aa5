//! The mapping from errors to answers, for all routes.
//!
//! A caller's mistake is a 4xx whose message says what would be valid; a failure that may be
//! retried has `Retry-After`; a defect of the daemon is a 500 without internal details, which go to
//! the log.

use std::error::Error;

use axum::Json;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::causes::in_words;
use crate::driver::FleetError;
use crate::guest::GuestError;
use crate::id::{IdError, TenantId};
use crate::image::ImageError;
use crate::journal::wire::Command;
use crate::journal::{ArchiveError, CommitError, ReadError, SealError};
use crate::limits;
use crate::policy::AdmissionError;
use crate::pull::PullError;
use crate::retention::RetentionError;
use crate::rollout::RolloutError;
use crate::tenancy::{Exceeded, TenancyError, TooFast};
use crate::tenant::{Limit, Role};
use crate::vm::{self, Refusal};

/// The header by which client libraries decide on sending the same request again.
const SHOULD_RETRY: &str = "x-should-retry";

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// Stable code for programs: lower-case words joined by underscores, such as `invalid_state`.
    pub code: String,
    /// Description of the problem, for people.
    pub message: String,
    /// Advice on a valid request or a next step, for people; absent if the message says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The commands that are legal now; with the code `invalid_state` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal: Option<Vec<Command>>,
}

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    retry_after_s: Option<u32>,
    body: Box<ErrorBody>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body =
            ErrorBody { code: code.into(), message: message.into(), hint: None, legal: None };
        Self { status, retry_after_s: None, body: Box::new(body) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The body of the answer.
    pub fn into_body(self) -> ErrorBody {
        *self.body
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(super) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// A store of copies that does not answer, or not as it should.
    fn away(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(60)
    }

    /// A wish that nothing here can fulfil.
    pub(super) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn unauthorized(problem: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", problem).hint(
            "send `Authorization: Bearer <token>`; the operator's token is in the file `token` \
             of the daemon's data folder, `tallyman token create` makes others",
        )
    }

    /// A valid token whose role may not use the route.
    pub(super) fn forbidden(
        role: Role,
        allowed: impl Iterator<Item = Role>,
        delegable: bool,
    ) -> Self {
        let allowed = allowed.map(Role::as_str).collect::<Vec<_>>().join(", ");
        let allowed = if allowed.is_empty() { Role::Operator.as_str().to_owned() } else { allowed };
        let message = format!("a token with the role {role} may not use this route");
        let hint = match delegable && role == Role::TenantAdmin {
            true => format!(
                "it takes one of these roles: {allowed}; an operator may let the tenant's admins \
                 do it, too, with PUT /tenants/{{id}}/billing"
            ),
            false => format!("it takes one of these roles: {allowed}"),
        };
        Self::new(StatusCode::FORBIDDEN, "forbidden", message).hint(hint)
    }

    /// A request that only an operator may make with these values.
    pub(super) fn operators_alone(what: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", what)
            .hint(format!("it takes the role {}", Role::Operator))
    }

    /// A tenant that does not exist, or that the caller may not use: the answer is the same.
    pub(super) fn no_such_tenant(id: &TenantId, theirs: Option<&TenantId>) -> Self {
        let error = Self::not_found("no_such_tenant", format!("there is no tenant '{id}'"));
        match theirs {
            Some(theirs) => error.hint(format!("this token is for '{theirs}'")),
            None => error.hint("GET /tenants lists them"),
        }
    }

    pub(super) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the daemon is stopping; try again when it is back",
        )
        .retry_after(2)
    }

    /// An image that an instance needs and that is not there yet.
    pub(super) fn still_pulling(reference: &str) -> Self {
        let message = format!(
            "the image {reference} is still being pulled; GET /images/{{name}} tells how far it is"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "image_pulling", message).retry_after(10)
    }

    /// Exhaustion of a resource that the host has a fixed number of.
    pub(super) fn exhausted(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "exhausted", message).retry_after(5)
    }

    /// A policy that was activated and fails its probe.
    pub(super) fn probe_failed(problem: &str) -> Self {
        tracing::error!(problem, "a probe failed");
        Self::new(StatusCode::BAD_GATEWAY, "probe_failed", problem)
            .hint("POST /tenants/{id}/policy/rollback puts the policy before it in force again")
    }

    /// A defect of the daemon, or a failure that the client can do nothing about.
    pub(super) fn bug(error: &dyn Error) -> Self {
        tracing::error!(error = in_words(error), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an internal error; the daemon's log has the details",
        )
    }

    /// A body or query string that can't be parsed; `error` is the parser's message.
    pub(super) fn unreadable(what: &str, error: &str) -> Self {
        let error = error.strip_prefix("Failed to deserialize query string: ").unwrap_or(error);
        // The message about a query begins with the place of the error.
        let error = error
            .split_once(": ")
            .map_or(error, |(_, told)| if is_unknown_field(told) { told } else { error });
        match is_unknown_field(error) {
            true => {
                let error = error
                    .replacen("unknown field", &format!("unknown {what}"), 1)
                    .replace("expected one of", "known are");
                Self::new(StatusCode::BAD_REQUEST, "unknown_field", error)
            }
            false => Self::invalid(error),
        }
    }

    /// A body that did not arrive in time.
    pub(super) fn slow_body() -> Self {
        let within = limits::api::BODY_READ_MS / 1_000;
        let message = format!(
            "the body of the request did not arrive within {within} s; send it again without pauses"
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
    }

    /// A tenant at its limit of concurrent requests, uploads or followers.
    pub(super) fn too_many_at_once(what: &str, most: usize) -> Self {
        let message = format!(
            "{most} {what} of this tenant are under way, which is the limit; end one first"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_at_once", message).retry_after(1)
    }

    /// A body that did not arrive whole.
    pub(super) fn body(status: StatusCode, text: &str) -> Self {
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let max = limits::api::BODY_BYTES_MAX;
            return Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body is too large; a request may have at most {max} bytes"),
            );
        }
        Self::new(StatusCode::BAD_REQUEST, "invalid", format!("the body could not be read: {text}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&*self.body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // Client libraries repeat conflicts and failures unless they are told not to.
        let repeat = if self.retry_after_s.is_some() { "true" } else { "false" };
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(repeat));
        response
    }
}

/// The answer where no route has the path.
pub(super) async fn no_route(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found("no_such_route", format!("there is no route {method} {}", uri.path()))
        .hint("GET /openapi.json lists all routes")
}

/// The answer where the path takes other methods only.
pub(super) async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        .hint("GET /openapi.json lists all routes")
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::conflict("invalid_state", refusal.to_string());
        error.body.legal = Some(vm::legal(refusal.state).map(Command::from).collect());
        error
    }
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        let message = error.to_string();
        match error {
            FleetError::NotFound { .. } => Self::not_found("not_found", message).hint(
                "GET /instances lists them; GET /instances/{id}?deleted=true finds a deleted one \
                 by its full id",
            ),
            FleetError::Ambiguous { .. } => Self::conflict("ambiguous", message),
            FleetError::Refused(refusal) => refusal.into(),
            FleetError::NameInUse(_) => Self::conflict("name_in_use", message),
            FleetError::NoSuchSnapshot { .. } => Self::not_found("no_such_snapshot", message),
            FleetError::SnapshotExists(_) => Self::conflict("name_in_use", message),
            FleetError::TooManySnapshots => Self::conflict("too_many_snapshots", message),
            FleetError::NoMemory => Self::conflict("no_memory", message),
            FleetError::DiskInUse(_) => Self::conflict("disk_in_use", message),
            FleetError::OverLimit { tenant, limit, wanted, most } => {
                Exceeded { tenant, limit, wanted, most }.into()
            }
            FleetError::HostFull(_) => Self::conflict("insufficient_resources", message)
                .hint("stop instances or put them into standby, or ask for less"),
            FleetError::TooFast { tenant, limit, most, retry_after_s } => {
                TooFast { tenant, limit, most, retry_after_s }.into()
            }
            FleetError::Interrupted => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "interrupted", message).retry_after(1)
            }
            FleetError::Unfinished(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unfinished", message).retry_after(5)
            }
            FleetError::NotRunning { .. } => Self::conflict("invalid_state", message),
            FleetError::NoAgent => Self::conflict("no_agent", message)
                .hint("`tallyman image build debian-busybox` makes an image that has one"),
            FleetError::NoMachine => Self::conflict("no_machine", message),
            FleetError::MachineEnded => Self::conflict("machine_ended", message),
            FleetError::StillEnding => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "still_ending", message).retry_after(5)
            }
            FleetError::SourceRuns => Self::conflict("source_runs", message),
            FleetError::Unsupported(_) => Self::conflict("unsupported", message),
            FleetError::Files(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "files_failed", message)
            }
            FleetError::NoSuchImage { .. } => Self::not_found("no_such_image", message)
                .hint("`tallyman image build debian-busybox` makes one; POST /images imports one"),
            FleetError::NoSuchHypervisor { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "no_such_hypervisor", message)
            }
            FleetError::Invalid { .. } => Self::invalid(message),
            FleetError::Id(error) => error.into(),
            FleetError::Busy(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message).retry_after(1)
            }
            FleetError::NoAddress(_) => Self::conflict("no_address", message),
            FleetError::TooMany(_) => Self::conflict("too_many_instances", message),
            FleetError::NoSpace => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", message),
            FleetError::DiskLow(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_low", message)
            }
            FleetError::Unrecorded => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "unrecorded", message)
            }
            FleetError::Network(_) | FleetError::Hypervisor(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "hypervisor_failed", message)
            }
            FleetError::Ended { .. } => Self::conflict("ended", message),
            FleetError::WaitTimedOut { .. } => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "timed_out", message)
            }
            FleetError::Stopping => Self::stopping(),
            FleetError::Bug(details) => Self::bug(&std::io::Error::other(details)),
        }
    }
}

impl From<GuestError> for ApiError {
    fn from(error: GuestError) -> Self {
        let message = error.to_string();
        match error {
            GuestError::Silent(_) => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "agent_silent", message)
            }
            GuestError::Refused { .. } => Self::conflict("guest_refused", message),
            GuestError::Cut(_) => Self::conflict("session_cut", message),
            GuestError::Version { .. } | GuestError::Protocol(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "agent_failed", message)
            }
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NoSpace(_) => FleetError::NoSpace.into(),
            CommitError::Failed { .. } => Self::stopping(),
            CommitError::NameInUse { .. } => Self::conflict("name_in_use", error.to_string()),
            CommitError::NumberInUse { .. } => Self::conflict("number_in_use", error.to_string()),
            CommitError::NotPlanned { .. } => Self::conflict("not_planned", error.to_string()),
            CommitError::Repeated { same: false, .. } => {
                let message = "this Idempotency-Key was used for another request";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message).hint(
                    "use a new key for each request, and the same key only to repeat the request",
                )
            }
            CommitError::IdInUse(_)
            | CommitError::NoSuchRow(_)
            | CommitError::AfterDeletion
            | CommitError::Repeated { same: true, .. } => Self::bug(&error),
        }
    }
}

impl From<Exceeded> for ApiError {
    fn from(error: Exceeded) -> Self {
        let hint =
            format!("free some of it, or have an operator raise the limit `{}`", error.limit);
        Self::new(StatusCode::FORBIDDEN, "quota_exceeded", error.to_string()).hint(hint)
    }
}

impl From<TooFast> for ApiError {
    fn from(error: TooFast) -> Self {
        let hint = format!(
            "try again in {} s, or have an operator raise the limit `{}`",
            error.retry_after_s, error.limit
        );
        let too_fast = |code| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, code, error.to_string())
                .hint(hint)
                .retry_after(error.retry_after_s)
        };
        match error.limit {
            Limit::FuelPerMinute => too_fast("fuel_exhausted"),
            Limit::LaunchesPerMinute => too_fast("too_many_launches"),
            Limit::EventsPerMinute => too_fast("too_many_events"),
            Limit::RequestsPerS
            | Limit::Instances
            | Limit::Vcpus
            | Limit::MemoryBytes
            | Limit::DiskBytes
            | Limit::StoredBytes
            | Limit::Policies => too_fast("too_many_requests"),
        }
    }
}

impl From<TenancyError> for ApiError {
    fn from(error: TenancyError) -> Self {
        let message = error.to_string();
        match error {
            TenancyError::Exists(_) => Self::conflict("tenant_exists", message),
            TenancyError::Reserved => Self::new(StatusCode::BAD_REQUEST, "reserved", message),
            TenancyError::TooManyTenants => Self::conflict("too_many_tenants", message),
            TenancyError::NoSuchTenant(_) => {
                Self::not_found("no_such_tenant", message).hint("GET /tenants lists them")
            }
            TenancyError::NoSuchToken(_) => {
                Self::not_found("no_such_token", message).hint("GET /tokens lists them")
            }
            TenancyError::Ambiguous { .. } => Self::conflict("ambiguous", message),
            TenancyError::TooManyTokens { .. } => {
                Self::new(StatusCode::FORBIDDEN, "quota_exceeded", message)
                    .hint("DELETE /tokens/{id} revokes one")
            }
            TenancyError::PolicyNameInUse(_) => Self::conflict("name_in_use", message)
                .hint("GET /policies lists the tenant's policies with their names"),
            TenancyError::Exceeded(error) => error.into(),
            TenancyError::Commit(error) => error.into(),
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Commit(error) => error.into(),
            SealError::Journal(error) => error.into(),
            SealError::File(ref source) if source.kind() == std::io::ErrorKind::StorageFull => {
                FleetError::NoSpace.into()
            }
            SealError::File(_)
            | SealError::Parquet(_)
            | SealError::Broken
            | SealError::NotTheSame => Self::bug(&error),
        }
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        let message = in_words(&error);
        match error {
            ArchiveError::Commit(error) => error.into(),
            ArchiveError::Journal(error) => error.into(),
            ArchiveError::Store { .. } | ArchiveError::Lost { .. } => {
                Self::away("archive_failed", message)
            }
            ArchiveError::Other { .. } => Self::conflict("other_object", message),
            ArchiveError::OtherJournal { .. } => Self::conflict("other_journal", message),
            ArchiveError::File { .. } | ArchiveError::Manifest(_) | ArchiveError::Broken => {
                Self::bug(&error)
            }
        }
    }
}

impl From<RetentionError> for ApiError {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::NoArchive => Self::conflict("no_archive", error.to_string()),
            RetentionError::Seal(error) => error.into(),
            RetentionError::Archive(error) => error.into(),
            RetentionError::Journal(error) => error.into(),
            RetentionError::Bills(error) => error.into(),
            RetentionError::Broken => Self::bug(&error),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(_) | ReadError::Damaged(_) => Self::bug(&error),
            ReadError::Elsewhere { .. } => Self::away("segment_elsewhere", in_words(&error)).hint(
                "GET /journal/segments says where copies are; `tallyman journal restore --pruned` \
                 puts files back",
            ),
        }
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        let message = in_words(&error);
        match error {
            ImageError::Unknown { .. } | ImageError::UnknownReference(_) => {
                Self::not_found("no_such_image", message)
            }
            ImageError::Reference(_) | ImageError::Name { .. } => Self::invalid(message),
            ImageError::NameInUse { .. } => Self::conflict("name_in_use", message),
            ImageError::Setting { .. }
            | ImageError::NotAFile { .. }
            | ImageError::Source { .. } => Self::invalid(message),
            ImageError::Oci(_) => Self::new(StatusCode::BAD_REQUEST, "bad_image", message),
            ImageError::NotAKernel { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "not_a_kernel", message)
            }
            ImageError::Damaged { .. } | ImageError::Manifest { .. } => {
                Self::conflict("damaged_image", message)
            }
            ImageError::Store { ref source, .. }
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", message)
            }
            ImageError::Store { .. } => Self::bug(&error),
        }
    }
}

impl From<&PullError> for ApiError {
    fn from(error: &PullError) -> Self {
        let message = in_words(error);
        match error {
            PullError::NotFound(_) => Self::not_found("no_such_image", message),
            PullError::Denied { .. } => {
                Self::new(StatusCode::FORBIDDEN, "registry_denied", message)
            }
            PullError::Throttled(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "registry_throttled", message)
                    .retry_after(30)
            }
            PullError::Away { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "registry_away", message).retry_after(5)
            }
            PullError::Registry { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "registry_failed", message)
            }
            PullError::TooLarge { .. } | PullError::Image(_) => {
                Self::new(StatusCode::BAD_REQUEST, "bad_image", message)
            }
            PullError::Full(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_at_once", message).retry_after(5)
            }
            PullError::Disk(source) | PullError::Store(ImageError::Store { source, .. })
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", message)
            }
            PullError::Store(ImageError::Unknown { .. }) => {
                Self::not_found("no_such_image", message)
            }
            PullError::Store(ImageError::Oci(_)) => {
                Self::new(StatusCode::BAD_REQUEST, "bad_image", message)
            }
            PullError::Disk(_) | PullError::Store(_) => Self::bug(error),
            PullError::Interrupted => Self::stopping(),
        }
    }
}

impl From<PullError> for ApiError {
    fn from(error: PullError) -> Self {
        Self::from(&error)
    }
}

impl From<RolloutError> for ApiError {
    fn from(error: RolloutError) -> Self {
        let message = error.to_string();
        match error {
            RolloutError::NoSuchPolicy(_) => {
                Self::not_found("no_such_policy", message).hint("GET /policies lists them")
            }
            RolloutError::Ambiguous { .. } => Self::conflict("ambiguous", message),
            RolloutError::Known { .. } => Self::conflict("already_admitted", message),
            RolloutError::NotAdmitted { .. } => Self::conflict("not_admitted", message),
            RolloutError::Quarantined(_) => Self::conflict("quarantined", message).hint(AGAIN),
            RolloutError::OlderPolicy(_) => Self::conflict("older_policy", message).hint(AGAIN),
            RolloutError::Past => Self::invalid(message).hint("leave `at` out to mean now"),
            RolloutError::Unbillable(error) => (*error).into(),
            RolloutError::NothingToRollBack => Self::conflict("nothing_to_roll_back", message),
            RolloutError::InForce(_) => Self::conflict("in_force", message),
            RolloutError::NoSuchTrial { .. } => Self::not_found("no_such_shadow", message)
                .hint("GET /tenants/{id}/policy shows the standing of each policy"),
            RolloutError::NotTried { .. } => Self::conflict("not_tried", message)
                .hint("POST /tenants/{id}/shadows begins a trial"),
            RolloutError::Gate(exceeded) => Self::conflict("gate", message).hint(format!(
                "the policy was not activated; GET /tenants/{{id}}/shadows/{{digest}} shows where \
                 it differs, and `{}` of {} or more lets it pass",
                exceeded.gate, exceeded.needed
            )),
            RolloutError::TwoCurrencies { .. } => Self::conflict("two_currencies", message)
                .hint("`max_tenant` is a bound for each tenant alone"),
            RolloutError::Unanswered { .. } | RolloutError::Probe { .. } => {
                Self::probe_failed(&message)
            }
            RolloutError::Admission(error) => error.into(),
            RolloutError::Exceeded(error) => error.into(),
            RolloutError::Tenancy(error) => error.into(),
            RolloutError::Invoice(error) => error.into(),
            RolloutError::Commit(error) => error.into(),
            RolloutError::Read(error) => error.into(),
            RolloutError::Panicked(_) => Self::bug(&error),
        }
    }
}

/// The hint for the activation of a policy that was in force before, or was quarantined.
const AGAIN: &str = "send `again: true` (`--again`) to activate it nevertheless; a rollback goes \
                     back one step without it";

impl From<AdmissionError> for ApiError {
    fn from(error: AdmissionError) -> Self {
        let message = error.in_words();
        let refused = |code| Self::new(StatusCode::BAD_REQUEST, code, message.clone());
        match error {
            AdmissionError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message.clone())
            }
            AdmissionError::NotAComponent => refused("not_a_component"),
            AdmissionError::CoreModule => refused("core_module"),
            AdmissionError::Malformed { .. } => refused("malformed"),
            AdmissionError::TooManyFunctions { .. } => refused("too_many_functions"),
            AdmissionError::CustomSection { .. } => refused("custom_section"),
            AdmissionError::LargeAccounts => refused("large_accounts"),
            AdmissionError::Imports { .. } => refused("imports"),
            AdmissionError::WrongVersion { .. } => refused("wrong_version"),
            AdmissionError::WrongWorld { .. } => refused("wrong_world"),
            AdmissionError::MissingExport { .. } => refused("missing_export"),
            AdmissionError::WrongTypes { .. } => refused("wrong_types"),
            AdmissionError::Rounds => refused("rounds"),
            AdmissionError::Compile { .. } => refused("compile"),
            AdmissionError::SelfTest(_) => refused("self_test"),
            AdmissionError::Digest { .. } => refused("digest"),
        }
    }
}

fn is_unknown_field(error: &str) -> bool {
    error.starts_with("unknown field")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskLow;
    use crate::driver::{self, Full};
    use crate::policy::Profile;
    use crate::vm::State;

    fn fleet_errors() -> Vec<(FleetError, u16, &'static str)> {
        vec![
            (FleetError::NotFound { key: "a".into() }, 404, "not_found"),
            (FleetError::Ambiguous { key: "a".into(), count: 2 }, 409, "ambiguous"),
            (FleetError::NameInUse("a".parse().expect("a name")), 409, "name_in_use"),
            (
                FleetError::NoSuchSnapshot {
                    name: "a".parse().expect("a name"),
                    known: "b".into(),
                },
                404,
                "no_such_snapshot",
            ),
            (FleetError::SnapshotExists("a".parse().expect("a name")), 409, "name_in_use"),
            (FleetError::TooManySnapshots, 409, "too_many_snapshots"),
            (FleetError::NoMemory, 409, "no_memory"),
            (FleetError::DiskInUse("/a".into()), 409, "disk_in_use"),
            (
                FleetError::OverLimit {
                    tenant: "a".parse().expect("a tenant"),
                    limit: Limit::MemoryBytes,
                    wanted: 2,
                    most: 1,
                },
                403,
                "quota_exceeded",
            ),
            (
                FleetError::HostFull(Full {
                    resource: driver::Resource::Memory,
                    needed: 2,
                    free: driver::Claim { memory_bytes: 1, ..driver::Claim::default() },
                }),
                409,
                "insufficient_resources",
            ),
            (FleetError::Interrupted, 503, "interrupted"),
            (FleetError::Unfinished(Box::new(FleetError::NoMemory)), 503, "unfinished"),
            (FleetError::NotRunning { state: "Paused" }, 409, "invalid_state"),
            (FleetError::NoAgent, 409, "no_agent"),
            (FleetError::NoMachine, 409, "no_machine"),
            (FleetError::MachineEnded, 409, "machine_ended"),
            (FleetError::StillEnding, 503, "still_ending"),
            (FleetError::SourceRuns, 409, "source_runs"),
            (FleetError::Unsupported("it can't".into()), 409, "unsupported"),
            (FleetError::Files("can't copy".into()), 500, "files_failed"),
            (FleetError::NoSuchImage { name: "a".into(), known: "b".into() }, 404, "no_such_image"),
            (
                FleetError::NoSuchHypervisor { name: "a".into(), known: "b".into() },
                400,
                "no_such_hypervisor",
            ),
            (FleetError::Invalid { field: "vcpus", problem: "too many".into() }, 400, "invalid"),
            (FleetError::Id(IdError::Digest { text: "x".into() }), 400, "invalid"),
            (FleetError::Busy(8), 429, "busy"),
            (FleetError::TooMany(1), 409, "too_many_instances"),
            (FleetError::NoSpace, 507, "no_space"),
            (
                FleetError::DiskLow(DiskLow { free_bytes: 1, needed_bytes: 2, kept_bytes: 3 }),
                507,
                "disk_low",
            ),
            (FleetError::Unrecorded, 507, "unrecorded"),
            (FleetError::Hypervisor("it said no".into()), 502, "hypervisor_failed"),
            (FleetError::Ended { wanted: "running".into(), cause: "guest".into() }, 409, "ended"),
            (
                FleetError::WaitTimedOut { wanted: "running".into(), seconds: 1, state: "Created" },
                408,
                "timed_out",
            ),
            (FleetError::Stopping, 503, "stopping"),
            (FleetError::Bug("secret".into()), 500, "internal"),
        ]
    }

    #[test]
    fn every_failure_of_the_fleet_has_its_status_and_code() {
        for (error, status, code) in fleet_errors() {
            let text = error.to_string();
            let answer = ApiError::from(error);
            assert_eq!((answer.status(), answer.body.code.as_str()), (status, code), "{text}");
            assert_eq!(answer.body.message, text);
        }
    }

    #[test]
    fn a_refused_transition_says_what_is_legal() {
        for state in State::ALL {
            for command in vm::Command::ALL {
                let vm::Decision::Deny(refusal) = vm::decide(state, command) else { continue };
                let answer = ApiError::from(FleetError::Refused(refusal));
                let legal: Vec<Command> = vm::legal(state).map(Command::from).collect();
                assert_eq!((answer.status(), answer.body.code.as_str()), (409, "invalid_state"));
                assert_eq!(answer.body.legal, Some(legal), "{state:?} {command}");
            }
        }
    }

    #[test]
    fn a_defect_of_ours_tells_nothing_of_our_insides() {
        let answer = ApiError::from(FleetError::Bug("secret".into()));
        let text = serde_json::to_string(&answer.body).expect("json");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        for error in [FleetError::Busy(8), FleetError::Stopping] {
            let response = ApiError::from(error).into_response();
            let seconds =
                response.headers().get(RETRY_AFTER).expect("a header").to_str().expect("text");
            assert!(seconds.parse::<u32>().expect("a number") > 0);
            assert_eq!(response.headers()[SHOULD_RETRY], "true");
        }
        for error in [FleetError::NoMemory, FleetError::NoSpace, FleetError::Bug("x".into())] {
            let response = ApiError::from(error).into_response();
            assert_eq!(response.headers()[SHOULD_RETRY], "false");
        }
    }

    #[test]
    fn a_policy_that_is_too_large_is_413_with_the_limit() {
        let answer = ApiError::from(AdmissionError::TooLarge {
            bytes: 9_999_999,
            profile: Profile::Compact,
        });
        assert_eq!(answer.status(), 413);
        assert!(answer.body.message.contains(&limits::policy::COMPONENT_BYTES_MAX.to_string()));
    }
}
