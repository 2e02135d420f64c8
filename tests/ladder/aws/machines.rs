//! Machines' lives on moto: born as they should be, never doubled, found on every page, gone without a rest.

use std::collections::BTreeSet;

use base64::Engine as _;
use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::aws::{MachineSettings, Roles};
use kagero::cloud::{ErrorClass, Machines as _};
use kagero::domain::id::{Generation, MachineId};
use kagero::domain::observed::{Machine, MachineState};
use kagero::domain::owned::{Claim, Owned, attempt_in_name, prove_machine};
use kagero::domain::policy::AllowList;

use super::counterpart::{ACCOUNT, REGION, Staging, Wish, install};
use super::databases::in_turn;
use super::strict::Fault;

pub(super) fn prove(staging: &Staging, machine: &Machine) -> Owned<MachineId> {
    let tags = machine.tags.clone().unwrap();
    let install = install();
    let claim = Claim { install: &install, uid: &tags.uid, generation: Generation::FIRST };
    let allow = AllowList {
        accounts: vec![ACCOUNT.to_owned()],
        regions: vec![REGION.to_owned()],
        networks: vec![staging.vpc.clone()],
    };
    prove_machine(machine, claim, &allow).unwrap()
}

/// How many instances moto has that live.
pub(super) async fn living(staging: &Staging) -> usize {
    let all = staging.ec2.describe_instances().send().await.unwrap();
    let instances = all.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances);
    instances.filter(|one| one.state().unwrap().name().unwrap().as_str() != "terminated").count()
}

#[tokio::test]
async fn a_machine_is_born_as_it_should_be_and_goes_without_a_rest() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let wish = Wish::of(1, &network);
    let id = machines.launch(wish.birth()).await.unwrap();

    let raw = staging.ec2.describe_instances().instance_ids(id.as_str()).send().await.unwrap();
    let raw = raw.reservations()[0].instances()[0].clone();
    assert_eq!(raw.public_ip_address(), None, "no public address");
    let metadata = raw.metadata_options().unwrap();
    assert_eq!(metadata.http_tokens().unwrap().as_str(), "required");
    assert_eq!(metadata.http_put_response_hop_limit(), Some(1));
    let groups: BTreeSet<&str> =
        raw.network_interfaces()[0].groups().iter().filter_map(|group| group.group_id()).collect();
    assert_eq!(groups, BTreeSet::from([network.app_group.as_str(), wish.slot.as_str()]));
    assert_eq!(raw.subnet_id(), Some(network.subnets[&wish.placement.zone].id.as_str()));
    let volume = raw.block_device_mappings()[0].ebs().unwrap().volume_id().unwrap();
    let volume = staging.ec2.describe_volumes().volume_ids(volume).send().await.unwrap().volumes()[0].clone();
    assert_eq!(volume.encrypted(), Some(true));
    for (what, tags) in [("the instance", raw.tags()), ("its volume", volume.tags())] {
        let managed = tags.iter().any(|tag| tag.key() == Some("kagero:managed") && tag.value() == Some("true"));
        assert!(managed, "{what}: {tags:?}");
    }
    let protection = staging.ec2.describe_instance_attribute().instance_id(id.as_str());
    let protection = protection.attribute(aws_sdk_ec2::types::InstanceAttributeName::DisableApiTermination);
    let protection = protection.send().await.unwrap();
    assert_ne!(protection.disable_api_termination().unwrap().value(), Some(true));

    let listing = machines.list().await.unwrap();
    let [machine] = &listing.items[..] else { panic!("{listing:?}") };
    assert!(listing.complete);
    assert_eq!((&machine.id, machine.tags.as_ref()), (&id, Some(&wish.tags)));
    assert_eq!((machine.placement.as_ref(), machine.slot.as_ref()), (Some(&wish.placement), Some(&wish.slot)));
    assert_eq!((machine.location.account.as_str(), machine.location.network.as_str()), (ACCOUNT, staging.vpc.as_str()));
    assert_eq!(attempt_in_name(&machine.name, &wish.tags), Some(1));
    assert_eq!(machine.state, MachineState::Running);
    assert!(machine.agent.as_ref().unwrap().ends_with(":7780"), "{machine:?}");
    let interfaces = machines.interfaces().await.unwrap();
    assert_eq!(interfaces.items.iter().map(|one| &one.slot).collect::<Vec<_>>(), [&wish.slot]);

    machines.terminate(&prove(&staging, machine)).await.unwrap();
    assert_eq!(machines.list().await.unwrap().items, [], "what has ended is not listed");
    machines.terminate(&prove(&staging, machine)).await.unwrap();
    assert_eq!((living(&staging).await, staging.strict.count("TerminateInstances")), (0, 1));
}

