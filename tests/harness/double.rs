//! A hypervisor without machines: it keeps their state in memory, follows a test's plans, and
//! records every call.
//!
//! It outlives every fleet that uses it, as real machines outlive the daemon.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use tallyman::billing::BootId;
use tallyman::clock;
use tallyman::driver::{Probe, Prober};
use tallyman::hypervisor::{
    Accelerator, Adopted, Capabilities, Capability, Description, Exit, ExitStatus, Hypervisor,
    HypervisorError, Initiator, Launched, Launches, MachineProcess, MachineSpec, Observed, Origin,
    Saved, SnapshotDefect, Stamp, Vm, VmState, files,
};
use tallyman::id::InstanceId;
use tallyman::units::Nanos;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

/// A call of the driver's to a hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Hypervisor::launch`].
    Launch,
    /// [`Hypervisor::adopt`].
    Adopt,
    /// [`Hypervisor::end`].
    End,
    /// [`Vm::resume`].
    Resume,
    /// [`Vm::pause`].
    Pause,
    /// [`Vm::save`].
    Save,
    /// [`Vm::resize_memory`].
    ResizeMemory,
    /// [`Vm::request_stop`].
    RequestStop,
    /// [`Vm::quit`].
    Quit,
    /// [`Vm::kill`].
    Kill,
}

impl Call {
    /// Every call.
    pub const ALL: [Call; 10] = [
        Call::Launch,
        Call::Adopt,
        Call::End,
        Call::Resume,
        Call::Pause,
        Call::Save,
        Call::ResizeMemory,
        Call::RequestStop,
        Call::Quit,
        Call::Kill,
    ];
}

/// The outcome of the next call of a kind, in place of plain success.
#[derive(Debug, Clone)]
pub enum Plan {
    /// The call is refused and does nothing.
    Fail,
    /// The call waits before it acts.
    HoldBefore(Gate),
    /// The call acts, and then waits before it answers.
    HoldAfter(Gate),
}

/// The answers to calls without a plan: a simulation's dice.
pub trait Weather: Send + Sync {
    /// The course of the next `call` for `id`.
    fn next(&self, id: &InstanceId, call: Call) -> Spell;
}

/// The course of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spell {
    /// Time before the call acts.
    pub before: Duration,
    /// Outcome of the call.
    pub fate: Fate,
    /// Time from the act to the answer.
    pub after: Duration,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// The call acts and says so.
    #[default]
    Succeeds,
    /// The call is refused and does nothing.
    Refused,
    /// The machine dies before the call acts.
    DiesBefore,
    /// The machine dies after the call has acted.
    DiesAfter,
    /// The call acts, and its answer is an error: that of a deadline that came first.
    Unanswered,
}

/// A change of a machine's state, and the instant of it: what has really happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The boot in which it happened.
    pub boot: BootId,
    /// Instant of the change.
    pub stamp: Stamp,
    /// The state from then on; none once it is dead.
    pub state: Option<VmState>,
    /// Set if it was lost with the power of its host.
    pub is_lost: bool,
}

/// The place where a call waits until the test lets it continue.
#[derive(Debug, Clone)]
pub struct Gate {
    reached: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { reached: Arc::new(Semaphore::new(0)), opened: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until a call is held here.
    pub async fn reached(&self) {
        self.reached.acquire().await.expect("never closed").forget();
    }

    /// Lets the call continue.
    pub fn open(&self) {
        self.opened.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        self.opened.acquire().await.expect("never closed").forget();
    }
}

/// Probes without guests: every workload is healthy until a test answers otherwise, and each probe
/// waits for an answer.
#[derive(Clone)]
pub struct DoubleProber {
    asked: Arc<Semaphore>,
    answers: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Result<(), String>>>>,
    answer: mpsc::UnboundedSender<Result<(), String>>,
}

impl Default for DoubleProber {
    fn default() -> Self {
        let (answer, answers) = mpsc::unbounded_channel();
        Self {
            asked: Arc::new(Semaphore::new(0)),
            answers: Arc::new(tokio::sync::Mutex::new(answers)),
            answer,
        }
    }
}

impl DoubleProber {
    /// Waits until a workload is probed.
    pub async fn asked(&self) {
        self.asked.acquire().await.expect("never closed").forget();
    }

