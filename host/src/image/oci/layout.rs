//! Reads an OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::documents::{Descriptor, Document, ImageConfig, ImageManifest, choose, parse, wrong};
use super::error::LayoutError;
use super::platform::Platform;
use super::record::Settings;
use crate::limits::image as limits;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The annotation that names an image in an index.
const NAME: &str = "org.opencontainers.image.ref.name";

/// An image in a layout.
#[derive(Debug)]
pub(super) struct Found {
    /// The digest of its manifest.
    pub(super) digest: String,
    /// Such as `linux/amd64`.
    pub(super) platform: String,
    pub(super) settings: Settings,
    /// The layers, lowest first, with the digests of their archives.
    pub(super) layers: Vec<(Descriptor, String)>,
}

/// A layout.
pub(super) struct Layout(PathBuf);

impl Layout {
    /// The layout in a folder.
    pub(super) fn open(folder: &Path) -> Result<Self, LayoutError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Mark {
            image_layout_version: String,
        }
        let layout = Self(folder.to_owned());
        let path = folder.join("oci-layout");
        let mark: Mark = parse("oci-layout", &read(&path, limits::DOCUMENT_BYTES_MAX)?)?;
        match mark.image_layout_version.starts_with("1.") {
            true => Ok(layout),
            false => Err(wrong("oci-layout", "a version other than 1")),
        }
    }

    /// The blobs in a folder, without an index.
    pub(super) fn of_blobs(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The image of that tag; the only one if none is said.
    pub(super) fn find(&self, tag: Option<&str>) -> Result<Found, LayoutError> {
        const INDEX: &str = "index.json";
        let ours = Platform::of_guests();
        let index = read(&self.0.join(INDEX), limits::DOCUMENT_BYTES_MAX)?;
        let Document::Index(manifests) = Document::parse(INDEX, &index)? else {
            return Err(wrong(INDEX, "no index"));
        };
        let named = |found: &&Descriptor| {
            tag.is_none_or(|tag| found.annotations.get(NAME).is_some_and(|name| name == tag))
        };
        let matching: Vec<_> = manifests.iter().filter(named).collect();
        let names: Vec<_> = manifests.iter().filter_map(|one| one.annotations.get(NAME)).collect();
        match matching.as_slice() {
            [one] => self.image(one, &ours, 0),
            [] => Err(wrong(INDEX, format!("no image {tag:?}; there are: {names:?}"))),
            [..] if tag.is_none() && matching.iter().all(|one| one.platform.is_some()) => {
                self.image(choose(INDEX, &manifests, &ours)?, &ours, 1)
            }
            [..] => Err(wrong(INDEX, format!("several images; name one of: {names:?}"))),
        }
    }

    /// The image at a place, or the one for a platform of the index there. `depth` counts the
    /// indexes above.
    pub(super) fn image(
        &self,
        at: &Descriptor,
        wanted: &Platform,
        depth: u32,
    ) -> Result<Found, LayoutError> {
        let ImageManifest { config, layers } =
            match Document::parse(&at.digest, &self.document(at)?)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) if depth > 1 => {
                    return Err(wrong(&at.digest, "an index in an index in an index"));
                }
                Document::Index(manifests) => {
                    let chosen = choose(&at.digest, &manifests, wanted)?;
                    return self.image(chosen, wanted, depth + 1);
                }
            };
        let ImageConfig { platform, config, rootfs } =
            parse(&config.digest, &self.document(&config)?)?;
        if !Platform::of_guests().is_met_by(&platform) {
            return Err(wrong(&at.digest, format!("it is for {platform}, not for linux/amd64")));
        }
        if layers.len() != rootfs.diff_ids.len() {
            let reason =
                format!("{} layers and {} digests of them", layers.len(), rootfs.diff_ids.len());
            return Err(wrong(&at.digest, reason));
        }
        Ok(Found {
            digest: at.digest.clone(),
            platform: platform.to_string(),
            settings: config.unwrap_or_default(),
            layers: layers.into_iter().zip(rootfs.diff_ids).collect(),
        })
    }

    fn blob(&self, at: &Descriptor) -> Result<PathBuf, LayoutError> {
        Ok(self.0.join("blobs/sha256").join(at.hex()?))
    }

    /// A small blob, which is what its digest says.
    fn document(&self, at: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let bytes = read(&self.blob(at)?, limits::DOCUMENT_BYTES_MAX)?;
        at.check(bytes.len() as u64, &Sha256::digest(&bytes))?;
        Ok(bytes)
    }

    /// The archive of a layer, uncompressed, after a look at whether it is what its digest says.
    pub(super) fn layer(&self, at: &Descriptor) -> Result<Box<dyn Read>, LayoutError> {
        let path = self.blob(at)?;
        let failed = |source| LayoutError::Read { path: path.clone(), source };
        let mut file = File::open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut file, &mut hash).map_err(failed)?;
        at.check(bytes, &hash.finalize())?;
        let mut file = File::open(&path).map_err(failed)?;
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic).map_err(failed)?;
        let file = io::BufReader::with_capacity(1 << 17, File::open(&path).map_err(failed)?);
        Ok(match magic {
            magic if magic.starts_with(&GZIP) => {
                Box::new(flate2::bufread::MultiGzDecoder::new(file))
            }
            magic if magic.starts_with(&ZSTD) => {
                Box::new(zstd::Decoder::with_buffer(file).map_err(failed)?)
            }
            _ => Box::new(file),
        })
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, LayoutError> {
    let failed = |source| LayoutError::Read { path: path.to_owned(), source };
    let data = fs::metadata(path).map_err(failed)?;
    if !data.is_file() || data.len() > bytes_max {
        return Err(wrong(
            &path.display().to_string(),
            format!("no file of at most {bytes_max} bytes"),
        ));
    }
    fs::read(path).map_err(failed)
}
