//! What AWS does not show at once, or shows for a while after it was deleted.

use kagero::cloud::{Databases as _, ErrorClass, Machines as _};
use kagero::domain::observed::{DatabaseState, MachineState};

use super::counterpart::{Staging, Wish};
use super::databases::{Asked, PATIENCE, Rds, found, in_turn, prove, refused_in_turn};
use super::machines::{living, prove as prove_machine};
use super::shown::Shown;
use crate::wait::eventually;

#[tokio::test]
async fn a_machine_that_is_shown_late_is_neither_doubled_nor_taken_for_gone() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let wish = Wish::of(1, &network);
    let shown = async || machines.list().await.unwrap().items.first().map(|machine| machine.state);
    staging.strict.show(Shown::NotYet);
    let id = machines.launch(wish.birth()).await.unwrap();
    assert_eq!(shown().await, None);
    assert_eq!(machines.launch(wish.birth()).await.unwrap(), id, "asked for again");
    assert_eq!(living(&staging).await, 1);
    staging.strict.show(Shown::UnderWay);
    assert_eq!(shown().await, Some(MachineState::Pending));
    staging.strict.show(Shown::Done);
    assert_eq!(shown().await, Some(MachineState::Running));

    let machine = machines.list().await.unwrap().items.remove(0);
    staging.strict.show(Shown::UnderWay);
    machines.terminate(&prove_machine(&staging, &machine)).await.unwrap();
    assert_eq!(shown().await, Some(MachineState::Stopping));
    staging.strict.show(Shown::Done);
    assert_eq!(shown().await, None);
}

#[tokio::test]
async fn a_database_that_is_shown_late_is_neither_doubled_nor_entered_nor_taken_for_gone() {
    let rds = Rds::start().await;
    let (lane, asked) = (rds.lane().await, Asked::of(1, &rds).await);
    let strict = &rds.staging.strict;
    let state = async || found(&lane, &asked).await.map(|database| database.state);
    strict.show(Shown::NotYet);
    let id = lane.prepare(asked.birth()).await.unwrap();
    assert_eq!(state().await, None);
    let hidden = refused_in_turn(async || lane.prepare(asked.birth()).await).await;
    assert!(hidden.class == ErrorClass::Ambiguous && hidden.why.contains("not visible yet"), "{hidden}");
    strict.show(Shown::UnderWay);
    assert_eq!(state().await, Some(DatabaseState::Preparing));
    let again = in_turn(async || lane.prepare(asked.birth()).await).await;
    assert_eq!(again, id);
    assert_eq!(
        rds.raw.describe_db_instances().send().await.unwrap().db_instances().len(),
        2,
        "production's and this one"
    );
    strict.show(Shown::Done);
    rds.rotate(&asked.spec.name).await;
    eventually("it is ready", PATIENCE, async || state().await == Some(DatabaseState::Ready)).await;

    strict.show(Shown::UnderWay);
    let owned = prove(&rds, &found(&lane, &asked).await.unwrap());
    in_turn(async || lane.delete(&owned).await).await;
    assert_eq!(state().await, Some(DatabaseState::Dropping));
    let going = prove(&rds, &found(&lane, &asked).await.unwrap());
    in_turn(async || lane.delete(&going).await).await;
    assert_eq!(strict.count("DeleteDBInstance"), 1, "what goes is not deleted again");
    strict.show(Shown::Done);
    assert_eq!(state().await, None);
}
