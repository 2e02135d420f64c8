//! A lost store: which records are rebuilt, and what is left to a person.

use std::collections::BTreeMap;

use super::world::World;
use super::{KEY, policy, pull};
use crate::domain::id::{EnvKey, EnvUid, Generation, InstallId, MachineId, PrNumber, SlotId};
use crate::domain::ledger::{Answer, Ledger, Role, Standing};
use crate::domain::observed::{Database, Machine};
use crate::domain::pull::{PullFacts, PullState};
use crate::domain::step::Step;
use crate::domain::time::Timestamp;
use crate::plan::{Adoption, Remains, adopt, keys_of};

const NOW: Timestamp = Timestamp(50_000);

/// A preview that is ready.
fn living() -> World {
    let mut world = World::new();
    world.settle();
    world
}

fn adopted(world: &World, known: &[Ledger], read: Result<PullFacts, String>) -> Adoption {
    let (machines, databases) = (&world.machines, &world.databases);
    let pulls = BTreeMap::from([(KEY, read)]);
    adopt(Remains { machines, databases, pulls: &pulls, known, policy: &world.policy, now: NOW })
}

fn open() -> PullFacts {
    pull(PullState::Open, 'a')
}

/// Every resource is of another generation, as if the pull request had been reopened, and came of another attempt.
fn again(world: &mut World, generation: u32, attempt: u32) {
    for machine in &mut world.machines {
        let tags = machine.tags.as_mut().unwrap();
        tags.generation = Generation(generation);
        machine.name = format!("kagero-test-{}-g{generation}-a{attempt}", tags.uid);
        machine.id = MachineId::parse(machine.name.clone()).unwrap();
    }
    for database in &mut world.databases {
        let tags = database.tags.as_mut().unwrap();
        tags.generation = Generation(generation);
        database.name = format!("kagero_test_{}_g{generation}", tags.uid);
    }
}

