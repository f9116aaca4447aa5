//! One-off charges and goodwill, which act on what everything else comes to.

use crate::error::BillError;
use crate::input::{CreditBalance, Header, OneOff, OneOffKind};
use crate::output::OneOffSum;

/// Adds the one-offs that act before T to a total; goodwill that was used is noted in the balances
/// of credits.
pub(crate) fn act(
    header: &Header,
    currency: &str,
    total: &mut i128,
    credits: &mut Vec<CreditBalance>,
) -> Result<Vec<OneOffSum>, BillError> {
    let is_before = |one: &&OneOff| one.at < header.until;
    let mut acting: Vec<&OneOff> = header.one_offs.iter().filter(is_before).collect();
    acting.retain(|one| one.kind == OneOffKind::Goodwill || header.period.start <= one.at);
    acting.sort_by_key(|one| (one.kind, one.at, one.id.as_str()));
    let mut sums = Vec::with_capacity(acting.len());
    for one in acting {
        if one.currency != currency {
            return Err(BillError::Currency { one: currency.into(), other: one.currency.clone() });
        }
        let change = match one.kind {
            OneOffKind::Charge => Some(one.amount),
            OneOffKind::Goodwill => pay(one, *total, credits).map(|paid| -paid),
        };
        let overflow = || BillError::overflow(&one.id);
        let change = change.ok_or_else(overflow)?;
        *total = total.checked_add(change).ok_or_else(overflow)?;
        sums.push(OneOffSum { id: one.id.clone(), kind: one.kind, change });
    }
    Ok(sums)
}

/// The nano-units that a goodwill pays of what is due.
fn pay(one: &OneOff, due: i128, credits: &mut Vec<CreditBalance>) -> Option<i128> {
    let place = credits.iter().position(|credit| credit.id == one.id);
    let used = place.map_or(0, |place| credits[place].used);
    let paid = due.max(0).min(one.amount.checked_sub(used)?.max(0));
    match place {
        Some(place) => credits[place].used = used.checked_add(paid)?,
        None if paid > 0 => credits.push(CreditBalance {
            id: one.id.clone(),
            currency: one.currency.clone(),
            amount: one.amount,
            used: paid,
        }),
        None => {}
    }
    Some(paid)
}
