//! One task per instance: decide, record the intent, act, record the fact, publish.
//!
//! The driver knows no hypervisor, no policy and no wire format: it works on the seams of `hypervisor`, `billing` and `journal`.

mod calendar;
mod codec;
mod error;
mod host;
mod operate;
mod record;
mod recover;
mod slot;
mod task;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use calendar::STEP_NS_MIN;
pub use error::FleetError;
pub use record::{Disk, Live, NewInstance, Record, Spec, View};

use self::host::{Directory, Host};
use self::slot::{Order, Slot};
use self::task::{Task, refused};
use crate::billing::account::{Account, Reader, Usage};
use crate::billing::interval::{self, Interval, Timeline};
use crate::billing::{Fact, FactBody};
use crate::clock::Clock;
use crate::hypervisor::{Description, Hypervisor};
use crate::id::{Digest, InstanceId, TenantId};
use crate::image::{Image, ImageError, Images};
use crate::journal::{Alive, Entry, InstanceWrite, Journal, NewActivation, StoredInstance};
use crate::limits::instance as limits;
use crate::units::Instant;
use crate::vm::{Command, Phase, Shape, State};

/// All instances of a host.
#[derive(Clone)]
pub struct Fleet(Arc<Host>);

/// What a fleet is made of. The composition root chooses.
pub struct Parts {
    /// Where facts go.
    pub journal: Arc<Journal>,
    /// The meter clock.
    pub clock: Clock,
    /// Reads accounts off.
    pub accounts: Arc<dyn Reader>,
    /// The hypervisors of this host; the first is the default.
    pub hypervisors: Vec<Arc<dyn Hypervisor>>,
    /// What can be booted.
    pub images: Arc<Images>,
    /// The folder that holds one folder for each instance.
    pub instances: PathBuf,
    /// The last proof that the host was alive before this start.
    pub alive: Option<Alive>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A phase by its state's name.
    For(Phase),
    /// The record is closed.
    ForDeletion,
}

impl Fleet {
    /// Takes up the instances of an earlier run: those that had a virtual machine monitor, or a command under way, are looked for at
    /// once and in the background.
    ///
    /// # Errors
    /// [`FleetError::Bug`] if a stored record can't be read; [`FleetError::NoSuchHypervisor`] without any hypervisor.
    pub fn open(parts: Parts, stored: Vec<StoredInstance>) -> Result<Fleet, FleetError> {
        let default = parts.hypervisors.first().map(|hypervisor| hypervisor.name());
        let default_hypervisor =
            default.ok_or_else(|| FleetError::NoSuchHypervisor { name: "default".into(), known: "none".into() })?;
        let mut directory = Directory::default();
        for instance in stored {
            directory.insert(Arc::new(opened(instance)?));
        }
        let fleet = Fleet(Arc::new(Host {
            journal: parts.journal,
            clock: parts.clock,
            accounts: parts.accounts,
            hypervisors: parts.hypervisors.into_iter().map(|hypervisor| (hypervisor.name(), hypervisor)).collect(),
            default_hypervisor,
            images: parts.images,
            instances: parts.instances,
            alive: parts.alive,
            calendar: calendar::Calendar::default(),
            directory: RwLock::new(directory),
        }));
        fleet.take_up();
        Ok(fleet)
    }

