//! Kinds of hypervisors and their capabilities, as data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::limits::instance::VCPUS_MAX;

/// A hypervisor that this program can drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// QEMU with the machine type q35, through QMP.
    Qemu,
    /// QEMU with the machine type microvm, through QMP.
    QemuMicrovm,
    /// Cloud Hypervisor, through its REST interface.
    CloudHypervisor,
    /// Firecracker, through its REST interface.
    Firecracker,
}

impl Kind {
    /// Every kind. The first that works on a host is its default.
    pub const ALL: [Kind; 4] =
        [Kind::Qemu, Kind::QemuMicrovm, Kind::CloudHypervisor, Kind::Firecracker];

    /// Name in the API, such as `qemu-microvm`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Qemu => "qemu",
            Kind::QemuMicrovm => "qemu-microvm",
            Kind::CloudHypervisor => "cloud-hypervisor",
            Kind::Firecracker => "firecracker",
        }
    }

    /// Capabilities on a host on which the hypervisor works.
    pub const fn capabilities(self) -> Capabilities {
        use Capability::*;
        match self {
            Kind::Qemu => Capabilities::of(&[
                Emulation,
                Snapshots,
                PortableSnapshots,
                GracefulStop,
                PowerOffCause,
                ConsoleInput,
                Disks,
                Network,
                MachineTypes,
            ]),
            Kind::QemuMicrovm => Capabilities::of(&[
                Emulation,
                Snapshots,
                GracefulStop,
                PowerOffCause,
                ConsoleInput,
                Disks,
                Network,
                MachineTypes,
            ]),
            Kind::CloudHypervisor => Capabilities::of(&[
                Snapshots,
                GracefulStop,
                PowerOffCause,
                ConsoleInput,
                MemoryResize,
                Disks,
            ]),
            Kind::Firecracker => OF_FIRECRACKER,
        }
    }

    /// Most virtual processors of one machine.
    pub const fn vcpus_max(self) -> u32 {
        match self {
            Kind::Qemu | Kind::QemuMicrovm | Kind::CloudHypervisor => VCPUS_MAX,
            Kind::Firecracker => 32,
        }
    }

    /// Names of the kinds that have a capability, separated by commas.
    pub(super) fn that_can(capability: Capability) -> String {
        let able = Kind::ALL.into_iter().filter(|kind| kind.capabilities().has(capability));
        able.map(Kind::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An ability that some hypervisors have and others lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Guests run without `/dev/kvm`.
    Emulation,
    /// Memory can be saved to disk and loaded by another process, for the same instance or a fork
    /// of it.
    Snapshots,
    /// A snapshot can be loaded by another version than the one that wrote it.
    PortableSnapshots,
    /// Machines that were loaded from one snapshot share its memory until they write to it.
    SharedMemory,
    /// The guest can be asked to power itself off.
    GracefulStop,
    /// A guest's power-off and reset are distinguished.
    PowerOffCause,
    /// Bytes can be sent to the guest's console.
    ConsoleInput,
    /// The memory of a machine that runs can be made larger.
    MemoryResize,
    /// The guest can have disks.
    Disks,
    /// The guest can have a network.
    Network,
    /// The machine type and the processor model can be chosen.
    MachineTypes,
}

impl Capability {
    /// Every capability, in the order of the documentation.
    pub const ALL: [Capability; 11] = [
        Capability::Emulation,
        Capability::Snapshots,
        Capability::PortableSnapshots,
        Capability::SharedMemory,
        Capability::GracefulStop,
        Capability::PowerOffCause,
        Capability::ConsoleInput,
        Capability::MemoryResize,
        Capability::Disks,
        Capability::Network,
        Capability::MachineTypes,
    ];

    /// Name in the API, such as `portable_snapshots`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Capability::Emulation => "emulation",
            Capability::Snapshots => "snapshots",
            Capability::PortableSnapshots => "portable_snapshots",
            Capability::SharedMemory => "shared_memory",
            Capability::GracefulStop => "graceful_stop",
            Capability::PowerOffCause => "power_off_cause",
            Capability::ConsoleInput => "console_input",
            Capability::MemoryResize => "memory_resize",
            Capability::Disks => "disks",
            Capability::Network => "network",
            Capability::MachineTypes => "machine_types",
        }
    }

    /// The ability in words that follow "can".
    pub const fn describe(self) -> &'static str {
        match self {
            Capability::Emulation => "run guests without /dev/kvm",
            Capability::Snapshots => "save memory to disk and load it again",
            Capability::PortableSnapshots => "load a snapshot that another version wrote",
            Capability::SharedMemory => {
                "share a snapshot's memory among the machines that were loaded from it"
            }
            Capability::GracefulStop => "ask the guest to power itself off",
            Capability::PowerOffCause => "tell a guest's power-off from its reset",
            Capability::ConsoleInput => "send bytes to the guest's console",
            Capability::MemoryResize => "make the memory of a machine that runs larger",
            Capability::Disks => "give the guest disks",
            Capability::Network => "give the guest a network",
            Capability::MachineTypes => "choose the machine type and the processor model",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The capabilities of Firecracker.
const OF_FIRECRACKER: Capabilities = Capabilities::of(&[
    Capability::Snapshots,
    Capability::SharedMemory,
    Capability::GracefulStop,
    Capability::ConsoleInput,
    Capability::Disks,
    Capability::Network,
]);

/// A set of capabilities. Serialised as an object with a boolean for each of [`Capability::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// The set of these capabilities.
    pub const fn of(these: &[Capability]) -> Self {
        let mut set = 0;
        let mut n = 0;
        while n < these.len() {
            set |= 1 << these[n] as u32;
            n += 1;
        }
        Self(set)
    }

    /// Returns whether the set has this capability.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u32 != 0
    }
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = Capability::ALL
            .into_iter()
            .map(|capability| (capability.as_str(), self.has(capability)));
        serializer.collect_map(all.collect::<BTreeMap<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of_and_nothing_else() {
        for one in Capability::ALL {
            let set = Capabilities::of(&[one]);
            assert!(
                Capability::ALL.into_iter().all(|other| set.has(other) == (one == other)),
                "{one}"
            );
        }
    }

    #[test]
    fn whoever_lacks_a_capability_is_told_who_has_it() {
        assert_eq!(Kind::that_can(Capability::MemoryResize), "cloud-hypervisor");
        assert_eq!(Kind::that_can(Capability::Emulation), "qemu, qemu-microvm");
        assert!(
            Capability::ALL.into_iter().all(|capability| !Kind::that_can(capability).is_empty())
        );
    }

    #[test]
    fn clients_see_every_capability_by_name() {
        let set = serde_json::to_value(Kind::Firecracker.capabilities()).expect("plain data");
        assert_eq!(set.as_object().map(|set| set.len()), Some(Capability::ALL.len()));
        assert_eq!((&set["shared_memory"], &set["memory_resize"]), (&true.into(), &false.into()));
    }

    /// The table of the documentation.
    fn table() -> String {
        let row = |head: String, cells: [String; Kind::ALL.len()]| {
            format!("| {head} | {} |", cells.join(" | "))
        };
        let names = row(String::new(), Kind::ALL.map(|kind| format!("`{kind}`")))
            .replacen("|  |", "| |", 1);
        let rows = Capability::ALL.into_iter().map(|capability| {
            let cell = |kind: Kind| {
                if kind.capabilities().has(capability) { "yes" } else { "-" }.to_owned()
            };
            row(format!("`{capability}`: {}", capability.describe()), Kind::ALL.map(cell))
        });
        let vcpus = row(
            "most virtual processors".into(),
            Kind::ALL.map(|kind| kind.vcpus_max().to_string()),
        );
        let line = "|---".repeat(Kind::ALL.len() + 1) + "|";
        let lines: Vec<_> = [names, line].into_iter().chain(rows).chain([vcpus]).collect();
        lines.join("\n")
    }

    #[test]
    fn the_documentation_has_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hypervisors.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        let (_, rest) = text.split_once("<!-- capabilities -->\n").expect("a beginning");
        let (documented, _) = rest.split_once("\n<!-- /capabilities -->").expect("an end");
        assert_eq!(documented, table());
    }
}
