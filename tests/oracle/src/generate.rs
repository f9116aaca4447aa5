//! Scenarios at random, small and close together so that things meet.
//!
//! A scenario is decoded from a sequence of numbers; 0 is always the plainest choice, so that
//! shrinking the numbers shrinks the scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use serde_json::{Value, json};

use crate::clock::{Calendar, DAY, Periods, Zone};
use crate::scenario::{
    Act, Agreement, AgreementSet, BookSet, Instance, Meter, Nanos, OneOff, Override, Own,
    PeriodKind, Piece, Policy, PolicySet, Scenario, Step, StretchKind, TimeRounding,
};

/// A number from the environment, or the one of each run of the suite: `ORACLE_SEED` picks other
/// cases, `ORACLE_CASES` how many.
///
/// # Panics
///
/// Panics if the variable holds no number.
#[must_use]
pub fn from_env<T: FromStr>(name: &str, of_suite: T) -> T {
    let Ok(text) = std::env::var(name) else { return of_suite };
    text.parse().unwrap_or_else(|_| panic!("{name} is a number, not '{text}'"))
}

/// Scenarios of up to three instances, policies, books and periods.
pub fn scenarios() -> impl Strategy<Value = Scenario> {
    vec(any::<u16>(), 0..600).prop_map(|choices| scenario(&choices))
}

/// Decodes a scenario from a sequence of numbers.
#[must_use]
pub fn scenario(choices: &[u16]) -> Scenario {
    Maker::new(Dice { choices, at: 0 }).scenario()
}

/// A reader of choices; where they end, all are 0.
struct Dice<'a> {
    choices: &'a [u16],
    at: usize,
}

impl Dice<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        (usize::from(choice) * bound) >> 16
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        let size = usize::try_from(to - from + 1).expect("a range");
        from + i64::try_from(self.below(size)).expect("in the range")
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    fn of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())].clone()
    }
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
];
/// Days around which a zone changes its clocks or a month ends.
const BEGINS: [&str; 6] = [
    "2026-06-01T00:00:00Z",
    "2026-03-27T22:00:00Z",
    "2026-10-24T10:00:00Z",
    "2026-03-07T10:00:00Z",
    "2026-04-04T05:00:00Z",
    "2028-02-28T11:30:00Z",
];
const PHASES: [&str; 6] = ["running", "paused", "standby", "initializing", "stopped", "unknown"];
const METERS: [&str; 2] = ["active", "allocated"];

/// Properties of a rule that all books of a scenario share, and the fields of its key.
struct Rule {
    name: &'static str,
    meter: &'static str,
    /// First word of the unit; a count if it is `network-in-B`.
    what: &'static str,
    is_tenants: bool,
    is_never_reset: bool,
}

struct Maker<'a> {
    dice: Dice<'a>,
    /// Unit of all durations in the scenario.
    tick: Nanos,
    calendar: Vec<Step>,
    agreement: Agreement,
    /// Instants around which changes happen; most happen around the first.
    landmarks: Vec<Nanos>,
    rules: Vec<Rule>,
    /// Credits with all their fields fixed.
    credits: Vec<Value>,
    digits: u32,
    /// Number of one-off charges and goodwill so far.
    one_offs: usize,
    /// Number of the next instance that is heard of late: a life that began once begins no later.
    late: usize,
}

impl<'a> Maker<'a> {
    fn new(mut dice: Dice<'a>) -> Self {
        let tick = dice.of(&[1_000_000_000, 1, 333_333_333, 60_000_000_000]);
        let begin: jiff::Timestamp = dice.of(&BEGINS).parse().expect("an instant");
        let begin = Nanos::try_from(begin.as_nanosecond()).expect("this century");
        let kind = dice.of(&[PeriodKind::Day, PeriodKind::Day, PeriodKind::Day, PeriodKind::Month]);
        let agreement = Agreement {
            zone: dice.of(&ZONES).to_owned(),
            kind,
            anchor: i8::try_from(dice.of(&[1, 15, 29, 31])).expect("a day"),
        };
        let calendar = vec![Step { at: 0, offset: begin }];
        let mut maker = Self {
            dice,
            tick,
            calendar,
            agreement,
            landmarks: Vec::new(),
            rules: Vec::new(),
            credits: Vec::new(),
            digits: 9,
            one_offs: 0,
            late: 9,
        };
        maker.set_landmarks(begin);
        maker
    }

