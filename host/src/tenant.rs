//! The words of tenancy: who may do what and how much, and what follows when a policy fails. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::{Digest, IdError, TokenId, words};
use crate::limits::tenant as limits;

words!(
    /// What the holder of a token may do. Which route that is in particular stands in the API's one
    /// table of decisions.
    Role, "a role" {
        /// Everything, for every tenant: whoever runs the host.
        Operator = "operator",
        /// Charges one tenant: its prices, its invoices, and the policy that it is under.
        Billing = "billing",
        /// Everything that is one tenant's, except to charge it.
        TenantAdmin = "tenant-admin",
        /// Looks at everything that is one tenant's, changes nothing.
        TenantReader = "tenant-reader",
        /// Brings policies and tries them beside the one in force; sees no instance.
        PolicyAuthor = "policy-author",
    }
);

words!(
    /// What a tenant has a limit of.
    Limit, "a limit" {
        /// Instances that are not deleted.
        Instances = "instances",
        /// Their virtual processors, added up.
        Vcpus = "vcpus",
        /// Their memory in bytes, added up.
        MemoryBytes = "memory_bytes",
        /// Policies that it has uploaded.
        Policies = "policies",
        /// Requests in a second, on average.
        RequestsPerS = "requests_per_s",
        /// Fuel that its policies burn in a minute, on average, when somebody looks.
        FuelPerMinute = "fuel_per_minute",
    }
);

words!(
    /// Where a policy stands with a tenant.
    Standing, "a standing" {
        /// It has arrived and is being examined.
        Uploaded = "uploaded",
        /// It was examined and is no policy, or fails its test.
        Refused = "refused",
        /// It may be put in force.
        Admitted = "admitted",
        /// It is tried beside the one in force.
        Shadow = "shadow",
        /// It is in force.
        Active = "active",
        /// Another one is in force, and there is a visit under way that this one still has to
        /// close.
        Draining = "draining",
        /// Another one is in force, and nothing waits for this one.
        Retired = "retired",
        /// It failed too often in a row and is not asked any more.
        Quarantined = "quarantined",
    }
);

words!(
    /// The rules of a tenant that can be changed for an instant to come.
    Plan, "a kind of plan" {
        /// The policy, which measures.
        Policy = "policy",
        /// The price book.
        Prices = "prices",
    }
);

words!(
    /// One step of a fallback order: what is done when the policy in force is quarantined.
    FallbackStep, "a step of a fallback order" {
        /// Nothing: the time is owed until somebody puts another policy in force.
        Hold = "hold",
        /// The last policy before it that is not quarantined is put in force, and accounts what is
        /// owed.
        LastGood = "last-good",
        /// The standard policy is put in force, and accounts what is owed.
        Standard = "standard",
    }
);

/// The steps that are tried one after the other when a policy is quarantined; the first that can be
/// taken ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackOrder(Vec<FallbackStep>);

/// Why a list of steps is no fallback order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FallbackError {
    /// It has none.
    #[error("a fallback order has at least one step; there are hold, last-good, standard")]
    Empty,
    /// A step stands behind one that can always be taken.
    #[error("no step is tried after '{0}', which can always be taken; put it last")]
    Unreachable(FallbackStep),
    /// A step stands in it twice.
    #[error("'{0}' stands in it twice; name each step once")]
    Twice(FallbackStep),
}

impl FallbackOrder {
    /// A fallback order of these steps.
    ///
    /// # Errors
    /// [`FallbackError`], for a list of which some part could never matter.
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

/// No tenant's time counts under rules that it did not choose, unless it says so.
impl Default for FallbackOrder {
    fn default() -> Self {
        Self(vec![FallbackStep::Hold])
    }
}

impl Role {
    /// Whether a token with this role belongs to those who run the host and charge for it, so that
    /// a tenant neither makes, sees nor revokes one.
    pub fn is_of_the_provider(self) -> bool {
        match self {
            Role::Operator | Role::Billing => true,
            Role::TenantAdmin | Role::TenantReader | Role::PolicyAuthor => false,
        }
    }
}

/// How much a tenant may have: what an operator has set, and the program's defaults for the rest.
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
        })
    }

    /// What an operator has set, if anything.
    pub fn own(&self, limit: Limit) -> Option<u64> {
        self.0[limit as usize]
    }

    /// Sets a limit; none goes back to the default.
    pub fn set(&mut self, limit: Limit, value: Option<u64>) {
        self.0[limit as usize] = value;
    }
}

/// What is settled for a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// How much it may have.
    pub quota: Quota,
    /// What is done when its policy fails.
    pub fallback: FallbackOrder,
    /// Whether its own admins may do what charges it. Otherwise whoever pays does not set the
    /// price.
    pub billing_delegated: bool,
}

/// Who did something that is not a guest's or a virtual machine's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The daemon by itself.
    Host,
    /// Whoever showed the daemon's own token.
    Operator,
    /// Whoever showed this token.
    Token(TokenId),
    /// Whoever a signed token from elsewhere names as its subject.
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

/// A change of where a policy stands with a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The component.
    pub digest: Digest,
    /// Where it stands from here on.
    pub to: Standing,
    /// Who moved it.
    pub by: Actor,
    /// Why, in words.
    pub reason: String,
    /// With [`Standing::Quarantined`]: the policy that accounts what this one owes; none while it
    /// is held.
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
            "'root' is not a role; there are: operator, billing, tenant-admin, tenant-reader, policy-author"
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
