//! The whole way on AWS's counterparts: a signed webhook goes in, an instance is asked for, what it was given as user data is
//! executed as root in namespaces of its own, the agent answers from there over TLS, and the page with data of a database
//! behind RDS's endpoint comes out through the gateway.

mod internet;
mod machine;
mod region;
mod surroundings;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kagero::sim::github::FileChange;
use sha2::{Digest as _, Sha256};

use self::internet::{Authority, answer};
use self::machine::processes_in;
use self::region::{Region, SAID_BY_METADATA};
use self::surroundings::{in_surroundings_of_its_own, interfaces};
use super::counterpart::{ACCOUNT, KIND, REGION};
use crate::process::rig::{ACTOR, PATIENCE, Rig, Setup, kill9};
use crate::wait::eventually;

/// Where databases' endpoints lead.
const DATABASES: &str = "10.64.0.10";
/// Where machines find GitHub's repositories and the agent.
const INTERNET: &str = "198.51.100.7";
/// See the EC2 user guide, "Access instance metadata".
const METADATA: &str = "169.254.169.254";

/// A machine that does much else at the same time takes a while to boot one more.
const MAKING: Duration = Duration::from_mins(3);

/// Absence is proven by a look that is a minute younger than the last question, which is the least that is allowed on AWS.
const GOING: Duration = Duration::from_mins(4);

const PROGRAM: &str = env!("CARGO_BIN_EXE_kagero");

/// On the controller and in the image.
const AUTHORITIES: &str = "/etc/kagero/global-bundle.pem";

const YML: &str = r#"version: 1
build: {run: "echo built", timeout: 60s}
services:
  web: {run: "exec python3 app.py", health: "/version", public: true, start_timeout: 60s}
database: {engine: postgres, lane: rds, seed: golden, migrate: "sh migrate.sh"}
"#;

