//! The policies that the build has left in `target/policies/`.

use std::path::PathBuf;

/// The folder.
///
/// # Panics
/// If the running test is not inside a target folder.
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let target = test.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.expect("tests run from cargo's target folder").join("policies")
}

/// The component of that name.
///
/// # Panics
/// If it was not built.
pub fn component(name: &str) -> Vec<u8> {
    let file = folder().join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|why| panic!("can't read {}: {why}", file.display()))
}
