//! Resources that an instance holds.

/// The resources of an instance during an interval. Every interval carries one, so that a price can
/// depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Shape {
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Guest memory, in bytes.
    pub memory_bytes: u64,
    /// Sum of the sizes of all writable disks, in bytes.
    pub disk_bytes: u64,
    /// Disk space of a standby's memory and of the kept snapshots, in bytes.
    pub snapshot_bytes: u64,
}