    /// Answers the next probe.
    pub fn answer(&self, answer: Result<(), &str>) {
        self.answer.send(answer.map_err(str::to_owned)).expect("never closed");
    }
}

impl Prober for DoubleProber {
    fn admits(&self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Console { .. } | Probe::Exec { .. } => Ok(()),
            Probe::Tcp { .. } | Probe::Http { .. } => Err("there is no network".into()),
        }
    }

    fn ask<'a>(&'a self, _: &'a Path, _: &'a Probe) -> BoxFuture<'a, Result<(), String>> {
        self.asked.add_permits(1);
        async { self.answers.lock().await.recv().await.expect("never closed") }.boxed()
    }
}

/// One machine and its state.
struct Machine {
    /// State of the vCPUs; none once the machine has ended or is lost.
    state: Option<VmState>,
    /// Instant from which it is in that state; none if it does not report it.
    since: Option<Stamp>,
    boot: BootId,
    /// Number of machines that were launched before it.
    number: usize,
    turns: Vec<Turn>,
    history: Vec<Observed>,
    exit: Option<Exit>,
    watcher: Option<mpsc::Sender<Observed>>,
    /// Set while its end is not reported, until [`DoubleHypervisor::let_speak`].
    silent: bool,
    asked_to_stop: bool,
    memory_bytes: u64,
    /// Set if memory was saved since the vCPUs ran last: like some real ones, the machine can't
    /// save twice.
    saved: bool,
}

#[derive(Default)]
struct World {
    machines: BTreeMap<(InstanceId, u32), Machine>,
    plans: HashMap<InstanceId, VecDeque<(Call, Plan)>>,
    /// Plans for the next launch of an instance without plans, as its id is not known yet.
    next_launch: VecDeque<Plan>,
    calls: HashMap<InstanceId, Vec<(Call, Stamp)>>,
    weather: Option<Arc<dyn Weather>>,
    deaf: bool,
    /// Set if machines do not report the state of their vCPUs, as with Firecracker.
    silent: bool,
    /// Time that was skipped, in nanoseconds.
    skipped_ns: u64,
    /// Sum of the steps of the wall clock, in nanoseconds.
    stepped_ns: i64,
}

impl World {
    fn now(&self) -> Stamp {
        let Stamp { boottime_ns, wall_ns } = Stamp::now();
        Stamp {
            boottime_ns: boottime_ns + self.skipped_ns,
            wall_ns: wall_ns.saturating_add_unsigned(self.skipped_ns) + self.stepped_ns,
        }
    }
}

/// The hypervisor. Clones share their machines.
#[derive(Clone)]
pub struct DoubleHypervisor {
    description: Description,
    world: Arc<Mutex<World>>,
}

impl Default for DoubleHypervisor {
    fn default() -> Self {
        let description = Description {
            name: "double",
            version: "1".into(),
            program: PathBuf::from("/nonexistent"),
            accelerator: Accelerator::Tcg,
            accelerator_reason: "there is no guest".into(),
            machine_type: None,
            vcpus_max: 64,
            capabilities: Capabilities::of(&[
                Capability::Snapshots,
                Capability::GracefulStop,
                Capability::MemoryResize,
                Capability::Disks,
                Capability::Network,
            ]),
        };
        Self { description, world: Arc::default() }
    }
}

/// The test's side.
impl DoubleHypervisor {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans the next `call` for `id`. Plans for one kind of call are used up in order.
    pub fn plan(&self, id: &InstanceId, call: Call, plan: Plan) {
        self.world().plans.entry(id.clone()).or_default().push_back((call, plan));
    }

    /// Holds the next `call` for `id` before it acts.
    pub fn hold_before(&self, id: &InstanceId, call: Call) -> Gate {
        let gate = Gate::new();
        self.plan(id, call, Plan::HoldBefore(gate.clone()));
        gate
    }

