//! From nothing to a database and back.

use kagero::cloud::{DatabaseBirth, Databases as _};
use kagero::domain::observed::DatabaseState;
use kagero::domain::time::Timestamp;

use super::harness::{
    admin, by_name, connect, find, gone, left_over, now, number, owned, ready, shop, spec, sql, tags, until,
};

#[tokio::test]
async fn a_database_is_cloned_used_and_dropped() {
    let lane = shop();
    let (tags, name) = (tags(100), spec(&tags(100), "shop").name);
    let spec = spec(&tags, "shop");
    let database = ready(&lane, &tags, &spec).await;
    assert!(database.read_at <= now());
    let access = lane.access(&spec).await.unwrap();

    let mut app = connect(&access.application_url).await.unwrap();
    assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 2);
    sql(&mut app, "INSERT INTO products (name) VALUES ('salt'); DELETE FROM stock.shelves").await.unwrap();
    assert_eq!(number(&mut app, "SELECT public.hush()::bigint").await, 1);
    assert_eq!(number(&mut app, "SELECT count(*) FROM stock.names").await, 3);

    let mut migration = connect(&access.migration_url).await.unwrap();
    let migrate = "ALTER TABLE products ADD COLUMN price int; CREATE SCHEMA billing; \
                   CREATE TABLE billing.invoices (id serial); CREATE EXTENSION hstore";
    sql(&mut migration, migrate).await.unwrap();
    sql(&mut app, "INSERT INTO billing.invoices DEFAULT VALUES; UPDATE products SET price = 1").await.unwrap();

    // The golden is untouched by what its clone went through.
    let other = super::harness::tags(101);
    let other_spec = super::harness::spec(&other, "shop");
    ready(&lane, &other, &other_spec).await;
    let mut app = connect(&lane.access(&other_spec).await.unwrap().application_url).await.unwrap();
    assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 2);

    // Open sessions do not keep a database.
    gone(&lane, &tags, &name).await;
    gone(&lane, &other, &other_spec.name).await;
    assert_eq!(left_over(&lane, &name).await, Vec::<String>::new());
    assert_eq!(left_over(&lane, &other_spec.name).await, Vec::<String>::new());
}

#[tokio::test]
async fn asking_again_changes_nothing() {
    let lane = shop();
    let tags = tags(110);
    let spec = spec(&tags, "shop");
    for _ in 0..3 {
        lane.prepare(DatabaseBirth::plain(&tags, &spec)).await.unwrap();
    }
    ready(&lane, &tags, &spec).await;
    let mut app = connect(&lane.access(&spec).await.unwrap().application_url).await.unwrap();
    sql(&mut app, "DELETE FROM products").await.unwrap();
    ready(&lane, &tags, &spec).await;
    // Another process, after a restart.
    ready(&shop(), &tags, &spec).await;
    assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 0);
    gone(&lane, &tags, &spec.name).await;
}

#[tokio::test]
async fn dropping_is_visible_repeatable_and_needs_fresh_evidence() {
    let lane = shop();
    let tags = tags(120);
    let spec = spec(&tags, "shop");
    let mut database = ready(&lane, &tags, &spec).await;
    let fresh = owned(&database, &tags).unwrap();
    database.read_at = Timestamp(now().0 - 61_000);
    let stale = lane.delete(&owned(&database, &tags).unwrap()).await.unwrap_err();
    assert_eq!(stale.class, kagero::cloud::ErrorClass::Retry);
    assert!(stale.why.contains("list the databases again"), "{stale}");

    lane.delete(&fresh).await.unwrap();
    assert_eq!(find(&lane, &spec.name).await.unwrap().state, DatabaseState::Dropping);
    lane.delete(&fresh).await.unwrap();
    until(&lane, &spec.name, |d| d.is_none()).await;
    lane.delete(&fresh).await.unwrap();
    until(&lane, &spec.name, |d| d.is_none()).await;
}

#[tokio::test]
async fn a_drop_overtakes_a_preparation() {
    let lane = shop();
    let tags = tags(130);
    let spec = spec(&tags, "shop");
    lane.prepare(DatabaseBirth::plain(&tags, &spec)).await.unwrap();
    let underway = find(&lane, &spec.name).await.unwrap();
    lane.delete(&owned(&underway, &tags).unwrap()).await.unwrap();
    until(&lane, &spec.name, |d| d.is_none()).await;
    assert_eq!(left_over(&lane, &spec.name).await, Vec::<String>::new());
}

#[tokio::test]
async fn twenty_at_once_all_become_ready_and_all_go() {
    let lane = shop();
    let all: Vec<_> = (200..220).map(tags).map(|tags| (spec(&tags, "shop"), tags)).collect();
    for (spec, tags) in &all {
        lane.prepare(DatabaseBirth::plain(tags, spec)).await.unwrap();
    }
    for (spec, tags) in &all {
        ready(&lane, tags, spec).await;
    }
    let listed = by_name(lane.list().await.unwrap().items);
    for (spec, tags) in &all {
        lane.delete(&owned(&listed[&spec.name], tags).unwrap()).await.unwrap();
    }
    for (spec, _) in &all {
        until(&lane, &spec.name, |d| d.is_none()).await;
        assert_eq!(left_over(&lane, &spec.name).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_session_on_the_template_is_ended() {
    let lane = shop();
    lane.load_goldens().await.unwrap();
    let mut admin_session = admin(&lane, "postgres").await;
    let template: String = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE datname LIKE 'kagero\\_ladder\\_golden\\_shop\\_%' AND datistemplate",
    )
    .fetch_one(&mut admin_session)
    .await
    .unwrap();
    sql(&mut admin_session, format!("ALTER DATABASE \"{template}\" ALLOW_CONNECTIONS true")).await.unwrap();
    let mut squatter = admin(&lane, &template).await;
    sql(&mut admin_session, format!("ALTER DATABASE \"{template}\" ALLOW_CONNECTIONS false")).await.unwrap();
    let tags = tags(140);
    let spec = spec(&tags, "shop");
    ready(&lane, &tags, &spec).await;
    assert!(sql(&mut squatter, "SELECT 1").await.is_err(), "the session on the template is still there");
    gone(&lane, &tags, &spec.name).await;
}
