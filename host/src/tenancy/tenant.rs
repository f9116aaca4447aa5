//! One tenant: its settings and limits, and the present use of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::bucket::{Bucket, Rate};
use crate::id::{Digest, InstanceName, TenantId};
use crate::limits::tenant as limits;
use crate::tenant::{Limit, Settings};
use crate::units::Instant;

const SECOND_NS: u64 = 1_000_000_000;

/// A tenant.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    created: Instant,
    settings: ArcSwap<Settings>,
    requests: Bucket,
    fuel: Bucket,
    launches: Bucket,
    events: Bucket,
    /// Events since the start of the daemon that are in the bucket already.
    events_seen: AtomicU64,
    /// Fuel burned since the start of the daemon that is in the bucket already.
    fuel_seen: AtomicU64,
    /// Shares of instances that are being made or changed, which count already.
    reserved: Mutex<HashMap<InstanceName, Share>>,
    /// Lengths of price books and components that are being stored, and by how many requests each.
    storing: Mutex<HashMap<Digest, (u64, usize)>>,
    /// Bytes on disk that it may have unless an operator says so.
    disk_bytes: u64,
}

/// The share of its tenant's limits that one instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disks, memories, snapshots and logs in bytes.
    pub disk_bytes: u64,
}

/// A limit that would be exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant '{tenant}' would have {wanted} {limit}; its limit is {most}")]
pub struct Exceeded {
    /// The tenant.
    pub tenant: TenantId,
    /// The limit.
    pub limit: Limit,
    /// The amount that the request would lead to, in the limit's unit.
    pub wanted: u64,
    /// The largest amount that is allowed, in the limit's unit.
    pub most: u64,
}

/// A rate limit that is exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant '{tenant}' is over its limit of {most} {limit}")]
pub struct TooFast {
    /// The tenant.
    pub tenant: TenantId,
    /// The limit.
    pub limit: Limit,
    /// The limit's value, in its unit.
    pub most: u64,
    /// Seconds to wait before the next try, 1 or more.
    pub retry_after_s: u32,
}

/// The guard of a share that is reserved for an instance that is being made or changed: dropping it
/// frees the share.
#[derive(Debug)]
pub struct Reservation {
    tenant: Arc<Tenant>,
    name: InstanceName,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.tenant.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// The guard of the bytes of a price book or a component that is being stored: dropping it frees
/// them.
#[derive(Debug)]
pub struct Storing {
    tenant: Arc<Tenant>,
    digest: Digest,
}

impl Drop for Storing {
    fn drop(&mut self) {
        let mut storing = self.tenant.storing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, requests)) = storing.get_mut(&self.digest) {
            *requests -= 1;
            if *requests == 0 {
                storing.remove(&self.digest);
            }
        }
    }
}

/// A limit, with the part of a share that it is about.
type Part = (Limit, fn(&Share) -> u64);

impl Tenant {
    /// A tenant of a host that gives so many bytes to disks.
    pub(super) fn new(
        id: TenantId,
        created: Instant,
        settings: Settings,
        given_bytes: u64,
    ) -> Self {
        let part = if id == TenantId::default_tenant() { 1 } else { limits::DISK_DIVISOR };
        Self {
            disk_bytes: limits::DISK_BYTES_MAX.min(given_bytes / part),
            storing: Mutex::default(),
            id,
            created,
            settings: ArcSwap::from_pointee(settings),
            requests: Bucket::default(),
            fuel: Bucket::default(),
            launches: Bucket::default(),
            events: Bucket::default(),
            events_seen: AtomicU64::new(0),
            fuel_seen: AtomicU64::new(0),
            reserved: Mutex::default(),
        }
    }

    /// The tenant's id.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Instant at which the tenant was made.
    pub fn created(&self) -> Instant {
        self.created
    }

    /// The tenant's settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub(super) fn settle(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The limit in force.
    pub fn limit(&self, limit: Limit) -> u64 {
        let quota = self.settings.load().quota;
        match limit {
            Limit::DiskBytes => quota.own(limit).unwrap_or(self.disk_bytes),
            Limit::Instances
            | Limit::Vcpus
            | Limit::MemoryBytes
            | Limit::Policies
            | Limit::RequestsPerS
            | Limit::FuelPerMinute
            | Limit::StoredBytes
            | Limit::LaunchesPerMinute
            | Limit::EventsPerMinute => quota.get(limit),
        }
    }

