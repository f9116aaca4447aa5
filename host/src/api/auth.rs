//! Who may ask: whoever knows the token.

use axum::extract::{Request, State as Extract};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest as _, Sha256};

use super::error::ApiError;
use super::{Shared, State};

/// A secret, kept as its hash. Comparing hashes takes the same time wherever they differ, and tells nothing about the length.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    fn is(&self, shown: &str) -> bool {
        let shown = Token::of(shown);
        let differing = self.0.iter().zip(shown.0).fold(0, |differing, (ours, theirs)| differing | (ours ^ theirs));
        std::hint::black_box(differing) == 0
    }
}

/// Lets requests pass that show the token.
pub(super) async fn require(Extract(state): Shared, request: Request, next: Next) -> Result<Response, ApiError> {
    check(&state, &request)?;
    Ok(next.run(request).await)
}

fn check(state: &State, request: &Request) -> Result<(), ApiError> {
    let header = request.headers().get(AUTHORIZATION);
    let header = header.ok_or_else(|| ApiError::unauthorized("no token was sent"))?;
    let shown = header.to_str().ok().and_then(bearer);
    let shown = shown.ok_or_else(|| ApiError::unauthorized("the Authorization header holds no bearer token"))?;
    if state.token.is(shown) { Ok(()) } else { Err(ApiError::unauthorized("the token is not the right one")) }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_the_right_one() {
        let token = Token::of("secret");
        assert!(token.is("secret"));
        for wrong in ["", "secre", "secret ", "Secret", "secrets"] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
