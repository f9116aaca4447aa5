//! Tenants and their tokens: the known tenants, their limits, and the authentication of secrets.
//!
//! All state comes from facts: it is read from the journal at the start and changes only with a
//! commit. A secret is stored nowhere; its SHA-256 is enough to recognize it, since 256 random bits
//! can't be guessed.

mod bucket;
mod ended;
mod jwt;
mod operator;
mod pseudonyms;
mod standings;
mod tenant;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rand::RngCore;

pub use jwt::{Bearer, Jwt, JwtConfig, JwtConfigError, JwtError};
pub use operator::{OperatorToken, OperatorTokenError};
pub use pseudonyms::{Mapping, Pseudonyms};
pub use standings::Admission;
pub use tenant::{Exceeded, Reservation, Share, Storing, Tenant, TooFast};

use crate::billing::TenantFact;
use crate::clock::Clock;
use crate::id::{Digest, PolicyName, TenantId, TokenId};
use crate::journal::{
    CommitError, Entry, Journal, NewActivation, NewPolicy, StoredAdmission, StoredStanding,
    StoredTenant, StoredToken,
};
use crate::limits;
use crate::tenant::{Actor, Limit, Move, Role, STANDARD, Settings, Standing};
use crate::units::{Instant, Nanos};
use standings::Standings;

/// The prefix of every secret, for which scanners of leaked secrets can look.
const SECRET_PREFIX: &str = "tly_";

const SECRET_BYTES: usize = 32;

/// The name that stands for the caller's own tenant in paths.
pub const SELF: &str = "self";

/// The error of an operation on tenants or tokens.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// A tenant of that name exists.
    #[error("there is a tenant '{0}' already")]
    Exists(TenantId),
    /// The name is reserved.
    #[error("'{SELF}' stands for the caller's own tenant; choose another name")]
    Reserved,
    /// The host has reached its limit of tenants.
    #[error("this host knows {} tenants, its limit", limits::tenant::KNOWN_MAX)]
    TooManyTenants,
    /// No such tenant, or the caller may not see it.
    #[error("there is no tenant '{0}'")]
    NoSuchTenant(String),
    /// No such token, or the caller may not see it.
    #[error("there is no token '{0}'")]
    NoSuchToken(String),
    /// Several ids have this prefix.
    #[error("'{key}' is the beginning of {count} tokens' ids; give more digits")]
    Ambiguous {
        /// The prefix, cut to 80 characters.
        key: String,
        /// Number of tokens that match, 2 or more.
        count: usize,
    },
    /// The tenant has reached its limit of valid tokens.
    #[error(
        "tenant '{tenant}' has {} valid tokens, its limit; revoke some",
        limits::token::KNOWN_MAX
    )]
    TooManyTokens {
        /// The tenant.
        tenant: TenantId,
    },
    /// The name is that of another policy of the tenant, or of the standard policy.
    #[error("the name '{0}' stands for another policy; choose another name")]
    PolicyNameInUse(PolicyName),
    /// The tenant has reached a limit.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The journal did not take the entry.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The reason for which a secret is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The secret belongs to no token.
    #[error("the token is not the right one")]
    Unknown,
    /// The token was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
}

/// A request for a new token.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The tenant that the token gives access to.
    pub tenant: TenantId,
    /// Name for people; need not be unique.
    pub name: String,
    /// Role of the token's bearer.
    pub role: Role,
    /// Lifetime in seconds.
    pub lifetime_s: u64,
    /// The actor who makes it.
    pub by: Actor,
}

/// All tenants, their tokens, and the standings of policies with them.
pub struct Tenancy {
    pseudonyms: Pseudonyms,
    journal: Arc<Journal>,
    clock: Clock,
    tenants: RwLock<BTreeMap<TenantId, Arc<Tenant>>>,
    tokens: RwLock<HashMap<TokenId, Arc<StoredToken>>>,
    standings: Standings,
    /// Bytes that the host gives to disks in all.
    disk_bytes: u64,
    /// Held from a check to the commit that depends on it.
    changing: tokio::sync::Mutex<()>,
}

