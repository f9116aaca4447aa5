//! `/`: the dashboard. Its files are inside the program.
//!
//! It is a client of the API like any other: what it may do is what its session's token may do. The
//! policy of its content lets it ask nobody else, and run nothing but these files.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::State;
use super::error::ApiError;
use crate::id::Digest;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// One file of the dashboard.
struct Asset {
    path: &'static str,
    bytes: &'static [u8],
    tag: String,
}

impl Asset {
    fn new(path: &'static str, bytes: &'static [u8]) -> Self {
        Self { path, bytes, tag: format!("\"{}\"", Digest::of(bytes)) }
    }

    fn content_type(&self) -> &'static str {
        match self.path.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/javascript; charset=utf-8",
        }
    }
}

macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        [$(Asset::new($path, include_bytes!(concat!("../../dashboard/", $path)))),*]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    assets![
        "index.html",
        "style.css",
        "icon.svg",
        "app/api.js",
        "app/bill.js",
        "app/exact.js",
        "app/fleet.js",
        "app/health.js",
        "app/machine.js",
        "app/main.js",
        "app/policies.js",
        "app/spent.js",
        "app/story.js",
        "app/timeline.js",
        "app/ui.js",
        "vendor/htm.module.js",
        "vendor/preact.mjs",
    ]
    .into()
});

/// The page and its files.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { serve("index.html", &headers) }))
        .route(
            "/dashboard/{*path}",
            get(|Path(path): Path<String>, headers: HeaderMap| async move {
                serve(&path, &headers)
            }),
        )
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        let message = format!("the dashboard has no file '{path}'");
        return ApiError::not_found("no_such_file", message).into_response();
    };
    let fixed: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, asset.content_type()),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Asked again each time: files and API are those of one version.
        (CACHE_CONTROL, "no-cache"),
        (ETAG, &asset.tag),
    ];
    let known =
        headers.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == asset.tag.as_bytes());
    match known {
        true => (StatusCode::NOT_MODIFIED, fixed.map(|(name, value)| (name, value.to_owned())))
            .into_response(),
        false => (fixed.map(|(name, value)| (name, value.to_owned())), asset.bytes).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard"))
    }

    fn files(folder: &Path, before: &str, found: &mut BTreeSet<String>) {
        for entry in folder.read_dir().expect("a folder") {
            let entry = entry.expect("an entry");
            let name = format!("{before}{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => files(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name)),
            }
        }
    }

    /// One line for each file: SHA-256, path, package, version, licence.
    fn manifest() -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(folder().join("vendor/MANIFEST")).expect("readable");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn every_file_of_the_folder_is_inside_the_program() {
        let mut found = BTreeSet::new();
        files(folder(), "", &mut found);
        found.retain(|name| !name.starts_with("vendor/LICENSE") && name != "vendor/MANIFEST");
        let served: BTreeSet<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(served, found);
    }

    #[test]
    fn what_others_wrote_is_byte_for_byte_what_the_manifest_names() {
        let manifest = manifest();
        for asset in ASSETS.iter().filter(|asset| asset.path.starts_with("vendor/")) {
            let name = asset.path.trim_start_matches("vendor/");
            let line = manifest.iter().find(|line| line[1] == name).expect(name);
            assert_eq!(line[0], Digest::of(asset.bytes).to_string(), "{name}");
            let [_, _, package, _, licence] = &line[..] else { panic!("five words: {line:?}") };
            let text = folder().join(format!("vendor/LICENSE.{package}"));
            let text = std::fs::read_to_string(text).expect("the licence's text");
            assert!(
                text.len() > 500 && ["MIT", "Apache-2.0"].contains(&licence.as_str()),
                "{name}"
            );
        }
    }

    #[test]
    fn the_page_names_no_other_host_and_no_script_of_its_own() {
        let own = ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/"));
        for asset in own {
            let text = str::from_utf8(asset.bytes).expect("text");
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for word in ["http://", "https://", "innerHTML", "eval("] {
                assert!(!text.contains(word), "{}: {word}", asset.path);
            }
        }
        let page = str::from_utf8(ASSETS[0].bytes).expect("text");
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"));
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        assert_eq!(serve("style.css", &headers).status(), 200);
        headers.insert(IF_NONE_MATCH, ASSETS[1].tag.parse().expect("a header"));
        assert_eq!(serve("style.css", &headers).status(), 304);
        assert_eq!(serve("../Cargo.toml", &headers).status(), 404);
    }
}
