//! The signed heads of the journal, and the place that they are published to.

use std::path::Path;
use std::sync::Arc;

use super::error::RuntimeError;
use crate::heads::{self, Heads, HeadsError, Hook, Publisher};
use crate::journal::Head;

/// The signed heads. Those of facts that the journal does not have, since a backup was put back,
/// are moved aside.
pub(super) fn open_heads(data: &Path, end: Head) -> Result<Heads, HeadsError> {
    if let Some(folder) = heads::set_aside(data, end)? {
        tracing::warn!(
            folder = %folder.display(),
            "signed heads of facts that the journal does not have were moved aside: the journal \
             was put back from a copy"
        );
    }
    Heads::open(data)
}

/// The publisher of signed heads; none without a place to publish them to.
pub(super) fn publisher(
    data: &Path,
    hook: Option<Hook>,
) -> Result<Option<Arc<Publisher>>, RuntimeError> {
    let path = data.to_owned();
    let opened = hook.map(|hook| Publisher::open(data, hook)).transpose();
    let doing = "read the place of published heads in";
    let failed = |source| RuntimeError::File { doing, path, source };
    Ok(opened.map_err(failed)?.map(Arc::new))
}
