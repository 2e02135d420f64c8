//! Whether the ground that we stand on is staging's: decided once, before anything is made or taken away.
//!
//! One of our two founding accidents was a cron job with the right script and the wrong account. Credentials are what
//! decides where calls arrive, so it is the credentials' account that is looked at, and what lives in the network.
//!
//! Guarantees: a pure function; whatever could not be read is an objection, never a yes.
//! Must not know: how facts are read.

use super::tags::{INSTALL, Pairs};
use crate::domain::id::InstallId;

/// Keys of tags that say what something is for, in lower case.
const PURPOSES: [&str; 7] = ["env", "environment", "stage", "tier", "deployment", "app-env", "app_env"];

/// What the operator has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// This installation.
    pub install: InstallId,
    /// The only account.
    pub account: String,
    /// The only network.
    pub vpc: String,
    /// Words that stand for production, in lower case.
    pub production_words: Vec<String>,
}

/// What there is; an error says why it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The account that the credentials belong to.
    pub account: Result<String, String>,
    /// Its names.
    pub aliases: Result<Vec<String>, String>,
    /// The network's tags; `None` if there is no such network.
    pub vpc: Result<Option<Pairs>, String>,
    /// What lives in the network.
    pub residents: Result<Vec<Resident>, String>,
}

/// Something that lives in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its id.
    pub id: String,
    /// Its tags.
    pub tags: Pairs,
}

/// Why this is not staging's ground.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Something could not be read.
    #[error("{what} could not be read, so nobody can tell whether this is staging: {why}")]
    Unread {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The credentials are another account's.
    #[error(
        "the credentials belong to account {found}, but compute.account is {expected}; use those of the staging account"
    )]
    OtherAccount {
        /// Whose they are.
        found: String,
        /// Whose they should be.
        expected: String,
    },
    /// The account's name says production.
    #[error("the account is called {alias}, which says {word:?}; previews belong into an account of their own")]
    ProductionAccount {
        /// Its name.
        alias: String,
        /// The word.
        word: String,
    },
    /// There is no such network.
    #[error("there is no network {vpc} in this account and Region; deploy infra/network.yaml, and set compute.vpc")]
    NoNetwork {
        /// Its id.
        vpc: String,
    },
    /// The network is not this installation's.
    #[error("{vpc} carries {}, not {INSTALL}={expected}; deploy infra/network.yaml for this installation", describe(found.as_deref()))]
    OtherInstall {
        /// The network.
        vpc: String,
        /// Whose it says that it is.
        found: Option<String>,
        /// Ours.
        expected: InstallId,
    },
    /// Something in the network, or the network itself, says production.
    #[error(
        "{id} in the network carries the tag {key}={value}; staging stands apart from production: choose another network"
    )]
    Production {
        /// Its id.
        id: String,
        /// The tag.
        key: String,
        /// Its value.
        value: String,
    },
}

fn describe(found: Option<&str>) -> String {
    found.map_or_else(|| format!("no tag {INSTALL}"), |found| format!("{INSTALL}={found}"))
}

/// Everything that speaks against this ground; nothing if it is staging's.
pub fn judge(facts: &Facts, expected: &Expected) -> Vec<Objection> {
    let mut objections = Vec::new();
    let unread = |what, why: &String| Objection::Unread { what, why: why.clone() };
    match &facts.account {
        Err(why) => objections.push(unread("the account", why)),
        Ok(found) if *found != expected.account => {
            objections.push(Objection::OtherAccount { found: found.clone(), expected: expected.account.clone() });
        }
        Ok(_) => {}
    }
    match &facts.aliases {
        Err(why) => objections.push(unread("the account's alias", why)),
        Ok(aliases) => {
            let named = aliases.iter().filter_map(|alias| Some((alias, said(alias, &expected.production_words)?)));
            objections.extend(named.map(|(alias, word)| Objection::ProductionAccount { alias: alias.clone(), word }));
        }
    }
    match &facts.vpc {
        Err(why) => objections.push(unread("the network", why)),
        Ok(None) => objections.push(Objection::NoNetwork { vpc: expected.vpc.clone() }),
        Ok(Some(tags)) => {
            let found = tags.get(INSTALL);
            if found != Some(expected.install.as_str()) {
                objections.push(Objection::OtherInstall {
                    vpc: expected.vpc.clone(),
                    found: found.map(str::to_owned),
                    expected: expected.install.clone(),
                });
            }
            objections.extend(production(&expected.vpc, tags, expected));
        }
    }
    match &facts.residents {
        Err(why) => objections.push(unread("what lives in the network", why)),
        Ok(residents) => {
            objections
                .extend(residents.iter().filter_map(|resident| production(&resident.id, &resident.tags, expected)));
        }
    }
    objections
}

fn production(id: &str, tags: &Pairs, expected: &Expected) -> Option<Objection> {
    let says = |(key, value): &&(String, String)| {
        PURPOSES.contains(&key.to_lowercase().as_str()) && said(value, &expected.production_words).is_some()
    };
    let (key, value) = tags.0.iter().find(says)?;
    Some(Objection::Production { id: id.to_owned(), key: key.clone(), value: value.clone() })
}

