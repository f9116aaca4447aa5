//! Signed tokens of an external issuer (RFC 7519): the holder of the key may issue short-lived
//! access for tenants. Anything unusual is refused.

mod keys;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use serde::Deserialize;

pub use keys::{JwtConfig, JwtConfigError};

use crate::id::{Digest, TenantId};
use crate::limits::token as limits;
use crate::tenant::Role;
use keys::{Contents, Keys};

/// The reason for which a signed token is not accepted. The text is for the sender and discloses
/// nothing that the token does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// This host accepts no signed tokens.
    #[error("signed tokens are not accepted here")]
    NotConfigured,
    /// The token is malformed, its signature is wrong, or a required claim is missing or wrong.
    #[error("the signed token is not accepted: {0}")]
    Unsound(String),
    /// The token has expired.
    #[error("the signed token has expired")]
    Expired,
    /// The token is not valid yet.
    #[error("the signed token is not valid yet")]
    NotYet,
    /// The token would be valid for longer than is safe for one that can't be revoked.
    #[error("the signed token's `exp` is more than {} seconds ahead", limits::JWT_LIFETIME_S_MAX)]
    TooLong,
    /// A claim has a value that is not allowed.
    #[error("the signed token's `{claim}` {problem}")]
    Claim {
        /// Name of the claim.
        claim: &'static str,
        /// The fault and what is valid.
        problem: String,
    },
}

/// The identity of an accepted token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The `sub` claim: name of the sender.
    pub subject: Arc<str>,
    /// The tenant that the token gives access to.
    pub tenant: TenantId,
    /// The role within the tenant.
    pub role: Role,
}

/// The checker of signed tokens.
pub struct Jwt {
    config: JwtConfig,
    keys: ArcSwap<Keys>,
    /// Digest of the key files' contents when they were last read.
    seen: Mutex<Digest>,
}

/// The claims that are read beside `iss` and `aud`. All are required but `nbf` and `iat`; further
/// claims are ignored.
#[derive(Deserialize)]
struct Claims {
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
    sub: String,
    tenant: String,
    role: String,
}

impl Jwt {
    /// A checker with the keys in these files. Blocking.
    ///
    /// # Errors
    /// [`JwtConfigError`] for a weak or incomplete configuration.
    pub fn new(config: JwtConfig) -> Result<Self, JwtConfigError> {
        verify::install();
        if config.issuer.is_empty() || config.audience.is_empty() {
            return Err(JwtConfigError::NoIssuer);
        }
        let contents = Contents::read(&config)?;
        let keys = Keys::of(&config, &contents)?;
        let seen = Mutex::new(contents.digest());
        Ok(Self { config, keys: ArcSwap::from_pointee(keys), seen })
    }

    /// Reads the files again, whose keys count from then on. Returns true if they have changed
    /// since they were last read. Files that can't be used change nothing. Blocking.
    ///
    /// # Errors
    /// [`JwtConfigError`] of files that have changed.
    pub fn renew(&self) -> Result<bool, JwtConfigError> {
        let contents = Contents::read(&self.config)?;
        let digest = contents.digest();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digest {
            return Ok(false);
        }
        *seen = digest;
        self.keys.store(Arc::new(Keys::of(&self.config, &contents)?));
        Ok(true)
    }

    /// Checks a token at `now_s` seconds since 1970. Returns its identity.
    ///
    /// # Errors
    /// [`JwtError`] unless the token is valid in every respect.
    pub fn check(&self, token: &str, now_s: u64) -> Result<Bearer, JwtError> {
        let unsound = |why: String| JwtError::Unsound(why);
        if token.len() > limits::JWT_BYTES_MAX {
            return Err(unsound(format!("it has more than {} bytes", limits::JWT_BYTES_MAX)));
        }
        let header =
            jsonwebtoken::decode_header(token).map_err(|error| unsound(error.to_string()))?;
        check_header(&header)?;
        let keys = self.keys.load();
        let key = keys.find(&header, now_s).map_err(unsound)?;
        // The algorithm is that of the key; the header only selects among the configured keys.
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        // The time is checked below, against the host's own clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &validation)
            .map_err(|error| unsound(told(&error)))?;
        check_time(&claims.claims, now_s)?;
        bearer(claims.claims)
    }
}

/// Refuses headers that ask for another interpretation than that of plain signed claims.
fn check_header(header: &Header) -> Result<(), JwtError> {
    let odd = |what: &str| {
        Err(JwtError::Unsound(format!("its header has `{what}`, which is not supported")))
    };
    if header.crit.is_some() {
        return odd("crit");
    }
    if header.enc.is_some() || header.cty.is_some() {
        return odd("enc");
    }
    if header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some() || header.x5c.is_some()
    {
        return odd("a key of its own");
    }
    match header.typ.as_deref() {
        None | Some("JWT" | "jwt" | "at+jwt") => Ok(()),
        Some(_) => odd("typ"),
    }
}

fn check_time(claims: &Claims, now_s: u64) -> Result<(), JwtError> {
    let leeway = limits::JWT_LEEWAY_S;
    if claims.exp.saturating_add(leeway) <= now_s {
        return Err(JwtError::Expired);
    }
    let begins = claims.nbf.into_iter().chain(claims.iat).max();
    if begins.is_some_and(|begins| begins > now_s.saturating_add(leeway)) {
        return Err(JwtError::NotYet);
    }
    let latest = now_s.saturating_add(limits::JWT_LIFETIME_S_MAX + leeway);
    if claims.exp > latest { Err(JwtError::TooLong) } else { Ok(()) }
}

fn bearer(claims: Claims) -> Result<Bearer, JwtError> {
    let wrong = |claim, problem: String| JwtError::Claim { claim, problem };
    let subject = claims.sub;
    let most = limits::JWT_SUBJECT_BYTES_MAX;
    if subject.is_empty() || subject.len() > most || subject.chars().any(char::is_control) {
        return Err(wrong("sub", format!("must have 1 to {most} bytes and no control characters")));
    }
    let tenant = claims
        .tenant
        .parse()
        .map_err(|error: crate::id::IdError| wrong("tenant", format!(": {error}")))?;
    let role: Role = claims
        .role
        .parse()
        .map_err(|error: crate::id::IdError| wrong("role", format!(": {error}")))?;
    if role.is_of_the_provider() {
        let problem = "may not be operator, billing, host or metrics: \
                       these need the daemon's own token, or one that was made with it";
        return Err(wrong("role", problem.into()));
    }
    Ok(Bearer { subject: subject.into(), tenant, role })
}

/// The text of the library's error, without the word "token" twice.
fn told(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidSignature => "its signature is wrong".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the claim `{claim}` is missing"),
        ErrorKind::InvalidIssuer => "`iss` is not the one that is expected here".into(),
        ErrorKind::InvalidAudience => "`aud` is not the one that is expected here".into(),
        // The library's enum is non-exhaustive; its own text serves for the rest.
        _ => error.to_string(),
    }
}
