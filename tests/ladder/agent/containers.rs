//! Services as containers, with a real Podman: from an image or a Dockerfile to a service that answers, and to nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kagero::agent::client::LogKind;
use kagero::agent::options::AgentOptions;
use kagero::domain::assignment::{Assignment, RolloutPhase, Stage};
use kagero::domain::container::{CheckoutPath, Container, Image, ImageBuild, ImageReference};
use kagero::domain::id::{CommitSha, ServiceName};
use kagero::domain::policy::{ComposeService, Runs, Service};

use super::site::{Agent, Origin, PATIENCE, all_arguments, command, get, options, state_dir, uid, web};
use crate::podman::Podman;
use crate::wait::eventually;

pub(super) const DOCKERFILE: &str = "FROM localhost/base:1\nRUN ip addr > /www/addresses; ps > /www/processes\nCOPY version.txt \
                          /www/index.html\nEXPOSE 8080\n";

pub(super) fn with_engine(state: &Path, engine: &str) -> AgentOptions {
    let mut options = options(state);
    options.containers.engine = Some(engine.to_owned());
    options
}

pub(super) fn service(name: &str, runs: Runs) -> Service {
    Service { name: ServiceName::parse(name).unwrap(), runs, ..web("") }
}

fn pulled(name: &str) -> Container {
    Container::of(Image::Pulled(ImageReference::parse(name).unwrap()))
}

pub(super) fn built() -> Container {
    let path = |text: &str| CheckoutPath::parse(text).unwrap();
    let build = ImageBuild { context: path("."), dockerfile: path("Dockerfile"), target: None, args: BTreeMap::new() };
    Container::of(Image::Built(build))
}

pub(super) fn of(origin: &Origin, commit: &CommitSha, container: Container) -> Assignment {
    let mut assignment = origin.assignment(commit);
    assignment.task.services = vec![service("web", Runs::Container(Box::new(container)))];
    assignment
}

/// Containers that none of the tests' agents has made, in every disguise but the right one.
fn decoys(podman: &Podman, machine: &Path) -> Vec<String> {
    let label = |name: &str, value: &str| format!("kagero.{name}={value}");
    let (uid, machine) = (uid().to_string(), machine.display().to_string());
    let whole = [("install", ""), ("uid", &uid), ("generation", "1"), ("machine", &machine), ("release", "x")];
    let mut names = vec!["nobody-s".to_owned()];
    podman.run(&["run", "--detach", "--name", "nobody-s", "localhost/base:1", "sleep", "3600"]);
    for wrong in ["install", "uid", "generation", "machine"] {
        let name = format!("kagero-{uid}-{wrong}");
        let labels: Vec<String> =
            whole.iter().map(|(key, value)| label(key, if *key == wrong { "other" } else { value })).collect();
        let mut arguments = vec!["run", "--detach", "--name", &name];
        for label in &labels {
            arguments.extend(["--label", label]);
        }
        arguments.extend(["localhost/base:1", "sleep", "3600"]);
        podman.run(&arguments);
        names.push(name);
    }
    names.sort();
    names
}

