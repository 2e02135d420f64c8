//! A store that is lost after a story: what lives is found again, nothing of it is doubled or taken away, and the story
//! goes on.

use std::sync::Arc;
use std::time::Duration;

use kagero::controller::adoption::{Adopter, AdoptionError, Found};
use kagero::sim::chance::Chance;
use kagero::sim::cloud::{Decoy, SimDatabases, SimMachines, Weather};
use kagero::sim::fate::{Call, Fate, Nerve};
use kagero::sim::hub::{SimForge, key};

use super::story::{Event, make_up};
use super::sweep::all;
use super::world::{Beginning, Installation, REPO};

const SEEDS: u64 = 60;

/// Long enough for everything to come to rest.
const PATIENCE: Duration = Duration::from_hours(1);

/// What `kagero adopt` does, in this world.
async fn adopted(installation: &Installation) -> Result<Found, AdoptionError> {
    let outside = &installation.outside;
    let (nerve, clock) = (Nerve::new(Arc::clone(&outside.dealer)), Arc::new(installation.members[0].clock.clone()));
    let install = outside.policy.install.clone();
    let adopter = Adopter {
        store: &outside.store,
        forge: &SimForge::new(outside.hub.clone(), nerve.clone(), clock.clone()),
        machines: &SimMachines::new(outside.cloud.clone(), install.clone(), nerve.clone(), clock.clone()),
        databases: &SimDatabases::new(outside.cloud.clone(), install, nerve, clock.clone()),
        policy: &outside.policy,
        clock: clock.as_ref(),
        holder: "adopter",
    };
    let found = adopter.look().await?;
    adopter.write(&found).await?;
    Ok(found)
}

/// Everything in the cloud that is ours, and how often something was made or taken away.
fn living(installation: &Installation) -> (Vec<String>, usize) {
    let cloud = &installation.outside.cloud;
    let change = |kind: &str| matches!(kind, "launch" | "prepare" | "terminate" | "delete");
    let changes = cloud.journal().iter().filter(|call| call.refused.is_none() && change(call.kind)).count();
    (cloud.residue(), changes)
}

async fn restart(installation: &mut Installation) {
    for member in &mut installation.members {
        member.restart().await;
    }
}

#[tokio::test]
async fn after_any_story_a_lost_store_is_rebuilt_and_nothing_is_made_or_taken_away() {
    let (mut records, mut went_on) = (0, 0);
    for seed in 0..SEEDS {
        let mut chance = Chance::new(seed).branch(41);
        let beginning = Beginning { slots: chance.permille(300), zones: chance.permille(300), ..Beginning::fair(seed) };
        let mut installation = Installation::begin(beginning).await;
        let story = make_up(&mut chance, 8);
        installation.tell(&story).await.unwrap();
        installation.outside.cloud.remove_decoys();
        for decoy in Decoy::ALL {
            installation.outside.cloud.add_decoy(decoy, &installation.outside.policy.install, key(REPO, 900));
        }
        installation.pass_time(PATIENCE).await.unwrap();
        installation.truth.at_rest().await.unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));

        let before = living(&installation);
        installation.lose_store().await;
        records += adopted(&installation).await.unwrap().adoption.ledgers.len();
        restart(&mut installation).await;
        installation.pass_time(PATIENCE).await.unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
        assert_eq!(living(&installation), before, "seed {seed}: after {story:#?}");
        installation.truth.at_rest().await.unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));

        // And all of it is taken away when its time has come.
        for pr in 1..=super::story::PULLS {
            went_on += usize::from(!before.0.is_empty());
            installation.happen(900 + pr, Event::Close { pr, merged: true }).await;
        }
        installation.pass_time(PATIENCE).await.unwrap();
        installation.outside.cloud.assert_clean().unwrap_or_else(|left| panic!("seed {seed}: {left}"));
        installation.end().await;
    }
    assert!(records > 60 && went_on > 60, "{records} records, {went_on} closed: the run proves nothing");
}

#[tokio::test]
async fn nothing_is_adopted_from_what_could_not_be_read() {
    for call in [Call::ListMachines, Call::ListDatabases, Call::Read] {
        let mut installation = Installation::begin(Beginning::fair(2)).await;
        all(&mut installation, 1..=2, true).await;
        installation.lose_store().await;
        installation.outside.dealer.script(call, 0, Fate::Error);
        let refused = adopted(&installation).await.err();
        assert!(matches!(refused, Some(AdoptionError::Cloud(..) | AdoptionError::Forge(_))), "{call:?}: {refused:?}");
        assert!(installation.outside.store.ledgers().await.unwrap().is_empty(), "{call:?}");
        installation.end().await;
    }
    let mut installation = Installation::begin(Beginning::fair(2)).await;
    all(&mut installation, 1..=2, true).await;
    installation.lose_store().await;
    installation.outside.cloud.set_weather(Weather { partial_permille: 1_000, ..Weather::FAIR });
    let refused = adopted(&installation).await.err();
    assert!(matches!(refused, Some(AdoptionError::Partial)), "{refused:?}");
    installation.end().await;
}
