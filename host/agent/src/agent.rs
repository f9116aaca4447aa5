//! The loop that serves the host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ::agent::link::Link;
use ::agent::message::{Exec, FromGuest, FromHost, Open, SessionId, VERSION};
use ::agent::network::Settings;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};

use crate::hold::Hold;
use crate::port::{Port, Read};
use crate::session::{Output, Session, signal_group};
use crate::{card, power, spawn, sync};

/// Most sessions at a time.
const SESSIONS_MAX: usize = 64;

/// Bytes that wait for the wire before no more output is read.
const OUT_BYTES_MAX: usize = 256 << 10;

/// Time for processes whose session was cut to end by themselves.
const GRACE: Duration = Duration::from_secs(2);

const BUFFER_BYTES: usize = 32 << 10;

/// The agent.
pub(crate) struct Agent {
    port: Port,
    link: Link,
    /// Bytes that wait for the wire, and how many of them are sent.
    out: Vec<u8>,
    sent: usize,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions whose processes were told to end, and until when they may.
    ending: Vec<(Session, Instant)>,
    signals: OwnedFd,
    /// The image's program, if it is ours to run.
    program: Option<Program>,
    buttons: Vec<File>,
    /// The guest's processes, while they are held.
    hold: Option<Hold>,
    /// Clock and random pool are ours to set.
    owns_machine: bool,
    buffer: Vec<u8>,
}

