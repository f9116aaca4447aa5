//! Histories and their outcomes, as plain data. The same rows run through the native logic, the
//! component and the API.

use tallyman::vm::Phase;
use tallyman::vm::Phase::{Created, Initializing, Paused, Running, Shutdown, Standby, Stopped};

/// Milliseconds in each phase; phases that are not listed have none.
pub type Millis = &'static [(Phase, u64)];

/// A history of one instance and its outcome. Times are milliseconds after the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The claim that the row makes.
    pub name: &'static str,
    /// Phases entered, in order, each with its instant.
    pub entered: &'static [(Phase, i64)],
    /// Phase under way at the end, and the instant from which it counts.
    pub current: Option<(Phase, i64)>,
    /// Completed time after the last fact.
    pub completed: Millis,
    /// Instant of a snapshot.
    pub looked_at: i64,
    /// Time in the snapshot, the visit under way included.
    pub seen: Millis,
}

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Every row.
pub const ROWS: &[Row] = &[
    Row {
        name: "nothing has happened yet",
        entered: &[],
        current: None,
        completed: &[],
        looked_at: HOUR,
        seen: &[],
    },
    Row {
        name: "the first transition accrues nothing",
        entered: &[(Running, 0)],
        current: Some((Running, 0)),
        completed: &[],
        looked_at: 0,
        seen: &[],
    },
    Row {
        name: "a transition accrues the phase before it",
        entered: &[
            (Running, 0),
            (Standby, 30 * SECOND),
            (Running, 330 * SECOND),
            (Stopped, 340 * SECOND),
        ],
        current: Some((Stopped, 340 * SECOND)),
        completed: &[(Running, 40_000), (Standby, 300_000)],
        looked_at: 340 * SECOND,
        seen: &[(Running, 40_000), (Standby, 300_000)],
    },
    Row {
        name: "no time between two transitions accrues none",
        entered: &[(Running, 5 * SECOND), (Standby, 5 * SECOND)],
        current: Some((Standby, 5 * SECOND)),
        completed: &[],
        looked_at: 5 * SECOND,
        seen: &[],
    },
    Row {
        name: "a look includes the visit under way and completes nothing",
        entered: &[(Running, 0), (Standby, 60 * SECOND)],
        current: Some((Standby, 60 * SECOND)),
        completed: &[(Running, 60_000)],
        looked_at: 70 * SECOND,
        seen: &[(Running, 60_000), (Standby, 10_000)],
    },
    Row {
        name: "a look does not change what is completed",
        entered: &[(Running, 0)],
        current: Some((Running, 0)),
        completed: &[],
        looked_at: 5 * MINUTE,
        seen: &[(Running, 300_000)],
    },
    Row {
        name: "standby is not billed as running",
        entered: &[
            (Running, 0),
            (Standby, 60 * SECOND),
            (Running, 360 * SECOND),
            (Stopped, 390 * SECOND),
        ],
        current: Some((Stopped, 390 * SECOND)),
        completed: &[(Running, 90_000), (Standby, 300_000)],
        looked_at: HOUR,
        seen: &[(Running, 90_000), (Standby, 300_000), (Stopped, 3_210_000)],
    },
    Row {
        name: "a source goes on without its fork",
        entered: &[(Running, 0), (Standby, SECOND), (Running, 3 * SECOND)],
        current: Some((Running, 3 * SECOND)),
        completed: &[(Running, 1_000), (Standby, 2_000)],
        looked_at: 13 * SECOND,
        seen: &[(Running, 11_000), (Standby, 2_000)],
    },
    Row {
        name: "a fork begins with nothing, whatever its source has used",
        entered: &[(Running, 3 * SECOND)],
        current: Some((Running, 3 * SECOND)),
        completed: &[],
        looked_at: 8 * SECOND,
        seen: &[(Running, 5_000)],
    },
    Row {
        name: "initializing ends when the later boot marker came",
        entered: &[(Initializing, 0), (Running, 3 * SECOND)],
        current: Some((Running, 3 * SECOND)),
        completed: &[(Initializing, 3_000)],
        looked_at: 3 * SECOND,
        seen: &[(Initializing, 3_000)],
    },
    Row {
        name: "markers from before the restore give no initializing time",
        entered: &[(Initializing, HOUR), (Running, HOUR)],
        current: Some((Running, HOUR)),
        completed: &[],
        looked_at: HOUR + SECOND,
        seen: &[(Running, 1_000)],
    },
    Row {
        name: "without markers initializing goes on",
        entered: &[(Created, 0), (Initializing, SECOND)],
        current: Some((Initializing, SECOND)),
        completed: &[(Created, 1_000)],
        looked_at: 4 * SECOND,
        seen: &[(Created, 1_000), (Initializing, 3_000)],
    },
    Row {
        name: "a marker seen between start and now divides the time exactly",
        entered: &[(Initializing, 0), (Running, 2 * SECOND)],
        current: Some((Running, 2 * SECOND)),
        completed: &[(Initializing, 2_000)],
        looked_at: 5 * SECOND,
        seen: &[(Initializing, 2_000), (Running, 3_000)],
    },
    Row {
        name: "ten minutes, five of them in standby",
        entered: &[(Running, 0), (Standby, 4 * MINUTE), (Running, 9 * MINUTE)],
        current: Some((Running, 9 * MINUTE)),
        completed: &[(Running, 240_000), (Standby, 300_000)],
        looked_at: 10 * MINUTE,
        seen: &[(Running, 300_000), (Standby, 300_000)],
    },
    Row {
        name: "a whole life",
        entered: &[
            (Created, 0),
            (Initializing, 200),
            (Running, 3_700),
            (Paused, 63_700),
            (Standby, 64_050),
            (Paused, 364_050),
            (Running, 364_200),
            (Shutdown, 394_200),
            (Stopped, 395_000),
        ],
        current: Some((Stopped, 395_000)),
        completed: &[
            (Created, 200),
            (Initializing, 3_500),
            (Running, 90_000),
            (Paused, 500),
            (Shutdown, 800),
            (Standby, 300_000),
        ],
        looked_at: 400_000,
        seen: &[
            (Created, 200),
            (Initializing, 3_500),
            (Running, 90_000),
            (Paused, 500),
            (Shutdown, 800),
            (Standby, 300_000),
            (Stopped, 5_000),
        ],
    },
];

/// The total of a phase in milliseconds.
pub fn millis(totals: Millis, phase: Phase) -> u64 {
    totals.iter().find(|(of, _)| *of == phase).map_or(0, |(_, millis)| *millis)
}
