//! Options of `serve` for what the host gives to instances.

use clap::Args;

use crate::driver::{Ratio, Ratios};

/// The ratios of what instances have together and what the host has.
#[derive(Debug, Args)]
pub(super) struct Overcommit {
    /// Virtual processors for each processor of the host, such as 4 or 1.5; 16 if absent
    #[arg(long, value_name = "RATIO", env = "TALLYMAN_OVERCOMMIT_CPU")]
    overcommit_cpu: Option<Ratio>,
    /// Guest memory for the host's memory; 1 if absent
    #[arg(long, value_name = "RATIO", env = "TALLYMAN_OVERCOMMIT_MEMORY")]
    overcommit_memory: Option<Ratio>,
    /// Sizes of guests' disks for the size of the data folder's disk; 4 if absent
    #[arg(long, value_name = "RATIO", env = "TALLYMAN_OVERCOMMIT_DISK")]
    overcommit_disk: Option<Ratio>,
}

impl Overcommit {
    /// The ratios.
    pub(super) fn ratios(&self) -> Ratios {
        let usual = Ratios::default();
        Ratios {
            cpu: self.overcommit_cpu.unwrap_or(usual.cpu),
            memory: self.overcommit_memory.unwrap_or(usual.memory),
            disk: self.overcommit_disk.unwrap_or(usual.disk),
        }
    }
}
