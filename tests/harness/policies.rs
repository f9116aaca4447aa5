//! The policies that the build has left in `target/policies/`.

use std::path::PathBuf;

/// The folder of the built policies.
///
/// # Panics
/// Panics if the running test does not lie below the target folder of the build.
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let mut folders = test.ancestors().map(|folder| folder.join("policies"));
    let found = folders.find(|folder| folder.join("standard.wasm").is_file());
    found.unwrap_or_else(|| {
        panic!("no policies were built beside {}; run `cargo build`", test.display())
    })
}

/// The component of the policy `name`.
///
/// # Panics
/// Panics if it was not built.
pub fn component(name: &str) -> Vec<u8> {
    let file = folder().join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|why| panic!("can't read {}: {why}", file.display()))
}

/// Names of all built policies, sorted.
///
/// # Panics
/// Panics if the folder can't be listed.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the build has left policies");
    let name = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.strip_suffix(".wasm").map(str::to_owned)
    };
    let mut names: Vec<_> = entries.filter_map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}