fn running(podman: &Podman) -> Vec<String> {
    let mut names: Vec<String> = podman.run(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// The containers that are the agent's.
pub(super) fn own(podman: &Podman) -> Vec<String> {
    let mut names = podman.containers();
    names.retain(|name| {
        name.starts_with(&format!("kagero-{}", uid())) && name.ends_with(|c: char| c.is_ascii_hexdigit())
    });
    names.retain(|name| name.rsplit('-').next().is_some_and(|end| end.len() == 8));
    names
}

#[tokio::test]
async fn an_image_by_tag_or_digest_serves_and_a_push_replaces_it() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    let agent = Agent::start(&with_engine(state.path(), &podman.engine())).await;
    let decoys = decoys(&podman, &agent.dir);
    let name = format!("{}/shop", podman.registry());

    let commit = origin.push("one");
    podman.publish(&format!("shop:{commit}"), "image one");
    let mut first = of(&origin, &commit, pulled(&format!("{name}:{{sha}}")));
    first.secret_env.insert("API_KEY".to_owned(), "sesame-open-1".to_owned());
    let addr = agent.deploy(&first).await;
    assert_eq!(get(addr, "/").await.unwrap(), "image one");
    assert!(addr.ip().is_loopback());

    let [container] = &own(&podman)[..] else { panic!("{:?}", podman.containers()) };
    let seen: serde_json::Value = serde_json::from_str(&podman.run(&["inspect", container])).unwrap();
    let host = &seen[0]["HostConfig"];
    assert_eq!(seen[0]["EffectiveCaps"].as_array().map_or(0, Vec::len), 0, "{seen}");
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{host}");
    assert_eq!((host["Privileged"].as_bool(), host["PidsLimit"].as_u64()), (Some(false), Some(2048)));
    assert_eq!(seen[0]["Mounts"].as_array().map_or(0, Vec::len), 0);
    let published = &seen[0]["NetworkSettings"]["Ports"]["8080/tcp"];
    assert_eq!(published[0]["HostIp"], "127.0.0.1");
    assert_eq!(published[0]["HostPort"], addr.port().to_string());
    assert_eq!(
        podman.inside(container, "echo $API_KEY $PORT $KAGERO_MACHINE").unwrap().split(' ').next(),
        Some("sesame-open-1")
    );
    assert!(!all_arguments().iter().any(|arguments| arguments.contains("sesame-open-1")));
    let log = agent.log(LogKind::Application).await.join("\n");
    assert!(log.contains("serving on 8080"), "{log}");
    let log = agent.log(LogKind::Build).await.join("\n");
    assert!(log.contains(&format!("pulling {name}:{commit}")), "{log}");

    let commit = origin.push("two");
    let digest = podman.publish("shop:two", "image two");
    let second = of(&origin, &commit, pulled(&format!("{name}@{digest}")));
    let addr = agent.deploy(&second).await;
    assert_eq!(get(addr, "/").await.unwrap(), "image two");
    eventually("the old container and its network go", PATIENCE, async || {
        agent.status().await;
        let left = (own(&podman), podman.networks());
        if left.0.len() == 1 && left.1.len() == 1 { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(get(addr, "/").await.unwrap(), "image two");

    agent.end().await;
    assert_eq!(running(&podman), decoys, "only the decoys are left");
    assert_eq!(podman.networks(), Vec::<String>::new());
}

#[tokio::test]
async fn a_dockerfile_is_built_and_its_commands_run_in_it() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let socket_dir = state.path().join("pg");
    std::fs::create_dir(&socket_dir).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(socket_dir.join(".s.PGSQL.5999")).unwrap();

    let mut assignment = of(&origin, &origin.push("built one"), built());
    assignment.task.build = Some(command("test -f /www/index.html && echo built in the image"));
    assignment.task.migrate = Some(command(
        "dir=${DATABASE_URL##*host=}; dir=$(echo $dir | awk '{gsub(/%2F/, \"/\"); print}'); test -S $dir/.s.PGSQL.5999 && \
         echo reached as ${DATABASE_URL%%:secret*}; touch $dir/x && echo WRITTEN; echo secret $DATABASE_URL",
    ));
    let url = |role: &str| format!("postgres://{role}:secret-pass@127.0.0.1:5999/shop?sslmode=disable");
    assignment.secret_env.insert("DATABASE_URL".to_owned(), url("app"));
    assignment.migrate_env.insert("DATABASE_URL".to_owned(), url("owner"));
    assignment.reachable = vec![socket_dir];
    let agent = Agent::start(&with_engine(state.path(), &podman.engine())).await;
    let addr = agent.deploy(&assignment).await;
    assert_eq!(get(addr, "/").await.unwrap(), "built one");

    let log = agent.log(LogKind::Build).await.join("\n");
    assert!(log.contains("STEP 2/") && log.contains("built in the image"), "{log}");
    assert!(log.contains("reached as postgres://owner"), "{log}");
    assert!(!log.contains("WRITTEN") && !log.contains("secret-pass"), "{log}");
    let stages: Vec<Stage> = agent.status().await.serving.unwrap().stages.iter().map(|one| one.stage).collect();
    assert_eq!(stages, [Stage::Checkout, Stage::Build, Stage::Migrate, Stage::Start]);

    // What the Dockerfile runs is in the release's network, and sees nobody else's processes.
    let addresses = get(addr, "/addresses").await.unwrap();
    let interfaces: Vec<&str> =
        addresses.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(interfaces.len(), 2, "more than loopback and one other: {addresses}");
    assert!(!get(addr, "/processes").await.unwrap().contains("kagero"));

    // A crash is restarted, with its exit status in the log.
    let [container] = &own(&podman)[..] else { panic!("{:?}", podman.containers()) };
    podman.run(&["kill", "--signal", "KILL", container]);
    eventually("it is restarted", PATIENCE, async || {
        let serving = agent.status().await.serving.unwrap();
        let again = serving.services[0].restarts == 1 && serving.phase == RolloutPhase::Healthy;
        if again { Ok(()) } else { Err(format!("{serving:?}")) }
    })
    .await;
    let addr = agent.status().await.serving.unwrap().services[0].address.unwrap();
    assert_eq!(get(addr, "/").await.unwrap(), "built one");
    let log = agent.log(LogKind::Application).await.join("\n");
    assert!(log.contains("was ended by signal 9; it is started again"), "{log}");

    let second = of(&origin, &origin.push("built two"), built());
    let addr = agent.deploy(&second).await;
    assert_eq!(get(addr, "/").await.unwrap(), "built two");
    agent.end().await;
    assert_eq!(podman.containers(), Vec::<String>::new());
    assert_eq!(podman.networks(), Vec::<String>::new());
    assert_eq!(podman.images(), ["localhost/base:1"], "what was built goes");
}

const COMPOSE: &str = r#"
services:
  web:
    build: .
    command: sh -c "nslookup api | awk '/^Address/{print $$2}' | tail -n 1 > /tmp/api; wget -q -O /tmp/index.html http://$$(cat /tmp/api):9000/; exec httpd -f -p 8080 -h /tmp"
    ports: ["8080:8080"]
    depends_on: [api]
    read_only: true
  api:
    image: "REGISTRY/api:${KAGERO_COMMIT}"
    command: ["httpd", "-f", "-p", "9000", "-h", "/www"]
    environment: {MODE: quiet}
"#;

#[tokio::test]
async fn a_compose_files_services_run_together_and_find_each_other() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    std::fs::write(origin.dir.join("compose.yaml"), COMPOSE.replace("REGISTRY", &podman.registry())).unwrap();
    let commit = origin.push("web");
    podman.publish(&format!("api:{commit}"), "the api says so");
    let file = CheckoutPath::parse("compose.yaml").unwrap();
    let web = |name: &str| service(name, Runs::Compose(ComposeService { file: file.clone(), port: None }));
    let mut assignment = origin.assignment(&commit);
    assignment.task.services = vec![web("web")];
    let agent = Agent::start(&with_engine(state.path(), &podman.engine())).await;
    let addr = agent.deploy(&assignment).await;
    assert_eq!(get(addr, "/").await.unwrap(), "the api says so");
    let names: Vec<String> =
        agent.status().await.serving.unwrap().services.iter().map(|service| service.name.to_string()).collect();
    assert_eq!(names, ["web", "api"]);
    let web_container = own(&podman).into_iter().find(|name| name.contains("-web-")).unwrap();
    assert!(podman.inside(&web_container, "touch /www/x").is_err(), "its files can be changed");

    let mut missing = origin.assignment(&commit);
    missing.task.services = vec![web("shop")];
    let failure = agent.fail(&missing).await;
    assert!(
        failure.reason.contains("`services.shop` of .kagero.yml is not in compose.yaml, which has api, web"),
        "{failure:?}"
    );
    std::fs::write(origin.dir.join("compose.yaml"), "services:\n  web: {image: 'a:1', volumes: ['/:/host']}\n")
        .unwrap();
    let mut beyond = origin.assignment(&origin.push("beyond"));
    beyond.task.services = vec![web("web")];
    let failure = agent.fail(&beyond).await;
    assert_eq!(failure.stage, Stage::Build);
    assert!(failure.reason.starts_with("compose.yaml:2:23: `services.web.volumes` would reach beyond"), "{failure:?}");
    assert_eq!(get(addr, "/").await.unwrap(), "the api says so", "what served serves on");
    agent.end().await;
    assert_eq!(podman.containers(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_pulled_built_or_reached_is_named_with_the_next_step() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let first = of(&origin, &origin.push("one"), built());
    let agent = Agent::start(&with_engine(state.path(), &podman.engine())).await;
    let addr = agent.deploy(&first).await;

    let commit = origin.push("two");
    let absent = of(&origin, &commit, pulled(&format!("{}/shop:{{sha}}", podman.registry())));
    let failure = agent.fail(&absent).await;
    assert_eq!(failure.stage, Stage::Build);
    let wanted = format!("service `web`: cannot pull image {}/shop:{commit}: ", podman.registry());
    assert!(failure.reason.starts_with(&wanted) && failure.reason.contains("push that image"), "{}", failure.reason);

    std::fs::write(origin.dir.join("Dockerfile"), "FROM localhost/base:1\nRUN echo compiling; exit 7\n").unwrap();
    let failure = agent.fail(&of(&origin, &origin.push("three"), built())).await;
    assert!(
        failure.reason.contains("cannot build an image by Dockerfile") && failure.reason.contains('7'),
        "{failure:?}"
    );
    assert!(failure.reason.contains("fix the Dockerfile"), "{failure:?}");
    assert!(failure.log_tail.iter().any(|line| line == "compiling"), "{failure:?}");

    let mut outside = built();
    outside.image = Image::Built(ImageBuild {
        context: CheckoutPath::parse("up").unwrap(),
        dockerfile: CheckoutPath::parse("Dockerfile").unwrap(),
        target: None,
        args: BTreeMap::new(),
    });
    std::os::unix::fs::symlink("/etc", origin.dir.join("up")).unwrap();
    let failure = agent.fail(&of(&origin, &origin.push("four"), outside)).await;
    assert!(failure.reason.contains("`up` leads out of the repository"), "{failure:?}");

    // Listens, but not where it says; its old version serves on.
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let commit = origin.push("five");
    let mut deaf = of(&origin, &commit, Container { port: Some(8181), command: Some(words("sleep 3600")), ..built() });
    deaf.task.services[0].start_timeout = Duration::from_secs(3);
    let failure = agent.fail(&deaf).await;
    assert_eq!(failure.stage, Stage::Start);
    assert!(failure.reason.contains("was not healthy within 3s") && failure.reason.contains("0.0.0.0"), "{failure:?}");

    let ends = of(&origin, &commit, Container { command: Some(words("sh -c false")), ..built() });
    let failure = agent.fail(&ends).await;
    assert!(failure.reason.contains("ended with exit status 1 3 times"), "{failure:?}");

    let unknown = of(&origin, &commit, Container { command: Some(words("no-such-program")), ..built() });
    let failure = agent.fail(&unknown).await;
    assert!(
        failure.reason.contains("could not be started") && failure.reason.contains("no-such-program"),
        "{failure:?}"
    );

    std::fs::write(origin.dir.join("plain"), "FROM localhost/base:1\n").unwrap();
    let failure = agent.fail(&of(&origin, &origin.push("six"), without_port())).await;
    assert!(failure.reason.contains("exposes no port; set `services.web.port`"), "{failure:?}");

    assert_eq!(get(addr, "/").await.unwrap(), "one");
    assert_eq!(own(&podman).len(), 1, "what failed has left nothing: {:?}", podman.containers());
    assert_eq!(podman.networks().len(), 1);
    agent.end().await;
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn without_port() -> Container {
    let Image::Built(build) = built().image else { unreachable!() };
    Container::of(Image::Built(ImageBuild { dockerfile: CheckoutPath::parse("plain").unwrap(), ..build }))
}

#[tokio::test]
async fn without_an_engine_containers_fail_and_processes_run() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let agent = Agent::start(&with_engine(state.path(), "unix:///nowhere/engine.sock")).await;
    let commit = origin.push("one");
    let failure = agent.fail(&of(&origin, &commit, pulled("shop:1"))).await;
    assert_eq!(failure.stage, Stage::Build);
    assert!(failure.reason.contains("/nowhere/engine.sock") && failure.reason.contains("start it"), "{failure:?}");
    let addr = agent.deploy(&origin.assignment(&commit)).await;
    assert_eq!(get(addr, "/").await.unwrap(), "hello one");
    agent.end().await;
}

#[tokio::test]
async fn what_a_killed_agent_has_left_goes_when_it_starts_again() {
    let podman = Podman::start().await;
    let state = state_dir();
    let origin = Origin::new(state.path());
    std::fs::write(origin.dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let options = with_engine(state.path(), &podman.engine());
    let agent = Agent::start(&options).await;
    let decoys = decoys(&podman, &agent.dir);
    let assignment = of(&origin, &origin.push("one"), built());
    agent.deploy(&assignment).await;
    let before = own(&podman);
    assert_eq!(before.len(), 1);
    drop(agent);

    let agent = Agent::start(&options).await;
    assert_eq!(running(&podman), decoys, "only the decoys live");
    assert_eq!((podman.networks(), podman.images()), (Vec::new(), vec!["localhost/base:1".to_owned()]));
    let addr = agent.deploy(&assignment).await;
    assert_eq!(get(addr, "/").await.unwrap(), "one");
    assert_ne!(own(&podman), before);

    // The machine's removal, with an agent that cannot do it any more.
    let dir = agent.dir.clone();
    drop(agent);
    kagero::agent::protocol::remove_containers(&dir).await.unwrap();
    assert_eq!(running(&podman), decoys);
    assert_eq!((podman.networks(), podman.images()), (Vec::new(), vec!["localhost/base:1".to_owned()]));
    kagero::agent::protocol::remove_containers(&dir).await.unwrap();
}
