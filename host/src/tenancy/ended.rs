//! Tokens that have ended, which are forgotten after some time. Their facts stay.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{TenantId, TokenId};
use crate::journal::StoredToken;
use crate::limits::token as limits;
use crate::units::{Instant, Nanos};

/// The tokens that are known, by id.
pub(super) type Known = HashMap<TokenId, Arc<StoredToken>>;

/// The end of a token; none for one that is good at `now`.
fn end(token: &StoredToken, now: Instant) -> Option<Instant> {
    let expired = Some(token.expires).filter(|&expires| expires <= now);
    token.revoked.into_iter().chain(expired).min()
}

/// Forgets the tokens of a tenant, or of each tenant, that ended long ago, and the first ones of
/// those where many have.
pub(super) fn forget(known: &mut Known, tenant: Option<&TenantId>, now: Instant) {
    let mut ended: HashMap<TenantId, Vec<(Reverse<Instant>, TokenId)>> = HashMap::new();
    for token in known.values().filter(|token| tenant.is_none_or(|one| token.tenant == *one)) {
        if let Some(end) = end(token, now) {
            ended.entry(token.tenant.clone()).or_default().push((Reverse(end), token.id));
        }
    }
    let kept = Nanos(limits::ENDED_S * 1_000_000_000);
    for mut tokens in ended.into_values() {
        tokens.sort_unstable();
        for (place, (Reverse(end), id)) in tokens.into_iter().enumerate() {
            let is_old = end.after(kept).is_some_and(|until| until <= now);
            if is_old || place >= limits::ENDED_MAX {
                known.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::tenant::{Actor, Role};

    const DAY: i64 = 86_400_000_000_000;

    /// A token of a tenant that expires at, and was revoked at, these instants.
    fn token(tenant: &str, number: usize, expires: i64, revoked: Option<i64>) -> StoredToken {
        let secret = Digest::of(format!("{tenant} {number}").as_bytes());
        StoredToken {
            id: TokenId::of(&secret),
            secret,
            tenant: tenant.parse().expect("a name"),
            name: number.to_string(),
            role: Role::TenantReader,
            created: Instant(0),
            expires: Instant(expires),
            revoked: revoked.map(Instant),
            by: Actor::Operator,
        }
    }

    fn left(tokens: Vec<StoredToken>, tenant: Option<&str>, now: i64) -> Vec<String> {
        let mut known = tokens.into_iter().map(|token| (token.id, Arc::new(token))).collect();
        let tenant: Option<TenantId> = tenant.map(|id| id.parse().expect("a name"));
        forget(&mut known, tenant.as_ref(), Instant(now));
        let mut names: Vec<_> = known.values().map(|token| token.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_ended_a_week_ago_is_forgotten_and_what_is_good_never() {
        let tokens = vec![
            token("a", 1, DAY, None),
            token("a", 2, DAY + 1, None),
            token("a", 3, 99 * DAY, Some(DAY)),
            token("a", 4, 99 * DAY, None),
            token("b", 5, DAY, Some(2 * DAY)),
        ];
        assert_eq!(left(tokens.clone(), None, 8 * DAY), ["2", "4"]);
        assert_eq!(left(tokens.clone(), Some("a"), 8 * DAY), ["2", "4", "5"]);
        assert_eq!(left(tokens, None, 8 * DAY - 1), ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn of_many_that_have_ended_a_tenant_keeps_the_last_and_takes_none_of_another_s() {
        let of = |tenant, count: usize| {
            (0..count).map(move |number| {
                let revoked = i64::try_from(number).expect("few");
                token(tenant, number, 99 * DAY, Some(revoked))
            })
        };
        let tokens = of("a", limits::ENDED_MAX + 2).chain(of("b", 1)).collect();
        let left = left(tokens, None, DAY);
        assert_eq!(left.len(), limits::ENDED_MAX + 1);
        assert_eq!(left.iter().filter(|name| *name == "0").count(), 1, "b's is there");
        assert!(!left.contains(&"1".to_owned()));
    }
}
