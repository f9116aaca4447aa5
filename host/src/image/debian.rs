//! Builds `debian-busybox`: a Debian cloud kernel and an initial RAM disk with BusyBox, from
//! Debian's own packages.
//!
//! The packages are downloaded and unpacked into a work folder; nothing is installed, and no root
//! is needed. The guest's programs are in `guest/`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::initramfs::Initramfs;
use super::modules::{Module, Modules};
use super::{Image, ImageError, ImageImport, Images, limits};
use crate::id::ImageName;

/// The image's name.
pub const NAME: &str = "debian-busybox";

/// Package that always depends on the one with the newest kernel for virtual machines.
const KERNEL_METAPACKAGE: &str = "linux-image-cloud-amd64";
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// Kernel command line for a fast and quiet start on an emulated processor. The guest is alone on
/// its machine: mitigations would protect it from itself.
const CMDLINE: &str = "console=ttyS0 quiet mitigations=off nokaslr tsc=reliable no_timer_check \
                       8250.nr_uarts=1 cryptomgr.notests panic=-1";

/// Modules for the power button. The input core and the serial port are built in.
const BASE_MODULES: &[&str] = &["evdev", "button"];
/// Modules for disks, for the agent's port and for the network.
const VIRTIO_MODULES: &[&str] =
    &["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_console", "virtio_net"];

/// The file systems of images.
const IMAGE_MODULES: &[&str] = &["erofs", "ext4", "overlay"];

/// The program inside the guest.
pub const AGENT: &[u8] = include_bytes!(env!("TALLYMAN_AGENT"));

/// BusyBox programs that have a name of their own in `/bin`, for whoever comes in without a shell;
/// the shell finds the others by itself.
#[rustfmt::skip]
const PROGRAMS: &[&str] = &[
    "acpid", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "df", "dmesg", "du", "echo",
    "env", "false", "find", "free", "grep", "gzip", "head", "hexdump", "hostname", "id", "insmod",
    "ip", "kill", "ln", "ls", "mkdir", "mkfifo", "mount", "mv", "nc", "ping", "poweroff",
    "printenv", "ps", "pwd", "reboot", "rm", "rmdir", "run-parts", "sed", "sh", "sleep", "sort",
    "stat", "stty", "sync", "tail", "tar", "tee", "top", "touch", "tr", "true", "umount", "uname",
    "uptime", "usleep", "vi", "wc", "wget", "which", "xargs",
];

