//! Charges of vendors, natively and through the finished components, with equal answers.

use guest_tracker::bindings::exports::tallyman::policy::metering::Guest as _;
use guest_tracker::{Component, Description, Measurement, MeteringError, Request, Standard};
use tallyman_tests::policies;
use tallyman_tests::vectors::{ROWS, Row, compare, guest, host};

use crate::Host;

/// The policies' own sources: outside WebAssembly they are plain types.
macro_rules! native {
    ($($module:ident: $path:literal),+) => {
        $(
            #[path = $path]
            #[allow(unreachable_pub, reason = "they are crates of their own")]
            mod $module;
        )+
    };
}

native!(
    azure: "../../../guest-tracker/policies/azure/src/lib.rs",
    cloudflare_containers: "../../../guest-tracker/policies/cloudflare-containers/src/lib.rs",
    coarse: "../../../guest-tracker/policies/coarse/src/lib.rs",
    ec2: "../../../guest-tracker/policies/ec2/src/lib.rs",
    fly: "../../../guest-tracker/policies/fly/src/lib.rs",
    gcp: "../../../guest-tracker/policies/gcp/src/lib.rs",
    hypeman_parity: "../../../guest-tracker/policies/hypeman-parity/src/lib.rs",
    snapshot_storage: "../../../guest-tracker/policies/snapshot-storage/src/lib.rs"
);

type Describe = fn() -> Description;
type Measure = fn(Request) -> Result<Measurement, MeteringError>;

macro_rules! natively {
    ($($name:literal: $policy:ty),+) => {
        [$((
            $name,
            Component::<$policy>::describe as Describe,
            Component::<$policy>::measure as Measure,
        )),+]
    };
}

/// Every policy that the build makes, and the type behind it.
const POLICIES: [(&str, Describe, Measure); 9] = natively!(
    "azure": azure::Azure,
    "cloudflare-containers": cloudflare_containers::CloudflareContainers,
    "coarse": coarse::Coarse,
    "ec2": ec2::Ec2,
    "fly": fly::Fly,
    "gcp": gcp::Gcp,
    "hypeman-parity": hypeman_parity::HypemanParity,
    "snapshot-storage": snapshot_storage::SnapshotStorage,
    "standard": Standard
);

fn natively(row: &Row) -> Measurement {
    let (_, _, measure) =
        POLICIES.into_iter().find(|(name, ..)| *name == row.policy).expect("a policy");
    measure(guest::request(row)).unwrap_or_else(|error| panic!("{}: {error:?}", row.name))
}

#[test]
fn every_policy_is_tried() {
    let mut built: Vec<_> = std::fs::read_dir(policies::folder())
        .expect("the build's folder")
        .filter_map(|entry| {
            Some(entry.expect("an entry").file_name().to_str()?.strip_suffix(".wasm")?.to_owned())
        })
        .collect();
    built.sort();
    assert_eq!(built, POLICIES.map(|(name, ..)| name));
    let has_rows = |name: &str| name == "coarse" || ROWS.iter().any(|row| row.policy == name);
    assert!(POLICIES.iter().all(|(name, ..)| has_rows(name)));
}

#[test]
fn what_the_build_leaves_is_known_to_the_program_by_digest() {
    let digest = |name: &str| tallyman::id::Digest::of(&policies::component(name)).0;
    let shipped: Vec<_> = POLICIES.iter().map(|(name, ..)| (*name, digest(name))).collect();
    assert_eq!(tallyman::policy::SHIPPED, shipped);
}

#[test]
fn every_row_holds_natively() {
    for row in ROWS {
        compare(row, &guest::measured(&natively(row)))
            .unwrap_or_else(|found| panic!("{}: {found}", row.name));
    }
}

#[test]
fn every_row_holds_through_the_component_and_answers_the_same() {
    let host = Host::open();
    for (name, ..) in POLICIES {
        let digest = host.policies.admit(&policies::component(name)).expect("a policy").digest;
        let policy = host.policies.get(digest).expect("kept");
        for row in ROWS.iter().filter(|row| row.policy == name) {
            let answer = policy.measure(&host::request(row));
            let answer =
                answer.unwrap_or_else(|fault| panic!("{}: {}", row.name, fault.in_words()));
            let measured = host::measured(&answer.value);
            compare(row, &measured).unwrap_or_else(|found| panic!("{}: {found}", row.name));
            assert_eq!(measured, guest::measured(&natively(row)), "{}", row.name);
        }
    }
}

#[test]
fn what_is_declared_natively_is_what_the_component_declares() {
    let host = Host::open();
    for (name, describe, _) in POLICIES {
        let digest = host.policies.admit(&policies::component(name)).expect("a policy").digest;
        let policy = host.policies.get(digest).expect("kept");
        let declared = policy.describe().expect("described");
        let native = describe();
        let meters: Vec<_> =
            declared.meters.iter().map(|meter| (&meter.name, &meter.counts)).collect();
        assert_eq!(
            meters,
            native.meters.iter().map(|meter| (&meter.name, &meter.counts)).collect::<Vec<_>>()
        );
        let options: Vec<_> =
            declared.options.iter().map(|option| (&option.name, &option.default)).collect();
        assert_eq!(
            options,
            native.options.iter().map(|option| (&option.name, &option.default)).collect::<Vec<_>>()
        );
    }
}
