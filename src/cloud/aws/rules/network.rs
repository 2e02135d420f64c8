//! The staging network as it was found: where machines go, and what keeps them apart.
//!
//! Guarantees: found by tags of `infra/network.yaml`, not by names; what is lacking is named, all of it at once.
//! Must not know: how it was listed.

use std::collections::BTreeMap;

use super::tags::{INSTALL, Pairs, ROLE, SLOT};
use crate::domain::id::{InstallId, SlotId};
use crate::domain::network::{Placement, Placements};

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its Availability Zone.
    pub zone: String,
    /// Addresses that are free in it.
    pub free: u32,
    /// Its tags.
    pub tags: Pairs,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// Its tags.
    pub tags: Pairs,
}

/// An image that machines boot from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What its root volume is called.
    pub root_device: String,
    /// Whether it can be used.
    pub is_available: bool,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Subnets of the network.
    pub subnets: Vec<Subnet>,
    /// Security groups of the network.
    pub groups: Vec<Group>,
    /// The image; `None` if there is none of that id.
    pub image: Option<Image>,
    /// Where which instance types are offered: zone and type.
    pub offered: Vec<Placement>,
}

/// The network that machines are put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The subnet for machines in each zone, with its free addresses.
    pub subnets: BTreeMap<String, Subnet>,
    /// The group that every machine is a member of.
    pub app_group: String,
    /// The slots, by number.
    pub slots: Vec<SlotId>,
    /// What the image's root volume is called.
    pub root_device: String,
    /// Where machines may be put.
    pub placements: Placements,
}

/// What is lacking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// No subnet for machines.
    #[error("the network has no subnet with the tag {ROLE}=app; deploy infra/network.yaml")]
    Subnets,
    /// No group for machines.
    #[error(
        "the network has {0} security groups with the tag {ROLE}=app, and one is needed; deploy infra/network.yaml"
    )]
    AppGroup(usize),
    /// No slots.
    #[error("the network has no security group with the tag {SLOT}; deploy infra/network.yaml with at least one slot")]
    Slots,
    /// Two groups have one slot's number.
    #[error("two security groups have the tag {SLOT}={0}; each slot is one group")]
    DoubleSlot(String),
    /// No image.
    #[error("there is no image {0} that can be used; set compute.ami to one of this Region")]
    Image(String),
    /// An instance type that is offered nowhere.
    #[error("the instance type {0} is offered in none of the zones {1}; choose another in compute.instance_types")]
    InstanceType(String, String),
}

impl Network {
    /// Takes together what belongs to an installation, or says all that is lacking.
    pub fn assemble(found: &Found, install: &InstallId, ami: &str, kinds: &[String]) -> Result<Self, Vec<Lack>> {
        let mut lacks = Vec::new();
        let is_ours = |tags: &Pairs| tags.get(INSTALL) == Some(install.as_str());
        let app = found.subnets.iter().filter(|subnet| is_ours(&subnet.tags) && subnet.tags.get(ROLE) == Some("app"));
        let subnets: BTreeMap<String, Subnet> = app.map(|subnet| (subnet.zone.clone(), subnet.clone())).collect();
        if subnets.is_empty() {
            lacks.push(Lack::Subnets);
        }
        let groups = || found.groups.iter().filter(|group| is_ours(&group.tags));
        let app_groups: Vec<&Group> = groups().filter(|group| group.tags.get(ROLE) == Some("app")).collect();
        if app_groups.len() != 1 {
            lacks.push(Lack::AppGroup(app_groups.len()));
        }
        let mut slots: BTreeMap<(usize, String), SlotId> = BTreeMap::new();
        for group in groups() {
            let (Some(number), Ok(slot)) = (group.tags.get(SLOT), SlotId::parse(group.id.clone())) else { continue };
            // By number, however many digits it has.
            if slots.insert((number.len(), number.to_owned()), slot).is_some() {
                lacks.push(Lack::DoubleSlot(number.to_owned()));
            }
        }
        if slots.is_empty() {
            lacks.push(Lack::Slots);
        }
        let image = found.image.as_ref().filter(|image| image.is_available);
        if image.is_none() {
            lacks.push(Lack::Image(ami.to_owned()));
        }
        let zones: Vec<String> = subnets.keys().cloned().collect();
        for kind in kinds {
            let offered = found.offered.iter().any(|offer| offer.kind == *kind && zones.contains(&offer.zone));
            if !offered {
                lacks.push(Lack::InstanceType(kind.clone(), zones.join(", ")));
            }
        }
        match (&app_groups[..], image) {
            ([app_group], Some(image)) if lacks.is_empty() => Ok(Self {
                subnets,
                app_group: app_group.id.clone(),
                slots: slots.into_values().collect(),
                root_device: image.root_device.clone(),
                placements: Placements { zones, kinds: kinds.to_vec() },
            }),
            _ => Err(lacks),
        }
    }

