//! The real program on a data folder of its own: started, killed, started again, and asked over
//! HTTP and by its own command line.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};
use tallyman::hypervisor::{Kind, files};
use tallyman::tls::{self, Trust};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::authority::Authority;
use crate::deadline::eventually;
use crate::{guest, machine};

/// Time after which a test fails that waits for something.
const SOON: Duration = Duration::from_secs(60);

/// `O_NONBLOCK`, for `custom_flags`: opening does not wait for the other end.
pub const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime for the client")
});

/// A data folder and the daemon on it. Dropping the value ends the daemon and all machines.
pub struct Daemon {
    program: PathBuf,
    folder: Arc<TempDir>,
    child: Option<Child>,
    api: Option<Api>,
    /// Address on which the daemon listened last; none before its first start.
    address: Option<String>,
    /// True for a fleet's collector.
    collects: bool,
    /// Further arguments.
    arguments: Vec<String>,
    /// The authority of its certificate; none for plain HTTP.
    ca: Option<PathBuf>,
}

/// Output of a running program, line by line.
pub struct Told(std::io::Lines<BufReader<std::process::ChildStdout>>);

impl Told {
    /// Reads lines up to the one that equals `last`.
    ///
    /// # Panics
    /// Panics if the program ends before.
    pub fn until(&mut self, last: &str) -> Vec<String> {
        self.until_one(|line| line == last)
    }

    /// Reads lines up to the first one that is asked for.
    ///
    /// # Panics
    /// Panics if the program ends before.
    pub fn until_one(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.0.next().unwrap_or_else(|| panic!("it did not come: {lines:?}"));
            lines.push(line.expect("text"));
            if lines.last().is_some_and(|line| is_last(line)) {
                return lines;
            }
        }
    }
}

impl Daemon {
    /// Starts `program` on a new data folder and imports the tiny guest as the image `tiny`.
    pub fn start(program: &str) -> Self {
        let daemon = Self::on(program, tempfile::tempdir().expect("a folder"));
        daemon.import_tiny();
        daemon
    }

    /// Starts `program` on `folder` as it is.
    pub fn on(program: &str, folder: TempDir) -> Self {
        let mut daemon = Self::down(program, folder);
        daemon.start_again();
        daemon
    }

    /// Starts `program` with further arguments on a new data folder.
    pub fn with(program: &str, arguments: &[&str]) -> Self {
        let mut daemon = Self::down(program, tempfile::tempdir().expect("a folder"));
        daemon.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        daemon.start_again();
        daemon
    }

    /// Starts `program` on a new data folder as a fleet's collector.
    pub fn collector(program: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut daemon = Self::down(program, folder);
        daemon.collects = true;
        daemon.start_again();
        daemon
    }

    /// Starts `program` on a new data folder with a certificate of `authority`, as a fleet's
    /// collector or by itself, and with further arguments. The files `ca.pem`, `cert.pem` and
    /// `key.pem` are in its folder.
    pub fn guarded(program: &str, authority: &Authority, collects: bool, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = authority.issue(folder.path());
        let ca = authority.write(folder.path());
        let mut daemon = Self::down(program, folder);
        let files = ["--tls-cert".into(), certificate.display().to_string(), "--tls-key".into()];
        daemon.arguments.extend(files);
        daemon.arguments.push(key.display().to_string());
        daemon.arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        daemon.collects = collects;
        daemon.ca = Some(ca);
        daemon.start_again();
        daemon
    }

    /// Starts `program` on `folder` as a host of a fleet, and imports the tiny guest as the image
    /// `tiny`. The collector is at `url`, and the host's token there is `token`.
    pub fn host(program: &str, folder: TempDir, url: &str, token: &str) -> Self {
        Self::host_with(program, folder, url, token, &[])
    }

    /// Starts `program` as [`Daemon::host`] does, with further arguments.
    pub fn host_with(
        program: &str,
        folder: TempDir,
        url: &str,
        token: &str,
        more: &[&str],
    ) -> Self {
        let file = folder.path().join("fleet.token");
        fs::write(&file, token).expect("a file");
        let file = file.display().to_string();
        let mut daemon = Self::down(program, folder);
        let fleet = ["--fleet", url, "--fleet-token", &file];
        daemon.arguments = fleet.iter().chain(more).map(|&word| word.to_owned()).collect();
        daemon.start_again();
        daemon.import_tiny();
        daemon
    }

