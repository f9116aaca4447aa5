//! The guests that tests boot, built with the C compiler of the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Flags for freestanding code without instructions that some hosts do not emulate.
const FLAGS: [&str; 15] = [
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-mno-red-zone",
    "-mgeneral-regs-only",
    // Without symbols, which name temporary files, each build is the same.
    "-s",
    "-Wl,--build-id=none,--no-warn-rwx-segments",
];

/// A freestanding guest that boots in milliseconds; `tests/guests/tiny/tiny.c` documents it. Built
/// once a run.
///
/// # Panics
/// Panics if gcc is missing: Debian has it in `build-essential`.
pub fn tiny() -> &'static Path {
    static TINY: OnceLock<PathBuf> = OnceLock::new();
    TINY.get_or_init(build_tiny)
}

fn build_tiny() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("guests/tiny");
    let out = root.join("../target/guests");
    std::fs::create_dir_all(&out).expect("create target/guests");
    // Built under a name of this process's own: several test binaries may run at once.
    let draft = out.join(format!("tiny.{}", std::process::id()));
    let tiny = out.join("tiny");
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS).arg("-T").arg(source.join("tiny.ld")).arg("-o").arg(&draft);
    run(gcc.args(
        ["entry.S", "tiny.c", "card.c", "agent.c", "virtio.c"].map(|file| source.join(file)),
    ));
    // One that is the same stays: a machine of another process may be about to open it, and its
    // confinement names the file that was there.
    let same =
        std::fs::read(&tiny).is_ok_and(|old| old == std::fs::read(&draft).expect("the guest"));
    if same {
        std::fs::remove_file(draft).expect("remove the draft");
    } else {
        std::fs::rename(draft, &tiny).expect("put the guest into target/guests");
    }
    tiny
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; apt install build-essential"));
    assert!(status.success(), "{command:?}: {status}");
}
