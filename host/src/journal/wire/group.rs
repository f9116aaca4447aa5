//! The groups of facts that a signed head has trees of.

use super::{FactRecord, What};
use crate::journal::FactHash;
use crate::merkle::Forest;

/// The group of the facts that tell where the calendar lies on the meter clock. Every bill depends
/// on them. No tenant has such an id.
pub const CALENDAR: &str = "*calendar";

/// The group of the host's other facts.
pub const HOST: &str = "*host";

impl FactRecord {
    /// Adds the fact, whose link is this, to the tree of its group.
    pub(crate) fn grow(&self, forest: &mut Forest, link: FactHash) {
        forest.add(self.group(), &link.0);
    }

    /// The group of the fact: its tenant, [`CALENDAR`] or [`HOST`].
    pub fn group(&self) -> &str {
        match &self.what {
            What::HostStarted { .. }
            | What::ClockStepped { .. }
            | What::TimeUnknown { .. }
            | What::HostSuspended { .. } => CALENDAR,
            What::SegmentSealed { .. }
            | What::SegmentArchived { .. }
            | What::SegmentPruned { .. }
            | What::GapSettled { .. }
            | What::HostHeard { .. } => HOST,
            What::PolicyAdmitted { .. }
            | What::PolicyActivated { .. }
            | What::PolicyFaulted { .. }
            | What::PolicyMoved { .. }
            | What::TenantCreated { .. }
            | What::TenantChanged { .. }
            | What::TokenCreated { .. }
            | What::TokenRevoked { .. }
            | What::PricesActivated { .. }
            | What::AgreementChanged { .. }
            | What::Overridden { .. }
            | What::TariffPublished { .. }
            | What::TariffDefault { .. }
            | What::TariffJoined { .. }
            | What::OneOff { .. }
            | What::PlanWithdrawn { .. }
            | What::Proposed { .. }
            | What::ProposalEnded { .. }
            | What::Invoiced { .. }
            | What::Intended { .. }
            | What::Abandoned { .. }
            | What::Entered { .. }
            | What::Forked { .. }
            | What::Amended { .. }
            | What::Visited { .. }
            | What::Deleted => &self.tenant,
        }
    }
}
