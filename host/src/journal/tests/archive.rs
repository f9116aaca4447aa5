//! Copies of segments in a store, and what a store may do wrong.

use std::collections::BTreeMap;

use super::super::segment::FOLDER;
use super::segments::{Answers, FACTS_MAX, answers, drivers, files, live, pages};
use super::*;
use crate::id::HostName;

/// A store in memory that does what it is told.
#[derive(Debug)]
pub(super) struct Double {
    address: &'static str,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The fault of the creation after so many others.
    fault: Mutex<Option<(usize, Fault)>>,
}

/// Something that a store does wrong, once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It does not answer, and has taken nothing.
    Down,
    /// Its answer is lost; it has taken the object.
    Late,
    /// It says that it has taken the object, and has not.
    Loses,
    /// It keeps other bytes.
    Changes,
    /// It keeps fewer bytes.
    Shortens,
    /// It keeps the object twice, one behind the other.
    Doubles,
    /// It takes the object under the name of another one.
    Misplaces,
    /// It refuses the keys.
    Refuses,
}

pub(super) const A: &str = "s3://a/facts";

impl Double {
    pub(super) fn at(address: &'static str) -> Arc<Self> {
        Arc::new(Self { address, objects: Mutex::default(), fault: Mutex::default() })
    }

    pub(super) fn will(&self, after: usize, fault: Fault) {
        *self.fault.lock().unwrap() = Some((after, fault));
    }

