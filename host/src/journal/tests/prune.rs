//! Segments that leave the data folder, at each step of it, and reading them afterwards.

use super::super::segment::FOLDER;
use super::archive::{A, Double, Doubles, Fault, Sealed, put, sealed};
use super::segments::{FACTS_MAX, answers, drivers, files, live};
use super::*;
use crate::causes::in_words;

/// A sealed journal with copies of all segments, and what it reads them with.
async fn archived() -> (Sealed, Arc<Double>, Arc<Doubles>) {
    let sealed = sealed().await;
    let store = Double::at(A);
    sealed.archive(&store).await.unwrap();
    let stores = Arc::new(Doubles(vec![store.clone()]));
    sealed.journal.reach(stores.clone());
    (sealed, store, stores)
}

fn before(before: Instant, needs: Vec<Need>) -> Pruning {
    Pruning { before, needs, by: Actor::Operator }
}

fn all() -> Pruning {
    before(Instant(i64::MAX), Vec::new())
}

async fn prune(sealed: &Sealed, store: &Arc<Double>, asked: Pruning) -> PrunedSegments {
    sealed.journal.prune_segments(store.clone(), asked, usize::MAX).await.unwrap()
}

/// Names of the files of segments, and the number of facts that one leaves.
fn left(sealed: &Sealed) -> (usize, usize) {
    let kind = Some(Kind::SegmentPruned);
    let told = super::segments::pages(&sealed.journal, &FactQuery { kind, ..FactQuery::default() });
    (files(&sealed.folder).len(), told.len())
}

#[tokio::test]
async fn what_is_pruned_is_answered_proved_and_put_back_as_before() {
    let (sealed, store, stores) = archived().await;
    let would = sealed.journal.prunable(A, &all()).unwrap();
    assert_eq!(would.iter().filter(|one| one.stays.is_none()).count(), 2);
    assert!(would.iter().all(|one| one.archived_ns.is_some()));
    let some = sealed.journal.prune_segments(store.clone(), all(), 1).await.unwrap();
    assert_eq!((some.pruned, some.left), (sealed.made[..1].to_vec(), 1));
    let rest = prune(&sealed, &store, all()).await;
    assert_eq!((rest.pruned, rest.left), (sealed.made[1..2].to_vec(), 0));
    assert!(rest.stay[0].1.contains("the last segment"), "{:?}", rest.stay);
    assert_eq!(left(&sealed), (1, 2));
    assert_eq!(sealed.again(), sealed.before);
    let listed = sealed.journal.segments().unwrap();
    assert_eq!(listed.iter().filter(|one| one.is_pruned && !one.is_here).count(), 2);

    // Life goes on, and is sealed behind it.
    let (journal, opened) = reopened(sealed.journal, sealed.folder.path());
    journal.reach(stores.clone());
    let mut more: Vec<Driver> = drivers(&opened.clock);
    more.iter_mut().for_each(|driver| driver.id = format!("{}x", driver.id).parse().unwrap());
    live(&journal, &opened.clock, &mut more, 0..9).await;
    journal.seal_by(None, FACTS_MAX).await.unwrap();
    assert_eq!(answers(&journal, sealed.head, sealed.now), sealed.before);
    drop(journal);
    let folder = sealed.folder.path();
    verify_reaching(folder, &[], Some(stores.clone()), |_, _| {}).unwrap();
    let back = restore_segments(folder, &*stores, put(false, false), |_, _| ()).unwrap();
    assert_eq!((back.files.len(), back.pruned), (0, 2));
    let back = restore_segments(folder, &*stores, put(true, false), |_, _| ()).unwrap();
    assert_eq!((back.files.len(), back.failed), (2, Vec::new()));
    verify(folder, |_, _| {}).unwrap();
}

fn reopened(journal: Journal, folder: &Path) -> (Journal, Opened) {
    drop(journal);
    open(folder)
}

#[tokio::test]
async fn each_refusal_says_why_and_nothing_leaves() {
    let (sealed, store, _) = archived().await;
    let middle = Instant(sealed.made[1].recorded_ns);
    let old = prune(&sealed, &store, before(Instant(sealed.made[0].recorded_ns), Vec::new())).await;
    assert_eq!(old, PrunedSegments::default());
    // A need of a part is a need of all behind it.
    let need = Need { from: middle, reason: "tenant 'acme' has an open period".into() };
    let needed = before(Instant(i64::MAX), vec![need.clone()]);
    let would = sealed.journal.prunable(A, &needed).unwrap();
    let reasons: Vec<_> = would.iter().map(|one| one.stays.as_deref()).collect();
    assert_eq!(reasons, [None, Some(need.reason.as_str()), Some(need.reason.as_str())]);
    // Another store has no copy.
    let other = Double::at("s3://b");
    let none = prune(&sealed, &other, all()).await;
    assert!(none.pruned.is_empty() && none.stay.len() == 3, "{none:?}");
    assert!(none.stay[0].1.contains("`tallyman journal archive` makes one"));
    assert_eq!(left(&sealed), (3, 0));
}

