//! The lane for where nothing is installed: a copy of a golden SQLite file per environment.
//!
//! A database is a directory with the file and an owner record beside it. It is filled under another name
//! and renamed when complete; dropping renames it away first and removes the owner record last. So whatever
//! a crash leaves is either complete or says whose it is. The file has a directory of its own: that one is
//! given to the environment's processes, the owner record is not.
//!
//! Guarantees: see [`crate::cloud::Databases`]; a directory without this environment's owner record is
//! never touched; where the file system shares blocks, a copy takes no space and no time.
//! Must not know: PostgreSQL.

mod goldens;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nix::unistd::geteuid;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, Semaphore};

use crate::clock::Clock;
use crate::cloud::{CloudError, DatabaseAccess, DatabaseBirth, Databases, cannot_stop};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, InstallId, SeedName};
use crate::domain::observed::{Database, DatabaseState, Listing, Location, Residue, Tags};
use crate::domain::owned::{Owned, OwnedResidue, name_prefix};
use crate::seed::golden::{Digests, Golden, SeedError, SeedFormat};
use crate::seed::marker::Marker;
use crate::seed::name::{DatabaseName, GoldenName};
use crate::seed::script;

use super::fault;
use super::tasks::{Begin, Tasks};

/// What stands where a server's `host:port` would.
pub const HOST_NETWORK: &str = "host";

/// What the ids of this provider begin with.
pub(super) const ID_PREFIX: &str = "sqlite:";

const FILE: &str = "db.sqlite";
/// Holds the file, and the journals that SQLite puts beside it.
const DATA: &str = "data";
const OWNER: &str = "owner.json";
const HALF_MADE: &str = ".half-made-";
const DROPPING: &str = ".dropping-";

/// The settings of this lane.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// Kagero's state directory; databases and goldens live below it.
    pub state_dir: PathBuf,
    /// This installation.
    pub install: InstallId,
    /// The golden data: SQL text or SQLite files.
    pub goldens: Vec<Golden>,
    /// How many databases are copied or removed at once.
    pub at_once: usize,
}

/// The lane on SQLite files.
#[derive(Clone)]
pub struct SqliteDatabases {
    inner: Arc<Inner>,
}

