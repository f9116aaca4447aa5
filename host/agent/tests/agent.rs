//! The real program on a socket in the place of a machine's port.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::link::Link;
use agent::message::{
    Ending, Exec, FromGuest, FromHost, Open, Size, VERSION, WINDOW_BYTES, What, Write as WriteFile,
};
use agent::record::{EntryKind, Record, Records};
use proptest::prelude::*;
use rustix::io::{FdFlags, fcntl_setfd};

/// The agent, and our end of its wire.
struct Agent {
    child: Child,
    wire: UnixStream,
    link: Link,
    /// Bytes that were read and not taken yet.
    read: Vec<u8>,
}

/// All that a session gave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gave {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ending: Option<Ending>,
}

impl Agent {
    fn start() -> Self {
        let (wire, theirs) = UnixStream::pair().expect("a socket");
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
        drop(theirs);
        wire.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        Self { child, wire, link: Link::host(0), read: Vec::new() }
    }

    fn connected() -> Self {
        let mut agent = Self::start();
        agent.connect(1);
        agent
    }

    fn connect(&mut self, nonce: u128) {
        self.link = Link::host(nonce);
        self.say(&FromHost::Hello { version: VERSION, nonce });
        assert_eq!(self.hear(), FromGuest::Welcome { version: VERSION, nonce });
    }

    fn say(&mut self, message: &FromHost) {
        let mut out = Vec::new();
        self.link.send(message, &mut out);
        self.wire.write_all(&out).expect("it reads");
    }

    fn hear(&mut self) -> FromGuest {
        loop {
            let before = std::mem::take(&mut self.read);
            let mut bytes = before.as_slice();
            let heard = self.link.receive(&mut bytes).expect("a whole connection");
            self.read = bytes.to_vec();
            if let Some(heard) = heard {
                return heard;
            }
            let mut buffer = [0; 4_096];
            let count = self.wire.read(&mut buffer).expect("it says something");
            assert!(count > 0, "it has hung up");
            self.read.extend_from_slice(&buffer[..count]);
        }
    }

    fn open(&mut self, session: u32, what: What) {
        self.say(&FromHost::Open { session, open: Open { what, timeout_ms: 0 } });
    }

    /// Hears everything until these sessions have ended; takes what it is given.
    fn until_ended(&mut self, sessions: &[u32]) -> BTreeMap<u32, Gave> {
        let mut gave: BTreeMap<u32, Gave> = BTreeMap::new();
        while sessions.iter().any(|id| gave.get(id).is_none_or(|gave| gave.ending.is_none())) {
            match self.hear() {
                FromGuest::Output { session, is_error, bytes } => {
                    let count = u32::try_from(bytes.len()).expect("small");
                    self.say(&FromHost::Grant { session, bytes: count });
                    let gave = gave.entry(session).or_default();
                    if is_error { &mut gave.stderr } else { &mut gave.stdout }.extend(bytes);
                }
                FromGuest::Ended { session, ending } => {
                    gave.entry(session).or_default().ending = Some(ending);
                }
                FromGuest::Opened { .. } | FromGuest::Grant { .. } | FromGuest::Ack => {}
                other => panic!("{other:?}"),
            }
        }
        gave
    }

    fn run(&mut self, what: What) -> Gave {
        self.open(7, what);
        self.until_ended(&[7]).remove(&7).expect("it ended")
    }

    fn records(&mut self, what: What) -> Vec<Record> {
        let gave = self.run(what);
        assert_eq!((gave.stderr.as_slice(), gave.ending), (&b""[..], Some(Ending::Code(0))));
        let mut records = Records::default();
        records.push(&gave.stdout);
        std::iter::from_fn(|| records.next().expect("whole")).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It ends when its wire does, if it has not by then.
        let _ = self.wire.shutdown(std::net::Shutdown::Both);
        self.child.wait().expect("a child of ours");
    }
}

fn exec(words: &[&str]) -> Exec {
    Exec { argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(), ..Exec::default() }
}

fn shell(script: &str) -> What {
    What::Exec(exec(&["sh", "-c", script]))
}

fn ended(ending: Ending) -> Option<Ending> {
    Some(ending)
}

#[test]
fn a_command_gives_its_output_its_errors_and_its_code() {
    let mut agent = Agent::connected();
    let gave = agent.run(shell("echo out; echo err >&2; exit 3"));
    let expected = Gave {
        stdout: b"out\n".to_vec(),
        stderr: b"err\n".to_vec(),
        ending: ended(Ending::Code(3)),
    };
    assert_eq!(gave, expected);
    assert_eq!(agent.run(shell("kill -9 $$")).ending, ended(Ending::Signal(9)));
}

#[test]
fn variables_and_the_folder_are_as_asked_for() {
    let mut agent = Agent::connected();
    let command = Exec {
        env: vec![b"COLOUR=blue=green".to_vec()],
        cwd: b"/usr".to_vec(),
        ..exec(&["sh", "-c", "echo $COLOUR; pwd"])
    };
    assert_eq!(agent.run(What::Exec(command)).stdout, b"blue=green\n/usr\n");
}