/// A copy is read once more before its segment leaves.
#[tokio::test]
async fn a_copy_that_is_not_what_it_was_keeps_its_segment_here() {
    let (sealed, store, _) = archived().await;
    store.alter(|objects| {
        let mut copies = objects.iter_mut().filter(|(name, _)| name.ends_with(".parquet"));
        copies.next().unwrap().1[9] ^= 1;
        copies.next().unwrap().1.pop();
    });
    let done = prune(&sealed, &store, all()).await;
    assert!(done.pruned.is_empty(), "{done:?}");
    let words: Vec<_> = done.stay.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(
        words.iter().filter(|words| words.contains("has other bytes")).count() == 2,
        "{words:?}"
    );
    assert_eq!(left(&sealed), (3, 0));
    assert_eq!(sealed.again(), sealed.before);
}

/// The states that a kill leaves between the steps: the fact is written, its file is still there;
/// or a file is put back that a fact says has left.
#[tokio::test]
async fn pruning_that_was_interrupted_goes_on() {
    let (sealed, store, stores) = archived().await;
    let kept: Vec<_> = files(&sealed.folder)
        .into_iter()
        .map(|file| (file.clone(), std::fs::read(file).unwrap()))
        .collect();
    prune(&sealed, &store, all()).await;
    for (file, bytes) in &kept {
        std::fs::write(file, bytes).unwrap();
    }
    let (journal, _) = reopened(sealed.journal, sealed.folder.path());
    journal.reach(stores.clone());
    let sealed = Sealed { journal, ..sealed };
    assert_eq!(sealed.again(), sealed.before);
    assert_eq!(left(&sealed), (3, 2));
    // The store is asked again, also now.
    let first = sealed.told()[0].clone();
    let mut good = Vec::new();
    store.alter(|objects| good = objects.remove(&first).unwrap());
    let done = prune(&sealed, &store, all()).await;
    assert_eq!(done.pruned, sealed.made[1..2]);
    assert!(done.stay.iter().any(|(_, reason)| reason.contains("is not in s3://a/facts any more")));
    store.alter(|objects| drop(objects.insert(first, good)));
    assert_eq!(prune(&sealed, &store, all()).await.pruned, sealed.made[..1]);
    assert_eq!(left(&sealed), (1, 2));
    assert_eq!(sealed.again(), sealed.before);
    drop(sealed.journal);
    verify_reaching(sealed.folder.path(), &[], Some(stores), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_pruned_segment_that_can_not_be_had_is_named() {
    let (sealed, store, _) = archived().await;
    prune(&sealed, &store, all()).await;
    let folder = sealed.folder.path();
    let (journal, _) = reopened(sealed.journal, folder);
    let id = "a".parse().unwrap();
    let words = in_words(&journal.history(&id).unwrap_err());
    assert!(words.contains("restore --pruned"), "{words}");
    // Nobody is asked for what lies in the segments that are here.
    let last = sealed.made[2].first;
    journal.history_after(&id, last).unwrap();
    let late = journal.archive().history_between(&id, 1, Instant(i64::MIN)).unwrap();
    assert!(late.iter().all(|(seq, _)| *seq >= last), "{late:?}");
    store.will(0, Fault::Down);
    assert_eq!(std::fs::read_dir(folder.join(FOLDER)).unwrap().count(), 1);
}

/// A backup leaves in the archive what lies there alone, and says how much that is.
#[tokio::test]
async fn a_backup_of_a_pruned_journal_needs_no_archive() {
    let (sealed, store, stores) = archived().await;
    let copies = TempDir::new().unwrap();
    prune(&sealed, &store, all()).await;
    let copy = copies.path().join("copy.db");
    let copied = backup(sealed.folder.path(), &copy).unwrap();
    assert_eq!((copied.head, copied.unread), (sealed.journal.head(), sealed.made[1].last));
    let lost = loss(&copy, sealed.folder.path(), LostLog::Refused).unwrap();
    assert!(lost.continues && lost.facts == 0, "{lost:?}");
    let new = TempDir::new().unwrap();
    restore(&copy, new.path(), LostLog::Refused).unwrap();
    let (journal, _) = open(new.path());
    journal.reach(stores.clone());
    assert_eq!(answers(&journal, sealed.head, sealed.now), sealed.before);
    drop(journal);
    verify_reaching(new.path(), &[], Some(stores), |_, _| {}).unwrap();
    // A link between what is there and what is not is proved all the same.
    let sql = "UPDATE segment SET before = zeroblob(32) WHERE first > 1";
    rusqlite::Connection::open(&copy).unwrap().execute(sql, []).unwrap();
    let refused = loss(&copy, new.path(), LostLog::Refused).unwrap_err();
    assert!(matches!(refused, BackupError::Source { .. }), "{refused:?}");
}
