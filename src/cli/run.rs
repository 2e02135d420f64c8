//! Puts the parts together: from a valid configuration to a running controller and gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::compute::{self, Built};
use super::confining::Confining;
use super::holder::StateHolder;
use super::metrics;
use super::probe::{GatewayProber, HttpAgents};
use super::secret::InstallSecret;
use super::timekeeping;
use crate::agent::client::AgentClient;
use crate::clock::{Clock, SteadyClock, SystemClock};
use crate::cloud::lanes::Lanes;
use crate::cloud::local::databases::{
    Durability, LocalDatabases, PRIVATE_NETWORK, PostgresConfig, PostgresDatabases, ServerConfig, SqliteConfig,
    SqliteDatabases, probe,
};
use crate::cloud::local::machines::LocalMachines;
use crate::cloud::{CloudError, Databases as _, Machines};
use crate::config::Server;
use crate::config::server::{
    Front as ServerFront, PostgresServer, Seed, SeedFormat, SeedSource, Store as StoreAddress, SweepMode,
};
use crate::controller::sweep::Scope;
use crate::controller::{self, Controller, Desk, Tuning, World};
use crate::domain::id::SeedName;
use crate::domain::observed::Listing;
use crate::domain::policy::{Engine, Policy};
use crate::forge::Forge as _;
use crate::forge::budget::WriteLimits;
use crate::forge::github::{Github, GithubConfig};
use crate::gateway::{Front, Gateway, GatewayConfig, GatewayHandle, RouteTable, Scheme};
use crate::http::intake;
use crate::http::listen::{self, Bounds};
use crate::http::webhook::{self, Intake, Limits};
use crate::http::{auth, router};
use crate::plan::{Remains, adopt};
use crate::seed::golden::{Golden, SeedFormat as GoldenFormat};
use crate::seed::role::RoleLimits;
use crate::store::Store;

/// How long answers under way may take to end at a stop.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Databases that are cloned or dropped at once.
const CLONES_AT_ONCE: usize = 4;

/// A running controller with its gateway and its HTTP server.
pub struct Running {
    /// Where webhooks and the API are answered.
    pub http: SocketAddr,
    /// Where previews are answered.
    pub gateway: SocketAddr,
    /// For looking in.
    pub desk: Desk,
    controller: Controller,
    gate: GatewayHandle,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    postgres: Option<PostgresDatabases>,
    store: Store,
    /// Let go last.
    _holder: StateHolder,
}

/// What a start may override.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The program that is run as the agent.
    pub program: PathBuf,
    /// What a power cut may cost a private PostgreSQL.
    pub durability: Durability,
    /// Between two full listings of GitHub.
    pub resync: Duration,
}

impl Surroundings {
    /// The usual ones: this program, durable data, five minutes.
    pub fn usual() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path could not be found")?;
        Ok(Self { program, durability: Durability::Crash, resync: Tuning::default().resync })
    }
}

/// What a controller works with, before anything of it runs: the state directory is ours, nobody else's.
pub struct Parts {
    /// Where everything lies.
    pub state_dir: PathBuf,
    /// Whose the state directory is.
    pub holder: StateHolder,
    /// The time.
    pub clock: Arc<SteadyClock>,
    /// The records.
    pub store: Store,
    /// The policy, with the places that are known only here.
    pub policy: Policy,
    /// All lanes.
    pub databases: Lanes,
    /// Machines with agents.
    pub machines: Arc<dyn Machines>,
    /// What this computer can confine, where it is the one that machines are on.
    confining: Option<Arc<Confining<LocalMachines>>>,
    /// GitHub.
    pub forge: Github,
    secret: InstallSecret,
    postgres: Option<PostgresDatabases>,
}

impl Parts {
    /// Takes the state directory and opens the store.
    pub async fn of(server: &Server, around: &Surroundings) -> anyhow::Result<Self> {
        let holder = StateHolder::take(&prepare_state_dir(&server.state_dir)?)?;
        Self::under(server, around, holder).await
    }