    /// Holds the next `call` for `id` after it has acted.
    pub fn hold_after(&self, id: &InstanceId, call: Call) -> Gate {
        let gate = Gate::new();
        self.plan(id, call, Plan::HoldAfter(gate.clone()));
        gate
    }

    /// Plans the next launch of an instance without plans.
    pub fn plan_next_launch(&self, plan: Plan) {
        self.world().next_launch.push_back(plan);
    }

    /// Holds the next launch of an instance without plans before it acts.
    pub fn hold_next_launch(&self) -> Gate {
        let gate = Gate::new();
        self.plan_next_launch(Plan::HoldBefore(gate.clone()));
        gate
    }

    /// Lets `weather` decide about all calls without a plan.
    pub fn set_weather(&self, weather: Arc<dyn Weather>) {
        self.world().weather = Some(weather);
    }

    /// The life of every machine of `id`, by incarnation.
    pub fn lives(&self, id: &InstanceId) -> Vec<(u32, Vec<Turn>)> {
        let world = self.world();
        let machines = world.machines.range((id.clone(), 0)..=(id.clone(), u32::MAX));
        machines.map(|((_, incarnation), machine)| (*incarnation, machine.turns.clone())).collect()
    }

    /// The machines that live, in the order of their launches.
    pub fn all_living(&self) -> Vec<(InstanceId, u32)> {
        let world = self.world();
        let living = world.machines.iter().filter(|(_, machine)| machine.state.is_some());
        let mut living: Vec<_> = living.collect();
        living.sort_by_key(|(_, machine)| machine.number);
        living.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// Loses every machine: the host loses power.
    pub fn lose_all(&self) {
        let mut world = self.world();
        let now = world.now();
        for machine in world.machines.values_mut() {
            machine.watcher = None;
            if machine.state.is_some() {
                machine.turn(None, now);
                machine.turns.last_mut().expect("a turn").is_lost = true;
            }
        }
    }

    /// Drops the plans for `id` that were not used up.
    pub fn forget_plans(&self, id: &InstanceId) {
        self.world().plans.remove(id);
    }

    /// Advances the clock at once.
    pub fn skip(&self, time: Nanos) {
        self.world().skipped_ns += time.0;
    }

    /// Steps the wall clock.
    pub fn step_wall(&self, step_ns: i64) {
        self.world().stepped_ns += step_ns;
    }

    /// The present instant on the double's clock.
    pub fn now(&self) -> Stamp {
        self.world().now()
    }

    /// Stops all machines from reporting the state of their vCPUs, as with Firecracker.
    pub fn make_machines_silent(&self) {
        self.world().silent = true;
    }

    /// Makes guests ignore requests to stop.
    pub fn make_guests_deaf(&self) {
        self.world().deaf = true;
    }

    /// Calls for `id` so far, each with the double's stamp.
    pub fn calls(&self, id: &InstanceId) -> Vec<(Call, Stamp)> {
        self.world().calls.get(id).cloned().unwrap_or_default()
    }

    /// The stamp of the last `call` for `id`.
    pub fn last(&self, id: &InstanceId, call: Call) -> Stamp {
        let calls = self.calls(id);
        let last = calls.iter().rev().find(|&&(called, _)| called == call);
        last.unwrap_or_else(|| panic!("{call:?} was not called")).1
    }

    /// State of the vCPUs of the newest machine of `id`; none if it has ended.
    pub fn state(&self, id: &InstanceId) -> Option<VmState> {
        newest(&mut self.world(), id).and_then(|machine| machine.state)
    }

    /// Memory of the newest machine of `id`, in bytes; none if there was no machine.
    pub fn memory_bytes(&self, id: &InstanceId) -> Option<u64> {
        newest(&mut self.world(), id).map(|machine| machine.memory_bytes)
    }

    /// Number of living machines of `id`.
    pub fn living(&self, id: &InstanceId) -> usize {
        let world = self.world();
        world
            .machines
            .iter()
            .filter(|((of, _), machine)| of == id && machine.state.is_some())
            .count()
    }

    /// Reports an observation of the guest's console.
    pub fn observe(&self, id: &InstanceId, seen: Observed) {
        let mut world = self.world();
        newest(&mut world, id).expect("a machine").see(seen);
    }

    /// Ends the newest machine of `id`, as if by itself. Returns the exit.
    pub fn end(&self, id: &InstanceId, initiator: Initiator) -> Exit {
        let mut world = self.world();
        let now = world.now();
        newest(&mut world, id).expect("a machine").end(initiator, now)
    }

    /// Continues the supervisors of all machines.
    pub fn let_all_speak(&self) {
        for machine in self.world().machines.values_mut() {
            machine.silent = false;
            let Some(exit) = machine.exit.clone() else { continue };
            if let Some(watcher) = machine.watcher.take() {
                let _ = watcher.try_send(Observed::Exited(exit));
            }
        }
    }

    /// Stops the supervisor of the newest machine of `id`: its end is not reported.
    pub fn silence(&self, id: &InstanceId) {
        newest(&mut self.world(), id).expect("a machine").silent = true;
    }

    /// Continues the supervisor of the newest machine of `id`; it reports the end if there was one.
    pub fn let_speak(&self, id: &InstanceId) {
        let mut world = self.world();
        let machine = newest(&mut world, id).expect("a machine");
        machine.silent = false;
        if let (Some(exit), Some(watcher)) = (machine.exit.clone(), machine.watcher.take()) {
            let _ = watcher.try_send(Observed::Exited(exit));
        }
    }

    /// Renames the hypervisor from the daemon's next start on; the old name is then unknown.
    pub fn rename(&mut self, name: &'static str) {
        self.description.name = name;
    }

    /// Loses the newest machine of `id`: the host loses power, or supervisor and machine are
    /// killed, and how it ended is unknown.
    pub fn lose(&self, id: &InstanceId, boot: &BootId) {
        let mut world = self.world();
        let now = world.now();
        let machine = newest(&mut world, id).expect("a machine");
        machine.turn(None, now);
        machine.exit = None;
        machine.watcher = None;
        machine.boot = boot.clone();
    }

    /// Moves the observations of the newest machine to another boot.
    pub fn move_to_boot(&self, id: &InstanceId, boot: &BootId) {
        let mut world = self.world();
        newest(&mut world, id).expect("a machine").boot = boot.clone();
    }

    /// Puts the newest machine of `id` into `state`, whatever was asked of it.
    pub fn put(&self, id: &InstanceId, state: VmState) {
        let mut world = self.world();
        let now = world.now();
        if let Some(machine) = newest(&mut world, id) {
            machine.turn(Some(state), now);
        }
    }

    /// Returns whether there was ever a machine of `id`.
    pub fn knows(&self, id: &InstanceId) -> bool {
        newest(&mut self.world(), id).is_some()
    }

    /// Removes every trace of the machines of `id`.
    pub fn unmake(&self, id: &InstanceId) {
        self.world().machines.retain(|(of, _), _| of != id);
    }
}

/// Waits, if there is any time to wait.
async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn newest<'a>(world: &'a mut World, id: &InstanceId) -> Option<&'a mut Machine> {
    let all = (id.clone(), 0)..=(id.clone(), u32::MAX);
    world.machines.range_mut(all).next_back().map(|(_, machine)| machine)
}

