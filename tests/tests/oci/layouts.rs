//! Images from OCI layouts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tallyman::image::{Image, ImageError, ImageImport, Images, OciImport};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::linux;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// A layer that is being made.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, path: &str, kind: EntryType, content: &[u8], with: &[(&str, &[u8])]) -> Self {
        if !with.is_empty() {
            self.0.append_pax_extensions(with.iter().copied()).expect("in memory");
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o751 } else { 0o4711 });
        header.set_uid(1_000);
        header.set_gid(2_000);
        header.set_mtime(1_700_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name_literal(content).expect("short");
        }
        let content = if is_link { &[][..] } else { content };
        header.set_size(content.len() as u64);
        // As it is, also where no archive should have it.
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        self.0.append(&header, content).expect("in memory");
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.add(path, EntryType::Regular, content, &[])
    }

    fn folder(self, path: &str) -> Self {
        self.add(path, EntryType::Directory, b"", &[])
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.add(path, EntryType::Symlink, target.as_bytes(), &[])
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(path, EntryType::Link, target.as_bytes(), &[])
    }

    pub(crate) fn archive(self) -> Vec<u8> {
        self.0.into_inner().expect("in memory")
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Packed {
    Plain,
    Gzip,
    Zstd,
}

impl Packed {
    fn media(self) -> &'static str {
        match self {
            Packed::Plain => "layer.v1.tar",
            Packed::Gzip => "layer.v1.tar+gzip",
            Packed::Zstd => "layer.v1.tar+zstd",
        }
    }

    fn pack(self, archive: &[u8]) -> Vec<u8> {
        match self {
            Packed::Plain => archive.to_vec(),
            Packed::Gzip => {
                let mut packer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(archive).expect("in memory");
                packer.finish().expect("in memory")
            }
            Packed::Zstd => zstd::encode_all(archive, 1).expect("in memory"),
        }
    }
}

/// An OCI layout with one image of these layers.
pub(crate) struct Layout(TempDir);

impl Layout {
    pub(crate) fn new(layers: Vec<(Vec<u8>, Packed)>) -> Self {
        Self::with(layers, json!({"Cmd": ["/bin/true"]}))
    }

    pub(crate) fn with(layers: Vec<(Vec<u8>, Packed)>, settings: Value) -> Self {
        let layout = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir_all(layout.path().join("blobs/sha256")).expect("a folder");
        let diff_ids: Vec<_> = layers.iter().map(|(archive, _)| digest(archive)).collect();
        let layers: Vec<_> = layers
            .iter()
            .map(|(archive, packed)| layout.blob(packed.media(), &packed.pack(archive)))
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = layout.blob("config.v1+json", config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let manifest = layout.blob("manifest.v1+json", manifest.to_string().as_bytes());
        layout.write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
        layout.write("index.json", &json!({"schemaVersion": 2, "manifests": [manifest]}));
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, document: &Value) {
        fs::write(self.path().join(name), document.to_string()).expect("a file");
    }

    pub(crate) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let name = digest.trim_start_matches("sha256:");
        fs::write(self.path().join("blobs/sha256").join(name), bytes).expect("a file");
        let media = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media, "digest": digest, "size": bytes.len()})
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Images with a base that has an agent, as far as the import can tell.
pub(crate) fn store() -> (TempDir, Images) {
    let data = tempfile::tempdir().expect("a folder");
    let images = Images::open(data.path()).expect("a folder");
    let mut kernel = vec![0; 4_096];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let at = data.path().join("kernel");
    let initrd = data.path().join("initrd");
    fs::write(&at, kernel).expect("a file");
    fs::write(&initrd, "070701").expect("a file");
    let import = ImageImport {
        name: "base".parse().expect("a name"),
        description: String::new(),
        kernel: at,
        initrd: Some(initrd),
        root_disk: None,
        cmdline: "quiet".into(),
        memory_bytes_min: 64 << 20,
        agent: true,
    };
    images.import(&import).expect("imported");
    (data, images)
}

