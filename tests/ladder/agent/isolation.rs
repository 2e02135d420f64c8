//! What a pull request's process can see and reach: its own, and nothing else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kagero::agent::client::LogKind;
use kagero::agent::options::SandboxOptions;
use kagero::agent::sandbox::{Rooms, Sandbox, probe};
use kagero::domain::assignment::SandboxLevel;

use super::site::{Agent, Origin, all_arguments, command, options, state_dir};

const BUBBLEWRAP: &str = "bubblewrap must work for this test: apt-get install bubblewrap";

#[tokio::test]
async fn the_probe_finds_bubblewrap() {
    let report = probe(&SandboxOptions::default()).await.unwrap();
    assert_eq!(report.level, SandboxLevel::Bubblewrap, "{BUBBLEWRAP}: {:?}", report.failures);
}

#[tokio::test]
async fn a_process_sees_its_own_environment_only() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    // Readable for everybody, so that only the sandbox stands in the way.
    let place = |path: &str| {
        let path = state.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "known-secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        path
    };
    let controller = place("kagero.db");
    let other = place("other-environment/releases/x/src/.env");
    std::os::unix::fs::symlink(&controller, origin.dir.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../kagero.db", origin.dir.join("up")).unwrap();
    let mut assignment = origin.assignment(&origin.push("one"));
    assignment.secret_env.insert("API_KEY".to_owned(), "sesame-api-key".to_owned());
    assignment.git_token = Some("sesame-git-token".to_owned());
    let mirrors = state.path().join("mirrors");
    let look = format!(
        "cat {} {} link up; ls {} {}; cat /etc/shadow /etc/machine-id ~root/.bashrc; \
         ls /proc | grep '^[0-9]*$' | while read p; do tr '\\0' ' ' < /proc/$p/cmdline; echo; done; \
         touch /usr/written /etc/written /written; mount -t tmpfs none /tmp; \
         echo \"uid $(id -u)\"; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ulimit -c; \
         kill -0 {} && echo \"reached $((6 * 7))\"; echo looked",
        controller.display(),
        other.display(),
        mirrors.display(),
        state.path().join("machine/logs").display(),
        std::process::id(),
    );
    assignment.task.build = Some(command(&look));
    let agent = Agent::start(&options(state.path())).await;
    agent.deploy(&assignment).await;
    let log = agent.log(LogKind::Build).await;
    let log = &log[log.iter().position(|line| line.contains("is checked out")).unwrap()..];
    let text = log.join("\n");
    assert!(log.iter().any(|line| line == "looked"), "{text}");
    assert!(!text.contains("known-secret"), "{text}");
    assert!(!text.contains("kagero agent --dir") && !text.contains("ladder"), "other processes are visible: {text}");
    assert!(!text.contains("reached 42"), "{text}");
    for denied in ["/usr/written", "/etc/written", "/written"] {
        assert!(!Path::new(denied).exists());
        assert!(text.contains(&format!("cannot touch '{denied}'")), "{text}");
    }
    assert!(!log.iter().any(|line| line == "uid 0"), "{text}");
    assert!(log.iter().any(|line| line == "CapEff:\t0000000000000000"), "{text}");
    assert!(log.iter().any(|line| line == "NoNewPrivs:\t1"), "{text}");

    assert!(!all_arguments().iter().any(|arguments| arguments.contains("sesame-")), "secrets stand in arguments");
    let mut next = vec![agent.dir.clone(), mirrors];
    while let Some(path) = next.pop() {
        if path.is_dir() && !path.is_symlink() {
            next.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("sesame-"), "{} holds a secret", path.display());
        }
    }
}

#[tokio::test]
async fn variables_work_inside_the_sandbox_only() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let mark = state.path().join("broken-out");
    // What a loader or a shell outside would obey.
    std::fs::write(origin.dir.join("evil.sh"), format!("touch {}\n", mark.display())).unwrap();
    let mut assignment = origin.assignment(&origin.push("one"));
    for (name, value) in [
        ("LD_PRELOAD", "/nonexistent/evil.so"),
        ("BASH_ENV", "/app/evil.sh"),
        ("ENV", "/app/evil.sh"),
        ("PATH", "/app:/usr/bin:/bin"),
    ] {
        assignment.task.env.insert(name.to_owned(), value.to_owned());
    }
    assignment.task.build = Some(command(&format!("touch {}; true", mark.display())));
    let agent = Agent::start(&options(state.path())).await;
    agent.deploy(&assignment).await;
    assert!(!mark.exists());
    let log = std::fs::read_to_string(agent.dir.join("logs/000001/stage-build.log")).unwrap();
    assert!(log.contains("LD_PRELOAD"), "the loader inside has seen it: {log}");
}

