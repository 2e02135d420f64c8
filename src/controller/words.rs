//! What was said on GitHub and is of no use any more: looks for it, looks again, takes it back.
//!
//! A repository is listed from where the last look has ended; what carries a mark is read by itself, however old it is.
//!
//! Guarantees: GitHub is asked before the records are; a repository that cannot be read is a doubt and hides no other;
//! nothing is noted here, so that a dry run leaves no trace.
//! Must not know: what becomes of what is found (`plan::sweep`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::ports::World;
use crate::domain::id::{EnvKey, EnvUid, PrNumber, RepoId};
use crate::domain::ledger::{DeploymentState, Ledger};
use crate::domain::mark::{Mark, Subject};
use crate::domain::observed::{Residue, ResidueState};
use crate::domain::owned::OwnedResidue;
use crate::domain::policy::Policy;
use crate::domain::time::Timestamp;
use crate::domain::words::{BEGINNING, Comment, Deployment};
use crate::forge::{DeploymentStatus, ForgeError, ForgeErrorKind, RepoRef};
use crate::plan::sweep::words::{Claim, Site, claim_on_comment, claim_on_deployment, first_look, next_look, place_of};
use crate::store::StoreError;
use crate::telemetry::chain;

/// How far a repository is looked back in that no sweep has looked at.
const LONGEST_LOOK: Duration = Duration::from_hours(14 * 24);

/// How much of what the last sweep has listed is listed again: GitHub's lists may lag behind.
const OVERLAP: Duration = Duration::from_hours(1);

/// How many deployments one sweep asks the state of, and how many marked things it reads by themselves.
const MOST_READ: usize = 100;

/// How many repositories are read at the same time.
const AT_ONCE: usize = 8;

/// How long one repository may take, and all together: a GitHub that does not answer does not hold the sweep of the
/// cloud up for longer.
const LONGEST_EACH: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_mins(2);

/// What GitHub shows of ours in one repository.
pub(super) struct Heard {
    repo: RepoRef,
    began: Timestamp,
    read_at: Timestamp,
    comments: Vec<Comment>,
    deployments: Vec<Deployment>,
}

/// What repositories show, each by itself.
pub(super) type Everywhere = BTreeMap<RepoId, Result<Heard, String>>;

/// What was found, and from when on to look the next time.
#[derive(Default)]
pub(super) struct Found {
    /// What is of no use, and what carries a mark.
    pub words: BTreeMap<RepoId, Result<Vec<Residue>, String>>,
    /// Repositories that were looked at, and until when nothing was left open.
    pub looked: BTreeMap<RepoId, Timestamp>,
}

impl Found {
    /// Notes how far this sweep has looked.
    pub(super) async fn note(&self, world: &World) -> Result<(), StoreError> {
        for (repo, until) in &self.looked {
            world.store.set_mark(&looked_mark(*repo), until.0).await?;
        }
        Ok(())
    }
}

fn looked_mark(repo: RepoId) -> String {
    format!("sweep.words.{}", repo.0)
}

/// What was said in the repositories that we serve since the last look, and whatever carries a mark.
pub(super) async fn hear(world: &World, policy: &Policy, marks: &[Mark]) -> Result<Everywhere, StoreError> {
    let mut marked: Vec<(&Mark, RepoId, u64)> =
        marks.iter().filter_map(|mark| place_of(&mark.subject).map(|(repo, id)| (mark, repo, id))).collect();
    // Those first that have not been seen for the longest time.
    marked.sort_by_key(|(mark, ..)| mark.last_at);
    marked.truncate(MOST_READ);
    let end = Instant::now() + LONGEST;
    let mut asked = Vec::new();
    for repo in world.store.repos().await? {
        if policy.serves(&repo.name.to_string()) {
            let noted = world.store.mark(&looked_mark(repo.id)).await?.map(Timestamp);
            let own = marked.iter().filter(|(_, of, _)| *of == repo.id).map(|(mark, _, id)| (&mark.subject, *id));
            asked.push(hear_in_time(world, repo.clone(), noted, own.collect(), end).boxed());
        }
    }
    Ok(stream::iter(asked).buffer_unordered(AT_ONCE).collect().await)
}

async fn hear_in_time(
    world: &World,
    repo: RepoRef,
    noted: Option<Timestamp>,
    marked: Vec<(&Subject, u64)>,
    end: Instant,
) -> (RepoId, Result<Heard, String>) {
    let heard = timeout_at(end.min(Instant::now() + LONGEST_EACH), hear_one(world, &repo, noted, &marked)).await;
    let how = match heard {
        Ok(Ok(heard)) => return (repo.id, Ok(heard)),
        Ok(Err(error)) => chain(&error).to_string(),
        Err(_) => "there was no answer in time".to_owned(),
    };
    (repo.id, Err(format!("what was said in {} could not be read: {how}", repo.name)))
}

