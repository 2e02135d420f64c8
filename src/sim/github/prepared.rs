//! Pull requests that are prepared: opened and pushed to by a click.
//!
//! Must not know: what the changes are about.

use super::StandinError;
use super::operate::{OpenPull, Operator};

impl Operator {
    /// Opens a pull request with the first commit of a prepared change; its number.
    pub async fn open_prepared(&self, key: &str, author: &str, draft: bool) -> Result<u64, StandinError> {
        let (open, key) = {
            let world = self.shared.world.lock().await;
            let repo = self.repository(&world)?;
            let change = repo.prepared.iter().find(|change| change.key == key);
            let change =
                change.ok_or_else(|| StandinError::new(format!("prepared change {key:?}"), "there is none"))?;
            let main = repo.git.resolve("main").await.unwrap_or_default();
            let files = repo.git.files(&main).await?;
            let changes = change.commit(0).map(|commit| commit.apply(&files)).unwrap_or_default();
            let open = OpenPull {
                title: change.title.clone(),
                body: change.body.clone(),
                author: author.to_owned(),
                branch: format!("{}/{}-{}", author, change.key, repo.pulls.len() + 1),
                changes,
                draft,
                ..OpenPull::default()
            };
            (open, change.key.clone())
        };
        let number = self.open_pull(open).await?;
        let mut world = self.shared.world.lock().await;
        self.find_mut(self.repository_mut(&mut world)?, number)?.prepared = Some((key, 1));
        Ok(number)
    }

    /// Pushes the next commit of the prepared change that it was opened with (of the first prepared change
    /// if it was opened otherwise); the commit.
    pub async fn push_prepared(&self, number: u64) -> Result<String, StandinError> {
        let (message, changes) = {
            let mut world = self.shared.world.lock().await;
            let repo = self.repository_mut(&mut world)?;
            let (git, prepared) = (repo.git.clone(), repo.prepared.clone());
            let pull = self.find_mut(repo, number)?;
            let (key, pushes) = pull.prepared.clone().unwrap_or_default();
            let change = prepared.iter().find(|change| change.key == key).or_else(|| prepared.first());
            let commit = change.and_then(|change| change.commit(pushes));
            let commit =
                commit.ok_or_else(|| StandinError::new("no commit to push", "the repository has none prepared"))?;
            let files = git.files(&pull.head.sha).await?;
            pull.prepared = Some((key, pushes + 1));
            (commit.message.clone(), commit.apply(&files))
        };
        self.push(number, &message, changes).await
    }
}
