//! A store that is lost beside what lives on EC2 and RDS.

use std::collections::BTreeSet;

use kagero::clock::SystemClock;
use kagero::cloud::{Databases as _, Machines as _};
use kagero::controller::adoption::Adopter;
use kagero::domain::id::{EnvKey, EnvUid, Generation, PrNumber, RepoId, RepoName};
use kagero::domain::ledger::{Answer, Role};
use kagero::domain::policy::Policy;
use kagero::sim::chance::Chance;
use kagero::sim::clock::Time;
use kagero::sim::fate::Nerve;
use kagero::sim::hub::{Hub, PostalService, SimForge};

use super::counterpart::{Wish, install};
use super::databases::{Asked, Rds, in_turn};
use crate::convergence::world::{Beginning, CONFIG, commit, policy};
use crate::store::Place;

/// Pull requests that have something that lives.
const PULLS: [u64; 3] = [1, 2, 3];

#[tokio::test]
async fn what_lives_is_written_down_as_it_was_asked_for() {
    let rds = Rds::start().await;
    let (machines, lane, network) = (rds.staging.machines().await, rds.lane().await, rds.staging.network().await);
    let mut wishes = Vec::new();
    for pr in PULLS {
        // One has not been made at the first attempt.
        let (wish, asked) = (Wish::attempt(pr, if pr == 2 { 3 } else { 1 }, &network), Asked::of(pr, &rds).await);
        let id = in_turn(async || machines.launch(wish.birth()).await).await;
        let database = in_turn(async || lane.prepare(asked.birth()).await).await;
        wishes.push((pr, wish, id, asked, database));
    }
    let made = ["RunInstances", "RestoreDBInstanceFromDBSnapshot"].map(|action| rds.staging.strict.count(action));

    let hub = Hub::new(Time::default(), Chance::new(1), PostalService::default());
    hub.add_repo(RepoId(1), RepoName::parse("acme/shop").unwrap(), CONFIG);
    let key = |pr| EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
    for pr in PULLS {
        hub.change(key(pr), &commit(pr, false), |_| {});
    }
    let place = Place::sqlite();
    let store = place.open().await;
    let rules = Policy {
        install: install(),
        allow: rds.allowed(),
        placements: network.placements.clone(),
        slots: network.slots.clone(),
        ..policy(&Beginning::fair(1))
    };
    let adopter = Adopter {
        store: &store,
        forge: &SimForge::new(hub, Nerve::new(std::sync::Arc::default()), std::sync::Arc::new(SystemClock)),
        machines: &machines,
        databases: &lane,
        policy: &rules,
        clock: &SystemClock,
        holder: "adopter",
    };
    let found = adopter.look().await.unwrap();
    assert!(found.adoption.leftovers.is_empty(), "{:?}", found.adoption.leftovers);
    adopter.write(&found).await.unwrap();

    for (pr, wish, id, asked, database) in wishes {
        let ledger = store.ledger(key(pr)).await.unwrap().unwrap();
        assert_eq!((&ledger.uid, ledger.generation), (&EnvUid::derive(&install(), key(pr)), Generation::FIRST));
        assert_eq!(ledger.slot.as_ref(), Some(&wish.slot));
        let machine = ledger.intents_for(&Role::Machine).next_back().unwrap();
        assert_eq!(
            (&machine.token, machine.attempt),
            (&wish.token, wish.attempt),
            "asked for again, it is the same one"
        );
        assert_eq!(machine.placement.as_ref(), Some(&wish.placement));
        assert_eq!(machine.answer, Some(Answer::Accepted(id.to_string())));
        let role = Role::Database(asked.spec.name.clone());
        let answer = ledger.intents_for(&role).next_back().unwrap().answer.clone();
        assert_eq!(answer, Some(Answer::Accepted(database.to_string())));
        // Whoever goes on with the record makes nothing anew.
        assert_eq!(in_turn(async || machines.launch(wish.birth()).await).await, id);
    }
    let again = adopter.look().await.unwrap();
    assert!(again.adoption.ledgers.is_empty() && again.adoption.leftovers.is_empty(), "{:?}", again.adoption);
    let listed: BTreeSet<_> = machines.list().await.unwrap().items.into_iter().map(|machine| machine.id).collect();
    assert_eq!(listed.len(), PULLS.len());
    assert_eq!(rds.staging.strict.count("RestoreDBInstanceFromDBSnapshot"), made[1]);
}