#[test]
fn what_can_not_be_started_is_refused_with_its_number() {
    let mut agent = Agent::connected();
    agent.open(1, What::Exec(exec(&["/no/such/program"])));
    let FromGuest::Refused { session: 1, errno: 2, .. } = agent.hear() else { panic!("refused") };
    agent.open(2, What::Exec(Exec { user: b"nobody-at-all".to_vec(), ..exec(&["true"]) }));
    let FromGuest::Refused { session: 2, text, .. } = agent.hear() else { panic!("refused") };
    assert!(text.contains("nobody-at-all"), "{text}");
}

#[test]
fn input_reaches_the_command_and_so_does_its_end() {
    let mut agent = Agent::connected();
    agent.open(1, What::Exec(exec(&["sh", "-c", "cat; echo end"])));
    agent.say(&FromHost::Input { session: 1, bytes: b"some ".to_vec() });
    agent.say(&FromHost::Input { session: 1, bytes: b"input ".to_vec() });
    agent.say(&FromHost::InputEnd { session: 1 });
    assert_eq!(agent.until_ended(&[1])[&1].stdout, b"some input end\n");
}

#[test]
fn much_output_waits_until_it_is_taken() {
    let mut agent = Agent::connected();
    agent.open(1, shell("head -c 3000000 /dev/zero"));
    assert_eq!(agent.hear(), FromGuest::Opened { session: 1 });
    let mut count = 0;
    while count < WINDOW_BYTES as usize {
        let FromGuest::Output { bytes, .. } = agent.hear() else { panic!("output") };
        count += bytes.len();
    }
    assert_eq!(count, WINDOW_BYTES as usize, "it keeps to what it was granted");
    // Nothing more comes of it, and others are served.
    agent.open(2, shell("echo two"));
    let gave = agent.until_ended(&[2]);
    assert_eq!((gave[&2].stdout.as_slice(), gave.get(&1)), (&b"two\n"[..], None));
    agent.say(&FromHost::Grant { session: 1, bytes: WINDOW_BYTES });
    let gave = agent.until_ended(&[1]);
    assert_eq!(count + gave[&1].stdout.len(), 3_000_000);
}

#[test]
fn a_command_has_its_time() {
    let mut agent = Agent::connected();
    let what = shell("echo begun; sleep 600");
    agent.say(&FromHost::Open { session: 1, open: Open { what, timeout_ms: 300 } });
    let gave = &agent.until_ended(&[1])[&1];
    assert_eq!((gave.stdout.as_slice(), gave.ending), (&b"begun\n"[..], ended(Ending::TimedOut)));
}

#[test]
fn signals_reach_the_command() {
    let mut agent = Agent::connected();
    agent.open(
        1,
        shell("trap 'echo stopped; exit 4' TERM; echo ready; while :; do sleep 0.05; done"),
    );
    assert_eq!(agent.hear(), FromGuest::Opened { session: 1 });
    let FromGuest::Output { .. } = agent.hear() else { panic!("ready") };
    agent.say(&FromHost::Signal { session: 1, signal: 15 });
    let gave = &agent.until_ended(&[1])[&1];
    assert_eq!((gave.stdout.as_slice(), gave.ending), (&b"stopped\n"[..], ended(Ending::Code(4))));
}

#[test]
fn a_command_blocks_no_signal() {
    let mut agent = Agent::connected();
    let blocked = agent.run(shell("grep SigBlk /proc/self/status | cut -f 2")).stdout;
    assert_eq!(blocked, b"0000000000000000\n");
}

#[test]
fn a_terminal_is_one_and_changes_its_size() {
    let mut agent = Agent::connected();
    let script = "test -t 0 && test -t 1 && stty size; read line; stty size; read more || echo end";
    let size = Size { rows: 11, columns: 22 };
    agent.open(1, What::Exec(Exec { terminal: Some(size), ..exec(&["sh", "-c", script]) }));
    assert_eq!(agent.hear(), FromGuest::Opened { session: 1 });
    let FromGuest::Output { bytes, .. } = agent.hear() else { panic!("output") };
    assert_eq!(bytes, b"11 22\r\n");
    agent.say(&FromHost::Resize { session: 1, size: Size { rows: 33, columns: 44 } });
    agent.say(&FromHost::Input { session: 1, bytes: b"x\n".to_vec() });
    agent.say(&FromHost::InputEnd { session: 1 });
    let gave = &agent.until_ended(&[1])[&1];
    let text = String::from_utf8_lossy(&gave.stdout);
    assert!(text.contains("33 44") && text.ends_with("end\r\n"), "{text:?}");
    assert_eq!(gave.ending, ended(Ending::Code(0)));
}

