//! Machines.

use std::time::Duration;

use kagero::cloud::ErrorClass;
use kagero::domain::id::{Generation, MachineId};
use kagero::domain::observed::{Machine, MachineState};
use kagero::domain::owned::{Claim, Owned, prove_machine};

use super::{Call, Fate, Wish, World, in_turn, until};

async fn listed(world: &dyn World) -> Vec<Machine> {
    let listing = world.machines().list().await.unwrap();
    assert!(listing.complete);
    listing.items
}

async fn launch(world: &dyn World, wish: &Wish) -> MachineId {
    in_turn(world, async || world.machines().launch(wish.machine()).await).await.unwrap()
}

async fn in_state(world: &dyn World, id: &MachineId, state: MachineState) -> Machine {
    until(world, "it has that state", async || {
        listed(world).await.into_iter().find(|machine| machine.id == *id && machine.state == state)
    })
    .await
}

fn prove(world: &dyn World, machine: &Machine) -> Owned<MachineId> {
    let (install, tags) = (world.install(), machine.tags.clone().unwrap());
    let claim = Claim { install: &install, uid: &tags.uid, generation: Generation::FIRST };
    prove_machine(machine, claim, &world.allowed()).unwrap()
}

pub(super) async fn asked_twice_it_is_one_and_as_it_was_asked_for(world: &dyn World) {
    let (wish, other) = (Wish::of(world, 1), Wish::of(world, 2));
    let id = launch(world, &wish).await;
    assert_eq!(launch(world, &wish).await, id);
    let second = launch(world, &other).await;
    assert_ne!(second, id);
    let machine = in_state(world, &id, MachineState::Running).await;
    in_state(world, &second, MachineState::Running).await;
    assert_eq!(listed(world).await.len(), 2);
    assert_eq!(machine.tags.as_ref(), Some(&wish.tags));
    assert_eq!((machine.placement.as_ref(), machine.slot.as_ref()), (Some(&wish.placement), Some(&wish.slot)));
    assert!(machine.agent.is_some());
    prove(world, &machine);
    let interfaces = world.machines().interfaces().await.unwrap();
    let slots: Vec<_> = interfaces.items.iter().map(|interface| interface.slot.clone()).collect();
    assert!(slots.contains(&wish.slot) && slots.contains(&other.slot), "{slots:?}");
}

pub(super) async fn a_lost_answer_does_not_double_it(world: &dyn World) {
    let wish = Wish::of(world, 1);
    world.meet(Call::Launch, Fate::LostAfter);
    let lost = world.machines().launch(wish.machine()).await.unwrap_err();
    assert_eq!(lost.class, ErrorClass::Ambiguous, "{lost}");
    let id = launch(world, &wish).await;
    in_state(world, &id, MachineState::Running).await;
    assert_eq!(listed(world).await.len(), 1);
}

pub(super) async fn a_lost_or_throttled_question_makes_nothing(world: &dyn World) {
    let wish = Wish::of(world, 1);
    world.meet(Call::Launch, Fate::LostBefore);
    let lost = world.machines().launch(wish.machine()).await.unwrap_err();
    assert_eq!(lost.class, ErrorClass::Ambiguous, "{lost}");
    world.meet(Call::Launch, Fate::Throttled);
    let throttled = world.machines().launch(wish.machine()).await.unwrap_err();
    assert!(matches!(throttled.class, ErrorClass::SlowDown(_)), "{throttled}");
    assert_eq!(listed(world).await, []);
}

pub(super) async fn what_was_terminated_goes_and_its_token_with_it(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = launch(world, &wish).await;
    let machine = in_state(world, &id, MachineState::Running).await;
    world.meet(Call::Terminate, Fate::LostAfter);
    let lost = world.machines().terminate(&prove(world, &machine)).await.unwrap_err();
    assert!(matches!(lost.class, ErrorClass::Ambiguous | ErrorClass::Retry), "{lost}");
    in_turn(world, async || world.machines().terminate(&prove(world, &machine)).await).await.unwrap();
    let refused = in_turn(world, async || world.machines().launch(wish.machine()).await).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
    until(world, "it is gone", async || listed(world).await.is_empty().then_some(())).await;
}

pub(super) async fn what_was_stopped_is_started_by_the_same_question(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = launch(world, &wish).await;
    let machine = in_state(world, &id, MachineState::Running).await;
    world.meet(Call::StopMachine, Fate::Throttled);
    let throttled = world.machines().stop(&prove(world, &machine)).await.unwrap_err();
    assert!(matches!(throttled.class, ErrorClass::SlowDown(_)), "{throttled}");
    let machine = in_state(world, &id, MachineState::Running).await;
    in_turn(world, async || world.machines().stop(&prove(world, &machine)).await).await.unwrap();
    let stopped = in_state(world, &id, MachineState::Stopped).await;
    in_turn(world, async || world.machines().stop(&prove(world, &stopped)).await).await.unwrap();
    let again = until(world, "it can be started", async || {
        in_turn(world, async || world.machines().launch(wish.machine()).await).await.ok()
    });
    assert_eq!(again.await, id);
    in_state(world, &id, MachineState::Running).await;
    assert_eq!(listed(world).await.len(), 1);
}

pub(super) async fn old_evidence_is_refused_and_changes_nothing(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = launch(world, &wish).await;
    let machine = in_state(world, &id, MachineState::Running).await;
    let old = Machine { read_at: world.now().minus(Duration::from_secs(61)), ..machine };
    for done in
        [world.machines().terminate(&prove(world, &old)).await, world.machines().stop(&prove(world, &old)).await]
    {
        assert_eq!(done.unwrap_err().class, ErrorClass::Retry);
    }
    in_state(world, &id, MachineState::Running).await;
}
