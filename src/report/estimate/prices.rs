//! What AWS asks for things, as far as it is written down here.
//!
//! Guarantees: what is not in a table has no price; nothing is guessed from a name.
//! Must not know: what is wanted, and how much of it.

/// Where the prices are from. Assumed, as those of infra/README.md are: they were not compared with a bill.
pub const SOURCE: &str = "assumed: list prices of us-east-1 in the middle of 2026 \
                          (aws.amazon.com/ec2/pricing/on-demand, /ebs/pricing, /rds/postgresql/pricing, /rds/aurora/pricing, \
                          /vpc/pricing, \
                          /elasticloadbalancing/pricing, /kms/pricing, /secrets-manager/pricing)";

/// The Region that they are of.
pub const REGION: &str = "us-east-1";

/// Hours in a month, as AWS counts them.
pub const MONTH: f64 = 730.0;

/// A machine: Linux, on demand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachinePrice {
    /// Dollars an hour, while it runs.
    pub hour: f64,
    /// What counts against the quota.
    pub vcpus: u32,
}

/// The price of an instance type.
pub fn machine(name: &str) -> Option<MachinePrice> {
    MACHINES.iter().find(|(known, ..)| *known == name).map(|&(_, vcpus, hour)| MachinePrice { hour, vcpus })
}

/// Dollars an hour for an instance of that class, PostgreSQL in one zone, while it runs.
pub fn database(class: &str) -> Option<f64> {
    DATABASES.iter().find(|(known, _)| *known == class).map(|&(_, hour)| hour)
}

/// Dollars an hour for a volume (gp3) of so many GiB.
pub fn volume(gib: u32) -> f64 {
    f64::from(gib) * 0.08 / MONTH
}

/// Dollars an hour for a database's storage (gp3, one zone) of so many GiB.
pub fn storage(gib: u32) -> f64 {
    f64::from(gib) * 0.115 / MONTH
}

/// A NAT gateway, an hour.
pub const NAT_GATEWAY: f64 = 0.045;
/// An interface endpoint in one zone, an hour.
pub const ENDPOINT: f64 = 0.01;
/// An application load balancer, an hour.
pub const LOAD_BALANCER: f64 = 0.0225;
/// A public IPv4 address, an hour.
pub const ADDRESS: f64 = 0.005;
/// A key of KMS, a month.
pub const KEY: f64 = 1.0;
/// A secret, a month.
pub const SECRET: f64 = 0.4;

/// Instance type, vCPUs, dollars an hour.
const MACHINES: &[(&str, u32, f64)] = &[
    ("t4g.nano", 2, 0.0042),
    ("t4g.micro", 2, 0.0084),
    ("t4g.small", 2, 0.0168),
    ("t4g.medium", 2, 0.0336),
    ("t4g.large", 2, 0.0672),
    ("t4g.xlarge", 4, 0.1344),
    ("t4g.2xlarge", 8, 0.2688),
    ("t3.nano", 2, 0.0052),
    ("t3.micro", 2, 0.0104),
    ("t3.small", 2, 0.0208),
    ("t3.medium", 2, 0.0416),
    ("t3.large", 2, 0.0832),
    ("t3.xlarge", 4, 0.1664),
    ("t3.2xlarge", 8, 0.3328),
    ("t3a.nano", 2, 0.0047),
    ("t3a.micro", 2, 0.0094),
    ("t3a.small", 2, 0.0188),
    ("t3a.medium", 2, 0.0376),
    ("t3a.large", 2, 0.0752),
    ("t3a.xlarge", 4, 0.1504),
    ("t3a.2xlarge", 8, 0.3008),
    ("m6g.medium", 1, 0.0385),
    ("m6g.large", 2, 0.077),
    ("m6g.xlarge", 4, 0.154),
    ("m6g.2xlarge", 8, 0.308),
    ("m7g.medium", 1, 0.0408),
    ("m7g.large", 2, 0.0816),
    ("m7g.xlarge", 4, 0.1632),
    ("m7g.2xlarge", 8, 0.3264),
    ("m6i.large", 2, 0.096),
    ("m6i.xlarge", 4, 0.192),
    ("m6i.2xlarge", 8, 0.384),
    ("m7i.large", 2, 0.1008),
    ("m7i.xlarge", 4, 0.2016),
    ("m7i.2xlarge", 8, 0.4032),
    ("c6g.medium", 1, 0.034),
    ("c6g.large", 2, 0.068),
    ("c6g.xlarge", 4, 0.136),
    ("c6g.2xlarge", 8, 0.272),
    ("c7g.medium", 1, 0.0363),
    ("c7g.large", 2, 0.0725),
    ("c7g.xlarge", 4, 0.145),
    ("c7g.2xlarge", 8, 0.29),
    ("c6i.large", 2, 0.085),
    ("c6i.xlarge", 4, 0.17),
    ("c6i.2xlarge", 8, 0.34),
];

/// Class of a database instance, dollars an hour.
#[expect(clippy::approx_constant, reason = "a price that happens to look like one")]
const DATABASES: &[(&str, f64)] = &[
    ("db.t4g.micro", 0.016),
    ("db.t4g.small", 0.032),
    ("db.t4g.medium", 0.065),
    ("db.t4g.large", 0.129),
    ("db.t4g.xlarge", 0.258),
    ("db.t3.micro", 0.018),
    ("db.t3.small", 0.036),
    ("db.t3.medium", 0.072),
    ("db.t3.large", 0.145),
    ("db.m5.large", 0.178),
    ("db.m5.xlarge", 0.356),
    ("db.m6g.large", 0.159),
    ("db.m6g.xlarge", 0.318),
    ("db.r6g.large", 0.225),
    ("db.r6g.xlarge", 0.45),
    (SERVERLESS, 4.0 * CAPACITY_UNIT),
];

/// In a cluster on Aurora: at the most that the provider lets it take, which is four capacity units.
pub const SERVERLESS: &str = "db.serverless";
/// A capacity unit of Aurora Serverless v2, Standard, an hour.
const CAPACITY_UNIT: f64 = 0.12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_in_the_table_has_no_price() {
        assert_eq!(machine("t4g.small"), Some(MachinePrice { hour: 0.0168, vcpus: 2 }));
        for name in ["t4g", "t4g.smal", "t4g.small ", "T4G.SMALL", "", "x9.large"] {
            assert_eq!(machine(name), None, "{name}");
        }
        assert_eq!((database("db.t4g.micro"), database("t4g.micro")), (Some(0.016), None));
    }

    #[test]
    fn a_name_stands_in_its_table_once_and_twice_the_size_costs_twice_as_much() {
        let mut names: Vec<&str> = MACHINES.iter().map(|row| row.0).chain(DATABASES.iter().map(|row| row.0)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        let sizes = ["nano", "micro", "small", "medium", "large", "xlarge", "2xlarge"];
        for (name, price) in MACHINES.iter().map(|row| (row.0, row.2)).chain(DATABASES.iter().copied()) {
            let (family, size) = name.rsplit_once('.').unwrap();
            let next = sizes.iter().position(|known| *known == size).map(|at| at + 1).and_then(|at| sizes.get(at));
            let bigger = next.map(|size| format!("{family}.{size}"));
            let bigger = bigger.and_then(|name| machine(&name).map(|found| found.hour).or_else(|| database(&name)));
            if let Some(bigger) = bigger {
                assert!((bigger / price - 2.0).abs() < 0.05, "{name} and the next size: {price}, {bigger}");
            }
        }
    }
}
