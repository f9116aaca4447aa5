//! Registries that are broken or hostile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::image::{Image, Images, Platform};
use tallyman::pull::{Credentials, Pace, Pulls, Request};
use tempfile::TempDir;

use crate::double::{Answer, Asked, Double};
use crate::layouts::{Layer, digest, store};

/// An image as a registry has it.
#[derive(Clone)]
struct Served {
    index: Vec<u8>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Served {
    fn new() -> Self {
        // Larger than what is in flight when a connection is cut.
        let layer = Layer::new().file("etc/large", &vec![7; 3 << 20]).archive();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "config": described(&config), "layers": [described(&layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let other = json!({
            "digest": digest(b"no such thing"), "size": 1,
            "platform": {"os": "linux", "architecture": "s390x"},
        });
        let mut own = described(&manifest);
        own["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "manifests": [other, own]}).to_string();
        Self { index: index.into(), manifest, config, layer }
    }

    /// The answer of an honest registry.
    fn answer(&self, asked: &Asked) -> Answer {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if asked.path.contains("/manifests/") && !last.starts_with("sha256:") {
            return Answer::of(self.index.clone());
        }
        let all = [&self.index, &self.manifest, &self.config, &self.layer];
        match all.into_iter().find(|blob| digest(blob) == last) {
            Some(blob) => Answer::of(blob.clone()),
            None => Answer::status(404, "X: y"),
        }
    }

    fn is_layer(&self, asked: &Asked) -> bool {
        asked.path.ends_with(&digest(&self.layer))
    }
}

fn described(blob: &[u8]) -> Value {
    json!({"digest": digest(blob), "size": blob.len()})
}

/// Images and pulls into them, with little patience.
struct Rig {
    data: TempDir,
    images: Arc<Images>,
    pulls: Arc<Pulls>,
}

impl Rig {
    fn new() -> Self {
        let (data, images) = store();
        let images = Arc::new(images);
        let [patience, pause] = [1_500, 10].map(Duration::from_millis);
        let pace = Pace { patience, pause };
        let pulls = Pulls::new(images.clone(), pace).expect("a client");
        Self { data, images, pulls: Arc::new(pulls) }
    }

    /// Pulls an image; the error in words if it fails.
    async fn pull(&self, registry: &str, lent: Option<Credentials>) -> Result<Arc<Image>, String> {
        let request = Request {
            reference: format!("{registry}/team/web:1").parse().expect("a reference"),
            platform: Platform::of_guests(),
            labels: Default::default(),
            credentials: lent,
            base: "base".parse().expect("a name"),
        };
        let words = |error: &dyn std::error::Error| {
            let mut causes = vec![error.to_string()];
            let mut next = error.source();
            while let Some(cause) = next {
                causes.push(cause.to_string());
                next = cause.source();
            }
            causes.join(": ")
        };
        let pull = self.pulls.begin(request).await.map_err(|error| words(&error))?;
        pull.done().await.map_err(|error| words(&*error))
    }

    /// Names of what is in the store of blobs.
    fn blobs(&self) -> Vec<String> {
        let folder = self.images.blobs().join("blobs/sha256");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn local(double: &Double) -> String {
    format!("127.0.0.1:{}", double.port)
}

fn user() -> Option<Credentials> {
    Some(Credentials::Basic { username: "reader".into(), password: "secret-4711".into() })
}

#[tokio::test]
async fn the_image_of_an_index_is_the_one_for_this_machine() {
    let served = Served::new();
    let honest = served.clone();
    let double = Double::start(move |asked| honest.answer(asked));
    let rig = Rig::new();
    let image = rig.pull(&local(&double), None).await.expect("pulled");
    assert_eq!(image.digest(), digest(&served.manifest));
    assert!(rig.blobs().is_empty(), "{:?}", rig.blobs());
    let again = rig.pull(&local(&double), None).await.expect("pulled");
    assert_eq!(again, image);
    let layers = double.asked().iter().filter(|asked| served.is_layer(asked)).count();
    assert_eq!(layers, 1, "what is there is not fetched again");
}

/// An answer instead of the honest one.
type Fault = fn(&Served, &Asked) -> Option<Answer>;

/// Faults of registries, and words of the error that each ends a pull with.
const FAULTS: [(&str, Fault, &str); 10] = [
    (
        "another layer",
        |served, asked| {
            served.is_layer(asked).then(|| {
                let mut layer = served.layer.clone();
                layer[0] ^= 1;
                Answer::of(layer)
            })
        },
        "digest",
    ),
    (
        "a layer without an end",
        |served, asked| served.is_layer(asked).then(Answer::endless),
        "more than",
    ),
    ("a silent one", |served, asked| served.is_layer(asked).then(Answer::silent), "too slow"),
    (
        "a short layer",
        |served, asked| served.is_layer(asked).then(|| Answer::of(&b"x"[..])),
        "ends before",
    ),
    (
        "another manifest",
        |served, asked| {
            let is_one = asked.path.contains("/manifests/sha256:");
            is_one.then(|| Answer::of(served.config.clone()))
        },
        "it gives sha256:",
    ),
    (
        "a manifest without an end",
        |_, asked| asked.path.contains("/manifests/").then(Answer::endless),
        "more than",
    ),
    ("another scheme", |_, _| Some(Answer::redirect("file:///etc/passwd")), "not followed"),
    ("a host inside", |_, _| Some(Answer::redirect("http://10.0.0.1/x")), "not followed"),
    ("a circle", |_, asked| Some(Answer::redirect(&asked.path)), "without an end"),
    ("a refusal without a reason", |_, _| Some(Answer::status(401, "X: y")), "what it wants"),
];

#[tokio::test]
async fn what_a_registry_must_not_do_ends_the_pull_and_leaves_no_image() {
    for (what, fault, words) in FAULTS {
        let served = Served::new();
        let double = Double::start(move |asked| {
            fault(&served, asked).unwrap_or_else(|| served.answer(asked))
        });
        let rig = Rig::new();
        let error = rig.pull(&local(&double), None).await.expect_err(what);
        assert!(error.contains(words), "{what}: {error}");
        let images = rig.images.list().expect("the images");
        assert_eq!(images.len(), 1, "{what}: the base is all there is");
        rig.pulls.sweep().expect("swept");
        assert!(rig.blobs().is_empty(), "{what}: {:?}", rig.blobs());
    }
}

#[tokio::test]
async fn a_pull_goes_on_where_the_connection_was_cut() {
    let served = Served::new();
    let whole = served.layer.len();
    let tries = AtomicUsize::new(0);
    let breaking = served.clone();
    let double = Double::start(move |asked| {
        if !breaking.is_layer(asked) {
            return breaking.answer(asked);
        }
        let from = asked.range.as_deref().and_then(|range| {
            range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        match (tries.fetch_add(1, Ordering::SeqCst), from) {
            (0, None) => Answer::cut(&breaking.layer, whole / 2),
            (_, Some(from)) => Answer::part(&breaking.layer, from),
            (_, None) => Answer::status(500, "X: y"),
        }
    });
    let rig = Rig::new();
    let image = rig.pull(&local(&double), None).await.expect("pulled");
    assert_eq!(image.digest(), digest(&served.manifest));
    let asked = double.asked();
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.range.as_deref()).collect();
    let [range] = ranges.as_slice() else { panic!("{ranges:?}") };
    assert_ne!(*range, "bytes=0-", "something had come");
}

#[tokio::test]
async fn a_token_is_fetched_and_goes_to_the_registry_alone() {
    let served = Served::new();
    let blobs = served.clone();
    let elsewhere = Arc::new(Double::start(move |asked| blobs.answer(asked)));
    let other = elsewhere.port;
    let served = Served::new();
    let port = Arc::new(AtomicUsize::new(0));
    let own = port.clone();
    let double = Double::start(move |asked| {
        let realm = format!("http://127.0.0.1:{}/token", own.load(Ordering::SeqCst));
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"");
        if asked.path.starts_with("/token?service=s&scope=repository%3Ateam%2Fweb%3Apull") {
            let is_known = asked.authorization.as_deref() == Some("Basic cmVhZGVyOnNlY3JldC00NzEx");
            return match is_known {
                true => Answer::of(r#"{"token":"a-token"}"#),
                false => Answer::status(401, "X: y"),
            };
        }
        match asked.authorization.as_deref() {
            Some("Bearer a-token") if served.is_layer(asked) => {
                Answer::redirect(&format!("http://localhost:{other}{}", asked.path))
            }
            Some("Bearer a-token") => served.answer(asked),
            _ => Answer::status(401, &challenge),
        }
    });
    port.store(double.port.into(), Ordering::SeqCst);
    let rig = Rig::new();
    let refused = rig.pull(&local(&double), None).await.expect_err("no credentials");
    assert!(refused.contains("lend credentials"), "{refused}");
    rig.pull(&local(&double), user()).await.expect("pulled");
    let elsewhere = elsewhere.asked();
    assert_eq!(elsewhere.len(), 1, "the layer came from there: {elsewhere:?}");
    assert_eq!(elsewhere[0].authorization, None, "and nothing was lent to it");
    no_secret_in(rig.data.path());
}

#[tokio::test]
async fn credentials_are_not_shown_to_a_token_server_elsewhere() {
    let thief = Double::start(|_| Answer::of(r#"{"token":"x"}"#));
    let realm = format!("http://localhost:{}/token", thief.port);
    let double = Double::start(move |_| {
        Answer::status(401, &format!("WWW-Authenticate: Bearer realm=\"{realm}\""))
    });
    let error = Rig::new().pull(&local(&double), user()).await.expect_err("a thief");
    assert!(error.contains("credentials are not for"), "{error}");
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
}

/// Checks that no file holds the password.
fn no_secret_in(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => no_secret_in(&path),
            false => {
                let bytes = std::fs::read(&path).expect("a file");
                let has = bytes.windows(11).any(|window| window == b"secret-4711");
                assert!(!has, "{}", path.display());
            }
        }
    }
}
