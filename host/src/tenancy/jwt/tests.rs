use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of 32 bytes, at the least";

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> String {
    signing().verifying_key().to_public_key_pem(LineEnding::LF).expect("a key")
}

/// Writes a file that only its owner can read.
fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, bytes).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    file
}

/// Both keys by themselves, in files of the folder.
fn config(folder: &TempDir) -> JwtConfig {
    JwtConfig {
        hs256_secret: Some(write(folder, "secret", SECRET)),
        eddsa_public_key: Some(write(folder, "public", public().as_bytes())),
        keys: None,
        issuer: "https://id.example".into(),
        audience: "tallyman".into(),
    }
}

/// A set of keys alone, in a file of the folder.
fn with_set(folder: &TempDir, keys: &Value) -> JwtConfig {
    let file = write(folder, "keys", json!({"keys": keys}).to_string().as_bytes());
    let keys = Some(file);
    JwtConfig { hs256_secret: None, eddsa_public_key: None, keys, ..config(folder) }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn jwt() -> Jwt {
    Jwt::new(config(&folder())).expect("a good configuration")
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
    signed(&json!({"alg": "EdDSA"}), claims, |message| signing().sign(message.as_bytes()).to_vec())
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
    let at = |name, seconds: u64| jwt().check(&hs256(&with(name, json!(seconds))), NOW).map(drop);
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
    let folder = folder();
    let only_eddsa = JwtConfig { hs256_secret: None, ..config(&folder) };
    let only_eddsa = Jwt::new(only_eddsa).expect("one key");
    assert!(only_eddsa.check(&hs256(&claims()), NOW).is_err());
    // The public key is not a secret: a token that uses it as one must be refused.
    let forged =
        |key: &[u8]| signed(&json!({"alg": "HS256"}), &claims(), |message| hmac(key, message));
    for key in [public().as_bytes(), signing().verifying_key().as_bytes()] {
        assert!(
            only_eddsa.check(&forged(key), NOW).is_err() && jwt().check(&forged(key), NOW).is_err()
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
        for odd in
            [format!("{token}."), format!(".{token}"), format!("{token}.x"), format!(" {token}")]
        {
            assert!(jwt().check(&odd, NOW).is_err(), "{odd}");
        }
    }
    let huge = hs256(&with("note", json!("x".repeat(limits::JWT_BYTES_MAX))));
    assert!(matches!(jwt().check(&huge, NOW), Err(JwtError::Unsound(_))));
}

#[test]
fn a_weak_or_half_configuration_is_refused() {
    let folder = folder();
    let refused = |config| Jwt::new(config).err().map(|error| error.to_string());
    let good = || config(&folder);
    let short = write(&folder, "short", &[1; 31]);
    let garbage = write(&folder, "garbage", b"no key");
    let open = write(&folder, "open", SECRET);
    fs::set_permissions(&open, Permissions::from_mode(0o644)).expect("set");
    let rows = [
        (JwtConfig { hs256_secret: None, eddsa_public_key: None, ..good() }, "need a key"),
        (JwtConfig { hs256_secret: Some(short), ..good() }, "31 bytes"),
        (JwtConfig { hs256_secret: Some(open), ..good() }, "chmod 600"),
        (JwtConfig { hs256_secret: Some("/nowhere".into()), ..good() }, "can't read /nowhere"),
        (JwtConfig { issuer: String::new(), ..good() }, "an issuer and an audience"),
        (JwtConfig { audience: String::new(), ..good() }, "an issuer and an audience"),
        (JwtConfig { eddsa_public_key: Some(garbage), ..good() }, "BEGIN PUBLIC KEY"),
    ];
    for (config, words) in rows {
        let error = refused(config).expect(words);
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!format!("{:?}", good()).contains("a secret of"), "a secret in a log");
}

/// A key of a set whose seed is the number.
fn jwk(kid: &str, seed: u8) -> Value {
    let public = SigningKey::from_bytes(&[seed; 32]).verifying_key();
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64.encode(public.as_bytes())})
}

/// A token that names its key, which has that seed.
fn named(kid: Option<&str>, seed: u8) -> String {
    let mut header = json!({"alg": "EdDSA"});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let key = SigningKey::from_bytes(&[seed; 32]);
    signed(&header, &claims(), |message| key.sign(message.as_bytes()).to_vec())
}

