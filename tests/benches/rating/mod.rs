//! A month of a large tenant rated again: the whole way from facts to charge lines, and the rules
//! alone beside the same rules as scripts.

mod scripts;

use std::hint::black_box;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as Timer;

use biller::input::{
    Balances, BookInForce, FORM, Header, Intervals, Offset, Rounding, Stretch, Terms, TermsInForce,
};
use biller::output::Bill;
use tallyman::billing::calendar::Calendar;
use tallyman::billing::life::Life;
use tallyman::billing::{About, BootId, Entered, Fact, InstanceFact, Reading, TenantFact};
use tallyman::id::{Digest, InstanceId, TenantId};
use tallyman::invoice::{Computer, Engines, Evidence, EvidenceError, Named, News, View, Visit};
use tallyman::journal::{FactHash, Head, SpanQuery, StoredInvoice};
use tallyman::policy::metering::{self, IntervalColumns, Request, Span, Subject};
use tallyman::policy::{Policy, PolicyHost};
use tallyman::tenant::Actor;
use tallyman::units::Instant;
use tallyman::vm::{Phase, Shape, Traffic};
use tallyman_tests::policies;

use crate::measure::{Candidate, Line, Report, nanos, side_by_side};
use crate::memory::{forget_peak, peak_bytes};

const INSTANCES: usize = 10_000;
const TRANSITIONS_A_DAY: usize = 100;
const DAYS: usize = 30;
const TRANSITIONS: usize = TRANSITIONS_A_DAY * DAYS;
/// Instances of one call, about as many as the host puts into one.
const INSTANCES_A_CALL: usize = 10;
const ROUNDS: usize = 9;

pub(crate) const BEGIN: i64 = 1_767_225_600_000_000_000;
const STEP_NS: i64 = 86_400_000_000_000 / TRANSITIONS_A_DAY as i64;
pub(crate) const END: i64 = BEGIN + STEP_NS * TRANSITIONS as i64;

pub(crate) const BOOK: &str = r#"{"currency": "USD", "prices": [
    {"id": "t3.medium", "rule": "compute", "meter": "active", "per": "instance-hour", "price": "0.0416"}]}"#;

/// Phases that a machine goes through again and again: boot, work, standby, work, stop.
const LIFE: [Phase; 5] =
    [Phase::Initializing, Phase::Running, Phase::Standby, Phase::Running, Phase::Stopped];

/// Meter instant of a transition: no two instances at once, and not at whole seconds.
fn at(instance: usize, transition: usize) -> i64 {
    BEGIN + STEP_NS * transition as i64 + (instance * 7_919 + transition * 104_729) as i64 % STEP_NS
}

fn phase(transition: usize) -> Phase {
    LIFE[transition % LIFE.len()]
}

fn session(transition: usize) -> u32 {
    (transition / LIFE.len() + 1) as u32
}

/// Number of times that the machine had left standby: once in each life.
fn wakes(transition: usize) -> u32 {
    let slept = LIFE.iter().position(|&phase| phase == Phase::Standby).unwrap();
    (transition / LIFE.len() + usize::from(transition % LIFE.len() > slept)) as u32
}

/// A tenant whose facts are made as they are asked for, so that the measured memory is that of
/// rating.
pub(crate) struct Month {
    pub(crate) tenant: TenantId,
    instances: Vec<InstanceId>,
    /// Transitions of each instance.
    transitions: usize,
    /// Books, each with its first instant.
    books: Vec<(i64, String)>,
    boot: BootId,
    policy: Digest,
    component: Vec<u8>,
}

impl Month {
    pub(crate) fn new(component: Vec<u8>, (instances, transitions): (usize, usize)) -> Self {
        let instances =
            (0..instances).map(|number| format!("i{number:05}").parse().unwrap()).collect();
        let tenant = TenantId::default_tenant();
        let boot = BootId("boot".into());
        let books = vec![(BEGIN, BOOK.to_owned())];
        let policy = Digest::of(&component);
        Self { tenant, instances, transitions, books, boot, policy, component }
    }

