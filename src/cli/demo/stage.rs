//! The demo's set: directory, stand-in, configuration, and a running Kagero.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::super::api::server;
use super::super::note;
use super::super::run::{Running, Surroundings};
use crate::cloud::local::databases::Durability;
use crate::config::Server;
use crate::domain::policy::Engine;
use crate::domain::pull::Pins;
use crate::sim::github::{Standin, StandinConfig, shop_repository};

const CONFIG: &str = "kagero.toml";
const DOMAIN: &str = "preview.localhost";

/// How long leftovers of an earlier demo may take to go.
const CLEARING: Duration = Duration::from_mins(2);

/// Which lane the demo uses.
pub fn lane(sqlite: bool) -> Engine {
    if sqlite { Engine::Sqlite } else { Engine::Postgres }
}

/// `.kagero/demo` in this folder. Root's PostgreSQL runs as another account, which must be able to pass
/// through every folder above its data: in a closed home it cannot.
pub fn default_dir() -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let here = std::env::current_dir().unwrap_or_default();
    let is_open = |dir: &Path| dir.metadata().is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
    if !nix::unistd::geteuid().is_root() || here.ancestors().all(is_open) {
        PathBuf::from(".kagero/demo")
    } else {
        std::env::temp_dir().join("kagero-demo")
    }
}

/// A running demo.
pub struct Stage {
    /// The stand-in for GitHub.
    pub github: Standin,
    /// Kagero.
    pub running: Running,
    dir: PathBuf,
}

impl Stage {
    /// Sets everything up in an empty directory. What an earlier demo left there is taken away first, by
    /// Kagero itself.
    pub async fn set(dir: &Path, lane: Engine) -> anyhow::Result<Self> {
        let shop = find_shop()?;
        clear(dir).await?;
        std::fs::create_dir_all(dir.join("bin")).with_context(|| format!("{} cannot be made", dir.display()))?;
        let dir = dir.canonicalize()?;
        std::fs::copy(&shop, dir.join("bin/shop")).with_context(|| format!("{} cannot be copied", shop.display()))?;
        write_seed(&dir, lane)?;

        let http = free_port(7070)?;
        let gateway = free_port(8080)?;
        let config = StandinConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(7080)?)),
            repositories: vec![repository(lane)],
            ..StandinConfig::default()
        };
        let github = Standin::start(config).await.context("the stand-in for GitHub could not be started")?;
        write_secret(&dir.join("app.pem"), github.private_key_pem())?;
        write_secret(&dir.join("webhook-secret"), github.webhook_secret())?;
        std::fs::write(dir.join(CONFIG), configuration(&dir, &github, http, gateway, lane))?;

        let running = start(&dir).await?;
        github.set_webhook_url(Some(format!("http://{}/webhook/github", running.http)));
        Ok(Self { github, running, dir })
    }

    /// The configuration that Kagero runs with.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// The directory that everything lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where previews appear.
    pub fn preview_base(&self) -> String {
        format!("http://….{DOMAIN}:{}/", self.running.gateway.port())
    }

    /// The stand-in's list of pull requests.
    pub fn pulls_url(&self) -> String {
        format!("{}/", self.github.web_url())
    }

    /// Takes every environment away, stops everything and removes the directory.
    pub async fn strike(self) -> anyhow::Result<()> {
        strike(self.running, &self.dir).await
    }
}

async fn start(dir: &Path) -> anyhow::Result<Running> {
    let server: Server = server(&dir.join(CONFIG))?;
    let around = Surroundings { durability: Durability::ThrowAway, ..Surroundings::usual()? };
    Running::start(&server, &around).await
}

/// Asks for every environment to be destroyed, waits until nothing is left, stops, and removes the
/// directory.
async fn strike(running: Running, dir: &Path) -> anyhow::Result<()> {
    let left = destroy_all(&running).await;
    running.stop_everything().await?;
    left?;
    std::fs::remove_dir_all(dir).with_context(|| format!("{} could not be removed", dir.display()))
}

