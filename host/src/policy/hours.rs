//! Which price of the book holds at an instant, told from the request alone: the host's own reading of validity and windows.

use super::rating::{Price, Request, Span, Window, Zone};

const MINUTE_NS: i128 = 60_000_000_000;
const DAY_NS: i128 = 1_440 * MINUTE_NS;
const SECOND_NS: i128 = 1_000_000_000;
/// 1970-01-01 was a Thursday, and weeks begin on Monday.
const WEEKDAY_OF_DAY_0: i128 = 3;

/// The prices of a request's rules over its period.
pub(super) struct Hours<'a> {
    request: &'a Request,
    rules: Vec<Rule<'a>>,
}

struct Rule<'a> {
    name: &'a str,
    prices: Vec<&'a Price>,
    /// The one price, if it holds for all of the period.
    only: Option<&'a str>,
}

impl<'a> Hours<'a> {
    pub(super) fn of(request: &'a Request) -> Self {
        let mut rules: Vec<Rule<'a>> = Vec::new();
        for price in &request.book.prices {
            match rules.iter_mut().find(|rule| rule.name == price.rule) {
                Some(rule) => rule.prices.push(price),
                None => rules.push(Rule { name: &price.rule, prices: vec![price], only: None }),
            }
        }
        for rule in &mut rules {
            if let [price] = rule.prices.as_slice() {
                let is_always = price.valid.start <= request.period.start && request.period.end <= price.valid.end;
                rule.only = (is_always && price.windows.is_empty()).then_some(price.id.as_str());
            }
        }
        Self { request, rules }
    }

    /// Whether a rule has this price, or none for an empty id, for all of the period.
    pub(super) fn is_always(&self, rule: &str, id: &str) -> bool {
        match self.rule(rule) {
            Some(rule) => rule.only == Some(id),
            None => id.is_empty(),
        }
    }

    fn rule(&self, name: &str) -> Option<&Rule<'a>> {
        self.rules.iter().find(|known| known.name == name)
    }

    /// The first instant of a span, which is not empty, at which a rule has another price than `id`; an empty id stands for none.
    pub(super) fn first_instant_under_another(&self, rule: &str, id: &str, span: Span) -> Option<i64> {
        if self.is_always(rule, id) {
            return None;
        }
        let Some(rule) = self.rule(rule) else { return Some(span.start) };
        let mut at = span.start;
        while at < span.end {
            let (holding, until) = self.holding(rule, at);
            if holding.unwrap_or_default() != id {
                return Some(at);
            }
            at = until;
        }
        None
    }

    /// The price that holds at an instant, and an instant after it up to which that is so.
    fn holding(&self, rule: &Rule<'a>, at: i64) -> (Option<&'a str>, i64) {
        let (mut special, mut plain, mut until) = (None, None, i64::MAX);
        for price in &rule.prices {
            if at < price.valid.start {
                until = until.min(price.valid.start);
                continue;
            }
            if at >= price.valid.end {
                continue;
            }
            until = until.min(price.valid.end);
            if price.windows.is_empty() {
                plain = Some(price.id.as_str());
            }
            for window in &price.windows {
                let (is_open, change) = self.window(window, at);
                until = until.min(change);
                if is_open {
                    special = Some(price.id.as_str());
                }
            }
        }
        (special.or(plain), until.max(at.saturating_add(1)))
    }

    /// Whether a window is open at an instant, and a later instant up to which that is so.
    fn window(&self, window: &Window, at: i64) -> (bool, i64) {
        let Some(zone) = self.request.zones.iter().find(|zone| zone.name == window.zone) else {
            return (false, i64::MAX);
        };
        let (ahead, clock_change) = self.ahead(zone, at);
        let local = i128::from(at) + ahead;
        let today = local.div_euclid(DAY_NS);
        let (mut is_open, mut change) = (false, (today + 1) * DAY_NS);
        for day in [today - 1, today] {
            if window.days & (1 << (day + WEEKDAY_OF_DAY_0).rem_euclid(7)) == 0 {
                continue;
            }
            let from = day * DAY_NS + i128::from(window.from_minute) * MINUTE_NS;
            let lasts = (i128::from(window.until_minute) - i128::from(window.from_minute)) * MINUTE_NS;
            let until = from + if lasts > 0 { lasts } else { lasts + DAY_NS };
            is_open |= (from..until).contains(&local);
            change = [from, until].into_iter().filter(|&bound| bound > local).fold(change, i128::min);
        }
        let change = i64::try_from(change - ahead).unwrap_or(i64::MAX);
        (is_open, change.min(clock_change))
    }

    /// How far a zone's clocks are ahead of the meter at an instant, and a later instant up to which that is so.
    fn ahead(&self, zone: &Zone, at: i64) -> (i128, i64) {
        let calendar = &self.request.calendar;
        let next = calendar.iter().skip(1).position(|offset| offset.since > at).map(|place| place + 1);
        let here = next.unwrap_or(calendar.len()).checked_sub(1).and_then(|place| calendar.get(place));
        let utc_ahead = i128::from(here.map_or(0, |offset| offset.offset));
        let until = next.and_then(|place| calendar.get(place)).map_or(i64::MAX, |offset| offset.since);
        let utc = i128::from(at) + utc_ahead;
        let later = zone.transitions.iter().skip(1).position(|transition| i128::from(transition.since) > utc);
        let later = later.map(|place| place + 1);
        let here = later.unwrap_or(zone.transitions.len()).checked_sub(1).and_then(|place| zone.transitions.get(place));
        let zone_ahead = i128::from(here.map_or(0, |transition| transition.offset_seconds)) * SECOND_NS;
        let change = later.and_then(|place| zone.transitions.get(place));
        let change = change.and_then(|transition| i64::try_from(i128::from(transition.since) - utc_ahead).ok());
        (utc_ahead + zone_ahead, until.min(change.unwrap_or(i64::MAX)))
    }
}