    /// The same under other books, each from its instant on.
    pub(crate) fn under(self, books: Vec<(i64, String)>) -> Self {
        Self { books, ..self }
    }

    /// Number of intervals.
    pub(crate) fn intervals(&self) -> usize {
        self.instances.len() * self.transitions
    }

    fn fact(&self, instance: usize, transition: usize) -> Fact {
        let meter = Instant(at(instance, transition));
        let reading = Reading { boot: self.boot.clone(), boottime_ns: 0, wall_ns: meter.0, meter };
        let shape =
            Shape { vcpus: 2, memory_bytes: 4 << 30, disk_bytes: 8 << 30, snapshot_bytes: 0 };
        let entered = Entered {
            phase: phase(transition),
            shape,
            session: session(transition),
            cause: None,
            traffic: Traffic::NONE,
        };
        let about =
            About::Instance(self.instances[instance].clone(), InstanceFact::Entered(entered));
        Fact { at: reading, tenant: self.tenant.clone(), about }
    }

    /// A fact of the tenant from before the month.
    fn said(&self, fact: TenantFact) -> Fact {
        let meter = Instant(BEGIN);
        let at = Reading { boot: self.boot.clone(), boottime_ns: 0, wall_ns: meter.0, meter };
        Fact { at, tenant: self.tenant.clone(), about: About::Tenant(fact) }
    }

    pub(crate) fn head(&self) -> Head {
        Head { seq: self.intervals() as u64, hash: FactHash([0; 32]) }
    }
}

impl Evidence for Month {
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError> {
        for (number, id) in self.instances.iter().enumerate() {
            let seq = |transition: usize| (number * self.transitions + transition) as u64 + 1;
            let history: Vec<_> = (0..self.transitions)
                .map(|transition| (seq(transition), self.fact(number, transition)))
                .collect();
            let life = Life::of(id, &history, (query.start, query.end));
            if life.is_some_and(|life| visit(life).is_break()) {
                break;
            }
        }
        Ok(())
    }

    fn began(&self, _: &TenantId, _: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(Some(Instant(BEGIN)))
    }

    fn ended(&self, _: &TenantId, _: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(None)
    }

    fn tenant_facts(&self, _: &TenantId, _: u64) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let activated = TenantFact::PolicyActivated {
            digest: self.policy,
            from: Instant(BEGIN),
            rollback: false,
            by: None,
            reason: None,
            options: Vec::new(),
        };
        let priced = |(from, book): &(i64, String)| TenantFact::PricesActivated {
            digest: Digest::of(book.as_bytes()),
            from: Instant(*from),
            by: Actor::Operator,
            name: None,
        };
        let said = std::iter::once(activated).chain(self.books.iter().map(priced));
        Ok((1..).zip(said.map(|said| self.said(said))).collect())
    }

    fn changed(&self, _: &TenantId, _: &News) -> Result<bool, EvidenceError> {
        Ok(false)
    }

    fn invoices(&self, _: &TenantId, _: u64) -> Result<Vec<StoredInvoice>, EvidenceError> {
        Ok(Vec::new())
    }

    fn calendar(&self, _: u64) -> Result<Calendar, EvidenceError> {
        Ok(Calendar::default())
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let found = self.books.iter().find(|(_, book)| Digest::of(book.as_bytes()) == digest);
        found
            .map(|(_, book)| book.clone().into_bytes())
            .ok_or_else(|| EvidenceError::Missing(digest.to_string()))
    }

    fn component(&self, _: Digest) -> Result<Vec<u8>, EvidenceError> {
        Ok(self.component.clone())
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        Ok(Head { seq, hash: FactHash([0; 32]) })
    }
}

