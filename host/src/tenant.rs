//! The vocabulary of tenancy: roles, limits, standings of a policy, fallback orders, actors. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::{Digest, IdError, TokenId, words};
use crate::limits::tenant as limits;
use crate::units::Instant;

words!(
    /// The kind of an amount that is charged, or given, once.
    OneOffKind, "a kind of one-off" {
        /// An amount that is added to what a period comes to.
        Charge = "charge",
        /// An amount that pays what periods come to until it is used up.
        Goodwill = "goodwill",
    }
);

words!(
    /// Rights of a token's holder. The routes that each role may use are in the API's access table.
    Role, "a role" {
        /// Runs the host: may do everything, for every tenant.
        Operator = "operator",
        /// Charges one tenant: its prices, its invoices, and its policy in force.
        Billing = "billing",
        /// Manages everything of one tenant, except what charges it.
        TenantAdmin = "tenant-admin",
        /// Reads everything of one tenant and changes nothing.
        TenantReader = "tenant-reader",
        /// Uploads policies and shadows the one in force with them; sees no instance.
        PolicyAuthor = "policy-author",
        /// Hands the facts of one host to its collector, and nothing else; the token's name is the
        /// host's.
        Host = "host",
        /// Reads the metrics of the host and of all its tenants, and nothing else.
        Metrics = "metrics",
    }
);

words!(
    /// A limit of a tenant.
    Limit, "a limit" {
        /// Number of instances that are not deleted.
        Instances = "instances",
        /// Virtual processors of all its instances together.
        Vcpus = "vcpus",
        /// Memory of all its instances together, in bytes.
        MemoryBytes = "memory_bytes",
        /// Number of uploaded policies.
        Policies = "policies",
        /// Requests in a second, on average.
        RequestsPerS = "requests_per_s",
        /// Fuel that its policies burn for its requests in a minute, on average.
        FuelPerMinute = "fuel_per_minute",
        /// Disks, memories, snapshots and logs of all its instances together, in bytes.
        DiskBytes = "disk_bytes",
        /// Price books and components that were stored for it, in bytes.
        StoredBytes = "stored_bytes",
        /// Launches of its machines in a minute, on average.
        LaunchesPerMinute = "launches_per_minute",
        /// Changes of phase of its instances in a minute, on average.
        EventsPerMinute = "events_per_minute",
    }
);

words!(
    /// State of a policy with a tenant.
    Standing, "a standing" {
        /// The policy has arrived and is being examined.
        Uploaded = "uploaded",
        /// The policy was examined and is not valid, or fails its test.
        Refused = "refused",
        /// The policy may be put in force.
        Admitted = "admitted",
        /// The policy is tried beside the one in force.
        Shadow = "shadow",
        /// The policy is in force.
        Active = "active",
        /// Another policy is in force, but this one still has an open phase to account.
        Draining = "draining",
        /// Another policy is in force, and this one has nothing left to account.
        Retired = "retired",
        /// The policy failed too often in a row and is no longer called.
        Quarantined = "quarantined",
    }
);

words!(
    /// A kind of rules of a tenant whose change can be planned for a later instant.
    Plan, "a kind of plan" {
        /// The policy, which measures.
        Policy = "policy",
        /// The price book.
        Prices = "prices",
    }
);

words!(
    /// One step of a fallback order, taken when the policy in force is quarantined.
    FallbackStep, "a step of a fallback order" {
        /// Leaves the time unaccounted until another policy is put in force.
        Hold = "hold",
        /// Puts the last earlier policy that is not quarantined in force, which also accounts the
        /// time left unaccounted.
        LastGood = "last-good",
        /// Puts the standard policy in force, which also accounts the time left unaccounted.
        Standard = "standard",
    }
);

/// The steps that are tried in order when a policy is quarantined, until one can be taken. None is
/// unreachable, and none stands in it twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackOrder(Vec<FallbackStep>);

/// Error of making a fallback order from a list of steps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FallbackError {
    /// The list is empty.
    #[error("a fallback order has at least one step; there are hold, last-good, standard")]
    Empty,
    /// A step follows one that can always be taken.
    #[error("no step is tried after '{0}', which can always be taken; put it last")]
    Unreachable(FallbackStep),
    /// A step is named twice.
    #[error("a fallback order names '{0}' twice; name each step once")]
    Twice(FallbackStep),
}

