//! Addresses of stores.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A text that is no address of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not the address of a store; write the absolute path of a folder, such as \
     /mnt/archive, or s3://BUCKET or s3://BUCKET/PREFIX"
)]
pub struct UnknownAddress(String);

/// The address of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A folder.
    Folder(PathBuf),
    /// A bucket of an object store, and the beginning of all names in it; empty for none.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// The beginning of names, without a slash at either end.
        prefix: String,
    },
}

const FOLDER: &str = "file://";
const BUCKET: &str = "s3://";

impl FromStr for Address {
    type Err = UnknownAddress;
    fn from_str(text: &str) -> Result<Self, UnknownAddress> {
        let unknown = || UnknownAddress(text.chars().take(200).collect());
        if let Some(rest) = text.strip_prefix(BUCKET) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_end_matches('/');
            let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
            let is_good = !bucket.is_empty() && bucket.bytes().all(is_name);
            let parts = prefix
                .split('/')
                .all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(is_name));
            return match is_good && (parts || prefix.is_empty()) {
                true => Ok(Self::Bucket { bucket: bucket.into(), prefix: prefix.into() }),
                false => Err(unknown()),
            };
        }
        let path = Path::new(text.strip_prefix(FOLDER).unwrap_or(text));
        match path.is_absolute() {
            // Without a slash at the end.
            true => Ok(Self::Folder(path.components().collect())),
            false => Err(unknown()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Folder(path) => write!(f, "{FOLDER}{}", path.display()),
            Address::Bucket { bucket, prefix } if prefix.is_empty() => {
                write!(f, "{BUCKET}{bucket}")
            }
            Address::Bucket { bucket, prefix } => write!(f, "{BUCKET}{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_folder_or_a_bucket_and_is_written_as_it_is_read() {
        let rows = [
            ("/mnt/a", "file:///mnt/a"),
            ("/mnt/a b/", "file:///mnt/a b"),
            ("file:///mnt/a", "file:///mnt/a"),
            ("s3://facts", "s3://facts"),
            ("s3://facts/", "s3://facts"),
            ("s3://facts/eu/west/", "s3://facts/eu/west"),
        ];
        for (text, written) in rows {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
        for text in [
            "",
            "a",
            "./a",
            "s3://",
            "s3:///a",
            "s3://a//b",
            "s3://a/../b",
            "s3://a?b=c",
            "s3://key:secret@a",
            "https://a/b",
            "gs://a",
        ] {
            assert_eq!(text.parse::<Address>(), Err(UnknownAddress(text.into())), "{text}");
        }
    }
}
