//! `manifest.json`: the saved machine, the hypervisor that saved it, and a checksum of every file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checksum::{CHUNK_BYTES, ContentHash, Contents, digest, fill};
use super::{Choice, MEMORY, SavedBy};
use crate::hypervisor::{
    Accelerator, Capability, HypervisorError, Kind, MachineSpec, SnapshotDefect,
};

/// The only format so far.
pub(super) const FORMAT: u32 = 1;

/// Name of the manifest in the folder of its snapshot.
pub(in crate::hypervisor) const MANIFEST: &str = "manifest.json";

/// Content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hypervisor) struct Manifest {
    pub(super) format: u32,
    pub(super) hypervisor: String,
    pub(super) version: String,
    pub(super) machine: SavedMachine,
    pub(in crate::hypervisor) files: BTreeMap<String, Contents>,
}

/// The saved machine. Accelerator, vCPUs, memory sizes and the disks' kinds must be the same at a
/// restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedMachine {
    accelerator: Accelerator,
    machine_type: Option<String>,
    cpu_model: Option<String>,
    vcpus: u32,
    memory_bytes: u64,
    memory_bytes_max: Option<u64>,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    cmdline: String,
    /// One value for each disk, true if it is read-only. The paths are left out, as a fork has
    /// other files.
    disks_read_only: Vec<bool>,
}

impl Manifest {
    /// Reads a snapshot's manifest and checks that it is one of `kind`, and that its files are
    /// there with the right sizes.
    pub(in crate::hypervisor) fn read(folder: &Path, kind: Kind) -> Result<Self, HypervisorError> {
        let manifest = Self::open(folder)?;
        if manifest.hypervisor != kind.as_str() {
            let why = format!("it is of {}, asked for is one of {kind}", manifest.hypervisor);
            return Err(no_manifest(folder, why));
        }
        for (name, &Contents { bytes: expected, .. }) in &manifest.files {
            let path = folder.join(name);
            let actual = fs::metadata(&path).map_err(missing_or("look at", &path))?.len();
            if actual != expected {
                return Err(HypervisorError::Snapshot {
                    path,
                    defect: SnapshotDefect::Size { expected, actual },
                });
            }
        }
        Ok(manifest)
    }

    /// Reads the manifest of a snapshot of any hypervisor.
    pub(in crate::hypervisor) fn open(folder: &Path) -> Result<Self, HypervisorError> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(missing_or("read", &path))?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| no_manifest(folder, error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(no_manifest(
                folder,
                format!("it has format {}, known is {FORMAT}", manifest.format),
            ));
        }
        match manifest.files.keys().find(|name| name.contains('/') || name.starts_with('.')) {
            Some(name) => Err(no_manifest(folder, format!("{name:?} is no name of a file"))),
            None => Ok(manifest),
        }
    }

    /// The choice with which the machine has to be started.
    pub(in crate::hypervisor) fn choice(&self) -> Choice {
        let SavedMachine { machine_type, accelerator, cpu_model, .. } = self.machine.clone();
        Choice { machine_type, accelerator, cpu_model }
    }

    /// Checks that the memory fits the machine that is asked for and the hypervisor on this host.
    pub(in crate::hypervisor) fn check(
        &self,
        folder: &Path,
        spec: &MachineSpec,
        choice: &Choice,
        here: &SavedBy,
    ) -> Result<(), HypervisorError> {
        let unfit = |defect| Err(HypervisorError::Snapshot { path: folder.into(), defect });
        if let Some((what, expected, actual)) =
            self.machine.differs_from(&SavedMachine::of(spec, choice))
        {
            return unfit(SnapshotDefect::Mismatch { what, expected, actual });
        }
        if self.version != here.version
            && !here.kind.capabilities().has(Capability::PortableSnapshots)
        {
            let expected = self.version.clone();
            let actual = here.version.clone();
            return unfit(SnapshotDefect::Version {
                hypervisor: here.kind.as_str(),
                expected,
                actual,
            });
        }
        Ok(())
    }

    /// Reads every file and compares it with its checksum. Blocking.
    pub(in crate::hypervisor) fn verify(&self, folder: &Path) -> Result<(), HypervisorError> {
        for (name, contents) in &self.files {
            let path = folder.join(name);
            let file = File::open(&path).map_err(missing_or("open", &path))?;
            let actual = digest(&file, |_| Ok(())).map_err(HypervisorError::file("read", &path))?;
            contents.compare(actual, path)?;
        }
        Ok(())
    }

    /// Streams the memory into `to`, the last chunk only once the checksum is right. Blocking.
    pub(in crate::hypervisor) fn load_memory(
        &self,
        folder: &Path,
        mut to: impl Write,
    ) -> Result<(), HypervisorError> {
        let path = folder.join(MEMORY);
        let missing =
            || HypervisorError::Snapshot { path: path.clone(), defect: SnapshotDefect::Missing };
        let expected = self.files.get(MEMORY).ok_or_else(missing)?;
        let mut file = File::open(&path).map_err(missing_or("open", &path))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut held = Vec::with_capacity(CHUNK_BYTES);
        let mut hash = ContentHash::default();
        let mut sent = Ok(());
        loop {
            let n = fill(&mut file, &mut chunk).map_err(HypervisorError::file("read", &path))?;
            if n == 0 {
                break;
            }
            hash.chunk(&chunk[..n]);
            // Read on if the VMM hangs up: a damaged file is the likeliest cause, and the better
            // error to report.
            sent = sent.and_then(|()| to.write_all(&held));
            held.clear();
            held.extend_from_slice(&chunk[..n]);
        }
        expected.compare(hash.finish(), path)?;
        // The VMM may close as soon as it has what it needs; its state shows if it has.
        let _ = sent.and_then(|()| to.write_all(&held));
        Ok(())
    }
}

