//! Changes in folders, for any number of watchers, through one inotify instance: the kernel allows
//! each user only about a hundred.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::watch;
use tokio::task::JoinHandle;

type Watchers = Arc<Mutex<HashMap<WatchDescriptor, watch::Sender<()>>>>;

/// The inotify instance and its watchers.
pub(super) struct Folders {
    watches: Watches,
    watchers: Watchers,
    reader: JoinHandle<()>,
}

/// A watcher of one folder.
pub(super) struct Changes {
    changed: watch::Receiver<()>,
    descriptor: WatchDescriptor,
    watches: Watches,
    watchers: Watchers,
}

impl Folders {
    /// Opens the inotify instance. Needs an async runtime.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let watchers = Watchers::default();
        let events = inotify.into_event_stream(vec![0; 16 << 10])?;
        let reader = tokio::spawn(wake(events, watchers.clone()));
        Ok(Self { watches, watchers, reader })
    }

    /// Watches a folder: files created, renamed into it, written to.
    pub(super) fn watch(&self, folder: &Path) -> io::Result<Changes> {
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MODIFY | WatchMask::ONLYDIR;
        // The lock is taken first, so that no event can come before its watcher is known.
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptor = self.watches.clone().add(folder, mask)?;
        let changed = watchers
            .entry(descriptor.clone())
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe();
        drop(watchers);
        Ok(Changes {
            changed,
            descriptor,
            watches: self.watches.clone(),
            watchers: self.watchers.clone(),
        })
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Changes {
    /// Waits until something has changed since the last call.
    pub(super) async fn next(&mut self) {
        if self.changed.changed().await.is_err() {
            // The watch is gone with its folder. All callers wait for something else too.
            std::future::pending().await
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let last =
            watchers.get(&self.descriptor).is_some_and(|sender| sender.receiver_count() <= 1);
        if last {
            watchers.remove(&self.descriptor);
            // Fails where the folder is gone, and the watch with it.
            let _ = self.watches.remove(self.descriptor.clone());
        }
    }
}

async fn wake(mut events: EventStream<Vec<u8>>, watchers: Watchers) {
    while let Some(event) = events.next().await {
        let mut watchers = watchers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event { mask, .. }) if mask.contains(EventMask::Q_OVERFLOW) => {
                watchers.values().for_each(|watcher| watcher.send_replace(()));
            }
            Ok(Event { mask, wd, .. }) if mask.contains(EventMask::IGNORED) => {
                watchers.remove(&wd);
            }
            Ok(Event { wd, .. }) => {
                watchers.get(&wd).into_iter().for_each(|watcher| watcher.send_replace(()));
            }
            Err(error) => {
                tracing::error!(
                    %error, "can't read from inotify; boot markers and exits are noticed late"
                );
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn every_watcher_of_a_folder_is_woken_until_it_goes() {
        let dir = tempfile::tempdir().expect("dir");
        let folders = Folders::new().expect("inotify");
        let mut first = folders.watch(dir.path()).expect("watch");
        let second = folders.watch(dir.path()).expect("watch");
        drop(second);
        fs::write(dir.path().join("file"), "text").expect("write");
        first.next().await;
        drop(first);
        assert!(folders.watchers.lock().expect("lock").is_empty());
        let mut again = folders.watch(dir.path()).expect("watch");
        fs::write(dir.path().join("file"), "more").expect("write");
        again.next().await;
    }

    #[tokio::test]
    async fn a_change_between_the_watch_and_the_wait_is_not_missed() {
        let dir = tempfile::tempdir().expect("dir");
        let folders = Folders::new().expect("inotify");
        let mut changes = folders.watch(dir.path()).expect("watch");
        fs::write(dir.path().join("aside"), "text").expect("write");
        changes.next().await;
        fs::rename(dir.path().join("aside"), dir.path().join("file")).expect("rename");
        changes.next().await;
    }
}