    /// Counts a request at `now_ns` nanoseconds of `CLOCK_BOOTTIME`.
    ///
    /// # Errors
    /// [`TooFast`]; the request is not counted.
    pub fn count_request(&self, now_ns: u64) -> Result<(), TooFast> {
        let most = self.limit(Limit::RequestsPerS);
        let rate = Rate { units: most, window_ns: SECOND_NS, burst: 2 };
        self.requests
            .take(now_ns, rate)
            .map_err(|wait_ns| self.too_fast(Limit::RequestsPerS, most, wait_ns))
    }

    /// Notes the fuel that was `burned` since the start of the daemon, and checks that more may be.
    ///
    /// # Errors
    /// [`TooFast`] until enough time has passed.
    pub fn check_fuel(&self, now_ns: u64, burned: u64) -> Result<(), TooFast> {
        let most = self.limit(Limit::FuelPerMinute);
        let rate = Rate { units: most, window_ns: 60 * SECOND_NS, burst: 1 };
        let seen = self.fuel_seen.fetch_max(burned, Ordering::Relaxed);
        self.fuel.spend(now_ns, rate, burned.saturating_sub(seen));
        self.fuel
            .check(now_ns, rate)
            .map_err(|wait_ns| self.too_fast(Limit::FuelPerMinute, most, wait_ns))
    }

    /// Counts a launch of a machine at `now_ns` nanoseconds of `CLOCK_BOOTTIME`.
    ///
    /// # Errors
    /// [`TooFast`]; the launch is not counted.
    pub fn count_launch(&self, now_ns: u64) -> Result<(), TooFast> {
        let most = self.limit(Limit::LaunchesPerMinute);
        let rate = Rate { units: most, window_ns: 60 * SECOND_NS, burst: 1 };
        self.launches
            .take(now_ns, rate)
            .map_err(|wait_ns| self.too_fast(Limit::LaunchesPerMinute, most, wait_ns))
    }

    /// Notes the events that happened since the start of the daemon, and checks that a request may
    /// cause more.
    ///
    /// # Errors
    /// [`TooFast`] until enough time has passed.
    pub fn check_events(&self, now_ns: u64, happened: u64) -> Result<(), TooFast> {
        let most = self.limit(Limit::EventsPerMinute);
        let rate = Rate { units: most, window_ns: 60 * SECOND_NS, burst: 1 };
        let seen = self.events_seen.fetch_max(happened, Ordering::Relaxed);
        self.events.spend(now_ns, rate, happened.saturating_sub(seen));
        self.events
            .check(now_ns, rate)
            .map_err(|wait_ns| self.too_fast(Limit::EventsPerMinute, most, wait_ns))
    }

    fn too_fast(&self, limit: Limit, most: u64, wait_ns: u64) -> TooFast {
        let retry_after_s = u32::try_from(wait_ns.div_ceil(SECOND_NS)).unwrap_or(u32::MAX).max(1);
        TooFast { tenant: self.id.clone(), limit, most, retry_after_s }
    }

