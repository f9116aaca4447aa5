//! The last look at each tenant's bills.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant as Timer;

use crate::id::TenantId;

/// The bills of a tenant that need somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attention {
    /// Number of documents that a settlement would correct.
    pub stale: u64,
    /// Number of periods that are over and that no policy has measured.
    pub unrated: u64,
}

/// The last look at each tenant.
#[derive(Debug, Default)]
pub(super) struct Looked(pub(super) Mutex<BTreeMap<TenantId, Look>>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) found: Attention,
    /// Sequence number of the journal's last fact then.
    pub(super) through: u64,
    /// End of the look.
    pub(super) at: Timer,
}