    /// Opens the store under a state directory that is taken.
    async fn under(server: &Server, around: &Surroundings, mut holder: StateHolder) -> anyhow::Result<Self> {
        let state_dir = prepare_state_dir(&server.state_dir)?;
        let store = open_store(server).await?;
        let steady = timekeeping::begin(&store).await.context("the store could not be read")?;
        let clock: Arc<dyn Clock> = steady.clone();
        let secret = InstallSecret::load(&state_dir)?;
        store.belong_to(&secret.digest()).await.context("the store cannot be used with this state_dir")?;
        for ended in holder.before() {
            store.inherit(ended).await.context("the store could not be taken over")?;
        }
        holder.forget_before().context("state_dir: those who had it before could not be noted as taken over from")?;
        let mut policy = policy(server, &state_dir);
        let compute = compute::build(server, &around.program, &state_dir, &secret, &clock).await?;
        compute.bind(&mut policy);
        let postgres = postgres(server, around, &state_dir, &secret, &policy, &clock)?;
        let local = LocalDatabases::new(postgres.clone(), sqlite(server, &state_dir, &clock));
        let Built { machines, confining, databases: instances, .. } = compute;
        let databases = Lanes::new(local, instances);
        let forge = Github::new(github_config(server)?, Arc::clone(&clock)).context("GitHub could not be set up")?;
        Ok(Self {
            state_dir,
            holder,
            clock: steady,
            store,
            policy,
            databases,
            machines,
            confining,
            forge,
            secret,
            postgres,
        })
    }

    /// The world that a controller acts in, and what has to be kept beside it.
    fn furnish(self, server: &Server, routes: RouteTable, gateway: SocketAddr) -> anyhow::Result<(World, Kept)> {
        let Self { state_dir, holder, clock, store, policy, databases, machines, forge, secret, postgres, .. } = self;
        let prober = GatewayProber::new(loopback(gateway), server.gateway.domain.clone())?;
        let world = World {
            store,
            forge: Arc::new(forge),
            machines,
            databases: Arc::new(databases),
            agents: Arc::new(HttpAgents(AgentClient::new(secret.signing_key()))),
            prober: Arc::new(prober),
            routes,
            clock,
            policy: ArcSwap::from_pointee(policy),
            secrets: server.secrets.iter().map(|(name, secret)| (name.clone(), secret.value.clone())).collect(),
            holder: holder.name().to_owned(),
            // The pause between two edits of one comment is the plan's; here only the totals count.
            writes: WriteLimits { pause: Duration::ZERO, ..WriteLimits::default() },
        };
        Ok((world, Kept { state_dir, holder, postgres }))
    }

    /// An empty store beside what lives would make it again, beside or in place of what is there. Where a listing fails
    /// nothing is known, and nothing is made either until it succeeds.
    async fn refuse_to_forget(&self) -> anyhow::Result<()> {
        if !self.store.ledgers().await?.is_empty() {
            return Ok(());
        }
        let machines = found(self.machines.list().await);
        // A private PostgreSQL that was never made holds nothing, and making it takes its time.
        let is_made = self.state_dir.join("postgres/data/PG_VERSION").is_file();
        let is_private = self.policy.allow.networks.iter().any(|network| network == PRIVATE_NETWORK);
        let databases = if is_private && !is_made { Vec::new() } else { found(self.databases.list().await) };
        let remains = Remains {
            machines: &machines,
            databases: &databases,
            pulls: &BTreeMap::new(),
            known: &[],
            policy: &self.policy,
            now: self.clock.now(),
        };
        let living = adopt(remains).ledgers.len();
        if living == 0 {
            return Ok(());
        }
        Err(Exit::Unadopted.because(format!(
            "the store knows of no environment, but {living} of this installation live: it was lost, or is another one \
             than before. `kagero adopt` shows what it can rebuild, and `kagero adopt --apply` writes it; or correct \
             store.url"
        )))
    }
}

