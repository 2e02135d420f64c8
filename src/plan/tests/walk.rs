//! Plans carried out: they converge, they end with nothing left, they touch nothing of others.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{Fate, World};
use super::{pull, sha};
use crate::domain::assignment::{RolloutPhase, ServiceState, Stage};
use crate::domain::id::{EnvUid, Generation, InstallId, RepoName, SlotId};
use crate::domain::ledger::Role;
use crate::domain::observed::{DatabaseState, MachineState};
use crate::domain::policy::OnPush;
use crate::domain::pull::PullState;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Next, Step, Waiting};
use crate::domain::time::Timestamp;

#[test]
fn an_opened_pull_request_is_proven_ready_with_one_of_each() {
    let mut world = World::new();
    world.settle();
    assert_eq!((world.machines.len(), world.databases.len()), (1, 1));
    let serving = world.agent.as_ref().and_then(|agent| agent.serving.as_ref()).unwrap();
    assert_eq!(serving.commit, sha('a'));
    assert_eq!(world.ledger.as_ref().unwrap().proven.as_ref().unwrap().task, serving.task);
}

#[test]
fn closing_after_any_number_of_steps_leaves_nothing() {
    for stop_after in 0..20 {
        let mut world = World::new();
        let mut acted = 0;
        'open: for _ in 0..20 {
            for step in &world.plan().steps {
                if acted == stop_after {
                    break 'open;
                }
                world.act(step);
                acted += 1;
            }
        }
        world.close();
        world.settle();
        world.assert_nothing_left();
    }
}

#[test]
fn an_environment_with_a_service_that_is_down_is_looked_at_more_often() {
    let mut world = World::new();
    assert_eq!(world.settle().next, Next::Poll(world.policy.pace.idle));
    let serving = world.agent.as_mut().unwrap().serving.as_mut().unwrap();
    serving.phase = RolloutPhase::Degraded;
    serving.services[0].state = ServiceState::Restarting;
    let plan = world.plan();
    assert_eq!((plan.steps.len(), plan.next), (0, Next::Poll(Duration::from_secs(1))), "its agent sees to it");
}

#[test]
fn a_push_keeps_machine_and_data_and_serves_the_newest_commit() {
    let mut world = World::new();
    world.settle();
    let (machine, database) = (world.machines[0].id.clone(), world.databases[0].id.clone());
    world.pull = pull(PullState::Open, 'b');
    world.settle();
    assert_eq!((world.machines[0].id.clone(), world.databases[0].id.clone()), (machine, database));
    assert_eq!(world.agent.unwrap().serving.unwrap().commit, sha('b'));
}

#[test]
fn a_push_that_resets_data_drops_the_old_database_only_once_the_new_version_is_proven() {
    let mut world = World::new();
    world.config.database.as_mut().unwrap().on_push = OnPush::Reset;
    world.settle();
    let old = world.databases[0].name.clone();
    world.pull = pull(PullState::Open, 'b');
    loop {
        let plan = world.plan();
        let Some(step) = plan.steps.first() else { break };
        if matches!(step, Step::DropDatabase(owned) if owned.name() == old) {
            let proven = world.ledger.as_ref().unwrap().proven.as_ref().map(|proof| proof.task.clone());
            assert_eq!(proven, world.agent.as_ref().unwrap().serving.as_ref().map(|rollout| rollout.task.clone()));
        }
        world.act(&step.clone());
    }
    assert_eq!(world.databases.len(), 1);
    assert_ne!(world.databases[0].name, old);
}

#[test]
fn failing_pushes_that_reset_data_keep_no_more_than_the_old_and_the_newest_database() {
    let mut world = World::new();
    world.config.database.as_mut().unwrap().on_push = OnPush::Reset;
    world.settle();
    let serving = world.databases[0].name.clone();
    world.fate = Fate::FailsAt(Stage::Build);
    for head in ['b', 'c', 'd'] {
        world.pull = pull(PullState::Open, head);
        world.settle();
        let names: Vec<&str> = world.databases.iter().map(|database| database.name.as_str()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&serving.as_str()), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with(&head.to_string().repeat(8))), "{names:?}");
    }
}

