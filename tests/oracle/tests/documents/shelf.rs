//! A scenario as the program's evidence: facts in their order, documents, and policies as data.

use std::collections::BTreeMap;

use biller::BillError;
use biller::input::{Header, Intervals, OwnLine, Subject};
use biller::output::Bill;
use tallyman::billing::agreement::{Agreement, Cycle};
use tallyman::billing::calendar::{Calendar, STEP_NS_MIN};
use tallyman::billing::life::Life;
use tallyman::billing::{About, BootId, Entered, Fact, InstanceFact, Reading, TenantFact};
use tallyman::id::{Digest, InstanceId, TenantId};
use tallyman::invoice::{
    Call, CallError, Calls, Evidence, EvidenceError, INITIALIZING_MAX, Invoice, News, Visit,
};
use tallyman::journal::{FactHash, Head, SpanQuery, StoredInvoice};
use tallyman::policy::Fault;
use tallyman::policy::biller::BillerError;
use tallyman::policy::metering::{Measurement, MeterTerms, Request, Rounding, Setting, Stretch};
use tallyman::tenant::{Actor, OneOffKind};
use tallyman::units::Instant;
use tallyman::vm::{Phase, Shape, Traffic};
use tallyman_oracle::{
    Act, BookSet, Instance, Meter, Nanos, OneOff, Override, PeriodKind, Piece, Policy, Scenario,
    StretchKind, TimeRounding, borders,
};

/// Sequence number of the first fact: all have as many digits, so that one-offs are in the order
/// of their facts and of their ids alike.
const FIRST: u64 = 1_000;

/// The facts of a tenant in the order in which they became known, and its documents.
pub(crate) struct Shelf {
    facts: Vec<Fact>,
    /// Instances as far as known, each since a fact.
    instances: Vec<(u64, Instance)>,
    documents: BTreeMap<Digest, Vec<u8>>,
    calendar: Calendar,
    first_fact: Nanos,
    ended: Option<Nanos>,
    pub(crate) policies: Policies,
    /// The scenario's ids of one-offs, by those of the program.
    pub(crate) one_offs: BTreeMap<String, String>,
}

/// Policies as data.
#[derive(Default)]
pub(crate) struct Policies(BTreeMap<Digest, Policy>);

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

impl Shelf {
    /// The shelf before the first act.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let mut shelf = Self {
            facts: Vec::new(),
            instances: Vec::new(),
            documents: BTreeMap::new(),
            calendar: calendar(scenario),
            first_fact: scenario.first_fact,
            ended: scenario.ended,
            policies: Policies::default(),
            one_offs: BTreeMap::new(),
        };
        shelf.say(scenario.first_fact, TenantFact::Created { by: Actor::Operator });
        shelf.agree(Nanos::MIN, &scenario.agreement);
        for (set, from) in scenario.agreements.iter().zip(borders(scenario)) {
            shelf.agree(from, &set.agreement);
        }
        for set in &scenario.policies {
            let max_ns = set.policy.initializing_max;
            let options = vec![(INITIALIZING_MAX.to_owned(), format!("{max_ns}ns"))];
            let digest = shelf.admit(&set.policy);
            let said = TenantFact::PolicyActivated {
                digest,
                from: Instant(set.from),
                rollback: false,
                by: None,
                reason: None,
                options,
            };
            shelf.say(set.from, said);
        }
        let mut books: Vec<&BookSet> = scenario.books.iter().collect();
        books.sort_by_key(|set| set.set_at);
        books.into_iter().for_each(|set| shelf.put_prices(set));
        scenario.instances.iter().for_each(|instance| shelf.learn(instance));
        shelf
    }

    fn agree(&mut self, from: Nanos, agreement: &tallyman_oracle::Agreement) {
        let agreement = Agreement {
            zone: agreement.zone.clone(),
            cycle: match agreement.kind {
                PeriodKind::Month => Cycle::Month,
                PeriodKind::Day => Cycle::Day,
            },
            anchor_day: agreement.anchor.unsigned_abs(),
        };
        let from = Instant(from);
        self.say(0, TenantFact::AgreementChanged { agreement, from, by: Actor::Operator });
    }

    /// A component of its own for each policy, whether or not it differs from the others.
    fn admit(&mut self, policy: &Policy) -> Digest {
        let digest = Digest::of(format!("policy {}", self.policies.0.len()).as_bytes());
        self.policies.0.insert(digest, policy.clone());
        digest
    }

    fn keep(&mut self, book: &serde_json::Value) -> Digest {
        let text = book.to_string().into_bytes();
        let digest = Digest::of(&text);
        self.documents.insert(digest, text);
        digest
    }

    fn put_prices(&mut self, set: &BookSet) {
        let digest = self.keep(&set.book);
        let from = Instant(set.from);
        let said = TenantFact::PricesActivated { digest, from, by: Actor::Operator, name: None };
        self.say(set.set_at, said);
    }

    pub(crate) fn learn(&mut self, instance: &Instance) {
        // The fact stands for all of the instance's.
        self.say(instance.first_fact, TenantFact::Created { by: Actor::Host });
        self.instances.push((self.head().seq, instance.clone()));
    }

    pub(crate) fn replace(&mut self, with: &Override) {
        let policy = with.policy.as_ref().map(|policy| self.admit(policy));
        let book = with.book.as_ref().map(|book| self.keep(book));
        let said = TenantFact::Overridden {
            from: Instant(with.from),
            until: Instant(with.to),
            policy,
            book,
            from_begin: with.from_begin,
            reason: "agreed".into(),
            by: Actor::Operator,
        };
        self.say(with.to, said);
    }

    pub(crate) fn charge(&mut self, one: &OneOff) {
        let kind = if one.is_goodwill { OneOffKind::Goodwill } else { OneOffKind::Charge };
        let said = TenantFact::OneOff {
            kind,
            amount: i64::try_from(one.amount).expect("a small amount"),
            currency: "EUR".into(),
            at: Instant(one.at),
            reason: "agreed".into(),
            by: Actor::Operator,
        };
        self.say(one.at, said);
        self.one_offs.insert(format!("{}:{}", kind.as_str(), self.head().seq), one.id.clone());
    }

    pub(crate) fn issue(&mut self, invoice: &Invoice) {
        let bytes = invoice.to_bytes();
        let digest = Digest::of(&bytes);
        self.documents.insert(digest, bytes);
        let said = TenantFact::Invoiced {
            number: invoice.number.expect("a number"),
            digest,
            from: Instant(invoice.period.from_ns),
            until: invoice.until(),
            corrects: invoice.follows,
            by: Actor::Operator,
        };
        self.say(invoice.billed.until_ns, said);
    }

    fn say(&mut self, at: Nanos, said: TenantFact) {
        let meter = Instant(at);
        let at = Reading { boot: BootId("b".into()), boottime_ns: 0, wall_ns: at, meter };
        self.facts.push(Fact { at, tenant: tenant(), about: About::Tenant(said) });
    }

    fn said(&self) -> impl Iterator<Item = (u64, &Fact)> {
        (FIRST..).zip(&self.facts)
    }

    pub(crate) fn head(&self) -> Head {
        let seq = FIRST + self.facts.len() as u64 - 1;
        Head { seq, hash: FactHash([0; 32]) }
    }

    /// The instances as of a fact, by their ids.
    fn known(&self, through: u64) -> BTreeMap<&str, &Instance> {
        let known = self.instances.iter().filter(|(seq, _)| *seq <= through);
        known.map(|(_, instance)| (instance.id.as_str(), instance)).collect()
    }
}