impl SavedMachine {
    pub(super) fn of(spec: &MachineSpec, choice: &Choice) -> Self {
        Self {
            machine_type: choice.machine_type.clone(),
            accelerator: choice.accelerator,
            cpu_model: choice.cpu_model.clone(),
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            memory_bytes_max: spec.memory_bytes_max,
            kernel: spec.kernel.clone(),
            initrd: spec.initrd.clone(),
            cmdline: spec.cmdline.clone(),
            disks_read_only: spec.disks.iter().map(|disk| disk.read_only).collect(),
        }
    }

    /// Returns the first difference with which the memory does not fit: its name, the saved and the
    /// asked value. Kernel and command line may differ: they are in the memory already, and a
    /// fork's kernel may have another path.
    fn differs_from(&self, asked: &Self) -> Option<(&'static str, String, String)> {
        let pair =
            |what, saved: String, asked: String| (saved != asked).then_some((what, saved, asked));
        let most =
            |machine: &Self| machine.memory_bytes_max.unwrap_or(machine.memory_bytes).to_string();
        let disks = |machine: &Self| format!("{:?}", machine.disks_read_only);
        let accelerator = self.accelerator.as_str().into();
        let asked_accelerator = asked.accelerator.as_str().into();
        let memory = self.memory_bytes.to_string();
        let asked_memory = asked.memory_bytes.to_string();
        pair("the accelerator", accelerator, asked_accelerator)
            .or_else(|| pair("a vCPU count of", self.vcpus.to_string(), asked.vcpus.to_string()))
            .or_else(|| pair("a memory size in bytes of", memory, asked_memory))
            .or_else(|| pair("a memory size in bytes of at most", most(self), most(asked)))
            .or_else(|| pair("disks that are read-only", disks(self), disks(asked)))
    }
}

/// Writes a manifest into a new file and returns the file's length in bytes.
pub(in crate::hypervisor) fn write_new(path: &Path, manifest: &Manifest) -> io::Result<u64> {
    let text = serde_json::to_vec_pretty(manifest)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(text.len() as u64)
}

fn no_manifest(folder: &Path, why: String) -> HypervisorError {
    HypervisorError::Snapshot { path: folder.join(MANIFEST), defect: SnapshotDefect::Manifest(why) }
}

pub(in crate::hypervisor) fn missing_or(
    act: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> HypervisorError {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => {
            HypervisorError::Snapshot { path: path.into(), defect: SnapshotDefect::Missing }
        }
        _ => HypervisorError::file(act, path)(source),
    }
}
