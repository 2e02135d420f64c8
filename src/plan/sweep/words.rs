//! Verdicts on what was said on GitHub: comments that no record names, deployments that nobody ends any more.
//!
//! Guarantees: what does not name the environment of the pull request that it stands on is not even listed; what a
//! record names, or what a question may be on its way for, is of use.
//! Must not know: how GitHub is asked.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Court, Inventory, Reason, Ruling, Wanted, is_open};
use crate::domain::guard::Guard;
use crate::domain::id::{EnvKey, EnvUid, InstallId, PrNumber, RepoId, ResidueId};
use crate::domain::ledger::{Ledger, Standing};
use crate::domain::mark::Subject;
use crate::domain::observed::{Location, Residue, ResidueState};
use crate::domain::pull::RepoRef;
use crate::domain::time::Timestamp;
use crate::domain::words::{Comment, Deployment, is_over, uid_in};

/// What a record makes of something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It names it.
    Named,
    /// It may come to name it: what was asked for has not been answered yet. The text says what.
    Expected(String),
    /// It does not name it, or there is none; the text says which.
    Unnamed(String),
}

/// What a record makes of a comment.
pub fn claim_on_comment(id: u64, key: EnvKey, record: Option<&Ledger>) -> Claim {
    let Some(record) = record else { return Claim::Unnamed(format!("environment {key} has no record")) };
    match (&record.said.comment, record.standing) {
        (Some(said), _) if said.id == id => Claim::Named,
        (Some(said), _) => Claim::Unnamed(format!("the comment of environment {key} is {}, this is a double", said.id)),
        (None, Standing::Released(at)) => Claim::Unnamed(format!("environment {key} was closed at {at}")),
        // Whoever writes next finds it and goes on with it.
        (None, Standing::Live | Standing::Leaving(_)) => {
            Claim::Expected(format!("environment {key} does not know of its comment yet"))
        }
    }
}

/// What a record makes of a deployment.
pub fn claim_on_deployment(deployment: &Deployment, key: EnvKey, record: Option<&Ledger>) -> Claim {
    let Some(record) = record else { return Claim::Unnamed(format!("environment {key} has no record")) };
    let said = &record.said.deployments;
    if said.iter().any(|made| made.id == Some(deployment.id)) {
        return Claim::Named;
    }
    if said.iter().any(|made| made.id.is_none() && made.sha == deployment.sha) {
        return Claim::Expected(format!("environment {key} has asked for one of {}", deployment.sha.short()));
    }
    Claim::Unnamed(format!("the record of environment {key} does not name it"))
}

/// Whether nothing but the pull request can tell that it is of no use: no record speaks for it.
fn is_lone(subject: &Subject, record: Option<&Ledger>) -> bool {
    match (subject, record) {
        (Subject::Comment(_) | Subject::Deployment(_), None) => true,
        (Subject::Comment(_), Some(record)) => record.is_released() && record.said.comment.is_none(),
        _ => false,
    }
}

/// A repository in which something was said that may be ours.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The repository.
    pub repo: &'a RepoRef,
    /// This installation.
    pub install: &'a InstallId,
    /// When it was read.
    pub read_at: Timestamp,
}

