//! The peer: QEMU driven by its own calls and nothing else. No journal, no supervisor, no checksum,
//! no sync.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tallyman_tests::{guest, machine};

use super::CMDLINE;

/// A process of QEMU's and its monitor.
pub(super) struct Bare {
    child: Child,
    monitor: BufReader<UnixStream>,
}

/// The origin of a machine's state.
#[derive(Clone, Copy)]
pub(super) enum From<'a> {
    Boot,
    Memory(&'a Path),
}

impl Bare {
    /// Starts a machine with its vCPUs held, and waits until its monitor answers, or its memory is
    /// loaded.
    pub(super) fn start(folder: &Path, name: &str, from: From<'_>) -> Self {
        let socket = folder.join(name);
        let _ = std::fs::remove_file(&socket);
        let memory = format!("{}M", machine::MEMORY_BYTES >> 20);
        let kernel = guest::tiny().to_str().unwrap();
        let mut command = Command::new(machine::program(tallyman::hypervisor::Kind::Qemu));
        command.args([
            "-machine",
            "q35",
            "-accel",
            "tcg",
            "-m",
            &memory,
            "-nodefaults",
            "-no-user-config",
        ]);
        command.args([
            "-no-reboot",
            "-S",
            "-display",
            "none",
            "-kernel",
            kernel,
            "-append",
            CMDLINE,
        ]);
        command.args(["-serial", "null"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        if let From::Memory(file) = from {
            command.arg("-incoming").arg(format!("exec:cat {}", file.display()));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let monitor = loop {
            match UnixStream::connect(&socket) {
                Ok(monitor) => break BufReader::new(monitor),
                Err(_) => std::thread::yield_now(),
            }
        };
        let mut bare = Self { child, monitor };
        bare.line();
        bare.call("qmp_capabilities", Value::Null);
        if matches!(from, From::Memory(_)) {
            bare.until("query-status", "status", |status| status != "inmigrate");
        }
        bare
    }

    pub(super) fn stop(&mut self) {
        self.call("stop", Value::Null);
    }

    pub(super) fn cont(&mut self) {
        self.call("cont", Value::Null);
    }

    /// Writes the memory of a held machine to a file.
    pub(super) fn save(&mut self, file: &Path) {
        self.call("migrate-set-parameters", json!({"max-bandwidth": u64::MAX >> 1}));
        let _ = std::fs::remove_file(file);
        // QEMU reports completion when the pipe has taken all; the file is complete when it gets
        // its name.
        let file = file.display();
        self.call(
            "migrate",
            json!({"uri": format!("exec:cat > {file}.part && mv {file}.part {file}")}),
        );
        self.until("query-migrate", "status", |status| status == "completed");
        while !Path::new(&file.to_string()).exists() {
            std::thread::yield_now();
        }
    }

    /// Ends the process.
    pub(super) fn quit(mut self) {
        self.call("quit", Value::Null);
        self.child.wait().unwrap();
    }

    fn until(&mut self, query: &str, field: &str, reached: impl Fn(&str) -> bool) {
        while !reached(self.call(query, Value::Null)[field].as_str().unwrap_or_default()) {
            std::thread::yield_now();
        }
    }

    fn call(&mut self, execute: &str, arguments: Value) -> Value {
        let call = match arguments {
            Value::Null => json!({ "execute": execute }),
            arguments => json!({ "execute": execute, "arguments": arguments }),
        };
        // Written in one piece, as each write wakes QEMU.
        self.monitor.get_mut().write_all(format!("{call}\n").as_bytes()).unwrap();
        loop {
            let answer = self.line();
            assert!(answer["error"].is_null(), "{execute}: {answer}");
            if let Some(done) = answer.get("return") {
                return done.clone();
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The process has already ended after `quit`.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The fan-out by hand: one save, then as many processes as there are children, each loading the
/// same file.
pub(super) fn fan_out(folder: &Path, source: &mut Bare, children: usize) -> Vec<Bare> {
    let memory = memory_file(folder);
    source.stop();
    source.save(&memory);
    source.cont();
    let names: Vec<_> = (0..children).map(|n| format!("child-{n}")).collect();
    all_at_once(folder, &names, From::Memory(&memory))
}

/// As many running machines as there are names, all started at once.
pub(super) fn all_at_once(folder: &Path, names: &[String], from: From<'_>) -> Vec<Bare> {
    let start = |name: &String| {
        let mut machine = Bare::start(folder, name, from);
        machine.cont();
        machine
    };
    std::thread::scope(|scope| {
        let starting: Vec<_> = names.iter().map(|name| scope.spawn(move || start(name))).collect();
        starting.into_iter().map(|machine| machine.join().unwrap()).collect()
    })
}

pub(super) fn memory_file(folder: &Path) -> PathBuf {
    folder.join("memory")
}