/// What a world does not hold of its [`Parts`].
struct Kept {
    state_dir: PathBuf,
    holder: StateHolder,
    postgres: Option<PostgresDatabases>,
}

impl Running {
    /// Starts everything. Returns once both listeners answer.
    pub async fn start(server: &Server, around: &Surroundings) -> anyhow::Result<Self> {
        for warning in &server.warnings {
            tracing::warn!("{warning}");
        }
        // Before whatever measures: a meter that is made earlier counts nothing.
        let recorder = metrics::recorder();
        let parts = Parts::of(server, around).await?;
        parts.refuse_to_forget().await?;
        if let Some(confining) = &parts.confining {
            tokio::spawn(Arc::clone(confining).announce());
        }
        let routes = RouteTable::default();
        let gate =
            Gateway::start(gateway_config(server), routes.clone()).context("the gateway could not be started")?;
        let gateway = gate.local_addr();
        let (store, clock) = (parts.store.clone(), Arc::clone(&parts.clock));
        let (world, Kept { state_dir, holder, postgres }) = parts.furnish(server, routes, gateway)?;
        let tuning = Tuning { resync: around.resync, sweep: sweep(server), ..Tuning::default() };
        let controller = Controller::start(world, tuning).await.context("the controller could not be started")?;

        let secrets = server.github.webhook_secrets.iter().map(|secret| secret.value.clone()).collect();
        let time: Arc<dyn Clock> = clock.clone();
        let intake = Intake::new(store.inbox().clone(), secrets, time, intake::check, intake::read, Limits::default());
        let webhook = webhook::router(Arc::new(intake));
        let token = auth::token(&state_dir).context("the API token could not be written")?;
        let app = router::router(controller.desk(), webhook, token, recorder.clone());
        let listener = tokio::net::TcpListener::bind(server.listen.http)
            .await
            .with_context(|| format!("listen.http: {} cannot be listened on", server.listen.http))?;
        let http = listener.local_addr()?;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(listen::serve(listener, app, Bounds::default(), stop.clone()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(timekeeping::keep(store.clone(), clock)));
        if let Some(recorder) = recorder {
            tokio::spawn(stop.clone().run_until_cancelled_owned(metrics::upkeep(recorder)));
        }
        if let Some(postgres) = postgres.clone() {
            // The first pull request should not have to wait for the seeds; what fails here is told there.
            tokio::spawn(async move {
                if let Err(error) = postgres.load_goldens().await {
                    tracing::warn!(error = %error, "the seeds could not be loaded yet");
                }
            });
        }
        tracing::info!(http.address = %http, gateway.address = %gateway, "kagero is up");
        let desk = controller.desk();
        Ok(Self { http, gateway, desk, controller, gate, stop, server: serving, postgres, store, _holder: holder })
    }

    /// Stops taking requests and working. Environments go on: their agents outlive the controller. A
    /// private PostgreSQL goes on with them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.controller.stop().await;
        // A log that is being followed would hold the server open for ever.
        let mut server = self.server;
        if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
            server.abort();
        }
        self.gate.shutdown().await;
        self.store.close().await;
    }

    /// As [`Running::stop`], and stops a private PostgreSQL too.
    pub async fn stop_everything(self) -> anyhow::Result<()> {
        let postgres = self.postgres.clone();
        self.stop().await;
        if let Some(postgres) = postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}

/// What is done by itself.
fn sweep(server: &Server) -> Option<(Scope, Duration)> {
    match server.sweep.mode {
        SweepMode::Apply => Some((Scope::Apply(None), server.sweep.every)),
        SweepMode::Report => Some((Scope::DryRun, server.sweep.every)),
        SweepMode::Off => None,
    }
}

/// The same world without a controller: for whoever does one thing and ends.
pub struct Alone {
    /// For asking.
    pub desk: Desk,
    store: Store,
    /// Let go last.
    _holder: StateHolder,
}