/// The fallbacks, each forced by a `PATH` without bubblewrap and by what the level is asked for.
#[tokio::test]
async fn landlock_hides_files_where_bubblewrap_is_missing() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let secret = state.path().join("kagero.db");
    std::fs::write(&secret, "known-secret").unwrap();
    let programs = state.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let git =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|dir| dir.join("git")).find(|git| git.exists());
    std::os::unix::fs::symlink(git.expect("git is needed: apt-get install git"), programs.join("git")).unwrap();
    let mut assignment = origin.assignment(&origin.push("one"));
    assignment.task.build =
        Some(command(&format!("cat {}; touch made; (setsid sleep 5432 &) ; echo \"uid $(id -u)\"", secret.display())));
    let options = options(state.path());
    let agent = Agent::start_with_path(&options, &programs).await;
    assert_eq!(agent.status().await.sandbox, SandboxLevel::Landlock, "this kernel must have Landlock in its lsm= list");
    agent.deploy(&assignment).await;
    let log = agent.log(LogKind::Build).await.join("\n");
    assert!(log.contains("Permission denied") && !log.contains("known-secret"), "{log}");
    assert!(!log.contains("uid 0\n"), "{log}");
    assert!(!all_arguments().iter().any(|text| text == "sleep 5432"), "what left its session is ended too");
}

#[tokio::test]
async fn an_agent_does_not_start_below_the_required_level() {
    let state = state_dir();
    let mut options = options(state.path());
    options.sandbox.weakest = SandboxLevel::Bubblewrap;
    options.save().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kagero"))
        .args(["agent", "--dir"])
        .arg(&options.dir)
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("but bubblewrap is required") && said.contains("apt-get install bubblewrap"), "{said}");
}

#[tokio::test]
async fn a_path_that_the_database_needs_is_reachable() {
    let state = state_dir();
    let database = state.path().join("databases/one");
    std::fs::create_dir_all(&database).unwrap();
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o777)).unwrap();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    assignment.task.migrate = Some(command(&format!("echo row >> {}/data", database.display())));
    assignment.reachable = vec![database.clone()];
    let agent = Agent::start(&options(state.path())).await;
    agent.deploy(&assignment).await;
    assert_eq!(std::fs::read_to_string(database.join("data")).unwrap(), "row\n");
}

#[tokio::test]
async fn what_a_command_left_running_is_ended_with_it() {
    let dir = state_dir();
    let (sandbox, _) = Sandbox::prepare(&SandboxOptions::default(), dir.path()).await.unwrap();
    let room = |name: &str| dir.path().join(name);
    let rooms = Rooms {
        source: room("source"),
        tmp: room("tmp"),
        home: room("home"),
        shared: room("shared"),
        reachable: Vec::new(),
    };
    sandbox.make_rooms(&rooms).unwrap();
    std::fs::create_dir(&rooms.source).unwrap();
    sandbox.give(&rooms.source).unwrap();
    let mut running =
        sandbox.start(&rooms, "(setsid sleep 6543 &); exit 5", &std::collections::BTreeMap::new()).unwrap();
    assert_eq!(running.wait().await.unwrap().code(), Some(5));
    running.kill().await;
    super::site::until("the sleeper to go", || {
        (!all_arguments().iter().any(|text| text == "sleep 6543")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_not_root_confines_as_strongly() {
    let state = state_dir();
    let secret = state.path().join("kagero.db");
    std::fs::write(&secret, "known-secret").unwrap();
    let origin = Origin::new(state.path());
    let mut assignment = origin.assignment(&origin.push("one"));
    let bomb = "perl -e 'for (1 .. 200) { my $p = fork; if (!defined $p) { print \"bounded\\n\"; last } \
                if (!$p) { sleep 1000 } }'";
    assignment.task.build =
        Some(command(&format!("cat {}; touch /written; ls /proc | grep -c '^[0-9]'; {bomb}", secret.display())));
    let mut options = options(state.path());
    options.sandbox.weakest = SandboxLevel::Bubblewrap;
    options.sandbox.processes = 50;
    let agent = Agent::start_as_nobody(&options, state.path()).await;
    agent.deploy(&assignment).await;
    let log = agent.log(LogKind::Build).await;
    let text = log.join("\n");
    assert!(!text.contains("known-secret") && text.contains("cannot touch '/written'"), "{text}");
    assert!(log.iter().any(|line| line == "bounded"), "{text}");
    assert!(log.iter().any(|line| line.parse::<u32>().is_ok_and(|count| count < 10)), "{text}");
}
