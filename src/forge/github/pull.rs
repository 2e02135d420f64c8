//! Reading pull requests.
//!
//! Guarantees: facts belong to the repository that was asked for, by its id; what GitHub leaves out because
//! an account or a fork is gone is left out here too, not made up.
//! Must not know: what the facts lead to.

use super::call::Ask;
use super::page::PAGE_SIZE;
use super::{ForgeError, Listing, PullFacts, RepoRef};
use super::{Github, path, wire};
use crate::domain::id::{CommitSha, EnvKey, PrNumber, RepoId, RepoName};
use crate::domain::pull::PullState;
use crate::domain::time::Timestamp;
use crate::forge::ForgeErrorKind;

impl Github {
    pub(super) async fn list_open_pulls(&self, repo: &RepoRef) -> Result<Listing<PullFacts>, ForgeError> {
        // Oldest first: those opened while the pages are read come last.
        let query = format!("pulls?state=open&sort=created&direction=asc&per_page={PAGE_SIZE}");
        let ask = Self::ask(repo, &query, format!("listing the open pull requests of {}", repo.name))?;
        let at = self.calls.now();
        let pages = self.calls.pages::<Vec<wire::Pull>>(ask.clone(), |_| false).await?;
        let facts = pages.items.into_iter().map(|pull| facts(repo, pull, at).map_err(|why| garbled(&ask, &why)));
        Ok(Listing { items: facts.collect::<Result<_, _>>()?, complete: pages.complete, at })
    }

    pub(super) async fn read_pull(&self, repo: &RepoRef, number: PrNumber) -> Result<PullFacts, ForgeError> {
        let what = format!("reading pull request {}#{}", repo.name, number.0);
        let ask = Self::ask(repo, &format!("pulls/{}", number.0), what)?;
        let at = self.calls.now();
        let pull: wire::Pull = self.calls.read(&ask, |_| true).await?.value;
        if pull.number != number.0 {
            return Err(garbled(&ask, &format!("GitHub answered with number {}", pull.number)));
        }
        facts(repo, pull, at).map_err(|why| garbled(&ask, &why))
    }

    /// A question about something in a repository.
    pub(super) fn ask(repo: &RepoRef, rest: &str, what: String) -> Result<Ask, ForgeError> {
        match path::repo(&repo.name, rest) {
            Ok(path) => Ok(Ask::get(Self::identity(repo), path, what)),
            Err(error) => Err(ForgeError { kind: ForgeErrorKind::Rejected, what, why: error.to_string() }),
        }
    }
}

fn garbled(ask: &Ask, why: &str) -> ForgeError {
    ask.error(ForgeErrorKind::Garbled, why)
}

fn facts(repo: &RepoRef, pull: wire::Pull, read_at: Timestamp) -> Result<PullFacts, String> {
    if pull.base.repo.id != repo.id.0 {
        return Err(format!(
            "{} is another repository now (id {}, expected {}): list the repositories again",
            pull.base.repo.full_name, pull.base.repo.id, repo.id.0
        ));
    }
    let state = match (pull.state.as_str(), &pull.merged_at) {
        ("open", _) => PullState::Open,
        ("closed", None) => PullState::Closed,
        ("closed", Some(_)) => PullState::Merged,
        (other, _) => return Err(format!("the state {other:?} is neither open nor closed")),
    };
    // The account of a pull request whose author was deleted, as GitHub shows it.
    let (author, kind) = pull.user.map_or(("ghost".to_owned(), None), |user| (user.login, user.kind));
    Ok(PullFacts {
        key: EnvKey { repo: repo.id, pr: PrNumber(pull.number) },
        repo: RepoName::parse(&pull.base.repo.full_name).map_err(|error| error.to_string())?,
        installation: repo.installation,
        state,
        title: pull.title,
        author,
        author_is_bot: kind.as_deref() == Some("Bot"),
        draft: pull.draft,
        head_sha: CommitSha::parse(pull.head.sha).map_err(|error| error.to_string())?,
        head_ref: pull.head.branch,
        head_repo: pull.head.repo.map(|found| RepoId(found.id)),
        base_ref: pull.base.branch,
        labels: pull.labels.into_iter().map(|label| label.name).collect(),
        updated_at: pull.updated_at.map_or(read_at, |at| Timestamp(at.as_millisecond())),
        read_at,
    })
}
