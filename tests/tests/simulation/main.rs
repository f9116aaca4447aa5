//! A simulation of the whole host: the real driver, journal, clocks, policies and recovery, over a
//! disk, clocks and machines that follow a seed.
//!
//! Everything happens on one thread, and time passes only when nothing else can happen. The same
//! seed gives the same history, always.

mod bill;
mod check;
mod daemon;
mod dice;
mod disk;
mod host;
#[path = "../../guests/hostile/mod.rs"]
#[allow(dead_code, reason = "one policy of many")]
mod hostile;
mod sky;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use tallyman::mutants::Mutant;
use tallyman::vm::Phase;
use world::World;

/// Lives of the daemon in one simulation.
const LIVES: u64 = 6;

/// The course of a simulation.
struct Course {
    flaw: Option<String>,
    hash: String,
    trace: Vec<String>,
}

/// Simulates a seed, on a thread of its own, with a planted fault if one is given.
fn simulate(seed: u64, mutant: Option<Mutant>) -> Course {
    // What is compiled at its first use takes another number of ticks then.
    static WARM: Once = Once::new();
    WARM.call_once(|| drop((0..3).map(|seed| run(seed, None)).collect::<Vec<_>>()));
    run(seed, mutant)
}

fn run(seed: u64, mutant: Option<Mutant>) -> Course {
    disk::install();
    let simulation = std::thread::Builder::new().name(format!("seed {seed}"));
    let simulation = simulation.spawn(move || {
        let mut world = World::new(seed);
        let flaw = match mutant {
            Some(mutant) => mutant.during(|| world.run(LIVES)),
            None => world.run(LIVES),
        };
        let hash = world.hash();
        let trace = world.history().cloned().collect();
        drop(world);
        host::end();
        Course { flaw: flaw.err(), hash, trace }
    });
    simulation.expect("a thread").join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into());
        Course { flaw: Some(text), hash: String::new(), trace: Vec::new() }
    })
}

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Calls `work` for each number of a range, on as many threads as there are processors.
fn each(numbers: std::ops::Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Seeds beyond the suite's that have found something once.
const FOUND: [u64; 7] = [233, 250, 351, 100_044, 100_058, 100_133, 100_448];

#[test]
fn every_seed_keeps_every_promise() {
    let first = number("SEED", 1);
    let count = number("SEEDS", 200);
    let mut seeds: Vec<_> = (first..first + count).collect();
    if std::env::var("SEED").is_err() {
        seeds.extend(FOUND);
    }
    let flaws = Mutex::new(Vec::new());
    each(0..seeds.len() as u64, |index| {
        let seed = seeds[index as usize];
        let course = simulate(seed, None);
        let Some(flaw) = course.flaw else { return };
        eprintln!("{}\nseed {seed}: {flaw}", course.trace.join("\n"));
        let flaw = format!("seed {seed}: {}", flaw.lines().next().unwrap_or_default());
        flaws.lock().expect("no panic").push(flaw);
    });
    let flaws = flaws.into_inner().expect("no panic");
    assert!(flaws.is_empty(), "{} of {} seeds: {flaws:#?}", flaws.len(), seeds.len());
}

#[test]
fn the_same_seed_has_the_same_history() {
    each(1..9, |seed| {
        let one = simulate(seed, None);
        let other = simulate(seed, None);
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.hash, other.hash, "seed {seed}");
    });
}

#[test]
fn a_machine_has_not_run_while_its_host_was_suspended() {
    disk::install();
    let asleep = 3_600_000_000_000;
    let simulation = std::thread::spawn(move || World::new(1).sleep(asleep));
    let intervals = simulation.join().expect("no panic").expect("no flaw");
    let unknown = intervals.iter().filter(|interval| interval.phase == Phase::Unknown);
    let unknown: u64 = unknown.map(|interval| interval.length().0).sum();
    assert!((asleep..asleep + 2_000_000_000).contains(&unknown), "{intervals:#?}");
    assert_eq!(intervals.last().map(|last| last.phase), Some(Phase::Initializing));
}

#[test]
fn a_machine_has_not_lived_in_the_boot_after_its_own() {
    disk::install();
    let simulation = std::thread::spawn(|| World::new(1).lose_power_twice());
    let intervals = simulation.join().expect("no panic").expect("no flaw");
    let lived = intervals.iter().take_while(|interval| interval.phase != Phase::Unknown);
    let lived: u64 = lived.map(|interval| interval.length().0).sum();
    assert!(lived < 60_000_000_000, "{intervals:#?}");
    assert!(intervals.iter().any(|interval| interval.phase == Phase::Unknown), "{intervals:#?}");
}

/// Seeds within which each planted fault must be found.
const SEEDS_MAX: u64 = 150;

/// Planted faults that no seed of the first [`SEEDS_MAX`] finds; `MUTANTS=all` looks for them too.
const SLOW: [Mutant; 2] = [Mutant::UnsyncedShown, Mutant::MemoryDropped];

/// The seed that the search for a planted fault begins with: it has found the fault.
fn first_seed(mutant: Mutant) -> u64 {
    let found = [
        (Mutant::OffsetIgnored, 17),
        (Mutant::BootsMixed, 41),
        (Mutant::ReplayForgotten, 13),
        (Mutant::DoubtForgotten, 15),
        (Mutant::RestartForgotten, 15),
    ];
    found.iter().find(|(of, _)| *of == mutant).map_or(1, |(_, seed)| *seed)
}

#[test]
fn every_planted_fault_is_found() {
    let missed = Mutex::new(Vec::new());
    let all = std::env::var("MUTANTS").is_ok_and(|which| which == "all");
    let mut planted = Mutant::ALL.to_vec();
    planted.retain(|mutant| all || !SLOW.contains(mutant));
    each(0..planted.len() as u64, |index| {
        let mutant = planted[index as usize];
        let first = first_seed(mutant);
        let found = (first..first + SEEDS_MAX).find_map(|seed| {
            let flaw = simulate(seed, Some(mutant)).flaw?;
            Some((seed, flaw.lines().next().unwrap_or_default().to_owned()))
        });
        match found {
            Some((seed, flaw)) => println!("{mutant:?}: seed {seed}: {flaw}"),
            None => missed.lock().expect("no panic").push(mutant),
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}
