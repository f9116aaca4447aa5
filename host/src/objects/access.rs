//! The settings by which stores are reached.

use std::time::Duration;

use super::keys::Keys;
use crate::limits::archive as limits;
use crate::tls::Trust;

/// The settings by which stores are reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// URL of an object store that is not Amazon's; none for Amazon's.
    pub endpoint: Option<String>,
    /// Region of the object store; none for `us-east-1`.
    pub region: Option<String>,
    /// The keys; none for those of the environment or of the machine.
    pub keys: Option<Keys>,
    /// The authorities from which its certificate must come.
    pub trust: Trust,
    /// Longest time for one operation.
    pub within: Duration,
}

impl Default for Access {
    fn default() -> Self {
        let within = Duration::from_secs(limits::OPERATION_S_MAX);
        Self { endpoint: None, region: None, keys: None, trust: Trust::of_system(), within }
    }
}
