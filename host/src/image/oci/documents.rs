//! The documents of an OCI image: indexes, manifests, configurations, and what they refer to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::LayoutError;
use super::platform::Platform;
use super::record::Settings;
use crate::limits::image as limits;

/// The kind of a blob, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The digest: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// The platform that it is for; none if it is not said.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Notes, such as its name.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// An index or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Manifests for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(ImageManifest),
}

/// The parts of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// A configuration.
#[derive(Debug, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(flatten)]
    pub(super) platform: Platform,
    #[serde(default)]
    pub(super) config: Option<Settings>,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

impl Descriptor {
    /// The 64 digits of the digest.
    ///
    /// # Errors
    /// [`LayoutError::Wrong`] if it is no SHA-256.
    pub fn hex(&self) -> Result<&str, LayoutError> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let hex = self.digest.strip_prefix("sha256:");
        hex.filter(|hex| hex.len() == 64 && hex.bytes().all(is_digit))
            .ok_or_else(|| wrong(&self.digest, "no SHA-256, written as sha256:<64 digits>"))
    }

    /// Checks that a blob of `bytes` bytes with the SHA-256 `hash` is the one described.
    ///
    /// # Errors
    /// [`LayoutError::Wrong`].
    pub fn check(&self, bytes: u64, hash: &[u8]) -> Result<(), LayoutError> {
        if bytes != self.size {
            return Err(wrong(&self.digest, format!("it has {bytes} bytes, not {}", self.size)));
        }
        let found = format!("sha256:{}", hex::encode(hash));
        match found == self.digest {
            true => Ok(()),
            false => Err(wrong(&self.digest, format!("it has the digest {found}"))),
        }
    }
}

impl Document {
    /// Reads a document; `what` names it in an error.
    ///
    /// # Errors
    /// [`LayoutError::Parse`], and [`LayoutError::Wrong`] if it is neither an index nor a manifest,
    /// or both, or has too many parts.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self, LayoutError> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let Either { manifests, config, layers } = parse(what, bytes)?;
        match (manifests, config, layers) {
            (Some(manifests), None, None) if manifests.len() <= limits::MANIFESTS_MAX => {
                Ok(Self::Index(manifests))
            }
            (None, Some(config), Some(layers)) if layers.len() <= limits::LAYERS_MAX => {
                Ok(Self::Manifest(ImageManifest { config, layers }))
            }
            (Some(_), None, None) | (None, Some(_), Some(_)) => {
                Err(wrong(what, "it has too many parts"))
            }
            _ => Err(wrong(what, "neither an index nor the manifest of an image")),
        }
    }
}

/// The SHA-256 of a document as a digest.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The manifest of an index that is for a platform: the one with the variant that was asked for, or
/// with none, or with the lowest.
///
/// # Errors
/// [`LayoutError::Wrong`] with the platforms that there are.
pub fn choose<'a>(
    what: &str,
    manifests: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, LayoutError> {
    let named = || manifests.iter().filter_map(|one| Some((one, one.platform.as_ref()?)));
    let fitting = named().filter(|(_, platform)| wanted.is_met_by(platform));
    let least = fitting.min_by_key(|(_, platform)| platform.rank());
    least.map(|(one, _)| one).ok_or_else(|| {
        let there: Vec<_> = named().map(|(_, platform)| platform.to_string()).collect();
        wrong(what, format!("no image for {wanted}; there are: {}", there.join(", ")))
    })
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes)
        .map_err(|source| LayoutError::Parse { what: what.to_owned(), source })
}

pub(super) fn wrong(what: &str, reason: impl Into<String>) -> LayoutError {
    LayoutError::Wrong { what: what.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, Option<&str>)]) -> Vec<Descriptor> {
        let one = |(number, (architecture, variant)): (usize, &(&str, Option<&str>))| Descriptor {
            digest: number.to_string(),
            size: 1,
            platform: Some(Platform {
                os: "linux".into(),
                architecture: (*architecture).into(),
                variant: variant.map(str::to_owned),
            }),
            annotations: BTreeMap::new(),
        };
        platforms.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_image_that_every_processor_runs_goes_first() {
        let wanted: Platform = "linux/amd64".parse().expect("a platform");
        type Named = (&'static str, Option<&'static str>);
        let rows: [(&[Named], &str); 4] = [
            (&[("arm64", None), ("amd64", Some("v3")), ("amd64", None)], "2"),
            (&[("amd64", Some("v3")), ("amd64", Some("v2"))], "1"),
            (&[("amd64", Some("v1")), ("amd64", Some("v2"))], "0"),
            (&[("amd64", None)], "0"),
        ];
        for (platforms, expected) in rows {
            let index = index(platforms);
            let chosen = choose("index", &index, &wanted).expect("one");
            assert_eq!(chosen.digest, expected, "{platforms:?}");
        }
        let index = index(&[("arm64", Some("v8"))]);
        let error = choose("index", &index, &wanted).expect_err("none").to_string();
        assert!(error.contains("linux/arm64/v8"), "{error}");
    }

    #[test]
    fn a_variant_that_is_asked_for_is_the_one_that_is_taken() {
        let wanted: Platform = "linux/amd64/v2".parse().expect("a platform");
        let index = index(&[("amd64", None), ("amd64", Some("v3")), ("amd64", Some("v2"))]);
        assert_eq!(choose("index", &index, &wanted).expect("one").digest, "2");
    }

    #[test]
    fn a_document_that_is_two_things_is_none() {
        let index = r#""manifests":[]"#;
        let image = r#""config":{"digest":"a","size":1},"layers":[]"#;
        let read = |text: String| Document::parse("it", text.as_bytes());
        assert!(matches!(read(format!("{{{index}}}")), Ok(Document::Index(_))));
        assert!(matches!(read(format!("{{{image}}}")), Ok(Document::Manifest(_))));
        assert!(read(format!("{{{index},{image}}}")).is_err());
        assert!(read("{}".into()).is_err());
    }
}