    /// Sets landmarks at borders, noons and changes of clocks of the first days.
    fn set_landmarks(&mut self, begin: Nanos) {
        let periods = Periods::of(&self.agreement);
        let mut period = periods.before(begin);
        let mut landmarks = Vec::new();
        while landmarks.len() < 3 {
            period = periods.next(period);
            let border = periods.begin(period) - begin;
            landmarks.extend(Some(border).filter(|border| *border > 0));
        }
        let noon = landmarks[0] + DAY / 2;
        let zone = Zone::named(&self.agreement.zone);
        let changes = zone.changes(begin, begin + 3 * DAY).into_iter().map(|at| at - begin);
        landmarks.extend(changes);
        landmarks.push(noon);
        let focus = self.dice.below(landmarks.len());
        landmarks.swap(0, focus);
        self.landmarks = landmarks;
        if self.dice.chance(15) {
            let at = self.time();
            let by = self.dice.of(&[
                self.tick,
                5 * self.tick,
                -3 * self.tick,
                3_600_000_000_000,
                -3_600_000_000_000,
            ]);
            self.calendar.push(Step { at, offset: begin + by });
        }
    }

    /// An instant near a landmark, mostly near the same one.
    fn time(&mut self) -> Nanos {
        let landmark =
            if self.dice.chance(15) { self.dice.of(&self.landmarks) } else { self.landmarks[0] };
        landmark + self.dice.between(-12, 12) * self.tick
    }

    /// An instant of the calendar as books write it.
    fn wall(&mut self) -> String {
        let at = self.time();
        let wall = Calendar(self.calendar.clone()).reads(at);
        jiff::Timestamp::from_nanosecond(wall.into()).expect("an instant").to_string()
    }

    fn scenario(mut self) -> Scenario {
        let instances: Vec<Instance> =
            (0..1 + self.dice.below(3)).map(|number| self.instance(number)).collect();
        let policies = self.policies();
        self.set_rules();
        self.set_credits();
        let books = self.books();
        let acts = self.acts(&instances, &books);
        let first = instances.iter().map(|instance| instance.first_fact).min().unwrap_or(0);
        let first_fact = first - self.dice.of(&[0, self.tick, 10 * self.tick, DAY]);
        let last =
            instances.iter().flat_map(|instance| &instance.pieces).map(|piece| piece.to).max();
        let ended = self.dice.chance(5).then_some(last.unwrap_or(first) + self.tick);
        let own = self.own(&books);
        let agreements = self.agreements(first_fact);
        let mut scenario = Scenario {
            agreement: self.agreement,
            agreements,
            first_fact,
            ended,
            calendar: self.calendar,
            policies,
            books,
            instances,
            acts,
            own,
        };
        scenario.hold_what_is_learnt_inside_the_tenants_life();
        scenario
    }

    fn agreements(&mut self, first_fact: Nanos) -> Vec<AgreementSet> {
        let count = if self.dice.chance(30) { 1 + self.dice.below(2) } else { 0 };
        let mut sets = Vec::with_capacity(count);
        for _ in 0..count {
            let agreement = Agreement {
                zone: self.dice.of(&ZONES).to_owned(),
                kind: self.dice.of(&[PeriodKind::Day, PeriodKind::Day, PeriodKind::Month]),
                anchor: i8::try_from(self.dice.of(&[1, 15, 28, 31])).expect("a day"),
            };
            sets.push(AgreementSet { at: self.time().max(first_fact), agreement });
        }
        sets.sort_by_key(|set| set.at);
        sets
    }

