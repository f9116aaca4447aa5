//! The confinement of a VMM to what its machine needs, by the kernel's Landlock.
//!
//! A guest that takes its VMM over has the rights of the daemon's user, and the journal is that
//! user's. So the VMM may reach its own machine's files, the system's programs and a few devices,
//! and nothing else; it gains no privileges by what it runs, opens no TCP connection, and signals
//! and traces no process outside. QEMU, which is handed its sockets and streams its snapshots,
//! writes no file but its disks. The other VMMs write snapshots into the folder of their instance.
//!
//! A kernel without Landlock, or with an older one, restricts what it can: see [`confinement`].

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::environment;
use super::order::LaunchOrder;
use super::user::{self, PASS, USE, VmmUser, WRITE};
use super::wiring::Wiring;

/// The last version of Landlock whose rights are asked for.
const ASKED: ABI = ABI::V6;

/// Folders and files of the system that programs read and run.
const PROGRAMS: [&str; 6] = ["/usr", "/lib", "/lib64", "/bin", "/opt", "/nix/store"];

/// Files and folders of the system that programs read.
const READ: [&str; 7] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/qemu",
    "/proc",
    "/sys",
    "/dev/urandom",
];

/// Devices that VMMs use.
const DEVICES: [&str; 6] =
    ["/dev/kvm", "/dev/net/tun", "/dev/null", "/dev/zero", "/dev/vhost-net", "/dev/vhost-vsock"];

/// Makes the program that is started confine itself before it runs.
///
/// # Errors
/// [`io::Error`] if the rules can't be made.
pub(super) fn confine(command: &mut Command, run: &Path, order: &LaunchOrder) -> io::Result<()> {
    let mut rules = Some(rules(run, order).map_err(io::Error::other)?);
    let confine = move || match rules.take() {
        Some(rules) => rules.restrict_self().map(drop).map_err(io::Error::other),
        None => Ok(()),
    };
    // SAFETY: a supervisor has one thread, so that no lock is held by another one that is not
    // there after the fork.
    unsafe { command.pre_exec(confine) };
    Ok(())
}

fn rules(run: &Path, order: &LaunchOrder) -> Result<RulesetCreated, RulesetError> {
    let run_it = AccessFs::from_read(ASKED);
    let read = run_it & !AccessFs::Execute;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ASKED))?
        .handle_access(AccessNet::from_all(ASKED))?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?;
    for path in programs(order) {
        rules = allow(rules, &path, run_it)?;
    }
    for path in READ.map(Path::new).into_iter().chain(order.read.iter().map(PathBuf::as_path)) {
        rules = allow(rules, path, read)?;
    }
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    for path in DEVICES.map(Path::new) {
        rules = allow(rules, path, device)?;
    }
    for disk in &order.disks {
        let write =
            if disk.read_only { read } else { read | AccessFs::WriteFile | AccessFs::Truncate };
        rules = allow(rules, &disk.path, write)?;
    }
    match order.wiring {
        // It listens on a socket for a snapshot that it loads.
        Wiring::Qemu => allow(rules, run, read | AccessFs::MakeSock),
        Wiring::CloudHypervisor | Wiring::Firecracker => {
            let own = read
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeSock
                | AccessFs::RemoveFile;
            allow(rules, &order.dir, own)
        }
    }
}

/// The folders of programs: those of the system, the VMM's own, and the libraries' that its
/// environment names.
fn programs(order: &LaunchOrder) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = PROGRAMS.iter().map(PathBuf::from).collect();
    if let Ok(program) = order.program.canonicalize() {
        let folder = program.parent().unwrap_or(Path::new("/usr"));
        // Beside `bin` are the libraries and the firmware.
        let is_bin = folder.file_name().is_some_and(|name| name == "bin");
        let prefix = folder.parent().filter(|prefix| is_bin && prefix.parent().is_some());
        paths.extend(
            prefix.into_iter().flat_map(|prefix| {
                ["lib", "lib64", "libexec", "share"].map(|name| prefix.join(name))
            }),
        );
        paths.push(program);
    }
    for (name, value) in environment::inherited() {
        if name == "LD_LIBRARY_PATH" {
            paths.extend(std::env::split_paths(&value).filter(|path| path.is_absolute()));
        }
    }
    paths
}

