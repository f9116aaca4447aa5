//! Each column of each table: a change there is found by `verify`, or the column is in `UNCOVERED`.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::super::schema;
use super::super::tables::MILESTONE_FACTS;
use super::super::verify::UNCOVERED;
use super::*;
use crate::billing::agreement::Agreement;
use crate::billing::{Archived, GapReason, GapSettled, Heard, Pruned};

/// A journal in which no table is empty, closed.
async fn folder_with_everything() -> TempDir {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let by = || Actor::Operator;
    let of_tenant = |fact| Entry::of_tenant(tenant(), opened.clock.reading(), fact);
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    journal.commit(of_tenant(TenantFact::Created { by: by() })).await.unwrap();
    journal
        .commit(of_tenant(TenantFact::Changed { settings: Settings::default(), by: by() }))
        .await
        .unwrap();

    let heard =
        Heard { host: "h1".parse().unwrap(), seq: 1, link: Digest::of(b"link"), until: Instant(1) };
    let heard = Entry::of_host(opened.clock.reading(), HostFact::Heard(heard));
    journal.commit(heard).await.unwrap();
    let reason = GapReason::WentBack;
    let gap = HostFact::TimeUnknown { reason, claimed_ns: -5, counted_ns: 7 };
    journal.commit(Entry::of_host(opened.clock.reading(), gap)).await.unwrap();
    let settled = GapSettled { gap: 5, missing_ns: 7, charges: 0, reason: "none".into(), by: by() };
    let settled = HostFact::GapSettled(settled);
    journal.commit(Entry::of_host(opened.clock.reading(), settled)).await.unwrap();
    let digest = Digest::of(b"segment");
    let archived = Archived { digest, store: "s3://a".into(), object: "h1/1-2.parquet".into() };
    let pruned = Pruned { digest, by: by() };
    for fact in [HostFact::Archived(archived), HostFact::Pruned(pruned)] {
        journal.commit(Entry { segment: Some(fact), ..Entry::default() }).await.unwrap();
    }

    let secret = Digest::of(b"secret");
    let token = TokenId::of(&secret);
    let created = TenantFact::TokenCreated {
        token,
        name: "ci".into(),
        role: Role::Operator,
        expires: Instant(1),
        by: by(),
    };
    journal.commit(Entry { secret: Some(secret), ..of_tenant(created) }).await.unwrap();
    journal.commit(of_tenant(TenantFact::TokenRevoked { token, by: by() })).await.unwrap();

    let component = b"component".to_vec();
    let digest = Digest::of(&component);
    let policy = NewPolicy {
        tenant: tenant(),
        digest,
        name: None,
        bytes: component,
        record: "{}".into(),
        by: by(),
    };
    journal.commit(Entry { policy: Some(policy), ..Entry::default() }).await.unwrap();
    let request = Some(RequestKey { tenant: tenant(), key: "key".into(), asked: digest });
    let later = Instant(opened.clock.now().0 + (1 << 50));
    for requested in [None, Some(later)] {
        let request = request.clone().filter(|_| requested.is_none());
        let activation = NewActivation { requested, ..NewActivation::now(tenant(), digest, by()) };
        journal
            .commit(Entry { activation: Some(activation), request, ..Entry::default() })
            .await
            .unwrap();
    }
    let withdrawal = NewWithdrawal {
        tenant: tenant(),
        plan: Plan::Policy,
        digest,
        from: later,
        by: by(),
        reason: None,
    };
    journal.commit(Entry { withdrawal: Some(withdrawal), ..Entry::default() }).await.unwrap();

    let agreed = TenantFact::AgreementChanged {
        agreement: Agreement::default(),
        from: Instant(0),
        by: by(),
    };
    journal.commit(of_tenant(agreed)).await.unwrap();

    let book = b"book".to_vec();
    let prices = NewPrices {
        tenant: tenant(),
        digest: Digest::of(&book),
        bytes: book,
        requested: None,
        by: by(),
        name: Some("winter".parse().unwrap()),
    };
    journal.commit(Entry { prices: Some(prices), ..Entry::default() }).await.unwrap();
    let bytes = b"invoice".to_vec();
    let digest = Digest::of(&bytes);
    let from = Instant(0);
    let until = Instant(1);
    let invoice = NewInvoice {
        tenant: tenant(),
        number: 1,
        digest,
        bytes,
        from,
        until,
        corrects: None,
        by: by(),
    };
    journal.commit(Entry { invoice: Some(invoice), ..Entry::default() }).await.unwrap();

    let mut a = Driver::new("a", &opened.clock);
    let mut gone = Driver::new("gone", &opened.clock);
    a.commit(
        &journal,
        [entered(Phase::Created), entered(Phase::Initializing), entered(Phase::Running)],
    )
    .await;
    gone.commit(&journal, [entered(Phase::Created), InstanceFact::Deleted]).await;
    for _ in 0..MILESTONE_FACTS {
        a.commit(&journal, [entered(Phase::Running)]).await;
    }
    journal.seal(None).await.unwrap();
    a.commit(&journal, [entered(Phase::Running)]).await;
    journal.close().await.unwrap();
    let segments = journal.segments().unwrap();
    drop(journal);
    // As in a backup: the database holds its segments itself.
    for segment in segments {
        let bytes = std::fs::read(&segment.path).unwrap();
        let sql = "INSERT INTO segment_copy (digest, bytes) VALUES (?1, ?2)";
        database(&folder).execute(sql, (segment.digest, bytes)).unwrap();
        std::fs::remove_file(segment.path).unwrap();
    }
    verify(folder.path(), |_, _| {}).unwrap();
    folder
}

