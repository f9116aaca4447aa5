//! Charges instances as Cloudflare charges Containers.
//!
//! From the first request or the first start until the instance sleeps, in steps of 10 ms (`containers/pricing.mdx` in Cloudflare's
//! documentation). Memory and disk are charged as provisioned. Later word is that the processor is charged for its active use
//! (<https://github.com/cloudflare/workers-sdk/discussions/16077>); the journal does not measure it, so the processor is charged as
//! provisioned too, which is the most that it can come to. What an account has for free each month is the first tier of a graduated price of
//! scope `tenant`. Cloudflare's smaller instance types have a part of a processor: its price in the book is that part of the whole one's.
//!
//! | meter | counts |
//! |---|---|
//! | `active` | initializing, running |
//!
//! | option | |
//! |---|---|
//! | `minimum` | least time of a start; `0s` |
//! | `granularity`, `granularity-rounding` | `10ms`, `up` |
//! | `wake` | whether waking is a `start` (the default) or `continues` the one before |

use guest_tracker::rating::standard::started;
use guest_tracker::rating::{Granularity, Meter, Options, Phases, Plan, Rounding, Stretch};
use guest_tracker::{Phase, Policy, RatingError, Request, Statement};

/// Cloudflare Containers.
#[derive(Debug)]
pub struct CloudflareContainers;

const OPTIONS: [&str; 4] = ["granularity", "granularity-rounding", "minimum", "wake"];
const STEP: Granularity = Granularity { unit_ns: 10_000_000, rounding: Rounding::Up };

impl Policy for CloudflareContainers {
    fn rate(request: Request) -> Result<Statement, RatingError> {
        let options = Options::new(&request.options, &OPTIONS)?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running]);
        let active = Meter::new("active", phases).each(Stretch::StartOrWake).in_grains(STEP);
        Plan::new([started(active, &options)?]).rate(&request)
    }
}

guest_tracker::policy!(CloudflareContainers);
