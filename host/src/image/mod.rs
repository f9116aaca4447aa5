//! Images: the files that a machine boots from. One folder each, `<data>/images/<name>/`, with
//! `image.json` and the files it describes.
//!
//! An image is complete or not there: it is written aside, made durable, and then renamed to its
//! name. Nothing changes an image after that. All functions block; they touch the disk and nothing
//! else.

mod copy;
pub mod debian;
mod error;
mod initramfs;
mod manifest;
mod modules;
mod names;
mod oci;
mod reference;
mod unused;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde::Serialize;

pub use copy::FileRecord;
pub use debian::{BuildError, build_debian_busybox};
pub use error::ImageError;
pub use manifest::{Image, ImageImport, Manifest};
pub use names::{Named, Names, Resolved};
pub use oci::{
    Descriptor, Document, ImageManifest, LayoutError, OciError, OciImport, OciRecord, Platform,
    PulledImage, Settings as OciSettings, UnknownPlatform, choose, digest_of,
};
pub use reference::{Reference, ReferenceError};

use crate::id::ImageName;
use crate::{clock, limits};

const MANIFEST: &str = "image.json";
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";
const ROOT_DISK: &str = "root.img";
const ROOT_FS: &str = "root.erofs";
const LOCK: &str = ".lock";
/// The folder of blobs that are being pulled. A name can't begin with a dot, so it is no image.
const BLOBS: &str = ".blobs";
/// Prefix of folders that are being written or removed. A name can't begin with a dot, so they are
/// never taken for images.
const ASIDE: &str = ".aside-";

