//! What EC2 says of an instance, in our own words.
//!
//! Guarantees: an instance that cannot be understood is told as a doubt, not left out.
//! Must not know: why it was asked for.

use aws_sdk_ec2::types::{GroupIdentifier, Instance, InstanceNetworkInterface, InstanceStateName};

use super::machines::AGENT_PORT;
use super::pairs::of_ec2;
use super::rules::network::Network;
use super::rules::tags::NAME;
use crate::domain::id::MachineId;
use crate::domain::network::Placement;
use crate::domain::observed::{Location, Machine, MachineState};
use crate::domain::time::Timestamp;

/// Its life; `None` once it has ended: EC2 shows instances for about an hour after that.
pub fn life(instance: &Instance) -> Option<MachineState> {
    match instance.state().and_then(|state| state.name()) {
        Some(InstanceStateName::Running) => Some(MachineState::Running),
        Some(InstanceStateName::Stopped) => Some(MachineState::Stopped),
        Some(InstanceStateName::ShuttingDown) => Some(MachineState::Stopping),
        Some(InstanceStateName::Terminated) => None,
        // One that is on its way down can be neither used nor started yet. A state that is not known is not absence.
        _ => Some(MachineState::Pending),
    }
}

/// The machine that it is; `None` if it has no id, which no listing should show.
pub fn described(
    instance: &Instance,
    owner: &str,
    region: &str,
    network: &Network,
    read_at: Timestamp,
) -> Option<Machine> {
    let id = MachineId::parse(instance.instance_id()?).ok()?;
    let state = life(instance)?;
    let tags = of_ec2(instance.tags());
    let address = instance.private_ip_address().filter(|_| state == MachineState::Running);
    let zone = instance.placement().and_then(|placement| placement.availability_zone());
    let placement = zone.zip(instance.instance_type());
    let interfaces = instance.network_interfaces().iter().flat_map(InstanceNetworkInterface::groups);
    let groups = instance.security_groups().iter().chain(interfaces);
    Some(Machine {
        name: tags.get(NAME).unwrap_or(id.as_str()).to_owned(),
        id,
        tags: tags.owner(),
        location: Location {
            account: owner.to_owned(),
            region: region.to_owned(),
            network: instance.vpc_id().unwrap_or_default().to_owned(),
        },
        state,
        agent: address.map(|address| format!("{address}:{AGENT_PORT}")),
        placement: placement.map(|(zone, kind)| Placement { zone: zone.to_owned(), kind: kind.as_str().to_owned() }),
        slot: network.slot_of(groups.filter_map(GroupIdentifier::group_id)),
        read_at,
    })
}
