//! Pulls of images from registries, by the OCI distribution protocol.
//!
//! A pull finds out what a reference stands for, fetches the blobs that are missing, has them
//! converted, and then lets the reference stand for the image. A small client of our own does it:
//! the kept ones lend credentials to whatever token server a registry names, follow every redirect
//! and take blobs of any length.

mod auth;
mod blob;
mod error;
mod registry;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::sync::{Semaphore, watch};

pub use auth::Credentials;
pub use error::PullError;
pub use registry::Pace;

use self::blob::Fetch;
use self::registry::Registry;
use crate::causes::in_words;
use crate::id::ImageName;
use crate::image::{
    Descriptor, Document, Image, ImageManifest, Images, Platform, PulledImage, Reference, choose,
};
use crate::limits::pull as limits;
use crate::{blocking, clock, tls};

/// Error of setting up the client of registries.
#[derive(Debug, thiserror::Error)]
#[error("can't set up the client of registries")]
pub struct SetupError(#[source] reqwest::Error);

/// An image to pull.
#[derive(Debug, Clone)]
pub struct Request {
    /// The image.
    pub reference: Reference,
    /// The platform, where there are several.
    pub platform: Platform,
    /// Labels of the name.
    pub labels: BTreeMap<String, String>,
    /// Lent for this pull.
    pub credentials: Option<Credentials>,
    /// The image whose kernel and initial RAM disk it boots with.
    pub base: ImageName,
}

/// The stage of a pull.
#[derive(Debug, Clone)]
pub enum Stage {
    /// It waits for its turn.
    Pending,
    /// Its blobs are fetched.
    Pulling,
    /// Its layers are put on top of each other.
    Converting,
    /// The image is there.
    Ready(Arc<Image>),
    /// It is given up.
    Failed(Arc<PullError>),
}

/// A pull that is under way or has failed.
#[derive(Debug)]
pub struct Pull {
    /// The image that was asked for.
    pub reference: Reference,
    /// The digest of the manifest.
    pub digest: String,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// Labels of the name.
    pub labels: BTreeMap<String, String>,
    /// The instant at which it began, by the wall clock.
    pub since: DateTime<Utc>,
    /// All its blobs, packed, in bytes.
    pub bytes_total: u64,
    number: u64,
    bytes: AtomicU64,
    stage: watch::Sender<Stage>,
}

impl Pull {
    /// Bytes of its blobs that are there.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Its present stage.
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Waits until the image is there.
    ///
    /// # Errors
    /// The reason for which it is not.
    pub async fn done(&self) -> Result<Arc<Image>, Arc<PullError>> {
        let mut stage = self.stage.subscribe();
        let is_over = |stage: &Stage| matches!(stage, Stage::Ready(_) | Stage::Failed(_));
        let over = stage.wait_for(is_over).await.map(|stage| stage.clone());
        match over {
            Ok(Stage::Ready(image)) => Ok(image),
            Ok(Stage::Failed(error)) => Err(error),
            Ok(_) | Err(_) => Err(Arc::new(PullError::Interrupted)),
        }
    }
}

/// The image that a reference stands for.
struct Found {
    manifest: Descriptor,
    text: Vec<u8>,
    parts: ImageManifest,
    platform: Platform,
}

impl Found {
    /// The blobs to fetch, each once.
    fn blobs(&self) -> Vec<Descriptor> {
        let mut blobs = vec![self.parts.config.clone()];
        blobs.extend(self.parts.layers.iter().cloned());
        blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        blobs.dedup_by(|a, b| a.digest == b.digest);
        blobs
    }
}

/// Turns of a blob: one pull fetches it at a time, the others find it there.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// All pulls of a host.
pub struct Pulls {
    images: Arc<Images>,
    client: Client,
    pace: Pace,
    turns: Semaphore,
    next: AtomicU64,
    known: Mutex<Known>,
    blobs: Mutex<HashMap<String, Turn>>,
}

#[derive(Default)]
struct Known {
    under_way: BTreeMap<String, Arc<Pull>>,
    /// Failed ones, oldest first.
    failed: VecDeque<Arc<Pull>>,
}

impl Pulls {
    /// Pulls into these images.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(images: Arc<Images>, pace: Pace) -> Result<Self, SetupError> {
        let client = tls::client()
            .connect_timeout(Duration::from_millis(limits::CONNECT_MS_MAX))
            .redirect(Policy::none())
            .referer(false)
            .user_agent(concat!("tallyman/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(SetupError)?;
        Ok(Self {
            images,
            client,
            pace,
            turns: Semaphore::new(limits::AT_ONCE),
            next: AtomicU64::new(0),
            known: Mutex::default(),
            blobs: Mutex::default(),
        })
    }

    /// Finds out what a reference stands for and begins to pull it; one pull of a reference runs at
    /// a time. Goes on when the caller goes away.
    ///
    /// # Errors
    /// The registry's refusal, or the fault of its answer; [`PullError::Full`].
    pub async fn begin(self: &Arc<Self>, request: Request) -> Result<Arc<Pull>, PullError> {
        let name = request.reference.to_string();
        if let Some(pull) = self.known().under_way.get(&name) {
            return Ok(pull.clone());
        }
        let registry = Registry::new(
            self.client.clone(),
            &request.reference,
            request.credentials.clone(),
            self.pace,
        )?;
        let found = find(&registry, &request).await?;
        let pull = Arc::new(self.describe(&request, &found)?);
        let mut known = self.known();
        if let Some(other) = known.under_way.get(&name) {
            return Ok(other.clone());
        }
        if known.under_way.len() >= limits::WAITING_MAX {
            return Err(PullError::Full(limits::WAITING_MAX));
        }
        known.failed.retain(|failed| failed.reference != request.reference);
        known.under_way.insert(name, pull.clone());
        drop(known);
        tokio::spawn(self.clone().run(pull.clone(), registry, request, found));
        Ok(pull)
    }

    /// A new pull of an image that was found.
    fn describe(&self, request: &Request, found: &Found) -> Result<Pull, PullError> {
        let blobs = found.blobs();
        let bytes_total = blobs.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        if bytes_total > limits::IMAGE_BYTES_MAX {
            return Err(PullError::TooLarge { bytes: bytes_total, most: limits::IMAGE_BYTES_MAX });
        }
        Ok(Pull {
            reference: request.reference.clone(),
            digest: found.manifest.digest.clone(),
            platform: found.platform.to_string(),
            labels: request.labels.clone(),
            since: DateTime::from_timestamp_nanos(clock::wall_ns()),
            bytes_total,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            bytes: AtomicU64::new(0),
            stage: watch::Sender::new(Stage::Pending),
        })
    }

    /// The pull of a reference that is under way, or has failed since.
    pub fn find(&self, reference: &Reference) -> Option<Arc<Pull>> {
        let known = self.known();
        let failed = known.failed.iter().find(|pull| pull.reference == *reference);
        known.under_way.get(&reference.to_string()).or(failed).cloned()
    }

    /// All pulls that are under way or have failed since.
    pub fn list(&self) -> Vec<Arc<Pull>> {
        let known = self.known();
        known.under_way.values().chain(&known.failed).cloned().collect()
    }

    /// Forgets that a pull has failed. Returns false if none has.
    pub fn forget(&self, reference: &Reference) -> bool {
        let failed = &mut self.known().failed;
        let before = failed.len();
        failed.retain(|pull| pull.reference != *reference);
        failed.len() < before
    }

    /// Place of a pull among those that wait, from 1 on; none if it does not wait.
    pub fn place(&self, pull: &Pull) -> Option<u64> {
        let waits = |pull: &Pull| matches!(*pull.stage.borrow(), Stage::Pending);
        let before = |other: &&Arc<Pull>| waits(other) && other.number < pull.number;
        let ahead = self.known().under_way.values().filter(before).count() as u64;
        waits(pull).then_some(ahead + 1)
    }

    /// Removes blobs that no pull needs.
    ///
    /// # Errors
    /// [`PullError::Disk`].
    pub fn sweep(&self) -> Result<(), PullError> {
        let blobs = self.blobs();
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(PullError::Disk(error)),
        };
        for entry in entries {
            let entry = entry.map_err(PullError::Disk)?;
            let name = entry.file_name();
            let hex = name.to_string_lossy();
            let digest = format!("sha256:{}", hex.trim_start_matches(".part-"));
            if !blobs.contains_key(&digest) {
                fs::remove_file(entry.path()).map_err(PullError::Disk)?;
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<String, Turn>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        self.images.blobs().join("blobs/sha256")
    }

    async fn run(
        self: Arc<Self>,
        pull: Arc<Pull>,
        registry: Registry,
        request: Request,
        found: Found,
    ) {
        let name = pull.reference.to_string();
        let ended = self.get(&pull, &registry, request, found).await;
        let mut known = self.known();
        known.under_way.remove(&name);
        match ended {
            Ok(image) => {
                tracing::info!(image = name, digest = pull.digest, "pulled");
                pull.stage.send_replace(Stage::Ready(Arc::new(image)));
            }
            Err(error) => {
                tracing::warn!(image = name, error = in_words(&error), "not pulled");
                pull.stage.send_replace(Stage::Failed(Arc::new(error)));
                known.failed.push_back(pull.clone());
                let spare = known.failed.len().saturating_sub(limits::FAILED_MAX);
                known.failed.drain(..spare);
            }
        }
    }

    async fn get(
        &self,
        pull: &Pull,
        registry: &Registry,
        request: Request,
        found: Found,
    ) -> Result<Image, PullError> {
        let Request { reference, labels, base, .. } = request;
        let _turn = self.turns.acquire().await.map_err(|_| PullError::Interrupted)?;
        let images = self.images.clone();
        let digest = pull.digest.clone();
        let there = stored(move || images.pulled(&digest)).await?;
        let image = match there {
            Some(image) => image,
            None => self.fetch_and_convert(pull, registry, &reference, base, found).await?,
        };
        let images = self.images.clone();
        stored(move || {
            images.note_use(&image)?;
            images.set_name(&reference, &image.manifest.name, labels)?;
            Ok(image)
        })
        .await
    }

    async fn fetch_and_convert(
        &self,
        pull: &Pull,
        registry: &Registry,
        reference: &Reference,
        base: ImageName,
        found: Found,
    ) -> Result<Image, PullError> {
        pull.stage.send_replace(Stage::Pulling);
        let wanted = found.blobs();
        let mut held: Vec<_> = wanted.iter().map(|blob| self.hold(&blob.digest)).collect();
        held.push(self.hold(&found.manifest.digest));
        let fetched = self.fetch(pull, registry, &wanted, &found).await;
        let made = match fetched {
            Ok(()) => {
                pull.stage.send_replace(Stage::Converting);
                let images = self.images.clone();
                let manifest = found.manifest;
                let pulled = PulledImage { manifest, source: reference.place(), base };
                stored(move || images.add_pulled(&pulled)).await
            }
            Err(error) => Err(error),
        };
        self.let_go(held, made.is_ok());
        made
    }

    /// Fetches all blobs that are not there.
    async fn fetch(
        &self,
        pull: &Pull,
        registry: &Registry,
        wanted: &[Descriptor],
        found: &Found,
    ) -> Result<(), PullError> {
        let folder = self.folder();
        let manifest = folder.join(found.manifest.hex()?);
        put(&folder, &manifest, &found.text).map_err(PullError::Disk)?;
        let fetch = |at: &Descriptor| {
            let (_, turn) = self.hold(&at.digest);
            let at = at.clone();
            let folder = folder.clone();
            async move {
                let _turn = turn.lock().await;
                Fetch { registry, at: &at, folder, progress: &pull.bytes }.run().await
            }
        };
        let fetching: Vec<_> = wanted.iter().map(fetch).collect();
        stream::iter(fetching)
            .buffer_unordered(limits::LAYERS_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    fn hold(&self, digest: &str) -> (String, Turn) {
        let mut blobs = self.blobs();
        (digest.to_owned(), blobs.entry(digest.to_owned()).or_default().clone())
    }

    /// Gives blobs up; those that no other pull needs are removed if they are used up.
    fn let_go(&self, held: Vec<(String, Turn)>, is_used_up: bool) {
        let mut blobs = self.blobs();
        for (digest, turn) in held {
            drop(turn);
            if blobs.get(&digest).is_some_and(|turn| Arc::strong_count(turn) > 1) {
                continue;
            }
            blobs.remove(&digest);
            let hex = digest.trim_start_matches("sha256:");
            if is_used_up && let Err(error) = fs::remove_file(self.folder().join(hex)) {
                tracing::warn!(digest, %error, "a blob that is used up could not be removed");
            }
        }
    }
}

/// Writes a file as a whole: another pull may read it.
fn put(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

/// The image that a reference stands for.
async fn find(registry: &Registry, request: &Request) -> Result<Found, PullError> {
    let wanted = &request.platform;
    let mut platform = wanted.clone();
    let mut version = request.reference.version().to_owned();
    for _ in 0..3 {
        let (manifest, text) = registry.document(&version).await?;
        match Document::parse(&manifest.digest, &text)? {
            Document::Manifest(parts) => return Ok(Found { manifest, text, parts, platform }),
            Document::Index(manifests) => {
                let chosen = choose(&manifest.digest, &manifests, wanted)?;
                chosen.hex()?;
                platform = chosen.platform.clone().unwrap_or(platform);
                version = chosen.digest.clone();
            }
        }
    }
    Err(error::fault(registry.name(), "an index leads to an index in an index"))
}

/// Runs work on the images off the asynchronous threads.
async fn stored<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::image::ImageError> + Send + 'static,
) -> Result<T, PullError> {
    let done = blocking::run(work).await.map_err(|_| PullError::Interrupted)?;
    done.map_err(PullError::Store)
}
