//! The lane that needs nothing installed.

use std::sync::Arc;

use kagero::clock::SystemClock;
use kagero::cloud::local::databases::{HOST_NETWORK, LocalDatabases, SqliteConfig, SqliteDatabases};
use kagero::cloud::{DatabaseBirth, Databases as _};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::id::DatabaseId;
use kagero::domain::observed::{Database, DatabaseState, Tags};
use kagero::domain::owned::{Claim, Owned, prove_database};
use kagero::domain::policy::{AllowList, Engine};
use sqlx::{Connection as _, SqliteConnection};

use super::harness::{failure, find, golden, install, ready, spec as any_spec, tags, until};

const SHOP: &str = "CREATE TABLE products (name text);\nINSERT INTO products VALUES ('tea;'), ('rice');\n\
    CREATE TRIGGER t AFTER DELETE ON products BEGIN SELECT 1; END;\n";

fn lane(home: &std::path::Path) -> LocalDatabases {
    let seeds =
        ["shop.sql", "broken.sql", "file.db"].map(|file| golden(file.split('.').next().unwrap(), &home.join(file)));
    let config = SqliteConfig { state_dir: home.to_owned(), install: install(), goldens: seeds.into(), at_once: 4 };
    LocalDatabases::new(None, SqliteDatabases::new(config, Arc::new(SystemClock)))
}

fn spec(tags: &Tags, seed: &str) -> DatabaseSpec {
    DatabaseSpec { engine: Engine::Sqlite, ..any_spec(tags, seed) }
}

fn owned(home: &std::path::Path, database: &Database, tags: &Tags) -> Owned<DatabaseId> {
    let accounts = vec![home.display().to_string()];
    let place = AllowList { accounts, regions: vec!["local".into()], networks: vec![HOST_NETWORK.into()] };
    let claim = Claim { install: &tags.install, uid: &tags.uid, generation: tags.generation };
    prove_database(database, claim, &place).unwrap()
}

async fn count(url: &str) -> i64 {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM products").fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_file_is_copied_used_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::write(home.join("shop.sql"), SHOP).unwrap();
    let lane = lane(home);
    assert!(lane.list().await.unwrap().items.is_empty());
    let (one, two) = (tags(1), tags(2));
    for tags in [&one, &two] {
        ready(&lane, tags, &spec(tags, "shop")).await;
    }
    let access = lane.access(&spec(&one, "shop")).await.unwrap();
    assert_eq!(count(&access.application_url).await, 2);
    let mut connection = SqliteConnection::connect(&access.migration_url).await.unwrap();
    sqlx::raw_sql("DELETE FROM products").execute(&mut connection).await.unwrap();
    assert_eq!(count(&lane.access(&spec(&two, "shop")).await.unwrap().application_url).await, 2);
    // A copy of a file is a seed too.
    std::fs::copy(access.paths[0].join("db.sqlite"), home.join("file.db")).unwrap();
    let three = tags(3);
    ready(&lane, &three, &spec(&three, "file")).await;
    for tags in [&one, &two, &three] {
        let database = find(&lane, &spec(tags, "shop").name).await.unwrap();
        lane.delete(&owned(home, &database, tags)).await.unwrap();
        until(&lane, &database.name, |d| d.is_none()).await;
    }
    assert_eq!(std::fs::read_dir(home.join("databases")).unwrap().count(), 0);
    let error = lane.prepare(DatabaseBirth::plain(&one, &any_spec(&one, "shop"))).await.unwrap_err();
    assert!(error.why.contains("engine: sqlite"), "{error}");
}

#[tokio::test]
async fn a_broken_seed_names_its_statement_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::write(home.join("broken.sql"), "CREATE TABLE a (b);\n\nINSERT INTO a\n VALUES (1, 2);\n").unwrap();
    std::fs::write(home.join("file.db"), b"SQLite format 3\0 and then nothing of the kind").unwrap();
    let lane = lane(home);
    let why = failure(&lane, &tags(1), &spec(&tags(1), "broken")).await;
    assert!(why.contains("at line 3") && why.contains("INSERT INTO a VALUES (1, 2)"), "{why}");
    let why = failure(&lane, &tags(2), &spec(&tags(2), "file")).await;
    assert!(why.contains("file.db"), "{why}");
    let why = failure(&lane, &tags(3), &spec(&tags(3), "shop")).await;
    assert!(why.contains("cannot be read"), "{why}");
    assert_eq!(std::fs::read_dir(home.join("goldens")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_crash_leaves_is_attributed_and_what_is_foreign_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::write(home.join("shop.sql"), SHOP).unwrap();
    let lane = lane(home);
    let (one, two) = (tags(1), tags(2));
    let (first, second) = (spec(&one, "shop"), spec(&two, "shop"));
    ready(&lane, &one, &first).await;
    let databases = home.join("databases");
    for left_over in [".half-made-", ".dropping-"] {
        std::fs::rename(databases.join(&first.name), databases.join(format!("{left_over}{}", first.name))).unwrap();
        // The lane may still be noting that it has made it.
        let is_failed = |found: Option<&Database>| matches!(found.map(|d| &d.state), Some(DatabaseState::Failed(_)));
        let found = until(&lane, &first.name, is_failed).await.unwrap();
        assert_eq!(found.tags.as_ref(), Some(&one));
        lane.delete(&owned(home, &found, &one)).await.unwrap();
        until(&lane, &first.name, |d| d.is_none()).await;
        ready(&lane, &one, &first).await;
    }
    std::fs::create_dir(databases.join(&second.name)).unwrap();
    std::fs::write(databases.join(&second.name).join("db.sqlite"), "somebody's").unwrap();
    assert_eq!(find(&lane, &second.name).await.unwrap().tags, None);
    let why = failure(&lane, &two, &second).await;
    assert!(why.contains("owner record"), "{why}");
    // With somebody's copied evidence, the record inside still decides.
    let mut copied = find(&lane, &second.name).await.unwrap();
    copied.tags = Some(two.clone());
    lane.delete(&owned(home, &copied, &two)).await.unwrap();
    let refused = until(
        &lane,
        &second.name,
        |d| matches!(d.map(|d| &d.state), Some(DatabaseState::Failed(why)) if why.contains("drop database")),
    );
    refused.await;
    assert!(databases.join(&second.name).join("db.sqlite").exists());
}
