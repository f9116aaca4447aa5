//! The first process of a machine: drivers, file systems, the image's program, and its end.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use ::agent::message::Exec;
use ::agent::setup::{SETUP_BYTES, Setup};
use rustix::process::Signal;

use crate::agent::Agent;
use crate::card;
use crate::port::Port;

/// The drivers in the initial RAM disk, in the order in which they load.
const DRIVERS: [&str; 3] = ["/modules/base", "/modules/virtio", "/modules/image"];

/// The image, and the machine's own disk above it.
const LOWER: &str = "/dev/vda";
const UPPER: &str = "/dev/vdb";

/// Time for a disk to appear.
const APPEARS_WITHIN: Duration = Duration::from_secs(5);

/// Brings the machine up, runs its program, and powers it off at the end. Does not come back.
pub(crate) fn run() -> ! {
    let outcome = bring_up().and_then(|setup| serve(&setup));
    match outcome {
        Ok((code, message)) => power_off(code, &message),
        Err(error) => power_off(125, &error.to_string()),
    }
}

fn bring_up() -> io::Result<Setup> {
    mount_kernel()?;
    for folder in DRIVERS {
        load_drivers(Path::new(folder));
    }
    use_console()?;
    wait_for(Path::new(UPPER))?;
    let setup = read_setup(Path::new(UPPER))?;
    mount_root()?;
    set_hostname(&setup.hostname)?;
    if let Err(error) = card::set_up() {
        eprintln!("the network card can't be set up: {error}");
    }
    Ok(setup)
}

fn set_hostname(name: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads so many bytes.
    match unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let texts = [source, target, kind, data].map(CString::new);
    let [Ok(from), Ok(to), Ok(kind), Ok(data)] = texts else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: four texts that end with a zero, which the kernel reads.
    let mounted = unsafe {
        libc::mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags as _, data.as_ptr().cast())
    };
    match mounted {
        0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::other(format!("can't mount {source} at {target}: {error}")))
        }
    }
}

fn mount_kernel() -> io::Result<()> {
    let plain = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
    if !Path::new("/proc/self").exists() {
        mount("proc", "/proc", "proc", plain, "")?;
    }
    mount("sys", "/sys", "sysfs", plain, "")?;
    mount("dev", "/dev", "devtmpfs", libc::MS_NOSUID, "mode=0755")
}

/// Loads what is there. A driver that this machine has no device for says so, and is not missed.
fn load_drivers(folder: &Path) {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = listed.map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let loaded = File::open(&file).and_then(|module| load(&module));
        // One that an earlier folder has brought is there.
        if let Some(error) =
            loaded.err().filter(|error| error.kind() != io::ErrorKind::AlreadyExists)
        {
            eprintln!("{}: {error}", file.display());
        }
    }
}

fn load(module: &File) -> io::Result<()> {
    let parameters = c"";
    // SAFETY: a descriptor that is open, and a text that ends with a zero.
    let loaded = unsafe {
        libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), parameters.as_ptr(), 0)
    };
    match loaded {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn use_console() -> io::Result<()> {
    let console = OpenOptions::new().read(true).write(true).open("/dev/console")?;
    for number in 0..3 {
        // SAFETY: the descriptors are those of this process, which has one thread.
        if unsafe { libc::dup2(console.as_raw_fd(), number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn wait_for(device: &Path) -> io::Result<()> {
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while !device.exists() {
        if waited >= APPEARS_WITHIN {
            return Err(io::Error::other(format!("the disk {} did not appear", device.display())));
        }
        std::thread::sleep(step);
        waited += step;
    }
    Ok(())
}

fn read_setup(disk: &Path) -> io::Result<Setup> {
    let mut disk = File::open(disk)?;
    let end = disk.seek(SeekFrom::End(0))?;
    disk.seek(SeekFrom::Start(end.saturating_sub(SETUP_BYTES)))?;
    let mut bytes = Vec::new();
    disk.take(SETUP_BYTES).read_to_end(&mut bytes)?;
    Setup::decode(&bytes).map_err(io::Error::other)
}

/// The image below, the machine's own disk above, and everything else on top of that.
fn mount_root() -> io::Result<()> {
    mount(LOWER, "/lower", "erofs", libc::MS_RDONLY, "")?;
    mount(UPPER, "/upper", "ext4", libc::MS_NOATIME, "")?;
    for folder in ["/upper/data", "/upper/work"] {
        fs::create_dir_all(folder)?;
    }
    mount(
        "root",
        "/root",
        "overlay",
        0,
        "lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work",
    )?;
    for folder in ["proc", "sys", "dev"] {
        let target = format!("/root/{folder}");
        fs::create_dir_all(&target)?;
        mount(&format!("/{folder}"), &target, "none", libc::MS_MOVE, "")?;
    }
    std::env::set_current_dir("/root")?;
    mount(".", "/", "none", libc::MS_MOVE, "")?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")?;
    mount_usual()
}

/// Mounts that programs expect beside that.
fn mount_usual() -> io::Result<()> {
    let plain = libc::MS_NOSUID | libc::MS_NODEV;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        "mode=0620,gid=5,ptmxmode=0666",
    )?;
    mount("shm", "/dev/shm", "tmpfs", plain, "mode=1777")?;
    mount("run", "/run", "tmpfs", plain, "mode=0755")?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        // Where it is already, it is.
        let _ = std::os::unix::fs::symlink(target, link);
    }
    Ok(())
}

fn serve(setup: &Setup) -> io::Result<(i32, String)> {
    // What a command of the host runs with is what the image's program runs with.
    for variable in &setup.env {
        let end = variable.iter().position(|&byte| byte == b'=').unwrap_or(variable.len());
        let (name, value) = variable.split_at(end);
        if !name.is_empty() {
            // SAFETY: there is one thread.
            unsafe {
                std::env::set_var(
                    OsStr::from_bytes(name),
                    OsStr::from_bytes(value.get(1..).unwrap_or_default()),
                );
            }
        }
    }
    let exec = Exec {
        argv: setup.argv.clone(),
        cwd: setup.cwd.clone(),
        user: setup.user.clone(),
        ..Exec::default()
    };
    let signal = Signal::from_named_raw(setup.stop_signal).unwrap_or(Signal::TERM);
    let agent = Agent::first(Port::find().or_else(|_| Port::none()))?;
    println!("TALLYMAN-AGENT-READY");
    println!("TALLYMAN-PROGRAM-START mode=exec");
    agent.run_first(&exec, signal)
}

/// Says how the program ended, and ends the machine.
fn power_off(code: i32, message: &str) -> ! {
    // On a line of its own, whatever the program has left.
    println!("\nTALLYMAN-EXIT code={code} message={message:?}");
    let _ = io::stdout().flush();
    drain_console();
    rustix::fs::sync();
    // SAFETY: it ends the machine, or there is nothing left to do.
    unsafe {
        libc::reboot(libc::RB_POWER_OFF);
        loop {
            libc::pause();
        }
    }
}

/// Waits until what was written has left the machine.
fn drain_console() {
    // SAFETY: a system call on a descriptor of this process.
    unsafe { libc::tcdrain(1) };
}
