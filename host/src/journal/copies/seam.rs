//! The seam to stores.

use std::fmt::Debug;
use std::sync::Arc;

/// A failure of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store does not answer, answers too late, or can't do it now. Trying again may help.
    #[error("it is away: {0}")]
    Away(String),
    /// The store or its address is refused. An operator has to look.
    #[error("{0}")]
    Refused(String),
    /// The object is longer than asked for.
    #[error("the object has {0} bytes")]
    Length(u64),
}

/// A store of objects that are created once and never changed. All of it blocks.
pub trait CopyStore: Debug + Send + Sync {
    /// Address of the store as facts name it, such as `s3://bucket/prefix`; without any secret.
    fn address(&self) -> &str;

    /// Creates an object, unless there is one of that name: then nothing is changed.
    ///
    /// # Errors
    /// [`StoreError`]; the object may or may not be there.
    fn create(&self, object: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Reads an object of at most so many bytes; none if there is none of that name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, object: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// Names of the objects in a folder, in any order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError>;
}

/// The stores that can be reached.
pub trait CopyStores: Debug + Send + Sync {
    /// The store in which copies are made; none if none is configured.
    fn own(&self) -> Option<Arc<dyn CopyStore>>;

    /// The store at an address that a fact names.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address is not one of a store.
    fn at(&self, address: &str) -> Result<Arc<dyn CopyStore>, StoreError>;
}