/// The calendar of a scenario.
fn calendar(scenario: &Scenario) -> Calendar {
    let mut calendar = Calendar::default();
    for step in &scenario.calendar {
        calendar.learn(Instant(step.at), step.at + step.offset);
    }
    calendar
}

/// Leaves out of a scenario what does not reach documents: steps of the clock that are below the
/// noise of its readings, news of the clock, which is never about the past, and policies' own
/// lines.
pub(crate) fn reachable(mut scenario: Scenario) -> Scenario {
    let offsets: Vec<Nanos> = scenario.calendar.iter().map(|step| step.offset).collect();
    if offsets.windows(2).any(|two| two[0].abs_diff(two[1]) < STEP_NS_MIN) {
        scenario.calendar.truncate(1);
    }
    scenario.acts.retain(|act| !matches!(act, Act::Clock(_)));
    scenario.own.clear();
    scenario
}

impl Evidence for Shelf {
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError> {
        let known = self.known(query.through);
        let mut order: Vec<_> = known.values().map(|one| (one.first_fact, &one.id)).collect();
        order.sort_unstable();
        let mut lives = Vec::new();
        for instance in known.values() {
            let id: InstanceId = instance.id.parse().expect("an id");
            let history = history(&id, instance);
            let life = Life::of(&id, &history, (query.start, query.end));
            let rank = order.iter().position(|(_, id)| **id == instance.id).unwrap_or(0);
            lives.extend(life.map(|life| Life { first_fact: rank as u64, ..life }));
        }
        let _ = lives.into_iter().try_for_each(visit);
        Ok(())
    }

    fn began(&self, _: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        let known = self.known(through);
        let first = known.values().map(|instance| instance.first_fact).min();
        Ok(Some(Instant(first.unwrap_or(Nanos::MAX).min(self.first_fact))))
    }

    fn ended(&self, _: &TenantId, _: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(self.ended.map(Instant))
    }

