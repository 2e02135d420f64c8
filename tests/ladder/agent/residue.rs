//! What is beside the machines of the local provider: found by marks that only we set, cleared away alone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::local::machines::{LocalMachines, LocalOptions};
use kagero::cloud::{MachineBirth, Machines as _};
use kagero::domain::id::{EnvKey, Generation, InstallId, PrNumber, RepoId};
use kagero::domain::ledger::{Role, Token};
use kagero::domain::mark::Mark;
use kagero::domain::observed::{MachineState, Residue, Tags};
use kagero::domain::owned::{OwnedResidue, Refusal, prove_residue};
use kagero::domain::policy::AllowList;

use super::site::{PATIENCE, all_arguments, key, state_dir, uid};
use crate::wait::eventually;

fn install() -> InstallId {
    InstallId::parse("test").unwrap()
}

fn open(state: &Path) -> LocalMachines {
    let program = Path::new(env!("CARGO_BIN_EXE_kagero"));
    let options = LocalOptions::new(install(), state, program, (&key()).into());
    LocalMachines::open(options, Arc::new(SystemClock)).unwrap()
}

/// Where a machine of this name lies.
fn place(state: &Path, name: &str) -> PathBuf {
    state.canonicalize().unwrap().join("environments").join(name)
}

fn name(attempt: u32) -> String {
    format!("kagero-test-{}-g1-a{attempt}", uid())
}

/// Runs something for a minute, marked as agents mark what they start.
fn start(script: &str, machine: Option<&Path>) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).env_remove("KAGERO_MACHINE");
    command.envs(machine.map(|machine| ("KAGERO_MACHINE", machine))).spawn().unwrap()
}

const ALONE: &str = "exec sleep 60";

async fn beside(machines: &LocalMachines) -> Vec<Residue> {
    let listing = machines.residue().await.unwrap();
    assert!(listing.complete);
    listing.items
}

fn prove(machines: &LocalMachines, residue: &Residue) -> Result<OwnedResidue, Refusal> {
    let at = machines.location();
    let allow = AllowList { accounts: vec![at.account], regions: vec![at.region], networks: vec![at.network] };
    let now = SystemClock.now();
    let first_at = now.minus(Duration::from_hours(25));
    let mark = Mark { first_at, sightings: 3, ..Mark::begin(residue.subject.clone(), None, now) };
    prove_residue(residue, &install(), &mark, &allow, now)
}

