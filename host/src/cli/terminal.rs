//! The terminal that the command line stands in.

use std::io;
use std::mem::MaybeUninit;

/// A terminal that takes each key as it is, until this is dropped.
pub(super) struct Raw(libc::termios);

impl Raw {
    /// Makes standard input such a one.
    pub(super) fn set() -> io::Result<Self> {
        let mut before = MaybeUninit::uninit();
        // SAFETY: the call fills the structure if it succeeds, and only then it is looked at.
        let before = unsafe {
            if libc::tcgetattr(libc::STDIN_FILENO, before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        let mut raw = before;
        // SAFETY: the structure is ours.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        apply(&raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone keeps nothing.
        let _ = apply(&self.0);
    }
}

fn apply(settings: &libc::termios) -> io::Result<()> {
    // SAFETY: the structure is only read.
    match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, settings) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lines and columns of the terminal at standard output, if it is one.
pub(super) fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the structure that it documents.
    let got = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (got == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
