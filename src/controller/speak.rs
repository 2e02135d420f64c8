//! Writes on the pull request: one sticky comment and the deployments, converging whatever happened before.
//!
//! A crash between GitHub's answer and our note of it leaves an object that we do not know. Each write
//! therefore looks for it first where our notes have nothing.

use super::decide::Known;
use super::execute::{StepError, finish};
use super::grounds::Grounds;
use super::pass::LEASE;
use super::ports::World;
use crate::domain::id::EnvKey;
use crate::domain::ledger::{CommentSaid, DeploymentState, Ledger, Said};
use crate::domain::step::Step;
use crate::forge::{DeploymentStatus, Forge, ForgeErrorKind, RepoRef};
use crate::report::comment::marker;
use crate::store::{Lease, StoreError};

/// Does a step that writes on GitHub.
pub(super) async fn write(
    world: &World,
    lease: &Lease,
    known: &Known,
    grounds: &Grounds,
    step: &Step,
) -> Result<(), StepError> {
    let repo = known.repo.as_ref().ok_or(StepError::UnknownRepository)?;
    // The newest note: an earlier step of this pass may have changed it.
    let ledger = world.store.ledger(lease.key).await?;
    let mut said = ledger.map(|ledger| ledger.said).unwrap_or_default();
    if let Step::FindDeployment { sha } = step {
        let found = world.forge.deployments(repo, sha, known.uid.as_str()).await?;
        said.know(sha, found.first().copied());
        return Ok(world.store.put_said(lease, &said).await?);
    }
    let mut pen = Pen::taken(world, lease).await?;
    // Before the call: whoever comes after a crash must know that GitHub may show something else than was noted.
    said.doubt(step, world.clock.now());
    world.store.put_said(lease, &said).await?;
    let begun = world.store.begin(lease, step.kind(), grounds.entry(describe(step)), world.clock.now()).await?;
    let done = converge(&mut pen, known, repo, step, &mut said).await;
    finish(world, begun, done.as_ref().err()).await?;
    let made = done?;
    match (world.store.put_said(lease, &said).await, made) {
        (Err(fenced @ StoreError::Fenced { .. }), Some(id)) => {
            take_back(world, lease.key, grounds, repo, id).await?;
            Err(fenced.into())
        }
        (noted, _) => Ok(noted?),
    }
}

/// A deployment was made by one that had stood still in the middle of it and whose lease was another's meanwhile. That
/// one cannot know of it: it is ended here, under a new lease, unless it was found. If the lease is not to be had, or
/// the write not to be paid for, it is left to the sweep.
async fn take_back(world: &World, key: EnvKey, grounds: &Grounds, repo: &RepoRef, id: u64) -> Result<(), StepError> {
    let Some(lease) = world.store.acquire(key, &world.holder, LEASE, world.clock.now()).await? else { return Ok(()) };
    let done = end_late(world, &lease, grounds, repo, id).await;
    world.store.release_lease(&lease).await?;
    done
}

async fn end_late(world: &World, lease: &Lease, grounds: &Grounds, repo: &RepoRef, id: u64) -> Result<(), StepError> {
    let ledger = world.store.ledger(lease.key).await?;
    let is_known = |ledger: Ledger| ledger.said.deployments.iter().any(|made| made.id == Some(id));
    if ledger.is_some_and(is_known) || world.take_write(lease.key).await?.is_err() {
        return Ok(());
    }
    let detail = grounds.entry(serde_json::json!({"deployment": id, "state": DeploymentState::Inactive}));
    let begun = world.store.begin(lease, "end-late-deployment", detail, world.clock.now()).await?;
    let ended = DeploymentStatus {
        state: DeploymentState::Inactive,
        description: "made too late".to_owned(),
        environment_url: None,
        log_url: None,
    };
    let done = world.forge.set_deployment(repo, id, &ended).await;
    finish(world, begun, done.as_ref().err()).await?;
    Ok(done?)
}

/// The right to write: the first write was paid for before the journal announced it, each further one is paid for
/// when it is made (I22).
struct Pen<'a> {
    world: &'a World,
    lease: &'a Lease,
    paid: bool,
}