/// Shows what it reads from its database, and tries to reach what it must not.
const APP: &str = r#"
import http.server, json, os, socket, subprocess
def asked(question):
    done = subprocess.run(["PSQL", "-XAtqc", question, os.environ["DATABASE_URL"]], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr
def reached(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
        return "reached"
    except OSError as error:
        return str(error)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/version":
            body = json.dumps({"commit": os.environ["KAGERO_COMMIT"]})
        elif self.path == "/reaches":
            body = json.dumps([reached("METADATA", 80), reached("INTERNET", 443)])
        else:
            body = "TITLE: " + asked("SELECT count(*) || ' orders of ' || sum(total) || ', ' || "
                "(SELECT count(*) FROM migrations) || ' migrations, ' || (SELECT CASE WHEN ssl THEN 'tls' ELSE 'plain' END "
                "FROM pg_stat_ssl WHERE pid = pg_backend_pid()) FROM orders")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const MIGRATE: &str = r#"exec PSQL -Xq -v ON_ERROR_STOP=1 "$DATABASE_URL" -c "CREATE TABLE IF NOT EXISTS public.migrations (at timestamptz)" \
  -c "INSERT INTO public.migrations VALUES (now())"
"#;

fn with_psql(text: &str) -> String {
    // Beside the server's programs: what is on the path may be Debian's wrapper.
    let psql = crate::postgres::program("initdb").canonicalize().unwrap().with_file_name("psql");
    text.replace("PSQL", psql.to_str().unwrap())
}

fn app(title: &str) -> String {
    with_psql(APP).replace("TITLE", title).replace("METADATA", METADATA).replace("INTERNET", INTERNET)
}

fn digest(path: &Path) -> String {
    let mut hasher = Sha256::new();
    let mut file = std::fs::File::open(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut piece).unwrap() {
            0 => return hex::encode(hasher.finalize()),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// A Kagero of this Region, before its start.
async fn prepared(region: &Region) -> Rig {
    let rig = Rig::prepare(
        Setup::rds().with_repository(YML, &[("app.py", &app("before")), ("migrate.sh", &with_psql(MIGRATE))]),
    )
    .await;
    let staging = &region.rds.staging;
    rig.reconfigure("name = \"ladder\"", "name = \"dev\"");
    let clone = rig.github.clone_base();
    rig.reconfigure(&clone, &format!("https://{INTERNET}"));
    rig.reconfigure(
        "[compute]\nsandbox = \"require\"",
        &format!(
            "[compute]\nkind = \"ec2\"\n[compute.ec2]\naccount = \"{ACCOUNT}\"\nregion = \"{REGION}\"\nvpc = \"{}\"\nami = \
             \"{}\"\ninstance_types = [\"{KIND}\"]\nagent_url = \"https://{INTERNET}/kagero\"\nagent_sha256 = \
             \"{}\"\n[database.rds]\nroot_certificate = \"{AUTHORITIES}\"",
            staging.vpc,
            staging.ami,
            digest(Path::new(PROGRAM))
        ),
    );
    rig.reconfigure(
        "format = \"plain\"\npath = \"golden.sql\"",
        "snapshot = \"kagero-golden-shop-\"\ndatabase = \"shop\"",
    );
    rig.reconfigure("grace = \"2s\"", "grace = \"1m\"");
    rig.reconfigure("busy = \"100ms\"", "busy = \"1s\"");
    rig
}

async fn page(rig: &Rig, number: u64) -> Result<String, String> {
    let answer = rig.visit(number, "/").await.map_err(|error| error.to_string())?;
    if let Some(page) = answer.headers().get("x-kagero-page") {
        return Err(format!("page {page:?}"));
    }
    answer.text().await.map_err(|error| error.to_string())
}

async fn story() {
    let authority = Authority::new();
    let trusted = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
    std::fs::write("/etc/ssl/certs/ca-certificates.crt", trusted + &authority.pem()).unwrap();
    std::fs::create_dir_all("/etc/kagero").unwrap();
    std::fs::write(AUTHORITIES, authority.pem()).unwrap();
    let region = Region::start(&authority).await;
    let mut rig = prepared(&region).await;
    let repositories = rig.github.clone_base().strip_prefix("file://").unwrap().into();
    let at = SocketAddr::new(INTERNET.parse().unwrap(), 443);
    answer(at, &authority.certify(INTERNET), repositories, Path::new(PROGRAM)).await;
    let url = region.rds.staging.strict.url.clone();
    rig.launch_by(|command| {
        command.env("AWS_ENDPOINT_URL", url);
        command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", "a secret key of the tests");
    })
    .await;

    // In goes a webhook, out comes a page with data of the golden snapshot.
    let number = rig.open("Shows the orders", vec![]).await;
    rig.until_ready_within(number, MAKING).await;
    assert_eq!(page(&rig, number).await.unwrap(), "before: 2 orders of 300, 1 migrations, tls");
    let machines = region.machines();
    let [machine] = &machines[..] else { panic!("{} machines", machines.len()) };
    assert!(machine.console().contains("user data: done"), "{}", machine.console());

    // Nobody but root reaches the metadata service, from the sandbox or outside it.
    let reached: [String; 2] = rig.visit(number, "/reaches").await.unwrap().json().await.unwrap();
    assert_eq!(reached, ["[Errno 111] Connection refused", "reached"]);
    let url = format!("http://{METADATA}/");
    let ask = ["curl", "--silent", "--show-error", "--max-time", "10", &url];
    assert_eq!(machine.in_its_network(&ask).await, (true, SAID_BY_METADATA.to_owned()));
    let nobody = [&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"][..], &ask].concat();
    let (succeeded, said) = machine.in_its_network(&nobody).await;
    assert!(!succeeded && said.contains("Couldn't connect"), "{said}");

    // A push replaces it, on the same machine and with the same data.
    rig.push(number, "Another title", vec![FileChange::write("app.py", app("after"))]).await;
    rig.until_ready_within(number, MAKING).await;
    assert_eq!(page(&rig, number).await.unwrap(), "after: 2 orders of 300, 2 migrations, tls");
    assert_eq!(region.rds.staging.strict.count("RunInstances"), 1);

    // An agent that dies is started again, as its unit says, and told again what to run.
    let agents = machine.agents();
    let [agent] = agents[..] else { panic!("{agents:?}") };
    kill9(agent);
    eventually("another agent runs", PATIENCE, async || machine.agents().into_iter().any(|another| another != agent))
        .await;
    eventually("the page is there again", PATIENCE, async || match page(&rig, number).await {
        Ok(page) if page.starts_with("after: 2 orders of 300") => Ok(()),
        Ok(page) | Err(page) => Err(page),
    })
    .await;

    // As a draft it sleeps: the machine is off. When it boots again nobody executes user data, and all of it holds.
    let before = machine.network.clone();
    rig.github.repo().set_draft(number, ACTOR, true).await.unwrap();
    rig.until_says(number, "Preview asleep").await;
    eventually("no machine runs", PATIENCE, async || region.machines().is_empty()).await;
    rig.github.repo().set_draft(number, ACTOR, false).await.unwrap();
    rig.until_ready_within(number, MAKING).await;
    assert!(page(&rig, number).await.unwrap().starts_with("after: 2 orders of 300, "));
    let machines = region.machines();
    let [machine] = &machines[..] else { panic!("{} machines", machines.len()) };
    assert_ne!(machine.network, before);
    assert_eq!(machine.console().matches("user data: done").count(), 1, "{}", machine.console());
    let reached: [String; 2] = rig.visit(number, "/reaches").await.unwrap().json().await.unwrap();
    assert_eq!(reached, ["[Errno 111] Connection refused", "reached"]);

    // The merge leaves nothing.
    let network = machine.network.clone();
    rig.github.repo().merge(number, ACTOR).await.unwrap();
    rig.until_gone_within(number, GOING).await;
    rig.finish().await;
    nothing_is_left(&region).await;
    eventually("its namespaces are gone", PATIENCE, async || {
        let (left, cables) = (processes_in(&network), interfaces());
        if left.is_empty() && cables == ["lo"] { Ok(()) } else { Err(format!("{left:?} {cables:?}")) }
    })
    .await;
}

/// moto has nothing of any environment, and all that was there before.
async fn nothing_is_left(region: &Region) {
    let staging = &region.rds.staging;
    let all = staging.ec2.describe_instances().send().await.unwrap();
    let instances: Vec<_> = all.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances).collect();
    let states: Vec<&str> = instances.iter().map(|one| one.state().unwrap().name().unwrap().as_str()).collect();
    assert_eq!(states, ["terminated"]);
    let databases = region.rds.raw.describe_db_instances().send().await.unwrap();
    assert!(databases.db_instances().is_empty(), "{databases:?}");
    let snapshots = region.rds.raw.describe_db_snapshots().snapshot_type("manual").send().await.unwrap();
    assert_eq!(snapshots.db_snapshots().len(), 1, "the golden one");
    assert!(region.machines().is_empty());
    for action in ["StopInstances", "StartInstances", "TerminateInstances", "DeleteDBInstance"] {
        assert_eq!(staging.strict.count(action), 1, "{action}");
    }
}

#[test]
fn from_a_webhook_to_a_page_of_a_machine_that_its_user_data_has_set_up() {
    in_surroundings_of_its_own(&[DATABASES, INTERNET, METADATA], story);
}
