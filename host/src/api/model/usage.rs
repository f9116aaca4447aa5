//! Usage as CloudEvents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Shape, Timestamp};
use crate::journal::wire::{ExitCause, Phase};

/// A page of usage events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageEvents {
    /// The events, in the order in which their intervals ended.
    pub events: Vec<UsageEvent>,
    /// Value of `after` for the next page, and for a later request.
    pub after: u64,
    /// True if the next page can be read now.
    pub more: bool,
}

/// An interval that has ended, as a CloudEvent of version 1.0. A receiver that drops events whose
/// `source` and `id` it knows counts none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageEvent {
    /// Version of the CloudEvents specification.
    pub specversion: String,
    /// The instance, and the sequence number of the fact that opened the interval.
    pub id: String,
    /// Path of the instance in the API.
    pub source: String,
    /// The type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tenant's id.
    pub subject: String,
    /// End of the interval by the calendar.
    pub time: Timestamp,
    /// Media type of `data`.
    pub datacontenttype: String,
    /// The interval.
    pub data: UsageInterval,
}

/// An interval that has ended. Nanoseconds are texts: they pass what a double holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageInterval {
    /// Id of the instance.
    pub instance: String,
    /// The phase.
    pub phase: Phase,
    /// First instant inside, on the meter clock, in nanoseconds since 1970.
    pub start_ns: String,
    /// First instant after, on the meter clock.
    pub end_ns: String,
    /// `end_ns` less `start_ns`.
    pub duration_ns: String,
    /// Start by the calendar.
    pub start: Timestamp,
    /// End by the calendar.
    pub end: Timestamp,
    /// Resources that the instance held.
    pub shape: Shape,
    /// Number of the start that the interval belongs to.
    pub session: u32,
    /// Cause of the stop; null if the instance was not stopped.
    pub cause: Option<ExitCause>,
    /// Sequence number of the fact that opened the interval.
    pub opened_by: u64,
    /// Sequence number of the fact that ended it.
    pub closed_by: u64,
}
