//! Knowledge at a head: the policy, book and price in force at an instant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use crate::book::{Book, Model, Price};
use crate::clock::{Calendar, Zone};
use crate::scenario::{Instance, Nanos, OneOff, Override, Own, Policy, Scenario, Step};

pub(crate) struct Known<'a> {
    scenario: &'a Scenario,
    pub(crate) calendar: Calendar,
    pub(crate) instances: BTreeMap<String, Instance>,
    books: Vec<SetBook>,
    overrides: Vec<(Override, Option<Rc<Book>>)>,
    one_offs: Vec<OneOff>,
    pub(crate) zones: BTreeMap<String, Zone>,
    /// The texts of all books, by their address.
    pub(crate) texts: HashMap<*const Book, serde_json::Value>,
}

struct SetBook {
    set_at: Nanos,
    from: Nanos,
    book: Rc<Book>,
}

impl<'a> Known<'a> {
    pub(crate) fn at_first(scenario: &'a Scenario) -> Self {
        let mut known = Self {
            scenario,
            calendar: Calendar(scenario.calendar.clone()),
            instances: BTreeMap::new(),
            books: Vec::new(),
            overrides: Vec::new(),
            one_offs: Vec::new(),
            zones: BTreeMap::new(),
            texts: HashMap::new(),
        };
        for set in &scenario.books {
            let book = known.read(&set.book);
            known.books.push(SetBook { set_at: set.set_at, from: set.from, book });
        }
        for instance in &scenario.instances {
            known.learn(instance);
        }
        known
    }

    fn read(&mut self, text: &serde_json::Value) -> Rc<Book> {
        let book = Book::read(text);
        for window in book.prices.iter().flat_map(|price| &price.windows) {
            let zone = || Zone::named(&window.zone);
            self.zones.entry(window.zone.clone()).or_insert_with(zone);
        }
        let book = Rc::new(book);
        self.texts.insert(Rc::as_ptr(&book), text.clone());
        book
    }

    pub(crate) fn learn(&mut self, instance: &Instance) {
        self.instances.insert(instance.id.clone(), instance.clone());
    }

    pub(crate) fn set_clock(&mut self, steps: &[Step]) {
        self.calendar = Calendar(steps.to_vec());
    }

    pub(crate) fn replace(&mut self, with: &Override) {
        let book = with.book.as_ref().map(|text| self.read(text));
        self.overrides.push((with.clone(), book));
    }

    pub(crate) fn record(&mut self, one: &OneOff) {
        self.one_offs.push(one.clone());
    }

    /// The charges, or the goodwill, before an instant, in the order in which they act.
    pub(crate) fn one_offs(&self, is_goodwill: bool, before: Nanos) -> Vec<&OneOff> {
        let is_meant = |one: &&OneOff| one.is_goodwill == is_goodwill && one.at < before;
        let mut some: Vec<&OneOff> = self.one_offs.iter().filter(is_meant).collect();
        some.sort_by_key(|one| (one.at, &one.id));
        some
    }

    /// The policies' own lines in some time, each with its price.
    pub(crate) fn own(&self, from: Nanos, to: Nanos) -> Vec<(&Own, &Price)> {
        let is_inside = |own: &&Own| from <= own.at && own.at < to;
        let priced = self.scenario.own.iter().filter(is_inside).filter_map(|own| {
            let book = self.book(own.at)?;
            let price = book.prices.iter().find(|price| price.id == own.price)?;
            let has_tiers = !matches!(price.model, Model::Package { .. });
            has_tiers.then_some((own, price))
        });
        priced.collect()
    }

    pub(crate) fn first_fact(&self) -> Nanos {
        let facts = self.instances.values().map(|instance| instance.first_fact);
        facts.chain([self.scenario.first_fact]).min().expect("the tenant's creation")
    }

    pub(crate) fn ended(&self) -> Nanos {
        self.scenario.ended.unwrap_or(Nanos::MAX)
    }

    pub(crate) fn policy(&self, at: Nanos) -> Option<&Policy> {
        let by_override = self.overrides.iter().rev().find_map(|(with, _)| {
            let policy = with.policy.as_ref()?;
            (with.from <= at && at < with.to).then_some(policy)
        });
        let begun = self.scenario.policies.iter().filter(|set| set.from <= at);
        let in_force = begun.max_by_key(|set| set.from).map(|set| &set.policy);
        by_override.or(in_force)
    }