#[test]
fn reopening_begins_the_next_generation_after_the_last_one_has_gone() {
    let mut world = World::new();
    world.settle();
    let hosts = world.ledger.as_ref().unwrap().hosts.clone();
    world.close();
    for step in &world.plan().steps {
        world.act(step);
    }
    world.pull.state = PullState::Open;
    world.settle();
    assert_eq!(world.generation(), Generation(2));
    assert_eq!(world.ledger.as_ref().unwrap().hosts, hosts);
    assert!(world.machines.iter().all(|machine| machine.tags.as_ref().unwrap().generation == Generation(2)));
    let released = world.done.iter().position(|kind| *kind == "release").unwrap();
    let second = world.done.iter().rposition(|kind| *kind == "enroll").unwrap();
    assert!(released < second);
}

#[test]
fn a_failing_build_is_not_tried_again_and_a_missing_commit_is_a_bounded_number_of_times() {
    for (stage, attempts) in [(Stage::Build, 1), (Stage::Start, 1), (Stage::Checkout, 3)] {
        let mut world = World::new();
        world.fate = Fate::FailsAt(stage);
        let plan = world.settle();
        assert!(matches!(&plan.waiting[..], [Waiting::Failed(failure)] if failure.stage == stage.as_str()));
        assert_eq!(world.done.iter().filter(|kind| **kind == "assign").count(), attempts, "{stage:?}");
    }
}

#[test]
fn a_failing_push_leaves_the_old_version_serving() {
    let mut world = World::new();
    world.settle();
    world.fate = Fate::FailsAt(Stage::Build);
    world.pull = pull(PullState::Open, 'b');
    world.settle();
    assert_eq!(world.agent.as_ref().unwrap().serving.as_ref().unwrap().commit, sha('a'));
    world.fate = Fate::Serves;
    world.pull = pull(PullState::Open, 'c');
    world.settle();
    assert_eq!(world.agent.unwrap().serving.unwrap().commit, sha('c'));
}

#[test]
fn a_machine_that_dies_is_replaced_under_a_new_attempt_and_one_that_stops_is_brought_back() {
    let mut world = World::new();
    world.settle();
    world.machines.clear();
    world.agent = None;
    world.settle();
    let attempts: Vec<u32> =
        world.ledger.as_ref().unwrap().intents_for(&Role::Machine).map(|intent| intent.attempt).collect();
    assert_eq!(attempts, [1, 2]);
    world.now = Timestamp(world.now.0 + 120_000);
    world.machines[0].state = MachineState::Stopped;
    world.agent = None;
    world.settle();
    assert_eq!(world.ledger.as_ref().unwrap().intents_for(&Role::Machine).count(), 2);
    assert_eq!(world.machines.len(), 1);
}

#[test]
fn an_agent_that_dies_at_once_is_not_started_for_ever() {
    let mut world = World::new();
    world.settle();
    for _ in 0..4 {
        for machine in &mut world.machines {
            machine.state = MachineState::Stopped;
        }
        world.agent = None;
        world.settle();
    }
    let plan = world.plan();
    assert!(
        plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Failed(failure) if failure.stage == "machine")),
        "{plan:?}"
    );
}

