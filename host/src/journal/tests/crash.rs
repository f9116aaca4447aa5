//! Crashes and full disks.
//!
//! Both need a process of their own: the test starts its own binary again, with itself as the only
//! test and a variable that says what to do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command as Process, Stdio};

use super::super::open;
use super::*;

const PART: &str = "TALLYMAN_TEST_JOURNAL_FOLDER";

/// The folder to work in, in the process that a test has started.
fn part() -> Option<PathBuf> {
    std::env::var_os(PART).map(PathBuf::from)
}

fn this_test(name: &str) -> [String; 4] {
    [
        format!("journal::tests::crash::{name}"),
        "--exact".into(),
        "--nocapture".into(),
        "--test-threads=1".into(),
    ]
}

/// Commits without end from several tasks and prints each receipt.
async fn commit_for_ever(folder: &Path) {
    let (journal, opened) = open(folder);
    let round = opened.head.seq;
    let instances = (0..8).map(|n| {
        let mut driver = Driver::new(&format!("i{n}-{round}"), &opened.clock);
        let journal = &journal;
        async move {
            driver.commit(journal, [entered(Phase::Created), entered(Phase::Initializing)]).await;
            loop {
                for (phase, durability) in
                    [(Phase::Running, Durability::Written), (Phase::Paused, Durability::Synced)]
                {
                    let receipt = journal
                        .commit(Entry { durability, ..driver.entry([entered(phase)]) })
                        .await
                        .unwrap();
                    driver.take(&receipt);
                    let line = format!("acknowledged {} {}\n", receipt.head.seq, receipt.head.hash);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            }
        }
    });
    let _never: Vec<std::convert::Infallible> = join_all(instances).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    if let Some(folder) = part() {
        return commit_for_ever(&folder).await;
    }
    let folder = TempDir::new().unwrap();
    for lines in [1, 7, 40, 133, 300] {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(this_test("what_was_acknowledged_survives_a_kill_at_any_moment"))
            .env(PART, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, head)) = line.split_once("acknowledged ") {
                // A line that was being written when the end came has no whole hash.
                let (seq, hash) = head.split_once(' ').unwrap_or((head, ""));
                if hash.len() == 64 {
                    acknowledged.push((seq.parse::<u64>().unwrap(), hash.to_owned()));
                }
            }
            if acknowledged.len() == lines {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= lines, "the child ended by itself");

        let (journal, opened) = open(folder.path());
        let (last, hash) = acknowledged.iter().max().unwrap();
        assert!(opened.head.seq >= *last);
        let query = FactQuery { after: last - 1, through: Some(*last), ..FactQuery::default() };
        assert_eq!(journal.facts(&query).unwrap().facts[0].hash, *hash);
        assert_eq!(verify(folder.path(), |_, _| {}).unwrap().head, opened.head);
    }
}

#[tokio::test]
async fn a_sync_that_fails_is_not_tried_again_and_nothing_is_acknowledged_after_it() {
    let folder = TempDir::new().unwrap();
    let (mut writer, requests, opened) =
        open::writer(folder.path(), Options::default(), Arc::new(Ledger::default())).unwrap();
    // What can't be synced at all.
    writer.log = std::fs::File::open("/dev/null").unwrap();
    let journal = open::start(writer, requests, folder.path()).unwrap();
    for _ in 0..2 {
        let refused = journal.commit(host_fact(&opened.clock)).await.unwrap_err();
        assert!(
            matches!(&refused, CommitError::Failed { reason } if reason.contains("can't sync")),
            "{refused:?}"
        );
    }
    assert_eq!(journal.head(), opened.head);
    assert!(journal.failed().await.contains("can't sync"));
}

#[tokio::test]
async fn a_full_database_refuses_and_keeps_what_it_has() {
    let folder = TempDir::new().unwrap();
    let options = Options { pages_max: Some(64), ..Options::default() };
    let (journal, opened) =
        Journal::open(folder.path(), options, Arc::new(Ledger::default())).unwrap();
    let mut last = Head::EMPTY;
    let refused = loop {
        match journal.commit(host_fact(&opened.clock)).await {
            Ok(receipt) => last = receipt.head,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, CommitError::NoSpace(_)), "{refused:?}");
    assert_eq!(journal.head(), last);
    journal.prove_alive().await.unwrap();
    drop(journal);
    assert_eq!(verify(folder.path(), |_, _| {}).unwrap().head, last);
}

