//! Which golden snapshot a database is restored from.
//!
//! Guarantees: only one that was masked and verified, is ours, and is young enough; the newest of them. What is refused is
//! named with its reason.
//! Must not know: how snapshots are listed.

use std::time::Duration;

use super::tags::{INSTALL, Pairs, SANITIZED};
use crate::domain::id::InstallId;
use crate::domain::time::Timestamp;

/// What the operator allows for a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// What the snapshots' names begin with.
    pub prefix: String,
    /// The oldest that may be used.
    pub max_age: Duration,
    /// What databases restored from it run as.
    pub class: String,
    /// The database in it.
    pub database: String,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: String,
    /// When it was complete.
    pub made_at: Option<Timestamp>,
    /// Whether it can be restored now.
    pub is_available: bool,
    /// Whether its storage is encrypted: what is restored from it is then too.
    pub is_encrypted: bool,
    /// `postgres` and the like.
    pub engine: String,
    /// The engine's version.
    pub version: String,
    /// Its tags.
    pub tags: Pairs,
}

impl Snapshot {
    /// The engine's major version.
    pub fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or_default()
    }
}

/// The newest that may be used, or why none may.
pub fn choose<'a>(
    all: &'a [Snapshot],
    golden: &Golden,
    install: &InstallId,
    now: Timestamp,
) -> Result<&'a Snapshot, String> {
    let named: Vec<&Snapshot> = all.iter().filter(|snapshot| snapshot.id.starts_with(&golden.prefix)).collect();
    let refused = |snapshot: &Snapshot| {
        if snapshot.tags.get(SANITIZED) != Some("true") {
            Some(format!("lacks the tag {SANITIZED}=true: nobody has masked and verified it"))
        } else if snapshot.tags.get(INSTALL) != Some(install.as_str()) {
            Some(format!("lacks the tag {INSTALL}={install}"))
        } else if !snapshot.is_encrypted {
            Some("is not encrypted".to_owned())
        } else if !snapshot.is_available {
            Some("cannot be restored yet".to_owned())
        } else {
            match snapshot.made_at.map(|made_at| now.since(made_at)) {
                Some(age) if age <= golden.max_age => None,
                Some(age) => Some(format!(
                    "is {} days old, and at most {} are allowed",
                    age.as_secs() / 86_400,
                    golden.max_age.as_secs() / 86_400
                )),
                None => Some("says not when it was made".to_owned()),
            }
        }
    };
    if let Some(newest) = named.iter().filter(|one| refused(one).is_none()).max_by_key(|one| (one.made_at, &one.id)) {
        return Ok(newest);
    }
    let newest = named.iter().max_by_key(|one| (one.made_at, &one.id));
    Err(match newest.and_then(|newest| Some((newest, refused(newest)?))) {
        Some((newest, why)) => format!("the newest snapshot {} {why}; let infra/golden.yaml make another", newest.id),
        None => {
            format!("there is no snapshot whose name begins with {}; let infra/golden.yaml make one", golden.prefix)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn golden() -> Golden {
        Golden {
            prefix: "kagero-golden-shop-".to_owned(),
            max_age: Duration::from_hours(14 * 24),
            class: "db.t4g.micro".to_owned(),
            database: "shop".to_owned(),
        }
    }

    fn snapshot(day: u64) -> Snapshot {
        let tags = [(Some(SANITIZED), Some("true")), (Some(INSTALL), Some("dev"))];
        Snapshot {
            id: format!("kagero-golden-shop-{day:02}"),
            made_at: Some(NOW.minus(Duration::from_hours(24 * day))),
            is_available: true,
            is_encrypted: true,
            engine: "postgres".to_owned(),
            version: "16.4".to_owned(),
            tags: tags.into_iter().collect(),
        }
    }

    fn chosen(all: &[Snapshot]) -> Result<String, String> {
        choose(all, &golden(), &InstallId::parse("dev").unwrap(), NOW).map(|found| found.id.clone())
    }

    fn without(key: &str) -> Snapshot {
        let mut spoilt = snapshot(0);
        spoilt.tags.0.retain(|(known, _)| known != key);
        spoilt
    }

    #[test]
    fn the_newest_that_passes_is_chosen() {
        assert_eq!(chosen(&[snapshot(3), snapshot(1), snapshot(14)]), Ok("kagero-golden-shop-01".to_owned()));
        assert_eq!(snapshot(1).major(), "16");
        for spoilt in [
            without(SANITIZED),
            without(INSTALL),
            Snapshot { is_encrypted: false, ..snapshot(0) },
            Snapshot { is_available: false, ..snapshot(0) },
            Snapshot { made_at: None, ..snapshot(0) },
            Snapshot { id: "production-nightly".to_owned(), ..snapshot(0) },
            Snapshot { tags: [(Some(SANITIZED), Some("false"))].into_iter().collect(), ..snapshot(0) },
        ] {
            assert_eq!(chosen(&[snapshot(2), spoilt.clone()]), Ok("kagero-golden-shop-02".to_owned()), "{spoilt:?}");
            let refused = chosen(std::slice::from_ref(&spoilt)).unwrap_err();
            assert!(refused.contains("infra/golden.yaml"), "{refused}");
        }
    }

    #[test]
    fn what_is_too_old_is_refused_with_its_age() {
        assert_eq!(chosen(&[snapshot(14)]), Ok("kagero-golden-shop-14".to_owned()));
        let refused = chosen(&[snapshot(30), snapshot(15)]).unwrap_err();
        assert!(refused.contains("kagero-golden-shop-15 is 15 days old, and at most 14"), "{refused}");
        assert!(chosen(&[]).unwrap_err().contains("no snapshot whose name begins with kagero-golden-shop-"));
    }
}
