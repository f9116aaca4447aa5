//! Charges of vendors for known histories, as plain data with the public source of each figure. The
//! same rows run through the policies natively and through the finished components. Measurements
//! are priced here by the plainest arithmetic that these rows need: one period, one price per rule,
//! flat or graduated.
//!
//! Rows marked *printed* carry a figure that stands in the source; the others follow from the rule
//! that the source states.

use tallyman::vm::Phase;
use tallyman::vm::Phase::{Created, Initializing, Paused, Running, Shutdown, Standby, Stopped};

/// A phase, its duration in milliseconds, its session, and the instance's dimensions during it.
pub type Visit = (Phase, i64, u32, Held);

/// Dimensions and their values; dimensions that are not listed are 0.
pub type Held = &'static [(&'static str, u64)];

/// A price of a row's book: nano-units of the currency per number of units.
#[derive(Debug, Clone, Copy)]
pub struct Priced {
    /// Rule, and id of the price.
    pub rule: &'static str,
    /// Meter that it prices.
    pub meter: &'static str,
    /// Unit of quantity.
    pub unit: &'static str,
    /// `instance` or `tenant`.
    pub scope: &'static str,
    /// `flat` or `graduated`.
    pub model: &'static str,
    /// Tiers: last quantity inside (none for no end), and nano-units.
    pub tiers: &'static [(Option<u128>, i128)],
    /// Number of units that the nano-units are for.
    pub per: u128,
}

/// The expected outcome of a row.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// Milliseconds that a meter is charged for.
    Millis(&'static str, u128),
    /// Nano-units of the currency, in all.
    Nanos(i128),
    /// Quantity charged for under a rule, in its unit.
    Billed(&'static str, u128),
}

/// Histories of instances and their charge.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The claim that the row makes.
    pub name: &'static str,
    /// Publication of the figure or the rule.
    pub source: &'static str,
    /// Policy, by the name of its component.
    pub policy: &'static str,
    /// Options of the policy.
    pub options: &'static [(&'static str, &'static str)],
    /// Instances, each with its visits from the beginning of the period on.
    pub lives: &'static [&'static [Visit]],
    /// Number of times that each history is repeated, one after the other.
    pub times: u32,
    /// Prices; empty to check quantities.
    pub prices: &'static [Priced],
    /// Digits after the point to which a rule's sum is rounded.
    pub digits: u8,
    /// Expected outcome.
    pub expected: Expected,
}

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const NS_PER_SECOND: u128 = 1_000_000_000;
const NS_PER_HOUR: u128 = 3_600 * NS_PER_SECOND;
const GB: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;
const NOTHING: Held = &[];

const EC2: &str = "https://github.com/awsdocs/amazon-ec2-user-guide, ec2-instance-lifecycle.md";
const GCP: &str = "https://cloud.google.com/compute/vm-instance-pricing";
const AZURE: &str = "https://github.com/MicrosoftDocs/azure-compute-docs, states-billing.md";
const FLY: &str = "https://github.com/superfly/docs, about/billing and about/pricing";
const CLOUDFLARE: &str = "https://github.com/cloudflare/cloudflare-docs, containers/pricing.mdx";
const EBS: &str = "Amazon EBS pricing, worked example";

const BASE: Row = Row {
    name: "",
    source: "",
    policy: "standard",
    options: &[],
    lives: &[],
    times: 1,
    prices: &[],
    digits: 9,
    expected: Expected::Nanos(0),
};

const FLAT: Priced = Priced {
    rule: "rule",
    meter: "active",
    unit: "ns",
    scope: "instance",
    model: "flat",
    tiers: &[],
    per: NS_PER_HOUR,
};

/// A price of one dollar per hour of the unit.
const fn a_dollar_an_hour(meter: &'static str, unit: &'static str) -> Priced {
    Priced { meter, unit, tiers: &[(None, 1_000_000_000)], ..FLAT }
}

/// The discount of sustained use: each quarter of a month of 730 hours is cheaper than the one
/// before.
const SUSTAINED: [Priced; 1] = [Priced {
    model: "graduated",
    tiers: &[
        (Some(NS_PER_HOUR * 365 / 2), 47_500_000),
        (Some(NS_PER_HOUR * 365), 38_000_000),
        (Some(NS_PER_HOUR * 1_095 / 2), 28_500_000),
        (None, 19_000_000),
    ],
    ..FLAT
}];

