//! What a rig consists of: the repository and the two configurations.
//!
//! Must not know: processes.

use kagero::sim::github::{Files, RepositorySpec, Standin};

use super::ACTOR;

/// The application: says which commit it is, and what a test's own script in the repository finds out.
const APP: &str = r#"
import http.server, json, os, subprocess
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/spy":
            done = subprocess.run(["sh", "spy.sh"], capture_output=True, text=True, timeout=60)
            body = json.dumps({"out": done.stdout, "err": done.stderr})
        else:
            body = json.dumps({"commit": os.environ["KAGERO_COMMIT"], "role": os.environ.get("ROLE")})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Sqlite,
    Postgres,
    /// Instances of their own, which are not on this computer.
    #[cfg(feature = "aws")]
    Rds,
}

impl Lane {
    fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            #[cfg(feature = "aws")]
            Self::Rds => "postgres",
        }
    }
}

/// `.kagero.yml` with a database, for a build command.
pub fn kagero_yml(lane: Lane, build: &str) -> String {
    format!(
        "version: 1\nbuild: {{run: {build:?}, timeout: 60s}}\nservices:\n  web: {{run: \"exec python3 app.py\", health: \
         \"/version\", public: true, start_timeout: 60s}}\ndatabase: {{engine: {}, seed: golden, migrate: \"sh \
         migrate.sh\"}}\n",
        lane.word()
    )
}

fn owned(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

pub struct Setup {
    pub(super) lane: Lane,
    environments: u32,
    builds: u32,
    attempts: u32,
    base_yml: String,
    files: Files,
    pub(super) disk: Option<u64>,
    pub(super) store: Option<String>,
}

impl Setup {
    pub fn sqlite() -> Self {
        Self::with_lane(Lane::Sqlite)
    }

    pub fn postgres() -> Self {
        Self::with_lane(Lane::Postgres)
    }

    #[cfg(feature = "aws")]
    pub fn rds() -> Self {
        Self::with_lane(Lane::Rds)
    }

    fn with_lane(lane: Lane) -> Self {
        Self {
            lane,
            environments: 20,
            builds: 2,
            attempts: 3,
            base_yml: kagero_yml(lane, "sh build.sh"),
            files: owned(&[
                ("app.py", APP),
                ("build.sh", "echo built\n"),
                ("migrate.sh", "echo migrated\n"),
                ("spy.sh", "echo nothing\n"),
            ]),
            disk: None,
            store: None,
        }
    }

    /// `.kagero.yml` on the base branch goes on like this.
    pub fn with_yml(mut self, more: &str) -> Self {
        self.base_yml.push_str(more);
        self
    }

    /// `.kagero.yml` on the base branch has this in place of that.
    pub fn with_yml_edited(mut self, from: &str, to: &str) -> Self {
        assert!(self.base_yml.contains(from), "{}", self.base_yml);
        self.base_yml = self.base_yml.replace(from, to);
        self
    }

    /// Another application, with its `.kagero.yml`.
    pub fn with_repository(self, kagero_yml: &str, files: &[(&str, &str)]) -> Self {
        Self { base_yml: kagero_yml.to_owned(), files: owned(files), ..self }
    }

    /// The state directory is a disk of its own, of so many bytes. It goes with the controller.
    pub fn with_disk(self, bytes: u64) -> Self {
        Self { disk: Some(bytes), ..self }
    }

    /// Records at that address instead of in a file.
    pub fn with_store(self, url: &str) -> Self {
        Self { store: Some(url.to_owned()), ..self }
    }

    pub fn with_environments(self, environments: u32) -> Self {
        Self { environments, ..self }
    }

    pub fn with_builds(self, builds: u32) -> Self {
        Self { builds, ..self }
    }

    pub fn with_attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// The repository that it previews.
    pub(super) fn repository(&self) -> RepositorySpec {
        let mut files = owned(&[(".kagero.yml", &self.base_yml)]);
        files.extend(self.files.clone());
        RepositorySpec {
            owner: "kumo".to_owned(),
            name: "shop".to_owned(),
            files,
            roles: vec![(ACTOR.to_owned(), "admin".to_owned())],
            prepared: Vec::new(),
        }
    }

    /// `kagero.toml`.
    pub(super) fn configuration(&self, github: &Standin, http: u16, gateway: u16) -> String {
        format!(
            r#"name = "ladder"
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
sandbox = "require"
{store}
[seeds.golden]
engine = "{engine}"
format = "plain"
path = "golden.sql"

[limits]
environments = {environments}
builds = {builds}
attempts = {attempts}

[pace]
busy = "100ms"
idle = "1s"
comment = "0s"
grace = "2s"
"#,
            app = github.app_id(),
            api = github.api_url(),
            web = github.web_url(),
            clone = github.clone_base(),
            engine = self.lane.word(),
            store = self.store.as_ref().map_or("", |_| "\n[store]\nurl = \"file:store-url\"\n"),
            environments = self.environments,
            builds = self.builds,
            attempts = self.attempts,
        )
    }
}
