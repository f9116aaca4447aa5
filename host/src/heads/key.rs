//! The host's key, and what it signs.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::journal::Head;

/// An error of the file with the host's key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("can't {doing} the key for signed heads in {}", path.display())]
    File {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{} is a private key that others can use ({mode:o}); chmod 600 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is no such file.
    #[error("the key for signed heads is missing: {} is not there", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no key.
    #[error(
        "{} holds no Ed25519 key in PEM (PKCS #8); put the key back, or move the file away for a \
         new key",
        path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
}

/// The host's key.
pub struct HeadKey(SigningKey);

impl HeadKey {
    /// Reads the key, or makes one. Blocking.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        match Self::read(path) {
            Err(KeyError::Missing { .. }) => Self::make(path),
            read => read,
        }
    }

    /// Reads the key. Blocking.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyError::Missing { path: path.into() },
            _ => KeyError::File { doing: "read", path: path.into(), source },
        };
        let mode = fs::metadata(path).map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.into(), mode });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let key = SigningKey::from_pkcs8_pem(&text);
        key.map(Self).map_err(|_| KeyError::Form { path: path.into() })
    }

    fn make(path: &Path) -> Result<Self, KeyError> {
        let mut seed = [0_u8; 32];
        rand::rng().fill_bytes(&mut seed);
        let key = SigningKey::from_bytes(&seed);
        let text = key.to_pkcs8_pem(LineEnding::LF);
        let text = text.map_err(|_| KeyError::Form { path: path.into() })?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        let path = path.to_owned();
        written.map_err(|source| KeyError::File { doing: "write", path, source })?;
        Ok(Self(key))
    }

    /// The public key, which may be shown to everybody.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// A secret for another purpose, which follows from the key and tells nothing about it.
    pub fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut text = b"tallyman derived key 1\n".to_vec();
        text.extend(purpose.as_bytes());
        text.extend(self.0.to_bytes());
        Sha256::digest(&text).into()
    }

    /// Signs a head at `at_s` seconds since 1970.
    pub fn sign(&self, head: Head, groups: Groups, at_s: u64) -> SignedHead {
        let mut signed = SignedHead {
            seq: head.seq,
            hash: head.hash.to_string(),
            groups: Some(groups),
            at_s,
            signature: String::new(),
        };
        signed.signature = hex::encode(self.0.sign(signed.text().as_bytes()).to_bytes());
        signed
    }
}

/// A public key, as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a public key has 64 hexadecimal digits; GET /journal/heads shows it";
        let bytes = hex::decode(text.trim()).map_err(|_| wrong())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| wrong())?;
        Ok(Self(VerifyingKey::from_bytes(&bytes).map_err(|_| wrong())?))
    }
}

/// The trees that a head signs: one over the facts of each group, and one over those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Number of groups: tenants that ever had a fact, the calendar, and the host.
    pub count: u64,
    /// Root of the Merkle tree over the groups: 64 hexadecimal digits.
    pub root: String,
}

/// An end of the journal with the host's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// Sequence number of the last fact that it covers.
    pub seq: u64,
    /// The link of that fact in the chain: 64 hexadecimal digits.
    pub hash: String,
    /// The trees over the facts by tenant; absent from heads of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// Time of the signature by the wall clock, in seconds since 1970.
    pub at_s: u64,
    /// Ed25519 signature of the lines `tallyman head 2`, `seq`, `hash`, the number of groups, the
    /// root over them, and `at_s`, each with a line feed: 128 hexadecimal digits. Without trees
    /// the first line is `tallyman head 1`, and theirs are left out.
    pub signature: String,
}

impl SignedHead {
    /// The text that is signed.
    fn text(&self) -> String {
        let Self { seq, hash, at_s, .. } = self;
        match &self.groups {
            None => format!("tallyman head 1\n{seq}\n{hash}\n{at_s}\n"),
            Some(Groups { count, root }) => {
                format!("tallyman head 2\n{seq}\n{hash}\n{count}\n{root}\n{at_s}\n")
            }
        }
    }

    /// Returns whether the signature is that of the key.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        let bytes = hex::decode(&self.signature).unwrap_or_default();
        // There is one way to write a signature down.
        let is_plain = hex::encode(&bytes) == self.signature;
        is_plain
            && Signature::from_slice(&bytes).is_ok_and(|signature| {
                key.0.verify_strict(self.text().as_bytes(), &signature).is_ok()
            })
    }
}
