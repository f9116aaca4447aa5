//! Checks of all that must be true after every recovery, whatever happened before.

use std::collections::BTreeMap;

use tallyman::billing::interval::{Interval, intervals};
use tallyman::billing::{Counted, Entered, Fact, InstanceFact, Totals};
use tallyman::driver::View;
use tallyman::hypervisor::VmState;
use tallyman::id::{Digest, InstanceId};
use tallyman::journal::wire::What;
use tallyman::journal::{FactQuery, verify_reaching};
use tallyman::units::Instant;
use tallyman::vm::{Command, ExitCause, Phase, State};
use tallyman_tests::policies::component;

use crate::bill::{self, Prices};
use crate::daemon::{Daemon, POLICIES, TRAPPING};
use crate::host;
use crate::world::World;

/// Every check.
pub(crate) fn all(world: &mut World, daemon: &Daemon) -> Result<(), String> {
    meter(world, daemon)?;
    journal(world, daemon)?;
    machines(world, daemon)?;
    calendar(daemon)?;
    let now = daemon.fleet.now();
    let mut lives = Vec::new();
    for id in &world.known {
        let of = |flaw| format!("{id}: {flaw}");
        lives.push(time(world, daemon, id, now).map_err(of)?);
    }
    // The oracle does not know clocks that are wrong.
    let is_kept = host::with(|host| !host.was_unsynchronised).expect("a host");
    if is_kept && !world.prices.is_empty() {
        bill::check(world, daemon, &lives, now)?;
    }
    Ok(())
}

/// The meter counts no more time than there was, in all and since it was looked at last; and all of
/// it, while the wall clock was kept.
pub(crate) fn meter(world: &mut World, daemon: &Daemon) -> Result<(), String> {
    let now = daemon.fleet.now().0;
    let (elapsed_ns, was_unsynchronised) =
        host::with(|host| (host.elapsed_ns, host.was_unsynchronised)).expect("a host");
    let first = *world.first.get_or_insert((now, elapsed_ns));
    let last = world.last.replace((now, elapsed_ns)).unwrap_or(first);
    for (before, then_ns) in [first, last] {
        let counted_ns = now - before;
        let passed_ns = i64::try_from(elapsed_ns - then_ns).expect("less than centuries");
        let is_right = match was_unsynchronised {
            true => counted_ns <= passed_ns + CLOCKS_NS,
            false => (counted_ns - passed_ns).abs() <= CLOCKS_NS,
        };
        if !is_right {
            return Err(format!("the meter has counted {counted_ns} ns of {passed_ns} ns"));
        }
    }
    Ok(())
}

/// Checks that the calendar is that of the wall clock: promises in UTC are kept in UTC.
fn calendar(daemon: &Daemon) -> Result<(), String> {
    let shown = daemon.fleet.calendar_ns(daemon.fleet.now());
    let wall = host::with(|host| host.wall_ns()).expect("a host");
    if (shown - wall).abs() <= CLOCKS_NS {
        return Ok(());
    }
    Err(format!("the calendar is {} ns ahead of the wall clock", shown - wall))
}

/// Noise of the clocks' readings, in nanoseconds.
const CLOCKS_NS: i64 = 20_000_000;

/// The chain and the records are sound; what was told is there.
fn journal(world: &mut World, daemon: &Daemon) -> Result<(), String> {
    let plain = [POLICIES.standard().digest()];
    verify_reaching(daemon.journal.path(), &plain, Some(world.stores.clone()), |_, _| ())
        .map_err(|error| format!("journal: {error:?}"))?;
    let mut hashes = BTreeMap::new();
    let mut written = Vec::new();
    let mut prices = Vec::new();
    let mut query = FactQuery::default();
    loop {
        let page = daemon.journal.facts(&query).map_err(|error| error.to_string())?;
        for fact in page.facts {
            if let Some(id) = &fact.fact.instance {
                world.known.insert(id.parse().expect("an id"));
            }
            let record = &fact.fact;
            written.push(format!("{} {} {:?}", record.seq, record.meter_ns, record.what.kind()));
            match &record.what {
                What::PricesActivated { digest, from_ns, .. } => prices.push(Prices {
                    set_at: record.meter_ns,
                    from: *from_ns,
                    digest: digest.clone(),
                }),
                What::TenantCreated { .. } => world.first_fact = record.meter_ns,
                _ => {}
            }
            hashes.insert(record.seq, fact.hash);
        }
        match page.next {
            Some(next) => query.after = next,
            None => break,
        }
    }
    world.written = written;
    world.prices = prices;
    for (seq, hash) in &world.told {
        match hashes.get(seq) {
            Some(found) if found == hash => {}
            Some(_) => return Err(format!("fact {seq} was told of and is another one now")),
            None => return Err(format!("fact {seq} was told of and is gone")),
        }
    }
    Ok(())
}

