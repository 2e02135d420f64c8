//! A store that is lost beside living previews: what a start does, and what `kagero adopt` makes of it.

use std::collections::BTreeMap;

use kagero::sim::github::FileChange;
use serde_json::Value;

use super::rig::{ACTOR, Rig, Setup, is_alive};
use crate::store::Place;

#[tokio::test]
async fn a_lost_store_is_rebuilt_and_nothing_living_is_made_again_or_taken_away() {
    lost_and_adopted(Setup::sqlite(), None).await;
}

#[tokio::test]
async fn a_lost_store_is_rebuilt_with_databases_and_records_on_postgresql() {
    let place = Place::postgres().await;
    lost_and_adopted(Setup::postgres().with_store(&place.url), Some(&place)).await;
}

async fn lost_and_adopted(setup: Setup, place: Option<&Place>) {
    let mut rig = Rig::start(setup).await;
    let kept = rig.open("Kept", vec![]).await;
    let reopened = rig.open("Reopened", vec![]).await;
    let closed = rig.open("Closed meanwhile", vec![]).await;
    for number in [kept, reopened, closed] {
        rig.until_ready(number).await;
    }
    // Its resources are of a second generation, which an empty store would not think of.
    rig.close(reopened).await;
    rig.until_gone(reopened).await;
    rig.github.repo().reopen(reopened, ACTOR).await.unwrap();
    rig.until_ready(reopened).await;

    let beside = rig.kagero(&["adopt"]).await;
    assert_eq!(beside.status.code(), Some(9), "{beside:?}");
    rig.kill9_controller();
    lose(&rig, place).await;
    let before = living(&rig).await;
    assert_eq!(before.machines.len(), 3, "{before:?}");
    rig.close(closed).await;

    // A start that knows nothing of what lives would make it again.
    let refused = rig.kagero(&["serve"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(12), "{said}");
    assert!(said.contains("3 of this installation live") && said.contains("kagero adopt --apply"), "{said}");
    assert_eq!(living(&rig).await, before);

    // A machine of nobody: for a person.
    let stranger = rig.state_dir().join("environments/kagero-ladder-stranger");
    std::fs::create_dir(&stranger).unwrap();
    let dry = adopt(&rig, 12, &["adopt", "--json"]).await;
    assert_eq!((&dry["applied"], dry["records"].as_array().unwrap().len()), (&false.into(), 3), "{dry}");
    let leftovers = dry["leftovers"].as_array().unwrap();
    assert!(leftovers.len() == 1 && leftovers[0]["name"] == "kagero-ladder-stranger", "{dry}");
    let refused = rig.kagero(&["serve"]).await;
    assert_eq!(refused.status.code(), Some(12), "the dry run has written records");
    std::fs::remove_dir(&stranger).unwrap();

    let (secret, away) = (rig.state_dir().join("secret"), rig.state_dir().join("secret.away"));
    std::fs::rename(&secret, &away).unwrap();
    let shut_out = rig.kagero(&["adopt", "--apply"]).await;
    assert!(String::from_utf8_lossy(&shut_out.stderr).contains("secret is missing"), "{shut_out:?}");
    assert!(!secret.exists(), "a secret was made that opens nothing");
    std::fs::rename(&away, &secret).unwrap();

    let done = adopt(&rig, 0, &["adopt", "--apply", "--json"]).await;
    assert_eq!(done["applied"], true, "{done}");
    let generation = |number: u64| {
        let records = done["records"].as_array().unwrap();
        let record = records.iter().find(|record| record["key"]["pr"] == number).unwrap();
        record["generation"].as_u64().unwrap()
    };
    assert_eq!((generation(kept), generation(reopened)), (1, 2));
    assert_eq!(living(&rig).await, before);
    let nothing = adopt(&rig, 0, &["adopt", "--json"]).await;
    assert!(nothing["records"].as_array().unwrap().is_empty(), "{nothing}");

    rig.launch().await;
    rig.until_gone(closed).await;
    for number in [kept, reopened] {
        rig.until_ready(number).await;
    }
    let after = living(&rig).await;
    assert_eq!((after.machines.len(), after.databases.len()), (2, 2), "{after:?}");
    for (machine, agent) in &after.machines {
        assert_eq!(before.machines.get(machine), Some(agent), "{machine} was made again");
    }
    assert!(after.databases.iter().all(|name| before.databases.contains(name)), "{before:?} {after:?}");
    assert!(after.services.iter().all(|pid| before.services.contains(pid) && is_alive(*pid)), "{before:?} {after:?}");
    rig.push(kept, "Goes on", vec![FileChange::write("build.sh", "echo again\n")]).await;
    rig.until_ready(kept).await;
    assert_eq!(rig.machines().len(), 2);
    for number in [kept, reopened] {
        rig.close(number).await;
        rig.until_gone(number).await;
    }
    rig.finish().await;
}

/// What lives, by the host itself.
#[derive(Debug, PartialEq, Eq)]
struct Living {
    /// The agent's process of each machine.
    machines: BTreeMap<String, i64>,
    databases: Vec<String>,
    services: Vec<i32>,
}

async fn living(rig: &Rig) -> Living {
    let agent = |machine: &String| {
        let text = std::fs::read(std::path::Path::new(machine).join("process.json")).unwrap();
        let process: Value = serde_json::from_slice(&text).unwrap();
        process["pid"].as_i64().unwrap()
    };
    let machines = rig.machines().into_iter().map(|machine| (machine.clone(), agent(&machine))).collect();
    let mut databases = rig.databases().await;
    databases.sort();
    let mut services = rig.processes("python3");
    services.sort_unstable();
    Living { machines, databases, services }
}

/// The file is deleted, or the database is emptied.
async fn lose(rig: &Rig, place: Option<&Place>) {
    if let Some(place) = place {
        return place.sql("DROP OWNED BY CURRENT_USER; CREATE SCHEMA IF NOT EXISTS public").await;
    }
    for name in ["kagero.db", "kagero.db-wal", "kagero.db-shm"] {
        std::fs::remove_file(rig.state_dir().join(name)).unwrap();
    }
}

async fn adopt(rig: &Rig, code: i32, arguments: &[&str]) -> Value {
    let output = rig.kagero(arguments).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