    /// Starts `program` on `folder` with further arguments.
    pub fn keeping(program: &str, folder: TempDir, arguments: Vec<String>) -> Self {
        let mut daemon = Self::down(program, folder);
        daemon.arguments = arguments;
        daemon.start_again();
        daemon
    }

    /// Starts with these arguments, too, from the next start on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
    }

    fn down(program: &str, folder: TempDir) -> Self {
        Self {
            program: program.into(),
            folder: folder.into(),
            child: None,
            api: None,
            address: None,
            collects: false,
            arguments: Vec::new(),
            ca: None,
        }
    }

    /// Imports the tiny guest as the image `tiny`.
    pub fn import_tiny(&self) {
        let import = json!({"name": "tiny", "kernel": guest::tiny(), "memory_bytes_min": 16 << 20});
        self.api().post("/images", &import).done();
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the daemon, valid until its next start.
    pub fn api(&self) -> &Api {
        self.api.as_ref().expect("the daemon is up")
    }

    /// Starts the daemon and waits until it listens.
    pub fn start_again(&mut self) {
        self.start_on("127.0.0.1:0");
    }

    /// Starts the daemon on the address that it had before, and waits until it listens there.
    pub fn start_where_it_was(&mut self) {
        let address = self.address.clone().expect("it was up");
        self.start_on(&address);
    }

    fn start_on(&mut self, address: &str) {
        assert!(self.child.is_none(), "it is up");
        let log = File::options().append(true).create(true).open(self.log()).expect("a log");
        let mut command = match self.collects {
            true => self.command(&["fleet", "serve", "--listen", address]),
            false => self.serving(address),
        };
        command.args(&self.arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("start the daemon");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        self.child = Some(child);
        let url = line.split_whitespace().find(|word| word.starts_with("http"));
        let url = url
            .unwrap_or_else(|| panic!("it does not listen: {line}{}", self.said()))
            .trim_end_matches(',');
        let token = fs::read_to_string(self.folder().join("token")).expect("a token");
        self.address = url.split_once("://").map(|(_, address)| address.to_owned());
        self.api = Some(Api::new(url.to_owned(), token.trim().into(), self.ca.as_deref()));
    }

    /// The command that serves machines.
    fn serving(&self, address: &str) -> Command {
        let mut command = self.command(&["serve", "--listen", address, "--accelerator", "tcg"]);
        command.arg("--qemu").arg(machine::program(Kind::Qemu));
        command.arg("--cloud-hypervisor").arg(machine::program(Kind::CloudHypervisor));
        command.arg("--firecracker").arg(machine::program(Kind::Firecracker));
        command
    }

    /// Kills the daemon, whatever it is doing.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it is up");
        child.kill().and_then(|()| child.wait()).expect("a child of ours");
        self.api = None;
    }

    /// Waits for the daemon's own end.
    ///
    /// # Panics
    /// Panics if it has not ended within a minute.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it is up");
        self.api = None;
        eventually("end of the daemon", || child.try_wait().expect("a child of ours"))
    }

    /// Stops the daemon, has its journal verified, and proves that everything that it had
    /// acknowledged is still there. Starts it again afterwards.
    pub fn prove_journal(&mut self) {
        let head = self.api().get("/journal/head").done();
        self.stop();
        let verified = self.command(&["journal", "verify", "--json"]).output().expect("run");
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
        let seq = |number: &Value| number.as_u64().expect("a number");
        // The host's own facts may have followed; otherwise it is the same end.
        match seq(&verified["facts"]).cmp(&seq(&head["seq"])) {
            Ordering::Less => panic!("it had told of {head}, verified is {verified}"),
            Ordering::Equal => assert_eq!(verified["hash"], head["hash"]),
            Ordering::Greater => {}
        }
        self.start_again();
        let before = seq(&head["seq"]) - 1;
        let told = self.api().get(&format!("/journal?after={before}&limit=1")).done();
        assert_eq!(told["facts"][0]["hash"], head["hash"], "{told}");
    }

    /// Asks the daemon to end, and waits until it has.
    ///
    /// # Panics
    /// Panics if it ends with an error.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it is up");
        kill_process(pid_of(&child), Signal::TERM).expect("a child of ours");
        let status = child.wait().expect("a child of ours");
        assert!(status.success(), "{status}: {}", self.said());
        self.api = None;
    }

    /// The program with these arguments and this data folder, in an empty environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.program, arguments);
        command.arg("--data").arg(self.folder());
        command.envs(self.ca.iter().map(|ca| ("TALLYMAN_CA", ca)));
        command
    }

    /// Process id of the daemon.
    ///
    /// # Panics
    /// Panics if it is down.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is up").id()
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid_of(self.child.as_ref().expect("it is up")), signal).expect("our child");
    }

    /// Runs the command line against the daemon.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.args(["--url", &self.api().url]).output().expect("run the program")
    }

    /// The command line against the daemon, with what follows it left to the command: for one that
    /// takes all that stands behind it.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.program, &["--url", &self.api().url, "--data"]);
        command.arg(self.folder()).args(arguments);
        command
    }

    /// Starts the command line against the daemon; returns the process and its output.
    pub fn follower(&self, arguments: &[&str]) -> (Child, Told) {
        let mut command = self.command(arguments);
        let mut child = command
            .args(["--url", &self.api().url])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run the program");
        let out = child.stdout.take().expect("a pipe");
        (child, Told(BufReader::new(out).lines()))
    }

    /// The daemon's log.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder().join("daemon.log")
    }

    /// The folder of an instance.
    pub fn instance(&self, id: &str) -> PathBuf {
        self.folder().join("instances").join(id)
    }

    /// Types a byte on the console of a guest.
    pub fn type_to(&self, id: &str, byte: char) {
        let path = files::console_input(&self.instance(id));
        let input = File::options().write(true).custom_flags(NONBLOCK).open(&path);
        let mut input =
            input.unwrap_or_else(|error| panic!("{} has no reader: {error}", path.display()));
        write!(input, "{byte}").expect("the supervisor reads");
    }

    /// The numbers of the heartbeats on the console, in order.
    pub fn heartbeats(&self, id: &str) -> Vec<u64> {
        let log = fs::read_to_string(files::console_log(&self.instance(id))).expect("a console");
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| line.trim_end().strip_prefix("HB ")?.parse().ok()).collect()
    }

    /// The numbers of the launches of which there is a folder, in order.
    ///
    /// # Panics
    /// Panics if a folder's name is no number, or there is no folder.
    pub fn launches(&self, id: &str) -> Vec<u32> {
        let folders = fs::read_dir(self.instance(id).join("run")).expect("its launches");
        let number = |name: &str| name.parse().expect("a number");
        let mut numbers: Vec<_> = folders
            .map(|folder| number(&folder.expect("a launch").file_name().to_string_lossy()))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// The processes of machines on this data folder: supervisors and virtual machine monitors, by
    /// id.
    pub fn machines(&self) -> Vec<Pid> {
        let instances =
            fs::read_dir(self.folder().join("instances")).into_iter().flatten().flatten();
        let identified = instances.flat_map(|instance| identified(&instance.path())).collect();
        self.processes_of(self.folder(), identified)
    }

    /// The processes of one instance's machine.
    pub fn machines_of(&self, id: &str) -> Vec<Pid> {
        let instance = self.instance(id);
        self.processes_of(&instance, identified(&instance))
    }

    /// Checks that no machine is left. A supervisor ends after it has written down its machine's
    /// end, which may be a moment after the end is known.
    ///
    /// # Panics
    /// Panics if one still runs after a minute.
    pub fn check_no_machines(&self) {
        check_none(|| self.machines());
    }

    /// Checks that no machine of one instance is left.
    ///
    /// # Panics
    /// Panics if one still runs after a minute.
    pub fn check_no_machines_of(&self, id: &str) {
        check_none(|| self.machines_of(id));
    }

    /// The processes that were `identified`, and those that name a path inside `folder` in their
    /// command line or have one open; not the daemon, nor this process.
    fn processes_of(&self, folder: &Path, identified: Vec<i32>) -> Vec<Pid> {
        let ours = [self.child.as_ref().map(pid_of), Some(rustix::process::getpid())];
        let pids = fs::read_dir("/proc").expect("this is Linux").filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            (identified.contains(&pid) || names(pid, folder) || has_open(pid, folder))
                .then(|| Pid::from_raw(pid))
                .flatten()
        });
        let mut pids: Vec<_> = pids.filter(|&pid| !ours.contains(&Some(pid))).collect();
        pids.sort_by_key(|pid| pid.as_raw_nonzero());
        pids
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.said());
        }
        if self.child.is_some() {
            self.kill();
        }
        for pid in self.machines() {
            // The process may end by itself at this moment.
            let handle = Handle::of(pid);
            let _ = kill_process(pid, Signal::KILL);
            handle.wait();
        }
    }
}