    /// The book at an instant, if nothing is set after `told`.
    pub(crate) fn planned_book(&self, at: Nanos, told: Nanos) -> Option<&Rc<Book>> {
        if at < self.first_fact() {
            return None;
        }
        let begun = self.books.iter().filter(|set| set.set_at <= told && set.from <= at);
        let in_force = begun.max_by_key(|set| (set.from, set.set_at)).map(|set| &set.book);
        let by_override = self.overrides.iter().rev().find_map(|(with, book)| {
            let stands = with.from_begin || in_force.is_some();
            book.as_ref().filter(|_| with.from <= at && at < with.to && stands)
        });
        by_override.or(in_force)
    }

    pub(crate) fn book(&self, at: Nanos) -> Option<&Rc<Book>> {
        self.planned_book(at, Nanos::MAX)
    }

    pub(crate) fn price<'b>(&self, book: &'b Book, rule: &str, at: Nanos) -> Option<&'b Price> {
        let wall = self.calendar.reads(at);
        let holds = |price: &&Price| {
            let by_window =
                price.windows.iter().any(|window| window.holds(&self.zones[&window.zone], wall));
            price.rule == rule && price.valid.holds(wall) && (price.windows.is_empty() || by_window)
        };
        let (without, with): (Vec<&Price>, Vec<&Price>) =
            book.prices.iter().filter(holds).partition(|price| price.windows.is_empty());
        assert!(with.len() < 2 && without.len() < 2, "two prices of {rule} hold at {at}");
        with.first().or(without.first()).copied()
    }

    /// The instants from `from` to `to`, both included, at which anything may change.
    pub(crate) fn edges(&self, from: Nanos, to: Nanos) -> BTreeSet<Nanos> {
        let mut edges = BTreeSet::from([from, to, self.first_fact(), self.ended()]);
        edges.extend(self.calendar.0.iter().map(|step| step.at));
        edges.extend(self.scenario.policies.iter().map(|set| set.from));
        edges.extend(self.overrides.iter().flat_map(|(with, _)| [with.from, with.to]));
        edges.extend(self.books.iter().map(|set| set.from));
        let begun = self.books.iter().filter(|set| set.from < to).map(|set| &set.book);
        let of_overrides = self.overrides.iter().filter_map(|(_, book)| book.as_ref());
        for book in begun.chain(of_overrides) {
            edges.extend(self.edges_of_book(book, from, to));
        }
        for instance in self.instances.values() {
            edges.extend(self.edges_of_life(instance));
        }
        edges.retain(|edge| (from..=to).contains(edge));
        edges
    }

    fn edges_of_book(&self, book: &Book, from: Nanos, to: Nanos) -> BTreeSet<Nanos> {
        let mut edges = BTreeSet::new();
        let prices = book.prices.iter().map(|price| &price.valid);
        for valid in prices.chain(book.adjustments.iter().map(|adjustment| &adjustment.valid)) {
            edges.extend(valid.crossings(&self.calendar));
        }
        let walls = self.calendar.0.iter().flat_map(|step| [from + step.offset, to + step.offset]);
        let walls: BTreeSet<Nanos> = walls.collect();
        let (Some(&first), Some(&last)) = (walls.first(), walls.last()) else {
            return edges;
        };
        for window in book.prices.iter().flat_map(|price| &price.windows) {
            for wall in window.edges(&self.zones[&window.zone], first, last) {
                edges.extend(self.calendar.crossings(wall));
            }
        }
        edges
    }

    fn edges_of_life(&self, instance: &Instance) -> BTreeSet<Nanos> {
        let mut edges = BTreeSet::new();
        for piece in &instance.pieces {
            // A count is charged in the last nanosecond.
            edges.extend([piece.from, piece.to - 1, piece.to]);
            if piece.phase == "initializing" {
                let begin = initializing_since(instance, piece.from);
                edges.extend(
                    self.policies().map(|policy| begin.saturating_add(policy.initializing_max)),
                );
            }
        }
        edges
    }

    /// All policies that are in force at any time.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        let set = self.scenario.policies.iter().map(|set| &set.policy);
        set.chain(self.overrides.iter().filter_map(|(with, _)| with.policy.as_ref()))
    }
}

/// The instant since which an instance that is `initializing` at `at` has been so.
pub(crate) fn initializing_since(instance: &Instance, at: Nanos) -> Nanos {
    let mut since = at;
    for piece in instance.pieces.iter().rev().filter(|piece| piece.from <= at) {
        let touches = piece.to >= since;
        if piece.phase != "initializing" || !touches {
            break;
        }
        since = piece.from;
    }
    since
}