    fn instance(&mut self, number: usize) -> Instance {
        let begin = self.time();
        let mut pieces: Vec<Piece> = Vec::new();
        for _ in 0..1 + self.dice.below(4) {
            let before = pieces.last();
            let from = before.map_or(begin, |piece| piece.to);
            let mut session = before.map_or(1, |piece| piece.session);
            let mut wakes = before.map_or(0, |piece| piece.wakes);
            let was = before.map_or("", |piece| piece.phase.as_str()).to_owned();
            let phase = if self.dice.chance(40) { self.dice.of(&PHASES) } else { "running" };
            if was == "standby" && phase != "standby" {
                wakes += 1;
            }
            if was == "stopped" && phase != "stopped" {
                session += 1;
            }
            let to = self.end_of_piece(from);
            let mut counts = BTreeMap::new();
            if self.dice.chance(50) {
                counts.insert("network-in-bytes".into(), self.dice.between(0, 20).unsigned_abs());
            }
            let dimensions = self.dimensions(pieces.last());
            pieces.push(Piece {
                from,
                to,
                phase: phase.into(),
                session,
                wakes,
                dimensions,
                counts,
            });
        }
        let first_fact = begin - self.dice.of(&[0, self.tick]);
        Instance { id: format!("instance-{number}"), first_fact, pieces }
    }

    fn end_of_piece(&mut self, from: Nanos) -> Nanos {
        if self.dice.chance(8) {
            let later: Vec<Nanos> =
                self.landmarks.iter().map(|at| at + self.tick).filter(|at| *at > from).collect();
            if !later.is_empty() {
                return self.dice.of(&later);
            }
        }
        from + self.dice.between(1, 14) * self.tick - self.dice.of(&[0, 0, 0, self.tick / 3])
    }

    fn dimensions(&mut self, before: Option<&Piece>) -> BTreeMap<String, u64> {
        if let Some(piece) = before.filter(|_| !self.dice.chance(20)) {
            return piece.dimensions.clone();
        }
        let vcpu = self.dice.of(&[1, 2, 3, 7]);
        let memory = self.dice.of(&[1, 5, 1 << 30]);
        BTreeMap::from([("vcpu".into(), vcpu), ("memory-byte".into(), memory)])
    }

    fn policies(&mut self) -> Vec<PolicySet> {
        let mut sets = vec![PolicySet { from: 0, policy: self.policy() }];
        for _ in 0..self.dice.below(3) {
            let policy = if self.dice.chance(30) { sets[0].policy.clone() } else { self.policy() };
            sets.push(PolicySet { from: self.time(), policy });
        }
        sets.sort_by_key(|set| set.from);
        sets
    }

    fn policy(&mut self) -> Policy {
        let mut meters = BTreeMap::new();
        for meter in METERS {
            if !self.dice.chance(5) {
                meters.insert(meter.to_owned(), self.meter(meter));
            }
        }
        let initializing_max = self.dice.of(&[600_000_000_000, 3 * self.tick]);
        Policy { meters, initializing_max, unrated: self.dice.chance(3) }
    }

    fn meter(&mut self, name: &str) -> Meter {
        let mut phases: BTreeSet<String> = ["running".to_owned()].into();
        if name == "allocated" {
            phases = PHASES.iter().map(|phase| (*phase).to_owned()).collect();
        }
        if self.dice.chance(20) {
            phases.insert(self.dice.of(&PHASES).to_owned());
        }
        let kinds = [StretchKind::Life, StretchKind::Start, StretchKind::Wake, StretchKind::Visit];
        let stretch = self.dice.of(&kinds);
        let minimum = if self.dice.chance(35) { self.dice.between(1, 20) * self.tick } else { 0 };
        let granularity =
            if self.dice.chance(30) { self.dice.between(2, 12) * self.tick } else { 0 };
        let roundings =
            [TimeRounding::Up, TimeRounding::Up, TimeRounding::Down, TimeRounding::HalfUp];
        Meter { phases, stretch, minimum, granularity, rounding: self.dice.of(&roundings) }
    }