/// Returns whether an observation goes to watchers; states of vCPUs are reported in histories only.
fn is_for_the_stream(seen: &Observed) -> bool {
    !matches!(seen, Observed::Launched(_) | Observed::Paused(_) | Observed::Resumed(_))
}

impl Machine {
    /// Changes the state, and nobody is told.
    fn turn(&mut self, state: Option<VmState>, stamp: Stamp) {
        self.state = state;
        let boot = clock::boot_id().expect("this is Linux");
        self.turns.push(Turn { boot, stamp, state, is_lost: false });
    }

    /// Changes the state of the vCPUs, and reports it unless the machine is silent.
    fn change(&mut self, state: VmState, stamp: Stamp, is_silent: bool) {
        if self.state == Some(state) {
            return;
        }
        self.turn(Some(state), stamp);
        self.since = (!is_silent).then_some(stamp);
        if !is_silent {
            self.see(if state == VmState::Running {
                Observed::Resumed(stamp)
            } else {
                Observed::Paused(stamp)
            });
        }
    }

    fn see(&mut self, seen: Observed) {
        self.history.push(seen.clone());
        if let Some(watcher) = self.watcher.as_ref().filter(|_| is_for_the_stream(&seen)) {
            // A daemon that is down receives it after its start.
            let _ = watcher.try_send(seen);
        }
    }

