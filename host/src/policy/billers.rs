//! The billers that a host has loaded.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use wasmtime::component::Component;

use super::biller::{Biller, COMPONENT};
use super::profile::Profile;
use super::{AdmissionError, PolicyHost, refused};
use crate::id::Digest;

impl PolicyHost {
    /// Returns the biller that is built into this program, ready to run. Blocks while it is
    /// compiled, once.
    ///
    /// # Errors
    /// [`AdmissionError`] if the engine refuses it: a bug of the build.
    pub fn biller(&self) -> Result<Arc<Biller>, AdmissionError> {
        self.load_biller(Digest::of(COMPONENT), COMPONENT)
    }

    /// Returns a biller by its digest, such as one of an earlier version, ready to run. Blocks
    /// while it is compiled, once.
    ///
    /// # Errors
    /// [`AdmissionError`] if the bytes do not have this digest, or the engine refuses them.
    pub fn load_biller(&self, digest: Digest, bytes: &[u8]) -> Result<Arc<Biller>, AdmissionError> {
        let known = |billers: &HashMap<Digest, Arc<Biller>>| billers.get(&digest).cloned();
        if let Some(biller) = known(&self.billers.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(biller);
        }
        let is = Digest::of(bytes);
        if is != digest {
            return Err(AdmissionError::Digest { named: digest, is });
        }
        let runtime = self.runtime(Profile::Large)?;
        let make = |component: &Component| {
            Biller::new(digest, Arc::clone(&runtime), component).map_err(refused)
        };
        let admitted = || self.compiling().admitted(&runtime, digest, bytes, make);
        let made = Arc::new(self.compilations.alone(digest, admitted)?);
        let mut billers = self.billers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(billers.entry(digest).or_insert(made)))
    }
}
