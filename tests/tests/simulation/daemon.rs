//! The daemon without its API, on one thread: the real driver, journal, policies and clocks.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use tallyman::billing::BootId;
use tallyman::disk::Disk;
use tallyman::driver::{Claim, Fleet, FleetError, Parts, Quota, Ratios, Reservation, Share};
use tallyman::id::{Digest, InstanceName, TenantId};
use tallyman::image::Images;
use tallyman::journal::{Journal, Options};
use tallyman::policy::metering::{MeterDescription, Stretch};
use tallyman::policy::{Accounting, PolicyHost, Profile};
use tallyman::runtime;
use tallyman_tests::double::{DoubleHypervisor, DoubleProber};
use tallyman_tests::linux::guests;
use tallyman_tests::policies::component;

use crate::hostile::{Evil, Metering, TRAPS, When};
use crate::store::Stores;

/// The policy host that all simulations share, as its start is slow.
pub(crate) static POLICIES: LazyLock<Arc<PolicyHost>> = LazyLock::new(|| {
    let policies = PolicyHost::open(&guests().join("compiled")).expect("a policy host");
    let coarse = component("coarse");
    policies.load(Profile::Compact, Digest::of(&coarse), &coarse).expect("a policy");
    policies.load(Profile::Compact, Digest::of(&FAILING), &FAILING).expect("a policy");
    Arc::new(policies)
});

/// A policy that traps whatever it is asked, also when it is loaded: it never answers.
pub(crate) static TRAPPING: LazyLock<Vec<u8>> = LazyLock::new(|| TRAPS.component(When::Always));

/// Code that traps at every second instant of the time of simulations, which no golden vector has.
const AT_EVERY_SECOND_INSTANT: &str = "(if (i32.and \
    (i32.and (i64.gt_s (local.get $at) (i64.const 1796000000000000000)) \
    (i64.lt_s (local.get $at) (i64.const 1860000000000000000))) \
    (i64.eqz (i64.and (local.get $at) (i64.const 1)))) (then unreachable))";

/// A policy that traps in accounting now and then, and measures without fail.
pub(crate) static FAILING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let meter = |(name, stretch): (&str, Stretch)| MeterDescription {
        name: name.into(),
        counts: "all time".into(),
        stretch,
    };
    let meters =
        [("running", Stretch::Start), ("standby", Stretch::Start), ("allocated", Stretch::Life)];
    let mut metering = Metering::default();
    metering.description.meters = meters.map(meter).to_vec();
    metering.description.options.clear();
    metering.component_that(Evil::both(AT_EVERY_SECOND_INSTANT))
});

/// A running daemon.
pub(crate) struct Daemon {
    /// The instances.
    pub(crate) fleet: Fleet,
    /// The journal.
    pub(crate) journal: Arc<Journal>,
    /// The boot in which it runs.
    pub(crate) boot: BootId,
    /// Nanoseconds between the boot's clock and the meter.
    pub(crate) offset_ns: i64,
    /// The same of earlier boots.
    pub(crate) earlier: Vec<(BootId, i64)>,
}

/// Every tenant may have everything.
struct Unlimited;

impl Quota for Unlimited {
    fn reserve(
        &self,
        _: &TenantId,
        _: &InstanceName,
        _: Share,
        _: &dyn Fn() -> Vec<(InstanceName, Share)>,
    ) -> Result<Reservation, FleetError> {
        Ok(Box::new(()))
    }

    fn launch(&self, _: &TenantId) -> Result<(), FleetError> {
        Ok(())
    }
}

impl Daemon {
    /// Starts as the program's own composition root does.
    ///
    /// # Errors
    /// The reason in words: the disk fails while it starts.
    pub(crate) async fn start(
        folder: &Path,
        double: &DoubleHypervisor,
        stores: Arc<Stores>,
    ) -> Result<Self, String> {
        let policies = POLICIES.clone();
        let accounting = Arc::new(Accounting::new(policies.clone()));
        let opened = Journal::open_as_task(folder, Options::default(), accounting.clone());
        let (journal, opened, writer) = opened.map_err(|error| chain(&error))?;
        let missing = runtime::load_policies(&policies, &accounting, &opened);
        runtime::compile_policies(&journal, &policies, &missing);
        journal.reach(stores);
        let journal = Arc::new(journal);
        tokio::spawn(writer);
        let clock = opened.clock.clone();
        let opened = runtime::first_facts(&journal, &policies, &clock, opened).await;
        let opened = opened.map_err(|error| chain(&error))?;
        let earlier = opened.boots.iter().map(|boot| (boot.boot.clone(), boot.offset_ns)).collect();
        let parts = Parts {
            journal: journal.clone(),
            clock: clock.clone(),
            accounts: accounting,
            hypervisors: vec![Arc::new(double.clone())],
            images: Arc::new(Images::open(folder).map_err(|error| error.to_string())?),
            instances: folder.join("instances"),
            alive: opened.alive,
            boots: opened.boots,
            prober: Arc::new(DoubleProber::default()),
            launches: Arc::new(double.clone()),
            quota: Arc::new(Unlimited),
            networks: None,
            machine: Claim::ENDLESS,
            ratios: Ratios::default(),
            disk: Arc::new(Disk::of(folder)),
            exit_patience: std::time::Duration::from_secs(10),
        };
        let fleet = Fleet::open(parts, opened.instances).map_err(|error| error.to_string())?;
        for (at, wall_ns) in opened.calendar {
            fleet.learn_calendar(at, wall_ns);
        }
        tokio::spawn(runtime::prove_alive(journal.clone()));
        tokio::spawn(runtime::watch_clocks(journal.clone(), clock.clone(), fleet.clone()));
        let boot = clock.boot().clone();
        let offset_ns = clock.offset_ns();
        Ok(Self { fleet, journal, boot, offset_ns, earlier })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
