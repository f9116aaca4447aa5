//! The enums of the core, with their names in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::agreement;
use crate::{tenant, vm};

/// Mirrors an enum of the core with its JSON names. The compiler checks that no member is missing
/// on either side.
macro_rules! mirror {
    ($(#[$doc:meta])* $home:ident::$name:ident { $($member:ident),+ $(,)? }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs, reason = "each member is documented where it comes from")]
        $(#[$doc])*
        pub enum $name { $($member),+ }

        impl From<$home::$name> for $name {
            fn from(core: $home::$name) -> Self {
                match core { $($home::$name::$member => Self::$member),+ }
            }
        }

        impl From<$name> for $home::$name {
            fn from(wire: $name) -> Self {
                match wire { $($name::$member => Self::$member),+ }
            }
        }
    };
}

mirror!(
    /// The phase of an instance.
    vm::Phase { Created, Initializing, Running, Paused, Shutdown, Standby, Stopped, Unknown }
);
mirror!(
    /// A command to an instance.
    vm::Command {
        Start,
        Stop,
        Pause,
        Resume,
        Standby,
        Restore,
        Delete,
        Snapshot,
        Discard,
        Revert,
        Fork,
        Resize,
    }
);
mirror!(
    /// The origin of a command.
    vm::Asker { Client, RestartPolicy, Expiry, Schedule, HealthCheck, AutoStandby }
);
mirror!(
    /// The cause of an instance's stop.
    vm::ExitCause {
        Requested,
        Forced,
        Guest,
        Crashed,
        HostLost,
        LaunchFailed,
        Discarded,
        Unhealthy,
    }
);

mirror!(
    /// The length of a billing period.
    agreement::Cycle { Month, Day }
);
mirror!(
    /// The rights of a token's holder.
    tenant::Role { Operator, Billing, TenantAdmin, TenantReader, PolicyAuthor, Host, Metrics }
);
mirror!(
    /// The standing of a policy with a tenant.
    tenant::Standing { Uploaded, Refused, Admitted, Shadow, Active, Draining, Retired, Quarantined }
);
mirror!(
    /// The kind of an amount that is charged, or given, once.
    tenant::OneOffKind { Charge, Goodwill }
);
mirror!(
    /// The kind of a planned change.
    tenant::Plan { Policy, Prices }
);
mirror!(
    /// A step of the fallback order, for when the policy in force is quarantined.
    #[schema(as = Rung)]
    tenant::FallbackStep { Hold, LastGood, Standard }
);
