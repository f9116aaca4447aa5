//! Reads an OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::LayoutError;
use super::record::Settings;
use crate::limits::image as limits;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The annotation that names an image in an index.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The kind of a blob, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    pub(super) digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// A processor and a system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct ImageManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct ImageConfig {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<Settings>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

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

    /// The image of that tag; the only one if none is said.
    pub(super) fn find(&self, tag: Option<&str>) -> Result<Found, LayoutError> {
        let index = read(&self.0.join("index.json"), limits::DOCUMENT_BYTES_MAX)?;
        let Index { manifests } = parse("index.json", &index)?;
        let named = |found: &&Descriptor| {
            tag.is_none_or(|tag| found.annotations.get(NAME).is_some_and(|name| name == tag))
        };
        let matching: Vec<_> = manifests.iter().filter(named).collect();
        let names: Vec<_> = manifests.iter().filter_map(|one| one.annotations.get(NAME)).collect();
        match matching.as_slice() {
            [one] => self.image(one, 0),
            [] => Err(wrong("index.json", format!("no image {tag:?}; there are: {names:?}"))),
            [..] if tag.is_none() && matching.iter().all(|one| one.platform.is_some()) => {
                self.for_this_machine(manifests.as_slice(), 0)
            }
            [..] => Err(wrong("index.json", format!("several images; name one of: {names:?}"))),
        }
    }

    fn for_this_machine(&self, manifests: &[Descriptor], depth: u32) -> Result<Found, LayoutError> {
        let ours = Platform { architecture: "amd64".into(), os: "linux".into() };
        let found = manifests.iter().find(|one| one.platform.as_ref() == Some(&ours));
        let found = found.ok_or_else(|| wrong("the index", "no image for linux/amd64"))?;
        self.image(found, depth + 1)
    }

    fn image(&self, at: &Descriptor, depth: u32) -> Result<Found, LayoutError> {
        let document = self.document(at)?;
        if at.media_type.contains("index") || at.media_type.contains("manifest.list") {
            if depth > 1 {
                return Err(wrong(&at.digest, "an index in an index in an index"));
            }
            let Index { manifests } = parse(&at.digest, &document)?;
            return self.for_this_machine(&manifests, depth);
        }
        let ImageManifest { config, layers } = parse(&at.digest, &document)?;
        let settings: ImageConfig = parse(&config.digest, &self.document(&config)?)?;
        let ImageConfig { architecture, os, config, rootfs } = settings;
        if (architecture.as_str(), os.as_str()) != ("amd64", "linux") {
            return Err(wrong(
                &at.digest,
                format!("it is for {os}/{architecture}, not for linux/amd64"),
            ));
        }
        if layers.len() != rootfs.diff_ids.len() || layers.len() > limits::LAYERS_MAX {
            let reason =
                format!("{} layers and {} digests of them", layers.len(), rootfs.diff_ids.len());
            return Err(wrong(&at.digest, reason));
        }
        Ok(Found {
            digest: at.digest.clone(),
            platform: format!("{os}/{architecture}"),
            settings: config.unwrap_or_default(),
            layers: layers.into_iter().zip(rootfs.diff_ids).collect(),
        })
    }

    fn blob(&self, digest: &str) -> Result<PathBuf, LayoutError> {
        let hex = digest.strip_prefix("sha256:").filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        });
        let hex = hex.ok_or_else(|| wrong(digest, "no SHA-256, written as sha256:<64 digits>"))?;
        Ok(self.0.join("blobs/sha256").join(hex))
    }

    /// A small blob, which is what its digest says.
    fn document(&self, at: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let bytes = read(&self.blob(&at.digest)?, limits::DOCUMENT_BYTES_MAX)?;
        check(at, bytes.len() as u64, &Sha256::digest(&bytes))?;
        Ok(bytes)
    }

    /// The archive of a layer, uncompressed, after a look at whether it is what its digest says.
    pub(super) fn layer(&self, at: &Descriptor) -> Result<Box<dyn Read>, LayoutError> {
        let path = self.blob(&at.digest)?;
        let failed = |source| LayoutError::Read { path: path.clone(), source };
        let mut file = File::open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut file, &mut hash).map_err(failed)?;
        check(at, bytes, &hash.finalize())?;
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

fn check(at: &Descriptor, bytes: u64, hash: &[u8]) -> Result<(), LayoutError> {
    if bytes != at.size {
        return Err(wrong(&at.digest, format!("it has {bytes} bytes, not {}", at.size)));
    }
    let found = format!("sha256:{}", hex::encode(hash));
    if found != at.digest {
        return Err(wrong(&at.digest, format!("it has the digest {found}")));
    }
    Ok(())
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

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes)
        .map_err(|source| LayoutError::Parse { what: what.to_owned(), source })
}

fn wrong(what: &str, reason: impl Into<String>) -> LayoutError {
    LayoutError::Wrong { what: what.to_owned(), reason: reason.into() }
}