    /// Sets the rules; no two charge one meter in one unit.
    fn set_rules(&mut self) {
        let whats = ["instance", "vcpu", "memory-B", "network-in-B"];
        let both = whats.into_iter().flat_map(|what| METERS.map(|meter| (meter, what)));
        let mut pairs: Vec<(&str, &str)> = both.collect();
        for name in ["a", "b", "c"].into_iter().take(1 + self.dice.below(3)) {
            let place = self.dice.below(pairs.len());
            let (meter, what) = pairs.remove(place);
            let is_tenants = self.dice.chance(45);
            let is_never_reset = self.dice.chance(20);
            self.rules.push(Rule { name, meter, what, is_tenants, is_never_reset });
        }
    }

    fn set_credits(&mut self) {
        for id in ["gift", "welcome"].into_iter().take(self.dice.below(3)) {
            let mut credit = json!({"id": id, "kind": "credit", "amount": self.amount()});
            self.limit(&mut credit);
            self.credits.push(credit);
        }
        self.digits = self.dice.of(&[9, 2, 0, 4]);
    }

    fn books(&mut self) -> Vec<BookSet> {
        let at = if self.dice.chance(25) { self.time() } else { 0 };
        let mut sets = vec![BookSet { set_at: at, from: at, book: self.book() }];
        for _ in 0..self.dice.below(3) {
            let book = if self.dice.chance(20) { sets[0].book.clone() } else { self.book() };
            let from = self.time().max(at);
            let set_at = if self.dice.chance(40) { at } else { from };
            sets.push(BookSet { set_at, from, book });
        }
        sets.sort_by_key(|set| set.from);
        sets
    }

    fn book(&mut self) -> Value {
        let mut prices = Vec::new();
        for number in 0..self.rules.len() {
            prices.extend(self.prices(number));
        }
        let mut adjustments = self.adjustments();
        // A book names only rules that it has.
        let has_rule = |rule: &Value| prices.iter().any(|price: &Value| price["rule"] == *rule);
        adjustments.retain_mut(|adjustment| {
            match adjustment.get_mut("rules").and_then(Value::as_array_mut) {
                Some(rules) => {
                    rules.retain(has_rule);
                    !rules.is_empty()
                }
                None => true,
            }
        });
        let roundings = ["half-even", "half-up", "down", "up"];
        json!({
            "currency": "EUR",
            "rounding": self.dice.of(&roundings),
            "line_digits": self.digits,
            "prices": prices,
            "adjustments": adjustments,
        })
    }

    /// The prices of a rule: one, or two that never hold at one instant.
    fn prices(&mut self, number: usize) -> Vec<Value> {
        if self.dice.chance(4) {
            return Vec::new();
        }
        let mut first = self.price(number, 0);
        let mut second = self.price(number, 1);
        // Few books change the key of a counter.
        if self.dice.chance(5) {
            let scope = self.dice.of(&["tenant", "instance"]);
            first["scope"] = json!(scope);
            second["scope"] = json!(scope);
        }
        match self.dice.below(4) {
            0 | 1 => vec![first],
            2 => {
                let border = self.wall();
                first["until"] = json!(border);
                second["from"] = json!(border);
                vec![first, second]
            }
            _ => {
                second["windows"] = json!([self.window()]);
                if self.dice.chance(20) {
                    return vec![second];
                }
                vec![first, second]
            }
        }
    }

    fn price(&mut self, number: usize, second: usize) -> Value {
        let rule = &self.rules[number];
        let is_count = rule.what == "network-in-B";
        let per = if is_count { rule.what.to_owned() } else { format!("{}-second", rule.what) };
        let mut price = json!({
            "id": format!("{}-{second}", rule.name),
            "rule": rule.name,
            "meter": rule.meter,
            "per": per,
            "scope": if rule.is_tenants { "tenant" } else { "instance" },
            "resets": if rule.is_never_reset { "never" } else { "period" },
        });
        let is_never_reset = self.rules[number].is_never_reset;
        let tick = if is_count { 1_000_000_000 } else { self.tick };
        let models = ["flat", "included", "graduated", "volume", "package"];
        let mut model = self.dice.of(&models);
        if model == "volume" && is_never_reset {
            model = "graduated";
        }
        match model {
            "graduated" | "volume" => {
                price["model"] = json!(model);
                price["tiers"] = self.tiers(tick);
            }
            "package" => {
                price["model"] = json!(model);
                price["package"] = json!(quantity(self.dice.between(1, 12), tick));
                price["price"] = self.money(1_000_000_000);
                self.fee(&mut price);
            }
            _ => {
                price["price"] = self.money(tick);
                if model == "included" {
                    price["included"] = json!(quantity(self.dice.between(1, 12), tick));
                }
                self.fee(&mut price);
            }
        }
        price
    }

