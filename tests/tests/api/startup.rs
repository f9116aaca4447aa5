//! A daemon that can't serve reports the reason in one line and ends.

use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use rusqlite::Connection;
use tallyman_tests::daemon::{Daemon, program};
use tempfile::TempDir;

use crate::{PROGRAM, daemon};

/// Output of `tallyman serve` with these arguments on `folder`; it must end with status 1 and one
/// line.
fn refused_with(folder: &Path, arguments: &[&str]) -> String {
    let mut command =
        program(Path::new(PROGRAM), &[&["serve", "--accelerator", "tcg"], arguments].concat());
    command.arg("--data").arg(folder).env("TALLYMAN_LOG", "off");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    let mut served = String::new();
    BufReader::new(child.stdout.take().expect("a pipe"))
        .read_line(&mut served)
        .expect("a line or the end");
    if !served.is_empty() {
        child.kill().expect("a child of ours");
    }
    let output = child.wait_with_output().expect("a child of ours");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!((served.as_str(), output.status.code()), ("", Some(1)), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("tallyman: "), "{said}");
    said
}

fn refused(folder: &Path) -> String {
    refused_with(folder, &["--listen", "127.0.0.1:0"])
}

/// A data folder that a stopped daemon left.
fn left() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("tallyman.db");
    let mut daemon = Daemon::on(PROGRAM, folder);
    daemon.stop();
    let copy = tempfile::tempdir().expect("a folder");
    // Opening and closing the database moves the log's content into it.
    Connection::open(&journal)
        .and_then(|db| db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"))
        .expect("a database");
    fs::copy(&journal, copy.path().join("tallyman.db")).expect("a copy");
    copy
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

#[test]
fn a_folder_in_use_is_refused_with_the_process_that_uses_it() {
    let daemon = daemon();
    let owner = fs::read_to_string(daemon.folder().join("lock")).expect("a lock");
    let said = refused(daemon.folder());
    assert_says(&said, &["in use", owner.trim(), &daemon.folder().display().to_string()]);
    daemon.api().get("/health").done();
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() {
    let daemon = daemon();
    let address = daemon.api().url.trim_start_matches("http://").to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    assert_says(
        &refused_with(folder.path(), &["--listen", &address]),
        &[&address, "--listen", "in use"],
    );
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let folder = left();
    let journal = folder.path().join("tallyman.db");
    Connection::open(&journal)
        .and_then(|db| db.pragma_update(None, "user_version", 9_999))
        .expect("a database");
    let before = fs::read(&journal).expect("a file");
    assert_says(&refused(folder.path()), &["9999", "newer"]);
    assert_eq!(fs::read(&journal).expect("a file"), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("tallyman.db");
    Connection::open(&journal)
        .and_then(|db| db.execute_batch("CREATE TABLE theirs (a)"))
        .expect("a database");
    let before = fs::read(&journal).expect("a file");
    assert_says(&refused(folder.path()), &["tallyman.db", "another program"]);
    assert_eq!(fs::read(&journal).expect("a file"), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("tallyman.db");
    fs::write(&journal, "dear diary, ".repeat(1000)).expect("a file");
    assert_says(&refused(folder.path()), &["damaged"]);
    assert!(fs::read_to_string(&journal).expect("a file").starts_with("dear diary"));
}

#[test]
fn an_altered_fact_is_refused_with_its_place() {
    let folder = left();
    let journal = folder.path().join("tallyman.db");
    let mut file = fs::File::options().read(true).write(true).open(&journal).expect("a file");
    let bytes = fs::read(&journal).expect("a file");
    let place =
        bytes.windows(12).position(|window| window == b"host-started").expect("the first fact");
    file.seek(SeekFrom::Start(place as u64)).expect("seek");
    file.write_all(b"h0st").expect("write");
    assert_says(&refused(folder.path()), &["damaged", "fact 1"]);
}

#[test]
fn without_qemu_the_daemon_says_how_to_get_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = refused_with(folder.path(), &["--listen", "127.0.0.1:0", "--qemu", "/nowhere/qemu"]);
    assert_says(&said, &["/nowhere/qemu", "install QEMU"]);
}

#[test]
fn plain_http_beyond_this_host_is_refused_unless_it_is_allowed_and_then_said_loudly() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = refused_with(folder.path(), &["--listen", "0.0.0.0:0"]);
    assert_says(&said, &["0.0.0.0:0", "--tls-cert", "127.0.0.1", "--allow-plain-http"]);
    assert!(!folder.path().join("tallyman.db").exists(), "nothing was begun");
    let mut daemon = Daemon::on(PROGRAM, folder);
    assert!(!daemon.said().contains("PLAIN HTTP"), "{}", daemon.said());
    daemon.stop();
    let mut command = daemon.command(&["serve", "--accelerator", "tcg", "--listen", "0.0.0.0:0"]);
    command.arg("--allow-plain-http").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run");
    let mut served = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut served).expect("a line");
    child.kill().expect("a child of ours");
    let said = child.wait_with_output().expect("a child of ours").stderr;
    assert!(served.contains("http://0.0.0.0:"), "{served}");
    assert_says(&String::from_utf8_lossy(&said), &["PLAIN HTTP", "0.0.0.0:"]);
}

#[test]
fn a_certificate_that_is_none_is_refused_with_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cert.pem");
    let file = file.to_str().expect("text");
    let call = ["--listen", "127.0.0.1:0", "--tls-cert", file, "--tls-key", file];
    assert_says(&refused_with(folder.path(), &call), &["cert.pem", "can't read"]);
    fs::write(file, "no certificate").expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("set");
    assert_says(&refused_with(folder.path(), &call), &["cert.pem", "no certificate in PEM"]);
}
