//! A database server of the operator's own, which comes and goes as it likes.

use std::os::unix::fs::PermissionsExt as _;

use kagero::report::view::Phase;

use super::rig::{PATIENCE, Rig, Setup};
use crate::postgres::Postgres;
use crate::wait::eventually;

#[tokio::test]
async fn a_server_that_is_down_is_said_waited_for_and_loses_nothing() {
    let mut server = Postgres::start().await;
    let dba = "CREATE ROLE dba LOGIN CREATEDB CREATEROLE PASSWORD 'x'; GRANT CONNECT ON DATABASE postgres TO dba; \
               REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC";
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    sqlx::raw_sql(dba).execute(&pool).await.unwrap();
    pool.close().await;
    server.stop();

    let mut rig = Rig::prepare(Setup::postgres()).await;
    let secret = rig.dir().join("database-url");
    std::fs::write(&secret, format!("postgres://dba:x@127.0.0.1:{}/postgres", server.port)).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let more = format!(
        "[database.postgres]\nurl = \"file:database-url\"\n\n[allow]\ndatabase_servers = [\"127.0.0.1:{}\"]\n\n[pace]",
        server.port
    );
    rig.reconfigure("[pace]", &more);
    rig.launch().await;
    let first = rig.open("Waits for its data", vec![]).await;
    is_waited_for(&rig, first, 1).await;
    server.start_again().await;
    rig.until_ready(first).await;
    rig.until_logged("the databases can be listed again", 1).await;

    server.stop();
    let second = rig.open("Waits as well", vec![]).await;
    is_waited_for(&rig, second, 2).await;
    assert_eq!(rig.serving(first).await.unwrap(), rig.head(first).await);
    rig.close(first).await;
    rig.until_phase(first, "being taken away", |phase| matches!(phase, Phase::Destroying(_))).await;
    server.start_again().await;
    rig.until_ready(second).await;
    rig.until_gone(first).await;
    rig.finish().await;
}

/// The pull request says what is missing, without an address; the log has the address, once.
async fn is_waited_for(rig: &Rig, number: u64, times: usize) {
    let said = rig.until_says(number, "The database server cannot be reached").await;
    assert!(said.contains("Preview building") && !said.contains("127.0.0.1:"), "{said}");
    rig.until_logged("the databases cannot be listed", times).await;
    eventually("it is asked again", PATIENCE, async || {
        let Some(detail) = rig.detail(number).await? else { return Err("not known yet".to_owned()) };
        let waiting = detail.explanation.waiting.join("; ");
        if waiting.contains("the database server cannot be reached") { Ok(()) } else { Err(waiting) }
    })
    .await;
    let log = rig.log();
    assert_eq!(log.matches("the databases cannot be listed").count(), times, "{log}");
    assert!(log.contains("Connection refused"), "{log}");
}
