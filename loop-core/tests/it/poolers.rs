//! A PgBouncer in transaction mode between the store and its server: one way of statements works, and the other one says what to change.

use loop_core::{
    Error, IssueFilter, LoopStore, StatementMode, StoreBuilder,
    test_util::{PgBouncer, TestServer},
};

use crate::support::{everything, issue, new_issue, project};

fn started() -> TestServer {
    let mut server = TestServer::new();
    server.start(&[]);
    server
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server and PgBouncer"]
async fn prepared_statements_are_refused_with_the_setting_to_change() {
    let server = started();
    LoopStore::connect(&server.url()).await.unwrap().migrate().await.unwrap();
    // The second takes the settings of a session and forgets them, as poolers are often told to.
    for settings in [&[][..], &["ignore_startup_parameters = extra_float_digits,options"]] {
        let pooler = PgBouncer::start(&server, settings);
        let prepared = |builder: StoreBuilder| builder.statement_mode(StatementMode::Prepared).build().unwrap();
        let store = prepared(LoopStore::builder(&pooler.url()));
        for answer in [store.ping().await, store.issues().create(new_issue("Lost")).await.map(drop), store.migrate().await.map(drop)] {
            let error = answer.unwrap_err();
            let Error::Configuration { setting: "statement mode", reason } = &error else { panic!("{error:?}") };
            assert!(reason.contains("LOOP_STATEMENT_MODE=unnamed") && !error.is_retryable(), "{reason}");
        }
        // By itself it does what works.
        let store = LoopStore::connect(&pooler.url()).await.unwrap();
        assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(0));
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server and PgBouncer"]
async fn many_share_few_connections() {
    let server = started();
    let pooler = PgBouncer::start(&server, &["default_pool_size = 3"]);
    let store = LoopStore::builder(&pooler.url()).pool_size(10).connect().await.unwrap();
    store.migrate().await.unwrap();
    let created = futures_util::future::join_all((0..10).map(|_| async {
        for number in 0..50 {
            let made = issue(&store, "Made").await;
            if number % 5 == 0 {
                let twice: Result<_, Error> = store
                    .transaction(async |tx| {
                        tx.issues().delete(&made.id).await?;
                        tx.issues().create(new_issue("In its place")).await
                    })
                    .await;
                twice.unwrap();
            }
        }
    }));
    created.await;
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(500));
    assert!(store.pool_status().size > 3, "{:?}", store.pool_status());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server and PgBouncer"]
async fn a_schema_is_chosen_for_each_transaction() {
    let server = started();
    // The one connection to the server that there is serves both tenants in turn.
    let pooler = PgBouncer::start(&server, &["default_pool_size = 1"]);
    let tenant = |schema: &str| LoopStore::builder(&pooler.url()).pool_size(2).schema(schema).build().unwrap();
    let tenants = [tenant("tenant_a"), tenant("tenant-b")];
    for store in &tenants {
        assert_eq!(store.migration_status().await.unwrap().version, None);
        assert!(!store.migrate().await.unwrap().applied.is_empty());
        assert!(store.migrate().await.unwrap().applied.is_empty());
    }
    let work = tenants.iter().enumerate().map(|(number, store)| async move {
        let mut ids = Vec::new();
        for _ in 0..=number {
            ids.push(project(store, "Project").await.id);
        }
        for _ in 0..20 {
            issue(store, "Alone").await;
            let within: Result<_, Error> = store.transaction(async |tx| tx.issues().create(new_issue("Within")).await).await;
            within.unwrap();
            let listed = store.projects().list(&loop_core::ProjectFilter::default(), &everything()).await.unwrap();
            assert_eq!(listed.data.iter().map(|project| &project.id).collect::<Vec<_>>(), ids.iter().rev().collect::<Vec<_>>());
        }
    });
    futures_util::future::join_all(work).await;
    for store in &tenants {
        assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(40));
    }
    let public = LoopStore::connect(&pooler.url()).await.unwrap();
    assert_eq!(public.migration_status().await.unwrap().version, None, "the usual schema has none of it");
}

/// The rules that triggers hold need to see what was committed while they waited, whatever the role has for a default.
#[tokio::test]
#[ignore = "needs a PostgreSQL server and PgBouncer"]
async fn each_statement_has_the_settings_of_a_session_of_its_own() {
    let server = started();
    let direct = LoopStore::connect(&server.url()).await.unwrap();
    direct.migrate().await.unwrap();
    direct.raw("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'").await.unwrap();
    // What a statement sees of its settings, as a label's name.
    direct
        .raw(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 NEW.name := concat_ws(', ', current_setting('transaction_isolation'), current_setting('statement_timeout'),
                                       current_setting('idle_in_transaction_session_timeout'), 'jit ' || current_setting('jit'),
                                       current_setting('max_parallel_workers_per_gather') || ' workers');
                 RETURN NEW;
             END $$;
             CREATE TRIGGER tell BEFORE INSERT ON labels FOR EACH ROW EXECUTE FUNCTION tell()",
        )
        .await
        .unwrap();
    let pooler = PgBouncer::start(&server, &[]);
    for url in [server.url(), pooler.url()] {
        let store = LoopStore::connect(&url).await.unwrap();
        let label = crate::support::label(&store, "x").await;
        assert_eq!(label.name.as_str(), "read committed, 10s, 1min, jit off, 0 workers");
        store.labels().delete(&label.id).await.unwrap();
        let within: Result<_, Error> = store
            .transaction(async |tx| {
                let new = loop_core::NewLabel { name: "y".parse().unwrap(), color: "#fff".parse().unwrap() };
                tx.labels().create(new).await
            })
            .await;
        let label = within.unwrap();
        assert_eq!(label.name.as_str(), "read committed, 10s, 1min, jit off, 0 workers");
        store.labels().delete(&label.id).await.unwrap();
    }
}

/// A pooler that forgets a session's settings and cannot be told by what the server reports, as newer ones that keep the style of intervals.
fn unseen() -> (TestServer, PgBouncer) {
    let mut server = TestServer::new();
    server.start(&["intervalstyle=iso_8601"]);
    let pooler = PgBouncer::start(&server, &["ignore_startup_parameters = extra_float_digits,options", "default_pool_size = 1"]);
    (server, pooler)
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server and PgBouncer"]
async fn a_schema_that_did_not_arrive_is_not_taken_for_another() {
    let (_server, pooler) = unseen();
    let builder = LoopStore::builder(&pooler.url()).statement_mode(StatementMode::Prepared);
    let store = builder.schema("tenant_a").build().unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, Error::Configuration { setting: "statement mode", .. }), "{error:?}");
    // Nothing of it is in the usual schema.
    assert_eq!(LoopStore::connect(&pooler.url()).await.unwrap().migration_status().await.unwrap().version, None);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server and PgBouncer"]
async fn what_was_written_is_not_reported_as_failed() {
    let (server, pooler) = unseen();
    let direct = LoopStore::connect(&server.url()).await.unwrap();
    direct.migrate().await.unwrap();
    let store = LoopStore::builder(&pooler.url()).statement_mode(StatementMode::Prepared).pool_size(1).build().unwrap();
    store.ping().await.unwrap();
    // Every name the driver will choose is another client's on the one connection there is.
    let taken: Vec<_> = (0..3000).map(|number| format!("PREPARE s{number} AS SELECT 1")).collect();
    let other = LoopStore::connect(&pooler.url()).await.unwrap();
    let _ = other.raw("DEALLOCATE ALL").await;
    other.raw(&taken.join("; ")).await.unwrap();
    let mut told = 0;
    for _ in 0..5 {
        if store.issues().create(new_issue("Once")).await.is_ok() {
            told += 1;
        }
    }
    let there = direct.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total;
    assert_eq!(there, Some(told), "whoever is told that nothing was written writes it again");
}
