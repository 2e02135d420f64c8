//! Success: from a commit to a service that answers, pushes without a gap, crashes and restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use kagero::agent::client::{Follow, LogKind};
use kagero::domain::assignment::{RolloutPhase, SandboxLevel, ServiceState, Stage};
use kagero::domain::id::ServiceName;
use kagero::domain::policy::Runs;

use super::site::{Agent, Origin, SERVER, all_arguments, command, get, options, state_dir, uid, until, web};

#[tokio::test]
async fn a_commit_becomes_a_service_that_answers() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    assignment.task.build = Some(command("echo building; git rev-parse HEAD; echo built > made.txt"));
    assignment.task.migrate = Some(command("test -f made.txt && echo \"as $DATABASE_URL\""));
    assignment.task.env.insert("SAYS".to_owned(), "it's $HOME \"quoted\"".to_owned());
    assignment.secret_env.insert("DATABASE_URL".to_owned(), "postgres://app:application-pass@h/db".to_owned());
    assignment.migrate_env.insert("DATABASE_URL".to_owned(), "postgres://owner:migration-pass@h/db".to_owned());
    let agent = Agent::start(&options(state.path())).await;
    let addr = agent.deploy(&assignment).await;
    assert_eq!(get(addr, "/").await.unwrap(), "it's $HOME \"quoted\" one");

    let status = agent.status().await;
    assert_eq!(status.sandbox, SandboxLevel::Bubblewrap, "install bubblewrap: apt-get install bubblewrap");
    assert_eq!(status.candidate, None);
    let serving = status.serving.unwrap();
    assert_eq!((serving.phase, serving.services[0].state), (RolloutPhase::Healthy, ServiceState::Healthy));
    let stages: Vec<Stage> = serving.stages.iter().map(|stage| stage.stage).collect();
    assert_eq!(stages, [Stage::Checkout, Stage::Build, Stage::Migrate, Stage::Start]);
    assert!(serving.stages.iter().all(|stage| stage.ended_at.is_some()));

    let build = agent.log(LogKind::Build).await.join("\n");
    assert!(build.contains("building") && build.contains(assignment.task.commit.as_str()), "{build}");
    assert!(build.contains("as ***") && !build.contains("migration-pass"), "{build}");
    let application = agent.log(LogKind::Application).await.join("\n");
    assert!(application.contains("listening on") && !application.contains("building"), "{application}");

    agent.assign(&assignment).await;
    assert_eq!(agent.status().await.candidate, None, "the same task again is nothing to do");
    agent.end().await;
    assert!(get(addr, "/").await.is_err(), "the services end with the agent");
    assert!(!all_arguments().iter().any(|arguments| arguments.contains(&*state.path().to_string_lossy())));
}

#[tokio::test]
async fn visitors_notice_nothing_of_a_push() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let first = origin.assignment(&origin.push("one"));
    let agent = Arc::new(Agent::start(&options(state.path())).await);
    agent.deploy(&first).await;

    // What a gateway does: it asks the agent now and then, and sends visitors where it was told.
    let (done, route) = (Arc::new(AtomicBool::new(false)), tokio::sync::watch::Sender::new(None));
    let gateway = {
        let (agent, done, route) = (Arc::clone(&agent), Arc::clone(&done), route.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let serving = agent.status().await.serving.unwrap();
                route.send_replace(serving.services[0].address);
                crate::wait::look_again().await;
            }
        })
    };
    let visitor = {
        let (done, mut route) = (Arc::clone(&done), route.subscribe());
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let addr = route.wait_for(Option::is_some).await.unwrap().unwrap();
                seen.push(get(addr, "/").await.map_err(|error| error.to_string()));
            }
            seen
        })
    };
    let second = origin.assignment(&origin.push("two"));
    agent.assign(&second).await;
    agent.served(&second).await;
    let releases = agent.dir.join("releases");
    until("the old release to go", || (std::fs::read_dir(&releases).unwrap().count() == 1).then_some(())).await;
    done.store(true, Ordering::SeqCst);
    gateway.await.unwrap();
    let seen = visitor.await.unwrap();
    assert!(seen.iter().all(Result::is_ok), "{:?}", seen.iter().find(|answer| answer.is_err()));
    assert_eq!(seen.first().unwrap().as_deref(), Ok("hello one"));
    assert_eq!(seen.last().unwrap().as_deref(), Ok("hello two"));
}