fn import(images: &Images, layout: &Path, name: &str) -> Result<Image, ImageError> {
    images.import_oci(&OciImport {
        name: name.parse().expect("a name"),
        layout: layout.into(),
        tag: None,
        base: "base".parse().expect("a name"),
    })
}

/// The content of an image's file system, as its own tool takes it out.
fn extracted(image: &Image) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("all");
    let from = image.root_fs().expect("a file system");
    let mut fsck = Command::new("fsck.erofs");
    let output =
        fsck.arg(format!("--extract={}", to.display())).arg("--overwrite").arg(&from).output();
    let output = output.expect("erofs-utils is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    (folder, to)
}

#[test]
fn layers_of_every_packing_are_put_on_top_of_each_other() {
    let lower = Layer::new()
        .folder("etc")
        .file("etc/keep", b"kept")
        .file("etc/gone", b"gone")
        .file("etc/changed", b"before")
        .folder("opaque")
        .file("opaque/old", b"old")
        .file("big", &vec![7; 10_000]);
    let upper = Layer::new()
        .file("etc/.wh.gone", b"")
        .file("etc/changed", b"after")
        .file("opaque/new", b"new")
        .file("opaque/.wh..wh..opq", b"")
        .hard_link("second", "big")
        .link("link", "etc/keep");
    for packed in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
        let (_data, images) = store();
        let layers = [&lower, &upper].map(|layer| (layer.0.get_ref().clone(), packed));
        let image = import(&images, Layout::new(layers.into()).path(), "one").expect("imported");
        let (_folder, root) = extracted(&image);
        let content = |path: &str| {
            fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        assert_eq!(
            (content("etc/keep"), content("etc/changed")),
            (b"kept".to_vec(), b"after".to_vec())
        );
        assert_eq!((content("opaque/new"), content("second")), (b"new".to_vec(), vec![7; 10_000]));
        for gone in ["etc/gone", "etc/.wh.gone", "opaque/old", "opaque/.wh..wh..opq"] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
        assert_eq!(fs::read_link(root.join("link")).expect("a link").to_str(), Some("etc/keep"));
        let data = fs::metadata(root.join("etc")).expect("a folder");
        assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o751, 1_000, 2_000));
        let data = fs::metadata(root.join("etc/keep")).expect("a file");
        assert_eq!((data.mode() & 0o777, data.mtime()), (0o711, 1_700_000_000));
    }
}

#[test]
fn many_files_devices_and_attributes_are_there() {
    let mut layer = Layer::new();
    for number in 0..3_000_u32 {
        let content = vec![number as u8; (number * 7 % 9_000) as usize];
        layer = layer.file(&format!("many/file-with-a-longish-name-{number:05}"), &content);
    }
    let caps: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    layer =
        layer.add("ping", EntryType::Regular, b"x", &[("SCHILY.xattr.security.capability", caps)]);
    layer = layer.add("pipe", EntryType::Fifo, b"", &[]);
    let (_data, images) = store();
    let image = import(&images, Layout::new(vec![(layer.archive(), Packed::Gzip)]).path(), "many");
    let image = image.expect("imported");
    let (_folder, root) = extracted(&image);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root.join("many")).expect("a folder") {
        let entry = entry.expect("an entry");
        found.insert(
            entry.file_name().into_string().expect("text"),
            fs::read(entry.path()).expect("a file"),
        );
    }
    assert_eq!(found.len(), 3_000);
    for (number, content) in (0_u32..).zip(found.values()) {
        assert!(*content == vec![number as u8; (number * 7 % 9_000) as usize], "{number}");
    }
    assert!(fs::metadata(root.join("pipe")).expect("a pipe").file_type().is_fifo());
}

