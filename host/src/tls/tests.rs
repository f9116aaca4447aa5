use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

/// Writes a certificate of `name` into the folder.
fn issue(authority: &Authority, name: &str, folder: &Path) -> Files {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &**authority).expect("a certificate");
    let files = files(folder);
    fs::write(&files.certificate, certificate.pem()).expect("written");
    write_key(&files.key, &key.serialize_pem());
    files
}

fn files(folder: &Path) -> Files {
    Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem") }
}

fn write_key(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

fn trust(authority: &Authority, folder: &TempDir) -> Trust {
    let file = folder.path().join("ca.pem");
    fs::write(&file, authority.pem()).expect("written");
    Trust::of_file(&file).expect("an authority")
}

/// Says one word over TLS; the client's error if it does not trust the server.
async fn said(certificate: &Certificate, trust: &Trust, name: &str) -> Result<String, String> {
    let (near, far) = duplex(1 << 16);
    let serve = async {
        let mut stream = certificate.accept(far).await.map_err(|error| error.to_string())?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())
    };
    let ask = async {
        let mut stream = trust.connect(name, near).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        Ok(text)
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_client_trusts_the_authorities_that_it_was_given_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = authority();
    let certificate = Certificate::open(issue(&ours, "host.example", folder.path()));
    let certificate = certificate.expect("a certificate");
    let trusted = trust(&ours, &folder);
    assert_eq!(said(&certificate, &trusted, "host.example").await.as_deref(), Ok("hello"));
    let other = said(&certificate, &trusted, "other.example").await.expect_err("another name");
    assert!(other.contains("not valid for name"), "{other}");
    for stranger in [trust(&authority(), &folder), Trust::of_system(), Trust::nobody()] {
        let error = said(&certificate, &stranger, "host.example").await.expect_err("a stranger");
        assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = authority();
    let second = authority();
    let certificate = Certificate::open(issue(&first, "a.example", folder.path()));
    let certificate = certificate.expect("a certificate");
    assert!(!certificate.renew().expect("as before"));
    let files = issue(&second, "a.example", folder.path());
    let whole = fs::read(&files.certificate).expect("text");
    let key = fs::read_to_string(&files.key).expect("text");
    // A renewal in progress: the new certificate with the old key, or half a file.
    let bad = [&b"-----BEGIN CERTIFICATE-----\nAA"[..], b"", &whole[..whole.len() / 2]];
    for bad in bad {
        fs::write(&files.certificate, bad).expect("written");
        certificate.renew().expect_err("not a certificate");
        assert!(!certificate.renew().expect("told once"));
    }
    fs::write(&files.certificate, &whole).expect("written");
    write_key(&files.key, &KeyPair::generate().expect("a key").serialize_pem());
    let error = certificate.renew().expect_err("another key");
    assert!(matches!(error, CertificateError::Pair { .. }), "{error}");
    let trusted = trust(&first, &folder);
    assert_eq!(said(&certificate, &trusted, "a.example").await.as_deref(), Ok("hello"));
    write_key(&files.key, &key);
    assert!(certificate.renew().expect("a pair"));
    let trusted = trust(&second, &folder);
    assert_eq!(said(&certificate, &trusted, "a.example").await.as_deref(), Ok("hello"));
}

#[test]
fn files_that_are_none_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = issue(&authority(), "a.example", folder.path());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).expect("set");
    let error = Certificate::open(files.clone()).expect_err("open to all").to_string();
    assert!(error.contains("key.pem") && error.contains("chmod 640"), "{error}");
    fs::remove_file(&files.key).expect("removed");
    let error = Certificate::open(files.clone()).expect_err("no key").to_string();
    assert!(error.contains("can't read") && error.contains("key.pem"), "{error}");
    for (text, words) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n", "PEM")] {
        fs::write(&files.certificate, text).expect("written");
        let error = Trust::of_file(&files.certificate).expect_err("nobody").to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}
