//! Images: accepted and refused files, and the boot and end of the Linux guest.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tallyman::id::ImageName;
use tallyman::image::{BuildError, Image, ImageError, ImageImport, Images, build_debian_busybox};
use tallyman_tests::linux;
use tempfile::TempDir;

/// A data folder with images, and files to import.
struct Store {
    data: TempDir,
    images: Images,
}

impl Store {
    fn new() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let images = Images::open(data.path()).expect("a new folder");
        Self { data, images }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.data.path().join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    fn import(&self, name: &str) -> ImageImport {
        ImageImport {
            name: name_of(name),
            description: "for a test".into(),
            kernel: self.file("vmlinuz", &bzimage()),
            initrd: Some(self.file("initrd.cpio", b"070701")),
            root_disk: None,
            cmdline: "console=ttyS0".into(),
            memory_bytes_min: 64 << 20,
            agent: false,
        }
    }

    fn image_json(&self, name: &str) -> PathBuf {
        self.data.path().join("images").join(name).join("image.json")
    }

    /// Content of the images' folder, without the lock.
    fn content(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data.path().join("images")).expect("the folder");
        let names =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }
}

fn name_of(text: &str) -> ImageName {
    text.parse().expect("a name")
}

/// The smallest file that is accepted as a Linux boot image.
fn bzimage() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes
}

#[test]
fn an_imported_image_has_its_own_copies_with_lengths_and_digests() {
    let store = Store::new();
    let mut import = store.import("alpine");
    let mut disk = vec![0; 3 << 20];
    disk[1 << 20] = 7;
    import.root_disk = Some(store.file("disk.img", &disk));
    let image = store.images.import(&import).expect("imported");
    fs::remove_file(&import.kernel).expect("the source is not needed any more");

    assert_eq!(store.images.get(&name_of("alpine")).expect("found"), image);
    assert_eq!(store.images.verify(&name_of("alpine")).expect("unaltered"), image);
    assert_eq!(fs::read(image.kernel()).expect("a kernel"), bzimage());
    assert_eq!(fs::read(image.initrd().expect("an initrd")).expect("readable"), b"070701");
    assert_eq!(fs::read(image.root_disk().expect("a disk")).expect("readable"), disk);
    assert_eq!(image.manifest.root_disk.expect("a disk").bytes, 3 << 20);
    let digest = tallyman::id::Digest::of(&bzimage()).to_string();
    assert_eq!((image.manifest.kernel.bytes, image.manifest.kernel.sha256), (4096, digest));
    assert_eq!(store.content(), ["alpine"]);
}

#[test]
fn images_are_listed_by_name_and_gone_after_their_removal() {
    let store = Store::new();
    for name in ["beta", "alpha"] {
        store.images.import(&store.import(name)).expect("imported");
    }
    let names = || -> Vec<String> {
        store
            .images
            .list()
            .expect("listed")
            .iter()
            .map(|image| image.manifest.name.to_string())
            .collect()
    };
    assert_eq!(names(), ["alpha", "beta"]);
    store.images.remove(&name_of("alpha")).expect("removed");
    assert_eq!(names(), ["beta"]);
    assert_eq!(store.content(), ["beta"]);
    let again = store.images.remove(&name_of("alpha")).expect_err("it is gone").to_string();
    assert_eq!(again, "no image is called 'alpha'; known: beta");
}

#[test]
fn an_empty_store_says_how_to_get_an_image() {
    let error =
        Store::new().images.get(&name_of("debian-busybox")).expect_err("there is none").to_string();
    assert!(error.ends_with("`tallyman image build debian-busybox` makes one"), "{error}");
}

#[test]
fn a_bad_import_is_refused_with_advice_and_leaves_nothing() {
    type Change = fn(&Store, &mut ImageImport);
    let rows: &[(&str, Change, &str)] = &[
        (
            "no kernel",
            |_, import| import.kernel = "/nowhere/vmlinuz".into(),
            "can't read the kernel /nowhere/vmlinuz",
        ),
        ("a folder", |_, import| import.kernel = "/".into(), "the kernel / must be a regular file"),
        (
            "a device",
            |_, import| import.initrd = Some("/dev/zero".into()),
            "the initrd /dev/zero must be a regular file",
        ),
        (
            "empty",
            |store, import| import.initrd = Some(store.file("empty", b"")),
            "empty must be a regular file that isn't",
        ),
        (
            "text",
            |store, import| import.kernel = store.file("notes", &[b'x'; 4096]),
            "notes is no kernel: give an x86 Linux",
        ),
        ("short", |store, import| import.kernel = store.file("tiny", b"MZ"), "tiny is no kernel"),
        (
            "no initrd",
            |_, import| import.initrd = Some("/nowhere/i".into()),
            "can't read the initrd /nowhere/i",
        ),
        (
            "no disk",
            |_, import| import.root_disk = Some("/nowhere/d".into()),
            "can't read the root disk /nowhere/d",
        ),
        (
            "two lines",
            |_, import| import.cmdline = "quiet\ninit=/bin/sh".into(),
            "cmdline must be at most 2047 bytes of",
        ),
        (
            "long",
            |_, import| import.cmdline = "x".repeat(2_048),
            "cmdline must be at most 2047 bytes of printable",
        ),
        (
            "a novel",
            |_, import| import.description = "x".repeat(1_025),
            "description must be at most 1024 bytes, got 1025",
        ),
        (
            "no memory",
            |_, import| import.memory_bytes_min = 4095,
            "memory_bytes_min must be 4194304 to 1099511627776 bytes",
        ),
    ];
    let store = Store::new();
    for (row, change, expected) in rows {
        let mut import = store.import("bad");
        change(&store, &mut import);
        let error = store.images.import(&import).expect_err(row).to_string();
        assert!(error.contains(expected), "{row}: {error}");
        assert_eq!(store.content(), [""; 0], "{row}");
    }
}