/// Fills the file system around the journal, and gives the space back.
async fn fill_and_free(folder: &Path) {
    let data = folder.join("data");
    let (journal, opened) = open(&data);
    let mut driver = Driver::new("a", &opened.clock);
    driver.commit(&journal, [entered(Phase::Created), entered(Phase::Initializing)]).await;
    for round in 0..3 {
        let filler = folder.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        drop(file);
        let mut last = journal.head();
        let mut committed = 0;
        let refused = loop {
            let phase = if committed % 2 == 0 { Phase::Running } else { Phase::Paused };
            match journal.commit(driver.entry([entered(phase)])).await {
                Ok(receipt) => {
                    driver.take(&receipt);
                    (last, committed) = (receipt.head, committed + 1);
                }
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, CommitError::NoSpace(_)), "round {round}: {refused:?}");
        assert_eq!(journal.head(), last);
        std::fs::remove_file(&filler).unwrap();
        let receipt =
            driver.commit(&journal, [entered(Phase::Stopped), entered(Phase::Created)]).await;
        assert_eq!(receipt.first_seq, last.seq + 1, "nothing of what was refused has a number");
        driver.commit(&journal, [entered(Phase::Initializing)]).await;
    }
    let head = journal.head();
    drop(journal);
    assert_eq!(verify(&data, |_, _| {}).unwrap().head, head);
    println!("filled and freed");
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_journal_goes_on_once_there_is_space() {
    if let Some(folder) = part() {
        return fill_and_free(&folder).await;
    }
    let folder = TempDir::new().unwrap();
    let script = format!(r#"mount -t tmpfs -o size=1m,mode=700 tmpfs "${PART}" && exec "$0" "$@""#);
    let output = Process::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(this_test("a_full_disk_refuses_and_the_journal_goes_on_once_there_is_space"))
        .env(PART, folder.path())
        .output()
        .expect("this test needs `unshare` (package util-linux)");
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let why = "this test mounts a small file system in a namespace of its own; allow unprivileged \
               user namespaces, or run as root";
    assert!(output.status.success() && told.contains("filled and freed"), "{why}\n{told}");
}

/// Commits until a write fails.
async fn commit_until_an_error(folder: &Path) {
    let (journal, opened) = open(folder);
    let refused = loop {
        match journal.commit(host_fact(&opened.clock)).await {
            Ok(receipt) => println!("acknowledged {} {}", receipt.head.seq, receipt.head.hash),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, CommitError::Failed { .. }), "{refused:?}");
    let again = journal.commit(host_fact(&opened.clock)).await.unwrap_err();
    assert!(
        matches!(again, CommitError::Failed { .. }),
        "a failed write is not tried again: {again:?}"
    );
    println!("failed with {}", journal.failed().await);
}

#[tokio::test]
async fn a_write_that_fails_ends_the_journal_and_loses_nothing_acknowledged() {
    if let Some(folder) = part() {
        return commit_until_an_error(&folder).await;
    }
    let folder = TempDir::new().unwrap();
    // A file that may not grow is an error of the disk to the engine, not a full one.
    let output = Process::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 1000; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(this_test("a_write_that_fails_ends_the_journal_and_loses_nothing_acknowledged"))
        .env(PART, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("failed with can't write: disk I/O error"),
        "{told}"
    );
    let last = told.lines().rev().find_map(|line| line.strip_prefix("acknowledged ")).unwrap();
    let (seq, hash) = last.split_once(' ').unwrap();
    let seq: u64 = seq.parse().unwrap();
    let (journal, opened) = open(folder.path());
    assert!(opened.head.seq >= seq);
    let query = FactQuery { after: seq - 1, through: Some(seq), ..FactQuery::default() };
    assert_eq!(journal.facts(&query).unwrap().facts[0].hash, hash);
    assert_eq!(verify(folder.path(), |_, _| {}).unwrap().head, opened.head);
}
