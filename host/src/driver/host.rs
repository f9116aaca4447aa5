//! The state that all instances of a host share, and the directory that finds them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use agent::network::Settings as NetworkSettings;
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::sync::oneshot;

use super::admission::{Admission, Admitted, Capacity, Claim, Ratios};
use super::calendar::Calendar;
use super::error::{FleetError, refused};
use super::live::{Live, View};
use super::mailbox::{CompressionJob, ForkOrder, NewFork, Order, Reply, Slot};
use super::record::{Network, NetworkWish, Record, Snapshot};
use super::request::Request;
use super::settings::{Prober, Quota, Reservation, Share};
use super::timers::Timers;
use crate::billing::InstanceFact;
use crate::billing::account::{Account, Reader};
use crate::clock::Clock;
use crate::disk::Disk as DataDisk;
use crate::hypervisor::{Disk, Hypervisor, Launches, MachineProcess, MachineSpec};
use crate::id::{InstanceId, InstanceName, TenantId};
use crate::image::{Image, ImageError, Images};
use crate::journal::{Alive, EarlierBoot, Entry, InstanceWrite, Journal, Row};
use crate::network::{Addresses, Networks, Pool};

/// The shared state of all tasks.
pub(super) struct Host {
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    pub(super) accounts: Arc<dyn Reader>,
    pub(super) hypervisors: BTreeMap<&'static str, Arc<dyn Hypervisor>>,
    pub(super) default_hypervisor: &'static str,
    pub(super) images: Arc<Images>,
    pub(super) instances: PathBuf,
    pub(super) alive: Option<Alive>,
    pub(super) boots: Vec<EarlierBoot>,
    pub(super) prober: Arc<dyn Prober>,
    pub(super) launches: Arc<dyn Launches>,
    /// The networks that guests get; none without a pool of addresses.
    pub(super) networks: Option<Arc<dyn Networks>>,
    /// The addresses that instances have; none without a pool.
    pub(super) addresses: Option<Addresses>,
    pub(super) quota: Arc<dyn Quota>,
    /// Processors and memory of the host.
    pub(super) machine: Claim,
    pub(super) ratios: Ratios,
    pub(super) admission: Admission,
    pub(super) disk: Arc<DataDisk>,
    pub(super) exit_patience: Duration,
    pub(super) compressor: UnboundedSender<CompressionJob>,
    pub(super) calendar: Calendar,
    pub(super) timers: Timers,
    /// Running virtual machine monitors that belong to no recorded instance.
    pub(super) strays: Mutex<Vec<MachineProcess>>,
    /// Processes of machines that somebody outside has stopped or frozen.
    pub(super) halted: Mutex<Vec<MachineProcess>>,
    pub(super) directory: RwLock<Directory>,
    /// Starter of an instance's task. Set by the fleet, so that this file does not depend on tasks.
    pub(super) start_task: StartTask,
}

/// The guard of what is reserved: dropping it leaves what is published.
pub(super) struct Reserved {
    _tenant: Option<Reservation>,
    _host: Option<Admitted>,
}

/// Starts the task of an instance, which processes the orders in its mailbox.
pub(super) type StartTask = fn(Arc<Host>, Arc<Slot>, Receiver<Order>);

/// Instances that are not deleted, by row, id, name and tenant.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) by_row: BTreeMap<Row, Arc<Slot>>,
    pub(super) by_id: BTreeMap<InstanceId, Arc<Slot>>,
    pub(super) by_name: HashMap<(TenantId, InstanceName), Arc<Slot>>,
    by_tenant: HashMap<TenantId, BTreeMap<Row, Arc<Slot>>>,
}

impl Directory {
    /// The directory of these slots.
    pub(super) fn of(slots: Vec<Arc<Slot>>) -> Self {
        let mut directory = Self::default();
        slots.into_iter().for_each(|slot| directory.insert(slot));
        directory
    }

    pub(super) fn insert(&mut self, slot: Arc<Slot>) {
        self.by_name.insert((slot.tenant.clone(), slot.name.clone()), slot.clone());
        self.by_id.insert(slot.id.clone(), slot.clone());
        let own = self.by_tenant.entry(slot.tenant.clone()).or_default();
        own.insert(slot.row, slot.clone());
        self.by_row.insert(slot.row, slot);
    }