#[tokio::test]
async fn what_a_machine_is_told_at_birth_holds_no_secret() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let wish = Wish::of(1, &network);
    let id = machines.launch(wish.birth()).await.unwrap();
    let told = staging.ec2.describe_instance_attribute().instance_id(id.as_str());
    let told = told.attribute(aws_sdk_ec2::types::InstanceAttributeName::UserData).send().await.unwrap();
    let told = told.user_data().unwrap().value().unwrap().to_owned();
    let told = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(told).unwrap()).unwrap();
    assert!(told.starts_with("#!/bin/bash\n"), "{told}");
    assert!(told.contains(wish.tags.uid.as_str()) && told.contains("\"port\": 7780"), "{told}");
    let secret = hex::encode([7; 32]);
    let base64 = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    assert!(!told.contains(&secret) && !told.contains(&base64));
    assert!(!told.contains("{{") && !told.contains("{%") && !told.contains("readable"), "{told}");
}

#[tokio::test]
async fn a_question_is_asked_again_without_a_second_machine() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let wish = Wish::of(1, &network);
    staging.strict.next("RunInstances", Fault::Lost);
    let lost = machines.launch(wish.birth()).await.unwrap_err();
    assert_eq!(lost.class, ErrorClass::Ambiguous, "{lost}");
    let id = machines.launch(wish.birth()).await.unwrap();
    assert_eq!(machines.launch(wish.birth()).await.unwrap(), id);

    // The operator has changed the image meanwhile: the token is known with another question.
    let images = staging.ec2.describe_images().send().await.unwrap();
    let other = images.images().iter().filter_map(|image| image.image_id()).find(|id| *id != staging.ami).unwrap();
    let changed = staging.machines_of(MachineSettings { ami: other.to_owned(), ..staging.settings() }).await;
    assert_eq!(changed.launch(wish.birth()).await.unwrap(), id);
    assert_eq!(living(&staging).await, 1);
}

#[tokio::test]
async fn a_machine_that_was_terminated_does_not_come_back_under_its_token() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let wish = Wish::of(1, &network);
    machines.launch(wish.birth()).await.unwrap();
    let machine = machines.list().await.unwrap().items.remove(0);
    machines.terminate(&prove(&staging, &machine)).await.unwrap();
    let refused = machines.launch(wish.birth()).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
    let next = machines.launch(Wish::attempt(1, 2, &network).birth()).await.unwrap();
    assert_ne!(next, machine.id);
    assert_eq!(living(&staging).await, 1);
}

#[tokio::test]
async fn every_page_of_the_fleet_is_read() {
    let staging = Staging::start().await;
    let network = staging.network().await;
    let mut asked = BTreeSet::new();
    for pr in 1..=12 {
        // Of its own, so that its share of the account's launches is not used up.
        let machines = staging.machines().await;
        asked.insert(in_turn(async || machines.launch(Wish::of(pr, &network).birth()).await).await);
    }
    let machines = staging.machines().await;
    let before = staging.strict.count("DescribeInstances");
    let listing = machines.list().await.unwrap();
    assert!(listing.complete);
    assert_eq!(listing.items.iter().map(|machine| machine.id.clone()).collect::<BTreeSet<_>>(), asked);
    assert!(staging.strict.count("DescribeInstances") - before >= 3, "pages of five");
    assert_eq!(machines.interfaces().await.unwrap().items.len(), 12);

    // A page that fails leaves nothing to conclude from.
    staging.strict.next("DescribeInstances", Fault::Html);
    assert_eq!(machines.list().await.unwrap_err().class, ErrorClass::Retry);
}

#[tokio::test]
async fn what_was_changed_by_hand_is_not_terminated() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    machines.launch(Wish::of(1, &network).birth()).await.unwrap();
    let machine = machines.list().await.unwrap().items.remove(0);
    let owned = prove(&staging, &machine);
    let tag = aws_sdk_ec2::types::Tag::builder().key("kagero:uid").value("0123456789abcdef0123").build();
    staging.ec2.create_tags().resources(machine.id.as_str()).tags(tag).send().await.unwrap();
    let refused = machines.terminate(&owned).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
    assert!(refused.why.contains("by hand"), "{refused}");
    assert_eq!((living(&staging).await, staging.strict.count("TerminateInstances")), (1, 0));

    let old = Machine { read_at: SystemClock.now().minus(std::time::Duration::from_secs(61)), ..machine };
    let stale = machines.terminate(&prove(&staging, &old)).await.unwrap_err();
    assert_eq!(stale.class, ErrorClass::Retry, "{stale}");
}