    fn end(&mut self, initiator: Initiator, stamp: Stamp) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let status = if initiator == Initiator::Unknown {
            ExitStatus::Signal(9)
        } else {
            ExitStatus::Code(0)
        };
        let exit = Exit { stamp, status, initiator, witnessed: true };
        self.turn(None, stamp);
        self.exit = Some(exit.clone());
        if self.silent {
            return exit;
        }
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.try_send(Observed::Exited(exit.clone()));
        }
        exit
    }

    /// Sets the watcher, which receives everything from the beginning.
    fn watch(&mut self) -> mpsc::Receiver<Observed> {
        let (watcher, observed) = mpsc::channel(256);
        for seen in self.history.iter().filter(|seen| is_for_the_stream(seen)) {
            watcher.try_send(seen.clone()).expect("room");
        }
        self.watcher = Some(watcher);
        observed
    }
}

/// The driver's side.
impl DoubleHypervisor {
    fn planned(&self, id: &InstanceId, call: Call) -> Option<Plan> {
        let mut world = self.world();
        let plans = world.plans.entry(id.clone()).or_default();
        match plans.iter().position(|&(planned, _)| planned == call) {
            Some(at) => plans.remove(at).map(|(_, plan)| plan),
            None if call == Call::Launch && plans.is_empty() => world.next_launch.pop_front(),
            None => None,
        }
    }

    /// The course of a call without a plan.
    fn spell(&self, plan: Option<&Plan>, id: &InstanceId, call: Call) -> Spell {
        let weather = self.world().weather.clone().filter(|_| plan.is_none());
        weather.map_or_else(Spell::default, |weather| weather.next(id, call))
    }

    /// Ends the newest machine of `id` by itself, if it lives.
    fn die(&self, id: &InstanceId, stamp: Stamp) {
        if let Some(machine) = newest(&mut self.world(), id).filter(|found| found.state.is_some()) {
            machine.end(Initiator::Unknown, stamp);
        }
    }

    fn note(&self, id: &InstanceId, call: Call) -> Stamp {
        let mut world = self.world();
        let stamp = world.now();
        world.calls.entry(id.clone()).or_default().push((call, stamp));
        stamp
    }

    async fn answer<T>(
        &self,
        id: &InstanceId,
        call: Call,
        act: impl FnOnce(&mut World, Stamp) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let plan = self.planned(id, call);
        let spell = self.spell(plan.as_ref(), id, call);
        if let Some(Plan::HoldBefore(gate)) = &plan {
            gate.pass().await;
        }
        pass(spell.before).await;
        let stamp = self.note(id, call);
        if spell.fate == Fate::DiesBefore {
            self.die(id, stamp);
        }
        if matches!(plan, Some(Plan::Fail)) || spell.fate == Fate::Refused {
            return Err(HypervisorError::Refused {
                call: "call",
                reason: format!("{call:?} is planned to fail"),
            });
        }
        let outcome = act(&mut self.world(), stamp);
        if spell.fate == Fate::DiesAfter {
            self.die(id, self.now());
        }
        pass(spell.after).await;
        if spell.fate == Fate::Unanswered {
            return Err(HypervisorError::Disconnected { call: "call" });
        }
        if let Some(Plan::HoldAfter(gate)) = &plan {
            gate.pass().await;
        }
        outcome
    }
}