/// A process that can be waited for by others than its parent.
pub struct Handle(Option<OwnedFd>);

impl Handle {
    /// A handle of a process; for one that is gone, waiting returns at once.
    pub fn of(pid: Pid) -> Self {
        Self(pidfd_open(pid, PidfdFlags::empty()).ok())
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// Panics if it hasn't after a minute.
    pub fn wait(&self) {
        let Some(handle) = &self.0 else { return };
        let ended = poll(
            &mut [PollFd::new(handle, PollFlags::IN)],
            Some(&SOON.try_into().expect("a minute")),
        );
        assert_eq!(ended, Ok(1), "it goes on");
    }
}

fn check_none(machines: impl Fn() -> Vec<Pid>) {
    let ending: Vec<_> = machines().into_iter().map(Handle::of).collect();
    ending.iter().for_each(Handle::wait);
    assert_eq!(machines(), [], "a machine is left");
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The living processes that an instance's launches have recorded.
fn identified(instance: &Path) -> Vec<i32> {
    let runs = fs::read_dir(instance.join("run")).into_iter().flatten().flatten();
    let identities = runs.filter_map(|run| fs::read(run.path().join("identity.json")).ok());
    let identities = identities.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    let of = |identity: &Value, role: &str| -> Option<i32> {
        let pid = i32::try_from(identity[role]["pid"].as_i64()?).ok()?;
        (started(pid)? == identity[role]["start_ticks"].as_u64()?).then_some(pid)
    };
    identities
        .flat_map(|identity| ["supervisor", "vmm"].map(|role| of(&identity, role)))
        .flatten()
        .collect()
}

/// Start of a living process, in the kernel's ticks since boot; none for one that is gone.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn names(pid: i32, folder: &Path) -> bool {
    let folder = folder.as_os_str().as_encoded_bytes();
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.windows(folder.len()).any(|window| window == folder)
}

fn has_open(pid: i32, folder: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target.starts_with(folder))
}