impl Alone {
    /// Opens everything; nothing is started.
    pub async fn begin(server: &Server, around: &Surroundings, holder: StateHolder) -> anyhow::Result<Self> {
        let parts = Parts::under(server, around, holder).await?;
        // What a lost store does not tell of belongs to somebody.
        parts.refuse_to_forget().await?;
        let store = parts.store.clone();
        let (world, Kept { holder, .. }) = parts.furnish(server, RouteTable::default(), server.listen.gateway)?;
        let desk = controller::Engine::new(world).await.context("the store could not be read")?.desk();
        Ok(Self { desk, store, _holder: holder })
    }

    /// Closes the store.
    pub async fn end(self) {
        self.store.close().await;
    }
}

async fn open_store(server: &Server) -> anyhow::Result<Store> {
    Store::open(&store_url(server)).await.context("the store could not be opened")
}

/// The store's records, for reading: also beside a controller that works on them.
pub async fn read_store(server: &Server) -> anyhow::Result<Store> {
    Store::open_for_reading(&store_url(server)).await.context("the store could not be read")
}

fn store_url(server: &Server) -> String {
    match &server.store {
        StoreAddress::Sqlite { path } => format!("sqlite:{}", path.display()),
        StoreAddress::Postgres { url } => url.expose_secret().to_owned(),
    }
}

/// What a listing at the start has found.
fn found<T>(listing: Result<Listing<T>, CloudError>) -> Vec<T> {
    match listing {
        Ok(listing) => listing.items,
        Err(error) => {
            tracing::warn!(error = %error, "the store is empty, and whether anything lives could not be found out");
            Vec::new()
        }
    }
}

/// Makes the state directory, readable by its owner only, and gives its canonical path.
pub fn prepare_state_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let cannot = || format!("state_dir: {} cannot be made or used", dir.display());
    std::fs::create_dir_all(dir).with_context(cannot)?;
    // Others may pass through to what they are given, such as a database's socket, but see nothing.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).with_context(cannot)?;
    dir.canonicalize().with_context(cannot)
}

/// The policy, with the places that are known only here.
pub fn policy(server: &Server, state_dir: &Path) -> Policy {
    let mut policy = server.policy();
    // Things on this host say where they are by the directory's canonical path.
    policy.allow.accounts.push(state_dir.display().to_string());
    if matches!(&server.postgres, Some(postgres) if matches!(postgres.server, PostgresServer::Private { .. })) {
        policy.allow.networks.push(PRIVATE_NETWORK.to_owned());
    }
    policy
}

fn goldens(seeds: &BTreeMap<SeedName, Seed>, engine: Engine) -> Vec<Golden> {
    let files = seeds.iter().filter(|(_, seed)| seed.engine == engine).filter_map(|(name, seed)| match &seed.source {
        SeedSource::File(file) => Some((name, file)),
        SeedSource::Rds(_) => None,
    });
    files
        .map(|(name, seed)| Golden {
            name: name.clone(),
            source: seed.path.clone(),
            format: match seed.format {
                SeedFormat::Auto => None,
                SeedFormat::Plain => Some(GoldenFormat::Plain),
                SeedFormat::Custom => Some(GoldenFormat::Custom),
                SeedFormat::Directory => Some(GoldenFormat::Directory),
                SeedFormat::Sqlite => Some(GoldenFormat::SqliteFile),
            },
            extensions: seed.extensions.clone(),
        })
        .collect()
}