/// Returns whether nothing is under way for an instance.
pub(crate) fn is_settled(world: &World, view: &View) -> bool {
    let live = &view.live;
    live.intent.is_none() && live.restarts.due_ns.is_none() && agrees(world, view).is_ok()
}

/// A record says what its machine is.
fn agrees(world: &World, view: &View) -> Result<(), String> {
    let id = &view.record.id;
    let living: Vec<_> = world.double.all_living().into_iter().filter(|(of, _)| of == id).collect();
    let state = world.double.state(id).filter(|_| !living.is_empty());
    let is_right = match view.live.state {
        State::Initializing | State::Running => state == Some(VmState::Running),
        State::Paused { .. } => matches!(state, Some(VmState::Paused | VmState::NotStarted)),
        State::Standby { .. } | State::Stopped | State::Deleted => living.is_empty(),
        State::Created | State::Shutdown | State::Unknown => false,
    };
    let is_one = living.iter().all(|&(_, incarnation)| incarnation == view.live.incarnation);
    if is_right && is_one && living.len() <= 1 {
        return Ok(());
    }
    Err(format!(
        "{} is {:?} in launch {} and has {living:?} {state:?}",
        view.record.name, view.live.state, view.live.incarnation
    ))
}

/// Every machine belongs to a record, every record that needs one has it; saved memory is there;
/// what was refused does not exist.
fn machines(world: &World, daemon: &Daemon) -> Result<(), String> {
    let views = daemon.fleet.list(&world.tenant);
    for view in &views {
        agrees(world, view)?;
        let memory = daemon.fleet.folder(&view.record.id).join("standby/memory");
        if matches!(view.live.state, State::Standby { .. }) && !memory.is_file() {
            return Err(format!("{} is in standby without its memory", view.record.name));
        }
        if world.refused.contains(view.record.name.as_str()) {
            return Err(format!("{} was refused and exists", view.record.name));
        }
    }
    for (id, incarnation) in world.double.all_living() {
        if !views.iter().any(|view| view.record.id == id) {
            return Err(format!("launch {incarnation} of {id} lives and is on no record"));
        }
    }
    Ok(())
}

/// The phases of an instance partition its lifetime, and each is what its machine did.
fn time(
    world: &World,
    daemon: &Daemon,
    id: &InstanceId,
    now: Instant,
) -> Result<(InstanceId, Instant, Vec<Interval>), String> {
    let view = daemon.fleet.find_closed(&world.tenant, id).map_err(|error| error.to_string())?;
    let history = daemon.journal.history(id).map_err(|error| error.to_string())?;
    let pieces = intervals(&history, &daemon.fleet.timeline(&world.tenant), now);
    let story = || story(&history);
    partition(daemon, &view, &history, &pieces, now)
        .map_err(|flaw| format!("{flaw}\n{}", story()))?;
    ordered(&history, world.offsets.len() > 1).map_err(|flaw| format!("{flaw}\n{}", story()))?;
    remembers(world, &view).map_err(|flaw| format!("{flaw}\n{}", story()))?;
    let truth = truth(world, id, now);
    for piece in &pieces {
        let is_told = !world.silenced.contains(id) && !goes_on(&history, piece);
        against(piece, &truth, is_told)
            .map_err(|flaw| format!("{flaw}\n{}\n{truth:#?}", story()))?;
    }
    let first = history.first().ok_or("it has no fact")?.1.at.meter;
    Ok((id.clone(), first, pieces))
}