/// Every row.
pub const ROWS: &[Row] = &[
    Row {
        name: "half a minute on GCP is charged as a minute (printed)",
        source: GCP,
        policy: "gcp",
        lives: &[&[(Running, 30 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 60_000),
        ..BASE
    },
    Row {
        name: "past the minimum GCP charges by the second",
        source: GCP,
        policy: "gcp",
        lives: &[&[(Running, 61 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 61_000),
        ..BASE
    },
    Row {
        name: "past the minimum EC2 charges by the second",
        source: EC2,
        policy: "ec2",
        lives: &[&[(Running, 61 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 61_000),
        ..BASE
    },
    Row {
        name: "a second that has begun counts whole",
        source: EC2,
        policy: "ec2",
        lives: &[&[(Running, 60 * SECOND + 1, 1, NOTHING)]],
        expected: Expected::Millis("active", 61_000),
        ..BASE
    },
    Row {
        name: "on EC2 each start has its minute",
        source: EC2,
        policy: "ec2",
        lives: &[&[
            (Running, 10 * SECOND, 1, NOTHING),
            (Stopped, MINUTE, 1, NOTHING),
            (Running, 10 * SECOND, 2, NOTHING),
            (Stopped, MINUTE, 2, NOTHING),
            (Running, 10 * SECOND, 3, NOTHING),
        ]],
        expected: Expected::Millis("active", 180_000),
        ..BASE
    },
    Row {
        name: "on EC2 a reboot begins no further minute",
        source: EC2,
        policy: "ec2",
        lives: &[&[(Running, 30 * SECOND, 1, NOTHING), (Initializing, 20 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 60_000),
        ..BASE
    },
    Row {
        name: "EC2 charges neither pending nor stopping nor stopped",
        source: EC2,
        policy: "ec2",
        lives: &[&[
            (Created, 20 * SECOND, 1, NOTHING),
            (Running, 600 * SECOND, 1, NOTHING),
            (Shutdown, 30 * SECOND, 1, NOTHING),
            (Stopped, 3_000 * SECOND, 1, NOTHING),
        ]],
        expected: Expected::Millis("active", 600_000),
        ..BASE
    },
    Row {
        name: "EC2 charges the way into hibernation, and not the hibernation",
        source: EC2,
        policy: "ec2",
        lives: &[&[
            (Created, 20 * SECOND, 1, NOTHING),
            (Running, 600 * SECOND, 1, NOTHING),
            (Paused, 30 * SECOND, 1, NOTHING),
            (Standby, 3_000 * SECOND, 1, NOTHING),
        ]],
        expected: Expected::Millis("active", 630_000),
        ..BASE
    },
    Row {
        name: "by whole hours, five starts in one hour are five hours (printed)",
        source: "https://serverfault.com/questions/245816, EC2 before 2017",
        policy: "ec2",
        options: &[("granularity", "1h"), ("minimum", "0s")],
        lives: &[&[
            (Running, 5 * MINUTE, 1, NOTHING),
            (Stopped, 5 * MINUTE, 1, NOTHING),
            (Running, 5 * MINUTE, 2, NOTHING),
            (Stopped, 5 * MINUTE, 2, NOTHING),
            (Running, 5 * MINUTE, 3, NOTHING),
            (Stopped, 5 * MINUTE, 3, NOTHING),
            (Running, 5 * MINUTE, 4, NOTHING),
            (Stopped, 5 * MINUTE, 4, NOTHING),
            (Running, 5 * MINUTE, 5, NOTHING),
        ]],
        expected: Expected::Millis("active", 5 * 3_600_000),
        ..BASE
    },
    Row {
        name: "waking from hibernation is a start on EC2",
        source: EC2,
        policy: "ec2",
        lives: &[&[
            (Running, 10 * SECOND, 1, NOTHING),
            (Standby, MINUTE, 1, NOTHING),
            (Running, 10 * SECOND, 1, NOTHING),
        ]],
        expected: Expected::Millis("active", 120_000),
        ..BASE
    },
    Row {
        name: "and goes on with the one before where so chosen",
        source: EC2,
        policy: "ec2",
        options: &[("wake", "continues")],
        lives: &[&[
            (Running, 10 * SECOND, 1, NOTHING),
            (Standby, MINUTE, 1, NOTHING),
            (Running, 10 * SECOND, 1, NOTHING),
        ]],
        expected: Expected::Millis("active", 60_000),
        ..BASE
    },
    Row {
        name: "Azure charges from starting to stopping, and a host that is kept",
        source: AZURE,
        policy: "azure",
        lives: &[&[
            (Created, 20 * SECOND, 1, NOTHING),
            (Initializing, 40 * SECOND, 1, NOTHING),
            (Running, 600 * SECOND, 1, NOTHING),
            (Shutdown, 10 * SECOND, 1, NOTHING),
            (Paused, 3_600 * SECOND, 1, NOTHING),
            (Stopped, 15 * SECOND + 7_200 * SECOND, 1, NOTHING),
        ]],
        expected: Expected::Millis("active", 4_250_000),
        ..BASE
    },
    Row {
        name: "6 minutes and 45 seconds were 6 minutes on Azure (printed)",
        source: "https://azure.microsoft.com/nb-no/resources/knowledge-center/if-my-virtual-machine-ran-for-6-minutes-and-45/",
        policy: "azure",
        options: &[("granularity", "1m"), ("granularity-rounding", "down")],
        lives: &[&[(Running, 405 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 360_000),
        ..BASE
    },
    Row {
        name: "less than a minute costs nothing on Azure China",
        source: "https://docs.azure.cn/en-us/billing/billing-azure-core-services-billing-instructions",
        policy: "azure",
        options: &[("granularity", "1m"), ("granularity-rounding", "down")],
        lives: &[&[(Running, 59 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 0),
        ..BASE
    },
    Row {
        name: "five minutes at least on Azure, as one reading of a notice has it",
        source: "https://learn.microsoft.com/en-us/answers/questions/2259765/",
        policy: "azure",
        options: &[("minimum", "300s")],
        lives: &[&[(Running, 59 * SECOND, 1, NOTHING)]],
        expected: Expected::Millis("active", 300_000),
        ..BASE
    },
    Row {
        name: "a stopped Machine with 1 GB, 10 days of 30, is 5 cents on Fly (printed)",
        source: FLY,
        policy: "fly",
        lives: &[&[
            (Running, 20 * DAY, 1, &[("disk-byte", GB)]),
            (Stopped, 10 * DAY, 1, &[("disk-byte", GB)]),
        ]],
        prices: &[Priced {
            meter: "stopped",
            unit: "disk-byte-ns",
            tiers: &[(None, 150_000_000)],
            per: GB as u128 * 30 * 24 * NS_PER_HOUR,
            ..FLAT
        }],
        expected: Expected::Nanos(50_000_000),
        ..BASE
    },
    Row {
        name: "three volumes of 1 GB for 30 days are 45 cents on Fly (printed)",
        source: FLY,
        policy: "fly",
        lives: &[
            &[(Running, 30 * DAY, 1, &[("disk-byte", GB)])],
            &[(Stopped, 30 * DAY, 1, &[("disk-byte", GB)])],
            &[(Standby, 30 * DAY, 1, &[("disk-byte", GB)])],
        ],
        prices: &[Priced {
            meter: "volume",
            unit: "disk-byte-ns",
            tiers: &[(None, 150_000_000)],
            per: GB as u128 * 30 * 24 * NS_PER_HOUR,
            ..FLAT
        }],
        expected: Expected::Nanos(450_000_000),
        ..BASE
    },
    Row {
        name: "a boot that never ends is charged on Fly from where the host calls it running",
        source: FLY,
        policy: "fly",
        // The host hands over the rest beyond ten minutes as running.
        lives: &[&[(Initializing, 10 * MINUTE, 1, NOTHING), (Running, 20 * MINUTE, 1, NOTHING)]],
        expected: Expected::Millis("active", 20 * 60_000),
        ..BASE
    },
    Row {
        name: "59 minutes by the hour are an hour, where nothing is said of rounding",
        source: "clouds round up",
        policy: "standard",
        options: &[("granularity", "1h")],
        lives: &[&[(Running, 59 * MINUTE, 1, NOTHING)]],
        expected: Expected::Millis("active", 3_600_000),
        ..BASE
    },
    Row {
        name: "a volume on Fly is charged by the hour",
        source: FLY,
        policy: "fly",
        lives: &[&[(Running, HOUR + 1, 1, NOTHING)]],
        expected: Expected::Millis("volume", 2 * 3_600_000),
        ..BASE
    },
    Row {
        name: "a plan of 29 dollars for 15 of 30 days is 14.50 (printed)",
        source: FLY,
        policy: "standard",
        lives: &[&[(Stopped, 15 * DAY, 1, NOTHING)]],
        prices: &[Priced {
            meter: "allocated",
            tiers: &[(None, 29_000_000_000)],
            per: 30 * 24 * NS_PER_HOUR,
            ..FLAT
        }],
        digits: 2,
        expected: Expected::Nanos(14_500_000_000),
        ..BASE
    },
    Row {
        name: "and 15.47 if the day on which it begins is counted, too",
        source: FLY,
        policy: "standard",
        lives: &[&[(Stopped, 16 * DAY, 1, NOTHING)]],
        prices: &[Priced {
            meter: "allocated",
            tiers: &[(None, 29_000_000_000)],
            per: 30 * 24 * NS_PER_HOUR,
            ..FLAT
        }],
        digits: 2,
        expected: Expected::Nanos(15_470_000_000),
        ..BASE
    },
    Row {
        name: "552,960 GB-s with 400,000 included are 1.91 dollars (printed)",
        source: "https://github.com/cloudflare/cloudflare-docs/issues/24138, Durable Objects",
        policy: "cloudflare-containers",
        lives: &[
            &[(Running, 2_160_000 * SECOND, 1, &[("memory-byte", 128_000_000)])],
            &[(Running, 2_160_000 * SECOND, 1, &[("memory-byte", 128_000_000)])],
        ],
        prices: &[Priced {
            unit: "memory-byte-ns",
            scope: "tenant",
            model: "graduated",
            tiers: &[(Some(400_000 * GB as u128 * NS_PER_SECOND), 0), (None, 12_500_000_000)],
            per: 1_000_000 * GB as u128 * NS_PER_SECOND,
            ..FLAT
        }],
        digits: 2,
        expected: Expected::Nanos(1_910_000_000),
        ..BASE
    },
    Row {
        name: "an hour of a basic container, processor at work, is 2.8008 cents",
        source: CLOUDFLARE,
        policy: "cloudflare-containers",
        lives: &[&[(
            Running,
            HOUR,
            1,
            &[("memory-byte", GIB), ("vcpu", 1), ("disk-byte", 4 * GB)],
        )]],
        prices: &[
            Priced {
                rule: "disk",
                unit: "disk-byte-ns",
                tiers: &[(None, 70)],
                per: GB as u128 * NS_PER_SECOND,
                ..FLAT
            },
            Priced {
                rule: "memory",
                unit: "memory-byte-ns",
                tiers: &[(None, 2_500)],
                per: GIB as u128 * NS_PER_SECOND,
                ..FLAT
            },
            // A quarter of a processor at 0.000020 a second.
            Priced {
                rule: "processor",
                unit: "vcpu-ns",
                tiers: &[(None, 5_000)],
                per: NS_PER_SECOND,
                ..FLAT
            },
        ],
        expected: Expected::Nanos(28_008_000),
        ..BASE
    },
    Row {
        name: "a container is charged in steps of 10 ms",
        source: CLOUDFLARE,
        policy: "cloudflare-containers",
        lives: &[&[
            (Initializing, 1, 1, NOTHING),
            (Running, 10, 1, NOTHING),
            (Standby, SECOND, 1, NOTHING),
            (Running, 3, 1, NOTHING),
        ]],
        expected: Expected::Millis("active", 20 + 10),
        ..BASE
    },
    Row {
        name: "sustained use of half a month is 10 % off (printed)",
        source: "https://easycloud.company/2018/07/google-cloud-sustained-use-discounts/",
        policy: "gcp",
        lives: &[&[(Running, 365 * HOUR, 1, NOTHING)]],
        prices: &SUSTAINED,
        expected: Expected::Nanos(15_603_750_000),
        ..BASE
    },
    Row {
        name: "sustained use of three quarters is 20 % off (printed)",
        source: "https://easycloud.company/2018/07/google-cloud-sustained-use-discounts/",
        policy: "gcp",
        lives: &[&[(Running, 547 * HOUR + 30 * MINUTE, 1, NOTHING)]],
        prices: &SUSTAINED,
        expected: Expected::Nanos(20_805_000_000),
        ..BASE
    },
    Row {
        name: "sustained use of a whole month is 30 % off (printed)",
        source: "https://easycloud.company/2018/07/google-cloud-sustained-use-discounts/",
        policy: "gcp",
        lives: &[&[(Running, 730 * HOUR, 1, NOTHING)]],
        prices: &SUSTAINED,
        expected: Expected::Nanos(24_272_500_000),
        ..BASE
    },
    Row {
        name: "a suspended machine on GCP is charged for its memory on disk, and for no time",
        source: "https://cloud.google.com/compute/docs/reference/rest/v1/instances/suspend",
        policy: "gcp",
        lives: &[&[
            (Running, HOUR, 1, NOTHING),
            (Standby, 10 * HOUR, 1, &[("snapshot-byte", 8 * GIB)]),
        ]],
        prices: &[
            a_dollar_an_hour("active", "ns"),
            Priced {
                rule: "suspended",
                meter: "suspended",
                unit: "snapshot-byte-ns",
                tiers: &[(None, 170_000_000)],
                per: GIB as u128 * 730 * NS_PER_HOUR,
                ..FLAT
            },
        ],
        digits: 6,
        expected: Expected::Nanos(1_000_000_000 + 18_630_000),
        ..BASE
    },
    Row {
        name: "30 GB for a day of a month of 730 hours are 10 cents (printed)",
        source: EBS,
        policy: "ec2",
        lives: &[&[(Stopped, 24 * HOUR, 1, &[("disk-byte", 30 * GB)])]],
        prices: &[GB_MONTH],
        digits: 2,
        expected: Expected::Nanos(100_000_000),
        ..BASE
    },
    Row {
        name: "three volumes for different times are 61 cents (printed)",
        source: EBS,
        policy: "ec2",
        lives: &[
            &[(Running, 24 * HOUR, 1, &[("disk-byte", 30 * GB)])],
            &[(Running, 5 * HOUR, 1, &[("disk-byte", 10 * GB)])],
            &[(Running, 730 * HOUR, 1, &[("disk-byte", 5 * GB)])],
        ],
        prices: &[Priced { scope: "tenant", ..GB_MONTH }],
        digits: 2,
        expected: Expected::Nanos(610_000_000),
        ..BASE
    },
    Row {
        name: "1000 provisioned operations for 15 of 30 days are 50 dollars (printed)",
        source: EBS,
        policy: "ec2",
        lives: &[&[(Running, 15 * DAY, 1, &[("iop", 1_000)])]],
        prices: &[Priced {
            meter: "allocated",
            unit: "iop-ns",
            tiers: &[(None, 100_000_000)],
            per: 30 * 24 * NS_PER_HOUR,
            ..FLAT
        }],
        expected: Expected::Nanos(50_000_000_000),
        ..BASE
    },
    Row {
        name: "half an hour with 4 and a third with 1 are 7/3 hours (printed)",
        source: "https://github.com/gpustack/gpustack/issues/6054",
        lives: &[&[
            (Running, 30 * MINUTE, 1, &[("gpu", 4)]),
            (Running, 20 * MINUTE, 1, &[("gpu", 1)]),
        ]],
        prices: &[a_dollar_an_hour("active", "gpu-ns")],
        expected: Expected::Nanos(2_333_333_333),
        ..BASE
    },
    Row {
        name: "half an hour with 1 and a third with 4 are 11/6 hours (printed)",
        source: "https://github.com/gpustack/gpustack/issues/6054",
        lives: &[&[
            (Running, 30 * MINUTE, 1, &[("gpu", 1)]),
            (Running, 20 * MINUTE, 1, &[("gpu", 4)]),
        ]],
        prices: &[a_dollar_an_hour("active", "gpu-ns")],
        expected: Expected::Nanos(1_833_333_333),
        ..BASE
    },
    Row {
        name: "a full hour is 3600 seconds (printed)",
        source: "https://github.com/gpustack/gpustack/issues/5710",
        lives: &[&[(Running, HOUR, 1, NOTHING)]],
        prices: &[a_dollar_an_hour("running", "ns")],
        expected: Expected::Billed("rule", NS_PER_HOUR),
        ..BASE
    },
    Row {
        name: "an hour in 3600 pieces costs what an hour costs",
        source: "0.0475 an hour, charged by the second and rounded each time, loses 1.47 %",
        lives: &[&[(Running, SECOND, 1, NOTHING)]],
        times: 3_600,
        prices: &[Priced { tiers: &[(None, 47_500_000)], ..FLAT }],
        expected: Expected::Nanos(47_500_000),
        ..BASE
    },
    Row {
        name: "nine tenths of a second are nine tenths",
        source: "https://github.com/openstack/nova, commit 74e96f4387: they were nine seconds once",
        lives: &[&[(Running, 900, 1, NOTHING)]],
        prices: &[a_dollar_an_hour("active", "ns")],
        expected: Expected::Billed("rule", 900_000_000),
        ..BASE
    },
    Row {
        name: "a unit from the 11th on of a month of 30 days is 0.6466 (printed)",
        source: "https://github.com/getlago/lago/issues/339",
        lives: &[&[(Running, 1_676_111 * SECOND, 1, NOTHING)]],
        prices: &[Priced { tiers: &[(None, 1_000_000_000)], per: 30 * 24 * NS_PER_HOUR, ..FLAT }],
        expected: Expected::Nanos(646_647_762),
        ..BASE
    },
    Row {
        name: "stopped time is allocated",
        source: "https://github.com/osac-project/docs, metering: allocation and consumption",
        lives: &[&[
            (Running, HOUR, 1, NOTHING),
            (Stopped, 2 * HOUR, 1, NOTHING),
            (Running, HOUR, 2, NOTHING),
        ]],
        prices: &[a_dollar_an_hour("allocated", "ns")],
        expected: Expected::Billed("rule", 4 * NS_PER_HOUR),
        ..BASE
    },
    Row {
        name: "and not consumed",
        source: "https://github.com/osac-project/docs, metering: allocation and consumption",
        lives: &[&[
            (Running, HOUR, 1, NOTHING),
            (Stopped, 2 * HOUR, 1, NOTHING),
            (Running, HOUR, 2, NOTHING),
        ]],
        prices: &[a_dollar_an_hour("active", "ns")],
        expected: Expected::Billed("rule", 2 * NS_PER_HOUR),
        ..BASE
    },
    Row {
        name: "of an hour with 50 minutes in standby ten minutes ran",
        source: "https://github.com/kernel/hypeman/pull/223",
        lives: &[&[
            (Running, 5 * MINUTE, 1, NOTHING),
            (Standby, 50 * MINUTE, 1, NOTHING),
            (Running, 5 * MINUTE, 1, NOTHING),
        ]],
        prices: &[a_dollar_an_hour("running", "ns")],
        expected: Expected::Billed("rule", NS_PER_HOUR / 6),
        ..BASE
    },
    Row {
        name: "hypeman counts a pause on the way to standby, and a shutdown, as running",
        source: "https://github.com/kernel/hypeman/pull/223",
        policy: "hypeman-parity",
        lives: &[&[
            (Running, 5 * MINUTE, 1, NOTHING),
            (Paused, MINUTE, 1, NOTHING),
            (Standby, 50 * MINUTE, 1, NOTHING),
            (Running, 5 * MINUTE, 1, NOTHING),
            (Shutdown, MINUTE, 1, NOTHING),
            (Stopped, HOUR, 1, NOTHING),
        ]],
        prices: &[a_dollar_an_hour("running", "ns")],
        expected: Expected::Billed("rule", 12 * 60 * NS_PER_SECOND),
        ..BASE
    },
    Row {
        name: "a resize closes one interval and opens the next",
        source: "https://github.com/osac-project/docs, metering: resource.updated",
        lives: &[&[(Running, HOUR, 1, &[("node", 3)]), (Running, HOUR, 1, &[("node", 5)])]],
        prices: &[a_dollar_an_hour("active", "node-ns")],
        expected: Expected::Nanos(8_000_000_000),
        ..BASE
    },
    Row {
        name: "what sleeps is charged by the bytes it keeps",
        source: "2 GiB for 5 hours and 1 GiB for 3 at 10 cents per GiB and month of 730 hours",
        policy: "snapshot-storage",
        lives: &[&[
            (Running, HOUR, 1, &[("memory-byte", 4 * GIB)]),
            (Standby, 5 * HOUR, 1, &[("snapshot-byte", 2 * GIB)]),
            (Running, HOUR, 1, &[("memory-byte", 4 * GIB)]),
            (Standby, 3 * HOUR, 1, &[("snapshot-byte", GIB)]),
        ]],
        prices: &[Priced {
            meter: "standby",
            unit: "snapshot-byte-ns",
            tiers: &[(None, 100_000_000)],
            per: GIB as u128 * 730 * NS_PER_HOUR,
            ..FLAT
        }],
        expected: Expected::Nanos(1_780_822),
        ..BASE
    },
    Row {
        name: "and by the hour, if so chosen, each time it sleeps",
        source: "two visits of a minute are two hours",
        policy: "snapshot-storage",
        options: &[("standby-granularity", "1h")],
        lives: &[&[
            (Standby, MINUTE, 1, NOTHING),
            (Running, MINUTE, 1, NOTHING),
            (Standby, MINUTE, 1, NOTHING),
        ]],
        expected: Expected::Millis("standby", 2 * 3_600_000),
        ..BASE
    },
];

/// A price of ten cents per GB and month of 730 hours.
const GB_MONTH: Priced = Priced {
    meter: "allocated",
    unit: "disk-byte-ns",
    tiers: &[(None, 100_000_000)],
    per: GB as u128 * 730 * NS_PER_HOUR,
    ..FLAT
};

/// A measurement without the types of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The terms of each meter.
    pub terms: Vec<Terms>,
    /// A mask for each interval.
    pub counted: Vec<u64>,
    /// Number of own lines that the policy stated.
    pub own_lines: usize,
}

/// Terms that apply to each stretch of a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Name of the meter.
    pub name: String,
    /// `Start`, `Wake`, `Visit` or `Life`.
    pub stretch: String,
    /// Minimum in nanoseconds.
    pub minimum_ns: u64,
    /// Granularity in nanoseconds.
    pub granularity_ns: u64,
    /// `HalfEven`, `HalfUp`, `Down` or `Up`.
    pub rounding: String,
}

impl Terms {
    /// Nanoseconds that a stretch owes after using `used_ns`.
    fn owed_ns(&self, used_ns: u64) -> u64 {
        if used_ns == 0 {
            return 0;
        }
        let least = used_ns.max(self.minimum_ns);
        let whole = least / self.granularity_ns;
        let rest = least % self.granularity_ns;
        let is_up = match self.rounding.as_str() {
            "Up" => rest > 0,
            "Down" => false,
            "HalfUp" => rest * 2 >= self.granularity_ns,
            "HalfEven" => {
                rest * 2 > self.granularity_ns
                    || (rest * 2 == self.granularity_ns && whole % 2 == 1)
            }
            other => panic!("unknown rounding {other}"),
        };
        (whole + u64::from(is_up)) * self.granularity_ns
    }
}

/// Compares a measurement with a row's expectation.
///
/// # Errors
/// Text of the outcome if it differs from the expected one.
pub fn compare(row: &Row, measured: &Measured) -> Result<(), String> {
    let lives = lives(row);
    let of_meter = |meter: &str, unit: &str| billed(&lives, measured, meter, unit);
    let of_rule = |rule: &str| {
        let priced =
            row.prices.iter().find(|priced| priced.rule == rule).expect("a price of the rule");
        of_meter(priced.meter, priced.unit).iter().sum::<u128>()
    };
    let (wanted, found) = match row.expected {
        Expected::Millis(meter, millis) => (millis * 1_000_000, of_meter(meter, "ns").iter().sum()),
        Expected::Billed(rule, quantity) => (quantity, of_rule(rule)),
        Expected::Nanos(nanos) => {
            let sum =
                |priced: &Priced| amount(priced, row.digits, &of_meter(priced.meter, priced.unit));
            (nanos.unsigned_abs(), row.prices.iter().map(sum).sum())
        }
    };
    if wanted == found {
        Ok(())
    } else {
        Err(format!("{:?}, but {found} of {measured:#?}", row.expected))
    }
}

/// The units that each instance is charged for on a meter: the time that its stretches owe, each
/// nanosecond with the dimensions at that time, and time beyond the usage with those at the end.
fn billed(lives: &[Life], measured: &Measured, meter: &str, unit: &str) -> Vec<u128> {
    let number = measured.terms.iter().position(|terms| terms.name == meter);
    let number = number.unwrap_or_else(|| panic!("no meter '{meter}'"));
    let instances = lives.last().map_or(0, |life| life.subject as usize + 1);
    let mut units = vec![0; instances];
    for (subject, units) in (0..).zip(&mut units) {
        let of = lives.iter().zip(&measured.counted).filter(|(life, _)| life.subject == subject);
        let counts: Vec<(&Life, bool)> =
            of.map(|(life, mask)| (life, mask >> number & 1 == 1)).collect();
        *units = stretches(&counts, &measured.terms[number].stretch)
            .iter()
            .map(|stretch| charged(stretch, &measured.terms[number], unit))
            .sum();
    }
    units
}

/// The counted intervals of one instance, by stretch.
fn stretches<'a>(counts: &[(&'a Life, bool)], kind: &str) -> Vec<Vec<&'a Life>> {
    let mut stretches: Vec<Vec<&Life>> = Vec::new();
    let mut is_unbroken = false;
    for &(life, is_counted) in counts {
        if is_counted {
            let last = stretches.last().and_then(|stretch| stretch.last());
            let goes_on = last.is_some_and(|last| match kind {
                "Start" => last.session == life.session,
                "Wake" => (last.session, last.wakes) == (life.session, life.wakes),
                "Visit" => is_unbroken,
                "Life" => true,
                other => panic!("unknown stretch {other}"),
            });
            match stretches.last_mut().filter(|_| goes_on) {
                Some(stretch) => stretch.push(life),
                None => stretches.push(vec![life]),
            }
        }
        is_unbroken = is_counted;
    }
    stretches
}

/// The units that a stretch is charged for.
fn charged(stretch: &[&Life], terms: &Terms, unit: &str) -> u128 {
    let length = |life: &Life| life.end.abs_diff(life.start);
    let holds = |life: &Life| match unit.strip_suffix("-ns") {
        Some(dimension) => u128::from(held(life.held, dimension)),
        None => 1,
    };
    let mut owed = terms.owed_ns(stretch.iter().map(|life| length(life)).sum());
    let mut units = 0;
    for life in stretch {
        let part = owed.min(length(life));
        units += u128::from(part) * holds(life);
        owed -= part;
    }
    units + stretch.last().map_or(0, |life| u128::from(owed) * holds(life))
}

/// Amount of a rule: its tiers, filled by each instance or by all, rounded half to even to the
/// digits.
fn amount(priced: &Priced, digits: u8, units: &[u128]) -> u128 {
    let scopes = if priced.scope == "tenant" { vec![units.iter().sum()] } else { units.to_vec() };
    let mut numerator = 0;
    for units in scopes {
        let mut filled = 0;
        for &(up_to, nanos) in priced.tiers {
            let end = up_to.map_or(units, |up_to| up_to.min(units));
            numerator += (end - filled) * nanos.unsigned_abs();
            filled = end;
        }
    }
    let step = 10_u128.pow(9 - u32::from(digits));
    let grain = priced.per * step;
    let whole = numerator / grain;
    let twice = numerator % grain * 2;
    let is_up = twice > grain || (twice == grain && whole % 2 == 1);
    (whole + u128::from(is_up)) * step
}

/// Makes a module that builds requests and reads measurements with the types of one side.
macro_rules! side {
    ($(#[$doc:meta])* $name:ident, $($types:tt)*) => {
        $(#[$doc])*
        pub mod $name {
            use $($types)*::{
                Column, IntervalColumns, Measurement, MeterTerms, Request, Setting, Span, Subject,
            };

            use super::{Measured, Row, Terms};

            /// The request of a row.
            pub fn request(row: &Row) -> Request {
                let lives = super::lives(row);
                let names: Vec<&str> = super::dimensions(row);
                let column = |name: &&str| Column {
                    name: (*name).into(),
                    values: lives.iter().map(|life| super::held(life.held, name)).collect(),
                };
                let subject = |number: usize| {
                    let id = format!("i{number:03}");
                    Subject { name: id.clone(), id, tags: Vec::new() }
                };
                let setting = |&(name, value): &(&str, &str)| Setting {
                    name: name.into(),
                    value: value.into(),
                };
                Request {
                    tenant: "default".into(),
                    span: Span { start: super::BEGIN, end: super::BEGIN + super::PERIOD },
                    subjects: (0..row.lives.len()).map(subject).collect(),
                    intervals: IntervalColumns {
                        subject: lives.iter().map(|life| life.subject).collect(),
                        phase: lives.iter().map(|life| life.phase as u8).collect(),
                        start: lives.iter().map(|life| life.start).collect(),
                        end: lives.iter().map(|life| life.end).collect(),
                        session: lives.iter().map(|life| life.session).collect(),
                        wakes: lives.iter().map(|life| life.wakes).collect(),
                        fact: (1..=lives.len() as u64).collect(),
                        dimensions: names.iter().map(column).collect(),
                        counts: Vec::new(),
                    },
                    options: row.options.iter().map(setting).collect(),
                }
            }

            /// Converts a measurement.
            pub fn measured(measurement: &Measurement) -> Measured {
                let terms = |terms: &MeterTerms| Terms {
                    name: terms.name.clone(),
                    stretch: super::bare(&terms.stretch),
                    minimum_ns: terms.minimum,
                    granularity_ns: terms.granularity,
                    rounding: super::bare(&terms.rounding),
                };
                Measured {
                    terms: measurement.terms.iter().map(terms).collect(),
                    counted: measurement.counted.clone(),
                    own_lines: measurement.lines.len(),
                }
            }
        }
    };
}

side!(
    /// With the types that policies are written with.
    guest, guest_tracker
);
side!(
    /// With the types that the host calls components with.
    host, tallyman::policy::metering
);

/// The name of a case of an enum, without that of the enum, which one side's types put before it.
fn bare(case: &impl std::fmt::Debug) -> String {
    let text = format!("{case:?}");
    text.rsplit("::").next().unwrap_or_default().to_owned()
}

/// Begin of every row's period: in 2023, at no round number.
pub const BEGIN: i64 = 1_700_000_000_123_456_789;
/// Length of the period: 31 days.
pub const PERIOD: i64 = 31 * DAY * 1_000_000;

/// One interval of a row.
struct Life {
    subject: u32,
    phase: Phase,
    start: i64,
    end: i64,
    session: u32,
    wakes: u32,
    held: Held,
}

fn lives(row: &Row) -> Vec<Life> {
    let mut lives = Vec::new();
    for (subject, visits) in (0..).zip(row.lives) {
        let mut start = BEGIN;
        let mut wakes = 0;
        let mut before = None;
        for &(phase, millis, session, held) in
            visits.iter().cycle().take(visits.len() * row.times as usize)
        {
            let end = start + millis * 1_000_000;
            wakes += u32::from(before == Some(Standby) && phase != Standby);
            lives.push(Life { subject, phase, start, end, session, wakes, held });
            start = end;
            before = Some(phase);
        }
        assert!(start <= BEGIN + PERIOD, "{} lasts longer than the period", row.name);
    }
    lives
}

/// The dimensions that a row names, and those that every request has.
fn dimensions(row: &Row) -> Vec<&'static str> {
    let mut names = vec!["vcpu", "memory-byte", "disk-byte", "snapshot-byte"];
    for (name, _) in row.lives.iter().flat_map(|life| life.iter()).flat_map(|visit| visit.3.iter())
    {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
}

fn held(held: Held, name: &str) -> u64 {
    held.iter().find(|(of, _)| *of == name).map_or(0, |&(_, value)| value)
}
