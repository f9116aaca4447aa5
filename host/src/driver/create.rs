//! New instances: what is asked for is checked, laid out, put on record and booted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::copy;
use super::error::FleetError;
use super::host::Host;
use super::operate::discard;
use super::record::{Disk, Live, NewInstance, Record, Restarts, Spec, View};
use super::request::{Intent, Request};
use super::slot::{Reply, Slot};
use super::snapshot::on_disk;
use super::task::{Task, blocking, intended, refused};
use super::{Fleet, amend, health, idle};
use crate::billing::{Entered, InstanceFact};
use crate::hypervisor::Capability;
use crate::id::{InstanceId, TenantId};
use crate::image::{Image, ImageError};
use crate::journal::{Entry, InstanceWrite};
use crate::limits::instance as limits;
use crate::vm::{Asker, Shape, State};

impl Fleet {
    /// Accepts an instance and boots it; answers when its vCPUs run.
    ///
    /// # Errors
    /// See [`FleetError`]. If the launch failed the instance exists, is stopped, and says why.
    pub async fn create(&self, tenant: &TenantId, new: NewInstance) -> Result<Arc<View>, FleetError> {
        if self.0.directory().by_row.len() >= limits::KNOWN_MAX {
            return Err(FleetError::TooMany(limits::KNOWN_MAX));
        }
        let host = self.0.clone();
        let (tenant, named) = (tenant.clone(), new.name.clone());
        let record = blocking(move || host.prepare(tenant, new)).await?;
        tracing::debug!(name = %named, id = %record.id, "prepared");
        let (reply, answer) = oneshot::channel();
        // What is durable must be in the directory and boot, even if the caller goes away in between.
        tokio::spawn(self.clone().accept(record, reply));
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    /// Makes an instance durable and starts its task, which answers.
    async fn accept(self, record: Record, reply: Reply) {
        let folder = self.0.folder(&record.id);
        let live = first_state(&record.spec);
        let intended = live.intent.iter().map(intended).collect();
        match self.0.insert(record, live, intended).await {
            Ok(slot) => {
                let (host, owned) = (self.0.clone(), slot.clone());
                slot.wake(|orders| {
                    tokio::spawn(Task::new(host, owned, orders).first_boot(reply));
                });
            }
            Err(error) => {
                if let Err(left) = discard(&folder).await {
                    tracing::warn!(error = %left, "the folder of an instance that was refused is left");
                }
                // A caller that went away has nothing to hear.
                let _ = reply.send(Err(error));
            }
        }
    }
}

impl Task {
    /// Boots an instance that was just accepted, answers, and runs.
    async fn first_boot(mut self, reply: Reply) {
        self.owe(reply);
        let outcome = self.boot().await;
        let outcome = self.settle(outcome).await;
        self.answer(outcome);
        self.run().await;
    }
}

/// Where an instance stands that was just accepted.
pub(super) fn first_state(spec: &Spec) -> Live {
    let shape =
        Shape { vcpus: spec.vcpus, memory_bytes: spec.memory_bytes, disk_bytes: spec.disk_bytes(), snapshot_bytes: 0 };
    Live {
        state: State::Created,
        shape,
        session: 1,
        incarnation: 1,
        intent: Some(Intent { request: Request::Start, by: Asker::Client, ran: false }),
        program_started: false,
        agent_ready: false,
        started: None,
        stopped: None,
        cause: None,
        exit_code: None,
        exit_message: None,
        error: None,
        restarts: Restarts::default(),
        snapshot_due_ns: None,
    }
}

/// Gives each writable disk a path in the folder `to`. One that lies in `from` keeps its name.
pub(super) fn own_disks(disks: &mut [Disk], from: &Path, to: &Path) {
    for (index, disk) in disks.iter_mut().enumerate().filter(|(_, disk)| !disk.read_only) {
        let inside = disk.path.strip_prefix(from).map(Path::to_owned);
        disk.path = to.join(inside.unwrap_or_else(|_| format!("disk-{index}.raw").into()));
    }
}

impl Host {
    /// Makes a record durable, with the facts that come before its first phase, and that one; then it can be found.
    pub(super) async fn insert(
        &self,
        record: Record,
        live: Live,
        before: Vec<InstanceFact>,
    ) -> Result<Arc<Slot>, FleetError> {
        let missing = |what: &str| FleetError::Bug(format!("{what} is missing"));
        let at = self.clock.reading();
        let phase = live.state.phase().ok_or_else(|| missing("the first phase"))?;
        let Live { shape, session, .. } = live;
        let entered = InstanceFact::Entered(Entered { phase, shape, session, cause: None });
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
        };
        let slot = Arc::new(Slot::new(receipt.row.ok_or_else(|| missing("the row of a receipt"))?, view));
        self.directory_mut().insert(slot.clone());
        Ok(slot)
    }

