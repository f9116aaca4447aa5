//! Tenants and their tokens: who is known, what each may have, and whose secret a secret is.
//!
//! All of it is facts: what is here is read from the journal at the start and changes only with a
//! commit. A secret is written nowhere; its SHA-256 is enough to know it again, since nobody can
//! guess 256 random bits.

mod bucket;
mod jwt;
mod standings;
mod tenant;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use rand::RngCore;

pub use jwt::{Bearer, Jwt, JwtConfig, JwtConfigError, JwtError};
pub use standings::Admission;
pub use tenant::{Exceeded, Reservation, Share, Tenant, TooFast};

use crate::billing::TenantFact;
use crate::clock::Clock;
use crate::id::{Digest, PolicyName, TenantId, TokenId};
use crate::journal::{
    CommitError, Entry, Journal, NewActivation, NewPolicy, StoredAdmission, StoredStanding,
    StoredTenant, StoredToken,
};
use crate::limits;
use crate::tenant::{Actor, Limit, Move, Role, Settings, Standing};
use crate::units::{Instant, Nanos};
use standings::Standings;

/// What every secret begins with, so that a tool that looks for leaked secrets can find it.
const SECRET_PREFIX: &str = "tly_";

const SECRET_BYTES: usize = 32;

/// The name that stands for the asker's own tenant in paths.
pub const SELF: &str = "self";

/// The name of the policy inside this program, for every tenant.
pub const STANDARD: &str = "standard";

/// Why something about a tenant or a token was not done.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// There is one of that name.
    #[error("there is a tenant '{0}' already")]
    Exists(TenantId),
    /// The name has a meaning of its own.
    #[error("'{SELF}' stands for the tenant of whoever asks; choose another name")]
    Reserved,
    /// The host knows as many as it takes.
    #[error("this host knows {} tenants, its limit", limits::tenant::KNOWN_MAX)]
    TooManyTenants,
    /// No such tenant, or not for whoever asks.
    #[error("there is no tenant '{0}'")]
    NoSuchTenant(String),
    /// No such token, or not for whoever asks.
    #[error("there is no token '{0}'")]
    NoSuchToken(String),
    /// Several ids begin so.
    #[error("'{key}' is the beginning of {count} tokens' ids; give more digits")]
    Ambiguous {
        /// What was looked for.
        key: String,
        /// How many match.
        count: usize,
    },
    /// The tenant has as many tokens as it may.
    #[error(
        "tenant '{tenant}' has {} tokens that are good, its limit; revoke some",
        limits::token::KNOWN_MAX
    )]
    TooManyTokens {
        /// Which tenant.
        tenant: TenantId,
    },
    /// Another policy of the tenant has the name, or it stands for the standard policy.
    #[error("the name '{0}' stands for another policy; choose another name")]
    PolicyNameInUse(PolicyName),
    /// The tenant has as many of something as it may.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The journal did not take it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a secret is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nobody's.
    #[error("the token is not the right one")]
    Unknown,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Whose it will be.
    pub tenant: TenantId,
    /// What a person calls it.
    pub name: String,
    /// What it will be good for.
    pub role: Role,
    /// For how long, in seconds.
    pub lifetime_s: u64,
    /// Who makes it.
    pub by: Actor,
}

/// Everybody.
pub struct Tenancy {
    journal: Arc<Journal>,
    clock: Clock,
    tenants: RwLock<BTreeMap<TenantId, Arc<Tenant>>>,
    tokens: RwLock<HashMap<TokenId, Arc<StoredToken>>>,
    standings: Standings,
    /// Held from the look whether something may be done to its being done.
    changing: tokio::sync::Mutex<()>,
}

