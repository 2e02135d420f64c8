//! Owner tags as AWS keeps them.
//!
//! Guarantees: what is written is read back; anything less than all of it is nobody's.
//! Must not know: what carries them, how the SDKs show them.

use crate::domain::id::{EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId};
use crate::domain::observed::Tags;

/// On everything that Kagero makes, and on nothing that its infrastructure is made of.
pub const MANAGED: &str = "kagero:managed";
/// The installation.
pub const INSTALL: &str = "kagero:install";
/// The environment.
pub const UID: &str = "kagero:uid";
/// The pull request: `<repository id>/<number>`.
pub const KEY: &str = "kagero:key";
/// The generation.
pub const GENERATION: &str = "kagero:generation";
/// The seed that a database was restored from.
pub const SEED: &str = "kagero:seed";
/// What people see in the console.
pub const NAME: &str = "Name";
/// What a subnet or a security group is for (infra/network.yaml).
pub const ROLE: &str = "kagero:role";
/// The number of a slot (infra/network.yaml).
pub const SLOT: &str = "kagero:slot";
/// Whether a snapshot was masked and verified (infra/golden.yaml).
pub const SANITIZED: &str = "kagero:sanitized";

/// Since when a golden instance is masked and verified, as 2026-11-27T20:45:00Z: what it can be restored to may be older.
pub const SANITIZED_AT: &str = "kagero:sanitized-at";

/// All tags that something is born with.
pub fn written(tags: &Tags, name: &str) -> Vec<(&'static str, String)> {
    let key = format!("{}/{}", tags.key.repo.0, tags.key.pr.0);
    vec![
        (MANAGED, "true".to_owned()),
        (INSTALL, tags.install.to_string()),
        (UID, tags.uid.to_string()),
        (KEY, key),
        (GENERATION, tags.generation.to_string()),
        (NAME, name.to_owned()),
    ]
}

/// Pairs of a key and a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

impl Pairs {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whom it belongs to, if all of it stands there.
    pub fn owner(&self) -> Option<Tags> {
        let (repo, pr) = self.get(KEY)?.split_once('/')?;
        let managed = self.get(MANAGED)? == "true";
        managed.then_some(Tags {
            install: InstallId::parse(self.get(INSTALL)?).ok()?,
            uid: EnvUid::parse(self.get(UID)?).ok()?,
            key: EnvKey { repo: RepoId(repo.parse().ok()?), pr: PrNumber(pr.parse().ok()?) },
            generation: Generation(self.get(GENERATION)?.parse().ok()?),
        })
    }
}

impl<'a> FromIterator<(Option<&'a str>, Option<&'a str>)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>>(pairs: I) -> Self {
        let named = pairs.into_iter().filter_map(|(key, value)| Some((key?, value.unwrap_or_default())));
        Self(named.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> (Tags, Pairs) {
        let install = InstallId::parse("dev").unwrap();
        let key = EnvKey { repo: RepoId(42), pr: PrNumber(7) };
        let tags = Tags { uid: EnvUid::derive(&install, key), install, key, generation: Generation(3) };
        let written = written(&tags, "kagero-dev-x").into_iter().map(|(key, value)| (key.to_owned(), value));
        (tags, Pairs(written.collect()))
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_less() {
        let (tags, pairs) = pairs();
        assert_eq!(pairs.owner(), Some(tags));
        for missing in [MANAGED, INSTALL, UID, KEY, GENERATION] {
            let mut fewer = pairs.clone();
            fewer.0.retain(|(key, _)| key != missing);
            assert_eq!(fewer.owner(), None, "without {missing}");
        }
        for (key, value) in
            [(MANAGED, "false"), (KEY, "42"), (KEY, "42/x"), (UID, "x"), (GENERATION, "-1"), (INSTALL, "")]
        {
            let mut garbled = pairs.clone();
            garbled.0.iter_mut().filter(|(known, _)| known == key).for_each(|(_, old)| value.clone_into(old));
            assert_eq!(garbled.owner(), None, "{key}={value}");
        }
    }
}
