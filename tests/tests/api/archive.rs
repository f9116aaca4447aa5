//! Archives: segments copied into a folder and into an object store, put back, and read from there.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tallyman_tests::aloud::say;
use tallyman_tests::daemon::{Api, Daemon};
use tallyman_tests::guest;
use tallyman_tests::objects::{BUCKET, Objects, Wrong};
use tempfile::TempDir;

use crate::PROGRAM;
use crate::invoices::{BOOK, put_prices};

/// A host with an archive.
struct Host {
    daemon: Daemon,
    /// Arguments by which programs reach the archive.
    reach: Vec<String>,
}

impl Host {
    fn with(archive: &str, more: &[&str]) -> Self {
        let reach = [&["--archive", archive], more].concat();
        let reach: Vec<String> = reach.into_iter().map(str::to_owned).collect();
        let own = ["--archive-as", "h1"].map(str::to_owned);
        let arguments = reach.iter().cloned().chain(own).collect();
        let folder = tempfile::tempdir().expect("a folder");
        Self { daemon: Daemon::keeping(PROGRAM, folder, arguments), reach }
    }

    /// A host whose archive is this store.
    fn at(store: &Objects, keys: &TempDir) -> Self {
        Self::at_url(&store.url(), keys)
    }

    /// A host whose archive is the store at this URL.
    fn at_url(url: &str, keys: &TempDir) -> Self {
        let file = keys.path().join("keys");
        fs::write(&file, "aws_access_key_id = id\naws_secret_access_key = secret\n").expect("keys");
        let file = file.display().to_string();
        let more = ["--archive-endpoint", url, "--archive-keys", &file];
        Self::with(&format!("s3://{BUCKET}/eu"), &more)
    }

    fn api(&self) -> &Api {
        self.daemon.api()
    }

    /// Seals everything in segments, as many as asked for.
    fn seal(&self, segments: usize) {
        for round in 0..segments {
            let tenant = json!({"id": format!("t{round}-{}", self.segments().len())});
            self.api().post("/tenants", &tenant).done();
            self.api().post("/journal/segments", &json!({})).done();
        }
    }

    fn segments(&self) -> Vec<Value> {
        self.api().get("/journal/segments").done().as_array().expect("a list").clone()
    }

    fn told(&self) -> usize {
        let mut after = Some(0);
        let mut told = 0;
        while let Some(from) = after {
            let path = format!("/journal?kind=segment-archived&after={from}");
            let page = self.api().get(&path).done();
            told += length(&page["facts"]);
            after = page["next"].as_u64();
        }
        told
    }

    fn pruned(&self) -> usize {
        self.segments().iter().filter(|one| one["is_pruned"] == true).count()
    }

    fn archive(&self) -> Output {
        self.daemon.cli(&["journal", "archive", "--json"])
    }

    /// Runs a command on the data folder, with what it takes to reach the archive.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command: Command = self.daemon.command(arguments);
        command.args(&self.reach).output().expect("run")
    }

    fn files(&self) -> Vec<PathBuf> {
        files(&self.daemon.folder().join("segments"), "parquet")
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == ending));
    files.sort();
    files
}

fn done(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(words), "{words}: {said}");
}

fn length(value: &Value) -> usize {
    value.as_array().expect("a list").len()
}

#[test]
fn segments_are_copied_into_a_folder_and_put_back_from_there() {
    let archive = tempfile::tempdir().expect("a folder");
    let mut host = Host::with(&archive.path().display().to_string(), &[]);
    host.seal(3);
    assert_eq!(done(host.daemon.cli(&["journal", "archive", "--dry-run", "--json"]))["left"], 3);
    assert_eq!(host.told(), 0);
    let copied = done(host.archive());
    assert_eq!((length(&copied["copied"]), &copied["left"]), (3, &json!(0)));
    assert_eq!(files(&archive.path().join("h1"), "parquet").len(), 3);
    assert_eq!(files(&archive.path().join("h1"), "json").len(), 3);
    assert_eq!(length(&done(host.archive())["copied"]), 0);
    assert!(
        host.segments().iter().all(|one| one["is_here"] == true && length(&one["copies"]) == 1)
    );

    // Lost files are read from their copies by the daemon, and put back beside it.
    let facts = |host: &Host| host.api().get("/journal").done()["facts"].clone();
    let before = facts(&host);
    let whole = host.files();
    fs::remove_dir_all(host.daemon.folder().join("segments")).expect("removed");
    host.daemon.stop();
    host.daemon.start_again();
    assert_eq!(facts(&host)[0], before[0]);
    assert!(host.segments().iter().all(|one| one["is_here"] == false));
    refused(&host.daemon.command(&["journal", "verify"]).output().expect("run"), "not in the data");
    assert!(host.run(&["journal", "verify"]).status.success());
    assert_eq!(length(&done(host.run(&["journal", "restore", "--dry-run", "--json"]))["files"]), 3);
    assert_eq!(length(&done(host.run(&["journal", "restore", "--json"]))["files"]), 3);
    assert_eq!(host.files(), whole);
    host.daemon.prove_journal();
}

