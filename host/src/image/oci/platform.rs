//! Platforms of images.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A system, a processor, and which kind of that processor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v2`; none for every one of them.
    #[serde(default)]
    pub variant: Option<String>,
}

/// A text that is no platform whose images run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a platform of guests of this host; there are linux/amd64 and linux/amd64/v1, v2, \
     v3, v4"
)]
pub struct UnknownPlatform(String);

/// Variants of amd64, lowest first.
const VARIANTS: [&str; 4] = ["v1", "v2", "v3", "v4"];

impl Platform {
    /// The platform of this host's guests.
    pub fn of_guests() -> Self {
        Self { os: "linux".into(), architecture: "amd64".into(), variant: None }
    }

    /// Returns whether an image for `found` is one for this platform.
    pub fn is_met_by(&self, found: &Self) -> bool {
        let is_same = self.os == found.os && self.architecture == found.architecture;
        is_same && (self.variant.is_none() || self.variant == found.variant)
    }

    /// The order in which images are preferred, lowest first.
    pub(super) fn rank(&self) -> String {
        self.variant.clone().unwrap_or_default()
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;
    fn from_str(text: &str) -> Result<Self, UnknownPlatform> {
        let unknown = || UnknownPlatform(text.chars().take(80).collect());
        let variant = text.strip_prefix("linux/amd64").ok_or_else(unknown)?;
        let variant = match variant.strip_prefix('/') {
            Some(variant) if VARIANTS.contains(&variant) => Some(variant.to_owned()),
            None if variant.is_empty() => None,
            Some(_) | None => return Err(unknown()),
        };
        Ok(Self { variant, ..Self::of_guests() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_of_other_machines_are_refused_with_those_of_this_one() {
        for text in ["linux/amd64", "linux/amd64/v2"] {
            assert_eq!(text.parse::<Platform>().expect("a platform").to_string(), text);
        }
        for text in ["linux/arm64", "windows/amd64", "linux/amd64/", "linux/amd64/v9", "amd64", ""]
        {
            let error = text.parse::<Platform>().expect_err(text).to_string();
            assert!(error.contains("linux/amd64"), "{error}");
        }
    }
}