    fn remove(&mut self, slot: &Slot) {
        let name = (slot.tenant.clone(), slot.name.clone());
        // The name is free since the fact became durable; another instance may have it by now.
        if self.by_name.get(&name).is_some_and(|named| named.row == slot.row) {
            self.by_name.remove(&name);
        }
        self.by_id.remove(&slot.id);
        self.by_row.remove(&slot.row);
        if let Some(own) = self.by_tenant.get_mut(&slot.tenant) {
            own.remove(&slot.row);
            if own.is_empty() {
                self.by_tenant.remove(&slot.tenant);
            }
        }
    }

    /// The instances of a tenant, oldest first.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> impl Iterator<Item = &Arc<Slot>> {
        self.by_tenant.get(tenant).into_iter().flat_map(BTreeMap::values)
    }

    /// The instance of `tenant` with this id or name, or the only one whose id has this prefix.
    pub(super) fn find(&self, tenant: &TenantId, key: &str) -> Result<Arc<Slot>, FleetError> {
        let not_found = || FleetError::NotFound { key: key.chars().take(80).collect() };
        let name: InstanceName = key.parse().map_err(|_| not_found())?;
        let first: InstanceId = key.parse().map_err(|_| not_found())?;
        if let Some(slot) = self.by_id.get(&first).filter(|slot| slot.tenant == *tenant) {
            return Ok(slot.clone());
        }
        if let Some(slot) = self.by_name.get(&(tenant.clone(), name)) {
            return Ok(slot.clone());
        }
        let begins = self.by_id.range(first..).take_while(|(id, _)| id.as_str().starts_with(key));
        let matches: Vec<_> =
            begins.filter(|(_, slot)| slot.tenant == *tenant).map(|(_, slot)| slot).collect();
        match matches.as_slice() {
            [] => Err(not_found()),
            [only] => Ok(Arc::clone(only)),
            several => Err(FleetError::Ambiguous { key: key.into(), count: several.len() }),
        }
    }
}

impl Host {
    /// Running virtual machine monitors that belong to no recorded instance.
    pub(super) fn strays(&self) -> Vec<MachineProcess> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Processes of machines that somebody outside has stopped or frozen.
    pub(super) fn halted(&self) -> Vec<MachineProcess> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an order to the task of an instance. The one place where tasks are started: an
    /// instance at rest has none.
    pub(super) fn order(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        order: Order,
    ) -> Result<(), FleetError> {
        slot.post(order, |orders| (self.start_task)(self.clone(), slot.clone(), orders))
    }