#[test]
fn machines_that_keep_dying_are_given_up_visibly() {
    let mut world = World::new();
    for _ in 0..5 {
        world.settle();
        world.machines.clear();
        world.agent = None;
    }
    let plan = world.settle();
    assert!(
        matches!(&plan.waiting[..], [.., Waiting::Failed(failure)] | [Waiting::Failed(failure), ..] if failure.stage == "machine")
    );
    world.close();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn an_unanswered_question_is_asked_again_under_its_token() {
    let mut world = World::new();
    let enroll = world.plan().steps;
    world.act(&enroll[0]);
    let launch = world.plan().steps.into_iter().find(|step| step.kind() == "launch-machine").unwrap();
    let Step::LaunchMachine { intent, .. } = &launch else { unreachable!() };
    // Written down, and then the process died before the answer.
    world.ledger.as_mut().unwrap().intents.push(intent.clone());
    let again = world.plan().steps.into_iter().find(|step| step.kind() == "launch-machine").unwrap();
    let Step::LaunchMachine { intent: second, .. } = &again else { unreachable!() };
    assert_eq!(second.token, intent.token);
}

#[test]
fn databases_that_keep_failing_show_the_reason_of_the_last_failure() {
    let mut world = World::new();
    for _ in 0..4 {
        for step in &world.plan().steps {
            world.act(step);
        }
        for database in &mut world.databases {
            database.state = DatabaseState::Failed("seed golden: line 7: syntax error".to_owned());
        }
    }
    let plan = world.plan();
    assert!(
        plan.waiting.iter().any(|waiting| matches!(
            waiting,
            Waiting::Failed(failure) if failure.stage == "database" && failure.reason.contains("line 7")
        )),
        "{plan:?}"
    );
}

#[test]
fn what_cannot_be_proven_ours_is_left_alone_and_keeps_the_row_open() {
    let spoil: [fn(&mut World); 6] = [
        |w| w.databases[0].tags = None,
        |w| w.databases[0].tags.as_mut().unwrap().install = InstallId::parse("other").unwrap(),
        |w| w.databases[0].tags.as_mut().unwrap().uid = EnvUid::parse("0".repeat(20)).unwrap(),
        |w| w.databases[0].tags.as_mut().unwrap().generation = Generation(9),
        |w| w.databases[0].name = "production".to_owned(),
        |w| w.databases[0].location.network = "production-vpc".to_owned(),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut world = World::new();
        world.settle();
        spoil(&mut world);
        world.close();
        let plan = world.settle();
        assert_eq!(world.databases.len(), 1, "case {number}: it was dropped");
        assert!(plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Refused(_))), "case {number}");
        assert!(!world.ledger.as_ref().unwrap().is_released(), "case {number}: released with something left");
    }
}

#[test]
fn a_draft_keeps_its_data_and_wakes_again() {
    let mut world = World::new();
    world.settle();
    world.pull.draft = true;
    world.settle();
    let (machine, database) = (world.machines[0].clone(), world.databases[0].clone());
    assert_eq!((machine.state, database.state), (MachineState::Stopped, DatabaseState::Stopped));
    world.pull.draft = false;
    world.settle();
    assert_eq!((world.machines[0].state, world.machines.len()), (MachineState::Running, 1));
    assert_eq!((&world.databases[0].state, world.databases.len()), (&DatabaseState::Ready, 1));
    assert_eq!((&world.machines[0].id, &world.databases[0].id), (&machine.id, &database.id), "the same as before");
}

#[test]
fn a_slot_is_not_given_out_while_something_stands_in_it() {
    let slot = |name: &str| SlotId::parse(name.to_owned()).unwrap();
    let mut world = World::new();
    world.policy.slots = vec![slot("sg-1"), slot("sg-2"), slot("sg-3")];
    let offered = |world: &World| match &world.plan().steps[..] {
        [Step::Enroll { slots, .. }] => Some(slots.iter().map(|slot| slot.as_str().to_owned()).collect::<Vec<_>>()),
        _ => None,
    };
    assert_eq!(offered(&world).unwrap(), ["sg-1", "sg-2", "sg-3"]);
    world.occupied = Seen::Present(BTreeSet::from([slot("sg-1"), slot("sg-9")]));
    assert_eq!(offered(&world).unwrap(), ["sg-2", "sg-3"]);
    world.occupied = Seen::Unknown(Doubt::NotRead);
    assert_eq!(offered(&world), None, "what stands there is not known");
    assert!(matches!(&world.plan().waiting[..], [Waiting::Knowledge(_)]));
    world.occupied = Seen::Present(world.policy.slots.iter().cloned().collect());
    assert_eq!(offered(&world), None, "none would mean that there are none");
    assert!(matches!(&world.plan().waiting[..], [Waiting::Room(_)]));
    world.policy.slots.clear();
    assert_eq!(offered(&world).unwrap(), [] as [&str; 0], "where there are none, none is needed");
}

