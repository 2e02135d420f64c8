//! Names on a server: of an environment's database, its roles, and the roles and databases of goldens.
//!
//! Guarantees: every name fits PostgreSQL's 63 bytes and needs no knowledge beyond its parts; names of
//! two installations differ.
//! Must not know: what exists.

use crate::domain::id::{InstallId, SeedName, digest};
use crate::domain::owned::name_prefix;

/// PostgreSQL cuts longer names off, silently.
pub const LONGEST: usize = 63;

/// The name of an environment's database: this installation's prefix, then lower-case letters, digits and
/// underscores.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseName(String);

/// A name that is not one of this installation's databases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} cannot be a database of this installation: expected {prefix} and then lower-case letters, digits \
     or underscores, at most {LONGEST} in all, other than the names of goldens"
)]
pub struct NotOurs {
    given: String,
    prefix: String,
}

impl DatabaseName {
    /// Accepts a name that this installation may give to an environment's database.
    pub fn parse(install: &InstallId, text: &str) -> Result<Self, NotOurs> {
        let prefix = name_prefix(install, '_');
        let rest = text.strip_prefix(&prefix).unwrap_or("");
        let valid = text.len() <= LONGEST
            && !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && !is_reserved(install, text);
        if valid { Ok(Self(text.to_owned())) } else { Err(NotOurs { given: text.to_owned(), prefix }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The roles that go with it.
    pub fn roles(&self) -> RoleNames {
        RoleNames { owner: self.0.clone(), application: self.suffixed("_app"), migration: self.suffixed("_mig") }
    }

    /// Where the plain form would not fit, the tail of the name becomes a digest: eight digits and a
    /// separator, so that two long names never share a role.
    fn suffixed(&self, suffix: &str) -> String {
        if self.0.len() + suffix.len() <= LONGEST {
            return format!("{}{suffix}", self.0);
        }
        let tail = digest(&["role", &self.0], 12);
        let head = &self.0[..LONGEST - suffix.len() - tail.len() - 1];
        format!("{head}_{tail}{suffix}")
    }
}

impl std::fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The roles of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleNames {
    /// Owns the database itself and cannot log in: whoever owns a database can drop it.
    pub owner: String,
    /// What the application logs in as.
    pub application: String,
    /// What migrations log in as; owns the schema.
    pub migration: String,
}

impl RoleNames {
    /// All three.
    pub fn all(&self) -> [&str; 3] {
        [&self.owner, &self.application, &self.migration]
    }
}

/// Owns the golden databases of an installation; cannot log in.
pub fn golden_role(install: &InstallId) -> String {
    format!("{}golden", name_prefix(install, '_'))
}

/// Loads seeds, and owns what is in a golden. Apart from [`golden_role`], because handing its objects over
/// in a clone would otherwise hand over the golden databases as well.
pub fn seed_role(install: &InstallId) -> String {
    format!("{}seed", name_prefix(install, '_'))
}

/// Names of one golden: while it is loaded, and once it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenName {
    /// Complete, frozen, closed.
    pub complete: String,
    /// Half-made; never cloned from.
    pub loading: String,
}

impl GoldenName {
    /// `<prefix>golden_<seed>_<8 digits>`, the seed's name cut where it would not fit.
    pub fn derive(install: &InstallId, seed: &SeedName, content: &str) -> Self {
        let tail = digest(&["golden", seed.as_str(), content], 8);
        let mut head = format!("{}_{}", golden_role(install), seed.as_str().replace('-', "_"));
        head.truncate(LONGEST - "_loading".len() - tail.len() - 1);
        let complete = format!("{head}_{tail}");
        Self { loading: format!("{complete}_loading"), complete }
    }
}

/// Whether a name is one that goldens and their roles use.
pub fn is_reserved(install: &InstallId, name: &str) -> bool {
    let golden = golden_role(install);
    name == golden || name == seed_role(install) || name.starts_with(&format!("{golden}_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(name: &str) -> InstallId {
        InstallId::parse(name).unwrap()
    }

    #[test]
    fn role_names_always_fit_and_stay_distinct() {
        let long = install("abcdefghijklmnopqrst");
        let uid = "0123456789abcdef0123";
        for tail in ["g1", "g1_01234567", "g1234_01234567"] {
            let one = DatabaseName::parse(&long, &format!("kagero_{long}_{uid}_{tail}")).unwrap();
            let other =
                DatabaseName::parse(&long, &format!("kagero_{long}_{uid}_{}8", &tail[..tail.len() - 1])).unwrap();
            for (a, b) in one.roles().all().iter().zip(other.roles().all()) {
                assert!(a.len() <= LONGEST, "{a}");
                assert_ne!(*a, b);
            }
        }
        let short = DatabaseName::parse(&install("dev"), &format!("kagero_dev_{uid}_g1")).unwrap();
        assert_eq!(short.roles().application, format!("kagero_dev_{uid}_g1_app"));
    }

    #[test]
    fn foreign_and_reserved_names_are_refused() {
        let dev = install("dev");
        for bad in [
            "postgres",
            "kagero_dev_",
            "kagero_other_0123",
            "kagero_dev_a\"b",
            "kagero_dev_A",
            "kagero_dev_golden",
            "kagero_dev_golden_shop_01234567",
            "kagero_dev_seed",
            &format!("kagero_dev_{}", "a".repeat(60)),
        ] {
            assert!(DatabaseName::parse(&dev, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn golden_names_fit_and_follow_the_content() {
        let long = install("abcdefghijklmnopqrst");
        let seed = SeedName::parse("a-seed-name-of-thirty-letters-").unwrap();
        let one = GoldenName::derive(&long, &seed, "x");
        assert!(one.loading.len() <= LONGEST, "{}", one.loading);
        assert!(is_reserved(&long, &one.complete) && is_reserved(&long, &one.loading));
        assert_ne!(one, GoldenName::derive(&long, &seed, "y"));
    }
}
