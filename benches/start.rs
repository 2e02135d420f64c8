//! Measures how long `kagero serve` takes from its start to its first answer, and what it holds at rest.
//!
//! The goal is an idle start below 100 ms.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const GOAL: Duration = Duration::from_millis(100);
const GIVE_UP: Duration = Duration::from_secs(20);

/// Starts the program again and again, each time on an empty store, and prints the figures.
pub fn run() {
    let mut starts = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (took, kilobytes) = start(home.path());
        starts.push(took);
        resident.push(kilobytes);
    }
    starts.sort();
    resident.sort_unstable();
    let (median, slowest) = (starts[ROUNDS / 2], starts[ROUNDS - 1]);
    let verdict = if median < GOAL { "met" } else { "missed" };
    println!(
        "start    idle start to first answer   median {median:.1?}, slowest {slowest:.1?} of {ROUNDS} (goal < {GOAL:?}: {verdict})"
    );
    println!("start    resident memory at rest      median {} KB", resident[ROUNDS / 2]);
}

/// One start: the time to the first answer, and the resident memory then, in KB.
fn start(home: &Path) -> (Duration, u64) {
    let address = free_address();
    let config = home.join("kagero.toml");
    fs::write(&config, minimal_config(home, address)).expect("a configuration");
    let log = fs::File::create(home.join("log")).expect("a log");
    let begun = Instant::now();
    let mut server = Server(
        Command::new(env!("CARGO_BIN_EXE_kagero"))
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("kagero can be started"),
    );
    loop {
        if let Ok(answer) = ask_health(address)
            && answer.starts_with("HTTP/1.1 200")
        {
            let took = begun.elapsed();
            return (took, resident_kilobytes(server.0.id()));
        }
        let ended = server.0.try_wait().expect("its state");
        if ended.is_some() || begun.elapsed() > GIVE_UP {
            let said = fs::read_to_string(home.join("log")).unwrap_or_default();
            panic!("kagero serve does not answer GET /healthz on {address} ({ended:?}). It said:\n{said}");
        }
        std::thread::park_timeout(Duration::from_micros(500));
    }
}

/// As little as `kagero serve` runs with: one repository, a store in the directory, no outside address.
fn minimal_config(home: &Path, http: SocketAddr) -> String {
    let gateway = free_address();
    fs::write(home.join("app.pem"), app_key()).expect("a key");
    fs::write(home.join("webhook-secret"), "a secret for measuring only").expect("a secret");
    format!(
        "name = \"bench\"\nrepositories = [\"acme/*\"]\npublic_url = \"http://{http}\"\nstate_dir = \"state\"\n\
         [listen]\nhttp = \"{http}\"\ngateway = \"{gateway}\"\n\
         [gateway]\ndomain = \"preview.localhost\"\nscheme = \"http\"\n\
         [github]\napp_id = 1\napi_url = \"http://127.0.0.1:9\"\nprivate_key = \"file:app.pem\"\n\
         webhook_secrets = [\"file:webhook-secret\"]\n\
         [compute]\nsandbox = \"best_effort\"\n"
    )
}

/// An RSA key, made once: making one takes longer than a start.
fn app_key() -> &'static str {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    KEY.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let standin =
            runtime.block_on(kagero::sim::github::Standin::start(kagero::sim::github::StandinConfig::default()));
        standin.expect("a stand-in for GitHub").private_key_pem().to_owned()
    })
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

fn ask_health(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn resident_kilobytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS in /proc");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kilobytes")
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
