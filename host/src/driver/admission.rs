//! The host's admission: what it gives to instances at most, and what they have of it.
//!
//! The shares of instances follow from their state alone, so nothing could disagree with it, and
//! nothing is to be restored after a restart. Only what is about to be had is kept, in memory, from
//! before it can be seen until it is seen.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::InstanceId;
use crate::limits::host as limits;
use crate::vm::Shape;

/// The part of a host's resources that an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// Virtual processors.
    pub vcpus: u64,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Sizes of the disks that it may write, in bytes.
    pub disk_bytes: u64,
}

impl Claim {
    /// The resources of a host without an end.
    pub const ENDLESS: Self =
        Self { vcpus: u64::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX };

    /// The processors and the memory of this host.
    pub fn of_this_host() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let system = rustix::system::sysinfo();
        let memory_bytes = system.totalram.saturating_mul(system.mem_unit.into());
        Self { vcpus: processors as u64, memory_bytes, disk_bytes: 0 }
    }

    /// The claim of an instance that has a machine.
    pub(super) fn of_machine(shape: Shape) -> Self {
        Self {
            vcpus: shape.vcpus.into(),
            memory_bytes: shape.memory_bytes,
            disk_bytes: shape.disk_bytes,
        }
    }

    /// The claim of an instance at rest.
    pub(super) fn at_rest(shape: Shape) -> Self {
        Self { disk_bytes: shape.disk_bytes, ..Self::default() }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }

    /// The larger of both, resource by resource.
    fn at_least(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.max(other.vcpus),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
        }
    }

    /// The amounts, in the order of [`Resource`].
    pub fn amounts(self) -> [(Resource, u64); 3] {
        let Self { vcpus, memory_bytes, disk_bytes } = self;
        [(Resource::Cpu, vcpus), (Resource::Memory, memory_bytes), (Resource::Disk, disk_bytes)]
    }
}

/// A resource of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Processors.
    Cpu,
    /// Memory, in bytes.
    Memory,
    /// The disk of the data folder, in bytes.
    Disk,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "virtual processors",
            Self::Memory => "bytes of memory",
            Self::Disk => "bytes of disk",
        })
    }
}

/// The ratio of what is given to instances and what the host has, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio(u32);

/// A text that is no ratio.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no ratio; write a number from 0.1 to 1000 with at most three decimals, like 1.5")]
pub struct UnknownRatio(String);

impl Ratio {
    /// The part of `capacity` that is given, rounded down.
    pub fn of(self, capacity: u64) -> u64 {
        let given = u128::from(capacity) * u128::from(self.0) / 1_000;
        u64::try_from(given).unwrap_or(u64::MAX)
    }
}

impl FromStr for Ratio {
    type Err = UnknownRatio;
    fn from_str(text: &str) -> Result<Self, UnknownRatio> {
        let unknown = || UnknownRatio(text.chars().take(40).collect());
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_plain = is_digits(whole) && is_digits(decimals) && decimals.len() <= 3;
        if !is_plain || whole.is_empty() || decimals.is_empty() {
            return Err(unknown());
        }
        let thousandths: u32 = format!("{whole}{decimals:0<3}").parse().map_err(|_| unknown())?;
        limits::RATIOS_PERMILLE
            .contains(&thousandths)
            .then_some(Self(thousandths))
            .ok_or_else(unknown)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:03}", self.0 % 1_000);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}", self.0 / 1_000),
            decimals => write!(f, "{}.{decimals}", self.0 / 1_000),
        }
    }
}

/// The ratios of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratios {
    /// Virtual processors for each processor.
    pub cpu: Ratio,
    /// Guest memory.
    pub memory: Ratio,
    /// Sizes of disks.
    pub disk: Ratio,
}

impl Default for Ratios {
    fn default() -> Self {
        Self {
            cpu: Ratio(limits::CPU_RATIO_PERMILLE),
            memory: Ratio(limits::MEMORY_RATIO_PERMILLE),
            disk: Ratio(limits::DISK_RATIO_PERMILLE),
        }
    }
}

/// The resources of a host, and the part that it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The resources of the host.
    pub has: Claim,
    /// The ratios by which it gives.
    pub ratios: Ratios,
}

impl Capacity {
    /// The most that all instances together may have.
    pub fn limit(self) -> Claim {
        Claim {
            vcpus: self.ratios.cpu.of(self.has.vcpus),
            memory_bytes: self.ratios.memory.of(self.has.memory_bytes),
            disk_bytes: self.ratios.disk.of(self.has.disk_bytes),
        }
    }
}

/// A claim that the host has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// The first resource of which too little is free.
    pub resource: Resource,
    /// The amount that is needed more of it.
    pub needed: u64,
    /// The free amounts of all resources.
    pub free: Claim,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, needed, free } = self;
        let Claim { vcpus, memory_bytes, disk_bytes } = free;
        write!(
            f,
            "the host has no room for {needed} {resource} more; free are {vcpus} {}, \
             {memory_bytes} {}, {disk_bytes} {}",
            Resource::Cpu,
            Resource::Memory,
            Resource::Disk
        )
    }
}