/// The recipe of the documentation checks an archive without this program.
#[test]
fn an_archive_is_checked_by_itself_in_python() {
    let format = include_str!("../../../docs/journal-format.md");
    let (_, rest) = format.split_once("## An archive").expect("a section");
    let (_, rest) = rest.split_once("```python\n").expect("a recipe");
    let (recipe, _) = rest.split_once("```").expect("its end");
    let archive = tempfile::tempdir().expect("a folder");
    let host = Host::with(&archive.path().display().to_string(), &[]);
    host.seal(3);
    done(host.archive());
    let folder = archive.path().join("h1");
    let check = || {
        let run = Command::new("python3").args(["-c", recipe]).arg(&folder).output();
        run.expect("python3; `scripts/setup test` installs it")
    };
    let said = check();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().count(), 3);
    let second = &files(&folder, "parquet")[1];
    let whole = fs::read(second).expect("a file");
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(second, altered).expect("altered");
    refused(&check(), "was altered");
    fs::write(second, whole).expect("as before");
    fs::remove_file(&files(&folder, "json")[1]).expect("removed");
    refused(&check(), "does not follow");
}

#[test]
fn a_folder_that_is_not_mounted_delays_nothing_and_is_named() {
    let parent = tempfile::tempdir().expect("a folder");
    let archive = parent.path().join("mnt");
    let mut host = Host::with(&archive.display().to_string(), &["--archive-region", "x"]);
    host.seal(1);
    refused(&host.archive(), "mnt is not there; mount or make it");
    host.seal(1);
    fs::create_dir(&archive).expect("mounted");
    assert_eq!(length(&done(host.archive())["copied"]), 2);
    host.daemon.prove_journal();
}

#[test]
fn without_an_archive_the_command_says_how_to_get_one() {
    let daemon = crate::daemon();
    let said = daemon.cli(&["journal", "archive"]);
    refused(&said, "start the daemon with --archive");
}

#[test]
fn an_object_store_that_does_wrong_is_named_and_nothing_is_lost() {
    let keys = tempfile::tempdir().expect("a folder");
    let rows = [
        (Wrong::Down, "failed at eu"),
        (Wrong::Refuses, "AccessDenied"),
        (Wrong::Changes, "has other bytes under the name h1/"),
        (Wrong::Loses, "said that it took h1/"),
        (Wrong::Confuses, "has other bytes under the name h1/"),
    ];
    for (wrong, words) in rows {
        let store = Objects::start();
        let mut host = Host::at(&store, &keys);
        host.seal(2);
        store.does(Some(wrong));
        let words = words.replace("failed at eu", "failed at h1");
        refused(&host.archive(), &words);
        assert_eq!((host.told(), host.files().len()), (0, 2), "{wrong:?}");
        store.does(None);
        if wrong == Wrong::Changes {
            refused(&host.archive(), &words);
            store.alter(|objects| objects.clear());
        }
        assert_eq!(length(&done(host.archive())["copied"]), 2, "{wrong:?}");
        assert_eq!((host.told(), store.objects().len()), (2, 4));
        assert!(store.objects().keys().all(|name| name.starts_with("eu/h1/")));
        host.daemon.prove_journal();
    }
}

#[test]
fn a_store_that_goes_over_objects_gets_the_same_bytes() {
    let keys = tempfile::tempdir().expect("a folder");
    let store = Objects::start();
    let host = Host::at(&store, &keys);
    store.does(Some(Wrong::Overwrites));
    host.seal(1);
    done(host.archive());
    let before = store.objects();
    host.seal(1);
    done(host.archive());
    assert_eq!(store.objects().len(), 4);
    assert!(before.iter().all(|(name, bytes)| store.objects()[name] == *bytes));
}

