//! The messages of host and guest.

use crate::fields::{Malformed, Reader, Writer};

/// The version of the protocol. A later one is refused with both numbers.
pub const VERSION: u16 = 2;

/// The first version whose agents hold the guest's processes.
pub const VERSION_HOLDS: u16 = 2;

/// Most bytes of a process's input or output in one message.
pub const DATA_BYTES_MAX: usize = 32 << 10;

/// Bytes that either side may send into a session before the other has taken some.
pub const WINDOW_BYTES: u32 = 256 << 10;

/// The number of a session within a connection; the host counts.
pub type SessionId = u32;

/// A message of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHost {
    /// A connection begins; whatever was before it is over.
    Hello {
        /// Of the protocol.
        version: u16,
        /// Never used before; the answer repeats it.
        nonce: u128,
    },
    /// The time, and numbers that nobody can guess.
    Sync {
        /// The host's wall clock in nanoseconds since 1970.
        wall_ns: i64,
        /// For the guest's random pool.
        seed: [u8; 32],
    },
    /// A session begins.
    Open {
        /// Its number.
        session: SessionId,
        /// The session's purpose.
        open: Open,
    },
    /// Input for its process.
    Input {
        /// The session.
        session: SessionId,
        /// At most [`DATA_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// The end of the input.
    InputEnd {
        /// The session.
        session: SessionId,
    },
    /// More bytes of output will be taken.
    Grant {
        /// The session.
        session: SessionId,
        /// The number of bytes.
        bytes: u32,
    },
    /// Its terminal has another size.
    Resize {
        /// The session.
        session: SessionId,
        /// The size.
        size: Size,
    },
    /// A signal for its processes.
    Signal {
        /// The session.
        session: SessionId,
        /// The signal's number.
        signal: i32,
    },
    /// Nobody wants it any more: its processes are ended.
    Cut {
        /// The session.
        session: SessionId,
    },
    /// The connection ends.
    Bye,
    /// Nothing but the acknowledgement that every message carries.
    Ack,
    /// The settings of its network card are others than those that it booted with.
    Network {
        /// The settings, as words of the kernel's command line.
        words: Vec<u8>,
    },
    /// The vCPUs are about to be held: the guest's processes are held first, until the next `Sync`.
    Hold,
}

/// A message of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGuest {
    /// The answer to a `Hello`.
    Welcome {
        /// Of the protocol.
        version: u16,
        /// The `Hello`'s.
        nonce: u128,
    },
    /// The answer to a `Sync`.
    Synced {
        /// The guest's wall clock before, in nanoseconds since 1970.
        before_ns: i64,
        /// And after.
        after_ns: i64,
        /// Its random pool took the seed.
        seeded: bool,
    },
    /// The session's process was started.
    Opened {
        /// The session.
        session: SessionId,
    },
    /// It was not, and there is no session.
    Refused {
        /// The session.
        session: SessionId,
        /// The reason, as a number of the operating system; 0 if it has none.
        errno: i32,
        /// The reason in words.
        text: String,
    },
    /// Output of its process.
    Output {
        /// The session.
        session: SessionId,
        /// The output is of standard error, not of standard output.
        is_error: bool,
        /// At most [`DATA_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// More bytes of input will be taken.
    Grant {
        /// The session.
        session: SessionId,
        /// The number of bytes.
        bytes: u32,
    },
    /// The session's process has ended, and this is its last message.
    Ended {
        /// The session.
        session: SessionId,
        /// The way it ended.
        ending: Ending,
    },
    /// The connection ends.
    Bye,
    /// Nothing but the acknowledgement that every message carries.
    Ack,
    /// The answer to a `Hold`.
    Held {
        /// The guest's processes are held; otherwise its kernel can't do it.
        done: bool,
    },
}

/// The purpose of a session, and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The subject.
    pub what: What,
    /// After how many milliseconds it is ended by force; 0 for never.
    pub timeout_ms: u64,
}

