//! Builds every policy under `guest-tracker/policies/` into a component in `target/policies/`, and
//! the biller, which is embedded in the program, as is the standard policy; and the agent, which
//! the program puts into guests.
//!
//! The guests are compiled by another cargo process, because their target and profile differ.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs, io};

use sha2::{Digest as _, Sha256};
use wasmparser::{BinaryReader, BinaryReaderError};

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "policy";
const BILLER_PROFILE: &str = "biller";
const STANDARD: &str = "standard";
const BILLER: &str = "biller-component";
/// Guests have any C library, or none.
const AGENT_TARGET: &str = "x86_64-unknown-linux-musl";
const AGENT: &str = "tallyman-agent";
/// Most bytes of the agent: it is in the memory of each guest.
const AGENT_BYTES_MAX: usize = 1 << 20;
/// Stack and initial memory of a policy, in bytes; the memory holds stack, data and a batch of a
/// thousand items.
const POLICY_BYTES: (usize, usize) = (16 << 10, 4 << 16);
/// Stack and initial memory of the biller, in bytes. It parses and sorts at any depth.
const BILLER_BYTES: (usize, usize) = (256 << 10, 32 << 16);

/// Length of a component's magic number and version.
const HEADER_BYTES: usize = 8;
/// Section id of custom sections.
const CUSTOM: u8 = 0;

/// Inputs, relative to the workspace's root. A folder stands for everything in it.
const INPUTS: [&str; 11] = [
    "host/agent/src",
    "host/agent/Cargo.toml",
    "guest-tracker/src",
    "guest-tracker/Cargo.toml",
    "guest-tracker/policies",
    "host/biller/src",
    "host/biller/Cargo.toml",
    "host/biller/component",
    "wit",
    "Cargo.toml",
    "Cargo.lock",
];

/// Variables that the outer cargo, clippy or a coverage tool sets for the host's compiler. They
/// would change the guests' bytes or break their build.
const FOREIGN: [&str; 13] = [
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
];

fn main() {
    if let Err(why) = build() {
        for line in why.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = path("CARGO_MANIFEST_DIR")?
        .join("..")
        .canonicalize()
        .map_err(|e| format!("can't find the workspace's root above host/: {e}"))?;
    let out = path("OUT_DIR")?;
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rustc-env=TALLYMAN_WASMTIME_VERSION={}", locked_version(&root, "wasmtime")?);
    need_target(TARGET)?;
    need_target(AGENT_TARGET)?;
    let names = policies(&root.join("guest-tracker/policies"))?;
    let target = target_dir(&out);
    let packages: Vec<_> = names.iter().map(|name| format!("policy-{name}")).collect();
    let built = build_guests(&root, &target.join("guest"), &packages, PROFILE, POLICY_BYTES)?;
    let mut shipped = Vec::new();
    for name in &names {
        let component = encode(&built.join(format!("policy_{}.wasm", name.replace('-', "_"))))?;
        write(&target.join("policies").join(format!("{name}.wasm")), &component)?;
        shipped.push((name.as_str(), <[u8; 32]>::from(Sha256::digest(&component))));
        if name == STANDARD {
            let standard = out.join("standard.wasm");
            write(&standard, &component)?;
            println!("cargo::rustc-env=TALLYMAN_STANDARD_POLICY={}", standard.display());
        }
    }
    // A Rust expression that the program includes: the policies' names and digests.
    let file = out.join("shipped.rs");
    write(&file, format!("&{shipped:?}").as_bytes())?;
    println!("cargo::rustc-env=TALLYMAN_SHIPPED_POLICIES={}", file.display());
    build_biller(&root, &out, &target)?;
    build_agent(&root, &out, &target)
}

/// Builds the agent, static.
fn build_agent(root: &Path, out: &Path, target: &Path) -> Result<(), String> {
    let target = target.join("guest-agent");
    let flags = machine_independent(root).join("\u{1f}");
    compile(root, (AGENT_TARGET, PROFILE), &target, &[AGENT.to_owned()], flags)?;
    let built = target.join(AGENT_TARGET).join(PROFILE).join(AGENT);
    let program = fs::read(&built).map_err(|e| format!("can't read {}: {e}", built.display()))?;
    if program.len() > AGENT_BYTES_MAX {
        return Err(format!("{AGENT} has {} bytes, more than {AGENT_BYTES_MAX}", program.len()));
    }
    let file = out.join("agent");
    write(&file, &program)?;
    println!("cargo::rustc-env=TALLYMAN_AGENT={}", file.display());
    Ok(())
}

/// Builds the biller, in a folder of its own because its link arguments differ.
fn build_biller(root: &Path, out: &Path, target: &Path) -> Result<(), String> {
    let packages = [BILLER.to_owned()];
    let target = target.join("guest-biller");
    let built = build_guests(root, &target, &packages, BILLER_PROFILE, BILLER_BYTES)?;
    let component = encode(&built.join(format!("{}.wasm", BILLER.replace('-', "_"))))?;
    let file = out.join("biller.wasm");
    write(&file, &component)?;
    println!("cargo::rustc-env=TALLYMAN_BILLER={}", file.display());
    Ok(())
}

fn path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set; this script is run by cargo"))
}

