//! Processes with pipes or a terminal.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use ::agent::message::{Exec, Size, What, Write};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::user::{self, User};

/// The usual search path of programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process that was started, and our ends of what it reads and writes.
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    /// None for a terminal.
    pub(crate) errors: Option<OwnedFd>,
}

/// Starts what a session is to run.
pub(crate) fn spawn(what: &What) -> io::Result<Spawned> {
    match what {
        What::Exec(exec) => match exec.terminal {
            Some(size) => in_terminal(command(exec)?, size),
            None => with_pipes(command(exec)?),
        },
        What::Stat { path, follow } => with_pipes(helper("stat", &[path, flag(*follow)])),
        What::Read { path, follow } => with_pipes(helper("read", &[path, flag(*follow)])),
        What::Write(write) => with_pipes(writer(write)),
    }
}

fn flag(is_set: bool) -> &'static [u8] {
    if is_set { b"1" } else { b"0" }
}

/// This program itself: what it does with files may hang as long as it likes.
fn helper(name: &str, arguments: &[&[u8]]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env_clear().current_dir("/").args(["helper", name]);
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    command
}

fn writer(write: &Write) -> Command {
    let number = |id: Option<u32>| id.map_or_else(String::new, |id| id.to_string());
    let mut command = helper("write", &[&write.path, flag(write.is_folder)]);
    command.args([write.mode.to_string(), number(write.uid), number(write.gid)]);
    command
}

fn command(exec: &Exec) -> io::Result<Command> {
    let (program, arguments) =
        exec.argv.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
    let user = user::resolve(&exec.user)?;
    let mut command = Command::new(OsStr::from_bytes(program));
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    command.env("HOME", &user.home);
    if exec.terminal.is_some() && std::env::var_os("TERM").is_none() {
        command.env("TERM", "xterm");
    }
    for variable in &exec.env {
        let end = variable.iter().position(|&byte| byte == b'=').unwrap_or(variable.len());
        let (name, value) = variable.split_at(end);
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..).unwrap_or_default()));
    }
    if !exec.cwd.is_empty() {
        command.current_dir(OsStr::from_bytes(&exec.cwd));
    }
    become_user(&mut command, user);
    Ok(command)
}

fn become_user(command: &mut Command, user: User) {
    // SAFETY: system calls alone, on memory that was there before the fork.
    unsafe {
        command.pre_exec(move || {
            // Whoever may not change them may keep them if they are the same.
            if libc::getuid() == user.uid && libc::getgid() == user.gid {
                return Ok(());
            }
            let done = libc::setgroups(user.groups.len(), user.groups.as_ptr()) == 0
                && libc::setgid(user.gid) == 0
                && libc::setuid(user.uid) == 0;
            if done { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
}

/// Starts a command whose input and output are ours.
pub(crate) fn on_console(exec: &Exec) -> io::Result<i32> {
    let mut command = command(exec)?;
    // SAFETY: system calls alone.
    unsafe {
        command.pre_exec(begin_session);
    }
    Ok(command.spawn()?.id().cast_signed())
}

/// Makes the new process the first of a session, and lets it hear the signals that this one takes
/// otherwise.
fn begin_session() -> io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: system calls on a set that was made for them.
    let unblocked = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if unblocked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn with_pipes(mut command: Command) -> io::Result<Spawned> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: system calls alone.
    unsafe {
        command.pre_exec(begin_session);
    }
    let mut child = command.spawn()?;
    let pipe = || io::Error::other("a pipe is missing");
    Ok(Spawned {
        pid: child.id().cast_signed(),
        input: child.stdin.take().ok_or_else(pipe)?.into(),
        output: child.stdout.take().ok_or_else(pipe)?.into(),
        errors: Some(child.stderr.take().ok_or_else(pipe)?.into()),
    })
}

fn in_terminal(mut command: Command, size: Size) -> io::Result<Spawned> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    resize(&ours, size)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    let number = theirs.as_raw_fd();
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs.try_clone()?);
    // SAFETY: system calls alone, on a descriptor that is open as long as `theirs`.
    unsafe {
        command.pre_exec(move || {
            begin_session()?;
            match libc::ioctl(number, libc::TIOCSCTTY as _, 0) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let child = command.spawn()?;
    Ok(Spawned {
        pid: child.id().cast_signed(),
        input: ours.try_clone()?,
        output: ours,
        errors: None,
    })
}

/// Gives a terminal another size.
pub(crate) fn resize(terminal: &OwnedFd, size: Size) -> io::Result<()> {
    let size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads the structure that it documents, and writes nothing.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