/// `program` with these arguments, in an environment without this process's variables.
pub fn program(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"TALLYMAN_") {
            command.env_remove(name);
        }
    }
    command
}

/// A client of a daemon.
#[derive(Clone)]
pub struct Api {
    /// Base URL of the daemon.
    pub url: String,
    token: String,
    http: reqwest::Client,
}

/// An answer of the daemon.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Method and path of the request.
    pub question: String,
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as JSON; null if it is empty.
    pub body: Value,
}

/// A request in all its parts.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Method, such as `GET`.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Value of the header `Authorization`; the daemon's token if none.
    pub authorization: Option<&'a str>,
    /// Value of the header `Content-Type`; no header if none.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: Vec<u8>,
}

/// The JSON that another server answers; none if it answers nothing, or no JSON.
pub fn get_json(url: &str) -> Option<Value> {
    RUNTIME.block_on(async {
        let http = tls::plain_client().timeout(SOON).build().ok()?;
        serde_json::from_slice(&http.get(url).send().await.ok()?.bytes().await.ok()?).ok()
    })
}

impl Api {
    fn new(url: String, token: String, ca: Option<&Path>) -> Self {
        let trust = ca.map_or_else(Trust::nobody, |ca| Trust::of_file(ca).expect("an authority"));
        let http = trust.client().timeout(SOON).build().expect("a client");
        Self { url, token, http }
    }

    /// The address that the daemon listens on.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token that it is asked with.
    pub fn secret(&self) -> &str {
        &self.token
    }

    /// Sends a request with these headers and no others, so that it shows no token by itself.
    ///
    /// # Panics
    /// Panics if no answer comes.
    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let known = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut asking = self.http.request(known, format!("{}{path}", self.url));
        for (name, value) in headers {
            asking = asking.header(*name, *value);
        }
        if let Some(body) = body {
            asking = asking.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        RUNTIME.block_on(async {
            let answer = asking.send().await.expect("an answer");
            let status = answer.status().as_u16();
            let headers = answer.headers().clone();
            let text = answer.bytes().await.expect("the whole answer");
            let body = serde_json::from_slice(&text).unwrap_or(Value::Null);
            Answer { question: format!("{method} {path}"), status, headers, body }
        })
    }

