//! What stands there whether or not a pull request is open: what infra/ makes with its defaults.
//!
//! Guarantees: the sum is that of infra/README.md.
//! Must not know: environments.

use super::Line;
use super::prices::{self, ADDRESS, ENDPOINT, KEY, LOAD_BALANCER, MONTH, NAT_GATEWAY, SECRET};

/// The machine of a controller.
pub const CONTROLLER: &str = "t4g.small";
/// GiB of its volume.
pub const CONTROLLER_VOLUME: u32 = 20;
/// The instance that holds the records.
pub const STORE: &str = "db.t4g.micro";
/// GiB of its storage.
pub const STORE_STORAGE: u32 = 20;

/// Each part. It never sleeps.
pub fn lines() -> Vec<Line> {
    let whole = |part, what: &str, hour| Line { part, what: what.to_owned(), running: hour, asleep: hour };
    let controller = prices::machine(CONTROLLER).map(|price| price.hour + prices::volume(CONTROLLER_VOLUME));
    let store = prices::database(STORE).map(|hour| hour + prices::storage(STORE_STORAGE));
    vec![
        whole("network", "1 NAT gateway", Some(NAT_GATEWAY)),
        whole("network", "6 interface endpoints in 2 zones", Some(12.0 * ENDPOINT)),
        whole("network", "3 public addresses", Some(3.0 * ADDRESS)),
        whole("controller", "1 load balancer", Some(LOAD_BALANCER)),
        whole("controller", &format!("1 {CONTROLLER} with {CONTROLLER_VOLUME} GiB"), controller),
        whole("controller", &format!("store: {STORE} with {STORE_STORAGE} GiB"), store),
        whole("identity", "1 key, 3 secrets", Some((KEY + 3.0 * SECRET) / MONTH)),
    ]
}
