//! The error of an operation on policies.

use crate::id::{Digest, PolicyName, TenantId};
use crate::invoice::{ChangeError, InvoiceError};
use crate::journal::{CommitError, ReadError};
use crate::policy::AdmissionError;
use crate::policy::accounting::ProbeError;
use crate::tenancy::{Exceeded, TenancyError};
use crate::tenant::Standing;

/// The error of an operation on policies. Nothing was recorded, except with the two of a probe.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// No such policy is admitted, or the caller may not see it.
    #[error("no policy {0} is admitted; upload it first")]
    NoSuchPolicy(String),
    /// The key is a prefix of several digests.
    #[error("'{key}' is the beginning of {count} digests; give more digits")]
    Ambiguous {
        /// The key, cut to 80 characters.
        key: String,
        /// Number of digests with this prefix, 2 or more.
        count: usize,
    },
    /// The policy was uploaded before under another name, or without one.
    #[error(
        "policy {digest} was admitted before, {}; a name is given at the first upload",
        called(has.as_ref())
    )]
    Known {
        /// The policy.
        digest: Digest,
        /// The policy's name; none without one.
        has: Option<PolicyName>,
    },
    /// The policy is not examined yet, or was refused.
    #[error("policy {digest} is {standing}, not admitted")]
    NotAdmitted {
        /// The policy.
        digest: Digest,
        /// The policy's standing.
        standing: Standing,
    },
    /// The policy failed too often, and the request does not permit a quarantined one.
    #[error("policy {0} is quarantined")]
    Quarantined(Digest),
    /// The policy was in force before, and the request does not permit an older one.
    #[error("policy {0} was in force before, and another one has taken its place")]
    OlderPolicy(Digest),
    /// The requested instant is in the past.
    #[error("`at` lies in the past, and rules can't be changed there")]
    Past,
    /// The policy can't be billed.
    #[error(transparent)]
    Unbillable(Box<ChangeError>),
    /// No earlier policy of the tenant is loaded and free of quarantine.
    #[error("no earlier policy of the tenant is good; there is none to roll back to")]
    NothingToRollBack,
    /// The policy is in force: a trial would compare it with itself.
    #[error("policy {0} is in force; there is nothing to try")]
    InForce(Digest),
    /// The policy has no trial for the tenant.
    #[error("policy {digest} is not tried for '{tenant}'")]
    NoSuchTrial {
        /// The policy.
        digest: Digest,
        /// The tenant.
        tenant: TenantId,
    },
    /// A gate was asked for, and there is no trial that shows the change.
    #[error(
        "policy {digest} is not tried for '{tenant}', so that the change of money is not known"
    )]
    NotTried {
        /// The policy.
        digest: Digest,
        /// The tenant.
        tenant: TenantId,
    },
    /// The trial differs by more money than the gate allows.
    #[error(transparent)]
    Gate(Box<GateExceeded>),
    /// A gate covers tenants whose trials are charged in several currencies.
    #[error("the trials are charged in {one} and in {other}, which `max_net` can't add up")]
    TwoCurrencies {
        /// ISO 4217 code.
        one: String,
        /// Another ISO 4217 code.
        other: String,
    },
    /// The activation is recorded, and another policy answers the probe.
    #[error("policy {digest} was put in force, but {answers} answers")]
    Unanswered {
        /// The policy.
        digest: Digest,
        /// The policy that answers.
        answers: Digest,
    },
    /// The activation is recorded, and the policy does not answer the probe.
    #[error("policy {digest} was put in force, but: {source}")]
    Probe {
        /// The policy.
        digest: Digest,
        /// The failure of the probe.
        source: Box<ProbeError>,
    },
    /// The component is not a policy that this host admits.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The tenant has reached its limit of policies.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The tenancy refused the change.
    #[error(transparent)]
    Tenancy(#[from] TenancyError),
    /// The trial could not be charged.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// The journal did not take the entry.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A defect: a blocking task panicked.
    #[error("a task about a policy ended in a panic")]
    Panicked(#[source] tokio::task::JoinError),
}

fn called(name: Option<&PolicyName>) -> String {
    name.map_or_else(|| "without a name".into(), |name| format!("as '{name}'"))
}

/// A gate that a trial did not pass. Amounts are decimal numbers in units of the currency.
#[derive(Debug, thiserror::Error)]
#[error(
    "the trial differs by {differs} {currency} {scope}, and `{gate}` allows {most}: \
     {over} too much"
)]
pub struct GateExceeded {
    /// Name of the gate in requests.
    pub gate: &'static str,
    /// Amount by which the trial differs, with its sign.
    pub differs: String,
    /// ISO 4217 code.
    pub currency: String,
    /// The tenants that were added up, in words.
    pub scope: String,
    /// Largest amount that the gate allows.
    pub most: String,
    /// Amount by which that is exceeded.
    pub over: String,
    /// Smallest gate that the trial would pass.
    pub needed: String,
}