impl FallbackOrder {
    /// Makes a fallback order of these steps.
    ///
    /// # Errors
    /// [`FallbackError`] if the list is empty or has a step that could never be taken.
    pub fn new(steps: Vec<FallbackStep>) -> Result<Self, FallbackError> {
        let Some((last, before)) = steps.split_last() else { return Err(FallbackError::Empty) };
        let always = |step: &&FallbackStep| match step {
            FallbackStep::Hold | FallbackStep::Standard => true,
            FallbackStep::LastGood => false,
        };
        if let Some(&step) = before.iter().find(always) {
            return Err(FallbackError::Unreachable(step));
        }
        let mut numbered = before.iter().enumerate();
        match numbered.find(|(at, step)| *step == last || before[..*at].contains(step)) {
            Some((_, &step)) => Err(FallbackError::Twice(step)),
            None => Ok(Self(steps)),
        }
    }

    /// The steps, in the order in which they are tried.
    pub fn steps(&self) -> &[FallbackStep] {
        &self.0
    }
}

/// Holds, so that no tenant's time counts under rules that it did not choose.
impl Default for FallbackOrder {
    fn default() -> Self {
        Self(vec![FallbackStep::Hold])
    }
}

impl Role {
    /// Returns whether the role is the provider's: a tenant neither makes, sees nor revokes a token
    /// with such a role.
    pub fn is_of_the_provider(self) -> bool {
        match self {
            Role::Operator | Role::Billing | Role::Host | Role::Metrics => true,
            Role::TenantAdmin | Role::TenantReader | Role::PolicyAuthor => false,
        }
    }
}

/// Limits of a tenant: those that an operator has set, and the program's defaults for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota([Option<u64>; Limit::ALL.len()]);

impl Quota {
    /// The limit in force.
    pub fn get(&self, limit: Limit) -> u64 {
        self.own(limit).unwrap_or(match limit {
            Limit::Instances => limits::INSTANCES_MAX,
            Limit::Vcpus => limits::VCPUS_MAX,
            Limit::MemoryBytes => limits::MEMORY_BYTES_MAX,
            Limit::Policies => limits::POLICIES_MAX,
            Limit::RequestsPerS => limits::REQUESTS_PER_S_MAX,
            Limit::FuelPerMinute => limits::FUEL_PER_MINUTE_MAX,
            Limit::DiskBytes => limits::DISK_BYTES_MAX,
            Limit::StoredBytes => limits::STORED_BYTES_MAX,
            Limit::LaunchesPerMinute => limits::LAUNCHES_PER_MINUTE_MAX,
            Limit::EventsPerMinute => limits::EVENTS_PER_MINUTE_MAX,
        })
    }

    /// The limit that an operator has set; `None` if the default is in force.
    pub fn own(&self, limit: Limit) -> Option<u64> {
        self.0[limit as usize]
    }

    /// Sets a limit; `None` goes back to the default.
    pub fn set(&mut self, limit: Limit, value: Option<u64>) {
        self.0[limit as usize] = value;
    }
}

/// The name of the policy inside this program, for every tenant.
pub const STANDARD: &str = "standard";

/// Settings of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Limits of its resources and requests.
    pub quota: Quota,
    /// Steps that are tried when its policy is quarantined.
    pub fallback: FallbackOrder,
    /// True if its own admins may do what [`Role::Billing`] may. False by default: a tenant does
    /// not set the price that it pays.
    pub billing_delegated: bool,
    /// Set if nothing of it may be started or made any more.
    pub suspended: bool,
    /// Its end, which is final; none while it goes on.
    pub ended: Option<Instant>,
    /// Name to which its documents are addressed; none for its id.
    pub billing_name: Option<String>,
}

/// Longest name on a document, in bytes.
const BILLING_NAME_BYTES_MAX: usize = 256;

