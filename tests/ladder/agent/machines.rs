//! Machines of the local provider: made once, found again, taken away without a trace.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kagero::agent::client::AgentClient;
use kagero::clock::{Clock, SystemClock};
use kagero::cloud::local::machines::{LocalMachines, LocalOptions};
use kagero::cloud::{ErrorClass, MachineBirth, Machines};
use kagero::domain::id::{EnvKey, Generation, InstallId, MachineId, PrNumber, RepoId};
use kagero::domain::ledger::{Role, Token};
use kagero::domain::observed::{Machine, MachineState, Tags};
use kagero::domain::owned::{Claim, Owned, prove_machine};
use kagero::domain::policy::AllowList;
use kagero::domain::time::Timestamp;

use super::site::{Origin, PATIENCE, all_arguments, get, key, state_dir, uid, until};

fn install() -> InstallId {
    InstallId::parse("test").unwrap()
}

fn tags() -> Tags {
    let key = EnvKey { repo: RepoId(42), pr: PrNumber(1) };
    Tags { install: install(), uid: uid(), key, generation: Generation::FIRST }
}

fn token(attempt: u32) -> Token {
    Token::derive(&uid(), Generation::FIRST, &Role::Machine, attempt, None)
}

fn open(state: &Path) -> LocalMachines {
    open_at(state, Arc::new(SystemClock))
}

fn open_at(state: &Path, clock: Arc<dyn Clock>) -> LocalMachines {
    let program = Path::new(env!("CARGO_BIN_EXE_kagero"));
    let mut options = LocalOptions::new(install(), state, program, (&key()).into());
    options.git.protocols = vec!["file".to_owned()];
    options.pace.grace = Duration::from_secs(3);
    LocalMachines::open(options, clock).unwrap()
}

fn prove(machines: &LocalMachines, machine: &Machine) -> Owned<MachineId> {
    let place = machines.location();
    let allow = AllowList { accounts: vec![place.account], regions: vec![place.region], networks: vec![place.network] };
    let claim = Claim { install: &install(), uid: &uid(), generation: Generation::FIRST };
    prove_machine(machine, claim, &allow).unwrap()
}

async fn only(machines: &LocalMachines) -> Machine {
    let listing = machines.list().await.unwrap();
    assert!(listing.complete);
    assert_eq!(listing.items.len(), 1, "{:?}", listing.items);
    listing.items.into_iter().next().unwrap()
}

async fn in_state(machines: &LocalMachines, state: MachineState) -> Machine {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let machine = only(machines).await;
        if machine.state == state {
            return machine;
        }
        assert!(tokio::time::Instant::now() < deadline, "{machine:?} does not become {state:?}");
        crate::wait::look_again().await;
    }
}

async fn gone(machines: &LocalMachines) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = machines.list().await.unwrap().items;
        if left.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left:?} does not go");
        crate::wait::look_again().await;
    }
}

