//! Folders that belong to no instance on record.
//!
//! They are moved aside, never removed: after an older journal is put in place, the disks of the
//! instances that it does not know are still there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder beside the instances' into which unknown ones are moved.
const NAME: &str = "set-aside";

/// The folder of all folders that were moved aside, given the folder of the instances.
pub(super) fn folder(instances: &Path) -> PathBuf {
    instances.with_file_name(NAME)
}

/// Moves a folder aside. Returns its new path: its own name, with a number appended if that is
/// taken.
///
/// # Errors
/// The error of the file system; the folder then stays in place.
pub(super) fn set_aside(instance: &Path) -> io::Result<PathBuf> {
    let instances = instance.parent().unwrap_or(instance);
    let aside = folder(instances);
    fs::create_dir_all(&aside)?;
    let name = instance.file_name().unwrap_or_default();
    let mut place = aside.join(name);
    for number in 2.. {
        // A rename would replace an empty folder without an error.
        if !place.try_exists()? {
            break;
        }
        let mut numbered = name.to_owned();
        numbered.push(format!("-{number}"));
        place = aside.join(numbered);
    }
    fs::rename(instance, &place)?;
    Ok(place)
}

/// Number of folders that were moved aside and are still there.
pub(super) fn count(instances: &Path) -> u64 {
    fs::read_dir(folder(instances)).map_or(0, |folders| folders.flatten().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_set_aside_twice_keeps_both() {
        let data = tempfile::tempdir().expect("a folder");
        let instances = data.path().join("instances");
        let mut places = Vec::new();
        for content in ["one", "two"] {
            let instance = instances.join("i");
            fs::create_dir_all(&instance).expect("a folder");
            fs::write(instance.join("disk"), content).expect("written");
            let place = set_aside(&instance).expect("moved");
            assert!(!instance.exists());
            places.push(fs::read_to_string(place.join("disk")).expect("kept"));
        }
        assert_eq!(places, ["one", "two"]);
        assert_eq!(count(&instances), 2);
    }
}