/// The claims that are about to be seen. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Admission(Arc<Mutex<HashMap<InstanceId, Claim>>>);

/// The guard of a claim: dropping it leaves what can be seen.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Admission,
    id: InstanceId,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.pending().remove(&self.id);
    }
}

impl Admission {
    /// Admits an instance, new or not, that is to have `claim`, if there is room for what it grows
    /// by. `there` returns the instances that can be seen.
    pub(super) fn admit(
        &self,
        capacity: Capacity,
        (id, claim): (&InstanceId, Claim),
        there: impl FnOnce() -> Vec<(InstanceId, Claim)>,
    ) -> Result<Admitted, Full> {
        let mut pending = self.pending();
        // Read under the lock: a claim stays pending until it is among those of `there`.
        let there = there();
        let before = there.iter().find(|(known, _)| known == id).map(|&(_, claim)| claim);
        let before = before.unwrap_or_default();
        let free = free(capacity, sum(&pending, &there));
        let grows = claim.amounts().into_iter().zip(before.amounts()).zip(free.amounts());
        for (((resource, wanted), (_, has)), (_, free_of_it)) in grows {
            let needed = wanted.saturating_sub(has);
            if needed > free_of_it {
                return Err(Full { resource, needed, free });
            }
        }
        pending.insert(id.clone(), claim);
        Ok(Admitted { admission: self.clone(), id: id.clone() })
    }

    /// The sum of all claims, pending ones included.
    pub(super) fn sum(&self, there: impl FnOnce() -> Vec<(InstanceId, Claim)>) -> Claim {
        let pending = self.pending();
        sum(&pending, &there())
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<InstanceId, Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum of claims; of one that is pending and can be seen, the larger.
fn sum(pending: &HashMap<InstanceId, Claim>, there: &[(InstanceId, Claim)]) -> Claim {
    let mut new: HashMap<_, _> = pending.iter().collect();
    let seen = there.iter().fold(Claim::default(), |sum, (id, claim)| {
        sum.plus(new.remove(id).map_or(*claim, |pending| pending.at_least(*claim)))
    });
    new.into_values().fold(seen, |sum, claim| sum.plus(*claim))
}

/// The amounts that are left of the most that is given.
pub(super) fn free(capacity: Capacity, taken: Claim) -> Claim {
    let limit = capacity.limit();
    Claim {
        vcpus: limit.vcpus.saturating_sub(taken.vcpus),
        memory_bytes: limit.memory_bytes.saturating_sub(taken.memory_bytes),
        disk_bytes: limit.disk_bytes.saturating_sub(taken.disk_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InstanceId {
        text.parse().expect("an id")
    }

    fn memory(memory_bytes: u64) -> Claim {
        Claim { vcpus: 1, memory_bytes, disk_bytes: 0 }
    }

    fn capacity(memory_bytes: u64, permille: u32) -> Capacity {
        let ratios = Ratios { memory: Ratio(permille), ..Ratios::default() };
        Capacity { has: Claim { vcpus: 100, memory_bytes, disk_bytes: 100 }, ratios }
    }

    #[test]
    fn ratios_are_read_and_written_exactly() {
        let rows =
            [("1", 1_000), ("1.5", 1_500), ("0.1", 100), ("1000", 1_000_000), ("2.125", 2_125)];
        for (text, permille) in rows {
            let ratio: Ratio = text.parse().expect(text);
            assert_eq!((ratio, ratio.to_string().as_str()), (Ratio(permille), text));
        }
        for text in ["", "0", "0.05", "1.", ".5", "1.0005", "-1", "1000.001", "1e3", "99999999999"]
        {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        assert_eq!((Ratio(1_500).of(3), Ratio(1_000).of(u64::MAX)), (4, u64::MAX));
        assert_eq!(Ratio(1_000_000).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_about_to_be_had_counts_once_and_until_it_is_given_back() {
        let admission = Admission::default();
        let capacity = capacity(10, 2_000);
        let nobody = Vec::new;
        let first = admission.admit(capacity, (&id("a"), memory(12)), nobody).expect("room");
        let full = admission.admit(capacity, (&id("b"), memory(9)), nobody).expect_err("full");
        assert_eq!((full.resource, full.needed, full.free.memory_bytes), (Resource::Memory, 9, 8));
        // Seen and pending, it is one.
        let seen = || vec![(id("a"), memory(12))];
        let second = admission.admit(capacity, (&id("b"), memory(8)), seen).expect("room");
        assert_eq!(admission.sum(seen).memory_bytes, 20);
        drop((first, second));
        assert_eq!(admission.sum(seen).memory_bytes, 12);
        assert_eq!(admission.sum(nobody), Claim::default());
    }

    #[test]
    fn only_what_grows_needs_room() {
        let admission = Admission::default();
        // Less than what is taken: the operator has lowered the ratio.
        let capacity = capacity(10, 500);
        let seen = || vec![(id("a"), memory(8))];
        drop(admission.admit(capacity, (&id("a"), memory(8)), seen).expect("no growth"));
        drop(admission.admit(capacity, (&id("a"), memory(7)), seen).expect("less"));
        admission.admit(capacity, (&id("a"), memory(9)), seen).expect_err("more");
    }
}
