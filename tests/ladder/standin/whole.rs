//! A whole Kagero beside a stand-in: controller, gateway, agents; a small application instead of the shop.
//!
//! Guarantees: its directory, agents and listeners go with [`Whole::end`].
//! Must not know: what a test wants to see.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kagero::cli::run::{Running, Surroundings};
use kagero::cloud::local::databases::Durability;
use kagero::config::load_server;
use kagero::domain::pull::Pins;
use kagero::sim::github::{Edit, PreparedChange, PreparedCommit, RepositorySpec, Standin, StandinConfig};

use crate::wait::eventually;

/// Enough for a build and a start on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Answers every path with itself.
const APPLICATION: &str = r#"import html, http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = "<!doctype html><h1>The application</h1><p>" + html.escape(self.path)
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"#;

const KAGERO_YML: &str = "version: 1\nbuild: sh build.sh\nservices:\n  \
     web: {run: exec python3 app.py, health: /healthz, public: true}\n";

pub(crate) struct Whole {
    pub github: Standin,
    pub running: Running,
    home: tempfile::TempDir,
}

impl Whole {
    /// Starts it. Builds wait until [`Whole::open_gate`].
    pub async fn start() -> Self {
        Self::start_with(Duration::from_mins(5), None).await
    }

    /// Starts it with that time between two listings, and with another webhook secret than GitHub's if one is given.
    pub async fn start_with(resync: Duration, secret: Option<&str>) -> Self {
        let home = tempfile::Builder::new().prefix("kagero-whole-").tempdir().unwrap();
        let gate = home.path().join("gate");
        fs::create_dir(&gate).unwrap();
        fs::set_permissions(&gate, fs::Permissions::from_mode(0o755)).unwrap();
        let build = format!(
            "echo waiting at the gate\nwhile ! test -e {}/open; do sleep 0.1; done\necho through\n",
            gate.display()
        );
        let files = [("app.py", APPLICATION), (".kagero.yml", KAGERO_YML), ("build.sh", &build)];
        let repository = RepositorySpec {
            owner: "kumo".to_owned(),
            name: "shop".to_owned(),
            files: files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into(),
            roles: vec![("mika".to_owned(), "admin".to_owned())],
            prepared: vec![
                prepared("plain", "A plain change", "notes.txt", "Some words.\n"),
                prepared("broken", "A broken build", "build.sh", "echo \"<script>alert('log')</script>\"\nexit 7\n"),
            ],
        };
        let config = StandinConfig { repositories: vec![repository], ..StandinConfig::default() };
        let github = Standin::start(config).await.unwrap();
        write(&home.path().join("app.pem"), github.private_key_pem());
        write(&home.path().join("webhook-secret"), secret.unwrap_or(github.webhook_secret()));
        write(&home.path().join("kagero.toml"), &configuration(&github, &gate));
        let server = load_server(&home.path().join("kagero.toml")).unwrap();
        let around = Surroundings {
            program: PathBuf::from(env!("CARGO_BIN_EXE_kagero")),
            durability: Durability::ThrowAway,
            resync,
        };
        let running = Running::start(&server, &around).await.unwrap();
        github.set_webhook_url(Some(format!("http://{}/webhook/github", running.http)));
        Self { github, running, home }
    }

    /// Lets the builds that wait go on.
    pub fn open_gate(&self) {
        fs::write(self.home.path().join("gate/open"), "").unwrap();
    }

    /// Its configuration, for commands.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("kagero.toml")
    }

    /// The address of a pull request's preview.
    pub fn preview(&self, number: u64, path: &str) -> String {
        format!("http://pr-{number}-shop.preview.localhost:{}{path}", self.running.gateway.port())
    }

    /// Takes all environments away and stops.
    pub async fn end(self) {
        let store = &self.running.desk.world().store;
        eventually("nothing is left", PATIENCE, async || {
            let left = store.unreleased().await.unwrap();
            for ledger in &left {
                let now = self.running.desk.world().clock.now();
                store.put_pins(ledger.key, &Pins { destroy_requested_at: Some(now), ..Pins::default() }).await.unwrap();
                self.running.desk.wake(ledger.key);
            }
            left.is_empty()
        })
        .await;
        self.running.stop_everything().await.unwrap();
    }
}

fn prepared(key: &str, title: &str, path: &str, content: &str) -> PreparedChange {
    let edits = vec![Edit::Write { path: path.to_owned(), content: content.to_owned() }];
    PreparedChange {
        key: key.to_owned(),
        title: title.to_owned(),
        body: "As prepared.".to_owned(),
        hint: "For a test.".to_owned(),
        commits: vec![PreparedCommit { message: title.to_owned(), edits }],
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn configuration(github: &Standin, gate: &Path) -> String {
    let (http, gateway) = (free_port(), free_port());
    format!(
        r#"name = "whole"
repositories = ["kumo/*"]
public_url = "http://127.0.0.1:{http}"
state_dir = "state"

[listen]
http = "127.0.0.1:{http}"
gateway = "127.0.0.1:{gateway}"

[gateway]
domain = "preview.localhost"
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
sandbox = "best_effort"
read_only_paths = [{gate:?}]

[pace]
comment = "1s"
"#,
        gate = gate.display().to_string(),
        app = github.app_id(),
        api = github.api_url(),
        web = github.web_url(),
        clone = github.clone_base(),
    )
}