fn pid(state: &Path, machine: &Machine) -> i32 {
    let dir = state.join("environments").join(&machine.name);
    kagero::agent::protocol::AddressFile::read(&dir).unwrap().process.pid
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Nothing on the computer is about this state directory any more.
async fn no_process_about(state: &Path) {
    let text = state.to_string_lossy().into_owned();
    until("every process to go", || (!all_arguments().iter().any(|arguments| arguments.contains(&text))).then_some(()))
        .await;
}

#[tokio::test]
async fn a_machine_is_made_once_and_leaves_nothing_behind() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let machines = open(state.path());
    let id = machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    assert_eq!(machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap(), id);
    let machine = in_state(&machines, MachineState::Running).await;
    assert_eq!(machine.name, format!("kagero-test-{}-g1-a1", uid()));
    assert_eq!(machine.tags, Some(tags()));

    let (addr, client) = (machine.agent.clone().unwrap(), AgentClient::new(key()));
    let assignment = origin.assignment(&origin.push("one"));
    client.assign(&addr, &assignment).await.unwrap();
    let served = loop {
        if let Some(serving) = client.status(&addr, &uid()).await.unwrap().serving {
            break serving.services[0].address.unwrap();
        }
        crate::wait::look_again().await;
    };
    assert_eq!(get(served, "/").await.unwrap(), "hello one");

    // A controller that starts anew finds the agent with all it runs.
    let reopened = open(state.path());
    assert_eq!(reopened.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap(), id);
    let again = in_state(&reopened, MachineState::Running).await;
    assert_eq!((&again.agent, pid(state.path(), &again)), (&machine.agent, pid(state.path(), &machine)));
    assert!(client.status(&addr, &uid()).await.unwrap().serving.is_some());

    reopened.terminate(&prove(&reopened, &again)).await.unwrap();
    gone(&reopened).await;
    reopened.terminate(&prove(&reopened, &again)).await.unwrap();
    assert!(get(served, "/").await.is_err());
    no_process_about(state.path()).await;
    let left: Vec<_> =
        std::fs::read_dir(state.path().join("environments")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
    let mirror = state.path().join("mirrors/42.git");
    assert!(mirror.exists() && !mirror.join("worktrees").exists());
}

#[tokio::test]
async fn a_killed_agent_is_seen_and_started_again_without_orphans() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let machines = open(state.path());
    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    let (addr, client) = (machine.agent.clone().unwrap(), AgentClient::new(key()));
    let assignment = origin.assignment(&origin.push("one"));
    client.assign(&addr, &assignment).await.unwrap();
    let served = loop {
        if let Some(serving) = client.status(&addr, &uid()).await.unwrap().serving {
            break serving.services[0].address.unwrap();
        }
        crate::wait::look_again().await;
    };
    kill(pid(state.path(), &machine));
    in_state(&machines, MachineState::Stopped).await;
    no_process_about(state.path()).await;
    assert!(get(served, "/").await.is_err(), "nothing survives its agent");

    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    let addr = machine.agent.clone().unwrap();
    assert_eq!(client.status(&addr, &uid()).await.unwrap().serving, None, "it waits to be told");
    client.assign(&addr, &assignment).await.unwrap();
    while client.status(&addr, &uid()).await.unwrap().serving.is_none() {
        crate::wait::look_again().await;
    }
    machines.terminate(&prove(&machines, &machine)).await.unwrap();
    gone(&machines).await;
    no_process_about(state.path()).await;
}

#[tokio::test]
async fn a_machine_that_is_stopped_keeps_its_directory_and_comes_back_under_its_token() {
    let state = state_dir();
    let origin = Origin::new(state.path());
    let machines = open(state.path());
    let id = machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    let (addr, client) = (machine.agent.clone().unwrap(), AgentClient::new(key()));
    let assignment = origin.assignment(&origin.push("one"));
    client.assign(&addr, &assignment).await.unwrap();
    while client.status(&addr, &uid()).await.unwrap().serving.is_none() {
        crate::wait::look_again().await;
    }

    machines.stop(&prove(&machines, &machine)).await.unwrap();
    let stopping = only(&machines).await;
    assert!(matches!(stopping.state, MachineState::Pending | MachineState::Stopped), "{stopping:?}");
    assert_eq!(stopping.agent, None, "nobody is sent there any more");
    in_state(&machines, MachineState::Stopped).await;
    no_process_about(state.path()).await;
    let stopped = only(&machines).await;
    machines.stop(&prove(&machines, &stopped)).await.unwrap();

    assert_eq!(machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap(), id);
    let again = in_state(&machines, MachineState::Running).await;
    client.assign(again.agent.as_ref().unwrap(), &assignment).await.unwrap();
    while client.status(again.agent.as_ref().unwrap(), &uid()).await.unwrap().serving.is_none() {
        crate::wait::look_again().await;
    }

    // What is being stopped can still be taken away.
    machines.stop(&prove(&machines, &again)).await.unwrap();
    machines.terminate(&prove(&machines, &again)).await.unwrap();
    gone(&machines).await;
    no_process_about(state.path()).await;
}

