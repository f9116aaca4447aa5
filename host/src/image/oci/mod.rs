//! Images from OCI layouts and registries: layers are put on top of each other in memory and
//! written as one EROFS image. Nothing of an image is run, and none of its paths meets the host's
//! file system.

mod documents;
mod erofs;
mod error;
mod layer;
mod layout;
mod platform;
mod record;
mod tree;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::DateTime;

use self::layer::Builder;
use self::layout::{Found, Layout};
use super::copy::{self, FileRecord};
use super::{BLOBS, INITRD, Image, ImageError, Images, KERNEL, Manifest, ROOT_FS};
use crate::causes::in_words;
use crate::clock;
use crate::id::ImageName;

pub use documents::{Descriptor, Document, ImageManifest, choose, digest_of};
pub use error::{LayoutError, OciError};
pub use platform::{Platform, UnknownPlatform};
pub use record::{OciRecord, Settings};

/// An image in an OCI layout on this host to import, and the base that it boots with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciImport {
    /// Name of the new image.
    pub name: ImageName,
    /// The folder of the layout.
    pub layout: PathBuf,
    /// The image's name in the layout; the only image if none.
    pub tag: Option<String>,
    /// The image whose kernel and initial RAM disk it boots with.
    pub base: ImageName,
}

/// An image that was pulled: its blobs are in [`Images::blobs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// The repository that it was pulled from, with its registry.
    pub source: String,
    /// The image whose kernel and initial RAM disk it boots with.
    pub base: ImageName,
}

/// An image to convert.
struct Conversion<'a> {
    name: ImageName,
    base: &'a ImageName,
    layout: Layout,
    found: Found,
    source: Option<String>,
}

impl Images {
    /// Imports an image from an OCI layout. What was converted before is shared.
    ///
    /// # Errors
    /// [`ImageError::NameInUse`], [`ImageError::Unknown`] for the base, [`ImageError::Oci`], and
    /// [`ImageError::Store`].
    pub fn import_oci(&self, import: &OciImport) -> Result<Image, ImageError> {
        let layout = Layout::open(&import.layout).map_err(OciError::from)?;
        let found = layout.find(import.tag.as_deref()).map_err(OciError::from)?;
        let name = import.name.clone();
        let base = &import.base;
        self.add_oci(Conversion { name, base, layout, found, source: None })
    }

    /// Makes an image of one that was pulled. What was converted before is shared.
    ///
    /// # Errors
    /// [`ImageError::Unknown`] for the base, [`ImageError::Oci`], and [`ImageError::Store`].
    pub fn add_pulled(&self, pulled: &PulledImage) -> Result<Image, ImageError> {
        let PulledImage { manifest, source, base } = pulled;
        if let Some(image) = self.pulled(&manifest.digest)? {
            return Ok(image);
        }
        let layout = Layout::of_blobs(&self.blobs());
        let found = layout.image(manifest, &Platform::of_guests(), 0).map_err(OciError::from)?;
        let name = name_of(manifest)?;
        let source = Some(source.clone());
        match self.add_oci(Conversion { name, base, layout, found, source }) {
            // Another pull of it was faster.
            Err(taken @ ImageError::NameInUse { .. }) => {
                self.pulled(&manifest.digest)?.ok_or(taken)
            }
            added => added,
        }
    }

    /// The image that was pulled with the manifest of that digest; none if there is none.
    ///
    /// # Errors
    /// The errors of [`Images::get`].
    pub fn pulled(&self, digest: &str) -> Result<Option<Image>, ImageError> {
        let wanted = |image: &Image| {
            let oci = image.manifest.oci.as_ref();
            oci.is_some_and(|oci| oci.source.is_some() && oci.digest == digest)
        };
        Ok(self.list()?.into_iter().find(wanted))
    }

    /// The folder of the blobs of images that are being pulled.
    pub fn blobs(&self) -> PathBuf {
        self.folder.join(BLOBS)
    }

    fn add_oci(&self, conversion: Conversion<'_>) -> Result<Image, ImageError> {
        let Conversion { name, base, layout, found, source } = conversion;
        let base = self.get(base)?;
        let initrd = base.manifest.initrd.clone().filter(|_| base.manifest.agent);
        let initrd = initrd.ok_or_else(|| OciError::Base(base.manifest.name.clone()))?;
        let target = self.folder.join(name.as_str());
        let _lock = self.lock()?;
        if target.exists() {
            return Err(ImageError::NameInUse { name });
        }
        let aside = self.aside()?;
        for file in [KERNEL, INITRD] {
            link(&base.folder.join(file), &aside.path().join(file))?;
        }
        let root_fs = match self.converted(&found.digest)? {
            Some(image) => {
                link(&image.folder.join(ROOT_FS), &aside.path().join(ROOT_FS))?;
                image.manifest.root_fs
            }
            None => Some(convert(&layout, &found, aside.path())?),
        };
        let Found { digest, platform, settings, layers: _ } = found;
        let manifest = Manifest {
            name,
            description: format!("{platform} {digest}"),
            created_at: DateTime::from_timestamp_nanos(clock::wall_ns()),
            memory_bytes_min: base.manifest.memory_bytes_min,
            cmdline: format!("{} {}", base.manifest.cmdline, agent::setup::SETUP_WORD),
            agent: true,
            kernel: base.manifest.kernel.clone(),
            initrd: Some(initrd),
            root_disk: None,
            root_fs,
            oci: Some(OciRecord { digest, platform, settings, source }),
        };
        self.put(manifest, aside)
    }

    /// An image that was made of the same manifest before.
    fn converted(&self, digest: &str) -> Result<Option<Image>, ImageError> {
        let same =
            |image: &Image| image.manifest.oci.as_ref().is_some_and(|oci| oci.digest == digest);
        Ok(self.list()?.into_iter().find(same))
    }
}

/// The name of the folder of a pulled image: as much of its digest as a name holds.
fn name_of(manifest: &Descriptor) -> Result<ImageName, ImageError> {
    let hex = manifest.hex().map_err(OciError::from)?;
    let name = format!("sha256-{}", &hex[..56]);
    name.parse().map_err(|source| ImageError::Name { name, source })
}

fn link(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::hard_link(from, to).map_err(ImageError::store("link", to))
}

/// Writes the file system of an image into a folder.
fn convert(layout: &Layout, found: &Found, folder: &Path) -> Result<FileRecord, ImageError> {
    let failed = |doing, path: &Path| ImageError::store(doing, path);
    let spool = tempfile::tempfile_in(folder).map_err(failed("write in", folder))?;
    let mut builder = Builder::new(&spool);
    for (layer, diff_id) in &found.layers {
        let archive = layout.layer(layer).map_err(OciError::from)?;
        let refused = |reason: String| OciError::Layer { digest: layer.digest.clone(), reason };
        let hash = builder.add(archive).map_err(|error| refused(in_words(&error)))?;
        let hash = format!("sha256:{}", hex::encode(hash));
        if hash != *diff_id {
            return Err(refused(format!("its archive has the digest {hash}, not {diff_id}")).into());
        }
    }
    let path = folder.join(ROOT_FS);
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(failed("write", &path))?;
    erofs::write(&builder.tree, &spool, &file).map_err(failed("write", &path))?;
    file.sync_all().map_err(failed("sync", &path))?;
    let bytes = file.metadata().map_err(failed("read", &path))?.len();
    let file = File::open(&path).map_err(failed("read", &path))?;
    let sha256 = copy::digest(file).map_err(failed("read", &path))?;
    Ok(FileRecord { bytes, sha256 })
}