    fn take_up(&self) {
        for slot in self.0.directory().by_row.values() {
            let live = &slot.view().live;
            if live.state.has_vmm() || live.intent.is_some() {
                let (host, owned) = (self.0.clone(), slot.clone());
                slot.wake(|orders| {
                    tokio::spawn(Task::new(host, owned, orders).resume_after_restart());
                });
            }
        }
    }

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
        let record = tokio::task::spawn_blocking(move || host.prepare(tenant, new))
            .await
            .map_err(|error| FleetError::Bug(error.to_string()))??;
        tracing::debug!(name = %named, id = %record.id, "prepared");
        let (reply, answer) = oneshot::channel();
        // What is durable must be in the directory and boot, even if the caller goes away in between.
        tokio::spawn(self.clone().accept(record, reply));
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    /// Makes an instance durable and starts its task, which answers.
    async fn accept(self, record: Record, reply: slot::Reply) {
        let folder = self.0.folder(&record.id);
        match self.insert(record).await {
            Ok(slot) => {
                let (host, owned) = (self.0.clone(), slot.clone());
                slot.wake(|orders| {
                    tokio::spawn(Task::new(host, owned, orders).first_boot(reply));
                });
            }
            Err(error) => {
                if let Err(left) = operate::discard(&folder).await {
                    tracing::warn!(error = %left, "the folder of an instance that was refused is left");
                }
                // A caller that went away has nothing to hear.
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Makes the record durable, with its first fact.
    async fn insert(&self, record: Record) -> Result<Arc<Slot>, FleetError> {
        let live = first_state(&record.spec);
        let at = self.0.clock.reading();
        let fact =
            |body| Fact { at: at.clone(), tenant: record.tenant.clone(), instance: Some(record.id.clone()), body };
        let created =
            FactBody::Entered { phase: Phase::Created, shape: live.shape, session: live.session, cause: None };
        let spec = serde_json::to_string(&record.spec).map_err(|error| FleetError::Bug(error.to_string()))?;
        let entry = Entry {
            facts: vec![fact(FactBody::Intended { command: Command::Start }), fact(created)],
            instance: Some(InstanceWrite::Insert {
                id: record.id.clone(),
                tenant: record.tenant.clone(),
                name: record.name.clone(),
                record: spec,
                state: codec::encode(&live),
                account: Default::default(),
            }),
            ..Entry::default()
        };
        let receipt = self.0.journal.commit(entry).await.map_err(refused)?;
        let missing = || FleetError::Bug("a receipt without an account".into());
        let view = View {
            record: Arc::new(record),
            live,
            account: receipt.account.ok_or_else(missing)?,
            last_fact: receipt.last_seq,
            deleted: None,
        };
        let slot = Arc::new(Slot::new(receipt.row.ok_or_else(missing)?, view));
        self.0.directory_mut().insert(slot.clone());
        Ok(slot)
    }

    /// Carries out a command; answers when it is done and recorded, or why not. A command that is already fulfilled answers success.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn command(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        command: Command,
        grace: Option<Duration>,
    ) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        let (reply, answer) = oneshot::channel();
        let (host, owned) = (self.0.clone(), slot.clone());
        slot.send(Order::Carry { command, grace, reply }, |orders| {
            tokio::spawn(Task::new(host, owned, orders).run());
        })?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    fn slot(&self, tenant: &TenantId, id: &InstanceId) -> Result<Arc<Slot>, FleetError> {
        let directory = self.0.directory();
        let slot = directory.by_id.get(id).filter(|slot| slot.record.tenant == *tenant);
        slot.cloned().ok_or_else(|| FleetError::NotFound { key: id.to_string() })
    }

    /// The instance behind an id, a name, or an id's unique prefix; not a deleted one.
    ///
    /// # Errors
    /// [`FleetError::NotFound`], [`FleetError::Ambiguous`].
    pub fn find(&self, tenant: &TenantId, key: &str) -> Result<Arc<View>, FleetError> {
        self.0.directory().find(tenant, key).map(|slot| slot.view())
    }

    /// The record of an instance by its full id, also if it is deleted. Reads the journal; blocking.
    ///
    /// # Errors
    /// [`FleetError::NotFound`], and the journal's.
    pub fn find_closed(&self, tenant: &TenantId, id: &InstanceId) -> Result<Arc<View>, FleetError> {
        if let Ok(slot) = self.slot(tenant, id) {
            return Ok(slot.view());
        }
        let stored = self.0.journal.instance(id).map_err(|error| FleetError::Bug(error.to_string()))?;
        let stored = stored.filter(|stored| stored.tenant == *tenant);
        let stored = stored.ok_or_else(|| FleetError::NotFound { key: id.to_string() })?;
        opened(stored).map(|slot| slot.view())
    }

    /// The instances of a tenant that are not deleted, oldest first.
    pub fn list(&self, tenant: &TenantId) -> Vec<Arc<View>> {
        let directory = self.0.directory();
        directory.by_row.values().filter(|slot| slot.record.tenant == *tenant).map(|slot| slot.view()).collect()
    }

    /// The totals of these instances now: one component call for all that are under one policy.
    pub fn usage(&self, views: &[Arc<View>]) -> (Instant, Vec<Usage>) {
        let accounts: Vec<_> = views.iter().map(|view| (&view.record.tenant, &view.account)).collect();
        let now = self.0.clock.now();
        (now, self.0.accounts.usage(&accounts, now))
    }

    /// Waits until an instance is in a state.
    ///
    /// # Errors
    /// [`FleetError::WaitTimedOut`]; [`FleetError::Ended`] if it stopped or was deleted meanwhile and that was not waited for.
    pub async fn wait(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        waiting: Waiting,
        timeout: Duration,
    ) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        let mut views = slot.subscribe();
        let reached = views.wait_for(|view| reached(view, waiting).is_some());
        let view = match tokio::time::timeout(timeout, reached).await {
            Ok(view) => view.map_err(|_| FleetError::Stopping)?.clone(),
            Err(_) => {
                let state = slot.view().live.state.as_str();
                return Err(FleetError::WaitTimedOut { wanted: wanted(waiting), seconds: timeout.as_secs(), state });
            }
        };
        match reached_fully(&view, waiting) {
            true => Ok(view),
            false => Err(FleetError::Ended {
                wanted: wanted(waiting),
                cause: view.live.cause.map_or("deleted", |cause| cause.as_str()).into(),
            }),
        }
    }

    /// The intervals of an instance up to now. Reads the journal; blocking.
    ///
    /// # Errors
    /// [`FleetError::Bug`] if the journal can't be read.
    pub fn intervals(&self, view: &View) -> Result<Vec<Interval>, FleetError> {
        let history = self.0.journal.history(&view.record.id).map_err(|error| FleetError::Bug(error.to_string()))?;
        Ok(interval::intervals(&history, &self.timeline(&view.record.tenant), self.0.clock.now()))
    }

    /// Which policies are in force for a tenant.
    pub fn timeline(&self, tenant: &TenantId) -> Timeline {
        self.0.accounts.timeline(tenant)
    }

    /// Puts a tenant under a policy from an instant on (now, if none or in the past). Answers the effective instant and the fact's
    /// sequence number. The caller knows that the policy is admitted.
    ///
    /// # Errors
    /// [`FleetError::NoSpace`], [`FleetError::Stopping`].
    pub async fn activate(
        &self,
        tenant: &TenantId,
        digest: Digest,
        from: Option<Instant>,
        rollback: bool,
    ) -> Result<(Instant, u64), FleetError> {
        let activation = NewActivation { tenant: tenant.clone(), digest, requested: from, rollback };
        let entry = Entry { activation: Some(activation), ..Entry::default() };
        let receipt = self.0.journal.commit(entry).await.map_err(refused)?;
        let from = receipt.activated_from.ok_or_else(|| FleetError::Bug("a receipt without an instant".into()))?;
        self.mend(tenant);
        Ok((from, receipt.last_seq))
    }

    /// Asks again for what failed policies owe to the instances of a tenant; in the background.
    pub fn mend(&self, tenant: &TenantId) {
        for view in self.list(tenant).into_iter().filter(|view| view.account.degraded.is_some()) {
            let Ok(slot) = self.slot(tenant, &view.record.id) else { continue };
            let (host, owned) = (self.0.clone(), slot.clone());
            let sent = slot.send(Order::Mend, |orders| {
                tokio::spawn(Task::new(host, owned, orders).run());
            });
            if let Err(error) = sent {
                tracing::warn!(instance = %view.record.id, %error, "not mended now");
            }
        }
    }

    /// Puts the policy in force before the present one in force again. Answers it, with the effective instant and the fact's sequence number.
    ///
    /// # Errors
    /// [`FleetError::NothingToRollBack`], and those of [`Fleet::activate`].
    pub async fn roll_back(&self, tenant: &TenantId) -> Result<(Digest, Instant, u64), FleetError> {
        let before = self.timeline(tenant).before(self.now());
        let now_in_force = self.timeline(tenant).at(self.now());
        let digest = before.filter(|&before| before != now_in_force).ok_or(FleetError::NothingToRollBack)?;
        let (from, fact) = self.activate(tenant, digest, None, true).await?;
        Ok((digest, from, fact))
    }

    /// Takes up where the wall clock stands from `at` on, for what people read.
    pub fn learn_calendar(&self, at: Instant, wall_ns: i64) {
        self.0.calendar.learn(at, wall_ns);
    }

    /// The calendar's (UTC) nanoseconds since 1970 for a meter instant.
    pub fn calendar_ns(&self, at: Instant) -> i64 {
        self.0.calendar.utc_ns(at)
    }

    /// Now, on the meter clock.
    pub fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// How many instances are known, deleted ones not counted.
    pub fn count(&self) -> usize {
        self.0.directory().by_row.len()
    }

    /// What the hypervisors of this host are and can do.
    pub fn hypervisors(&self) -> impl Iterator<Item = &Description> {
        self.0.hypervisors.values().map(|hypervisor| hypervisor.describe())
    }

    /// The folder of an instance, where its console log is.
    pub fn folder(&self, id: &InstanceId) -> PathBuf {
        self.0.folder(id)
    }
}

impl Task {
    /// Boots an instance that was just accepted, answers, and runs.
    async fn first_boot(mut self, reply: slot::Reply) {
        self.owe(reply);
        let outcome = self.boot().await;
        let outcome = self.settle(Command::Start, outcome).await;
        self.answer(outcome);
        self.run().await;
    }
}

/// The slot of a stored instance.
fn opened(stored: StoredInstance) -> Result<Slot, FleetError> {
    let unreadable = |error: String| FleetError::Bug(format!("instance {}: {error}", stored.id));
    let live = codec::decode(&stored.state).map_err(|error| unreadable(error.to_string()))?;
    let spec = serde_json::from_str(&stored.record).map_err(|error| unreadable(error.to_string()))?;
    let deleted = stored.deleted.map(|_| stored.account.tracker.since);
    let record = Arc::new(Record { id: stored.id, tenant: stored.tenant, name: stored.name, spec });
    let last_fact = stored.last_fact.unwrap_or_default();
    Ok(Slot::new(stored.row, View { record, live, account: stored.account, last_fact, deleted }))
}

fn first_state(spec: &Spec) -> Live {
    let disk_bytes = spec.disks.iter().filter(|disk| !disk.read_only).map(|disk| disk.size_bytes).sum();
    Live {
        state: State::Created,
        shape: Shape { vcpus: spec.vcpus, memory_bytes: spec.memory_bytes, disk_bytes, snapshot_bytes: 0 },
        session: 1,
        incarnation: 1,
        intent: Some(Command::Start),
        program_started: false,
        agent_ready: false,
        started: None,
        stopped: None,
        cause: None,
        exit_code: None,
        exit_message: None,
        error: None,
    }
}

/// Whether a wait is over: reached, or never to be reached.
fn reached(view: &View, waiting: Waiting) -> Option<()> {
    let over = match waiting {
        Waiting::For(_) => matches!(view.live.state, State::Stopped | State::Deleted) && view.live.intent.is_none(),
        Waiting::ForDeletion => false,
    };
    (reached_fully(view, waiting) || over).then_some(())
}

fn reached_fully(view: &View, waiting: Waiting) -> bool {
    match waiting {
        Waiting::For(phase) => view.live.state.phase() == Some(phase),
        Waiting::ForDeletion => view.live.state == State::Deleted,
    }
}

fn wanted(waiting: Waiting) -> String {
    match waiting {
        Waiting::For(phase) => phase.as_str().into(),
        Waiting::ForDeletion => "deleted".into(),
    }
}

impl Host {
    /// Checks what is asked for and lays out the instance's folder. Blocking.
    fn prepare(&self, tenant: TenantId, new: NewInstance) -> Result<Record, FleetError> {
        let image = self.image(new.image.as_str())?;
        let hypervisor = new.hypervisor.as_deref().unwrap_or(self.default_hypervisor);
        self.hypervisor(hypervisor)?;
        let memory_bytes = new.memory_bytes.unwrap_or(image.manifest.memory_bytes_min);
        check(&new, memory_bytes, &image)?;
        let id = InstanceId::random();
        let extra = new.disks.iter().map(measured).collect::<Result<Vec<_>, _>>()?;
        let mut disks = self.root_disk(&id, &image)?;
        disks.extend(extra);
        let spec = Spec {
            image: new.image.to_string(),
            vcpus: new.vcpus,
            memory_bytes,
            cmdline: new.cmdline,
            disks,
            tags: new.tags,
            skip_guest_agent: new.skip_guest_agent,
            stop_grace_ms: new.stop_grace_ms,
            hypervisor: hypervisor.to_owned(),
            created_ns: self.clock.now().0,
        };
        Ok(Record { id, tenant, name: new.name, spec })
    }

