//! Random tenants, as the oracle has them, and the biller's view of them.

use std::collections::BTreeMap;

use biller::input::{
    Balances, BookInForce, Column, FORM, Header, Intervals, Offset, Rounding, Span, Stretch,
    Subject, Terms, TermsInForce, Zone,
};
use biller::output::Bill;
use proptest::prelude::*;
use serde_json::{Value, json};
use tallyman_oracle::{
    Agreement, BookSet, Instance, Meter, PeriodKind, Piece, Policy, PolicySet, Scenario, Step,
    StretchKind, TimeRounding,
};

use super::{BEGIN, SECOND, checked};

pub const DAY: i64 = super::DAY * SECOND;
const METERS: [&str; 2] = ["active", "held"];

/// The biller's view of one period of a scenario.
pub struct Period<'a> {
    pub scenario: &'a Scenario,
    pub span: Span,
    pub until: i64,
}

impl Period<'_> {
    pub fn bill(&self, opening: Balances) -> Bill {
        let header = self.header(opening);
        let (subjects, intervals) = self.intervals(&header);
        let bill = biller::bill(&header, &subjects, &intervals, &[]);
        checked(bill.unwrap_or_else(|error| panic!("{error}")))
    }

    pub fn header(&self, opening: Balances) -> Header {
        let first = self.scenario.first_fact.max(self.span.start);
        let last = self.scenario.ended.unwrap_or(i64::MAX).min(self.span.end);
        let offset = |step: &Step| Offset { since: step.at, offset: step.offset };
        Header {
            form: FORM,
            period: self.span,
            first,
            last,
            until: self.until,
            calendar: self.scenario.calendar.iter().map(offset).collect(),
            zones: vec![Zone { name: "UTC".into(), transitions: vec![(0, 0)] }],
            books: self.books(),
            meters: METERS.map(String::from).into(),
            terms: self.terms(),
            opening,
            one_offs: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Spans of the period with the value in force in each, of values set in order.
    fn cut<'b, T>(&self, all: &'b [T], from: impl Fn(&T) -> i64) -> Vec<(i64, i64, &'b T)> {
        let mut edges: Vec<_> = all.iter().map(&from).collect();
        edges.extend([self.span.start, self.span.end]);
        edges.retain(|edge| (self.span.start..=self.span.end).contains(edge));
        edges.sort_unstable();
        edges.dedup();
        let spans = edges.windows(2).filter_map(|edge| {
            let begun = all.iter().filter(|one| from(one) <= edge[0]);
            Some((edge[0], edge[1], begun.max_by_key(|one| from(one))?))
        });
        spans.collect()
    }

    fn books(&self) -> Vec<BookInForce> {
        let known: Vec<_> =
            self.scenario.books.iter().filter(|set| set.set_at <= self.until).cloned().collect();
        let spans = self.cut(&known, |set| set.from);
        let spans = spans.into_iter().map(|(from, until, set)| BookInForce {
            from,
            until,
            text: set.book.to_string(),
        });
        spans.collect()
    }

    fn terms(&self) -> Vec<TermsInForce> {
        let spans = self.cut(&self.scenario.policies, |set| set.from);
        let terms = |set: &PolicySet| {
            METERS.iter().map(|name| set.policy.meters.get(*name).map(terms)).collect()
        };
        let spans = spans.into_iter().map(|(from, until, set)| TermsInForce {
            from,
            until,
            terms: terms(set),
        });
        spans.collect()
    }

    pub fn intervals(&self, header: &Header) -> (Vec<Subject>, Intervals) {
        let column = |name: &&str| Column { name: (*name).into(), values: Vec::new() };
        let mut intervals = Intervals {
            dimensions: ["vcpu"].iter().map(column).collect(),
            counts: ["network-in-bytes"].iter().map(column).collect(),
            ..Intervals::default()
        };
        let mut subjects = Vec::new();
        for (number, instance) in (0_u32..).zip(&self.scenario.instances) {
            subjects.push(Subject {
                id: instance.id.clone(),
                first_fact: instance.first_fact.unsigned_abs(),
                ended: false,
            });
            for piece in &instance.pieces {
                let start = piece.from.max(header.first);
                let end = piece.to.min(header.until);
                for terms in &header.terms {
                    let start = start.max(terms.from);
                    let end = end.min(terms.until);
                    if start < end {
                        self.interval(&mut intervals, number, piece, (start, end));
                    }
                }
            }
        }
        (subjects, intervals)
    }

    fn interval(&self, into: &mut Intervals, number: u32, piece: &Piece, (start, end): (i64, i64)) {
        let begun = self.scenario.policies.iter().filter(|set| set.from <= start);
        let policy = &begun.max_by_key(|set| set.from).expect("a policy").policy;
        let counts = |name: &&str| {
            policy.meters.get(*name).is_some_and(|meter| meter.phases.contains(&piece.phase))
        };
        let bits = METERS.iter().enumerate().filter(|(_, name)| counts(name));
        into.subject.push(number);
        into.start.push(start);
        into.end.push(end);
        into.session.push(piece.session);
        into.wakes.push(piece.wakes);
        into.meters.push(bits.fold(0, |set, (bit, _)| set | 1 << bit));
        into.fact.push(u64::from(number));
        let of = |map: &BTreeMap<String, u64>, name: &str| map.get(name).copied().unwrap_or(0);
        into.dimensions[0].values.push(of(&piece.dimensions, "vcpu"));
        let count = if end == piece.to { of(&piece.counts, "network-in-bytes") } else { 0 };
        into.counts[0].values.push(count);
    }
}

