//! The calls that documents are made from, carried out by this program's engine.

use std::sync::{Arc, LazyLock};

use biller::input::{Header, Intervals, OwnLine, Subject};
use biller::output::Bill;

use super::InvoiceError;
use super::calls::{Call, CallError, Calls};
use super::evidence::Evidence;
use super::hash;
use crate::id::Digest;
use crate::policy::biller::{Billed, COMPONENT};
use crate::policy::metering::{Description, Measurement, Request};
use crate::policy::{Answer, Policy, PolicyHost, Profile};

/// Components from evidence, run by this program's engine.
#[derive(Clone, Copy)]
pub struct Engines<'a, E> {
    evidence: &'a E,
    policies: &'a PolicyHost,
}

impl<'a, E: Evidence> Engines<'a, E> {
    /// The engine of `policies`, for components of `evidence`.
    pub fn new(evidence: &'a E, policies: &'a PolicyHost) -> Self {
        Self { evidence, policies }
    }

    /// The description of a policy.
    ///
    /// # Errors
    /// [`InvoiceError::Fault`], [`InvoiceError::Policy`], [`InvoiceError::Evidence`].
    pub fn describe(&self, policy: Digest) -> Result<Description, InvoiceError> {
        let found = self.policy(policy).map_err(|error| error.of(policy))?;
        found.describe().cloned().map_err(|fault| CallError::Fault(Box::new(fault)).of(policy))
    }

    fn policy(&self, digest: Digest) -> Result<Arc<Policy>, CallError> {
        if let Some(policy) = self.policies.get(digest) {
            return Ok(policy);
        }
        let bytes = self.evidence.component(digest).map_err(CallError::Evidence)?;
        // The answer does not depend on the bounds; the wider ones admit only policies that leave
        // the accounting to the standard policy.
        let load = |profile| self.policies.load(profile, digest, &bytes);
        let loaded = load(Profile::Large).or_else(|_| load(Profile::Compact));
        loaded.map_err(|source| CallError::Policy(Box::new(source)))
    }
}

impl<E: Evidence> Calls for Engines<'_, E> {
    fn standard(&self) -> Digest {
        self.policies.standard().digest()
    }

    fn biller(&self) -> Digest {
        // Hashed once: the component is part of this program.
        static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::of(COMPONENT));
        *DIGEST
    }

    fn engine(&self) -> String {
        self.policies.engine().into()
    }

    fn measure(&self, policy: Digest, request: &Request) -> Result<Call<Measurement>, CallError> {
        let Answer { value, fuel } = self
            .policy(policy)?
            .measure(request)
            .map_err(|fault| CallError::Fault(Box::new(fault)))?;
        let input = hash::of_request(request);
        let output = hash::of_measurement(&value);
        Ok(Call { value, fuel, input, output })
    }

    fn bill(
        &self,
        biller: Digest,
        header: &Header,
        subjects: &[Subject],
        intervals: &Intervals,
        own: &[OwnLine],
    ) -> Result<Call<Bill>, CallError> {
        let found = match biller == self.biller() {
            true => self.policies.biller(),
            false => {
                let bytes = self.evidence.component(biller).map_err(CallError::Evidence)?;
                self.policies.load_biller(biller, &bytes)
            }
        };
        let component = found.map_err(|source| CallError::Policy(Box::new(source)))?;
        let Billed { bill, fuel, input, output } = component
            .bill(header, subjects, intervals, own)
            .map_err(|error| CallError::Biller(Box::new(error)))?;
        Ok(Call { value: bill, fuel, input: input.to_string(), output: output.to_string() })
    }
}
