//! Price books: a tenant's prices, options and currency as one JSON document, checked once and then known by its SHA-256.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::rating::{Adjustment, Price, PriceBook, Ratio, Setting, Span, Tier, Window, signed_words, words};
use super::zones;
use crate::billing::calendar::Calendar;
use crate::billing::currency::Currency;
use crate::billing::decimal::Decimal;
use crate::billing::per::Per;
use crate::id::Digest;
use crate::limits::policy as limits;

/// A price book that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    digest: Digest,
    currency: Currency,
    rounding: Rounding,
    line_digits: u8,
    options: Vec<Setting>,
    prices: Vec<Checked<Price>>,
    adjustments: Vec<Checked<Adjustment>>,
}

/// An entry, and when it is valid by the calendar: nanoseconds since 1970 in UTC.
#[derive(Debug, Clone, PartialEq)]
struct Checked<T> {
    entry: T,
    utc: Span,
}

/// Why a document is no price book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// It is too large.
    #[error("a price book has at most {max} bytes; this one has {0}", max = limits::BOOK_BYTES_MAX)]
    TooLarge(usize),
    /// It is not the JSON that is expected.
    #[error("{0}")]
    Json(String),
    /// A value makes no sense.
    #[error("{place}: {problem}")]
    Value {
        /// Where, such as `prices[2].per`.
        place: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum Rounding {
    #[default]
    HalfEven,
    HalfUp,
    Down,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    #[default]
    Instance,
    Tenant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum Resets {
    #[default]
    Period,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Model {
    Flat,
    Graduated,
    Volume,
    Package,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AdjustmentKind {
    Minimum,
    Cap,
    Credit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A number as a text or a whole number; never a float.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    currency: String,
    #[serde(default)]
    rounding: Rounding,
    line_digits: Option<u8>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    prices: Vec<PriceEntry>,
    #[serde(default)]
    adjustments: Vec<AdjustmentEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceEntry {
    id: String,
    rule: String,
    meter: String,
    per: String,
    price: Option<Number>,
    included: Option<Number>,
    once: Option<Number>,
    package: Option<Number>,
    model: Option<Model>,
    tiers: Option<Vec<TierEntry>>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    resets: Resets,
    from: Option<String>,
    until: Option<String>,
    #[serde(default)]
    windows: Vec<WindowEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierEntry {
    up_to: Option<Number>,
    price: Number,
    once: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowEntry {
    zone: String,
    days: Option<Vec<Day>>,
    from: String,
    until: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentEntry {
    id: String,
    kind: AdjustmentKind,
    amount: Number,
    #[serde(default)]
    rules: Vec<String>,
    from: Option<String>,
    until: Option<String>,
}

type Checking<T> = Result<T, BookError>;

impl Book {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// [`BookError`], with the place and with what would be right.
    pub fn parse(bytes: &[u8]) -> Checking<Self> {
        if bytes.len() > limits::BOOK_BYTES_MAX {
            return Err(BookError::TooLarge(bytes.len()));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|error| BookError::Json(error.to_string()))?;
        let currency: Currency = document.currency.parse().map_err(|error| wrong("currency", error))?;
        let line_digits = document.line_digits.unwrap_or(9);
        if line_digits > 9 {
            return Err(wrong("line_digits", format!("{line_digits} is more than 9, which is a nano-unit")));
        }
        let mut prices = Vec::with_capacity(document.prices.len());
        for (number, entry) in document.prices.iter().enumerate() {
            prices.push(entry.check(&format!("prices[{number}]"))?);
        }
        let mut adjustments = Vec::with_capacity(document.adjustments.len());
        for (number, entry) in document.adjustments.iter().enumerate() {
            adjustments.push(entry.check(&format!("adjustments[{number}]"))?);
        }
        check_ids(&prices, &adjustments)?;
        check_rules(&prices)?;
        check_adjusted(&prices, &adjustments)?;
        prices.sort_by(|one, other| one.entry.id.cmp(&other.entry.id));
        let options = settings(document.options)?;
        let rounding = document.rounding;
        Ok(Self { digest: Digest::of(bytes), currency, rounding, line_digits, options, prices, adjustments })
    }

    /// A book without prices and currency, for tenants that have none.
    pub fn none() -> Self {
        Self {
            digest: Digest::of(b""),
            currency: Currency::NONE,
            rounding: Rounding::default(),
            line_digits: 9,
            options: Vec::new(),
            prices: Vec::new(),
            adjustments: Vec::new(),
        }
    }

    /// SHA-256 of the document as it was given.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What its prices are in.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The rounding of lines and of the sum.
    pub fn rounding(&self) -> &'static str {
        match self.rounding {
            Rounding::HalfEven => "half-even",
            Rounding::HalfUp => "half-up",
            Rounding::Down => "down",
            Rounding::Up => "up",
        }
    }

    /// How many prices it has.
    pub fn len(&self) -> usize {
        self.prices.len()
    }

    /// Whether it has no price at all.
    pub fn is_empty(&self) -> bool {
        self.prices.is_empty()
    }

    /// The rules that it has prices for, sorted.
    pub fn rules(&self) -> Vec<&str> {
        let mut rules: Vec<_> = self.prices.iter().map(|price| price.entry.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// The options for the policy, sorted by name.
    pub fn options(&self) -> &[Setting] {
        &self.options
    }

    /// The time zones that its windows name, sorted.
    pub fn zones(&self) -> Vec<&str> {
        let windows = self.prices.iter().flat_map(|price| &price.entry.windows);
        let mut zones: Vec<_> = windows.map(|window| window.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    /// The book as a policy gets it: what is valid by the calendar is valid from and until instants of the meter.
    pub fn on_meter(&self, calendar: &Calendar) -> PriceBook {
        let meter = |utc: Span| Span { start: bound(calendar, utc.start), end: bound(calendar, utc.end) };
        let price = |price: &Checked<Price>| Price { valid: meter(price.utc), ..price.entry.clone() };
        let adjustment = |one: &Checked<Adjustment>| Adjustment { valid: meter(one.utc), ..one.entry.clone() };
        PriceBook {
            digest: self.digest.to_string(),
            currency: self.currency.code().into(),
            minor_digits: self.currency.minor_digits(),
            line_digits: self.line_digits,
            rounding: self.rounding().into(),
            prices: self.prices.iter().map(price).collect(),
            adjustments: self.adjustments.iter().map(adjustment).collect(),
        }
    }
}

/// The ends of time stay where they are.
fn bound(calendar: &Calendar, utc_ns: i64) -> i64 {
    if utc_ns == i64::MIN || utc_ns == i64::MAX { utc_ns } else { calendar.meter(utc_ns).0 }
}

fn wrong(place: impl Into<String>, problem: impl fmt::Display) -> BookError {
    BookError::Value { place: place.into(), problem: problem.to_string() }
}

fn word(place: &str, text: &str) -> Checking<String> {
    let fits = (1..=limits::WORD_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    match fits {
        true => Ok(text.into()),
        false => Err(wrong(place, format!("must have 1 to {} bytes of text", limits::WORD_BYTES_MAX))),
    }
}

impl Number {
    /// `a` or `a/b`, over 1 or more.
    fn fraction(&self, place: &str) -> Checking<(Decimal, u128)> {
        let decimal = |text: &str| text.parse::<Decimal>().map_err(|error| wrong(place, error));
        match self {
            Number::Whole(units) => Ok((Decimal { units: (*units).into(), digits: 0 }, 1)),
            Number::Text(text) => match text.split_once('/') {
                None => Ok((decimal(text)?, 1)),
                Some((above, below)) => {
                    let below: u64 = below.parse().map_err(|_| wrong(place, "a whole number belongs after '/'"))?;
                    if below == 0 {
                        return Err(wrong(place, "a number over 0 is none"));
                    }
                    Ok((decimal(above)?, below.into()))
                }
            },
        }
    }

    fn not_negative(&self, place: &str) -> Checking<(Decimal, u128)> {
        let (number, below) = self.fraction(place)?;
        if number.units < 0 { Err(wrong(place, "must not be negative")) } else { Ok((number, below)) }
    }

    /// Money in nano-units.
    fn nanos(&self, place: &str) -> Checking<i128> {
        let (number, below) = self.not_negative(place)?;
        let nanos = number.scaled(9).filter(|_| below == 1);
        nanos.ok_or_else(|| wrong(place, "must have at most 9 digits after the point"))
    }

    /// The price of one unit, given for how many of them this is.
    fn price(&self, place: &str, units: u128) -> Checking<Ratio> {
        let (number, below) = self.not_negative(place)?;
        let large = || wrong(place, "has too many digits");
        let nanos = Decimal { units: number.units, digits: number.digits };
        // Digits past the ninth go below.
        let (numerator, more) = match nanos.scaled(9) {
            Some(numerator) => (numerator, 1),
            None => (number.units, 10_u128.pow(number.digits.saturating_sub(9))),
        };
        let denominator = units.checked_mul(below).and_then(|units| units.checked_mul(more)).ok_or_else(large)?;
        Ok(Ratio { numerator: signed_words(numerator), denominator: words(denominator) })
    }

    /// A quantity in what prices are for, as a number of the units below it.
    fn quantity(&self, place: &str, units: u128) -> Checking<u128> {
        let (number, below) = self.not_negative(place)?;
        let exact = || {
            let above = number.units.unsigned_abs().checked_mul(units)?;
            let below = below.checked_mul(10_u128.checked_pow(number.digits)?)?;
            (above % below == 0).then_some(above / below)
        };
        exact().ok_or_else(|| wrong(place, "is no whole number of nanoseconds and units, or too large"))
    }
}

impl PriceEntry {
    fn check(&self, place: &str) -> Checking<Checked<Price>> {
        let at = |field: &str| format!("{place}.{field}");
        let per: Per = self.per.parse().map_err(|error| wrong(at("per"), error))?;
        let (model, tiers) = self.tiers(place, per.units)?;
        let mut windows = Vec::with_capacity(self.windows.len());
        for (number, window) in self.windows.iter().enumerate() {
            windows.push(window.check(&format!("{place}.windows[{number}]"))?);
        }
        let utc = validity(place, self.from.as_deref(), self.until.as_deref())?;
        let entry = Price {
            rule: word(&at("rule"), &self.rule)?,
            id: word(&at("id"), &self.id)?,
            meter: word(&at("meter"), &self.meter)?,
            unit: per.unit,
            per: self.per.clone(),
            measure: per.measure,
            measure_units: words(per.measure_units),
            valid: utc,
            windows,
            scope: if self.scope == Scope::Tenant { "tenant".into() } else { "instance".into() },
            resets: if self.resets == Resets::Never { "never".into() } else { "period".into() },
            model: model.into(),
            tiers,
        };
        Ok(Checked { entry, utc })
    }

    /// The model and its tiers. `included` is a first tier for nothing.
    fn tiers(&self, place: &str, units: u128) -> Checking<(&'static str, Vec<Tier>)> {
        let at = |field: &str| format!("{place}.{field}");
        let model = self.model.unwrap_or(if self.tiers.is_some() { Model::Graduated } else { Model::Flat });
        let needs = |field: &str, what: &str| wrong(at(field), what.to_owned());
        match (model, &self.price, &self.tiers) {
            (Model::Flat | Model::Package, Some(price), None) => {
                let up_to = match (&self.package, model) {
                    (Some(package), Model::Package) => Some(package.quantity(&at("package"), units)?),
                    (None, Model::Flat) => None,
                    (Some(_), _) => return Err(needs("package", "is for the model package alone")),
                    (None, _) => return Err(needs("package", "is missing: how much one package holds")),
                };
                if up_to == Some(0) {
                    return Err(needs("package", "must be more than 0"));
                }
                // The price of a package is that of one unit times its size.
                let of = up_to.unwrap_or(units);
                let once = once(self.once.as_ref(), &at("once"))?;
                let tier = Tier { up_to: up_to.map(words), price: price.price(&at("price"), of)?, once };
                self.with_included(place, units, model, tier)
            }
            (Model::Graduated | Model::Volume, None, Some(tiers)) => {
                for (field, is_there) in [
                    ("package", self.package.is_some()),
                    ("included", self.included.is_some()),
                    ("once", self.once.is_some()),
                ] {
                    if is_there {
                        return Err(needs(field, "does not go with tiers; say it in the tiers"));
                    }
                }
                let name = if model == Model::Volume { "volume" } else { "graduated" };
                Ok((name, check_tiers(tiers, &at("tiers"), units)?))
            }
            (Model::Flat | Model::Package, _, _) => {
                Err(needs("price", "a flat or package price has `price` and no `tiers`"))
            }
            (Model::Graduated | Model::Volume, _, _) => {
                Err(needs("tiers", "a graduated or volume price has `tiers` and no `price`"))
            }
        }
    }

    fn with_included(&self, place: &str, units: u128, model: Model, tier: Tier) -> Checking<(&'static str, Vec<Tier>)> {
        let place = format!("{place}.included");
        match (&self.included, model) {
            (None, Model::Package) => Ok(("package", vec![tier])),
            (None, _) => Ok(("flat", vec![tier])),
            (Some(_), Model::Package) => Err(wrong(place, "does not go with packages")),
            (Some(included), _) => {
                let up_to = Some(words(included.quantity(&place, units)?));
                let free = Ratio { numerator: signed_words(0), denominator: tier.price.denominator };
                Ok(("graduated", vec![Tier { up_to, price: free, once: signed_words(0) }, tier]))
            }
        }
    }
}

fn once(number: Option<&Number>, place: &str) -> Checking<super::rating::S128Words> {
    Ok(signed_words(number.map(|number| number.nanos(place)).transpose()?.unwrap_or(0)))
}

fn check_tiers(entries: &[TierEntry], place: &str, units: u128) -> Checking<Vec<Tier>> {
    if entries.is_empty() || entries.len() > limits::TIERS_MAX {
        return Err(wrong(place, format!("a price has 1 to {} tiers", limits::TIERS_MAX)));
    }
    let (mut tiers, mut end) = (Vec::with_capacity(entries.len()), 0);
    for (number, entry) in entries.iter().enumerate() {
        let at = |field: &str| format!("{place}[{number}].{field}");
        let is_last = number + 1 == entries.len();
        let up_to = entry.up_to.as_ref().map(|up_to| up_to.quantity(&at("up_to"), units)).transpose()?;
        match up_to {
            Some(_) if is_last => return Err(wrong(at("up_to"), "the last tier has no end")),
            None if !is_last => return Err(wrong(at("up_to"), "is missing: only the last tier has no end")),
            Some(up_to) if up_to <= end => return Err(wrong(at("up_to"), "must be more than that of the tier before")),
            Some(up_to) => end = up_to,
            None => {}
        }
        let price = entry.price.price(&at("price"), units)?;
        tiers.push(Tier { up_to: up_to.map(words), price, once: once(entry.once.as_ref(), &at("once"))? });
    }
    Ok(tiers)
}

impl WindowEntry {
    fn check(&self, place: &str) -> Checking<Window> {
        let at = |field: &str| format!("{place}.{field}");
        if !zones::is_known(&self.zone) {
            let problem = format!("'{}' is no time zone of the IANA database, such as Europe/Berlin", self.zone);
            return Err(wrong(at("zone"), problem));
        }
        let days = match &self.days {
            None => 0b111_1111,
            Some(days) => days.iter().fold(0, |set, &day| set | 1 << day as u8),
        };
        if days == 0 {
            return Err(wrong(at("days"), "at least one day; all, if absent"));
        }
        let from_minute = minute(&self.from).filter(|&minute| minute < 1_440);
        let until_minute = minute(&self.until).filter(|&minute| minute > 0);
        let unknown = |field: &str, range: &str| wrong(at(field), format!("write the local time as HH:MM, {range}"));
        Ok(Window {
            zone: self.zone.clone(),
            days,
            from_minute: from_minute.ok_or_else(|| unknown("from", "00:00 to 23:59"))?,
            until_minute: until_minute.ok_or_else(|| unknown("until", "00:01 to 24:00"))?,
        })
    }
}

/// The minute of the day that `HH:MM` names.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 1_440).then_some(minute)
}

impl AdjustmentEntry {
    fn check(&self, place: &str) -> Checking<Checked<Adjustment>> {
        let at = |field: &str| format!("{place}.{field}");
        let utc = validity(place, self.from.as_deref(), self.until.as_deref())?;
        let amount = self.amount.nanos(&at("amount"))?;
        if amount == 0 {
            return Err(wrong(at("amount"), "must be more than 0"));
        }
        let kind = match self.kind {
            AdjustmentKind::Minimum => "minimum",
            AdjustmentKind::Cap => "cap",
            AdjustmentKind::Credit => "credit",
        };
        let entry = Adjustment {
            id: word(&at("id"), &self.id)?,
            kind: kind.into(),
            amount: signed_words(amount),
            rules: self.rules.clone(),
            valid: utc,
        };
        Ok(Checked { entry, utc })
    }
}

/// A span of the calendar from two texts; without an end where one is absent.
fn validity(place: &str, from: Option<&str>, until: Option<&str>) -> Checking<Span> {
    let read = |field: &str, text: Option<&str>, open: i64| match text {
        None => Ok(open),
        Some(text) => {
            let parsed = chrono::DateTime::parse_from_rfc3339(text).ok().and_then(|at| at.timestamp_nanos_opt());
            parsed.ok_or_else(|| {
                wrong(format!("{place}.{field}"), format!("'{text}' is no instant; write it like 2026-02-01T00:00:00Z"))
            })
        }
    };
    let span = Span { start: read("from", from, i64::MIN)?, end: read("until", until, i64::MAX)? };
    if span.start < span.end { Ok(span) } else { Err(wrong(format!("{place}.until"), "must be after `from`")) }
}

fn check_ids(prices: &[Checked<Price>], adjustments: &[Checked<Adjustment>]) -> Checking<()> {
    for (what, count, max) in
        [("prices", prices.len(), limits::PRICES_MAX), ("adjustments", adjustments.len(), limits::ADJUSTMENTS_MAX)]
    {
        if count > max {
            return Err(wrong(what, format!("at most {max}, are {count}")));
        }
    }
    let prices = prices.iter().map(|price| price.entry.id.as_str());
    let mut ids: Vec<_> = prices.chain(adjustments.iter().map(|one| one.entry.id.as_str())).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(wrong("id", format!("'{}' stands twice; every price and adjustment has an id of its own", pair[0])))
        }
        None => Ok(()),
    }
}

/// All prices of one rule are of one kind, no two hold at one time, and no two rules charge one meter in one unit at one time.
fn check_rules(prices: &[Checked<Price>]) -> Checking<()> {
    for (number, one) in prices.iter().enumerate() {
        for other in &prices[..number] {
            check_pair(&format!("prices[{number}]"), one, other)?;
        }
    }
    Ok(())
}

fn check_pair(place: &str, one: &Checked<Price>, other: &Checked<Price>) -> Checking<()> {
    let (here, there) = (&one.entry, &other.entry);
    let is_one_time = one.utc.start < other.utc.end && other.utc.start < one.utc.end;
    let kind = |price: &Price| (price.meter.clone(), price.unit.clone(), price.scope.clone(), price.resets.clone());
    if here.rule != there.rule {
        let is_one_meter = here.meter == there.meter && here.unit == there.unit;
        return match is_one_time && is_one_meter {
            true => Err(wrong(
                place,
                format!(
                    "rule '{}' charges meter '{}' in {} like rule '{}' of price '{}': time would be charged twice on one meter",
                    here.rule, here.meter, here.unit, there.rule, there.id
                ),
            )),
            false => Ok(()),
        };
    }
    if kind(here) != kind(there) {
        let problem = format!("differs from price '{}' of the same rule in meter, unit, scope or resets", there.id);
        return Err(wrong(place, problem));
    }
    let is_same_rank = here.windows.is_empty() == there.windows.is_empty();
    if !is_one_time || !is_same_rank || (!here.windows.is_empty() && !windows_meet(&here.windows, &there.windows)) {
        return Ok(());
    }
    Err(wrong(place, format!("price '{}' of the same rule holds at the same time", there.id)))
}

/// Whether windows of two prices are open at one time. Of two zones it can't be told for ever, so they count as meeting.
fn windows_meet(one: &[Window], other: &[Window]) -> bool {
    let zone = |windows: &[Window]| windows.first().map(|window| window.zone.clone());
    let is_one_zone = one.iter().chain(other).all(|window| Some(&window.zone) == zone(one).as_ref());
    let hours = |windows: &[Window]| windows.iter().flat_map(week).collect::<Vec<_>>();
    let (here, there) = (hours(one), hours(other));
    !is_one_zone || here.iter().any(|span| there.iter().any(|with| span.0 < with.1 && with.0 < span.1))
}

/// The minutes of the week in which a window is open; what reaches into the next week is at its beginning, too.
fn week(window: &Window) -> Vec<(u32, u32)> {
    const DAY: u32 = 1_440;
    let (from, until) = (u32::from(window.from_minute), u32::from(window.until_minute));
    let until = if until > from { until } else { until + DAY };
    let days = (0..7_u32).filter(|day| window.days & (1 << day) != 0);
    days.flat_map(|day| {
        let span = (day * DAY + from, day * DAY + until);
        let wraps = span.1 > 7 * DAY;
        [Some(span), wraps.then(|| (0, span.1 - 7 * DAY))].into_iter().flatten()
    })
    .collect()
}

fn check_adjusted(prices: &[Checked<Price>], adjustments: &[Checked<Adjustment>]) -> Checking<()> {
    for (number, adjustment) in adjustments.iter().enumerate() {
        for rule in &adjustment.entry.rules {
            if !prices.iter().any(|price| price.entry.rule == *rule) {
                return Err(wrong(format!("adjustments[{number}].rules"), format!("no price has the rule '{rule}'")));
            }
        }
    }
    Ok(())
}

fn settings(options: BTreeMap<String, String>) -> Checking<Vec<Setting>> {
    let mut settings = Vec::with_capacity(options.len());
    for (name, value) in options {
        let place = format!("options.{}", name.chars().take(80).collect::<String>());
        if value.len() > limits::OPTION_BYTES_MAX {
            return Err(wrong(place, format!("at most {} bytes", limits::OPTION_BYTES_MAX)));
        }
        settings.push(Setting { name: word(&place, &name)?, value });
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
