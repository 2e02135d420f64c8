//! A database from a golden of about 1 GB: Kagero's `prepare`, bare `createdb`, and `pg_restore`, in one run
//! on one private cluster.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kagero::clock::SystemClock;
use kagero::cloud::local::databases::{Durability, PRIVATE_NETWORK, PostgresConfig, PostgresDatabases, ServerConfig};
use kagero::cloud::{DatabaseBirth, Databases as _};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::id::{EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId, SeedName};
use kagero::domain::observed::{DatabaseState, Tags};
use kagero::domain::owned::{Claim, prove_database};
use kagero::domain::policy::{AllowList, Engine};
use kagero::seed::golden::Golden;
use kagero::seed::role::RoleLimits;
use kagero::seed::scram;
use kagero::seed::tools::{PassFile, SERVER_PROGRAMS, Tools};

const SECRET: &str = "a secret of the measurement";
const ROUNDS: u64 = 5;

/// Writes a seed that becomes about as many megabytes; the file itself is small.
pub fn write_seed(path: &Path, megabytes: u32) {
    let rows = u64::from(megabytes) * 1024 * 1024 / 1160;
    let text = format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL, note text NOT NULL);\n\
         INSERT INTO orders SELECT i, i % 1000, repeat(md5(i::text), 34) FROM generate_series(1, {rows}) i;\n\
         ALTER TABLE orders ALTER COLUMN note SET STORAGE EXTERNAL;\n\
         CREATE INDEX orders_customer ON orders (customer);\n\
         CREATE TABLE products (id serial PRIMARY KEY, name text NOT NULL);\n\
         INSERT INTO products (name) VALUES ('tea'), ('rice');\n"
    );
    std::fs::write(path, text).unwrap();
}

