//! Whom containers reach, with real packets: each other within a release, and neither other previews nor what listens on
//! the computer's loopback.

use std::path::Path;
use std::time::Duration;

use kagero::domain::policy::Runs;

use super::containers::{DOCKERFILE, built, of, own, service, with_engine};
use super::site::{Agent, Origin, PATIENCE, get, state_dir};
use crate::podman::Podman;
use crate::wait::eventually;

#[tokio::test]
async fn other_networks_and_the_computers_own_services_are_not_reached() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let agent = Agent::start(&with_engine(state.path(), &podman.engine())).await;
    let mut assignment = of(&origin, &origin.push("one"), built());
    assignment.task.services.push(service("other", Runs::Container(Box::new(built()))));
    let addr = agent.deploy(&assignment).await;

    // Another preview: a network that is isolated as ours is.
    podman.run(&["network", "create", "--opt", "isolate=true", "stranger"]);
    let serve = ["sh", "-c", "exec httpd -f -p 8080 -h /www"];
    let start = ["run", "--detach", "--name", "stranger", "--network", "stranger", "localhost/base:1"];
    podman.run(&[&start[..], &serve[..]].concat());
    let address = |name: &str| {
        podman.run(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name])
    };
    // Not by wget: with a time limit it crashes, and what crashes reaches nothing.
    let reaches = |from: &str, host: &str, port: u16| {
        let said = podman.inside(from, &format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {host} {port}"));
        said.is_ok_and(|said| said.contains("HTTP/"))
    };
    let containers = own(&podman);
    let named = |part: &str| containers.iter().find(|name| name.contains(part)).unwrap().clone();
    let (web, other) = (named("-web-"), named("-other-"));

    // What should be reached is, so that the rest means something.
    assert!(reaches(&web, &address(&other), 8080), "a service does not reach another of its release");
    assert!(reaches("stranger", "127.0.0.1", 8080));
    let stranger = format!("http://{}:8080/", address("stranger"));
    assert_eq!(fetch_from_here(&stranger).await.as_deref(), Ok("base"));
    assert!(!reaches(&web, &address("stranger"), 8080), "another preview's container was reached");
    assert!(!reaches("stranger", &address(&web), 8080), "ours was reached from another");

    // Agents, services and databases of this computer listen on its loopback: a container has one of its own.
    assert_eq!(get(addr, "/").await.unwrap(), "one");
    let gateway = podman.inside(&web, "ip route | awk '/default/{print $3}'").unwrap();
    for port in [addr.port(), agent.addr.port()] {
        for host in ["127.0.0.1", &gateway] {
            assert!(!reaches(&web, host, port), "a service of the computer was reached at {host}:{port}");
        }
    }
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut visitor, _) = everywhere.accept().unwrap();
        visitor.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
    });
    assert!(reaches(&web, &gateway, port), "the computer cannot be reached at all: then the rest says nothing");
    agent.end().await;
}

/// A network beside the computer with a web server in it, and firewall rules; gone when dropped.
struct Beside {
    name: String,
    server: std::process::Child,
}

/// Of a network that is nobody's ("IPv4 Address Blocks Reserved for Documentation", RFC 5737).
const BESIDE: &str = "198.51.100.254";

fn system(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed ({error}): make setup"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Beside {
    fn start(folder: &Path) -> Self {
        let name = format!("kgn{}", std::process::id());
        let (here, there) = (format!("{name}h"), format!("{name}t"));
        let ip = |arguments: &str| system("ip", &arguments.split(' ').collect::<Vec<_>>());
        ip(&format!("netns add {name}"));
        ip(&format!("link add {here} type veth peer name {there} netns {name}"));
        ip(&format!("addr add 198.51.100.253/30 dev {here}"));
        ip(&format!("link set {here} up"));
        ip(&format!("-n {name} addr add {BESIDE}/30 dev {there}"));
        ip(&format!("-n {name} link set {there} up"));
        ip(&format!("-n {name} route add default via 198.51.100.253"));
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &name, "/bin/busybox", "httpd", "-f", "-p", "80", "-h"]).arg(folder);
        Self { name, server: command.spawn().unwrap() }
    }

    fn rules(&self, text: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.replace("inet kagero", &format!("inet {}", self.name))).unwrap();
        system("nft", &["-f", &file.path().display().to_string()]);
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let here = format!("{}h", self.name);
        for (program, arguments) in [
            ("ip", vec!["link", "del", here.as_str()]),
            ("ip", vec!["netns", "del", self.name.as_str()]),
            ("nft", vec!["delete", "table", "inet", self.name.as_str()]),
        ] {
            let _ = std::process::Command::new(program).args(arguments).output();
        }
    }
}

/// With another address in the place of the metadata service's, which this computer may have.
#[tokio::test]
async fn a_machines_firewall_keeps_containers_from_the_metadata_service() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let agent = Agent::start(&with_engine(state.path(), &podman.engine())).await;
    agent.deploy(&of(&origin, &origin.push("one"), built())).await;
    let [container] = &own(&podman)[..] else { panic!("{:?}", podman.containers()) };
    let beside = Beside::start(state.path());
    let reaches = || {
        let said = podman.inside(container, &format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {BESIDE} 80"));
        said.is_ok_and(|said| said.contains("HTTP/"))
    };
    eventually("a container reaches what is beside the computer", PATIENCE, async || reaches()).await;

    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/user-data.sh")).unwrap();
    let (_, rules) = script.split_once("<<'RULES'\n").unwrap();
    let (rules, _) = rules.split_once("RULES\n").unwrap();
    assert!(rules.contains("169.254.169.254"), "{rules}");
    beside.rules(&rules.replace("169.254.169.254", BESIDE));
    assert!(!reaches(), "the metadata service's place was reached");
    agent.end().await;
}

/// As the computer itself, which is in every network.
async fn fetch_from_here(url: &str) -> Result<String, String> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    answer.text().await.map_err(|error| error.to_string())
}
