//! Traffic on the bill, for generated histories, against a plain sum over its readings.

use proptest::prelude::*;

use super::*;

/// A step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// After so many seconds, so many bytes are read and a phase begins.
    Read { seconds: i64, bytes: u64, runs: bool },
    /// A byte costs so many euros from here on.
    Price(u64),
    /// A close up to now.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let read = (0..50_000_i64, 0..1_000_u64, any::<bool>());
    prop_oneof![
        4 => read.prop_map(|(seconds, bytes, runs)| Step::Read { seconds, bytes, runs }),
        1 => (1..9_u64).prop_map(Step::Price),
        1 => Just(Step::Close),
    ]
}

fn book(price: u64) -> String {
    format!(
        r#"{{"currency": "EUR", "prices": [{{"id": "in-{price}", "rule": "in", "meter": "active",
            "per": "network-in-B", "price": "{price}"}}]}}"#
    )
}

/// Cents of an amount such as `12.50`.
fn cents(amount: &str) -> i64 {
    let (euros, cents) = amount.split_once('.').expect("two digits of cents");
    let sign = if euros.starts_with('-') { -1 } else { 1 };
    euros.parse::<i64>().expect("euros") * 100 + sign * cents.parse::<i64>().expect("cents")
}

/// A history being made, and what its traffic comes to by adding up.
struct Told {
    shelf: Shelf,
    now: i64,
    /// Instant of the last reading, and whether the guest ran since.
    since: i64,
    ran: bool,
    /// Bytes read so far, and those of intervals without a length.
    bytes: u64,
    carried: u64,
    price: u64,
    euros: u64,
    billed_cents: i64,
}

impl Told {
    fn new() -> Self {
        let mut shelf = Shelf::with_book(&book(1));
        shelf.enter("i", 0, Phase::Running);
        Self {
            shelf,
            now: 0,
            since: 0,
            ran: true,
            bytes: 0,
            carried: 0,
            price: 1,
            euros: 0,
            billed_cents: 0,
        }
    }

    fn take(&mut self, step: &Step, closes: bool) {
        match *step {
            Step::Read { seconds, bytes, runs } => {
                self.now += seconds;
                self.read(bytes, runs);
            }
            Step::Price(price) => {
                // What passed under the price before is read before it changes.
                self.read(0, self.ran);
                self.shelf.put_prices(&book(price), self.now);
                self.price = price;
            }
            Step::Close if closes => self.close(),
            Step::Close => {}
        }
    }

    fn read(&mut self, bytes: u64, runs: bool) {
        self.bytes += bytes;
        self.carried += bytes;
        if self.now > self.since {
            let counted = if self.ran { self.carried } else { 0 };
            self.euros += counted * self.price;
            self.carried = 0;
        }
        let phase = if runs { Phase::Running } else { Phase::Stopped };
        self.shelf.enter("i", self.now, phase);
        let last = self.shelf.facts.last_mut().expect("a fact");
        let About::Instance(_, InstanceFact::Entered(entered)) = &mut last.about else {
            panic!("a fact of the instance");
        };
        entered.traffic = Traffic::of([self.bytes, 1, 0, 0]);
        self.since = self.now;
        self.ran = runs;
    }

    fn close(&mut self) {
        let paid = self.shelf.close(self.now);
        self.billed_cents += paid.iter().map(|amount| cents(amount)).sum::<i64>();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Each byte is charged once, at the price that was in force when it was read, however often
    /// and in whatever places of the history the periods are closed.
    #[test]
    fn each_byte_is_charged_once_at_the_price_under_which_it_was_read(
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        for closes in [true, false] {
            let mut told = Told::new();
            steps.iter().for_each(|step| told.take(step, closes));
            told.now += 1;
            told.read(0, false);
            told.now += 1;
            told.close();
            prop_assert_eq!(told.billed_cents, i64::try_from(told.euros * 100).expect("small"));
        }
    }
}