#[tokio::test]
async fn a_service_that_cannot_overlap_is_replaced_and_returns_if_its_successor_fails() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    // Two of these cannot run at once: each holds a lock in the directory that stays.
    let alone = format!("exec 9>\"$KAGERO_SHARED/lock\"; flock --nonblock 9 || exit 7; {SERVER}");
    let mut service = web(&alone);
    service.overlap = false;
    let mut first = origin.assignment(&origin.push("one"));
    first.task.services = vec![service.clone()];
    let agent = Agent::start(&options(state.path())).await;
    agent.deploy(&first).await;

    let mut broken = origin.assignment(&origin.push("broken"));
    broken.task.services = vec![service.clone()];
    broken.task.services[0].runs = Runs::Process("echo cannot; exit 1".to_owned());
    let failure = agent.fail(&broken).await;
    assert_eq!(failure.stage, Stage::Start);
    let back = until_healthy(&agent).await;
    assert_eq!(get(back, "/").await.unwrap(), "hello one");

    let mut second = origin.assignment(&origin.push("two"));
    second.task.services = vec![service];
    let addr = agent.deploy(&second).await;
    assert_eq!(get(addr, "/").await.unwrap(), "hello two");
}

async fn until_healthy(agent: &Agent) -> std::net::SocketAddr {
    let deadline = tokio::time::Instant::now() + super::site::PATIENCE;
    loop {
        let serving = agent.status().await.serving.unwrap();
        if serving.phase == RolloutPhase::Healthy {
            return serving.services[0].address.unwrap();
        }
        assert!(tokio::time::Instant::now() < deadline, "{serving:?}");
        crate::wait::look_again().await;
    }
}

#[tokio::test]
async fn a_service_that_dies_is_restarted() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let assignment = origin.assignment(&origin.push("one"));
    let agent = Agent::start(&options(state.path())).await;
    let mut addr = agent.deploy(&assignment).await;
    for restarts in 1..=4 {
        let _ = get(addr, "/die").await;
        let deadline = tokio::time::Instant::now() + super::site::PATIENCE;
        addr = loop {
            let serving = agent.status().await.serving.unwrap();
            if serving.services[0].restarts >= restarts && serving.phase == RolloutPhase::Healthy {
                break serving.services[0].address.unwrap();
            }
            assert!(tokio::time::Instant::now() < deadline, "{serving:?}");
            crate::wait::look_again().await;
        };
        assert_eq!(get(addr, "/").await.unwrap(), "hello one");
    }
}

#[tokio::test]
async fn nobody_else_can_answer_where_visitors_are_still_sent() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    // After its death it comes back only when it is let.
    let gate = "test ! -e \"$KAGERO_SHARED/seen\" || until test -e \"$KAGERO_SHARED/go\"; do sleep 0.02; done";
    assignment.task.services = vec![web(&format!("{gate}; touch \"$KAGERO_SHARED/seen\"; {SERVER}"))];
    let agent = Agent::start(&options(state.path())).await;
    let told = agent.deploy(&assignment).await;
    let bind = || std::net::TcpListener::bind(told);
    let _ = get(told, "/die").await;
    // Nobody has asked the agent since: visitors are sent here.
    let log = agent.dir.join("logs/000001/service-web.log");
    let written = |words: &str| std::fs::read_to_string(&log).unwrap().matches(words).count();
    until("the death to be noticed", || (written("it is started again") == 1).then_some(())).await;
    assert!(get(told, "/").await.is_err(), "there is nobody to answer");
    assert!(bind().is_err(), "another environment could answer");
    std::fs::write(agent.dir.join("shared/go"), "").unwrap();
    until("the service to be back", || (written("listening on") == 2).then_some(())).await;
    crate::wait::eventually("a visitor is led to it", super::site::PATIENCE, async || {
        get(told, "/").await.is_ok_and(|body| body == "hello one")
    })
    .await;
    assert!(bind().is_err(), "another environment could answer");

    assert_ne!(until_healthy(&agent).await, told);
    until("the port to be let go once that was told", || bind().ok()).await;
}

