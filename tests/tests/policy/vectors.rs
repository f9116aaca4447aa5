//! What vendors charge, natively and through the finished components, line for line the same.

use guest_tracker::{Policy, RatingError, Request, Standard, Statement};
use tallyman::policy::rating;
use tallyman_tests::policies;
use tallyman_tests::vectors::{self, ROWS, Row, compare, guest, host};

use crate::Host;

/// The policies' own sources: outside WebAssembly they are plain types.
macro_rules! native {
    ($($module:ident: $path:literal),+) => {
        $(#[path = $path] #[allow(unreachable_pub, reason = "they are crates of their own")] mod $module;)+
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

type Rate = fn(Request) -> Result<Statement, RatingError>;

/// Every policy that the build leaves, and the type behind it.
const POLICIES: [(&str, Rate); 9] = [
    ("azure", azure::Azure::rate),
    ("cloudflare-containers", cloudflare_containers::CloudflareContainers::rate),
    ("coarse", coarse::Coarse::rate),
    ("ec2", ec2::Ec2::rate),
    ("fly", fly::Fly::rate),
    ("gcp", gcp::Gcp::rate),
    ("hypeman-parity", hypeman_parity::HypemanParity::rate),
    ("snapshot-storage", snapshot_storage::SnapshotStorage::rate),
    ("standard", Standard::rate),
];

fn natively(row: &Row, request: Request) -> Statement {
    let (_, rate) = POLICIES.into_iter().find(|(name, _)| *name == row.policy).expect("a policy");
    rate(request).unwrap_or_else(|error| panic!("{}: {error:?}", row.name))
}

#[test]
fn every_policy_is_tried() {
    let mut built: Vec<_> = std::fs::read_dir(policies::folder())
        .expect("the build's folder")
        .filter_map(|entry| Some(entry.expect("an entry").file_name().to_str()?.strip_suffix(".wasm")?.to_owned()))
        .collect();
    built.sort();
    assert_eq!(built, POLICIES.map(|(name, _)| name));
    let has_rows = |name: &str| name == "coarse" || ROWS.iter().any(|row| row.policy == name);
    assert!(POLICIES.iter().all(|(name, _)| has_rows(name)));
}

#[test]
fn every_row_holds_natively() {
    for row in ROWS {
        let statement = natively(row, guest::request(row));
        compare(row, &guest::lines(&statement)).unwrap_or_else(|found| panic!("{}: {found}", row.name));
    }
}

#[test]
fn every_row_holds_through_the_component_and_says_the_same_words() {
    let host = Host::open();
    for (name, _) in POLICIES {
        let digest = host.policies.admit(&policies::component(name)).expect("a policy").digest;
        let policy = host.policies.get(digest).expect("kept");
        for row in ROWS.iter().filter(|row| row.policy == name) {
            let statement = policy.rate(&host::request(row));
            let statement = statement.unwrap_or_else(|fault| panic!("{}: {}", row.name, fault.in_words()));
            let lines = host::lines(&statement);
            compare(row, &lines).unwrap_or_else(|found| panic!("{}: {found}", row.name));
            let native = natively(row, guest::request(row));
            assert_eq!((lines, statement.carried), (guest::lines(&native), native.carried), "{}", row.name);
        }
    }
}

/// A rule whose price falls for the whole when the fifteenth unit is passed.
const VOLUME: Row = Row {
    name: "volume",
    source: "https://github.com/openmeterio/openmeter, rating/delta",
    policy: "standard",
    options: &[],
    lives: &[&[(tallyman::vm::Phase::Running, 15_000, 1, &[])]],
    times: 1,
    prices: &[vectors::Priced {
        rule: "calls",
        meter: "active",
        unit: "ns",
        scope: "tenant",
        model: "volume",
        tiers: &[(Some(15_000_000_000), 10_000_000_000), (None, 5_000_000_000)],
        per: 1_000_000_000,
    }],
    digits: 9,
    expected: vectors::Expected::Nanos(150_000_000_000),
};

#[test]
fn a_volume_that_grows_in_the_next_period_takes_back_the_old_price() {
    let host = Host::open();
    let standard = host.policies.standard();
    let mut request = host::request(&VOLUME);
    request.book.prices[0].resets = "never".into();
    let first = standard.rate(&request).expect("rated");
    compare(&VOLUME, &host::lines(&first)).expect("15 at 10");

    let next = rating::Span { start: request.period.end, end: request.period.end + vectors::PERIOD };
    (request.invoice, request.period, request.carried) = (next, next, first.carried);
    (request.intervals.start[0], request.intervals.end[0]) = (next.start, next.start + 1_000_000_000);
    let second = host::lines(&standard.rate(&request).expect("rated"));
    let rows: Vec<_> = second.iter().map(|line| (line.texts[0].as_str(), line.amounts[1] / 1_000_000_000)).collect();
    assert_eq!(rows, [("reversal", -150), ("usage", 80)]);
}
