//! The seam to the calls that a document is made from: components in an engine, or test doubles.

use biller::input::{Header, Intervals, OwnLine, Subject};
use biller::output::Bill;

use super::InvoiceError;
use super::evidence::EvidenceError;
use crate::id::Digest;
use crate::policy::biller::BillerError;
use crate::policy::metering::{Measurement, Request};
use crate::policy::{AdmissionError, Fault};

/// The answer to a call, with its evidence.
#[derive(Debug)]
pub struct Call<T> {
    /// The answer.
    pub value: T,
    /// Fuel that the call took.
    pub fuel: u64,
    /// SHA-256 of the input, in hexadecimal digits.
    pub input: String,
    /// SHA-256 of the output, in hexadecimal digits.
    pub output: String,
}

/// A reason why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The component gave no valid answer.
    Fault(Box<Fault>),
    /// The biller gave no bill.
    Biller(Box<BillerError>),
    /// The component can't be loaded.
    Policy(Box<AdmissionError>),
    /// The component is missing or altered.
    Evidence(EvidenceError),
}

impl CallError {
    /// The error of a call of this component.
    pub(super) fn of(self, component: Digest) -> InvoiceError {
        match self {
            Self::Fault(fault) => InvoiceError::Fault { component, fault },
            Self::Biller(source) => InvoiceError::Biller { biller: component, source },
            Self::Policy(source) => InvoiceError::Policy { digest: component, source },
            Self::Evidence(error) => InvoiceError::Evidence(error),
        }
    }
}

/// The calls of policies, which count time, and of the biller, which charges for it. Every call is
/// a pure function of its arguments. Blocking.
pub trait Calls {
    /// The policy of tenants that never chose one.
    fn standard(&self) -> Digest;

    /// The biller of periods that have no document yet.
    fn biller(&self) -> Digest;

    /// The name and version of the engine, for receipts.
    fn engine(&self) -> String;

    /// Asks a policy.
    ///
    /// # Errors
    /// [`CallError`].
    fn measure(&self, policy: Digest, request: &Request) -> Result<Call<Measurement>, CallError>;

    /// Asks a biller.
    ///
    /// # Errors
    /// [`CallError`].
    fn bill(
        &self,
        biller: Digest,
        header: &Header,
        subjects: &[Subject],
        intervals: &Intervals,
        own: &[OwnLine],
    ) -> Result<Call<Bill>, CallError>;
}