#[tokio::test]
async fn a_service_that_is_not_healthy_any_more_is_restarted_until_it_is() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    let sickness = "m{GET /broken} || unlink(\"$ENV{KAGERO_SHARED}/moment\") || -e \"$ENV{KAGERO_SHARED}/sick\"";
    let mut service = web(&SERVER.replace("m{GET /broken}", sickness));
    service.start_timeout = std::time::Duration::from_secs(5);
    assignment.task.services = vec![service];
    let mut options = options(state.path());
    options.pace.attend = std::time::Duration::from_millis(50);
    let agent = Agent::start(&options).await;
    agent.deploy(&assignment).await;
    let log = || std::fs::read_to_string(agent.dir.join("logs/000001/service-web.log")).unwrap();
    let shared = |name: &str| agent.dir.join("shared").join(name);

    std::fs::write(shared("moment"), "").unwrap();
    until("a moment to pass", || log().contains("is not healthy (1 of 3): its health path answered 500").then_some(()))
        .await;
    let report = agent.status().await.serving.unwrap().services.remove(0);
    assert_eq!((report.state, report.restarts), (ServiceState::Healthy, 0), "a moment is not counted");

    std::fs::write(shared("sick"), "").unwrap();
    crate::wait::eventually("it is shown as being restarted", super::site::PATIENCE, async || {
        let serving = agent.status().await.serving.unwrap();
        serving.phase == RolloutPhase::Degraded && serving.services[0].restarts == 1
    })
    .await;
    assert!(log().contains("was not healthy 3 times in a row: its health path answered 500"), "{}", log());
    std::fs::remove_file(shared("sick")).unwrap();
    let addr = until_healthy(&agent).await;
    assert_eq!(get(addr, "/").await.unwrap(), "hello one");
}

#[tokio::test]
async fn services_get_time_to_end_and_a_shell_does_not_cut_it_short() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    let polite = "perl -e '$SIG{TERM} = sub { select undef, undef, undef, 0.5; \
                  open my $f, \">\", \"$ENV{KAGERO_SHARED}/goodbye\"; exit 0 }; print \"up\\n\"; sleep 1 while 1'; true";
    assignment.task.services = vec![web(SERVER), web(polite)];
    assignment.task.services[1].name = ServiceName::parse("worker").unwrap();
    assignment.task.services[1].public = false;
    assignment.task.services[1].health = None;
    let agent = Agent::start(&options(state.path())).await;
    agent.deploy(&assignment).await;
    agent.client.stop(&agent.addr.to_string(), &uid()).await.unwrap();
    let deadline = tokio::time::Instant::now() + super::site::PATIENCE;
    while agent.status().await.serving.is_some() {
        assert!(tokio::time::Instant::now() < deadline);
        crate::wait::look_again().await;
    }
    assert!(agent.dir.join("shared/goodbye").exists());
    let again = agent.deploy(&assignment).await;
    assert_eq!(get(again, "/").await.unwrap(), "hello one", "a stopped environment can be woken");
}

#[tokio::test]
async fn a_log_can_be_followed() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let agent = Agent::start(&options(state.path())).await;
    let follow = agent.client.logs(&agent.addr.to_string(), &uid(), None, None, Follow::Yes).await.unwrap();
    let mut assignment = origin.assignment(&origin.push("one"));
    assignment.task.build = Some(command("for i in 1 2 3; do echo \"step $i\"; sleep 0.1; done"));
    agent.assign(&assignment).await;
    let steps = follow.filter_map(|line| async { line.ok().filter(|line| line.text.starts_with("step")) }).take(3);
    let steps = tokio::time::timeout(super::site::PATIENCE, steps.collect::<Vec<_>>()).await.unwrap();
    let texts: Vec<_> = steps.iter().map(|line| (line.source.as_str(), line.text.as_str())).collect();
    assert_eq!(texts, [("build", "step 1"), ("build", "step 2"), ("build", "step 3")]);
    assert!(steps.iter().all(|line| line.commit == assignment.task.commit && line.at.0 > 0));
    assert!(steps.is_sorted_by_key(|line| line.number));
}

#[tokio::test]
async fn the_newest_task_wins() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mut slow = origin.assignment(&origin.push("slow"));
    slow.task.build = Some(command("echo $$ > \"$KAGERO_SHARED/began\"; sleep 600"));
    let agent = Agent::start(&options(state.path())).await;
    agent.assign(&slow).await;
    let began = agent.dir.join("shared/began");
    until("the slow build to begin", || began.exists().then_some(())).await;
    let newer = origin.assignment(&origin.push("newer"));
    let addr = agent.deploy(&newer).await;
    assert_eq!(get(addr, "/").await.unwrap(), "hello newer");
    assert!(!all_arguments().iter().any(|arguments| arguments.contains("began") && arguments.contains("sleep 600")));
}
