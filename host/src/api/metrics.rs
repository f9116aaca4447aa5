//! `/metrics`: metrics for monitoring and alerts, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State as Extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::auth::Caller;
use super::error::ApiError;
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::tenancy::Tenant;

/// The content type of the text format, which includes its version.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Read metrics
///
/// In the text format of Prometheus: those of the tenant, or of every tenant for an operator who
/// names none. `tallyman_policy_alerts` above 0 means that a policy was quarantined and needs an
/// operator's attention.
#[utoipa::path(get, path = "/metrics", tag = "host", security(("bearer" = [])), responses(
    (status = 200, description = "The figures", body = String, content_type = "text/plain"),
    Failures,
))]
pub(super) async fn get_metrics(
    Extract(state): Shared,
    caller: Caller,
) -> Result<impl IntoResponse, ApiError> {
    let mut tenants = state.tenancy.tenants();
    tenants.retain(|tenant| caller.scope().is_none_or(|scope| scope == tenant.id()));
    let text = blocking(move || Ok(text(&families(&state, &tenants)))).await?;
    Ok(([(CONTENT_TYPE, FORMAT)], text))
}

/// A metric with its samples.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Labels as they are written, without braces, and the value.
    samples: Vec<(String, u64)>,
}

fn families(state: &State, tenants: &[Arc<Tenant>]) -> Vec<Family> {
    let per_tenant = |name, kind, help, value: &dyn Fn(&Tenant) -> u64| {
        let samples = tenants
            .iter()
            .map(|tenant| (format!("tenant=\"{}\"", tenant.id()), value(tenant)))
            .collect();
        Family { name, kind, help, samples }
    };
    let degraded = |tenant: &Tenant| {
        let views = state.fleet.list(tenant.id());
        views.iter().filter(|view| view.account.degraded.is_some()).count() as u64
    };
    let mut quarantined = Vec::new();
    for tenant in tenants {
        for found in state.accounting.quarantined(tenant.id()) {
            quarantined.push((
                format!("tenant=\"{}\",policy=\"{}\"", tenant.id(), found.policy),
                found.faults.into(),
            ));
        }
    }
    vec![
        per_tenant(
            "tallyman_policy_alerts",
            "gauge",
            "Quarantined policies that need an operator's attention.",
            &|tenant| state.rollout.alerts(tenant.id()).len() as u64,
        ),
        Family {
            name: "tallyman_policy_faults_in_a_row",
            kind: "gauge",
            help: "Failures in a row of each quarantined policy.",
            samples: quarantined,
        },
        per_tenant(
            "tallyman_instances_degraded",
            "gauge",
            "Instances with time that their policy has not accounted.",
            &degraded,
        ),
        per_tenant("tallyman_instances", "gauge", "Instances that are not deleted.", &|tenant| {
            state.fleet.list(tenant.id()).len() as u64
        }),
        per_tenant(
            "tallyman_policy_fuel_total",
            "counter",
            "Fuel burned by policies since the start of the daemon.",
            &|tenant| state.accounting.fuel(tenant.id()),
        ),
        Family {
            name: "tallyman_folders_set_aside",
            kind: "gauge",
            help: "Instance folders unknown to the journal, moved to the folder set-aside.",
            samples: vec![(String::new(), state.fleet.set_aside())],
        },
        Family {
            name: "tallyman_journal_waiting",
            kind: "gauge",
            help: "1 while another program holds the database and nothing is recorded.",
            samples: vec![(String::new(), state.journal.is_waiting().into())],
        },
        Family {
            name: "tallyman_stray_processes",
            kind: "gauge",
            help: "Machine processes that belong to no known instance; the log names them.",
            samples: vec![(String::new(), state.fleet.strays().len() as u64)],
        },
        Family {
            name: "tallyman_journal_facts_total",
            kind: "counter",
            help: "Facts in the journal.",
            samples: vec![(String::new(), state.journal.head().seq)],
        },
    ]
}

/// Formats metrics. Label values need no escapes: tenant ids and digests have no such characters.
fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for Family { name, kind, help, samples } in families {
        // Writing to a string can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = match labels.as_str() {
                "" => writeln!(text, "{name} {value}"),
                labels => writeln!(text, "{name}{{{labels}}} {value}"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_help_its_type_and_its_samples() {
        let family = |name, samples| Family { name, kind: "gauge", help: "Of a test.", samples };
        let families = [
            family("a", vec![("tenant=\"x\"".into(), 1), (String::new(), 2)]),
            family("b", Vec::new()),
        ];
        let expected = "# HELP a Of a test.\n# TYPE a gauge\na{tenant=\"x\"} 1\na 2\n\
                        # HELP b Of a test.\n# TYPE b gauge\n";
        assert_eq!(text(&families), expected);
    }
}