/// The intervals of some instances as one request.
fn request(instances: usize) -> Request {
    let all = || {
        (0..instances)
            .flat_map(|instance| (0..TRANSITIONS).map(move |transition| (instance, transition)))
    };
    let end = |(instance, transition): (usize, usize)| {
        if transition + 1 == TRANSITIONS { END } else { at(instance, transition + 1) }
    };
    let subject = |number: usize| Subject {
        id: format!("i{number:05}"),
        name: String::new(),
        tags: Vec::new(),
    };
    Request {
        tenant: "default".into(),
        span: Span { start: BEGIN, end: END },
        subjects: (0..instances).map(subject).collect(),
        intervals: IntervalColumns {
            subject: all().map(|(instance, _)| instance as u32).collect(),
            phase: all().map(|(_, transition)| phase(transition) as u8).collect(),
            start: all().map(|(instance, transition)| at(instance, transition)).collect(),
            end: all().map(end).collect(),
            session: all().map(|(_, transition)| session(transition)).collect(),
            wakes: all().map(|(_, transition)| wakes(transition)).collect(),
            fact: (1..).take(instances * TRANSITIONS).collect(),
            dimensions: Vec::new(),
            counts: Vec::new(),
        },
        options: Vec::new(),
    }
}

/// The input but for the intervals: one book and one policy over the whole month.
fn header(policy: &Policy) -> Header {
    let terms = policy.terms(&[]).unwrap().value;
    let of = |terms: &metering::MeterTerms| {
        // Stretches of EC2's meters: by starts and wakes, and by lives.
        let stretch = match terms.stretch {
            metering::Stretch::Wake => Stretch::Wake,
            metering::Stretch::Life => Stretch::Life,
            other => panic!("no meter of EC2 has stretches by {}", other.as_str()),
        };
        assert_eq!(terms.rounding, metering::Rounding::Up);
        let minimum_ns = terms.minimum;
        let granularity_ns = terms.granularity;
        Some(Terms { stretch, minimum_ns, granularity_ns, rounding: Rounding::Up })
    };
    Header {
        form: FORM,
        period: biller::input::Span { start: BEGIN, end: END },
        first: BEGIN,
        last: END,
        until: END,
        calendar: vec![Offset { since: BEGIN, offset: 0 }],
        zones: Vec::new(),
        books: vec![BookInForce { from: BEGIN, until: END, text: BOOK.into() }],
        meters: terms.iter().map(|terms| terms.name.clone()).collect(),
        terms: vec![TermsInForce {
            from: BEGIN,
            until: END,
            terms: terms.iter().map(of).collect(),
        }],
        opening: Balances::default(),
        one_offs: Vec::new(),
        marks: Vec::new(),
    }
}

/// Measures a request, and bills the measurement.
fn billed(policy: &Policy, header: &Header, request: &Request) -> Bill {
    let measured = policy.measure(request).unwrap().value;
    let columns = request.intervals.clone();
    let intervals = Intervals {
        subject: columns.subject,
        start: columns.start,
        end: columns.end,
        session: columns.session,
        wakes: columns.wakes,
        meters: measured.counted,
        fact: columns.fact,
        dimensions: Vec::new(),
        counts: Vec::new(),
    };
    let subject = |(first_fact, of): (u64, &Subject)| biller::input::Subject {
        id: of.id.clone(),
        first_fact,
        ended: false,
    };
    let subjects: Vec<_> = (1..).zip(&request.subjects).map(subject).collect();
    biller::bill(header, &subjects, &intervals, &[]).unwrap()
}

pub(crate) fn policy(host: &PolicyHost) -> (Arc<Policy>, Vec<u8>) {
    let component = policies::component("ec2");
    let digest = host.admit(&component).unwrap().digest;
    (host.get(digest).unwrap(), component)
}

pub(crate) fn run(report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let host = PolicyHost::open(&folder.path().join("cache")).unwrap();
    let (policy, component) = policy(&host);
    beside_scripts(report, &policy);
    month(report, &host, component);
}