/// Ends the daemon at each request of an archiving in turn: of the object and of the manifest, to
/// be created and to be read back.
#[test]
fn an_archiving_that_is_killed_at_any_request_goes_on_and_copies_once() {
    let keys = tempfile::tempdir().expect("a folder");
    let store = Objects::start();
    let mut host = Host::at(&store, &keys);
    let mut killed = Vec::new();
    for after in 0.. {
        host.seal(1);
        store.hold(Some(after));
        let (mut client, _told) = host.daemon.follower(&["journal", "archive"]);
        let is_over = std::sync::Mutex::new(&mut client);
        let is_over = || is_over.lock().expect("no panic").try_wait().expect("a child").is_some();
        let Some(request) = store.held(is_over) else { break };
        host.daemon.kill();
        client.wait().expect("a child of ours");
        store.hold(None);
        host.daemon.start_again();
        done(host.archive());
        killed.push(request.split_whitespace().next().expect("a method").to_owned());
        let segments = host.segments();
        assert!(segments.iter().all(|one| length(&one["copies"]) == 1), "{segments:?}");
        assert_eq!((host.told(), store.objects().len()), (segments.len(), segments.len() * 2));
    }
    assert_eq!(killed, ["GET", "PUT", "GET", "PUT", "GET"]);
    host.daemon.prove_journal();
}

/// The daemon's own round: it seals and copies without being asked.
#[test]
fn the_daemon_seals_and_copies_by_itself() {
    let keys = tempfile::tempdir().expect("a folder");
    let store = Objects::start();
    let mut host = Host::at(&store, &keys);
    host.daemon.stop();
    host.daemon.add_arguments(&["--seal-after", "0s"]);
    host.daemon.start_again();
    let (_, mut told) = host.daemon.follower(&["journal", "list", "--follow"]);
    told.until_one(|line| line.contains("segment-archived"));
    host.daemon.prove_journal();
    assert_eq!(store.objects().len() % 2, 0);
}

/// A day after all facts.
const LATER: &str = "2200-01-01";

fn prune(host: &Host, more: &[&str]) -> Output {
    host.daemon.cli(&[&["journal", "prune", "--before", LATER, "--json"], more].concat())
}