fn database(folder: &TempDir) -> Connection {
    Connection::open(folder.path().join(schema::FILE)).unwrap()
}

/// Table, column and type of every column, as the database itself describes them.
fn columns(db: &Connection) -> Vec<(String, String, String)> {
    let sql = "SELECT t.name, c.name, c.type FROM sqlite_schema t JOIN pragma_table_info(t.name) c
               WHERE t.type = 'table' ORDER BY 1, 2";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Another value of the same type, for the first row that can have it.
fn other_value(column: &str, kind: &str) -> String {
    match kind {
        "INTEGER" => format!("coalesce({column}, 0) + 1000000"),
        "TEXT" => format!("coalesce({column}, '') || 'x'"),
        "BLOB" => format!("CAST(x'ff' || substr({column}, 2) AS BLOB)"),
        other => panic!("a type that this test does not know: {other}"),
    }
}

#[tokio::test]
async fn a_change_of_any_column_is_found_or_stands_on_the_list() {
    let folder = folder_with_everything().await;
    let whole = std::fs::read(folder.path().join(schema::FILE)).unwrap();
    let all = columns(&database(&folder));
    let mut unfound = BTreeSet::new();
    for (table, column, kind) in &all {
        let bad = TempDir::new().unwrap();
        std::fs::write(bad.path().join(schema::FILE), &whole).unwrap();
        let db = database(&bad);
        // What the engine itself refuses can't be there either; constraints of single columns are
        // no defence.
        db.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF")
            .unwrap();
        let rowid = format!("(SELECT {column} IS NULL, {column} FROM {table} ORDER BY 1 LIMIT 1)");
        let sql = format!(
            "UPDATE {table} SET {column} = {} WHERE ({column} IS NULL, {column}) IS {rowid}",
            other_value(column, kind)
        );
        let changed =
            db.execute(&sql, []).unwrap_or_else(|error| panic!("{table}.{column}: {error}"));
        assert!(changed > 0, "no row of {table} was changed");
        drop(db);
        match verify(bad.path(), |_, _| {}) {
            Err(VerifyError::Damaged(_)) => {}
            Ok(_) | Err(VerifyError::LogMissing { .. }) => {
                unfound.insert((table.as_str(), column.as_str()));
            }
            Err(other) => panic!("{table}.{column}: {other:?}"),
        }
    }
    // Of these two, a part is covered, and this test happens to change that one.
    let in_part = [("alive", "boottime_ns"), ("token", "secret")];
    let listed = UNCOVERED
        .iter()
        .map(|&(table, column, _)| (table, column))
        .filter(|one| !in_part.contains(one));
    assert_eq!(unfound, listed.collect());
}

#[tokio::test]
async fn what_a_thief_of_time_would_try_is_found() {
    // Hours added to an account, or moved from one phase to another; a row of the calendar moved or
    // dropped; another offset of the meter; a byte of a component or of a document; a milestone
    // left out.
    let hours = "UPDATE live SET account = \
                 CAST(substr(account, 1, 31) || x'7f' || substr(account, 33) AS BLOB)";
    let rows = [
        (hours, "holds"),
        ("UPDATE calendar SET wall_ns = wall_ns + 3600000000000", "wall_ns"),
        ("DELETE FROM calendar", "not there"),
        ("INSERT INTO calendar VALUES (2, 1, 1)", "no fact accounts"),
        ("UPDATE boot SET offset_ns = offset_ns + 1", "offset"),
        (
            "UPDATE alive SET meter_ns = meter_ns + 1, boottime_ns = boottime_ns + 2",
            "not a reading",
        ),
        ("UPDATE policy SET bytes = CAST('Component' AS BLOB)", "its bytes are those of"),
        (
            "UPDATE document SET bytes = CAST('Book' AS BLOB) WHERE bytes = CAST('book' AS BLOB)",
            "its bytes are those of",
        ),
        ("DELETE FROM document", "is not there"),
        (
            "INSERT INTO policy SELECT digest || 'x', bytes, record FROM policy",
            "its bytes are those of",
        ),
        ("DELETE FROM milestone", "not there"),
        ("UPDATE withdrawal SET from_ns = from_ns - 1", "from_ns"),
        ("UPDATE live SET last_ns = last_ns - 1 WHERE row = 1", "another instant"),
    ];
    let folder = folder_with_everything().await;
    let whole = std::fs::read(folder.path().join(schema::FILE)).unwrap();
    for (sql, told) in rows {
        let bad = TempDir::new().unwrap();
        std::fs::write(bad.path().join(schema::FILE), &whole).unwrap();
        database(&bad).execute_batch(sql).unwrap();
        match verify(bad.path(), |_, _| {}) {
            Err(VerifyError::Damaged(damage)) => {
                assert!(damage.to_string().contains(told), "{sql}: {damage}")
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

/// Time that is moved from one phase to another keeps its sum: it is found where no policy may do
/// that.
#[tokio::test]
async fn time_under_another_phase_is_found_where_all_policies_are_plain() {
    let folder = folder_with_everything().await;
    // Of the totals, eight bytes each from the eleventh byte on, those of `created` and of
    // `running`.
    let swapped = "UPDATE live SET account = CAST(
        substr(account, 1, 10) || substr(account, 27, 8) || substr(account, 19, 8)
        || substr(account, 11, 8) || substr(account, 35) AS BLOB) WHERE row = 1";
    database(&folder).execute_batch(swapped).unwrap();
    verify(folder.path(), |_, _| {}).unwrap();
    let plain = [Digest::of(b"component")];
    match verify_accounts(folder.path(), &plain, |_, _| {}) {
        Err(VerifyError::Damaged(damage)) => {
            assert!(damage.to_string().contains("another phase"), "{damage}")
        }
        other => panic!("{other:?}"),
    }
    verify_accounts(folder.path(), &[Digest::of(b"another")], |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_page_of_a_history_costs_the_same_however_long_it_is() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    driver.commit(&journal, [entered(Phase::Created), entered(Phase::Initializing)]).await;
    let mut costs = Vec::new();
    for facts in [500_u64, 4_000] {
        let missing = facts - journal.head().seq;
        driver.commit(&journal, (0..missing).map(|_| entered(Phase::Running))).await;
        let middle = facts / 2;
        let query = FactQuery {
            instance: Some(driver.id.clone()),
            after: middle,
            limit: Some(10),
            ..FactQuery::default()
        };
        let page = journal.facts(&query).unwrap();
        assert_eq!(
            page.facts.iter().map(|fact| fact.fact.seq).collect::<Vec<_>>(),
            (middle + 1..=middle + 10).collect::<Vec<_>>()
        );
        assert_eq!(page.next, Some(middle + 10));
        let steps =
            journal.readers.with(|db| Ok(read::steps_of_a_page(db, &query, &driver.id)?)).unwrap();
        costs.push(steps);
    }
    assert!(costs[1] < 2 * costs[0], "{costs:?}");
    let rare = FactQuery {
        instance: Some(driver.id.clone()),
        kind: Some(Kind::Deleted),
        limit: Some(10),
        ..FactQuery::default()
    };
    let mut after = Some(0);
    let mut pages = 0;
    while let Some(from) = after {
        let page = journal.facts(&FactQuery { after: from, ..rare.clone() }).unwrap();
        assert!(page.facts.is_empty());
        after = page.next;
        pages += 1;
    }
    assert!((20..100).contains(&pages), "short pages with a next one: {pages}");
}

#[test]
fn the_documentation_lists_the_columns_that_no_proof_covers() {
    let text = include_str!("../../../../docs/journal.md");
    let rows = UNCOVERED.map(|(table, column, why)| format!("| `{table}` | `{column}` | {why} |"));
    assert!(text.contains(&rows.join("\n")), "docs/journal.md should hold\n{}", rows.join("\n"));
}
