//! The standard rating: any price book, over meters that follow the phases as the policy counts them.

use super::meter::{Meter, Phases, SECOND_NS, Stretch, phase, phase_name};
use super::options::Options;
use super::plan::Plan;
use super::quantities::quantities;
use crate::{Phase, Policy, RatingError, Request, Statement};

const OPTIONS: [&str; 4] = ["granularity", "granularity-rounding", "minimum", "wake"];

/// Rates a request; without prices it states how long each instance was in each phase, and with how much of what.
///
/// The meters: each phase by its own name; `active`, while the guest runs or boots; `resident`, while its memory is in use, so paused and
/// shutting down, too; `allocated`, as long as there is a record of it. The options `minimum` (a length of time), `granularity`,
/// `granularity-rounding` and `wake` (`continues` a start or is a `start`) apply to `active`.
///
/// # Errors
/// [`RatingError`], whatever keeps the period from being rated.
pub fn rate<P: Policy + ?Sized>(request: &Request) -> Result<Statement, RatingError> {
    let options = Options::new(&request.options, &OPTIONS)?;
    let active = Meter::new("active", counted::<P>(&[Phase::Initializing, Phase::Running]));
    let active = started(active, &options)?;
    if request.book.prices.is_empty() {
        return quantities::<P>(request);
    }
    let resident = [Phase::Initializing, Phase::Running, Phase::Paused, Phase::Shutdown];
    let mut meters =
        vec![active, Meter::new("resident", counted::<P>(&resident)), Meter::new("allocated", Phases::ALL)];
    for phase in (0..8).filter_map(phase) {
        meters.push(Meter::new(phase_name(phase), counted::<P>(&[phase])));
    }
    Plan::new(meters).rate(request)
}

/// The phases that the policy counts as one of these.
fn counted<P: Policy + ?Sized>(as_one_of: &[Phase]) -> Phases {
    let counts = |phase: &Phase| as_one_of.contains(&P::counts_as(*phase));
    (0..8).filter_map(phase).fold(Phases::NONE, |set, phase| set.with(phase, counts(&phase)))
}

/// A meter with the minimum, the grain and the kind of start that the options `minimum`, `granularity`, `granularity-rounding` and `wake`
/// name; what they don't name stays as it is.
///
/// # Errors
/// [`RatingError::InvalidOption`] for a malformed one.
pub fn started(meter: Meter, options: &Options<'_>) -> Result<Meter, RatingError> {
    let wake = [("continues", Stretch::Start), ("start", Stretch::StartOrWake)];
    Ok(meter
        .each(options.choice("wake", &wake, meter.stretch)?)
        .at_least(options.duration_ns("minimum", meter.minimum_ns)?)
        .in_grains(options.granularity(meter.granularity)?))
}

/// The minimum of the vendors that have one: a minute for each start.
pub const MINUTE_PER_START_NS: u64 = 60 * SECOND_NS;
