//! New instances: each request is checked, laid out on disk, recorded and booted.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::admission::Claim;
use super::copy;
use super::error::{FleetError, failed};
use super::files::{blocking, discard, on_disk};
use super::host::Host;
use super::live::{Live, View};
use super::mailbox::{Order, Reply};
use super::record::{Disk, NetworkWish, NewInstance, Record, Spec};
use super::request::Intent;
use super::settings::{
    Program, Share, check_auto_standby, check_expiry, check_health, check_memory, check_restart,
    check_tags,
};
use crate::hypervisor::{self, Capability};
use crate::id::{InstanceId, TenantId};
use crate::image::Image;
use crate::limits::instance as limits;
use crate::limits::network::{ALLOWED_MAX, RATES};

impl Host {
    /// Accepts an instance and boots it; returns when its vCPUs run.
    pub(super) async fn create(
        self: &Arc<Self>,
        tenant: TenantId,
        new: NewInstance,
    ) -> Result<Arc<View>, FleetError> {
        if self.directory().by_row.len() >= limits::KNOWN_MAX {
            return Err(FleetError::TooMany(limits::KNOWN_MAX));
        }
        self.disk.require(0).map_err(FleetError::DiskLow)?;
        self.quota.launch(&tenant)?;
        let host = self.clone();
        let named = new.name.clone();
        let record = blocking(move || host.prepare(tenant, new)).await?;
        tracing::debug!(name = %named, id = %record.id, "prepared");
        let (reply, answer) = oneshot::channel();
        // A durable instance must be in the directory and boot, even if the caller goes away.
        tokio::spawn(self.clone().accept(record, reply));
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    /// Makes an instance durable and queues its boot, which answers the caller.
    async fn accept(self: Arc<Self>, record: Record, reply: Reply) {
        let folder = self.folder(&record.id);
        let network = record.spec.network.clone();
        let live = Live::first(&record.spec);
        let share = Share::of(live.shape);
        let claim = Claim::of_machine(live.shape);
        let reserved = self.reserve(&record, (Share::default(), share), Some(claim));
        let intended = live.intent.iter().map(Intent::fact).collect();
        let inserted = match &reserved {
            Ok(_) => self.insert(record, live, intended).await,
            Err(error) => Err(error.clone()),
        };
        match inserted {
            Ok(slot) => {
                // Under one lock: once it can be found, its boot is the first order in the mailbox.
                let mut directory = self.directory_mut();
                if let Err(error) = self.order(&slot, Order::Boot { reply }) {
                    tracing::error!(instance = %slot.id, %error, "a new mailbox is full");
                }
                directory.insert(slot);
            }
            Err(error) => {
                self.release(network.as_ref());
                if !error.may_be_recorded()
                    && let Err(left) = discard(&folder).await
                {
                    tracing::warn!(error = %left, "the folder of a refused instance is left");
                }
                // The caller may have gone away.
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Checks the request and lays out the instance's folder. Blocking.
    fn prepare(&self, tenant: TenantId, new: NewInstance) -> Result<Record, FleetError> {
        let image = self.used_image(&new)?;
        let hypervisor = new.hypervisor.as_deref().unwrap_or(self.default_hypervisor);
        self.hypervisor(hypervisor)?;
        let memory_bytes = new.memory_bytes.unwrap_or(image.manifest.memory_bytes_min);
        self.check(&new, memory_bytes, &image)?;
        let wants_network = self.has_network(&new, hypervisor)?;
        let id = InstanceId::random();
        let disks = self.lay_out(&id, &image, &new)?;
        // Last, so that nothing that fails has taken an address.
        let network = wants_network
            .then(|| self.new_network(new.network.clone()))
            .transpose()
            .inspect_err(|_| {
                // What was laid out only takes space; the first error tells more.
                let _ = copy::remove(&self.folder(&id));
            })?;
        let spec = Spec {
            image: new.image.to_string(),
            image_reference: new.image_reference,
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
            program: new.program,
            network,
        };
        Ok(Record { id, tenant, name: new.name, spec, snapshots: Vec::new() })
    }

    /// The disks of a new instance, its own ones laid out in its folder.
    fn lay_out(
        &self,
        id: &InstanceId,
        image: &Image,
        new: &NewInstance,
    ) -> Result<Vec<Disk>, FleetError> {
        let extra = new.disks.iter().map(measured).collect::<Result<Vec<_>, _>>()?;
        for Disk { path, read_only, .. } in &extra {
            let disk = hypervisor::Disk { path: path.clone(), read_only: *read_only };
            // Unlocked at once, as the launch locks it again: this finds disks that are in use.
            drop(hypervisor::lock_disk(&disk).map_err(failed)?);
        }
        let mut disks = match &image.manifest.oci {
            Some(oci) => self.image_disks(id, image, oci, new)?,
            None => self.root_disk(id, image)?,
        };
        disks.extend(extra);
        Ok(disks)
    }

    /// Returns whether a new instance is to have a network.
    fn has_network(&self, new: &NewInstance, hypervisor: &str) -> Result<bool, FleetError> {
        let hypervisor = self.hypervisor(hypervisor)?;
        let able = hypervisor.describe().require(Capability::Network).map_err(failed);
        match new.network.enabled {
            Some(true) => self.networks().and(able).map(|()| true),
            Some(false) => Ok(false),
            None => Ok(self.networks.is_some() && able.is_ok()),
        }
    }

    /// The image of a new instance. One that was pulled is kept from being pruned.
    fn used_image(&self, new: &NewInstance) -> Result<Image, FleetError> {
        let image = self.image(new.image.as_str())?;
        if image.is_pulled() {
            let noted = self.images.note_use(&image);
            noted.map_err(|error| FleetError::Bug(error.to_string()))?;
        }
        Ok(image)
    }

    /// The instance's own copy of its image's root disk.
    fn root_disk(&self, id: &InstanceId, image: &Image) -> Result<Vec<Disk>, FleetError> {
        let Some(from) = image.root_disk() else { return Ok(Vec::new()) };
        let folder = self.folder(id);
        let path = folder.join("root.raw");
        let copied = copy::fresh_folder(&folder)
            .and_then(|()| copy::file(&from, &path))
            .and_then(|()| std::fs::metadata(&path));
        match copied {
            Ok(data) => Ok(vec![Disk { path, read_only: false, size_bytes: data.len() }]),
            Err(error) => {
                // A partial copy only takes space; if it can't be removed, the first error is
                // still the useful one.
                let _ = copy::remove(&folder);
                Err(on_disk("copy", &from)(error))
            }
        }
    }

    fn check(&self, new: &NewInstance, memory_bytes: u64, image: &Image) -> Result<(), FleetError> {
        let invalid = |field, problem| Err(FleetError::Invalid { field, problem });
        if !(1..=limits::VCPUS_MAX).contains(&new.vcpus) {
            return invalid(
                "vcpus",
                format!("must be 1 to {}, is {}", limits::VCPUS_MAX, new.vcpus),
            );
        }
        check_memory("size", memory_bytes, image)?;
        if let Some(max) = new.memory_bytes_max {
            check_memory("memory_bytes_max", max, image)?;
            if max < memory_bytes {
                return invalid(
                    "memory_bytes_max",
                    format!("must be {memory_bytes} or more, is {max}"),
                );
            }
            let hypervisor =
                self.hypervisor(new.hypervisor.as_deref().unwrap_or(self.default_hypervisor))?;
            hypervisor.describe().require(Capability::MemoryResize).map_err(failed)?;
        }
        if new.cmdline.len() + image.manifest.cmdline.len() >= limits::CMDLINE_BYTES_MAX {
            return invalid(
                "cmdline",
                format!("is longer than {} bytes with the image's", limits::CMDLINE_BYTES_MAX),
            );
        }
        if new.cmdline.bytes().any(|byte| byte.is_ascii_control()) {
            return invalid("cmdline", "may not hold control characters".into());
        }
        if new.disks.len() > limits::DISKS_MAX {
            return invalid(
                "disks",
                format!("must be at most {}, are {}", limits::DISKS_MAX, new.disks.len()),
            );
        }
        let is_plain = new.program == Program::default() && new.overlay_bytes.is_none();
        if image.manifest.oci.is_none() && !is_plain {
            let problem =
                "entrypoint, cmd, env and overlay_size are for images that were imported from OCI";
            return invalid("image", problem.into());
        }
        check_network(&new.network)?;
        check_tags(&new.tags)?;
        check_restart(&new.restart)?;
        new.expiry.map_or(Ok(()), |expiry| check_expiry(expiry, self.clock.now()))?;
        new.health.as_ref().map_or(Ok(()), |check| check_health(check, &*self.prober))?;
        let hypervisor = new.hypervisor.as_deref().unwrap_or(self.default_hypervisor);
        let hypervisor = self.hypervisor(hypervisor)?;
        new.auto_standby.map_or(Ok(()), |auto| check_auto_standby(&auto, hypervisor.describe()))
    }
}

/// Checks the limits of a network, and the places that its guest may send to.
fn check_network(wish: &NetworkWish) -> Result<(), FleetError> {
    let places = wish.allowed.as_deref().unwrap_or_default();
    if places.len() > ALLOWED_MAX {
        let problem = format!("must be at most {ALLOWED_MAX} places, are {}", places.len());
        return Err(FleetError::Invalid { field: "network.egress.allow", problem });
    }
    if wish.allowed.is_some() && wish.enabled == Some(false) {
        let problem = "there is no network".into();
        return Err(FleetError::Invalid { field: "network.egress.allow", problem });
    }
    let rates = [
        ("network.bandwidth_upload", wish.upload_bytes_max),
        ("network.bandwidth_download", wish.download_bytes_max),
    ];
    for (field, rate) in rates {
        let Some(rate) = rate else { continue };
        if wish.enabled == Some(false) {
            return Err(FleetError::Invalid { field, problem: "there is no network".into() });
        }
        if !RATES.contains(&rate) {
            let least = RATES.start();
            let most = RATES.end();
            let problem = format!("must be {least} to {most} bytes a second, is {rate}");
            return Err(FleetError::Invalid { field, problem });
        }
    }
    Ok(())
}

/// The disk with its size in bytes, if its path is that of a regular file.
fn measured(disk: &Disk) -> Result<Disk, FleetError> {
    let invalid = |problem: String| FleetError::Invalid { field: "disks", problem };
    let path: &Path = &disk.path;
    if !path.is_absolute() {
        return Err(invalid(format!("'{}' must be an absolute path", path.display())));
    }
    let data = std::fs::metadata(path)
        .map_err(|error| invalid(format!("'{}': {error}", path.display())))?;
    if !data.is_file() {
        let path = path.display();
        return Err(invalid(format!("'{path}' is not a regular file; give that of a raw image")));
    }
    Ok(Disk { size_bytes: data.len(), ..disk.clone() })
}
