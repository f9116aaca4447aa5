//! Counts time as Cloudflare counts it for Containers.
//!
//! From the first request or the first start until the instance sleeps, in steps of 10 ms
//! (`containers/pricing.mdx` in Cloudflare's documentation). Memory and disk are charged as
//! provisioned. Later word is that the processor is charged for its active use
//! (<https://github.com/cloudflare/workers-sdk/discussions/16077>); the journal does not measure
//! it, so the processor counts as provisioned too, which is the most that it can come to. What an
//! account has for free each month is the first tier of a graduated price of scope `tenant`.
//! Cloudflare's smaller instance types have a part of a processor: its price in the book is that
//! part of the whole one's.

use guest_tracker::metering::{Granularity, Meter, Options, Phases, Plan};
use guest_tracker::{MeteringError, Phase, Policy, Stretch};

/// Cloudflare Containers.
#[derive(Debug)]
pub struct CloudflareContainers;

const STEP_NS: u64 = 10_000_000;

impl Policy for CloudflareContainers {
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        let active = Meter::new("active", Phases::of(&[Phase::Initializing, Phase::Running]))
            .each(Stretch::Wake)
            .in_grains(Granularity::of(STEP_NS))
            .chosen(options)?;
        Ok(Plan::new([active]))
    }
}

guest_tracker::policy!(CloudflareContainers);