fn beside_scripts(report: &mut Report, policy: &Policy) {
    let request = request(INSTANCES_A_CALL);
    let lives = scripts::lives(&request, TRANSITIONS);
    let lua = scripts::Lua::new();
    let rhai = scripts::Rhai::new();
    let by_lua = || lives.iter().map(|life| lua.rate(life)).collect::<Vec<_>>();
    let by_rhai = || lives.iter().map(|life| rhai.rate(life)).collect::<Vec<_>>();
    let time_by_lua = || lives.iter().map(|life| lua.time(life)).collect::<Vec<_>>();
    let header = header(policy);
    let ours = scripts::in_their_words(&request, &billed(policy, &header, &request));
    assert!(
        scripts::agree(&ours, &by_lua()) && scripts::agree(&ours, &by_rhai()),
        "the scripts state other rules: {ours:?} {:?}",
        by_lua()
    );
    assert_eq!(ours.iter().map(|line| line.billed).collect::<Vec<_>>(), time_by_lua());
    let items = INSTANCES_A_CALL * TRANSITIONS;
    let mut candidates = [
        Candidate::new(items, || billed(policy, &header, black_box(&request))),
        Candidate::new(items, by_lua),
        Candidate::new(items, by_rhai),
        Candidate::new(items, time_by_lua),
    ];
    let times = side_by_side(ROUNDS, &mut candidates);
    let line = |what: &str, peer: f64, goal: Option<f64>| Line {
        what: what.into(),
        ours: nanos(times[0]),
        peer: nanos(peer),
        ratio: format!("{:.1}x faster", peer / times[0]),
        goal: goal.map_or_else(
            || "none: it makes no line".into(),
            |goal| format!("at least {goal}x faster"),
        ),
        holds: goal.map(|goal| peer >= goal * times[0]),
    };
    let lines = vec![
        line("lines; peer: Lua 5.4 (mlua), rows in and lines out", times[1], Some(10.0)),
        line("lines; peer: Rhai, rows in and lines out", times[2], Some(40.0)),
        line("lines; peer: Lua 5.4 (mlua), columns in and only the time out", times[3], None),
    ];
    report.table(
        "EC2's rules over 30,000 intervals of 10 instances, per interval; \
         ours measured by the component, checked by the host and billed; \
         peers: the same rules as scripts, the same lines",
        lines,
    );
}

fn month(report: &mut Report, host: &PolicyHost, component: Vec<u8>) {
    let month = Month::new(component, (INSTANCES, TRANSITIONS));
    let named =
        |id: &InstanceId| Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() });
    let done = AtomicU64::new(0);
    let all = month.intervals() as u64;
    let tell = |intervals: u64| {
        let done = done.fetch_add(intervals, Ordering::Relaxed) + intervals;
        if std::io::stderr().is_terminal() {
            eprint!("\rrating a month: {:>3} %", done * 100 / all);
            let _ = std::io::stderr().flush();
        }
    };
    forget_peak();
    let before = peak_bytes();
    let begin = Timer::now();
    let view = View::load(&month, &month.tenant, month.head()).unwrap();
    let calls = Engines::new(&month, host);
    let computer = Computer::new(&month, &calls, &named).reporting(&tell);
    let documents = computer.preview(view, Instant(END)).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = peak_bytes().saturating_sub(before);
    let lines: usize = documents.iter().map(|document| document.lines.len()).sum();
    assert!(lines >= INSTANCES, "{lines} lines");
    assert_eq!(done.load(Ordering::Relaxed), all);
    let each = 1e9 * seconds / all as f64;
    let lines = vec![
        Line::alone(
            "30,000,000 intervals, one core: from facts to lines, checked and hashed",
            format!("{:.2} M/s, {:.0} s", 1e3 / each, seconds),
            "2 M/s",
            each <= 500.0,
        ),
        Line::alone(
            "memory that it takes at most",
            format!("{} MiB", bytes >> 20),
            "under 256 MiB",
            bytes < 256 << 20,
        ),
    ];
    report.table(
        "A month of 10,000 instances with 100 transitions a day each, \
         rated again under EC2's rules",
        lines,
    );
}