impl Hypervisor for DoubleHypervisor {
    fn name(&self) -> &'static str {
        self.description.name
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        origin: Origin,
    ) -> BoxFuture<'a, Result<Launched, HypervisorError>> {
        let key = (spec.id.clone(), spec.incarnation);
        let memory_bytes = spec.memory_bytes;
        let order = files::order(&files::run(&spec.dir, spec.incarnation));
        let launch = move |world: &mut World, stamp| {
            let state = match origin {
                Origin::Boot => VmState::NotStarted,
                Origin::Snapshot(folder) if folder.join(MEMORY).is_file() => VmState::Paused,
                Origin::Snapshot(path) => {
                    return Err(HypervisorError::Snapshot {
                        path,
                        defect: SnapshotDefect::Missing,
                    });
                }
            };
            assert!(!world.machines.contains_key(&key), "incarnation {} is used twice", key.1);
            if world.weather.is_some() {
                let begun = fs::create_dir_all(order.parent().expect("a folder"))
                    .and_then(|()| fs::write(&order, b"launched"));
                begun.map_err(|source| HypervisorError::File {
                    act: "write",
                    path: order,
                    source,
                })?;
            }
            let boot = clock::boot_id().expect("this is Linux");
            let mut machine = Machine {
                state: None,
                since: None,
                boot,
                number: world.machines.len(),
                turns: Vec::new(),
                history: Vec::new(),
                exit: None,
                watcher: None,
                silent: false,
                asked_to_stop: false,
                memory_bytes,
                saved: false,
            };
            machine.turn(Some(state), stamp);
            let observed = machine.watch();
            world.machines.insert(key.clone(), machine);
            Ok(Launched { vm: self.vm(key), observed, pid: 1, agent: None })
        };
        self.answer(&spec.id, Call::Launch, launch).boxed()
    }

    fn adopt<'a>(
        &'a self,
        spec: &'a MachineSpec,
    ) -> BoxFuture<'a, Result<Adopted, HypervisorError>> {
        let key = (spec.id.clone(), spec.incarnation);
        let adopt = move |world: &mut World, _| {
            let Some(machine) = world.machines.get_mut(&key) else {
                return Ok(Adopted::NeverLaunched);
            };
            let boot = machine.boot.clone();
            let history = machine.history.clone();
            Ok(match (machine.state, machine.exit.clone()) {
                (Some(state), _) => {
                    let since = machine.since;
                    let observed = machine.watch();
                    Adopted::Alive {
                        launched: Launched { vm: self.vm(key), observed, pid: 1, agent: None },
                        state,
                        since,
                    }
                }
                (None, Some(exit)) => Adopted::Exited { boot, history, exit },
                (None, None) => Adopted::Lost { boot, history },
            })
        };
        self.answer(&spec.id, Call::Adopt, adopt).boxed()
    }

    fn end<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<(), HypervisorError>> {
        let key = (spec.id.clone(), spec.incarnation);
        let end = move |world: &mut World, stamp| {
            if let Some(machine) =
                world.machines.get_mut(&key).filter(|machine| machine.state.is_some())
            {
                machine.end(Initiator::Unknown, stamp);
            }
            Ok(())
        };
        self.answer(&spec.id, Call::End, end).boxed()
    }
}

impl Launches for DoubleHypervisor {
    fn processes(&self, _: &Path) -> std::io::Result<Vec<MachineProcess>> {
        let world = self.world();
        let living = world.machines.iter().filter(|(_, machine)| machine.state.is_some());
        let process = |((id, incarnation), _): (&(InstanceId, u32), &Machine)| MachineProcess {
            pid: 1,
            start_ticks: u64::from(*incarnation),
            instance: id.to_string(),
            incarnation: Some(*incarnation),
            is_halted: false,
        };
        Ok(living.map(process).collect())
    }

    fn lives<'a>(
        &'a self,
        dir: &'a Path,
        incarnation: u32,
    ) -> BoxFuture<'a, Result<bool, HypervisorError>> {
        let world = self.world();
        let lives = world
            .machines
            .get(&launch_of(dir, incarnation))
            .is_some_and(|machine| machine.state.is_some());
        std::future::ready(Ok(lives)).boxed()
    }

    fn end<'a>(
        &'a self,
        dir: &'a Path,
        incarnation: u32,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        let mut world = self.world();
        let now = world.now();
        if let Some(machine) = world.machines.get_mut(&launch_of(dir, incarnation)) {
            machine.end(Initiator::Unknown, now);
        }
        std::future::ready(Ok(())).boxed()
    }
}

