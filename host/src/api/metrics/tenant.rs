//! Metrics of tenants.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::State;
use super::super::model::InstanceState;
use super::format::{Family, Labels, Samples};
use crate::driver::{Share, View};
use crate::id::TenantId;
use crate::journal::Counted;
use crate::rollout::Attention;
use crate::tenancy::Tenant;
use crate::tenant::Limit;
use crate::vm::Phase;

/// The instances of a tenant, in figures.
#[derive(Default)]
struct Crowd {
    /// Instances in each phase.
    phases: [u64; Phase::ALL.len()],
    all: u64,
    degraded: u64,
    vcpus: u64,
    memory_bytes: u64,
    snapshot_bytes: u64,
    disk_bytes: u64,
}

impl Crowd {
    fn of(views: &[Arc<View>]) -> Self {
        let mut crowd = Self::default();
        for view in views {
            if let Some(phase) = InstanceState::from(view.live.state).phase() {
                crowd.phases[phase as usize] += 1;
            }
            crowd.all += 1;
            crowd.degraded += u64::from(view.account.degraded.is_some());
            crowd.vcpus += u64::from(view.live.shape.vcpus);
            crowd.memory_bytes += view.live.shape.memory_bytes;
            crowd.snapshot_bytes += view.live.shape.snapshot_bytes;
            crowd.disk_bytes += Share::of(view.live.shape).disk_bytes;
        }
        crowd
    }
}

/// Figures of one tenant.
struct Figures {
    tenant: Arc<Tenant>,
    crowd: Crowd,
    counted: Counted,
}

impl Figures {
    fn label(&self) -> Labels {
        vec![("tenant", self.tenant.id().to_string())]
    }

    fn with(&self, name: &'static str, value: impl ToString) -> Labels {
        let mut labels = self.label();
        labels.push((name, value.to_string()));
        labels
    }

    /// One sample for each phase that has a value.
    fn by_phase(&self, value: impl Fn(usize) -> u64) -> impl Iterator<Item = (Labels, u64)> {
        let values = Phase::ALL.into_iter().map(move |phase| (phase, value(phase as usize)));
        values
            .filter(|(_, value)| *value > 0)
            .map(|(phase, value)| (self.with("phase", phase.as_str()), value))
    }
}

/// All metrics that have a tenant.
pub(super) fn families(state: &State, tenants: &[Arc<Tenant>]) -> Vec<Family> {
    let mut counted: BTreeMap<TenantId, Counted> =
        state.journal.figures().tenants(state.fleet.now());
    let views = state.fleet.by_tenant();
    let figures = |tenant: &Arc<Tenant>| Figures {
        crowd: Crowd::of(views.get(tenant.id()).map_or(&[], Vec::as_slice)),
        counted: counted.remove(tenant.id()).unwrap_or_default(),
        tenant: tenant.clone(),
    };
    let figures: Vec<_> = tenants.iter().map(figures).collect();
    let mut families = Vec::from(of_policies(state, &figures));
    families.extend(of_bills(state, &figures));
    families.extend(of_instances(&figures));
    families.extend(of_limits(&figures));
    families
}

fn of_policies(state: &State, figures: &[Figures]) -> [Family; 4] {
    let each = |value: &dyn Fn(&TenantId) -> u64| {
        figures.iter().map(|one| (one.label(), value(one.tenant.id()))).collect::<Vec<_>>()
    };
    let quarantined = figures.iter().flat_map(|one| {
        let all = state.accounting.quarantined(one.tenant.id());
        all.into_iter().map(move |found| (one.with("policy", found.policy), found.faults.into()))
    });
    [
        Family {
            name: "tallyman_policy_alerts",
            help: "Quarantined policies that need an operator.",
            samples: Samples::Gauge(each(&|id| state.rollout.alerts(id).len() as u64)),
        },
        Family {
            name: "tallyman_policy_faults_in_a_row",
            help: "Failures in a row of each quarantined policy.",
            samples: Samples::Gauge(quarantined.collect()),
        },
        Family {
            name: "tallyman_policy_fuel_total",
            help: "Fuel that policies burned since the start.",
            samples: Samples::Counter(each(&|id| state.accounting.fuel(id))),
        },
        Family {
            name: "tallyman_policy_activations_total",
            help: "Activations of policies that are in force or were.",
            samples: Samples::Counter(each(&|id| {
                let timeline = state.fleet.timeline(id);
                timeline.until(state.fleet.now()).len() as u64
            })),
        },
    ]
}