/// The lane on a private cluster in `state_dir`, with a seed `big` of that size, not loaded yet.
pub fn lane(state_dir: &Path, megabytes: u32) -> PostgresDatabases {
    std::fs::set_permissions(state_dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    let source = state_dir.join("big.sql");
    write_seed(&source, megabytes);
    let name = SeedName::parse("big").unwrap();
    let config = PostgresConfig {
        server: ServerConfig::Private { bin_dir: None, user: None, durability: Durability::Crash },
        state_dir: state_dir.to_owned(),
        install: InstallId::parse("bench").unwrap(),
        secret: SECRET.into(),
        goldens: vec![Golden { name, source, format: None, extensions: Vec::new() }],
        allow: vec![PRIVATE_NETWORK.to_owned()],
        limits: RoleLimits::default(),
        at_once: 4,
    };
    PostgresDatabases::new(config, Arc::new(SystemClock)).unwrap()
}

/// Prints the table.
pub fn run() {
    let megabytes = std::env::var("KAGERO_BENCH_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    tokio::runtime::Runtime::new().unwrap().block_on(measure(megabytes));
}

async fn measure(megabytes: u32) {
    let home = tempfile::tempdir().unwrap();
    let lane = lane(home.path(), megabytes);
    let begun = Instant::now();
    lane.load_goldens().await.unwrap();
    let loading = begun.elapsed();
    let peer = Peer::new(&lane, home.path()).await;
    let template = peer.ask("SELECT datname FROM pg_database WHERE datistemplate AND datname LIKE 'kagero%'");
    let size = peer.ask(&format!("SELECT pg_size_pretty(pg_database_size('{template}'))"));
    peer.dump(&lane, home.path()).await;

    let (mut ours, mut created, mut copied, mut restored, mut dropped) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let (tags, name) = prepare(&lane, round).await;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        drop_one(&lane, home.path(), &tags, &name).await;
        dropped.push(begun.elapsed());
        for (strategy, times) in [("wal_log", &mut created), ("file_copy", &mut copied)] {
            let begun = Instant::now();
            peer.run("createdb", &["-T", &template, "-S", strategy, "peer"]);
            times.push(begun.elapsed());
            peer.run("dropdb", &["peer"]);
        }
        if round < 3 {
            peer.run("createdb", &["peer"]);
            let dump = home.path().join("big.dump");
            let begun = Instant::now();
            peer.run("pg_restore", &["--no-owner", "--jobs=2", "--dbname=peer", dump.to_str().unwrap()]);
            restored.push(begun.elapsed());
            peer.run("dropdb", &["peer"]);
        }
    }
    lane.stop().await.unwrap();
    println!(
        "Golden of {size}, loaded once from SQL in {:.1} s. Medians of {ROUNDS} (pg_restore: 3).\n",
        loading.as_secs_f64()
    );
    println!("| What | Seconds |\n|---|---|");
    for (what, mut times) in [
        ("Kagero: request → ready, roles and checks included", ours),
        ("Kagero: drop request → gone", dropped),
        ("`createdb -T`, WAL_LOG (the default)", created),
        ("`createdb -T`, FILE_COPY", copied),
        ("`pg_restore -j2` of a custom dump", restored),
    ] {
        println!("| {what} | {:.2} |", median(&mut times).as_secs_f64());
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn prepare(lane: &PostgresDatabases, number: u64) -> (Tags, String) {
    let install = InstallId::parse("bench").unwrap();
    let key = EnvKey { repo: RepoId(1), pr: PrNumber(number) };
    let tags = Tags { uid: EnvUid::derive(&install, key), install, key, generation: Generation::FIRST };
    let name = format!("kagero_bench_{}_g1", tags.uid);
    let seed = SeedName::parse("big").unwrap();
    lane.prepare(DatabaseBirth::plain(&tags, &DatabaseSpec { name: name.clone(), engine: Engine::Postgres, seed }))
        .await
        .unwrap();
    loop {
        let found = lane.list().await.unwrap().items.into_iter().find(|database| database.name == name);
        match found.map(|database| database.state) {
            Some(DatabaseState::Ready) => return (tags, name),
            Some(DatabaseState::Failed(why)) => panic!("{why}"),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn drop_one(lane: &PostgresDatabases, home: &Path, tags: &Tags, name: &str) {
    let find = || async { lane.list().await.unwrap().items.into_iter().find(|database| database.name == name) };
    let allow = AllowList {
        accounts: vec![home.display().to_string()],
        regions: vec!["local".to_owned()],
        networks: vec![PRIVATE_NETWORK.to_owned()],
    };
    let claim = Claim { install: &tags.install, uid: &tags.uid, generation: tags.generation };
    let owned = prove_database(&find().await.unwrap(), claim, &allow).unwrap();
    lane.delete(&owned).await.unwrap();
    while find().await.is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// PostgreSQL's own programs, as the same administrator.
struct Peer {
    bin_dir: PathBuf,
    pass: PassFile,
    port: String,
}

const ADMIN: &str = "kagero_bench_admin";

impl Peer {
    async fn new(lane: &PostgresDatabases, home: &Path) -> Self {
        let seed = SeedName::parse("big").unwrap();
        let any = DatabaseSpec { name: "kagero_bench_any".to_owned(), engine: Engine::Postgres, seed };
        let url = url::Url::parse(&lane.access(&any).await.unwrap().application_url).unwrap();
        let password = scram::password(&SECRET.into(), ADMIN);
        Self {
            bin_dir: Tools::find(None, &SERVER_PROGRAMS).unwrap().bin_dir,
            pass: PassFile::write(home, ADMIN, &password, None).unwrap(),
            port: url.port().unwrap().to_string(),
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.bin_dir.join(program))
            .args(["--host=127.0.0.1", "--username", ADMIN, "--port", &self.port])
            .args(arguments)
            .env("PGPASSFILE", self.pass.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn ask(&self, question: &str) -> String {
        self.run("psql", &["-Atc", question, "postgres"])
    }

    async fn dump(&self, lane: &PostgresDatabases, home: &Path) {
        let (tags, name) = prepare(lane, 1000).await;
        let dump = home.join("big.dump");
        self.run(
            "pg_dump",
            &["-Fc", "-Z0", "--exclude-schema=kagero", "--no-privileges", "-f", dump.to_str().unwrap(), &name],
        );
        drop_one(lane, home, &tags, &name).await;
    }
}