/// A name on a document: of a payer, or of the issuer.
///
/// # Errors
/// The bounds of such a name, as the end of a sentence.
pub fn billing_name(text: &str) -> Result<String, String> {
    let is_short = (1..=BILLING_NAME_BYTES_MAX).contains(&text.len());
    match is_short && !text.chars().any(char::is_control) && text.trim() == text {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "must have 1 to {BILLING_NAME_BYTES_MAX} bytes, no control characters, and no space \
             at its ends"
        )),
    }
}

/// Originator of a change that is not a guest's or a virtual machine's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The daemon itself.
    Host,
    /// The holder of the daemon's own token.
    Operator,
    /// The holder of this token.
    Token(TokenId),
    /// The subject of a signed token of another issuer.
    Subject(Arc<str>),
}

const TOKEN: &str = "token:";
const SUBJECT: &str = "jwt:";

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Host => f.write_str("host"),
            Actor::Operator => f.write_str("operator"),
            Actor::Token(id) => write!(f, "{TOKEN}{id}"),
            Actor::Subject(subject) => write!(f, "{SUBJECT}{subject}"),
        }
    }
}

impl FromStr for Actor {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "host" => Ok(Actor::Host),
            "operator" => Ok(Actor::Operator),
            _ => match (text.strip_prefix(TOKEN), text.strip_prefix(SUBJECT)) {
                (Some(id), _) => Ok(Actor::Token(id.parse()?)),
                (None, Some(subject)) => Ok(Actor::Subject(subject.into())),
                (None, None) => Err(IdError::Word {
                    what: "an actor",
                    text: text.chars().take(80).collect(),
                    known: format!("host, operator, {TOKEN}<id>, {SUBJECT}<subject>"),
                }),
            },
        }
    }
}

/// A change of a policy's standing with a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Digest of the policy's component.
    pub digest: Digest,
    /// The new standing.
    pub to: Standing,
    /// Originator of the change.
    pub by: Actor,
    /// Reason in words.
    pub reason: String,
    /// With [`Standing::Quarantined`]: the policy that accounts the time in this one's place;
    /// `None` while the time is held, and with every other standing.
    pub stand_in: Option<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_and_another_is_told_which_there_are() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for limit in Limit::ALL {
            assert_eq!(limit.as_str().parse(), Ok(limit));
        }
        let refused = "root".parse::<Role>().expect_err("no role").to_string();
        assert_eq!(
            refused,
            "'root' is not a role; there are: operator, billing, tenant-admin, tenant-reader, \
             policy-author, host, metrics"
        );
    }

    #[test]
    fn a_fallback_order_has_no_step_that_could_never_matter() {
        use FallbackStep::{Hold, LastGood, Standard};
        let good = [
            vec![Hold],
            vec![Standard],
            vec![LastGood, Hold],
            vec![LastGood, Standard],
            vec![LastGood],
        ];
        for good in good {
            let order = FallbackOrder::new(good.clone());
            assert_eq!(order.map(|order| order.steps().to_vec()), Ok(good));
        }
        let rows = [
            (vec![], FallbackError::Empty),
            (vec![Hold, Standard], FallbackError::Unreachable(Hold)),
            (vec![Standard, Hold], FallbackError::Unreachable(Standard)),
            (vec![LastGood, LastGood], FallbackError::Twice(LastGood)),
            (vec![LastGood, LastGood, Hold], FallbackError::Twice(LastGood)),
        ];
        for (bad, why) in rows {
            assert_eq!(FallbackOrder::new(bad), Err(why));
        }
    }

    #[test]
    fn a_limit_that_nobody_set_is_the_default() {
        let mut quota = Quota::default();
        for limit in Limit::ALL {
            let default = quota.get(limit);
            assert!(default > 0, "{limit}");
            quota.set(limit, Some(7));
            assert_eq!((quota.get(limit), quota.own(limit)), (7, Some(7)));
            quota.set(limit, None);
            assert_eq!((quota.get(limit), quota.own(limit)), (default, None));
        }
    }

    #[test]
    fn every_actor_is_read_back() {
        let token = TokenId::of(&Digest([7; 32]));
        for actor in
            [Actor::Host, Actor::Operator, Actor::Token(token), Actor::Subject("a b:c".into())]
        {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for bad in ["", "root", "token:", "token:xyz"] {
            assert!(bad.parse::<Actor>().is_err(), "{bad}");
        }
    }
}