fn of_instances(figures: &[Figures]) -> [Family; 5] {
    let each = |value: &dyn Fn(&Figures) -> u64| {
        Samples::Gauge(figures.iter().map(|one| (one.label(), value(one))).collect())
    };
    let phases = figures.iter().flat_map(|one| one.by_phase(move |at| one.crowd.phases[at]));
    let time = figures.iter().flat_map(|one| one.by_phase(move |at| one.counted.time.0[at]));
    let entered = figures.iter().flat_map(|one| one.by_phase(move |at| one.counted.entered[at]));
    [
        Family {
            name: "tallyman_instances",
            help: "Instances that are not deleted.",
            samples: each(&|one| one.crowd.all),
        },
        Family {
            name: "tallyman_instances_in_phase",
            help: "Instances that are not deleted, by phase.",
            samples: Samples::Gauge(phases.collect()),
        },
        Family {
            name: "tallyman_instances_degraded",
            help: "Instances whose policy owes them time.",
            samples: each(&|one| one.crowd.degraded),
        },
        Family {
            name: "tallyman_phase_seconds_total",
            help: "Time of all instances in each phase since the start, as policies count it.",
            samples: Samples::Seconds(time.collect()),
        },
        Family {
            name: "tallyman_transitions_total",
            help: "Entries of instances into each phase since the start.",
            samples: Samples::Counter(entered.collect()),
        },
    ]
}

fn of_bills(state: &State, figures: &[Figures]) -> [Family; 2] {
    let found = figures.iter().map(|one| (one.label(), state.rollout.attention(one.tenant.id())));
    let found: Vec<_> = found.collect();
    let each = |value: fn(&Attention) -> u64| {
        Samples::Gauge(found.iter().map(|(label, found)| (label.clone(), value(found))).collect())
    };
    [
        Family {
            name: "tallyman_documents_stale",
            help: "Documents that a settlement would correct.",
            samples: each(|found| found.stale),
        },
        Family {
            name: "tallyman_periods_unrated",
            help: "Periods that are over and that no policy has measured.",
            samples: each(|found| found.unrated),
        },
    ]
}

fn of_limits(figures: &[Figures]) -> [Family; 2] {
    let by_resource = |values: &dyn Fn(&Figures) -> [(&'static str, u64); 5]| {
        let samples = figures.iter().flat_map(|one| {
            values(one).map(|(resource, value)| (one.with("resource", resource), value))
        });
        Samples::Gauge(samples.collect())
    };
    [
        Family {
            name: "tallyman_tenant_used",
            help: "Resources that a tenant's instances have.",
            samples: by_resource(&|one| {
                [
                    ("instances", one.crowd.all),
                    ("vcpus", one.crowd.vcpus),
                    ("memory_bytes", one.crowd.memory_bytes),
                    ("snapshot_bytes", one.crowd.snapshot_bytes),
                    ("disk_bytes", one.crowd.disk_bytes),
                ]
            }),
        },
        Family {
            name: "tallyman_tenant_limit",
            help: "Most of each resource that a tenant may have.",
            samples: by_resource(&|one| {
                let tenant = &one.tenant;
                [
                    ("instances", tenant.limit(Limit::Instances)),
                    ("vcpus", tenant.limit(Limit::Vcpus)),
                    ("memory_bytes", tenant.limit(Limit::MemoryBytes)),
                    ("policies", tenant.limit(Limit::Policies)),
                    ("disk_bytes", tenant.limit(Limit::DiskBytes)),
                ]
            }),
        },
    ]
}