impl Tenancy {
    /// The tenancy with the state that the journal had when it was opened, on a host that gives so
    /// many bytes to disks.
    pub fn new(
        journal: Arc<Journal>,
        clock: Clock,
        tenants: Vec<StoredTenant>,
        tokens: Vec<StoredToken>,
        standings: Vec<StoredStanding>,
        admissions: Vec<StoredAdmission>,
        disk_bytes: u64,
    ) -> Self {
        let tenant = |stored: StoredTenant| {
            let StoredTenant { id, created, settings } = stored;
            (id.clone(), Arc::new(Tenant::new(id, created, settings, disk_bytes)))
        };
        let mut tokens = tokens.into_iter().map(|token| (token.id, Arc::new(token))).collect();
        ended::forget(&mut tokens, None, clock.now());
        let data = journal.path().parent().map(Path::to_owned).unwrap_or_default();
        Self {
            pseudonyms: Pseudonyms::of(&data),
            journal,
            clock,
            tenants: RwLock::new(tenants.into_iter().map(tenant).collect()),
            tokens: RwLock::new(tokens),
            standings: Standings::new(standings, admissions),
            disk_bytes,
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The names of instances in documents.
    pub fn pseudonyms(&self) -> &Pseudonyms {
        &self.pseudonyms
    }

    /// The tenant with this id; none if it does not exist.
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All tenants, by id.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Makes a tenant and puts it under `policy`.
    ///
    /// # Errors
    /// See [`TenancyError`].
    pub async fn create(
        &self,
        id: TenantId,
        policy: Digest,
        by: Actor,
    ) -> Result<Arc<Tenant>, TenancyError> {
        let _one = self.changing.lock().await;
        if id.as_str() == SELF {
            return Err(TenancyError::Reserved);
        }
        if self.tenant(&id).is_some() {
            return Err(TenancyError::Exists(id));
        }
        if self.tenants().len() >= limits::tenant::KNOWN_MAX {
            return Err(TenancyError::TooManyTenants);
        }
        let at = self.clock.reading();
        let created = at.meter;
        let entry = Entry::of_tenant(id.clone(), at, TenantFact::Created { by: by.clone() });
        let activation = NewActivation::now(id.clone(), policy, by);
        self.journal.commit(Entry { activation: Some(activation), ..entry }).await?;
        let tenant = Tenant::new(id.clone(), created, Settings::default(), self.disk_bytes);
        let tenant = Arc::new(tenant);
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(id, tenant.clone());
        Ok(tenant)
    }

    /// Changes the settings of a tenant.
    ///
    /// # Errors
    /// [`TenancyError::NoSuchTenant`], [`TenancyError::Commit`].
    pub async fn change(
        &self,
        id: &TenantId,
        by: Actor,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Arc<Tenant>, TenancyError> {
        let _one = self.changing.lock().await;
        let tenant = self.tenant(id).ok_or_else(|| TenancyError::NoSuchTenant(id.to_string()))?;
        let mut settings = Settings::clone(&tenant.settings());
        change(&mut settings);
        self.journal
            .commit(self.entry(id, TenantFact::Changed { settings: settings.clone(), by }))
            .await?;
        tenant.settle(settings);
        Ok(tenant)
    }

    /// The standing of a policy with a tenant, by the last fact about the two; none without one.
    pub fn standing(&self, tenant: &TenantId, digest: &Digest) -> Option<StoredStanding> {
        self.standings.get(tenant, digest)
    }

    /// The standings of all policies with a tenant.
    pub fn standings(&self, tenant: &TenantId) -> Vec<StoredStanding> {
        self.standings.of(tenant)
    }

    /// Moves a policy to another standing, in one commit with `activation` if there is one.
    ///
    /// # Errors
    /// The journal's errors.
    pub async fn move_policy(
        &self,
        tenant: &TenantId,
        moved: Move,
        activation: Option<NewActivation>,
    ) -> Result<(), CommitError> {
        let entry = self.entry(tenant, TenantFact::PolicyMoved(moved.clone()));
        let activated = activation.clone();
        self.journal.commit(Entry { activation, ..entry }).await?;
        self.standings.moved(tenant, moved);
        if let Some(new) = activated {
            self.note_activated(tenant, new.digest, new.by);
        }
        Ok(())
    }

    /// Notes an activation that is durable.
    pub fn note_activated(&self, tenant: &TenantId, digest: Digest, by: Actor) {
        self.standings.stands(tenant, digest, Standing::Active, by);
    }

    /// Admits an examined policy, if its tenant may have one more.
    ///
    /// # Errors
    /// [`TenancyError::Exceeded`], [`TenancyError::Commit`].
    pub async fn admit(&self, policy: NewPolicy) -> Result<(), TenancyError> {
        let _one = self.changing.lock().await;
        let NewPolicy { tenant, digest, name, by, .. } = policy.clone();
        self.check_policies(&tenant, &digest)?;
        self.check_policy_name(&tenant, &digest, name.as_ref())?;
        self.journal.commit(Entry { policy: Some(policy), ..Entry::default() }).await?;
        self.standings.admitted(&tenant, digest, name, self.clock.now());
        self.standings.stands(&tenant, digest, Standing::Admitted, by);
        Ok(())
    }

    /// Refuses a name that another policy of the tenant has, or that stands for the standard
    /// policy.
    ///
    /// # Errors
    /// [`TenancyError::PolicyNameInUse`].
    pub fn check_policy_name(
        &self,
        tenant: &TenantId,
        digest: &Digest,
        name: Option<&PolicyName>,
    ) -> Result<(), TenancyError> {
        let Some(name) = name else { return Ok(()) };
        let is_taken =
            self.policy_named(tenant, name.as_str()).is_some_and(|known| known != *digest);
        if is_taken || name.as_str() == STANDARD {
            return Err(TenancyError::PolicyNameInUse(name.clone()));
        }
        Ok(())
    }

    /// The admission of a policy for a tenant; none without one.
    pub fn admission(&self, tenant: &TenantId, digest: &Digest) -> Option<Admission> {
        self.standings.admission(tenant, digest)
    }

    /// The policy with this name among the tenant's; none without one.
    pub fn policy_named(&self, tenant: &TenantId, name: &str) -> Option<Digest> {
        self.standings.named(tenant, name)
    }

    /// Checks that a tenant may have this policy beside its others.
    ///
    /// # Errors
    /// [`Exceeded`] at the limit of policies.
    pub fn check_policies(&self, id: &TenantId, digest: &Digest) -> Result<(), Exceeded> {
        let Some(tenant) = self.tenant(id) else { return Ok(()) };
        let counts = |stood: &&StoredStanding| {
            !matches!(stood.standing, Standing::Uploaded | Standing::Refused)
                && stood.digest != *digest
        };
        tenant.check_count(
            Limit::Policies,
            self.standings(id).iter().filter(counts).count() as u64 + 1,
        )
    }

    /// The entry of a tenant's fact that happens now.
    fn entry(&self, tenant: &TenantId, fact: TenantFact) -> Entry {
        Entry::of_tenant(tenant.clone(), self.clock.reading(), fact)
    }

    /// Makes a token. Returns its secret, which can't be retrieved later.
    ///
    /// # Errors
    /// See [`TenancyError`].
    pub async fn create_token(
        &self,
        request: TokenRequest,
    ) -> Result<(String, Arc<StoredToken>), TenancyError> {
        let TokenRequest { tenant, name, role, lifetime_s, by } = request;
        let _one = self.changing.lock().await;
        if self.tenant(&tenant).is_none() {
            return Err(TenancyError::NoSuchTenant(tenant.to_string()));
        }
        let now = self.clock.now();
        let good = |token: &&Arc<StoredToken>| token.revoked.is_none() && now < token.expires;
        if self.tokens(Some(&tenant)).iter().filter(good).count() >= limits::token::KNOWN_MAX {
            return Err(TenancyError::TooManyTokens { tenant });
        }
        let shown = secret();
        let secret = Digest::of(shown.as_bytes());
        let id = TokenId::of(&secret);
        let lifetime = Nanos(lifetime_s.saturating_mul(1_000_000_000));
        let expires = now.after(lifetime).unwrap_or(Instant(i64::MAX));
        let fact = TenantFact::TokenCreated {
            token: id,
            name: name.clone(),
            role,
            expires,
            by: by.clone(),
        };
        let at = self.clock.reading();
        let created = at.meter;
        let entry = Entry::of_tenant(tenant.clone(), at, fact);
        self.journal.commit(Entry { secret: Some(secret), ..entry }).await?;
        let token = Arc::new(StoredToken {
            id,
            secret,
            tenant,
            name,
            role,
            created,
            expires,
            revoked: None,
            by,
        });
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(token.id, token.clone());
        ended::forget(&mut tokens, Some(&token.tenant), now);
        Ok((shown, token))
    }

    /// The tokens of a tenant, or of all tenants, oldest first; with those that have expired or
    /// were revoked not long ago.
    pub fn tokens(&self, tenant: Option<&TenantId>) -> Vec<Arc<StoredToken>> {
        let known = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let wanted =
            known.values().filter(|token| tenant.is_none_or(|tenant| token.tenant == *tenant));
        let mut tokens: Vec<_> = wanted.cloned().collect();
        tokens.sort_by_key(|token| (token.created, token.id));
        tokens
    }

    /// The token with this id, or the only one whose id has this prefix, among those of `tenant`,
    /// or of all tenants.
    ///
    /// # Errors
    /// [`TenancyError::NoSuchToken`], [`TenancyError::Ambiguous`].
    pub fn token(
        &self,
        tenant: Option<&TenantId>,
        key: &str,
    ) -> Result<Arc<StoredToken>, TenancyError> {
        let mut matches = self.tokens(tenant);
        matches.retain(|token| !key.is_empty() && token.id.to_string().starts_with(key));
        let key: String = key.chars().take(80).collect();
        match matches.as_slice() {
            [] => Err(TenancyError::NoSuchToken(key)),
            [only] => Ok(only.clone()),
            several => Err(TenancyError::Ambiguous { key, count: several.len() }),
        }
    }

    /// Revokes a token; a revoked one stays as it is.
    ///
    /// # Errors
    /// [`TenancyError::NoSuchToken`], [`TenancyError::Commit`].
    pub async fn revoke(&self, id: TokenId, by: Actor) -> Result<(), TenancyError> {
        let _one = self.changing.lock().await;
        let found = self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let token = found.ok_or_else(|| TenancyError::NoSuchToken(id.to_string()))?;
        if token.revoked.is_some() {
            return Ok(());
        }
        let at = self.clock.reading();
        let revoked = StoredToken { revoked: Some(at.meter), ..StoredToken::clone(&token) };
        let entry =
            Entry::of_tenant(token.tenant.clone(), at, TenantFact::TokenRevoked { token: id, by });
        self.journal.commit(entry).await?;
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(revoked));
        Ok(())
    }

    /// Returns whether a text has the form of this program's secrets.
    pub fn is_secret(shown: &str) -> bool {
        shown.starts_with(SECRET_PREFIX)
    }

    /// The valid token that this secret belongs to.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn authenticate(&self, shown: &str) -> Result<Arc<StoredToken>, SecretError> {
        let hash = Digest::of(shown.as_bytes());
        let known = self
            .tokens
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&TokenId::of(&hash))
            .cloned();
        // The id, a part of the hash, selects the token; the whole hash is compared in constant
        // time.
        let token = known.filter(|token| same(&token.secret, &hash)).ok_or(SecretError::Unknown)?;
        if token.revoked.is_some() {
            return Err(SecretError::Revoked);
        }
        if self.clock.now() >= token.expires { Err(SecretError::Expired) } else { Ok(token) }
    }
}

/// A fresh secret: 256 random bits.
fn secret() -> String {
    let mut bytes = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    format!("{SECRET_PREFIX}{}", hex::encode(bytes))
}

/// Returns whether two hashes are equal, in constant time.
pub fn same(one: &Digest, other: &Digest) -> bool {
    let differing =
        one.0.iter().zip(other.0).fold(0, |differing, (one, other)| differing | (one ^ other));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests;