async fn hear_one(
    world: &World,
    repo: &RepoRef,
    noted: Option<Timestamp>,
    marked: &[(&Subject, u64)],
) -> Result<Heard, ForgeError> {
    let began = world.clock.now();
    let since = first_look(noted, began, LONGEST_LOOK);
    let (mut comments, mut deployments) =
        tokio::try_join!(world.forge.our_comments(repo, BEGINNING, since), world.forge.our_deployments(repo, since),)?;
    for (subject, id) in marked {
        match subject {
            Subject::Comment(_) if comments.iter().all(|comment| comment.id != *id) => {
                comments.extend(world.forge.our_comment(repo, *id, BEGINNING).await?);
            }
            Subject::Deployment(_) if deployments.iter().all(|deployment| deployment.id != *id) => {
                deployments.extend(world.forge.our_deployment(repo, *id).await?);
            }
            _ => {}
        }
    }
    Ok(Heard { repo: repo.clone(), began, read_at: world.clock.now(), comments, deployments })
}

/// Compares with the records, and asks for the state of deployments that none of them names.
pub(super) async fn compare(
    world: &World,
    policy: &Policy,
    heard: Everywhere,
    ledgers: &[Ledger],
    marks: &[Mark],
) -> Result<Found, StoreError> {
    let records: HashMap<EnvKey, &Ledger> = ledgers.iter().map(|ledger| (ledger.key, ledger)).collect();
    let marks: HashMap<&Subject, Timestamp> = marks.iter().map(|mark| (&mark.subject, mark.last_at)).collect();
    let mut left = MOST_READ;
    let mut found = Found::default();
    for (id, heard) in heard {
        let heard = match heard {
            Ok(heard) => heard,
            Err(why) => {
                found.words.insert(id, Err(why));
                continue;
            }
        };
        let known = ledgers.iter().map(|ledger| ledger.key).chain(world.store.open_pulls(id).await?);
        let known = known.filter(|key| key.repo == id).map(|key| key.pr);
        let highest = known.chain(heard.comments.iter().map(|comment| comment.pr)).max().unwrap_or(PrNumber(0));
        let comparison = Comparison { world, policy, heard: &heard, records: &records, marks: &marks };
        match comparison.make(highest, &mut left).await {
            Ok((words, open)) => {
                found.looked.insert(id, next_look(heard.began, OVERLAP, open));
                found.words.insert(id, Ok(words));
            }
            Err(error) => {
                let why = format!("what was said in {} could not be read: {}", heard.repo.name, chain(&error));
                found.words.insert(id, Err(why));
            }
        }
    }
    Ok(found)
}

struct Comparison<'a> {
    world: &'a World,
    policy: &'a Policy,
    heard: &'a Heard,
    records: &'a HashMap<EnvKey, &'a Ledger>,
    marks: &'a HashMap<&'a Subject, Timestamp>,
}

