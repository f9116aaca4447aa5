//! Images from OCI layouts: layers are put on top of each other in memory and written as one EROFS
//! image. Nothing of an image is run, and none of its paths meets the host's file system.

mod erofs;
mod error;
mod layer;
mod layout;
mod record;
mod tree;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::DateTime;

use self::layer::Builder;
use self::layout::{Found, Layout};
use super::copy::{self, FileRecord};
use super::{
    INITRD, Image, ImageError, Images, KERNEL, Manifest, ROOT_FS, sync_folder, write_manifest,
};
use crate::causes::in_words;
use crate::clock;
use crate::id::ImageName;

pub use error::{LayoutError, OciError};
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

impl Images {
    /// Imports an image from an OCI layout. What was converted before is shared.
    ///
    /// # Errors
    /// [`ImageError::NameInUse`], [`ImageError::Unknown`] for the base, [`ImageError::Oci`], and
    /// [`ImageError::Store`].
    pub fn import_oci(&self, import: &OciImport) -> Result<Image, ImageError> {
        let layout = Layout::open(&import.layout).map_err(OciError::from)?;
        let found = layout.find(import.tag.as_deref()).map_err(OciError::from)?;
        let base = self.get(&import.base)?;
        let initrd = base.manifest.initrd.clone().filter(|_| base.manifest.agent);
        let initrd = initrd.ok_or_else(|| OciError::Base(import.base.clone()))?;
        let target = self.folder.join(import.name.as_str());
        let _lock = self.lock()?;
        if target.exists() {
            return Err(ImageError::NameInUse { name: import.name.clone() });
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
            name: import.name.clone(),
            description: format!("{platform} {digest}"),
            created_at: DateTime::from_timestamp_nanos(clock::wall_ns()),
            memory_bytes_min: base.manifest.memory_bytes_min,
            cmdline: format!("{} {}", base.manifest.cmdline, agent::setup::SETUP_WORD),
            agent: true,
            kernel: base.manifest.kernel.clone(),
            initrd: Some(initrd),
            root_disk: None,
            root_fs,
            oci: Some(OciRecord { digest, platform, settings }),
        };
        write_manifest(&manifest, aside.path())?;
        sync_folder(aside.path())?;
        let aside = aside.keep();
        fs::rename(&aside, &target).map_err(ImageError::store("rename to", &target))?;
        sync_folder(&self.folder)?;
        Ok(Image { folder: target, manifest })
    }

    /// An image that was made of the same manifest before.
    fn converted(&self, digest: &str) -> Result<Option<Image>, ImageError> {
        let same =
            |image: &Image| image.manifest.oci.as_ref().is_some_and(|oci| oci.digest == digest);
        Ok(self.list()?.into_iter().find(same))
    }
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
