//! One private cluster for all tests of this process, and short words for what they do.
//!
//! A shell waits for the end of this process, however it comes, and then stops the cluster and removes its
//! files.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::local::databases::{Durability, PRIVATE_NETWORK, PostgresConfig, PostgresDatabases, ServerConfig};
use kagero::cloud::{DatabaseBirth, Databases};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::id::{DatabaseId, EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId, SeedName};
use kagero::domain::observed::{Database, DatabaseState, Tags};
use kagero::domain::owned::{Claim, Owned, Refusal, prove_database};
use kagero::domain::policy::{AllowList, Engine};
use kagero::seed::golden::Golden;
use kagero::seed::role::RoleLimits;
use kagero::seed::scram;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

pub const INSTALL: &str = "ladder";
pub const SECRET: &str = "a secret of the tests";

pub const SHOP: &str = "
CREATE TABLE products (id serial PRIMARY KEY, name text NOT NULL);
INSERT INTO products (name) VALUES ('tea'), ('rice');
CREATE SCHEMA stock;
CREATE TABLE stock.shelves (id int PRIMARY KEY, product int REFERENCES public.products);
CREATE VIEW stock.names AS SELECT name FROM public.products;
CREATE FUNCTION public.hush() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION public.hush() FROM PUBLIC;
";

/// A directory that goes with its cluster when this process ends.
pub struct Home {
    pub path: PathBuf,
    _reaper: Child,
}

impl Home {
    pub fn new() -> Self {
        let path = tempfile::Builder::new().prefix("kgt").tempdir().unwrap().keep();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).unwrap();
        let script = r#"cat >/dev/null
            pid=$(head -n1 "$0/postgres/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
            while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
            rm -rf "$0""#;
        let reaper = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { path, _reaper: reaper }
    }

    pub fn shared() -> &'static Self {
        static HOME: OnceLock<Home> = OnceLock::new();
        HOME.get_or_init(Self::new)
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

pub fn install() -> InstallId {
    InstallId::parse(INSTALL).unwrap()
}

pub fn seed(name: &str) -> SeedName {
    SeedName::parse(name).unwrap()
}

pub fn golden(name: &str, source: &Path) -> Golden {
    Golden { name: seed(name), source: source.to_owned(), format: None, extensions: Vec::new() }
}

pub fn config(home: &Home, goldens: Vec<Golden>) -> PostgresConfig {
    PostgresConfig {
        server: ServerConfig::Private { bin_dir: None, user: None, durability: Durability::ThrowAway },
        state_dir: home.path.clone(),
        install: install(),
        secret: SecretString::from(SECRET),
        goldens,
        allow: vec![PRIVATE_NETWORK.to_owned()],
        limits: RoleLimits::default(),
        at_once: 4,
    }
}

pub fn start(config: PostgresConfig) -> PostgresDatabases {
    PostgresDatabases::new(config, Arc::new(SystemClock)).unwrap()
}

/// The lane on the shared cluster, with the seed `shop`.
pub fn shop() -> PostgresDatabases {
    static SEED: OnceLock<PathBuf> = OnceLock::new();
    let home = Home::shared();
    let path = SEED.get_or_init(|| home.file("shop.sql", SHOP));
    start(config(home, vec![golden("shop", path)]))
}

/// Tags of a pull request's environment. Tests use numbers of their own.
pub fn tags(pr: u64) -> Tags {
    tags_of(&install(), pr)
}

pub fn tags_of(install: &InstallId, pr: u64) -> Tags {
    let key = EnvKey { repo: RepoId(7), pr: PrNumber(pr) };
    Tags { install: install.clone(), uid: EnvUid::derive(install, key), key, generation: Generation::FIRST }
}

pub fn spec(tags: &Tags, seed_name: &str) -> DatabaseSpec {
    let name = format!("kagero_{}_{}_g{}", tags.install, tags.uid, tags.generation);
    DatabaseSpec { name, engine: Engine::Postgres, seed: seed(seed_name) }
}

/// Allows the very place where it is: what the lane itself checks is not what the evidence rests on.
pub fn allow(database: &Database) -> AllowList {
    let place = database.location.clone();
    AllowList { accounts: vec![place.account], regions: vec![place.region], networks: vec![place.network] }
}

pub async fn find(lane: &dyn Databases, name: &str) -> Option<Database> {
    let listing = lane.list().await.unwrap();
    assert!(listing.complete);
    listing.items.into_iter().find(|database| database.name == name)
}

/// Looks until the condition holds; a minute is more than a loaded machine needs.
pub async fn until(lane: &dyn Databases, name: &str, holds: impl Fn(Option<&Database>) -> bool) -> Option<Database> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let found = find(lane, name).await;
        if holds(found.as_ref()) {
            return found;
        }
        assert!(Instant::now() < deadline, "{name} is still {found:?}");
        crate::wait::look_again().await;
    }
}

