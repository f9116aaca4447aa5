//! The party that asked for a command.

/// Origin of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A client, through the API.
    Client,
    /// The instance's restart policy.
    RestartPolicy,
    /// The end of the instance's time to live.
    Expiry,
    /// The instance's snapshot schedule.
    Schedule,
    /// The instance's health check, which found the workload unhealthy.
    HealthCheck,
    /// The auto-standby rule, which found the instance idle.
    AutoStandby,
}

impl Asker {
    /// Every origin.
    pub const ALL: [Asker; 6] = [
        Asker::Client,
        Asker::RestartPolicy,
        Asker::Expiry,
        Asker::Schedule,
        Asker::HealthCheck,
        Asker::AutoStandby,
    ];

    /// Name in the journal: lower-case words joined by hyphens.
    pub fn as_str(self) -> &'static str {
        match self {
            Asker::Client => "client",
            Asker::RestartPolicy => "restart-policy",
            Asker::Expiry => "expiry",
            Asker::Schedule => "schedule",
            Asker::HealthCheck => "health-check",
            Asker::AutoStandby => "auto-standby",
        }
    }
}