    fn tiers(&mut self, tick: Nanos) -> Value {
        let mut tiers = Vec::new();
        let mut up_to = 0;
        for _ in 0..1 + self.dice.below(2) {
            up_to += self.dice.between(1, 12);
            let mut tier = json!({"up_to": quantity(up_to, tick), "price": self.money(tick)});
            self.fee(&mut tier);
            tiers.push(tier);
        }
        let mut last = json!({"price": self.money(tick)});
        self.fee(&mut last);
        tiers.push(last);
        json!(tiers)
    }

    fn fee(&mut self, of: &mut Value) {
        if self.dice.chance(20) {
            of["once"] = json!(self.dice.of(&["1", "5", "0.01", "2.5"]));
        }
    }

    /// A price of a few units of money per tick.
    fn money(&mut self, tick: Nanos) -> Value {
        let numerator = self.dice.of(&[1_i64, 2, 0, 3, 5, 10, 7]);
        let denominator = self.dice.of(&[1_i64, 1, 2, 3, 10, 9]);
        // Exact for a second: the tick is a part of it.
        let above = i128::from(numerator) * 1_000_000_000;
        let below = i128::from(denominator) * i128::from(tick);
        let common = num_integer::gcd(above, below);
        json!(format!("{}/{}", above / common, below / common))
    }

    fn window(&mut self) -> Value {
        let zone = if self.dice.chance(30) {
            self.dice.of(&ZONES).to_owned()
        } else {
            self.agreement.zone.clone()
        };
        let landmark = self.landmarks[0];
        let wall = Calendar(self.calendar.clone()).reads(landmark);
        let local = Zone::named(&zone).local(wall).rem_euclid(DAY);
        let shift = self.dice.of(&[0, 0, 60_000_000_000, -60_000_000_000]);
        let here = minute((local + shift).rem_euclid(DAY));
        let there = self.dice.of(&["00:00", "02:30", "12:00", "23:00", here.as_str()]).to_owned();
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> = days.into_iter().filter(|_| !self.dice.chance(15)).collect();
        let days = if days.is_empty() { vec!["mon"] } else { days };
        let is_turned = self.dice.chance(50);
        let (from, until) = if is_turned { (there, here) } else { (here, there) };
        // A day ends at 24:00.
        let until = if until == "00:00" { "24:00".to_owned() } else { until };
        json!({"zone": zone, "days": days, "from": from, "until": until})
    }

    fn adjustments(&mut self) -> Vec<Value> {
        let mut adjustments: Vec<Value> = Vec::new();
        for credit in self.credits.clone() {
            if self.dice.chance(85) {
                adjustments.push(credit);
            }
        }
        for (id, kind) in
            [("most", "cap"), ("least", "minimum"), ("more", "minimum"), ("lid", "cap")]
        {
            if self.dice.chance(30) {
                let mut adjustment = json!({"id": id, "kind": kind, "amount": self.amount()});
                if self.dice.chance(25) {
                    self.limit(&mut adjustment);
                }
                adjustments.push(adjustment);
            }
        }
        for place in (1..adjustments.len()).rev() {
            let with = place - self.dice.below(place + 1);
            adjustments.swap(place, with);
        }
        adjustments
    }

