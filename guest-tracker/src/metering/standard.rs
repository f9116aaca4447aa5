//! The standard meters, which follow the phases as the policy counts them.

use super::meter::{Meter, Phases, phase, phase_name};
use super::options::Options;
use super::plan::Plan;
use crate::{MeteringError, Phase, Policy, Stretch};

/// The plan of the standard policy.
///
/// `active`, while the guest runs or boots, with the options of [`Meter::chosen`]; `resident`,
/// while its memory is in use, so paused and shutting down, too; `allocated`, as long as there is a
/// record of it; and each phase by its own name.
///
/// # Errors
/// [`MeteringError::InvalidOption`] for a malformed option.
pub fn plan<P: Policy + ?Sized>(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
    let active = Meter::new("active", counted::<P>(&[Phase::Initializing, Phase::Running]));
    let resident = [Phase::Initializing, Phase::Running, Phase::Paused, Phase::Shutdown];
    let mut meters = vec![
        active.chosen(options)?,
        Meter::new("resident", counted::<P>(&resident)),
        Meter::new("allocated", Phases::ALL).each(Stretch::Life),
    ];
    for phase in (0..8).filter_map(phase) {
        meters.push(Meter::new(phase_name(phase), counted::<P>(&[phase])));
    }
    Ok(Plan::new(meters))
}

/// The phases that the policy counts as one of these.
fn counted<P: Policy + ?Sized>(as_one_of: &[Phase]) -> Phases {
    let counts = |phase: &Phase| as_one_of.contains(&P::counts_as(*phase));
    (0..8).filter_map(phase).fold(Phases::NONE, |set, phase| set.with(phase, counts(&phase)))
}