#[test]
fn what_starts_by_itself_while_nothing_is_to_run_is_stopped_again() {
    let mut world = World::new();
    world.settle();
    world.pull.draft = true;
    world.settle();
    let before = world.done.len();
    world.now = Timestamp(world.now.0 + 7 * 24 * 3_600_000);
    world.databases[0].state = DatabaseState::Preparing;
    assert!(world.plan().steps.is_empty(), "it cannot be stopped before it is up");
    world.databases[0].state = DatabaseState::Ready;
    world.settle();
    assert_eq!(world.done[before..], ["stop-database"]);
}

#[test]
fn what_hangs_on_its_way_down_is_given_up() {
    let mut world = World::new();
    world.settle();
    world.pull.draft = true;
    world.settle();
    let hangs = world.machines[0].id.clone();
    world.machines[0].state = MachineState::Pending;
    world.now = Timestamp(world.now.0 + 9 * 60_000);
    assert!(world.plan().steps.is_empty());
    world.now = Timestamp(world.now.0 + 2 * 60_000);
    for draft in [true, false] {
        world.pull.draft = draft;
        let plan = world.plan();
        let given_up = |step: &Step| matches!(step, Step::Terminate(owned) if *owned.id() == hangs);
        assert!(plan.steps.iter().any(given_up), "draft {draft}: {plan:?}");
    }
}

#[test]
fn a_machine_that_goes_down_whenever_it_comes_up_is_replaced() {
    let mut world = World::new();
    world.settle();
    let first = world.machines[0].id.clone();
    world.pull.draft = true;
    world.settle();
    world.pull.draft = false;
    for step in world.plan().steps {
        world.act(&step);
    }
    // It was started, and is down again before it could be given a task.
    world.machines[0].state = MachineState::Stopped;
    world.now = Timestamp(world.now.0 + 6 * 60_000);
    world.settle();
    assert_ne!(world.machines.iter().find(|machine| machine.state == MachineState::Running).unwrap().id, first);
}

#[test]
fn every_database_is_stopped_also_one_that_is_not_wanted_any_more() {
    let mut world = World::new();
    world.settle();
    let former = world.databases[0].clone();
    let mut later = former.clone();
    later.name = format!("{}_later", former.name);
    later.id = crate::domain::id::DatabaseId::parse(later.name.clone()).unwrap();
    world.own(&later);
    world.databases.push(later);
    world.pull.draft = true;
    let stops = world.plan().steps.iter().filter(|step| step.kind() == "stop-database").count();
    assert_eq!(stops, 2, "{:?}", world.plan());
}

#[test]
fn a_machine_that_waits_for_its_database_is_stopped_and_not_given_up() {
    let mut world = World::new();
    world.settle();
    let row = world.ledger.as_mut().unwrap();
    row.intents.retain(|intent| !matches!(intent.role, Role::Rollout(_)));
    world.now = Timestamp(world.now.0 + 12 * 60_000);
    world.pull.draft = true;
    let plan = world.plan();
    assert!(plan.steps.iter().any(|step| step.kind() == "stop-machine"), "{plan:?}");
    assert!(!plan.steps.iter().any(|step| step.kind() == "terminate"), "{plan:?}");
}

#[test]
fn a_database_that_cannot_be_stopped_stays_as_it_is() {
    let mut world = World::new();
    world.settle();
    world.databases[0].can_stop = false;
    world.pull.draft = true;
    let before = world.done.len();
    world.settle();
    assert_eq!(world.done[before..], ["stop-machine"]);
    assert_eq!(world.databases[0].state, DatabaseState::Ready);
}

#[test]
fn nothing_but_what_is_ours_is_stopped() {
    let mut world = World::new();
    world.settle();
    world.machines[0].location.account = "production".to_owned();
    world.databases[0].location.account = "production".to_owned();
    world.pull.draft = true;
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{plan:?}");
    assert_eq!(plan.waiting.iter().filter(|waiting| matches!(waiting, Waiting::Refused(_))).count(), 2, "{plan:?}");
}