#[test]
fn a_name_in_use_is_refused_and_its_image_stays() {
    let store = Store::new();
    let first = store.images.import(&store.import("twice")).expect("imported");
    let mut second = store.import("twice");
    second.description = "another".into();
    let error = store.images.import(&second).expect_err("the name is taken");
    assert!(matches!(error, ImageError::NameInUse { .. }), "{error}");
    assert_eq!(store.images.get(&name_of("twice")).expect("still there"), first);
}

#[test]
fn of_imports_with_one_name_at_once_exactly_one_succeeds() {
    let store = Store::new();
    let import = store.import("race");
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| store.images.import(&import))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results.iter().all(|result| matches!(result, Ok(_) | Err(ImageError::NameInUse { .. })))
    );
    assert_eq!(store.content(), ["race"]);
}

#[test]
fn what_a_killed_import_left_behind_is_no_image_and_goes_with_the_next() {
    let store = Store::new();
    let left = store.data.path().join("images/.aside-x1y2z3");
    fs::create_dir(&left).expect("a folder");
    fs::write(left.join("kernel"), b"half").expect("a file");
    assert_eq!(store.images.list().expect("listed"), []);
    store.images.import(&store.import("next")).expect("imported");
    assert_eq!(store.content(), ["next"]);
}

#[test]
fn an_altered_image_is_refused_with_the_place() {
    type Change = fn(&Store);
    let rows: &[(&str, Change, &str)] = &[
        (
            "unknown key",
            |store| edit(store, "\"cmdline\"", "\"comandline\""),
            "unknown field `comandline`",
        ),
        ("not JSON", |store| edit(store, "{", "["), "expected `,` or `]`"),
        (
            "bad name",
            |store| edit(store, "\"mine\"", "\"Mine\""),
            "must begin and end with a letter or digit",
        ),
        ("other name", |store| edit(store, "\"mine\"", "\"yours\""), "image.json is of 'yours'"),
        (
            "truncated",
            |store| {
                fs::write(store.image_json("mine").with_file_name("kernel"), b"MZ")
                    .expect("written")
            },
            "kernel has 2 bytes, not 4096",
        ),
        (
            "missing",
            |store| {
                fs::remove_file(store.image_json("mine").with_file_name("initrd")).expect("removed")
            },
            "initrd can't be read",
        ),
    ];
    for (row, change, expected) in rows {
        let store = Store::new();
        store.images.import(&store.import("mine")).expect("imported");
        change(&store);
        let error = format!(
            "{:#}",
            anyhow::Error::from(store.images.get(&name_of("mine")).expect_err(row))
        );
        assert!(error.contains(expected), "{row}: {error}");
        assert_eq!(store.images.list().expect("the others are still listed"), [], "{row}");
        store.images.remove(&name_of("mine")).expect("a damaged image can be removed");
    }
}

fn edit(store: &Store, from: &str, to: &str) {
    let path = store.image_json("mine");
    let text = fs::read_to_string(&path).expect("a description");
    assert!(text.contains(from));
    fs::write(path, text.replacen(from, to, 1)).expect("written");
}

#[test]
fn a_flipped_byte_is_found_by_verify() {
    let store = Store::new();
    let image = store.images.import(&store.import("mine")).expect("imported");
    let mut kernel = bzimage();
    kernel[100] ^= 1;
    fs::write(image.kernel(), kernel).expect("written");
    store.images.get(&name_of("mine")).expect("get looks at lengths only");
    let error = store.images.verify(&name_of("mine")).expect_err("altered").to_string();
    assert!(error.contains("kernel has the SHA-256"), "{error}");
}

#[test]
fn a_request_with_an_unknown_field_names_it() {
    let request = r#"{"name": "a", "kernel": "/k", "initramfs": "/i"}"#;
    let error =
        serde_json::from_str::<ImageImport>(request).expect_err("unknown field").to_string();
    assert!(error.contains("unknown field `initramfs`") && error.contains("initrd"), "{error}");
}

#[test]
fn an_image_that_is_there_is_not_built_again() {
    let store = Store::new();
    store.images.import(&store.import("debian-busybox")).expect("imported");
    let mut steps = Vec::new();
    let built = build_debian_busybox(&store.images, &store.data.path().join("work"), &mut |step| {
        steps.push(step.to_owned())
    });
    assert!(matches!(built, Err(BuildError::Import(ImageError::NameInUse { .. }))));
    assert_eq!(steps, [""; 0], "nothing was downloaded");
}