    /// Limits an adjustment, in some cases, to some rules or to a span of time.
    fn limit(&mut self, adjustment: &mut Value) {
        if self.dice.chance(30) {
            let rules: Vec<&str> = self.rules.iter().map(|rule| rule.name).collect();
            let first = self.dice.below(rules.len());
            adjustment["rules"] = json!(rules[first..]);
        }
        if self.dice.chance(20) {
            adjustment["from"] = json!(self.wall());
        } else if self.dice.chance(25) {
            adjustment["until"] = json!(self.wall());
        }
    }

    fn amount(&mut self) -> String {
        let amounts = ["10", "1", "5", "0.5", "20", "3.33", "12.345", "50", "0.000000001"];
        self.dice.of(&amounts).to_owned()
    }

    fn acts(&mut self, instances: &[Instance], books: &[BookSet]) -> Vec<Act> {
        let mut ends = vec![self.time().max(self.tick)];
        let lives = instances.iter().flat_map(|instance| &instance.pieces).map(|piece| piece.to);
        let last = lives.max().unwrap_or(0);
        ends.extend(
            (0..self.dice.below(3)).map(|_| self.dice.of(&[last, self.landmarks[0], last + DAY])),
        );
        ends.sort_unstable();
        let mut acts = Vec::new();
        for end in ends {
            acts.push(Act::Close(end));
            acts.extend(self.news(instances, books));
        }
        acts.push(Act::Settle);
        acts
    }

    fn news(&mut self, instances: &[Instance], books: &[BookSet]) -> Vec<Act> {
        let mut news = Vec::new();
        if self.dice.chance(30) {
            let mut instance = self.dice.of(instances);
            let late = self.instance(self.late);
            self.late += 1;
            match self.dice.below(3) {
                0 => instance.pieces.truncate(1),
                1 => instance.pieces = late.pieces,
                _ => instance = late,
            }
            let first = instance.pieces.first().map_or(0, |piece| piece.from);
            instance.first_fact = instance.first_fact.min(first);
            news.push(Act::Learn(instance));
        }
        if self.dice.chance(30) {
            news.push(Act::Override(self.replacement(books)));
        }
        if self.dice.chance(15) {
            let is_goodwill = self.dice.chance(60);
            let name = if is_goodwill { "goodwill" } else { "charge" };
            let at = self.time();
            let amount = i128::from(self.dice.between(1, 2_000)) * 10_000_000;
            let id = format!("{name}:{}", self.one_offs);
            self.one_offs += 1;
            news.push(Act::OneOff(OneOff { id, at, amount, is_goodwill }));
        }
        if self.dice.chance(4) {
            let mut steps = self.calendar.clone();
            steps[0].offset += self.tick;
            news.push(Act::Clock(steps));
        }
        if !news.is_empty() && self.dice.chance(60) {
            news.push(Act::Settle);
        }
        news
    }

    /// Lines of the policies' own, at prices that some book has. A package has no tier.
    fn own(&mut self, books: &[BookSet]) -> Vec<Own> {
        let prices = books.iter().flat_map(|set| set.book["prices"].as_array().into_iter());
        let is_of_tiers = |price: &&Value| price["model"] != "package";
        let ids = prices.flatten().filter(is_of_tiers).filter_map(|price| price["id"].as_str());
        let packages: BTreeSet<&str> = books
            .iter()
            .flat_map(|set| set.book["prices"].as_array().into_iter().flatten())
            .filter(|price| price["model"] == "package")
            .filter_map(|price| price["id"].as_str())
            .collect();
        let ids: Vec<String> = ids.filter(|id| !packages.contains(id)).map(str::to_owned).collect();
        if ids.is_empty() || !self.dice.chance(30) {
            return Vec::new();
        }
        let count = 1 + self.dice.below(3);
        let mut own = Vec::with_capacity(count);
        for _ in 0..count {
            let quantity = self.dice.between(0, 12).unsigned_abs() * self.tick.unsigned_abs();
            own.push(Own {
                rule: self.dice.of(&["extra", "surcharge"]).to_owned(),
                quantity,
                billed: if self.dice.chance(30) { 0 } else { quantity },
                price: self.dice.of(&ids),
                at: self.time(),
            });
        }
        own
    }

