//! Every stage fails, hangs or floods; requests are forged; the agent is killed. What served goes on serving,
//! and the report names the thing, the cause and the next step.

use std::time::{Duration, Instant};

use kagero::agent::client::{AgentClient, AgentError, LogKind};
use kagero::agent::protocol::{ASSIGNMENT_PATH, STATUS_PATH, STOP_PATH};
use kagero::agent::signature::Signed;
use kagero::clock::{Clock as _, SystemClock};
use kagero::domain::assignment::Stage;
use kagero::domain::id::{CommitSha, EnvUid, Generation, ServiceName};

use super::site::{Agent, Origin, SERVER, all_arguments, command, get, key, options, state_dir, uid, until, web};

#[tokio::test]
async fn a_failing_push_names_its_cause_and_leaves_the_old_version_serving() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let first = origin.assignment(&origin.push("one"));
    let agent = Agent::start(&options(state.path())).await;
    let addr = agent.deploy(&first).await;
    let commit = origin.push("two");

    let mut failing = origin.assignment(&commit);
    failing.task.build = Some(command("echo compiling; echo 'src/a.c:1: error' >&2; exit 2"));
    let failure = agent.fail(&failing).await;
    assert_eq!(failure.stage, Stage::Build);
    assert!(failure.reason.starts_with("build ended with exit status 2 after"), "{}", failure.reason);
    assert!(failure.reason.contains("fix the command `build`"), "{}", failure.reason);
    let mut tail = failure.log_tail;
    tail.sort();
    assert_eq!(tail, ["compiling", "src/a.c:1: error"]);

    let mut hanging = origin.assignment(&commit);
    hanging.task.migrate = Some(command("(setsid sleep 1234 &); sleep 1234"));
    hanging.task.migrate.as_mut().unwrap().timeout = Duration::from_secs(1);
    let failure = agent.fail(&hanging).await;
    assert_eq!(failure.stage, Stage::Migrate);
    assert!(failure.reason.contains("did not end within 1 s"), "{}", failure.reason);
    assert!(!all_arguments().iter().any(|arguments| arguments == "sleep 1234"), "nothing of it goes on");

    let mut unknown = origin.assignment(&CommitSha::parse("f".repeat(40)).unwrap());
    unknown.task.attempt = 2;
    let failure = agent.fail(&unknown).await;
    assert_eq!(failure.stage, Stage::Checkout);
    assert!(failure.reason.contains("is not known to file://"), "{}", failure.reason);

    let mut forbidden = origin.assignment(&commit);
    forbidden.task.source.url = "ext::sh -c touch% /tmp/broken".to_owned();
    let failure = agent.fail(&forbidden).await;
    assert!(failure.reason.contains("may not be fetched"), "{}", failure.reason);

    assert_eq!(get(addr, "/").await.unwrap(), "hello one");
    assert_eq!(agent.status().await.serving.unwrap().task, first.task.digest());
    let releases = std::fs::read_dir(agent.dir.join("releases")).unwrap().count();
    assert_eq!(releases, 1, "what failed leaves its logs only");
}

#[tokio::test]
async fn services_that_do_not_become_healthy_are_told_apart() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let commit = origin.push("one");
    let agent = Agent::start(&options(state.path())).await;
    let cases = [
        ("sleep 1000", "/", "nothing listens on 127.0.0.1:"),
        (SERVER, "/broken", "its health path answered 500"),
        ("echo no such thing; exit 127", "/", "ended with exit status 127 3 times"),
    ];
    for (run, health, expected) in cases {
        let mut assignment = origin.assignment(&commit);
        let mut service = web(run);
        service.health = Some(health.to_owned());
        service.start_timeout = Duration::from_secs(3);
        assignment.task.services = vec![service];
        let failure = agent.fail(&assignment).await;
        assert_eq!(failure.stage, Stage::Start);
        assert!(failure.reason.starts_with("service `web`"), "{}", failure.reason);
        assert!(failure.reason.contains(expected), "{} should say {expected}", failure.reason);
    }
    assert!(!all_arguments().iter().any(|arguments| arguments == "sleep 1000"));
}

