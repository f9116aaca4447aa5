//! Running a host: the guide's commands as they stand, the package, the configuration.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tallyman_tests::daemon::program;

use crate::guide::{blocks, script};
use crate::{PROGRAM, daemon};

const GUIDE: &str = include_str!("../../../docs/operate.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("run");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

/// Makes the package of the program under test.
fn package(folder: &Path) -> PathBuf {
    let mut command = Command::new(root().join("scripts/package"));
    PathBuf::from(run(command.arg(PROGRAM).arg(folder)).trim())
}

/// A folder with an installed system that is enough for packages: a shell, and their database.
fn system(folder: &Path) -> PathBuf {
    let system = folder.join("system");
    for name in ["bin", "etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        fs::create_dir_all(system.join(name)).expect("a folder");
    }
    fs::write(system.join("var/lib/dpkg/status"), "").expect("written");
    fs::copy("/bin/busybox", system.join("bin/busybox"))
        .expect("busybox; `scripts/setup test` installs busybox-static");
    for tool in ["sh", "rm"] {
        symlink("busybox", system.join("bin").join(tool)).expect("a link");
    }
    system
}

fn dpkg(system: &Path, arguments: &[&str]) -> Command {
    // As root in a namespace of its own: packages change the root folder for their scripts.
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "dpkg", "--force-depends", "--force-not-root"]);
    command.arg(format!("--root={}", system.display())).args(arguments);
    command
}

#[test]
fn the_package_is_installed_upgraded_and_removed_and_leaves_what_is_not_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = package(folder.path());
    let system = system(folder.path());
    let file = package.to_str().expect("text");
    run(&mut dpkg(&system, &["--install", file]));
    for name in [
        "usr/bin/tallyman",
        "usr/lib/systemd/system/tallyman.service",
        "usr/lib/sysusers.d/tallyman.conf",
        "usr/share/man/man1/tallyman-instance-standby.1.gz",
        "usr/share/bash-completion/completions/tallyman",
        "usr/share/zsh/vendor-completions/_tallyman",
        "usr/share/fish/vendor_completions.d/tallyman.fish",
        "usr/share/doc/tallyman/changelog.gz",
    ] {
        assert!(system.join(name).is_file(), "{name} is missing");
    }
    let configuration = system.join("etc/tallyman/tallyman.toml");
    let installed = system.join("usr/bin/tallyman");
    let checked = run(program(&installed, &["config", "check", "--json"]).arg(&configuration));
    let checked: Value = serde_json::from_str(&checked).expect("JSON");
    assert_eq!(checked["keys"], serde_json::json!(["data"]));
    // What an operator has changed is kept by an upgrade and by a removal.
    let changed = fs::read_to_string(&configuration).expect("text") + "clock_wait_s = 7\n";
    fs::write(&configuration, &changed).expect("written");
    run(&mut dpkg(&system, &["--force-confold", "--install", file]));
    run(&mut dpkg(&system, &["--remove", "tallyman"]));
    assert_eq!(fs::read_to_string(&configuration).expect("text"), changed);
    assert!(!installed.exists());
    run(&mut dpkg(&system, &["--purge", "tallyman"]));
    assert!(!configuration.exists());
}

#[test]
fn the_unit_is_valid_and_as_closed_as_the_guide_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(root().join("packaging/tallyman.service")).expect("text");
    let here = std::path::absolute(PROGRAM).expect("a path");
    let file = folder.path().join("tallyman.service");
    fs::write(&file, unit.replace("/usr/bin/tallyman", &here.display().to_string()))
        .expect("written");
    let mut verify = Command::new("systemd-analyze");
    let verified = verify.args(["verify", "--man=no"]).arg(&file).output();
    let verified = verified.expect("systemd-analyze; `scripts/setup test` installs systemd");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("tallyman.service:"), "{said}");
    let mut security = Command::new("systemd-analyze");
    let table = run(security.args(["security", "--offline=true"]).arg(&file));
    let score = table.split("Overall exposure level").nth(1).expect("a score");
    let said = GUIDE.split("exposure of ").nth(1).and_then(|text| text.split(".\n").next());
    let said = said.and_then(|text| text.split_whitespace().next()).expect("a score");
    assert!(score.contains(&format!(": {} ", said.trim_end_matches('.'))), "{said}: {score}");
}

#[test]
fn a_configuration_that_is_wrong_is_refused_by_the_check_and_by_the_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tallyman.toml");
    fs::write(&file, "listen = \"127.0.0.1:0\"\nlisten_to = 1\n").expect("written");
    let file = file.to_str().expect("text");
    for call in [["config", "check", file], ["serve", "--config", file]] {
        let output = program(Path::new(PROGRAM), &call).output().expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("unknown key `listen_to`") && said.contains("clock_wait_s"),
            "{said}"
        );
    }
    fs::write(file, "listen = \"nowhere\"\n").expect("written");
    let output = program(Path::new(PROGRAM), &["config", "check", file]).output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("nowhere"), "{said}");
}

/// Programs of the host that the guide calls, and that this one may not have or may not do: they
/// say what they were asked for.
const OF_THE_HOST: [&str; 4] = ["apt", "chgrp", "journalctl", "systemctl"];

#[test]
fn every_command_of_the_guide_to_operations_does_what_it_says() {
    let daemon = daemon();
    daemon.api().create_running("vm1");
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    for name in ["bin", "etc", "backups"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    symlink(std::path::absolute(PROGRAM).expect("a path"), bin.join("tallyman")).expect("a link");
    for name in OF_THE_HOST {
        let file = bin.join(name);
        fs::write(&file, format!("#!/bin/sh\necho {name} \"$@\"\n")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let place = |name: &str| folder.path().join(name).display().to_string();
    fs::copy(root().join("packaging/tallyman.toml"), place("etc/tallyman.toml")).expect("copied");
    let script = script(&blocks(GUIDE))
        .replace("/etc/tallyman", &place("etc"))
        .replace("/var/backups", &place("backups"))
        .replace("/var/lib/tallyman.new", &place("restored"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    let mut shell: Command = program(Path::new("bash"), &["-c", &script]);
    shell.current_dir(folder.path()).env("PATH", path).env("XDG_CONFIG_HOME", place("home"));
    shell.env("TALLYMAN_URL", &daemon.api().url).env("TALLYMAN_DATA", daemon.folder());
    let told = run(&mut shell);
    for words in
        ["systemctl restart tallyman", "is valid: it sets data", "tls_key;", "the journal is whole"]
    {
        assert!(told.contains(words), "'{words}' is not in: {told}");
    }
    assert!(told.contains("NAME  STATE") || told.contains("vm1"), "{told}");
}
