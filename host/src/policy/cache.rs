//! The cache of compiled policies on disk, so that a start compiles nothing.
//!
//! A file is a SHA-256 followed by the artifact that it is of. The folder belongs to this user
//! alone (mode 0700): anybody who can write to it can replace the program as well. The checksum
//! guards against torn and corrupt files, which are compiled anew.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::id::Digest;

const CHECKSUM_BYTES: usize = 32;

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
}

impl Cache {
    pub(super) fn open(folder: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Folder { folder: folder.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let found = fs::symlink_metadata(folder).map_err(failed)?;
        let mode = found.permissions().mode() & 0o7777;
        let owner = found.uid();
        if !found.is_dir() || mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Open { folder: folder.into(), mode, owner });
        }
        Ok(Self { folder: folder.into() })
    }

    /// Returns the compiled policy; none if it is missing, damaged, or refused by this engine.
    pub(super) fn get(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let file = fs::read(self.file(digest)).ok()?;
        let (checksum, artifact) = file.split_at_checked(CHECKSUM_BYTES)?;
        if checksum != seal(digest, artifact) {
            tracing::warn!(policy = %digest, "the compiled policy is damaged; compiling it again");
            return None;
        }
        // SAFETY: the artifact was written by `put` of this user's program, into a folder that
        // nobody else can write to, and has not changed since. The engine itself refuses what
        // another version or other settings have made.
        let component = unsafe { Component::deserialize(engine, artifact) };
        component
            .inspect_err(
                |why| tracing::info!(policy = %digest, %why, "compiling a policy for this engine"),
            )
            .ok()
    }

    /// Returns the path of the folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
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

    /// Stores a compiled policy. A failure is logged only: it costs the next start a compilation.
    pub(super) fn put(&self, digest: Digest, component: &Component) {
        if let Err(error) = self.write(digest, component) {
            tracing::warn!(
                policy = %digest, %error,
                "can't store the compiled policy; the next start compiles it again"
            );
        }
    }

    fn write(&self, digest: Digest, component: &Component) -> io::Result<()> {
        let artifact = component.serialize().map_err(io::Error::other)?;
        let mut new = tempfile::NamedTempFile::new_in(&self.folder)?;
        new.write_all(&seal(digest, &artifact))?;
        new.write_all(&artifact)?;
        new.as_file().sync_data()?;
        new.persist(self.file(digest)).map_err(|failed| failed.error)?;
        File::open(&self.folder)?.sync_all()
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.compiled"))
    }
}

/// Returns the checksum of an artifact. It covers the component's digest, so that a renamed file
/// counts as damaged.
fn seal(digest: Digest, artifact: &[u8]) -> [u8; CHECKSUM_BYTES] {
    use sha2::Digest as _;
    sha2::Sha256::new().chain_update(digest.0).chain_update(artifact).finalize().into()
}
