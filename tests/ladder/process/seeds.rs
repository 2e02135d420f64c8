//! Seeds that are missing or broken: said on the pull request, and mended without a restart.

use std::process::Command;

use super::rig::{ACTOR, Rig, Setup};
use crate::postgres::{self, Postgres, SUPERUSER};

/// A dump in PostgreSQL's own format.
async fn dump() -> Vec<u8> {
    let mut server = Postgres::start().await;
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let things = "CREATE TABLE things (id int PRIMARY KEY, name text NOT NULL); \
                  INSERT INTO things SELECT n, md5(n::text) FROM generate_series(1, 5000) n";
    sqlx::raw_sql(things).execute(&pool).await.unwrap();
    pool.close().await;
    let mut program = Command::new(postgres::program("pg_dump"));
    program.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", SUPERUSER, "-Fc", "postgres"]);
    let dumped = program.output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    server.stop();
    dumped.stdout
}

#[tokio::test]
async fn a_seed_that_cannot_be_loaded_names_file_place_and_remedy_and_is_mended_in_place() {
    let mut rig = Rig::prepare(Setup::postgres()).await;
    rig.reconfigure("format = \"plain\"", "format = \"auto\"");
    let seed = rig.dir().join("golden.sql");
    std::fs::remove_file(&seed).unwrap();
    rig.launch().await;

    let missing = rig.open("Finds no seed", vec![]).await;
    let said = rig.until_says(missing, "Preview failed").await;
    for part in ["seed golden", "golden.sql cannot be read: No such file", "Put the seed there"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    std::fs::write(&seed, "CREATE TABLE things (id int);\nINSERT INTO thinks VALUES (1);\n").unwrap();
    let failing = rig.open("Finds a typing error", vec![]).await;
    let said = rig.until_says(failing, "Preview failed").await;
    for part in ["golden.sql failed at line 2", "thinks", "INSERT INTO thinks VALUES", "Correct the seed"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    let whole = dump().await;
    std::fs::write(&seed, &whole[..whole.len() * 2 / 3]).unwrap();
    let truncated = rig.open("Finds half a dump", vec![]).await;
    let said = rig.until_says(truncated, "Preview failed").await;
    for part in ["golden.sql failed", "end of file", "The dump is cut off"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    std::fs::write(&seed, &whole).unwrap();
    let good = rig.open("Finds all of it", vec![]).await;
    rig.until_ready(good).await;
    // One who came too early gets it when it begins anew, as it was told.
    assert!(said.contains("at once when the pull request is closed and, after its preview was destroyed, reopened"));
    rig.close(missing).await;
    rig.until_gone(missing).await;
    rig.github.repo().reopen(missing, ACTOR).await.unwrap();
    rig.until_ready(missing).await;
    rig.finish().await;
}