/// Returns the version of a crate that the lock file pins.
fn locked_version(root: &Path, name: &str) -> Result<String, String> {
    let file = root.join("Cargo.lock");
    let lock =
        fs::read_to_string(&file).map_err(|e| format!("can't read {}: {e}", file.display()))?;
    let mut after = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    let version =
        after.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| format!("{} does not pin {name}", file.display()))
}

/// Checks that a target is installed: its error says what to do, unlike the compiler's
/// "can't find crate for `core`".
fn need_target(target: &str) -> Result<(), String> {
    let mut rustc = Command::new(path("RUSTC")?);
    let output = rustc.args(["--print", "target-libdir", "--target", target]).output();
    let output = output.map_err(|e| format!("can't run rustc: {e}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    if fs::read_dir(folder).is_ok_and(|mut files| files.any(|entry| entry.is_ok_and(is_core))) {
        return Ok(());
    }
    Err(format!(
        "the Rust target {target} is not installed for this toolchain: run \
         `rustup target add {target}`"
    ))
}

/// The names of the folders of policies, sorted.
fn policies(folder: &Path) -> Result<Vec<String>, String> {
    let read = |e: io::Error| format!("can't list {}: {e}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The target folder, which cargo marks by a file; `OUT_DIR` lies four or five levels below it.
fn target_dir(out: &Path) -> PathBuf {
    let marked = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.or_else(|| out.ancestors().nth(4)).unwrap_or(out).to_path_buf()
}

/// Compiles guests, with stack and initial memory in bytes, and returns the folder of their core
/// modules.
fn build_guests(
    root: &Path,
    target: &Path,
    packages: &[String],
    profile: &str,
    (stack, memory): (usize, usize),
) -> Result<PathBuf, String> {
    compile(root, (TARGET, profile), target, packages, flags(root, stack, memory))?;
    Ok(target.join(TARGET).join(profile))
}

/// Compiles packages for another machine than this one, under a profile.
fn compile(
    root: &Path,
    (triple, profile): (&str, &str),
    target: &Path,
    packages: &[String],
    flags: String,
) -> Result<(), String> {
    let mut cargo = Command::new(path("CARGO")?);
    // Another target folder, because the outer cargo locks its own until this script has ended.
    cargo
        .current_dir(root)
        .args(["build", "--locked", "--profile", profile, "--target", triple, "--target-dir"])
        .arg(target);
    for package in packages {
        cargo.args(["-p", package]);
    }
    for variable in FOREIGN {
        cargo.env_remove(variable);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
    let output = cargo.output().map_err(|e| format!("can't run cargo: {e}"))?;
    if !output.status.success() {
        let packages = packages.join(", ");
        return Err(format!(
            "{packages} did not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(())
}

/// Compiler flags of guests: a small stack, and as much initial memory as a batch of usual size
/// needs, because growing memory would cost more than the batch. Relocations are compressed:
/// addresses and numbers of functions take the bytes that they need instead of always five. Paths
/// are remapped, so that every machine builds the same digest.
fn flags(root: &Path, stack: usize, memory: usize) -> String {
    let mut flags = vec![format!("-Clink-arg=-zstack-size={stack}")];
    flags.push(format!("-Clink-arg=--initial-memory={memory}"));
    flags.push("-Clink-arg=--compress-relocations".to_owned());
    flags.extend(machine_independent(root));
    flags.join("\u{1f}")
}

/// Flags that keep folders of this machine out of the bytes.
fn machine_independent(root: &Path) -> Vec<String> {
    let mut flags = vec![remap(root, "/tallyman")];
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    flags.extend(home.map(|home| remap(&home, "/cargo")));
    flags
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

/// Wraps a core module into a component, validated, without the names of its parts.
fn encode(module: &Path) -> Result<Vec<u8>, String> {
    let core = fs::read(module).map_err(|e| format!("can't read {}: {e}", module.display()))?;
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|mut encoder| encoder.encode())
        .and_then(|component| Ok(without_names(&component)?))
        .map_err(|e| format!("can't make a component of {}: {e:#}", module.display()))
}

/// Removes the section of names, which only debuggers read.
fn without_names(component: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut reader = BinaryReader::new(component, 0);
    let mut kept = reader.read_bytes(HEADER_BYTES)?.to_vec();
    while !reader.eof() {
        let start = reader.original_position();
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let content = reader.read_bytes(size as usize)?;
        if id != CUSTOM || BinaryReader::new(content, 0).read_string()? != "component-name" {
            kept.extend_from_slice(&component[start..reader.original_position()]);
        }
    }
    Ok(kept)
}

/// Writes a file atomically, and only if it changes: later builds go by its modification time.
fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let failed = |e: io::Error| format!("can't write {}: {e}", file.display());
    let folder = file.parent().ok_or_else(|| format!("{} has no folder", file.display()))?;
    fs::create_dir_all(folder).map_err(failed)?;
    let new = file.with_extension(format!("{}.new", std::process::id()));
    fs::write(&new, bytes).map_err(failed)?;
    fs::rename(&new, file).map_err(failed)
}