/// A machine that boots an image, without the driver.
struct Machine {
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    folder: TempDir,
    deadline: Instant,
}

/// Time for a whole test; an emulated machine on a busy host is slow.
const PATIENCE: Duration = Duration::from_secs(120);

impl Machine {
    fn boot(image: &Image, cmdline: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-M",
            "q35",
            "-accel",
            "tcg",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.arg("-m").arg(format!("{}M", image.manifest.memory_bytes_min >> 20));
        command
            .arg("-kernel")
            .arg(image.kernel())
            .arg("-initrd")
            .arg(image.initrd().expect("an initrd"));
        command.arg("-append").arg(format!("{} {cmdline}", image.manifest.cmdline));
        command.args(["-serial", "stdio", "-qmp"]);
        command.arg(format!("unix:{},server=on,wait=off", qmp(folder.path()).display())).args(more);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut qemu = spawned.expect("qemu-system-x86_64 is installed (package qemu-system-x86)");
        let console = BufReader::new(qemu.stdout.take().expect("piped"));
        let input = qemu.stdin.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in console.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        Self { qemu, input, lines, folder, deadline: Instant::now() + PATIENCE }
    }

    /// The next line that begins with `start`.
    fn wait_for(&self, start: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line '{start}' after {seen:?}")
            };
            if line.starts_with(start) {
                return line;
            }
            seen.push(line);
        }
    }

    fn type_line(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("the console takes input");
    }

    fn press_the_power_button(&self) {
        let mut control = UnixStream::connect(qmp(self.folder.path())).expect("the control socket");
        control
            .write_all(b"{\"execute\": \"qmp_capabilities\"}{\"execute\": \"system_powerdown\"}")
            .expect("sent");
        let answers = BufReader::new(control).lines().map_while(Result::ok);
        assert!(answers.take(3).all(|line| !line.contains("\"error\"")));
    }

    /// Reads every line until the machine ends, and returns them with its exit status.
    fn end(mut self) -> (Vec<String>, ExitStatus) {
        let mut lines = Vec::new();
        while let Ok(line) =
            self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now()))
        {
            lines.push(line);
        }
        assert!(Instant::now() < self.deadline, "the machine did not end; last lines: {lines:?}");
        let status = self.qemu.wait().expect("waited");
        (lines, status)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail if it has already ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn qmp(folder: &Path) -> PathBuf {
    folder.join("qmp")
}

const EXIT: &str = "TALLYMAN-EXIT code=0 message=\"\"";

#[test]
fn debian_busybox_boots_beats_and_powers_off_at_the_power_button() {
    let machine = Machine::boot(&linux::debian_busybox(), "tallyman.heartbeat_ms=50", &[]);
    let started = machine.wait_for("TALLYMAN-PROGRAM-START");
    assert!(
        started.starts_with("TALLYMAN-PROGRAM-START ts=20") && started.ends_with("Z mode=exec"),
        "{started}"
    );
    machine.wait_for("TALLYMAN-AGENT-READY ts=20");
    machine.wait_for("HB 3 uptime=");
    machine.press_the_power_button();
    let (lines, status) = machine.end();
    assert_eq!(lines.iter().filter(|line| *line == EXIT).count(), 1, "{lines:?}");
    assert!(status.success(), "{status}");
}

#[test]
fn debian_busybox_obeys_its_console_and_sees_a_disk() {
    let image = linux::debian_busybox();
    let disk = tempfile::NamedTempFile::new().expect("a file");
    disk.as_file().set_len(8 << 20).expect("room");
    let drive = format!("file={},format=raw,if=virtio", disk.path().display());
    let mut machine = Machine::boot(&image, "tallyman.heartbeat_ms=nonsense", &["-drive", &drive]);
    machine.wait_for("TALLYMAN-AGENT-READY");
    machine.type_line("ping");
    machine.wait_for("PONG");
    machine.type_line("sh cat /sys/block/vda/size; exit 3");
    assert_eq!(machine.wait_for("16384"), "16384");
    machine.wait_for("DONE 3");
    machine.type_line("dance");
    machine.wait_for("unknown command 'dance': ping, poweroff, reboot, sh COMMAND");
    machine.type_line("poweroff");
    let (lines, status) = machine.end();
    assert!(lines.iter().any(|line| line == EXIT), "{lines:?}");
    assert!(status.success(), "{status}");
}

#[test]
fn debian_busybox_names_its_packages_and_is_unaltered() {
    let image = linux::debian_busybox();
    let text = &image.manifest.description;
    assert!(
        text.starts_with("Debian linux-image-") && text.contains(" and busybox-static "),
        "{text}"
    );
    let data = image.folder.parent().and_then(Path::parent).expect("<data>/images/<name>");
    Images::open(data).expect("opened").verify(&image.manifest.name).expect("unaltered");
}
