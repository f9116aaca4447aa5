//! The keys that signatures are checked with: two files of one key each, and a set of keys with
//! ids (RFC 7517), of which several count at once and old ones end at an instant.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;

use crate::id::Digest;
use crate::limits::token as limits;

/// The files of keys, and the accepted claims. At least one file is required.
#[derive(Debug, Clone)]
pub struct JwtConfig {
    /// File with the secret shared with the issuer of HS256 tokens, at least
    /// [`limits::HS256_SECRET_BYTES_MIN`] bytes; a line break at its end is no part of it.
    pub hs256_secret: Option<PathBuf>,
    /// File with the Ed25519 public key, in PEM, of the issuer of EdDSA tokens.
    pub eddsa_public_key: Option<PathBuf>,
    /// File with a set of keys (RFC 7517), each with a `kid`. Its `exp`, in seconds since 1970, is
    /// the first instant at which it counts no more; one without `exp` counts as long as it is
    /// there.
    pub keys: Option<PathBuf>,
    /// Required value of `iss`.
    pub issuer: String,
    /// Required value of `aud`, or one of its values.
    pub audience: String,
}

/// The reason for which a configuration of signed tokens is refused.
#[derive(Debug, thiserror::Error)]
pub enum JwtConfigError {
    /// A file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A file with a secret is open to everybody.
    #[error("{} holds a secret that all can use (mode {mode:o}); chmod 600 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is no key to check a signature with.
    #[error(
        "signed tokens need a key: give an HS256 secret, an EdDSA public key, or a set of keys"
    )]
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
    /// The text is not a set of keys.
    #[error("{} is not a set of keys (RFC 7517): {{\"keys\": [...]}}", path.display())]
    NoSet {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        #[source]
        source: serde_json::Error,
    },
    /// The number of keys of the set is out of range.
    #[error("{} holds {count} keys; a set has 1 to {}", path.display(), limits::JWT_KEYS_MAX)]
    Count {
        /// The file.
        path: PathBuf,
        /// Number of its keys.
        count: usize,
    },
    /// A key of the set can't be used.
    #[error("{}: key {number} {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Its place in the set, from 1.
        number: usize,
        /// The fault, and what is valid.
        problem: String,
    },
    /// The issuer or the audience is empty, so that tokens for other services would pass.
    #[error("signed tokens need an issuer and an audience that are not empty")]
    NoIssuer,
}

