//! On whose behalf something is done.

/// Who asked for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A client, through the API.
    Client,
    /// The instance's restart policy.
    RestartPolicy,
    /// The end of the time that the instance was given.
    Expiry,
    /// The instance's snapshot schedule.
    Schedule,
    /// Its workload was found unhealthy.
    HealthCheck,
    /// It had nothing to do.
    AutoStandby,
}

impl Asker {
    /// Every one.
    pub const ALL: [Asker; 6] = [
        Asker::Client,
        Asker::RestartPolicy,
        Asker::Expiry,
        Asker::Schedule,
        Asker::HealthCheck,
        Asker::AutoStandby,
    ];

    /// Lower-case words joined by hyphens, as in the journal.
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
