//! The permissions of the data folder, checked at the start.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Closes the data folder and what lies in it to others than its owner, and says what was open.
///
/// # Errors
/// The path that can't be read or closed, with the operating system's error.
pub(super) fn close_to_others(data: &Path) -> Result<(), (PathBuf, io::Error)> {
    close(data)?;
    let failed = |error| (data.to_owned(), error);
    for entry in fs::read_dir(data).map_err(failed)? {
        close(&entry.map_err(failed)?.path())?;
    }
    Ok(())
}

/// Closes a file or a folder. Links, sockets and pipes stay as they are.
fn close(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (path.to_owned(), error);
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let mode = found.mode() & 0o777;
    // A user of VMMs passes through folders, by its group.
    let open = if found.is_dir() { mode & 0o067 } else { mode & 0o077 };
    if open == 0 || !(found.is_file() || found.is_dir()) {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !open)).map_err(failed)?;
    tracing::warn!(path = %path.display(), "it was open to others ({mode:o}), and is closed now");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_to_others_is_closed_and_a_socket_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name);
        fs::create_dir(place("segments")).expect("created");
        fs::write(place("tallyman.db"), "").expect("written");
        let _socket = std::os::unix::net::UnixListener::bind(place("api")).expect("bound");
        for (name, mode) in
            [("", 0o755), ("segments", 0o770), ("tallyman.db", 0o644), ("api", 0o666)]
        {
            fs::set_permissions(place(name), Permissions::from_mode(mode)).expect("set");
        }
        close_to_others(folder.path()).expect("closed");
        let mode = |name: &str| fs::metadata(place(name)).expect("there").mode() & 0o777;
        assert_eq!((mode(""), mode("segments"), mode("tallyman.db")), (0o710, 0o710, 0o600));
        assert_eq!(mode("api"), 0o666);
    }
}
