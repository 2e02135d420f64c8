//! Which golden data a database is restored from.
//!
//! Guarantees: only what was masked and verified, is ours, encrypted, and young enough; of snapshots the newest. What is
//! refused is named with its reason.
//! Must not know: how it is found.

use std::time::Duration;

use super::tags::{INSTALL, Pairs, SANITIZED, SANITIZED_AT};
use crate::domain::id::InstallId;
use crate::domain::time::Timestamp;

/// What the operator allows for a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// Where the data is.
    pub source: Source,
    /// The oldest that may be used.
    pub max_age: Duration,
    /// What databases restored from it run as.
    pub class: String,
    /// The database in it.
    pub database: String,
}

/// Where golden data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the newest of the snapshots whose names begin so.
    Snapshots(String),
    /// At the newest point in time of the instance of that name.
    Instance(String),
    /// In the cluster of that name, as it is now.
    Cluster(String),
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
    /// GiB of storage that whatever is restored from it takes.
    pub storage: u64,
    /// Its tags.
    pub tags: Pairs,
}

/// What stands and is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `instance` or `cluster`.
    pub kind: &'static str,
    /// Its name.
    pub id: String,
    /// The newest point in time that it can be restored to; `None`: it has no backups.
    pub until: Option<Timestamp>,
    /// Whether its storage is encrypted: what is restored from it is then too.
    pub is_encrypted: bool,
    /// `postgres` and the like.
    pub engine: String,
    /// The engine's version.
    pub version: String,
    /// Its tags.
    pub tags: Pairs,
}

/// What a version's parameters are called by.
pub fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// Why nothing may be restored from what is like that, if so.
fn objection(
    (tags, is_encrypted, data_of): (&Pairs, bool, Option<Timestamp>),
    golden: &Golden,
    install: &InstallId,
    now: Timestamp,
) -> Option<String> {
    if tags.get(SANITIZED) != Some("true") {
        Some(format!("lacks the tag {SANITIZED}=true: nobody has masked and verified it"))
    } else if tags.get(INSTALL) != Some(install.as_str()) {
        Some(format!("lacks the tag {INSTALL}={install}"))
    } else if is_encrypted {
        match data_of.map(|data_of| now.since(data_of)) {
            Some(age) if age <= golden.max_age => None,
            Some(age) => Some(format!(
                "is {} days old, and at most {} are allowed",
                age.as_secs() / 86_400,
                golden.max_age.as_secs() / 86_400
            )),
            None => Some("says not of when its data is".to_owned()),
        }
    } else {
        Some("is not encrypted".to_owned())
    }
}

/// The newest snapshot that may be used, or why none may.
pub fn choose<'a>(
    all: &'a [Snapshot],
    prefix: &str,
    golden: &Golden,
    install: &InstallId,
    now: Timestamp,
) -> Result<&'a Snapshot, String> {
    let named: Vec<&Snapshot> = all.iter().filter(|snapshot| snapshot.id.starts_with(prefix)).collect();
    let refused = |snapshot: &Snapshot| {
        let known = (&snapshot.tags, snapshot.is_encrypted, snapshot.made_at);
        let unready = (!snapshot.is_available).then(|| "cannot be restored yet".to_owned());
        unready.or_else(|| objection(known, golden, install, now))
    };
    if let Some(newest) = named.iter().filter(|one| refused(one).is_none()).max_by_key(|one| (one.made_at, &one.id)) {
        return Ok(newest);
    }
    let newest = named.iter().max_by_key(|one| (one.made_at, &one.id));
    Err(match newest.and_then(|newest| Some((newest, refused(newest)?))) {
        Some((newest, why)) => format!("the newest snapshot {} {why}; let infra/golden.yaml make another", newest.id),
        None => format!("there is no snapshot whose name begins with {prefix}; let infra/golden.yaml make one"),
    })
}