    /// Hands in the order that `order` makes of a reply channel, and waits for the reply.
    pub(super) async fn ask(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        order: impl FnOnce(Reply) -> Order,
    ) -> Result<Arc<View>, FleetError> {
        let (reply, answer) = oneshot::channel();
        self.order(slot, order(reply))?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    /// Orders a request and waits for its outcome.
    pub(super) async fn request(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        request: Request,
    ) -> Result<Arc<View>, FleetError> {
        self.ask(slot, |reply| Order::Carry { request, reply }).await
    }

    /// Orders a fork and waits for its outcome.
    pub(super) async fn fork(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        new: NewFork,
    ) -> Result<Arc<View>, FleetError> {
        let (reply, answer) = oneshot::channel();
        let fork = ForkOrder { new, id: InstanceId::random(), reply };
        slot.add_fork(fork, || self.order(slot, Order::Fork))?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    /// Queues the compression of those of `snapshots` that wait for it.
    pub(super) fn plan_compression(&self, slot: &Arc<Slot>, snapshots: &[Snapshot]) {
        for job in slot.compression_jobs(snapshots) {
            // The receiver lives as long as the host.
            let _ = self.compressor.send(job);
        }
    }

    /// Makes a record durable, with the facts `before` its first phase and the fact of that phase.
    /// The new slot is not in the directory yet.
    pub(super) async fn insert(
        &self,
        record: Record,
        live: Live,
        before: Vec<InstanceFact>,
    ) -> Result<Arc<Slot>, FleetError> {
        let missing = |what: &str| FleetError::Bug(format!("{what} is missing"));
        let at = self.clock.reading();
        let phase = live.state.phase().ok_or_else(|| missing("the first phase"))?;
        let entered = live.entered(phase, None);
        let facts = before.into_iter().chain([entered]).map(|fact| (at.clone(), fact)).collect();
        let write = InstanceWrite::Insert {
            id: record.id.clone(),
            tenant: record.tenant.clone(),
            name: record.name.clone(),
            record: record.stored(),
            state: live.stored(),
            account: Default::default(),
        };
        let entry = Entry::of_instance(write, facts);
        let receipt = self.journal.commit(entry).await.map_err(refused)?;
        let view = View {
            record: Arc::new(record),
            live,
            account: receipt.account.ok_or_else(|| missing("the account of a receipt"))?,
            last_fact: receipt.last_seq,
            deleted: None,
            health: None,
            idle_since: None,
            link: None,
        };
        let row = receipt.row.ok_or_else(|| missing("the row of a receipt"))?;
        Ok(Arc::new(Slot::new(row, view)))
    }

    /// Reserves what an instance grows to, until the result is dropped; it must be published by
    /// then. The one place where growth meets the limits of the tenant and of the host; what does
    /// not grow always passes, even above a limit that was lowered.
    pub(super) fn reserve(
        &self,
        record: &Record,
        (before, after): (Share, Share),
        claim: Option<Claim>,
    ) -> Result<Reserved, FleetError> {
        let Record { id, tenant, name, .. } = record;
        let there = || {
            let directory = self.directory();
            let slots = directory.of_tenant(tenant);
            slots.map(|slot| (slot.name.clone(), Share::of(slot.view().live.shape))).collect()
        };
        let grows = after.vcpus > before.vcpus
            || after.memory_bytes > before.memory_bytes
            || after.disk_bytes > before.disk_bytes;
        let of_tenant = grows.then(|| self.quota.reserve(tenant, name, after, &there));
        let of_tenant = of_tenant.transpose()?;
        let admit = |claim| {
            let admitted = self.admission.admit(self.capacity(), (id, claim), || self.claims());
            admitted.map_err(FleetError::HostFull)
        };
        Ok(Reserved { _tenant: of_tenant, _host: claim.map(admit).transpose()? })
    }

    /// The resources of the host, and the part that it gives.
    pub(super) fn capacity(&self) -> Capacity {
        // A disk that can't be asked refuses nothing.
        let disk_bytes = self.disk.space().map_or(u64::MAX, |space| space.total_bytes);
        Capacity { has: Claim { disk_bytes, ..self.machine }, ratios: self.ratios }
    }

    /// The sum of the claims of all instances.
    pub(super) fn claimed(&self) -> Claim {
        self.admission.sum(|| self.claims())
    }

    fn claims(&self) -> Vec<(InstanceId, Claim)> {
        let directory = self.directory();
        let slots = directory.by_row.values();
        slots.map(|slot| (slot.id.clone(), slot.view().live.claim())).collect()
    }

    /// The image of this name.
    pub(super) fn image(&self, name: &str) -> Result<Image, FleetError> {
        let parsed = name.parse()?;
        self.images.get(&parsed).map_err(|error| match error {
            ImageError::Unknown { known, .. } => FleetError::NoSuchImage {
                name: name.into(),
                known: known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            },
            other => FleetError::Bug(other.to_string()),
        })
    }

    /// `account` with the time that its policy has not counted since the fact `from`, as far as the
    /// policy answers now. Blocking.
    pub(super) fn reaccounted(
        &self,
        record: &Record,
        account: &Account,
        from: u64,
    ) -> Result<Account, FleetError> {
        let history = self.journal.history_after(&record.id, from.saturating_sub(1));
        let history = history.map_err(|error| FleetError::Bug(error.to_string()))?;
        let unaccounted: Vec<_> = history
            .iter()
            .filter_map(|(_, fact)| Some((fact.counts()?.phase(), fact.at.meter)))
            .collect();
        Ok(self.accounts.account_again(&record.tenant, account, &unaccounted, self.clock.now()))
    }

    /// Takes a deleted instance out of the directory. The journal keeps it.
    pub(super) fn forget(&self, slot: &Slot) {
        self.timers.set(slot.row, None);
        self.directory_mut().remove(slot);
        self.release(slot.view().record.spec.network.as_ref());
    }

    /// The networks that guests get.
    ///
    /// # Errors
    /// [`FleetError::Unsupported`] without a pool of addresses.
    pub(super) fn networks(&self) -> Result<&Arc<dyn Networks>, FleetError> {
        let text = "this host has no addresses for guests: its operator gives it some with \
                    `tallyman serve --network-pool`; without them, set network.enabled to false";
        self.networks.as_ref().ok_or_else(|| FleetError::Unsupported(text.into()))
    }

    /// A network of its own for a new instance. Its address is taken until it is released.
    pub(super) fn new_network(&self, wish: NetworkWish) -> Result<Network, FleetError> {
        self.networks()?;
        let addresses = self.addresses.as_ref();
        let addresses = addresses.ok_or_else(|| FleetError::Bug("a pool is missing".into()))?;
        let NetworkWish { enabled: _, upload_bytes_max, download_bytes_max, allowed } = wish;
        Ok(Network {
            address: addresses.take()?,
            is_told: false,
            upload_bytes_max,
            download_bytes_max,
            allowed,
        })
    }

    /// Returns the address of an instance that is no more, or was not made.
    pub(super) fn release(&self, network: Option<&Network>) {
        if let (Some(network), Some(addresses)) = (network, &self.addresses) {
            addresses.release(network.address);
        }
    }

    pub(super) fn folder(&self, id: &InstanceId) -> PathBuf {
        self.instances.join(id.as_str())
    }

    pub(super) fn hypervisor(&self, name: &str) -> Result<Arc<dyn Hypervisor>, FleetError> {
        self.hypervisors.get(name).cloned().ok_or_else(|| FleetError::NoSuchHypervisor {
            name: name.into(),
            known: match self.hypervisors.is_empty() {
                true => "none".into(),
                false => self.hypervisors.keys().copied().collect::<Vec<_>>().join(", "),
            },
        })
    }

    /// The machine that a hypervisor is to run for `record`.
    pub(super) fn machine_spec(
        &self,
        record: &Record,
        incarnation: u32,
    ) -> Result<MachineSpec, FleetError> {
        let image = self.image(&record.spec.image)?;
        let network = record.spec.network.as_ref().map(|network| self.network_words(network));
        let network = network.unwrap_or_default();
        let given = [&image.manifest.cmdline, &record.spec.cmdline, &network];
        let given = given.into_iter().filter(|words| !words.is_empty());
        let cmdline = given.map(String::as_str).collect::<Vec<_>>().join(" ").trim().to_owned();
        let disks = record
            .spec
            .disks
            .iter()
            .map(|disk| Disk { path: disk.path.clone(), read_only: disk.read_only });
        Ok(MachineSpec {
            dir: self.folder(&record.id),
            id: record.id.clone(),
            name: record.name.clone(),
            incarnation,
            vcpus: record.spec.vcpus,
            memory_bytes: record.spec.memory_bytes,
            memory_bytes_max: record.spec.memory_bytes_max,
            kernel: image.kernel(),
            initrd: image.initrd(),
            cmdline,
            disks: disks.collect(),
            machine_type: None,
            cpu_model: None,
            agent: image.manifest.agent,
            network: None,
        })
    }

    /// The words of the kernel's command line by which a guest learns its network.
    pub(super) fn network_words(&self, network: &Network) -> String {
        let address = network.address;
        let name_servers = self.networks.as_ref().map(|networks| networks.name_servers());
        let settings = NetworkSettings {
            address,
            prefix: 31,
            gateway: Pool::gateway(address),
            name_servers: name_servers.unwrap_or_default().to_vec(),
        };
        settings.words()
    }
}
