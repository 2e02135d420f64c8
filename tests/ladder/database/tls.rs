//! A server that takes encrypted connections only, with a certificate by an authority that nobody else knows.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use kagero::cloud::local::databases::ServerConfig;
use kagero::cloud::{Databases as _, ErrorClass};
use kagero::domain::id::InstallId;
use kagero::store::{Store, StoreError};

use super::harness::{
    Home, SHOP, admin, admin_options, config, connect, golden, gone, number, ready, spec, sql, start, tags, tags_of,
};

/// Runs openssl, which comes with PostgreSQL's Debian packages.
fn openssl(home: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(home).output();
    let done = done.unwrap_or_else(|error| panic!("openssl does not start: {error}. Install it with: make setup"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, and a certificate by it for 127.0.0.1.
fn certificates(home: &Path, authority: &str) {
    let new = "req -new -newkey rsa:2048 -nodes";
    openssl(home, &format!("{new} -x509 -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"));
    openssl(home, &format!("{new} -subj /CN=db -keyout {authority}-db.key -out {authority}-db.csr"));
    std::fs::write(home.join("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl(
        home,
        &format!(
            "x509 -req -days 2 -in {authority}-db.csr -CA {authority}.pem -CAkey {authority}.key -set_serial 1 \
             -extfile names -out {authority}-db.pem"
        ),
    );
}

#[tokio::test]
async fn a_server_is_reached_encrypted_and_verified_or_not_at_all() {
    let home = Home::new();
    let source = home.file("shop.sql", SHOP);
    let private = start(config(&home, vec![golden("shop", &source)]));
    ready(&private, &tags(800), &spec(&tags(800), "shop")).await;
    gone(&private, &tags(800), &spec(&tags(800), "shop").name).await;
    let mut superuser = admin(&private, "postgres").await;
    sql(&mut superuser, "CREATE ROLE outer_dba LOGIN CREATEDB CREATEROLE PASSWORD 'x'").await.unwrap();
    sql(&mut superuser, "GRANT CONNECT ON DATABASE postgres TO outer_dba").await.unwrap();

    certificates(&home.path, "known");
    certificates(&home.path, "unknown");
    let data = home.path.join("postgres/data");
    let owner = std::fs::metadata(&data).unwrap();
    for file in ["known-db.key", "known-db.pem"] {
        std::fs::copy(home.path.join(file), data.join(file)).unwrap();
        chown(data.join(file), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let admin_role = "kagero_ladder_admin";
    let rules =
        format!("host all {admin_role} 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    for setting in ["ssl_cert_file = 'known-db.pem'", "ssl_key_file = 'known-db.key'", "ssl = on"] {
        sql(&mut superuser, format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    sql(&mut superuser, "SELECT pg_reload_conf()").await.unwrap();

    let port = admin_options(&private).await.get_port();
    let with = |query: &str| {
        let mut settings = config(&home, vec![golden("shop", &source)]);
        settings.install = InstallId::parse("outer").unwrap();
        settings.allow = vec![format!("127.0.0.1:{port}")];
        settings.server = ServerConfig::External {
            admin_url: format!("postgres://outer_dba:x@127.0.0.1:{port}/postgres?{query}").into(),
            bin_dir: None,
            open_databases: Vec::new(),
        };
        start(settings)
    };
    let root = |authority: &str| home.path.join(authority).with_extension("pem").display().to_string();

    let lane = with(&format!("sslmode=verify-full&sslrootcert={}", root("known")));
    crate::wait::eventually("the server has read its settings", std::time::Duration::from_mins(1), async || {
        lane.list().await.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    let tags = tags_of(&InstallId::parse("outer").unwrap(), 801);
    let spec = spec(&tags, "shop");
    ready(&lane, &tags, &spec).await;
    let access = lane.access(&spec).await.unwrap();
    let mut app = connect(&access.application_url).await.unwrap();
    assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 2);
    assert_eq!(number(&mut app, "SELECT ssl::int::bigint FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await, 1);
    drop(app);
    gone(&lane, &tags, &spec.name).await;

    let plain = with("sslmode=disable").list().await.unwrap_err();
    assert_eq!(plain.class, ErrorClass::Denied, "{plain}");
    let foreign = with(&format!("sslmode=verify-full&sslrootcert={}", root("unknown"))).list().await.unwrap_err();
    assert_eq!(foreign.class, ErrorClass::Denied, "{foreign}");
    assert!(foreign.to_string().contains("certificate"), "{foreign}");

    let mut outer =
        connect(&format!("postgres://outer_dba:x@127.0.0.1:{port}/postgres?sslmode=require")).await.unwrap();
    sql(&mut outer, "CREATE DATABASE records").await.unwrap();
    let open = async |query: String| {
        Store::open(&format!("postgres://outer_dba:x@127.0.0.1:{port}/records?{query}"))
            .await
            .map(|store| (store, query))
    };
    let (store, _) = open(format!("sslmode=verify-full&sslrootcert={}", root("known"))).await.unwrap();
    store.set_mark("m", 1).await.unwrap();
    let secured = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                   WHERE a.datname = 'records' AND NOT s.ssl";
    assert_eq!(number(&mut superuser, secured).await, 0, "a connection in plain text");
    store.close().await;
    for query in ["sslmode=disable".to_owned(), format!("sslmode=verify-full&sslrootcert={}", root("unknown"))] {
        let Err(error) = open(query.clone()).await else { panic!("{query} was opened") };
        assert!(matches!(error, StoreError::Denied { .. }), "{query}: {error:?}");
    }
    private.stop().await.unwrap();
}
