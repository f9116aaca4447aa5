//! Backups, restores, and incomplete files.

use std::fs;

use super::super::{log, schema};
use super::*;

fn opening(folder: &Path) -> Result<(Journal, Opened), OpenError> {
    Journal::open(folder, Options::default(), Arc::new(Ledger::default()))
}

/// An open journal with some facts.
async fn running() -> (TempDir, Journal, Driver) {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    driver.commit(&journal, [entered(Phase::Created), entered(Phase::Initializing)]).await;
    (folder, journal, driver)
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join(schema::FILE)
}

#[tokio::test]
async fn a_copy_taken_while_it_runs_is_whole_and_can_be_put_back() {
    let (folder, journal, mut driver) = running().await;
    let elsewhere = TempDir::new().unwrap();
    let copy = elsewhere.path().join("journal.db");
    let copied = backup(folder.path(), &copy).unwrap();
    assert_eq!(copied, Verified { head: journal.head(), instances: 1, unread: 0 });
    driver.commit(&journal, [entered(Phase::Running)]).await;
    let again = backup(folder.path(), &copy);
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");

    let empty = TempDir::new().unwrap();
    let data = empty.path().join("data");
    assert_eq!(restore(&copy, &data, LostLog::Refused).unwrap(), copied);
    assert_eq!(verify(&data, |_, _| {}).unwrap(), copied);
    let (restored, opened) = opening(&data).unwrap();
    assert_eq!((opened.head, opened.instances.len()), (copied.head, 1));
    drop(restored);
    let again = restore(&copy, &data, LostLog::Refused);
    assert!(matches!(again, Err(BackupError::NotEmpty(_))), "{again:?}");
    let in_use = restore(&copy, folder.path(), LostLog::Refused);
    assert!(matches!(in_use, Err(BackupError::Folder(OpenError::InUse { .. }))), "{in_use:?}");
    let left: Vec<_> =
        fs::read_dir(elsewhere.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["journal.db"], "one file, and nothing of the work is left");
}

#[tokio::test]
async fn what_a_restore_would_lose_is_told_before() {
    let (folder, journal, mut driver) = running().await;
    let elsewhere = TempDir::new().unwrap();
    let copy = elsewhere.path().join("journal.db");
    let copied = backup(folder.path(), &copy).unwrap().head;
    driver.commit(&journal, [entered(Phase::Running)]).await;
    let clock = driver.clock.clone();
    Driver::new("b", &clock).commit(&journal, [entered(Phase::Created)]).await;
    let lost = loss(&copy, folder.path(), LostLog::Refused).unwrap();
    let place = Some(journal.head());
    assert_eq!(
        lost,
        Loss { copy: copied, place, continues: true, facts: 2, instances: vec!["b".into()] }
    );

    let nothing = loss(&copy, &elsewhere.path().join("new"), LostLog::Refused).unwrap();
    assert_eq!((nothing.place, nothing.facts), (None, 0));
    let (other, journal, _) = running().await;
    let lost = loss(&copy, other.path(), LostLog::Refused).unwrap();
    assert_eq!((lost.continues, lost.facts, lost.instances.len()), (false, journal.head().seq, 1));
}

#[tokio::test]
async fn a_file_without_the_log_that_it_needs_is_refused() {
    let (folder, journal, mut driver) = running().await;
    let main_alone = TempDir::new().unwrap();
    fs::copy(file(&folder), file(&main_alone)).unwrap();
    for emptied in [false, true] {
        if emptied {
            fs::write(log::path_of(&file(&main_alone)), "").unwrap();
        }
        let refused = opening(main_alone.path());
        assert!(matches!(&refused, Err(OpenError::LogMissing { .. })), "{refused:?}");
        let refused = verify(main_alone.path(), |_, _| {});
        assert!(matches!(&refused, Err(VerifyError::LogMissing { .. })), "{refused:?}");
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("tallyman.db-wal") && told.contains("--accept-lost-log"), "{told}");
    }
    let data = TempDir::new().unwrap();
    let refused = restore(&file(&main_alone), data.path(), LostLog::Refused);
    assert!(matches!(refused, Err(BackupError::Source { .. })), "{refused:?}");
    let accepted = restore(&file(&main_alone), data.path(), LostLog::Accepted).unwrap();
    assert!(
        accepted.head.seq < journal.head().seq,
        "what was in the log is lost, and the answer says how far it goes"
    );

    let head = driver.commit(&journal, [entered(Phase::Running)]).await.head;
    journal.close().await.unwrap();
    assert_eq!(
        fs::metadata(log::path_of(&file(&folder))).unwrap().len(),
        0,
        "a clean stop empties the log"
    );
    let alone = TempDir::new().unwrap();
    fs::copy(file(&folder), file(&alone)).unwrap();
    assert_eq!(verify(alone.path(), |_, _| {}).unwrap().head, head);
    let refused = journal.commit(host_fact(&driver.clock)).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Failed { reason } if reason.contains("closed")),
        "{refused:?}"
    );
}

#[test]
fn what_holds_no_journal_is_refused_and_left_alone() {
    let without_tables = |folder: &TempDir| {
        rusqlite::Connection::open(file(folder))
            .unwrap()
            .execute_batch("CREATE TABLE x (y); DROP TABLE x")
            .unwrap();
    };
    let empty = |folder: &TempDir| fs::write(file(folder), "").unwrap();
    let log_alone = |folder: &TempDir| fs::write(log::path_of(&file(folder)), "log").unwrap();
    type Row<'a> = (&'a str, &'a dyn Fn(&TempDir));
    let rows: [Row<'_>; 3] = [
        ("is empty", &empty),
        ("is a database without tables", &without_tables),
        ("is missing, and its log is there", &log_alone),
    ];
    for (problem, make) in rows {
        let folder = TempDir::new().unwrap();
        make(&folder);
        let before = fs::read(file(&folder)).ok();
        let refused = opening(folder.path()).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains(problem) && told.contains("tallyman restore"), "{told}");
        assert_eq!(fs::read(file(&folder)).ok(), before, "{problem}");
    }
}

#[tokio::test]
async fn another_program_that_holds_the_database_makes_it_wait_and_no_more() {
    let folder = TempDir::new().unwrap();
    let options = Options { busy: Some(Duration::from_millis(1)), ..Options::default() };
    let (journal, opened) =
        Journal::open(folder.path(), options, Arc::new(Ledger::default())).unwrap();
    let auditor = rusqlite::Connection::open(journal.path()).unwrap();
    auditor.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut commit = Box::pin(journal.commit(host_fact(&opened.clock)));
    assert!(poll!(&mut commit).is_pending());
    while !journal.is_waiting() {
        tokio::task::yield_now().await;
    }
    assert!(poll!(&mut commit).is_pending());
    auditor.execute_batch("ROLLBACK").unwrap();
    assert_eq!(commit.await.unwrap().head.seq, 1);
    assert!(!journal.is_waiting());

    auditor.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut late = Box::pin(journal.commit(host_fact(&opened.clock)));
    assert!(poll!(&mut late).is_pending());
    let (late, closed) = tokio::join!(late, journal.close());
    assert!(late.is_err() && closed.is_err(), "a stop waits for nobody: {late:?} {closed:?}");
}
