//! What an environment's roles cannot do, and what is never dropped.

use kagero::cloud::{DatabaseBirth, Databases as _};
use kagero::domain::observed::DatabaseState;
use kagero::domain::owned::Refusal;
use kagero::seed::marker::Marker;
use kagero::seed::name::DatabaseName;

use super::harness::{
    INSTALL, admin, connect, failed, find, gone, install, left_over, number, owned, ready, refused, shop, spec, sql,
    tags, tags_of, until,
};

const DENIED: &str = "42501";

#[tokio::test]
async fn neither_role_leaves_its_database() {
    let lane = shop();
    let (mine, theirs) = (tags(300), tags(301));
    let (my_spec, their_spec) = (spec(&mine, "shop"), spec(&theirs, "shop"));
    ready(&lane, &mine, &my_spec).await;
    ready(&lane, &theirs, &their_spec).await;
    let access = lane.access(&my_spec).await.unwrap();
    let mut superuser = admin(&lane, "postgres").await;
    let golden: String = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE datname LIKE 'kagero\\_ladder\\_golden\\_shop\\_%' LIMIT 1",
    )
    .fetch_one(&mut superuser)
    .await
    .unwrap();
    for url in [&access.application_url, &access.migration_url] {
        for other in [their_spec.name.as_str(), golden.as_str(), "postgres", "template1", "template0"] {
            let elsewhere = url.replace(&format!("/{}", my_spec.name), &format!("/{other}"));
            assert_ne!(elsewhere, *url);
            assert!(connect(&elsewhere).await.is_err(), "entered {other}");
        }
        assert!(connect(&url.replace('@', "x@")).await.is_err(), "a wrong password was accepted");
        let mut tenant = connect(url).await.unwrap();
        let other = DatabaseName::parse(&install(), &their_spec.name).unwrap().roles();
        let own = DatabaseName::parse(&install(), &my_spec.name).unwrap().roles();
        for forbidden in [
            format!("DROP DATABASE {}", their_spec.name),
            format!("ALTER DATABASE {} RENAME TO mine", my_spec.name),
            format!("ALTER DATABASE {} OWNER TO CURRENT_USER", my_spec.name),
            format!("COMMENT ON DATABASE {} IS 'mine'", my_spec.name),
            "CREATE DATABASE another".to_owned(),
            "CREATE ROLE another".to_owned(),
            format!("ALTER ROLE {} PASSWORD 'x'", other.application),
            format!("COMMENT ON ROLE {} IS 'mine'", own.owner),
            format!("SET ROLE {}", other.migration),
            format!("SET ROLE {}", other.owner),
            format!("SET ROLE {}", own.owner),
            format!("SET ROLE kagero_{INSTALL}_admin"),
            "SELECT * FROM pg_authid".to_owned(),
            "SELECT pg_read_file('/etc/passwd')".to_owned(),
            "SELECT lo_import('/etc/passwd')".to_owned(),
            "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
            "COPY products FROM '/etc/passwd'".to_owned(),
            "ALTER SYSTEM SET fsync = off".to_owned(),
            "CREATE EXTENSION dblink".to_owned(),
            "CREATE EXTENSION adminpack".to_owned(),
            "UPDATE kagero.owner SET marker = ''".to_owned(),
            "DROP SCHEMA kagero CASCADE".to_owned(),
        ] {
            assert_eq!(refused(&mut tenant, forbidden.clone()).await, DENIED, "{forbidden}");
        }
        // From inside, the server refuses before it looks at rights.
        let code = refused(&mut tenant, format!("DROP DATABASE {}", my_spec.name)).await;
        assert!(["55006", DENIED].contains(&code.as_str()), "{code}");
    }
    let mut app = connect(&access.application_url).await.unwrap();
    for definition in [
        "CREATE TABLE public.mine (a int)",
        "DROP TABLE products",
        "ALTER TABLE products ADD COLUMN a int",
        "TRUNCATE products",
        "CREATE SCHEMA mine",
        "CREATE EXTENSION hstore",
    ] {
        assert_eq!(refused(&mut app, definition).await, DENIED, "{definition}");
    }
    gone(&lane, &mine, &my_spec.name).await;
    gone(&lane, &theirs, &their_spec.name).await;
}

#[tokio::test]
async fn what_is_not_ours_is_listed_without_tags_and_never_touched() {
    let lane = shop();
    let tags = tags(310);
    let plain = spec(&tags, "shop");
    let mut superuser = admin(&lane, "postgres").await;
    sql(&mut superuser, format!("CREATE DATABASE {} ALLOW_CONNECTIONS false", plain.name)).await.unwrap();
    let found = find(&lane, &plain.name).await.unwrap();
    assert_eq!(found.tags, None);
    assert!(matches!(owned(&found, &tags), Err(Refusal::Untagged { .. })));
    sql(
        &mut superuser,
        format!(
            "REVOKE ALL ON DATABASE {} FROM PUBLIC; ALTER DATABASE {} ALLOW_CONNECTIONS true",
            plain.name, plain.name
        ),
    )
    .await
    .unwrap();
    lane.prepare(DatabaseBirth::plain(&tags, &plain)).await.unwrap();
    let mut session = admin(&lane, &plain.name).await;
    let found =
        until(&lane, &plain.name, |d| matches!(d.map(|d| &d.state), Some(DatabaseState::Failed(_)))).await.unwrap();
    assert_eq!(found.tags, None);
    sql(&mut session, "SELECT 1").await.unwrap();
    assert_eq!(number(&mut superuser, exists(&plain.name)).await, 1);
    sql(&mut superuser, format!("DROP DATABASE {} WITH (FORCE)", plain.name)).await.unwrap();
}

