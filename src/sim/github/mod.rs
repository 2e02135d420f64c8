//! A stand-in for GitHub on loopback: the API as far as Kagero uses it, signed webhooks, real git, and a
//! small page on which people open, push, comment and merge.
//!
//! Guarantees: answers have GitHub's form (fields, statuses, `Link`, `ETag`, rate-limit headers); a token
//! does only what it was granted; a webhook is sent once and its outcome recorded; what is fetched by git
//! is what the API tells. Everything else about it is in memory and gone with it.
//! Must not know: Kagero's controller, store or plans. It is a counterpart, not a part.

mod api;
mod change;
mod deliver;
mod fault;
mod git;
mod json;
mod key;
mod operate;
mod page;
mod prepared;
mod shop;
mod snapshot;
mod upheaval;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

pub use change::{Edit, FileChange, Files, PreparedChange, PreparedCommit};
pub use fault::{AnswerFault, DeliveryFault, Faults, RoutePattern};
pub use git::CommitLine;
pub use operate::{OpenPull, Operator};
pub use shop::shop_repository;
pub use snapshot::{CommentSnapshot, DeploymentSnapshot, PullSnapshot, StatusSnapshot};

use crate::clock::{Clock, SystemClock};
use deliver::Courier;
use json::Links;
use key::AppKey;
use world::{App, NewRepository, UserKind, World};

/// How a stand-in is made.
#[derive(Clone)]
pub struct StandinConfig {
    /// Where it listens; loopback. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where the git repositories are kept; `None`: a folder that goes with the stand-in.
    pub directory: Option<PathBuf>,
    /// The App's id.
    pub app_id: u64,
    /// The App's slug: it speaks as `<slug>[bot]`.
    pub app_slug: String,
    /// Signs webhooks; `None`: a random one.
    pub webhook_secret: Option<String>,
    /// How long a webhook's receiver may take.
    pub webhook_timeout: Duration,
    /// Requests that an installation may make in an hour.
    pub rate_limit: u64,
    /// How long an installation token lives.
    pub token_life: Duration,
    /// The repositories that the App is installed on.
    pub repositories: Vec<RepositorySpec>,
    /// The login that the page's buttons act as.
    pub viewer: String,
    /// Kagero's dashboard, linked from every page.
    pub dashboard: Option<String>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Default for StandinConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            directory: None,
            app_id: 4242,
            app_slug: "kagero-demo".to_owned(),
            webhook_secret: None,
            webhook_timeout: Duration::from_secs(10),
            rate_limit: 5000,
            token_life: Duration::from_hours(1),
            repositories: vec![shop_repository()],
            viewer: "mika".to_owned(),
            dashboard: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// A repository to be made.
#[derive(Debug, Clone)]
pub struct RepositorySpec {
    /// Login of its owner, an organization.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Its first commit on `main`.
    pub files: Files,
    /// Login → `admin`, `write`, `read` or `none`.
    pub roles: Vec<(String, String)>,
    /// Pull requests that its page offers to open.
    pub prepared: Vec<PreparedChange>,
}

/// A running stand-in. Dropping it stops it.
pub struct Standin {
    shared: Arc<Shared>,
    first: Operator,
    addr: SocketAddr,
    stop: CancellationToken,
}

/// What everything in the stand-in shares.
pub(crate) struct Shared {
    world: Mutex<World>,
    key: AppKey,
    links: Links,
    courier: Courier,
    faults: Faults,
    clock: Arc<dyn Clock>,
    versions: watch::Sender<u64>,
    requests: api::RequestLog,
    config: StandinConfig,
    directory: PathBuf,
    /// Keeps a temporary folder until the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Shared {
    /// Tells open pages to look again.
    fn changed(&self) {
        self.versions.send_modify(|version| *version += 1);
    }

