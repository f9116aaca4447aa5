//! Machines for tests, on the real hypervisor.

use std::path::Path;

use tallyman::hypervisor::{Accelerator, MachineSpec, Qemu, QemuConfig};

use crate::guest;

/// The tiny guest with 16 MiB, its first launch, in the folder `dir`, which also gives it its id.
pub fn spec(dir: &Path) -> MachineSpec {
    let name = dir.file_name().and_then(|name| name.to_str()).expect("a folder with a name");
    MachineSpec {
        dir: dir.into(),
        id: name.parse().expect("a folder with the name of an instance"),
        name: name.parse().expect("a folder with the name of an instance"),
        incarnation: 1,
        vcpus: 1,
        memory_bytes: 16 << 20,
        memory_bytes_max: None,
        kernel: guest::tiny().into(),
        initrd: None,
        cmdline: String::new(),
        disks: Vec::new(),
        machine_type: None,
        cpu_model: None,
    }
}

/// QEMU without hardware help, which every host has.
pub async fn qemu(supervisor: &Path) -> Qemu {
    let (program, supervisor) = ("qemu-system-x86_64".into(), supervisor.into());
    Qemu::detect(QemuConfig { program, supervisor, accelerator: Some(Accelerator::Tcg) })
        .await
        .expect("QEMU works here")
}