/// The PostgreSQL lane's settings, if there is one.
pub fn postgres_config(
    server: &Server,
    around: &Surroundings,
    state_dir: &Path,
    secret: &InstallSecret,
    policy: &Policy,
) -> Option<PostgresConfig> {
    let postgres = server.postgres.as_ref()?;
    let bin_dir = postgres.bin_dir.clone();
    let kind = match &postgres.server {
        PostgresServer::Private { user } => {
            ServerConfig::Private { bin_dir, user: user.clone(), durability: around.durability }
        }
        PostgresServer::External { url } => {
            let open_databases = postgres.open_databases.clone();
            ServerConfig::External { admin_url: url.value.clone(), bin_dir, open_databases }
        }
    };
    Some(PostgresConfig {
        server: kind,
        state_dir: state_dir.to_owned(),
        install: server.install.clone(),
        secret: secret.for_roles(),
        goldens: goldens(&server.seeds, Engine::Postgres),
        allow: policy.allow.networks.clone(),
        limits: RoleLimits::default(),
        at_once: CLONES_AT_ONCE,
    })
}

fn postgres(
    server: &Server,
    around: &Surroundings,
    state_dir: &Path,
    secret: &InstallSecret,
    policy: &Policy,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<PostgresDatabases>> {
    postgres_config(server, around, state_dir, secret, policy)
        .map(|config| PostgresDatabases::new(config, Arc::clone(clock)).context("PostgreSQL could not be set up"))
        .transpose()
}

fn sqlite(server: &Server, state_dir: &Path, clock: &Arc<dyn Clock>) -> SqliteDatabases {
    let config = SqliteConfig {
        state_dir: state_dir.to_owned(),
        install: server.install.clone(),
        goldens: goldens(&server.seeds, Engine::Sqlite),
        at_once: CLONES_AT_ONCE,
    };
    SqliteDatabases::new(config, Arc::clone(clock))
}

/// What PostgreSQL says of itself; `None` where it is not set up.
pub async fn probe_postgres(server: &Server) -> Option<Result<String, String>> {
    server.postgres.as_ref()?;
    Some(match probe_config(server) {
        Ok(Some(config)) => {
            let report = probe(&config).await;
            let found = report.programs.and(report.server);
            match found {
                Ok(server) if server.problems.is_empty() && report.seeds.is_empty() => {
                    Ok(format!("{} at {}", server.version, server.network))
                }
                Ok(server) => Err(server.problems.into_iter().chain(report.seeds).collect::<Vec<_>>().join("; ")),
                Err(error) => Err(error),
            }
        }
        Ok(None) => return None,
        Err(error) => Err(format!("{error:#}")),
    })
}

fn probe_config(server: &Server) -> anyhow::Result<Option<PostgresConfig>> {
    let state_dir = prepare_state_dir(&server.state_dir)?;
    let secret = InstallSecret::load(&state_dir)?;
    let policy = policy(server, &state_dir);
    Ok(postgres_config(server, &Surroundings::usual()?, &state_dir, &secret, &policy))
}

/// How many repositories the App reaches.
pub async fn probe_github(server: &Server) -> anyhow::Result<usize> {
    let github = Github::new(github_config(server)?, Arc::new(SystemClock))?;
    Ok(github.repositories().await?.items.len())
}

fn gateway_config(server: &Server) -> GatewayConfig {
    let scheme = if server.gateway.link.scheme == "https" { Scheme::Https } else { Scheme::Http };
    let front = match server.gateway.front {
        ServerFront::Direct => Front::Direct,
        ServerFront::LoadBalancer => Front::LoadBalancer,
    };
    GatewayConfig {
        scheme,
        front,
        forge_url: server.github.web_url.clone(),
        ..GatewayConfig::new(server.listen.gateway, server.gateway.domain.clone())
    }
}

fn github_config(server: &Server) -> anyhow::Result<GithubConfig> {
    let github = &server.github;
    let api_url = github.api_url.parse().with_context(|| format!("github.api_url: {}", github.api_url))?;
    let web_url = github.web_url.parse().with_context(|| format!("github.web_url: {}", github.web_url))?;
    let mut config = GithubConfig::new(api_url, web_url, github.app_id, github.private_key.value.clone());
    config.clone_base = Some(github.clone_base.clone());
    Ok(config)
}

/// An address that this machine can reach itself at.
fn loopback(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    }
}