/// Error of [`build_debian_busybox`]. `Display` says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program that the build needs is not there.
    #[error("`{tool}` is missing: {}", how_to_get(package))]
    MissingTool {
        /// The program.
        tool: &'static str,
        /// The Debian package that holds the program.
        package: &'static str,
    },
    /// Apt doesn't know a package.
    #[error(
        "apt knows no package {package}: run `sudo apt-get update` first; the package is in the \
         archive of Debian 12 and 13 for amd64"
    )]
    NoPackage {
        /// The package.
        package: String,
    },
    /// The archive has replaced a package since apt last looked.
    #[error(
        "the archive no longer has the version of {package} that apt knows: run \
         `sudo apt-get update`, then try again"
    )]
    Replaced {
        /// The package.
        package: String,
    },
    /// A program could not be started.
    #[error("can't run `{command}`")]
    Run {
        /// The command line.
        command: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// The exit status or signal.
        status: String,
        /// The last lines of standard error, joined by semicolons.
        stderr: String,
    },
    /// A package doesn't hold what it should.
    #[error("the package {package} holds no {what}")]
    Content {
        /// The package.
        package: String,
        /// The file or module that was looked for.
        what: String,
    },
    /// A file or folder can't be read or written.
    #[error("can't {doing} {}", path.display())]
    Work {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The files that were built could not be imported.
    #[error("can't import the files that were built")]
    Import(#[from] ImageError),
}

impl BuildError {
    fn work(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Work { doing, path, source }
    }
}

fn how_to_get(package: &str) -> String {
    match package {
        "apt" | "dpkg" => {
            "this image is made from Debian packages and can be built on Debian only".into()
        }
        other => format!("install the package {other} (`sudo apt-get install {other}`)"),
    }
}

/// Builds the image `debian-busybox` and imports it. `work` is a folder for about 150 MB, which are
/// removed afterwards; `progress` gets a short description of each step before it begins. The same
/// packages give the same files.
///
/// # Errors
/// [`BuildError::Import`] with [`ImageError::NameInUse`], before anything is downloaded, if the
/// image is there already; any other [`BuildError`] if the step that it names fails.
pub fn build_debian_busybox(
    images: &Images,
    work: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Image, BuildError> {
    let name = name();
    match images.get(&name) {
        Ok(_) => return Err(ImageError::NameInUse { name }.into()),
        Err(ImageError::Unknown { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    fs::create_dir_all(work).map_err(BuildError::work("make the folder", work))?;
    let work = tempfile::tempdir_in(work).map_err(BuildError::work("make a folder in", work))?;
    let kernel = unpack(&kernel_package()?, work.path(), progress)?;
    let busybox = unpack(BUSYBOX_PACKAGE, work.path(), progress)?;
    progress("writing the initial RAM disk");
    let initrd = work.path().join("initrd");
    fs::write(&initrd, initramfs(&kernel, &busybox)?.archive())
        .map_err(BuildError::work("write", &initrd))?;
    progress("importing the image");
    let import = ImageImport {
        name,
        description: format!(
            "Debian {kernel} and {busybox}",
            kernel = kernel.title(),
            busybox = busybox.title()
        ),
        kernel: kernel.only_file("boot", "vmlinuz-")?,
        initrd: Some(initrd),
        root_disk: None,
        cmdline: CMDLINE.into(),
        memory_bytes_min: limits::image::DEBIAN_BUSYBOX_MEMORY_BYTES_MIN,
        agent: true,
    };
    Ok(images.import(&import)?)
}

/// The image's name as an identifier.
pub fn name() -> ImageName {
    NAME.parse().expect("the constant is a name")
}

/// A package, unpacked.
struct Package {
    name: String,
    version: String,
    root: PathBuf,
}

impl Package {
    fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    fn lacks(&self, what: impl Into<String>) -> BuildError {
        BuildError::Content { package: self.title(), what: what.into() }
    }

    /// The file or folder in `folder` whose name begins with `prefix`, if there is exactly one.
    fn only_file(&self, folder: &str, prefix: &str) -> Result<PathBuf, BuildError> {
        let found = matching(&self.root.join(folder), |name| name.starts_with(prefix));
        <[PathBuf; 1]>::try_from(found)
            .map(|[path]| path)
            .map_err(|_| self.lacks(format!("{folder}/{prefix}*")))
    }

    /// The first of `paths` that exists: newer releases have moved `/bin` and `/lib` below `/usr`.
    fn first_of(&self, paths: &[&str]) -> Result<PathBuf, BuildError> {
        let found = paths.iter().map(|path| self.root.join(path)).find(|path| path.exists());
        found.ok_or_else(|| self.lacks(paths.join(" or ")))
    }
}

fn kernel_package() -> Result<String, BuildError> {
    let missing = || BuildError::NoPackage { package: KERNEL_METAPACKAGE.into() };
    let text =
        match run("apt-cache", ["depends", "--important", KERNEL_METAPACKAGE], Path::new("/")) {
            Err(BuildError::Failed { .. }) => return Err(missing()),
            other => other?,
        };
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends.find(|name| name.starts_with("linux-image-")).map(str::to_owned).ok_or_else(missing)
}

fn unpack(name: &str, work: &Path, progress: &mut dyn FnMut(&str)) -> Result<Package, BuildError> {
    let folder = work.join(name);
    fs::create_dir(&folder).map_err(BuildError::work("make the folder", &folder))?;
    progress(&format!("downloading {name}"));
    download(name, &folder)?;
    let archives = matching(&folder, |file| file.ends_with(".deb"));
    let archive = archives
        .first()
        .ok_or_else(|| BuildError::Content { package: name.into(), what: "archive".into() })?;
    let version =
        run("dpkg-deb", [OsStr::new("--field"), archive.as_ref(), OsStr::new("Version")], &folder)?;
    progress(&format!("unpacking {name}"));
    let root = folder.join("root");
    run("dpkg-deb", [OsStr::new("--extract"), archive.as_ref(), root.as_ref()], &folder)?;
    Ok(Package {
        name: name.into(),
        version: String::from_utf8_lossy(&version).trim().into(),
        root,
    })
}

fn download(name: &str, folder: &Path) -> Result<(), BuildError> {
    let package = || name.to_owned();
    match run("apt-get", ["download", "-q", "-o", "Acquire::Retries=3", name], folder) {
        Ok(_) => Ok(()),
        Err(BuildError::Failed { stderr, .. }) if stderr.contains("Unable to locate package") => {
            Err(BuildError::NoPackage { package: package() })
        }
        Err(BuildError::Failed { stderr, .. }) if stderr.contains("404") => {
            Err(BuildError::Replaced { package: package() })
        }
        Err(error) => Err(error),
    }
}

fn initramfs(kernel: &Package, busybox: &Package) -> Result<Initramfs, BuildError> {
    let program = busybox.first_of(&["bin/busybox", "usr/bin/busybox"])?;
    let mut files = Initramfs::default();
    files.program("bin/busybox", fs::read(&program).map_err(BuildError::work("read", &program))?);
    for program in PROGRAMS {
        files.symlink(&format!("bin/{program}"), "busybox");
    }
    files.program("init", include_bytes!("guest/init").to_vec());
    files.program("bin/tallyman-agent", AGENT.to_vec());
    files.program("bin/finish", include_bytes!("guest/finish").to_vec());
    // The program that acpid runs for the power button.
    files.program("etc/acpi/PWRF/00000080", b"#!/bin/sh\nexec finish poweroff\n".to_vec());
    for folder in ["dev", "proc", "sys", "tmp", "var/log", "var/run"] {
        files.folder(folder);
    }
    let modules = kernel_modules(kernel)?;
    let missing = |name: &str| kernel.lacks(format!("module {name}"));
    add_modules(&mut files, "base", modules.in_load_order(BASE_MODULES, missing, read_module)?);
    add_modules(&mut files, "virtio", modules.in_load_order(VIRTIO_MODULES, missing, read_module)?);
    add_modules(&mut files, "image", modules.in_load_order(IMAGE_MODULES, missing, read_module)?);
    Ok(files)
}

fn kernel_modules(kernel: &Package) -> Result<Modules, BuildError> {
    let parent = kernel.first_of(&["lib/modules", "usr/lib/modules"])?;
    let folders = matching(&parent, |_| true);
    let folder = folders.first().ok_or_else(|| kernel.lacks("modules"))?;
    Modules::read(folder).map_err(BuildError::work("read the modules in", folder))
}

fn add_modules(files: &mut Initramfs, set: &str, modules: Vec<Module>) {
    files.folder(&format!("modules/{set}"));
    for (index, module) in modules.into_iter().enumerate() {
        // The number keeps the load order: the guest loads the files in the order of a shell's `*`.
        files.file(&format!("modules/{set}/{index:02}-{}.ko", module.name), module.content);
    }
}

/// Reads a module, decompressed: newer releases ship modules that the kernel can't load as they
/// are.
fn read_module(path: &Path) -> Result<Vec<u8>, BuildError> {
    let tool = match path.extension().and_then(OsStr::to_str) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(BuildError::work("read", path)),
    };
    run(tool, [OsStr::new("-dc"), path.as_ref()], Path::new("/"))
}

/// Runs `tool` and returns its standard output. Its messages are asked for in English, as callers
/// look for known ones.
fn run<I>(tool: &'static str, arguments: I, folder: &Path) -> Result<Vec<u8>, BuildError>
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null());
    let shown = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = shown.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => BuildError::MissingTool { tool, package: package_of(tool) },
        _ => BuildError::Run { command: shown.clone(), source },
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = last_lines(&String::from_utf8_lossy(&output.stderr), 3);
    Err(BuildError::Failed { command: shown, status: output.status.to_string(), stderr })
}

fn package_of(tool: &'static str) -> &'static str {
    match tool {
        "apt-cache" | "apt-get" => "apt",
        "dpkg-deb" => "dpkg",
        "xz" => "xz-utils",
        same => same,
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("; ")
}

/// The entries of a folder whose names `accept` takes, sorted; none if the folder can't be read.
fn matching(folder: &Path, accept: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&accept))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_gives_one_line_with_its_package() {
        let error = run("no-such-tool", ["--version"], Path::new("/"))
            .expect_err("there is no such tool")
            .to_string();
        assert_eq!(
            error,
            "`no-such-tool` is missing: install the package no-such-tool \
             (`sudo apt-get install no-such-tool`)"
        );
        let error = BuildError::MissingTool { tool: "dpkg-deb", package: package_of("dpkg-deb") }
            .to_string();
        assert!(error.ends_with("can be built on Debian only"), "{error}");
    }

    #[test]
    fn a_failing_tool_gives_its_command_and_its_last_words() {
        let error =
            run("sh", ["-c", "echo one >&2; echo two >&2; echo >&2; exit 7"], Path::new("/"))
                .expect_err("it fails");
        let text = error.to_string();
        assert!(
            text.starts_with("`sh -c echo one")
                && text.ends_with("failed (exit status: 7): one; two"),
            "{text}"
        );
    }
}