    fn replacement(&mut self, books: &[BookSet]) -> Override {
        let mut from = self.landmarks[0] - DAY;
        let mut to = self.landmarks[0] + DAY;
        if self.dice.chance(40) {
            from = self.time();
            to = from + self.dice.between(1, 20) * self.tick;
        }
        let is_policy = self.dice.chance(50);
        // No activation gives it options.
        let initializing_max = 600_000_000_000;
        let policy = is_policy.then(|| Policy { initializing_max, ..self.policy() });
        let again = self.dice.of(books).book;
        let fresh = self.book();
        let book = (!is_policy).then(|| if self.dice.chance(20) { again } else { fresh });
        Override { from, to, policy, book, from_begin: self.dice.chance(20) }
    }
}

impl Scenario {
    /// Drops the intervals of late facts after the tenant's end: a tenant ends after all facts.
    fn hold_what_is_learnt_inside_the_tenants_life(&mut self) {
        let Some(ended) = self.ended else { return };
        for act in &mut self.acts {
            if let Act::Learn(instance) = act {
                instance.pieces.retain(|piece| piece.to <= ended);
            }
        }
    }
}

/// A number of ticks in seconds, exactly.
fn quantity(ticks: i64, tick: Nanos) -> String {
    let nanos = ticks * tick;
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn minute(local: Nanos) -> String {
    let minutes = local / 60_000_000_000;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Features of scenarios, each of which the generator must reach.
pub const FEATURES: [&str; 19] = [
    "two prices",
    "windows",
    "swap",
    "late fact",
    "border",
    "tenant scope",
    "volume",
    "credit",
    "cap",
    "commitment",
    "minimum",
    "package",
    "fee",
    "override",
    "stand-in",
    "counts",
    "one-off",
    "own line",
    "agreement",
];

/// The features of [`FEATURES`] that a scenario has.
#[must_use]
pub fn features(scenario: &Scenario) -> BTreeSet<&'static str> {
    let books = || scenario.books.iter().map(|set| &set.book);
    let prices = || books().flat_map(|book| book["prices"].as_array().into_iter().flatten());
    let adjustments =
        || books().flat_map(|book| book["adjustments"].as_array().into_iter().flatten());
    let is_kind = |kind: &str| adjustments().any(|adjustment| adjustment["kind"] == kind);
    let has_fee = |price: &Value| {
        let tiers = price["tiers"].as_array().into_iter().flatten();
        std::iter::once(price).chain(tiers).any(|of| !of["once"].is_null())
    };
    let overrides = || {
        scenario.acts.iter().filter_map(|act| match act {
            Act::Override(with) => Some(with),
            Act::Close(_) | Act::Settle | Act::OneOff(_) | Act::Learn(_) | Act::Clock(_) => None,
        })
    };
    let meters = || scenario.policies.iter().flat_map(|set| set.policy.meters.values());
    let documents = crate::acts::run(scenario).documents;
    let periods: BTreeSet<&str> = documents.iter().map(|one| one.period.as_str()).collect();
    let has = [
        prices().any(|price| !price["until"].is_null()) || scenario.books.len() > 1,
        prices().any(|price| !price["windows"].is_null()),
        scenario.policies.len() > 1,
        scenario.acts.iter().any(|act| matches!(act, Act::Learn(_))),
        periods.len() > 1,
        prices().any(|price| price["scope"] == "tenant"),
        prices().any(|price| price["model"] == "volume"),
        is_kind("credit"),
        is_kind("cap"),
        is_kind("minimum"),
        meters().any(|meter| meter.minimum > 0 || meter.granularity > 0),
        prices().any(|price| price["model"] == "package"),
        prices().any(has_fee),
        overrides().any(|with| with.book.is_some()),
        overrides().any(|with| with.policy.is_some()),
        prices().any(|price| price["per"] == "network-in-B"),
        scenario.acts.iter().any(|act| matches!(act, Act::OneOff(_))),
        !scenario.own.is_empty(),
        !scenario.agreements.is_empty(),
    ];
    FEATURES.into_iter().zip(has).filter(|(_, has)| *has).map(|(feature, _)| feature).collect()
}