impl<'a> Pen<'a> {
    async fn taken(world: &'a World, lease: &'a Lease) -> Result<Self, StepError> {
        world.take_write(lease.key).await?.map_err(StepError::Budget)?;
        Ok(Self { world, lease, paid: true })
    }

    /// For one write.
    async fn forge(&mut self) -> Result<&'a dyn Forge, StepError> {
        if !std::mem::take(&mut self.paid) {
            self.world.take_write(self.lease.key).await?.map_err(StepError::Budget)?;
        }
        Ok(self.world.forge.as_ref())
    }
}

fn describe(step: &Step) -> serde_json::Value {
    match step {
        Step::Comment { digest, .. } => serde_json::json!({"digest": digest}),
        Step::CreateDeployment { sha } => serde_json::json!({"commit": sha}),
        Step::SetDeployment { id, state, .. } => serde_json::json!({"deployment": id, "state": state}),
        _ => serde_json::Value::Null,
    }
}

/// Makes GitHub show it; the deployment that was made for it, if one was.
async fn converge(
    pen: &mut Pen<'_>,
    known: &Known,
    repo: &RepoRef,
    step: &Step,
    said: &mut Said,
) -> Result<Option<u64>, StepError> {
    let world = pen.world;
    match step {
        Step::Comment { body, digest } => {
            let id = comment(pen, known, repo, body, said.comment.as_ref()).await?;
            said.comment = Some(CommentSaid { id, digest: digest.clone() });
            said.written_at = Some(world.clock.now());
        }
        Step::CreateDeployment { sha } => {
            let payload = known.uid.as_str();
            let found = world.forge.deployments(repo, sha, payload).await?;
            if let Some(id) = found.first() {
                said.know(sha, Some(*id));
            } else {
                let id = pen.forge().await?.create_deployment(repo, sha, payload).await?;
                said.know(sha, Some(id));
                return Ok(Some(id));
            }
        }
        Step::SetDeployment { id, state, description, url, log_url } => {
            let status = DeploymentStatus {
                state: *state,
                description: description.clone(),
                environment_url: url.clone(),
                log_url: log_url.clone(),
            };
            match pen.forge().await?.set_deployment(repo, *id, &status).await {
                Ok(()) => {}
                // Deleted by a person: there is nothing left to keep up to date.
                Err(error) if error.kind == ForgeErrorKind::NotFound => {
                    said.deployments.retain(|made| made.id != Some(*id));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(made) = said.deployments.iter_mut().find(|made| made.id == Some(*id)) {
                made.state = Some(*state);
                made.unsure = false;
            }
            said.forget_oldest();
            said.written_at = Some(world.clock.now());
        }
        _ => {}
    }
    Ok(None)
}

/// Brings the one sticky comment to that text: the noted one, else the oldest with our marker, else a new
/// one; further ones with our marker, which another writer or a crash has left, are deleted.
async fn comment(
    pen: &mut Pen<'_>,
    known: &Known,
    repo: &RepoRef,
    body: &str,
    noted: Option<&CommentSaid>,
) -> Result<u64, StepError> {
    let (forge, number, marker) = (&pen.world.forge, known.key.pr, marker(&known.uid));
    let found = forge.sticky_comments(repo, number, &marker).await?;
    // The noted one may be so young that the list does not show it yet.
    for kept in noted.map(|noted| noted.id).into_iter().chain(found.clone()) {
        match pen.forge().await?.edit_comment(repo, kept, body).await {
            Ok(()) => return delete_others(pen, repo, found, kept).await,
            Err(error) if error.kind == ForgeErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let made = pen.forge().await?.create_comment(repo, number, body).await?;
    // Another writer may have been as quick: the oldest stays, on every side.
    let all = forge.sticky_comments(repo, number, &marker).await?;
    let oldest = all.first().copied().unwrap_or(made);
    delete_others(pen, repo, all, oldest).await
}

async fn delete_others(pen: &mut Pen<'_>, repo: &RepoRef, all: Vec<u64>, kept: u64) -> Result<u64, StepError> {
    for extra in all.into_iter().filter(|id| *id != kept) {
        pen.forge().await?.delete_comment(repo, extra).await?;
    }
    Ok(kept)
}