    /// The instance's own copy of its image's root disk.
    fn root_disk(&self, id: &InstanceId, image: &Image) -> Result<Vec<Disk>, FleetError> {
        let Some(from) = image.root_disk() else { return Ok(Vec::new()) };
        let folder = self.folder(id);
        let path = folder.join("root.raw");
        let copied = std::fs::create_dir_all(&folder).and_then(|()| std::fs::copy(&from, &path));
        match copied {
            Ok(size_bytes) => Ok(vec![Disk { path, read_only: false, size_bytes }]),
            Err(error) => {
                // Half a copy only takes space; if it can't be removed either, the first error tells more.
                let _ = std::fs::remove_dir_all(&folder);
                Err(match error.kind() {
                    std::io::ErrorKind::StorageFull => FleetError::NoSpace,
                    _ => FleetError::Bug(format!("can't copy {}: {error}", from.display())),
                })
            }
        }
    }

    /// `account` with what its policy owed since `from`, as far as it can be had. Blocking.
    fn mended(&self, record: &Record, account: &Account, from: u64) -> Result<Account, FleetError> {
        let history = self.journal.history(&record.id).map_err(|error| FleetError::Bug(error.to_string()))?;
        let owed: Vec<_> = history
            .iter()
            .filter(|(fact, _)| *fact >= from)
            .filter_map(|(_, fact)| Some((counted(&fact.body)?, fact.at.meter)))
            .collect();
        Ok(self.accounts.mend(&record.tenant, account, &owed, self.clock.now()))
    }

