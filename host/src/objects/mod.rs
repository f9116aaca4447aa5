//! Stores of copies: a folder, or an object store that speaks S3. The only user of the crate
//! `object_store`.
//!
//! - `access` is needed to reach stores; `address` reads what an operator or a fact calls a store;
//! - `keys` reads the file with the keys of an object store;
//! - `client` carries its requests;
//! - `store` does the work, and waits for it on behalf of callers that block.

mod access;
mod address;
mod client;
mod keys;
mod store;

use std::sync::Arc;

pub use access::Access;
pub use address::{Address, UnknownAddress};
pub use keys::{Keys, KeysError};
use store::Objects;

use crate::journal::{CopyStore, CopyStores, StoreError};

/// The stores that a program can reach.
#[derive(Debug, Default)]
pub struct Stores {
    own: Option<Arc<dyn CopyStore>>,
    access: Access,
}

impl Stores {
    /// The stores that can be reached, one of which is `own`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the machine has no threads for it.
    pub fn new(own: Option<Address>, access: Access) -> Result<Self, StoreError> {
        let open = |own| Objects::new(own, &access).map(|own| Arc::new(own) as Arc<dyn CopyStore>);
        Ok(Self { own: own.map(open).transpose()?, access })
    }
}

impl CopyStores for Stores {
    fn own(&self) -> Option<Arc<dyn CopyStore>> {
        self.own.clone()
    }

    fn at(&self, address: &str) -> Result<Arc<dyn CopyStore>, StoreError> {
        let parsed = address.parse();
        let parsed = parsed.map_err(|error: UnknownAddress| StoreError::Refused(error.to_string()));
        Ok(Arc::new(Objects::new(parsed?, &self.access)?))
    }
}
