//! Measures gateway: throughput and added latency next to nginx (one worker) and haproxy (one thread), all
//! in front of the same application, in one run, taking turns.
//!
//! Only ratios within one run mean anything: the machine may be shared. `KAGERO_BENCH_SECONDS` (4) is the
//! length of one turn, `KAGERO_BENCH_ROUNDS` (3) the number of turns of which the median counts.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kagero::domain::id::{EnvKey, EnvUid, Generation, PrNumber, RepoId, RepoName};
use kagero::domain::time::Timestamp;
use kagero::gateway::{Gateway, GatewayConfig, Route, RouteTable};
use kagero::report::view::{EnvView, Phase};

const DOMAIN: &str = "preview.test";
/// Hosts that are asked for, spread evenly over the table.
const HOT_HOSTS: usize = 32;
const CONNECTIONS: [usize; 3] = [1, 32, 256];
const ROUTES: [usize; 2] = [1, 10_000];
const INSTALL: &str = "apt-get install -y --no-install-recommends nginx-light haproxy wrk";
/// Set for the processes that the measurement starts from its own program.
const ROLE: &str = "KAGERO_BENCH_ROLE";

/// Runs the measurement and prints its table.
pub fn run() {
    if let Ok(role) = std::env::var(ROLE) {
        play(&role);
        return;
    }
    for tool in ["nginx", "haproxy", "wrk"] {
        assert!(find(tool).is_some(), "the gateway cannot be compared: {tool} is not installed; run: {INSTALL}");
    }
    let seconds = setting("KAGERO_BENCH_SECONDS", 4);
    let rounds = setting("KAGERO_BENCH_ROUNDS", 3);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    println!("## Gateway\n");
    println!(
        "{cores} cores, shared by load (wrk), proxy and application; medians of {rounds} turns of {seconds} s each, \
         taken in rotation; {HOT_HOSTS} hosts asked for (1 where there is one route). *CPU* is the proxy's own, per \
         request; *added* is against the application asked directly. Compare within this table only.\n"
    );
    println!("| routes | connections | proxy | requests/s | × nginx | p50 | added p50 | p99 | added p99 | CPU |");
    println!("|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|");
    let mut verdicts = Vec::new();
    for routes in ROUTES {
        let folder = tempfile::tempdir().unwrap();
        let targets = targets(routes, cores, folder.path());
        let script = folder.path().join("hosts.lua");
        std::fs::write(&script, lua(routes)).unwrap();
        for target in &targets {
            load(target, 32, 1, &script);
        }
        for connections in CONNECTIONS {
            let mut turns: Vec<Vec<Turn>> = targets.iter().map(|_| Vec::new()).collect();
            for _ in 0..rounds {
                for (target, turns) in targets.iter().zip(&mut turns) {
                    turns.push(load(target, connections, seconds, &script));
                }
            }
            let medians: Vec<Turn> = turns.iter().map(|turns| Turn::median(turns)).collect();
            let nginx = targets.iter().position(|target| target.name.starts_with("nginx")).unwrap();
            for (target, turn) in targets.iter().zip(&medians) {
                let ratio = turn.requests / medians[nginx].requests;
                let added = (turn.p50 - medians[0].p50, turn.p99 - medians[0].p99);
                println!(
                    "| {routes} | {connections} | {} | {:.0} | {ratio:.2} | {:.3} ms | {:+.3} ms | {:.3} ms | {:+.3} ms | {} |",
                    target.name,
                    turn.requests,
                    turn.p50,
                    added.0,
                    turn.p99,
                    added.1,
                    turn.cpu.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.1} µs")),
                );
                if target.name.starts_with("kagero") {
                    verdicts.push((routes, connections, target.name.clone(), ratio, added.0));
                }
            }
        }
    }
    println!(
        "\nAgainst the goals (× nginx ≥ 0.9, with one thread per core as by default; added p50 < 0.4 ms at 1 \
         connection, where no queue hides it):\n"
    );
    for (routes, connections, name, ratio, added) in verdicts {
        let (figure, met) = match connections {
            1 => (format!("added p50 {added:.3} ms"), added < 0.4),
            _ => (format!("× {ratio:.2}"), ratio >= 0.9),
        };
        let verdict = if met { "met" } else { "missed" };
        println!("- {routes} routes, {connections} connections, {name}: {figure}, {verdict}");
    }
}

/// Something to put load on.
struct Target {
    name: String,
    address: SocketAddr,
    process: Option<Process>,
}