#[test]
fn an_image_is_converted_once_and_always_to_the_same_bytes() {
    let layout = Layout::new(vec![(Layer::new().file("a", b"1").archive(), Packed::Gzip)]);
    let (_data, images) = store();
    let one = import(&images, layout.path(), "one").expect("imported");
    let two = import(&images, layout.path(), "two").expect("imported");
    let inode =
        |image: &Image| fs::metadata(image.root_fs().expect("there")).expect("a file").ino();
    assert_eq!(inode(&one), inode(&two), "they share one file");
    let (_data, others) = store();
    let other = import(&others, layout.path(), "one").expect("imported");
    assert_eq!(one.manifest.root_fs, other.manifest.root_fs);
    assert_eq!(one.manifest.oci.expect("it is one").settings.cmd, Some(vec!["/bin/true".into()]));
    images.verify(&"two".parse().expect("a name")).expect("unaltered");
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let rows: [(&str, Layer, &str); 9] = [
        ("up", Layer::new().file("../../etc/passwd", b"x"), "leads out"),
        ("up inside", Layer::new().file("a/../../b", b"x"), "leads out"),
        ("through a file", Layer::new().file("a", b"x").file("a/b", b"y"), "no folder"),
        ("a loop", Layer::new().link("l", "l/x").file("l/y", b"z"), "links"),
        ("a link to nothing", Layer::new().hard_link("a", "b"), "nothing that is there"),
        ("a link to a folder", Layer::new().folder("d").hard_link("a", "d"), "second name"),
        ("a kernel's whiteout", Layer::new().add("w", EntryType::Char, b"", &[]), "0:0"),
        ("an odd whiteout", Layer::new().file("a/.wh...", b""), "leads out"),
        (
            "an overlay's attribute",
            Layer::new().add(
                "o",
                EntryType::Regular,
                b"",
                &[("SCHILY.xattr.trusted.overlay.opaque", b"y")],
            ),
            "overlay",
        ),
    ];
    for (what, layer, words) in rows {
        let (data, images) = store();
        let layout = Layout::new(vec![(layer.archive(), Packed::Gzip)]);
        let error = import(&images, layout.path(), "bad").expect_err(what);
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(text.contains(words), "{what}: {text}");
        let left = fs::read_dir(data.path().join("images")).expect("a folder").count();
        assert_eq!(left, 2, "{what}: the base and the lock are all there is");
    }
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let archive = || Layer::new().file("a", b"1").archive();
    let altered = |what: &str, change: &dyn Fn(&Path)| {
        let layout = Layout::new(vec![(archive(), Packed::Plain)]);
        change(layout.path());
        let (_data, images) = store();
        format!("{:#}", anyhow::Error::from(import(&images, layout.path(), "bad").expect_err(what)))
    };
    let layer = digest(&archive());
    let text = altered("another layer", &|path| {
        let at = path.join("blobs/sha256").join(layer.trim_start_matches("sha256:"));
        let mut bytes = fs::read(&at).expect("a blob");
        bytes[0] ^= 1;
        fs::write(&at, bytes).expect("a blob");
    });
    assert!(text.contains("digest"), "{text}");
    let text = altered("a shorter layer", &|path| {
        let at = path.join("blobs/sha256").join(layer.trim_start_matches("sha256:"));
        fs::write(&at, "").expect("a blob");
    });
    assert!(text.contains("bytes"), "{text}");
    let text = altered("a way out", &|path| {
        let index = json!({"manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]});
        fs::write(path.join("index.json"), index.to_string()).expect("a file");
    });
    assert!(text.contains("SHA-256"), "{text}");
    let text =
        altered("no layout", &|path| fs::remove_file(path.join("oci-layout")).expect("there"));
    assert!(text.contains("oci-layout"), "{text}");
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An image as people make them, with umoci, of Debian's busybox; gone through skopeo. `settings`
/// are umoci's.
fn busybox(settings: &[&str]) -> (TempDir, PathBuf) {
    let work = tempfile::tempdir().expect("a folder");
    let at = |name: &str| work.path().join(name).display().to_string();
    let image = format!("{}:busy", at("layout"));
    run("umoci", &["init", "--layout", &at("layout")]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["unpack", "--image", &image, &at("bundle")]);
    let root = work.path().join("bundle/rootfs");
    for folder in ["bin", "etc", "srv", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::copy(linux::busybox(), root.join("bin/busybox")).expect("a program");
    for name in ["sh", "cat", "echo", "id", "sleep", "ls", "pwd", "touch", "hostname", "mount"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n",
    )
    .expect("a file");
    run("umoci", &["repack", "--image", &image, &at("bundle")]);
    let always = ["config", "--image", &image, "--config.env", "GREETING=inside"];
    let path = ["--config.env", "PATH=/bin", "--config.workingdir", "/srv"];
    run("umoci", &[&always[..], &path, settings].concat());
    let copied = at("copied");
    run("skopeo", &["copy", "--quiet", &format!("oci:{image}"), &format!("oci:{copied}:busy")]);
    (work, copied.into())
}

/// An image that runs a command as root.
pub(crate) fn busybox_image(command: &[&str]) -> (TempDir, PathBuf) {
    let words = command.iter().flat_map(|word| ["--config.cmd", word]);
    busybox(&words.collect::<Vec<_>>())
}

fn busybox_layout() -> (TempDir, PathBuf) {
    let script = "echo hello from $GREETING in $(pwd) as $(id -u); \
                  trap 'echo asked to end; exit 3' TERM; while :; do sleep 0.1; done";
    busybox(&[
        "--config.entrypoint",
        "/bin/sh",
        "--config.entrypoint",
        "-c",
        "--config.cmd",
        script,
        "--config.user",
        "web",
    ])
}

#[test]
fn an_image_boots_runs_its_command_and_ends_as_it_does() {
    let (_work, layout) = busybox_layout();
    let layout = layout.display().to_string();
    let base = linux::debian_busybox();
    let daemon = Daemon::on(env!("CARGO_BIN_EXE_daemon"), tempfile::tempdir().expect("a folder"));
    let import = json!({
        "name": "base", "kernel": base.folder.join("kernel"), "initrd": base.folder.join("initrd"),
        "cmdline": base.manifest.cmdline, "memory_bytes_min": base.manifest.memory_bytes_min, "agent": true,
    });
    daemon.api().post("/images", &import).done();
    let imported = daemon.cli(&["image", "import", "busy", "--oci", &layout, "--base", "base"]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    for hypervisor in ["qemu", "qemu-microvm"] {
        boot(&daemon, hypervisor);
    }
}

fn boot(daemon: &Daemon, hypervisor: &str) {
    let new =
        json!({"name": "web", "image": "busy", "hypervisor": hypervisor, "overlay_size": "64MB"});
    daemon.api().post("/instances", &new).done();
    daemon.api().get("/instances/web/wait?state=Running&timeout=55s").done();
    let shell = |script: &str| {
        let line = ["instance", "exec", "web", "--", "sh", "-c", script];
        let output = daemon.client(&line).output().expect("run the program");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(shell("id -u; hostname; echo $GREETING"), "0\nweb\ninside\n");
    assert_eq!(shell("echo kept >/srv/mine; cat /srv/mine"), "kept\n");
    daemon.api().command("web", "stop");
    let stopped = daemon.api().instance("web");
    assert_eq!((&stopped["stop_cause"], &stopped["exit_code"]), (&json!("requested"), &json!(3)));
    let logs = daemon.cli(&["instance", "logs", "web"]).stdout;
    let logs = String::from_utf8_lossy(&logs).into_owned();
    assert!(logs.contains("hello from inside in /srv as 33"), "{logs}");
    assert!(logs.contains("asked to end"), "{logs}");
    daemon.api().command("web", "start");
    daemon.api().get("/instances/web/wait?state=Running&timeout=55s").done();
    assert_eq!(shell("cat /srv/mine"), "kept\n", "what was written is there after a stop");
    daemon.api().delete("/instances/web?grace_ms=0").done();
}
