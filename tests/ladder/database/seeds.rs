//! Seeds in every format, and seeds that fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use kagero::cloud::{DatabaseBirth, Databases as _};

use super::harness::{
    Home, admin, admin_options, config, connect, failure, find, golden, gone, left_over, number, owned, ready, shop,
    spec, start, tags, until,
};

const BIN: &str = "/usr/lib/postgresql/15/bin";

#[tokio::test]
async fn all_three_formats_load() {
    let lane = shop();
    let (source, source_tags) = (spec(&tags(400), "shop"), tags(400));
    ready(&lane, &source_tags, &source).await;
    let home = Home::shared();
    let custom = dump(&lane, home, &source.name, "custom", "shop.dump").await;
    let directory = dump(&lane, home, &source.name, "directory", "shop.dir").await;
    let plain = dump(&lane, home, &source.name, "plain", "shop.dumped.sql").await;
    let seeds = vec![golden("custom", &custom), golden("directory", &directory), golden("plain", &plain)];
    let lane = start(config(home, seeds));
    for (pr, seed) in [(401, "custom"), (402, "directory"), (403, "plain")] {
        let (tags, spec) = (tags(pr), spec(&tags(pr), seed));
        ready(&lane, &tags, &spec).await;
        let mut app = connect(&lane.access(&spec).await.unwrap().application_url).await.unwrap();
        assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 2, "{seed}");
        gone(&lane, &tags, &spec.name).await;
    }
    gone(&lane, &source_tags, &source.name).await;
}

#[tokio::test]
async fn a_broken_statement_is_named_and_nothing_is_left() {
    let home = Home::shared();
    let broken = home.file("broken.sql", "CREATE TABLE a (b int);\nINSERT INTO a\n VALUES (1), ('two');\n");
    let lane = start(config(home, vec![golden("broken", &broken)]));
    let (tags, spec) = (tags(410), spec(&tags(410), "broken"));
    let why = failure(&lane, &tags, &spec).await;
    assert!(why.contains("broken.sql") && why.contains("at line 3"), "{why}");
    assert!(why.contains("invalid input syntax") && why.contains("INSERT INTO a VALUES (1), ('two')"), "{why}");
    assert_eq!(left_over(&lane, "kagero_ladder_golden_broken").await, Vec::<String>::new());
    // The failure stays in sight, and goes with a drop.
    let database = find(&lane, &spec.name).await.unwrap();
    lane.delete(&owned(&database, &tags).unwrap()).await.unwrap();
    until(&lane, &spec.name, |d| d.is_none()).await;
    assert_eq!(left_over(&lane, &spec.name).await, Vec::<String>::new());
    // A corrected seed is taken up without a restart.
    home.file("broken.sql", "CREATE TABLE a (b int);\n");
    ready(&lane, &tags, &spec).await;
    gone(&lane, &tags, &spec.name).await;
}

#[tokio::test]
async fn seeds_that_cannot_be_used_say_why() {
    let home = Home::shared();
    let torn = home.file("torn.dump", "");
    std::fs::write(&torn, b"PGDMP\x01\x0e\x00 torn").unwrap();
    let owner = home.file("owner.sql", "CREATE TABLE a (b int); ALTER TABLE a OWNER TO production;");
    let kagero = home.file("kagero.sql", "CREATE SCHEMA kagero;");
    let program = home.file("program.sql", "CREATE TABLE a (b text); COPY a FROM PROGRAM 'id';");
    let seeds = vec![
        golden("missing", Path::new("/nonexistent/seed.sql")),
        golden("torn", &torn),
        golden("owner", &owner),
        golden("kagero", &kagero),
        golden("program", &program),
    ];
    let lane = start(config(home, seeds));
    for (pr, seed, want) in [
        (420, "missing", "cannot be read"),
        (421, "torn", "expected format"),
        (422, "owner", "--no-owner"),
        (423, "kagero", "--exclude-schema=kagero"),
        (424, "program", "pg_execute_server_program"),
    ] {
        let (tags, spec) = (tags(pr), spec(&tags(pr), seed));
        let why = failure(&lane, &tags, &spec).await;
        assert!(why.contains(want) && why.contains(seed), "{why}");
        assert_eq!(left_over(&lane, &format!("kagero_ladder_golden_{seed}")).await, Vec::<String>::new());
        let database = find(&lane, &spec.name).await.unwrap();
        lane.delete(&owned(&database, &tags).unwrap()).await.unwrap();
        until(&lane, &spec.name, |d| d.is_none()).await;
    }
    let error = lane.prepare(DatabaseBirth::plain(&tags(425), &spec(&tags(425), "unknown"))).await.unwrap_err();
    assert!(error.why.contains("no seed unknown") && error.why.contains("torn"), "{error}");
}

#[tokio::test]
async fn statements_that_dislike_a_transaction_load_all_the_same() {
    let home = Home::shared();
    let seed = home.file("vacuum.sql", "CREATE TABLE a (b int);\nVACUUM a;\nCREATE INDEX CONCURRENTLY i ON a (b);\n");
    let lane = start(config(home, vec![golden("vacuum", &seed)]));
    let (tags, spec) = (tags(430), spec(&tags(430), "vacuum"));
    ready(&lane, &tags, &spec).await;
    gone(&lane, &tags, &spec.name).await;
}

#[tokio::test]
async fn a_loading_that_was_broken_off_is_begun_again_unless_it_is_someone_elses() {
    let home = Home::shared();
    let seed = home.file("half.sql", "CREATE TABLE a (b int);");
    let lane = start(config(home, vec![golden("half", &seed)]));
    let (tags, spec) = (tags(440), spec(&tags(440), "half"));
    shop().load_goldens().await.unwrap();
    let digest = kagero::seed::golden::Digests::default().of(&golden("half", &seed)).await.unwrap();
    let name = kagero::seed::name::GoldenName::derive(&tags.install, &golden("half", &seed).name, &digest);
    let mut superuser = admin(&lane, "postgres").await;
    super::harness::sql(&mut superuser, format!("CREATE DATABASE {} ALLOW_CONNECTIONS false", name.loading))
        .await
        .unwrap();
    let why = failure(&lane, &tags, &spec).await;
    assert!(why.contains("belongs to someone else"), "{why}");
    let adopt = format!("ALTER DATABASE {} OWNER TO kagero_ladder_golden", name.loading);
    super::harness::sql(&mut superuser, adopt).await.unwrap();
    ready(&lane, &tags, &spec).await;
    gone(&lane, &tags, &spec.name).await;
}

async fn dump(
    lane: &kagero::cloud::local::databases::PostgresDatabases,
    home: &Home,
    database: &str,
    format: &str,
    file: &str,
) -> PathBuf {
    use kagero::seed::{scram, tools::PassFile};
    let path = home.path.join(file);
    let admin = "kagero_ladder_admin";
    let password = scram::password(&super::harness::SECRET.into(), admin);
    let pass = PassFile::write(&home.path, admin, &password, None).unwrap();
    let port = admin_options(lane).await.get_port();
    let output = Command::new(format!("{BIN}/pg_dump"))
        .args(["--no-owner", "--no-privileges", "--exclude-schema=kagero", "--host=127.0.0.1", "--no-password"])
        .arg(format!("--port={port}"))
        .arg(format!("--username={admin}"))
        .arg(format!("--format={format}"))
        .arg("--file")
        .arg(&path)
        .arg(database)
        .env("PGPASSFILE", pass.path())
        .output()
        .expect("install it with: apt-get install postgresql-15");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}
