//! Where machines are asked for, and what has to be gone before a slot is another's.

use std::time::Duration;

use super::world::World;
use crate::domain::id::SlotId;
use crate::domain::ledger::{Answer, Intent, Standing};
use crate::domain::network::Placements;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Step, Waiting};

/// The placement that each machine was asked for at, without room for any.
fn refused_everywhere(world: &mut World, rounds: usize) -> Vec<String> {
    let mut asked = Vec::new();
    while let Some(Step::LaunchMachine { intent, .. }) =
        world.plan().steps.into_iter().find(|step| step.kind() == "launch-machine")
    {
        let place = intent.placement.clone().unwrap();
        asked.push(format!("{} {}", place.zone, place.kind));
        let answer = Some(Answer::NoRoom("InsufficientInstanceCapacity".to_owned()));
        world.ledger.as_mut().unwrap().intents.push(Intent { answer, ..intent });
        assert!(asked.len() <= rounds, "{asked:?}");
    }
    asked
}

#[test]
fn a_machine_without_room_is_asked_for_everywhere_and_then_ever_more_rarely() {
    let mut world = World::new();
    let texts = |all: [&str; 2]| all.map(str::to_owned).to_vec();
    world.policy.placements = Placements { zones: texts(["a", "b"]), kinds: texts(["small", "large"]) };
    let enroll = world.plan().steps;
    world.act(&enroll[0]);
    let mut first = refused_everywhere(&mut world, 4);
    first.sort_unstable();
    assert_eq!(first, ["a large", "a small", "b large", "b small"]);
    let plan = world.plan();
    assert!(plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Room(_))), "{plan:?}");
    assert!(!plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Failed(_))), "no failure: {plan:?}");
    for minutes in [2, 4, 8, 16, 16] {
        world.now = world.now.plus(Duration::from_mins(minutes).saturating_sub(Duration::from_secs(1)));
        assert_eq!(refused_everywhere(&mut world, 0), Vec::<String>::new());
        world.now = world.now.plus(Duration::from_secs(1));
        assert_eq!(refused_everywhere(&mut world, 4).len(), 4);
    }
    world.now = world.now.plus(Duration::from_mins(16));
    world.settle();
    assert_eq!(world.machines.len(), 1, "as soon as there is room");
}

#[test]
fn a_question_that_was_asked_keeps_its_place_whatever_the_operator_allows_since() {
    let mut world = World::new();
    world.policy.placements = Placements { zones: vec!["a".to_owned()], kinds: vec!["small".to_owned()] };
    let enroll = world.plan().steps;
    world.act(&enroll[0]);
    let launch = |world: &World| {
        let step = world.plan().steps.into_iter().find(|step| step.kind() == "launch-machine").unwrap();
        let Step::LaunchMachine { intent, .. } = step else { unreachable!() };
        intent
    };
    let asked = launch(&world);
    world.ledger.as_mut().unwrap().intents.push(asked.clone());
    world.policy.placements.kinds = vec!["large".to_owned()];
    let again = launch(&world);
    assert_eq!((again.token, again.placement), (asked.token, asked.placement));
}

#[test]
fn a_row_is_open_while_interfaces_are_left_in_its_slot() {
    let mut world = World::new();
    world.settle();
    let slot = SlotId::parse("sg-1").unwrap();
    world.ledger.as_mut().unwrap().slot = Some(slot);
    world.close();
    for left in [Seen::Present(1), Seen::Unknown(Doubt::TooYoung)] {
        world.interfaces = left;
        world.settle();
        assert!(matches!(world.ledger.as_ref().unwrap().standing, Standing::Leaving(_)), "{:?}", world.interfaces);
    }
    world.interfaces = Seen::Absent;
    world.settle();
    world.assert_nothing_left();
}
