//! Measures a pull request from the moment it is opened to the first answer of the sample application, with a
//! database of 1 GB: the real program, agent and PostgreSQL, and a stand-in for GitHub.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kagero::cli::run::{Running, Surroundings};
use kagero::cloud::local::databases::Durability;
use kagero::config::load_server;
use kagero::sim::github::{FileChange, OpenPull, Standin, StandinConfig, shop_repository};

const ROUNDS: usize = 5;
const GIVE_UP: Duration = Duration::from_mins(3);
const GOAL: Duration = Duration::from_secs(3);

/// Prints the figures.
pub fn run() {
    let megabytes = std::env::var("KAGERO_BENCH_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    tokio::runtime::Runtime::new().unwrap().block_on(measure(megabytes));
}

async fn measure(megabytes: u64) {
    let home = tempfile::tempdir().unwrap();
    open_to_others(home.path());
    let github = stage(home.path(), megabytes).await;
    let server = load_server(&home.path().join("kagero.toml")).unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kagero"));
    let around = Surroundings { program, durability: Durability::Crash, ..Surroundings::usual().unwrap() };
    let running = Running::start(&server, &around).await.unwrap();
    github.set_webhook_url(Some(format!("http://{}/webhook/github", running.http)));

    let mut boots = Vec::new();
    let mut readies = Vec::new();
    // The first one waits for the seed to be loaded, and is not counted.
    for round in 0..=ROUNDS {
        let change = FileChange::write("NOTES.md", format!("round {round}\n"));
        let began = Instant::now();
        let number = github.repo().open_pull(OpenPull::new(format!("Round {round}"), vec![change])).await.unwrap();
        let boot = first(&running, number, began, |page| page).await;
        let ready = first(&running, number, began, |page| !page).await;
        if round > 0 {
            boots.push(boot);
            readies.push(ready);
        }
        github.repo().close(number, "mika").await.unwrap();
        while !running.desk.world().store.unreleased().await.unwrap().is_empty() {
            assert!(began.elapsed() < GIVE_UP, "the preview of round {round} does not go");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    running.stop_everything().await.unwrap();
    boots.sort();
    readies.sort();
    let verdict = if readies[ROUNDS / 2] <= GOAL { "met" } else { "missed" };
    println!("preview  pull request opened → boot page            median {:.2?}", boots[ROUNDS / 2]);
    println!(
        "preview  pull request opened → first 200, {megabytes} MB   median {:.2?}, slowest {:.2?} of {ROUNDS} (goal ≤ {GOAL:?}: {verdict})",
        readies[ROUNDS / 2],
        readies[ROUNDS - 1]
    );
}

/// The time to the first answer that comes, or does not come, from a page of the gateway's.
async fn first(running: &Running, number: u64, began: Instant, wanted: impl Fn(bool) -> bool) -> Duration {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let host = format!("pr-{number}-shop.preview.localhost");
    loop {
        let request = client.get(format!("http://{}/version", running.gateway)).header("host", &host);
        if let Ok(answer) = request.send().await {
            let ours = answer.headers().contains_key("x-kagero-environment");
            let page = answer.headers().contains_key("x-kagero-page");
            if ours && wanted(page) && (page || answer.status().is_success()) {
                return began.elapsed();
            }
        }
        assert!(began.elapsed() < GIVE_UP, "pull request {number} does not answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// PostgreSQL runs as another user: it has to be able to pass.
fn open_to_others(home: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o711)).unwrap();
}

async fn stage(home: &Path, megabytes: u64) -> Standin {
    let shop = Path::new(env!("CARGO_BIN_EXE_kagero")).with_file_name("examples").join("shop");
    assert!(shop.is_file(), "{} is missing: cargo build --release --example shop", shop.display());
    std::fs::create_dir(home.join("bin")).unwrap();
    std::fs::copy(&shop, home.join("bin/shop")).unwrap();
    let rows = megabytes * 1024 * 1024 / 1160;
    let seed = format!(
        "{}\nCREATE TABLE archive (id bigint PRIMARY KEY, note text NOT NULL);\n\
         INSERT INTO archive SELECT i, repeat(md5(i::text), 34) FROM generate_series(1, {rows}) i;\n",
        include_str!("../examples/shop-seed/golden.sql")
    );
    std::fs::write(home.join("golden.sql"), seed).unwrap();
    let mut repository = shop_repository();
    // Without a build: what is measured is Kagero.
    let file = repository.files.get_mut(".kagero.yml").unwrap();
    let text =
        String::from_utf8_lossy(file).lines().filter(|line| !line.starts_with("build:")).collect::<Vec<_>>().join("\n");
    *file = text.into_bytes();
    let built =
        std::process::Command::new("sh").arg("app/build.sh").current_dir("examples/shop-repo").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for entry in std::fs::read_dir("examples/shop-repo/public").unwrap().flatten() {
        let path = format!("public/{}", entry.file_name().to_string_lossy());
        repository.files.insert(path, std::fs::read(entry.path()).unwrap());
    }
    std::fs::remove_dir_all("examples/shop-repo/public").unwrap();
    let github =
        Standin::start(StandinConfig { repositories: vec![repository], ..StandinConfig::default() }).await.unwrap();
    std::fs::write(home.join("app.pem"), github.private_key_pem()).unwrap();
    std::fs::write(home.join("webhook-secret"), github.webhook_secret()).unwrap();
    let (http, gateway) = (free_port(), free_port());
    let text = format!(
        "name = \"bench\"\nrepositories = [\"kumo/*\"]\npublic_url = \"http://127.0.0.1:{http}\"\nstate_dir = \"state\"\n\
         [listen]\nhttp = \"127.0.0.1:{http}\"\ngateway = \"127.0.0.1:{gateway}\"\n\
         [gateway]\ndomain = \"preview.localhost\"\nscheme = \"http\"\nport = {gateway}\n\
         [github]\napp_id = {}\nprivate_key = \"file:app.pem\"\nwebhook_secrets = [\"file:webhook-secret\"]\n\
         api_url = \"{}\"\nweb_url = \"{}\"\nclone_base = \"{}\"\n\
         [compute]\npath = [\"{}\"]\nsandbox = \"best_effort\"\n\
         [seeds.golden]\nengine = \"postgres\"\nformat = \"plain\"\npath = \"golden.sql\"\n",
        github.app_id(),
        github.api_url(),
        github.web_url(),
        github.clone_base(),
        home.join("bin").display()
    );
    std::fs::write(home.join("kagero.toml"), text).unwrap();
    github
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
