//! References to images in registries, such as `docker.io/library/nginx:1.27`.

use std::fmt;
use std::str::FromStr;

use crate::id::clipped;

/// The registry of a reference that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The folder of that registry's own images.
const DEFAULT_FOLDER: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Longest name of a repository with its registry, in bytes, and longest tag.
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// An image in a registry, written in full: `registry/repository:tag` or
/// `registry/repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

/// The image of a repository that is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tag(String),
    Digest(String),
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no reference to an image; write it like registry.example/team/web:1 or \
     registry.example/team/web@sha256:<64 digits>, in lower case"
)]
pub struct ReferenceError(String);

impl Reference {
    /// The registry's host, and its port if it has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's name in its registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag or the digest, as the registry is asked for it.
    pub fn version(&self) -> &str {
        match &self.version {
            Version::Tag(text) | Version::Digest(text) => text,
        }
    }

    /// The digest; none if the image is named by its tag.
    pub fn digest(&self) -> Option<&str> {
        match &self.version {
            Version::Digest(digest) => Some(digest),
            Version::Tag(_) => None,
        }
    }

    /// The image with that digest in the same repository.
    pub fn with_digest(&self, digest: &str) -> Self {
        Self { version: Version::Digest(digest.to_owned()), ..self.clone() }
    }

    /// The repository with its registry.
    pub fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        read(text).ok_or_else(|| ReferenceError(clipped(text)))
    }
}

fn read(text: &str) -> Option<Reference> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    // A port follows a colon, too, but before the last slash.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (place, tag) = match name[last..].split_once(':') {
        Some((end, tag)) => (&name[..last + end.len()], Some(tag)),
        None => (name, None),
    };
    let version = match (tag, digest) {
        (_, Some(digest)) => Version::Digest(digest.to_owned()),
        (tag, None) => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
    };
    let (registry, repository) = match place.split_once('/') {
        Some((first, rest)) if is_host(first) => (first.to_owned(), rest.to_owned()),
        Some(_) => (DEFAULT_REGISTRY.to_owned(), place.to_owned()),
        None => (DEFAULT_REGISTRY.to_owned(), format!("{DEFAULT_FOLDER}{place}")),
    };
    let is_valid = is_registry(&registry)
        && registry.len() + repository.len() < REPOSITORY_BYTES_MAX
        && repository.split('/').all(is_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    is_valid.then_some(Reference { registry, repository, version })
}

/// Returns whether the first part of a name is a registry's.
fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, rest)) => (inside, rest),
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let is_bare = !host.is_empty() && !text.starts_with('[');
    let is_name = is_bare
        && host.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-'))
        && host.split('.').all(|part| !part.is_empty() && !part.starts_with('-'));
    let is_v6 = text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_ok();
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_name || is_v6) && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Returns whether a part of a repository's name is well formed: words of lower-case letters and
/// digits with one dot, one or two underscores, or hyphens between them.
fn is_part(part: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = part.starts_with(is_inner) && part.ends_with(is_inner);
    let mut between = part.split(is_inner).filter(|gap| !gap.is_empty());
    ends && between.all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|c| c == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|c| is_word(c) || matches!(c, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_reference_means_the_usual_one() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let rows = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".into()),
            ("team/web", "docker.io/team/web:latest".into()),
            ("localhost/web", "localhost/web:latest".into()),
            ("127.0.0.1:5000/web:1", "127.0.0.1:5000/web:1".into()),
            ("[::1]:5000/web", "[::1]:5000/web:latest".into()),
            ("quay.io/a/b_c/d--e.f:V_1.2-x", "quay.io/a/b_c/d--e.f:V_1.2-x".into()),
            (&format!("web@{digest}"), format!("docker.io/library/web@{digest}")),
            (&format!("quay.io/web:1@{digest}"), format!("quay.io/web@{digest}")),
        ];
        for (text, full) in rows {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.to_string(), full);
            assert_eq!(full.parse::<Reference>().expect("a reference"), reference);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_an_example() {
        let long = format!("quay.io/{}", "a".repeat(256));
        let rows = [
            "",
            ":1",
            "/web",
            "web/",
            "a//b",
            "Web",
            "web:",
            "web:-1",
            "web@",
            "web@sha256:1",
            "web@md5:aa",
            "a..b/c",
            "../etc",
            "quay.io/../x",
            "quay.io/a b",
            "http://quay.io/a",
            "quay.io:0/a",
            "quay.io:99999/a",
            "a@quay.io/b",
            "-x.io/a",
            "[::g]/a",
            "w_-b",
            &long,
        ];
        for text in rows {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains("registry.example/team/web:1"), "{error}");
        }
    }
}
