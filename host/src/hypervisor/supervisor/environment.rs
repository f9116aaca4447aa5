//! The environment of supervisors and VMMs: only the variables that programs need, and no secrets.
//!
//! The daemon's own environment may hold the operator's token, and a guest that compromises its VMM
//! can read the VMM's.

use std::env;
use std::ffi::OsString;

/// Names of the variables that are passed on.
const NAMES: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "RUST_BACKTRACE", "TZ"];

/// The variables of this process that are passed on, and their values.
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