struct Inner {
    state_dir: PathBuf,
    install: InstallId,
    goldens: BTreeMap<SeedName, Golden>,
    digests: Digests,
    making_golden: Mutex<()>,
    seats: Semaphore,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl SqliteDatabases {
    /// Sets the lane up; no file is touched yet.
    pub fn new(config: SqliteConfig, clock: Arc<dyn Clock>) -> Self {
        let state_dir = std::path::absolute(&config.state_dir).unwrap_or(config.state_dir);
        let inner = Inner {
            state_dir,
            install: config.install,
            goldens: config.goldens.into_iter().map(|golden| (golden.name.clone(), golden)).collect(),
            digests: Digests::default(),
            making_golden: Mutex::new(()),
            seats: Semaphore::new(config.at_once.max(1)),
            tasks: Tasks::default(),
            clock,
        };
        Self { inner: Arc::new(inner) }
    }
}

#[async_trait]
impl Databases for SqliteDatabases {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let at = self.inner.clock.now();
        let before = self.inner.tasks.snapshot();
        let location = self.inner.location();
        let database = |name: &str, tags, state| {
            let (name, location) = (name.to_owned(), location.clone());
            let id = id_of(&name).ok()?;
            Some(Database { id, name, tags, location, state, can_stop: false, slot: None, read_at: at })
        };
        let found = self.inner.find()?;
        let found = found.into_iter().filter_map(|(name, (tags, state))| database(&name, tags, state)).collect();
        let items = self.inner.tasks.overlay(before, found, |name| database(name, None, DatabaseState::Preparing));
        Ok(Listing { items, complete: true, at })
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        let DatabaseBirth { tags, database, .. } = birth;
        let what = format!("prepare database {}", database.name);
        let name = self.inner.parse(&what, &database.name)?;
        if tags.install != self.inner.install {
            return Err(fault::bug(what, format!("it is for installation {}", tags.install)));
        }
        let Some(golden) = self.inner.goldens.get(&database.seed).cloned() else {
            return Err(fault::denied(what, format!("there is no seed {} in kagero.toml", database.seed)));
        };
        let id = id_of(name.as_str())?;
        if let Begin::Now(run) = self.inner.tasks.begin_prepare(name.as_str(), tags)? {
            let (inner, tags) = (Arc::clone(&self.inner), tags.clone());
            tokio::spawn(async move {
                let outcome = inner.prepare(&name, &tags, &golden).await;
                if let Err(error) = &outcome {
                    tracing::warn!(env.uid = %tags.uid, database.name = %name, error = %error, "a database could not be prepared");
                }
                inner.tasks.prepared(&run, &outcome);
            });
        }
        Ok(id)
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        Err(cannot_stop(database))
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = format!("drop database {}", database.name());
        if !database.is_fresh(self.inner.clock.now()) {
            return Err(fault::retry(what, "it was read too long ago to rest a drop on; list the databases again"));
        }
        let name = self.inner.parse(&what, database.name())?;
        if id_of(name.as_str())? != *database.id() {
            return Err(fault::bug(what, format!("its id is {}, which does not go with its name", database.id())));
        }
        if let Begin::Now(run) = self.inner.tasks.begin_drop(name.as_str(), database.tags()) {
            let (inner, tags) = (Arc::clone(&self.inner), database.tags().clone());
            tokio::spawn(async move {
                let outcome = inner.take_away(&name, &tags).await;
                if let Err(error) = &outcome {
                    tracing::warn!(env.uid = %tags.uid, database.name = %name, error = %error, "a database could not be dropped");
                }
                inner.tasks.dropped(&run, &outcome);
            });
        }
        Ok(())
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        let at = self.inner.clock.now();
        Ok(Listing { items: self.inner.list_goldens().await?, complete: true, at })
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        let what = format!("drop golden {}", golden.name());
        if !golden.is_fresh(self.inner.clock.now()) {
            return Err(fault::retry(what, "it was read too long ago to rest a drop on; list the goldens again"));
        }
        self.inner.drop_golden(&what, golden).await
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        let name = self.inner.parse(&format!("address database {}", database.name), &database.name)?;
        let directory = self.inner.databases().join(name.as_str()).join(DATA);
        let url = format!("sqlite://{}", directory.join(FILE).display());
        Ok(DatabaseAccess { application_url: url.clone(), migration_url: url, paths: vec![directory] })
    }
}

fn id_of(name: &str) -> Result<DatabaseId, CloudError> {
    DatabaseId::parse(format!("{ID_PREFIX}{name}"))
        .map_err(|error| fault::bug(format!("name database {name}"), error.to_string()))
}

impl Inner {
    fn databases(&self) -> PathBuf {
        self.state_dir.join("databases")
    }

    fn parse(&self, what: &str, name: &str) -> Result<DatabaseName, CloudError> {
        DatabaseName::parse(&self.install, name).map_err(|error| fault::bug(what, error.to_string()))
    }

    fn location(&self) -> Location {
        let account = self.state_dir.display().to_string();
        Location { account, region: "local".to_owned(), network: HOST_NETWORK.to_owned() }
    }

    /// Complete databases and what is left of others, by name.
    fn find(&self) -> Result<BTreeMap<String, (Option<Tags>, DatabaseState)>, CloudError> {
        let failed = |error: &io::Error| fault::io("list the databases", error);
        let mut all = BTreeMap::new();
        let entries = match std::fs::read_dir(self.databases()) {
            Ok(entries) => entries,
            // Nothing was ever made: that is known, because the state directory itself is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.state_dir.is_dir() => return Ok(all),
            Err(error) => return Err(failed(&error)),
        };
        let prefix = name_prefix(&self.install, '_');
        for entry in entries {
            let entry = entry.map_err(|error| failed(&error))?;
            let Ok(file_name) = entry.file_name().into_string() else { continue };
            let (name, state) = if let Some(name) = file_name.strip_prefix(HALF_MADE) {
                let why = "preparing it was broken off: prepare or drop it again";
                (name, DatabaseState::Failed(why.to_owned()))
            } else if let Some(name) = file_name.strip_prefix(DROPPING) {
                (name, DatabaseState::Failed("dropping it was broken off: drop it again".to_owned()))
            } else {
                (file_name.as_str(), DatabaseState::Ready)
            };
            if !name.starts_with(&prefix) {
                continue;
            }
            let tags = owner(&entry.path(), name).map_err(|error| failed(&error))?;
            // A left-over that says nothing of its owner hides nothing that is complete.
            if state == DatabaseState::Ready || (tags.is_some() && !all.contains_key(name)) {
                all.insert(name.to_owned(), (tags, state));
            }
        }
        Ok(all)
    }

