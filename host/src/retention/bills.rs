//! The facts that bills to come are made of.

use std::sync::Arc;

use crate::id::TenantId;
use crate::invoice::{Directory, InvoiceError, Issuer, Needed};
use crate::journal::Need;
use crate::tenancy::Tenancy;
use crate::units::Instant;

/// The bills of all tenants.
#[derive(Clone)]
pub struct Bills {
    /// The issuer of documents.
    pub issuer: Issuer,
    /// The tenants.
    pub tenancy: Arc<Tenancy>,
    /// The names of a tenant's instances.
    pub directories: Directories,
}

/// Lookup of tenants' directories.
pub type Directories = Arc<dyn Fn(&TenantId) -> Directory + Send + Sync>;

impl std::fmt::Debug for Bills {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bills").finish_non_exhaustive()
    }
}

impl Bills {
    /// The spans whose facts are needed for documents to come. Blocking.
    ///
    /// # Errors
    /// See [`InvoiceError`].
    pub(super) fn needs(&self, now: Instant) -> Result<Vec<Need>, InvoiceError> {
        let mut needs = Vec::new();
        for tenant in self.tenancy.tenants() {
            let directory = (self.directories)(tenant.id());
            let asked = self
                .issuer
                .compute(tenant.id(), &directory, |computer, view| computer.needed(&view, now));
            let Some(Needed { from, begins, stale }) = asked?? else { continue };
            let tenant = tenant.id();
            let reason = match stale {
                None => format!(
                    "tenant '{tenant}' has an open period, which begins at {begins}; close it first"
                ),
                Some(number) => format!(
                    "document {number} of tenant '{tenant}', for the period from {begins}, would \
                     differ now; settle it first"
                ),
            };
            needs.push(Need { from, reason });
        }
        Ok(needs)
    }
}
