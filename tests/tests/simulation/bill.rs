//! The charges of a simulated tenant, by the program and by the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tallyman::billing::Timeline;
use tallyman::billing::interval::Interval;
use tallyman::id::{Digest, InstanceId};
use tallyman::invoice::{Act, Directory, Goal, Heading, InvoiceError, Issuer, Named, Overriding};
use tallyman::tenant::Actor;
use tallyman::units::Instant;
use tallyman::vm::Phase;
use tallyman_oracle::{
    Agreement, BookSet, Instance, Meter, PeriodKind, Piece, Policy, PolicySet, Scenario, Step,
    StretchKind, TimeRounding,
};

use crate::daemon::{Daemon, FAILING, POLICIES, TRAPPING};
use crate::world::World;

/// The price books.
pub(crate) const BOOKS: [&str; 2] = [
    r#"{"currency": "EUR", "rounding": "half-even", "prices": [
        {"id": "run", "rule": "run", "meter": "running", "per": "vcpu-hour", "price": "0.0475"},
        {"id": "sleep", "rule": "sleep", "meter": "standby", "per": "instance-hour", "price": "1/3"},
        {"id": "keep", "rule": "keep", "meter": "allocated", "per": "memory-GiB-hour",
         "scope": "tenant", "tiers": [{"up_to": "1/100", "price": "7"}, {"price": "3"}]}
    ]}"#,
    r#"{"currency": "EUR", "rounding": "half-even", "prices": [
        {"id": "run", "rule": "run", "meter": "running", "per": "vcpu-hour", "price": "0.11"},
        {"id": "sleep", "rule": "sleep", "meter": "standby", "per": "instance-hour", "price": "0.02"},
        {"id": "keep", "rule": "keep", "meter": "allocated", "per": "memory-GiB-hour",
         "scope": "tenant", "tiers": [{"up_to": "1/50", "price": "5"}, {"price": "2"}]}
    ]}"#,
];

/// A price book that was put in force.
#[derive(Debug, Clone)]
pub(crate) struct Prices {
    /// Instant of the fact, in nanoseconds on the meter clock.
    pub(crate) set_at: i64,
    /// First instant in force.
    pub(crate) from: i64,
    /// SHA-256 of the text.
    pub(crate) digest: String,
}

/// The issuer of a daemon's documents.
fn issuer(daemon: &Daemon) -> Issuer {
    Issuer::new(daemon.journal.clone(), POLICIES.clone())
}

/// Puts a book in force.
pub(crate) async fn set_prices(world: &World, daemon: &Daemon, book: usize) -> Result<(), String> {
    let text = BOOKS[book].as_bytes().to_vec();
    let now = daemon.fleet.now();
    let issuer = issuer(daemon);
    let set = issuer.set_prices(&world.tenant, (text, None), None, now, Act::by(Actor::Host));
    set.await.map(drop).map_err(|error| format!("no prices: {error:?}"))
}

/// Closes the tenant's time up to now.
pub(crate) fn close(world: &World, daemon: &Daemon) -> impl Future<Output = ()> + Send + use<> {
    let issuer = issuer(daemon);
    let tenant = world.tenant.clone();
    let now = daemon.fleet.now();
    async move {
        let heading = Heading::default();
        let act = Act::by(Actor::Host);
        // It may be that nothing is to be closed, or that the disk is full.
        let _ = issuer.reach(&tenant, Goal::Close(now), &heading, &act, &directory()).await;
    }
}

fn directory() -> Directory {
    Arc::new(|id: &InstanceId| {
        Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() })
    })
}

/// The program's bill for the time up to `to` is the oracle's.
pub(crate) fn check(
    world: &World,
    daemon: &Daemon,
    lives: &[(InstanceId, Instant, Vec<Interval>)],
    to: Instant,
) -> Result<(), String> {
    let issuer = issuer(daemon);
    let preview = |rules| issuer.preview(&world.tenant, &directory(), to, rules);
    let is_held = is_held(world, lives);
    let documents = match (preview(None), is_held) {
        (Err(InvoiceError::Fault { .. } | InvoiceError::Policy { .. }), true) => {
            preview(Some(freeing(world, to)))
        }
        (Ok(documents), true) if !documents.is_empty() => {
            let by = documents.last().map(|last| (&last.billed, &last.policies, &last.receipts));
            return Err(format!("a policy that never answers was billed: {by:?}"));
        }
        (documents, _) => documents,
    };
    let documents = documents.map_err(|error| format!("no bill: {error:?}"))?;
    let Some(ours) = documents.last() else { return Ok(()) };
    let mut scenario = scenario(world, daemon, lives, to);
    if is_held {
        let standard = policy(POLICIES.standard().digest());
        scenario.policies = vec![PolicySet { from: world.first_fact, policy: standard }];
    }
    let theirs = tallyman_oracle::preview(&scenario, to.0);
    let total = theirs.last().map_or(0, |document| document.whole.total);
    if nanos(&ours.period_total) == Some(total) {
        return Ok(());
    }
    let rules = &ours.rules;
    let whole = theirs.last().map(|document| &document.whole);
    Err(format!("the bill is {}, {rules:?}; by the oracle {whole:?}", ours.period_total))
}

