//! A snapshot that is being written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::checksum::{Contents, adopt, copy};
use super::manifest::{FORMAT, MANIFEST, Manifest, SavedMachine, write_new};
use super::{Choice, MEMORY, SavedBy, absent, beside};
use crate::hypervisor::{HypervisorError, MachineSpec};

/// A snapshot that is being written beside its final place. Dropped before [`Draft::commit`], it
/// leaves nothing behind.
#[derive(Debug)]
pub(in crate::hypervisor) struct Draft {
    to: PathBuf,
    aside: PathBuf,
    files: BTreeMap<String, Contents>,
}

impl Draft {
    /// Begins a snapshot whose final place is `to`.
    pub(in crate::hypervisor) fn begin(to: &Path) -> Result<Self, HypervisorError> {
        if to.exists() {
            let reason = format!("{} exists already", to.display());
            return Err(HypervisorError::Spec { what: "the snapshot's folder", reason });
        }
        let aside = beside(to, ".partial");
        absent(fs::remove_dir_all(&aside)).map_err(HypervisorError::file("remove", &aside))?;
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&aside);
        created.map_err(HypervisorError::file("create", &aside))?;
        Ok(Self { to: to.into(), aside, files: BTreeMap::new() })
    }

    /// The folder into which a VMM may write files of its own.
    pub(in crate::hypervisor) fn folder(&self) -> &Path {
        &self.aside
    }

    /// Writes the memory that `source` yields until its end. Blocking.
    pub(in crate::hypervisor) fn write_memory(
        &mut self,
        source: impl Read,
    ) -> Result<(), HypervisorError> {
        let path = self.aside.join(MEMORY);
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let copied = file.and_then(|file| {
            let contents = copy(source, &file)?;
            file.sync_all()?;
            Ok(contents)
        });
        self.files.insert(MEMORY.into(), copied.map_err(HypervisorError::file("write", path))?);
        Ok(())
    }

    /// Adds the files that the VMM wrote: every file in the folder that is not known yet. Blocking.
    pub(in crate::hypervisor) fn take_up(&mut self) -> Result<(), HypervisorError> {
        let listed = fs::read_dir(&self.aside).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in listed.map_err(HypervisorError::file("list", &self.aside))? {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Entry::Vacant(place) = self.files.entry(name) {
                place.insert(adopt(&path).map_err(HypervisorError::file("read", path))?);
            }
        }
        Ok(())
    }

    /// Makes the snapshot durable at its final place, and returns the sum of its files'
    /// lengths in bytes. Blocking.
    pub(in crate::hypervisor) fn commit(
        mut self,
        spec: &MachineSpec,
        choice: &Choice,
        writer: &SavedBy,
    ) -> Result<u64, HypervisorError> {
        let bytes: u64 = self.files.values().map(|contents| contents.bytes).sum();
        let manifest = Manifest {
            format: FORMAT,
            hypervisor: writer.kind.as_str().into(),
            version: writer.version.clone(),
            machine: SavedMachine::of(spec, choice),
            files: std::mem::take(&mut self.files),
        };
        let path = self.aside.join(MANIFEST);
        let write = write_new(&path, &manifest).and_then(|bytes| {
            File::open(&self.aside)?.sync_all()?;
            Ok(bytes)
        });
        let manifest_bytes = write.map_err(HypervisorError::file("write", &path))?;
        self.publish().map_err(HypervisorError::file("publish", &self.to))?;
        Ok(bytes + manifest_bytes)
    }

    fn publish(&self) -> io::Result<()> {
        fs::rename(&self.aside, &self.to)?;
        let parent = self.to.parent().unwrap_or(Path::new("/"));
        let durable = File::open(parent).and_then(|parent| parent.sync_all());
        if durable.is_err() {
            // Moved back, to be removed with the rest: a snapshot that failed must not seem to
            // exist.
            fs::rename(&self.to, &self.aside)?;
        }
        durable
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Fails once the snapshot was published, as the folder was renamed.
        let _ = fs::remove_dir_all(&self.aside);
    }
}
