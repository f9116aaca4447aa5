//! Kills while an earlier version's journal is taken over.

use std::os::unix::process::ExitStatusExt;
use std::process::Command as Process;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::super::schema;
use super::super::wire::FactRecord;
use super::*;

const FOLDER: &str = "JOURNAL_TO_TAKE_OVER";
const BYTES: &str = "BYTES_UNTIL_THE_END";
const LIFE: [Phase; 5] =
    [Phase::Created, Phase::Initializing, Phase::Running, Phase::Paused, Phase::Running];
const NAME: &str = "journal::tests::upgrade::a_kill_at_any_write_of_a_migration_loses_nothing";

/// Opens a journal in a process that the kernel kills at the first write beyond so many bytes of a
/// file.
fn take_over(folder: &Path, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: None };
    setrlimit(Resource::Fsize, limit).unwrap();
    drop(open(folder));
}

/// True if it was taken over; false if the kernel has killed the process meanwhile.
fn is_taken_over_within(folder: &Path, bytes: u64) -> bool {
    let mut child = Process::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", NAME]).env(FOLDER, folder).env(BYTES, bytes.to_string());
    let output = child.output().unwrap();
    let killed = output.status.signal() == Some(rustix::process::Signal::XFSZ.as_raw());
    assert!(killed || output.status.success(), "{output:?}");
    !killed
}

/// A journal with lives, policies and prices of tenants, as the first version has it.
async fn of_the_first_version(folder: &Path) -> Vec<FactRecord> {
    let (journal, opened) = open(folder);
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    let activation = NewActivation::now(tenant(), Digest::of(b"one"), Actor::Operator);
    journal.commit(Entry { activation: Some(activation), ..Entry::default() }).await.unwrap();
    for number in 0..20 {
        let mut driver = Driver::new(&format!("i{number}"), &opened.clock);
        for phase in LIFE {
            driver.commit(&journal, [entered(phase)]).await;
        }
    }
    let facts = facts(&journal);
    journal.close().await.unwrap();
    drop(journal);
    let older = [TO_VERSION_8, TO_VERSION_3, TO_VERSION_1].concat();
    let db = rusqlite::Connection::open(folder.join(schema::FILE)).unwrap();
    db.execute_batch(&older).unwrap();
    schema::checkpoint(&db, "TRUNCATE").unwrap();
    facts
}

fn facts(journal: &Journal) -> Vec<FactRecord> {
    let page = journal.facts(&FactQuery::default()).unwrap();
    assert_eq!(page.next, None, "more than a page");
    page.facts.into_iter().map(|chained| chained.fact).collect()
}

#[tokio::test]
async fn a_kill_at_any_write_of_a_migration_loses_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let bytes = std::env::var(BYTES).unwrap().parse().unwrap();
        return take_over(Path::new(&folder), bytes);
    }
    let old = TempDir::new().unwrap();
    let before = of_the_first_version(old.path()).await;
    let mut kills = 0;
    // A frame of the log is a page and 24 bytes.
    for bytes in (0..).map(|frames: u64| 32 + frames * (4_096 + 24)) {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join(schema::FILE);
        std::fs::copy(old.path().join(schema::FILE), &database).unwrap();
        let is_done = is_taken_over_within(folder.path(), bytes);
        kills += u64::from(!is_done);
        let (journal, _) = open(folder.path());
        assert_eq!(facts(&journal)[..before.len()], before, "after a kill at {bytes} bytes");
        drop(journal);
        verify(folder.path(), |_, _| {}).unwrap();
        if is_done {
            break;
        }
    }
    assert!(kills > 10, "only {kills} kills");
}