impl Site<'_> {
    /// The environments of pull requests up to that number. A payload names none, and this tells whose it is.
    pub fn environments(&self, highest: PrNumber) -> HashMap<EnvUid, EnvKey> {
        let keys = (1..=highest.0).map(|number| self.key(PrNumber(number)));
        keys.map(|key| (EnvUid::derive(self.install, key), key)).collect()
    }

    /// The pull request whose environment a comment names; `None` if it stands on another one.
    pub fn key_of(&self, comment: &Comment) -> Option<EnvKey> {
        let key = self.key(comment.pr);
        (uid_in(&comment.text)? == EnvUid::derive(self.install, key)).then_some(key)
    }

    /// A comment as something that may be taken away.
    pub fn comment(&self, comment: &Comment, key: EnvKey, claim: Claim) -> Option<Residue> {
        let name = format!("{}#{} comment {}", self.repo.name, key.pr.0, comment.id);
        let state = match claim {
            Claim::Named => ResidueState::Used(format!("it is the comment of environment {key}")),
            Claim::Expected(why) => ResidueState::Used(why),
            Claim::Unnamed(why) => ResidueState::Unused(why),
        };
        Some(self.residue(Subject::Comment(self.id(comment.id)?), name, key, state))
    }

    /// A deployment as something that may be ended, with the newest state that GitHub shows. One that a record names or
    /// expects needs none.
    pub fn deployment(&self, id: u64, key: EnvKey, claim: Claim, shown: Option<&str>) -> Option<Residue> {
        let name = format!("{}#{} deployment {id}", self.repo.name, key.pr.0);
        let state = match claim {
            Claim::Named => ResidueState::Used(format!("it is one of environment {key}")),
            Claim::Expected(why) => ResidueState::Used(why),
            Claim::Unnamed(_) if is_over(shown) => ResidueState::Used("it has ended".to_owned()),
            Claim::Unnamed(why) => {
                ResidueState::Unused(format!("{why}, and GitHub shows it as {}", shown.unwrap_or("pending")))
            }
        };
        Some(self.residue(Subject::Deployment(self.id(id)?), name, key, state))
    }

    fn residue(&self, subject: Subject, name: String, key: EnvKey, state: ResidueState) -> Residue {
        let github = || "github".to_owned();
        Residue {
            subject,
            name,
            install: Some(self.install.clone()),
            uid: Some(EnvUid::derive(self.install, key)),
            key: Some(key),
            state,
            location: Location { account: self.repo.name.to_string(), region: github(), network: github() },
            read_at: self.read_at,
        }
    }

    fn key(&self, pr: PrNumber) -> EnvKey {
        EnvKey { repo: self.repo.id, pr }
    }

    fn id(&self, id: u64) -> Option<ResidueId> {
        ResidueId::parse(format!("{}/{id}", self.repo.id.0)).ok()
    }
}

/// In which repository something was said, and GitHub's id of it.
pub fn place_of(subject: &Subject) -> Option<(RepoId, u64)> {
    let (Subject::Comment(id) | Subject::Deployment(id)) = subject else { return None };
    let (repo, id) = id.as_str().split_once('/')?;
    Some((RepoId(repo.parse().ok()?), id.parse().ok()?))
}

impl Inventory {
    pub(super) fn words(&self) -> impl Iterator<Item = &Residue> {
        self.words.values().flatten().flatten()
    }

    /// Pull requests that have to be asked for because no record speaks for what was said on them.
    pub(super) fn lone_words(&self, ledgers: &[Ledger]) -> BTreeSet<EnvKey> {
        let records: HashMap<&EnvUid, &Ledger> = ledgers.iter().map(|ledger| (&ledger.uid, ledger)).collect();
        let record = |words: &Residue| words.uid.as_ref().and_then(|uid| records.get(uid)).copied();
        let unused = self.words().filter(|words| matches!(words.state, ResidueState::Unused(_)));
        unused.filter(|words| is_lone(&words.subject, record(words))).filter_map(|words| words.key).collect()
    }
}

impl Court<'_> {
    /// Why the pull request spares what no record speaks for, if it does.
    pub(super) fn spared_by_pull(&self, words: &Residue) -> Option<Reason> {
        let record = words.uid.as_ref().and_then(|uid| self.records.get(uid)).copied();
        let key = words.key.filter(|_| is_lone(&words.subject, record))?;
        let unread = |why: &str| {
            Reason::because(Ruling::Spare, Guard::UnreadPull, format!("no record speaks for it, but {why}"))
        };
        match self.known.wanted.get(&key) {
            Some(Wanted::No(_)) => None,
            Some(Wanted::Yes) => Some(is_open(key)),
            Some(Wanted::Unknown(why)) => Some(unread(why)),
            None => Some(unread("its pull request was not asked for")),
        }
    }
}

/// From when on a repository has to be listed again: from now, or from what this sweep has left open.
pub fn next_look(now: Timestamp, overlap: Duration, open: impl IntoIterator<Item = Timestamp>) -> Timestamp {
    open.into_iter().fold(now.minus(overlap), Timestamp::min)
}

/// The earliest that a repository is listed from.
pub fn first_look(noted: Option<Timestamp>, now: Timestamp, longest: Duration) -> Timestamp {
    // One of the future was noted before the clock was put back.
    noted.filter(|noted| *noted <= now).unwrap_or_default().max(now.minus(longest))
}
