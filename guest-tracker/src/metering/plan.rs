//! Measuring by meters: one pass over the phases of a request.

use super::meter::Meter;
use crate::{Measurement, MeterDescription, MeterTerms, MeteringError, Request};

/// The meters of a policy, at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    meters: Vec<Meter>,
}

impl Plan {
    /// A plan of these meters.
    pub fn new(meters: impl Into<Vec<Meter>>) -> Self {
        Self { meters: meters.into() }
    }

    /// Measures a request: a meter counts an interval if its phase is one of the meter's.
    ///
    /// # Errors
    /// None of its own; the answer has the form of [`crate::Policy::measure`].
    pub fn measure(&self, request: &Request) -> Result<Measurement, MeteringError> {
        let masks = self.masks();
        let mut counted = Vec::with_capacity(request.intervals.phase.len());
        for &phase in &request.intervals.phase {
            counted.push(masks.get(usize::from(phase)).copied().unwrap_or_default());
        }
        Ok(Measurement { terms: self.terms(), counted, lines: Vec::new() })
    }

    /// For each phase, the meters that count it.
    fn masks(&self) -> [u64; 8] {
        let mut masks = [0; 8];
        for (number, meter) in self.meters.iter().take(64).enumerate() {
            for (ordinal, mask) in (0..).zip(&mut masks) {
                *mask |= u64::from(meter.phases.has(ordinal)) << number;
            }
        }
        masks
    }

    /// The terms of the meters, in their order.
    pub fn terms(&self) -> Vec<MeterTerms> {
        let mut terms = Vec::with_capacity(self.meters.len());
        for meter in &self.meters {
            terms.push(meter.terms());
        }
        terms
    }

    /// The meters as they are declared, in their order.
    pub fn describe(&self) -> Vec<MeterDescription> {
        let mut meters = Vec::with_capacity(self.meters.len());
        for meter in &self.meters {
            meters.push(MeterDescription {
                name: meter.name.into(),
                counts: meter.counts(),
                stretch: meter.stretch,
            });
        }
        meters
    }
}