    /// A client of the same daemon, on connections of its own, that trusts another authority.
    pub fn trusting(&self, ca: &Path) -> Self {
        Self::new(self.url.clone(), self.token.clone(), Some(ca))
    }

    /// True if the daemon answers.
    pub fn answers(&self) -> bool {
        self.try_send(&Self::plain("GET", "/health")).is_some_and(|answer| answer.status == 200)
    }

    /// A client of the same daemon with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// Creates a tenant, and returns a client that acts for it in the role `role`. Its admins may
    /// cause charges.
    pub fn tenant(&self, id: &str, role: &str) -> Self {
        self.post("/tenants", &json!({"id": id})).done();
        self.let_ask_freely(id);
        self.put(&format!("/tenants/{id}/billing"), &json!({"delegated": true})).done();
        self.token(id, role)
    }

    /// Creates a token of a tenant, and returns a client with it. Needs the operator's token.
    pub fn token(&self, tenant: &str, role: &str) -> Self {
        let made = self
            .post("/tokens", &json!({"name": "a test's", "role": role, "tenant": tenant}))
            .done();
        self.with_token(made["secret"].as_str().expect("a secret"))
    }

    /// Raises a tenant's request limits as far as a test needs. Needs the operator's token.
    fn let_ask_freely(&self, id: &str) {
        let path = format!("/tenants/{id}/limits");
        let body = json!({"requests_per_s": 1_000_000}).to_string();
        let request = Request {
            method: "PATCH",
            content_type: Some("application/json"),
            body: body.into(),
            ..Self::plain("PATCH", &path)
        };
        self.send(&request).done();
    }