    fn tenant_facts(&self, _: &TenantId, through: u64) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let known = self.said().filter(|(seq, _)| *seq <= through);
        Ok(known.map(|(seq, fact)| (seq, fact.clone())).collect())
    }

    fn changed(&self, _: &TenantId, news: &News) -> Result<bool, EvidenceError> {
        let is_covered = |seq: u64| news.after < seq && seq <= news.through;
        let is_learnt = self.instances.iter().any(|(seq, _)| is_covered(*seq));
        Ok(is_learnt || self.said().any(|(seq, fact)| news.changes(seq, fact)))
    }

    fn invoices(&self, _: &TenantId, through: u64) -> Result<Vec<StoredInvoice>, EvidenceError> {
        let known = self.said().filter(|(seq, _)| *seq <= through);
        let stored = known.filter_map(|(fact, said)| match said.of_tenant() {
            Some(&TenantFact::Invoiced { number, digest, from, until, corrects, .. }) => {
                Some(StoredInvoice { number, digest, from, until, corrects, fact })
            }
            _ => None,
        });
        Ok(stored.collect())
    }

    fn calendar(&self, _: u64) -> Result<Calendar, EvidenceError> {
        Ok(self.calendar.clone())
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let found = self.documents.get(&digest).cloned();
        found.ok_or_else(|| EvidenceError::Missing(format!("document {digest}")))
    }

    fn component(&self, _: Digest) -> Result<Vec<u8>, EvidenceError> {
        Ok(Vec::new())
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        Ok(Head { seq, hash: FactHash([0; 32]) })
    }
}

/// The facts of an instance, which ends with its last piece.
fn history(id: &InstanceId, instance: &Instance) -> Vec<(u64, Fact)> {
    let mut read = 0;
    let mut facts = Vec::new();
    for piece in &instance.pieces {
        facts.push((piece.from, InstanceFact::Entered(entered(piece, &piece.phase, read))));
        read += piece.counts.get("network-in-bytes").copied().unwrap_or(0);
    }
    if let Some(last) = instance.pieces.last() {
        facts.push((last.to, InstanceFact::Entered(entered(last, "stopped", read))));
        facts.push((last.to, InstanceFact::Deleted));
    }
    let fact = |(at, said): (Nanos, InstanceFact)| {
        let meter = Instant(at);
        let at = Reading { boot: BootId("b".into()), boottime_ns: 0, wall_ns: at, meter };
        Fact { at, tenant: tenant(), about: About::Instance(id.clone(), said) }
    };
    (1..).zip(facts.into_iter().map(fact)).collect()
}

fn entered(piece: &Piece, phase: &str, in_bytes: u64) -> Entered {
    let dimension = |name: &str| piece.dimensions.get(name).copied().unwrap_or(0);
    let phase = Phase::ALL.into_iter().find(|one| one.as_str() == phase).expect("a phase");
    let shape = Shape {
        vcpus: u32::try_from(dimension("vcpu")).expect("few"),
        memory_bytes: dimension("memory-byte"),
        disk_bytes: 0,
        snapshot_bytes: 0,
    };
    let traffic = Traffic::of([in_bytes, 0, 0, 0]);
    Entered { phase, shape, session: piece.session, cause: None, traffic }
}

impl Calls for Policies {
    fn standard(&self) -> Digest {
        Digest([0; 32])
    }

    fn biller(&self) -> Digest {
        Digest([1; 32])
    }

    fn engine(&self) -> String {
        "data".into()
    }

    fn measure(&self, policy: Digest, request: &Request) -> Result<Call<Measurement>, CallError> {
        let is_of_host = |one: &Setting| one.name == INITIALIZING_MAX;
        assert!(!request.options.iter().any(is_of_host), "no policy knows the host's own option");
        let policy = &self.0[&policy];
        if policy.unrated {
            return Err(CallError::Fault(Box::new(Fault::StackOverflow)));
        }
        let counts = |phase: u8, meter: &Meter| {
            let phase = Phase::from_ordinal(phase).expect("a phase");
            meter.phases.contains(phase.as_str())
        };
        let bits = |phase: &u8| {
            let meters = policy.meters.values().enumerate();
            meters.map(|(place, meter)| u64::from(counts(*phase, meter)) << place).sum()
        };
        let counted = request.intervals.phase.iter().map(bits).collect();
        let terms = policy.meters.iter().map(|(name, meter)| terms(name, meter)).collect();
        let value = Measurement { terms, counted, lines: Vec::new() };
        Ok(Call { value, fuel: 1, input: String::new(), output: String::new() })
    }

    fn bill(
        &self,
        _: Digest,
        header: &Header,
        subjects: &[Subject],
        intervals: &Intervals,
        own: &[OwnLine],
    ) -> Result<Call<Bill>, CallError> {
        let refused = |error: biller::BillError| {
            let reason = error.to_string();
            CallError::Biller(Box::new(match error {
                BillError::Input { .. } => BillerError::Malformed { reason },
                _ => BillerError::Refused { reason },
            }))
        };
        let value = biller::bill(header, subjects, intervals, own).map_err(refused)?;
        Ok(Call { value, fuel: 1, input: String::new(), output: String::new() })
    }
}

fn terms(name: &str, meter: &Meter) -> MeterTerms {
    MeterTerms {
        name: name.to_owned(),
        stretch: match meter.stretch {
            StretchKind::Start => Stretch::Start,
            StretchKind::Wake => Stretch::Wake,
            StretchKind::Visit => Stretch::Visit,
            StretchKind::Life => Stretch::Life,
        },
        minimum: meter.minimum.unsigned_abs(),
        granularity: meter.granularity.max(1).unsigned_abs(),
        rounding: match meter.rounding {
            TimeRounding::Up => Rounding::Up,
            TimeRounding::Down => Rounding::Down,
            TimeRounding::HalfUp => Rounding::HalfUp,
        },
    }
}