    /// Of what there is to show. Taken before it is read, so that it is never newer than what was read.
    fn version(&self) -> u64 {
        *self.versions.borrow()
    }
}

impl Standin {
    /// Makes the repositories and listens.
    pub async fn start(config: StandinConfig) -> Result<Self, StandinError> {
        let Some((owner, name)) = config.repositories.first().map(|spec| (spec.owner.clone(), spec.name.clone()))
        else {
            return Err(StandinError::new("no stand-in for GitHub", "its configuration names no repository"));
        };
        let temporary = match &config.directory {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("kagero-standin-")
                    .tempdir()
                    .map_err(|error| StandinError::new("no folder for the stand-in's repositories", error))?,
            ),
        };
        let directory = match (&config.directory, &temporary) {
            (Some(directory), _) => directory.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => PathBuf::from("."),
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| StandinError::new(format!("the stand-in cannot listen on {}", config.listen), error))?;
        let addr = listener
            .local_addr()
            .map_err(|error| StandinError::new("the stand-in's own address is not known", error))?;
        let client = reqwest::Client::builder()
            .timeout(config.webhook_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| StandinError::new("no HTTP client for webhooks", error))?;
        let web = format!("http://{addr}");
        let links = Links { api: format!("{web}/api/v3"), clone: format!("file://{}", directory.display()), web };
        let secret = config.webhook_secret.clone().unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let mut world = World::new(App { id: config.app_id, slug: config.app_slug.clone(), name: "Kagero".to_owned() });
        for spec in &config.repositories {
            add_repository(&mut world, &directory, spec, config.clock.as_ref()).await?;
        }
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            key: AppKey::generate()?,
            links,
            courier: Courier::new(secret, client),
            faults: Faults::default(),
            clock: Arc::clone(&config.clock),
            versions: watch::Sender::new(0),
            requests: api::RequestLog::default(),
            config,
            directory,
            _temporary: temporary,
        });
        let router = page::router(&shared).nest("/api/v3", api::router(&shared));
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped => {}
                ended = async { axum::serve(listener, router).await } => {
                    if let Err(error) = ended {
                        tracing::error!(error = %error, "the stand-in for GitHub has stopped listening");
                    }
                }
            }
        });
        let first = Operator::new(&shared, &owner, &name);
        Ok(Self { shared, first, addr, stop })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The root of the API, for `github.api_url`.
    pub fn api_url(&self) -> String {
        self.shared.links.api.clone()
    }

    /// The root of the pages, for `github.web_url`.
    pub fn web_url(&self) -> String {
        self.shared.links.web.clone()
    }

    /// What `/<owner>/<name>.git` is put behind to clone: `file:///…`.
    pub fn clone_base(&self) -> String {
        self.shared.links.clone.clone()
    }

    /// The App's id.
    pub fn app_id(&self) -> u64 {
        self.shared.config.app_id
    }

    /// The App's private key, PKCS#8 in PEM.
    pub fn private_key_pem(&self) -> &str {
        self.shared.key.private_key_pem()
    }

    /// Signs the webhooks.
    pub fn webhook_secret(&self) -> &str {
        self.shared.courier.secret()
    }

    /// Where webhooks go from now on; `None`: nowhere. Until it is set, events are not delivered.
    pub fn set_webhook_url(&self, url: Option<String>) {
        self.shared.courier.set_url(url);
    }

    /// Waits until no delivery is under way.
    pub async fn deliveries_settled(&self) {
        self.shared.courier.settled().await;
    }

    /// The first repository.
    pub fn repo(&self) -> &Operator {
        &self.first
    }

    /// The repository of that name.
    pub fn on(&self, owner: &str, name: &str) -> Operator {
        Operator::new(&self.shared, owner, name)
    }

    /// The switchboard of faults.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Requests to the API, oldest first: method, path with query, status.
    pub fn requests(&self) -> Vec<(http::Method, String, u16)> {
        self.shared.requests.all()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn add_repository(
    world: &mut World,
    directory: &Path,
    spec: &RepositorySpec,
    clock: &dyn Clock,
) -> Result<u64, StandinError> {
    let now = clock.now();
    let path = directory.join(&spec.owner).join(format!("{}.git", spec.name));
    let repo = git::BareRepo::create(&path).await?;
    let changes: Vec<_> = spec
        .files
        .iter()
        .map(|(path, content)| FileChange::Write { path: path.clone(), content: content.clone() })
        .collect();
    repo.commit(&git::NewCommit {
        reference: "refs/heads/main",
        parent: None,
        message: "Open the shop",
        author: &spec.owner,
        at: now.0 / 1000,
        changes: &changes,
    })
    .await?;
    let owner = world.account(&spec.owner, UserKind::Organization);
    let installation = world.add_installation(owner.clone(), now);
    let new = NewRepository {
        owner,
        name: spec.name.clone(),
        git: repo,
        installation,
        roles: spec.roles.iter().cloned().collect(),
        prepared: spec.prepared.clone(),
    };
    Ok(world.add_repository(new, now))
}

/// Something that the stand-in could not do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}")]
pub struct StandinError {
    what: String,
    why: String,
}

impl StandinError {
    fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}