#[test]
fn segments_leave_the_data_folder_and_what_needs_them_reads_their_copies() {
    let archive = tempfile::tempdir().expect("a folder");
    let more = ["--archive-region", "x"];
    let mut host = Host::with(&archive.path().display().to_string(), &more);
    host.seal(3);
    let refused_all = done(prune(&host, &["--dry-run"]));
    assert_eq!((length(&refused_all["pruned"]), length(&refused_all["stay"])), (0, 3));
    let reason = refused_all["stay"][0]["reason"].as_str().expect("words");
    assert!(reason.contains("`tallyman journal archive` makes one"), "{reason}");
    done(host.archive());
    let first = host.api().get("/journal?limit=1").done();
    let would = done(prune(&host, &["--dry-run"]));
    assert_eq!((length(&would["pruned"]), length(&would["stay"])), (2, 1));
    assert_eq!(would["correctable_until"], Value::Null);
    let said = prune(&host, &[]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(words.contains("as long as it keeps them"), "{words}");
    assert_eq!(length(&done(said)["pruned"]), 2);
    assert_eq!(host.files().len(), 1);
    assert_eq!(host.api().get("/journal?limit=1").done(), first);
    assert_eq!(length(&done(prune(&host, &[]))["pruned"]), 0);

    // Other programs say how to get at it, or are told.
    host.daemon.stop();
    let verify = host.daemon.command(&["journal", "verify"]).output().expect("run");
    refused(&verify, "`tallyman journal restore --pruned`");
    assert!(host.run(&["journal", "verify"]).status.success());
    let left = done(host.run(&["journal", "restore", "--json"]));
    assert_eq!((length(&left["files"]), &left["pruned"]), (0, &json!(2)));
    let back = done(host.run(&["journal", "restore", "--pruned", "--json"]));
    assert_eq!(length(&back["files"]), 2);
    host.daemon.add_arguments(&["--archive-keeps", "87600h"]);
    host.daemon.start_again();
    let would = done(prune(&host, &["--dry-run"]));
    assert!(would["correctable_until"].as_str().is_some_and(|until| until > "2036"), "{would}");
    host.daemon.prove_journal();
}

#[test]
fn an_open_period_keeps_its_segments_here() {
    let archive = tempfile::tempdir().expect("a folder");
    let host = Host::with(&archive.path().display().to_string(), &[]);
    put_prices(host.api(), BOOK);
    host.seal(2);
    done(host.archive());
    let kept = done(prune(&host, &[]));
    assert_eq!((length(&kept["pruned"]), host.files().len()), (0, 2));
    let reason = kept["stay"][0]["reason"].as_str().expect("words");
    assert!(reason.contains("tenant 'default' has an open period"), "{reason}");
}

/// Ends the daemon while it reads the copy of the first, and of the second segment.
#[test]
fn pruning_that_is_killed_goes_on() {
    let keys = tempfile::tempdir().expect("a folder");
    for after in [0, 1] {
        let store = Objects::start();
        let mut host = Host::at(&store, &keys);
        host.seal(3);
        done(host.archive());
        store.hold(Some(after));
        let arguments = ["journal", "prune", "--before", LATER];
        let (mut client, _told) = host.daemon.follower(&arguments);
        store.held(|| false).expect("a request");
        host.daemon.kill();
        client.wait().expect("a child of ours");
        store.hold(None);
        host.daemon.start_again();
        assert_eq!(host.files().len(), 3 - after);
        assert_eq!(length(&done(prune(&host, &[]))["pruned"]), 2 - after);
        assert_eq!((host.files().len(), host.pruned()), (1, 2));
        assert!(host.run(&["journal", "verify"]).status.success());
        assert_eq!(
            length(&done(host.run(&["journal", "restore", "--pruned", "--json"]))["files"]),
            2
        );
        host.daemon.prove_journal();
    }
}

/// A store that is away delays nothing but what needs a pruned segment, and that is told.
#[test]
fn a_pruned_segment_whose_store_is_away_is_told() {
    let keys = tempfile::tempdir().expect("a folder");
    let store = Objects::start();
    let mut host = Host::at(&store, &keys);
    host.seal(3);
    done(host.archive());
    assert_eq!(length(&done(prune(&host, &[]))["pruned"]), 2);
    host.daemon.stop();
    host.daemon.start_again();
    for (wrong, words) in
        [(Wrong::Refuses, "AccessDenied"), (Wrong::Confuses, "has other bytes under the name")]
    {
        store.does(Some(wrong));
        host.api().get("/journal?limit=1").refused(503, "segment_elsewhere", words);
        host.seal(1);
    }
    store.does(None);
    assert_eq!(length(&host.api().get("/journal?limit=1").done()["facts"]), 1);
}

#[test]
fn the_daemon_prunes_by_itself_and_its_configuration_is_checked() {
    let keys = tempfile::tempdir().expect("a folder");
    let store = Objects::start();
    let mut host = Host::at(&store, &keys);
    host.seal(2);
    host.daemon.stop();
    host.daemon.add_arguments(&["--seal-after", "0s", "--prune-after", "0s"]);
    host.daemon.start_again();
    let (mut follower, mut told) = host.daemon.follower(&["journal", "list", "--follow"]);
    told.until_one(|line| line.contains("segment-pruned"));
    follower.kill().and_then(|()| follower.wait()).expect("a child of ours");

    let file = keys.path().join("tallyman.toml");
    let path = file.display().to_string();
    let rows = [
        ("prune_after = \"1h\"", "--archive"),
        ("archive = \"relative\"", "is not the address of a store"),
        ("archive = \"/a\"\nprune_after = \"1h\"\nseal_after = \"2h\"", "shorter than seal_after"),
        (
            "archive = \"/a\"\nprune_after = \"3h\"\narchive_keeps = \"2h\"",
            "longer than prune_after",
        ),
        ("archive = \"s3://a\"\narchive_keys = \"/none\"", "can't read the keys"),
    ];
    for (text, words) in rows {
        fs::write(&file, text).expect("a file");
        refused(&host.daemon.command(&["config", "check", &path]).output().expect("run"), words);
    }
    let whole =
        "archive = \"/a\"\nprune_after = \"3h\"\nseal_after = \"2h\"\narchive_keeps = \"9h\"";
    fs::write(&file, whole).expect("a file");
    let checked = host.daemon.command(&["config", "check", &path]).output().expect("run");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The double of an object store that others use, for what ours can't show: requests as another
/// program understands them. It does not check what is on the way to it.
struct Moto(Child);

const MOTO: &str = "\
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
";

impl Moto {
    /// Starts it; none, with a message, where the setup could not fetch it.
    fn start() -> Option<(Self, String)> {
        let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/moto");
        if !parts.join("moto").is_dir() {
            say("moto NOT RUN: it is not in target/moto; `scripts/setup test` fetches it");
            return None;
        }
        let mut child = Command::new("python3")
            .args(["-c", MOTO])
            .env("PYTHONPATH", parts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3; `scripts/setup test` installs it");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let address = line.trim().replace(' ', ":");
        let mut create = TcpStream::connect(&address).expect("it listens");
        let request = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=id/20261201/us-east-1/s3/aws4_request\r\n\
             content-length: 0\r\n\r\n"
        );
        create.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        create.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Some((Self(child), format!("http://{address}")))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn an_object_store_of_others_takes_and_gives_back_copies() {
    let Some((_moto, url)) = Moto::start() else { return };
    let keys = tempfile::tempdir().expect("a folder");
    let mut host = Host::at_url(&url, &keys);
    host.seal(3);
    assert_eq!(length(&done(host.archive())["copied"]), 3);
    assert_eq!(length(&done(host.archive())["copied"]), 0);
    assert_eq!(length(&done(prune(&host, &[]))["pruned"]), 2);
    assert_eq!(length(&host.api().get("/journal?limit=1").done()["facts"]), 1);
    assert!(host.run(&["journal", "verify"]).status.success());
    let back = done(host.run(&["journal", "restore", "--pruned", "--json"]));
    assert_eq!(length(&back["files"]), 2);
    host.daemon.prove_journal();
}

/// Runs DuckDB's recipe of the documentation in a folder; none, with a message, where the setup
/// could not fetch DuckDB.
fn in_duckdb(folder: &Path) -> Option<Value> {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/duckdb");
    if !parts.join("duckdb").is_dir() {
        say("DuckDB NOT RUN: it is not in target/duckdb; `scripts/setup test` fetches it");
        return None;
    }
    let text = include_str!("../../../docs/journal-format.md");
    let (_, rest) = text.split_once("```sql duckdb\n").expect("a recipe");
    let (query, _) = rest.split_once("```").expect("its end");
    let program = "import duckdb, json, sys\n\
                   rows = duckdb.sql(sys.argv[1]).fetchall()\n\
                   print(json.dumps([[one, phase, str(ns)] for one, phase, ns in rows]))";
    let mut python = Command::new("python3");
    let python = python.args(["-c", program, query]).env("PYTHONPATH", parts).current_dir(folder);
    Some(done(python.output().expect("python3; `scripts/setup test` installs it")))
}

#[test]
fn the_time_in_segments_is_summed_in_duckdb() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut host = Host::with(&folder.path().display().to_string(), &[]);
    let import = json!({"name": "tiny", "kernel": guest::tiny(), "memory_bytes_min": 16 << 20});
    host.api().post("/images", &import).done();
    let mut expected = Vec::new();
    for name in ["web", "db"] {
        let id = host.api().create_running(name);
        host.api().command(&id, "standby");
        host.api().command(&id, "restore");
        host.api().delete(&format!("/instances/{id}")).done();
        let mut sums = std::collections::BTreeMap::new();
        for piece in host.api().check_time(&id) {
            let phase = piece["phase"].as_str().expect("a phase").to_owned();
            *sums.entry(phase).or_insert(0) += piece["duration_ns"].as_i64().expect("a length");
        }
        // Time between two facts at one instant is none, which a sum has and an account has not.
        let sums = sums.into_iter().filter(|(_, ns)| *ns > 0);
        expected.extend(sums.map(|(phase, ns)| json!([id, phase, ns.to_string()])));
        host.api().post("/journal/segments", &json!({})).done();
    }
    assert!(host.segments().len() >= 2);
    let Some(found) = in_duckdb(host.daemon.folder()) else { return };
    let mut found = found.as_array().expect("rows").clone();
    found.retain(|row| row[2] != "0");
    expected.sort_by_key(|row| (row[0].to_string(), row[1].to_string()));
    assert_eq!(found, expected);
    host.daemon.stop();
}