/// The instance and launch that a folder belongs to.
fn launch_of(dir: &Path, incarnation: u32) -> (InstanceId, u32) {
    let id = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    (id.expect("the folder of an instance"), incarnation)
}

impl DoubleHypervisor {
    fn vm(&self, key: (InstanceId, u32)) -> Arc<dyn Vm> {
        Arc::new(DoubleVm { double: self.clone(), key })
    }
}

/// Name of the file that stands for a guest's memory.
const MEMORY: &str = "memory";

/// Rules that all machines follow.
#[derive(Clone, Copy)]
struct Manner {
    deaf: bool,
    silent: bool,
}

struct DoubleVm {
    double: DoubleHypervisor,
    key: (InstanceId, u32),
}

impl DoubleVm {
    /// Answers `call` with the result of `act` on the machine, if it lives.
    fn ask<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        act: impl FnOnce(&mut Machine, Manner, Stamp) -> Result<T, HypervisorError> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, HypervisorError>> {
        let act = |world: &mut World, stamp| {
            let manner = Manner { deaf: world.deaf, silent: world.silent };
            let machine =
                world.machines.get_mut(&self.key).filter(|machine| machine.state.is_some());
            act(machine.ok_or(HypervisorError::Disconnected { call: "call" })?, manner, stamp)
        };
        self.double.answer(&self.key.0, call, act).boxed()
    }
}

impl Vm for DoubleVm {
    fn resume(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.ask(Call::Resume, |machine, manner, stamp| {
            machine.change(VmState::Running, stamp, manner.silent);
            machine.saved = false;
            if machine.asked_to_stop {
                machine.end(Initiator::GuestPowerOff, stamp);
            }
            Ok(stamp)
        })
    }

    fn pause(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.ask(Call::Pause, |machine, manner, stamp| {
            machine.change(VmState::Paused, stamp, manner.silent);
            Ok(stamp)
        })
    }

    fn save<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<Saved, HypervisorError>> {
        self.ask(Call::Save, move |machine, _, stamp| {
            assert_ne!(
                machine.state,
                Some(VmState::Running),
                "memory of a machine that runs can't be saved"
            );
            if std::mem::replace(&mut machine.saved, true) {
                return Err(HypervisorError::SavedBefore);
            }
            let written =
                fs::create_dir_all(to).and_then(|()| fs::write(to.join(MEMORY), b"all of it"));
            written.map_err(|source| HypervisorError::File {
                act: "write",
                path: to.into(),
                source,
            })?;
            Ok(Saved { bytes: 9, stamp })
        })
    }

    fn resize_memory(&self, bytes: u64) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.ask(Call::ResizeMemory, move |machine, _, stamp| {
            machine.memory_bytes = bytes;
            Ok(stamp)
        })
    }

    fn request_stop(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.ask(Call::RequestStop, |machine, manner, stamp| {
            machine.asked_to_stop = !manner.deaf;
            if !manner.deaf && machine.state == Some(VmState::Running) {
                machine.end(Initiator::GuestPowerOff, stamp);
            }
            Ok(stamp)
        })
    }

    fn quit(&self) -> BoxFuture<'_, Result<(), HypervisorError>> {
        self.ask(Call::Quit, |machine, _, stamp| {
            machine.end(Initiator::Host, stamp);
            Ok(())
        })
    }

    fn kill(&self) -> Result<(), HypervisorError> {
        let plan = self.double.planned(&self.key.0, Call::Kill);
        let stamp = self.double.note(&self.key.0, Call::Kill);
        if plan.is_some() {
            let source = std::io::ErrorKind::PermissionDenied.into();
            return Err(HypervisorError::Kill { pid: 1, source });
        }
        if let Some(machine) = self.double.world().machines.get_mut(&self.key) {
            machine.end(Initiator::Host, stamp);
        }
        Ok(())
    }

    fn state(&self) -> BoxFuture<'_, Result<VmState, HypervisorError>> {
        let mut world = self.double.world();
        let state = world.machines.get_mut(&self.key).and_then(|machine| machine.state);
        std::future::ready(state.ok_or(HypervisorError::Disconnected { call: "state" })).boxed()
    }
}
