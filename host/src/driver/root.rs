//! The disks of an instance whose image is a file system: the image below, which all of its
//! instances share, and a disk of its own above.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use agent::setup::{SETUP_BYTES, Setup};

use super::copy;
use super::error::FleetError;
use super::files::on_disk;
use super::host::Host;
use super::record::{Disk, NewInstance, Record};
use super::settings::Program;
use crate::id::{InstanceId, InstanceName};
use crate::image::{Image, OciRecord, OciSettings};
use crate::limits::instance as limits;

/// The program that makes the file system of the disk above.
const MKE2FS: &str = "mke2fs";

impl Host {
    /// The disks of an instance of `image`, the one of its own laid out in its folder.
    pub(super) fn image_disks(
        &self,
        id: &InstanceId,
        image: &Image,
        oci: &OciRecord,
        new: &NewInstance,
    ) -> Result<Vec<Disk>, FleetError> {
        let missing = || FleetError::Bug("an image has no file system".into());
        let below = image.root_fs().ok_or_else(missing)?;
        let size_bytes = image.manifest.root_fs.as_ref().ok_or_else(missing)?.bytes;
        let folder = self.folder(id);
        let path = folder.join("root.raw");
        let bytes = overlay_bytes(new.overlay_bytes)?;
        let setup = setup(&oci.settings, &new.program, &new.name)?;
        let made = copy::fresh_folder(&folder).and_then(|()| make(&path, bytes, &setup));
        if let Err(error) = made {
            // Half a disk only takes space; the first error tells more.
            let _ = copy::remove(&folder);
            return Err(on_disk("write", &path)(error));
        }
        Ok(vec![
            Disk { path: below, read_only: true, size_bytes },
            Disk { path, read_only: false, size_bytes: bytes },
        ])
    }

    /// Replaces what an instance's machine is to run. Blocking.
    pub(super) fn rewrite_setup(
        &self,
        record: &Record,
        program: &Program,
    ) -> Result<(), FleetError> {
        let image = self.image(&record.spec.image)?;
        let none = || invalid("cmd", "only instances of OCI images have a program to set");
        let oci = image.manifest.oci.as_ref().ok_or_else(none)?;
        let above = record.spec.disks.get(1).ok_or_else(none)?;
        let setup = setup(&oci.settings, program, &record.name)?;
        File::options()
            .write(true)
            .open(&above.path)
            .and_then(|file| {
                file.write_all_at(&setup, above.size_bytes - SETUP_BYTES)?;
                file.sync_data()
            })
            .map_err(on_disk("write", &above.path))
    }
}

fn invalid(field: &'static str, problem: impl Into<String>) -> FleetError {
    FleetError::Invalid { field, problem: problem.into() }
}

fn overlay_bytes(wanted: Option<u64>) -> Result<u64, FleetError> {
    let bytes = wanted.unwrap_or(limits::OVERLAY_BYTES);
    let allowed = limits::OVERLAY_BYTES_MIN..=limits::OVERLAY_BYTES_MAX;
    if allowed.contains(&bytes) && bytes.is_multiple_of(1 << 20) {
        return Ok(bytes);
    }
    let least = allowed.start() >> 20;
    let most = allowed.end() >> 30;
    Err(invalid(
        "overlay_size",
        format!("must be whole MiB from {least} MiB to {most} GiB, is {bytes} bytes"),
    ))
}

/// A new disk with an empty file system, and what the machine is to run behind it.
fn make(path: &Path, bytes: u64, setup: &[u8]) -> io::Result<()> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    file.set_len(bytes)?;
    let kib = (bytes - SETUP_BYTES) / 1_024;
    let mut mke2fs = Command::new(MKE2FS);
    // Where Debian has it is not on everybody's path.
    let mut search = std::env::var_os("PATH").unwrap_or_default();
    search.push(OsString::from(":/usr/sbin:/sbin"));
    mke2fs.env("PATH", search).args(["-q", "-F", "-t", "ext4", "-m", "0"]);
    mke2fs.args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]);
    let output = mke2fs.arg(path).arg(format!("{kib}k")).output().map_err(|error| {
        io::Error::new(error.kind(), format!("{MKE2FS}: {error}; Debian has it in e2fsprogs"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{MKE2FS}: {}", said.trim())));
    }
    file.write_all_at(setup, bytes - SETUP_BYTES)?;
    file.sync_all()
}

/// The program of the machine, as it stands on the disk.
fn setup(
    settings: &OciSettings,
    program: &Program,
    name: &InstanceName,
) -> Result<Vec<u8>, FleetError> {
    let Program { entrypoint, cmd, env } = program;
    // Other arguments belong to another program.
    let usual = if entrypoint.is_some() { None } else { settings.cmd.clone() };
    let program = entrypoint.clone().or_else(|| settings.entrypoint.clone()).unwrap_or_default();
    let arguments = cmd.clone().or(usual).unwrap_or_default();
    let argv: Vec<_> = program.into_iter().chain(arguments).map(String::into_bytes).collect();
    if argv.first().is_none_or(Vec::is_empty) {
        return Err(invalid("cmd", "the image names no program to run; say one"));
    }
    let usual = settings.env.iter().flatten().map(|variable| variable.clone().into_bytes());
    let own = env.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    let setup = Setup {
        argv,
        env: usual.chain(own).collect(),
        cwd: settings.working_dir.clone().into_bytes(),
        user: settings.user.clone().into_bytes(),
        stop_signal: signal(&settings.stop_signal),
        hostname: name.to_string().into_bytes(),
    };
    if setup.argv.iter().chain(&setup.env).any(|text| text.contains(&0)) {
        return Err(invalid("cmd", "no word and no variable may hold a NUL"));
    }
    setup.encode().map_err(|error| invalid("cmd", error.to_string()))
}

/// The number of a signal by its name or number; `SIGTERM` if it is neither.
fn signal(text: &str) -> i32 {
    const NAMES: [(&str, i32); 10] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("WINCH", 28),
    ];
    const TERM: i32 = 15;
    let name = text.trim_start_matches("SIG");
    let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| text.parse().ok().filter(|number| (1..=64).contains(number))).unwrap_or(TERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("", 15), ("SIGINT", 2), ("QUIT", 3), ("10", 10), ("SIGRTMIN+3", 15), ("99", 15)]
        {
            assert_eq!(signal(text), number, "{text}");
        }
    }

    #[test]
    fn a_disk_above_an_image_has_whole_mebibytes() {
        assert_eq!(overlay_bytes(None).ok(), Some(limits::OVERLAY_BYTES));
        assert_eq!(overlay_bytes(Some(64 << 20)).ok(), Some(64 << 20));
        for bytes in [0, 1 << 20, (64 << 20) + 1, u64::MAX] {
            overlay_bytes(Some(bytes)).expect_err("refused");
        }
    }
}