/// The content of a file, and its permissions.
struct Content {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl Content {
    fn read(path: &Path) -> Result<Self, JwtConfigError> {
        let failed = |source| JwtConfigError::Read { path: path.into(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(Self { path: path.into(), bytes, mode })
    }

    /// Refuses a file with a secret that everybody can read or change.
    fn check_closed(&self) -> Result<(), JwtConfigError> {
        match self.mode & 0o007 {
            0 => Ok(()),
            _ => Err(JwtConfigError::Open { path: self.path.clone(), mode: self.mode }),
        }
    }
}

/// The contents of all files.
pub(super) struct Contents {
    hs256: Option<Content>,
    eddsa: Option<Content>,
    set: Option<Content>,
}

impl Contents {
    pub(super) fn read(config: &JwtConfig) -> Result<Self, JwtConfigError> {
        let read = |file: &Option<PathBuf>| file.as_deref().map(Content::read).transpose();
        Ok(Self {
            hs256: read(&config.hs256_secret)?,
            eddsa: read(&config.eddsa_public_key)?,
            set: read(&config.keys)?,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        let all = [&self.hs256, &self.eddsa, &self.set];
        let digest = |content: &Option<Content>| match content {
            Some(content) => Digest::of(&content.bytes).0.to_vec(),
            None => Vec::new(),
        };
        Digest::of(&all.map(digest).concat())
    }
}

/// A key.
pub(super) struct Key {
    /// None for the key of a file by itself.
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// First second since 1970 at which it counts no more.
    until_s: Option<u64>,
}

/// The keys that count.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    pub(super) fn of(config: &JwtConfig, contents: &Contents) -> Result<Self, JwtConfigError> {
        let mut keys = Vec::new();
        let mut add = |algorithm, key| keys.push(Key { id: None, algorithm, key, until_s: None });
        if let Some(content) = &contents.hs256 {
            content.check_closed()?;
            let secret = content.bytes.trim_ascii_end();
            if secret.len() < limits::HS256_SECRET_BYTES_MIN {
                return Err(JwtConfigError::ShortSecret { bytes: secret.len() });
            }
            add(Algorithm::HS256, DecodingKey::from_secret(secret));
        }
        if let Some(content) = &contents.eddsa {
            let pem = String::from_utf8_lossy(&content.bytes);
            let key = VerifyingKey::from_public_key_pem(&pem);
            let key = key.map_err(|error| JwtConfigError::NoPublicKey(error.to_string()))?;
            add(Algorithm::EdDSA, DecodingKey::from_ed_der(key.as_bytes()));
        }
        if let Some(content) = &contents.set {
            keys.extend(set(content)?);
        }
        match keys.is_empty() && config.keys.is_none() {
            true => Err(JwtConfigError::NoKey),
            false => Ok(Self(keys)),
        }
    }

    /// The key that a token's header selects: the one with its `kid`, or else the one without.
    ///
    /// # Errors
    /// The reason for which no key counts.
    pub(super) fn find(&self, header: &Header, now_s: u64) -> Result<&Key, String> {
        let fits = self.0.iter().filter(|key| key.algorithm == header.alg);
        let named = fits.clone().find(|key| key.id.is_some() && key.id == header.kid);
        let key = named.or_else(|| fits.clone().find(|key| key.id.is_none()));
        let key = key.ok_or_else(|| {
            let what = match &header.kid {
                Some(_) => "with the token's `kid`",
                None => "without a `kid`",
            };
            format!("there is no key for {:?} {what} on this host", header.alg)
        })?;
        match key.until_s {
            Some(until) if until <= now_s => Err("the time of its key has ended".into()),
            Some(_) | None => Ok(key),
        }
    }
}

/// The content of a set. Members that are not named are ignored, as the standard asks.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    k: Option<String>,
    d: Option<String>,
    exp: Option<u64>,
}

/// The keys of a set.
fn set(content: &Content) -> Result<Vec<Key>, JwtConfigError> {
    let path = &content.path;
    let form = |source| JwtConfigError::NoSet { path: path.clone(), source };
    let Set { keys: wanted } = serde_json::from_slice(&content.bytes).map_err(form)?;
    if !(1..=limits::JWT_KEYS_MAX).contains(&wanted.len()) {
        return Err(JwtConfigError::Count { path: path.clone(), count: wanted.len() });
    }
    let mut keys: Vec<Key> = Vec::new();
    for (jwk, number) in wanted.into_iter().zip(1..) {
        let wrong = |problem: String| JwtConfigError::Key { path: path.clone(), number, problem };
        let key = jwk.key().map_err(wrong)?;
        if keys.iter().any(|other| other.id == key.id) {
            return Err(wrong("has the `kid` of another one".into()));
        }
        keys.push(key);
    }
    if keys.iter().any(|key| key.algorithm == Algorithm::HS256) {
        content.check_closed()?;
    }
    Ok(keys)
}

impl Jwk {
    fn key(self) -> Result<Key, String> {
        let most = limits::JWT_KID_BYTES_MAX;
        let id = self.kid.as_ref().filter(|kid| (1..=most).contains(&kid.len()));
        let id = id.ok_or_else(|| format!("needs a `kid` of 1 to {most} bytes"))?;
        if self.purpose.as_ref().is_some_and(|purpose| purpose != "sig") {
            return Err("is not for signatures: its `use` must be sig, or absent".into());
        }
        let (algorithm, key) = match self.kty.as_str() {
            "oct" => (Algorithm::HS256, self.secret()?),
            "OKP" => (Algorithm::EdDSA, self.public()?),
            _ => return Err("has another `kty` than OKP (EdDSA) and oct (HS256)".into()),
        };
        Ok(Key { id: Some(id.clone()), algorithm, key, until_s: self.exp })
    }

    fn secret(&self) -> Result<DecodingKey, String> {
        if self.alg.as_ref().is_some_and(|alg| alg != "HS256") {
            return Err("is a secret whose `alg` is not HS256".into());
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(self.k.as_deref().unwrap_or_default());
        let least = limits::HS256_SECRET_BYTES_MIN;
        match bytes {
            Ok(bytes) if bytes.len() >= least => Ok(DecodingKey::from_secret(&bytes)),
            _ => Err(format!("needs a `k` of {least} or more bytes in base64url without padding")),
        }
    }

    fn public(&self) -> Result<DecodingKey, String> {
        if self.crv.as_deref() != Some("Ed25519") {
            return Err("is of another curve: its `crv` must be Ed25519".into());
        }
        if self.alg.as_ref().is_some_and(|alg| !["EdDSA", "Ed25519"].contains(&alg.as_str())) {
            return Err("is of Ed25519, but its `alg` is not EdDSA".into());
        }
        if self.d.is_some() {
            return Err("is a private key, which is the issuer's alone: leave out its `d`".into());
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(self.x.as_deref().unwrap_or_default());
        let bytes = bytes.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        let key = key.ok_or("needs an `x`: an Ed25519 public key in base64url without padding")?;
        Ok(DecodingKey::from_ed_der(key.as_bytes()))
    }
}
