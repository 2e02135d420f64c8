//! Reads a pull request and its configuration again and stores the facts.

use super::ports::World;
use super::refusals;
use crate::config::repo::combine;
use crate::domain::guard::Guard;
use crate::domain::id::{PrNumber, digest};
use crate::domain::policy::RepoSetting;
use crate::domain::pull::{ConfigFacts, Pins, PullFacts, PullState};
use crate::forge::{Forge, ForgeError, ForgeErrorKind, RepoRef};
use crate::store::StoreError;

/// The file that a repository is configured by.
const CONFIG_FILE: &str = ".kagero.yml";

/// Why facts could not be refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// GitHub failed.
    #[error("GitHub failed")]
    Forge(#[from] ForgeError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Reads one pull request and what belongs to it.
pub async fn pull(world: &World, repo: &RepoRef, number: PrNumber) -> Result<PullFacts, RefreshError> {
    let facts = world.forge.pull(repo, number).await?;
    if is_behind(world, &facts).await? {
        return Err(RefreshError::Forge(ForgeError {
            kind: ForgeErrorKind::Retry,
            what: format!("reading {}", facts.key),
            why: "GitHub answered with an older state than before: one of its replicas lags behind".to_owned(),
        }));
    }
    if facts.state != PullState::Open {
        // Before the fact itself: a crash in between repeats both.
        note_close(world, &facts).await?;
    }
    world.store.put_pull(&facts).await?;
    if facts.state == PullState::Open {
        config(world, repo, &facts).await?;
    }
    Ok(facts)
}

/// Whether a reading shows an older state than the one that is known. Nothing may follow from it: a pull request that
/// was reopened would lose its environment.
pub async fn is_behind(world: &World, facts: &PullFacts) -> Result<bool, StoreError> {
    let behind = world.store.pull(facts.key).await?.is_some_and(|known| facts.is_behind(&known));
    if behind {
        refusals::count(Guard::OlderState);
    }
    Ok(behind)
}

/// A close answers a request to destroy and ends an expiry: reopening begins anew.
async fn note_close(world: &World, facts: &PullFacts) -> Result<(), StoreError> {
    let was_open = world.store.pull(facts.key).await?.is_some_and(|before| before.state == PullState::Open);
    let pins = world.store.pins(facts.key).await?;
    let closed_at = if was_open { Some(facts.read_at) } else { pins.closed_at };
    let noted = Pins { destroy_requested_at: None, closed_at, ..pins.clone() };
    if noted != pins {
        world.store.put_pins(facts.key, &noted).await?;
    }
    Ok(())
}

/// Reads the configuration for a pull request's head and base. Whether it is another than before.
pub async fn config(world: &World, repo: &RepoRef, facts: &PullFacts) -> Result<bool, RefreshError> {
    let read_at = world.clock.now();
    let (base, setting) = setting(world.forge.as_ref(), repo, facts).await?;
    let (head_sha, base_ref) = (facts.head_sha.clone(), facts.base_ref.clone());
    let config = ConfigFacts { head_sha, base_ref, base: Some(base), setting, read_at };
    let before = world.store.config(facts.key).await?;
    world.store.put_config(facts.key, &config).await?;
    Ok(before.is_none_or(|before| ConfigFacts { read_at, base: config.base.clone(), ..before } != config))
}

/// The digest of what is on the base branch, and what follows from it together with the head.
async fn setting(forge: &dyn Forge, repo: &RepoRef, facts: &PullFacts) -> Result<(String, RepoSetting), ForgeError> {
    let (base, head) =
        tokio::try_join!(text(forge, repo, &facts.base_ref), text(forge, repo, facts.head_sha.as_str()))?;
    let digest = digest_of(&base);
    let setting = match (base, head) {
        (Err(why), _) | (_, Err(why)) => {
            RepoSetting::Broken(format!("{CONFIG_FILE} is not a text file that can be read: {why}"))
        }
        (Ok(base), Ok(head)) => {
            let base_name = format!("{CONFIG_FILE} (base)");
            let head_name = format!("{CONFIG_FILE} ({})", facts.head_sha.short());
            combine(base.as_deref(), head.as_deref(), &base_name, &head_name)
        }
    };
    Ok((digest, setting))
}

/// The file at some point, if there is one, or why it is no text.
type Text = Result<Option<String>, String>;

async fn text(forge: &dyn Forge, repo: &RepoRef, at: &str) -> Result<Text, ForgeError> {
    match forge.file(repo, CONFIG_FILE, at).await {
        Ok(text) => Ok(Ok(text)),
        // A directory, a link, a picture: GitHub will never give it out as text.
        Err(error) if error.kind == ForgeErrorKind::Rejected => Ok(Err(error.why)),
        Err(error) => Err(error),
    }
}

fn digest_of(base: &Text) -> String {
    match base {
        Ok(Some(text)) => digest(&["text", text], 32),
        Ok(None) => digest(&["none"], 32),
        Err(_) => digest(&["no text"], 32),
    }
}

/// The digest of the configuration on a branch: one question, however many pull requests are based on it.
pub async fn base(world: &World, repo: &RepoRef, branch: &str) -> Result<String, ForgeError> {
    Ok(digest_of(&text(world.forge.as_ref(), repo, branch).await?))
}

/// Whether the stored configuration belongs to another commit or base than the pull request's, or was read when its
/// base branch, whose present digest is given if it is known, had another one. What a commit has never changes.
pub async fn is_config_outdated(world: &World, facts: &PullFacts, base: Option<&str>) -> Result<bool, StoreError> {
    let stored = world.store.config(facts.key).await?;
    Ok(stored.is_none_or(|stored| {
        stored.head_sha != facts.head_sha
            || stored.base_ref != facts.base_ref
            || base.is_some_and(|base| stored.base.as_deref() != Some(base))
    }))
}