/// Kinds of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A command is run.
    Exec(Exec),
    /// A path is looked at; its output is one record.
    Stat {
        /// The path.
        path: Vec<u8>,
        /// Symbolic links are followed.
        follow: bool,
    },
    /// A file, or a folder with all that is in it, is read; its output is records.
    Read {
        /// The path.
        path: Vec<u8>,
        /// Symbolic links are followed.
        follow: bool,
    },
    /// A file or a folder is written; its input is the content, its output one record.
    Write(Write),
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value`, beside what the agent has.
    pub env: Vec<Vec<u8>>,
    /// The folder to run it in; empty for the agent's own.
    pub cwd: Vec<u8>,
    /// The user to run it as: a name or a number, and after a colon a group; empty for root.
    pub user: Vec<u8>,
    /// The size of a terminal to run it in; none for pipes.
    pub terminal: Option<Size>,
}

/// A file or a folder to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// The path.
    pub path: Vec<u8>,
    /// It is a folder, and has no content.
    pub is_folder: bool,
    /// Permissions.
    pub mode: u32,
    /// The owner; none for root, or for the owner that a file has.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// The way a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Its time was over.
    TimedOut,
}

/// A message and its bytes.
pub trait Message: Sized {
    /// Appends the bytes.
    fn write(&self, to: &mut Writer);

    /// Reads the message that all bytes are.
    ///
    /// # Errors
    /// [`Malformed`] if they are none.
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// The nonce, if this is the message that begins a connection.
    fn begins(&self) -> Option<u128>;
}

impl Message for FromHost {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Hello { version, nonce } => {
                to.u8(1).u16(*version).fixed(&nonce.to_le_bytes());
            }
            Self::Sync { wall_ns, seed } => {
                to.u8(2).i64(*wall_ns).fixed(seed);
            }
            Self::Open { session, open } => {
                to.u8(3).u32(*session);
                open.write(to);
            }
            Self::Input { session, bytes } => {
                to.u8(4).u32(*session).fixed(bytes);
            }
            Self::InputEnd { session } => {
                to.u8(5).u32(*session);
            }
            Self::Grant { session, bytes } => {
                to.u8(6).u32(*session).u32(*bytes);
            }
            Self::Resize { session, size } => {
                to.u8(7).u32(*session).u16(size.rows).u16(size.columns);
            }
            Self::Signal { session, signal } => {
                to.u8(8).u32(*session).i32(*signal);
            }
            Self::Cut { session } => {
                to.u8(9).u32(*session);
            }
            Self::Bye => {
                to.u8(10);
            }
            Self::Ack => {
                to.u8(11);
            }
            Self::Network { words } => {
                to.u8(12).bytes(words);
            }
            Self::Hold => {
                to.u8(13);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let message = match from.u8()? {
            1 => Self::Hello { version: from.u16()?, nonce: u128::from_le_bytes(from.fixed()?) },
            2 => Self::Sync { wall_ns: from.i64()?, seed: from.fixed()? },
            3 => Self::Open { session: from.u32()?, open: Open::read(from)? },
            4 => Self::Input { session: from.u32()?, bytes: data(from)? },
            5 => Self::InputEnd { session: from.u32()? },
            6 => Self::Grant { session: from.u32()?, bytes: from.u32()? },
            7 => Self::Resize { session: from.u32()?, size: Size::read(from)? },
            8 => Self::Signal { session: from.u32()?, signal: from.i32()? },
            9 => Self::Cut { session: from.u32()? },
            10 => Self::Bye,
            11 => Self::Ack,
            12 => Self::Network { words: from.bytes()? },
            13 => Self::Hold,
            _ => return Err(Malformed("its kind is not known")),
        };
        from.end().map(|()| message)
    }

    fn begins(&self) -> Option<u128> {
        match self {
            Self::Hello { nonce, .. } => Some(*nonce),
            _ => None,
        }
    }
}

impl Message for FromGuest {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Welcome { version, nonce } => {
                to.u8(1).u16(*version).fixed(&nonce.to_le_bytes());
            }
            Self::Synced { before_ns, after_ns, seeded } => {
                to.u8(2).i64(*before_ns).i64(*after_ns).bool(*seeded);
            }
            Self::Opened { session } => {
                to.u8(3).u32(*session);
            }
            Self::Refused { session, errno, text } => {
                to.u8(4).u32(*session).i32(*errno).bytes(text.as_bytes());
            }
            Self::Output { session, is_error, bytes } => {
                to.u8(5).u32(*session).bool(*is_error).fixed(bytes);
            }
            Self::Grant { session, bytes } => {
                to.u8(6).u32(*session).u32(*bytes);
            }
            Self::Ended { session, ending } => {
                to.u8(7).u32(*session);
                ending.write(to);
            }
            Self::Bye => {
                to.u8(8);
            }
            Self::Ack => {
                to.u8(9);
            }
            Self::Held { done } => {
                to.u8(10).bool(*done);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let message = match from.u8()? {
            1 => Self::Welcome { version: from.u16()?, nonce: u128::from_le_bytes(from.fixed()?) },
            2 => {
                Self::Synced { before_ns: from.i64()?, after_ns: from.i64()?, seeded: from.bool()? }
            }
            3 => Self::Opened { session: from.u32()? },
            4 => Self::Refused { session: from.u32()?, errno: from.i32()?, text: from.text()? },
            5 => Self::Output { session: from.u32()?, is_error: from.bool()?, bytes: data(from)? },
            6 => Self::Grant { session: from.u32()?, bytes: from.u32()? },
            7 => Self::Ended { session: from.u32()?, ending: Ending::read(from)? },
            8 => Self::Bye,
            9 => Self::Ack,
            10 => Self::Held { done: from.bool()? },
            _ => return Err(Malformed("its kind is not known")),
        };
        from.end().map(|()| message)
    }

    fn begins(&self) -> Option<u128> {
        match self {
            Self::Welcome { nonce, .. } => Some(*nonce),
            _ => None,
        }
    }
}

fn data(from: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let bytes = from.rest();
    if bytes.len() > DATA_BYTES_MAX { Err(Malformed("it is too long")) } else { Ok(bytes) }
}

impl Open {
    fn write(&self, to: &mut Writer) {
        to.u64(self.timeout_ms);
        match &self.what {
            What::Exec(exec) => {
                to.u8(1).list(&exec.argv).list(&exec.env).bytes(&exec.cwd).bytes(&exec.user);
                to.bool(exec.terminal.is_some());
                if let Some(size) = exec.terminal {
                    to.u16(size.rows).u16(size.columns);
                }
            }
            What::Stat { path, follow } => {
                to.u8(2).bytes(path).bool(*follow);
            }
            What::Read { path, follow } => {
                to.u8(3).bytes(path).bool(*follow);
            }
            What::Write(write) => {
                to.u8(4).bytes(&write.path).bool(write.is_folder).u32(write.mode);
                to.option(write.uid).option(write.gid);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let timeout_ms = from.u64()?;
        let what = match from.u8()? {
            1 => What::Exec(Exec {
                argv: from.list()?,
                env: from.list()?,
                cwd: from.bytes()?,
                user: from.bytes()?,
                terminal: if from.bool()? { Some(Size::read(from)?) } else { None },
            }),
            2 => What::Stat { path: from.bytes()?, follow: from.bool()? },
            3 => What::Read { path: from.bytes()?, follow: from.bool()? },
            4 => What::Write(Write {
                path: from.bytes()?,
                is_folder: from.bool()?,
                mode: from.u32()?,
                uid: from.option()?,
                gid: from.option()?,
            }),
            _ => return Err(Malformed("its session's kind is not known")),
        };
        Ok(Self { what, timeout_ms })
    }
}

impl Size {
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { rows: from.u16()?, columns: from.u16()? })
    }
}

impl Ending {
    fn write(self, to: &mut Writer) {
        match self {
            Self::Code(code) => to.u8(1).i32(code),
            Self::Signal(signal) => to.u8(2).i32(signal),
            Self::TimedOut => to.u8(3),
        };
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            1 => Ok(Self::Code(from.i32()?)),
            2 => Ok(Self::Signal(from.i32()?)),
            3 => Ok(Self::TimedOut),
            _ => Err(Malformed("its ending is not known")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn again<M: Message>(message: &M) -> Result<M, Malformed> {
        let mut writer = Writer::default();
        message.write(&mut writer);
        M::read(&mut Reader::new(&writer.0))
    }

    fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        vec(vec(any::<u8>(), 0..20), 0..5)
    }

    fn size() -> impl Strategy<Value = Size> {
        any::<(u16, u16)>().prop_map(|(rows, columns)| Size { rows, columns })
    }

    fn what() -> impl Strategy<Value = What> {
        let bytes = || vec(any::<u8>(), 0..40);
        let exec = (texts(), texts(), bytes(), bytes(), proptest::option::of(size()));
        prop_oneof![
            exec.prop_map(|(argv, env, cwd, user, terminal)| What::Exec(Exec {
                argv,
                env,
                cwd,
                user,
                terminal
            })),
            (bytes(), any::<bool>()).prop_map(|(path, follow)| What::Stat { path, follow }),
            (bytes(), any::<bool>()).prop_map(|(path, follow)| What::Read { path, follow }),
            (bytes(), any::<(bool, u32, Option<u32>, Option<u32>)>()).prop_map(
                |(path, (is_folder, mode, uid, gid))| What::Write(Write {
                    path,
                    is_folder,
                    mode,
                    uid,
                    gid
                })
            ),
        ]
    }

    fn from_host() -> impl Strategy<Value = FromHost> {
        let session = any::<u32>;
        prop_oneof![
            any::<(u16, u128)>().prop_map(|(version, nonce)| FromHost::Hello { version, nonce }),
            any::<Vec<u8>>().prop_map(|words| FromHost::Network { words }),
            any::<(i64, [u8; 32])>().prop_map(|(wall_ns, seed)| FromHost::Sync { wall_ns, seed }),
            (session(), what(), any::<u64>()).prop_map(|(session, what, timeout_ms)| {
                FromHost::Open { session, open: Open { what, timeout_ms } }
            }),
            (session(), vec(any::<u8>(), 0..99))
                .prop_map(|(session, bytes)| FromHost::Input { session, bytes }),
            session().prop_map(|session| FromHost::InputEnd { session }),
            (session(), any::<u32>())
                .prop_map(|(session, bytes)| FromHost::Grant { session, bytes }),
            (session(), size()).prop_map(|(session, size)| FromHost::Resize { session, size }),
            (session(), any::<i32>())
                .prop_map(|(session, signal)| FromHost::Signal { session, signal }),
            session().prop_map(|session| FromHost::Cut { session }),
            Just(FromHost::Bye),
            Just(FromHost::Ack),
            Just(FromHost::Hold),
        ]
    }

    fn ending() -> impl Strategy<Value = Ending> {
        prop_oneof![
            any::<i32>().prop_map(Ending::Code),
            any::<i32>().prop_map(Ending::Signal),
            Just(Ending::TimedOut),
        ]
    }

    fn from_guest() -> impl Strategy<Value = FromGuest> {
        let session = any::<u32>;
        prop_oneof![
            any::<(u16, u128)>().prop_map(|(version, nonce)| FromGuest::Welcome { version, nonce }),
            any::<(i64, i64, bool)>().prop_map(|(before_ns, after_ns, seeded)| {
                FromGuest::Synced { before_ns, after_ns, seeded }
            }),
            session().prop_map(|session| FromGuest::Opened { session }),
            (session(), any::<i32>(), ".{0,20}")
                .prop_map(|(session, errno, text)| { FromGuest::Refused { session, errno, text } }),
            (session(), any::<bool>(), vec(any::<u8>(), 0..99)).prop_map(
                |(session, is_error, bytes)| FromGuest::Output { session, is_error, bytes }
            ),
            (session(), any::<u32>())
                .prop_map(|(session, bytes)| FromGuest::Grant { session, bytes }),
            (session(), ending())
                .prop_map(|(session, ending)| FromGuest::Ended { session, ending }),
            Just(FromGuest::Bye),
            Just(FromGuest::Ack),
            any::<bool>().prop_map(|done| FromGuest::Held { done }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn what_the_host_says_comes_back(message in from_host()) {
            prop_assert_eq!(again(&message), Ok(message));
        }

        #[test]
        fn what_the_guest_says_comes_back(message in from_guest()) {
            prop_assert_eq!(again(&message), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = FromHost::read(&mut Reader::new(&bytes));
            let _ = FromGuest::read(&mut Reader::new(&bytes));
        }
    }
}
