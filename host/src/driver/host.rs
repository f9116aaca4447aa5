//! What all instances of a host share, and the directory in which they are found.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc::UnboundedSender;

use super::alarm::Alarms;
use super::calendar::Calendar;
use super::compress::Job;
use super::error::FleetError;
use super::health::Prober;
use super::record::Record;
use super::slot::Slot;
use crate::billing::account::Reader;
use crate::clock::Clock;
use crate::hypervisor::{Disk, Hypervisor, MachineSpec};
use crate::id::{InstanceId, InstanceName, TenantId};
use crate::image::Images;
use crate::journal::{Alive, Journal, Row};

/// What every task needs.
pub(super) struct Host {
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    pub(super) accounts: Arc<dyn Reader>,
    pub(super) hypervisors: BTreeMap<&'static str, Arc<dyn Hypervisor>>,
    pub(super) default_hypervisor: &'static str,
    pub(super) images: Arc<Images>,
    pub(super) instances: PathBuf,
    pub(super) alive: Option<Alive>,
    pub(super) prober: Arc<dyn Prober>,
    pub(super) compressor: UnboundedSender<Job>,
    pub(super) calendar: Calendar,
    pub(super) alarms: Alarms,
    pub(super) directory: RwLock<Directory>,
}

/// Instances that are not deleted, by each thing they are looked up by.
pub(super) struct Directory {
    pub(super) by_row: BTreeMap<Row, Arc<Slot>>,
    pub(super) by_id: BTreeMap<InstanceId, Arc<Slot>>,
    pub(super) by_name: HashMap<(TenantId, InstanceName), Arc<Slot>>,
}

impl Directory {
    /// A directory of these.
    pub(super) fn of(slots: Vec<Arc<Slot>>) -> Self {
        Self {
            by_name: slots.iter().map(|slot| ((slot.tenant.clone(), slot.name.clone()), slot.clone())).collect(),
            by_id: slots.iter().map(|slot| (slot.id.clone(), slot.clone())).collect(),
            by_row: slots.into_iter().map(|slot| (slot.row, slot)).collect(),
        }
    }

    pub(super) fn insert(&mut self, slot: Arc<Slot>) {
        self.by_name.insert((slot.tenant.clone(), slot.name.clone()), slot.clone());
        self.by_id.insert(slot.id.clone(), slot.clone());
        self.by_row.insert(slot.row, slot);
    }

    fn remove(&mut self, slot: &Slot) {
        let name = (slot.tenant.clone(), slot.name.clone());
        // The name is free since the fact is durable; it may be another's by now.
        if self.by_name.get(&name).is_some_and(|named| named.row == slot.row) {
            self.by_name.remove(&name);
        }
        self.by_id.remove(&slot.id);
        self.by_row.remove(&slot.row);
    }

    /// The instance of `tenant` with this id, this name, or the only one whose id begins so.
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
        let matches: Vec<_> = begins.filter(|(_, slot)| slot.tenant == *tenant).map(|(_, slot)| slot).collect();
        match matches.as_slice() {
            [] => Err(not_found()),
            [only] => Ok(Arc::clone(only)),
            several => Err(FleetError::Ambiguous { key: key.into(), count: several.len() }),
        }
    }
}

impl Host {
    pub(super) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a deleted instance out of the directory. The journal keeps it.
    pub(super) fn forget(&self, slot: &Slot) {
        self.alarms.set(slot.row, None);
        self.directory_mut().remove(slot);
    }

    pub(super) fn folder(&self, id: &InstanceId) -> PathBuf {
        self.instances.join(id.as_str())
    }

    pub(super) fn hypervisor(&self, name: &str) -> Result<Arc<dyn Hypervisor>, FleetError> {
        self.hypervisors.get(name).cloned().ok_or_else(|| FleetError::NoSuchHypervisor {
            name: name.into(),
            known: self.hypervisors.keys().copied().collect::<Vec<_>>().join(", "),
        })
    }

    /// What a hypervisor is to run for `record`.
    pub(super) fn machine_spec(&self, record: &Record, incarnation: u32) -> Result<MachineSpec, FleetError> {
        let image = self.image(&record.spec.image)?;
        let cmdline = [image.manifest.cmdline.as_str(), record.spec.cmdline.as_str()].join(" ").trim().to_owned();
        let disks = record.spec.disks.iter().map(|disk| Disk { path: disk.path.clone(), read_only: disk.read_only });
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
        })
    }
}
