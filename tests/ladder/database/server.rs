//! The server itself: adopted, restarted, stopped, out of reach.

use kagero::cloud::local::databases::{LocalDatabases, ServerConfig, SqliteConfig, SqliteDatabases, probe};
use kagero::cloud::{Databases as _, ErrorClass};
use kagero::domain::observed::DatabaseState;

use super::harness::{Home, SHOP, config, connect, golden, gone, ready, spec, start, tags};

#[tokio::test]
async fn a_cluster_is_made_once_adopted_and_started_again_when_it_died() {
    let home = Home::new();
    let source = home.file("shop.sql", SHOP);
    let settings = config(&home, vec![golden("shop", &source)]);
    let lane = start(settings.clone());
    let (tags, spec) = (tags(600), spec(&tags(600), "shop"));
    ready(&lane, &tags, &spec).await;
    let access = lane.access(&spec).await.unwrap();
    let postmaster = || std::fs::read_to_string(home.path.join("postgres/data/postmaster.pid")).unwrap();
    let first = postmaster();

    let adopted = start(settings.clone());
    ready(&adopted, &tags, &spec).await;
    assert_eq!(first.lines().next(), postmaster().lines().next(), "it was started twice");

    let report = probe(&settings).await;
    assert!(report.is_good(), "{report:?}");

    // It dies; the next request starts it again, at the address that was given out.
    let pid: i32 = first.lines().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGQUIT).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the server does not die");
        crate::wait::look_again().await;
    }
    let listing = lane.list().await.unwrap();
    assert_eq!(listing.items.len(), 1);
    assert_eq!(listing.items[0].state, DatabaseState::Ready);
    connect(&access.application_url).await.unwrap();
    gone(&lane, &tags, &spec.name).await;
    lane.stop().await.unwrap();
    lane.stop().await.unwrap();
    assert!(connect(&access.application_url).await.is_err());
}

#[tokio::test]
async fn a_server_out_of_reach_is_an_error_to_retry_and_never_an_empty_listing() {
    let home = Home::shared();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let source = home.file("unreached.sql", SHOP);
    let mut settings = config(home, vec![golden("shop", &source)]);
    settings.allow = vec![address.to_string()];
    settings.server = ServerConfig::External {
        admin_url: format!("postgres://admin:hunter2@{address}/postgres").into(),
        bin_dir: None,
        open_databases: Vec::new(),
    };
    let lane = start(settings.clone());
    let error = lane.list().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Retry);
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let report = probe(&settings).await;
    assert!(report.server.is_err() && !report.is_good());

    let sqlite = SqliteConfig { state_dir: home.path.clone(), install: settings.install, goldens: vec![], at_once: 1 };
    let both =
        LocalDatabases::new(Some(lane), SqliteDatabases::new(sqlite, std::sync::Arc::new(kagero::clock::SystemClock)));
    assert_eq!(both.list().await.unwrap_err().class, ErrorClass::Retry);
}