    async fn prepare(&self, name: &DatabaseName, tags: &Tags, golden: &Golden) -> Result<(), CloudError> {
        let what = format!("prepare database {name}");
        let _seat = self.seats.acquire().await.map_err(|error| fault::bug(&what, error.to_string()))?;
        let golden = self.ensure_golden(golden).await?;
        let (databases, name, tags) = (self.databases(), name.clone(), tags.clone());
        blocking(&what, move || {
            let (complete, half_made) = (databases.join(name.as_str()), databases.join(format!("{HALF_MADE}{name}")));
            if complete.exists() {
                return match owner(&complete, name.as_str())? {
                    Some(found) if found == tags => Ok(()),
                    _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, SOMEONE_ELSES)),
                };
            }
            std::fs::create_dir_all(&databases)?;
            // Names are not for everybody to list: see `open_to_agents`.
            std::fs::set_permissions(&databases, Permissions::from_mode(0o711))?;
            clear(&half_made, &name, &tags)?;
            std::fs::create_dir(&half_made)?;
            let marker = Marker::Environment { tags, database: name.as_str().to_owned() };
            std::fs::write(half_made.join(OWNER), marker.to_text())?;
            // Shares blocks where the file system can: the kernel's copy_file_range tries that first.
            let data = half_made.join(DATA);
            std::fs::create_dir(&data)?;
            std::fs::copy(&golden, data.join(FILE))?;
            open_to_agents(&data)?;
            std::fs::rename(&half_made, &complete)
        })
        .await
    }

    async fn take_away(&self, name: &DatabaseName, tags: &Tags) -> Result<(), CloudError> {
        let what = format!("drop database {name}");
        let _seat = self.seats.acquire().await.map_err(|error| fault::bug(&what, error.to_string()))?;
        let (databases, name, tags) = (self.databases(), name.clone(), tags.clone());
        blocking(&what, move || {
            let (complete, dropping) = (databases.join(name.as_str()), databases.join(format!("{DROPPING}{name}")));
            clear(&databases.join(format!("{HALF_MADE}{name}")), &name, &tags)?;
            clear(&dropping, &name, &tags)?;
            if !complete.exists() {
                return Ok(());
            }
            if owner(&complete, name.as_str())?.as_ref() != Some(&tags) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, SOMEONE_ELSES));
            }
            std::fs::rename(&complete, &dropping)?;
            clear(&dropping, &name, &tags)
        })
        .await
    }

    /// The file that is copied, made from its seed if it is not there yet.
    async fn ensure_golden(&self, golden: &Golden) -> Result<PathBuf, CloudError> {
        let what = format!("load seed {}", golden.name);
        let digest = self.digests.of(golden).await.map_err(|error| fault::seed(&what, &error))?;
        let name = GoldenName::derive(&self.install, &golden.name, &digest);
        let directory = self.goldens_dir();
        let complete = goldens::file(&directory, &name.complete);
        let _one_at_a_time = self.making_golden.lock().await;
        let failed = |error: &io::Error| fault::io(&what, error);
        if complete.is_file() {
            goldens::sign(&directory, &name.complete, &self.marker(golden)).map_err(|error| failed(&error))?;
            return Ok(complete);
        }
        std::fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
        let scratch = tempfile::tempdir_in(&directory).map_err(|error| failed(&error))?;
        let loading = scratch.path().join(FILE);
        let format = golden.detect().map_err(|error| fault::seed(&what, &error))?;
        let loaded = match format {
            SeedFormat::Plain => load_text(golden, &loading).await,
            SeedFormat::SqliteFile => copy_file(golden, &loading).await,
            SeedFormat::Custom | SeedFormat::Directory => {
                Err(golden.not("is a dump of PostgreSQL: give it to environments with `engine: postgres`"))
            }
        };
        loaded.map_err(|error| fault::seed(&what, &error))?;
        goldens::sign(&directory, &name.complete, &self.marker(golden))
            .and_then(|()| std::fs::rename(&loading, &complete))
            .map_err(|error| failed(&error))?;
        Ok(complete)
    }
}

