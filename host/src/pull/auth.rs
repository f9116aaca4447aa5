//! Credentials that are lent for one pull, and the tokens that they are exchanged for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::parser::ChallengeParser;
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::error::{PullError, fault};

/// Credentials that a client lends for one pull. They are kept in memory until it ends.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user's name and password, or what stands for it.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that the registry takes as it is.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The value of the header `Authorization`.
    pub(super) fn header(&self) -> String {
        match self {
            Self::Basic { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
            Self::Token(token) => format!("Bearer {token}"),
        }
    }
}

/// The wish of a registry for an authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The credentials themselves.
    Basic,
    /// A token of this server.
    Bearer(Url),
}

impl Challenge {
    /// Reads the wish of an answer from `registry`, whose base is `base`, for a token that may pull
    /// `repository`.
    pub(super) fn read(
        registry: &str,
        base: &Url,
        repository: &str,
        headers: &HeaderMap,
    ) -> Result<Self, PullError> {
        let none = || fault(registry, "it refuses without saying what it wants");
        let mut basic = None;
        for header in headers.get_all(WWW_AUTHENTICATE) {
            let header = header.to_str().map_err(|_| none())?;
            for challenge in ChallengeParser::new(header) {
                let challenge = challenge.map_err(|_| none())?;
                let value = |name: &str| {
                    let found =
                        challenge.params.iter().find(|(of, _)| of.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let realm = value("realm").ok_or_else(none)?;
                    let service = value("service");
                    let url = token_url(registry, base, &realm, service, repository)?;
                    return Ok(Self::Bearer(url));
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic.ok_or_else(none)
    }
}

/// The address at which a token is asked for.
fn token_url(
    registry: &str,
    base: &Url,
    realm: &str,
    service: Option<String>,
    repository: &str,
) -> Result<Url, PullError> {
    let wrong = || fault(registry, "its token server has no address that is http or https");
    let mut url: Url = realm.parse().map_err(|_| wrong())?;
    if !may_follow(base, &url) {
        return Err(wrong());
    }
    url.set_fragment(None);
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", &service);
    }
    // The scope is ours: a registry can't make us ask for more than reading one repository.
    query.append_pair("scope", &format!("repository:{repository}:pull"));
    drop(query);
    Ok(url)
}

/// Returns whether `to` may be asked because `from` says so: never without encryption after a
/// connection with it, and without it only the same host.
pub(super) fn may_follow(from: &Url, to: &Url) -> bool {
    let is_plain = to.host_str().is_some() && to.username().is_empty() && to.password().is_none();
    is_plain
        && match to.scheme() {
            "https" => true,
            "http" => {
                from.scheme() == "http"
                    && from
                        .host_str()
                        .zip(to.host_str())
                        .is_some_and(|(a, b)| a == b || is_loopback(b))
            }
            _ => false,
        }
}

/// Returns whether a host is this one, with which no encryption is needed.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns whether a token server may see credentials that were lent for a registry: it is on the
/// same host, on the host above, or beside it under a name of two or more parts.
pub(super) fn may_see_credentials(base: &Url, server: &Url) -> bool {
    let (Some(registry), Some(server)) = (base.host_str(), server.host_str()) else { return false };
    if registry == server {
        return true;
    }
    let is_address = |host: &str| host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    if is_address(registry) || is_address(server) {
        return false;
    }
    let Some((_, above)) = registry.split_once('.') else { return false };
    let is_of_above =
        server == above || server.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'));
    above.contains('.') && is_of_above
}

/// The token of a token server's answer.
pub(super) fn token(registry: &str, body: &[u8]) -> Result<String, PullError> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let wrong = || fault(registry, "its token server answers without a token");
    let Answer { token, access_token } = serde_json::from_slice(body).map_err(|_| wrong())?;
    let token = token.or(access_token).ok_or_else(wrong)?;
    let is_plain = !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic());
    is_plain.then_some(token).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn challenge(header: &'static str, base: &str) -> Result<Challenge, PullError> {
        let headers = [(WWW_AUTHENTICATE, header.parse().expect("a value"))];
        Challenge::read("r", &url(base), "team/web", &headers.into_iter().collect())
    }

    #[test]
    fn a_token_is_asked_for_reading_one_repository_whatever_the_registry_says() {
        let header =
            r#"Bearer realm="https://auth.x/token",service="r x",scope="registry:catalog:*""#;
        let Ok(Challenge::Bearer(at)) = challenge(header, "https://r.x/") else {
            panic!("no challenge")
        };
        let query: Vec<_> = at.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(query, ["service=r x", "scope=repository:team/web:pull"]);
        assert_eq!(challenge("Basic realm=\"x\"", "https://r.x/").ok(), Some(Challenge::Basic));
        let wrong =
            ["Negotiate", r#"Bearer service="x""#, r#"Bearer realm="file:///etc""#, "Bearer"];
        for header in wrong {
            assert!(challenge(header, "https://r.x/").is_err(), "{header}");
        }
        let plain = r#"Bearer realm="http://auth.x/token""#;
        assert!(challenge(plain, "https://auth.x/").is_err(), "less than the registry's own way");
    }

    #[test]
    fn a_way_never_becomes_less_safe() {
        let rows = [
            ("https://a/", "https://b/", true),
            ("https://a/", "http://a/", false),
            ("http://127.0.0.1:1/", "http://127.0.0.1:2/", true),
            ("http://127.0.0.1:1/", "http://localhost/", true),
            ("http://127.0.0.1:1/", "http://10.0.0.1/", false),
            ("http://127.0.0.1:1/", "https://a/", true),
            ("https://a/", "ftp://a/", false),
            ("https://a/", "file:///etc/passwd", false),
            ("https://a/", "https://u:p@a/", false),
        ];
        for (from, to, expected) in rows {
            assert_eq!(may_follow(&url(from), &url(to)), expected, "{from} {to}");
        }
    }

    #[test]
    fn credentials_stay_with_the_registry_they_were_lent_for() {
        let rows = [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("ghcr.io", "ghcr.io", true),
            ("ghcr.io", "evil.io", false),
            ("registry.example.com", "example.com.evil.io", false),
            ("registry.example.com", "evilexample.com", false),
            ("127.0.0.1", "127.0.0.2", false),
            ("localhost", "127.0.0.1", false),
        ];
        for (registry, server, expected) in rows {
            let of = |host: &str| url(&format!("https://{host}/"));
            assert_eq!(may_see_credentials(&of(registry), &of(server)), expected, "{server}");
        }
    }

    #[test]
    fn a_token_is_read_by_either_name() {
        assert_eq!(token("r", br#"{"token":"a"}"#).ok().as_deref(), Some("a"));
        assert_eq!(token("r", br#"{"access_token":"b"}"#).ok().as_deref(), Some("b"));
        for wrong in
            ["{}", r#"{"token":""}"#, r#"{"token":"a b"}"#, r#"{"token":"a\nb"}"#, "[]", ""]
        {
            assert!(token("r", wrong.as_bytes()).is_err(), "{wrong}");
        }
        let shown = format!("{:?}", Credentials::Token("secret".into()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