/// The images of a data folder.
#[derive(Debug, Clone)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// Opens the images in `<data>/images`; makes the folder if it isn't there.
    ///
    /// # Errors
    /// [`ImageError::Store`] if the folder can't be made.
    pub fn open(data: &Path) -> Result<Self, ImageError> {
        let folder = data.join("images");
        fs::create_dir_all(&folder).map_err(ImageError::store("make the folder", &folder))?;
        Ok(Self { folder })
    }

    /// All images in the order of their names. A damaged one is left out with a warning in the log;
    /// [`Images::get`] says what is wrong with it.
    ///
    /// # Errors
    /// [`ImageError::Store`] if the folder can't be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut images = Vec::new();
        for name in self.names()? {
            match self.get(&name) {
                Ok(image) => images.push(image),
                Err(ImageError::Unknown { .. }) => {} // Removed since the folder was read.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(image = %name, error, "image left out")
                }
            }
        }
        Ok(images)
    }

    /// Returns the image of this name, if its files are there in full length.
    ///
    /// # Errors
    /// [`ImageError::Unknown`] if there is none, [`ImageError::Manifest`] or
    /// [`ImageError::Damaged`] if it was altered.
    pub fn get(&self, name: &ImageName) -> Result<Image, ImageError> {
        let folder = self.folder.join(name.as_str());
        if !folder.is_dir() {
            return Err(ImageError::Unknown { name: name.clone(), known: self.names()? });
        }
        let image = Image::read(folder)?;
        if &image.manifest.name != name {
            let reason =
                format!("{MANIFEST} is of '{}'; was the folder renamed?", image.manifest.name);
            return Err(ImageError::Damaged { name: name.clone(), reason });
        }
        image.check_lengths()?;
        Ok(image)
    }

    /// Copies the files of `import` into a new image.
    ///
    /// # Errors
    /// By the caller's fault: [`ImageError::NameInUse`], [`ImageError::Setting`],
    /// [`ImageError::Source`], [`ImageError::NotAFile`], [`ImageError::NotAKernel`]. By the host's:
    /// [`ImageError::Store`], for example when the disk is full. Neither leaves anything behind.
    pub fn import(&self, import: &ImageImport) -> Result<Image, ImageError> {
        import.check()?;
        let target = self.folder.join(import.name.as_str());
        let _lock = self.lock()?;
        if target.exists() {
            return Err(ImageError::NameInUse { name: import.name.clone() });
        }
        let aside = self.aside()?;
        let manifest = copy_files(import, aside.path())?;
        self.put(manifest, aside)
    }

    /// Puts an image whose files are written aside in its place.
    fn put(&self, manifest: Manifest, aside: tempfile::TempDir) -> Result<Image, ImageError> {
        let folder = self.folder.join(manifest.name.as_str());
        write_json(&manifest, &aside.path().join(MANIFEST))?;
        sync_folder(aside.path())?;
        let aside = aside.keep();
        fs::rename(&aside, &folder).map_err(ImageError::store("rename to", &folder))?;
        sync_folder(&self.folder)?;
        Ok(Image { folder, manifest })
    }

    /// Removes an image. The caller makes sure that no instance needs it any more: a machine reads
    /// its kernel at every start and restore.
    ///
    /// # Errors
    /// [`ImageError::Unknown`] if there is none, [`ImageError::Store`] if the disk refuses.
    pub fn remove(&self, name: &ImageName) -> Result<(), ImageError> {
        match self.remove_if(name, |_| true)? {
            true => Ok(()),
            false => Err(ImageError::Unknown { name: name.clone(), known: self.names()? }),
        }
    }

    /// Removes an image if `is_due` says so before and after it was moved away: a use that began in
    /// between gets it back. Returns false if it is not removed or not there.
    fn remove_if(
        &self,
        name: &ImageName,
        is_due: impl Fn(&Image) -> bool,
    ) -> Result<bool, ImageError> {
        let _lock = self.lock()?;
        let folder = self.folder.join(name.as_str());
        let is_still_due = |folder: &Path| {
            let image = Image::read(folder.to_owned());
            image.map_or(true, |image| is_due(&image))
        };
        if !folder.is_dir() || !is_still_due(&folder) {
            return Ok(false);
        }
        let aside = self.aside()?;
        let away = aside.path().join(name.as_str());
        fs::rename(&folder, &away).map_err(ImageError::store("move away", &folder))?;
        if !is_still_due(&away) {
            fs::rename(&away, &folder).map_err(ImageError::store("move back", &folder))?;
            return Ok(false);
        }
        sync_folder(&self.folder)?;
        let path = aside.path().to_path_buf();
        aside.close().map_err(ImageError::store("remove", &path))?;
        Ok(true)
    }

    /// Reads every file of an image and compares it with its digest. Takes as long as reading all
    /// of its files.
    ///
    /// # Errors
    /// The errors of [`Images::get`], and [`ImageError::Damaged`] naming the first file that was
    /// altered.
    pub fn verify(&self, name: &ImageName) -> Result<Image, ImageError> {
        let image = self.get(name)?;
        image.check_digests()?;
        Ok(image)
    }

    fn names(&self) -> Result<Vec<ImageName>, ImageError> {
        let failed = ImageError::store("read the folder", &self.folder);
        let entries = fs::read_dir(&self.folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed)?;
        let mut names: Vec<ImageName> = entries
            .iter()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Takes the lock under which one import or removal runs at a time, across processes, and
    /// removes the folders that an interrupted one has left.
    fn lock(&self) -> Result<File, ImageError> {
        let path = self.folder.join(LOCK);
        let file = File::create(&path).map_err(ImageError::store("open", &path))?;
        file.lock().map_err(ImageError::store("lock", &path))?;
        self.sweep()?;
        Ok(file)
    }

    fn sweep(&self) -> Result<(), ImageError> {
        let failed = ImageError::store("read the folder", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(failed)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
                fs::remove_dir_all(entry.path())
                    .map_err(ImageError::store("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    fn aside(&self) -> Result<tempfile::TempDir, ImageError> {
        let made = tempfile::Builder::new().prefix(ASIDE).tempdir_in(&self.folder);
        made.map_err(ImageError::store("make a folder in", &self.folder))
    }
}

fn copy_files(import: &ImageImport, folder: &Path) -> Result<Manifest, ImageError> {
    let optional = |source: &Option<PathBuf>, what, file| {
        source.as_ref().map(|source| copy::copy(what, source, &folder.join(file))).transpose()
    };
    Ok(Manifest {
        name: import.name.clone(),
        description: import.description.clone(),
        created_at: DateTime::from_timestamp_nanos(clock::wall_ns()),
        memory_bytes_min: import.memory_bytes_min,
        cmdline: import.cmdline.clone(),
        agent: import.agent,
        kernel: copy::copy_kernel(&import.kernel, &folder.join(KERNEL))?,
        initrd: optional(&import.initrd, "initrd", INITRD)?,
        root_disk: optional(&import.root_disk, "root disk", ROOT_DISK)?,
        root_fs: None,
        oci: None,
    })
}

fn write_json(document: &impl Serialize, path: &Path) -> Result<(), ImageError> {
    let mut text = serde_json::to_vec_pretty(document)
        .map_err(|source| ImageError::Manifest { path: path.to_owned(), source })?;
    text.push(b'\n');
    let written = File::create(path)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(ImageError::store("write", path))
}

fn sync_folder(folder: &Path) -> Result<(), ImageError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(ImageError::store("sync", folder))
}
