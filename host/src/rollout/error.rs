//! Why something about a policy was not done.

use crate::id::{Digest, PolicyName, TenantId};
use crate::invoice::{ChangeError, InvoiceError};
use crate::journal::{CommitError, ReadError};
use crate::policy::AdmissionError;
use crate::policy::accounting::ProbeError;
use crate::tenancy::{Exceeded, TenancyError};
use crate::tenant::Standing;

/// Why something about a policy was not done. Nothing was recorded, except with the two of a probe.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// No such policy is admitted, or not for whoever asks.
    #[error("no policy {0} is admitted; upload it first")]
    NoSuchPolicy(String),
    /// The key is the beginning of several digests.
    #[error("'{key}' is the beginning of {count} digests; give more digits")]
    Ambiguous {
        /// The key, clipped.
        key: String,
        /// How many digests begin so.
        count: usize,
    },
    /// It was brought before under another name, or under none.
    #[error("policy {digest} was admitted before, {}; a name is given at the first upload", called(has.as_ref()))]
    Known {
        /// The policy.
        digest: Digest,
        /// The name that it has.
        has: Option<PolicyName>,
    },
    /// It was not examined yet, or was refused.
    #[error("policy {digest} is {standing}, not admitted")]
    NotAdmitted {
        /// The policy.
        digest: Digest,
        /// Where it stands.
        standing: Standing,
    },
    /// It failed too often, and the request does not say that it is trusted again.
    #[error("policy {0} is quarantined")]
    Quarantined(Digest),
    /// It was in force once, and the request does not say that it is to come back.
    #[error("policy {0} was in force before, and another one has taken its place")]
    OlderPolicy(Digest),
    /// The instant asked for lies behind.
    #[error("`at` lies in the past, and rules can't be changed there")]
    Past,
    /// There is no plan for it to withdraw.
    #[error("policy {digest} is not planned for '{tenant}'")]
    NotPlanned {
        /// The policy.
        digest: Digest,
        /// The tenant.
        tenant: TenantId,
    },
    /// It could not be billed.
    #[error(transparent)]
    Unbillable(Box<ChangeError>),
    /// No earlier policy of the tenant is good.
    #[error("no earlier policy of the tenant is good; there is none to roll back to")]
    NothingToRollBack,
    /// A trial of what is in force would compare it with itself.
    #[error("policy {0} is in force; there is nothing to try")]
    InForce(Digest),
    /// It is not tried for the tenant.
    #[error("policy {digest} is not tried for '{tenant}'")]
    NoSuchTrial {
        /// The policy.
        digest: Digest,
        /// The tenant.
        tenant: TenantId,
    },
    /// A gate was asked for, and there is no trial to tell what would change.
    #[error("policy {digest} is not tried for '{tenant}', so that nobody knows what would change")]
    NotTried {
        /// The policy.
        digest: Digest,
        /// The tenant.
        tenant: TenantId,
    },
    /// The trial differs by more money than the gate lets pass.
    #[error(transparent)]
    Gate(Box<GateExceeded>),
    /// A gate over all tenants, whose trials are charged in several currencies.
    #[error("the trials are charged in {one} and in {other}, which `max_net` can't add up")]
    TwoCurrencies {
        /// ISO 4217 code.
        one: String,
        /// Another one.
        other: String,
    },
    /// It is in force now, and another policy answers.
    #[error("policy {digest} was put in force, but {answers} answers")]
    Unanswered {
        /// The policy.
        digest: Digest,
        /// The one that answers.
        answers: Digest,
    },
    /// It is in force now, and does not answer.
    #[error("policy {digest} was put in force, but: {source}")]
    Probe {
        /// The policy.
        digest: Digest,
        /// What it did instead.
        source: Box<ProbeError>,
    },
    /// The component is no policy that this host admits.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The tenant may not have one more.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The tenancy's.
    #[error(transparent)]
    Tenancy(#[from] TenancyError),
    /// The trial could not be charged.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// The journal took no entry.
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

/// The gate that a trial did not pass. Amounts are in the currency.
#[derive(Debug, thiserror::Error)]
#[error(
    "the trial differs by {differs} {currency} {scope}, and `{gate}` lets {most} pass: {over} too much"
)]
pub struct GateExceeded {
    /// Name of the gate in requests.
    pub gate: &'static str,
    /// By how much the trial differs.
    pub differs: String,
    /// ISO 4217 code.
    pub currency: String,
    /// For whom, in words.
    pub scope: String,
    /// How much the gate lets pass.
    pub most: String,
    /// By how much that is exceeded.
    pub over: String,
    /// The smallest gate that would let it pass.
    pub needed: String,
}