async fn destroy_all(running: &Running) -> anyhow::Result<()> {
    let store = &running.desk.world().store;
    let began = Instant::now();
    loop {
        let unreleased = store.unreleased().await?;
        if unreleased.is_empty() {
            return Ok(());
        }
        if began.elapsed() > CLEARING {
            let keys: Vec<String> = unreleased.iter().map(|ledger| ledger.key.to_string()).collect();
            bail!("{} could not be taken away; `kagero env plan` says why", keys.join(", "));
        }
        let now = running.desk.world().clock.now();
        for ledger in &unreleased {
            let pins = store.pins(ledger.key).await?;
            if pins.destroy_requested_at.is_none() {
                store.put_pins(ledger.key, &Pins { destroy_requested_at: Some(now), ..pins }).await?;
                running.desk.wake(ledger.key);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes away what an earlier demo left when it was killed.
async fn clear(dir: &Path) -> anyhow::Result<()> {
    if !dir.join(CONFIG).exists() {
        let is_empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        if !is_empty {
            bail!("{} is not empty and not a demo's; name another with --dir", dir.display());
        }
        return Ok(());
    }
    note(&format!("an earlier demo was cut off in {}; taking away what it left", dir.display()));
    let dir = dir.canonicalize()?;
    let running = start(&dir).await.context("the earlier demo is still running, or its directory is damaged")?;
    strike(running, &dir).await
}

/// The wanted port if nobody has it, else any free one.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|socket| socket.local_addr());
    Ok(bind(wanted).or_else(|_| bind(0)).context("no free port on 127.0.0.1")?.port())
}

fn find_shop() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program's own path could not be found")?;
    let beside = program.parent().map(|dir| dir.join("examples").join("shop")).unwrap_or_default();
    if beside.is_file() {
        return Ok(beside);
    }
    bail!(
        "the sample application is not at {}; `make demo` builds it, or: cargo build --example shop",
        beside.display()
    )
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn write_seed(dir: &Path, lane: Engine) -> anyhow::Result<()> {
    let text = match lane {
        Engine::Postgres => include_str!("../../../examples/shop-seed/golden.sql"),
        Engine::Sqlite => include_str!("../../../examples/shop-seed/golden.sqlite.sql"),
    };
    Ok(std::fs::write(dir.join("golden.sql"), text)?)
}

/// The shop's repository, with `.kagero.yml` for the lane.
fn repository(lane: Engine) -> crate::sim::github::RepositorySpec {
    let mut spec = shop_repository();
    if lane == Engine::Sqlite
        && let Some(file) = spec.files.get_mut(".kagero.yml")
    {
        *file = String::from_utf8_lossy(file).replace("engine: postgres", "engine: sqlite").into_bytes();
    }
    spec
}

fn configuration(dir: &Path, github: &Standin, http: u16, gateway: u16, lane: Engine) -> String {
    let engine = match lane {
        Engine::Postgres => "postgres",
        Engine::Sqlite => "sqlite",
    };
    format!(
        r#"# Written by `kagero demo`.
name = "demo"
repositories = ["kumo/*"]
public_url = "http://127.0.0.1:{http}"
state_dir = "state"

[listen]
http = "127.0.0.1:{http}"
gateway = "127.0.0.1:{gateway}"

[gateway]
domain = "{DOMAIN}"
scheme = "http"
port = {gateway}

[github]
app_id = {app}
private_key = "file:app.pem"
webhook_secrets = ["file:webhook-secret"]
api_url = "{api}"
web_url = "{web}"
clone_base = "{clone}"

[compute]
path = [{bin:?}]
sandbox = "best_effort"

[seeds.golden]
engine = "{engine}"
path = "golden.sql"

# The stand-in does not mind: on GitHub, one edit of a comment in 30 s is the rule.
[pace]
comment = "2s"
"#,
        bin = dir.join("bin").display().to_string(),
        app = github.app_id(),
        api = github.api_url(),
        web = github.web_url(),
        clone = github.clone_base(),
    )
}