    /// The slot among the groups that something is a member of.
    pub fn slot_of<'a>(&self, groups: impl IntoIterator<Item = &'a str>) -> Option<SlotId> {
        let mut groups = groups.into_iter();
        groups.find_map(|group| self.slots.iter().find(|slot| slot.as_str() == group).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Pairs {
        all.iter().map(|(key, value)| (Some(*key), Some(*value))).collect()
    }

    fn subnet(id: &str, zone: &str, install: &str, role: &str) -> Subnet {
        let tags = pairs(&[(INSTALL, install), (ROLE, role)]);
        Subnet { id: id.to_owned(), zone: zone.to_owned(), free: 8_000, tags }
    }

    fn group(id: &str, key: &str, value: &str) -> Group {
        Group { id: id.to_owned(), tags: pairs(&[(INSTALL, "dev"), (key, value)]) }
    }

    fn found() -> Found {
        let offer = |zone: &str, kind: &str| Placement { zone: zone.to_owned(), kind: kind.to_owned() };
        Found {
            subnets: vec![
                subnet("subnet-b", "b", "dev", "app"),
                subnet("subnet-a", "a", "dev", "app"),
                subnet("subnet-d", "a", "dev", "db"),
                subnet("subnet-x", "c", "other", "app"),
            ],
            groups: vec![
                group("sg-app", ROLE, "app"),
                group("sg-lb", ROLE, "lb"),
                group("sg-10", SLOT, "10"),
                group("sg-2", SLOT, "2"),
                Group { id: "sg-other".to_owned(), tags: pairs(&[(INSTALL, "other"), (SLOT, "1")]) },
            ],
            image: Some(Image { root_device: "/dev/xvda".to_owned(), is_available: true }),
            offered: vec![offer("a", "t4g.small"), offer("b", "t4g.small"), offer("c", "m7g.large")],
        }
    }

    fn assemble(found: &Found, kinds: &[&str]) -> Result<Network, Vec<Lack>> {
        let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Network::assemble(found, &InstallId::parse("dev").unwrap(), "ami-1", &kinds)
    }

    #[test]
    fn what_is_this_installations_is_found_by_its_tags() {
        let network = assemble(&found(), &["t4g.small"]).unwrap();
        assert_eq!(
            network.subnets.values().map(|subnet| subnet.id.as_str()).collect::<Vec<_>>(),
            ["subnet-a", "subnet-b"]
        );
        assert_eq!(network.app_group, "sg-app");
        assert_eq!(network.slots.iter().map(SlotId::as_str).collect::<Vec<_>>(), ["sg-2", "sg-10"]);
        assert_eq!(network.placements.count(), 2);
        assert_eq!(network.slot_of(["sg-app", "sg-10"]), network.slots.get(1).cloned());
        assert_eq!(network.slot_of(["sg-app", "sg-other"]), None);
    }

    #[test]
    fn all_that_is_lacking_is_named_at_once() {
        let nothing = Found { subnets: Vec::new(), groups: Vec::new(), image: None, offered: Vec::new() };
        let lacks = assemble(&nothing, &["t4g.small"]).unwrap_err();
        assert_eq!(lacks.len(), 5, "{lacks:?}");
        let lacks = assemble(&found(), &["t4g.small", "m7g.large"]).unwrap_err();
        assert_eq!(lacks, [Lack::InstanceType("m7g.large".to_owned(), "a, b".to_owned())], "offered elsewhere only");
        let mut double = found();
        double.groups.push(group("sg-3", SLOT, "2"));
        assert_eq!(assemble(&double, &["t4g.small"]).unwrap_err(), [Lack::DoubleSlot("2".to_owned())]);
        let mut double = found();
        double.groups.push(group("sg-app2", ROLE, "app"));
        assert_eq!(assemble(&double, &["t4g.small"]).unwrap_err(), [Lack::AppGroup(2)]);
        let image = Some(Image { root_device: "/dev/xvda".to_owned(), is_available: false });
        let gone = Found { image, ..found() };
        assert_eq!(assemble(&gone, &["t4g.small"]).unwrap_err(), [Lack::Image("ami-1".to_owned())]);
    }
}