impl Tenancy {
    /// Takes up what the journal knew when it was opened.
    pub fn new(
        journal: Arc<Journal>,
        clock: Clock,
        tenants: Vec<StoredTenant>,
        tokens: Vec<StoredToken>,
        standings: Vec<StoredStanding>,
        admissions: Vec<StoredAdmission>,
    ) -> Self {
        let tenant = |stored: StoredTenant| {
            let tenant = Tenant::new(stored.id.clone(), stored.created, stored.settings);
            (stored.id, Arc::new(tenant))
        };
        Self {
            journal,
            clock,
            tenants: RwLock::new(tenants.into_iter().map(tenant).collect()),
            tokens: RwLock::new(
                tokens.into_iter().map(|token| (token.id, Arc::new(token))).collect(),
            ),
            standings: Standings::new(standings, admissions),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The tenant of that id.
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
        let tenant = Arc::new(Tenant::new(id.clone(), created, Settings::default()));
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(id, tenant.clone());
        Ok(tenant)
    }

    /// Changes what is settled for a tenant.
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

    /// Where a policy stands with a tenant, by the last fact about the two; none if they have
    /// nothing to do with each other.
    pub fn standing(&self, tenant: &TenantId, digest: &Digest) -> Option<StoredStanding> {
        self.standings.get(tenant, digest)
    }

    /// Where all policies stand that a tenant has to do with.
    pub fn standings(&self, tenant: &TenantId) -> Vec<StoredStanding> {
        self.standings.of(tenant)
    }

    /// Moves a policy to another standing, and puts another one in force along with it, if any.
    ///
    /// # Errors
    /// The journal's.
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

    /// Takes note of an activation that is durable.
    pub fn note_activated(&self, tenant: &TenantId, digest: Digest, by: Actor) {
        self.standings.stands(tenant, digest, Standing::Active, by);
    }

    /// Keeps a policy that was examined, if its tenant may have one more.
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

    /// Refuses a name that another policy of the tenant has, or that stands for another one.
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

    /// How a tenant has brought a policy; none if it has not.
    pub fn admission(&self, tenant: &TenantId, digest: &Digest) -> Option<Admission> {
        self.standings.admission(tenant, digest)
    }

    /// The policy that a tenant calls so.
    pub fn policy_named(&self, tenant: &TenantId, name: &str) -> Option<Digest> {
        self.standings.named(tenant, name)
    }

    /// Whether a tenant may have this policy beside those that it has.
    ///
    /// # Errors
    /// [`Exceeded`] if not.
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

    /// An event of a tenant that happens now.
    fn entry(&self, tenant: &TenantId, fact: TenantFact) -> Entry {
        Entry::of_tenant(tenant.clone(), self.clock.reading(), fact)
    }

    /// Makes a token. Answers its secret, which nobody can ever ask for again.
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
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).insert(token.id, token.clone());
        Ok((shown, token))
    }

    /// The tokens of a tenant, or of all of them; oldest first, those that are no good any more
    /// included.
    pub fn tokens(&self, tenant: Option<&TenantId>) -> Vec<Arc<StoredToken>> {
        let known = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let wanted =
            known.values().filter(|token| tenant.is_none_or(|tenant| token.tenant == *tenant));
        let mut tokens: Vec<_> = wanted.cloned().collect();
        tokens.sort_by_key(|token| (token.created, token.id));
        tokens
    }

    /// The token with this id, or the only one whose id begins so, among those of `tenant`, or of
    /// all of them.
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

    /// Takes a token back; one that was taken back already stays as it is.
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

    /// Whether a text looks like a secret of ours.
    pub fn is_secret(shown: &str) -> bool {
        shown.starts_with(SECRET_PREFIX)
    }

    /// The token whose secret this is.
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
        // The id says which one it must be; the rest of the hash, compared in constant time, says
        // whether it is.
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

/// Whether two hashes are the same, in the same time wherever they differ.
pub fn same(one: &Digest, other: &Digest) -> bool {
    let differing =
        one.0.iter().zip(other.0).fold(0, |differing, (one, other)| differing | (one ^ other));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests;
