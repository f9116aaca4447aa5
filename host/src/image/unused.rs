//! Removal of pulled images that nothing has used for a time.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Image, ImageError, Images};
use crate::clock;

/// The file whose time of change is that of the last use.
const USED: &str = "used";

impl Images {
    /// Notes that an instance is made of an image now.
    ///
    /// # Errors
    /// [`ImageError::Store`], also if the image is gone.
    pub fn note_use(&self, image: &Image) -> Result<(), ImageError> {
        let path = image.folder.join(USED);
        let now = UNIX_EPOCH + Duration::from_nanos(clock::wall_ns().try_into().unwrap_or(0));
        let noted = File::options().create(true).append(true).open(&path);
        noted.and_then(|file| file.set_modified(now)).map_err(ImageError::store("write", &path))
    }

    /// Removes the pulled images that were neither pulled nor used within `unused_for` and that
    /// nothing holds, with their names. Returns them.
    ///
    /// # Errors
    /// [`ImageError::Store`].
    pub fn prune(
        &self,
        unused_for: Duration,
        is_held: impl Fn(&Image) -> bool,
    ) -> Result<Vec<Image>, ImageError> {
        let now = UNIX_EPOCH + Duration::from_nanos(clock::wall_ns().try_into().unwrap_or(0));
        let before = now.checked_sub(unused_for).unwrap_or(UNIX_EPOCH);
        let is_unused = |image: &Image| {
            image.is_pulled() && last_use(&image.folder).is_none_or(|last| last <= before)
        };
        let mut removed = Vec::new();
        for image in self.list()? {
            let is_due = |image: &Image| is_unused(image) && !is_held(image);
            if is_due(&image) && self.remove_if(&image.manifest.name, is_due)? {
                self.remove_names_of(&image.manifest.name)?;
                removed.push(image);
            }
        }
        Ok(removed)
    }
}

fn last_use(folder: &Path) -> Option<SystemTime> {
    let at = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    at(&folder.join(USED)).or_else(|| at(&folder.join(super::MANIFEST)))
}
