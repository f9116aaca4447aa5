//! The course of calls to machines: late, refused, or deadly, as the dice say.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tallyman::id::InstanceId;
use tallyman_tests::double::{Call, Fate, Spell, Weather};

use crate::dice::Dice;
use crate::host;

/// The weather over all machines of a simulation.
pub(crate) struct Sky(Mutex<State>);

struct State {
    dice: Dice,
    /// Set while every call succeeds at once.
    is_calm: bool,
    /// Number of calls until the daemon dies between a call's act and its answer; none for none.
    dies_in: Option<u64>,
}

impl Sky {
    /// A calm sky.
    pub(crate) fn new(dice: Dice) -> Self {
        Self(Mutex::new(State { dice, is_calm: true, dies_in: None }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every call succeed at once, or not.
    pub(crate) fn calm(&self, is_calm: bool) {
        self.state().is_calm = is_calm;
    }

    /// Kills the daemon between the act and the answer of the `count`-th call from now on.
    pub(crate) fn die_in(&self, count: Option<u64>) {
        self.state().dies_in = count;
    }
}

/// Time that nobody who dies waits for.
const NEVER: Duration = Duration::from_secs(86_400);

impl Weather for Sky {
    fn next(&self, _: &InstanceId, call: Call) -> Spell {
        let mut state = self.state();
        if let Some(left) = &mut state.dies_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.dies_in = None;
                tokio::spawn(async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    host::with(|host| host.disk.die());
                });
                return Spell { after: NEVER, ..Spell::default() };
            }
        }
        if state.is_calm {
            return Spell::default();
        }
        let fate = match state.dice.below(100) {
            0..4 => Fate::Refused,
            4..6 => Fate::DiesBefore,
            6..8 => Fate::DiesAfter,
            8..11 if call == Call::Launch => Fate::Unanswered,
            _ => Fate::Succeeds,
        };
        Spell { before: delay(&mut state.dice), fate, after: delay(&mut state.dice) }
    }
}

fn delay(dice: &mut Dice) -> Duration {
    Duration::from_millis(match dice.below(10) {
        0..6 => dice.below(3),
        6..9 => dice.below(200),
        _ => dice.below(15_000),
    })
}
