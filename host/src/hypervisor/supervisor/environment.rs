//! The environment of supervisors and VMMs: the little that programs need to be found and to run,
//! and no secrets.
//!
//! The daemon's own may hold the operator's token; a guest that takes its VMM over reads the VMM's.

use std::env;
use std::ffi::OsString;

/// Where programs and libraries are found, and where temporary files go.
const NAMES: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "RUST_BACKTRACE", "TZ"];

/// The variables that are handed down.
pub(in crate::hypervisor) fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    NAMES.into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_handed_down() {
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some(), "there is something to leave out");
        let names: Vec<_> = inherited().map(|(name, _)| name).collect();
        assert!(names.contains(&"PATH"));
        assert!(names.iter().all(|name| NAMES.contains(name)), "{names:?}");
    }
}
