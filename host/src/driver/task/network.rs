//! The network of an instance's launch.

use std::sync::Arc;

use super::Task;
use crate::driver::error::{FleetError, network_failed};
use crate::driver::files::blocking;
use crate::hypervisor::Card;
use crate::network::{Link, Networks, Plan};
use crate::vm::Event;

impl Task {
    /// Makes the network of the launch that is about to be; none if the instance has none.
    pub(super) async fn make_network(&mut self) -> Result<Option<Card>, FleetError> {
        let Some(network) = &self.recorder.record.spec.network else { return Ok(None) };
        let networks = self.host.networks()?.clone();
        let plan = network.plan();
        let link = blocking(move || networks.make(&plan).map_err(network_failed)).await?;
        let card = Card { namespace: link.namespace() };
        self.recorder.link = Some(link);
        Ok(Some(card))
    }

    /// The settings that the guest is to be told, as it has others in its memory; none if it knows
    /// its own.
    pub(super) fn network_to_tell(&self) -> Option<String> {
        let network = self.recorder.record.spec.network.as_ref();
        let network = network.filter(|network| network.is_told);
        network.map(|network| self.host.network_words(network))
    }

    /// Reads the guest's traffic, and puts it on record if there was any since the last fact.
    pub(super) async fn tell_traffic(&mut self) -> Result<(), FleetError> {
        let told = self.live().traffic;
        self.recorder.count_traffic().await;
        if self.live().traffic == told {
            return Ok(());
        }
        let now = self.recorder.now();
        self.recorder.enter(Event::Reshaped, now).await
    }

    /// Finds the network of a launch that a restarted daemon has found, by its virtual machine
    /// monitor. Without it, the traffic is counted all the same, and read when the launch ends.
    pub(super) async fn find_network(&mut self, pid: u32) {
        let Some(network) = &self.recorder.record.spec.network else { return };
        let plan = network.plan();
        let found = match self.host.networks() {
            Ok(networks) => find(networks.clone(), plan, pid).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(link) => {
                self.recorder.link = Some(link);
                self.recorder.publish();
            }
            Err(error) => self.warn(Err(error), "a launch's network was not found"),
        }
    }
}

async fn find(
    networks: Arc<dyn Networks>,
    plan: Plan,
    pid: u32,
) -> Result<Arc<dyn Link>, FleetError> {
    blocking(move || networks.find(&plan, pid).map_err(network_failed)).await
}