fn terms(meter: &Meter) -> Terms {
    Terms {
        stretch: match meter.stretch {
            StretchKind::Start => Stretch::Start,
            StretchKind::Wake => Stretch::Wake,
            StretchKind::Visit => Stretch::Visit,
            StretchKind::Life => Stretch::Life,
        },
        minimum_ns: meter.minimum.unsigned_abs(),
        granularity_ns: meter.granularity.unsigned_abs().max(1),
        rounding: match meter.rounding {
            TimeRounding::Up => Rounding::Up,
            TimeRounding::Down => Rounding::Down,
            TimeRounding::HalfUp => Rounding::HalfUp,
        },
    }
}

/// An instant of two days; most of them are whole seconds.
pub fn instant() -> impl Strategy<Value = i64> {
    let seconds = prop_oneof![
        0..40_i64,
        (86_400 - 20..86_400 + 20_i64),
        Just(43_200_i64),
        Just(86_400_i64),
        0..172_800_i64,
    ];
    (seconds, prop_oneof![9 => Just(0_i64), 1 => 0..3_i64])
        .prop_map(|(at, more)| at * SECOND + more)
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(1)),
        Just(json!(0)),
        Just(json!("0.1")),
        Just(json!("1/3")),
        Just(json!("2.5")),
        Just(json!("0.000001/7")),
    ]
}

fn fee() -> impl Strategy<Value = Value> {
    prop_oneof![3 => Just(Value::Null), 1 => Just(json!(7)), 1 => Just(json!("0.3"))]
}

fn text(at: i64) -> Value {
    // The meter's zero is 2026-06-01; both days are in June.
    let seconds = at / SECOND;
    let day = seconds / 86_400 + 1;
    let rest = seconds % 86_400;
    let hours = rest / 3_600;
    let minutes = rest / 60 % 60;
    json!(format!("2026-06-{day:02}T{hours:02}:{minutes:02}:{:02}Z", rest % 60))
}

fn model() -> impl Strategy<Value = Value> {
    let flat = (number(), fee()).prop_map(|(price, once)| json!({"price": price, "once": once}));
    let included = (1..30_u32, number(), fee()).prop_map(
        |(included, price, once)| json!({"price": price, "included": included, "once": once}),
    );
    let package = (1..20_u32, number(), fee()).prop_map(|(package, price, once)| {
        json!({"model": "package", "package": package, "price": price, "once": once})
    });
    let tier = (1..15_u32, number(), fee());
    let tiers = (proptest::collection::vec(tier, 1..4), any::<bool>(), 0..2_u32);
    let tiers = tiers.prop_map(|(tiers, is_volume, odd)| {
        let mut end = 0;
        let last = tiers.len() - 1;
        let tiers = tiers.iter().enumerate().map(|(number, (more, price, once))| {
            end += more;
            // Ends inside of nanoseconds of several instances.
            let end = if odd == 1 { json!(format!("{end}.000000001")) } else { json!(end) };
            match number == last {
                true => json!({"price": price, "once": once}),
                false => json!({"up_to": end, "price": price, "once": once}),
            }
        });
        let tiers: Vec<_> = tiers.collect();
        json!({"model": if is_volume { "volume" } else { "graduated" }, "tiers": tiers})
    });
    prop_oneof![2 => flat, 1 => included, 2 => package, 4 => tiers]
}

/// Counts have no part smaller than one.
fn whole(model: Value, is_count: bool) -> Value {
    let fraction = if is_count { ".001" } else { ".000000001" };
    let text = model.to_string().replace(".000000001", fraction);
    serde_json::from_str(&text).expect("the same document")
}

