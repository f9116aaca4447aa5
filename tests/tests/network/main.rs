//! Networks of guests: real Linux guests, a host of their own and a world behind it.
//!
//! The whole test runs in a network namespace that it makes itself, which is the host; the world is
//! another one. Nothing of the machine's own network is touched. Where that can't be had, it says
//! so and runs nothing.

mod firecracker;
mod guest;
mod life;
mod reach;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tallyman_tests::{aloud, linux};

use world::World;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon");

/// A test, and what it claims.
type Test = (&'static str, fn(&World));

const TESTS: &[Test] = &[
    ("a_guest_of_q35_reaches_the_world_and_nothing_else", reach::on_q35),
    ("a_guest_of_microvm_reaches_the_world_and_nothing_else", reach::on_microvm),
    ("a_network_and_its_counts_survive_naps_and_restarts_of_the_daemon", life::survives),
    ("a_fork_gets_an_address_of_its_own_and_learns_it", life::forks),
    ("limits_hold_and_what_they_drop_is_not_counted", life::limits),
    ("a_guest_with_a_list_reaches_what_is_on_it", reach::allowed),
    ("what_an_operator_opens_is_reached_by_guests", reach::opened),
    ("a_guest_of_firecracker_has_a_network", firecracker::guest),
    ("traffic_counts_at_the_price_under_which_it_passed", life::priced),
    ("guests_that_no_record_knows_are_swept", life::sweeps),
    ("a_host_without_addresses_says_so", life::without_a_pool),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if !arguments.list {
        // From here on, no archive is in reach.
        linux::debian_busybox();
    }
    let world = match World::make() {
        Ok(world) => world,
        Err(why) => {
            aloud::say(&format!("networks NOT RUN: this machine does not let it: {why}"));
            return ExitCode::SUCCESS;
        }
    };
    // One after another: they share the host's network.
    arguments.test_threads = Some(1);
    let world: &'static World = Box::leak(Box::new(world));
    let trial = |&(name, test): &Test| {
        Trial::test(name, move || {
            test(world);
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}
