//! The hypervisors of this host.

use std::sync::Arc;

use futures::future::join_all;

use super::error::RuntimeError;
use super::options::Options;
use crate::api;
use crate::hypervisor::{
    CloudHypervisor, CloudHypervisorConfig, Firecracker, FirecrackerConfig, Hypervisor,
    HypervisorError, Kind, Qemu, QemuConfig, Supervising,
};

/// Detects the hypervisors. Returns those that work on this host, the default first, and the status
/// of each kind for the API.
pub(super) async fn detect_all(
    options: &Options,
) -> Result<(Vec<Arc<dyn Hypervisor>>, Vec<api::model::HypervisorStatus>), RuntimeError> {
    let own = || {
        std::env::current_exe().map_err(|source| RuntimeError::File {
            doing: "find",
            path: "this program".into(),
            source,
        })
    };
    if options.fleet.is_collector() {
        return Ok((Vec::new(), Vec::new()));
    }
    let program = options.supervisor.clone().map_or_else(own, Ok)?;
    let supervisor = Supervising { program, user: options.vmm_user.clone() };
    let mut usable = Vec::new();
    let mut statuses = Vec::new();
    let mut missing = Vec::new();
    let detected = join_all(Kind::ALL.map(|kind| detect(kind, options, supervisor.clone()))).await;
    for (kind, detected) in Kind::ALL.into_iter().zip(detected) {
        match detected {
            Ok(hypervisor) => {
                statuses.push(api::model::HypervisorStatus::available(
                    hypervisor.describe(),
                    usable.is_empty(),
                ));
                usable.push(hypervisor);
            }
            Err(error) => {
                tracing::info!(hypervisor = %kind, %error, "hypervisor not available");
                statuses.push(api::model::HypervisorStatus::unavailable(kind, &error));
                missing.push(error);
            }
        }
    }
    match missing.into_iter().next() {
        Some(first) if usable.is_empty() => Err(RuntimeError::Hypervisor(first)),
        Some(_) | None => Ok((usable, statuses)),
    }
}

async fn detect(
    kind: Kind,
    options: &Options,
    supervisor: Supervising,
) -> Result<Arc<dyn Hypervisor>, HypervisorError> {
    if options.vmm_user.is_some() && matches!(kind, Kind::CloudHypervisor | Kind::Firecracker) {
        return Err(HypervisorError::Unavailable {
            program: kind.to_string(),
            reason: "it writes its snapshots itself, into folders that only the daemon's user may \
                     write to; leave --vmm-user out to use it"
                .into(),
        });
    }
    let qemu = |supervisor| QemuConfig {
        program: options.qemu.clone(),
        supervisor,
        accelerator: options.accelerator,
    };
    Ok(match kind {
        Kind::Qemu => Arc::new(Qemu::detect(qemu(supervisor)).await?),
        Kind::QemuMicrovm => Arc::new(Qemu::detect_microvm(qemu(supervisor)).await?),
        Kind::CloudHypervisor => {
            let program = options.cloud_hypervisor.clone();
            Arc::new(CloudHypervisor::detect(CloudHypervisorConfig { program, supervisor }).await?)
        }
        Kind::Firecracker => {
            let program = options.firecracker.clone();
            Arc::new(Firecracker::detect(FirecrackerConfig { program, supervisor }).await?)
        }
    })
}
