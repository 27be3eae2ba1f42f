//! The migrations: alone, again, at once, ahead of this library, and a schema per tenant.

use loop_core::{
    Entity, Error, IssueFilter, LoopStore, MigrationReport, MigrationStatus,
    test_util::{TestDb, row_security},
};

use crate::support::{everything, issue, not_found, one, problem};

const KNOWN: [&str; 12] = [
    "V1__projects_and_goals",
    "V2__issues",
    "V3__signals",
    "V4__prompts",
    "V5__api_keys",
    "V6__revisions",
    "V7__history",
    "V8__fingerprints",
    "V9__idempotency",
    "V10__row_security",
    "V11__plans",
    "V12__list_indexes",
];
const NEWEST: i32 = 12;

fn report(applied: &[&str]) -> MigrationReport {
    MigrationReport { applied: applied.iter().map(ToString::to_string).collect(), version: NEWEST }
}

fn status(pending: &[&str], version: Option<i32>) -> MigrationStatus {
    MigrationStatus {
        pending: pending.iter().map(ToString::to_string).collect(),
        version,
        known: NEWEST,
        guarded: row_security().then_some(version >= Some(NEWEST)),
    }
}

#[tokio::test]
async fn an_empty_database_is_brought_to_the_newest_version_once() {
    let db = TestDb::unmigrated().await;
    let store = db.store();
    assert_eq!(store.migration_status().await.unwrap(), status(&KNOWN, None));
    assert_eq!(store.migrate().await.unwrap(), report(&KNOWN));
    assert_eq!(store.migration_status().await.unwrap(), status(&[], Some(NEWEST)));
    issue(store, "Kept").await;
    assert_eq!(store.migrate().await.unwrap(), report(&[]));
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(1));
}

#[tokio::test]
async fn a_database_that_is_ahead_is_left_alone() {
    let db = TestDb::new().await;
    let store = db.store();
    store.raw("INSERT INTO loop_migrations VALUES (99, 'from_the_future', '2026-01-01T00:00:00Z', '1')").await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), MigrationReport { applied: vec![], version: 99 });
    assert_eq!(store.migration_status().await.unwrap(), status(&[], Some(99)));
    issue(store, "Works").await;
}

#[tokio::test]
async fn what_was_applied_must_be_what_is_known() {
    let db = TestDb::new().await;
    let store = db.store();
    store.raw("UPDATE loop_migrations SET checksum = '1' WHERE version = 3").await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, Error::Migration { .. }) && !error.is_retryable(), "{error:?}");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    let db = TestDb::unmigrated().await;
    let store = db.store();
    // The fourth migration finds its table taken.
    store.raw("CREATE TABLE prompt_reviews (mine int)").await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, Error::Migration { .. }) && !error.is_retryable(), "{error:?}");
    assert_eq!(store.migration_status().await.unwrap(), status(&KNOWN, None));
    assert_eq!(one(store, "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'").await, "prompt_reviews");
    store.raw("DROP TABLE prompt_reviews").await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), report(&KNOWN));
}

#[tokio::test]
async fn some_of_them_are_applied_where_some_were() {
    let db = TestDb::new().await;
    let store = db.store();
    let undone = "DELETE FROM loop_migrations WHERE version >= 10; DROP FUNCTION loop_scope CASCADE; DROP FUNCTION loop_sees_issue CASCADE; DROP FUNCTION loop_row_security;
                  ALTER TABLE issues DROP CONSTRAINT issues_number_check";
    store.raw(undone).await.unwrap();
    assert_eq!(store.migration_status().await.unwrap(), status(&KNOWN[9..], Some(9)));
    assert_eq!(store.migrate().await.unwrap(), report(&KNOWN[9..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn of_migrators_at_once_one_applies_and_all_succeed() {
    for migrators in [2, 4] {
        let db = TestDb::unmigrated().await;
        // A store each, as of so many processes.
        let tasks: Vec<_> = (0..migrators)
            .map(|migrator| {
                let builder = LoopStore::builder(db.url()).pool_size(1);
                // The same schema by its name and without, which must be the same lock.
                if migrator % 2 == 0 { builder.schema("public") } else { builder }.build().unwrap()
            })
            .map(|store| tokio::spawn(async move { store.migrate().await }))
            .collect();
        let mut reports = Vec::new();
        for task in tasks {
            reports.push(task.await.unwrap().unwrap());
        }
        reports.sort_by_key(|report| report.applied.len());
        let last = reports.pop().unwrap();
        assert_eq!(last, report(&KNOWN));
        assert!(reports.iter().all(|other| *other == report(&[])));
    }
}

#[tokio::test]
async fn a_schema_per_tenant_keeps_them_apart() {
    let db = TestDb::unmigrated().await;
    db.store().close();
    let tenant = async |schema: &str| {
        let builder = LoopStore::builder(db.url()).pool_size(1);
        builder.schema(schema).connect().await.unwrap()
    };
    let mut issues = Vec::new();
    for (schema, title) in [("tenant_a", "A's"), ("Tenant_B", "B's")] {
        let store = tenant(schema).await;
        assert_eq!(store.migration_status().await.unwrap(), status(&KNOWN, None), "{schema}");
        assert_eq!(store.migrate().await.unwrap(), report(&KNOWN), "{schema}");
        assert_eq!(store.migrate().await.unwrap(), report(&[]), "{schema}");
        issues.push(issue(&store, title).await);
        store.close();
    }
    assert_eq!((issues[0].number, issues[1].number), (1, 1), "each counts for itself");
    let store = tenant("tenant_a").await;
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().data, [issues[0].clone()]);
    assert_eq!(problem(store.issues().get(&issues[1].id).await), not_found(Entity::Issue, &issues[1].id));
    // The rules that live in the database are the tenant's own as well.
    let part = crate::support::child(&store, &issues[0].id, "Part").await;
    assert_eq!(store.issues().detail(&issues[0].id).await.unwrap().children, [part]);
    let template = crate::support::template(&store, "triage").await;
    let version = crate::support::version(&store, &template, "Do it").await;
    assert_eq!(store.templates().detail(&template.id).await.unwrap().active_version, Some(version));
    store.close();

    let store = LoopStore::builder(db.url()).pool_size(1).connect().await.unwrap();
    assert_eq!(store.migration_status().await.unwrap(), status(&KNOWN, None), "the usual schema has none of it");
}

#[tokio::test]
async fn a_schema_must_have_a_plain_name() {
    let db = TestDb::unmigrated().await;
    for name in ["", "a b", "a\"; DROP SCHEMA public; --", "ü", &"x".repeat(64)] {
        let built = LoopStore::builder(db.url()).schema(name).build();
        assert!(matches!(built, Err(Error::Configuration { setting: "schema", .. })), "{name}");
    }
}
