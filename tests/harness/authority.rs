//! Certificates for tests: an authority, and what it signs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority whose key exists in this process alone.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }
}

impl Authority {
    /// Writes the authority's own certificate as `ca.pem` into the folder.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("ca.pem");
        fs::write(&file, self.0.pem()).expect("written");
        file
    }

    /// Writes a certificate of 127.0.0.1 and its key as `cert.pem` and `key.pem` into the folder.
    pub fn issue(&self, folder: &Path) -> (PathBuf, PathBuf) {
        self.issue_to("127.0.0.1", folder)
    }

    /// Writes a certificate of a name or an address and its key as `cert.pem` and `key.pem` into
    /// the folder.
    pub fn issue_to(&self, name: &str, folder: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &*self.0).expect("a certificate");
        let files = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&files.0, certificate.pem()).expect("written");
        fs::write(&files.1, key.serialize_pem()).expect("written");
        fs::set_permissions(&files.1, fs::Permissions::from_mode(0o600)).expect("set");
        files
    }
}