    /// Reserves `share` for the instance `name`, new or not, if the tenant may have that much.
    /// `there` returns the present shares of its instances.
    ///
    /// # Errors
    /// The first limit that would be exceeded.
    pub fn reserve(
        self: &Arc<Self>,
        name: &InstanceName,
        share: Share,
        there: impl FnOnce() -> Vec<(InstanceName, Share)>,
    ) -> Result<Reservation, Exceeded> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: a share stays reserved until its instance is among those of `there`.
        let mut all: HashMap<_, _> = there().into_iter().collect();
        all.extend(reserved.iter().map(|(name, share)| (name.clone(), *share)));
        let before = all.insert(name.clone(), share);
        if before.is_none() {
            self.check_count(Limit::Instances, all.len() as u64)?;
        }
        let before = before.unwrap_or_default();
        let parts: [Part; 3] = [
            (Limit::Vcpus, |share| share.vcpus.into()),
            (Limit::MemoryBytes, |share| share.memory_bytes),
            (Limit::DiskBytes, |share| share.disk_bytes),
        ];
        // What does not grow passes, also above a limit that was lowered.
        for (limit, of) in parts.into_iter().filter(|(_, of)| of(&share) > of(&before)) {
            let sum = all.values().map(of).fold(0, u64::saturating_add);
            self.check_count(limit, sum)?;
        }
        reserved.insert(name.clone(), share);
        Ok(Reservation { tenant: self.clone(), name: name.clone() })
    }

    /// Reserves the bytes of a price book or a component, if the tenant may have that many.
    /// `stored` returns those that are stored for it beside those of some digests.
    ///
    /// # Errors
    /// [`Exceeded`], or the error of `stored`.
    pub fn store<E: From<Exceeded>>(
        self: &Arc<Self>,
        digest: Digest,
        length: u64,
        stored: impl FnOnce(&[Digest]) -> Result<u64, E>,
    ) -> Result<Storing, E> {
        let mut storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let others = storing.iter().filter(|(other, _)| **other != digest);
        let others: Vec<_> = others.map(|(other, (length, _))| (*other, *length)).collect();
        let reserved: Vec<_> = others.iter().map(|(other, _)| *other).chain([digest]).collect();
        // Read under the lock: bytes stay reserved until they are stored, and count once.
        let there = stored(&reserved)?;
        let others = others.iter().map(|(_, length)| *length).fold(there, u64::saturating_add);
        self.check_count(Limit::StoredBytes, others.saturating_add(length))?;
        storing.entry(digest).or_insert((length, 0)).1 += 1;
        Ok(Storing { tenant: self.clone(), digest })
    }

    /// Checks that `wanted`, in the limit's unit, is allowed.
    ///
    /// # Errors
    /// [`Exceeded`] if it is more than the limit.
    pub fn check_count(&self, limit: Limit, wanted: u64) -> Result<(), Exceeded> {
        let most = self.limit(limit);
        if wanted <= most {
            Ok(())
        } else {
            Err(Exceeded { tenant: self.id.clone(), limit, wanted, most })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::Quota;

    fn tenant(limits: &[(Limit, u64)]) -> Arc<Tenant> {
        let mut quota = Quota::default();
        for &(limit, most) in limits {
            quota.set(limit, Some(most));
        }
        let settings = Settings { quota, ..Settings::default() };
        let id = "acme".parse().expect("a name");
        Arc::new(Tenant::new(id, Instant(0), settings, u64::MAX))
    }

    #[test]
    fn bytes_that_are_being_stored_count_already() {
        let tenant = tenant(&[(Limit::StoredBytes, 100)]);
        let store = |number: u8, length: u64, stored: u64| {
            tenant.store::<Exceeded>(Digest([number; 32]), length, |_| Ok(stored))
        };
        let first = store(1, 60, 0).expect("room");
        assert_eq!(store(2, 50, 0).map(drop).expect_err("no room").wanted, 110);
        // The same bytes count once, as long as one of their requests is under way.
        let again = store(1, 60, 0).expect("room");
        drop(first);
        store(2, 50, 0).map(drop).expect_err("no room");
        drop(again);
        store(2, 50, 0).expect("room");
        store(2, 50, 60).map(drop).expect_err("no room beside what is stored");
    }

    #[test]
    fn a_tenant_may_have_half_of_the_disk_and_the_single_user_all() {
        let of = |id: TenantId| Tenant::new(id, Instant(0), Settings::default(), 100);
        let other = of("acme".parse().expect("an id"));
        assert_eq!(of(TenantId::default_tenant()).limit(Limit::DiskBytes), 100);
        assert_eq!(other.limit(Limit::DiskBytes), 50);
        let mut settings = Settings::default();
        settings.quota.set(Limit::DiskBytes, Some(80));
        other.settle(settings);
        assert_eq!(other.limit(Limit::DiskBytes), 80);
    }

    fn name(text: &str) -> InstanceName {
        text.parse().expect("a name")
    }

    const SMALL: Share = Share { vcpus: 1, memory_bytes: 10, disk_bytes: 5 };

    #[test]
    fn what_is_being_made_counts_until_it_is_there_and_not_twice() {
        let tenant = tenant(&[(Limit::Instances, 2)]);
        let first = tenant.reserve(&name("a"), SMALL, Vec::new).expect("one");
        let _second = tenant.reserve(&name("b"), SMALL, || vec![(name("a"), SMALL)]).expect("two");
        let third =
            tenant.reserve(&name("c"), SMALL, || vec![(name("a"), SMALL)]).expect_err("three");
        assert_eq!((third.limit, third.wanted, third.most), (Limit::Instances, 3, 2));
        // The first was given up: it is neither there nor being made.
        drop(first);
        tenant.reserve(&name("c"), SMALL, Vec::new).expect("two again");
    }

    #[test]
    fn each_limit_is_checked_and_a_change_counts_as_what_it_will_be() {
        let tenant = tenant(&[(Limit::Vcpus, 4), (Limit::MemoryBytes, 100)]);
        let there = || vec![(name("a"), Share { vcpus: 2, memory_bytes: 60, disk_bytes: 0 })];
        let try_one = |name_text: &str, vcpus, memory_bytes| {
            tenant
                .reserve(&name(name_text), Share { vcpus, memory_bytes, disk_bytes: 0 }, there)
                .map(drop)
                .map_err(|no| no.limit)
        };
        assert_eq!(try_one("b", 2, 40), Ok(()));
        assert_eq!(try_one("b", 3, 40), Err(Limit::Vcpus));
        assert_eq!(try_one("b", 2, 41), Err(Limit::MemoryBytes));
        assert_eq!(try_one("b", 0, u64::MAX), Err(Limit::MemoryBytes));
        assert_eq!(try_one("a", 4, 100), Ok(()), "it grows, and is not counted twice");
        assert_eq!(try_one("a", 5, 100), Err(Limit::Vcpus));
    }

    #[test]
    fn bytes_on_disk_are_a_sum_over_instances_and_what_does_not_grow_passes() {
        let tenant = tenant(&[(Limit::DiskBytes, 100), (Limit::MemoryBytes, 10)]);
        let there = || vec![(name("a"), Share { vcpus: 1, memory_bytes: 50, disk_bytes: 60 })];
        let grown = |name_text: &str, disk_bytes| {
            let share = Share { vcpus: 1, memory_bytes: 50, disk_bytes };
            tenant.reserve(&name(name_text), share, there).map(drop).map_err(|no| no.limit)
        };
        assert_eq!(grown("a", 100), Ok(()), "its memory is above a limit that was lowered");
        assert_eq!(grown("a", 101), Err(Limit::DiskBytes));
        assert_eq!(grown("b", 40), Err(Limit::MemoryBytes), "a new one");
    }

    #[test]
    fn launches_and_events_come_as_many_at_once_as_in_a_minute() {
        let tenant = tenant(&[(Limit::LaunchesPerMinute, 2), (Limit::EventsPerMinute, 60)]);
        assert_eq!((tenant.count_launch(0), tenant.count_launch(0)), (Ok(()), Ok(())));
        let refused = tenant.count_launch(0).expect_err("the third");
        assert_eq!((refused.limit, refused.retry_after_s), (Limit::LaunchesPerMinute, 30));
        assert_eq!(tenant.check_events(0, 60), Ok(()));
        let refused = tenant.check_events(0, 70).expect_err("too many");
        assert_eq!((refused.limit, refused.retry_after_s), (Limit::EventsPerMinute, 10));
        assert_eq!(tenant.check_events(10 * SECOND_NS, 70), Ok(()));
    }

    #[test]
    fn fuel_that_was_burned_once_is_counted_once() {
        let tenant = tenant(&[(Limit::FuelPerMinute, 60)]);
        assert_eq!(tenant.check_fuel(0, 60), Ok(()));
        let refused = tenant.check_fuel(0, 150).expect_err("too much");
        assert_eq!((refused.limit, refused.retry_after_s), (Limit::FuelPerMinute, 90));
        assert_eq!(tenant.check_fuel(90 * SECOND_NS, 150), Ok(()));
        assert_eq!(tenant.check_fuel(90 * SECOND_NS, 150), Ok(()));
    }

    #[test]
    fn a_refused_request_says_when_to_come_again() {
        let tenant = tenant(&[(Limit::RequestsPerS, 1)]);
        assert_eq!((tenant.count_request(0), tenant.count_request(0)), (Ok(()), Ok(())));
        let refused = tenant.count_request(0).expect_err("the third at once");
        assert_eq!(refused.retry_after_s, 1);
        assert_eq!(tenant.count_request(SECOND_NS), Ok(()));
    }
}
