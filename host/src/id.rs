//! Identifiers, one type each, so that they can't be confused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Error of parsing an identifier. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty or too long.
    #[error("{what} must have 1 to {max} characters, got {len}")]
    Length {
        /// Kind of identifier, such as `an instance's name`.
        what: &'static str,
        /// Longest accepted length, in characters.
        max: usize,
        /// Length of the text, in characters.
        len: usize,
    },
    /// The text has a character that is not allowed.
    #[error(
        "{what} may hold a-z, 0-9 and '-', and must begin and end with a letter or digit; \
         '{text}' does not"
    )]
    Alphabet {
        /// Kind of identifier, such as `an instance's name`.
        what: &'static str,
        /// The text, cut after 80 characters.
        text: String,
    },
    /// A digest that is not 64 lower-case hexadecimal digits.
    #[error(
        "a digest is 64 lower-case hexadecimal digits, optionally after 'sha256:'; '{text}' is not"
    )]
    Digest {
        /// The text, cut after 80 characters.
        text: String,
    },
    /// A token's id that is not 24 lower-case hexadecimal digits.
    #[error(
        "a token's id is {} lower-case hexadecimal digits; '{text}' is not",
        2 * TOKEN_ID_BYTES
    )]
    Token {
        /// The text, cut after 80 characters.
        text: String,
    },
    /// A word that is not in a closed set of words.
    #[error("'{text}' is not {what}; there are: {known}")]
    Word {
        /// Kind of word, with its article, such as `a role`.
        what: &'static str,
        /// The text, cut after 80 characters.
        text: String,
        /// The words of the set, separated by commas.
        known: String,
    },
}

/// Defines an enum that is a closed set of words: its members, [`ALL`], their names, parsing and
/// formatting.
///
/// [`ALL`]: crate::tenant::Role::ALL
macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $what:literal {
        $($(#[$of:meta])* $member:ident = $text:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$of])* $member,)+ }

        impl $type {
            /// Every member, in the order of declaration.
            pub const ALL: [$type; [$($text),+].len()] = [$($type::$member),+];

            /// Name in JSON and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$member => $text,)+ }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::id::IdError;
            fn from_str(text: &str) -> Result<Self, $crate::id::IdError> {
                let unknown = || $crate::id::IdError::Word {
                    what: $what,
                    text: text.chars().take(80).collect(),
                    known: Self::ALL.map(Self::as_str).join(", "),
                };
                Self::ALL.into_iter().find(|word| word.as_str() == text).ok_or_else(unknown)
            }
        }
    };
}

pub(crate) use words;

/// The first 80 characters of a client's text, for an error message.
pub fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check_name($what, text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'a> Deserialize<'a> for $type {
            fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Longest name in characters; fits a DNS label.
pub const NAME_CHARS_MAX: usize = 63;

fn check_name(what: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > NAME_CHARS_MAX {
        return Err(IdError::Length { what, max: NAME_CHARS_MAX, len: text.chars().count() });
    }
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = inner(bytes[0]) && inner(bytes[bytes.len() - 1]);
    if !ends || !bytes.iter().all(|&c| inner(c) || c == b'-') {
        return Err(IdError::Alphabet { what, text: text.chars().take(80).collect() });
    }
    Ok(())
}

name!(
    /// Id of a tenant, the party that is billed. Every host has [`TenantId::default_tenant`].
    TenantId, "a tenant's id"
);
name!(
    /// Id of an instance: 24 characters, chosen by the host.
    InstanceId, "an instance's id"
);
name!(
    /// Name of an instance, chosen by the client; unique within its tenant among those not deleted.
    InstanceName, "an instance's name"
);
name!(
    /// Name of a policy; unique within its tenant.
    PolicyName, "a policy's name"
);
name!(
    /// Name of a price book; unique within its tenant.
    BookName, "a price book's name"
);
name!(
    /// Name of a tariff, or of one of its versions; unique on its host.
    TariffName, "a tariff's name"
);
name!(
    /// Name of a host in a fleet; unique at its collector.
    HostName, "a host's name"
);
name!(
    /// Name of an image; unique on its host.
    ImageName, "an image's name"
);
name!(
    /// Name of a snapshot; unique within its instance.
    SnapshotName, "a snapshot's name"
);

impl TenantId {
    /// The tenant `default`, which the daemon makes at its first start.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

impl InstanceId {
    /// A fresh random id: a letter, then 23 letters or digits (124 bits).
    pub fn random() -> Self {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut rng = rand::rng();
        let mut text = String::with_capacity(Self::CHARS);
        text.push(char::from(ALPHABET[rng.random_range(0..26)]));
        text.extend((1..Self::CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..36)])));
        Self(text.into())
    }

    /// Length of a random id, in characters.
    const CHARS: usize = 24;

    /// Returns whether the text has the length of [`InstanceId::random`]'s, which names seldom
    /// have.
    pub fn is_of_ours(&self) -> bool {
        self.0.len() == Self::CHARS
    }
}

/// SHA-256 of a component's bytes, which identifies a policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The first twelve digits, for tables.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        lower_hex(digits)
            .map(Self)
            .ok_or_else(|| IdError::Digest { text: text.chars().take(80).collect() })
    }
}

/// Parses exactly `2 * N` lower-case hexadecimal digits.
fn lower_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !digits.bytes().any(|c| c.is_ascii_uppercase());
    (lower && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// Length of a token's id, in bytes.
const TOKEN_ID_BYTES: usize = 12;

/// Id of an API token: the first 96 bits of its secret's SHA-256. The secret can't be derived from
/// it, nor another secret found that has the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; TOKEN_ID_BYTES]);

impl TokenId {
    /// The id of the token whose secret has this hash.
    pub fn of(secret: &Digest) -> Self {
        let mut bytes = [0; TOKEN_ID_BYTES];
        bytes.copy_from_slice(&secret.0[..TOKEN_ID_BYTES]);
        Self(bytes)
    }
}

impl FromStr for TokenId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        lower_hex(text)
            .map(Self)
            .ok_or_else(|| IdError::Token { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}
