//! The traffic of an instance, as facts have it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::vm;

/// Bytes and packets of layer 3 that the guest has received and sent since the instance was
/// created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Bytes that the guest received.
    pub in_bytes: u64,
    /// Packets that the guest received.
    pub in_packets: u64,
    /// Bytes that the guest sent.
    pub out_bytes: u64,
    /// Packets that the guest sent.
    pub out_packets: u64,
}

impl Traffic {
    /// The traffic as a fact has it; none without any.
    pub(crate) fn of(traffic: vm::Traffic) -> Option<Self> {
        let [in_bytes, in_packets, out_bytes, out_packets] = traffic.numbers();
        let some = Self { in_bytes, in_packets, out_bytes, out_packets };
        (traffic != vm::Traffic::NONE).then_some(some)
    }

    /// The traffic of a fact.
    pub(crate) fn or_none(traffic: Option<Self>) -> vm::Traffic {
        traffic.map_or(vm::Traffic::NONE, |some| {
            vm::Traffic::of([some.in_bytes, some.in_packets, some.out_bytes, some.out_packets])
        })
    }
}
