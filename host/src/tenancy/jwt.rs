//! Signed tokens of an external issuer (RFC 7519): the holder of the key may issue short-lived
//! access for tenants. Anything unusual is refused.

use std::sync::{Arc, Once};

use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use serde::Deserialize;
use sha2::Sha256;

use crate::id::TenantId;
use crate::limits::token as limits;
use crate::tenant::Role;

/// The accepted keys and claims of signed tokens. At least one key is required.
#[derive(Clone)]
pub struct JwtConfig {
    /// Secret shared with the issuer of HS256 tokens, at least [`limits::HS256_SECRET_BYTES_MIN`]
    /// bytes; none accepts no HS256 token.
    pub hs256_secret: Option<Vec<u8>>,
    /// Ed25519 public key, in PEM, of the issuer of EdDSA tokens; none accepts no EdDSA token.
    pub eddsa_public_key: Option<String>,
    /// Required value of `iss`.
    pub issuer: String,
    /// Required value of `aud`, or one of its values.
    pub audience: String,
}

/// Omits the keys, which must not get into logs.
impl std::fmt::Debug for JwtConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let JwtConfig { issuer, audience, .. } = self;
        f.debug_struct("JwtConfig")
            .field("issuer", issuer)
            .field("audience", audience)
            .finish_non_exhaustive()
    }
}

/// The reason for which a configuration of signed tokens is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtConfigError {
    /// There is no key to check a signature with.
    #[error("signed tokens need a key: give an HS256 secret, an EdDSA public key, or both")]
    NoKey,
    /// The secret is short enough to be guessed.
    #[error(
        "the HS256 secret has {bytes} bytes; it needs {} or more",
        limits::HS256_SECRET_BYTES_MIN
    )]
    ShortSecret {
        /// Length of the secret in bytes.
        bytes: usize,
    },
    /// The text is not an Ed25519 public key.
    #[error("this is not an Ed25519 public key in PEM (`-----BEGIN PUBLIC KEY-----`): {0}")]
    NoPublicKey(String),
    /// The issuer or the audience is empty, so that tokens for other services would pass.
    #[error("signed tokens need an issuer and an audience that are not empty")]
    NoIssuer,
}

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
    keys: Vec<(Algorithm, DecodingKey)>,
    issuer: String,
    audience: String,
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
    /// A checker with these keys.
    ///
    /// # Errors
    /// [`JwtConfigError`] for a weak or incomplete configuration.
    pub fn new(config: JwtConfig) -> Result<Self, JwtConfigError> {
        install();
        if config.issuer.is_empty() || config.audience.is_empty() {
            return Err(JwtConfigError::NoIssuer);
        }
        let mut keys = Vec::new();
        if let Some(secret) = &config.hs256_secret {
            if secret.len() < limits::HS256_SECRET_BYTES_MIN {
                return Err(JwtConfigError::ShortSecret { bytes: secret.len() });
            }
            keys.push((Algorithm::HS256, DecodingKey::from_secret(secret)));
        }
        if let Some(pem) = &config.eddsa_public_key {
            let key = VerifyingKey::from_public_key_pem(pem);
            let key = key.map_err(|error| JwtConfigError::NoPublicKey(error.to_string()))?;
            keys.push((Algorithm::EdDSA, DecodingKey::from_ed_der(key.as_bytes())));
        }
        if keys.is_empty() {
            return Err(JwtConfigError::NoKey);
        }
        Ok(Self { keys, issuer: config.issuer, audience: config.audience })
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
        // The algorithm is that of the key; the header only selects among the configured keys.
        let (algorithm, key) =
            self.keys.iter().find(|(algorithm, _)| *algorithm == header.alg).ok_or_else(|| {
                unsound(format!("there is no key for {:?} on this host", header.alg))
            })?;
        let mut validation = Validation::new(*algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // The time is checked below, against the host's own clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
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
        let problem = "may not be operator or billing: \
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

/// Restricts the library to two algorithms, for verification only.
fn install() {
    static ONCE: Once = Once::new();
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    ONCE.call_once(|| {
        if PROVIDER.install_default().is_err() {
            unreachable!("nobody else in this program checks signed tokens");
        }
    });
}

fn verifier(
    algorithm: &Algorithm,
    key: &DecodingKey,
) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    let bytes = key.try_get_as_bytes()?;
    match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            let mac = Hmac::new_from_slice(bytes).map_err(|_| ErrorKind::InvalidKeyFormat)?;
            Ok(Box::new(Hs256(mac)))
        }
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            let bytes = bytes.try_into().map_err(|_| ErrorKind::InvalidEddsaKey)?;
            Ok(Box::new(EdDsa(
                VerifyingKey::from_bytes(bytes).map_err(|_| ErrorKind::InvalidEddsaKey)?,
            )))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Hs256(Hmac<Sha256>);

impl signature::Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], shown: &Vec<u8>) -> Result<(), signature::Error> {
        // Compares in constant time.
        self.0
            .clone()
            .chain_update(message)
            .verify_slice(shown)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

struct EdDsa(VerifyingKey);

impl signature::Verifier<Vec<u8>> for EdDsa {
    fn verify(&self, message: &[u8], shown: &Vec<u8>) -> Result<(), signature::Error> {
        // Strict verification: refuses weak keys and malleable signatures.
        self.0.verify_strict(message, &Signature::from_slice(shown)?)
    }
}

impl JwtVerifier for EdDsa {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    use ed25519_dalek::pkcs8::EncodePublicKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use ed25519_dalek::{Signer, SigningKey};
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"a secret of 32 bytes, at the least";

