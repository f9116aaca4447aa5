//! The cache of compiled policies on disk, so that a start compiles nothing.
//!
//! A file is an HMAC-SHA256 with a key of the host, followed by the artifact: what is loaded from
//! it runs as machine code in the daemon. So a file that another host wrote, that was altered, torn
//! or renamed is not loaded, but compiled anew. The folder belongs to this user alone (mode 0700).

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;

use crate::id::Digest;

const SEAL_BYTES: usize = 32;

/// Name of the file with the folder's own key.
const KEY: &str = "key";

/// The key that authenticates compiled policies. Who has it can run code in the daemon.
#[derive(Clone)]
pub struct CacheKey([u8; 32]);

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheKey")
    }
}

impl From<[u8; 32]> for CacheKey {
    fn from(secret: [u8; 32]) -> Self {
        Self(secret)
    }
}

/// An error of using the cache folder.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder can't be created or read.
    #[error("can't use {folder} for compiled policies")]
    Folder {
        /// Path of the folder.
        folder: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another user could put machine code into the folder.
    #[error(
        "{folder} holds machine code and must be a folder of this user with mode 0700; it has mode \
         {mode:04o} and owner {owner}. Remove it, and the daemon creates it anew"
    )]
    Open {
        /// Path of the folder.
        folder: PathBuf,
        /// Permission bits of the folder.
        mode: u32,
        /// User id of the folder's owner.
        owner: u32,
    },
}

pub(super) struct Cache {
    folder: PathBuf,
    key: CacheKey,
}

impl Cache {
    /// Opens a folder, and creates it if it is missing. Without a key it takes the one that lies in
    /// the folder itself.
    pub(super) fn open(folder: &Path, key: Option<CacheKey>) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Folder { folder: folder.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let found = fs::symlink_metadata(folder).map_err(failed)?;
        let mode = found.permissions().mode() & 0o7777;
        let owner = found.uid();
        if !found.is_dir() || mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Open { folder: folder.into(), mode, owner });
        }
        let key = match key {
            Some(key) => key,
            None => own_key(folder).map_err(failed)?,
        };
        Ok(Self { folder: folder.into(), key })
    }

    /// Returns the artifact of a policy; none if it is missing or not this host's.
    pub(super) fn get(&self, digest: Digest) -> Option<Vec<u8>> {
        let mut file = fs::read(self.file(digest)).ok()?;
        let (seal, artifact) = file.split_at_checked(SEAL_BYTES)?;
        if self.mac(digest, artifact)?.verify_slice(seal).is_err() {
            tracing::warn!(
                policy = %digest,
                "the compiled policy is damaged or not this host's; compiling it again"
            );
            return None;
        }
        file.drain(..SEAL_BYTES);
        Some(file)
    }

    /// Removes a compiled policy, if there is one.
    pub(super) fn remove(&self, digest: Digest) {
        match fs::remove_file(self.file(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(policy = %digest, %error, "can't remove the compiled policy");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Stores the artifact of a policy. A failure is logged only: it costs the next start a
    /// compilation. So does a file that a loss of power tore, which is why nothing is synced.
    pub(super) fn put(&self, digest: Digest, artifact: &[u8]) {
        if let Err(error) = self.write(digest, artifact) {
            tracing::warn!(
                policy = %digest, %error,
                "can't store the compiled policy; the next start compiles it again"
            );
        }
    }

    fn write(&self, digest: Digest, artifact: &[u8]) -> io::Result<()> {
        let mac = self.mac(digest, artifact).ok_or_else(|| io::Error::other("no key"))?;
        let mut new = tempfile::NamedTempFile::new_in(&self.folder)?;
        new.write_all(&mac.finalize().into_bytes())?;
        new.write_all(artifact)?;
        new.persist(self.file(digest)).map_err(|failed| failed.error)?;
        Ok(())
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.compiled"))
    }

    /// The authentication code of an artifact. It covers the component's digest, so that a renamed
    /// file counts as damaged.
    fn mac(&self, digest: Digest, artifact: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).ok()?;
        mac.update(&digest.0);
        mac.update(artifact);
        Some(mac)
    }
}

/// The key that lies in a folder; a new one if there is none.
fn own_key(folder: &Path) -> io::Result<CacheKey> {
    let path = folder.join(KEY);
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    new.write_all(&secret)?;
    match new.persist_noclobber(&path) {
        // Another process may have made it just now.
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(failed) => return Err(failed.error),
        Ok(_) => return Ok(CacheKey(secret)),
    }
    let known = fs::read(&path)?;
    let known = <[u8; 32]>::try_from(known.as_slice());
    known.map(CacheKey).map_err(|_| io::Error::other(format!("{} is no key", path.display())))
}
