//! Detection of hypervisors on this host.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::{Accelerator, Description, HypervisorError, Kind};
use crate::limits::instance::CONTROL_MS_MAX;

/// Makes a program's path independent of the working folder. A bare name, which is looked for on
/// `PATH`, stays as it is.
pub(super) fn program(path: &Path) -> Result<PathBuf, HypervisorError> {
    if path.components().count() == 1 && !path.has_root() {
        return Ok(path.into());
    }
    std::path::absolute(path).map_err(HypervisorError::file("resolve", path))
}

/// Runs the program with these arguments and returns its standard output.
pub(super) async fn ask(
    kind: Kind,
    program: &Path,
    args: &[&str],
) -> Result<String, HypervisorError> {
    let output = tokio::process::Command::new(program).args(args).kill_on_drop(true).output();
    let output = timeout(Duration::from_millis(CONTROL_MS_MAX), output).await;
    let output =
        output.map_err(|_| unavailable(program, format!("no answer in {CONTROL_MS_MAX} ms")))?;
    let output =
        output.map_err(|error| unavailable(program, format!("{error}; {}", hint(kind))))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(unavailable(program, format!("{}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Describes a hypervisor that has no accelerator but KVM. Its version follows `before` in the
/// output of `--version`.
///
/// # Errors
/// [`HypervisorError::Unavailable`] if it is not installed or does not work, or if `/dev/kvm` can't
/// be used.
pub(super) async fn describe_kvm_only(
    kind: Kind,
    path: &Path,
    before: &str,
) -> Result<Description, HypervisorError> {
    let program = program(path)?;
    let version = version(&ask(kind, &program, &["--version"]).await?, before);
    let version =
        version.ok_or_else(|| unavailable(&program, "its `--version` names no version".into()))?;
    kvm().map_err(|reason| unavailable(&program, reason))?;
    Ok(Description {
        name: kind.as_str(),
        version,
        accelerator: Accelerator::Kvm,
        accelerator_reason: "it has no other".into(),
        machine_type: None,
        vcpus_max: kind.vcpus_max(),
        capabilities: kind.capabilities(),
        program,
    })
}

/// Advice on installing a hypervisor.
fn hint(kind: Kind) -> &'static str {
    match kind {
        Kind::Qemu | Kind::QemuMicrovm => "is it installed? Debian: apt install qemu-system-x86",
        Kind::CloudHypervisor => {
            "is it installed? Its project publishes a static binary with each release"
        }
        Kind::Firecracker => {
            "is it installed? Its project publishes a static binary with each release"
        }
    }
}

/// Makes the error that a hypervisor can't be used.
pub(super) fn unavailable(program: &Path, reason: String) -> HypervisorError {
    HypervisorError::Unavailable { program: program.display().to_string(), reason }
}

/// Returns the version that follows `before`, such as `7.2.22` after `version `.
pub(super) fn version(text: &str, before: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    let version = rest.split_whitespace().next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

/// Checks that `/dev/kvm` can be opened; the error is the reason, in words.
pub(super) fn kvm() -> Result<(), String> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("/dev/kvm can't be opened: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_number_alone() {
        let rows = [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003-2022",
                "version ",
                Some("7.2.22"),
            ),
            ("QEMU emulator version 10.0.13\n", "version ", Some("10.0.13")),
            ("Firecracker v1.12.1\n\n2026 exiting", "Firecracker v", Some("1.12.1")),
            ("cloud-hypervisor v53.0\n", "cloud-hypervisor v", Some("53.0")),
            ("something else", "version ", None),
            ("version unknown", "version ", None),
        ];
        for (text, before, expected) in rows {
            assert_eq!(version(text, before).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_program_is_found_from_any_folder() {
        assert_eq!(program(Path::new("qemu")).expect("a name"), PathBuf::from("qemu"));
        for path in ["./qemu", "bin/qemu", "/usr/bin/qemu"] {
            assert!(program(Path::new(path)).expect("a path").is_absolute(), "{path}");
        }
    }
}
