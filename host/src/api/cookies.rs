//! Sessions of browsers, each named by a cookie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HeaderValue, ORIGIN};
use rand::RngCore;

use super::error::ApiError;
use crate::clock;
use crate::id::Digest;
use crate::limits::api as limits;

/// The cookie that names a session.
const COOKIE_NAME: &str = "tallyman-session";
/// The header without which a cookie says nothing.
const OWN_HEADER: &str = "tallyman-dashboard";

/// The sessions of this process.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// By the hash of the cookie's value.
    sessions: HashMap<Digest, Known>,
    /// Counts sign-ins, so that their order is known.
    next: u64,
}

struct Known {
    token: Arc<str>,
    until_ns: u64,
    place: u64,
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session and answers its secret name. Where there are as many as there may be, the
    /// oldest one ends.
    pub(super) fn begin(&self, token: &str, now_ns: u64) -> String {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let name = hex::encode(bytes);
        let mut open = self.open();
        open.sessions.retain(|_, known| known.until_ns > now_ns);
        if open.sessions.len() >= limits::SESSIONS_MAX {
            let oldest = open.sessions.iter().min_by_key(|(_, known)| known.place);
            let oldest = oldest.map(|(name, _)| *name);
            oldest.and_then(|oldest| open.sessions.remove(&oldest));
        }
        open.next += 1;
        let until_ns = now_ns.saturating_add(limits::SESSION_S * 1_000_000_000);
        let known = Known { token: token.into(), until_ns, place: open.next };
        open.sessions.insert(Digest::of(name.as_bytes()), known);
        name
    }

    fn token(&self, name: &str, now_ns: u64) -> Option<Arc<str>> {
        let open = self.open();
        let known = open.sessions.get(&Digest::of(name.as_bytes()))?;
        (known.until_ns > now_ns).then(|| known.token.clone())
    }

    /// The token behind a request's session; none if it shows no session.
    pub(super) fn token_of(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, ApiError> {
        let Some(name) = cookie(headers) else { return Ok(None) };
        check_own(headers)?;
        let token = self.token(name, clock::boottime_ns());
        token.map(Some).ok_or_else(|| ApiError::unauthorized("the session is over; sign in again"))
    }

    /// Ends a session; one that is over stays so.
    pub(super) fn end(&self, name: &str) {
        self.open().sessions.remove(&Digest::of(name.as_bytes()));
    }
}

/// A page of another site can neither set the header nor claim to be of this one.
pub(super) fn check_own(headers: &HeaderMap) -> Result<(), ApiError> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    match headers.contains_key(OWN_HEADER) && site.is_none_or(|site| site == b"same-origin") {
        true => Ok(()),
        false => Err(ApiError::unauthorized(
            "a session counts only in requests of the dashboard itself, which have the header `Tallyman-Dashboard`",
        )),
    }
}

/// The name of the session that a request shows.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let sent = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = sent.flat_map(|header| header.split(';')).filter_map(|one| one.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE_NAME).map(|(_, value)| value.trim())
}

/// The header that sets the cookie, or takes it back. A page that came by TLS gets one that is
/// never sent without.
pub(super) fn set_cookie(headers: &HeaderMap, name: &str, seconds: u64) -> String {
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    let secure = if origin.starts_with(b"https://") { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={name}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: u64 = 3_600_000_000_000;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_session_stands_for_its_token_until_it_ends() {
        let sessions = Sessions::default();
        let name = sessions.begin("secret", 0);
        assert_eq!(sessions.token(&name, HOUR_NS).as_deref(), Some("secret"));
        assert_eq!(sessions.token(&name, 13 * HOUR_NS), None, "its time is over");
        assert_eq!(sessions.token("other", 0), None);
        sessions.end(&name);
        assert_eq!(sessions.token(&name, 0), None);
    }

    #[test]
    fn the_oldest_session_ends_for_one_too_many() {
        let sessions = Sessions::default();
        let names: Vec<_> = (0..=limits::SESSIONS_MAX).map(|_| sessions.begin("s", 0)).collect();
        assert_eq!(sessions.token(&names[0], 0), None);
        assert!(names[1..].iter().all(|name| sessions.token(name, 0).is_some()));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let sent = [("cookie", "a=1; tallyman-session=x; b=2"), ("cookie", "c=3")];
        assert_eq!(cookie(&headers(&sent)), Some("x"));
        assert_eq!(cookie(&headers(&[("cookie", "tallyman-session2=x")])), None);
    }

    #[test]
    fn only_the_dashboard_s_own_requests_count() {
        let own = ("tallyman-dashboard", "1");
        let good: [&[_]; 2] = [&[own], &[own, ("sec-fetch-site", "same-origin")]];
        let bad: [&[_]; 4] = [
            &[],
            &[("sec-fetch-site", "same-origin")],
            &[own, ("sec-fetch-site", "same-site")],
            &[own, ("sec-fetch-site", "cross-site")],
        ];
        assert!(good.iter().all(|sent| check_own(&headers(sent)).is_ok()));
        assert!(bad.iter().all(|sent| check_own(&headers(sent)).is_err()));
    }

    #[test]
    fn a_page_that_came_by_tls_gets_a_cookie_for_tls_alone() {
        let of = |origin| set_cookie(&headers(&[("origin", origin)]), "x", 7);
        let plain = "tallyman-session=x; Path=/; Max-Age=7; HttpOnly; SameSite=Strict";
        assert_eq!(of("http://127.0.0.1:8080"), plain);
        assert_eq!(of("https://tallyman.example"), format!("{plain}; Secure"));
    }
}
