//! Limits and amounts of money, as facts have them.

use std::collections::BTreeMap;

use crate::billing::decimal::Decimal;
use crate::id::IdError;
use crate::tenant::{Limit, Quota};

/// Returns the limits that were set, by name.
pub fn limits(quota: &Quota) -> BTreeMap<String, u64> {
    Limit::ALL
        .into_iter()
        .filter_map(|limit| Some((limit.to_string(), quota.own(limit)?)))
        .collect()
}

/// An amount as nano-units.
pub(super) fn nanos(text: &str) -> Result<i64, IdError> {
    let nanos = text.parse::<Decimal>().ok().and_then(|amount| amount.scaled(9));
    nanos.and_then(|nanos| i64::try_from(nanos).ok()).ok_or_else(|| IdError::Word {
        what: "an amount",
        text: text.chars().take(80).collect(),
        known: "decimal numbers of at most 9 digits after the point".into(),
    })
}