#[tokio::test]
async fn several_are_terminated_by_one_call_and_one_that_cannot_be_keeps_no_other() {
    let staging = Staging::start().await;
    let network = staging.network().await;
    let mut made = Vec::new();
    for pr in 1..=5 {
        // Of its own, so that its share of the account's launches is not used up.
        let machines = staging.machines().await;
        made.push(in_turn(async || machines.launch(Wish::of(pr, &network).birth()).await).await);
    }
    let machines = staging.machines().await;
    let proofs = async || -> Vec<_> {
        machines.list().await.unwrap().items.iter().map(|machine| prove(&staging, machine)).collect()
    };
    let protect = async |on: bool| {
        let attribute = aws_sdk_ec2::types::AttributeBooleanValue::builder().value(on).build();
        let change = staging.ec2.modify_instance_attribute().instance_id(made[1].as_str());
        change.disable_api_termination(attribute).send().await.unwrap();
    };
    protect(true).await;
    let all = proofs().await;
    let done = machines.terminate_all(&all).await;
    let refused: Vec<_> = all.iter().zip(&done).filter(|(_, done)| done.is_err()).collect();
    let [(kept, Err(error))] = &refused[..] else { panic!("{done:?}") };
    assert_eq!((kept.id(), error.class), (&made[1], ErrorClass::Denied), "{error}");
    assert_eq!(living(&staging).await, 1);
    let calls = staging.strict.count("TerminateInstances");
    assert!((2..=6).contains(&calls), "together, then those that were left by themselves: {calls}");

    protect(false).await;
    machines.launch(Wish::attempt(1, 2, &network).birth()).await.unwrap();
    let two = proofs().await;
    let (before, looks) = (staging.strict.count("TerminateInstances"), staging.strict.count("DescribeInstances"));
    assert_eq!(machines.terminate_all(&two).await, [Ok(()), Ok(())]);
    assert_eq!(staging.strict.count("DescribeInstances") - looks, 1, "one look at both");
    assert_eq!((living(&staging).await, staging.strict.count("TerminateInstances") - before), (0, 1));
    assert_eq!(machines.terminate_all(&two).await, [Ok(()), Ok(())], "gone is done");
    assert_eq!(staging.strict.count("TerminateInstances") - before, 1);
}

#[tokio::test]
async fn what_is_on_a_later_page_of_the_last_look_is_not_taken_for_gone() {
    let staging = Staging::start().await;
    let network = staging.network().await;
    for pr in 1..=5 {
        // Of its own, so that its share of the account's launches is not used up.
        let machines = staging.machines().await;
        in_turn(async || machines.launch(Wish::of(pr, &network).birth()).await).await;
    }
    let machines = staging.machines().await;
    let all: Vec<_> = machines.list().await.unwrap().items.iter().map(|machine| prove(&staging, machine)).collect();
    staging.strict.page_at_most(2);
    assert!(machines.terminate_all(&all).await.iter().all(Result::is_ok));
    assert_eq!((all.len(), living(&staging).await), (5, 0));
}

#[tokio::test]
async fn a_machine_that_was_stopped_is_started_again() {
    let staging = Staging::start().await;
    let (machines, network) = (staging.machines().await, staging.network().await);
    let wish = Wish::of(1, &network);
    let id = machines.launch(wish.birth()).await.unwrap();
    let owned = prove(&staging, &machines.list().await.unwrap().items[0]);
    machines.stop(&owned).await.unwrap();
    machines.stop(&owned).await.unwrap();
    let stopped = machines.list().await.unwrap().items.remove(0);
    assert_eq!((stopped.state, stopped.agent), (MachineState::Stopped, None));
    assert_eq!(machines.launch(wish.birth()).await.unwrap(), id, "it is young, and was stopped");
    let running = machines.list().await.unwrap().items.remove(0);
    assert_eq!(running.state, MachineState::Running);
    in_turn(async || machines.stop(&prove(&staging, &running)).await).await;
    // An instance that came long ago: the answer to the first question is known by its token.
    let later = staging.machines_later(std::time::Duration::from_mins(5)).await;
    assert_eq!(later.launch(wish.birth()).await.unwrap(), id);
    assert_eq!(machines.list().await.unwrap().items[0].state, MachineState::Running);
    assert_eq!(later.launch(wish.birth()).await.unwrap(), id, "starting what is up changes nothing");
}

#[tokio::test]
async fn whoever_looks_makes_and_removes_does_so_by_a_role_of_its_own() {
    let staging = Staging::start().await;
    let roles = Roles::Separate { account: ACCOUNT.to_owned(), install: install() };
    let (machines, network) = (staging.machines_by(&roles).await, staging.network().await);
    let wish = Wish::of(1, &network);
    machines.launch(wish.birth()).await.unwrap();
    let machine = machines.list().await.unwrap().items.remove(0);
    machines.stop(&prove(&staging, &machine)).await.unwrap();
    machines.terminate(&prove(&staging, &machine)).await.unwrap();
    for (action, role) in [
        ("RunInstances", "kagero-dev-provisioner"),
        ("StopInstances", "kagero-dev-provisioner"),
        ("TerminateInstances", "kagero-dev-reaper"),
    ] {
        assert_eq!(staging.strict.by(action), [role], "{action}");
    }
    assert!(staging.strict.by("DescribeInstances").contains(&"kagero-dev-reader".to_owned()));
}
