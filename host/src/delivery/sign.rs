//! Signatures as Standard Webhooks define them: HMAC-SHA256 over id, time and body.

use std::fmt::{self, Write as _};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer};
use sha2::Sha256;

/// The bytes before a secret's base64.
const MARK: &str = "whsec_";

/// A secret that a receiver knows, too: 24 to 64 bytes.
#[derive(Clone)]
pub(super) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'a> Deserialize<'a> for Secret {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = text.strip_prefix(MARK).and_then(|text| STANDARD.decode(text).ok());
        let wrong = || {
            serde::de::Error::custom(
                "a secret is `whsec_` and the base64 of 24 to 64 random bytes; make one with \
                 echo whsec_$(openssl rand -base64 32)",
            )
        };
        bytes.filter(|bytes| (24..=64).contains(&bytes.len())).map(Secret).ok_or_else(wrong)
    }
}

/// Returns the value of the header `webhook-signature`: one signature for each secret.
pub(super) fn signatures(secrets: &[Secret], id: &str, time_s: i64, body: &[u8]) -> String {
    let mut value = String::new();
    for Secret(secret) in secrets {
        // A key of any length is taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { continue };
        mac.update(format!("{id}.{time_s}.").as_bytes());
        mac.update(body);
        let space = if value.is_empty() { "" } else { " " };
        // Writing to a string can't fail.
        let _ = write!(value, "{space}v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let secret = "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        let secret: Secret = serde_json::from_str(secret).expect("a secret");
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = br#"{"test": 2432232314}"#;
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let two = [secret.clone(), secret];
        assert_eq!(signatures(&two[..1], id, 1_614_265_330, body), expected);
        let both = signatures(&two, id, 1_614_265_330, body);
        assert_eq!(both, format!("{expected} {expected}"));
    }
}