#[test]
fn what_is_cut_is_ended() {
    let folder = tempfile();
    let mark = folder.join("mark");
    let mut agent = Agent::connected();
    let script = format!(
        "trap 'echo hup >{}; exit' HUP; echo on; while :; do sleep 0.05; done",
        mark.display()
    );
    agent.open(1, shell(&script));
    assert_eq!(agent.hear(), FromGuest::Opened { session: 1 });
    let FromGuest::Output { .. } = agent.hear() else { panic!("output") };
    agent.say(&FromHost::Cut { session: 1 });
    // The helper that looks is asked until it sees the mark.
    while agent.records(What::Stat { path: path(&mark), follow: true }).len() < 2 {}
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn a_new_connection_ends_what_was_open_and_knows_nothing_of_it() {
    let mut agent = Agent::connected();
    agent.open(1, shell("sleep 600"));
    assert_eq!(agent.hear(), FromGuest::Opened { session: 1 });
    // Half a message is left on the wire.
    agent.wire.write_all(&[9, 9, 9]).expect("it reads");
    agent.connect(2);
    assert_eq!(agent.run(shell("echo new")).stdout, b"new\n");
}

#[test]
fn a_lost_message_ends_the_connection_until_the_next_hello() {
    let mut agent = Agent::connected();
    let mut lost = Vec::new();
    agent.link.send(&FromHost::Ack, &mut lost);
    agent.open(1, shell("echo never"));
    agent.connect(3);
    assert_eq!(agent.run(shell("echo again")).stdout, b"again\n");
}

fn tempfile() -> std::path::PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tallyman-agent-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn path(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

#[test]
fn files_go_in_and_come_out_with_their_attributes() {
    let folder = tempfile();
    let mut agent = Agent::connected();
    let file = folder.join("deep/er/file");
    let write = WriteFile { path: path(&file), mode: 0o750, ..WriteFile::default() };
    agent.open(1, What::Write(write));
    agent.say(&FromHost::Input { session: 1, bytes: vec![5; 1_000] });
    agent.say(&FromHost::InputEnd { session: 1 });
    let mut records = Records::default();
    records.push(&agent.until_ended(&[1])[&1].stdout);
    assert_eq!(records.next(), Ok(Some(Record::Done { bytes: 1_000 })));
    std::os::unix::fs::symlink("file", folder.join("deep/er/link")).expect("a link");
    let told = agent.records(What::Read { path: path(&folder.join("deep")), follow: false });
    let entries: Vec<_> = told
        .iter()
        .filter_map(|record| match record {
            Record::Entry(entry) => {
                Some((String::from_utf8_lossy(&entry.path).into_owned(), entry.kind, entry.mode))
            }
            _ => None,
        })
        .collect();
    assert_eq!(entries[0].0, "deep");
    assert_eq!(entries[1].0, "deep/er");
    assert_eq!(entries[2], ("deep/er/file".into(), EntryKind::File, 0o750));
    assert_eq!(entries[3].1, EntryKind::Link);
    assert_eq!(told.last(), Some(&Record::Done { bytes: 1_000 }));
    let told = agent.records(What::Stat { path: path(&folder.join("none")), follow: true });
    let [Record::Failed { errno: 2, .. }] = told.as_slice() else { panic!("{told:?}") };
    let told = agent.records(What::Read { path: b"/proc/self/status".to_vec(), follow: true });
    let Record::Entry(entry) = &told[0] else { panic!("{told:?}") };
    assert!(entry.size > 0, "a file of the kernel has a length");
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn a_write_that_is_cut_leaves_what_was_there() {
    let folder = tempfile();
    let file = folder.join("file");
    std::fs::write(&file, "before").expect("a file");
    let mut agent = Agent::connected();
    agent
        .open(1, What::Write(WriteFile { path: path(&file), mode: 0o644, ..WriteFile::default() }));
    agent.say(&FromHost::Input { session: 1, bytes: b"half".to_vec() });
    assert_eq!(agent.hear(), FromGuest::Opened { session: 1 });
    agent.connect(9);
    assert_eq!(agent.run(shell("true")).ending, ended(Ending::Code(0)));
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "before");
    std::fs::remove_dir_all(folder).expect("ours");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn whatever_it_is_told_it_serves_the_next_connection(
        noise in proptest::collection::vec(any::<u8>(), 0..4_000),
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20),
    ) {
        let mut agent = Agent::connected();
        let mut wire = noise;
        for (number, mut body) in (1_u32..).zip(bodies) {
            // Frames that get as far as the message.
            let mut numbered = number.to_le_bytes().to_vec();
            numbered.extend(0_u32.to_le_bytes());
            numbered.append(&mut body);
            agent::frame::encode(&numbered, &mut wire);
        }
        agent.wire.write_all(&wire).expect("it reads");
        agent.connect(2);
        prop_assert_eq!(agent.run(shell("echo here")).stdout, b"here\n");
    }
}