/// The word of those that stands in a text, as a word of its own.
fn said(text: &str, words: &[String]) -> Option<String> {
    let text = text.to_lowercase();
    let parts: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    words.iter().find(|word| parts.contains(&word.as_str())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Pairs {
        all.iter().map(|(key, value)| (Some(*key), Some(*value))).collect()
    }

    fn expected() -> Expected {
        Expected {
            install: InstallId::parse("dev").unwrap(),
            account: "111111111111".to_owned(),
            vpc: "vpc-1".to_owned(),
            production_words: ["prod", "production", "live"].map(str::to_owned).to_vec(),
        }
    }

    fn good() -> Facts {
        Facts {
            account: Ok("111111111111".to_owned()),
            aliases: Ok(vec!["acme-staging".to_owned()]),
            vpc: Ok(Some(pairs(&[(INSTALL, "dev"), ("Environment", "staging")]))),
            residents: Ok(vec![
                Resident { id: "i-1".to_owned(), tags: pairs(&[("env", "staging"), ("Name", "production-like data")]) },
                Resident { id: "db-1".to_owned(), tags: Pairs::default() },
            ]),
        }
    }

    #[test]
    fn staging_is_staging() {
        assert_eq!(judge(&good(), &expected()), []);
        let nameless = Facts { aliases: Ok(Vec::new()), ..good() };
        assert_eq!(judge(&nameless, &expected()), []);
        // A word within a word says nothing.
        let delivery = Facts { aliases: Ok(vec!["acme-delivery-products".to_owned()]), ..good() };
        assert_eq!(judge(&delivery, &expected()), []);
    }

    #[test]
    fn another_account_is_refused() {
        let facts = Facts { account: Ok("222222222222".to_owned()), ..good() };
        let other = Objection::OtherAccount { found: "222222222222".to_owned(), expected: "111111111111".to_owned() };
        assert_eq!(judge(&facts, &expected()), [other]);
    }

    #[test]
    fn an_account_with_a_production_word_is_refused() {
        for alias in ["acme-prod", "PROD", "acme.production", "live-2", "acme_live"] {
            let facts = Facts { aliases: Ok(vec!["acme".to_owned(), alias.to_owned()]), ..good() };
            let found = judge(&facts, &expected());
            assert!(
                matches!(&found[..], [Objection::ProductionAccount { alias: named, .. }] if named == alias),
                "{alias}"
            );
        }
    }

    #[test]
    fn a_network_that_is_missing_or_another_installations_is_refused() {
        let facts = Facts { vpc: Ok(None), ..good() };
        assert_eq!(judge(&facts, &expected()), [Objection::NoNetwork { vpc: "vpc-1".to_owned() }]);
        for (tags, found) in [(Pairs::default(), None), (pairs(&[(INSTALL, "other")]), Some("other".to_owned()))] {
            let facts = Facts { vpc: Ok(Some(tags)), ..good() };
            let install = expected().install;
            let other = Objection::OtherInstall { vpc: "vpc-1".to_owned(), found, expected: install };
            let told = other.to_string();
            assert!(told.contains("kagero:install=other") || told.contains("no tag kagero:install"), "{told}");
            assert_eq!(judge(&facts, &expected()), [other]);
        }
    }

    #[test]
    fn anything_of_productions_in_the_network_is_refused() {
        let production = |id: &str, key: &str, value: &str| Objection::Production {
            id: id.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        for key in PURPOSES {
            let shown = key.to_uppercase();
            let resident = Resident { id: "i-9".to_owned(), tags: pairs(&[("Name", "x"), (&shown, "Production")]) };
            let facts = Facts { residents: Ok(vec![resident]), ..good() };
            assert_eq!(judge(&facts, &expected()), [production("i-9", &shown, "Production")]);
        }
        let facts = Facts { vpc: Ok(Some(pairs(&[(INSTALL, "dev"), ("env", "live")]))), ..good() };
        assert_eq!(judge(&facts, &expected()), [production("vpc-1", "env", "live")]);
    }

    #[test]
    fn what_cannot_be_read_is_no_yes() {
        let no = || "denied".to_owned();
        for (facts, what) in [
            (Facts { account: Err(no()), ..good() }, "the account"),
            (Facts { aliases: Err(no()), ..good() }, "the account's alias"),
            (Facts { vpc: Err(no()), ..good() }, "the network"),
            (Facts { residents: Err(no()), ..good() }, "what lives in the network"),
        ] {
            assert_eq!(judge(&facts, &expected()), [Objection::Unread { what, why: no() }]);
        }
    }

    #[test]
    fn all_objections_come_at_once() {
        let facts = Facts { account: Ok("2".to_owned()), vpc: Ok(None), ..good() };
        assert_eq!(judge(&facts, &expected()).len(), 2);
    }
}