#[tokio::test]
async fn a_machine_whose_record_is_lost_is_shown_and_never_touched() {
    let state = state_dir();
    let machines = open(state.path());
    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    let proof = prove(&machines, &machine);
    let record = state.path().join("environments").join(&machine.name).join("machine.json");
    let text = std::fs::read_to_string(&record).unwrap();
    for garbled in ["{", &text.replace(uid().as_str(), &"f".repeat(20))] {
        std::fs::write(&record, garbled).unwrap();
        assert_eq!(only(&machines).await.tags, None);
        assert_eq!(machines.terminate(&proof).await.unwrap_err().class, ErrorClass::Denied);
        assert_eq!(only(&machines).await.state, MachineState::Running);
    }
    std::fs::write(&record, text).unwrap();
    machines.terminate(&prove(&machines, &only(&machines).await)).await.unwrap();
    gone(&machines).await;
}

struct Set(Timestamp);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn old_evidence_is_refused() {
    let state = state_dir();
    let machines = open(state.path());
    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    let later = machine.read_at.plus(Duration::from_secs(61));
    let late = open_at(state.path(), Arc::new(Set(later)));
    let refused = late.terminate(&prove(&machines, &machine)).await.unwrap_err();
    assert!(refused.why.contains("more than a minute old"), "{refused}");
    assert_eq!(only(&machines).await.state, MachineState::Running);
    machines.terminate(&prove(&machines, &only(&machines).await)).await.unwrap();
    gone(&machines).await;
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_seen_and_finished() {
    let state = state_dir();
    let machines = open(state.path());
    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    kill(pid(state.path(), &machine));
    in_state(&machines, MachineState::Stopped).await;
    let rooms = state.path().join("environments");
    let remains = rooms.join(format!(".removing-{}", machine.name));
    std::fs::rename(rooms.join(&machine.name), &remains).unwrap();
    std::fs::remove_file(remains.join("agent.json")).unwrap();
    let outside = state.path().join("outside");
    std::fs::write(&outside, "kept").unwrap();
    std::os::unix::fs::symlink(&outside, remains.join("link")).unwrap();
    std::fs::create_dir(rooms.join(".making-kagero-test-x")).unwrap();

    // Before it is seen, because whoever lists it finishes it.
    let refused = machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Retry, "{refused}");
    let machine = in_state(&machines, MachineState::Stopping).await;
    machines.terminate(&prove(&machines, &machine)).await.unwrap();
    gone(&machines).await;
    assert!(!remains.exists() && outside.exists());
    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    assert!(!rooms.join(".making-kagero-test-x").exists());
    let machine = in_state(&machines, MachineState::Running).await;
    machines.terminate(&prove(&machines, &machine)).await.unwrap();
    gone(&machines).await;
}

#[tokio::test]
async fn an_agent_that_does_not_end_is_killed() {
    let state = state_dir();
    let program = Path::new(env!("CARGO_BIN_EXE_kagero"));
    let mut options = LocalOptions::new(install(), state.path(), program, (&key()).into());
    options.ending = Duration::from_millis(300);
    let machines = LocalMachines::open(options, Arc::new(SystemClock)).unwrap();
    machines.launch(MachineBirth::plain(&token(1), 1, &tags())).await.unwrap();
    let machine = in_state(&machines, MachineState::Running).await;
    let stuck = nix::unistd::Pid::from_raw(pid(state.path(), &machine));
    nix::sys::signal::kill(stuck, nix::sys::signal::Signal::SIGSTOP).unwrap();
    machines.terminate(&prove(&machines, &machine)).await.unwrap();
    gone(&machines).await;
    no_process_about(state.path()).await;
}