#[tokio::test]
async fn another_process_cannot_answer_for_a_service() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    // The service itself never listens; somebody else, outside, listens where it should.
    let mut service = web(
        "echo \"$PORT\" > \"$KAGERO_SHARED/port.new\"; mv \"$KAGERO_SHARED/port.new\" \"$KAGERO_SHARED/port\"; sleep 1007",
    );
    // Long enough to be asked at least once, whatever else the machine does.
    service.start_timeout = Duration::from_secs(15);
    assignment.task.services = vec![service];
    let agent = Agent::start(&options(state.path())).await;
    agent.assign(&assignment).await;
    let told = agent.dir.join("shared/port");
    let port: u16 = until("the port", || std::fs::read_to_string(&told).ok()?.trim().parse().ok()).await;
    let squatter = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let squatting = tokio::spawn(async move {
        loop {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = squatter.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let failure = agent.fail(&assignment).await;
    assert!(failure.reason.contains("belongs to another process"), "{}", failure.reason);
    squatting.abort();
}

#[tokio::test]
async fn a_flood_neither_fills_the_disk_nor_blocks() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut options = options(state.path());
    options.logs.bytes = 200_000;
    let mut assignment = origin.assignment(&origin.push("one"));
    assignment.task.build = Some(command("echo first; yes 'flood flood flood' | head -c 30000000; echo; echo last"));
    let agent = Agent::start(&options).await;
    let began = Instant::now();
    agent.deploy(&assignment).await;
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    let kept: u64 = std::fs::read_dir(agent.dir.join("logs/000001"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("stage-build"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(kept <= 200_000, "{kept}");
    let log = agent.log(LogKind::Build).await;
    assert!(log.iter().any(|line| line == "first") && log.iter().any(|line| line == "last"));
    assert!(log.iter().any(|line| line.contains("left out")));
}

#[tokio::test]
async fn a_fork_bomb_is_bounded_and_ended() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut options = options(state.path());
    options.sandbox.processes = 60;
    let mut assignment = origin.assignment(&origin.push("one"));
    // Each one leaves its session, so that no signal to a group reaches it.
    let bomb = "perl -MPOSIX -e 'while (1) { my $p = fork; if (defined $p && !$p) { POSIX::setsid() } \
                if (!defined $p) { open my $f, \">\", \"$ENV{KAGERO_SHARED}/full\"; select undef, undef, undef, 0.2 } }'";
    assignment.task.build = Some(command(bomb));
    assignment.task.build.as_mut().unwrap().timeout = Duration::from_secs(5);
    let agent = Agent::start(&options).await;
    agent.assign(&assignment).await;
    let full = agent.dir.join("shared/full");
    until("the bomb to reach its bound", || full.exists().then_some(())).await;
    let alive = || all_arguments().iter().filter(|text| text.contains("POSIX::setsid")).count();
    assert!(alive() <= 70, "{}", alive());
    let failure = agent.fail(&assignment).await;
    assert!(failure.reason.contains("did not end within 5 s"), "{}", failure.reason);
    assert_eq!(alive(), 0);
    // The bomb is no burden for what comes after it.
    agent.deploy(&origin.assignment(&origin.push("two"))).await;
}

/// A mounted file system, gone with the test.
struct Mounted(std::path::PathBuf);
impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_named() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let commit = origin.push("one");
    let options = options(state.path());
    // The release's files lie on a file system of a few megabytes.
    let releases = options.dir.join("releases");
    std::fs::create_dir_all(&releases).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &releases, Some("tmpfs"), flags, Some("size=4m"))
        .expect("this test mounts a small file system: run it as root, or in `unshare --user --map-root-user --mount`");
    let mounted = Mounted(releases);
    let agent = Agent::start(&options).await;
    let mut assignment = origin.assignment(&commit);
    assignment.task.build = Some(command("head -c 8000000 /dev/zero > big"));
    let failure = agent.fail(&assignment).await;
    assert!(failure.reason.contains("the disk of the machine is full"), "{}", failure.reason);
    agent.deploy(&origin.assignment(&commit)).await;
    agent.end().await;
    drop(mounted);
}

#[tokio::test]
async fn nothing_survives_a_killed_agent_and_the_next_one_begins_clean() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let options = options(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    let mut worker = web("(setsid sleep 4321 &); exec sleep 4321");
    worker.name = ServiceName::parse("worker").unwrap();
    worker.health = None;
    worker.public = false;
    assignment.task.services.push(worker);
    for _ in 0..3 {
        let mut agent = Agent::start(&options).await;
        assert_eq!(agent.status().await.serving, None, "an agent without assignment waits to be told");
        let addr = agent.deploy(&assignment).await;
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
        until("every process to go", || (!all_arguments().iter().any(|text| text == "sleep 4321")).then_some(())).await;
        assert!(get(addr, "/").await.is_err());
    }
    // In the middle of a build.
    let mut slow = origin.assignment(&origin.push("slow"));
    slow.task.build = Some(command("touch \"$KAGERO_SHARED/began\"; sleep 4322"));
    let mut agent = Agent::start(&options).await;
    agent.assign(&slow).await;
    let began = agent.dir.join("shared/began");
    until("the build to begin", || began.exists().then_some(())).await;
    agent.process.kill().unwrap();
    agent.process.wait().unwrap();
    until("the build to go", || (!all_arguments().iter().any(|text| text == "sleep 4322")).then_some(())).await;
    let agent = Agent::start(&options).await;
    assert_eq!(std::fs::read_dir(agent.dir.join("releases")).unwrap().count(), 0);
    agent.deploy(&assignment).await;
}

#[tokio::test]
async fn a_directory_has_one_agent() {
    let state = state_dir();
    let options = options(state.path());
    let agent = Agent::start(&options).await;
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_kagero"))
        .args(["agent", "--dir"])
        .arg(&options.dir)
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent"));
    agent.status().await;
}

#[tokio::test]
async fn requests_that_are_not_the_controllers_have_no_effect() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let assignment = origin.assignment(&origin.push("one"));
    let agent = Agent::start(&options(state.path())).await;
    let addr = agent.addr.to_string();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = async |path: &str, headers: http::HeaderMap, body: Vec<u8>| {
        let request = http.put(format!("http://{addr}{path}")).headers(headers).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    let body = serde_json::to_vec(&assignment).unwrap();
    let now = SystemClock.now();
    let signed = |key: &ed25519_dalek::SigningKey, uid: &EnvUid, at| {
        Signed { method: "PUT", target: ASSIGNMENT_PATH, body: &body }.headers(key, uid, at)
    };
    assert_eq!(send(ASSIGNMENT_PATH, http::HeaderMap::new(), body.clone()).await, 401, "unsigned");
    let other_key = ed25519_dalek::SigningKey::from_bytes(&[8; 32]);
    assert_eq!(send(ASSIGNMENT_PATH, signed(&other_key, &uid(), now), body.clone()).await, 401, "another key");
    let old = now.minus(Duration::from_secs(90));
    assert_eq!(send(ASSIGNMENT_PATH, signed(&key(), &uid(), old), body.clone()).await, 401, "stale");
    let other_uid = EnvUid::parse("b".repeat(20)).unwrap();
    assert_eq!(send(ASSIGNMENT_PATH, signed(&key(), &other_uid, now), body.clone()).await, 421, "another environment");
    let mut tampered = body.clone();
    tampered.push(b' ');
    assert_eq!(send(ASSIGNMENT_PATH, signed(&key(), &uid(), now), tampered).await, 401, "tampered body");
    let query = format!("{ASSIGNMENT_PATH}?more=1");
    assert_eq!(send(&query, signed(&key(), &uid(), now), body.clone()).await, 401, "tampered path");
    for path in [STATUS_PATH, STOP_PATH, "/"] {
        assert_eq!(send(path, http::HeaderMap::new(), Vec::new()).await, 401, "{path}");
    }
    assert_eq!(agent.status().await.candidate, None);

    let headers = signed(&key(), &uid(), SystemClock.now());
    assert_eq!(send(ASSIGNMENT_PATH, headers.clone(), body.clone()).await, 202);
    assert_eq!(send(ASSIGNMENT_PATH, headers, body.clone()).await, 401, "sent again");

    let mut other_generation = assignment.clone();
    other_generation.task.generation = Generation::FIRST.next();
    let refused = agent.client.assign(&addr, &other_generation).await.unwrap_err();
    assert!(matches!(refused, AgentError::NotOurs { .. }), "{refused}");
    let refused = AgentClient::new(other_key).status(&addr, &uid()).await.unwrap_err();
    assert!(matches!(refused, AgentError::Denied { .. }), "{refused}");
    let refused = agent.client.status(&addr, &other_uid).await.unwrap_err();
    assert!(matches!(refused, AgentError::NotOurs { .. }), "{refused}");
    agent.end().await;
    let refused = AgentClient::new(key()).status(&addr, &uid()).await.unwrap_err();
    assert!(matches!(refused, AgentError::Unreachable { .. }), "{refused}");
}