    /// The fault of this creation.
    fn due(&self) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap();
        match fault.take()? {
            (0, due) => Some(due),
            (after, later) => {
                *fault = Some((after - 1, later));
                None
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub(super) fn alter(&self, alter: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        alter(&mut self.objects.lock().unwrap());
    }
}

impl CopyStore for Double {
    fn address(&self) -> &str {
        self.address
    }

    fn create(&self, object: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let due = self.due();
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(object) {
            return Ok(());
        }
        let mut put = |name: &str, bytes: &[u8]| drop(objects.insert(name.into(), bytes.into()));
        match due {
            None => put(object, bytes),
            Some(Fault::Down) => return Err(StoreError::Away("no route".into())),
            Some(Fault::Refuses) => return Err(StoreError::Refused("wrong keys".into())),
            Some(Fault::Late) => {
                put(object, bytes);
                return Err(StoreError::Away("no answer within 5 ms".into()));
            }
            Some(Fault::Loses) => {}
            Some(Fault::Changes) => {
                let mut other = bytes.to_vec();
                other[bytes.len() / 2] ^= 1;
                put(object, &other);
            }
            Some(Fault::Shortens) => put(object, &bytes[..bytes.len() - 1]),
            Some(Fault::Doubles) => put(object, &bytes.repeat(2)),
            Some(Fault::Misplaces) => put("somewhere/else", bytes),
        }
        Ok(())
    }

    fn read(&self, object: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.objects.lock().unwrap().get(object).cloned();
        match found {
            Some(bytes) if bytes.len() as u64 > bytes_max => {
                Err(StoreError::Length(bytes.len() as u64))
            }
            found => Ok(found),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let mut names = self.names();
        names.retain(|name| name.starts_with(&format!("{folder}/")));
        Ok(names)
    }
}

/// The stores that can be reached, the first of which is the configured one.
#[derive(Debug)]
pub(super) struct Doubles(pub(super) Vec<Arc<Double>>);

impl CopyStores for Doubles {
    fn own(&self) -> Option<Arc<dyn CopyStore>> {
        self.0.first().map(|own| own.clone() as Arc<dyn CopyStore>)
    }

    fn at(&self, address: &str) -> Result<Arc<dyn CopyStore>, StoreError> {
        match self.0.iter().find(|one| one.address == address) {
            Some(one) => Ok(one.clone()),
            None => Err(StoreError::Away("no such store".into())),
        }
    }
}

fn host() -> Option<HostName> {
    Some("h1".parse().unwrap())
}

/// A sealed journal, and its answers.
pub(super) struct Sealed {
    pub(super) folder: TempDir,
    pub(super) journal: Journal,
    pub(super) made: Vec<Segment>,
    pub(super) before: Answers,
    pub(super) head: u64,
    pub(super) now: Instant,
}

pub(super) async fn sealed() -> Sealed {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = drivers(&opened.clock);
    live(&journal, &opened.clock, &mut drivers, 0..25).await;
    let head = journal.head().seq;
    let now = opened.clock.now();
    let before = answers(&journal, head, now);
    let made = journal.seal_by(Some(now), FACTS_MAX).await.unwrap();
    assert_eq!(made.len(), 3);
    Sealed { folder, journal, made, before, head, now }
}

impl Sealed {
    pub(super) async fn archive(&self, store: &Arc<Double>) -> Result<Copied, ArchiveError> {
        self.journal.archive_segments(store.clone(), host(), usize::MAX).await
    }

    pub(super) fn told(&self) -> Vec<String> {
        let kind = Some(Kind::SegmentArchived);
        let facts = pages(&self.journal, &FactQuery { kind, ..FactQuery::default() });
        let object = |chained: &ChainedFact| match &chained.fact.what {
            What::SegmentArchived(told) => told.object.clone(),
            other => panic!("{other:?}"),
        };
        facts.iter().map(object).collect()
    }

    pub(super) fn again(&self) -> Answers {
        answers(&self.journal, self.head, self.now)
    }
}

#[tokio::test]
async fn each_segment_is_copied_once_under_a_name_that_says_what_it_is() {
    let sealed = sealed().await;
    let store = Double::at(A);
    let some = sealed.journal.archive_segments(store.clone(), host(), 2).await.unwrap();
    assert_eq!((some.made, some.left), (sealed.made[..2].to_vec(), 1));
    let rest = sealed.archive(&store).await.unwrap();
    assert_eq!((rest.made, rest.left), (sealed.made[2..].to_vec(), 0));
    assert_eq!(sealed.archive(&store).await.unwrap(), Copied::default());
    let name = |one: &Segment| format!("h1/{:012}-{:012}-{}", one.first, one.last, one.digest);
    let told: Vec<_> = sealed.made.iter().map(|one| format!("{}.parquet", name(one))).collect();
    assert_eq!(sealed.told(), told);
    let both = |one: &Segment| ["json", "parquet"].map(|end| format!("{}.{end}", name(one)));
    assert_eq!(store.names(), sealed.made.iter().flat_map(both).collect::<Vec<_>>());
    let manifest = store.read(&format!("{}.json", name(&sealed.made[1])), 1 << 20).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.unwrap()).unwrap();
    assert_eq!(manifest["before"], sealed.made[0].link.to_string());
    assert_eq!(manifest["link"], sealed.made[1].link.to_string());
    let listed = sealed.journal.segments().unwrap();
    assert!(listed.iter().all(|one| one.is_here && !one.is_pruned && one.copies.len() == 1));

    // A journal of no name is called after its first fact; another store gets copies of its own.
    let other = Double::at("s3://b");
    sealed.journal.archive_segments(other.clone(), None, usize::MAX).await.unwrap();
    let first = &sealed.before.facts[0].hash[..12];
    assert!(other.names()[0].starts_with(&format!("journal-{first}/")), "{:?}", other.names());
    assert_eq!(sealed.told().len(), 6);
    assert_eq!(sealed.again(), sealed.before);
    drop(sealed.journal);
    verify(sealed.folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_store_that_does_wrong_is_named_and_nothing_is_lost() {
    let rows = [
        (Fault::Down, Some("s3://a/facts failed at h1/"), true),
        (Fault::Refuses, Some("wrong keys"), true),
        (Fault::Late, None, true),
        (Fault::Loses, Some("said that it took h1/"), true),
        (Fault::Misplaces, Some("said that it took h1/"), true),
        (Fault::Changes, Some("other bytes under the name h1/"), false),
        (Fault::Shortens, Some("other bytes under the name h1/"), false),
        (Fault::Doubles, Some("other bytes under the name h1/"), false),
    ];
    for (fault, named, heals) in rows {
        // At a segment and at a manifest, each in the middle of the work.
        for after in [2, 3] {
            one_that_does_wrong(after, fault, named, heals).await;
        }
    }
}

/// A store that does one thing wrong at a creation: `named` is said of it, and it `heals` if the
/// next call succeeds.
async fn one_that_does_wrong(after: usize, fault: Fault, named: Option<&str>, heals: bool) {
    let sealed = sealed().await;
    let store = Double::at(A);
    store.will(after, fault);
    let copied = sealed.archive(&store).await.map_err(|error| {
        let words = crate::causes::in_words(&error);
        assert!(named.is_some_and(|named| words.contains(named)), "{fault:?}: {words}");
    });
    assert_eq!(copied.is_ok(), named.is_none(), "{fault:?}");
    assert_eq!(sealed.told().len(), if named.is_none() { 3 } else { 1 });
    assert_eq!(files(&sealed.folder).len(), 3);
    assert_eq!(sealed.again(), sealed.before);
    if !heals {
        // It is not trusted the next time either, until what is wrong was moved away.
        sealed.archive(&store).await.unwrap_err();
        assert_eq!(sealed.told().len(), 1, "{fault:?}");
        let other = Double::at("s3://b");
        sealed.archive(&other).await.unwrap();
        let right = other.objects.lock().unwrap().clone();
        store.alter(|objects| objects.retain(|name, bytes| right.get(name) == Some(bytes)));
    }
    sealed.archive(&store).await.unwrap();
    assert_eq!(sealed.told().len(), if heals { 3 } else { 6 }, "{fault:?}");
    assert_eq!(sealed.archive(&store).await.unwrap(), Copied::default());
    drop(sealed.journal);
    verify(sealed.folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_host_does_not_write_under_the_name_of_another_one() {
    let store = Double::at(A);
    let one = sealed().await;
    one.archive(&store).await.unwrap();
    let objects = store.names();
    let other = sealed().await;
    let refused = other.archive(&store).await.unwrap_err();
    assert!(matches!(refused, ArchiveError::OtherJournal { first: 1, last: 100, .. }), "{refused}");
    assert_eq!((store.names(), other.told()), (objects, Vec::new()));
    let named = Some("h2".parse().unwrap());
    other.journal.archive_segments(store.clone(), named, usize::MAX).await.unwrap();
    assert_eq!(other.told().len(), 3);
}

pub(super) fn put(pruned: bool, dry_run: bool) -> Put {
    Put { pruned, dry_run }
}

#[tokio::test]
async fn files_that_are_gone_are_read_from_copies() {
    let sealed = sealed().await;
    let a = Double::at(A);
    let b = Double::at("s3://b");
    sealed.archive(&a).await.unwrap();
    sealed.archive(&b).await.unwrap();
    let folder = sealed.folder.path().join(FOLDER);
    std::fs::remove_dir_all(&folder).unwrap();
    drop(sealed.journal);
    let (journal, _) = open(sealed.folder.path());
    // Nobody has said how to reach the store.
    let id = "a".parse().unwrap();
    let words = crate::causes::in_words(&journal.history(&id).unwrap_err());
    assert!(words.contains("`tallyman journal restore --pruned`"), "{words}");
    let stores = Arc::new(Doubles(vec![a.clone(), b.clone()]));
    journal.reach(stores.clone());
    assert_eq!(answers(&journal, sealed.head, sealed.now), sealed.before);
    // The proof reads copies too, and so does what is moved: the configured store comes first.
    let moved = Arc::new(Doubles(vec![Double::at("s3://c"), b.clone()]));
    moved.0[0].alter(|objects| objects.extend(a.objects.lock().unwrap().clone()));
    b.alter(|objects| drop(objects.pop_last()));
    drop(journal);
    verify_reaching(sealed.folder.path(), &[], Some(moved), |_, _| {}).unwrap();
    let refused = verify(sealed.folder.path(), |_, _| {}).unwrap_err();
    assert!(matches!(refused, VerifyError::Elsewhere { .. }), "{refused:?}");
}

#[tokio::test]
async fn files_that_are_gone_are_put_back_from_the_first_copy_that_is_whole() {
    let sealed = sealed().await;
    let a = Double::at(A);
    let b = Double::at("s3://b");
    sealed.archive(&a).await.unwrap();
    sealed.archive(&b).await.unwrap();
    let whole: Vec<_> =
        files(&sealed.folder).iter().map(|file| std::fs::read(file).unwrap()).collect();
    let folder = sealed.folder.path().join(FOLDER);
    std::fs::remove_dir_all(&folder).unwrap();
    drop(sealed.journal);
    let stores = Doubles(vec![a.clone(), b]);
    // One copy is gone, another is not what it was, and has a good one elsewhere.
    let digests = |restored: &Restored| restored.files.len();
    a.alter(|objects| {
        objects.retain(|name, _| !name.contains("/000000000001-"));
        let altered = objects.iter_mut().find(|(name, _)| name.ends_with(".parquet")).unwrap();
        altered.1[100] ^= 1;
    });
    let back = restore_segments(sealed.folder.path(), &stores, put(false, true), |_, _| ());
    assert_eq!(digests(&back.unwrap()), 3);
    assert_eq!(files(&sealed.folder), [folder.join("restore.lock")]);
    let back = restore_segments(sealed.folder.path(), &stores, put(false, false), |_, _| ());
    let back = back.unwrap();
    assert_eq!((digests(&back), back.failed), (3, Vec::new()));
    std::fs::remove_file(folder.join("restore.lock")).unwrap();
    let again: Vec<_> =
        files(&sealed.folder).iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(again, whole);
    verify(sealed.folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_copy_that_is_another_object_is_named_and_never_read() {
    let sealed = sealed().await;
    let a = Double::at(A);
    sealed.archive(&a).await.unwrap();
    let told = sealed.told();
    let second = told[1].clone();
    let first = a.read(&told[0], 1 << 30).unwrap().unwrap();
    for file in files(&sealed.folder) {
        std::fs::remove_file(file).unwrap();
    }
    drop(sealed.journal);
    let (journal, _) = open(sealed.folder.path());
    let stores = Arc::new(Doubles(vec![a.clone()]));
    a.alter(|objects| drop(objects.insert(second.clone(), first)));
    journal.reach(stores.clone());
    let id = "a".parse().unwrap();
    let words = crate::causes::in_words(&journal.history(&id).unwrap_err());
    assert!(words.contains(&format!("has other bytes under the name {second}")), "{words}");
    let back = restore_segments(sealed.folder.path(), &*stores, put(false, false), |_, _| ());
    let back = back.unwrap();
    assert_eq!(back.files.len(), 2);
    let [(digest, reason)] = &back.failed[..] else { panic!("{back:?}") };
    assert_eq!(*digest, sealed.made[1].digest);
    assert!(reason.contains("their SHA-256 is") || reason.contains("of them"), "{reason}");
    let refused = verify_reaching(sealed.folder.path(), &[], Some(stores), |_, _| {}).unwrap_err();
    assert!(matches!(refused, VerifyError::Elsewhere { .. }), "{refused:?}");
}