fn story(history: &[(u64, Fact)]) -> String {
    let lines = history.iter().map(|(seq, fact)| {
        format!("  {seq} {} {}", fact.at.meter.0, tallyman_tests::rig::in_words(fact))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn partition(
    daemon: &Daemon,
    view: &std::sync::Arc<View>,
    history: &[(u64, Fact)],
    pieces: &[Interval],
    now: Instant,
) -> Result<(), String> {
    let first = history.iter().find(|(_, fact)| matches!(fact.counts(), Some(Counted::Enters(_))));
    let Some((_, first)) = first else { return Err("it has no phase".into()) };
    let end = view.deleted.unwrap_or(now);
    let (Some(start), Some(last)) = (pieces.first(), pieces.last()) else {
        return Err("it has no interval".into());
    };
    let touches = pieces.windows(2).all(|pair| pair[0].end == pair[1].start);
    if start.start != first.at.meter || last.end != end || !touches {
        return Err(format!("its intervals don't cover its life: {pieces:#?}"));
    }
    if !history.windows(2).all(|pair| pair[0].1.at.meter <= pair[1].1.at.meter) {
        return Err("its facts go back".into());
    }
    let usage = daemon.fleet.usage(std::slice::from_ref(view), end);
    let lifetime = end.since(first.at.meter).map_or(0, |time| u128::from(time.0));
    if usage[0].totals.sum() != lifetime {
        return Err(format!("its totals are {} of {lifetime} ns", usage[0].totals.sum()));
    }
    let counted = counted(pieces);
    match counted.filter(|counted| !usage[0].degraded && *counted != usage[0].totals) {
        Some(counted) => Err(format!("its totals are {:?}, not {counted:?}", usage[0].totals)),
        None => Ok(()),
    }
}

/// The totals that the policies in force count of these intervals; none if one of them can't
/// count.
fn counted(pieces: &[Interval]) -> Option<Totals> {
    let merges = Digest::of(&component("coarse"));
    let trapping = Digest::of(&TRAPPING);
    if pieces.iter().any(|piece| piece.policy == trapping) {
        return None;
    }
    let mut counted = Totals::default();
    for piece in pieces {
        let phase = match piece.phase {
            Phase::Initializing if piece.policy == merges => Phase::Running,
            Phase::Paused if piece.policy == merges => Phase::Standby,
            phase => phase,
        };
        counted.0[phase as usize] += piece.length().0;
    }
    Some(counted)
}

/// A loss of power may lose the intent of what it ends.
fn may_be_lost(later: &[(u64, Fact)], is_booted_again: bool) -> bool {
    let mut phases = later.iter().filter_map(|(_, fact)| fact.counts()?.phase());
    match phases.next() {
        Some(Phase::Unknown) => true,
        Some(Phase::Stopped) => is_booted_again,
        _ => false,
    }
}

/// Nothing was done that nobody has asked for: each pause follows the intent of an act that holds
/// vCPUs, and what the host ends for a standby is in standby.
fn ordered(history: &[(u64, Fact)], is_booted_again: bool) -> Result<(), String> {
    let mut holds = false;
    let mut sleeps = false;
    let mut phase = None;
    for (index, (seq, fact)) in history.iter().enumerate() {
        let is_lost = may_be_lost(&history[index + 1..], is_booted_again);
        match fact.of_instance() {
            Some(InstanceFact::Intended { command, .. }) => {
                sleeps = *command == Command::Standby;
                holds = matches!(
                    command,
                    Command::Pause
                        | Command::Standby
                        | Command::Snapshot
                        | Command::Fork
                        | Command::Restore
                );
            }
            // Another shape in the same phase is no other pause.
            Some(InstanceFact::Entered(Entered { phase: Phase::Paused, .. }))
                if !holds && !is_lost && phase != Some(Phase::Paused) =>
            {
                return Err(format!("fact {seq} is a pause that nobody has asked for"));
            }
            Some(InstanceFact::Entered(Entered { cause: Some(ExitCause::Forced), .. }))
                if sleeps =>
            {
                return Err(format!("fact {seq} is the forced end of a standby"));
            }
            _ => {}
        }
        phase = fact.counts().map_or(phase, |counted| counted.phase());
    }
    Ok(())
}

/// A restore whose machine has died before its vCPUs ran has not lost its memory.
fn remembers(world: &World, view: &View) -> Result<(), String> {
    let died = matches!(view.live.cause, Some(ExitCause::Crashed | ExitCause::HostLost));
    let lives = world.double.lives(&view.record.id);
    let Some((_, turns)) = lives.last() else { return Ok(()) };
    let was_loaded = turns.first().is_some_and(|turn| turn.state == Some(VmState::Paused));
    let ran = turns.iter().any(|turn| turn.state == Some(VmState::Running));
    if view.live.state == State::Stopped && died && was_loaded && !ran {
        return Err("its memory was loaded and never ran, and is lost".into());
    }
    Ok(())
}

/// A time in which a machine was in a state, on the meter.
#[derive(Debug)]
struct Truth {
    from: i64,
    to: i64,
    /// End of the part of it that no later boot's time overlaps.
    surely: i64,
    state: VmState,
}

fn truth(world: &World, id: &InstanceId, now: Instant) -> Vec<Truth> {
    let mut truth = Vec::new();
    for (_, turns) in world.double.lives(id) {
        let meter = |turn: &tallyman_tests::double::Turn| {
            world.offsets[&turn.boot].saturating_add_unsigned(turn.stamp.boottime_ns)
        };
        for (index, turn) in turns.iter().enumerate() {
            let Some(state) = turn.state else { continue };
            let next = turns.get(index + 1);
            let to = next.map_or(now.0, meter);
            // Where nothing was noted before a loss of power, the meter goes on from before it.
            let boots = world.offsets.range(&turn.boot..);
            let end = boots.skip(1).map(|(_, offset)| *offset).next().unwrap_or(i64::MAX);
            truth.push(Truth { from: meter(turn), to, surely: to.min(end), state });
        }
    }
    truth
}

/// Returns whether an act was under way at the end of an interval that goes on when its machine has
/// died, and has facts of its own: an exit is noted after them.
fn goes_on(history: &[(u64, Fact)], piece: &Interval) -> bool {
    let before = history.iter().filter(|(_, fact)| fact.at.meter <= piece.end);
    let mut intents = before.filter_map(|(_, fact)| match fact.of_instance() {
        Some(InstanceFact::Intended { command, .. }) => Some(*command),
        _ => None,
    });
    matches!(intents.next_back(), Some(Command::Snapshot | Command::Fork))
}

/// Time within which what happens to a machine is told, in nanoseconds: what is recorded in it
/// can't know yet.
const TOLD_NS: i64 = 1_000_000;

/// An interval says what the machine did in it, or that nobody knows.
fn against(piece: &Interval, truth: &[Truth], is_told: bool) -> Result<(), String> {
    let start = piece.start.0;
    let end = piece.end.0;
    let mut lived = 0;
    for known in truth {
        let length = known.to.min(end) - known.from.max(start);
        if length <= 0 {
            continue;
        }
        let is_long = known.surely.min(end) - known.from.max(start) > TOLD_NS;
        lived += length;
        let runs = known.state == VmState::Running;
        let fits = match piece.phase {
            Phase::Initializing | Phase::Running => runs,
            Phase::Created | Phase::Paused | Phase::Standby => !runs,
            Phase::Stopped => false,
            Phase::Shutdown | Phase::Unknown => true,
        };
        if !fits && is_long {
            return Err(format!(
                "{} from {start} to {end}, but {:?} for {length} ns of it",
                piece.phase, known.state
            ));
        }
    }
    let needs_life = matches!(
        piece.phase,
        Phase::Initializing | Phase::Running | Phase::Paused | Phase::Shutdown
    );
    if needs_life && is_told && lived + TOLD_NS < end - start {
        let dead = end - start - lived;
        return Err(format!("{} from {start} to {end}, but dead for {dead} ns", piece.phase));
    }
    Ok(())
}