#[tokio::test]
async fn another_installations_marker_refuses() {
    let lane = shop();
    let other_install = kagero::domain::id::InstallId::parse("other").unwrap();
    let foreign = tags_of(&other_install, 320);
    let name = spec(&tags(320), "shop").name;
    let mut superuser = admin(&lane, "postgres").await;
    decoy(&mut superuser, &name, &Marker::Environment { tags: foreign.clone(), database: name.clone() }).await;
    let found = find(&lane, &name).await.unwrap();
    assert_eq!(found.tags, Some(foreign));
    assert!(matches!(owned(&found, &tags(320)), Err(Refusal::OtherInstall { .. })));
    undo_decoy(&mut superuser, &name).await;
}

#[tokio::test]
async fn a_right_owner_with_a_wrong_marker_inside_refuses() {
    let lane = shop();
    let tags = tags(330);
    let name = spec(&tags, "shop").name;
    let mut superuser = admin(&lane, "postgres").await;
    let mine = Marker::Environment { tags: tags.clone(), database: name.clone() };
    decoy(&mut superuser, &name, &mine).await;
    // None at all, then another environment's, then one that is no marker.
    let another = Marker::Environment { tags: super::harness::tags(331), database: name.clone() };
    let write = |text: &str| {
        format!(
            "CREATE SCHEMA IF NOT EXISTS kagero; CREATE TABLE IF NOT EXISTS kagero.owner (marker text); \
             DELETE FROM kagero.owner; INSERT INTO kagero.owner VALUES ('{text}')"
        )
    };
    for inside in [None, Some(write(&another.to_text())), Some(write("mine"))] {
        if let Some(inside) = inside {
            let mut session = admin(&lane, &name).await;
            sql(&mut session, inside).await.unwrap();
        }
        let found = find(&lane, &name).await.unwrap();
        lane.delete(&owned(&found, &tags).unwrap()).await.unwrap();
        let why = failed(&lane, &name).await;
        assert!(why.contains("refused") && why.contains("marker inside"), "{why}");
        assert_eq!(number(&mut superuser, exists(&name)).await, 1);
    }
    undo_decoy(&mut superuser, &name).await;
}

#[tokio::test]
async fn a_server_outside_the_allow_list_is_not_changed() {
    let tags = tags(340);
    let spec = spec(&tags, "shop");
    let home = super::harness::Home::shared();
    let seed = home.file("other-shop.sql", super::harness::SHOP);
    let mut config = super::harness::config(home, vec![super::harness::golden("shop", &seed)]);
    let allowed = super::harness::start(config.clone());
    let database = ready(&allowed, &tags, &spec).await;
    config.allow = vec!["staging:5432".to_owned()];
    let lane = super::harness::start(config);
    let error = lane.prepare(DatabaseBirth::plain(&tags, &spec)).await.unwrap_err();
    assert_eq!(error.class, kagero::cloud::ErrorClass::Denied);
    let error = lane.delete(&owned(&database, &tags).unwrap()).await.unwrap_err();
    assert!(error.why.contains("not in the allow-list"), "{error}");
    assert_eq!(find(&lane, &spec.name).await.unwrap().state, DatabaseState::Ready);
    gone(&allowed, &tags, &spec.name).await;
    assert_eq!(left_over(&allowed, &spec.name).await, Vec::<String>::new());
}

fn exists(name: &str) -> String {
    format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")
}

/// A database whose owner carries the marker.
async fn decoy(superuser: &mut sqlx::postgres::PgConnection, name: &str, marker: &Marker) {
    sql(superuser, format!("CREATE ROLE {name}; COMMENT ON ROLE {name} IS '{}'", marker.to_text())).await.unwrap();
    sql(superuser, format!("CREATE DATABASE {name} OWNER {name} ALLOW_CONNECTIONS false")).await.unwrap();
    let open = "ALTER DATABASE {name} ALLOW_CONNECTIONS true".replace("{name}", name);
    // Open to all, it would fail the tests that run beside this one.
    sql(superuser, format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC; {open}")).await.unwrap();
}

async fn undo_decoy(superuser: &mut sqlx::postgres::PgConnection, name: &str) {
    sql(superuser, format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    sql(superuser, format!("DROP ROLE {name}")).await.unwrap();
}