/// Prepares and waits until it is ready; a failure is a failure of the test.
pub async fn ready(lane: &dyn Databases, tags: &Tags, spec: &DatabaseSpec) -> Database {
    lane.prepare(DatabaseBirth::plain(tags, spec)).await.unwrap();
    let done = until(lane, &spec.name, |d| {
        matches!(d.map(|d| &d.state), Some(DatabaseState::Ready | DatabaseState::Failed(_)))
    });
    let database = done.await.unwrap();
    assert_eq!(database.state, DatabaseState::Ready, "{}", spec.name);
    assert_eq!(database.tags.as_ref(), Some(tags));
    database
}

/// Prepares and waits until it has failed.
pub async fn failure(lane: &dyn Databases, tags: &Tags, spec: &DatabaseSpec) -> String {
    lane.prepare(DatabaseBirth::plain(tags, spec)).await.unwrap();
    failed(lane, &spec.name).await
}

pub async fn failed(lane: &dyn Databases, name: &str) -> String {
    let database = until(lane, name, |d| matches!(d.map(|d| &d.state), Some(DatabaseState::Failed(_)))).await;
    match database.unwrap().state {
        DatabaseState::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

pub fn owned(database: &Database, tags: &Tags) -> Result<Owned<DatabaseId>, Refusal> {
    let claim = Claim { install: &tags.install, uid: &tags.uid, generation: tags.generation };
    prove_database(database, claim, &allow(database))
}

/// Drops with fresh evidence and waits until nothing is listed.
pub async fn gone(lane: &dyn Databases, tags: &Tags, name: &str) {
    let database = find(lane, name).await.expect("it is there before it is dropped");
    lane.delete(&owned(&database, tags).unwrap()).await.unwrap();
    until(lane, name, |d| d.is_none()).await;
}

pub async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(url).await
}

/// The superuser of the shared cluster, inside a database.
pub async fn admin(lane: &PostgresDatabases, database: &str) -> PgConnection {
    PgConnection::connect_with(&admin_options(lane).await.database(database)).await.unwrap()
}

pub async fn admin_options(lane: &PostgresDatabases) -> PgConnectOptions {
    let any = lane.access(&spec(&tags(0), "shop")).await.unwrap();
    let port = url::Url::parse(&any.application_url).unwrap().port().unwrap();
    let name = format!("kagero_{INSTALL}_admin");
    let password = scram::password(&SecretString::from(SECRET), &name);
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(&name)
        .password(password.expose_secret())
}

pub async fn sql(connection: &mut PgConnection, text: impl Into<String>) -> Result<(), sqlx::Error> {
    match sqlx::raw_sql(AssertSqlSafe(text.into())).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The SQLSTATE with which a statement was refused.
pub async fn refused(connection: &mut PgConnection, text: impl Into<String>) -> String {
    let text = text.into();
    match sql(connection, text.clone()).await {
        Ok(()) => panic!("not refused: {text}"),
        Err(sqlx::Error::Database(error)) => error.code().unwrap().into_owned(),
        Err(error) => panic!("{text}: {error}"),
    }
}

pub async fn number(connection: &mut PgConnection, text: impl Into<String>) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(text.into())).fetch_one(connection).await.unwrap()
}

/// Names of databases and roles on the server that begin so: what a test must not leave behind.
pub async fn left_over(lane: &PostgresDatabases, prefix: &str) -> Vec<String> {
    let mut admin = admin(lane, "postgres").await;
    sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1) \
         UNION ALL SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1) ORDER BY 1",
    )
    .bind(prefix)
    .fetch_all(&mut admin)
    .await
    .unwrap()
}

pub fn now() -> kagero::domain::time::Timestamp {
    SystemClock.now()
}

pub fn by_name(items: Vec<Database>) -> BTreeMap<String, Database> {
    items.into_iter().map(|database| (database.name.clone(), database)).collect()
}
