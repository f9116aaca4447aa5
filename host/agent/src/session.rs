//! A session: a process of the host's, and what goes in and out.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ::agent::message::{DATA_BYTES_MAX, Ending, Open, Size, WINDOW_BYTES};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus, kill_process_group};

use crate::spawn::{self, Spawned};

/// The character that ends the input of a terminal.
const END_OF_TRANSMISSION: u8 = 4;

/// A process of the host's.
pub(crate) struct Session {
    pid: i32,
    is_terminal: bool,
    input: Option<OwnedFd>,
    /// Input that it has not taken yet, and how much of that it has.
    pending: Vec<u8>,
    given: usize,
    input_ends: bool,
    /// Input that it took and the host does not know of.
    taken: u32,
    outputs: [Option<OwnedFd>; 2],
    /// Bytes of output that the host still takes.
    credit: u32,
    pub(crate) deadline: Option<Instant>,
    timed_out: bool,
    ended: Option<Ending>,
}

/// Output that was read.
pub(crate) enum Output {
    Bytes { is_error: bool, bytes: Vec<u8> },
    Dry,
}

impl Session {
    /// Starts one.
    pub(crate) fn start(open: &Open) -> io::Result<Self> {
        let Spawned { pid, input, output, errors } = spawn::spawn(&open.what)?;
        for end in [Some(&input), Some(&output), errors.as_ref()].into_iter().flatten() {
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        let limit = Duration::from_millis(open.timeout_ms);
        Ok(Self {
            pid,
            is_terminal: errors.is_none(),
            input: Some(input),
            pending: Vec::new(),
            given: 0,
            input_ends: false,
            taken: 0,
            outputs: [Some(output), errors],
            credit: WINDOW_BYTES,
            deadline: (open.timeout_ms > 0).then(|| Instant::now() + limit),
            timed_out: false,
            ended: None,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes input; refuses more than the host was granted.
    pub(crate) fn take_input(&mut self, bytes: &[u8]) -> bool {
        if self.pending.len() - self.given + bytes.len() > WINDOW_BYTES as usize {
            return false;
        }
        self.pending.drain(..self.given);
        self.given = 0;
        if self.input.is_some() {
            self.pending.extend_from_slice(bytes);
        } else {
            // Nobody reads it any more; the host goes on as if somebody did.
            self.taken += u32::try_from(bytes.len()).unwrap_or_default();
        }
        true
    }

    pub(crate) fn end_input(&mut self) {
        self.input_ends = true;
        if self.is_terminal && self.input.is_some() {
            self.pending.push(END_OF_TRANSMISSION);
        }
    }

    pub(crate) fn grant(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes);
    }

    pub(crate) fn resize(&self, size: Size) {
        if let (true, Some(terminal)) = (self.is_terminal, &self.outputs[0]) {
            // A terminal that is gone has no size.
            let _ = spawn::resize(terminal, size);
        }
    }

    /// Gives it as much input as it takes now.
    pub(crate) fn feed(&mut self) {
        while let Some(input) = &self.input {
            let rest = &self.pending[self.given..];
            if rest.is_empty() {
                if self.input_ends && !self.is_terminal {
                    self.input = None;
                }
                return;
            }
            match rustix::io::write(input, rest) {
                Ok(count) => {
                    self.given += count;
                    self.taken += u32::try_from(count).unwrap_or_default();
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {
                    self.taken += u32::try_from(rest.len()).unwrap_or_default();
                    self.given = self.pending.len();
                    self.input = None;
                }
            }
        }
    }

    /// Returns the bytes of input that were taken, if they are worth a message.
    pub(crate) fn granted(&mut self) -> Option<u32> {
        (self.taken >= WINDOW_BYTES / 4).then(|| std::mem::take(&mut self.taken))
    }

    /// Its input, if it has some to take.
    pub(crate) fn wants_input(&self) -> Option<&OwnedFd> {
        self.input.as_ref().filter(|_| self.given < self.pending.len())
    }

    /// The ends from which output may be read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = &OwnedFd> {
        self.outputs.iter().flatten().filter(|_| self.credit > 0)
    }

    /// Reads some output.
    pub(crate) fn output(&mut self, buffer: &mut [u8]) -> Output {
        let most = buffer.len().min(DATA_BYTES_MAX).min(self.credit as usize);
        if most == 0 {
            return Output::Dry;
        }
        for (is_error, end) in [false, true].into_iter().zip(&mut self.outputs) {
            let Some(open) = end else { continue };
            match rustix::io::read(open, &mut buffer[..most]) {
                Ok(0) => *end = None,
                Ok(count) => {
                    self.credit -= u32::try_from(count).unwrap_or_default();
                    return Output::Bytes { is_error, bytes: buffer[..count].to_vec() };
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A terminal that nobody has open any more.
                Err(_) => *end = None,
            }
        }
        Output::Dry
    }

    /// Its process has ended.
    pub(crate) fn set_ended(&mut self, status: WaitStatus) {
        self.ended = Some(match (status.exit_status(), status.terminating_signal()) {
            _ if self.timed_out => Ending::TimedOut,
            (Some(code), _) => Ending::Code(code),
            (None, Some(signal)) => Ending::Signal(signal),
            (None, None) => Ending::Code(-1),
        });
    }

    /// Returns the way it ended, once all that it wrote was read.
    pub(crate) fn ending(&self, is_dry: bool) -> Option<Ending> {
        self.ended.filter(|_| is_dry && self.credit > 0)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends it by force, because its time is over.
    pub(crate) fn time_out(&mut self) {
        self.deadline = None;
        self.timed_out = true;
        signal_group(self.pid, Signal::KILL);
    }

    pub(crate) fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number)
            && self.ended.is_none()
        {
            signal_group(self.pid, signal);
        }
    }
}

/// Heeds the signals that whoever started us may have ignored: a command that can't be asked to end
/// is no good.
pub(crate) fn heed_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: it runs none of our code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Sends a signal to all processes of a session that have stayed with it.
pub(crate) fn signal_group(pid: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(pid) {
        // A group that is gone needs none.
        let _ = kill_process_group(group, signal);
    }
}