#[test]
fn several_keys_count_at_once_each_for_tokens_that_name_it() {
    let folder = folder();
    let secret = json!({"kty": "oct", "kid": "c", "k": BASE64.encode(SECRET), "alg": "HS256"});
    let jwt = Jwt::new(with_set(&folder, &json!([jwk("a", 1), jwk("b", 2), secret])));
    let jwt = jwt.expect("a set");
    for (kid, seed) in [("a", 1), ("b", 2)] {
        jwt.check(&named(Some(kid), seed), NOW).expect(kid);
    }
    let by_secret = |kid: &str| {
        signed(&json!({"alg": "HS256", "kid": kid}), &claims(), |message| hmac(SECRET, message))
    };
    jwt.check(&by_secret("c"), NOW).expect("the secret");
    let refused = [
        (named(Some("a"), 2), "signature is wrong"),
        (named(Some("z"), 1), "EdDSA with the token's `kid`"),
        (named(None, 1), "EdDSA without a `kid`"),
        (by_secret("a"), "HS256 with the token's `kid`"),
    ];
    for (token, words) in refused {
        let error = jwt.check(&token, NOW).expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn an_old_key_ends_at_its_instant_and_a_new_one_counts_once_the_file_has_it() {
    let folder = folder();
    let jwt = Jwt::new(with_set(&folder, &json!([jwk("old", 1)]))).expect("a set");
    let old = named(Some("old"), 1);
    let new = named(Some("new"), 2);
    jwt.check(&old, NOW).expect("it counts");
    jwt.check(&new, NOW).expect_err("not yet");
    let mut ending = jwk("old", 1);
    ending["exp"] = NOW.into();
    with_set(&folder, &json!([ending, jwk("new", 2)]));
    assert!(jwt.renew().expect("valid") && !jwt.renew().expect("as before"));
    jwt.check(&new, NOW).expect("it counts");
    jwt.check(&old, NOW - 1).expect("it counts still");
    let ended = jwt.check(&old, NOW).expect_err("it has ended").to_string();
    assert!(ended.contains("time of its key has ended"), "{ended}");
    // A file that is no set changes nothing.
    write(&folder, "keys", b"{}");
    jwt.renew().expect_err("no keys");
    jwt.check(&new, NOW).expect("it counts still");
}

#[test]
fn a_set_with_a_key_that_can_t_be_used_is_refused_with_its_place() {
    let folder = folder();
    let with = |name: &str, value: Value| {
        let mut key = jwk("b", 2);
        key[name] = value;
        key
    };
    let rows = [
        (json!([]), "0 keys; a set has 1 to 64"),
        (json!([jwk("a", 1), jwk("a", 2)]), "key 2 has the `kid` of another"),
        (json!([jwk("a", 1), with("kid", json!(null))]), "key 2 needs a `kid`"),
        (json!([with("kid", json!("x".repeat(129)))]), "1 to 128 bytes"),
        (json!([with("kty", json!("RSA"))]), "OKP (EdDSA) and oct (HS256)"),
        (json!([with("crv", json!("X25519"))]), "must be Ed25519"),
        (json!([with("alg", json!("ES256"))]), "`alg` is not EdDSA"),
        (json!([with("use", json!("enc"))]), "must be sig"),
        (json!([with("d", json!("AAAA"))]), "private key"),
        (json!([with("x", json!("AAAA"))]), "needs an `x`"),
        (json!([{"kty": "oct", "kid": "a", "k": BASE64.encode([1; 31])}]), "32 or more bytes"),
        (json!([{"kty": "oct", "kid": "a", "k": BASE64.encode(SECRET), "alg": "HS512"}]), "HS256"),
        (json!(["a key"]), "is not a set of keys"),
    ];
    for (keys, words) in rows {
        let error = Jwt::new(with_set(&folder, &keys)).err().expect(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let secret = json!([{"kty": "oct", "kid": "c", "k": BASE64.encode(SECRET)}]);
    let config = with_set(&folder, &secret);
    let file = config.keys.clone().expect("a file");
    fs::set_permissions(file, Permissions::from_mode(0o644)).expect("set");
    assert!(matches!(Jwt::new(config), Err(JwtConfigError::Open { .. })));
}