/// One turn's figures; latencies in milliseconds, CPU time in microseconds per request.
#[derive(Debug, Clone, Copy)]
struct Turn {
    requests: f64,
    p50: f64,
    p99: f64,
    cpu: Option<f64>,
}

impl Turn {
    fn median(turns: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = turns.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            requests: of(|turn| turn.requests),
            p50: of(|turn| turn.p50),
            p99: of(|turn| turn.p99),
            cpu: turns[0].cpu.map(|_| of(|turn| turn.cpu.unwrap_or_default())),
        }
    }
}

/// A child process that ends with us.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Clock ticks of CPU time so far.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum()
    }
}

fn targets(routes: usize, cores: usize, folder: &Path) -> Vec<Target> {
    let (upstream, application) = own("upstream".to_owned());
    let mut targets = vec![Target { name: "direct".to_owned(), address: upstream, process: Some(application) }];

    let address = free_address();
    let config = folder.join("nginx.conf");
    std::fs::write(&config, nginx(routes, address, upstream, folder)).unwrap();
    let nginx = Command::new(find("nginx").unwrap()).arg("-p").arg(folder).arg("-c").arg(&config).spawn().unwrap();
    targets.push(Target { name: "nginx, 1 worker".to_owned(), address, process: Some(Process(nginx)) });

    let address = free_address();
    let config = folder.join("haproxy.cfg");
    std::fs::write(&config, haproxy(routes, address, upstream, folder)).unwrap();
    let haproxy = Command::new(find("haproxy").unwrap()).arg("-q").arg("-f").arg(&config).spawn().unwrap();
    targets.push(Target { name: "haproxy, 1 thread".to_owned(), address, process: Some(Process(haproxy)) });

    let mut threads = vec![1];
    if cores > 1 {
        threads.push(cores);
    }
    for threads in threads {
        let (address, process) = own(format!("gateway {threads} {routes} {upstream}"));
        let plural = if threads == 1 { "" } else { "s" };
        targets.push(Target { name: format!("kagero, {threads} thread{plural}"), address, process: Some(process) });
    }
    for target in &targets {
        answers(target);
    }
    targets
}

/// Fails unless the target gives the application's answer within a while.
fn answers(target: &Target) {
    use std::io::{Read as _, Write as _};
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = "nothing".to_owned();
    while Instant::now() < deadline {
        let Ok(mut stream) = std::net::TcpStream::connect(target.address) else {
            std::thread::park_timeout(Duration::from_millis(50));
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(0));
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        last = String::from_utf8_lossy(&answer).into_owned();
        if last.starts_with("HTTP/1.1 200") && last.ends_with("hello\n") {
            return;
        }
    }
    panic!("{} does not pass on the application's answer; the last one was: {last}", target.name);
}

fn load(target: &Target, connections: usize, seconds: usize, script: &Path) -> Turn {
    let before = target.process.as_ref().map(Process::ticks);
    let output = Command::new(find("wrk").unwrap())
        .args(["-t1", "--latency", "-c", &connections.to_string(), "-d", &format!("{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{}/", target.address))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "wrk failed on {}: {text}{}",
        target.name,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{} gave wrong answers, so its figures mean nothing: {text}",
        target.name
    );
    let figure = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_else(|| panic!("wrk gave no {label}: {text}"))
    };
    let requests: f64 = figure("Requests/sec:").parse().unwrap();
    let all: f64 = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(1.0);
    let cpu = before.zip(target.process.as_ref()).map(|(before, process)| {
        // The kernel counts in hundredths of a second.
        let ticks = u32::try_from(process.ticks() - before).unwrap_or(u32::MAX);
        f64::from(ticks) * 10_000.0 / all
    });
    Turn { requests, p50: milliseconds(figure("50%")), p99: milliseconds(figure("99%")), cpu }
}

fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().unwrap() * factor;
        }
    }
    panic!("wrk gave a latency in an unknown unit: {text}");
}

fn host(number: usize) -> String {
    format!("pr-{number}-shop.{DOMAIN}")
}

fn lua(routes: usize) -> String {
    let hot = HOT_HOSTS.min(routes);
    let hosts: Vec<String> = (0..hot).map(|n| format!("{:?}", host(n * (routes / hot)))).collect();
    format!(
        "local hosts = {{{}}}\nlocal requests, n = {{}}, 0\n\
         init = function(args)\n  for i, h in ipairs(hosts) do requests[i] = wrk.format('GET', '/', {{['Host'] = h, ['Accept'] = '*/*'}}) end\nend\n\
         request = function()\n  n = n % #requests + 1\n  return requests[n]\nend\n",
        hosts.join(", ")
    )
}

