//! An engine for calls that need no daemon.

use anyhow::Context;

use crate::policy::PolicyHost;

/// An engine of its own; the folder holds compiled code, and goes with it.
pub(super) fn engine() -> anyhow::Result<(tempfile::TempDir, PolicyHost)> {
    let folder = tempfile::tempdir().context("can't make a folder for compiled code")?;
    let host = PolicyHost::open(&folder.path().join("compiled"))?;
    Ok((folder, host))
}