    fn image(&self, name: &str) -> Result<Image, FleetError> {
        let parsed = name.parse()?;
        self.images.get(&parsed).map_err(|error| match error {
            ImageError::Unknown { known, .. } => FleetError::NoSuchImage {
                name: name.into(),
                known: known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            },
            other => FleetError::Bug(other.to_string()),
        })
    }
}

/// The phase that a fact opens, `None` inside for the end; none for a fact that counts no time.
fn counted(body: &FactBody) -> Option<Option<Phase>> {
    match body {
        FactBody::Entered { phase, .. } => Some(Some(*phase)),
        FactBody::Deleted => Some(None),
        FactBody::HostStarted { .. }
        | FactBody::ClockStepped { .. }
        | FactBody::PolicyAdmitted { .. }
        | FactBody::PolicyActivated { .. }
        | FactBody::PolicyFaulted { .. }
        | FactBody::Intended { .. }
        | FactBody::Abandoned { .. } => None,
    }
}

fn check(new: &NewInstance, memory_bytes: u64, image: &Image) -> Result<(), FleetError> {
    let invalid = |field, problem| Err(FleetError::Invalid { field, problem });
    if !(1..=limits::VCPUS_MAX).contains(&new.vcpus) {
        return invalid("vcpus", format!("must be 1 to {}, is {}", limits::VCPUS_MAX, new.vcpus));
    }
    let least = image.manifest.memory_bytes_min.max(limits::MEMORY_BYTES_MIN);
    if !(least..=limits::MEMORY_BYTES_MAX).contains(&memory_bytes) || !memory_bytes.is_multiple_of(1 << 20) {
        let most = limits::MEMORY_BYTES_MAX;
        return invalid(
            "size",
            format!("must be {least} to {most} bytes in whole MiB for this image, is {memory_bytes}"),
        );
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
    check_tags(&new.tags)
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), FleetError> {
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