#[test]
fn a_living_preview_gets_the_record_that_it_had() {
    let mut world = living();
    assert_eq!(keys_of(&world.machines, &world.databases).into_iter().collect::<Vec<_>>(), [KEY]);
    let had = world.ledger.take().unwrap();
    let Adoption { mut ledgers, leftovers } = adopted(&world, &[], Ok(open()));
    assert_eq!(leftovers, []);
    let ledger = ledgers.remove(0);
    assert!(ledgers.is_empty());
    assert_eq!((ledger.key, &ledger.uid, ledger.generation), (KEY, &had.uid, had.generation));
    assert_eq!((ledger.standing, ledger.enrolled_at), (Standing::Live, NOW));
    let asked = |ledger: &Ledger| {
        let all = ledger.intents.iter().filter(|intent| !matches!(intent.role, Role::Rollout(_)));
        all.map(|intent| (intent.role.clone(), intent.attempt, intent.token.clone(), intent.answer.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&ledger), asked(&had));

    // What goes on from there makes nothing and takes nothing away; the gateway is asked for the proof again.
    world.ledger = Some(ledger);
    world.now = NOW;
    let before = (world.machines.clone(), world.databases.clone());
    world.done.clear();
    world.settle();
    assert_eq!((world.machines, world.databases), before);
    assert!(world.done.iter().all(|step| ["enroll", "probe"].contains(step)), "{:?}", world.done);
}

#[test]
fn a_slot_goes_with_what_lives_in_it() {
    let slot = |number: u32| Some(SlotId::parse(format!("sg-{number}")).unwrap());
    let mut world = living();
    assert_eq!(adopted(&world, &[], Ok(open())).ledgers[0].slot, None);
    world.databases[0].slot = slot(2);
    assert_eq!(adopted(&world, &[], Ok(open())).ledgers[0].slot, slot(2), "of the database alone");
    // Something of an earlier generation is left, in another slot.
    let mut earlier = world.machines[0].clone();
    again(&mut world, 3, 1);
    earlier.slot = slot(1);
    world.machines.insert(0, earlier);
    assert_eq!(adopted(&world, &[], Ok(open())).ledgers[0].slot, slot(2));
}

#[test]
fn a_later_generation_and_attempt_is_neither_doubled_nor_taken_away() {
    let mut world = living();
    again(&mut world, 3, 2);
    let mut ledgers = adopted(&world, &[], Ok(open())).ledgers;
    let ledger = ledgers.remove(0);
    assert_eq!(ledger.generation, Generation(3));
    let machine = ledger.intents_for(&Role::Machine).next_back().unwrap();
    assert_eq!(machine.attempt, 2);
    assert_eq!(machine.answer, Some(Answer::Accepted(world.machines[0].id.to_string())));
    world.ledger = Some(ledger);
    let makes_or_takes = |step: &Step| {
        matches!(
            step,
            Step::LaunchMachine { .. } | Step::PrepareDatabase { .. } | Step::Terminate(_) | Step::DropDatabase(_)
        )
    };
    assert!(!world.plan().steps.iter().any(makes_or_takes), "{:?}", world.plan().steps);
}

#[test]
fn a_pull_request_that_was_closed_meanwhile_is_taken_away() {
    let mut world = living();
    let closed = pull(PullState::Closed, 'a');
    world.ledger = adopted(&world, &[], Ok(closed.clone())).ledgers.pop();
    assert!(!world.ledger.as_ref().unwrap().said.deployments.is_empty(), "nobody would be told");
    world.pull = closed;
    world.settle();
    assert!(world.machines.is_empty() && world.databases.is_empty());
    assert!(world.ledger.unwrap().is_released());
}

#[test]
fn one_that_cannot_be_read_is_kept_and_told_of() {
    let world = living();
    let Adoption { ledgers, leftovers } = adopted(&world, &[], Err("404".to_owned()));
    assert_eq!(ledgers.len(), 1);
    assert_eq!(leftovers.len(), 1);
    assert!(leftovers[0].kind == "pull request" && leftovers[0].why.contains("404"), "{leftovers:?}");
}

#[test]
fn what_is_not_provably_ours_is_left_to_a_person() {
    type Damage = (&'static str, fn(&mut Machine), fn(&mut Database));
    let other = || InstallId::parse("other").unwrap();
    let table: [Damage; 5] = [
        ("no owner tags", |machine| machine.tags = None, |database| database.tags = None),
        (
            "belongs to installation other",
            |machine| machine.tags.as_mut().unwrap().install = InstallId::parse("other").unwrap(),
            |database| database.tags.as_mut().unwrap().install = InstallId::parse("other").unwrap(),
        ),
        (
            "belongs to environment",
            |machine| machine.tags.as_mut().unwrap().key.pr = PrNumber(13),
            |database| database.tags.as_mut().unwrap().key.pr = PrNumber(13),
        ),
        (
            "not in the allow-list",
            |machine| machine.location.account = "production".to_owned(),
            |database| database.location.network = "production".to_owned(),
        ),
        (
            "does not begin with",
            |machine| machine.name = "web-1".to_owned(),
            |database| database.name = "shop".to_owned(),
        ),
    ];
    assert_ne!(other(), policy().install);
    for (why, machine, database) in table {
        let mut world = living();
        machine(&mut world.machines[0]);
        database(&mut world.databases[0]);
        let Adoption { ledgers, leftovers } = adopted(&world, &[], Ok(open()));
        assert_eq!(ledgers, [], "{why}");
        assert_eq!(leftovers.len(), 2, "{why}: {leftovers:?}");
        assert!(leftovers.iter().all(|left| left.why.contains(why)), "{why}: {leftovers:?}");
    }
}

#[test]
fn a_machine_whose_name_tells_no_attempt_keeps_its_environment_out() {
    let mut world = living();
    world.machines[0].name.push('x');
    let Adoption { ledgers, leftovers } = adopted(&world, &[], Ok(open()));
    assert!(ledgers.is_empty() && leftovers.len() == 2, "{leftovers:?}");
}

#[test]
fn records_that_there_are_are_respected() {
    let world = living();
    let had = world.ledger.clone().unwrap();
    let released = |generation: u32| Ledger {
        generation: Generation(generation),
        standing: Standing::Released(Timestamp(1)),
        ..had.clone()
    };
    let mut older = living();
    again(&mut older, 2, 1);
    let outcome = |world: &World, known: Ledger| {
        let Adoption { ledgers, leftovers } = adopted(world, &[known], Ok(open()));
        (ledgers.len(), leftovers.len())
    };
    assert_eq!(outcome(&world, had.clone()), (0, 0), "known");
    assert_eq!(outcome(&older, released(1)), (1, 0), "reopened since the record was closed");
    assert_eq!(outcome(&older, had.clone()), (0, 2), "the record is older than what lives");
    assert_eq!(outcome(&world, released(1)), (0, 2), "the record says that nothing was left");
}

#[test]
fn a_host_name_that_another_record_has_is_not_taken() {
    let world = living();
    let mut neighbour = world.ledger.clone().unwrap();
    neighbour.key = EnvKey { pr: PrNumber(99), ..KEY };
    neighbour.uid = EnvUid::derive(&world.policy.install, neighbour.key);
    let ledgers = adopted(&world, std::slice::from_ref(&neighbour), Ok(open())).ledgers;
    assert_ne!(ledgers[0].hosts[0].label, neighbour.hosts[0].label);
}
