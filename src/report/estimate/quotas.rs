//! Which of AWS's quotas environments use up, and what to ask for.
//!
//! Guarantees: a number that cannot be known is none; what is asked for is more than what is needed.
//! Must not know: prices, and what an account's quotas are by now.

use serde::Serialize;

use super::{Outline, fixed, prices};

/// A quota of AWS.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quota {
    /// As AWS calls it, and what it counts where that is not plain.
    pub name: &'static str,
    /// The service that it belongs to.
    pub service: &'static str,
    /// Its code.
    pub code: &'static str,
    /// For all environments at once and what stands there; `None`: not known.
    pub needed: Option<u64>,
    /// What an account has that has never asked.
    pub default: u64,
    /// What to ask for; `None`: nothing.
    pub ask: Option<u64>,
}

/// Network interfaces of what infra/ makes: load balancer, NAT, endpoints, controller, store. Assumed.
const INTERFACES: u64 = 20;
/// Security groups of the network.
const GROUPS: u64 = 9;

/// All that grow with environments, and those of the network that are small.
pub fn quotas(outline: &Outline) -> Vec<Quota> {
    let environments = u64::from(outline.environments);
    let on_rds = if outline.classes.is_empty() { 0 } else { environments };
    // While a golden snapshot is made, its source is an instance too.
    let (instances, making) = (on_rds + 1, u64::from(on_rds > 0));
    let gib = environments * u64::from(outline.volume) + u64::from(fixed::CONTROLLER_VOLUME);
    // The golden cluster stands there all the time.
    let clusters = if outline.clusters { environments + 1 } else { 0 };
    let with_storage = if outline.volumes { on_rds + making } else { 0 };
    let storage = with_storage * u64::from(outline.storage) + u64::from(fixed::STORE_STORAGE);
    vec![
        quota(
            "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances, in vCPUs",
            "ec2",
            "L-1216C47A",
            vcpus(outline),
            5,
        ),
        quota("Storage for General Purpose SSD (gp3) volumes, in TiB", "ebs", "L-7A658B76", gib.div_ceil(1024), 50),
        quota("DB instances", "rds", "L-7B6409FD", instances + making, 40),
        quota("DB clusters", "rds", "L-952B80B9", clusters, 40),
        quota("Total storage for all DB instances, in GiB", "rds", "L-7ADDB58A", storage, 100_000),
        quota("Network interfaces per Region", "vpc", "L-DF5E4CA3", environments + on_rds + INTERFACES, 5_000),
        quota("VPC security groups per Region", "vpc", "L-E79EC296", environments + GROUPS, 2_500),
        quota("NAT gateways per Availability Zone", "vpc", "L-FE5A380F", 1, 5),
        quota("EC2-VPC Elastic IPs", "ec2", "L-0263D0A3", 1, 5),
        quota("Interface VPC endpoints per VPC", "vpc", "L-29B6F2EB", 6, 50),
    ]
}

fn quota(
    name: &'static str,
    service: &'static str,
    code: &'static str,
    needed: impl Into<Option<u64>>,
    default: u64,
) -> Quota {
    let needed = needed.into();
    Quota { name, service, code, needed, default, ask: needed.filter(|needed| *needed > default).map(with_room) }
}

/// Of the largest type: where there is no room for one, the next is taken.
fn vcpus(outline: &Outline) -> Option<u64> {
    let controller = prices::machine(fixed::CONTROLLER)?.vcpus;
    let each: Option<Vec<u32>> = outline.instance_types.iter().map(|name| Some(prices::machine(name)?.vcpus)).collect();
    let most = each?.into_iter().max()?;
    Some(u64::from(outline.environments) * u64::from(most) + u64::from(controller))
}

/// A tenth more, for what replaces what is not yet gone, rounded up to ten.
fn with_room(needed: u64) -> u64 {
    (needed + needed.div_ceil(10)).next_multiple_of(10)
}