/// Lets an agent's processes write. Where Kagero runs as root they have a user of their own for each machine,
/// which may change while the database stays.
fn open_to_agents(data: &Path) -> io::Result<()> {
    let (directory, file) = if geteuid().is_root() { (0o777, 0o666) } else { (0o700, 0o600) };
    std::fs::set_permissions(data.join(FILE), Permissions::from_mode(file))?;
    std::fs::set_permissions(data, Permissions::from_mode(directory))
}

const SOMEONE_ELSES: &str = "refused: its owner record is missing or another's. If it has to go, remove it by hand";

/// Whose a directory is; `None` where nothing credible stands there.
fn owner(directory: &Path, name: &str) -> io::Result<Option<Tags>> {
    match std::fs::read_to_string(directory.join(OWNER)) {
        Ok(text) => Ok(match Marker::from_text(&text) {
            Some(Marker::Environment { tags, database }) if database == name => Some(tags),
            _ => None,
        }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what is left of a database that is this environment's, the owner record last; an empty directory
/// is what a crash right after that leaves.
fn clear(directory: &Path, name: &DatabaseName, tags: &Tags) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !entries.is_empty() {
        if owner(directory, name.as_str())?.as_ref() != Some(tags) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, SOMEONE_ELSES));
        }
        for entry in entries.iter().filter(|entry| entry.file_name() != OWNER) {
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        std::fs::remove_file(directory.join(OWNER))?;
    }
    std::fs::remove_dir(directory)
}

async fn blocking(what: &str, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), CloudError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| fault::io(what, &error)),
        Err(error) => Err(fault::bug(what, error.to_string())),
    }
}

/// Statement by statement, so that the one that fails can be named. The file is thrown away on failure, so
/// nothing needs to be safe against a crash.
async fn load_text(golden: &Golden, into: &Path) -> Result<(), SeedError> {
    let broken = |why: String| SeedError::Program { seed: golden.name.clone(), program: "SQLite", why };
    let text = std::fs::read(&golden.source).map_err(|error| broken(format!("got no seed: {error}")))?;
    let Ok(text) = String::from_utf8(text) else { return Err(golden.not("is not UTF-8 text")) };
    let options = SqliteConnectOptions::new()
        .filename(into)
        .create_if_missing(true)
        .foreign_keys(false)
        .journal_mode(SqliteJournalMode::Memory)
        .synchronous(SqliteSynchronous::Off);
    let mut connection = open(&options).await.map_err(|error| broken(format!("made no file: {error}")))?;
    for statement in script::statements(&text) {
        let run = sqlx::raw_sql(AssertSqlSafe(statement.text.to_owned())).execute(&mut connection).await;
        if let Err(error) = run {
            return Err(SeedError::Statement {
                seed: golden.name.clone(),
                path: golden.source.clone(),
                at: format!("at line {}", statement.line).into(),
                message: said(&error).into(),
                statement: format!(" (statement: {})", crate::seed::load::tidy(statement.text, 300)).into(),
                next_step: "Correct the seed",
            });
        }
    }
    settle(&mut connection).await.map_err(|error| broken(said(&error)))?;
    connection.close().await.map_err(|error| broken(said(&error)))
}

/// A consistent copy, even of a file that is in use; a damaged one fails here.
async fn copy_file(golden: &Golden, into: &Path) -> Result<(), SeedError> {
    let broken = |error: sqlx::Error| SeedError::Program {
        seed: golden.name.clone(),
        program: "SQLite",
        why: format!("cannot copy {}: {}. Make the file anew", golden.source.display(), said(&error)),
    };
    let options = SqliteConnectOptions::new().filename(&golden.source).read_only(true);
    let mut connection = open(&options).await.map_err(broken)?;
    sqlx::query("VACUUM INTO $1")
        .bind(into.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await
        .map_err(broken)?;
    connection.close().await.map_err(broken)
}

async fn open(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnection::connect_with(&options.clone().disable_statement_logging()).await
}

/// One file, without a log beside it, with statistics.
async fn settle(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("PRAGMA journal_mode = DELETE; ANALYZE").execute(connection).await.map(drop)
}

fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}
