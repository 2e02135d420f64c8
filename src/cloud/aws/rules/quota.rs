//! How many environments the account's quotas leave room for.
//!
//! Guarantees: a tenth of every quota is left alone, for what is still there while its successor comes; what others use counts
//! as gone.
//! Must not know: how quotas are read.

use std::fmt;

/// What AWS counts, of what every environment takes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// vCPUs of running on-demand instances of the standard families.
    Vcpus,
    /// Instances on RDS.
    Databases,
    /// GiB of instances' storage on RDS. That of clusters does not count.
    Storage,
    /// Clusters on RDS.
    Clusters,
    /// Network interfaces.
    Interfaces,
}

impl Counted {
    /// The service and the code under which Service Quotas has it.
    pub fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::Vcpus => ("ec2", "L-1216C47A"),
            Self::Databases => ("rds", "L-7B6409FD"),
            Self::Storage => ("rds", "L-7ADDB58A"),
            Self::Clusters => ("rds", "L-952B80B9"),
            Self::Interfaces => ("vpc", "L-DF5E4CA3"),
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vcpus => "vCPUs of running on-demand standard instances",
            Self::Databases => "DB instances",
            Self::Storage => "GiB of storage of DB instances",
            Self::Clusters => "DB clusters",
            Self::Interfaces => "network interfaces",
        })
    }
}

/// A quota, and who uses how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// What is counted.
    pub counted: Counted,
    /// How much the account may have at once.
    pub allowed: u64,
    /// How much others than this installation's environments have.
    pub others: u64,
    /// How much one environment takes.
    pub each: u64,
}

impl Quota {
    /// How many environments it leaves room for.
    pub fn room(&self) -> u32 {
        let left = self.allowed.saturating_sub(self.allowed.div_ceil(10)).saturating_sub(self.others);
        left.checked_div(self.each).map_or(u32::MAX, |room| u32::try_from(room).unwrap_or(u32::MAX))
    }

    /// What it has to be raised to, for that many environments; `None`: it is enough.
    pub fn ask(&self, environments: u32) -> Option<u64> {
        let needed = self.others.saturating_add(self.each.saturating_mul(u64::from(environments)));
        // Nine tenths of it have to be enough.
        (self.room() < environments).then(|| needed.saturating_mul(10).div_ceil(9).next_multiple_of(10))
    }
}

/// How many environments all of them leave room for, and which leaves the least.
pub fn tightest(quotas: &[Quota]) -> Option<(u32, Quota)> {
    quotas.iter().map(|quota| (quota.room(), *quota)).min_by_key(|(room, _)| *room)
}

/// Whether an instance type counts as standard ("Amazon EC2 On-Demand instance limits": A, C, D, H, I, M, R, T, Z). High-memory
/// types (`u-...`), and families such as `inf` and `trn`, have quotas of their own.
pub fn is_standard(kind: &str) -> bool {
    let family: String = kind.chars().take_while(char::is_ascii_alphabetic).collect();
    let first = family.chars().next().unwrap_or_default();
    "acdhimrtz".contains(first) && !matches!(family.as_str(), "inf" | "trn" | "dl" | "hpc" | "mac")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(allowed: u64, others: u64, each: u64) -> Quota {
        Quota { counted: Counted::Vcpus, allowed, others, each }
    }

    /// Codes as Service Quotas shows them (AWS general reference, "Amazon EC2 endpoints and quotas" and those of RDS and VPC).
    #[test]
    fn what_is_counted_has_a_name_and_the_code_that_aws_knows() {
        for (counted, code, name) in [
            (Counted::Vcpus, ("ec2", "L-1216C47A"), "vCPUs of running on-demand standard instances"),
            (Counted::Databases, ("rds", "L-7B6409FD"), "DB instances"),
            (Counted::Storage, ("rds", "L-7ADDB58A"), "GiB of storage of DB instances"),
            (Counted::Clusters, ("rds", "L-952B80B9"), "DB clusters"),
            (Counted::Interfaces, ("vpc", "L-DF5E4CA3"), "network interfaces"),
        ] {
            assert_eq!((counted.code(), counted.to_string().as_str()), (code, name));
        }
    }

    #[test]
    fn a_tenth_and_what_others_have_are_left_alone() {
        for (allowed, others, each, room) in [
            (100, 0, 2, 45),
            (100, 50, 2, 20),
            (100, 90, 2, 0),
            (100, 500, 2, 0),
            (5, 0, 2, 2),
            (1, 0, 1, 0),
            (0, 0, 2, 0),
            (101, 0, 1, 90),
        ] {
            assert_eq!(quota(allowed, others, each).room(), room, "{allowed} {others} {each}");
        }
        assert_eq!(quota(5, 5, 0).room(), u32::MAX, "what environments take none of does not bind them");
    }

    #[test]
    fn what_is_asked_for_is_enough() {
        for (others, each, environments) in [(0, 2, 20), (7, 2, 20), (5, 1, 1), (3, 16, 199)] {
            let asked = quota(5, others, each).ask(environments).unwrap();
            assert!(quota(asked, others, each).room() >= environments, "{asked}");
            assert_eq!(quota(asked, others, each).ask(environments), None);
        }
        assert_eq!(quota(100, 0, 2).ask(45), None);
        assert_eq!(quota(100, 0, 2).ask(46), Some(110));
    }

    #[test]
    fn the_tightest_quota_is_the_one_that_counts() {
        let all = [quota(100, 0, 2), quota(40, 0, 1), quota(5_000, 20, 2)];
        assert_eq!(tightest(&all), Some((36, all[1])));
        assert_eq!(tightest(&[]), None);
    }

    #[test]
    fn only_standard_families_count() {
        for kind in
            ["t4g.small", "m7i.large", "c5.xlarge", "r6g.medium", "z1d.large", "i4i.large", "d3.xlarge", "h1.2xlarge"]
        {
            assert!(is_standard(kind), "{kind}");
        }
        for kind in [
            "p5.48xlarge",
            "g5.xlarge",
            "inf2.xlarge",
            "trn1.2xlarge",
            "u-6tb1.metal",
            "x2gd.medium",
            "vt1.3xlarge",
            "dl1.24xlarge",
            "f1.2xlarge",
            "mac2.metal",
            "hpc7g.4xlarge",
            "",
        ] {
            assert!(!is_standard(kind), "{kind}");
        }
    }
}
