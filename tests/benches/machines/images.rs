//! An image, beside the tools that do the same; and its second machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;
use tallyman::image::{Image, ImageImport, Images, OciImport};
use tallyman_tests::linux;

use super::{create, daemon, io, times};
use crate::measure::{Line, Report, median};

const ROUNDS: usize = 5;

/// Files of the image, and bytes of each: some 40 MB.
const FILES: usize = 2_000;
const FILE_BYTES: usize = 20_000;

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

pub(super) fn lines(report: &mut Report) -> Vec<Line> {
    let mut lines = conversion().unwrap_or_else(|why| {
        report.say(&format!("conversion of an image NOT RUN: {why}"));
        Vec::new()
    });
    lines.extend(second_machine());
    lines
}

/// Bytes that no packing makes smaller, the same in each run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(byte).collect()
}

/// A layout with one image, made by `umoci`.
fn layout(folder: &Path) -> Result<String, String> {
    let layout = folder.join("layout").display().to_string();
    let image = format!("{layout}:bench");
    let bundle = folder.join("bundle").display().to_string();
    run("umoci", &["init", "--layout", &layout])?;
    run("umoci", &["new", "--image", &image])?;
    run("umoci", &["unpack", "--image", &image, &bundle])?;
    for number in 0..FILES {
        let to = folder.join(format!("bundle/rootfs/srv/{}/{number}", number % 50));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, noise(FILE_BYTES, number as u64)).unwrap();
    }
    run("umoci", &["repack", "--image", &image, &bundle])?;
    fs::remove_dir_all(&bundle).unwrap();
    Ok(layout)
}

/// The import of a base image's own files.
fn same_base(base: &Image) -> ImageImport {
    ImageImport {
        name: base.manifest.name.clone(),
        description: String::new(),
        kernel: base.folder.join("kernel"),
        initrd: Some(base.folder.join("initrd")),
        root_disk: None,
        cmdline: base.manifest.cmdline.clone(),
        memory_bytes_min: base.manifest.memory_bytes_min,
        agent: base.manifest.agent,
    }
}

fn conversion() -> Result<Vec<Line>, String> {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let layout = layout(folder.path())?;
    let mut ours = Vec::new();
    let mut tools = Vec::new();
    for round in 0..ROUNDS {
        let data = folder.path().join(format!("images-{round}"));
        let images = Images::open(&data).unwrap();
        let base = linux::debian_busybox();
        images.import(&same_base(&base)).unwrap();
        let import = OciImport {
            name: "bench".parse().unwrap(),
            layout: layout.clone().into(),
            tag: None,
            base: base.manifest.name.clone(),
        };
        let begin = Instant::now();
        images.import_oci(&import).unwrap();
        ours.push(begin.elapsed().as_nanos() as f64);
        let bundle = folder.path().join(format!("bundle-{round}"));
        let disk = folder.path().join(format!("disk-{round}")).display().to_string();
        let begin = Instant::now();
        run("umoci", &["unpack", "--image", &format!("{layout}:bench"), bundle.to_str().unwrap()])?;
        let root = bundle.join("rootfs").display().to_string();
        let id = "00000000-0000-4000-8000-000000000000";
        run("mkfs.erofs", &["-T0", "-U", id, &disk, &root])?;
        tools.push(begin.elapsed().as_nanos() as f64);
        fs::remove_dir_all(bundle).unwrap();
        fs::remove_dir_all(data).unwrap();
    }
    let what = "conversion of an image of 40 MB; peer: umoci unpack and mkfs.erofs";
    Ok(vec![times(what, (median(&mut ours), median(&mut tools)), 1.0)])
}

/// The second machine of an image reads nothing of it from the disk again.
fn second_machine() -> Vec<Line> {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let Ok(layout) = layout(folder.path()) else { return Vec::new() };
    let daemon = daemon(&[]);
    let arguments = ["image", "import", "big", "--oci", &layout, "--base", "linux"];
    assert!(daemon.cli(&arguments).status.success());
    let _ = run("sh", &["-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]);
    let words = json!({"image": "big", "cmd": ["sh", "-c", "cat /srv/*/* | wc -c; sleep 600"]});
    let mut read = Vec::new();
    for name in ["first", "second"] {
        let created = create(&daemon, name, words.clone());
        let id = created["id"].as_str().unwrap();
        let pid = daemon.machines_of(id)[0].as_raw_nonzero().get();
        read.push(io(pid, "read_bytes"));
    }
    let ours = format!("{} bytes, after {} of the first", read[1], read[0]);
    let what = "bytes that the second machine of an image reads from the disk";
    vec![Line::alone(what, ours, "0", read[1] == 0)]
}