/// Whether an instance or a cluster may be restored from, or why not.
pub fn may_restore(found: &Standing, golden: &Golden, install: &InstallId, now: Timestamp) -> Result<(), String> {
    let Standing { kind, id, .. } = found;
    let Some(until) = found.until else {
        return Err(format!("the {kind} {id} has no backups: set its backup retention to a day or more"));
    };
    // Its tags say what it is now; what is restored is what it was a few minutes ago.
    let sanitized_at = found.tags.get(SANITIZED_AT).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match sanitized_at.map(|at| Timestamp(at.as_millisecond())) {
        Some(since) if since <= until => {}
        Some(_) => {
            return Err(format!(
                "the {kind} {id} was masked later than the newest point in time that it can be restored to; that follows \
                 within minutes"
            ));
        }
        None => {
            return Err(format!(
                "the {kind} {id} lacks the tag {SANITIZED_AT} with the time since when it is masked, such as \
                 2026-11-27T20:45:00Z"
            ));
        }
    }
    match objection((&found.tags, found.is_encrypted, found.until), golden, install, now) {
        None => Ok(()),
        Some(why) => Err(format!("the {kind} {id} {why}; mask, verify and tag it, as infra/golden.yaml does")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    /// Long before that.
    const AT: &str = "2026-11-01T00:00:00Z";
    const PREFIX: &str = "kagero-golden-shop-";

    fn golden() -> Golden {
        Golden {
            source: Source::Snapshots(PREFIX.to_owned()),
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
            storage: 20,
            tags: tags.into_iter().collect(),
        }
    }

    fn chosen(all: &[Snapshot]) -> Result<String, String> {
        choose(all, PREFIX, &golden(), &InstallId::parse("dev").unwrap(), NOW).map(|found| found.id.clone())
    }

    fn without(key: &str) -> Snapshot {
        let mut spoilt = snapshot(0);
        spoilt.tags.0.retain(|(known, _)| known != key);
        spoilt
    }

    #[test]
    fn the_newest_that_passes_is_chosen() {
        assert_eq!(chosen(&[snapshot(3), snapshot(1), snapshot(14)]), Ok("kagero-golden-shop-01".to_owned()));
        assert_eq!(major(&snapshot(1).version), "16");
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

    #[test]
    fn an_instance_is_held_to_the_same_and_to_having_backups() {
        let instance = |day: u64| {
            let Snapshot { is_encrypted, engine, version, mut tags, made_at, .. } = snapshot(day);
            tags.0.push((SANITIZED_AT.to_owned(), AT.to_owned()));
            let (kind, id) = ("instance", "kagero-golden-shop".to_owned());
            Standing { kind, id, until: made_at, is_encrypted, engine, version, tags }
        };
        let install = InstallId::parse("dev").unwrap();
        let judged = |found: &Standing| may_restore(found, &golden(), &install, NOW);
        assert_eq!(judged(&instance(14)), Ok(()));
        let untagged = |key: &str| {
            let mut spoilt = instance(0);
            spoilt.tags.0.retain(|(known, _)| known != key);
            spoilt
        };
        let masked = |at: &str| {
            let mut later = untagged(SANITIZED_AT);
            later.tags.0.push((SANITIZED_AT.to_owned(), at.to_owned()));
            later
        };
        assert_eq!(judged(&masked("2027-01-15T08:00:00Z")), Ok(()), "to the second");
        for (spoilt, why) in [
            (untagged(SANITIZED), "masked"),
            (untagged(INSTALL), INSTALL),
            (untagged(SANITIZED_AT), SANITIZED_AT),
            (masked("yesterday"), SANITIZED_AT),
            (masked("2027-01-15T08:00:01Z"), "within minutes"),
            (Standing { is_encrypted: false, ..instance(0) }, "encrypted"),
            (Standing { until: None, ..instance(0) }, "backup retention"),
            (instance(15), "15 days old"),
        ] {
            let refused = judged(&spoilt).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
