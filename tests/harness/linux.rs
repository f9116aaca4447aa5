//! The Linux guest that tests boot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tallyman::id::Digest;
use tallyman::image::{Image, ImageError, Images, build_debian_busybox, debian};

/// Sources that the image is built by. Another recipe has another folder, so that a stale image is
/// never booted.
const RECIPE: &[&[u8]] = &[
    include_bytes!("../../host/src/image/debian.rs"),
    include_bytes!("../../host/src/image/guest/finish"),
    include_bytes!("../../host/src/image/guest/init"),
    tallyman::image::debian::AGENT,
    include_bytes!("../../host/src/image/initramfs.rs"),
    include_bytes!("../../host/src/image/modules.rs"),
];

/// The image `debian-busybox` in `target/guests/`, built by the first test that needs it; the
/// others wait for it.
///
/// # Panics
/// Panics if it can't be built; the message names the missing piece.
pub fn debian_busybox() -> Image {
    let folder = guests().join(format!("linux-{}", Digest::of(&RECIPE.concat()).short()));
    fs::create_dir_all(&folder).expect("the target folder is ours");
    let lock = File::create(folder.join("lock")).expect("the target folder is ours");
    lock.lock().expect("file locks work in the target folder");
    let images = Images::open(&folder).expect("the target folder is ours");
    let built = match images.get(&debian::name()) {
        Err(ImageError::Unknown { .. }) => {
            build_debian_busybox(&images, &folder.join("work"), &mut |_| ())
        }
        found => found.map_err(Into::into),
    };
    built.unwrap_or_else(|error| panic!("no Linux guest: {:#}", anyhow::Error::from(error)))
}

/// Folder of the guests that tests boot: `target/guests/`.
pub fn guests() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("guests")
}