    fn signing() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn public() -> String {
        signing().verifying_key().to_public_key_pem(LineEnding::LF).expect("a key")
    }

    fn config() -> JwtConfig {
        JwtConfig {
            hs256_secret: Some(SECRET.into()),
            eddsa_public_key: Some(public()),
            issuer: "https://id.example".into(),
            audience: "tallyman".into(),
        }
    }

    fn jwt() -> Jwt {
        Jwt::new(config()).expect("a good configuration")
    }

    fn claims() -> Value {
        json!({
            "iss": "https://id.example", "aud": "tallyman", "sub": "ci", "exp": NOW + 600,
            "tenant": "acme", "role": "tenant-reader",
        })
    }

    fn hmac(secret: &[u8], message: &str) -> Vec<u8> {
        Hmac::<Sha256>::new_from_slice(secret)
            .expect("any")
            .chain_update(message)
            .finalize()
            .into_bytes()
            .to_vec()
    }

    fn signed(header: &Value, claims: &Value, sign: impl Fn(&str) -> Vec<u8>) -> String {
        let message =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = BASE64.encode(sign(&message));
        format!("{message}.{signature}")
    }

    fn hs256(claims: &Value) -> String {
        signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, |message| hmac(SECRET, message))
    }

    fn eddsa(claims: &Value) -> String {
        signed(&json!({"alg": "EdDSA"}), claims, |message| {
            signing().sign(message.as_bytes()).to_vec()
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_token_that_is_right_says_who_speaks_for_whom() {
        let expected = Bearer {
            subject: "ci".into(),
            tenant: "acme".parse().expect("a name"),
            role: Role::TenantReader,
        };
        for token in
            [hs256(&claims()), eddsa(&claims()), hs256(&with("aud", json!(["else", "tallyman"])))]
        {
            assert_eq!(jwt().check(&token, NOW), Ok(expected.clone()));
        }
    }

    #[test]
    fn every_required_claim_is_required() {
        for name in ["iss", "aud", "sub", "exp", "tenant", "role"] {
            let mut without = claims();
            without.as_object_mut().expect("an object").remove(name);
            for token in [hs256(&without), eddsa(&without)] {
                let refused = jwt().check(&token, NOW).expect_err(name).to_string();
                assert!(refused.contains(name), "{name}: {refused}");
            }
        }
    }

    #[test]
    fn a_claim_that_is_odd_is_refused() {
        let long = "x".repeat(limits::JWT_SUBJECT_BYTES_MAX + 1);
        let rows = [
            ("iss", json!("https://evil.example")),
            ("iss", json!(7)),
            ("aud", json!("somebody-else")),
            ("aud", json!([])),
            ("aud", json!(null)),
            ("sub", json!("")),
            ("sub", json!("a\nb")),
            ("sub", json!(long)),
            ("exp", json!("soon")),
            ("exp", json!(-1)),
            ("exp", json!(null)),
            ("exp", json!(1.8e9)),
            ("nbf", json!("now")),
            ("tenant", json!("Not A Name")),
            ("tenant", json!(["acme"])),
            ("role", json!("operator")),
            ("role", json!("root")),
            ("role", json!(["tenant-admin"])),
        ];
        for (name, value) in rows {
            let odd = with(name, value);
            assert!(jwt().check(&hs256(&odd), NOW).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_time_is_kept_to_with_a_little_leeway() {
        let at =
            |name, seconds: u64| jwt().check(&hs256(&with(name, json!(seconds))), NOW).map(drop);
        let leeway = limits::JWT_LEEWAY_S;
        let longest = limits::JWT_LIFETIME_S_MAX;
        assert_eq!(at("exp", NOW - leeway), Err(JwtError::Expired));
        assert_eq!(at("exp", NOW - leeway + 1), Ok(()));
        assert_eq!(at("exp", NOW + longest + leeway), Ok(()));
        assert_eq!(at("exp", NOW + longest + leeway + 1), Err(JwtError::TooLong));
        assert_eq!(at("exp", u64::MAX), Err(JwtError::TooLong));
        for begins in ["nbf", "iat"] {
            assert_eq!(at(begins, NOW + leeway), Ok(()));
            assert_eq!(at(begins, NOW + leeway + 1), Err(JwtError::NotYet));
        }
    }

    #[test]
    fn an_algorithm_without_a_key_here_is_refused_however_it_is_signed() {
        for algorithm in ["none", "None", "HS384", "HS512", "RS256", "ES256", "hs256", ""] {
            let header = json!({"alg": algorithm, "typ": "JWT"});
            for signature in [Vec::new(), hmac(SECRET, "")] {
                assert!(
                    jwt().check(&signed(&header, &claims(), |_| signature.clone()), NOW).is_err(),
                    "{algorithm}"
                );
            }
        }
        let only_eddsa = Jwt::new(JwtConfig { hs256_secret: None, ..config() }).expect("one key");
        assert!(only_eddsa.check(&hs256(&claims()), NOW).is_err());
        // The public key is not a secret: a token that uses it as one must be refused.
        let forged =
            |key: &[u8]| signed(&json!({"alg": "HS256"}), &claims(), |message| hmac(key, message));
        for key in [public().as_bytes(), signing().verifying_key().as_bytes()] {
            assert!(
                only_eddsa.check(&forged(key), NOW).is_err()
                    && jwt().check(&forged(key), NOW).is_err()
            );
        }
    }

    #[test]
    fn a_header_that_wants_to_be_understood_otherwise_is_refused() {
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("jku", json!("https://evil.example/keys")),
            ("x5u", json!("https://evil.example/cert")),
            ("cty", json!("JWT")),
            ("typ", json!("JWE")),
        ] {
            let mut header = json!({"alg": "HS256", "typ": "JWT"});
            header[name] = value;
            let token = signed(&header, &claims(), |message| hmac(SECRET, message));
            assert!(matches!(jwt().check(&token, NOW), Err(JwtError::Unsound(_))), "{header}");
        }
    }

    #[test]
    fn a_token_that_was_touched_anywhere_is_refused() {
        for token in [hs256(&claims()), eddsa(&claims())] {
            for place in 0..token.len() {
                let mut bytes = token.clone().into_bytes();
                bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
                let touched = String::from_utf8(bytes).expect("ASCII");
                assert!(jwt().check(&touched, NOW).is_err(), "{place}: {touched}");
            }
            for cut in 0..token.len() {
                assert!(jwt().check(&token[..cut], NOW).is_err());
            }
            for odd in [
                format!("{token}."),
                format!(".{token}"),
                format!("{token}.x"),
                format!(" {token}"),
            ] {
                assert!(jwt().check(&odd, NOW).is_err(), "{odd}");
            }
        }
        let huge = hs256(&with("note", json!("x".repeat(limits::JWT_BYTES_MAX))));
        assert!(matches!(jwt().check(&huge, NOW), Err(JwtError::Unsound(_))));
    }

    #[test]
    fn a_weak_or_half_configuration_is_refused() {
        let refused = |config| Jwt::new(config).err();
        let none = JwtConfig { hs256_secret: None, eddsa_public_key: None, ..config() };
        assert_eq!(refused(none), Some(JwtConfigError::NoKey));
        let short = JwtConfig { hs256_secret: Some(vec![1; 31]), ..config() };
        assert_eq!(refused(short), Some(JwtConfigError::ShortSecret { bytes: 31 }));
        assert_eq!(
            refused(JwtConfig { issuer: String::new(), ..config() }),
            Some(JwtConfigError::NoIssuer)
        );
        assert_eq!(
            refused(JwtConfig { audience: String::new(), ..config() }),
            Some(JwtConfigError::NoIssuer)
        );
        let garbage = JwtConfig { eddsa_public_key: Some("no key".into()), ..config() };
        assert!(matches!(refused(garbage), Some(JwtConfigError::NoPublicKey(_))));
        assert!(!format!("{:?}", config()).contains("115, 101"), "a secret in a log");
    }
}