fn nginx(routes: usize, listen: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let mut map = String::new();
    for n in 0..routes {
        writeln!(map, "    {} app;", host(n)).unwrap();
    }
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log error;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n  access_log off;\n  map_hash_max_size 65536;\n  map_hash_bucket_size 128;\n  \
         keepalive_requests 100000000;\n  tcp_nodelay on;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
         fastcgi_temp_path {folder}/f;\n  uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n  \
         map $http_host $backend {{\n    default none;\n{map}  }}\n  \
         upstream app {{ server {upstream}; keepalive 512; keepalive_requests 100000000; }}\n  \
         upstream none {{ server 127.0.0.1:9; }}\n  \
         server {{\n    listen {listen};\n    location / {{\n      proxy_pass http://$backend;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_set_header Host $http_host;\n      proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto http;\n      proxy_set_header X-Forwarded-Host $http_host;\n      \
         proxy_set_header X-Forwarded-Port 80;\n      add_header X-Robots-Tag noindex always;\n    }}\n  }}\n}}\n"
    )
}

fn haproxy(routes: usize, listen: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let map = folder.join("hosts.map");
    let mut lines = String::new();
    for n in 0..routes {
        writeln!(lines, "{} app", host(n)).unwrap();
    }
    std::fs::write(&map, lines).unwrap();
    format!(
        "global\n  nbthread 1\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         http-reuse always\nfrontend f\n  bind {listen}\n  http-request set-header X-Forwarded-For %[src]\n  \
         http-request set-header X-Forwarded-Proto http\n  http-request set-header X-Forwarded-Port 80\n  \
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  http-response set-header X-Robots-Tag noindex\n  \
         use_backend %[req.hdr(host),lower,map({})]\nbackend app\n  server a {upstream} maxconn 8192\n",
        map.display()
    )
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")))
}

/// Starts this program in a role; it says its address on its first line.
fn own(role: String) -> (SocketAddr, Process) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("gateway")
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.trim().parse().unwrap_or_else(|_| panic!("a process of the measurement did not start: {line:?}"));
    (address, Process(child))
}

fn play(role: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let words: Vec<&str> = role.split(' ').collect();
    match words.as_slice() {
        ["upstream"] => runtime.block_on(application()),
        ["gateway", threads, routes, upstream] => {
            let mut config = GatewayConfig::new("127.0.0.1:0".parse().unwrap(), DOMAIN);
            config.threads = threads.parse().unwrap();
            let table = RouteTable::default();
            lead_to(upstream.parse().unwrap(), routes.parse().unwrap(), &table);
            let gateway = Gateway::start(config, table).unwrap();
            println!("{}", gateway.local_addr());
            wait_for_parent();
        }
        _ => panic!("{ROLE} is set to {role:?}, which is no role of this measurement; unset it"),
    }
}

/// Returns when the process that started this one is gone.
fn wait_for_parent() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Fills the table with that many routes to the application.
fn lead_to(upstream: SocketAddr, routes: usize, table: &RouteTable) {
    let uid = |n: usize| EnvUid::parse(format!("{n:020x}")).unwrap();
    let view = Arc::new(EnvView {
        key: EnvKey { repo: RepoId(1), pr: PrNumber(1) },
        repo: RepoName::parse("acme/shop").unwrap(),
        uid: uid(0),
        generation: Generation::FIRST,
        phase: Phase::Ready,
        commit: None,
        serving: None,
        url: None,
        services: Vec::new(),
        stages: Vec::new(),
        detail: None,
        log_tail: Vec::new(),
        seed: None,
        removed: None,
        ready_after_ms: None,
        brakes: Vec::new(),
        at: Timestamp(0),
    });
    for n in 0..routes {
        let route = Route { uid: uid(n), upstream: Some(upstream), view: Arc::clone(&view) };
        table.set(&format!("pr-{n}-shop"), route);
    }
    table.complete();
}

/// A fast application: what it costs is hardly more than what HTTP costs.
async fn application() {
    std::thread::spawn(|| {
        wait_for_parent();
        std::process::exit(0);
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let answer = service_fn(|_| async {
                let answer = Response::builder().header("content-type", "text/plain");
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(b"hello\n"))).unwrap())
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
