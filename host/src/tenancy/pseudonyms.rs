//! Names of instances in documents: as they are, or by a keyed mapping that can be destroyed.
//!
//! A document can't be changed, and names people's machines. A tenant with pseudonyms has a key of
//! its own; its documents say the pseudonym that the key gives a name, and no tags. Without the key
//! nobody finds the name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;

use crate::disk::write_whole;
use crate::id::TenantId;

/// The content of the file of a key that was destroyed.
const DESTROYED: &str = "destroyed";

/// Bytes of a pseudonym that are shown.
const SHOWN_BYTES: usize = 8;

/// The keys of a host's tenants.
#[derive(Debug, Clone)]
pub struct Pseudonyms {
    folder: PathBuf,
}

/// The mapping of a tenant's names.
#[derive(Clone, PartialEq, Eq)]
pub enum Mapping {
    /// Names as they are.
    Plain,
    /// Names by a key.
    Keyed([u8; 32]),
    /// The key was destroyed: ids in place of names.
    Destroyed,
}

impl Mapping {
    /// The name of an instance in documents.
    pub fn name(&self, id: &str, name: &str) -> String {
        match self {
            Self::Plain => name.to_owned(),
            Self::Destroyed => id.to_owned(),
            Self::Keyed(key) => {
                let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).ok();
                if let Some(mac) = &mut mac {
                    mac.update(name.as_bytes());
                }
                let bytes = mac.map(|mac| mac.finalize().into_bytes());
                bytes.map_or_else(
                    || id.to_owned(),
                    |bytes| format!("p-{}", hex::encode(&bytes[..SHOWN_BYTES])),
                )
            }
        }
    }

    /// True if documents say tags.
    pub fn has_tags(&self) -> bool {
        matches!(self, Self::Plain)
    }
}

impl Pseudonyms {
    /// The keys in a data folder.
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join("pseudonyms") }
    }

    /// The mapping of a tenant. Blocking.
    ///
    /// # Errors
    /// The error of reading the key.
    pub fn mapping(&self, tenant: &TenantId) -> io::Result<Mapping> {
        let text = match fs::read_to_string(self.path(tenant)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Mapping::Plain),
            read => read?,
        };
        if text.trim() == DESTROYED {
            return Ok(Mapping::Destroyed);
        }
        let key = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        key.map(Mapping::Keyed).ok_or_else(|| {
            io::Error::other(format!("{} holds no key", self.path(tenant).display()))
        })
    }

    /// Begins pseudonyms for a tenant that has names as they are, or whose key was destroyed.
    /// Blocking.
    ///
    /// # Errors
    /// The error of writing the key.
    pub fn begin(&self, tenant: &TenantId) -> io::Result<()> {
        if matches!(self.mapping(tenant)?, Mapping::Keyed(_)) {
            return Ok(());
        }
        let mut key = [0_u8; 32];
        rand::rng().fill_bytes(&mut key);
        write_whole(&self.path(tenant), hex::encode(key).as_bytes())
    }

    /// Destroys the key of a tenant for ever. Blocking.
    ///
    /// # Errors
    /// The error of writing over it.
    pub fn destroy(&self, tenant: &TenantId) -> io::Result<()> {
        if let Mapping::Keyed(_) = self.mapping(tenant)? {
            // Over the key itself first, where the file system writes in place.
            let mut file = OpenOptions::new().write(true).open(self.path(tenant))?;
            // It says at once that it is destroyed: a crash must leave no key that others know.
            file.write_all(format!("{DESTROYED:<64}").as_bytes())?;
            file.sync_all()?;
        }
        write_whole(&self.path(tenant), DESTROYED.as_bytes())
    }

    fn path(&self, tenant: &TenantId) -> PathBuf {
        self.folder.join(tenant.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_pseudonym_until_the_key_is_destroyed_and_then_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = Pseudonyms::of(folder.path());
        let tenant: TenantId = "acme".parse().expect("a name");
        let named = || keys.mapping(&tenant).expect("a mapping").name("i1", "anna-laptop");
        assert_eq!(named(), "anna-laptop");
        keys.begin(&tenant).expect("begun");
        let first = named();
        assert!(first.starts_with("p-") && first.len() == 18, "{first}");
        keys.begin(&tenant).expect("begun again");
        assert_eq!(named(), first, "the key stays");
        let other: TenantId = "other".parse().expect("a name");
        assert!(keys.mapping(&other).expect("none") == Mapping::Plain);
        keys.destroy(&tenant).expect("destroyed");
        assert_eq!(named(), "i1");
        keys.begin(&tenant).expect("anew");
        assert_ne!(named(), first);
    }
}
