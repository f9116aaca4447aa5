//! Blobs: fetched into a file beside their place, gone on with after a break, and put in place once
//! they are what their digest says.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::error::{PullError, fault};
use super::registry::Registry;
use crate::blocking;
use crate::image::Descriptor;
use crate::limits::pull as limits;

/// A blob that is being fetched.
pub(super) struct Fetch<'a> {
    pub(super) registry: &'a Registry,
    pub(super) at: &'a Descriptor,
    /// The folder `blobs/sha256` of the store.
    pub(super) folder: PathBuf,
    /// Bytes of the image that are there, for people.
    pub(super) progress: &'a AtomicU64,
}

/// The part of a blob that is there.
struct Part {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Part {
    /// Opens the part of an earlier try, or begins one. Blocking.
    fn open(path: &Path, most: u64) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() > most {
            file.set_len(0)?;
        }
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut file, &mut hash)?;
        Ok(Self { file, hash, bytes })
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hash = Sha256::new();
        self.bytes = 0;
        Ok(())
    }

    fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }
}

/// Runs work on the disk off the asynchronous threads.
async fn off<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PullError> {
    let done = blocking::run(work).await.map_err(|_| PullError::Interrupted)?;
    done.map_err(PullError::Disk)
}

impl Fetch<'_> {
    /// Fetches the blob, unless it is there.
    pub(super) async fn run(&self) -> Result<(), PullError> {
        let hex = self.at.hex()?.to_owned();
        let place = self.folder.join(&hex);
        let beside = self.folder.join(format!(".part-{hex}"));
        let size = self.at.size;
        let there = place.clone();
        let path = beside.clone();
        let part = off(move || match fs::metadata(&there) {
            Ok(data) if data.len() == size => Ok(None),
            Ok(_) | Err(_) => Part::open(&path, size).map(Some),
        });
        let Some(mut part) = part.await? else {
            self.progress.fetch_add(size, Ordering::Relaxed);
            return Ok(());
        };
        self.progress.fetch_add(part.bytes, Ordering::Relaxed);
        let mut idle_tries = 0;
        while part.bytes < size {
            let before = part.bytes;
            let gone_on = self.go_on(&mut part).await;
            if part.bytes == size {
                break;
            }
            idle_tries = if part.bytes > before { 0 } else { idle_tries + 1 };
            let is_over = idle_tries > limits::TRIES_MAX;
            match gone_on {
                Err(error) if is_over || !is_passing(&error) => return Err(error),
                Ok(()) if is_over => {
                    let reason = format!("{} ends before its {size} bytes", self.at.digest);
                    return Err(fault(self.registry.name(), reason));
                }
                Ok(()) | Err(_) => {
                    sleep(self.registry.pace.pause * (1 << idle_tries)).await;
                }
            }
        }
        let at = self.at.clone();
        let checked = blocking::run(move || finish(part, &at, &beside, &place)).await;
        checked.map_err(|_| PullError::Interrupted)?
    }

    /// Fetches what is missing, until it is there or the connection ends.
    async fn go_on(&self, part: &mut Part) -> Result<(), PullError> {
        let registry = self.registry;
        let mut answer = registry.blob(&self.at.digest, part.bytes).await?;
        if part.bytes > 0 && !goes_on_at(&answer, part.bytes) {
            self.progress.fetch_sub(part.bytes, Ordering::Relaxed);
            part.begin_anew().map_err(PullError::Disk)?;
        }
        let mut since = Instant::now();
        let mut recent = 0;
        loop {
            let left = registry.pace.patience.saturating_sub(since.elapsed());
            let chunk = timeout(left, answer.chunk()).await.map_err(|_| registry.slow())?;
            let Some(chunk) = chunk.map_err(|error| registry.away(error))? else { break };
            if chunk.len() as u64 > self.at.size - part.bytes {
                let _ = part.begin_anew();
                let reason = format!("{} has more than {} bytes", self.at.digest, self.at.size);
                return Err(fault(registry.name(), reason));
            }
            // A chunk is a few kilobytes, which the page cache takes at once.
            part.add(&chunk).map_err(PullError::Disk)?;
            self.progress.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            recent += chunk.len() as u64;
            if recent >= limits::SLOW_BYTES {
                since = Instant::now();
                recent = 0;
            }
        }
        Ok(())
    }
}

/// Returns whether an answer begins at byte `from`.
fn goes_on_at(answer: &Response, from: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let begins = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    answer.status() == StatusCode::PARTIAL_CONTENT
        && begins.is_some_and(|begins| begins.parse() == Ok(from))
}

/// Returns whether a further try may bring more.
fn is_passing(error: &PullError) -> bool {
    matches!(error, PullError::Away { .. })
}

/// Puts a whole blob in its place. Blocking.
fn finish(part: Part, at: &Descriptor, beside: &Path, place: &Path) -> Result<(), PullError> {
    let Part { file, hash, bytes } = part;
    if let Err(wrong) = at.check(bytes, &hash.finalize()) {
        // Nothing of it is right: the next try begins anew.
        let _ = fs::remove_file(beside);
        return Err(wrong.into());
    }
    file.sync_all().and_then(|()| fs::rename(beside, place)).map_err(PullError::Disk)
}
