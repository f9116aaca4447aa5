//! Names of pulled images: a reference stands for the image that its registry had when it was last
//! pulled. The table is one file, replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::reference::Reference;
use super::{Image, ImageError, Images, sync_folder, write_json};
use crate::clock;
use crate::id::ImageName;

const TABLE: &str = ".names.json";
const LOCK: &str = ".names.lock";

/// An image by one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The image that is meant.
    pub image: ImageName,
    /// The instant at which it was pulled or named so, by the wall clock.
    pub since: DateTime<Utc>,
    /// Labels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// All names, by reference.
pub type Names = BTreeMap<String, Named>;

/// An image that was found by a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The image.
    pub image: Image,
    /// The reference that the text stands for; none for the name of an import.
    pub reference: Option<Reference>,
    /// Labels of that name.
    pub labels: BTreeMap<String, String>,
}

impl Images {
    /// The names of all pulled images.
    ///
    /// # Errors
    /// [`ImageError::Store`], [`ImageError::Manifest`] if the table was altered.
    pub fn names_of_pulled(&self) -> Result<Names, ImageError> {
        let path = self.table();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| ImageError::Manifest { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Names::new()),
            Err(error) => Err(ImageError::store("read", &path)(error)),
        }
    }

    /// Lets a reference stand for an image. Instances of the image that it stood for keep theirs.
    ///
    /// # Errors
    /// The errors of [`Images::names_of_pulled`], [`ImageError::Unknown`] if there is no such
    /// image.
    pub fn set_name(
        &self,
        reference: &Reference,
        image: &ImageName,
        labels: BTreeMap<String, String>,
    ) -> Result<(), ImageError> {
        let since = DateTime::from_timestamp_nanos(clock::wall_ns());
        self.change_names(|names| {
            self.get(image)?;
            let named = Named { image: image.clone(), since, labels };
            names.insert(reference.to_string(), named);
            Ok(())
        })
    }

    /// Takes a name away. Returns the image that it stood for; none if there was no such name.
    ///
    /// # Errors
    /// The errors of [`Images::names_of_pulled`].
    pub fn remove_name(&self, reference: &Reference) -> Result<Option<Named>, ImageError> {
        self.change_names(|names| Ok(names.remove(&reference.to_string())))
    }

    /// Takes all names of an image away.
    pub(super) fn remove_names_of(&self, image: &ImageName) -> Result<(), ImageError> {
        self.change_names(|names| {
            names.retain(|_, named| named.image != *image);
            Ok(())
        })
    }

    /// The image that a text stands for: the name of an import, a reference, or the digest of a
    /// pulled image after the name of any repository.
    ///
    /// # Errors
    /// [`ImageError::UnknownReference`], [`ImageError::Unknown`] if the text can only be a name,
    /// and the errors of [`Images::get`].
    pub fn resolve(&self, text: &str) -> Result<Resolved, ImageError> {
        let by_name = text.parse::<ImageName>().map(|name| self.get(&name));
        let unknown = match by_name {
            Ok(Ok(image)) => {
                return Ok(Resolved { image, reference: None, labels: BTreeMap::new() });
            }
            Ok(Err(error @ ImageError::Unknown { .. })) => Some(error),
            Ok(Err(error)) => return Err(error),
            Err(_) => None,
        };
        let reference: Reference = text.parse()?;
        let named = self.names_of_pulled()?.remove(&reference.to_string());
        let found = match (&named, reference.digest()) {
            (Some(named), _) => Some(self.get(&named.image)?),
            (None, Some(digest)) => self.pulled(digest)?,
            (None, None) => None,
        };
        match found {
            Some(image) => Ok(Resolved {
                image,
                reference: Some(reference),
                labels: named.map(|named| named.labels).unwrap_or_default(),
            }),
            None => {
                Err(unknown.unwrap_or_else(|| ImageError::UnknownReference(reference.to_string())))
            }
        }
    }

    fn table(&self) -> PathBuf {
        self.folder.join(TABLE)
    }

    fn change_names<T>(
        &self,
        change: impl FnOnce(&mut Names) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let path = self.folder.join(LOCK);
        let lock = File::create(&path).map_err(ImageError::store("open", &path))?;
        lock.lock().map_err(ImageError::store("lock", &path))?;
        let mut names = self.names_of_pulled()?;
        let before = names.clone();
        let changed = change(&mut names)?;
        if names != before {
            let aside = self.folder.join(".names.json.new");
            write_json(&names, &aside)?;
            let table = self.table();
            fs::rename(&aside, &table).map_err(ImageError::store("rename to", &table))?;
            sync_folder(&self.folder)?;
        }
        Ok(changed)
    }
}