    /// Sends a request and reads the whole answer; none if the daemon ends meanwhile.
    pub fn try_send(&self, request: &Request<'_>) -> Option<Answer> {
        let question = format!("{} {}", request.method, request.path);
        let method = Method::from_bytes(request.method.as_bytes()).expect("a method");
        let bearer = format!("Bearer {}", self.token);
        let mut asking = self.http.request(method, format!("{}{}", self.url, request.path));
        asking = asking
            .header(AUTHORIZATION, request.authorization.unwrap_or(&bearer))
            .body(request.body.clone());
        if let Some(content_type) = request.content_type {
            asking = asking.header(CONTENT_TYPE, content_type);
        }
        RUNTIME.block_on(async {
            let answer = asking.send().await.ok()?;
            let status = answer.status().as_u16();
            let headers = answer.headers().clone();
            let text = answer.bytes().await.ok()?;
            let body = match text.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&text).unwrap_or_else(|_| {
                    panic!("{question}: not JSON: {}", String::from_utf8_lossy(&text))
                }),
            };
            Some(Answer { question, status, headers, body })
        })
    }

    /// Sends a request.
    ///
    /// # Panics
    /// Panics if no answer comes.
    pub fn send(&self, request: &Request<'_>) -> Answer {
        self.try_send(request)
            .unwrap_or_else(|| panic!("no answer to {} {}", request.method, request.path))
    }

    fn plain<'a>(method: &'a str, path: &'a str) -> Request<'a> {
        Request { method, path, authorization: None, content_type: None, body: Vec::new() }
    }

    /// Sends `GET`.
    pub fn get(&self, path: &str) -> Answer {
        self.send(&Self::plain("GET", path))
    }

    /// Sends `DELETE`.
    pub fn delete(&self, path: &str) -> Answer {
        self.send(&Self::plain("DELETE", path))
    }

    /// Sends `POST` without a body.
    pub fn act(&self, path: &str) -> Answer {
        self.send(&Self::plain("POST", path))
    }

    /// Sends `POST` with JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&Request {
            content_type: Some("application/json"),
            body: body.to_string().into(),
            ..Self::plain("POST", path)
        })
    }

    /// Sends `PUT` with JSON.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(&Request {
            content_type: Some("application/json"),
            body: body.to_string().into(),
            ..Self::plain("PUT", path)
        })
    }

    /// Sends `PATCH` with JSON.
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(&Request {
            content_type: Some("application/json"),
            body: body.to_string().into(),
            ..Self::plain("PATCH", path)
        })
    }

    /// Uploads a component.
    pub fn upload(&self, component: Vec<u8>) -> Answer {
        self.send(&Request {
            content_type: Some("application/wasm"),
            body: component,
            ..Self::plain("POST", "/policies")
        })
    }

    /// Creates an instance of the tiny guest and returns its id.
    pub fn create(&self, name: &str) -> String {
        self.create_with(name, "")
    }

    /// Creates an instance of the tiny guest with words on its kernel's command line, and returns
    /// its id.
    pub fn create_with(&self, name: &str, cmdline: &str) -> String {
        let created = self.post(
            "/instances",
            &json!({"name": name, "image": "tiny", "cmdline": cmdline, "stop_grace_ms": 2000}),
        );
        created.done()["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until an instance is in a state.
    ///
    /// # Panics
    /// Panics if the state is not reached within a minute.
    pub fn wait(&self, id: &str, state: &str) {
        let waited = self.get(&format!("/instances/{id}/wait?state={state}&timeout=50s")).done();
        assert_eq!(
            (&waited["state"], &waited["timed_out"]),
            (&json!(state), &json!(false)),
            "{waited}"
        );
    }

    /// Creates an instance and waits until it runs.
    pub fn create_running(&self, name: &str) -> String {
        let id = self.create(name);
        self.wait(&id, "Running");
        id
    }

    /// Gives an instance a command that must succeed; returns the instance.
    pub fn command(&self, id: &str, command: &str) -> Value {
        self.act(&format!("/instances/{id}/{command}")).done()
    }

    /// An instance, also if it is deleted.
    pub fn instance(&self, id: &str) -> Value {
        self.get(&format!("/instances/{id}?deleted=true")).done()
    }

    /// All facts of an instance.
    pub fn facts(&self, id: &str) -> Vec<Value> {
        let page = self.get(&format!("/journal?instance={id}&limit=1000")).done();
        assert_eq!(page["next"], Value::Null, "more than a page");
        page["facts"].as_array().expect("facts").clone()
    }

    /// The phases that an instance has entered, in order.
    pub fn phases(&self, id: &str) -> Vec<String> {
        let facts = self.facts(id);
        facts.iter().filter_map(|fact| Some(fact["phase"].as_str()?.to_owned())).collect()
    }

    /// Checks that the intervals of an instance partition its lifetime, and that all totals are the
    /// sums of the intervals, to the nanosecond; returns the intervals.
    ///
    /// # Panics
    /// Panics if they don't.
    pub fn check_time(&self, id: &str) -> Vec<Value> {
        let account = self.get(&format!("/instances/{id}/intervals")).done();
        let pieces = account["intervals"].as_array().expect("intervals").clone();
        let number = |value: &Value| {
            value.as_i64().unwrap_or_else(|| panic!("no number: {value} in {account}"))
        };
        for pair in pieces.windows(2) {
            assert_eq!(
                pair[0]["end_ns"], pair[1]["start_ns"],
                "the intervals must touch: {account}"
            );
            assert_eq!(pair[0]["open"], json!(false), "only the last may be open: {account}");
        }
        let mut totals = serde_json::Map::new();
        let mut sum = 0;
        for piece in &pieces {
            let length = number(&piece["end_ns"]) - number(&piece["start_ns"]);
            assert!(length >= 0 && length == number(&piece["duration_ns"]), "{piece}");
            sum += length;
            if length > 0 {
                let phase = piece["phase"].as_str().expect("a phase").to_owned();
                let total = totals.entry(phase).or_insert(json!(0));
                *total = json!(number(total) + length);
            }
        }
        assert_eq!(account["totals_ns"], Value::Object(totals), "{account}");
        let lifetime = match (pieces.first(), pieces.last()) {
            (Some(first), Some(last)) => number(&last["end_ns"]) - number(&first["start_ns"]),
            _ => 0,
        };
        assert_eq!(sum, lifetime, "{account}");
        assert_eq!(
            account["proof"],
            json!({"sum_ns": sum, "lifetime_ns": sum, "difference_ns": 0}),
            "{account}"
        );
        assert_eq!(account["accounted"]["proof"], account["proof"], "{account}");
        pieces
    }

    /// Follows server-sent events until a line satisfies `last`; returns all lines received.
    ///
    /// # Panics
    /// Panics if the stream ends before.
    pub fn follow(&self, path: &str, last: impl Fn(&str) -> bool) -> Vec<String> {
        self.follow_then(path, || (), last)
    }

    /// Follows server-sent events, and calls `then` once the first line has arrived.
    pub fn follow_then(
        &self,
        path: &str,
        then: impl FnOnce(),
        last: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let asking = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let mut answer = RUNTIME.block_on(async { asking.send().await }).expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        let mut partial = String::new();
        let mut lines = Vec::new();
        let mut then = Some(then);
        while let Some(bytes) = RUNTIME.block_on(answer.chunk()).expect("it goes on") {
            partial.push_str(std::str::from_utf8(&bytes).expect("text"));
            while let Some((line, rest)) = partial.split_once('\n') {
                let line = line
                    .strip_prefix("data:")
                    .map(|data| serde_json::from_str::<String>(data).expect("a line"));
                partial = rest.to_owned();
                let Some(line) = line else { continue };
                lines.push(line);
                if let Some(then) = then.take() {
                    then();
                }
                if last(&lines[lines.len() - 1]) {
                    return lines;
                }
            }
        }
        panic!("the lines ended before the last: {lines:?}");
    }

    /// Reads only the head of an answer; the body continues as long as the value is kept.
    ///
    /// # Panics
    /// Panics if no answer comes.
    pub fn open(&self, path: &str) -> reqwest::Response {
        let asking = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        RUNTIME.block_on(async { asking.send().await }).expect("an answer")
    }

    /// The body of an answer that is no JSON.
    pub fn text(&self, path: &str) -> String {
        let asking = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        RUNTIME.block_on(async { asking.send().await?.text().await }).expect("an answer")
    }

    /// Follows a log up to the line that `last` recognises, from the event after `after` on if it
    /// is given; returns each line with its event's id. Ends early if the daemon ends.
    pub fn events(
        &self,
        path: &str,
        after: Option<&str>,
        last: impl Fn(&str) -> bool,
    ) -> Vec<(String, String)> {
        let line = |data: &str| serde_json::from_str::<String>(data).expect("a line");
        let events = self.stream(path, after, |data| last(&line(data)));
        events.into_iter().map(|(id, data)| (id, line(&data))).collect()
    }

    /// Follows server-sent events as [`Api::events`] does; returns the text of each one's data.
    pub fn stream(
        &self,
        path: &str,
        after: Option<&str>,
        last: impl Fn(&str) -> bool,
    ) -> Vec<(String, String)> {
        let mut asking = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(after) = after {
            asking = asking.header("last-event-id", after);
        }
        let mut answer = RUNTIME.block_on(async { asking.send().await }).expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        let mut partial = String::new();
        let mut id = String::new();
        let mut events = Vec::new();
        while let Ok(Some(bytes)) = RUNTIME.block_on(answer.chunk()) {
            partial.push_str(std::str::from_utf8(&bytes).expect("text"));
            while let Some((line, rest)) = partial.split_once('\n') {
                if let Some(told) = line.strip_prefix("id:") {
                    told.trim().clone_into(&mut id);
                }
                let data = line.strip_prefix("data:").map(|data| data.trim().to_owned());
                partial = rest.to_owned();
                let Some(data) = data else { continue };
                events.push((id.clone(), data));
                if last(&events[events.len() - 1].1) {
                    return events;
                }
            }
        }
        events
    }

    /// All lines of a log, without following it.
    pub fn lines(&self, path: &str) -> Vec<String> {
        let text = self.text(path);
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|data| serde_json::from_str(data).expect("a line")).collect()
    }
}

impl Answer {
    /// The body of an answer that reports success.
    ///
    /// # Panics
    /// Panics if it reports anything else.
    pub fn done(self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{}: {} {}",
            self.question,
            self.status,
            self.body
        );
        self.body
    }

    /// Checks that the answer is a refusal with this status and code, and that its message contains
    /// `words`; returns the body.
    ///
    /// # Panics
    /// Panics if it isn't.
    pub fn refused(self, status: u16, code: &str, words: &str) -> Value {
        let told = format!("{}: {} {}", self.question, self.status, self.body);
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{told}");
        let message = self.body["message"].as_str().unwrap_or_else(|| panic!("no message: {told}"));
        assert!(message.contains(words), "'{words}' is not in the message of {told}");
        self.body
    }
}
