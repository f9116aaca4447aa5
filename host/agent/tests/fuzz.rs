//! Streams that no host sends: sessions with bytes, messages and their order changed. Whatever
//! came, the agent lives, and serves the next host that begins a connection.
//!
//! `TALLYMAN_FUZZ_ROUNDS` sets another number of streams than the usual one.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use agent::fields::Writer;
use agent::frame;
use agent::link::Link;
use agent::message::{
    Ending, Exec, FromGuest, FromHost, Message, Open, Size, VERSION, What, Write as WriteFile,
};
use rustix::io::{FdFlags, fcntl_setfd};

/// Streams of a usual run.
const ROUNDS: u64 = 400;

/// A generator of numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The agent, and the host's end of its wire.
struct Wire {
    child: Child,
    stream: UnixStream,
}

impl Wire {
    fn start() -> Self {
        let (stream, theirs) = UnixStream::pair().expect("a socket");
        let theirs = OwnedFd::from(theirs);
        let number = theirs.as_raw_fd();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyman-agent"));
        command.args(["serve", "--fd", &number.to_string()]);
        // SAFETY: a system call alone, on a descriptor that is open as long as `theirs`.
        unsafe {
            command.pre_exec(move || {
                let theirs = std::os::fd::BorrowedFd::borrow_raw(number);
                Ok(fcntl_setfd(theirs, FdFlags::empty())?)
            });
        }
        let child = command.spawn().expect("the agent");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        Self { child, stream }
    }

    /// Writes a stream, and takes what is said meanwhile: neither end waits for the other.
    fn write(&mut self, bytes: &[u8]) {
        let mut out = self.stream.try_clone().expect("a socket");
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || out.write_all(&bytes));
        self.stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
        let mut buffer = [0; 65_536];
        while !writer.is_finished() {
            // Nothing now, or something that is of no interest.
            let _ = self.stream.read(&mut buffer);
        }
        writer.join().expect("no panic").expect("the agent reads");
        self.stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    }

    /// Begins a connection, and has a command run on it.
    fn serves(&mut self, nonce: u128) {
        let mut link = Link::host(nonce);
        let mut out = Vec::new();
        link.send(&FromHost::Hello { version: VERSION, nonce }, &mut out);
        let open = Open { what: What::Exec(exec()), timeout_ms: 0 };
        link.send(&FromHost::Open { session: 7, open }, &mut out);
        self.stream.write_all(&out).expect("it reads");
        let mut ended = None;
        let mut buffer = [0; 65_536];
        while ended.is_none() {
            let count = self.stream.read(&mut buffer).expect("it says something");
            assert!(count > 0, "it has ended: {:?}", self.child.try_wait());
            let mut bytes = &buffer[..count];
            while let Some(heard) = link.receive::<FromGuest>(&mut bytes).expect("well-formed") {
                if let FromGuest::Ended { session: 7, ending } = heard {
                    ended = Some(ending);
                }
            }
        }
        assert_eq!(ended, Some(Ending::Code(0)));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exec() -> Exec {
    Exec { argv: vec![b"true".to_vec()], ..Exec::default() }
}

/// A session of each kind. The paths are in a folder that is not there: whatever is made of these
/// messages, nothing of this machine is touched.
fn session(nonce: u128) -> Vec<FromHost> {
    let path = b"/nonexistent/of-the-fuzzer/file".to_vec();
    let open = |session, what| FromHost::Open { session, open: Open { what, timeout_ms: 50 } };
    let terminal = Some(Size { rows: 2, columns: 3 });
    let write = WriteFile { path: path.clone(), mode: 0o600, ..WriteFile::default() };
    vec![
        FromHost::Hello { version: VERSION, nonce },
        FromHost::Sync { wall_ns: 1, seed: [7; 32] },
        open(1, What::Exec(Exec { argv: vec![b"cat".to_vec()], ..Exec::default() })),
        FromHost::Input { session: 1, bytes: vec![b'x'; 300] },
        FromHost::Grant { session: 1, bytes: 5 },
        FromHost::InputEnd { session: 1 },
        open(2, What::Exec(Exec { terminal, ..exec() })),
        FromHost::Resize { session: 2, size: Size { rows: 9, columns: 9 } },
        FromHost::Signal { session: 2, signal: 1 },
        open(3, What::Stat { path: path.clone(), follow: true }),
        open(4, What::Read { path, follow: false }),
        open(5, What::Write(write)),
        FromHost::Hold,
        FromHost::Network { words: b"tallyman.net=10.0.0.1/31,10.0.0.0".to_vec() },
        FromHost::Cut { session: 4 },
        FromHost::Ack,
        FromHost::Bye,
    ]
}

/// The stream of messages, some of them changed, left out, twice there or out of order.
fn stream(dice: &mut Dice, nonce: u128) -> Vec<u8> {
    let mut messages = session(nonce);
    for _ in 0..dice.below(4) {
        let at = dice.below(messages.len());
        let message = messages[at].clone();
        match dice.below(3) {
            0 => drop(messages.remove(at)),
            1 => messages.insert(dice.below(at + 1), message),
            _ => messages.swap(at, 0),
        }
    }
    let mut out = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let number = u32::try_from(number).expect("few");
        let mut body = body(number + u32::from(dice.below(40) == 0), message);
        if dice.below(6) == 0 {
            change(dice, &mut body);
        }
        frame::encode(&body, &mut out);
    }
    if dice.below(2) == 0 {
        // Bytes on the wire, which the check at the end of each frame finds.
        change(dice, &mut out);
    }
    out
}

/// A message with a number, as a frame holds it.
fn body(number: u32, message: &FromHost) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u32(number).u32(0);
    message.write(&mut writer);
    writer.0
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len());
    let byte = dice.next() as u8;
    match dice.below(4) {
        _ if bytes.is_empty() => {}
        0 => bytes[at] = byte,
        1 => bytes.truncate(at),
        2 => bytes.insert(at, byte),
        _ => {
            let again = bytes[at..].to_vec();
            bytes.extend(again);
        }
    }
}

fn rounds() -> u64 {
    let told = std::env::var("TALLYMAN_FUZZ_ROUNDS").ok();
    told.map_or(ROUNDS, |told| told.parse().expect("a number"))
}

#[test]
fn the_agent_serves_the_next_host_whatever_the_last_one_sent() {
    let mut wire = Wire::start();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> =
        fs::read_dir(corpus).expect("the corpus").map(|file| file.expect("it").path()).collect();
    files.sort();
    assert!(files.len() > 4, "{files:?}");
    for (number, file) in (1_u128..).zip(&files) {
        wire.write(&fs::read(file).expect("a file"));
        wire.serves(number);
    }
    for round in 1..=rounds() {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bytes = stream(&mut dice, u128::from(round) << 32);
        wire.write(&bytes);
        // The number of a round that fails is in the nonce.
        wire.serves(u128::from(round) << 64);
    }
}
