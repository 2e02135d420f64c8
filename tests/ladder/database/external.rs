//! A server that the operator names, with an administrator who is no superuser.

use kagero::cloud::local::databases::{PostgresDatabases, ServerConfig, probe};
use kagero::cloud::{Databases as _, ErrorClass};
use kagero::domain::id::InstallId;

use super::harness::{
    Home, SHOP, admin, admin_options, config, connect, failure, golden, left_over, number, ready, shop, spec, sql,
    start, tags_of, until,
};

async fn lane(name: &str, rights: &str) -> (PostgresDatabases, kagero::cloud::local::databases::PostgresConfig) {
    let private = shop();
    let mut superuser = admin(&private, "postgres").await;
    sql(&mut superuser, format!("CREATE ROLE {name}_dba LOGIN {rights} PASSWORD 'x'")).await.unwrap();
    sql(&mut superuser, format!("GRANT CONNECT ON DATABASE postgres TO {name}_dba")).await.unwrap();
    let port = admin_options(&private).await.get_port();
    let home = Home::shared();
    let source = home.file(&format!("{name}.sql"), SHOP);
    let mut settings = config(home, vec![golden("shop", &source)]);
    settings.install = InstallId::parse(name).unwrap();
    settings.allow = vec![format!("127.0.0.1:{port}")];
    settings.server = ServerConfig::External {
        admin_url: format!("postgres://{name}_dba:x@127.0.0.1:{port}/postgres").into(),
        bin_dir: None,
        open_databases: Vec::new(),
    };
    (start(settings.clone()), settings)
}

#[tokio::test]
async fn an_administrator_without_superuser_is_enough() {
    let (lane, settings) = lane("outer", "CREATEDB CREATEROLE").await;
    assert!(probe(&settings).await.is_good());
    let tags = tags_of(&settings.install, 700);
    let spec = spec(&tags, "shop");
    let database = ready(&lane, &tags, &spec).await;
    let access = lane.access(&spec).await.unwrap();
    let mut app = connect(&access.application_url).await.unwrap();
    assert_eq!(number(&mut app, "SELECT count(*) FROM products").await, 2);
    let mut migration = connect(&access.migration_url).await.unwrap();
    sql(&mut migration, "ALTER TABLE products ADD COLUMN a int").await.unwrap();
    let claim = kagero::domain::owned::Claim { install: &tags.install, uid: &tags.uid, generation: tags.generation };
    let place = super::harness::allow(&database);
    let owned = kagero::domain::owned::prove_database(&database, claim, &place).unwrap();
    lane.delete(&owned).await.unwrap();
    until(&lane, &spec.name, |d| d.is_none()).await;
    assert_eq!(left_over(&shop(), &spec.name).await, Vec::<String>::new());
}

#[tokio::test]
async fn missing_rights_are_named() {
    let (lane, settings) = lane("weak", "NOCREATEDB NOCREATEROLE").await;
    let report = probe(&settings).await;
    let problems = report.server.unwrap().problems.join("; ");
    assert!(problems.contains("CREATEDB") && problems.contains("CREATEROLE"), "{problems}");
    let tags = tags_of(&settings.install, 710);
    let why = failure(&lane, &tags, &spec(&tags, "shop")).await;
    assert!(why.contains("42501") && why.contains("Grant the administrator"), "{why}");
    let mut wrong = settings.clone();
    if let ServerConfig::External { admin_url, .. } = &mut wrong.server {
        use secrecy::ExposeSecret as _;
        *admin_url = admin_url.expose_secret().replace(":x@", ":y@").into();
    }
    assert_eq!(start(wrong).list().await.unwrap_err().class, ErrorClass::Denied);
}