    /// Checks what is asked for and lays out the instance's folder. Blocking.
    fn prepare(&self, tenant: TenantId, new: NewInstance) -> Result<Record, FleetError> {
        let image = self.image(new.image.as_str())?;
        let hypervisor = new.hypervisor.as_deref().unwrap_or(self.default_hypervisor);
        self.hypervisor(hypervisor)?;
        let memory_bytes = new.memory_bytes.unwrap_or(image.manifest.memory_bytes_min);
        self.check(&new, memory_bytes, &image)?;
        let id = InstanceId::random();
        let extra = new.disks.iter().map(measured).collect::<Result<Vec<_>, _>>()?;
        let mut disks = self.root_disk(&id, &image)?;
        disks.extend(extra);
        let spec = Spec {
            image: new.image.to_string(),
            vcpus: new.vcpus,
            memory_bytes,
            memory_bytes_max: new.memory_bytes_max,
            cmdline: new.cmdline,
            disks,
            tags: new.tags,
            skip_guest_agent: new.skip_guest_agent,
            stop_grace_ms: new.stop_grace_ms,
            hypervisor: hypervisor.to_owned(),
            created_ns: self.clock.now().0,
            restart: new.restart,
            expiry: new.expiry,
            schedule: None,
            health: new.health,
            auto_standby: new.auto_standby,
        };
        Ok(Record { id, tenant, name: new.name, spec, snapshots: Vec::new() })
    }

    /// The instance's own copy of its image's root disk.
    fn root_disk(&self, id: &InstanceId, image: &Image) -> Result<Vec<Disk>, FleetError> {
        let Some(from) = image.root_disk() else { return Ok(Vec::new()) };
        let folder = self.folder(id);
        let path = folder.join("root.raw");
        let copied =
            copy::fresh_folder(&folder).and_then(|()| copy::file(&from, &path)).and_then(|()| std::fs::metadata(&path));
        match copied {
            Ok(data) => Ok(vec![Disk { path, read_only: false, size_bytes: data.len() }]),
            Err(error) => {
                // Half a copy only takes space; if it can't be removed either, the first error tells more.
                let _ = copy::remove(&folder);
                Err(on_disk("copy", &from)(error))
            }
        }
    }

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

    fn check(&self, new: &NewInstance, memory_bytes: u64, image: &Image) -> Result<(), FleetError> {
        let invalid = |field, problem| Err(FleetError::Invalid { field, problem });
        if !(1..=limits::VCPUS_MAX).contains(&new.vcpus) {
            return invalid("vcpus", format!("must be 1 to {}, is {}", limits::VCPUS_MAX, new.vcpus));
        }
        check_memory("size", memory_bytes, image)?;
        if let Some(max) = new.memory_bytes_max {
            check_memory("memory_bytes_max", max, image)?;
            if max < memory_bytes {
                return invalid("memory_bytes_max", format!("must be {memory_bytes} or more, is {max}"));
            }
            let hypervisor = self.hypervisor(new.hypervisor.as_deref().unwrap_or(self.default_hypervisor))?;
            hypervisor.describe().require(Capability::MemoryResize).map_err(super::task::failed)?;
        }
        if new.cmdline.len() + image.manifest.cmdline.len() >= limits::CMDLINE_BYTES_MAX {
            return invalid("cmdline", format!("is longer than {} bytes with the image's", limits::CMDLINE_BYTES_MAX));
        }
        if new.cmdline.bytes().any(|byte| byte.is_ascii_control()) {
            return invalid("cmdline", "may not hold control characters".into());
        }
        if new.disks.len() > limits::DISKS_MAX {
            return invalid("disks", format!("at most {}, are {}", limits::DISKS_MAX, new.disks.len()));
        }
        check_tags(&new.tags)?;
        amend::check_restart(&new.restart)?;
        new.expiry.map_or(Ok(()), |expiry| amend::check_expiry(expiry, self.clock.now()))?;
        new.health.as_ref().map_or(Ok(()), |check| health::check(check, &*self.prober))?;
        let hypervisor = self.hypervisor(new.hypervisor.as_deref().unwrap_or(self.default_hypervisor))?;
        new.auto_standby.map_or(Ok(()), |auto| idle::check(&auto, hypervisor.describe()))
    }
}

/// Whether a guest of this image can have so much memory.
pub(super) fn check_memory(field: &'static str, bytes: u64, image: &Image) -> Result<(), FleetError> {
    let (least, most) = (image.manifest.memory_bytes_min.max(limits::MEMORY_BYTES_MIN), limits::MEMORY_BYTES_MAX);
    if (least..=most).contains(&bytes) && bytes.is_multiple_of(1 << 20) {
        return Ok(());
    }
    let problem = format!("must be {least} to {most} bytes in whole MiB for this image, is {bytes}");
    Err(FleetError::Invalid { field, problem })
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), FleetError> {
    let invalid = |problem| Err(FleetError::Invalid { field: "tags", problem });
    if tags.len() > limits::TAGS_MAX {
        return invalid(format!("at most {}, are {}", limits::TAGS_MAX, tags.len()));
    }
    let long = tags.iter().find(|(name, value)| name.len().max(value.len()) > limits::TAG_BYTES_MAX || name.is_empty());
    match long {
        Some((name, _)) => invalid(format!(
            "a name has 1 to {0} bytes and a value at most {0}; '{1}' has not",
            limits::TAG_BYTES_MAX,
            name.chars().take(80).collect::<String>()
        )),
        None => Ok(()),
    }
}

/// A disk with its size, if it is one.
fn measured(disk: &Disk) -> Result<Disk, FleetError> {
    let invalid = |problem: String| FleetError::Invalid { field: "disks", problem };
    let path: &Path = &disk.path;
    if !path.is_absolute() {
        return Err(invalid(format!("'{}' must be an absolute path", path.display())));
    }
    let data = std::fs::metadata(path).map_err(|error| invalid(format!("'{}': {error}", path.display())))?;
    if !data.is_file() {
        return Err(invalid(format!("'{}' is no regular file", path.display())));
    }
    Ok(Disk { size_bytes: data.len(), ..disk.clone() })
}