#[tokio::test]
async fn processes_that_outlived_their_machine_are_killed_and_no_others() {
    let state = state_dir();
    let machines = open(state.path());
    let elsewhere = state_dir();
    let mut left = start("sleep 60 & wait", Some(&place(state.path(), &name(1))));
    std::fs::create_dir(elsewhere.path().join("environments")).unwrap();
    std::fs::create_dir(place(state.path(), &name(2))).unwrap();
    let removing = name(3);
    std::fs::create_dir(place(state.path(), &format!(".removing-{removing}"))).unwrap();
    let mut others = [
        start(ALONE, None),
        start(ALONE, Some(&place(elsewhere.path(), &name(1)))),
        start(ALONE, Some(&place(state.path(), &name(2)))),
        start(ALONE, Some(&place(state.path(), &removing))),
        start(ALONE, Some(&place(state.path(), &name(1)).join("releases"))),
    ];
    let mut stranger = start(ALONE, Some(&place(state.path(), "kagero-other-machine")));

    // A shell and its child are one.
    let found = eventually("both are seen", PATIENCE, async || {
        let found = beside(&machines).await;
        if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await;
    let (ours, foreign): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.install.is_some());
    assert_eq!((ours[0].name.clone(), ours[0].uid.clone()), (name(1), Some(uid())));
    assert!(ours[0].subject.id().starts_with(&format!("process:{}-", left.id())), "{ours:?}");
    assert_eq!(foreign[0].name, "kagero-other-machine");
    assert!(matches!(prove(&machines, &foreign[0]), Err(Refusal::Untagged { .. })));

    // Its machine comes back before it is killed: then it is that one's.
    let owned = prove(&machines, &ours[0]).unwrap();
    let back = place(state.path(), &name(1));
    std::fs::create_dir(&back).unwrap();
    machines.clear_away(&owned).await.unwrap();
    assert_eq!(beside(&machines).await.len(), 1);
    std::fs::remove_dir(&back).unwrap();
    assert_eq!(beside(&machines).await.len(), 2, "it was killed with its machine there");

    machines.clear_away(&owned).await.unwrap();
    eventually("it ends", PATIENCE, async || left.try_wait().unwrap()).await;
    machines.clear_away(&owned).await.unwrap();
    for other in others.iter_mut().chain([&mut stranger]) {
        assert!(other.try_wait().unwrap().is_none(), "a stranger was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[tokio::test]
async fn an_agent_whose_directory_is_gone_is_found() {
    let state = state_dir();
    let machines = open(state.path());
    let key = EnvKey { repo: RepoId(42), pr: PrNumber(1) };
    let tags = Tags { install: install(), uid: uid(), key, generation: Generation::FIRST };
    let token = Token::derive(&uid(), Generation::FIRST, &Role::Machine, 1, None);
    machines.launch(MachineBirth::plain(&token, 1, &tags)).await.unwrap();
    eventually("the agent listens", PATIENCE, async || {
        let all = machines.list().await.unwrap().items;
        all[0].state == MachineState::Running
    })
    .await;
    assert_eq!(beside(&machines).await, Vec::new());
    std::fs::rename(place(state.path(), &name(1)), state.path().join("lost")).unwrap();
    let found = beside(&machines).await;
    assert_eq!((found.len(), found[0].name.clone()), (1, name(1)), "{found:?}");
    machines.clear_away(&prove(&machines, &found[0]).unwrap()).await.unwrap();
    let text = state.path().to_string_lossy().into_owned();
    let runs = || all_arguments().iter().any(|arguments| arguments.contains(&text));
    eventually("the agent ends", PATIENCE, async || !runs()).await;
    assert_eq!(beside(&machines).await, Vec::new());
}

#[tokio::test]
async fn a_directory_is_cleared_away_only_with_its_record() {
    let state = state_dir();
    let machines = open(state.path());
    let key = EnvKey { repo: RepoId(42), pr: PrNumber(1) };
    let tags = Tags { install: install(), uid: uid(), key, generation: Generation::FIRST };
    let record = serde_json::json!({"tags": tags, "token": "t", "attempt": 1, "created_at": 0}).to_string();
    let unborn = |attempt: u32, record: &str| {
        let path = place(state.path(), &format!(".making-{}", name(attempt)));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("machine.json"), record).unwrap();
        path
    };
    // Cut off in its making; with a record that is another's; with one that cannot be read; no machine at all.
    let (ours, copied, garbled) = (unborn(1, &record), unborn(2, &record), unborn(3, "{"));
    let strange = place(state.path(), "lost+found");
    std::fs::create_dir(&strange).unwrap();
    let found = beside(&machines).await;
    assert_eq!(found.len(), 4, "{found:?}");
    for residue in &found {
        match prove(&machines, residue) {
            Ok(owned) => machines.clear_away(&owned).await.unwrap(),
            Err(refusal) => assert!(matches!(refusal, Refusal::Untagged { .. }), "{refusal}"),
        }
    }
    assert_eq!([ours, copied, garbled, strange].map(|path| path.exists()), [false, true, true, true]);
}

#[tokio::test]
async fn a_machine_whose_record_cannot_be_read_is_listed_and_has_no_owner() {
    let state = state_dir();
    let machines = open(state.path());
    let path = place(state.path(), &name(1));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("machine.json"), "{").unwrap();
    let listed = machines.list().await.unwrap().items;
    assert_eq!(listed.iter().map(|one| (one.name.clone(), one.tags.clone())).collect::<Vec<_>>(), [(name(1), None)]);
    assert_eq!(beside(&machines).await, Vec::new(), "it is listed once");
}
