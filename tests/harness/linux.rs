//! The Linux guest that tests boot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
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

/// The request that imports [`debian_busybox`] under a name.
///
/// # Panics
/// Panics if the image can't be built.
pub fn import(name: &str) -> Value {
    let Image { folder, manifest } = debian_busybox();
    json!({
        "name": name, "kernel": folder.join("kernel"), "initrd": folder.join("initrd"),
        "cmdline": manifest.cmdline, "memory_bytes_min": manifest.memory_bytes_min,
        "agent": manifest.agent,
    })
}

/// A static busybox, from the same package as the guest's.
///
/// # Panics
/// It can't be had; the message says what is missing.
pub fn busybox() -> PathBuf {
    let folder = guests().join("busybox");
    fs::create_dir_all(&folder).expect("the target folder is ours");
    let lock = File::create(folder.join("lock")).expect("the target folder is ours");
    lock.lock().expect("file locks work in the target folder");
    let found = |folder: &Path| {
        ["bin/busybox", "usr/bin/busybox"]
            .map(|path| folder.join("root").join(path))
            .into_iter()
            .find(|path| path.exists())
    };
    if let Some(program) = found(&folder) {
        return program;
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&folder).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("apt-get", &["download", "-q", "busybox-static"]);
    run("sh", &["-c", "dpkg-deb --extract busybox-static_*.deb root"]);
    found(&folder).expect("the package has it")
}

/// Folder of the guests that tests boot: `target/guests/`.
pub fn guests() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("guests")
}
