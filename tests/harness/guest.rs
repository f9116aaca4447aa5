//! The guests that tests boot, built with the C compiler of the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A freestanding guest that boots in milliseconds; `tests/guests/tiny/tiny.S` says what it does. Built once a run.
///
/// # Panics
/// Where gcc or ld is missing: Debian has both in `build-essential`.
pub fn tiny() -> &'static Path {
    static TINY: OnceLock<PathBuf> = OnceLock::new();
    TINY.get_or_init(build_tiny)
}

fn build_tiny() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, out) = (root.join("guests/tiny"), root.join("../target/guests"));
    std::fs::create_dir_all(&out).expect("create target/guests");
    // Built under a name of this process's own: several test binaries may run at once.
    let (object, draft) =
        (out.join(format!("tiny.{}.o", std::process::id())), out.join(format!("tiny.{}", std::process::id())));
    run(Command::new("gcc").arg("-c").arg("-o").arg(&object).arg(source.join("tiny.S")));
    let link = ["-m", "elf_x86_64", "-nostdlib", "--no-warn-rwx-segments", "-T"];
    run(Command::new("ld").args(link).arg(source.join("tiny.ld")).arg("-o").arg(&draft).arg(&object));
    let tiny = out.join("tiny");
    std::fs::rename(draft, &tiny)
        .and_then(|()| std::fs::remove_file(object))
        .expect("put the guest into target/guests");
    tiny
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}; apt install build-essential"));
    assert!(status.success(), "{command:?}: {status}");
}
