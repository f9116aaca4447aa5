//! Files that are torn, altered, foreign or too new.

use std::fs;

use rusqlite::{Connection, params};

use super::super::chain::encode_body;
use super::super::schema;
use super::super::writer::UNSYNCED_MAX;
use super::*;

/// A journal with two instances and a handful of facts, closed.
async fn folder_with_facts() -> TempDir {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut a = Driver::new("a", &opened.clock);
    let mut b = Driver::new("b", &opened.clock);
    a.commit(&journal, [entered(Phase::Created), entered(Phase::Initializing)]).await;
    b.commit(&journal, [entered(Phase::Created)]).await;
    a.commit(&journal, [entered(Phase::Running)]).await;
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    a.commit(&journal, [entered(Phase::Paused)]).await;
    drop(journal);
    folder
}

fn database(folder: &TempDir) -> Connection {
    Connection::open(folder.path().join(schema::FILE)).unwrap()
}

fn damage(folder: &Path) -> Damage {
    match verify(folder, |_, _| {}) {
        Err(VerifyError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

fn opening(folder: &Path) -> Result<(Journal, Opened), OpenError> {
    Journal::open(folder, Options::default(), Arc::new(Ledger::default()))
}

#[tokio::test]
async fn a_flipped_bit_in_any_byte_of_a_fact_is_found_at_its_place() {
    let folder = folder_with_facts().await;
    let db = database(&folder);
    db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    for seq in [1_i64, 6] {
        for column in ["hash", "body"] {
            let read = format!("SELECT CAST({column} AS BLOB) FROM fact WHERE seq = ?1");
            let kind = if column == "hash" { "BLOB" } else { "TEXT" };
            let write = format!("UPDATE fact SET {column} = CAST(?2 AS {kind}) WHERE seq = ?1");
            let good: Vec<u8> = db.query_row(&read, [seq], |row| row.get(0)).unwrap();
            for place in 0..good.len() {
                let mut bad = good.clone();
                bad[place] ^= 1 << (place % 8);
                db.execute(&write, params![seq, bad]).unwrap();
                assert_eq!(
                    damage(folder.path()).place,
                    Place::Fact(seq.unsigned_abs()),
                    "byte {place} of {column}"
                );
            }
            db.execute(&write, params![seq, good]).unwrap();
        }
    }
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn an_altered_fact_near_the_end_is_refused_at_opening() {
    let folder = folder_with_facts().await;
    database(&folder)
        .execute("UPDATE fact SET body = replace(body, 'running', 'standby') WHERE seq = 4", [])
        .unwrap();
    match opening(folder.path()) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(damage, Damage { place: Place::Fact(4), flaw: Flaw::Hash });
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_fact_is_found_at_the_gap() {
    let folder = folder_with_facts().await;
    database(&folder).execute("DELETE FROM fact WHERE seq = 3", []).unwrap();
    assert_eq!(
        damage(folder.path()),
        Damage { place: Place::Fact(4), flaw: Flaw::Gap { after: 2 } }
    );
    assert!(matches!(opening(folder.path()), Err(OpenError::Damaged(_))));
}

#[tokio::test]
async fn a_cut_off_end_disagrees_with_the_records() {
    let folder = folder_with_facts().await;
    database(&folder).execute("DELETE FROM fact WHERE seq = 6", []).unwrap();
    let flaw = Flaw::LastFact { found: Some(6), expected: Some(4) };
    assert_eq!(damage(folder.path()), Damage { place: Place::Instance(Row(1)), flaw });
    assert!(matches!(opening(folder.path()), Err(OpenError::Damaged(_))));
}

/// Changes facts as somebody would who knows the format, and links all of them anew.
fn forge(folder: &TempDir, change: impl Fn(&mut wire::FactRecord)) {
    let db = database(folder);
    let mut hash = FactHash::GENESIS;
    for seq in 1.. {
        let found = db.query_row("SELECT body FROM fact WHERE seq = ?1", [seq], |row| {
            row.get::<_, String>(0)
        });
        let Ok(body) = found else { break };
        let mut record = serde_json::from_str(&body).unwrap();
        change(&mut record);
        let mut body = Vec::new();
        encode_body(&record, &mut body).unwrap();
        hash = hash.next(&body);
        let body = str::from_utf8(&body).unwrap();
        db.execute(
            "UPDATE fact SET hash = ?2, body = ?3 WHERE seq = ?1",
            params![seq, hash.0, body],
        )
        .unwrap();
    }
}

/// A forger's change of a fact, and a check of the flaw that is found.
struct Forgery {
    seq: u64,
    change: fn(&mut wire::FactRecord),
    is_right: fn(&Flaw) -> bool,
}

const FORGERIES: [Forgery; 7] = [
    Forgery {
        seq: 4,
        change: |record| {
            if let What::Entered { phase, .. } = &mut record.what {
                *phase = wire::Phase::Standby;
            }
        },
        is_right: |flaw| {
            *flaw == Flaw::Phase { from: Some(Phase::Initializing), to: Phase::Standby }
        },
    },
    Forgery {
        seq: 4,
        change: |record| record.previous = Some(1),
        is_right: |flaw| *flaw == Flaw::Previous { found: Some(1), expected: Some(2) },
    },
    Forgery {
        seq: 5,
        change: |record| record.previous = Some(4),
        is_right: |flaw| *flaw == Flaw::Previous { found: Some(4), expected: None },
    },
    Forgery {
        seq: 4,
        change: |record| record.meter_ns = 1,
        is_right: |flaw| matches!(flaw, Flaw::MeterBackwards { meter_ns: 1, .. }),
    },
    Forgery {
        seq: 5,
        change: |record| record.meter_ns = i64::MAX,
        is_right: |flaw| matches!(flaw, Flaw::FromTheFuture { meter_ns: i64::MAX, .. }),
    },
    Forgery {
        seq: 4,
        change: |record| record.recorded_ns = 1,
        is_right: |flaw| matches!(flaw, Flaw::RecordedBackwards { recorded_ns: 1, .. }),
    },
    Forgery {
        seq: 2,
        change: |record| record.instance = Some("b".into()),
        is_right: |flaw| *flaw == Flaw::Previous { found: Some(1), expected: None },
    },
];

#[tokio::test]
async fn a_forged_chain_must_still_tell_a_lawful_story() {
    for (index, Forgery { seq, change, is_right }) in FORGERIES.into_iter().enumerate() {
        let folder = folder_with_facts().await;
        forge(&folder, |record| {
            if record.seq == seq {
                change(record);
            }
        });
        let damage = damage(folder.path());
        assert_eq!(damage.place, Place::Fact(seq), "forgery {index}: {damage}");
        assert!(is_right(&damage.flaw), "forgery {index}: {damage}");
    }
}

#[tokio::test]
async fn a_record_that_disagrees_with_the_facts_is_found() {
    let cases = [
        ("UPDATE live SET last_fact = 2 WHERE row = 1", Place::Instance(Row(1))),
        ("UPDATE instance SET deleted = 6 WHERE row = 1", Place::Instance(Row(1))),
        ("DELETE FROM instance WHERE row = 2", Place::Table { table: "instance", key: "b".into() }),
        (
            "INSERT INTO instance (row, id, tenant, name, record) SELECT 3, 'c', 'default', 'c', ''; \
             INSERT INTO live (row, last_fact, last_ns, account, state) SELECT 3, 1, 1, x'', ''",
            Place::Table { table: "instance", key: "*".into() },
        ),
    ];
    for (sql, place) in cases {
        let folder = folder_with_facts().await;
        database(&folder).execute_batch(sql).unwrap();
        assert_eq!(damage(folder.path()).place, place, "{sql}");
    }
}

#[tokio::test]
async fn an_activation_without_its_row_is_found() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path());
    let activation = NewActivation::now(tenant(), Digest::of(b""), Actor::Host);
    journal.commit(Entry { activation: Some(activation), ..Entry::default() }).await.unwrap();
    drop(journal);
    database(&folder).execute("UPDATE activation SET from_ns = from_ns - 1", []).unwrap();
    assert_eq!(damage(folder.path()).place, Place::Table { table: "activation", key: "1".into() });
}

/// A journal with a tenant that was changed, a token and a revoked one.
async fn folder_with_tenants() -> TempDir {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let fact = |fact| Entry::of_tenant(tenant(), opened.clock.reading(), fact);
    let by = || Actor::Operator;
    let token = |text: &[u8]| {
        let secret = Digest::of(text);
        let expires = Instant(i64::MAX);
        let token = TokenId::of(&secret);
        let name = "ci".into();
        let role = Role::TenantReader;
        Entry {
            secret: Some(secret),
            ..fact(TenantFact::TokenCreated { token, name, role, expires, by: by() })
        }
    };
    let settings = Settings::default();
    journal.commit(fact(TenantFact::Created { by: by() })).await.unwrap();
    journal.commit(fact(TenantFact::Changed { settings, by: by() })).await.unwrap();
    journal.commit(token(b"one")).await.unwrap();
    journal.commit(token(b"two")).await.unwrap();
    let revoked = TenantFact::TokenRevoked { token: TokenId::of(&Digest::of(b"two")), by: by() };
    journal.commit(fact(revoked)).await.unwrap();
    let activation = NewActivation::now(tenant(), Digest::of(b""), by());
    journal.commit(Entry { activation: Some(activation), ..Entry::default() }).await.unwrap();
    verify(folder.path(), |_, _| {}).unwrap();
    folder
}

#[tokio::test]
async fn nobody_gets_a_token_or_a_tenant_behind_the_journals_back() {
    let any = "00112233445566778899aabb";
    let one = TokenId::of(&Digest::of(b"one")).to_string();
    let two = TokenId::of(&Digest::of(b"two")).to_string();
    let cases = [
        (format!("INSERT INTO token VALUES ('{any}', x'{any}', 3, NULL)"), "token", any),
        (
            format!("UPDATE token SET secret = x'{any}{any}' WHERE id = '{one}'"),
            "token",
            one.as_str(),
        ),
        (format!("UPDATE token SET revoked = NULL WHERE id = '{two}'"), "token", two.as_str()),
        (format!("UPDATE token SET revoked = 6 WHERE id = '{one}'"), "token", one.as_str()),
        (format!("DELETE FROM token WHERE id = '{two}'"), "token", two.as_str()),
        ("INSERT INTO tenant VALUES ('evil', 1, NULL)".into(), "tenant", "evil"),
        ("UPDATE tenant SET changed = NULL".into(), "tenant", "default"),
        (
            "INSERT INTO activation (fact, tenant, from_ns, digest) VALUES (99, 'a', 0, '')".into(),
            "activation",
            "99",
        ),
        ("DELETE FROM policy_fact".into(), "policy_fact", "6"),
    ];
    for (sql, table, key) in cases {
        let folder = folder_with_tenants().await;
        database(&folder).execute_batch(&sql).unwrap();
        assert_eq!(damage(folder.path()).place, Place::Table { table, key: key.into() }, "{sql}");
    }
}

#[tokio::test]
async fn a_row_that_points_at_another_kind_of_fact_is_refused_at_the_opening() {
    for sql in [
        "UPDATE token SET created = 1",
        "UPDATE tenant SET changed = 1",
        "UPDATE policy_fact SET fact = 1",
    ] {
        let folder = folder_with_tenants().await;
        database(&folder).execute_batch(sql).unwrap();
        let refused = opening(folder.path());
        assert!(
            matches!(refused, Err(OpenError::Damaged(Damage { place: Place::Fact(1), .. }))),
            "{sql}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_torn_file_is_refused() {
    let folder = folder_with_facts().await;
    let whole = fs::read(folder.path().join(schema::FILE)).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 8);
    assert_eq!(
        fs::metadata(folder.path().join("tallyman.db-wal")).unwrap().len(),
        0,
        "all is in the one file"
    );
    for length in (1..pages).map(|page| page * 4096).chain([1, 50, 100, 4095, whole.len() - 1]) {
        let torn = TempDir::new().unwrap();
        fs::write(torn.path().join(schema::FILE), &whole[..length]).unwrap();
        let opened = opening(torn.path());
        assert!(matches!(opened, Err(OpenError::Damaged(_))), "{length} bytes: {opened:?}");
    }
}

/// The files of a journal with five commits that is still open, and the ends after each commit.
async fn files_of_an_open_journal() -> (Vec<u8>, Vec<u8>, Vec<Head>) {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut heads = vec![Head::EMPTY];
    let mut a = Driver::new("a", &opened.clock);
    for phase in
        [Phase::Created, Phase::Initializing, Phase::Running, Phase::Paused, Phase::Running]
    {
        heads.push(a.commit(&journal, [entered(phase)]).await.head);
    }
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    (read("tallyman.db"), read("tallyman.db-wal"), heads)
}

fn folder_of(main: &[u8], log: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("tallyman.db"), main).unwrap();
    fs::write(folder.path().join("tallyman.db-wal"), log).unwrap();
    folder
}

#[tokio::test]
async fn a_cut_log_leaves_a_whole_journal_that_ends_with_a_commit() {
    let (main, log, heads) = files_of_an_open_journal().await;
    let mut seen = Vec::new();
    let nothing = opening(folder_of(&main, &[]).path());
    assert!(
        matches!(nothing, Err(OpenError::LogMissing { .. })),
        "no sudden end leaves an empty log: {nothing:?}"
    );
    for length in (0..log.len()).step_by(1_500).skip(1).chain([log.len()]) {
        let cut = folder_of(&main, &log[..length]);
        let (journal, opened) = opening(cut.path()).unwrap();
        assert!(heads.contains(&opened.head), "{length} bytes");
        assert!(seen.last().is_none_or(|last: &u64| *last <= opened.head.seq));
        seen.push(opened.head.seq);
        drop(journal);
        assert_eq!(verify(cut.path(), |_, _| {}).unwrap().head, opened.head);
    }
    assert_eq!((seen[0], *seen.last().unwrap()), (0, 5), "from nothing to everything: {seen:?}");
}

#[tokio::test]
async fn an_altered_log_is_refused_wherever_more_commits_follow_than_a_loss_of_power_may_tear() {
    let (main, log, heads) = files_of_an_open_journal().await;
    let frame_bytes = 24 + 4_096;
    let commits: Vec<usize> =
        (32..log.len()).step_by(frame_bytes).filter(|&at| log[at + 4..at + 8] != [0; 4]).collect();
    // The commit in which a byte stands; the header belongs to the first.
    let commit_of = |at: usize| commits.iter().filter(|&&last| last + frame_bytes <= at).count();
    let torn_at_most = UNSYNCED_MAX as usize + 1;
    let mut refused = 0;
    for at in (0..log.len()).step_by(331).chain([20, 32 + 8, 32 + 15]) {
        let mut altered = log.clone();
        altered[at] ^= 0x10;
        let folder = folder_of(&main, &altered);
        match opening(folder.path()) {
            Err(OpenError::Damaged(Damage { place: Place::Log(frame), .. })) => {
                let expected = if at < 32 { 0 } else { (at - 32) / frame_bytes + 1 };
                assert_eq!(frame, expected as u64, "byte {at}");
                refused += 1;
            }
            Ok((_journal, opened)) => {
                let given_up = commits.len() - commit_of(at);
                assert!(
                    given_up <= torn_at_most,
                    "byte {at} was altered, and {:?} is all that is left",
                    opened.head
                );
                assert_eq!(
                    opened.head,
                    heads[heads.len() - 1 - given_up],
                    "only what looks like a sudden end is given up"
                );
            }
            Err(other) => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(refused > 50, "{refused}");
}

#[tokio::test]
async fn the_log_is_moved_into_the_database_before_it_grows_large() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let fact = host_fact(&opened.clock).host.remove(0);
    for _ in 0..60 {
        journal.commit(Entry { host: vec![fact.clone(); 500], ..Entry::default() }).await.unwrap();
    }
    let log = fs::metadata(folder.path().join("tallyman.db-wal")).unwrap().len();
    let main = fs::metadata(journal.path()).unwrap().len();
    assert!(log < 8 << 20 && main > 4 << 20, "log {log}, database {main} bytes");
    assert_eq!(verify(folder.path(), |_, _| {}).unwrap().head.seq, 30_000);
}

#[test]
fn a_later_version_is_refused_with_advice() {
    let folder = TempDir::new().unwrap();
    drop(open(folder.path()));
    let later = schema::VERSION + 1;
    database(&folder).pragma_update(None, "user_version", later).unwrap();
    let refused = opening(folder.path()).unwrap_err();
    let told = matches!(
        refused,
        OpenError::NewerVersion { found, known: schema::VERSION, .. } if found == later
    );
    assert!(told, "{refused:?}");
    assert!(refused.to_string().contains("run the program that wrote it"), "{refused}");
    let verified = verify(folder.path(), |_, _| {});
    assert!(matches!(verified, Err(VerifyError::NotAJournal { version, .. }) if version == later));
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    database(&folder).execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(folder.path().join(schema::FILE)).unwrap();
    assert!(matches!(opening(folder.path()), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read(folder.path().join(schema::FILE)).unwrap(), before);
    fs::write(
        folder.path().join(schema::FILE),
        "no database at all, but long enough to have a header".repeat(9),
    )
    .unwrap();
    assert!(matches!(
        opening(folder.path()),
        Err(OpenError::Damaged(Damage { place: Place::File, .. }))
    ));
}
