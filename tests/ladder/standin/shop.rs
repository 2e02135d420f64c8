//! The demo's shop on SQLite and PostgreSQL: migrations, page, worker. It runs as the built example.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::postgres::Postgres;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const PATIENCE: Duration = Duration::from_mins(1);

/// `target/<profile>/examples/shop`, next to this test's own binary.
fn shop() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let binary = here.parent().unwrap().parent().unwrap().join("examples/shop");
    assert!(binary.exists(), "{} is missing: run `cargo build --no-default-features --example shop`", binary.display());
    binary
}

/// A checkout of the demo's repository, built.
struct Checkout {
    folder: tempfile::TempDir,
    url: String,
}

impl Checkout {
    fn with_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
        Self::at(folder, url)
    }

    fn at(folder: tempfile::TempDir, url: String) -> Self {
        let copy =
            Command::new("cp").arg("-r").arg(format!("{SOURCE}/examples/shop-repo/.")).arg(folder.path()).status();
        assert!(copy.unwrap().success());
        let checkout = Self { folder, url };
        let built = checkout.build();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        checkout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn build(&self) -> Output {
        Command::new("sh").arg("app/build.sh").current_dir(self.folder.path()).output().unwrap()
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(shop());
        command.arg(subcommand).current_dir(self.folder.path()).env_clear();
        command.env("DATABASE_URL", &self.url).env("KAGERO_COMMIT", "0123456789abcdef");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn migrate(&self) -> Output {
        self.command("migrate").output().unwrap()
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

/// A running `shop web` or `shop worker`; ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Sends SIGTERM and waits for the end.
    fn terminate(mut self) -> bool {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().success()
    }
}

/// A page that answers.
struct Web {
    base: String,
    process: Running,
}

impl Web {
    async fn start(checkout: &Checkout) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Running(checkout.command("web").env("PORT", port.to_string()).spawn().unwrap());
        let web = Self { base: format!("http://127.0.0.1:{port}"), process };
        until("the page is healthy", async || {
            reqwest::get(format!("{}/healthz", web.base)).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        web
    }

    async fn text(&self, path: &str) -> String {
        reqwest::get(format!("{}{path}", self.base)).await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        crate::wait::look_again().await;
    }
}

async fn seed_sqlite(path: &Path) {
    let sql = std::fs::read_to_string(format!("{SOURCE}/examples/shop-seed/golden.sqlite.sql")).unwrap();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    pool.close().await;
}

#[test]
fn the_golden_files_are_what_the_generator_writes() {
    let folder = tempfile::tempdir().unwrap();
    let copy = Command::new("cp")
        .args(["-r", &format!("{SOURCE}/examples/shop-repo"), &format!("{SOURCE}/examples/shop-seed")])
        .arg(folder.path())
        .status();
    assert!(copy.unwrap().success());
    let seed = folder.path().join("shop-seed");
    assert!(Command::new("sh").arg(seed.join("generate.sh")).status().unwrap().success());
    for name in ["golden.sql", "golden.sqlite.sql"] {
        let committed = std::fs::read_to_string(format!("{SOURCE}/examples/shop-seed/{name}")).unwrap();
        let written = std::fs::read_to_string(seed.join(name)).unwrap();
        assert!(committed == written, "{name} is stale: run `sh examples/shop-seed/generate.sh`");
    }
}

#[tokio::test]
async fn migrations_run_once_and_a_broken_one_changes_nothing() {
    let checkout = Checkout::with_sqlite();
    assert!(checkout.migrate().status.success());
    let again = checkout.migrate();
    assert!(String::from_utf8_lossy(&again.stderr).contains("0 of 2 migrations were due"), "{again:?}");
    let broken = "ALTER TABLE orders ADD COLUMN half TEXT;\nALTER TABLE nowhere ADD COLUMN x TEXT;\n";
    std::fs::write(checkout.path("migrations/0003_broken.sql"), broken).unwrap();
    let failed = checkout.migrate();
    assert!(!failed.status.success());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("migration 0003_broken failed") && said.contains("nowhere"), "{said}");
    std::fs::write(checkout.path("migrations/0003_broken.sql"), "ALTER TABLE orders ADD COLUMN half TEXT;\n").unwrap();
    assert!(checkout.migrate().status.success(), "half of the broken one was kept");
}

#[tokio::test]
async fn a_colour_that_is_none_fails_the_build_with_its_name() {
    let checkout = Checkout::with_sqlite();
    checkout.edit("app/theme.toml", "#0f766e", "fire red");
    let built = checkout.build();
    assert!(!built.status.success());
    assert!(String::from_utf8_lossy(&built.stderr).contains("not \"fire red\""), "{built:?}");
}

#[tokio::test]
async fn the_page_lists_places_and_moves_orders_on_sqlite() {
    let checkout = Checkout::with_sqlite();
    seed_sqlite(&checkout.path("shop.db")).await;
    assert!(checkout.migrate().status.success());
    page_and_worker(&checkout, "sqlite").await;
}

#[tokio::test]
async fn a_new_column_is_shown_once_its_migration_has_run() {
    let checkout = Checkout::with_sqlite();
    seed_sqlite(&checkout.path("shop.db")).await;
    checkout.edit("app/theme.toml", "\"total\"", "\"total\", \"gift_note\"");
    let migration = "ALTER TABLE orders ADD COLUMN gift_note TEXT NOT NULL DEFAULT 'With best wishes';\n";
    std::fs::write(checkout.path("migrations/0003_gift_note.sql"), migration).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let early = Running(checkout.command("web").env("PORT", port.to_string()).spawn().unwrap());
    until("the page says why it is not healthy", async || {
        match reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await {
            Ok(answer) => answer.status() == 503 && answer.text().await.unwrap().contains("shop migrate"),
            Err(_) => false,
        }
    })
    .await;
    drop(early);
    assert!(checkout.migrate().status.success());
    let web = Web::start(&checkout).await;
    let page = web.text("/").await;
    assert!(page.contains("Gift note") && page.contains("With best wishes"), "{page}");
}

#[tokio::test]
async fn the_page_lists_places_and_moves_orders_on_postgres() {
    let mut server = Postgres::start().await;
    let checkout = Checkout::at(tempfile::tempdir().unwrap(), server.url());
    let sql = std::fs::read_to_string(format!("{SOURCE}/examples/shop-seed/golden.sql")).unwrap();
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    pool.close().await;
    assert!(checkout.migrate().status.success());
    page_and_worker(&checkout, "postgres").await;
    server.stop();
}

async fn page_and_worker(checkout: &Checkout, engine: &str) {
    let web = Web::start(checkout).await;
    let version = web.json("/version").await;
    assert_eq!((version["commit"].as_str(), version["engine"].as_str()), (Some("0123456789abcdef"), Some(engine)));
    let page = web.text("/").await;
    assert!(page.contains("Kumo &amp; Co.") && page.contains("№ 500") && page.contains("0123456"), "{page}");
    assert!(web.text("/public/app.css").await.contains("--accent: #0f766e"));
    assert!(web.text("/stock").await.contains("Fountain pen, cedar"));
    assert!(web.text("/orders/500").await.contains("Total"));

    let form = [("customer", "1"), ("product", "7"), ("quantity", "2")];
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let placed = client.post(format!("{}/orders", web.base)).form(&form).send().await.unwrap();
    assert_eq!(placed.status(), 303);
    let newest = web.json("/api/orders").await;
    assert_eq!((newest[0]["id"].as_i64(), newest[0]["status"].as_str()), (Some(501), Some("new")));
    assert_eq!(newest[0]["total_cents"], 17_800);
    let odd =
        client.post(format!("{}/orders", web.base)).form(&[("customer", "1"), ("product", "99"), ("quantity", "2")]);
    assert_eq!(odd.send().await.unwrap().status(), 422);
    assert_eq!(web.json("/api/orders").await[0]["id"], 501, "an order without a product is not kept");

    let worker = Running(checkout.command("worker").spawn().unwrap());
    until("the worker moves orders", async || {
        let packed = web.json("/api/orders?status=shipped").await;
        packed.as_array().unwrap().iter().any(|order| order["id"].as_i64() == Some(501))
    })
    .await;
    assert!(web.text("/").await.contains("worker:"));
    assert!(worker.terminate(), "the worker ends well at SIGTERM");
    assert!(web.process.terminate(), "the page ends well at SIGTERM");
}