impl Comparison<'_> {
    /// What is of no use or carries a mark, and the times of what has to be looked at again.
    async fn make(&self, highest: PrNumber, left: &mut usize) -> Result<(Vec<Residue>, Vec<Timestamp>), ForgeError> {
        let site = Site { repo: &self.heard.repo, install: &self.policy.install, read_at: self.heard.read_at };
        let (mut words, mut open) = (Vec::new(), Vec::new());
        for comment in &self.heard.comments {
            let Some(key) = site.key_of(comment) else { continue };
            let claim = claim_on_comment(comment.id, key, self.records.get(&key).copied());
            if matches!(claim, Claim::Expected(_)) {
                open.push(comment.updated_at);
            }
            words.extend(site.comment(comment, key, claim));
        }
        for (deployment, key, claim) in self.deployments(&site, highest) {
            let shown = match &claim {
                Claim::Named => None,
                Claim::Expected(_) => {
                    open.push(deployment.created_at);
                    None
                }
                Claim::Unnamed(_) if *left == 0 => {
                    open.push(deployment.created_at);
                    continue;
                }
                Claim::Unnamed(_) => {
                    *left -= 1;
                    match self.world.forge.deployment_state(&self.heard.repo, deployment.id).await {
                        Ok(shown) => shown,
                        // Deleted since it was listed.
                        Err(error) if error.kind == ForgeErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            words.extend(site.deployment(deployment.id, key, claim, shown.as_deref()));
        }
        let is_news =
            |found: &Residue| matches!(found.state, ResidueState::Unused(_)) || self.marks.contains_key(&found.subject);
        words.retain(is_news);
        Ok((words, open))
    }

    /// Deployments of our environments: those first whose mark was not seen for the longest time, then the oldest.
    fn deployments(&self, site: &Site<'_>, highest: PrNumber) -> Vec<(&Deployment, EnvKey, Claim)> {
        if self.heard.deployments.is_empty() {
            return Vec::new();
        }
        let environments = site.environments(highest);
        let ours = self.heard.deployments.iter().filter_map(|deployment| {
            let key = *environments.get(&EnvUid::parse(deployment.payload.as_str()).ok()?)?;
            let claim = claim_on_deployment(deployment, key, self.records.get(&key).copied());
            let probe = site.deployment(deployment.id, key, claim.clone(), None)?;
            let seen_at = self.marks.get(&probe.subject).copied();
            Some((seen_at.is_none(), seen_at, deployment, key, claim))
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|(unmarked, seen_at, deployment, ..)| {
            (*unmarked, *seen_at, deployment.created_at, deployment.id)
        });
        ours.into_iter().map(|(.., deployment, key, claim)| (deployment, key, claim)).collect()
    }
}

/// One marked thing as it is now, compared with its record as it is now; `None` if it is gone or not ours.
pub(super) async fn again(
    world: &World,
    policy: &Policy,
    key: EnvKey,
    subject: &Subject,
) -> Result<Result<Option<Residue>, ForgeError>, StoreError> {
    let Some((repo, _)) = place_of(subject).filter(|(repo, _)| *repo == key.repo) else { return Ok(Ok(None)) };
    let Some(repo) = world.store.repo(repo).await? else { return Ok(Ok(None)) };
    match shown(world, &repo, subject).await {
        Ok(Some((shown, state))) => {
            // Second, as everywhere.
            let record = world.store.ledger(key).await?;
            let site = Site { repo: &repo, install: &policy.install, read_at: world.clock.now() };
            Ok(Ok(match shown {
                Shown::Comment(comment) if site.key_of(&comment) == Some(key) => {
                    site.comment(&comment, key, claim_on_comment(comment.id, key, record.as_ref()))
                }
                Shown::Deployment(deployment)
                    if deployment.payload == EnvUid::derive(&policy.install, key).as_str() =>
                {
                    let claim = claim_on_deployment(&deployment, key, record.as_ref());
                    site.deployment(deployment.id, key, claim, state.as_deref())
                }
                Shown::Comment(_) | Shown::Deployment(_) => None,
            }))
        }
        Ok(None) => Ok(Ok(None)),
        Err(error) => Ok(Err(error)),
    }
}

enum Shown {
    Comment(Comment),
    Deployment(Deployment),
}

async fn shown(
    world: &World,
    repo: &RepoRef,
    subject: &Subject,
) -> Result<Option<(Shown, Option<String>)>, ForgeError> {
    let Some((_, id)) = place_of(subject) else { return Ok(None) };
    if matches!(subject, Subject::Comment(_)) {
        let comment = world.forge.our_comment(repo, id, BEGINNING).await?;
        return Ok(comment.map(|comment| (Shown::Comment(comment), None)));
    }
    let Some(deployment) = world.forge.our_deployment(repo, id).await? else { return Ok(None) };
    let state = world.forge.deployment_state(repo, id).await?;
    Ok(Some((Shown::Deployment(deployment), state)))
}

/// Deletes a comment, or ends a deployment.
pub(super) async fn take_back(world: &World, repo: &RepoRef, words: &OwnedResidue) -> Result<(), ForgeError> {
    let Some((_, id)) = place_of(words.id()) else { return Ok(()) };
    if matches!(words.id(), Subject::Comment(_)) {
        return world.forge.delete_comment(repo, id).await;
    }
    let ended = DeploymentStatus {
        state: DeploymentState::Inactive,
        description: "no environment belongs to it".to_owned(),
        environment_url: None,
        log_url: None,
    };
    world.forge.set_deployment(repo, id, &ended).await
}

/// Pull requests of marked things whose mark is that old.
pub(super) fn keys_of<'a>(
    words: &'a BTreeMap<RepoId, Result<Vec<Residue>, String>>,
    marks: impl Iterator<Item = &'a Mark>,
) -> BTreeSet<EnvKey> {
    let old: BTreeSet<&Subject> = marks.map(|mark| &mark.subject).collect();
    words
        .values()
        .flatten()
        .flatten()
        .filter(|found| old.contains(&found.subject))
        .filter_map(|found| found.key)
        .collect()
}
