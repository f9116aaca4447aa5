//! The removal of pulled images that nothing uses.

use std::sync::Arc;
use std::time::Duration;

use crate::blocking;
use crate::causes::in_words;
use crate::driver::Fleet;
use crate::image::Images;
use crate::limits::pull::PRUNE_EVERY_MS;

/// Removes pulled images that nothing has used for so long, every now and then.
pub(super) async fn prune(images: Arc<Images>, fleet: Fleet, unused_for: Duration) {
    loop {
        let images = images.clone();
        let fleet = fleet.clone();
        let pruned = blocking::run(move || {
            images.prune(unused_for, |image| !fleet.users_of(&image.manifest.name, 1).is_empty())
        });
        match pruned.await {
            Ok(Ok(removed)) => {
                for image in removed {
                    let digest = image.digest();
                    tracing::info!(digest, "an image that nothing used is removed");
                }
            }
            Ok(Err(error)) => tracing::warn!(error = in_words(&error), "images are not pruned"),
            Err(error) => tracing::error!(%error, "images are not pruned"),
        }
        tokio::time::sleep(Duration::from_millis(PRUNE_EVERY_MS)).await;
    }
}