/// Returns whether a policy that never answers is in force for some priced time.
fn is_held(world: &World, lives: &[(InstanceId, Instant, Vec<Interval>)]) -> bool {
    let trapping = Digest::of(&TRAPPING);
    let first = world.prices.iter().map(|prices| prices.from).min().unwrap_or(i64::MAX);
    let is_held =
        |piece: &Interval| piece.policy == trapping && piece.end.0 > first && piece.length().0 > 0;
    lives.iter().any(|(_, _, pieces)| pieces.iter().any(is_held))
}

/// The standard policy in place of all others, which frees time that is held.
fn freeing(world: &World, to: Instant) -> Overriding {
    Overriding {
        from: Instant(world.first_fact),
        until: Instant(to.0 + 1),
        policy: Some(POLICIES.standard().digest()),
        reason: "it never answers".into(),
        ..Overriding::default()
    }
}

/// An amount in billionths of the currency; none if it has a finer part.
fn nanos(amount: &str) -> Option<i128> {
    let (sign, digits) = amount.strip_prefix('-').map_or((1, amount), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = format!("{part:0<9}");
    let whole = whole.parse::<i128>().ok()? * 1_000_000_000;
    (part.len() == 9).then_some(())?;
    Some(sign * (whole + part.parse::<i128>().ok()?))
}

fn scenario(
    world: &World,
    daemon: &Daemon,
    lives: &[(InstanceId, Instant, Vec<Interval>)],
    to: Instant,
) -> Scenario {
    let first_fact = world.first_fact;
    let books = world.prices.iter().map(|prices| BookSet {
        set_at: prices.set_at,
        from: prices.from,
        book: book(&prices.digest),
    });
    Scenario {
        agreement: Agreement { zone: "UTC".into(), kind: PeriodKind::Month, anchor: 1 },
        agreements: Vec::new(),
        first_fact,
        ended: None,
        calendar: vec![Step { at: first_fact, offset: 0 }],
        policies: policies(&daemon.fleet.timeline(&world.tenant), first_fact, to),
        books: books.collect(),
        instances: lives.iter().map(instance).collect(),
        acts: Vec::new(),
        own: Vec::new(),
    }
}

fn book(digest: &str) -> serde_json::Value {
    let text = BOOKS.iter().find(|text| Digest::of(text.as_bytes()).to_string() == digest);
    serde_json::from_str(text.expect("a book of ours")).expect("JSON")
}

fn policies(timeline: &Timeline, first: i64, to: Instant) -> Vec<PolicySet> {
    let begin = PolicySet { from: first, policy: policy(timeline.at(Instant(first))) };
    let later = timeline.between(Instant(first), to);
    let later = later.map(|(from, digest)| PolicySet { from: from.0, policy: policy(digest) });
    std::iter::once(begin).chain(later).collect()
}

/// The meters that the books price, as a policy measures them.
fn policy(digest: Digest) -> Policy {
    let is_standard = digest == POLICIES.standard().digest();
    if digest == Digest::of(&FAILING) {
        return failing();
    }
    let phases = |own: &[Phase]| -> BTreeSet<String> {
        own.iter().map(|phase| phase.as_str().to_owned()).collect()
    };
    let running: &[Phase] =
        if is_standard { &[Phase::Running] } else { &[Phase::Initializing, Phase::Running] };
    let standby: &[Phase] =
        if is_standard { &[Phase::Standby] } else { &[Phase::Paused, Phase::Standby] };
    let meters = [
        ("running", phases(running), StretchKind::Start),
        ("standby", phases(standby), StretchKind::Start),
        ("allocated", phases(&Phase::ALL), StretchKind::Life),
    ];
    let meter = |(name, phases, stretch): (&str, BTreeSet<String>, StretchKind)| {
        let meter =
            Meter { phases, stretch, minimum: 0, granularity: 1, rounding: TimeRounding::Up };
        (name.to_owned(), meter)
    };
    Policy {
        meters: meters.into_iter().map(meter).collect(),
        initializing_max: 600_000_000_000,
        unrated: false,
    }
}

/// The policy that traps now and then: its first meter counts everything.
fn failing() -> Policy {
    let all: BTreeSet<String> = Phase::ALL.iter().map(|phase| phase.as_str().to_owned()).collect();
    let meter = |(name, stretch): (&str, StretchKind)| {
        let phases = if name == "running" { all.clone() } else { BTreeSet::new() };
        let meter =
            Meter { phases, stretch, minimum: 0, granularity: 1, rounding: TimeRounding::Up };
        (name.to_owned(), meter)
    };
    let meters = [
        ("running", StretchKind::Start),
        ("standby", StretchKind::Start),
        ("allocated", StretchKind::Life),
    ];
    Policy {
        meters: meters.into_iter().map(meter).collect(),
        initializing_max: 600_000_000_000,
        unrated: false,
    }
}

fn instance((id, first, pieces): &(InstanceId, Instant, Vec<Interval>)) -> Instance {
    let mut wakes = 0;
    let mut before = None;
    let pieces = pieces.iter().map(|piece| {
        wakes += u32::from(before == Some(Phase::Standby) && piece.phase != Phase::Standby);
        before = Some(piece.phase);
        Piece {
            from: piece.start.0,
            to: piece.end.0,
            phase: piece.phase.as_str().to_owned(),
            session: piece.session,
            wakes,
            dimensions: BTreeMap::from([
                ("vcpu".into(), u64::from(piece.shape.vcpus)),
                ("memory-byte".into(), piece.shape.memory_bytes),
            ]),
            counts: BTreeMap::new(),
        }
    });
    Instance { id: id.to_string(), first_fact: first.0, pieces: pieces.collect() }
}
