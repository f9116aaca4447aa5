//! Validation of machine descriptions.

use std::fs::File;
use std::path::Path;

use super::{Capability, Description, HypervisorError, MachineSpec};
use crate::limits::instance::{CMDLINE_BYTES_MAX, DISKS_MAX, MEMORY_BYTES_MAX, MEMORY_BYTES_MIN};

/// A mebibyte, the unit of memory of all hypervisors.
pub(super) const MIB: u64 = 1 << 20;

/// Checks that `hypervisor` can run a machine, and returns its spec with an absolute folder: the
/// next daemon may run in another working folder.
///
/// # Errors
/// [`HypervisorError::Spec`], [`HypervisorError::Unsupported`].
pub(super) fn checked(
    spec: &MachineSpec,
    hypervisor: &Description,
) -> Result<MachineSpec, HypervisorError> {
    let wrong = |what, reason| Err(HypervisorError::Spec { what, reason });
    let vcpus_max = hypervisor.vcpus_max;
    if !(1..=vcpus_max).contains(&spec.vcpus) {
        let reason = format!(
            "{} is not between 1 and {vcpus_max}, which is what {} has",
            spec.vcpus, hypervisor.name
        );
        return wrong("the number of vCPUs", reason);
    }
    check_memory("the memory size", spec.memory_bytes, MEMORY_BYTES_MIN)?;
    if let Some(most) = spec.memory_bytes_max {
        hypervisor.require(Capability::MemoryResize)?;
        check_memory("the greatest memory size", most, spec.memory_bytes)?;
    }
    if !spec.disks.is_empty() {
        hypervisor.require(Capability::Disks)?;
    }
    if spec.network.is_some() {
        hypervisor.require(Capability::Network)?;
    }
    if spec.disks.len() > DISKS_MAX {
        return wrong(
            "the number of disks",
            format!("{} is more than {DISKS_MAX}", spec.disks.len()),
        );
    }
    if spec.machine_type.is_some() || spec.cpu_model.is_some() {
        hypervisor.require(Capability::MachineTypes)?;
    }
    if spec.cmdline.len() > CMDLINE_BYTES_MAX {
        let reason = format!("{} bytes are more than {CMDLINE_BYTES_MAX}", spec.cmdline.len());
        return wrong("the kernel command line", reason);
    }
    in_place(spec)
}

/// Checks that the kernel and the initial RAM disk can be opened: some VMMs open them only when the
/// vCPUs are to run, and some do not say which file is missing.
///
/// # Errors
/// [`HypervisorError::File`].
pub(super) fn check_boot(spec: &MachineSpec) -> Result<(), HypervisorError> {
    for file in [Some(&spec.kernel), spec.initrd.as_ref()].into_iter().flatten() {
        File::open(file).map_err(HypervisorError::file("open", file))?;
    }
    Ok(())
}

/// Checks a memory size in bytes: whole MiB, at least `least`.
///
/// # Errors
/// [`HypervisorError::Spec`].
pub(super) fn check_memory(
    what: &'static str,
    bytes: u64,
    least: u64,
) -> Result<(), HypervisorError> {
    if (least..=MEMORY_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(MIB) {
        return Ok(());
    }
    let reason = format!("{bytes} is not whole MiB from {least} to {MEMORY_BYTES_MAX} bytes");
    Err(HypervisorError::Spec { what, reason })
}

/// Returns the spec with an absolute folder.
pub(super) fn in_place(spec: &MachineSpec) -> Result<MachineSpec, HypervisorError> {
    let dir =
        std::path::absolute(&spec.dir).map_err(HypervisorError::file("resolve", &spec.dir))?;
    Ok(MachineSpec { dir, ..spec.clone() })
}

/// Returns a path as text that VMMs take: absolute and UTF-8.
pub(super) fn utf8(what: &'static str, path: &Path) -> Result<String, HypervisorError> {
    let absolute = std::path::absolute(path).map_err(HypervisorError::file("resolve", path))?;
    let wrong = |path| HypervisorError::Spec { what, reason: format!("{path:?} is not UTF-8") };
    absolute.into_os_string().into_string().map_err(wrong)
}