#[test]
fn a_machine_on_its_way_up_or_down_is_waited_for() {
    let mut world = World::new();
    world.settle();
    world.machines[0].state = MachineState::Pending;
    world.pull.draft = true;
    let plan = world.plan();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::StopMachine { .. } | Step::Terminate(_))), "{plan:?}");
    world.settle();
    world.pull.draft = false;
    assert!(!world.plan().steps.iter().any(|step| matches!(step, Step::LaunchMachine { .. })));
}

#[test]
fn falling_asleep_again_and_again_is_no_failure() {
    let mut world = World::new();
    for _ in 0..6 {
        world.pull.draft = true;
        world.settle();
        assert!(world.machines.iter().all(|machine| machine.state == MachineState::Stopped));
        world.pull.draft = false;
        let plan = world.settle();
        assert!(!plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Failed(_))), "{plan:?}");
        assert_eq!(world.machines.len(), 1);
    }
}

#[test]
fn a_machine_that_was_asked_for_anew_is_proven_anew() {
    let mut world = World::new();
    world.settle();
    world.machines.clear();
    world.agent = None;
    world.settle();
    assert_eq!(world.done.iter().filter(|kind| **kind == "probe").count(), 2);
}

#[test]
fn a_renamed_repository_changes_nothing_that_runs() {
    let mut world = World::new();
    world.settle();
    let before = world.done.len();
    world.clone_url = "https://github.com/acme/renamed.git".to_owned();
    world.pull.repo = RepoName::parse("acme/renamed").unwrap();
    world.settle();
    assert_eq!(world.done[before..], [] as [&str; 0]);
}

#[test]
fn an_agent_that_stays_silent_while_others_answer_costs_its_machine_and_nothing_else() {
    let minutes = |count: i64| count * 60_000;
    let mut world = World::new();
    world.settle();
    let (machine, database) = (world.machines[0].id.clone(), world.databases[0].id.clone());
    let since = world.now;
    for doubt in [Doubt::Silent { since, how: "time-out".to_owned() }, Doubt::ReadFailed("time-out".to_owned())] {
        world.deaf = Some(doubt);
        world.now = Timestamp(since.0 + minutes(4));
        assert!(world.plan().steps.is_empty(), "{:?}", world.plan());
    }
    world.now = Timestamp(since.0 + minutes(6));
    assert!(world.plan().steps.is_empty(), "what may be our own deafness is no ground");
    world.deaf = Some(Doubt::Silent { since, how: "time-out".to_owned() });
    let plan = world.plan();
    assert!(matches!(&plan.steps[..], [Step::Terminate(owned)] if *owned.id() == machine), "{plan:?}");
    world.act(&plan.steps[0]);
    world.deaf = None;
    world.settle();
    assert_ne!(world.machines[0].id, machine);
    assert_eq!(world.databases[0].id, database);
}

#[test]
fn a_machine_whose_agent_never_comes_up_is_tried_again_a_bounded_number_of_times() {
    let mut world = World::new();
    for step in &world.plan().steps {
        world.act(step);
    }
    let mut launches = 0;
    for _ in 0..200 {
        for step in &world.plan().steps {
            launches += usize::from(step.kind() == "launch-machine");
            world.act(step);
        }
        for machine in &mut world.machines {
            machine.state = MachineState::Pending;
            machine.agent = None;
        }
        world.agent = None;
        world.now = Timestamp(world.now.0 + 10_000);
    }
    // 2,000 s: an attempt lasts 10 minutes, and the third one is the last for a while.
    assert_eq!(launches, 3);
    let failed = |waiting: &Waiting| matches!(waiting, Waiting::Failed(failure) if failure.stage == "machine");
    assert!(world.plan().waiting.iter().any(failed), "{:?}", world.plan());
    world.now = Timestamp(world.now.0 + 1_000_000);
    assert!(world.plan().steps.iter().any(|step| step.kind() == "launch-machine"), "{:?}", world.plan());
}

#[test]
fn a_machine_that_has_worked_is_kept_while_its_address_cannot_be_read() {
    let mut world = World::new();
    world.settle();
    world.now = Timestamp(world.now.0 + 3_600_000);
    world.machines[0].agent = None;
    world.agent = None;
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{plan:?}");
    assert!(plan.waiting.contains(&Waiting::Machine), "{plan:?}");
}