/// Allows access to a file, or to all beneath a folder. What is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(open) = PathFd::new(path) else { return Ok(rules) };
    let of_file = if path.is_dir() { access } else { access & AccessFs::from_file(ASKED) };
    rules.add_rule(PathBeneath::new(open, of_file))
}

/// The confinement of virtual machine monitors that a kernel allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// They reach their machine's files alone, open no TCP connection, and signal nobody.
    Full,
    /// They reach their machine's files alone.
    Files,
    /// They reach whatever the daemon's user does.
    None,
}

/// The confinement of virtual machine monitors on this host.
pub fn confinement() -> Confinement {
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the call only answers the version, and reads no memory.
    match unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, 1_u32) } {
        ..=0 => Confinement::None,
        1..=5 => Confinement::Files,
        _ => Confinement::Full,
    }
}

/// Lets the user reach what a launch needs.
pub(super) fn let_in(who: &VmmUser, run: &Path, order: &LaunchOrder) -> io::Result<()> {
    for path in &order.read {
        who.let_read(path)?;
    }
    for disk in &order.disks {
        who.open(&disk.path, if disk.read_only { user::READ } else { WRITE })?;
    }
    who.open(run, USE)?;
    let data = order.dir.ancestors().nth(2);
    match order.wiring {
        Wiring::Qemu => {}
        Wiring::CloudHypervisor | Wiring::Firecracker => who.open(&order.dir, USE)?,
    }
    let needed = order.disks.iter().map(|disk| &disk.path).chain(&order.read);
    for path in needed.map(|path| path.as_path()).chain([run]) {
        let inside = path.ancestors().skip(1);
        let inside = inside.take_while(|folder| data.is_some_and(|data| folder.starts_with(data)));
        for folder in inside {
            who.open(folder, PASS)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::hypervisor::Disk;

    /// The lines that a shell prints which is confined as the VMM of a machine in `data`.
    fn told(data: &Path, wiring: Wiring, script: &str) -> Vec<String> {
        let dir = data.join("instances/a");
        let run = dir.join("run/1");
        fs::create_dir_all(&run).expect("created");
        let disk = dir.join("root.raw");
        let kernel = data.join("kernel");
        for file in [&disk, &kernel, &data.join("tallyman.db"), &run.join("events.jsonl")] {
            fs::write(file, "content\n").expect("written");
        }
        let order = LaunchOrder {
            format: 1,
            dir,
            program: "/bin/sh".into(),
            args: Vec::new(),
            wiring,
            disks: vec![Disk { path: disk, read_only: false }],
            agent: false,
            namespace: None,
            user: None,
            read: vec![kernel],
            kept: serde_json::Value::Null,
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(data).current_dir(&run);
        confine(&mut command, &run, &order).expect("rules");
        let output = command.output().expect("run");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    const TRIES: &str = r#"
        data="$1"; exec 2>/dev/null
        cat "$data/kernel" > /dev/null && echo reads its kernel
        (echo x >> "$data/instances/a/root.raw") && echo writes its disk
        (echo x > "$data/instances/a/new") && echo writes its folder
        cat "$data/tallyman.db" && echo reads the journal
        (echo x >> events.jsonl) && echo writes its events
        (echo x >> "$data/kernel") && echo writes its kernel
        ls "$data" && echo lists the data folder
        cat /etc/passwd > /dev/null && echo reads other files
        kill -0 "$PPID" && echo signals its parent
        grep -q '^NoNewPrivs:.1' /proc/self/status && echo gains no privileges
    "#;

    #[test]
    fn a_vmm_reaches_its_machine_and_not_the_journal() {
        if confinement() != Confinement::Full {
            // Past the capture of a test that passes: the run tells it at its end.
            let said =
                b"confinement NOT RUN: this kernel has no Landlock, or one before version 6\n";
            std::io::Write::write_all(&mut io::stderr(), said).expect("written");
            return;
        }
        let data = tempfile::tempdir().expect("a folder");
        let qemu = ["reads its kernel", "writes its disk", "gains no privileges"];
        assert_eq!(told(data.path(), Wiring::Qemu, TRIES), qemu);
        let others = told(data.path(), Wiring::Firecracker, TRIES);
        let expected = [
            "reads its kernel",
            "writes its disk",
            "writes its folder",
            "writes its events",
            "gains no privileges",
        ];
        assert_eq!(others, expected);
    }
}