fn merged(mut into: Value, fields: Value) -> Value {
    if let (Some(into), Value::Object(fields)) = (into.as_object_mut(), fields) {
        into.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    into
}

/// The prices of one rule: one, or two that follow each other, and one with windows.
fn rule(number: usize) -> impl Strategy<Value = Vec<Value>> {
    let (meter, per) = [
        ("active", "instance-second"),
        ("active", "vcpu-second"),
        ("held", "instance-minute"),
        ("held", "network-in-kB"),
    ][number];
    let scope = prop_oneof![Just("instance"), Just("tenant")];
    let resets = prop_oneof![4 => Just("period"), 1 => Just("never")];
    let models = (model(), model(), model());
    let shape = (0..4_u32, instant(), 0..24_u32, 1..24_u32);
    (scope, resets, models, shape).prop_map(move |(scope, resets, models, shape)| {
        let (kind, border, from, until) = shape;
        let price = |id: &str, model: Value, more: Value| {
            let is_volume = model["model"] == "volume";
            let resets = if is_volume { "period" } else { resets };
            let base = json!({"id": format!("{id}{number}"), "rule": format!("r{number}"),
                "meter": meter, "per": per, "scope": scope, "resets": resets});
            merged(merged(base, model), more)
        };
        let (one, two, three) = models;
        let [one, two, three] = [one, two, three].map(|model| whole(model, number == 3));
        let has_volume = [&one, &two, &three].iter().any(|model| model["model"] == "volume");
        let same = |mut prices: Vec<Value>| {
            // All prices of a rule are reset alike.
            if has_volume {
                prices.iter_mut().for_each(|price| price["resets"] = json!("period"));
            }
            prices
        };
        let window = json!([{"zone": "UTC", "from": format!("{from:02}:00"),
            "until": format!("{until:02}:30")}]);
        let windowed = price("w", three, json!({"windows": window}));
        let border = border.max(SECOND);
        match kind {
            0 => same(vec![price("p", one, json!({}))]),
            1 => same(vec![price("p", one, json!({})), windowed]),
            2 => same(vec![
                price("p", one, json!({"until": text(border)})),
                price("q", two, json!({"from": text(border)})),
            ]),
            _ => same(vec![windowed]),
        }
    })
}

fn adjustments() -> impl Strategy<Value = Vec<Value>> {
    let one = (0..5_usize, 1..60_u32, 0..4_u32, 0..3_u32, instant());
    proptest::collection::vec(one, 0..4).prop_map(|all| {
        let mut known = Vec::new();
        let mut adjustments = Vec::new();
        for (place, amount, rules, time, at) in all {
            let (id, kind) = [
                ("c1", "cap"),
                ("c2", "cap"),
                ("g1", "credit"),
                ("g2", "credit"),
                ("m1", "minimum"),
            ][place];
            if known.contains(&place) {
                continue;
            }
            known.push(place);
            // A grant has one amount for ever.
            let amount = if kind == "credit" { 10 + 15 * place } else { amount as usize };
            let rules = match rules {
                0 => json!(["r0"]),
                1 => json!(["r0", "r1"]),
                _ => Value::Null,
            };
            let key = ["", "from", "until"][time as usize];
            let mut more = json!({"rules": rules});
            if time > 0 {
                more[key] = text(at.max(SECOND));
            }
            adjustments.push(merged(json!({"id": id, "kind": kind, "amount": amount}), more));
        }
        adjustments
    })
}

fn book() -> impl Strategy<Value = Value> {
    let rounding = prop_oneof![Just("half-even"), Just("half-up"), Just("down"), Just("up")];
    let rules = (rule(0), rule(1), rule(2), rule(3), 1..16_u32);
    (rules, adjustments(), rounding, prop_oneof![Just(9), Just(2), 0..10_u32]).prop_map(
        |((r0, r1, r2, r3, which), adjustments, rounding, digits)| {
            let rules = [r0, r1, r2, r3].into_iter().enumerate();
            // Every rule that is named has to be there.
            let which = if adjustments.iter().any(|one| one["rules"].is_array()) {
                which | 3
            } else {
                which
            };
            let prices: Vec<_> =
                rules.filter(|(bit, _)| which & 1 << bit != 0).flat_map(|(_, rule)| rule).collect();
            json!({"currency": "EUR", "rounding": rounding, "line_digits": digits,
                "prices": prices, "adjustments": adjustments})
        },
    )
}

fn meter() -> impl Strategy<Value = Meter> {
    let kinds = vec![StretchKind::Start, StretchKind::Wake, StretchKind::Visit, StretchKind::Life];
    let kind = proptest::sample::select(kinds);
    let rounding =
        proptest::sample::select(&[TimeRounding::Up, TimeRounding::Down, TimeRounding::HalfUp][..]);
    let minimum = prop_oneof![2 => Just(0), 1 => 1..90_i64];
    let granularity = prop_oneof![2 => Just(0), 1 => 1..70_i64];
    let phases = proptest::sample::subsequence(vec!["running", "standby"], 1..=2);
    (kind, rounding, minimum, granularity, phases).prop_map(
        |(stretch, rounding, minimum, granularity, phases)| Meter {
            phases: phases.into_iter().map(String::from).collect(),
            stretch,
            minimum: minimum * SECOND,
            granularity: granularity * SECOND,
            rounding,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    (meter(), proptest::option::weighted(0.8, meter())).prop_map(|(active, held)| {
        let held = held.map(|held| ("held".to_owned(), held));
        let meters = [("active".to_owned(), active)].into_iter().chain(held).collect();
        Policy { meters, initializing_max: 600 * SECOND, unrated: false }
    })
}

fn instance(number: usize) -> impl Strategy<Value = Instance> {
    let piece = (0..30_i64, 1..60_i64, any::<bool>(), 0..3_u32, 0..4_u64, 0..3_000_u64);
    let pieces = proptest::collection::vec(piece, 1..5);
    (instant(), pieces, prop_oneof![4 => Just(1), 1 => Just(900_i64)]).prop_map(
        move |(start, pieces, scale)| {
            let mut at = start;
            let mut session = 1;
            let mut wakes = 0;
            let mut lives = Vec::new();
            for (gap, length, is_standby, change, vcpus, bytes) in pieces {
                let gap = if gap < 10 { gap } else { 0 };
                session += u32::from(change == 1);
                wakes += u32::from(change == 2);
                let from = at + gap * scale * SECOND;
                at = from + length * scale * SECOND;
                lives.push(Piece {
                    from,
                    to: at,
                    phase: if is_standby { "standby" } else { "running" }.into(),
                    session,
                    wakes,
                    dimensions: BTreeMap::from([("vcpu".to_owned(), vcpus)]),
                    counts: BTreeMap::from([("network-in-bytes".to_owned(), bytes)]),
                });
            }
            Instance { id: format!("m{number}"), first_fact: number as i64, pieces: lives }
        },
    )
}

pub fn scenario() -> impl Strategy<Value = Scenario> {
    let books = proptest::collection::vec((prop_oneof![Just(0), instant()], book()), 1..4);
    let policies = proptest::collection::vec((instant(), policy()), 0..3);
    let instances =
        (1..4_usize).prop_flat_map(|count| (0..count).map(instance).collect::<Vec<_>>());
    let step = proptest::option::weighted(0.2, (instant(), -3_700..3_700_i64));
    let ended = proptest::option::weighted(0.1, 30..172_800_i64);
    (books, policy(), policies, instances, step, ended).prop_map(
        |(books, first, policies, instances, step, ended)| {
            let mut calendar = vec![Step { at: 0, offset: BEGIN }];
            // Not across the border, where two periods would touch elsewhere.
            calendar.extend(
                step.filter(|(at, _)| (1..DAY / 2).contains(at))
                    .map(|(at, more)| Step { at, offset: BEGIN + more * SECOND }),
            );
            if calendar.len() > 1 {
                let back = Step { at: DAY / 2 + 7_777, offset: BEGIN };
                calendar.push(back);
            }
            let mut books: Vec<_> = books
                .into_iter()
                .map(|(from, book)| BookSet { set_at: from, from, book })
                .collect();
            books.sort_by_key(|set| set.from);
            let mut policies: Vec<_> =
                policies.into_iter().map(|(from, policy)| PolicySet { from, policy }).collect();
            policies.push(PolicySet { from: i64::MIN, policy: first });
            policies.sort_by_key(|set| set.from);
            let ended = ended.map(|ended| ended * SECOND);
            let instances = instances.into_iter().map(|one| until(one, ended)).collect();
            Scenario {
                agreement: Agreement { zone: "UTC".into(), kind: PeriodKind::Day, anchor: 1 },
                agreements: Vec::new(),
                first_fact: 0,
                ended,
                calendar,
                policies,
                books,
                instances,
                acts: Vec::new(),
                own: Vec::new(),
            }
        },
    )
}

/// An instance whose life ends with the tenant.
fn until(mut instance: Instance, ended: Option<i64>) -> Instance {
    let Some(ended) = ended else { return instance };
    instance.pieces.retain(|piece| piece.from < ended);
    instance.pieces.iter_mut().for_each(|piece| piece.to = piece.to.min(ended));
    instance
}