impl Agent {
    pub(crate) fn new(port: Port, owns_machine: bool) -> io::Result<Self> {
        Ok(Self {
            port,
            link: Link::guest(),
            out: Vec::new(),
            sent: 0,
            sessions: BTreeMap::new(),
            ending: Vec::new(),
            signals: signals()?,
            program: None,
            buttons: Vec::new(),
            hold: None,
            owns_machine,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// The agent of a machine whose first process we are.
    pub(crate) fn first(port: io::Result<Port>) -> io::Result<Self> {
        // Whoever presses the three keys, which is how some hosts ask, asks us.
        // SAFETY: a system call that takes a number.
        unsafe { libc::reboot(libc::RB_DISABLE_CAD) };
        Ok(Self { buttons: power::buttons(), ..Self::new(port?, true)? })
    }

    /// Serves until the wire has ended for good.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            self.turn()?;
        }
    }

    /// Runs the image's program, and serves until it has ended. Answers its exit code, and what is
    /// to be said about it.
    pub(crate) fn run_first(mut self, exec: &Exec, signal: Signal) -> io::Result<(i32, String)> {
        let pid = match spawn::on_console(exec) {
            Ok(pid) => pid,
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                return Ok((code, format!("the program can't be started: {error}")));
            }
        };
        self.program = Some(Program { pid, signal, ended: None });
        loop {
            self.turn()?;
            if let Some(status) = self.program.as_ref().and_then(|program| program.ended) {
                self.hang_up();
                end_all();
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => (code, String::new()),
                    (None, Some(signal)) => (128 + signal, format!("killed by signal {signal}")),
                    (None, None) => (125, "nobody knows how it ended".to_owned()),
                });
            }
        }
    }

    /// Sets the network card up anew.
    fn set_network(&self, words: &[u8]) {
        let settings = str::from_utf8(words).ok().and_then(Settings::find);
        let Some(settings) = settings.filter(|_| self.owns_machine) else { return };
        if let Err(error) = card::apply(&settings) {
            eprintln!("the network card can't be set up: {error}");
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.read_port()?;
        self.serve_sessions();
        self.flush();
        self.wait()?;
        self.port.take_changes();
        self.take_signals();
        self.reap();
        self.expire();
        Ok(())
    }

    /// Hands the wish that the machine ends on to the program.
    fn take_signals(&mut self) {
        let mut asked = false;
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.signals, &mut record).is_ok_and(|count| count > 0) {
            let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            asked |= i32::try_from(number).is_ok_and(|number| number != libc::SIGCHLD);
        }
        for button in &mut self.buttons {
            asked |= power::was_pressed(button);
        }
        if let Some(program) = self.program.as_ref().filter(|_| asked)
            && let Some(pid) = Pid::from_raw(program.pid)
        {
            // One that has ended just now is reaped next.
            let _ = kill_process(pid, program.signal);
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let reads = self.takes_output();
        let outputs = self.sessions.values().filter(|_| reads).flat_map(Session::readable);
        let inputs = self.sessions.values().filter_map(Session::wants_input);
        let sources = [self.port.changes(), self.signals.as_fd()].into_iter();
        let sources = sources.chain(self.buttons.iter().map(AsFd::as_fd));
        let sources = sources.chain(outputs.map(AsFd::as_fd)).map(|source| (source, PollFlags::IN));
        let sinks = inputs.map(|sink| (sink.as_fd(), PollFlags::OUT));
        let mut polled: Vec<_> = sources
            .chain(sinks)
            .map(|(end, events)| PollFd::from_borrowed_fd(end, events))
            .collect();
        match poll(&mut polled, self.patience().as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Until the next deadline; none if there is none.
    fn patience(&self) -> Option<Timespec> {
        let sessions = self.sessions.values().filter_map(|session| session.deadline);
        let ending = self.ending.iter().map(|(_, deadline)| *deadline);
        let held = self.hold.iter().map(|hold| hold.until);
        let next = sessions.chain(ending).chain(held).min()?;
        let wait = next.saturating_duration_since(Instant::now());
        let tv_sec = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        Some(Timespec { tv_sec, tv_nsec: wait.subsec_nanos().into() })
    }

    fn takes_output(&self) -> bool {
        self.out.len() - self.sent < OUT_BYTES_MAX && self.link.has_room()
    }

    fn say(&mut self, message: &FromGuest) {
        self.link.send(message, &mut self.out);
    }

    /// Writes what waits, as far as the wire takes it.
    fn flush(&mut self) {
        while self.sent < self.out.len() {
            match self.port.write(&self.out[self.sent..]) {
                Ok(0) => return,
                Ok(count) => self.sent += count,
                Err(_) => return self.hang_up(),
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    fn read_port(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = loop {
            match self.port.read(&mut buffer) {
                Ok(Read::Some(count)) => self.take(&buffer[..count]),
                Ok(Read::Nothing) => break Ok(()),
                // That somebody is there may be known later than what was said: the answer waits.
                Ok(Read::Nobody) => {
                    self.cut_all();
                    break Ok(());
                }
                Err(error) => {
                    self.hang_up();
                    break Err(error);
                }
            }
        };
        self.buffer = buffer;
        outcome
    }

    fn take(&mut self, mut bytes: &[u8]) {
        loop {
            match self.link.receive::<FromHost>(&mut bytes) {
                Ok(Some(message)) => self.obey(message),
                Ok(None) => break,
                // The next `Hello` begins anew; it may have been read already.
                Err(_) => self.hang_up(),
            }
        }
        if self.link.owes_ack() {
            self.say(&FromGuest::Ack);
        }
    }

    fn obey(&mut self, message: FromHost) {
        match message {
            FromHost::Hello { version: _, nonce } => {
                self.cut_all();
                self.out.clear();
                self.sent = 0;
                self.say(&FromGuest::Welcome { version: VERSION, nonce });
            }
            FromHost::Sync { wall_ns, seed } => self.synchronise(wall_ns, seed),
            FromHost::Network { words } => self.set_network(&words),
            FromHost::Open { session, open } => self.open(session, &open),
            FromHost::Input { session, bytes } => {
                self.with(session, |session| session.take_input(&bytes));
            }
            FromHost::InputEnd { session } => {
                self.with(session, |session| {
                    session.end_input();
                    true
                });
            }
            FromHost::Grant { session, bytes } => {
                self.with(session, |session| {
                    session.grant(bytes);
                    true
                });
            }
            FromHost::Resize { session, size } => {
                self.with(session, |session| {
                    session.resize(size);
                    true
                });
            }
            FromHost::Signal { session, signal } => {
                self.with(session, |session| {
                    session.signal(signal);
                    true
                });
            }
            FromHost::Cut { session } => self.cut(session),
            FromHost::Bye => {
                self.cut_all();
                self.say(&FromGuest::Bye);
                self.flush();
            }
            FromHost::Hold => self.hold(),
            FromHost::Ack => {}
        }
    }

    /// Holds the guest's processes.
    fn hold(&mut self) {
        if self.owns_machine && self.hold.is_none() {
            // The host sees by our answer if they are not.
            self.hold = Hold::begin().ok();
        }
        self.say(&FromGuest::Held { done: self.hold.is_some() });
        self.flush();
    }

    /// Lets them go.
    fn let_go(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.end();
        }
    }

    /// Has a session do something; one that breaks the rules is cut. One that has ended meanwhile
    /// does nothing.
    fn with(&mut self, session: SessionId, act: impl FnOnce(&mut Session) -> bool) {
        if self.sessions.get_mut(&session).is_some_and(|session| !act(session)) {
            self.cut(session);
        }
    }

    fn synchronise(&mut self, wall_ns: i64, seed: [u8; 32]) {
        let before_ns = sync::wall_ns();
        let seeded = self.owns_machine && sync::reseed(seed).is_ok();
        if self.owns_machine {
            // The host sees by our answer if it was not set.
            let _ = sync::set_wall(wall_ns);
        }
        self.let_go();
        self.say(&FromGuest::Synced { before_ns, after_ns: sync::wall_ns(), seeded });
        self.flush();
    }

    fn open(&mut self, session: SessionId, open: &Open) {
        let started = match self.sessions.len() < SESSIONS_MAX {
            true => Session::start(open),
            false => Err(io::Error::other(format!("it has {SESSIONS_MAX} sessions already"))),
        };
        match started {
            Ok(started) => {
                self.sessions.insert(session, started);
                self.say(&FromGuest::Opened { session });
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                self.say(&FromGuest::Refused { session, errno, text: error.to_string() });
            }
        }
    }

    fn cut(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.remove(&session)
            && !session.has_ended()
        {
            // Its ends stay open: a process that cleans up may say so to nobody.
            signal_group(session.pid(), Signal::HUP);
            self.ending.push((session, Instant::now() + GRACE));
        }
    }

    fn cut_all(&mut self) {
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.cut(session);
        }
    }

    /// The connection is over.
    fn hang_up(&mut self) {
        self.cut_all();
        self.out.clear();
        self.sent = 0;
        self.link = Link::guest();
    }

    /// Moves what goes in and out of sessions.
    fn serve_sessions(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.serve_session(id, &mut buffer);
        }
        self.buffer = buffer;
    }

    fn serve_session(&mut self, id: SessionId, buffer: &mut [u8]) {
        let mut is_dry = false;
        while self.takes_output() && !is_dry {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            match session.output(buffer) {
                Output::Bytes { is_error, bytes } => {
                    self.say(&FromGuest::Output { session: id, is_error, bytes });
                    self.flush();
                }
                Output::Dry => is_dry = true,
            }
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.feed();
        let granted = session.granted();
        let ending = session.ending(is_dry);
        if let Some(bytes) = granted {
            self.say(&FromGuest::Grant { session: id, bytes });
        }
        if let Some(ending) = ending {
            self.sessions.remove(&id);
            self.say(&FromGuest::Ended { session: id, ending });
        }
    }

    /// Takes note of children that have ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            self.ending.retain(|(ending, _)| ending.pid() != pid);
            if let Some(program) = self.program.as_mut().filter(|program| program.pid == pid) {
                program.ended = Some(status);
            }
            if let Some(session) = self.sessions.values_mut().find(|session| session.pid() == pid) {
                session.set_ended(status);
            }
        }
    }

    /// Ends what has had its time.
    fn expire(&mut self) {
        let now = Instant::now();
        // A host that does not come to set the clock is not waited for.
        if self.hold.as_ref().is_some_and(|hold| hold.until <= now) {
            self.let_go();
        }
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        for session in self.sessions.values_mut().filter(|session| is_over(session.deadline)) {
            session.time_out();
        }
        self.ending.retain(|(session, deadline)| {
            let is_over = *deadline <= now;
            if is_over {
                signal_group(session.pid(), Signal::KILL);
            }
            !is_over
        });
    }
}

/// The image's program.
struct Program {
    pid: i32,
    /// The signal that asks it to end.
    signal: Signal,
    ended: Option<WaitStatus>,
}

/// Ends every process but this one, the first.
fn end_all() {
    for (signal, patience) in [(libc::SIGTERM, GRACE), (libc::SIGKILL, GRACE)] {
        // SAFETY: system calls that take numbers.
        unsafe { libc::kill(-1, signal) };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                // There is none left.
                Err(_) => return,
            }
        }
    }
}

/// Readable when a child has ended, or somebody wants the machine to end.
fn signals() -> io::Result<OwnedFd> {
    // SAFETY: both calls read the set that was made for them; the descriptor is new and ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if rustix::process::getpid().is_init() {
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            signals => Ok(OwnedFd::from_raw_fd(signals)),
        }
    }
}
